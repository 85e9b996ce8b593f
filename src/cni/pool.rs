//! Sums over the interfaces: what is attached, assigned, resting and free.
//!
//! ipamd's own sums are not used: they count addresses that no pod can get, those in cooldown as available, and can be
//! negative. Everything is `i64` and nothing is clamped here, so that an oddity shows in the sums instead of vanishing.

use jiff::{SignedDuration, Timestamp};

use super::document::{Block, Card, Document, Eni};
use super::exposition::Scrape;
use super::settings::Settings;
use crate::imds::documents::network::{Network, NetworkInterface};

/// Addresses of a delegated prefix (/28).
pub const PREFIX_SIZE: i64 = 16;

/// What a slot of an interface holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One secondary address.
    Secondary,
    /// One /28.
    Prefix,
}

impl Mode {
    /// The mode that ipamd is in. It falls back to single addresses silently where the hypervisor has no prefixes, so the
    /// number of addresses that it expects of an interface decides before the wish: it is a multiple of 16 with prefixes
    /// and for no instance type without them.
    pub fn of(per_eni: Option<i64>, settings: &Settings, document: Option<&Document>) -> Self {
        let prefix = match (per_eni, settings.prefix_delegation) {
            (Some(addresses), _) => addresses > 0 && addresses % PREFIX_SIZE == 0,
            (None, Some(wished)) => wished,
            (None, None) => document.is_some_and(has_mostly_prefixes),
        };
        if prefix { Self::Prefix } else { Self::Secondary }
    }

    /// Addresses of a slot.
    pub const fn slot(self) -> i64 {
        match self {
            Self::Secondary => 1,
            Self::Prefix => PREFIX_SIZE,
        }
    }
}

fn has_mostly_prefixes(document: &Document) -> bool {
    let blocks = document.cards.iter().flat_map(|card| &card.interfaces).flat_map(|eni| &eni.blocks);
    let (prefixes, single): (Vec<&Block>, Vec<&Block>) =
        blocks.filter(|block| !block.ipv6).partition(|block| block.prefix);
    prefixes.len() > single.len()
}

/// One interface's part of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `eni-…`.
    pub id: String,
    /// From v1.22 of the CNI.
    pub subnet_id: Option<String>,
    /// The one that the instance was launched with.
    pub primary: bool,
    /// Addresses that pods can use.
    pub total: i64,
    /// Held by pods.
    pub assigned: i64,
    /// Resting.
    pub cooldown: i64,
    /// Addresses attached in any way, usable or not.
    pub attached: i64,
}

impl Interface {
    /// Addresses that the next pod could get.
    pub fn free(&self) -> i64 {
        self.total - self.assigned - self.cooldown
    }
}

/// The pool of the whole node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// Addresses that pods can use (T).
    pub total: i64,
    /// Held by pods (A).
    pub assigned: i64,
    /// Resting after their pod (C); `None` where the source does not tell.
    pub cooldown: Option<i64>,
    /// Until the first resting address is free.
    pub next_free: Option<SignedDuration>,
    /// Usable prefixes.
    pub prefixes: i64,
    /// Usable prefixes without any assigned address.
    pub empty_prefixes: i64,
    /// Slots taken by blocks of the other mode, which no new pod gets.
    pub wrong_mode_slots: i64,
    /// Each interface; empty where the source does not tell.
    pub interfaces: Vec<Interface>,
    /// Interfaces attached.
    pub enis: i64,
    /// Interfaces excluded from pod addresses.
    pub excluded: i64,
    /// One of the excluded interfaces is the primary one.
    pub primary_excluded: bool,
    /// A trunk interface is attached.
    pub trunk: bool,
    /// Pods get IPv6 addresses: practically without limit.
    pub ipv6: bool,
    /// Network cards with a data store of their own.
    pub cards: usize,
    /// Cards beside the first that have an interface for pods: ipamd fills each of them as it fills the first.
    pub further_cards: i64,
    /// Free addresses of the card that has the fewest: what is left for pods with an interface on every card.
    pub scarcest_card: i64,
    /// ipamd's own total minus the sum of everything attached; 0 unless one of the two is wrong.
    pub mismatch: i64,
}

impl Pool {
    /// Addresses that the next pod could get (F); an upper bound where the cooldown is not known.
    pub fn free(&self) -> i64 {
        self.total.saturating_sub(self.assigned).saturating_sub(self.cooldown.unwrap_or_default())
    }

    /// The exact pool, from ipamd's document, at the time `now`; an address rests for `cooldown` seconds.
    pub fn of(document: &Document, mode: Mode, cooldown: i64, now: Timestamp) -> Self {
        let blocks = || document.cards.iter().flat_map(|card| &card.interfaces).flat_map(|eni| &eni.blocks);
        let ipv6 = blocks().any(|block| block.ipv6) && !blocks().any(|block| !block.ipv6);
        let rest = Rest { now, period: SignedDuration::from_secs(cooldown) };
        let mut pool = Self {
            cooldown: (!ipv6).then_some(0),
            ipv6,
            cards: document.cards.len(),
            scarcest_card: i64::MAX,
            ..Self::default()
        };
        for (place, card) in document.cards.iter().enumerate() {
            pool.add_card(card, place == 0, mode, &rest);
        }
        pool
    }

    /// What ipamd's metrics tell: unfiltered, without the cooldown and without interfaces.
    pub fn estimate(scrape: &Scrape) -> Option<Self> {
        let (total, assigned) = (scrape.total?, scrape.assigned?);
        // No instance has as many IPv4 addresses; the smallest prefix of IPv6 has 2^48.
        let ipv6 = total > i64::from(u32::MAX);
        let scarcest_card = total.saturating_sub(assigned);
        Some(Self {
            total,
            assigned,
            ipv6,
            enis: scrape.enis.unwrap_or_default(),
            cards: 1,
            scarcest_card,
            ..Self::default()
        })
    }

    /// What EC2 has attached, by IMDS, of which `assigned` addresses are held by pods: an upper bound of what is usable.
    pub fn attached(network: &Network, settings: &Settings, assigned: i64) -> Self {
        // With custom networking the first interface carries no pods.
        let carries = |interface: &&NetworkInterface| interface.device > 0 || settings.custom_networking != Some(true);
        let carrying = || network.interfaces.iter().filter(carries);
        let total = carrying().map(NetworkInterface::attached).fold(0, i64::saturating_add);
        let prefixes: usize = carrying().map(|interface| interface.prefixes.len()).sum();
        Self {
            total,
            assigned,
            // Which of them are empty only ipamd knows.
            prefixes: 0,
            empty_prefixes: 0,
            ipv6: settings.ipv6 == Some(true) && prefixes == 0 && total == 0,
            enis: i64::try_from(network.interfaces.len()).unwrap_or(i64::MAX),
            cards: 1,
            scarcest_card: total.saturating_sub(assigned),
            ..Self::default()
        }
    }

    /// Fills in the subnets that a CNI before v1.22 does not tell.
    pub fn name_subnets(&mut self, network: &Network) {
        for interface in self.interfaces.iter_mut().filter(|interface| interface.subnet_id.is_none()) {
            let known = network.interfaces.iter().find(|known| known.id == interface.id);
            interface.subnet_id = known.and_then(|known| known.subnet_id.clone());
        }
    }

    fn add_card(&mut self, card: &Card, first: bool, mode: Mode, rest: &Rest) {
        let further = !first && card.interfaces.iter().any(|eni| !eni.excluded);
        self.further_cards += i64::from(further);
        let mut free = 0;
        let mut attached = 0_i64;
        for eni in &card.interfaces {
            let interface = self.add_interface(eni, first || further, mode, rest);
            free = i64::saturating_add(free, interface.free());
            attached = attached.saturating_add(interface.attached);
            self.interfaces.push(interface);
        }
        self.mismatch = self.mismatch.saturating_add(card.stated_total.saturating_sub(attached));
        self.scarcest_card = self.scarcest_card.min(free);
    }

    /// `carries`: its card counts among those that pods get addresses of.
    fn add_interface(&mut self, eni: &Eni, carries: bool, mode: Mode, rest: &Rest) -> Interface {
        self.enis += 1;
        self.trunk |= eni.trunk;
        if carries {
            self.excluded += i64::from(eni.excluded);
            self.primary_excluded |= eni.excluded && eni.primary;
        }
        let mut interface = Interface {
            id: eni.id.clone(),
            subnet_id: eni.subnet_id.clone(),
            primary: eni.primary,
            total: 0,
            assigned: 0,
            cooldown: 0,
            attached: 0,
        };
        for block in &eni.blocks {
            interface.attached = interface.attached.saturating_add(block.size);
            let right_mode = block.ipv6 == self.ipv6 && (block.ipv6 || block.prefix == (mode == Mode::Prefix));
            if eni.excluded || !right_mode {
                self.wrong_mode_slots += i64::from(!eni.excluded);
                continue;
            }
            interface.total = interface.total.saturating_add(block.size);
            interface.assigned += block.assigned;
            // In IPv6 ipamd knows no cooldown.
            for returned in block.returned.iter().filter(|_| !block.ipv6) {
                if let Some(left) = rest.left(*returned) {
                    interface.cooldown += 1;
                    self.next_free = Some(self.next_free.map_or(left, |least| least.min(left)));
                }
            }
            self.prefixes += i64::from(block.prefix);
            self.empty_prefixes += i64::from(block.prefix && block.assigned == 0);
        }
        self.total = self.total.saturating_add(interface.total);
        self.assigned += interface.assigned;
        self.cooldown = self.cooldown.map(|cooling| cooling + interface.cooldown);
        interface
    }
}

/// How long addresses rest, by the wall clock of the host that they share with ipamd.
struct Rest {
    now: Timestamp,
    period: SignedDuration,
}

impl Rest {
    /// What is left of the rest; `None` when it is over. In the very second in which it ends it still counts, as for ipamd.
    fn left(&self, returned: Timestamp) -> Option<SignedDuration> {
        let left = self.period.saturating_sub(self.now.duration_since(returned));
        (!left.is_negative()).then_some(left)
    }
}

#[cfg(test)]
mod tests;
