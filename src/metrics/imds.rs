//! What reading IMDS looks like from outside: results by endpoint, freshness, oddities.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::imds::documents::Oddity;
use crate::imds::{Endpoint, Failure, Outcome};
use crate::signal::Kind;

type Label = [(&'static str, &'static str); 1];
type PairLabels = [(&'static str, &'static str); 2];

/// Metrics of everything that is read from IMDS. A clone counts into the same series.
#[derive(Clone, Debug)]
pub struct ImdsMetrics {
    requests: Family<PairLabels, Counter>,
    failures: Family<Label, Counter>,
    last_success: Family<Label, Gauge<f64, AtomicU64>>,
    clock_skew: Gauge<f64, AtomicU64>,
    documents_rejected: Family<Label, Counter>,
    deadlines_without_date: Counter,
}

impl ImdsMetrics {
    /// Registers every series with 0. Label sets are closed: endpoints that this version asks times fixed words. Why
    /// requests failed is told for all endpoints together: what it is mostly befalls all of them, and the log has the rest.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::zeroed();
        let Self { requests, failures, last_success, clock_skew, documents_rejected, deadlines_without_date } =
            metrics.clone();
        registry.register(
            "imds_requests",
            "Requests to IMDS by endpoint and result; `ok` is content or word that there is none",
            requests,
        );
        registry.register("imds_failures", "Requests to IMDS that failed, by reason", failures);
        registry.register_with_unit(
            "imds_last_success_timestamp",
            "When the endpoint was last read and understood, absence included; 0 before the first time",
            Unit::Seconds,
            last_success,
        );
        registry.register_with_unit(
            "imds_clock_skew",
            "The node's wall clock minus the platform's clock, positive when the node is ahead",
            Unit::Seconds,
            clock_skew,
        );
        registry.register(
            "imds_documents_rejected",
            "Documents, or parts of them, that were not taken as they came; `odd` is a time or an id, the log has which",
            documents_rejected,
        );
        registry.register(
            "imds_deadlines_without_date",
            "Notices placed by the node's own clock because the answer had no usable Date",
            deadlines_without_date,
        );
        metrics
    }

    fn zeroed() -> Self {
        let metrics = Self {
            requests: Family::default(),
            failures: Family::default(),
            last_success: Family::default(),
            clock_skew: Gauge::default(),
            documents_rejected: Family::default(),
            deadlines_without_date: Counter::default(),
        };
        for endpoint in Endpoint::ALL {
            for outcome in Outcome::WORDS {
                drop(metrics.requests.get_or_create(&[("endpoint", endpoint.as_str()), ("outcome", outcome)]));
            }
        }
        for failure in Failure::ALL {
            drop(metrics.failures.get_or_create(&[("reason", failure.as_str())]));
        }
        for kind in Kind::ALL {
            drop(metrics.last_success.get_or_create(&[("endpoint", Endpoint::of(kind).as_str())]));
        }
        for oddity in Oddity::ALL {
            drop(metrics.documents_rejected.get_or_create(&[("reason", oddity.reason())]));
        }
        metrics
    }

    /// Counts one request.
    pub fn request(&self, endpoint: Endpoint, outcome: Outcome) {
        self.requests.get_or_create(&[("endpoint", endpoint.as_str()), ("outcome", outcome.as_str())]).inc();
        if let Outcome::Failed(failure) = outcome {
            self.failures.get_or_create(&[("reason", failure.as_str())]).inc();
        }
    }

    /// Notes that `endpoint`, one that is polled for signals, was read and understood at `at`.
    pub fn succeeded(&self, endpoint: Endpoint, at: Timestamp) {
        self.last_success.get_or_create(&[("endpoint", endpoint.as_str())]).set(at.as_duration().as_secs_f64());
    }

    /// Signals of `kind` are not asked for: that its endpoint was never read must not look like blindness.
    pub fn ignored(&self, kind: Kind) {
        self.last_success.remove(&[("endpoint", Endpoint::of(kind).as_str())]);
    }

    /// Sets the node's clock minus the platform's, in seconds.
    pub fn clock_skew(&self, seconds: f64) {
        self.clock_skew.set(seconds);
    }

    /// Counts something in a document that was not taken as it came.
    pub fn rejected(&self, oddity: Oddity) {
        self.documents_rejected.get_or_create(&[("reason", oddity.reason())]).inc();
    }

    /// Counts a deadline that had to be placed by the node's own clock.
    pub fn deadline_without_date(&self) {
        self.deadlines_without_date.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The metrics of a test with their registry.
    struct Probe {
        registry: Registry,
        metrics: ImdsMetrics,
    }

    impl Probe {
        fn new() -> Self {
            let mut registry = Registry::default();
            let metrics = ImdsMetrics::register(registry.sub_registry_with_prefix("spotwarden"));
            Self { registry, metrics }
        }

        fn text(&self) -> String {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
            text
        }

        /// The value of the series that is spelt exactly so.
        fn value(&self, series: &str) -> f64 {
            let text = self.text();
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no series {series} in:\n{text}")).parse().unwrap()
        }
    }

    #[test]
    fn every_series_exists_with_0_from_the_start() {
        let probe = Probe::new();
        let text = probe.text();
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(series.iter().all(|line| line.ends_with(" 0") || line.ends_with(" 0.0")), "{text}");
        assert_eq!(series.len(), 28, "the series budget of an idle node is 100 for the whole agent:\n{text}");
        probe.metrics.succeeded(Endpoint::SpotAction, "1970-01-01T00:00:07.5Z".parse().unwrap());
        probe.metrics.clock_skew(-2.5);
        assert!((probe.value("spotwarden_imds_last_success_timestamp_seconds{endpoint=\"spot\"}") - 7.5).abs() < 1e-9);
        assert!((probe.value("spotwarden_imds_clock_skew_seconds") + 2.5).abs() < 1e-9);
    }

    #[test]
    fn every_oddity_is_counted_under_one_of_four_reasons_that_existed() {
        let probe = Probe::new();
        let before = probe.text().lines().count();
        for oddity in Oddity::ALL {
            probe.metrics.rejected(oddity);
        }
        assert_eq!(probe.text().lines().count(), before);
        for (reason, times) in [("malformed", 1.0), ("unknown_word", 1.0), ("stale", 1.0), ("odd", 4.0)] {
            let series = format!("spotwarden_imds_documents_rejected_total{{reason=\"{reason}\"}}");
            assert!((probe.value(&series) - times).abs() < 1e-9, "{series}");
        }
    }

    #[test]
    fn a_kind_that_is_ignored_has_no_time_of_its_last_success() {
        let probe = Probe::new();
        probe.metrics.ignored(Kind::AsgTermination);
        let text = probe.text();
        assert!(!text.contains("last_success_timestamp_seconds{endpoint=\"asg\"}"), "{text}");
        assert!(text.contains("last_success_timestamp_seconds{endpoint=\"spot\"} 0"), "{text}");
    }
}
