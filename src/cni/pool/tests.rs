use super::*;
use crate::cni::document::document;

const NOW: &str = "2026-05-04T10:00:30Z";

fn golden(name: &str, mode: Mode) -> Pool {
    let path = format!("{}/tests/golden/cni/{name}", env!("CARGO_MANIFEST_DIR"));
    of(&std::fs::read_to_string(path).unwrap(), mode)
}

fn of(body: &str, mode: Mode) -> Pool {
    Pool::of(&document(body.as_bytes()).unwrap(), mode, 30, NOW.parse().unwrap())
}

fn sums(pool: &Pool) -> (i64, i64, Option<i64>, i64) {
    (pool.total, pool.assigned, pool.cooldown, pool.free())
}

#[test]
fn total_assigned_resting_and_free_are_told_apart() {
    for name in ["enis-v1.7.json", "enis-v1.9.json", "enis-flat.json", "enis-cards.json", "enis-blanked.json"] {
        let pool = golden(name, Mode::Secondary);
        assert_eq!(sums(&pool), (3, 1, Some(1), 1), "{name}");
        assert_eq!(pool.next_free, Some(SignedDuration::from_millis(12_500)), "{name}");
        let each: Vec<_> =
            pool.interfaces.iter().map(|eni| (eni.total, eni.assigned, eni.cooldown, eni.free())).collect();
        assert_eq!(each, [(2, 1, 1, 0), (1, 0, 0, 1)], "{name}");
        assert_eq!((pool.mismatch, pool.enis, pool.cards, pool.scarcest_card), (0, 2, 1, 1), "{name}");
    }
}

#[test]
fn every_address_of_a_prefix_counts() {
    let pool = golden("enis-prefixes.json", Mode::Prefix);
    assert_eq!(sums(&pool), (32, 2, Some(1), 29));
    assert_eq!((pool.prefixes, pool.empty_prefixes, pool.wrong_mode_slots), (2, 0, 0));
}

#[test]
fn blocks_of_the_other_mode_hold_no_new_pods_and_take_a_slot_each() {
    let pool = golden("enis-blanked.json", Mode::Prefix);
    assert_eq!((sums(&pool), pool.wrong_mode_slots), ((0, 0, Some(0), 0), 3));
    let pool = golden("enis-prefixes.json", Mode::Secondary);
    assert_eq!((sums(&pool), pool.wrong_mode_slots, pool.prefixes), ((0, 0, Some(0), 0), 2, 0));
    assert_eq!(pool.mismatch, 0, "ipamd's own sum has them");
}

#[test]
fn an_excluded_interface_counts_in_no_sum_though_a_pod_is_left_on_it() {
    let body = include_str!("../../../tests/golden/cni/enis-blanked.json").replacen(
        "\"IsExcludedForPodIPs\":false",
        "\"IsExcludedForPodIPs\":true",
        1,
    );
    let pool = of(&body, Mode::Secondary);
    assert_eq!(sums(&pool), (1, 0, Some(0), 1));
    assert_eq!((pool.excluded, pool.primary_excluded, pool.wrong_mode_slots, pool.mismatch), (1, true, 0, 0));
}

#[test]
fn ipv6_is_told_by_its_blocks_and_a_trunk_is_seen() {
    let pool = golden("enis-ipv6.json", Mode::Secondary);
    assert!(pool.ipv6 && pool.trunk);
    assert_eq!((pool.assigned, pool.mismatch), (2, 0));
    assert_eq!((pool.cooldown, pool.next_free), (None, None), "ipamd knows none in IPv6");
}

#[test]
fn a_total_that_ipamd_states_wrongly_is_a_mismatch_and_nothing_more() {
    let pool = golden("enis-negative-total.json", Mode::Secondary);
    assert_eq!((sums(&pool), pool.mismatch), ((0, 0, Some(0), 0), -2));
}

/// The cooldown and the rest of it, of one address that was returned then.
fn rest(returned: &str) -> (Option<i64>, Option<SignedDuration>) {
    let body = include_str!("../../../tests/golden/cni/enis-blanked.json").replace("2026-05-04T10:00:12.5Z", returned);
    let pool = of(&body, Mode::Secondary);
    (pool.cooldown, pool.next_free)
}

#[test]
fn an_address_rests_up_to_and_with_the_last_moment_of_its_cooldown() {
    assert_eq!(rest("2026-05-04T10:00:00Z"), (Some(1), Some(SignedDuration::ZERO)));
    assert_eq!(rest("2026-05-04T09:59:59.999999999Z"), (Some(0), None));
    assert_eq!(rest("0001-01-01T00:00:00Z"), (Some(0), None));
    assert_eq!(rest("9999-01-01T00:00:00Z").0, Some(1), "as for ipamd, whose clock it was");
    assert_eq!(rest("2026-05-04T10:00:40Z"), (Some(1), Some(SignedDuration::from_secs(40))));
}

#[test]
fn cards_add_up_and_the_scarcest_is_known() {
    let eni = |id: &str, at: &str, pod: &str| {
        format!(
            r#""{id}":{{"AvailableIPv4Cidrs":{{"{at}/32":{{"IPAddresses":{{"{at}":{{"IPAMKey":{{"networkName":"{pod}"}}}}}}}}}}}}"#
        )
    };
    let body = format!(
        r#"{{"0":{{"TotalIPs":2,"ENIs":{{{},{}}}}},"2":{{"TotalIPs":1,"ENIs":{{{}}}}}}}"#,
        eni("a", "10.0.0.1", ""),
        eni("b", "10.0.0.2", ""),
        eni("c", "10.0.0.3", "aws-cni")
    );
    let pool = of(&body, Mode::Secondary);
    assert_eq!((sums(&pool), pool.cards), ((3, 1, Some(0), 2), 2));
    assert_eq!((pool.further_cards, pool.scarcest_card, pool.mismatch), (1, 0, 0));
}

#[test]
fn hostile_sizes_saturate() {
    let body = r#"{"0":{"TotalIPs":-9223372036854775808,"ENIs":{"a":{"IPv6Cidrs":{"::/0":{},"::/1":{}}}}}}"#;
    let pool = of(body, Mode::Secondary);
    assert_eq!((pool.total, pool.mismatch), (i64::MAX, i64::MIN));
}

#[test]
fn the_mode_follows_what_ipamd_expects_of_an_interface_before_the_wish() {
    let wish = |prefixes| Settings { prefix_delegation: Some(prefixes), ..Settings::default() };
    for (per_eni, wished, mode) in [
        (Some(9), true, Mode::Secondary),
        (Some(144), false, Mode::Prefix),
        (None, true, Mode::Prefix),
        (None, false, Mode::Secondary),
    ] {
        assert_eq!(Mode::of(per_eni, &wish(wished), None), mode, "{per_eni:?} {wished}");
    }
    for single in [1, 2, 3, 4, 5, 9, 11, 14, 19, 29, 39, 49, 63] {
        assert_eq!(Mode::of(Some(single), &wish(true), None), Mode::Secondary, "of the instance table: {single}");
    }
    let prefixes = document(include_bytes!("../../../tests/golden/cni/enis-prefixes.json")).unwrap();
    let single = document(include_bytes!("../../../tests/golden/cni/enis-flat.json")).unwrap();
    assert_eq!(Mode::of(None, &Settings::default(), Some(&prefixes)), Mode::Prefix);
    assert_eq!(Mode::of(None, &Settings::default(), Some(&single)), Mode::Secondary);
    assert_eq!(Mode::of(None, &Settings::default(), None), Mode::Secondary);
}

#[test]
fn metrics_give_an_estimate_without_cooldown_and_interfaces() {
    let scrape = Scrape { total: Some(3), assigned: Some(1), enis: Some(2), ..Scrape::default() };
    let pool = Pool::estimate(&scrape).unwrap();
    assert_eq!((sums(&pool), pool.enis, pool.interfaces.len()), ((3, 1, None, 2), 2, 0));
    assert!(Pool::estimate(&Scrape { total: Some(1 << 48), ..scrape.clone() }).unwrap().ipv6);
    assert_eq!(Pool::estimate(&Scrape { total: None, ..scrape }), None);
}
