//! Random worlds: whatever comes, the books balance, the documents tell the truth to who reads them as they must be read,
//! and the pool grows as far as was said beforehand.

#![allow(clippy::float_cmp, reason = "sums of addresses are whole numbers")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SUBNET: &str = "subnet-0123456789abcdef0";

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Remove(u8),
    Wait(u16),
    Cordon(bool),
    Restart,
    LeaveFree(u8),
    Fragment,
    FreeOthers,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..40_u8).prop_map(Step::Add),
        4 => (0..40_u8).prop_map(Step::Remove),
        4 => (1..200_u16).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Cordon),
        1 => Just(Step::Restart),
        1 => (0..30_u8).prop_map(Step::LeaveFree),
        1 => Just(Step::Fragment),
        1 => Just(Step::FreeOthers),
    ]
}

fn spec() -> impl Strategy<Value = NodeSpec> {
    let targets = (0..3_i64, 0..3_i64, prop_oneof![Just(0), 0..20_i64], prop_oneof![Just(0), 0..30_i64]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let versions =
        prop_oneof![Just(Version(1, 15, 1)), Just(Version(1, 19, 6)), Just(Version(1, 20, 0)), Just(Version(1, 23, 1))];
    (targets, flags, versions, 5..60_i64, 1..1000_u64).prop_map(|(targets, flags, version, max_pods, seed)| {
        let settings = Settings {
            warm_eni_target: targets.0,
            warm_prefix_target: targets.1,
            warm_ip_target: targets.2,
            minimum_ip_target: targets.3,
            prefix_delegation: flags.0,
            subnet_discovery: flags.1,
            ..Settings::default()
        };
        let instance = if flags.2 { Instance::m5_large() } else { Instance::t3_small() };
        NodeSpec { version, settings, instance, max_pods, seed, ..NodeSpec::default() }
    })
}

fn take(node: &mut Node, step: &Step, at: Now) {
    let subnet = |node: &mut Node, change: &dyn Fn(&mut Subnet)| change(node.ec2.subnet(SUBNET).unwrap());
    match step {
        // Whether there was an address is the pod's business.
        Step::Add(pod) => drop(node.add(&format!("demo/{pod}"), 1, at)),
        Step::Remove(pod) => node.remove(&format!("demo/{pod}"), at),
        Step::Wait(_) => {}
        Step::Cordon(on) => node.unschedulable = *on,
        Step::Restart => node.start(at),
        Step::LeaveFree(left) => subnet(node, &|subnet| subnet.leave_free((*left).into())),
        Step::Fragment => subnet(node, &|subnet| subnet.fragment(0)),
        Step::FreeOthers => {
            let held = node.ec2.held_of(SUBNET);
            subnet(node, &|subnet| subnet.free_others(held.clone()));
        }
    }
}

/// Total, assigned and cooling as a careful reader finds them in the document.
fn read(document: &Value, prefixes: bool, at: Timestamp) -> (i64, i64, i64) {
    let card = if document.get("ENIs").is_some() { document } else { &document["0"] };
    let mut sums = (0, 0, 0);
    for eni in card["ENIs"].as_object().unwrap().values() {
        for (cidr, info) in eni["AvailableIPv4Cidrs"].as_object().unwrap() {
            if info["IsPrefix"] != prefixes {
                continue;
            }
            sums.0 += 1 << (32 - cidr.split_once('/').unwrap().1.parse::<u32>().unwrap());
            for address in info["IPAddresses"].as_object().unwrap().values() {
                let unassigned = address["UnassignedTime"].as_str().unwrap();
                if address["IPAMKey"]["networkName"] != "" {
                    sums.1 += 1;
                } else if unassigned != "0001-01-01T00:00:00Z"
                    && at.duration_since(unassigned.parse().unwrap()) <= SignedDuration::from_secs(30)
                {
                    sums.2 += 1;
                }
            }
        }
    }
    sums
}

fn check(node: &Node, at: Now) {
    let truth = node.truth(at);
    let process = node.process.as_ref().unwrap();
    let document: Value = serde_json::from_str(&schema::enis(process.version, &process.stores)).unwrap();
    assert_eq!(read(&document, process.prefixes, at.wall), (truth.total, truth.assigned, truth.cooling));
    assert!(truth.free >= 0 && truth.growth >= 0, "{truth:?}");
    let mut holders = BTreeMap::new();
    for eni in process.stores[&0].enis.values() {
        assert!(eni.cidrs.len() <= usize::try_from(process.slots).unwrap(), "{} holds too much", eni.id);
        let attached = node.ec2.enis.get(&eni.id).expect("attached");
        for (cidr, addresses) in eni.cidrs.values() {
            assert!(attached.cidrs.contains(cidr), "{cidr} is not on {}", eni.id);
            for (address, entry) in addresses.iter().filter(|(_, entry)| entry.holder.is_some()) {
                let holder = entry.holder.as_ref().unwrap();
                assert_eq!(holders.insert(*address, holder.container.clone()), None, "{address} is held twice");
            }
        }
    }
    let metrics = &process.metrics;
    assert_eq!(metrics.get("awscni_assigned_ip_addresses", &[]), holders.len() as f64);
    assert_eq!(metrics.get("awscni_total_ip_addresses", &[]), truth.total as f64);
    assert!(truth.enis as f64 <= metrics.get("awscni_eni_max", &[]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_whatever_comes(spec in spec(), steps in prop::collection::vec(step(), 1..60)) {
        let mut at = Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap()).now();
        let mut node = Node::new(spec, at);
        for step in &steps {
            let wait = if let Step::Wait(seconds) = step { u64::from(*seconds) * 1000 } else { 700 };
            at = at.plus(Duration::from_millis(wait));
            node.advance(at);
            take(&mut node, step, at);
            check(&node, at);
        }
    }

    #[test]
    fn the_pool_grows_as_far_as_was_said(spec in spec(), pods in 0..20_u8, left in prop::option::of(0..60_u32)) {
        let mut at = Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap()).now();
        let max_pods = spec.max_pods;
        let mut node = Node::new(spec, at);
        at = at.plus(Duration::from_secs(20));
        node.advance(at);
        (0..pods).for_each(|pod| take(&mut node, &Step::Add(pod), at));
        if let Some(left) = left {
            node.ec2.subnet(SUBNET).unwrap().leave_free(left);
        }
        let said = node.truth(at);
        // By another way than the trial: single pods, each given three minutes and a half.
        for pod in 0..120_u8 {
            let name = format!("more/{pod}");
            let mut added = node.add(&name, 1, at).is_ok();
            for _ in 0..18 {
                if !added {
                    at = at.plus(Duration::from_secs(12));
                    node.advance(at);
                    added = node.add(&name, 1, at).is_ok();
                }
            }
            if !added {
                node.remove(&name, at);
                break;
            }
        }
        let found = node.truth(at);
        // How much ipamd asks for at once depends on how fast pods come. That decides how far it overshoots max-pods, and,
        // since a request is refused as a whole, how much it gets out of a subnet that is nearly full.
        let (found, promised) = (found.assigned.min(max_pods), (said.assigned + said.reachable).min(max_pods));
        if left.is_none() {
            prop_assert_eq!(found, promised);
        } else {
            prop_assert!(found >= promised, "{found} of {promised}");
        }
    }
}
