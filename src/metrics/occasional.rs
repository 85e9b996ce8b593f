//! Histograms of what seldom happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;

/// A histogram that is exposed from its first observation on; until then not even its name is.
///
/// Most nodes are interrupted once or never, and a histogram without observations says nothing while each of its buckets
/// costs a series: on every node, all the time. The budget of an idle node (100 series) is better spent on what changes.
/// Counters are another matter and are there with 0 from the start: theirs is how an event is noticed. So is the time from
/// a notice to its fence, which is what this agent promises.
///
/// The price: the first observation is where the series begins, so `rate()` and `increase()` do not see it. A quantile
/// over a fleet is taken from the buckets as they are, for instance
/// `histogram_quantile(0.9, sum by (le) (max_over_time(spotwarden_drain_duration_seconds_bucket[7d])))`; each agent
/// counts from its own start, and a node is seldom interrupted twice.
///
/// Clones observe into the same histogram.
#[derive(Clone, Debug)]
pub struct OccasionalHistogram {
    histogram: Histogram,
    /// The histogram does not tell how much it holds.
    observed: Arc<AtomicBool>,
}

impl OccasionalHistogram {
    /// One with these upper bounds; the bucket for everything above is added.
    pub fn new(bounds: impl IntoIterator<Item = f64>) -> Self {
        Self { histogram: Histogram::new(bounds), observed: Arc::default() }
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        self.histogram.observe(value);
        self.observed.store(true, Ordering::Release);
    }
}

impl EncodeMetric for OccasionalHistogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.histogram.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.histogram.metric_type()
    }

    /// The registry leaves out what is empty, its description too.
    fn is_empty(&self) -> bool {
        !self.observed.load(Ordering::Acquire)
    }
}
