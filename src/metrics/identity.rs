//! Who and where: the two info metrics.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::identity::NodeIdentity;

/// The labels of `spotwarden_node_info`, the one place for names that belong on no other series.
struct Labels<'a>(&'a NodeIdentity);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
        let Self(node) = self;
        let labels = [
            ("node", node.node.as_str()),
            ("instance_id", node.instance_id.as_str()),
            ("instance_type", node.instance_type.as_str()),
            ("zone", node.zone.as_str()),
            ("region", node.region.as_str()),
            ("lifecycle", node.lifecycle.as_str()),
        ];
        EncodeLabelSet::encode(&labels, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
}

/// Encodes the node's identity as it is known at the scrape; before anybody has told it there is none.
#[derive(Clone, Debug)]
pub struct Identity(watch::Receiver<NodeIdentity>);

impl Identity {
    /// Registers both info metrics.
    pub fn register(registry: &mut Registry, identity: watch::Receiver<NodeIdentity>) {
        let build = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            // Set by the release build; a local build does not know its commit for sure.
            revision: option_env!("SPOTWARDEN_REVISION").unwrap_or("unknown"),
        };
        registry.register("build", "The running version", Info::new(build));
        registry.register_collector(Box::new(Self(identity)));
    }
}

impl Collector for Identity {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let node = self.0.borrow();
        if !node.is_known() {
            return Ok(());
        }
        encoder
            .encode_descriptor("node", "The node and the instance that the agent looks after.", None, MetricType::Info)?
            .encode_info(&Labels(&node))
    }
}
