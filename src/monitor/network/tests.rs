//! A round over the simulated instance's interfaces, alone and between the polls.

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::imds;
use crate::metrics::imds::ImdsMetrics;
use crate::monitor::ImdsMonitor;
use crate::signal::{Kind, SignalSource as _};
use crate::sim::imds::NetworkTree;
use crate::sim::imds::{Fault, FaultKind, IdentitySpec, SimImds};
use crate::sim::ipamd::{NodeSpec, SimIpamd};

/// What a whole round over `tree` ends with.
pub(crate) fn network(tree: &NetworkTree) -> Network {
    round(&mut Walk::new(), tree).0
}

/// Asks a whole round out of `tree`: what it ends with and how many questions it took.
fn round(walk: &mut Walk, tree: &NetworkTree) -> (Network, usize) {
    for asked in 1.. {
        let item = walk.item();
        let path = item.path().into_owned();
        let (_, below) = path.split_once("macs/").unwrap();
        let macs: std::collections::BTreeSet<&str> =
            tree.keys().filter_map(|key| Some(key.split_once('/')?.0)).collect();
        let list = macs.into_iter().map(|mac| format!("{mac}/")).collect::<Vec<_>>().join("\n");
        let body = if below.is_empty() { Some(&list) } else { tree.get(below) };
        let read = walk.read(item, body.map(String::as_bytes), Instant::now()).unwrap();
        if let Some(network) = read {
            return (network, asked);
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn a_round_is_what_ec2_has_and_fixed_facts_are_asked_once() {
    let sim = SimIpamd::new(Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap()), NodeSpec::default());
    tokio::time::sleep(Duration::from_mins(2)).await;
    for pod in 0..12 {
        sim.pod_added(&format!("demo/p{pod}")).ok();
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let mut walk = Walk::new();
    let enis = sim.enis();
    assert!(enis.len() > 1, "{enis:?}");
    let (network, asked) = round(&mut walk, &sim.network_tree());
    assert_eq!(asked, 1 + 6 * enis.len());
    assert_eq!(network.interfaces.iter().map(|eni| eni.id.clone()).collect::<Vec<_>>(), enis);
    let pool: i64 = network.interfaces.iter().map(|eni| i64::try_from(eni.secondary.len()).unwrap()).sum();
    assert_eq!(pool, sim.truth().total);
    let primary = &network.interfaces[0];
    assert_eq!((primary.device, primary.subnet.unwrap().to_string().as_str()), (0, "10.8.1.0/24"));
    assert!(primary.subnet.unwrap().contains(primary.primary.unwrap()));
    let (again, asked) = round(&mut walk, &sim.network_tree());
    assert_eq!((asked, again.interfaces), (1 + 2 * enis.len(), network.interfaces));
}

#[tokio::test(start_paused = true)]
async fn prefixes_are_no_addresses_and_an_interface_that_goes_is_forgotten() {
    let mac = "0a:00:00:00:10:0";
    let mut tree = NetworkTree::new();
    for device in 1..=2 {
        for (item, text) in [
            ("interface-id", format!("eni-{device}")),
            ("device-number", device.to_string()),
            ("local-ipv4s", format!("10.8.1.{device}")),
            ("ipv4-prefix", "10.8.2.16/28\n10.8.2.32/28".to_owned()),
        ] {
            tree.insert(format!("{mac}{device}/{item}"), text);
        }
    }
    let mut walk = Walk::new();
    let (network, _) = round(&mut walk, &tree);
    let first = &network.interfaces[0];
    assert_eq!((first.prefixes.len(), first.secondary.len(), &first.subnet_id), (2, 0, &None));
    tree.retain(|path, _| path.starts_with(&format!("{mac}2")));
    assert_eq!(round(&mut walk, &tree).0.interfaces.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rounds_begin_a_minute_apart_and_a_failure_ends_one() {
    let now = Instant::now();
    let mut walk = Walk::new();
    walk.read(Item::Interfaces, Some(b"0a:00:00:00:10:01/"), now).unwrap();
    let item = walk.item();
    assert_eq!(item, Item::Interface("0a:00:00:00:10:01".parse().unwrap(), Fact::Id));
    assert_eq!(walk.next_at(now), now + SPACING);
    assert!(walk.read(item, Some(b"<html>"), now).is_err());
    walk.abandon(now + SPACING);
    assert_eq!((walk.item(), walk.next_at(now + SPACING)), (Item::Interfaces, now + ROUND));
    walk.abandon(now + ROUND);
    assert_eq!(walk.next_at(now + ROUND), now + 2 * ROUND, "one that fails at once is a round too");
}

/// Every signal is polled and the network is read for `minutes`: the service with its log, the rounds, and the ids of the
/// attached interfaces.
async fn watched(minutes: u64, fault: Option<Fault>) -> (SimImds, Vec<Round>, usize) {
    let clock = Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap());
    let (imds, ipamd) = (SimImds::new(clock, IdentitySpec::default()), SimIpamd::new(clock, NodeSpec::default()));
    for pod in 0..18 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        ipamd.pod_added(&format!("demo/p{pod}")).ok();
    }
    let interfaces = ipamd.enis().len();
    imds.set_network(move || ipamd.network_tree());
    if let Some(fault) = fault {
        imds.fault(fault);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::for_node("n1");
    config.imds.endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(imds.clone().serve(listener));
    let metrics = ImdsMetrics::register(&mut Registry::default());
    let client = imds::Client::new(&config.imds, clock, metrics.clone()).unwrap();
    let mut monitor = ImdsMonitor::new(client, &config.imds, Kind::ALL, clock, metrics, None).with_seed(7);
    monitor.read_network(true);
    let mut network: watch::Receiver<Option<Round>> = monitor.network();
    let (end, mut rounds) = (Instant::now() + Duration::from_mins(minutes), Vec::new());
    while tokio::time::timeout_at(end, monitor.next()).await.is_ok() {
        monitor.read_network(true);
        if network.has_changed().unwrap() {
            rounds.extend(network.borrow_and_update().clone());
        }
    }
    (imds, rounds, interfaces)
}

/// The longest time between two polls for the spot notice, and the most requests within ten seconds.
fn pace(imds: &SimImds) -> (Duration, usize) {
    let requests = imds.requests();
    let polls = requests.iter().filter(|request| request.path.ends_with("spot/instance-action"));
    let polls: Vec<Instant> = polls.map(|request| request.at.instant).collect();
    let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    let within = |from: Instant| {
        let span = from..from + Duration::from_secs(10);
        requests.iter().filter(|request| span.contains(&request.at.instant)).count()
    };
    (gap, requests.iter().map(|request| within(request.at.instant)).max().unwrap())
}

#[tokio::test(start_paused = true)]
async fn all_polls_together_stay_at_twenty_in_ten_seconds_and_rounds_a_minute_apart() {
    let (imds, rounds, interfaces) = watched(30, None).await;
    assert_eq!(interfaces, 3);
    let networks: Vec<_> = rounds.iter().map(|round| round.clone().unwrap()).collect();
    assert!((28..=30).contains(&networks.len()), "{} rounds in half an hour", networks.len());
    assert!(networks.iter().all(|network| network.interfaces.len() == interfaces));
    assert!(networks.windows(2).all(|pair| pair[1].since - pair[0].since >= ROUND));
    let (gap, most) = pace(&imds);
    assert!(gap <= Duration::from_millis(1005), "{gap:?} between two polls for the notice");
    assert!(most <= 20, "{most} requests within ten seconds");
    assert_eq!(imds.most_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn interfaces_that_are_told_slowly_or_never_do_not_hold_up_the_notice() {
    for kind in
        [FaultKind::Delay(Duration::from_millis(390)), FaultKind::Delay(Duration::from_secs(5)), FaultKind::Silence]
    {
        let slow = format!("{kind:?}");
        let fails = slow != format!("{:?}", FaultKind::Delay(Duration::from_millis(390)));
        let (imds, rounds, _) = watched(20, Some(Fault::new(kind).path("/latest/meta-data/network/"))).await;
        let (gap, most) = pace(&imds);
        assert!(gap <= Duration::from_millis(1005), "{slow}: {gap:?} between two polls for the notice");
        assert!(most <= 20, "{slow}: {most} requests within ten seconds");
        assert!(rounds.len() >= 18 && rounds.iter().all(|round| round.is_err() == fails), "{slow}: {rounds:?}");
    }
}
