//! What is read of a simulated ipamd against what is the case on its node.

use super::*;
use crate::cni::alarm::Alarms;
use crate::sim::ipamd::{Endpoint, NodeSpec, Settings, SimIpamd, Subnet, Version};

const SUBNET: &str = "subnet-0123456789abcdef0";

/// A node with its ipamd, and the watch over it.
struct World {
    sim: SimIpamd,
    bench: Bench,
    pods: i64,
}

impl World {
    async fn new(spec: NodeSpec, environment: &[(&str, &str)]) -> Self {
        let clock = Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap());
        let max_pods = spec.max_pods;
        let sim = SimIpamd::new(clock, spec);
        let mut tasks = JoinSet::new();
        let mut addresses = Vec::new();
        for endpoint in [Endpoint::Introspection, Endpoint::Metrics] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(LocalAddress::Tcp(listener.local_addr().unwrap().to_string()));
            tasks.spawn(sim.clone().serve(endpoint, listener));
        }
        // It comes up and fills its pool.
        sleep(Duration::from_mins(2)).await;
        let metrics = addresses.pop().unwrap();
        let bench = Bench::with_clock(clock, Peer::golden(), addresses.pop().unwrap(), metrics, tasks);
        let set = environment.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        bench.facts.send_replace(NodeFacts {
            max_pods: Some(max_pods),
            aws_node: Some(Arc::new(set.collect())),
            known: true,
            listed: true,
            ..NodeFacts::default()
        });
        Self { sim, bench, pods: 0 }
    }

    fn add(&mut self, pods: i64) {
        for _ in 0..pods {
            if self.sim.pod_added(&format!("demo/p{}", self.pods)).is_ok() {
                self.pods += 1;
            }
        }
        self.count();
    }

    fn remove(&mut self, pods: i64) {
        for _ in 0..pods.min(self.pods) {
            self.pods -= 1;
            self.sim.pod_removed(&format!("demo/p{}", self.pods));
        }
        self.count();
    }

    fn count(&self) {
        let pods = self.pods;
        self.bench.facts.send_modify(|facts| (facts.pods, facts.addressed_pods) = (pods, pods));
    }

    /// The next reading, which has to be the truth.
    async fn next_is_true(&mut self, what: &str) -> Arc<Headroom> {
        let found = self.bench.next().await;
        let truth = self.sim.truth();
        let pool = found.pool.as_ref().unwrap_or_else(|| panic!("{what}: {:?}", found.problems));
        let sums = (pool.total, pool.assigned, pool.cooldown, pool.free(), pool.enis);
        let expected = (truth.total, truth.assigned, Some(truth.cooling), truth.free, truth.enis);
        assert_eq!(sums, expected, "{what}: {truth:?}");
        let room = found.limits.room.unwrap().max(0);
        let outlook = found.outlook.unwrap();
        let pods = (outlook.now, outlook.reachable);
        assert_eq!(pods, (truth.free.min(room), truth.reachable.min(room)), "{what}: {truth:?} {found:?}");
        found
    }

    /// Pods come and go for some minutes, and every reading is the truth.
    async fn lives(&mut self, what: &str) {
        for (comes, goes) in [(0, 0), (3, 0), (5, 0), (0, 4), (9, 0), (0, 0), (0, 9), (2, 1), (30, 0), (0, 0), (0, 5)] {
            self.add(comes);
            self.remove(goes);
            self.next_is_true(what).await;
        }
    }
}

fn with(settings: Settings) -> NodeSpec {
    NodeSpec { settings, ..NodeSpec::default() }
}

#[tokio::test(start_paused = true)]
async fn every_release_is_read_as_it_is() {
    for version in [(1, 7, 5), (1, 9, 3), (1, 11, 4), (1, 16, 0), (1, 19, 6), (1, 20, 0), (1, 22, 0), (1, 23, 1)] {
        let spec = NodeSpec { version: Version(version.0, version.1, version.2), ..NodeSpec::default() };
        World::new(spec, &[]).await.lives(&format!("{version:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_mode_of_the_pool_is_read_as_it_is() {
    let prefixes = Settings { prefix_delegation: true, warm_prefix_target: 1, ..Settings::default() };
    let warm = Settings { warm_ip_target: 3, minimum_ip_target: 6, ..Settings::default() };
    let minimum = Settings { minimum_ip_target: 12, ..Settings::default() };
    for (settings, environment) in [
        (prefixes, [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")].as_slice()),
        (warm, &[("WARM_IP_TARGET", "3"), ("MINIMUM_IP_TARGET", "6")]),
        (minimum, &[("MINIMUM_IP_TARGET", "12")]),
    ] {
        World::new(with(settings), environment).await.lives(&format!("{environment:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn custom_networking_counts_one_interface_less() {
    let other = "subnet-0123456789abcdef1";
    let mut spec = with(Settings { custom_networking: true, ..Settings::default() });
    spec.subnets.push(Subnet::new(other, [10, 9, 1, 0].into(), 24));
    spec.eni_config = Some(("us-east-1a".to_owned(), other.to_owned()));
    let mut world = World::new(spec, &[("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true")]).await;
    world.lives("custom networking").await;
    assert_eq!(world.bench.next().await.limits.instance, Some(18));
}

#[tokio::test(start_paused = true)]
async fn a_full_subnet_ends_the_reach_until_there_is_room_again() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    world.next_is_true("at first").await;
    world.sim.leave_free(SUBNET, 0);
    world.add(4);
    world.bench.next().await;
    let found = world.next_is_true("full").await;
    assert_eq!((found.state, found.outlook.unwrap().binding), (State::SubnetExhausted, Limit::Subnet));
    world.sim.free_others(SUBNET);
    for _ in 0..12 {
        world.bench.next().await;
    }
    assert_eq!(world.next_is_true("room again").await.state, State::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_cordon_ends_the_reach_as_it_ends_the_growth() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    world.add(2);
    world.sim.set_unschedulable(true);
    world.bench.facts.send_modify(|facts| facts.cordoned = true);
    let found = world.next_is_true("cordoned").await;
    assert_eq!(found.state, State::NodeUnschedulable);
}

#[tokio::test(start_paused = true)]
async fn ipamd_is_asked_at_most_once_in_ten_seconds() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    world.next_is_true("at first").await;
    let before = world.sim.requests().len();
    sleep(Duration::from_mins(60)).await;
    let asked = world.sim.requests().len() - before;
    assert!((300..=360).contains(&asked), "{asked} requests in an hour");
    assert_eq!(world.sim.most_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn waves_of_pods_raise_no_alarm_however_they_fall_on_the_readings() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    let mut alarms = Alarms::default();
    let clock = Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap());
    for wave in 0..40_u64 {
        world.add(6);
        sleep(Duration::from_secs(20 + wave % 9)).await;
        world.remove(6);
        sleep(Duration::from_secs(20 + wave % 7)).await;
        let headroom = world.bench.headroom.borrow().clone().unwrap();
        assert!(alarms.step(clock.now(), &headroom).is_empty(), "wave {wave}: {headroom:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ipamd_that_is_killed_is_down_and_comes_back() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    world.next_is_true("at first").await;
    world.sim.kill();
    let mut states = Vec::new();
    for _ in 0..4 {
        states.push(world.bench.next().await.state);
    }
    assert!(states.contains(&State::IpamdDown), "{states:?}");
    world.sim.restart();
    sleep(Duration::from_mins(3)).await;
    world.next_is_true("back").await;
}

impl World {
    /// A round over the interfaces by IMDS ends.
    fn walk(&self) {
        let network = crate::monitor::network::tests::network(&self.sim.network_tree());
        self.bench.network.send_replace(Some(Ok(Arc::new(network))));
    }
}

#[tokio::test(start_paused = true)]
async fn without_ipamd_the_pool_is_what_ec2_has_attached_and_an_upper_bound() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    world.add(6);
    world.next_is_true("at first").await;
    world.remove(2);
    sleep(Duration::from_secs(1)).await;
    let truth = world.sim.truth();
    world.sim.kill();
    let mut found = world.bench.next().await;
    for _ in 0..4 {
        world.walk();
        found = world.bench.next().await;
    }
    assert_eq!((found.source, found.confidence.as_str()), (Some(Source::Imds), "estimate"));
    let pool = found.pool.as_ref().unwrap();
    assert_eq!((pool.total, pool.assigned, pool.cooldown), (truth.total, truth.assigned, None));
    assert!(truth.cooling == 2 && pool.free() == truth.free + truth.cooling, "{truth:?}");
    assert_eq!((found.state, found.outlook.unwrap().reachable), (State::IpamdDown, pool.free()));
    let share = &found.subnets[SUBNET];
    assert_eq!((share.pool, share.interfaces, share.usable()), (truth.total, truth.enis, Some(251)));
    let text = world.bench.text();
    assert!(!text.contains("state=\"cooldown\""), "{text}");
    world.bench.network.send_replace(Some(Err("too slow".to_owned())));
    found = world.bench.next().await;
    assert_eq!((found.source, found.problems["imds"].as_str()), (Some(Source::Imds), "too slow"));
    assert_eq!(world.bench.failures("imds"), 1);
    for _ in 0..3 {
        world.bench.network.send_replace(Some(Err("too slow".to_owned())));
        found = world.bench.next().await;
    }
    assert_eq!((found.source, &found.pool), (None, &None));
    world.walk();
    assert_eq!(world.bench.next().await.source, Some(Source::Imds));
    sleep(Duration::from_mins(20)).await;
    assert_eq!(world.bench.headroom.borrow().as_ref().unwrap().source, None, "nobody goes by what is long ago");
}

#[tokio::test(start_paused = true)]
async fn an_old_cni_has_its_subnets_named_by_imds() {
    let spec = NodeSpec { version: Version(1, 16, 0), ..NodeSpec::default() };
    let mut world = World::new(spec, &[]).await;
    assert!(world.next_is_true("without").await.subnets.is_empty());
    world.walk();
    let found = world.next_is_true("with").await;
    let block = found.subnets[SUBNET].block.unwrap().to_string();
    assert_eq!((found.source, block.as_str()), (Some(Source::Introspection), "10.8.1.0/24"));
    assert_eq!(found.pool.as_ref().unwrap().interfaces[0].subnet_id.as_deref(), Some(SUBNET));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_not_what_ec2_has_is_doubted_after_two_minutes_and_growth_is_not() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    for minute in 0..12 {
        world.add(2);
        world.walk();
        for _ in 0..4 {
            assert_eq!(world.bench.next().await.doubts, [], "minute {minute}");
        }
    }
    let mut lost = world.sim.network_tree();
    let addresses = lost.values_mut().find(|text| text.matches('\n').count() > 3).unwrap();
    addresses.truncate(addresses.rfind('\n').unwrap());
    let lost_at = Instant::now();
    loop {
        let network = crate::monitor::network::tests::network(&lost);
        world.bench.network.send_replace(Some(Ok(Arc::new(network))));
        if world.bench.next().await.doubts.contains(&Doubt::Drift) {
            break;
        }
        assert!(lost_at.elapsed() < Duration::from_mins(5), "nobody doubts it");
    }
    // The reading that shows it first, two minutes, a round of IMDS begun after them, and the reading that has that round.
    let doubted_after = lost_at.elapsed().as_secs();
    assert!((120..=190).contains(&doubted_after), "{doubted_after} s");
    world.walk();
    assert_eq!(world.bench.next().await.doubts, []);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_the_subnets_for_ten_minutes_and_ends_with_growth() {
    let mut world = World::new(NodeSpec::default(), &[]).await;
    world.next_is_true("at first").await;
    assert_eq!(world.bench.headroom.borrow().as_ref().unwrap().refused, None);
    world.sim.leave_free(SUBNET, 0);
    world.add(4);
    world.bench.next().await;
    world.bench.next().await;
    let found = world.next_is_true("full").await;
    assert_eq!(found.refused.as_ref().unwrap().subnets, SUBNET);
    assert_eq!(found.refusals, [(SUBNET.to_owned(), true)].into());
    world.sim.free_others(SUBNET);
    for _ in 0..12 {
        world.bench.next().await;
    }
    let found = world.next_is_true("room again").await;
    assert_eq!((found.refused.as_ref(), &found.refusals), (None, &[(SUBNET.to_owned(), false)].into()));
}

/// Pods leave a cordoned node for five minutes; what it gave back and how many interfaces went.
async fn departs(settings: Settings, environment: &[(&str, &str)]) -> (i64, u64) {
    let mut world = World::new(with(settings), environment).await;
    world.add(9);
    sleep(Duration::from_mins(1)).await;
    world.add(9);
    sleep(Duration::from_mins(1)).await;
    world.next_is_true("at first").await;
    world.sim.set_unschedulable(true);
    world.bench.facts.send_modify(|facts| facts.cordoned = true);
    world.bench.next().await;
    world.remove(18);
    sleep(Duration::from_mins(5)).await;
    let found = world.bench.next().await;
    let departure = found.departure.unwrap();
    assert_eq!(departure.held - departure.returned, world.sim.truth().total + world.sim.truth().enis);
    (departure.returned, departure.detached)
}

#[tokio::test(start_paused = true)]
async fn during_a_drain_no_interface_moves_and_what_is_given_back_is_told() {
    let warm = Settings { warm_ip_target: 2, minimum_ip_target: 2, ..Settings::default() };
    let environment = [("WARM_IP_TARGET", "2"), ("MINIMUM_IP_TARGET", "2")];
    let (returned, detached) = departs(warm.clone(), &environment).await;
    assert!(returned > 0 && detached == 0, "{returned} {detached}");
    assert_eq!(
        departs(Settings::default(), &[]).await,
        (0, 0),
        "by default nothing comes back before the instance goes"
    );
    let meddling = Settings { manage_enis_non_schedulable: true, ..Settings::default() };
    let (returned, detached) = departs(meddling, &[("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "true")]).await;
    assert!(returned >= 10 && detached >= 1, "{returned} {detached}");
}

/// An hour of a pod that comes and goes beside four others; the last reading, and the series of the CNI.
async fn hour_of_little(settings: Settings, environment: &[(&str, &str)]) -> (Arc<Headroom>, Vec<String>) {
    let mut world = World::new(with(settings), environment).await;
    world.add(4);
    world.walk();
    for reading in 0..260_u32 {
        if reading % 8 == 0 {
            world.add(1);
        } else if reading % 8 == 4 {
            world.remove(1);
        }
        assert_eq!(world.bench.next().await.warm.is_some(), reading >= 240, "reading {reading}");
    }
    let text = world.bench.text();
    let series = text.lines().filter(|line| line.starts_with("cni_")).map(str::to_owned).collect();
    (world.bench.next().await, series)
}

#[tokio::test(start_paused = true)]
async fn warm_targets_are_advised_after_an_hour() {
    let (found, series) = hour_of_little(Settings::default(), &[]).await;
    let warm = found.warm.unwrap();
    assert!((1..=3).contains(&warm.warm_ip) && (5..=8).contains(&warm.minimum_ip), "{warm:?}");
    assert!(warm.idle(found.pool.as_ref().unwrap().free()) > 5, "the default keeps a whole interface in reserve");
    assert!(!series.iter().any(|line| line.contains("idle")), "but no more than that: {series:?}");
    let large = Settings { warm_ip_target: 22, ..Settings::default() };
    let (found, series) = hour_of_little(large, &[("WARM_IP_TARGET", "22")]).await;
    let idle = found.warm.unwrap().idle(found.pool.as_ref().unwrap().free());
    assert!(idle >= 18, "{idle}");
    assert!(series.iter().any(|line| line.starts_with("cni_idle_ip_addresses{reason=\"warm_targets\"}")), "{series:?}");
}
