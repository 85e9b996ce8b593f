//! The settings of the VPC CNI, from the spec of its pod on the own node.
//!
//! Whether a pod is the one is known only after it was read, so that the few variables that matter are kept of each pod's
//! containers until then, and no others.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::RawMeta;
use crate::cni::settings::{Environment, VARIABLES};
use crate::imds::documents::network::Block;

/// Where the pod is, how it is labelled, and which of its containers has the settings.
const NAMESPACE: &str = "kube-system";
const LABEL: (&str, &str) = ("k8s-app", "aws-node");
const CONTAINER: &str = "aws-node";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawContainer {
    name: String,
    env: Variables,
    resources: RawResources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawResources {
    requests: RawRequests,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawRequests {
    #[serde(rename = "vpc.amazonaws.com/pod-eni")]
    branches: Option<String>,
}

/// Put on a pod with security groups of its own by the controller of their interfaces: a list of them.
pub(super) const BRANCH_ANNOTATION: &str = "vpc.amazonaws.com/pod-eni";

#[derive(Deserialize)]
struct RawBranch {
    #[serde(rename = "subnetCidr", default)]
    subnet: String,
}

/// Interfaces of its own that a pod asks for.
pub(super) fn branches(containers: &[RawContainer]) -> i64 {
    let asked =
        containers.iter().filter_map(|container| container.resources.requests.branches.as_deref()?.parse().ok());
    asked.fold(0, i64::saturating_add)
}

/// The block of the subnet that the first of them is in.
pub(super) fn branch_subnet(annotation: &str) -> Option<Block> {
    let branches: Vec<RawBranch> = serde_json::from_str(annotation).ok()?;
    branches.first()?.subnet.parse().ok()
}

/// Variables that matter, with their values where the spec holds them.
#[derive(Clone, Debug, Default)]
struct Variables(Environment);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVariable {
    #[serde(default)]
    name: String,
    value: Option<String>,
    value_from: Option<serde::de::IgnoredAny>,
}

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Keeper)
    }
}

struct Keeper;

impl<'de> Visitor<'de> for Keeper {
    type Value = Variables;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of variables")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Variables, A::Error> {
        let mut kept = Environment::new();
        while let Some(variable) = list.next_element::<RawVariable>()? {
            if VARIABLES.contains(&variable.name.as_str()) {
                // Neither a value nor another origin: the variable is set and empty.
                let value = variable.value_from.is_none().then(|| variable.value.unwrap_or_default());
                kept.insert(variable.name, value);
            }
        }
        Ok(Variables(kept))
    }
}

/// The settings, if the pod is the VPC CNI's.
pub(super) fn environment(metadata: &RawMeta, containers: Vec<RawContainer>) -> Option<Arc<Environment>> {
    let (key, value) = LABEL;
    let labelled = metadata.labels.as_ref().and_then(|labels| labels.get(key)).is_some_and(|label| label == value);
    if !labelled || metadata.namespace != NAMESPACE {
        return None;
    }
    let container = containers.into_iter().find(|container| container.name == CONTAINER)?;
    Some(Arc::new(container.env.0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::WirePod;
    use super::*;

    fn pod(namespace: &str, label: &str) -> Value {
        json!({
            "metadata": {"name": "aws-node-x", "namespace": namespace, "labels": {"k8s-app": label}},
            "spec": {"hostNetwork": true, "containers": [
                {"name": "aws-eks-nodeagent", "env": [{"name": "WARM_IP_TARGET", "value": "9"}]},
                {"name": "aws-node", "env": [
                    {"name": "WARM_IP_TARGET", "value": "2"},
                    {"name": "MINIMUM_IP_TARGET", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                    {"name": "WARM_ENI_TARGET"},
                    {"name": "SECRET", "value": "x"},
                ]},
            ]},
        })
    }

    fn read(pod: Value) -> Option<Arc<Environment>> {
        serde_json::from_value::<WirePod>(pod).unwrap().view.network.aws_node
    }

    #[test]
    fn the_settings_are_read_from_the_right_container_and_no_other_variable_is_kept() {
        let expected = [
            ("MINIMUM_IP_TARGET".to_owned(), None),
            ("WARM_ENI_TARGET".to_owned(), Some(String::new())),
            ("WARM_IP_TARGET".to_owned(), Some("2".to_owned())),
        ];
        assert_eq!(read(pod("kube-system", "aws-node")).as_deref(), Some(&Environment::from(expected)));
    }

    #[test]
    fn other_pods_have_no_settings_whatever_their_containers_are_called() {
        assert_eq!(read(pod("kube-system", "web")), None);
        assert_eq!(read(pod("default", "aws-node")), None);
    }

    #[test]
    fn an_interface_of_a_pods_own_is_seen_by_its_request_and_its_annotation() {
        let pod = json!({
            "metadata": {"annotations": {"vpc.amazonaws.com/pod-eni": r#"[{"eniId":"eni-1","subnetCidr":"10.8.3.0/24"}]"#}},
            "spec": {"containers": [
                {"name": "a", "resources": {"requests": {"vpc.amazonaws.com/pod-eni": "1", "cpu": "1"}}},
                {"name": "b"},
            ]},
        });
        let network = serde_json::from_value::<WirePod>(pod).unwrap().view.network;
        assert_eq!((network.branches, network.branch_subnet), (1, "10.8.3.0/24".parse().ok()));
        for odd in ["", "{}", "[]", "[{}]", "[{\"subnetCidr\":7}]"] {
            assert_eq!(branch_subnet(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_pods_place_in_the_network_is_read() {
        let network = |pod: Value| serde_json::from_value::<WirePod>(pod).unwrap().view.network;
        let status = json!({"podIP": "10.0.0.9"});
        let own = network(json!({"status": status}));
        assert!(own.addressed && !own.host);
        let host = network(json!({"spec": {"hostNetwork": true}, "status": status}));
        assert!(!host.addressed && host.host);
        assert!(!network(json!({})).addressed);
    }
}
