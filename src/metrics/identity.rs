//! Who and where: the two info metrics.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Who and where: the labels of `spotwarden_node_info`, the one place for names that belong on no other series, and what
/// only a resource says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeInfo {
    /// Name of the Node.
    pub node: String,
    /// EC2 instance id, e.g. `i-0123456789abcdef0`.
    pub instance_id: String,
    /// EC2 instance type, e.g. `m7g.large`.
    pub instance_type: String,
    /// Availability zone, e.g. `eu-central-1a`.
    pub zone: String,
    /// Region, e.g. `eu-central-1`.
    pub region: String,
    /// `spot` or `on-demand`.
    pub lifecycle: String,
    /// The Node's UID; no label.
    pub node_uid: String,
    /// The account, twelve digits; no label.
    pub account_id: String,
    /// E.g. `ami-0123456789abcdef0`; no label.
    pub image_id: String,
    /// In EC2's words, `x86_64` or `arm64`; no label.
    pub architecture: String,
}

impl EncodeLabelSet for NodeInfo {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
        let labels = [
            ("node", self.node.as_str()),
            ("instance_id", self.instance_id.as_str()),
            ("instance_type", self.instance_type.as_str()),
            ("zone", self.zone.as_str()),
            ("region", self.region.as_str()),
            ("lifecycle", self.lifecycle.as_str()),
        ];
        EncodeLabelSet::encode(&labels, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
}

/// The holder of the node's identity; what is not known is not shown.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    node: Arc<Mutex<Option<NodeInfo>>>,
}

impl Identity {
    /// Registers both info metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let build = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            // Set by the release build; a local build does not know its commit for sure.
            revision: option_env!("SPOTWARDEN_REVISION").unwrap_or("unknown"),
        };
        registry.register("build", "The running version", Info::new(build));
        let identity = Self::default();
        registry.register_collector(Box::new(identity.clone()));
        identity
    }

    /// Replaces the node's identity.
    pub fn set_node(&self, info: NodeInfo) {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
    }
}

impl Collector for Identity {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(node) = self.node.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return Ok(()) };
        encoder
            .encode_descriptor("node", "The node and the instance that the agent looks after.", None, MetricType::Info)?
            .encode_info(&node)
    }
}
