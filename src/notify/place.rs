//! Which node a message is about, in the words that people look for.

use std::collections::BTreeMap;

use crate::k8s::node::NodeView;

/// Where the groups of nodes are written, the most specific first.
const GROUP_LABELS: [&str; 2] = ["eks.amazonaws.com/nodegroup", "karpenter.sh/nodepool"];

/// The node and its instance; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the Node.
    pub node: String,
    /// EC2 instance id.
    pub instance_id: String,
    /// EC2 instance type.
    pub instance_type: String,
    /// Availability zone.
    pub zone: String,
    /// Region.
    pub region: String,
    /// Managed node group or Karpenter node pool.
    pub nodegroup: String,
}

impl Place {
    /// What the Node itself says: enough while the metadata service has more urgent things to answer.
    pub fn of(node: &NodeView) -> Self {
        let labels = node.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels: &BTreeMap<String, String>| labels.get(key)).cloned();
        // `aws:///eu-central-1a/i-0123456789abcdef0`
        let provider = node.provider_id.as_deref().and_then(|id| id.strip_prefix("aws:///")?.split_once('/'));
        let (provider_zone, provider_instance) = provider.unzip();
        Self {
            node: node.name.clone(),
            instance_id: provider_instance.unwrap_or_default().to_owned(),
            instance_type: label("node.kubernetes.io/instance-type").unwrap_or_default(),
            zone: label("topology.kubernetes.io/zone").or(provider_zone.map(str::to_owned)).unwrap_or_default(),
            region: label("topology.kubernetes.io/region").unwrap_or_default(),
            nodegroup: GROUP_LABELS.into_iter().find_map(label).unwrap_or_default(),
        }
    }

    /// Takes over what is newer; whether that changes anything.
    pub fn learn(&mut self, newer: Self) -> bool {
        let changes = *self != newer;
        *self = newer;
        changes
    }

    /// Fills what is empty from another source.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let first = |own: String, other: &String| if own.is_empty() { other.clone() } else { own };
        Self {
            node: first(self.node, &other.node),
            instance_id: first(self.instance_id, &other.instance_id),
            instance_type: first(self.instance_type, &other.instance_type),
            zone: first(self.zone, &other.zone),
            region: first(self.region, &other.region),
            nodegroup: first(self.nodegroup, &other.nodegroup),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_where_it_is() {
        let labels = [
            ("node.kubernetes.io/instance-type", "m7g.large"),
            ("topology.kubernetes.io/region", "eu-central-1"),
            ("karpenter.sh/nodepool", "spot"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut node = NodeView {
            name: "ip-10-0-0-1".into(),
            uid: String::new(),
            labels: Some(labels.into()),
            annotations: None,
            taints: None,
            unschedulable: None,
            boot_id: None,
            allocatable_pods: None,
            branch_interfaces: None,
            provider_id: Some("aws:///eu-central-1a/i-0abc".into()),
        };
        let place = Place::of(&node);
        let expected = Place {
            node: node.name.clone(),
            instance_id: "i-0abc".into(),
            instance_type: "m7g.large".into(),
            zone: "eu-central-1a".into(),
            region: "eu-central-1".into(),
            nodegroup: "spot".into(),
        };
        assert_eq!(place, expected);
        node.provider_id = Some("kind://docker/kind/kind-worker".into());
        assert_eq!(Place::of(&node).instance_id, "");
        assert_eq!(Place::of(&node).or(&expected).instance_id, "i-0abc");
    }
}
