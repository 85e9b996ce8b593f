//! How far the pool can grow, how many pods that carries, and which limit is met first.

use super::growth::State;
use super::pool::{Mode, Pool};
use super::settings::Settings;

/// What is known of the instance from ipamd's metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Interfaces that ipamd may use, of one network card.
    pub eni_max: Option<i64>,
    /// Addresses that it expects of each (S).
    pub per_eni: Option<i64>,
}

impl Instance {
    /// From ipamd's gauges; their ratio is right even where the product overstates.
    pub fn of(eni_max: Option<i64>, ip_max: Option<i64>) -> Self {
        let per_eni = match (eni_max, ip_max) {
            (Some(enis @ 1..), Some(addresses @ 1..)) => Some(addresses / enis).filter(|each| *each > 0),
            _ => None,
        };
        Self { eni_max, per_eni }
    }
}

/// What the node's pods come up against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The addresses that are attached: ipamd does not get more, or it is not known how many more it could get.
    AddressPool,
    /// The interfaces of the instance.
    InstanceLimit,
    /// The kubelet's max-pods.
    MaxPods,
    /// A setting of the CNI.
    ConfigCeiling,
    /// The subnet has no more addresses.
    Subnet,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 5] =
        [Self::AddressPool, Self::InstanceLimit, Self::MaxPods, Self::ConfigCeiling, Self::Subnet];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressPool => "address_pool",
            Self::InstanceLimit => "instance_limit",
            Self::MaxPods => "max_pods",
            Self::ConfigCeiling => "config_ceiling",
            Self::Subnet => "subnet",
        }
    }
}

/// The limits of one node; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Addresses of an interface (S).
    pub per_eni: Option<i64>,
    /// Interfaces that ipamd may use, of all network cards that have one.
    pub eni_max: Option<i64>,
    /// Interfaces that can carry pod addresses.
    pub usable_enis: Option<i64>,
    /// Addresses that the instance can carry for pods (I).
    pub instance: Option<i64>,
    /// Where the targets stop the growth, if they do.
    pub configured: Option<i64>,
    /// The kubelet's max-pods.
    pub max_pods: Option<i64>,
    /// `max_pods` as the pool can reach it: a whole step of growth may overshoot.
    pub max_pods_ceiling: Option<i64>,
    /// Pods that the kubelet still takes (K); negative when it has more than it should.
    pub room: Option<i64>,
}

impl Limits {
    /// `max_pods` is the Node's allocatable pods, `pods` all that run on it, those on the host's network included.
    pub fn of(
        pool: &Pool,
        mode: Mode,
        instance: Instance,
        settings: &Settings,
        max_pods: Option<i64>,
        pods: i64,
    ) -> Self {
        // ipamd tells the limit of one card; the cards of an instance type are alike but for few.
        let eni_max = instance.eni_max.map(|max| max.saturating_mul(pool.further_cards.saturating_add(1)));
        let usable_enis = eni_max.map(|max| {
            let custom = settings.custom_networking == Some(true) && !pool.primary_excluded;
            let trunk = pool.trunk || settings.pod_eni == Some(true);
            max - pool.excluded - i64::from(custom) - i64::from(trunk)
        });
        let whole = |enis: i64, each: i64| enis.max(0).saturating_mul(each) - pool.wrong_mode_slots * mode.slot();
        let step = match (mode, settings.targets_defined()) {
            (Mode::Prefix, _) => Some(mode.slot()),
            (Mode::Secondary, Some(true)) => Some(1),
            (Mode::Secondary, _) => instance.per_eni,
        };
        Self {
            per_eni: instance.per_eni,
            eni_max,
            usable_enis,
            instance: usable_enis.zip(instance.per_eni).map(|(enis, each)| whole(enis, each)),
            configured: match (settings.minimum_ip, settings.warm_ip) {
                (Some(minimum @ 1..), Some(0)) => Some(rounded_up(minimum, mode.slot())),
                _ => None,
            },
            max_pods,
            max_pods_ceiling: max_pods.zip(step).map(|(most, step)| rounded_up(most, step)),
            room: max_pods.map(|most| most.saturating_sub(pods)),
        }
    }

    /// The most addresses that the pool can grow to and what stops it there; `None` if the instance's limit is not known.
    pub fn ceiling(&self) -> Option<(i64, Limit)> {
        let instance = (self.instance?, Limit::InstanceLimit);
        let others = [(self.max_pods_ceiling, Limit::MaxPods), (self.configured, Limit::ConfigCeiling)];
        let known = others.into_iter().filter_map(|(addresses, limit)| Some((addresses?, limit)));
        Some(known.fold(instance, |least, other| if other.0 < least.0 { other } else { least }))
    }
}

/// `number`, or the next multiple of `step` above it.
pub fn rounded_up(number: i64, step: i64) -> i64 {
    if step <= 1 { number } else { number.saturating_add(step - 1) / step * step }
}

/// How many more pods there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Pods that could start now.
    pub now: i64,
    /// Pods that could start once the pool has grown as far as it can.
    pub reachable: i64,
    /// What stops there.
    pub binding: Limit,
}

impl Outlook {
    /// `None` if neither the pool nor the kubelet's room is known.
    pub fn of(pool: Option<&Pool>, limits: &Limits, state: State) -> Option<Self> {
        let room = limits.room.unwrap_or(i64::MAX);
        let Some(pool) = pool.filter(|pool| !pool.ipv6) else {
            // IPv6 has addresses without end; without any source nothing but the kubelet's room is known.
            let room = limits.room.filter(|_| pool.is_some())?.max(0);
            return Some(Self { now: room, reachable: room, binding: Limit::MaxPods });
        };
        let (growth, stops) = growth(pool, limits, state);
        let free = pool.free();
        let grown = free.saturating_add(growth);
        let binding = if room <= grown { Limit::MaxPods } else { stops };
        Some(Self { now: room.min(free).max(0), reachable: room.min(grown).max(0), binding })
    }
}

/// Addresses that may still come, and what stops them.
fn growth(pool: &Pool, limits: &Limits, state: State) -> (i64, Limit) {
    let stopped_by = match state {
        State::IpamdDown | State::ProvisioningDisabled | State::NodeUnschedulable => Some(Limit::AddressPool),
        State::AtInstanceLimit => Some(Limit::InstanceLimit),
        State::AtMaxPods => Some(Limit::MaxPods),
        State::ConfigCeiling => Some(Limit::ConfigCeiling),
        State::SubnetExhausted => Some(Limit::Subnet),
        State::Throttled | State::Stalled | State::Ok => None,
    };
    match (stopped_by, limits.ceiling()) {
        (Some(limit), _) => (0, limit),
        (None, Some((ceiling, limit))) => (ceiling.saturating_sub(pool.total).max(0), limit),
        (None, None) => (0, Limit::AddressPool),
    }
}

#[cfg(test)]
mod tests;
