//! Who and where: the node and its instance, from what the Node says of itself and from what the metadata service says.
//!
//! The Node is read first and needs no metadata service; that one is asked when it has nothing more urgent to answer, knows
//! more, and its word counts where both have one. Pure.

use crate::imds::documents::Identity;
use crate::k8s::node::NodeView;

/// Where the groups of nodes are written, the most specific first.
const GROUP_LABELS: [&str; 2] = ["eks.amazonaws.com/nodegroup", "karpenter.sh/nodepool"];

/// Where it is written how the instance is paid for, in whatever spelling.
const LIFECYCLE_LABELS: [&str; 2] = ["karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType"];

/// The node and its instance; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Name of the Node.
    pub node: String,
    /// The Node's UID.
    pub node_uid: String,
    /// Managed node group or Karpenter node pool.
    pub nodegroup: String,
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
    /// The account, twelve digits.
    pub account_id: String,
    /// E.g. `ami-0123456789abcdef0`.
    pub image_id: String,
    /// In EC2's words, `x86_64` or `arm64`.
    pub architecture: String,
    /// The metadata service has told its part: nothing more is to come.
    pub is_complete: bool,
}

impl NodeIdentity {
    /// One of which no more than its name is known.
    pub fn named(node: &str) -> Self {
        Self { node: node.to_owned(), ..Self::default() }
    }

    /// Somebody has told more of it than its name.
    pub fn is_known(&self) -> bool {
        *self != Self::named(&self.node)
    }

    /// Fills what is empty from another source.
    #[must_use]
    fn or(self, other: &Self) -> Self {
        let first = |own: String, other: &String| if own.is_empty() { other.clone() } else { own };
        Self {
            node: first(self.node, &other.node),
            node_uid: first(self.node_uid, &other.node_uid),
            nodegroup: first(self.nodegroup, &other.nodegroup),
            instance_id: first(self.instance_id, &other.instance_id),
            instance_type: first(self.instance_type, &other.instance_type),
            zone: first(self.zone, &other.zone),
            region: first(self.region, &other.region),
            lifecycle: first(self.lifecycle, &other.lifecycle),
            account_id: first(self.account_id, &other.account_id),
            image_id: first(self.image_id, &other.image_id),
            architecture: first(self.architecture, &other.architecture),
            is_complete: self.is_complete || other.is_complete,
        }
    }
}

impl From<&NodeView> for NodeIdentity {
    fn from(node: &NodeView) -> Self {
        let label = |key: &str| node.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
        let text = |key: &str| label(key).unwrap_or_default();
        // `aws:///eu-central-1a/i-0123456789abcdef0`
        let provider = node.provider_id.as_deref().and_then(|id| id.strip_prefix("aws:///")?.split_once('/'));
        let (provider_zone, provider_instance) = provider.unzip();
        Self {
            node: node.name.clone(),
            node_uid: node.uid.clone(),
            nodegroup: GROUP_LABELS.into_iter().find_map(label).unwrap_or_default(),
            instance_id: provider_instance.unwrap_or_default().to_owned(),
            instance_type: text("node.kubernetes.io/instance-type"),
            zone: label("topology.kubernetes.io/zone").or(provider_zone.map(str::to_owned)).unwrap_or_default(),
            region: text("topology.kubernetes.io/region"),
            lifecycle: LIFECYCLE_LABELS.into_iter().find_map(label).map(|word| lifecycle(&word)).unwrap_or_default(),
            account_id: String::new(),
            image_id: text("eks.amazonaws.com/nodegroup-image"),
            architecture: architecture(&text("kubernetes.io/arch")).to_owned(),
            is_complete: false,
        }
    }
}

impl From<Identity> for NodeIdentity {
    fn from(instance: Identity) -> Self {
        Self {
            node: String::new(),
            node_uid: String::new(),
            nodegroup: String::new(),
            instance_id: instance.instance_id.unwrap_or_default(),
            instance_type: instance.instance_type.unwrap_or_default(),
            zone: instance.availability_zone.unwrap_or_default(),
            region: instance.region.unwrap_or_default(),
            lifecycle: instance.life_cycle.unwrap_or_default(),
            account_id: instance.account_id.unwrap_or_default(),
            image_id: instance.image_id.unwrap_or_default(),
            architecture: instance.architecture.unwrap_or_default(),
            is_complete: true,
        }
    }
}

/// `SPOT` and `ON_DEMAND` as IMDS writes them.
fn lifecycle(word: &str) -> String {
    word.to_ascii_lowercase().replace('_', "-")
}

/// From Go's word to EC2's.
fn architecture(word: &str) -> &str {
    match word {
        "amd64" => "x86_64",
        other => other,
    }
}

/// What each source said last.
#[derive(Clone, Debug)]
pub struct Sources {
    node: NodeIdentity,
    instance: NodeIdentity,
}

impl Sources {
    /// Nobody has said anything; the node has a name.
    pub fn new(node: &str) -> Self {
        Self { node: NodeIdentity::named(node), instance: NodeIdentity::default() }
    }

    /// The Node as it is now: what it does not say any more does not count any more.
    pub fn node(&mut self, node: &NodeView) -> NodeIdentity {
        self.node = node.into();
        self.identity()
    }

    /// What the metadata service says.
    pub fn instance(&mut self, instance: Identity) -> NodeIdentity {
        self.instance = instance.into();
        self.identity()
    }

    fn identity(&self) -> NodeIdentity {
        self.instance.clone().or(&self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)], provider_id: &str) -> NodeView {
        NodeView {
            name: "ip-10-0-0-1".into(),
            uid: "a-uid".into(),
            labels: Some(labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()),
            annotations: None,
            taints: None,
            unschedulable: None,
            boot_id: None,
            allocatable_pods: None,
            branch_interfaces: None,
            provider_id: Some(provider_id.into()),
        }
    }

    fn on_eks() -> NodeView {
        let labels = [
            ("node.kubernetes.io/instance-type", "m7g.large"),
            ("topology.kubernetes.io/region", "eu-central-1"),
            ("karpenter.sh/nodepool", "spot"),
            ("eks.amazonaws.com/capacityType", "ON_DEMAND"),
            ("eks.amazonaws.com/nodegroup-image", "ami-0abc"),
            ("kubernetes.io/arch", "amd64"),
        ];
        node(&labels, "aws:///eu-central-1a/i-0abc")
    }

    fn of_node() -> NodeIdentity {
        NodeIdentity {
            node: "ip-10-0-0-1".into(),
            node_uid: "a-uid".into(),
            nodegroup: "spot".into(),
            instance_id: "i-0abc".into(),
            instance_type: "m7g.large".into(),
            zone: "eu-central-1a".into(),
            region: "eu-central-1".into(),
            lifecycle: "on-demand".into(),
            account_id: String::new(),
            image_id: "ami-0abc".into(),
            architecture: "x86_64".into(),
            is_complete: false,
        }
    }

    #[test]
    fn a_node_tells_who_and_where_it_is() {
        assert_eq!(NodeIdentity::from(&on_eks()), of_node());
        let elsewhere = NodeIdentity::from(&node(&[], "kind://docker/kind/kind-worker"));
        assert_eq!((elsewhere.instance_id.as_str(), elsewhere.zone.as_str()), ("", ""));
        assert!(elsewhere.is_known() && !NodeIdentity::named("n").is_known());
    }

    #[test]
    fn the_metadata_service_wins_field_by_field_and_the_node_fills_the_gaps() {
        let mut sources = Sources::new("ip-10-0-0-1");
        let instance = Identity {
            instance_type: Some("m7g.xlarge".into()),
            life_cycle: Some("spot".into()),
            account_id: Some("123456789012".into()),
            ..Identity::default()
        };
        assert_eq!(sources.node(&on_eks()), of_node());
        let both = NodeIdentity {
            instance_type: "m7g.xlarge".into(),
            lifecycle: "spot".into(),
            account_id: "123456789012".into(),
            is_complete: true,
            ..of_node()
        };
        assert_eq!(sources.instance(instance.clone()), both);

        let mut other_order = Sources::new("ip-10-0-0-1");
        assert_eq!(other_order.instance(instance).node, "ip-10-0-0-1");
        assert_eq!(other_order.node(&on_eks()), both);
    }

    #[test]
    fn what_the_node_does_not_say_any_more_is_forgotten_and_what_the_instance_said_stays() {
        let mut sources = Sources::new("ip-10-0-0-1");
        sources.instance(Identity { region: Some("eu-west-1".into()), ..Identity::default() });
        sources.node(&on_eks());
        let bare = sources.node(&node(&[("eks.amazonaws.com/nodegroup", "spot-b")], ""));
        let told = [&bare.nodegroup, &bare.instance_type, &bare.region].map(String::as_str);
        assert_eq!(told, ["spot-b", "", "eu-west-1"]);
    }
}
