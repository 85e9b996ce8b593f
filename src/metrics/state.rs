//! Gauges of the agent's state, read from its [`Status`] at the moment of the scrape: they cannot lag behind it.
//!
//! What is not known has no sample: a deadline of 0 would be a deadline in 1970.

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use super::gauge;
use crate::drain::forecast::{Forecast, Verdict};
use crate::interruption::record::Status;
use crate::signal::Kind;

/// Encodes the state of one agent.
#[derive(Debug)]
pub struct StateCollector {
    status: watch::Receiver<Status>,
}

impl StateCollector {
    /// Reads from `status` at each scrape.
    pub fn new(status: watch::Receiver<Status>) -> Self {
        Self { status }
    }
}

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let status = self.status.borrow();
        pending(&mut encoder, &status)?;
        if let Some(deadline) = status.deadline {
            gauge(
                &mut encoder,
                "interruption_deadline_timestamp",
                "When the instance may lose power; absent when nothing is coming or no time is known.",
                Some(&Unit::Seconds),
                unix_seconds(deadline.wall),
            )?;
        }
        gauge(
            &mut encoder,
            "fenced",
            "1 from the API server's acknowledgement of the fence to its removal.",
            None,
            u8::from(status.fenced).into(),
        )?;
        gauge(
            &mut encoder,
            "drain_waiting_pods",
            "Pods that the drain still waits for.",
            None,
            status.pods.iter().filter(|pod| pod.outcome.is_none()).count() as f64,
        )?;
        if let Some(found) = status.forecast.as_deref() {
            forecast(&mut encoder, found)?;
        }
        if let Some(slack) = status.slack_seconds.filter(|_| status.drained) {
            gauge(
                &mut encoder,
                "drain_slack",
                "Time left when the last pod was gone, negative when that was too late; absent until a drain ended.",
                Some(&Unit::Seconds),
                slack,
            )?;
        }
        Ok(())
    }
}

fn pending(encoder: &mut DescriptorEncoder, status: &Status) -> Result<(), std::fmt::Error> {
    let help = "1 from the notice to the end of what it announced.";
    let mut family = encoder.encode_descriptor("interruption_pending", help, None, MetricType::Gauge)?;
    for kind in Kind::ALL {
        let coming = status.pending.iter().any(|pending| pending.kind == kind);
        let value = ConstGauge::new(i64::from(coming));
        value.encode(family.encode_family(&[("kind", kind.as_str())])?)?;
    }
    Ok(())
}

fn forecast(encoder: &mut DescriptorEncoder, forecast: &Forecast) -> Result<(), std::fmt::Error> {
    let help = "Pods of this node by what a notice that arrived now would mean for them; absent until they were read.";
    let mut family = encoder.encode_descriptor("drain_forecast_pods", help, None, MetricType::Gauge)?;
    for (verdict, count) in Verdict::ALL.into_iter().zip(forecast.counts()) {
        let value = ConstGauge::new(i64::from(count));
        value.encode(family.encode_family(&[("verdict", verdict.as_str())])?)?;
    }
    if let Some(slack) = forecast.least_slack_seconds {
        gauge(
            encoder,
            "drain_forecast_slack",
            "Time that the tightest pod would have to spare, negative when its grace would be cut; absent without pods.",
            Some(&Unit::Seconds),
            slack,
        )?;
    }
    Ok(())
}

/// Seconds since the epoch, to the millisecond: what a platform or a dashboard can tell apart.
fn unix_seconds(wall: Timestamp) -> f64 {
    wall.as_millisecond() as f64 / 1000.0
}
