//! What the agent counts and measures, and how it is written down for a scraper.
//!
//! One [`Metrics`] per agent, with its own registry, so that several agents in one process do not mix. Each area has one
//! file with one struct; its `register` takes the struct apart, so that a field which was never registered does not
//! compile. States (what is coming, what is left of a drain) are not kept here: they are read from the agent's
//! [`Status`] at the moment of the scrape.
//!
//! Every label comes from a closed set, every counter whose label values are few is there from the start with 0, and an
//! idle agent shows at most 100 series. What makes no sense before something happened is not shown before.

pub mod api;
pub mod classic;
pub mod cni;
pub mod drain;
pub mod identity;
pub mod imds;
pub mod interruption;
pub mod negotiate;
pub mod notify;
pub mod occasional;
pub mod otlp;
pub mod process;
pub mod state;

use std::sync::Arc;

use prometheus_client::encoding::prometheus_protobuf::{self, prometheus_data_model};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::cni::model::Headroom;
use crate::config::otlp::OtlpConfig;
use crate::drain::eviction::EvictionAnswer;
use crate::identity::NodeIdentity;
use crate::interruption::record::{Record, Status};
use crate::otlp::OtlpSignal;
pub use api::ApiMetrics;
use drain::DrainMetrics;
use identity::Identity;
use interruption::InterruptionMetrics;
use negotiate::Format;
use otlp::OtlpMetrics;

/// The prefix of every metric but `process_*`.
pub const PREFIX: &str = "spotwarden";

/// All metrics of one agent, with their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Polls of the instance metadata service.
    pub imds: imds::ImdsMetrics,
    /// Calls to the API server.
    pub api: ApiMetrics,
    /// Reading the VPC CNI.
    pub cni: cni::CniMetrics,
    /// Messages to people outside of the cluster.
    pub notify: notify::NotifyMetrics,
    interruption: InterruptionMetrics,
    drain: DrainMetrics,
}

impl Metrics {
    /// Registers everything. Gauges of state are read from `status`, those of addresses from `headroom`, and who this is from
    /// `identity`, at each scrape.
    pub fn new(
        status: watch::Receiver<Status>,
        headroom: watch::Receiver<Option<Arc<Headroom>>>,
        identity: watch::Receiver<NodeIdentity>,
    ) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::ProcessCollector::new()));
        let own = registry.sub_registry_with_prefix(PREFIX);
        Identity::register(own, identity);
        let interruption = InterruptionMetrics::register(own);
        own.register_collector(Box::new(state::StateCollector::new(status)));
        let drain = DrainMetrics::register(own);
        let imds = imds::ImdsMetrics::register(own);
        let api = ApiMetrics::register(own);
        let cni = cni::CniMetrics::register(own);
        own.register_collector(Box::new(cni::HeadroomCollector::new(headroom)));
        let notify = notify::NotifyMetrics::register(own);
        Self { registry, imds, api, cni, notify, interruption, drain }
    }

    /// Registers the counters of what is pushed to a collector.
    pub fn count_exports(&mut self, config: &OtlpConfig) -> OtlpMetrics {
        let signals = [(OtlpSignal::Metrics, &config.metrics), (OtlpSignal::Traces, &config.traces)];
        let signals = signals.into_iter().filter(|(_, target)| target.is_some()).map(|(signal, _)| signal);
        OtlpMetrics::register(self.registry.sub_registry_with_prefix(PREFIX), signals)
    }

    /// Counts one thing that the machine reported.
    pub fn record(&self, record: &Record) {
        self.interruption.record(record);
        self.drain.record(record);
    }

    /// Counts the answer to one eviction request.
    pub fn eviction(&self, answer: &EvictionAnswer) {
        self.drain.eviction(answer.result());
    }

    /// The exposition in the format that an `Accept` header asks for: its content type and its body.
    pub fn text(&self, accept: Option<&str>) -> (&'static str, String) {
        let openmetrics = self.openmetrics();
        let (format, content_type) = negotiate::format(accept);
        match format {
            Format::OpenMetrics => (content_type, openmetrics),
            Format::Classic => (content_type, classic::from_openmetrics(&openmetrics)),
        }
    }

    /// The same in structured form, named as the samples of the text.
    pub fn families(&self) -> Vec<prometheus_data_model::MetricFamily> {
        match prometheus_protobuf::encode(&self.registry) {
            Ok(families) => families,
            Err(error) => {
                // As below: none of our encoders reports one.
                tracing::error!(%error, "metrics could not be encoded");
                Vec::new()
            }
        }
    }

    fn openmetrics(&self) -> String {
        let mut body = String::with_capacity(16 * 1024);
        // Writing to a string fails only if an encoder reports an error, and none of ours does. What was written before
        // it would be refused by a scraper for the missing end mark, which is the right reading of a broken body.
        if let Err(error) = encode(&mut body, &self.registry) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        body
    }
}

/// Writes one gauge of a collector.
fn gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Result<(), std::fmt::Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

#[cfg(test)]
pub(crate) mod tests;
