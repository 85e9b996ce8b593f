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
const SPACING: Duration = Duration::from_secs(4);

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
pub(crate) mod tests;
