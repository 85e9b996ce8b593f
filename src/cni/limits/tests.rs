use proptest::prelude::*;

use super::*;
use crate::cni::pool::PREFIX_SIZE;

/// Everything as ipamd's defaults have it.
fn defaults() -> Settings {
    Settings {
        warm_eni: Some(1),
        warm_ip: Some(0),
        minimum_ip: Some(0),
        warm_prefix: Some(1),
        custom_networking: Some(false),
        pod_eni: Some(false),
        ..Settings::default()
    }
}

fn pool(total: i64, assigned: i64, cooldown: i64) -> Pool {
    Pool { total, assigned, cooldown: Some(cooldown), enis: 2, cards: 1, ..Pool::default() }
}

/// An instance of 3 interfaces with 10 addresses each.
const M5_LARGE: Instance = Instance { eni_max: Some(3), per_eni: Some(9) };
const T3_SMALL: Instance = Instance { eni_max: Some(3), per_eni: Some(3) };

fn outlook(pool: &Pool, limits: &Limits, state: State) -> (i64, i64, Limit) {
    let outlook = Outlook::of(Some(pool), limits, state).unwrap();
    (outlook.now, outlook.reachable, outlook.binding)
}

#[test]
fn the_reference_node_has_one_pod_now_and_seven_in_reach() {
    let pool = pool(3, 1, 1);
    let limits = Limits::of(&pool, Mode::Secondary, T3_SMALL, &defaults(), Some(11), 4);
    assert_eq!((limits.instance, limits.room), (Some(9), Some(7)));
    assert_eq!(outlook(&pool, &limits, State::Ok), (1, 7, Limit::MaxPods));
    assert_eq!(outlook(&pool, &limits, State::SubnetExhausted), (1, 1, Limit::Subnet));
}

#[test]
fn the_ratio_of_the_gauges_is_the_size_of_an_interface() {
    assert_eq!(Instance::of(Some(3), Some(27)).per_eni, Some(9));
    for (enis, addresses) in
        [(Some(0), Some(0)), (Some(3), Some(0)), (Some(3), None), (None, Some(27)), (Some(-1), Some(5))]
    {
        assert_eq!(Instance::of(enis, addresses).per_eni, None, "{enis:?} {addresses:?}");
    }
}

#[test]
fn interfaces_that_carry_no_pods_are_taken_off() {
    let of = |pool: &Pool, settings: &Settings| {
        Limits::of(pool, Mode::Secondary, M5_LARGE, settings, None, 0).instance.unwrap()
    };
    let plain = pool(18, 2, 0);
    assert_eq!(of(&plain, &defaults()), 27);
    let custom = Settings { custom_networking: Some(true), ..defaults() };
    assert_eq!(of(&plain, &custom), 18);
    assert_eq!(of(&plain, &Settings { pod_eni: Some(true), ..defaults() }), 18, "reserved for the trunk");
    let trunk = Pool { trunk: true, ..plain.clone() };
    assert_eq!(of(&trunk, &Settings { pod_eni: Some(true), ..defaults() }), 18, "attached, not reserved once more");
    assert_eq!(of(&trunk, &custom), 9);
    let excluded = Pool { excluded: 1, primary_excluded: true, ..plain.clone() };
    assert_eq!(of(&excluded, &custom), 18, "the primary interface is not taken off twice");
    assert_eq!(of(&Pool { excluded: 9, ..plain.clone() }, &defaults()), 0);
    assert_eq!(of(&Pool { wrong_mode_slots: 2, ..plain }, &defaults()), 25);
}

#[test]
fn a_left_over_single_address_costs_a_whole_slot_of_prefixes() {
    let instance = Instance { eni_max: Some(3), per_eni: Some(144) };
    let pool = Pool { wrong_mode_slots: 2, ..pool(32, 2, 0) };
    let limits = Limits::of(&pool, Mode::Prefix, instance, &defaults(), Some(110), 10);
    assert_eq!(limits.instance, Some(432 - 32));
    assert_eq!(limits.ceiling(), Some((112, Limit::MaxPods)), "rounded up to a whole prefix");
}

#[test]
fn a_minimum_without_warm_addresses_is_a_ceiling() {
    let minimum = Settings { minimum_ip: Some(10), ..defaults() };
    let pool = pool(10, 2, 0);
    let limits = Limits::of(&pool, Mode::Secondary, M5_LARGE, &minimum, Some(29), 4);
    assert_eq!(limits.ceiling(), Some((10, Limit::ConfigCeiling)));
    assert_eq!(outlook(&pool, &limits, State::ConfigCeiling), (8, 8, Limit::ConfigCeiling));
    let prefixes = Limits::of(&pool, Mode::Prefix, Instance { per_eni: Some(144), ..M5_LARGE }, &minimum, None, 0);
    assert_eq!(prefixes.configured, Some(16));
    let both = Settings { warm_ip: Some(2), ..minimum };
    assert_eq!(Limits::of(&pool, Mode::Secondary, M5_LARGE, &both, None, 0).configured, None);
    let unknown = Settings { warm_ip: None, ..minimum };
    assert_eq!(Limits::of(&pool, Mode::Secondary, M5_LARGE, &unknown, None, 0).configured, None);
}

#[test]
fn the_step_of_growth_may_overshoot_the_kubelets_limit() {
    let plain = pool(9, 2, 0);
    let ceiling =
        |settings: &Settings| Limits::of(&plain, Mode::Secondary, M5_LARGE, settings, Some(11), 0).ceiling().unwrap();
    assert_eq!(ceiling(&defaults()), (18, Limit::MaxPods), "whole interfaces");
    assert_eq!(ceiling(&Settings { warm_ip: Some(2), ..defaults() }), (11, Limit::MaxPods), "single addresses");
}

#[test]
fn without_the_instances_limits_only_what_is_attached_counts() {
    let pool = pool(9, 2, 1);
    let limits = Limits::of(&pool, Mode::Secondary, Instance::default(), &defaults(), Some(29), 4);
    assert_eq!((limits.instance, limits.ceiling()), (None, None));
    assert_eq!(outlook(&pool, &limits, State::Ok), (6, 6, Limit::AddressPool));
}

#[test]
fn each_state_without_growth_names_its_limit() {
    let pool = pool(9, 2, 1);
    let limits = Limits::of(&pool, Mode::Secondary, M5_LARGE, &defaults(), Some(29), 4);
    for (state, limit) in [
        (State::IpamdDown, Limit::AddressPool),
        (State::ProvisioningDisabled, Limit::AddressPool),
        (State::NodeUnschedulable, Limit::AddressPool),
        (State::AtInstanceLimit, Limit::InstanceLimit),
        (State::AtMaxPods, Limit::MaxPods),
        (State::ConfigCeiling, Limit::ConfigCeiling),
        (State::SubnetExhausted, Limit::Subnet),
    ] {
        assert_eq!(outlook(&pool, &limits, state), (6, 6, limit), "{}", state.as_str());
    }
    for state in [State::Throttled, State::Stalled, State::Ok] {
        assert_eq!(outlook(&pool, &limits, state), (6, 24, Limit::InstanceLimit), "{}", state.as_str());
    }
}

#[test]
fn a_pool_larger_than_its_limits_does_not_grow_and_never_counts_below_zero() {
    let pool = pool(30, 31, 2);
    let limits = Limits::of(&pool, Mode::Secondary, M5_LARGE, &defaults(), Some(29), 40);
    assert_eq!(outlook(&pool, &limits, State::Ok), (0, 0, Limit::MaxPods));
}

#[test]
fn with_ipv6_only_the_kubelets_room_counts() {
    let pool = Pool { ipv6: true, ..pool(1 << 48, 2, 0) };
    let limits =
        Limits::of(&pool, Mode::Secondary, Instance { eni_max: Some(3), per_eni: None }, &defaults(), Some(29), 4);
    assert_eq!(outlook(&pool, &limits, State::Ok), (25, 25, Limit::MaxPods));
    let unknown = Limits { room: None, ..limits };
    assert_eq!(Outlook::of(Some(&pool), &unknown, State::Ok), None);
}

#[test]
fn without_a_source_there_is_no_outlook() {
    let limits = Limits { room: Some(25), ..Limits::default() };
    assert_eq!(Outlook::of(None, &limits, State::IpamdDown), None);
}

/// What a node lets one try: hands out addresses and attaches slots one by one, by ipamd's rules, until nothing moves.
struct World {
    slots: i64,
    slot: i64,
    attached: i64,
    pods_wanted: i64,
    places: i64,
    held: i64,
}

impl World {
    /// Pods that get an address and a place; with `grow` further slots are attached while there are any.
    fn fill(mut self, grow: bool) -> i64 {
        let mut started = 0;
        for _ in 0..self.pods_wanted {
            if started == self.places {
                break;
            }
            if self.attached == self.held && grow && self.slots > 0 {
                self.slots -= 1;
                self.attached += self.slot;
            }
            if self.attached <= self.held {
                break;
            }
            self.held += 1;
            started += 1;
        }
        started
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Against a node that is filled pod by pod.
    #[test]
    fn the_headroom_is_what_can_be_placed_one_by_one(
        prefix in any::<bool>(), eni_max in 1_i64..6, slots_per_eni in 1_i64..15, excluded in 0_i64..3,
        custom in any::<bool>(), trunk in any::<bool>(), wrong in 0_i64..4,
        used_percent in 0_i64..120, assigned_percent in 0_i64..101, resting_percent in 0_i64..101,
        max_pods in 0_i64..260, pods_over in 0_i64..270, targets in any::<bool>(), minimum in 0_i64..60,
    ) {
        let mode = if prefix { Mode::Prefix } else { Mode::Secondary };
        let slot = if prefix { PREFIX_SIZE } else { 1 };
        let per_eni = slots_per_eni * slot;
        let instance = Instance { eni_max: Some(eni_max), per_eni: Some(per_eni) };
        // What the instance can carry, counted slot by slot.
        let mut carrying = 0;
        for eni in 0..eni_max {
            let lost = excluded + i64::from(custom) + i64::from(trunk);
            if eni >= lost {
                for _ in 0..slots_per_eni { carrying += 1; }
            }
        }
        let carrying = carrying - wrong;
        let attached_slots = carrying.max(0) * used_percent / 100;
        let total = attached_slots * slot;
        let assigned = total * assigned_percent / 100;
        let resting = (total - assigned) * resting_percent / 100;
        let pool = Pool { excluded, trunk, wrong_mode_slots: wrong, ..pool(total, assigned, resting) };
        let (warm_ip, minimum_ip) = if targets { (0, minimum) } else { (0, 0) };
        let settings = Settings {
            custom_networking: Some(custom), warm_ip: Some(warm_ip), minimum_ip: Some(minimum_ip), ..defaults()
        };
        let limits = Limits::of(&pool, mode, instance, &settings, Some(max_pods), pods_over);
        let outlook = Outlook::of(Some(&pool), &limits, State::Ok).unwrap();

        // Slots that may still be attached: as many as the instance carries, until the pool covers max-pods (a whole step
        // at a time) or the minimum that is a ceiling.
        let step = if prefix { PREFIX_SIZE } else if targets && minimum > 0 { 1 } else { per_eni };
        let mut most = 0;
        while most < max_pods { most += step; }
        if targets && minimum > 0 {
            let mut configured = 0;
            while configured < minimum { configured += slot; }
            most = most.min(configured);
        }
        let mut slots = 0;
        while attached_slots + slots < carrying && total + (slots + 1) * slot <= most { slots += 1; }
        let world = |pods_wanted| World {
            slots, slot, attached: total, pods_wanted, places: (max_pods - pods_over).max(0), held: assigned + resting,
        };
        prop_assert_eq!(outlook.now, world(10_000).fill(false));
        prop_assert_eq!(outlook.reachable, world(10_000).fill(true));
    }
}

#[test]
fn the_kubelets_room_binds_where_it_is_less_than_what_is_free() {
    let limits =
        Limits { room: Some(2), ..Limits::of(&pool(18, 2, 1), Mode::Secondary, M5_LARGE, &defaults(), None, 0) };
    assert_eq!(outlook(&pool(18, 2, 1), &limits, State::Ok), (2, 2, Limit::MaxPods));
    let none = Limits { room: Some(-1), ..limits };
    assert_eq!(outlook(&pool(18, 2, 1), &none, State::Ok), (0, 0, Limit::MaxPods));
}
