use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::*;
use crate::clock::Now;
use crate::cni::advice::{Doubt, Efficiency, Trap};
use crate::cni::departure::Departure;
use crate::cni::forecast::Forecast;
use crate::cni::growth::State;
use crate::cni::limits::Limit;
use crate::cni::model::{Model, Problem, Reading};
use crate::cni::node::NodeFacts;
use crate::cni::settings::Environment;
use crate::cni::warm::WarmTargets;

const ENIS: &str = include_str!("../../../tests/golden/cni/enis-blanked.json");
const METRICS: &[u8] = include_bytes!("../../../tests/golden/cni/metrics.txt");

/// The exposition of a node whose ipamd answers with these documents, one after the other, every 15 s.
fn text<'a>(readings: impl IntoIterator<Item = Reading<'a>>) -> String {
    let mut now = Now { instant: Instant::now(), wall: "2026-05-04T10:00:30Z".parse().unwrap() };
    let facts = NodeFacts {
        max_pods: Some(11),
        pods: 4,
        host_network_pods: 3,
        addressed_pods: 1,
        aws_node: Some(Arc::new(Environment::new())),
        ..NodeFacts::default()
    };
    let mut model = Model::default();
    let (sender, headroom) = watch::channel(None);
    let mut registry = Registry::default();
    let own = registry.sub_registry_with_prefix("spotwarden");
    let metrics = CniMetrics::register(own);
    own.register_collector(Box::new(HeadroomCollector::new(headroom)));
    for reading in readings {
        sender.send_replace(model.observe(now, &reading, &facts).map(Arc::new));
        model.take_counted().iter().for_each(|counters| metrics.counted(counters));
        now = now.plus(Duration::from_secs(15));
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

/// A headroom in which every optional sample is shown.
pub(in crate::metrics) fn everything() -> Arc<Headroom> {
    let now = Now { instant: Instant::now(), wall: "2026-05-04T10:00:30Z".parse().unwrap() };
    let mut headroom = Model::default().observe(now, &reading(ENIS), &NodeFacts::default()).unwrap();
    let pool = headroom.pool.as_mut().unwrap();
    (pool.prefixes, pool.empty_prefixes) = (2, 1);
    headroom.states = State::ALL.to_vec();
    headroom.bindings = Limit::ALL.to_vec();
    headroom.traps = Trap::ALL.to_vec();
    headroom.doubts = Doubt::ALL.to_vec();
    headroom.forecast = Forecast {
        exhausted_now: Some(60.0),
        exhausted_reachable: Some(600.0),
        starvation: true,
        starved: true,
        ..headroom.forecast
    };
    let wasted = |efficiency| Efficiency {
        overcommit: Some(2),
        idle_beyond_max_pods: Some(3),
        fragmentation: 0.5,
        returnable: 32,
        ..efficiency
    };
    headroom.efficiency = headroom.efficiency.map(wasted);
    headroom.warm = Some(WarmTargets { warm_ip: 0, minimum_ip: 4 });
    headroom.pool.as_mut().unwrap().total = 90;
    headroom.subnets.values_mut().for_each(|share| share.block = "10.8.1.0/24".parse().ok());
    headroom.refusals = [("subnet-0123456789abcdef0".to_owned(), true)].into();
    headroom.branch_headroom = Some(9);
    headroom.departure = Some(Departure::default());
    Arc::new(headroom)
}

fn reading(enis: &str) -> Reading<'_> {
    Reading { network: None, interfaces: Some(Ok(enis.as_bytes())), settings: None, metrics: Some(Ok(METRICS)) }
}

fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[tokio::test]
async fn every_figure_has_its_series() {
    let text = text([reading(ENIS)]);
    let subnet = "subnet-0123456789abcdef0";
    let expected = [
        "spotwarden_cni_binding_limit{limit=\"subnet\"} 1".to_owned(),
        format!("spotwarden_cni_eni_free_ip_addresses{{eni=\"eni-0123456789abcde01\",subnet_id=\"{subnet}\"}} 0"),
        format!("spotwarden_cni_eni_free_ip_addresses{{eni=\"eni-0123456789abcde02\",subnet_id=\"{subnet}\"}} 1"),
        "spotwarden_cni_eni_limit 3.0".to_owned(),
        "spotwarden_cni_enis 2.0".to_owned(),
        "spotwarden_cni_failed_assignments_total 0".to_owned(),
        "spotwarden_cni_forced_removals_total 0".to_owned(),
        "spotwarden_cni_growth_state{state=\"subnet_exhausted\"} 1".to_owned(),
        "spotwarden_cni_headroom_pods{horizon=\"now\"} 1".to_owned(),
        "spotwarden_cni_headroom_pods{horizon=\"reachable\"} 1".to_owned(),
        "spotwarden_cni_ip_addresses{state=\"assigned\"} 1".to_owned(),
        "spotwarden_cni_ip_addresses{state=\"cooldown\"} 1".to_owned(),
        "spotwarden_cni_ip_addresses{state=\"free\"} 1".to_owned(),
        "spotwarden_cni_next_free_seconds 12.5".to_owned(),
        "spotwarden_cni_read_failures_total{source=\"introspection\"} 0".to_owned(),
        "spotwarden_cni_read_failures_total{source=\"metrics\"} 0".to_owned(),
        "spotwarden_cni_source{source=\"introspection\",confidence=\"exact\"} 1".to_owned(),
        format!("spotwarden_cni_subnet_addresses{{subnet_id=\"{subnet}\",state=\"interface\"}} 2"),
        format!("spotwarden_cni_subnet_addresses{{subnet_id=\"{subnet}\",state=\"pool\"}} 3"),
    ];
    let mut shown = series(&text);
    shown.sort_unstable();
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_quiet_node_with_three_interfaces_in_one_subnet_has_few_series() {
    let third = ENIS.replacen(
        "\"eni-0123456789abcde02\":",
        "\"eni-3\":{\"SubnetID\":\"subnet-0123456789abcdef0\",\"AvailableIPv4Cidrs\":{\"10.8.1.70/32\":{}}},\"eni-0123456789abcde02\":",
        1,
    );
    let text = text([reading(&third), reading(&third), reading(&third)]);
    let count = series(&text).len();
    assert!((15..=20).contains(&count), "{count} series:\n{text}");
}

#[tokio::test]
async fn a_state_that_is_left_stays_with_0_and_the_series_of_an_interface_go_with_it() {
    let one = include_str!("../../../tests/golden/cni/enis-negative-total.json");
    let text = text([reading(ENIS), reading(one)]);
    assert!(text.contains("spotwarden_cni_growth_state{state=\"subnet_exhausted\"} 0\n"), "{text}");
    assert!(text.contains("spotwarden_cni_growth_state{state=\"ok\"} 1\n"), "{text}");
    assert!(!text.contains("eni-0123456789abcde02"), "{text}");
    assert!(!text.contains("next_free"), "{text}");
}

#[tokio::test]
async fn without_introspection_there_is_no_cooldown_and_nothing_of_interfaces() {
    let gone = || Reading { interfaces: Some(Err(Problem::Refused)), ..reading(ENIS) };
    let text = text([gone(), gone(), gone()]);
    assert!(text.contains("cni_source{source=\"metrics\",confidence=\"estimate\"} 1\n"), "{text}");
    assert!(text.contains("cni_ip_addresses{state=\"free\"} 2\n"), "{text}");
    for absent in ["state=\"cooldown\"", "eni_free", "subnet_addresses", "next_free"] {
        assert!(!text.contains(absent), "{absent}:\n{text}");
    }
}

#[tokio::test]
async fn with_ipv6_there_are_no_free_addresses_to_count() {
    let text = text([reading(include_str!("../../../tests/golden/cni/enis-ipv6.json"))]);
    assert!(text.contains("cni_ip_addresses{state=\"assigned\"} 2\n"), "{text}");
    assert!(text.contains("cni_headroom_pods{horizon=\"now\"} 7\n"), "{text}");
    assert!(
        !text.contains("state=\"free\"") && !text.contains("state=\"cooldown\"") && !text.contains("281474976710656"),
        "{text}"
    );
}

#[tokio::test]
async fn prefixes_are_told_by_whether_they_are_used() {
    let metrics = std::str::from_utf8(METRICS).unwrap().replace("awscni_ip_max 9", "awscni_ip_max 144");
    let enis = include_str!("../../../tests/golden/cni/enis-prefixes.json");
    let text = text([Reading { metrics: Some(Ok(metrics.as_bytes())), ..reading(enis) }]);
    assert!(
        text.contains("cni_prefixes{state=\"used\"} 2\n") && text.contains("cni_prefixes{state=\"empty\"} 0\n"),
        "{text}"
    );
    assert!(text.contains("cni_ip_addresses{state=\"free\"} 29\n"), "{text}");
}

#[tokio::test]
async fn no_series_tells_an_address_or_a_pod() {
    let text = text([reading(ENIS), reading(ENIS)]);
    assert!(!text.contains("10.8.1.") && !text.contains("api-0"), "{text}");
}

#[tokio::test]
async fn a_node_with_another_cni_has_only_the_counters() {
    let mut registry = Registry::default();
    let (_sender, headroom) = watch::channel(None);
    drop(CniMetrics::register(&mut registry));
    registry.register_collector(Box::new(HeadroomCollector::new(headroom)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert_eq!(series(&text).len(), 4);
}

#[tokio::test]
async fn what_ipamd_counts_is_counted_from_the_first_scrape_and_over_its_restarts() {
    let counted = |failed: u32, started: u32| {
        let text = std::str::from_utf8(METRICS).unwrap();
        text.replace("no_available_ip_addresses 0", &format!("no_available_ip_addresses {failed}"))
            .replace("force_removed_ips 0", &format!("force_removed_ips {failed}"))
            + &format!("process_start_time_seconds {started}\n")
    };
    let scrapes = [counted(7, 100), counted(9, 100), counted(1, 200)];
    let text = text(scrapes.iter().map(|metrics| Reading { metrics: Some(Ok(metrics.as_bytes())), ..reading(ENIS) }));
    assert!(text.contains("spotwarden_cni_failed_assignments_total 3\n"), "{text}");
    assert!(text.contains("spotwarden_cni_forced_removals_total 3\n"), "{text}");
}
