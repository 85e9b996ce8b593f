//! The whole simulator in time: growth, refusals, cooldown, restarts, and once over HTTP.

#![allow(clippy::float_cmp, reason = "counters and sums of addresses are whole numbers")]

use std::time::Duration;

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::Value;
use tokio::time::Instant;

use super::*;

const SUBNET: &str = "subnet-0123456789abcdef0";

/// A node whose ipamd has just started.
fn node(spec: NodeSpec) -> SimIpamd {
    SimIpamd::new(Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap()), spec)
}

fn with(settings: Settings) -> NodeSpec {
    NodeSpec { settings, ..NodeSpec::default() }
}

async fn seconds(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

fn add(sim: &SimIpamd, pods: std::ops::Range<u32>) -> usize {
    pods.filter(|pod| sim.pod_added(&format!("demo/web-{pod}")).is_ok()).count()
}

fn remove(sim: &SimIpamd, pods: std::ops::Range<u32>) {
    pods.for_each(|pod| sim.pod_removed(&format!("demo/web-{pod}")));
}

/// Total, assigned, cooling, free.
fn sums(sim: &SimIpamd) -> (i64, i64, i64, i64) {
    let truth = sim.truth();
    (truth.total, truth.assigned, truth.cooling, truth.free)
}

fn errors(sim: &SimIpamd, api: Api, refusal: Refusal) -> f64 {
    sim.metric("awscni_aws_api_error_count", &[("api", api.name()), ("error", refusal.code())])
}

fn failed(sim: &SimIpamd, name: &str) -> f64 {
    sim.metric("awscni_ipamd_error_count", &[("fn", name)])
}

#[tokio::test(start_paused = true)]
async fn an_empty_m5_large_keeps_nine_addresses_and_one_pod_brings_a_second_eni() {
    let sim = node(NodeSpec::default());
    assert_eq!(sim.pod_added("early"), Err(AddError::NoBackend));
    sim.pod_removed("early");
    seconds(10).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((9, 0, 0, 9), 1));
    seconds(600).await;
    assert_eq!(sums(&sim), (9, 0, 0, 9));
    assert_eq!(add(&sim, 0..1), 1);
    seconds(15).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((18, 1, 0, 17), 2));
    // Two primary addresses and 18 more of 251.
    assert_eq!(sim.truth().subnets[SUBNET].0, 231);
}

#[tokio::test(start_paused = true)]
async fn a_pod_beyond_the_pool_waits_for_the_next_eni_and_gets_its_address_then() {
    let sim = node(with(Settings { warm_eni_target: 0, ..Settings::default() }));
    seconds(10).await;
    assert_eq!(add(&sim, 0..10), 9);
    assert_eq!((no_available(&sim), sim.truth().waiting), (1.0, 1));
    seconds(5).await;
    assert_eq!(sim.truth().waiting, 1, "a new ENI takes longer");
    seconds(20).await;
    assert_eq!((sums(&sim), sim.truth().waiting), ((18, 10, 0, 8), 0));
    assert_eq!(no_available(&sim), 1.0);
}

fn no_available(sim: &SimIpamd) -> f64 {
    sim.metric("awscni_no_available_ip_addresses", &[])
}

#[tokio::test(start_paused = true)]
async fn growth_ends_at_the_instance_limit() {
    let sim = node(NodeSpec { max_pods: 110, ..NodeSpec::default() });
    seconds(10).await;
    assert_eq!((sim.truth().reachable, sim.truth().growth), (27, 18));
    for wave in 0..6 {
        add(&sim, wave * 5..wave * 5 + 5);
        let truth = sim.truth();
        assert_eq!((truth.reachable + truth.assigned, truth.free + truth.growth), (27, truth.reachable));
        seconds(60).await;
    }
    assert_eq!((sums(&sim), sim.truth().waiting), ((27, 27, 0, 0), 3));
    assert_eq!((sim.metric("awscni_ip_max", &[]), sim.metric("awscni_eni_max", &[])), (27.0, 3.0));
    assert_eq!(failed(&sim, "increaseIPPoolAllocENI"), 0.0, "nothing was refused");
}

#[rstest]
#[case::below_the_second_eni(9, 9)]
#[case::a_chunk_overshoots(10, 18)]
#[case::not_binding(29, 27)]
#[tokio::test(start_paused = true)]
async fn growth_ends_at_max_pods(#[case] max_pods: i64, #[case] expected: i64) {
    let sim = node(NodeSpec { max_pods, ..NodeSpec::default() });
    seconds(10).await;
    assert_eq!(sim.truth().reachable, expected);
    add(&sim, 0..40);
    seconds(300).await;
    assert_eq!(total(&sim), expected);
}

fn total(sim: &SimIpamd) -> i64 {
    sim.truth().total
}

#[tokio::test(start_paused = true)]
async fn a_full_subnet_refuses_once_per_two_minutes_and_leaves_the_trace_of_a_t3_small() {
    // Three addresses on two ENIs, one of them held and one resting; nothing left in the subnet.
    let spec = NodeSpec {
        instance: Instance::t3_small(),
        settings: Settings { warm_ip_target: 2, ..Settings::default() },
        ..NodeSpec::default()
    };
    let sim = node(spec);
    seconds(10).await;
    sim.configure(Settings { warm_ip_target: 3, ..Settings::default() });
    seconds(10).await;
    assert_eq!(total(&sim), 3);
    let second = sim.change(|node, now| {
        let address = node.ec2.subnet(SUBNET).unwrap().take_addresses(2).unwrap();
        let eni = node.ec2.attach(0, SUBNET, address[0], vec![address[1]], now.wall);
        let first = node.ec2.enis.keys().next().unwrap().clone();
        let last = *node.ec2.enis[&first].cidrs.last().unwrap();
        node.ec2.unassign(&first, last);
        eni
    });
    sim.leave_free(SUBNET, 0);
    sim.configure(Settings::default());
    seconds(5).await;
    assert_eq!(sim.enis().last(), Some(&second));
    assert_eq!((sums(&sim), sim.truth().enis), ((3, 0, 0, 3), 2));
    sim.pod_added("demo/api-0").unwrap();
    sim.pod_added("demo/gone").unwrap();
    sim.pod_removed("demo/gone");
    assert_eq!(sums(&sim), (3, 1, 1, 1));
    assert_eq!(sim.truth().reachable, 1);
    seconds(10).await;
    let full = Refusal::InsufficientFreeAddressesInSubnet;
    let trace = || (errors(&sim, Api::Assign, full), errors(&sim, Api::Create, full));
    assert_eq!(trace(), (4.0, 1.0));
    assert_eq!(failed(&sim, "increaseIPPoolAllocENI"), 1.0);
    assert_eq!(failed(&sim, "increaseIPPoolAllocIPAddressesFailed"), 3.0);
    let figures = ["awscni_total_ip_addresses", "awscni_assigned_ip_addresses", "awscni_ip_max"];
    assert_eq!(figures.map(|name| sim.metric(name, &[])), [3.0, 1.0, 9.0]);
    seconds(105).await;
    assert_eq!(trace(), (4.0, 1.0), "silence after a recognised refusal");
    seconds(20).await;
    assert_eq!(trace(), (8.0, 2.0));
    // There is room again: growth goes on after the pause.
    sim.free_others(SUBNET);
    assert_eq!(sim.truth().reachable, 8);
    seconds(130).await;
    assert_eq!(total(&sim), 4, "one address was enough for the warm ENI");
}

#[tokio::test(start_paused = true)]
async fn without_a_slot_for_an_eni_refusals_are_swallowed_and_go_on() {
    let sim = node(with(Settings { max_eni: 1, warm_ip_target: 3, ..Settings::default() }));
    sim.leave_free(SUBNET, 0);
    seconds(10).await;
    add(&sim, 0..3);
    let refused = || errors(&sim, Api::Assign, Refusal::InsufficientFreeAddressesInSubnet);
    let before = refused();
    seconds(60).await;
    let per_minute = refused() - before;
    assert!((18.0..=24.0).contains(&per_minute), "{per_minute} of two each five seconds and their own time");
}

#[tokio::test(start_paused = true)]
async fn without_discovery_a_refused_fill_already_begins_the_pause() {
    let settings = Settings { warm_ip_target: 3, subnet_discovery: false, ..Settings::default() };
    let sim = node(with(settings));
    seconds(10).await;
    sim.leave_free(SUBNET, 0);
    add(&sim, 0..1);
    seconds(60).await;
    let full = Refusal::InsufficientFreeAddressesInSubnet;
    assert_eq!((errors(&sim, Api::Assign, full), errors(&sim, Api::Create, full)), (2.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn discovery_takes_the_emptiest_subnet_and_counts_each_refusal() {
    let other = Subnet::new("subnet-b", [10, 9, 0, 0].into(), 24);
    let mut spec = NodeSpec { max_pods: 110, ..NodeSpec::default() };
    spec.subnets.push(other);
    let sim = node(spec);
    seconds(10).await;
    // 11 in one and none in the other: too little for an ENI of ten after the first.
    sim.leave_free(SUBNET, 11);
    sim.leave_free("subnet-b", 5);
    add(&sim, 0..9);
    seconds(30).await;
    assert_eq!((total(&sim), sim.truth().subnets[SUBNET].0), (18, 1));
    add(&sim, 9..12);
    seconds(30).await;
    assert_eq!(errors(&sim, Api::Create, Refusal::InsufficientFreeAddressesInSubnet), 2.0);
    assert_eq!(failed(&sim, "increaseIPPoolAllocENI"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn prefixes_grow_by_sixteen_and_fail_on_fragments_though_addresses_are_free() {
    let spec = NodeSpec { max_pods: 110, ..with(Settings { prefix_delegation: true, ..Settings::default() }) };
    let sim = node(spec);
    seconds(10).await;
    assert_eq!(sums(&sim), (16, 0, 0, 16));
    assert_eq!(sim.metric("awscni_ip_max", &[]), 432.0);
    add(&sim, 0..1);
    seconds(10).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((32, 1, 0, 31), 1));
    assert_eq!(sim.truth().reachable, 111, "112 addresses: the last prefix overshoots");
    sim.fragment(SUBNET, 1);
    assert_eq!(sim.truth().reachable, 47, "one block is left");
    add(&sim, 1..40);
    seconds(60).await;
    let (total, assigned, _, _) = sums(&sim);
    assert_eq!((total, assigned), (48, 40));
    let (free, blocks) = sim.truth().subnets[SUBNET];
    assert!(free > 100 && blocks == 0, "{free} free in {blocks} blocks");
    assert!(errors(&sim, Api::Assign, Refusal::InsufficientCidrBlocks) >= 2.0);
    assert_eq!(errors(&sim, Api::Assign, Refusal::InsufficientFreeAddressesInSubnet), 0.0);
}

#[tokio::test(start_paused = true)]
async fn without_nitro_prefixes_are_silently_not_used() {
    let settings = Settings { prefix_delegation: true, ..Settings::default() };
    let instance = Instance { nitro: false, ..Instance::m5_large() };
    let sim = node(NodeSpec { instance, ..with(settings) });
    seconds(10).await;
    assert_eq!((sums(&sim), sim.metric("awscni_ip_max", &[])), ((9, 0, 0, 9), 27.0));
}

#[tokio::test(start_paused = true)]
async fn custom_networking_leaves_the_primary_eni_empty_and_refuses_prefixes_in_a_generic_way() {
    let settings = Settings { custom_networking: true, ..Settings::default() };
    let pods = Subnet::new("subnet-pods", [100, 64, 0, 0].into(), 24);
    let mut spec = NodeSpec {
        max_pods: 110,
        eni_config: Some(("eu-west-1a".into(), "subnet-pods".into())),
        ..with(settings.clone())
    };
    spec.subnets.push(pods);
    let sim = node(spec.clone());
    seconds(20).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((9, 0, 0, 9), 2));
    assert_eq!(sim.truth().reachable, 18, "one usable ENI less");
    assert_eq!(sim.metric("awscni_ip_max", &[]), 27.0, "overstated");
    assert_eq!(sim.truth().subnets[SUBNET].0, 250, "only the primary address");

    spec.settings.prefix_delegation = true;
    spec.subnets[1].fragment(0);
    let sim = node(spec);
    seconds(60).await;
    assert_eq!(sums(&sim), (0, 0, 0, 0));
    let generic = errors(&sim, Api::Create, Refusal::InvalidParameterValue);
    assert!(generic > 3.0, "{generic}: no pause, for ipamd does not recognise it");
    assert_eq!(failed(&sim, "increaseIPPoolAllocIPAddressesFailed"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn churn_starves_on_the_cooldown_although_the_pool_looks_half_empty() {
    let sim = node(NodeSpec { max_pods: 9, ..NodeSpec::default() });
    seconds(10).await;
    assert_eq!(add(&sim, 0..9), 9);
    remove(&sim, 0..5);
    seconds(10).await;
    let truth = sim.truth();
    assert_eq!(sums(&sim), (9, 4, 5, 0));
    assert_eq!((truth.next_free, truth.reachable), (Some(SignedDuration::from_secs(20)), 0));
    assert_eq!(sim.pod_added("demo/late"), Err(AddError::NoAddress));
    assert_eq!(no_available(&sim), 1.0);
    let shown = sim.metric("awscni_total_ip_addresses", &[]) - sim.metric("awscni_assigned_ip_addresses", &[]);
    assert_eq!(shown, 5.0, "what the metrics take for free");
    seconds(30).await;
    assert_eq!((sim.truth().waiting, sums(&sim)), (0, (9, 5, 0, 4)));
    assert_eq!(sim.metric("awscni_add_ip_req_count", &[]), 12.0, "9, and the late one three times");
}

#[tokio::test(start_paused = true)]
async fn warm_ip_targets_follow_the_pods_up_and_down() {
    let sim = node(with(Settings { warm_ip_target: 2, minimum_ip_target: 4, ..Settings::default() }));
    seconds(10).await;
    assert_eq!(sums(&sim), (4, 0, 0, 4));
    add(&sim, 0..12);
    // Pods that wait count for nothing: two more addresses at each try.
    seconds(90).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((14, 12, 0, 2), 2));
    remove(&sim, 0..12);
    seconds(20).await;
    let early = total(&sim);
    seconds(200).await;
    assert!(early < 14, "addresses go back while they still rest");
    assert_eq!((sums(&sim), sim.truth().enis), ((4, 0, 0, 4), 2), "the minimum lies on the second ENI");
    assert_eq!(sim.truth().subnets[SUBNET].0, 245);
}

#[tokio::test(start_paused = true)]
async fn a_minimum_alone_is_a_ceiling() {
    let sim = node(with(Settings { minimum_ip_target: 12, ..Settings::default() }));
    seconds(30).await;
    assert_eq!((sums(&sim), sim.truth().reachable), ((12, 0, 0, 12), 12));
    assert_eq!(add(&sim, 0..20), 12);
    seconds(300).await;
    assert_eq!((sums(&sim), sim.truth().waiting), ((12, 12, 0, 0), 8));
}

#[tokio::test(start_paused = true)]
async fn a_cordon_stops_growth_and_the_loss_of_enis_but_not_the_return_of_addresses() {
    let sim = node(NodeSpec::default());
    seconds(10).await;
    sim.set_unschedulable(true);
    add(&sim, 0..9);
    assert_eq!(sim.truth().reachable, 0);
    seconds(120).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((9, 9, 0, 0), 1));
    sim.set_unschedulable(false);
    seconds(30).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((18, 9, 0, 9), 2));
    sim.set_unschedulable(true);
    remove(&sim, 0..9);
    seconds(300).await;
    assert_eq!(sim.truth().enis, 2);
    assert_eq!(sim.metric("awscni_ec2api_req_count", &[("fn", Api::Detach.name())]), 0.0);
    sim.set_unschedulable(false);
    seconds(30).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((9, 0, 0, 9), 1));
    assert_eq!(sim.metric("awscni_ec2api_req_count", &[("fn", Api::Detach.name())]), 1.0);

    let warm = node(with(Settings { warm_ip_target: 1, ..Settings::default() }));
    seconds(10).await;
    add(&warm, 0..1);
    seconds(20).await;
    add(&warm, 1..2);
    seconds(20).await;
    warm.set_unschedulable(true);
    remove(&warm, 0..2);
    seconds(60).await;
    assert_eq!(sums(&warm), (1, 0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_pods_and_addresses_and_loses_counters_and_cooldowns() {
    let sim = node(NodeSpec::default());
    seconds(10).await;
    add(&sim, 0..5);
    seconds(30).await;
    remove(&sim, 0..2);
    assert_eq!(sums(&sim), (18, 3, 2, 13));
    let started = sim.metric("process_start_time_seconds", &[]);
    sim.restart();
    assert!(!sim.truth().up);
    assert_eq!(sim.pod_added("demo/early"), Err(AddError::NoBackend));
    sim.pod_removed("demo/web-2");
    seconds(30).await;
    let truth = sim.truth();
    assert!(truth.up && truth.waiting == 0, "the kubelet tried again");
    // web-3, web-4 and early; web-2 rests since ipamd was there to be told.
    assert_eq!((truth.total, truth.assigned, truth.cooling), (18, 3, 1));
    assert_eq!(sim.metric("awscni_add_ip_req_count", &[]), 1.0);
    assert_eq!(sim.metric("process_start_time_seconds", &[]) - started, 40.0);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_gone_nothing_is_handed_out_or_taken_back() {
    let sim = node(NodeSpec::default());
    seconds(10).await;
    add(&sim, 0..2);
    sim.kill();
    assert_eq!(sim.pod_added("demo/late"), Err(AddError::NoBackend));
    sim.pod_removed("demo/web-0");
    seconds(300).await;
    assert!(!sim.truth().up);
    assert_eq!(sim.truth().waiting, 1);
    sim.restart();
    seconds(30).await;
    let truth = sim.truth();
    assert_eq!((truth.up, truth.waiting, truth.assigned), (true, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_changed_mode_leaves_cidrs_that_cost_slots_and_carry_no_new_pods() {
    let sim = node(NodeSpec { max_pods: 110, ..NodeSpec::default() });
    seconds(10).await;
    add(&sim, 0..2);
    seconds(30).await;
    sim.configure(Settings { prefix_delegation: true, ..Settings::default() });
    seconds(60).await;
    let truth = sim.truth();
    // Two ENIs are full of single addresses; prefixes need the third.
    assert_eq!((truth.total, truth.assigned, truth.enis), (16, 0, 3));
    assert_eq!(sim.metric("awscni_total_ip_addresses", &[]), 34.0);
    assert_eq!(sim.metric("awscni_assigned_ip_addresses", &[]), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_reserved_for_the_trunk_and_the_trunk_carries_no_pods() {
    let sim = node(NodeSpec { max_pods: 110, ..with(Settings { pod_eni: true, ..Settings::default() }) });
    seconds(10).await;
    assert_eq!(sim.truth().reachable, 18);
    sim.attach_trunk().unwrap();
    seconds(70).await;
    assert_eq!((sim.truth().enis, sim.truth().reachable), (2, 18));
    assert_eq!(sim.metric("awscni_reconcile_count", &[("fn", "eniReconcileAdd")]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_excluded_eni_keeps_its_pods_and_gets_no_more() {
    let sim = node(NodeSpec { max_pods: 110, ..NodeSpec::default() });
    seconds(10).await;
    add(&sim, 0..3);
    let first = sim.enis().remove(0);
    sim.exclude(&first, true);
    assert_eq!(sums(&sim), (0, 0, 0, 0));
    seconds(60).await;
    // Both other slots, for the pool that counts is kept at two ENIs' worth at most.
    let truth = sim.truth();
    assert_eq!((truth.total, truth.assigned, truth.reachable), (9, 0, 18));
    assert_eq!(sim.metric("awscni_total_ip_addresses", &[]), 18.0);
    assert_eq!(sim.metric("awscni_assigned_ip_addresses", &[]), 3.0);
}

#[tokio::test(start_paused = true)]
async fn an_eni_lost_with_its_pods_leaves_wrong_totals() {
    let sim = node(NodeSpec::default());
    seconds(10).await;
    add(&sim, 0..1);
    sim.force_remove_eni(&sim.enis().remove(0));
    assert_eq!(sums(&sim), (0, 0, 0, 0));
    assert_eq!(sim.metric("awscni_force_removed_ips", &[]), 1.0);
    assert_eq!(sim.metric("awscni_total_ip_addresses", &[]), 9.0, "the value before");
}

#[tokio::test(start_paused = true)]
async fn throttled_calls_are_counted_and_tried_again_at_once() {
    let sim = node(NodeSpec::default());
    seconds(10).await;
    sim.refuse(Api::Create, Refusal::RequestLimitExceeded);
    add(&sim, 0..1);
    seconds(60).await;
    let throttled = errors(&sim, Api::Create, Refusal::RequestLimitExceeded);
    assert!(throttled > 5.0, "{throttled}");
    sim.allow(Api::Create);
    sim.refuse(Api::Attach, Refusal::AttachmentLimitExceeded);
    seconds(20).await;
    assert!(errors(&sim, Api::Attach, Refusal::AttachmentLimitExceeded) >= 1.0);
    assert_eq!(sim.truth().enis, 1);
    sim.allow(Api::Attach);
    seconds(20).await;
    assert_eq!(sim.truth().enis, 2);
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_grows_by_the_cidrs_each_minute_and_stops_with_ipv6() {
    let beat = |sim: &SimIpamd| sim.metric("awscni_reconcile_count", &[("fn", "eniDataStorePoolReconcileAdd")]);
    let sim = node(NodeSpec::default());
    seconds(10).await;
    assert_eq!(beat(&sim), 0.0);
    seconds(600).await;
    let beats = beat(&sim) / 9.0;
    assert!((8.0..=10.0).contains(&beats), "{beats}");

    let sim = node(with(Settings { ipv6: true, ..Settings::default() }));
    seconds(10).await;
    assert_eq!(sim.pod_added("a").unwrap()[0].to_string(), "2001:db8:7:1::");
    assert_eq!(sim.pod_added("b").unwrap()[0].to_string(), "2001:db8:7:1::1");
    sim.pod_removed("a");
    seconds(600).await;
    let truth = sim.truth();
    assert_eq!((truth.total, truth.assigned, truth.growth, truth.enis), (281_474_976_710_656, 1, 0, 1));
    assert_eq!((beat(&sim), sim.metric("awscni_ip_max", &[])), (0.0, 0.0));
    let cidr = sim.metric("awscni_assigned_ip_per_cidr", &[("cidr", "2001:db8:7:1::/80")]);
    assert_eq!(cidr, -1.0, "raised by nobody, lowered by a release");
}

#[tokio::test(start_paused = true)]
async fn a_second_card_keeps_one_address_and_serves_pods_that_want_both() {
    let instance = Instance { cards: 2, ..Instance::m5_large() };
    let spec = NodeSpec { instance, max_pods: 110, ..with(Settings { multi_nic: true, ..Settings::default() }) };
    let sim = node(spec);
    seconds(30).await;
    assert_eq!((sums(&sim), sim.truth().enis), ((10, 0, 0, 10), 2));
    assert_eq!(sim.metric("awscni_total_ip_addresses", &[]), 1.0, "the last card to write wins");
    assert_eq!(sim.pod_added("single").map(|addresses| addresses.len()), Ok(1));
    assert_eq!(sim.multi_nic_pod_added("both").map(|addresses| addresses.len()), Ok(2));
    assert_eq!(sim.multi_nic_pod_added("again"), Err(AddError::NoAddress));
    assert_eq!(sums(&sim).1, 3, "what the failed one had got on the first card went back");
    seconds(60).await;
    assert_eq!((no_available(&sim) >= 1.0, sim.truth().waiting), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn provisioning_that_is_disabled_keeps_the_pool_as_it_is() {
    let sim = node(with(Settings { provisioning_disabled: true, ..Settings::default() }));
    seconds(300).await;
    assert_eq!((sums(&sim), sim.truth().reachable), ((0, 0, 0, 0), 0));
}

/// Two endpoints on loopback.
struct Wire {
    sim: SimIpamd,
    introspection: String,
    metrics: String,
    _tasks: JoinSet<()>,
}

impl Wire {
    async fn new(spec: NodeSpec) -> Self {
        let sim = node(spec);
        let mut tasks = JoinSet::new();
        let mut urls = Vec::new();
        for endpoint in [Endpoint::Introspection, Endpoint::Metrics] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            tasks.spawn(sim.clone().serve(endpoint, listener));
        }
        let [introspection, metrics] = urls.try_into().unwrap();
        Self { sim, introspection, metrics, _tasks: tasks }
    }

    /// Status, content type, body.
    async fn get(&self, path: &str) -> Result<(u16, String, String), reqwest::Error> {
        let base = if path == "/metrics" { &self.metrics } else { &self.introspection };
        fetch(&format!("{base}{path}")).await
    }

    async fn document(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await.unwrap().2).unwrap()
    }
}

async fn fetch(url: &str) -> Result<(u16, String, String), reqwest::Error> {
    let response = crate::http::imds().unwrap().get(url).send().await?;
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    Ok((response.status().as_u16(), content_type, response.text().await?))
}

#[tokio::test(start_paused = true)]
async fn both_endpoints_tell_the_same_story_over_http() {
    let wire = Wire::new(NodeSpec::default()).await;
    assert!(wire.get("/v1/enis").await.is_err(), "ports open after node initialisation");
    seconds(10).await;
    wire.sim.pod_added("demo/api-0").unwrap();
    seconds(20).await;

    let (status, content_type, body) = wire.get("/v1/enis").await.unwrap();
    assert_eq!((status, content_type.as_str()), (200, "text/plain; charset=utf-8"));
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&document["0"]["TotalIPs"], &document["0"]["AssignedIPs"]), (&18.into(), &1.into()));
    assert!(!body.contains(": ") && body.contains("\"k8sPodName\":\"api-0\""), "{body}");

    let (status, content_type, text) = wire.get("/metrics").await.unwrap();
    assert_eq!((status, content_type.starts_with("text/plain; version=0.0.4")), (200, true));
    for line in [
        "awscni_total_ip_addresses 18",
        "awscni_assigned_ip_addresses 1",
        "awscni_eni_allocated 2",
        "awscni_eni_max 3",
        "awscni_ip_max 27",
        "awscni_no_available_ip_addresses 0",
        "awscni_build_info{goversion=\"go1.26.4\",version=\"v1.23.1\"} 1",
        "awscni_assigned_ip_per_eni{eni=\"eni-0123456789abcde02\"} 0",
        "awscni_ec2api_req_count{fn=\"CreateNetworkInterface\"} 1",
        "awscni_aws_api_latency_ms_count{api=\"AttachNetworkInterface\",error=\"false\",status=\"200\"} 1",
        "process_start_time_seconds 1.7778888e+09",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    assert_eq!(wire.document("/v1/eni-configs").await, "default");
    assert_eq!(wire.document("/v1/ipamd-env-settings").await["WARM_ENI_TARGET"], 1);
    for path in ["/v1/pods", "/", "/v1/enis/"] {
        assert_eq!(wire.document(path).await["AvailableCommands"].as_array().unwrap().len(), 4);
    }
    let unknown = fetch(&format!("{}/", wire.metrics)).await.unwrap();
    assert_eq!((unknown.0, unknown.2.as_str()), (404, "404 page not found\n"));

    let requests = wire.sim.requests();
    assert_eq!((requests[0].status, requests[1].status, requests.len()), (None, Some(200), 9));
    assert_eq!((requests[2].endpoint, requests[2].path.as_str()), (Endpoint::Metrics, "/metrics"));
    assert_eq!(wire.sim.most_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_changes_the_documents_and_resets_the_counters() {
    let wire = Wire::new(NodeSpec { version: Version(1, 19, 0), ..NodeSpec::default() }).await;
    seconds(10).await;
    wire.sim.pod_added("demo/api-0").unwrap();
    let flat = wire.document("/v1/enis").await;
    assert_eq!((&flat["AssignedIPs"], flat.get("0")), (&1.into(), None));
    wire.sim.upgrade(Version(1, 23, 1));
    assert!(wire.get("/v1/enis").await.is_err() && wire.get("/metrics").await.is_err());
    // The pod wants a second ENI, which is attached before the ports open.
    seconds(15).await;
    let keyed = wire.document("/v1/enis").await;
    assert_eq!((&keyed["0"]["AssignedIPs"], keyed.get("ENIs")), (&1.into(), None));
    let text = wire.get("/metrics").await.unwrap().2;
    assert!(text.contains("\nawscni_add_ip_req_count 0\n") && text.contains("version=\"v1.23.1\""), "{text}");
    wire.sim.kill();
    assert!(wire.get("/v1/enis").await.is_err() && wire.get("/metrics").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_are_switched_off_do_not_answer() {
    let settings = Settings { metrics_disabled: true, ..Settings::default() };
    let wire = Wire::new(with(settings)).await;
    seconds(10).await;
    assert!(wire.get("/metrics").await.is_err() && wire.get("/v1/enis").await.is_ok());
    wire.sim.configure(Settings { introspection_disabled: true, ..Settings::default() });
    seconds(10).await;
    assert!(wire.get("/metrics").await.is_ok() && wire.get("/v1/enis").await.is_err());
}

#[rstest]
#[case::hang(FaultKind::Hang, None)]
#[case::refuse(FaultKind::Refuse, None)]
#[case::truncate(FaultKind::Truncate, None)]
#[case::too_late(FaultKind::Delay(Duration::from_secs(5)), None)]
#[case::status(FaultKind::Status(503), Some((503, "503\n")))]
#[case::html(FaultKind::Html, Some((200, "<!DOCTYPE html>\n<html>")))]
#[case::empty(FaultKind::Empty, Some((200, "")))]
#[case::catch_all(FaultKind::CatchAll, Some((200, "{\"AvailableCommands\":[")))]
#[case::malformed(FaultKind::Malformed, Some((200, "{\"0\":{")))]
#[case::huge(FaultKind::Huge(1_000_000), Some((200, "{\"0\":{")))]
#[case::other(FaultKind::Body(b"{}".to_vec()), Some((200, "{}")))]
#[tokio::test(start_paused = true)]
async fn a_fault_shows_on_the_wire_and_then_is_over(#[case] kind: FaultKind, #[case] seen: Option<(u16, &str)>) {
    let wire = Wire::new(NodeSpec::default()).await;
    seconds(10).await;
    let sound = wire.get("/v1/enis").await.unwrap().2;
    wire.sim.fault(
        Fault::new(kind.clone()).endpoint(Endpoint::Introspection).until(Instant::now() + Duration::from_secs(20)),
    );
    let answer = wire.get("/v1/enis").await.ok();
    assert_eq!(answer.as_ref().map(|answer| answer.0), seen.map(|seen| seen.0), "{kind:?}");
    if let (Some((_, _, body)), Some((_, start))) = (answer, seen) {
        assert!(body.starts_with(start), "{kind:?}: {body}");
        assert_ne!(body, sound, "{kind:?}");
    }
    assert!(wire.get("/metrics").await.is_ok(), "the other endpoint is sound");
    seconds(20).await;
    assert_eq!(wire.get("/v1/enis").await.unwrap().2, sound);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_switched_off_closes_its_listeners() {
    let wire = Wire::new(NodeSpec::default()).await;
    seconds(10).await;
    assert!(wire.get("/metrics").await.is_ok());
    wire.sim.power_off();
    assert!(wire.get("/metrics").await.is_err());
}
