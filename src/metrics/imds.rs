//! Metrics of the instance metadata service's client.

use prometheus_client::registry::Registry;

/// Placeholder.
#[derive(Clone, Debug, Default)]
pub struct ImdsMetrics {}

impl ImdsMetrics {
    /// Registers everything.
    pub fn register(_registry: &mut Registry) -> Self {
        Self {}
    }
}
