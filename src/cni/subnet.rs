//! The subnets of the node's interfaces: what this node holds of each, how large it is, and whether EC2 refused more of it.
//!
//! How much of a subnet is free cannot be known from one node. Together the nodes give an upper bound: the subnet's usable
//! addresses minus what all of them hold, since others (load balancers, another cluster) may hold some too. A refusal is the
//! lower bound, and the truth: there was not even as much as was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::counters::Counters;
use super::node::NodeFacts;
use super::pool::Pool;
use crate::imds::documents::network::{Block, Network};

/// EC2 keeps the first four addresses and the last of every subnet for itself.
const RESERVED: i64 = 5;
/// A refusal counts for so long. ipamd asks again after two minutes, so that one that still holds is renewed.
const MEMORY: Duration = Duration::from_mins(10);

/// This node's part of one subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetShare {
    /// Addresses for pods.
    pub pool: i64,
    /// Addresses of the interfaces themselves, those of pods with security groups of their own included.
    pub interfaces: i64,
    /// The subnet's own addresses, where IMDS tells.
    pub block: Option<Block>,
}

impl SubnetShare {
    /// Addresses of the whole subnet that anybody can have.
    pub fn usable(&self) -> Option<i64> {
        self.block.map(|block| (block.size() - RESERVED).max(0))
    }
}

/// The node's part of each subnet by its id; empty where no source tells subnets (metrics, or a CNI before v1.22, without
/// IMDS). With prefixes of IPv6 only the interfaces are counted.
pub fn shares(pool: &Pool, network: Option<&Network>, node: &NodeFacts) -> BTreeMap<String, SubnetShare> {
    let mut shares = BTreeMap::<String, SubnetShare>::new();
    for interface in &pool.interfaces {
        if let Some(subnet) = &interface.subnet_id {
            let share = shares.entry(subnet.clone()).or_default();
            share.interfaces += 1;
            share.pool += if pool.ipv6 { 0 } else { interface.attached };
        }
    }
    for interface in network.iter().flat_map(|network| &network.interfaces) {
        let Some(subnet) = &interface.subnet_id else { continue };
        if pool.interfaces.is_empty() {
            let share = shares.entry(subnet.clone()).or_default();
            share.interfaces += i64::from(interface.primary.is_some());
            share.pool += interface.attached();
        }
        if let Some(share) = shares.get_mut(subnet) {
            share.block = share.block.or(interface.subnet);
        }
    }
    for (subnet, branches) in &node.branch_subnets {
        if let Some(share) = shares.values_mut().find(|share| share.block == Some(*subnet)) {
            share.interfaces += branches;
        }
    }
    shares
}

/// Subnets that refused within the last ten minutes, as one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Their ids, joined by `or`; empty if none is known.
    pub subnets: String,
    /// When that is forgotten unless another refusal follows.
    pub until: Instant,
}

/// What EC2 refused lately, by subnet. Where it cannot be told which of several was meant, all of them count; the empty name
/// stands for a subnet whose id is not known.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    at: BTreeMap<String, Instant>,
    /// Every subnet that was ever refused and is still the node's.
    ever: BTreeSet<String>,
}

impl Refusals {
    /// Takes up what was counted since the last scrape. `grown`: the pool has grown since, so nothing that was refused
    /// before holds any more. `per_eni` is what one interface can carry.
    pub fn step(
        &mut self,
        now: Instant,
        pool: Option<&Pool>,
        per_eni: Option<i64>,
        counted: Option<Counters>,
        grown: bool,
    ) {
        if grown {
            self.at.clear();
        }
        // With subnet discovery one subnet may refuse before another gives, which shows as growth.
        if let Some(counters) = counted.filter(|counters| counters.refused > 0 && !grown) {
            for subnet in candidates(pool, per_eni, &counters) {
                self.ever.insert(subnet.clone());
                self.at.insert(subnet, now);
            }
        }
        self.at.retain(|_, at| now.duration_since(*at) < MEMORY);
    }

    /// The subnets that refused within the last ten minutes.
    pub fn lately(&self) -> Vec<String> {
        self.at.keys().cloned().collect()
    }

    /// When the last of these refusals is forgotten unless another follows.
    pub fn until(&self) -> Option<Instant> {
        self.at.values().max().map(|at| *at + MEMORY)
    }

    /// Whether each subnet that ever refused and that the node still holds (`shares`) did so lately.
    pub fn told(&self, shares: &BTreeMap<String, SubnetShare>) -> BTreeMap<String, bool> {
        let held = self.ever.iter().filter(|subnet| subnet.is_empty() || shares.contains_key(*subnet));
        held.map(|subnet| (subnet.clone(), self.at.contains_key(subnet))).collect()
    }
}

/// The subnets that a refusal can be about: of an address for an interface that has room, those of these interfaces; of a
/// new interface any that the node is in.
fn candidates(pool: Option<&Pool>, per_eni: Option<i64>, counters: &Counters) -> BTreeSet<String> {
    let interfaces = pool.map(|pool| pool.interfaces.as_slice()).unwrap_or_default();
    let subnet = |interface: &super::pool::Interface| interface.subnet_id.clone();
    let all: BTreeSet<String> = interfaces.iter().filter_map(subnet).collect();
    let has_room = |interface: &&super::pool::Interface| per_eni.is_none_or(|most| interface.attached < most);
    let with_room: BTreeSet<String> = interfaces.iter().filter(has_room).filter_map(subnet).collect();
    let for_addresses_alone = counters.refused_interfaces == 0 && !with_room.is_empty();
    let found = if for_addresses_alone { with_room } else { all };
    if found.is_empty() { BTreeSet::from([String::new()]) } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::pool::Interface;
    use crate::imds::documents::network::NetworkInterface;

    fn interface(id: &str, subnet: Option<&str>, attached: i64) -> Interface {
        Interface {
            id: id.into(),
            subnet_id: subnet.map(str::to_owned),
            primary: false,
            total: attached,
            assigned: 0,
            cooldown: 0,
            attached,
        }
    }

    fn share(pool: i64, interfaces: i64) -> SubnetShare {
        SubnetShare { pool, interfaces, block: None }
    }

    #[test]
    fn each_subnet_has_its_interfaces_and_their_addresses() {
        let interfaces =
            vec![interface("a", Some("s1"), 4), interface("b", Some("s2"), 16), interface("c", Some("s1"), 1)];
        let pool = Pool { interfaces, ..Pool::default() };
        let expected = [("s1".to_owned(), share(5, 2)), ("s2".to_owned(), share(16, 1))];
        assert_eq!(shares(&pool, None, &NodeFacts::default()), BTreeMap::from(expected));
    }

    #[test]
    fn interfaces_without_a_subnet_are_left_out() {
        let pool = Pool { interfaces: vec![interface("a", None, 4)], ..Pool::default() };
        assert!(shares(&pool, None, &NodeFacts::default()).is_empty());
    }

    fn network(now: Instant) -> Network {
        let eni = |device: u8| NetworkInterface {
            id: format!("eni-{device}"),
            device: device.into(),
            subnet_id: Some(format!("s{device}")),
            subnet: format!("10.8.{device}.0/24").parse().ok(),
            primary: Some([10, 8, device, 4].into()),
            secondary: vec![[10, 8, device, 5].into(), [10, 8, device, 6].into()],
            prefixes: vec![],
        };
        Network { since: now, interfaces: vec![eni(1), eni(2)] }
    }

    #[tokio::test]
    async fn imds_tells_how_large_a_subnet_is_and_what_is_held_where_ipamd_does_not() {
        let network = network(Instant::now());
        let node = NodeFacts { branch_subnets: [("10.8.1.0/24".parse().unwrap(), 3)].into(), ..NodeFacts::default() };
        let found = shares(&Pool::default(), Some(&network), &node);
        assert_eq!((found["s1"].pool, found["s1"].interfaces, found["s1"].usable()), (2, 4, Some(251)));
        assert_eq!((found["s2"].pool, found["s2"].interfaces), (2, 1));
        let pool = Pool { interfaces: vec![interface("eni-1", Some("s1"), 9)], ..Pool::default() };
        let found = shares(&pool, Some(&network), &NodeFacts::default());
        assert_eq!(
            (found.len(), found["s1"].pool, found["s1"].usable()),
            (1, 9, Some(251)),
            "ipamd's word comes first"
        );
    }

    fn refused(addresses: u64, interfaces: u64) -> Counters {
        let refused = addresses + interfaces;
        Counters { refused, refused_interfaces: interfaces, ..Counters::default() }
    }

    #[tokio::test]
    async fn a_refusal_is_that_of_the_subnet_it_can_be_about() {
        let now = Instant::now();
        let interfaces = vec![interface("a", Some("s1"), 9), interface("b", Some("s2"), 4)];
        let pool = Pool { interfaces, ..Pool::default() };
        for (counted, pool, expected) in [
            (Some(refused(2, 0)), Some(&pool), vec!["s2"]),
            (Some(refused(2, 1)), Some(&pool), vec!["s1", "s2"]),
            (Some(refused(2, 0)), None, vec![""]),
            (Some(refused(0, 0)), Some(&pool), vec![]),
            (None, Some(&pool), vec![]),
        ] {
            let mut refusals = Refusals::default();
            refusals.step(now, pool, Some(9), counted, false);
            assert_eq!(refusals.lately(), expected, "{counted:?}");
        }
        let mut refusals = Refusals::default();
        refusals.step(now, Some(&pool), Some(9), Some(refused(1, 0)), true);
        assert_eq!(refusals.lately(), [""; 0], "the pool has grown: another subnet gave");
    }

    #[tokio::test]
    async fn a_refusal_counts_for_ten_minutes_or_until_the_pool_grows() {
        let start = Instant::now();
        let pool = Pool { interfaces: vec![interface("a", Some("s1"), 4)], ..Pool::default() };
        let shares = BTreeMap::from([("s1".to_owned(), SubnetShare::default())]);
        let mut refusals = Refusals::default();
        let mut step = |seconds: u64, counted, grown| {
            refusals.step(start + Duration::from_secs(seconds), Some(&pool), Some(9), counted, grown);
            (refusals.until(), refusals.told(&shares).get("s1").copied())
        };
        assert_eq!(step(0, None, false), (None, None));
        assert_eq!(step(10, Some(refused(1, 0)), false), (Some(start + Duration::from_secs(610)), Some(true)));
        assert_eq!(step(609, None, false).1, Some(true));
        assert_eq!(step(610, None, false), (None, Some(false)), "the series stays, so that an alert ends");
        assert_eq!(step(700, Some(refused(1, 0)), false).1, Some(true));
        assert_eq!(step(715, None, true), (None, Some(false)));
        assert_eq!(refusals.told(&BTreeMap::new()), BTreeMap::new(), "the subnet is none of the node's any more");
    }
}
