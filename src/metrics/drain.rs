//! The drain: how long it took and what became of the pods.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::drain::outcome::Outcome;
use crate::interruption::record::Record;

/// Upper bounds in seconds. A notice leaves 120 s; the long end is for drains without a deadline.
const DURATION_BUCKETS: [f64; 7] = [10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 300.0];

/// Every value of [`crate::drain::eviction::EvictionAnswer::result`].
const RESULTS: [&str; 5] = ["evicted", "blocked", "throttled", "gone", "error"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Counters and the histogram of drains.
#[derive(Debug)]
pub struct DrainMetrics {
    duration: Histogram,
    pods: Family<OutcomeLabel, Counter>,
    evictions: Family<ResultLabel, Counter>,
}

impl DrainMetrics {
    /// Registers everything under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { duration: Histogram::new(DURATION_BUCKETS), pods: Family::default(), evictions: Family::default() };
        let Self { duration, pods, evictions } = &metrics;
        registry.register_with_unit(
            "drain_duration",
            "Time from the first eviction to the last pod gone, or to the deadline",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register("drained_pods", "Pods by the way in which their drain ended", pods.clone());
        registry.register("eviction_requests", "Eviction requests by the API server's answer", evictions.clone());
        for outcome in Outcome::ALL {
            drop(pods.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }));
        }
        for result in RESULTS {
            drop(evictions.get_or_create(&ResultLabel { result }));
        }
        metrics
    }

    /// Counts one answer; `result` comes from [`EvictionAnswer::result`](crate::drain::eviction::EvictionAnswer::result).
    pub fn eviction(&self, result: &'static str) {
        self.evictions.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts what concerns the drain: each pod when its drain ends, which for a pod that is left alone is at once.
    pub fn record(&self, record: &Record) {
        match record {
            Record::PodEnded { outcome, .. } => {
                self.pods.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
            }
            Record::DrainFinished { took, .. } => self.duration.observe(took.as_secs_f64()),
            Record::DrainStarted { .. }
            | Record::NoticeSeen { .. }
            | Record::Resumed { .. }
            | Record::Rescheduled { .. }
            | Record::Over { .. }
            | Record::Restored { .. }
            | Record::RestoreFailed { .. }
            | Record::Preflight { .. }
            | Record::StateUnreadable { .. }
            | Record::Fenced { .. }
            | Record::FenceFailed { .. }
            | Record::EvictionBlocked { .. }
            | Record::StopAccepted { .. }
            | Record::NotDrained { .. } => {}
        }
    }
}
