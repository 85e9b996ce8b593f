//! What became of the telemetry that was pushed. Registered only where something is to be pushed.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::otlp::{Failure, OtlpSignal};

type Label = [(&'static str, &'static str); 1];
type PairLabels = [(&'static str, &'static str); 2];

/// Counters of exports. Clones count into the same place.
#[derive(Clone, Debug, Default)]
pub struct OtlpMetrics {
    exports: Family<Label, Counter>,
    failures: Family<PairLabels, Counter>,
}

impl OtlpMetrics {
    /// Registers the series of `signals` with 0.
    pub fn register(registry: &mut Registry, signals: impl Iterator<Item = OtlpSignal>) -> Self {
        let metrics = Self::default();
        for signal in signals {
            drop(metrics.exports.get_or_create(&[("signal", signal.as_str())]));
            for failure in Failure::ALL {
                let labels = [("signal", signal.as_str()), ("reason", failure.as_str())];
                drop(metrics.failures.get_or_create(&labels));
            }
        }
        let Self { exports, failures } = metrics.clone();
        registry.register("otlp_exports", "Requests that the collector took, by signal", exports);
        registry.register(
            "otlp_export_failures",
            "Requests that the collector did not take, or not whole, by signal and reason; each attempt counts",
            failures,
        );
        metrics
    }

    /// Counts a request that was taken.
    pub fn exported(&self, signal: OtlpSignal) {
        self.exports.get_or_create(&[("signal", signal.as_str())]).inc();
    }

    /// Counts one that was not.
    pub fn failed(&self, signal: OtlpSignal, failure: Failure) {
        self.failures.get_or_create(&[("signal", signal.as_str()), ("reason", failure.as_str())]).inc();
    }
}
