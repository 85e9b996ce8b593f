//! Reads the tree of network interfaces bit by bit, at leisure: one small question every few seconds, a round of them at most
//! once a minute.
//!
//! What does not change as long as an interface lives is asked once. A question that fails ends the round, which leaves what
//! was known; the next round begins when it would have begun anyway.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::imds::documents::Malformed;
use crate::imds::documents::network::{self, Block, Mac, Network, NetworkInterface};
use crate::imds::{Fact, Item};

/// Between the starts of two rounds.
const ROUND: Duration = Duration::from_mins(1);
/// Between two questions, so that all polls together stay at 20 in ten seconds.
const SPACING: Duration = Duration::from_secs(3);

/// What a round ended with.
pub type Round = Result<Arc<Network>, String>;

/// What is known of one interface; what is fixed is kept from round to round.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Fixed facts that were read, absent ones included.
    read: Vec<Fact>,
    id: Option<String>,
    device: Option<u32>,
    subnet_id: Option<String>,
    subnet: Option<Block>,
    addresses: Vec<core::net::Ipv4Addr>,
    prefixes: Vec<Block>,
}

const FIXED: [Fact; 4] = [Fact::Id, Fact::Device, Fact::SubnetId, Fact::Subnet];
const CHANGING: [Fact; 2] = [Fact::Addresses, Fact::Prefixes];

/// One round after the other.
#[derive(Debug)]
pub(super) struct Walk {
    interfaces: BTreeMap<Mac, Known>,
    /// What is left to ask in this round; empty between rounds.
    left: VecDeque<Item>,
    began: Option<Instant>,
}

impl Walk {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { interfaces: BTreeMap::new(), left: VecDeque::new(), began: None }
    }

    /// The next question.
    pub(super) fn item(&self) -> Item {
        self.left.front().copied().unwrap_or(Item::Interfaces)
    }

    /// Takes the answer to a question that was asked at `asked`; `None` is word that there is nothing. A round that ends
    /// with it gives what it read.
    pub(super) fn read(
        &mut self,
        item: Item,
        body: Option<&[u8]>,
        asked: Instant,
    ) -> Result<Option<Network>, Malformed> {
        match item {
            Item::Interface(mac, fact) => self.take(mac, fact, body)?,
            _ => self.begin(body.map_or(Ok(Vec::new()), network::macs)?, asked),
        }
        self.left.retain(|left| *left != item);
        let Some(began) = self.began.filter(|_| self.left.is_empty()) else { return Ok(None) };
        let mut interfaces: Vec<NetworkInterface> = self.interfaces.values().filter_map(Known::told).collect();
        interfaces.sort_by_key(|interface| interface.device);
        Ok(Some(Network { since: began, interfaces }))
    }

    /// When to ask on: the round goes on, or is over.
    pub(super) fn next_at(&self, now: Instant) -> Instant {
        if self.left.is_empty() {
            self.began.map_or(now, |began| began + ROUND).max(now + SPACING)
        } else {
            now + SPACING
        }
    }

    /// A question failed: the rest of the round is given up.
    pub(super) fn abandon(&mut self, asked: Instant) {
        self.began.get_or_insert(asked);
        if self.left.is_empty() {
            self.began = Some(asked);
        }
        self.left.clear();
    }

    fn begin(&mut self, macs: Vec<Mac>, asked: Instant) {
        self.began = Some(asked);
        self.interfaces.retain(|mac, _| macs.contains(mac));
        self.left = VecDeque::from([Item::Interfaces]);
        for mac in macs {
            let known = self.interfaces.entry(mac).or_default();
            let fixed = FIXED.into_iter().filter(|fact| !known.read.contains(fact));
            self.left.extend(fixed.chain(CHANGING).map(|fact| Item::Interface(mac, fact)));
        }
    }

    fn take(&mut self, mac: Mac, fact: Fact, body: Option<&[u8]>) -> Result<(), Malformed> {
        let Some(known) = self.interfaces.get_mut(&mac) else { return Ok(()) };
        let single = |body| network::blocks(body).map(|blocks| blocks.first().copied());
        match fact {
            Fact::Id => known.id = body.map(network::id).transpose()?,
            Fact::Device => known.device = body.map(network::number).transpose()?,
            Fact::SubnetId => known.subnet_id = body.map(network::id).transpose()?,
            Fact::Subnet => known.subnet = body.map(single).transpose()?.flatten(),
            Fact::Addresses => known.addresses = body.map(network::addresses).transpose()?.unwrap_or_default(),
            Fact::Prefixes => known.prefixes = body.map(network::blocks).transpose()?.unwrap_or_default(),
        }
        // An id that is missing is that of an interface on its way in or out: it is asked for again.
        if FIXED.contains(&fact) && (body.is_some() || !matches!(fact, Fact::Id | Fact::Device)) {
            known.read.push(fact);
        }
        Ok(())
    }
}

impl Known {
    /// None for an interface that came or went during the round.
    fn told(&self) -> Option<NetworkInterface> {
        Some(NetworkInterface {
            id: self.id.clone()?,
            device: self.device?,
            subnet_id: self.subnet_id.clone(),
            subnet: self.subnet,
            primary: self.addresses.first().copied(),
            secondary: self.addresses.iter().skip(1).copied().collect(),
            prefixes: self.prefixes.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::sim::imds::NetworkTree;
    use crate::sim::ipamd::{NodeSpec, SimIpamd};

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
            let read = walk.read(item, body.map(|text| text.as_bytes()), Instant::now()).unwrap();
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
}
