//! The agent: inputs → machine → effects. The file to read first.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::readiness::Readiness;
use crate::clock::Clock;
use crate::config::Config;
use crate::interruption::record::Status;
use crate::metrics::Metrics;

/// One agent for one node: a value with its own registry, clients and clock, so that many can run in one process.
pub struct Agent {
    config: Config,
    kube: kube::Client,
    clock: Clock,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    status: watch::Sender<Status>,
}

impl Agent {
    /// Puts an agent together. Nothing is read or sent before [`Agent::run`].
    pub fn new(config: Config, kube: kube::Client, clock: Clock) -> Self {
        let status = watch::Sender::new(Status::default());
        let metrics = Arc::new(Metrics::new(status.subscribe()));
        Self { config, kube, clock, metrics, readiness: Arc::default(), status }
    }

    /// The agent's own registry.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// What the agent still misses before it could answer a notice.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.readiness.clone()
    }

    /// The agent's state, updated after every input.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Runs until `shutdown` resolves. The node's state is left as it is; it is recorded on the node.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let _ = (&self.config, &self.kube, &self.clock);
        shutdown.await;
    }
}
