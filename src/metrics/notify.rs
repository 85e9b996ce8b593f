//! Messages to people outside of the cluster.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::notify::Sink;
use crate::notify::plan::Fate;

const DELIVERED: &str = "delivered";
const RETRIED: &str = "retried";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    sink: &'static str,
    outcome: &'static str,
}

/// Counters of notifications. Clones count into the same ones.
#[derive(Clone, Debug)]
pub struct NotifyMetrics {
    notifications: Family<Labels, Counter>,
}

impl NotifyMetrics {
    /// Registers everything under the registry's prefix. A sink that is not configured has no series.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { notifications: Family::default() };
        let Self { notifications } = &metrics;
        registry.register(
            "notifications",
            "Messages to a sink: delivered, tries that are repeated, messages given up, and changes that the rate cap left out",
            notifications.clone(),
        );
        metrics
    }

    /// Shows all outcomes of a sink, with 0.
    pub fn configured(&self, sink: Sink) {
        for outcome in [DELIVERED, RETRIED, FAILED, DROPPED] {
            drop(self.notifications.get_or_create(&Labels { sink: sink.as_str(), outcome }));
        }
    }

    /// Counts one try.
    pub fn tried(&self, sink: Sink, fate: &Fate) {
        let outcome = match fate {
            Fate::Delivered => DELIVERED,
            Fate::Retried(_) => RETRIED,
            Fate::Failed(_) => FAILED,
        };
        self.notifications.get_or_create(&Labels { sink: sink.as_str(), outcome }).inc();
    }

    /// Counts changes that are not told of their own.
    pub fn dropped(&self, sink: Sink, number: u32) {
        self.notifications.get_or_create(&Labels { sink: sink.as_str(), outcome: DROPPED }).inc_by(number.into());
    }
}
