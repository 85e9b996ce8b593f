//! The headroom of pod addresses, read from the last [`Headroom`] at the moment of the scrape.
//!
//! What is not known has no sample, above all the cooldown where the source does not tell it: a 0 would be a lie. A state
//! or a limit appears with its first 1 and stays with 0, which keeps a quiet node at a handful of series and lets an alert
//! end. No series is about a single address, and those of an interface end with it.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use super::gauge;
use crate::cni::advice::Efficiency;
use crate::cni::counters::Counters;
use crate::cni::model::Headroom;
use crate::cni::pool::Pool;
use crate::cni::source::Source;

type Label = [(&'static str, &'static str); 1];

/// Reading ipamd. A clone counts into the same series.
#[derive(Clone, Debug)]
pub struct CniMetrics {
    failures: Family<Label, Counter>,
    failed_assignments: Counter,
    forced_removals: Counter,
}

impl CniMetrics {
    /// Registers every series with 0.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            failures: Family::default(),
            failed_assignments: Counter::default(),
            forced_removals: Counter::default(),
        };
        // That of IMDS comes with its first failure: where ipamd answers it is of no use.
        for source in Source::IPAMD {
            drop(metrics.failures.get_or_create(&[("source", source.as_str())]));
        }
        let Self { failures, failed_assignments, forced_removals } = metrics.clone();
        registry.register(
            "cni_read_failures",
            "Readings of ipamd that gave nothing usable; the log has the reasons",
            failures,
        );
        registry.register(
            "cni_failed_assignments",
            "Times that a pod asked for an address and none was usable; with several network cards not each is a failed pod",
            failed_assignments,
        );
        registry.register(
            "cni_forced_removals",
            "Addresses and interfaces that were taken away from under pods, which have lost their network",
            forced_removals,
        );
        metrics
    }

    /// Takes up what ipamd counted between two scrapes of it; a restart of ipamd is no step back.
    pub fn counted(&self, since: &Counters) {
        self.failed_assignments.inc_by(since.unavailable);
        self.forced_removals.inc_by(since.forced);
    }

    /// Takes up one reading.
    pub fn read(&self, source: Source, succeeded: bool) {
        if !succeeded {
            self.failures.get_or_create(&[("source", source.as_str())]).inc();
        }
    }
}

/// Encodes the headroom of one node.
#[derive(Debug)]
pub struct HeadroomCollector {
    headroom: watch::Receiver<Option<Arc<Headroom>>>,
}

impl HeadroomCollector {
    /// Reads from `headroom` at each scrape.
    pub fn new(headroom: watch::Receiver<Option<Arc<Headroom>>>) -> Self {
        Self { headroom }
    }
}

impl Collector for HeadroomCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let headroom = self.headroom.borrow().clone();
        let Some(headroom) = headroom else { return Ok(()) };
        let encoder = &mut encoder;
        source(encoder, &headroom)?;
        if let Some(pool) = &headroom.pool {
            addresses(encoder, pool, &headroom)?;
            interfaces(encoder, pool)?;
        }
        outlook(encoder, &headroom)?;
        time(encoder, &headroom)?;
        findings(encoder, &headroom)
    }
}

/// One gauge for each set of labels.
fn family<'a, const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = ([(&'a str, &'a str); N], i64)>,
) -> Result<(), Error> {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn source(encoder: &mut DescriptorEncoder, headroom: &Headroom) -> Result<(), Error> {
    let word = headroom.source.map_or("none", Source::as_str);
    let labels = [("source", word), ("confidence", headroom.confidence.as_str())];
    let help = "1 for where the figures of the CNI come from, and whether they are exact; absent without the VPC CNI.";
    family(encoder, "cni_source", help, [(labels, 1)])?;
    let help = "1 for what the growth of the pool of addresses comes up against.";
    let states = headroom.states.iter().map(|state| ([("state", state.as_str())], i64::from(*state == headroom.state)));
    family(encoder, "cni_growth_state", help, states)
}

fn addresses(encoder: &mut DescriptorEncoder, pool: &Pool, headroom: &Headroom) -> Result<(), Error> {
    let free = (!pool.ipv6).then(|| pool.free());
    let cooldown = pool.cooldown.filter(|_| !pool.ipv6);
    let states = [("assigned", Some(pool.assigned)), ("cooldown", cooldown), ("free", free)];
    let known = states.into_iter().filter_map(|(state, addresses)| Some(([("state", state)], addresses?)));
    let help = "Addresses for pods by state; free is an upper bound where the cooldown is not told.";
    family(encoder, "cni_ip_addresses", help, known)?;
    gauge(encoder, "cni_enis", "Network interfaces attached.", None, pool.enis as f64)?;
    if let Some(most) = headroom.limits.eni_max {
        gauge(encoder, "cni_eni_limit", "Network interfaces that the CNI may use.", None, most as f64)?;
    }
    if pool.prefixes > 0 && !pool.ipv6 {
        let states = [("used", pool.prefixes - pool.empty_prefixes), ("empty", pool.empty_prefixes)];
        let help = "Delegated prefixes by whether a pod has one of their addresses; absent without any.";
        family(encoder, "cni_prefixes", help, states.map(|(state, prefixes)| ([("state", state)], prefixes)))?;
    }
    if let Some(left) = pool.next_free {
        let help = "Time until the next address comes out of its cooldown; absent if none rests.";
        gauge(encoder, "cni_next_free", help, Some(&Unit::Seconds), left.as_secs_f64())?;
    }
    Ok(())
}

fn interfaces(encoder: &mut DescriptorEncoder, pool: &Pool) -> Result<(), Error> {
    if pool.ipv6 {
        return Ok(());
    }
    let samples = pool.interfaces.iter().map(|interface| {
        let subnet = interface.subnet_id.as_deref().unwrap_or_default();
        ([("eni", interface.id.as_str()), ("subnet_id", subnet)], interface.free())
    });
    let help = "Free addresses of each network interface; absent where the source does not tell.";
    family(encoder, "cni_eni_free_ip_addresses", help, samples)
}

fn outlook(encoder: &mut DescriptorEncoder, headroom: &Headroom) -> Result<(), Error> {
    let Some(outlook) = headroom.outlook else { return Ok(()) };
    let horizons = [("now", outlook.now), ("reachable", outlook.reachable)];
    let help = "More pods that can start: with the addresses of now, and after the CNI has got what it can.";
    family(encoder, "cni_headroom_pods", help, horizons.map(|(horizon, pods)| ([("horizon", horizon)], pods)))?;
    let limits = headroom.bindings.iter();
    let samples = limits.map(|limit| ([("limit", limit.as_str())], i64::from(*limit == outlook.binding)));
    family(encoder, "cni_binding_limit", "1 for the limit that the reachable headroom ends at.", samples)?;
    let subnets = headroom.subnets.iter().flat_map(|(subnet, share)| {
        let states = [("pool", share.pool), ("interface", share.interfaces)];
        states.map(|(state, addresses)| ([("subnet_id", subnet.as_str()), ("state", state)], addresses))
    });
    let help = "Addresses that this node holds of each subnet: for pods, and of the interfaces themselves.";
    family(encoder, "cni_subnet_addresses", help, subnets)?;
    let blocks: Vec<_> = headroom
        .subnets
        .iter()
        .filter_map(|(subnet, share)| Some((subnet, share.block?.to_string(), share.usable()?)))
        .collect();
    let sizes = blocks
        .iter()
        .map(|(subnet, cidr, usable)| ([("subnet_id", subnet.as_str()), ("cidr", cidr.as_str())], *usable));
    let help = "Addresses of the whole subnet that anybody can have; minus what all nodes hold, the most that is free.";
    family(encoder, "cni_subnet_usable_addresses", help, sizes)?;
    let refusals = headroom.refusals.iter();
    let refused = refusals.map(|(subnet, lately)| ([("subnet_id", subnet.as_str())], i64::from(*lately)));
    let help = "1 for ten minutes after EC2 refused addresses of the subnet, or until the pool grows; absent before.";
    family(encoder, "cni_subnet_refused", help, refused)
}

fn time(encoder: &mut DescriptorEncoder, headroom: &Headroom) -> Result<(), Error> {
    let forecast = &headroom.forecast;
    let horizons = [("now", forecast.exhausted_now), ("reachable", forecast.exhausted_reachable)];
    if horizons.iter().any(|(_, seconds)| seconds.is_some()) {
        let help = "Time until the headroom is used up at the pace of the last ten minutes; absent unless it falls.";
        let mut family = encoder.encode_descriptor("cni_exhaustion", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (horizon, seconds) in horizons {
            if let Some(seconds) = seconds {
                ConstGauge::new(seconds).encode(family.encode_family(&[("horizon", horizon)])?)?;
            }
        }
    }
    Ok(())
}

/// Shown only while they apply: an ordinary node has none of them.
fn findings(encoder: &mut DescriptorEncoder, headroom: &Headroom) -> Result<(), Error> {
    let traps = headroom.traps.iter().map(|trap| ([("trap", trap.as_str())], 1));
    family(encoder, "cni_config_trap", "1 for each setting of the CNI that is a trap; the log has the advice.", traps)?;
    let doubts = headroom.doubts.iter().map(|doubt| ([("doubt", doubt.as_str())], 1));
    family(encoder, "cni_doubt", "1 for each sum of the CNI that has not added up for minutes.", doubts)?;
    let risks = [("starvation", headroom.forecast.starvation), ("cooldown", headroom.forecast.starved)];
    let risks = risks.into_iter().filter(|(_, applies)| *applies).map(|(risk, _)| ([("risk", risk)], 1));
    let help = "1 while pods ask faster than addresses come (starvation), or all that is left rests (cooldown).";
    family(encoder, "cni_starvation", help, risks)?;
    if let Some(pods) = headroom.efficiency.and_then(|efficiency| efficiency.overcommit).filter(|pods| *pods > 0) {
        let help = "Pods that can be placed here and never get an address; absent if all can.";
        gauge(encoder, "cni_overcommit_pods", help, None, pods as f64)?;
    }
    let efficiency = headroom.efficiency;
    let idle = [
        ("warm_targets", headroom.notable_idle()),
        ("max_pods", efficiency.and_then(|efficiency| efficiency.idle_beyond_max_pods)),
        ("scattered", efficiency.filter(Efficiency::is_scattered).map(|efficiency| efficiency.returnable)),
    ];
    let idle =
        idle.into_iter().filter_map(|(reason, addresses)| Some(([("reason", reason)], addresses.filter(|n| *n > 0)?)));
    let help =
        "Addresses that the subnet could have back: beyond warm targets that would do, beyond max-pods, by packing.";
    family(encoder, "cni_idle_ip_addresses", help, idle)?;
    if let Some(left) = headroom.branch_headroom {
        let help = "Interfaces left for pods with security groups of their own; absent where the node has none.";
        gauge(encoder, "cni_branch_headroom", help, None, left as f64)?;
    }
    if let Some(departure) = headroom.departure {
        let help = "Addresses that the node has given back since it was cordoned; absent while it is not.";
        gauge(encoder, "cni_returned_ip_addresses", help, None, departure.returned as f64)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
