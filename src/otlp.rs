//! Telemetry to a collector: OTLP over HTTP, in protobuf.
//!
//! ```text
//!  registry ──► metrics ─┐
//!                        ├─► exporter ──HTTP──► collector
//!  spans ─────► traces ──┘
//! ```
//!
//! [`names`] and [`schedule`] decide and touch nothing; [`metrics`] turns the registry that `/metrics` shows into messages,
//! so that there is one definition of each metric. A collector that is down, slow or hostile costs a bounded piece of
//! memory and no time of anybody else: one request of a signal is under way at a time, what waits is a note that
//! something is to be sent, or a queue that drops, and answers are read up to a limit.

pub mod exporter;
mod headers;
pub mod metrics;
pub mod names;
pub mod pusher;
pub mod resource;
pub mod schedule;
pub mod traces;

use tokio::sync::watch;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpSignal {
    /// Metrics.
    Metrics,
    /// Traces.
    Traces,
}

impl OtlpSignal {
    /// The word in metrics and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }
}

/// Why an export failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A file for headers or TLS cannot be used; nothing was sent.
    Configuration,
    /// No connection, or it broke off.
    Connection,
    /// One side does not accept the other's certificate, or there is no TLS there.
    Tls,
    /// No answer in time.
    Timeout,
    /// The collector is busy or not ready: 429, 502, 503 or 504.
    Busy,
    /// Any other answer but success.
    Refused,
    /// The collector took the request and dropped a part of it.
    Partial,
    /// There was no room to keep it until the collector takes it.
    Dropped,
}

impl Failure {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Configuration,
        Self::Connection,
        Self::Tls,
        Self::Timeout,
        Self::Busy,
        Self::Refused,
        Self::Partial,
        Self::Dropped,
    ];

    /// The word in metrics and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Partial => "partial",
            Self::Dropped => "dropped",
        }
    }
}

/// Resolves when the agent is stopping.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // Whoever could say so is gone, which is as good.
    _ = closing.wait_for(|closing| *closing).await;
}

#[cfg(test)]
pub(crate) mod tests;
