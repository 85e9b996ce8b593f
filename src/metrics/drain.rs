//! The drain: how long it took and what became of the pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::occasional::OccasionalHistogram;
use crate::drain::outcome::Outcome;
use crate::interruption::record::Record;

/// Upper bounds in seconds. A notice leaves 120 s; the long end is for drains without a deadline.
const DURATION_BUCKETS: [f64; 5] = [15.0, 30.0, 60.0, 120.0, 300.0];

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

/// A gauge that has no sample before it is set.
#[derive(Clone, Debug, Default)]
struct LateGauge(Arc<(AtomicBool, AtomicU64)>);

impl LateGauge {
    fn set(&self, value: u64) {
        let (known, kept) = &*self.0;
        kept.store(value, Ordering::Relaxed);
        known.store(true, Ordering::Release);
    }
}

impl EncodeMetric for LateGauge {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (known, kept) = &*self.0;
        if known.load(Ordering::Acquire) {
            ConstGauge::new(kept.load(Ordering::Relaxed)).encode(encoder)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        !self.0.0.load(Ordering::Acquire)
    }
}

/// Counters and the histogram of drains.
#[derive(Debug)]
pub struct DrainMetrics {
    duration: OccasionalHistogram,
    pods: Family<OutcomeLabel, Counter>,
    evictions: Family<ResultLabel, Counter>,
    preflight_blocked: LateGauge,
}

impl DrainMetrics {
    /// Registers everything under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            duration: OccasionalHistogram::new(DURATION_BUCKETS),
            pods: Family::default(),
            evictions: Family::default(),
            preflight_blocked: LateGauge::default(),
        };
        let Self { duration, pods, evictions, preflight_blocked } = &metrics;
        registry.register_with_unit(
            "drain_duration",
            "Time from the first eviction to the last pod gone, or to the deadline",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register("drained_pods", "Pods by the way in which their drain ended", pods.clone());
        registry.register("eviction_requests", "Eviction requests by the API server's answer", evictions.clone());
        registry.register(
            "preflight_blocked_pods",
            "Pods whose eviction would have been refused when it was last tried out; absent before the first time",
            preflight_blocked.clone(),
        );
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
            Record::Preflight { blocked, .. } => {
                self.preflight_blocked.set(blocked.len() as u64);
            }
            Record::DrainStarted { .. }
            | Record::NoticeSeen { .. }
            | Record::Resumed { .. }
            | Record::Interruption(_)
            | Record::Survived { .. }
            | Record::Rescheduled { .. }
            | Record::Over { .. }
            | Record::Restored
            | Record::RestoreFailed { .. }
            | Record::StateUnreadable { .. }
            | Record::Fenced { .. }
            | Record::FenceFailed { .. }
            | Record::EvictionBlocked { .. }
            | Record::StopAccepted { .. }
            | Record::DrainPostponed { .. }
            | Record::NotDrained { .. } => {}
        }
    }
}
