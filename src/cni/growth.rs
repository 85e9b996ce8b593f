//! Whether ipamd can get more addresses, and if not, why.
//!
//! One state at a time: the first in the order of [`State::ALL`] that applies.

use std::time::Duration;

use tokio::time::Instant;

use super::counters::Counters;
use super::limits::Limits;
use super::pool::{Mode, PREFIX_SIZE, Pool};
use super::settings::Settings;

/// A refusal by EC2 counts for so long: more than twice ipamd's pause of 120 s after one.
const REFUSAL: Duration = Duration::from_mins(5);
/// ipamd adds at least something every few seconds; what takes longer than this hangs.
const STALL: Duration = Duration::from_mins(3);

/// What the growth of the pool comes up against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// ipamd answers nowhere.
    IpamdDown,
    /// A setting forbids ipamd to attach anything.
    ProvisioningDisabled,
    /// The node is cordoned, which stops ipamd.
    NodeUnschedulable,
    /// The instance carries no more.
    AtInstanceLimit,
    /// As many addresses as the kubelet takes pods.
    AtMaxPods,
    /// `MINIMUM_IP_TARGET` without `WARM_IP_TARGET` is a ceiling.
    ConfigCeiling,
    /// EC2 refused addresses or interfaces of the subnet lately.
    SubnetExhausted,
    /// EC2 throttled lately.
    Throttled,
    /// ipamd should have grown the pool and has not, for no reason that can be seen.
    Stalled,
    /// None of these.
    #[default]
    Ok,
}

impl State {
    /// Every state by precedence.
    pub const ALL: [Self; 10] = [
        Self::IpamdDown,
        Self::ProvisioningDisabled,
        Self::NodeUnschedulable,
        Self::AtInstanceLimit,
        Self::AtMaxPods,
        Self::ConfigCeiling,
        Self::SubnetExhausted,
        Self::Throttled,
        Self::Stalled,
        Self::Ok,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IpamdDown => "ipamd_down",
            Self::ProvisioningDisabled => "provisioning_disabled",
            Self::NodeUnschedulable => "node_unschedulable",
            Self::AtInstanceLimit => "at_instance_limit",
            Self::AtMaxPods => "at_max_pods",
            Self::ConfigCeiling => "config_ceiling",
            Self::SubnetExhausted => "subnet_exhausted",
            Self::Throttled => "throttled",
            Self::Stalled => "stalled",
            Self::Ok => "ok",
        }
    }
}

/// What the state follows from, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Neither endpoint has answered several times in a row.
    pub down: bool,
    /// The pool, if any source tells it.
    pub pool: Option<&'a Pool>,
    /// The pool comes from another source than the last time, so that a difference is no growth.
    pub source_changed: bool,
    /// What is in a slot.
    pub mode: Mode,
    /// How far it can grow.
    pub limits: &'a Limits,
    /// The settings.
    pub settings: &'a Settings,
    /// The node has the taint `node.kubernetes.io/unschedulable:NoSchedule`.
    pub cordoned: bool,
    /// What was counted at the last scrape, if this is a new one.
    pub scraped: Option<Counted>,
}

impl Sight<'_> {
    /// ipamd wants more addresses and has where to put them.
    fn is_hungry(&self) -> bool {
        let Some(pool) = self.pool else { return false };
        let wants = is_too_low(pool, self.mode, self.limits, self.settings) == Some(true);
        wants && self.limits.instance.is_some_and(|most| pool.total < most)
    }
}

/// The counters of a scrape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Counted {
    /// The first one: a baseline.
    First(Counters),
    /// What was counted since the one before.
    Since(Counters),
}

/// Whether ipamd wants more addresses by its own rules; `None` if that hangs on an unknown setting, or if other network
/// cards are in the sums.
pub fn is_too_low(pool: &Pool, mode: Mode, limits: &Limits, settings: &Settings) -> Option<bool> {
    if limits.max_pods.is_some_and(|most| pool.total >= most) {
        return Some(false);
    }
    if pool.cards > 1 || pool.ipv6 {
        return None;
    }
    // As ipamd does: addresses in cooldown count as available.
    let available = pool.total - pool.assigned;
    if settings.targets_defined()? {
        let (warm, minimum) = (settings.warm_ip?, settings.minimum_ip?);
        return Some((warm - available).max(0).max(minimum - pool.total) > 0);
    }
    let (warm, step) = match mode {
        Mode::Prefix => (settings.warm_prefix?, PREFIX_SIZE),
        Mode::Secondary => (settings.warm_eni?, limits.per_eni?),
    };
    Some(available < step.saturating_mul(warm) || (warm == 0 && available == 0))
}

/// Remembers what a single look cannot tell.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    /// Addresses and interfaces at the last look.
    last: Option<(i64, i64)>,
    /// Since when ipamd has wanted to grow and could have, without growing.
    hungry_since: Option<Instant>,
    refused_at: Option<Instant>,
    /// Refusals since the pool last grew, for the cause in words.
    refusals: u64,
    /// Refusals from before our time: taken for real until the next scrape decides.
    provisional: bool,
    throttled_at: Option<Instant>,
    /// The pool has grown since the look before.
    grew: bool,
    /// Errors that a stall may come from, since the pool last grew.
    invalid: u64,
    unauthorized: u64,
}

impl Tracker {
    /// The state at `now`.
    pub fn step(&mut self, now: Instant, sight: &Sight<'_>) -> State {
        let hungry = sight.is_hungry();
        let grown = self.has_grown(sight);
        self.grew = grown;
        if grown {
            (self.refused_at, self.refusals, self.provisional) = (None, 0, false);
            (self.invalid, self.unauthorized) = (0, 0);
        }
        self.count(now, sight, grown, hungry);
        self.hungry_since = if hungry && !grown { self.hungry_since.or(Some(now)) } else { None };
        self.judge(now, sight)
    }

    /// Whether the pool had grown at the last look.
    pub fn grew(&self) -> bool {
        self.grew
    }

    /// Refusals since the pool last grew.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// What EC2 says that could explain a stall.
    pub fn hint(&self) -> Option<&'static str> {
        if self.unauthorized > 0 {
            Some("EC2 answered UnauthorizedOperation: look at the role of aws-node")
        } else if self.invalid > 0 {
            Some("EC2 refused a new interface with InvalidParameterValue, which can mean a full subnet: see ipamd.log")
        } else {
            None
        }
    }

    fn has_grown(&mut self, sight: &Sight<'_>) -> bool {
        let Some(pool) = sight.pool else { return false };
        let last = self.last.replace((pool.total, pool.enis));
        !sight.source_changed && last.is_some_and(|(total, enis)| pool.total > total || pool.enis > enis)
    }

    fn count(&mut self, now: Instant, sight: &Sight<'_>, grown: bool, hungry: bool) {
        match sight.scraped {
            None => {}
            Some(Counted::First(counters)) => self.provisional = hungry && counters.refused > 0,
            Some(Counted::Since(counters)) => {
                self.provisional = false;
                // With subnet discovery each subnet is tried in turn and each refusal counts, though the last one gives.
                if counters.refused > 0 && !grown {
                    self.refused_at = Some(now);
                    self.refusals = self.refusals.saturating_add(counters.refused);
                }
                if counters.throttled > 0 {
                    self.throttled_at = Some(now);
                }
                self.invalid = self.invalid.saturating_add(counters.invalid);
                self.unauthorized = self.unauthorized.saturating_add(counters.unauthorized);
            }
        }
    }

    fn judge(&self, now: Instant, sight: &Sight<'_>) -> State {
        let (settings, limits) = (sight.settings, sight.limits);
        let lately = |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < REFUSAL);
        let full =
            |most: Option<i64>| sight.pool.zip(most).is_some_and(|(pool, most)| !pool.ipv6 && pool.total >= most);
        let applies = |state: State| match state {
            State::IpamdDown => sight.down,
            State::ProvisioningDisabled => settings.provisioning_disabled == Some(true),
            State::NodeUnschedulable => sight.cordoned && settings.manage_unschedulable != Some(true),
            State::AtInstanceLimit => full(limits.instance),
            State::AtMaxPods => full(limits.max_pods),
            State::ConfigCeiling => full(limits.configured),
            State::SubnetExhausted => self.provisional || lately(self.refused_at),
            State::Throttled => lately(self.throttled_at),
            State::Stalled => self.hungry_since.is_some_and(|since| now.duration_since(since) > STALL),
            State::Ok => true,
        };
        State::ALL.into_iter().find(|state| applies(*state)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
