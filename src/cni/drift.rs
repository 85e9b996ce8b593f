//! Where ipamd's pool and what EC2 has attached differ for longer than either takes to follow the other.
//!
//! IMDS follows EC2 with a delay, ipamd follows IMDS once a minute, and the two are read here at different moments, so that
//! differences come and go all the time. One that is still there in a reading of IMDS begun two minutes after it was first
//! seen has another reason: an address that pods get and that is no longer theirs (amazon-vpc-cni-k8s #3887), or one that
//! nobody uses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::document::{Document, Eni};
use crate::imds::documents::network::{Block, Network, NetworkInterface};

/// What either needs to follow the other at most.
const DELAY: Duration = Duration::from_mins(2);

/// A block that one of the two has and the other has not.
type Difference = (Block, Side);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// In ipamd's pool alone.
    Pool,
    /// Attached, and not in ipamd's pool.
    Attached,
}

/// Remembers since when each difference has been there.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    since: BTreeMap<Difference, Instant>,
}

impl Drift {
    /// Whether some difference has lasted.
    pub fn step(&mut self, now: Instant, document: &Document, network: &Network) -> bool {
        let found = differences(document, network);
        self.since.retain(|difference, _| found.contains(difference));
        for difference in found {
            self.since.entry(difference).or_insert(now);
        }
        self.since.values().any(|since| network.since >= *since + DELAY)
    }

    /// One of the two is not told any more.
    pub fn forget(&mut self) {
        self.since.clear();
    }
}

fn differences(document: &Document, network: &Network) -> BTreeSet<Difference> {
    let attached = |eni: &Eni| network.interfaces.iter().find(|interface| interface.id == eni.id);
    let enis = document.cards.iter().flat_map(|card| &card.interfaces);
    enis.flat_map(|eni| {
        let pool: BTreeSet<Block> = eni.blocks.iter().filter_map(|block| block.place).collect();
        let (has, carries_pods) = (attached(eni).map(blocks).unwrap_or_default(), !eni.trunk && !eni.excluded);
        let dead = pool.difference(&has).map(|block| (*block, Side::Pool));
        // What is attached to an interface that carries no pods is no business of the pool's, and with custom networking
        // that is the primary one, which then has no pool at all.
        let idle = has.difference(&pool).filter(|_| carries_pods && !pool.is_empty());
        dead.chain(idle.map(|block| (*block, Side::Attached))).collect::<Vec<_>>()
    })
    .collect()
}

fn blocks(interface: &NetworkInterface) -> BTreeSet<Block> {
    let single = interface.secondary.iter().copied().map(Block::single);
    single.chain(interface.prefixes.iter().copied()).collect()
}

/// Whether a pod could get the address of an interface itself, the node's own among them (amazon-vpc-cni-k8s #3753).
pub fn holds_a_primary(document: &Document, network: &Network) -> bool {
    let blocks = || document.cards.iter().flat_map(|card| &card.interfaces).flat_map(|eni| &eni.blocks);
    let mut primaries = network.interfaces.iter().filter_map(|interface| interface.primary);
    primaries.any(|primary| blocks().filter_map(|block| block.place).any(|place| place.contains(primary)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::document::document;

    const ENIS: &[u8] = include_bytes!("../../tests/golden/cni/enis-blanked.json");

    /// What IMDS says of the node of the golden document.
    pub(crate) fn network(since: Instant) -> Network {
        let interface = |id: &str, device, addresses: &[&str]| NetworkInterface {
            id: id.to_owned(),
            device,
            subnet_id: Some("subnet-0123456789abcdef0".to_owned()),
            subnet: "10.8.1.0/24".parse().ok(),
            primary: addresses.first().map(|address| address.parse().unwrap()),
            secondary: addresses.iter().skip(1).map(|address| address.parse().unwrap()).collect(),
            prefixes: Vec::new(),
        };
        let first = interface("eni-0123456789abcde01", 0, &["10.8.1.9", "10.8.1.20", "10.8.1.21"]);
        Network { since, interfaces: vec![first, interface("eni-0123456789abcde02", 1, &["10.8.1.50", "10.8.1.60"])] }
    }

    #[tokio::test]
    async fn two_that_agree_do_not_drift() {
        let (document, now) = (document(ENIS).unwrap(), Instant::now());
        assert_eq!(differences(&document, &network(now)), BTreeSet::new());
        assert!(!holds_a_primary(&document, &network(now)));
    }

    #[tokio::test]
    async fn a_difference_counts_once_imds_was_read_two_minutes_later() {
        let (document, start) = (document(ENIS).unwrap(), Instant::now());
        let mut drift = Drift::default();
        let lost = |seconds| {
            let mut network = network(start + Duration::from_secs(seconds));
            network.interfaces[1].secondary.clear();
            network
        };
        assert!(!drift.step(start, &document, &lost(0)));
        assert!(!drift.step(start + Duration::from_secs(300), &document, &lost(119)), "IMDS was not read again");
        assert!(drift.step(start + Duration::from_secs(300), &document, &lost(120)));
        assert!(!drift.step(start + Duration::from_secs(315), &document, &network(start + Duration::from_secs(180))));
        assert!(!drift.step(start + Duration::from_secs(330), &document, &lost(240)), "it begins anew");
    }

    #[tokio::test]
    async fn addresses_that_take_turns_do_not_drift() {
        let (document, start) = (document(ENIS).unwrap(), Instant::now());
        let mut drift = Drift::default();
        for minute in 0..20 {
            let now = start + Duration::from_mins(minute);
            let mut network = network(now);
            network.interfaces[1].secondary.push([10, 8, 1, u8::try_from(100 + minute).unwrap()].into());
            assert!(!drift.step(now, &document, &network), "minute {minute}");
        }
    }

    #[tokio::test]
    async fn interfaces_without_pods_and_those_that_ipamd_does_not_manage_are_left_out() {
        let (mut document, now) = (document(ENIS).unwrap(), Instant::now());
        let mut network = network(now);
        let foreign = NetworkInterface { id: "eni-3".into(), device: 2, ..network.interfaces[1].clone() };
        network.interfaces.push(foreign);
        assert_eq!(differences(&document, &network), BTreeSet::new());
        let trunk = &mut document.cards[0].interfaces[1];
        (trunk.trunk, trunk.blocks) = (true, Vec::new());
        assert_eq!(differences(&document, &network), BTreeSet::new());
        network.interfaces.remove(0);
        assert_eq!(differences(&document, &network).len(), 2, "an interface that is gone takes its addresses along");
    }

    #[tokio::test]
    async fn an_address_of_an_interface_in_the_pool_is_found() {
        let mut network = network(Instant::now());
        network.interfaces[1].primary = "10.8.1.21".parse().ok();
        assert!(holds_a_primary(&document(ENIS).unwrap(), &network));
    }
}
