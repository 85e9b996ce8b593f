//! What an operator could do better: settings that are traps, addresses that lie idle, and sums that do not add up.

use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;
use super::node::NodeFacts;
use super::pool::{Mode, PREFIX_SIZE, Pool};
use super::settings::Settings;

/// A setting of the CNI that does something else than one expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// `MINIMUM_IP_TARGET` without `WARM_IP_TARGET`.
    MinimumWithoutWarm,
    /// Prefixes without any reserve.
    PrefixWithoutWarm,
    /// Prefixes are asked for and the instance has none.
    NoPrefixes,
    /// ipamd changes interfaces on a cordoned node.
    ManagesUnschedulable,
    /// Nobody collects what a node leaves behind.
    LeakCleanupOff,
    /// Addresses are given to the next pod at once.
    NoCooldown,
    /// Metrics or introspection are off.
    Blinded,
    /// Values come from elsewhere, so that not everything here can be known.
    Indirect,
}

impl Trap {
    /// Every trap.
    pub const ALL: [Self; 8] = [
        Self::MinimumWithoutWarm,
        Self::PrefixWithoutWarm,
        Self::NoPrefixes,
        Self::ManagesUnschedulable,
        Self::LeakCleanupOff,
        Self::NoCooldown,
        Self::Blinded,
        Self::Indirect,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MinimumWithoutWarm => "minimum_without_warm",
            Self::PrefixWithoutWarm => "prefix_without_warm",
            Self::NoPrefixes => "no_prefixes",
            Self::ManagesUnschedulable => "manages_unschedulable",
            Self::LeakCleanupOff => "leak_cleanup_off",
            Self::NoCooldown => "no_cooldown",
            Self::Blinded => "blinded",
            Self::Indirect => "indirect",
        }
    }

    /// What it does and what to do, in one sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::MinimumWithoutWarm => {
                "MINIMUM_IP_TARGET without WARM_IP_TARGET is a ceiling: the node never gets more addresses; set both"
            }
            Self::PrefixWithoutWarm => {
                "prefix delegation with WARM_PREFIX_TARGET 0 gets a prefix only when a pod has already failed; set it to 1"
            }
            Self::NoPrefixes => {
                "ENABLE_PREFIX_DELEGATION has no effect on this instance type; max-pods may be set for prefixes"
            }
            Self::ManagesUnschedulable => {
                "AWS_MANAGE_ENIS_NON_SCHEDULABLE lets a dying spot node leave interfaces behind; set it to false"
            }
            Self::LeakCleanupOff => {
                "DISABLE_LEAKED_ENI_CLEANUP keeps the addresses of interfaces that spot nodes left behind; set it to false"
            }
            Self::NoCooldown => {
                "IP_COOLDOWN_PERIOD 0 gives an address to the next pod while others still send to the last"
            }
            Self::Blinded => {
                "DISABLE_METRICS or DISABLE_INTROSPECTION hides the pool; without both nothing is known of it"
            }
            Self::Indirect => {
                "settings of aws-node come through valueFrom and are unknown; what hangs on them is left out"
            }
        }
    }

    fn is_set(self, settings: &Settings, mode: Mode, limits: &Limits) -> bool {
        let wishes_prefixes = settings.prefix_delegation == Some(true);
        match self {
            Self::MinimumWithoutWarm => {
                settings.minimum_ip.is_some_and(|least| least > 0) && settings.warm_ip == Some(0)
            }
            Self::PrefixWithoutWarm => {
                wishes_prefixes && settings.targets_defined() == Some(false) && settings.warm_prefix == Some(0)
            }
            Self::NoPrefixes => wishes_prefixes && limits.per_eni.is_some() && mode == Mode::Secondary,
            Self::ManagesUnschedulable => settings.manage_unschedulable == Some(true),
            Self::LeakCleanupOff => settings.leak_cleanup_disabled == Some(true),
            Self::NoCooldown => settings.cooldown == Some(0),
            Self::Blinded => settings.blinded == Some(true),
            Self::Indirect => settings.indirect,
        }
    }
}

/// The traps that the settings of this node hold.
pub fn traps(settings: &Settings, mode: Mode, limits: &Limits) -> Vec<Trap> {
    Trap::ALL.into_iter().filter(|trap| trap.is_set(settings, mode, limits)).collect()
}

/// How well the addresses are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Efficiency {
    /// Share of the subnet's addresses on this node that pods use.
    pub used: f64,
    /// Addresses that no pod can ever get, because the kubelet takes no more pods.
    pub idle_beyond_max_pods: Option<i64>,
    /// 0 if the assigned addresses fill as few prefixes as they can, towards 1 the more they are scattered.
    pub fragmentation: f64,
    /// The same over network interfaces.
    pub eni_fragmentation: f64,
    /// Addresses that would go back if the pods were packed.
    pub returnable: i64,
    /// Pods that can be placed here and never get an address; negative: addresses that no pod will ask for.
    pub overcommit: Option<i64>,
}

impl Efficiency {
    /// Of a pool of IPv4 addresses.
    pub fn of(pool: &Pool, limits: &Limits, node: &NodeFacts) -> Self {
        let network_pods = limits.max_pods.map(|most| most - node.host_network_pods);
        let held = pool.total + pool.enis;
        let pinned = pool.prefixes - pool.empty_prefixes;
        let packable = super::limits::rounded_up(pool.assigned, PREFIX_SIZE) / PREFIX_SIZE;
        let scattered = (pinned - packable).max(0);
        let share = |part: i64, of: i64| if of > 0 { part as f64 / of as f64 } else { 0.0 };
        let used_enis = pool.interfaces.iter().filter(|interface| interface.assigned > 0).count();
        let used_enis = i64::try_from(used_enis).unwrap_or(i64::MAX);
        let least_enis =
            limits.per_eni.map_or(used_enis, |each| super::limits::rounded_up(pool.assigned, each) / each.max(1));
        Self {
            used: share(pool.assigned, held),
            idle_beyond_max_pods: network_pods.map(|most| (pool.total - most).max(0)),
            fragmentation: share(scattered, pinned),
            eni_fragmentation: share((used_enis - least_enis).max(0), used_enis),
            returnable: PREFIX_SIZE * scattered,
            overcommit: network_pods.zip(limits.ceiling()).map(|(most, (ceiling, _))| most - ceiling.max(pool.total)),
        }
    }
}

/// Less would not be worth a word: two prefixes come and go with every few pods.
const NOTABLE_RETURN: i64 = 2 * PREFIX_SIZE;

impl Efficiency {
    /// At least half of the prefixes in use could be given back, and more than one.
    pub fn is_scattered(&self) -> bool {
        self.fragmentation >= 0.5 && self.returnable >= NOTABLE_RETURN
    }
}

/// Sums that do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// ipamd's own total is not the sum of what is attached.
    TotalMismatch,
    /// More addresses are assigned than pods have one.
    Leak,
    /// ipamd's pool manager has not reconciled.
    PoolManagerStuck,
    /// ipamd answers with a document without interfaces: one of a version that this agent does not know, perhaps.
    EmptyDocument,
    /// ipamd's pool is not what EC2 has attached.
    Drift,
    /// A pod can get the address of the node or of one of its interfaces.
    PrimaryInPool,
}

impl Doubt {
    /// Every doubt.
    pub const ALL: [Self; 6] = [
        Self::TotalMismatch,
        Self::Leak,
        Self::PoolManagerStuck,
        Self::EmptyDocument,
        Self::Drift,
        Self::PrimaryInPool,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TotalMismatch => "total_mismatch",
            Self::Leak => "leak",
            Self::PoolManagerStuck => "pool_manager_stuck",
            Self::EmptyDocument => "empty_document",
            Self::Drift => "drift",
            Self::PrimaryInPool => "primary_in_pool",
        }
    }

    /// What it may mean and what to do, in one sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::TotalMismatch => {
                "ipamd's own total is not the sum of what is attached: its metrics mislead, a restart of aws-node mends them"
            }
            Self::Leak => {
                "more addresses are assigned than pods have one: ipamd missed deletions; a restart of aws-node gives them back"
            }
            Self::PoolManagerStuck => {
                "ipamd has not reconciled its pool for minutes: see ipamd.log, then restart aws-node"
            }
            Self::EmptyDocument => {
                "ipamd tells of no network interface: perhaps a version that this agent does not know"
            }
            Self::Drift => {
                "ipamd's pool is not what EC2 has attached: pods may get addresses that are not theirs; restart aws-node"
            }
            Self::PrimaryInPool => {
                "the address of the node or of an interface is in the pool: the pod that gets it has no network; update the CNI"
            }
        }
    }

    /// How long it must last. Pods and addresses are read at different moments.
    const fn hold(self) -> Duration {
        match self {
            // Has its own patience, measured in readings of IMDS.
            Self::Drift => Duration::ZERO,
            Self::TotalMismatch | Self::EmptyDocument | Self::PrimaryInPool => Duration::from_mins(2),
            Self::Leak | Self::PoolManagerStuck => Duration::from_mins(5),
        }
    }
}

/// Remembers since when a doubt has lasted.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    since: [Option<Instant>; Doubt::ALL.len()],
}

impl Doubts {
    /// Takes up whether each doubt applies at `now`; those that have lasted long enough.
    pub fn step(&mut self, now: Instant, applies: impl Fn(Doubt) -> bool) -> Vec<Doubt> {
        let mut lasting = Vec::new();
        for (doubt, since) in Doubt::ALL.into_iter().zip(&mut self.since) {
            *since = applies(doubt).then(|| since.unwrap_or(now));
            if since.is_some_and(|since| now.duration_since(since) >= doubt.hold()) {
                lasting.push(doubt);
            }
        }
        lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trap_is_found_by_its_setting_alone() {
        let calm = Settings {
            warm_eni: Some(1),
            warm_ip: Some(0),
            minimum_ip: Some(0),
            warm_prefix: Some(1),
            prefix_delegation: Some(false),
            manage_unschedulable: Some(false),
            leak_cleanup_disabled: Some(false),
            cooldown: Some(30),
            blinded: Some(false),
            ..Settings::default()
        };
        let limits = Limits { per_eni: Some(9), ..Limits::default() };
        assert_eq!(traps(&calm, Mode::Secondary, &limits), []);
        assert_eq!(traps(&Settings::default(), Mode::Secondary, &limits), [], "what is unknown is no trap");
        for (settings, mode, trap) in [
            (Settings { minimum_ip: Some(32), ..calm }, Mode::Secondary, Trap::MinimumWithoutWarm),
            (
                Settings { prefix_delegation: Some(true), warm_prefix: Some(0), ..calm },
                Mode::Prefix,
                Trap::PrefixWithoutWarm,
            ),
            (Settings { prefix_delegation: Some(true), ..calm }, Mode::Secondary, Trap::NoPrefixes),
            (Settings { manage_unschedulable: Some(true), ..calm }, Mode::Secondary, Trap::ManagesUnschedulable),
            (Settings { leak_cleanup_disabled: Some(true), ..calm }, Mode::Secondary, Trap::LeakCleanupOff),
            (Settings { cooldown: Some(0), ..calm }, Mode::Secondary, Trap::NoCooldown),
            (Settings { blinded: Some(true), ..calm }, Mode::Secondary, Trap::Blinded),
            (Settings { indirect: true, ..calm }, Mode::Secondary, Trap::Indirect),
        ] {
            assert_eq!(traps(&settings, mode, &limits), [trap]);
        }
    }

    #[test]
    fn scattered_pods_pin_prefixes_that_packed_ones_would_return() {
        let pool = Pool { total: 32, assigned: 2, prefixes: 2, empty_prefixes: 0, enis: 2, ..Pool::default() };
        let efficiency = Efficiency::of(&pool, &Limits::default(), &NodeFacts::default());
        assert_eq!((efficiency.fragmentation, efficiency.returnable), (0.5, 16));
        let packed = Pool { empty_prefixes: 1, ..pool };
        let efficiency = Efficiency::of(&packed, &Limits::default(), &NodeFacts::default());
        assert_eq!((efficiency.fragmentation, efficiency.returnable), (0.0, 0));
    }

    #[test]
    fn more_pods_than_addresses_are_overcommitted_and_more_addresses_than_pods_idle() {
        let node = NodeFacts { host_network_pods: 2, ..NodeFacts::default() };
        let pool = Pool { total: 18, assigned: 4, enis: 2, ..Pool::default() };
        let limits = Limits { instance: Some(18), max_pods: Some(29), ..Limits::default() };
        let efficiency = Efficiency::of(&pool, &limits, &node);
        assert_eq!((efficiency.overcommit, efficiency.idle_beyond_max_pods), (Some(9), Some(0)));
        assert!((efficiency.used - 0.2).abs() < 1e-9);
        let few = Limits { max_pods: Some(10), ..limits };
        let efficiency = Efficiency::of(&pool, &few, &node);
        assert_eq!((efficiency.overcommit, efficiency.idle_beyond_max_pods), (Some(-10), Some(10)));
    }

    #[tokio::test]
    async fn a_doubt_has_to_last() {
        let start = Instant::now();
        let mut doubts = Doubts::default();
        let old = |doubt| !matches!(doubt, Doubt::Leak | Doubt::Drift | Doubt::PrimaryInPool);
        assert_eq!(doubts.step(start, old), []);
        let after = |seconds| start + Duration::from_secs(seconds);
        let two = [Doubt::TotalMismatch, Doubt::EmptyDocument];
        assert_eq!(doubts.step(after(120), old), two);
        assert_eq!(doubts.step(after(299), |doubt| doubt == Doubt::PoolManagerStuck), []);
        assert_eq!(doubts.step(after(300), |doubt| doubt == Doubt::PoolManagerStuck), [Doubt::PoolManagerStuck]);
        assert_eq!(doubts.step(after(301), |doubt| doubt == Doubt::Drift), [Doubt::Drift], "it has its own patience");
        assert_eq!(doubts.step(after(301), |_| false), []);
        assert_eq!(doubts.step(after(302), |doubt| doubt == Doubt::PoolManagerStuck), [], "it begins anew");
    }
}
