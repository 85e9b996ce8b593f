//! The agent's metrics.

pub mod imds;

/// All metrics of one agent, with their registry.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Self {
        Self::default()
    }
}
