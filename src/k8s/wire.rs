//! What is read of Nodes and Pods, and nothing else.
//!
//! A decoded Pod list is the largest thing this process ever holds. Reading it straight into the views keeps out container
//! specs, volumes and managed fields, but for a few variables of one pod. Every field is optional: one object with a gap must not stop the others.

mod aws_node;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::node::NodeView;
use super::reduced::resource_like;
use crate::drain::pod::{DEFAULT_GRACE, Deletion, FORCED_REASON, PodNetwork, PodRef, PodView};
use crate::drain::wish::{ENABLE_DAEMON_SET_EVICTION, Wish};
use aws_node::RawContainer;

/// Names of the priority classes whose pods are drained last; by name, as kubelet and Karpenter do.
const CRITICAL: [&str; 2] = ["system-cluster-critical", "system-node-critical"];
/// Marks the API object of a static pod (well-known annotation of the kubelet).
const MIRROR: &str = "kubernetes.io/config.mirror";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Vec<RawOwner>,
    deletion_timestamp: Option<Timestamp>,
    deletion_grace_period_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawOwner {
    api_version: String,
    kind: String,
    controller: bool,
}

impl RawMeta {
    fn object_meta(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            uid: Some(self.uid.clone()),
            resource_version: self.resource_version.clone(),
            ..ObjectMeta::default()
        }
    }

    fn owned_by(&self, api_version: &str, kind: &str) -> bool {
        self.owner_references
            .iter()
            .any(|owner| owner.api_version == api_version && owner.kind == kind && (owner.controller || kind == "Node"))
    }

    /// A deletion that does not tell its grace is taken for one with the pod's `own`.
    fn deletion(&self, own: Duration) -> Option<Deletion> {
        let told = self.deletion_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        self.deletion_timestamp.map(|at| Deletion { at, grace: told.map_or(own, Duration::from_secs) })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPod {
    metadata: RawMeta,
    spec: RawPodSpec,
    status: RawPodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodSpec {
    termination_grace_period_seconds: Option<i64>,
    priority_class_name: Option<String>,
    priority: Option<i32>,
    host_network: bool,
    containers: Vec<RawContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    start_time: Option<String>,
    conditions: Vec<RawCondition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
}

impl RawCondition {
    fn is_our_mark(&self) -> bool {
        self.kind == "DisruptionTarget" && self.reason == FORCED_REASON
    }
}

/// A Pod as the watch delivers it, reduced to its view.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawPod")]
pub(crate) struct WirePod {
    metadata: ObjectMeta,
    /// What the drain needs.
    pub view: PodView,
}

impl From<RawPod> for WirePod {
    fn from(raw: RawPod) -> Self {
        let seconds = raw.spec.termination_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let annotations = raw.metadata.annotations.as_ref();
        let annotated = |key: &str| annotations.and_then(|map| map.get(key)).map(String::as_str);
        let grace = seconds.map_or(DEFAULT_GRACE, Duration::from_secs);
        let started = raw.status.start_time.as_deref().and_then(|text| text.parse().ok());
        let view = PodView {
            grace,
            finished: matches!(raw.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            daemon_set: raw.metadata.owned_by("apps/v1", "DaemonSet"),
            daemon_set_eviction: annotated(ENABLE_DAEMON_SET_EVICTION) == Some("true"),
            mirror: annotated(MIRROR).is_some() || raw.metadata.owned_by("v1", "Node"),
            critical: raw.spec.priority_class_name.as_deref().is_some_and(|name| CRITICAL.contains(&name)),
            priority: raw.spec.priority.unwrap_or_default(),
            controlled: raw.metadata.owner_references.iter().any(|owner| owner.controller),
            wish: annotations.and_then(|annotations| Wish::of(annotations, started)),
            marked: raw.status.conditions.iter().any(RawCondition::is_our_mark),
            deletion: raw.metadata.deletion(grace),
            network: PodNetwork {
                host: raw.spec.host_network,
                branches: aws_node::branches(&raw.spec.containers),
                branch_subnet: annotated(aws_node::BRANCH_ANNOTATION).and_then(aws_node::branch_subnet),
                addressed: !raw.spec.host_network && raw.status.pod_ip.is_some_and(|ip| !ip.is_empty()),
                aws_node: aws_node::environment(&raw.metadata, raw.spec.containers),
            },
            id: PodRef {
                namespace: raw.metadata.namespace.clone(),
                name: raw.metadata.name.clone(),
                uid: raw.metadata.uid.clone(),
            },
        };
        Self { metadata: raw.metadata.object_meta(), view }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawNode {
    metadata: RawMeta,
    spec: RawNodeSpec,
    status: RawNodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeSpec {
    taints: Option<Vec<serde_json::Value>>,
    unschedulable: Option<bool>,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeStatus {
    node_info: RawNodeInfo,
    allocatable: RawResources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawResources {
    /// A quantity; of pods there are whole ones.
    pods: Option<String>,
    /// Interfaces for pods with security groups of their own.
    #[serde(rename = "vpc.amazonaws.com/pod-eni")]
    branches: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawNodeInfo {
    #[serde(rename = "bootID")]
    boot_id: Option<String>,
}

/// A Node as the watch delivers it, reduced to its view.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawNode")]
pub(crate) struct WireNode {
    metadata: ObjectMeta,
    /// What the fence needs.
    pub view: NodeView,
}

impl From<RawNode> for WireNode {
    fn from(raw: RawNode) -> Self {
        let metadata = raw.metadata.object_meta();
        let view = NodeView {
            name: raw.metadata.name,
            uid: raw.metadata.uid,
            labels: raw.metadata.labels,
            annotations: raw.metadata.annotations,
            taints: raw.spec.taints,
            unschedulable: raw.spec.unschedulable,
            provider_id: raw.spec.provider_id,
            boot_id: raw.status.node_info.boot_id,
            allocatable_pods: raw.status.allocatable.pods.and_then(|pods| pods.parse().ok()),
            branch_interfaces: raw.status.allocatable.branches.and_then(|branches| branches.parse().ok()),
        };
        Self { metadata, view }
    }
}

resource_like!(WirePod, Pod);
resource_like!(WireNode, Node);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod(value: Value) -> PodView {
        serde_json::from_value::<WirePod>(value).unwrap().view
    }

    #[test]
    fn a_pod_without_any_field_is_a_pod_with_defaults() {
        let view = pod(json!({}));
        assert_eq!(view.grace, DEFAULT_GRACE);
        assert_eq!(view.skip(), None);
    }

    #[rstest]
    #[case::none(json!({}), 30)]
    #[case::null(json!({"terminationGracePeriodSeconds": null}), 30)]
    #[case::zero(json!({"terminationGracePeriodSeconds": 0}), 0)]
    #[case::negative(json!({"terminationGracePeriodSeconds": -1}), 30)]
    #[case::given(json!({"terminationGracePeriodSeconds": 90}), 90)]
    fn the_grace_is_the_pods_own_or_the_default(#[case] spec: Value, #[case] seconds: u64) {
        assert_eq!(pod(json!({ "spec": spec })).grace, Duration::from_secs(seconds));
    }

    #[rstest]
    #[case::told(json!({"deletionGracePeriodSeconds": 7}), 7)]
    #[case::last_word(json!({"deletionGracePeriodSeconds": 0}), 0)]
    #[case::not_told(json!({}), 90)]
    #[case::negative(json!({"deletionGracePeriodSeconds": -1}), 90)]
    fn a_deletion_without_a_grace_has_the_pods_own(#[case] mut metadata: Value, #[case] seconds: u64) {
        metadata["deletionTimestamp"] = json!("2026-03-31T16:34:24Z");
        let view = pod(json!({"metadata": metadata, "spec": {"terminationGracePeriodSeconds": 90}}));
        assert_eq!(view.deletion.unwrap().grace, Duration::from_secs(seconds));
    }

    #[rstest]
    #[case::daemon_set(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true}), true, false)]
    #[case::not_controlling(json!({"apiVersion": "apps/v1", "kind": "DaemonSet"}), false, false)]
    #[case::other_group(json!({"apiVersion": "x/v1", "kind": "DaemonSet", "controller": true}), false, false)]
    #[case::replica_set(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true}), false, false)]
    #[case::static_pod(json!({"apiVersion": "v1", "kind": "Node", "controller": true}), false, true)]
    fn pods_are_classified_by_their_owner_alone(#[case] owner: Value, #[case] daemon_set: bool, #[case] mirror: bool) {
        let view = pod(json!({"metadata": {"ownerReferences": [owner]}}));
        assert_eq!((view.daemon_set, view.mirror), (daemon_set, mirror));
    }

    #[test]
    fn a_mirror_pod_is_known_by_its_annotation() {
        assert!(pod(json!({"metadata": {"annotations": {MIRROR: "x"}}})).mirror);
    }

    #[test]
    fn what_a_pod_says_of_its_drain_is_read() {
        let view = pod(json!({
            "metadata": {
                "annotations": {
                    "karpenter.sh/do-not-disrupt": "4h",
                    "cluster-autoscaler.kubernetes.io/enable-ds-eviction": "true",
                },
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true}],
            },
            "spec": {"priority": -7},
            "status": {"startTime": "2026-03-31T12:00:00Z"},
        }));
        let until = Some("2026-03-31T16:00:00Z".parse().unwrap());
        assert_eq!(view.wish, Some(Wish::Stay { asked_by: "karpenter.sh/do-not-disrupt", until }));
        assert_eq!((view.priority, view.controlled, view.daemon_set, view.skip()), (-7, true, true, None));
    }

    #[test]
    fn a_start_that_cannot_be_read_does_not_hide_the_pod() {
        let view = pod(json!({
            "metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "4h"}}, "status": {"startTime": "yesterday"},
        }));
        assert_eq!(view.wish, Some(Wish::Stay { asked_by: "karpenter.sh/do-not-disrupt", until: None }));
    }

    #[rstest]
    #[case::not_a_word(json!("yes"), Some(crate::drain::pod::Skip::DaemonSet))]
    #[case::on(json!("true"), None)]
    #[case::off(json!("false"), Some(crate::drain::pod::Skip::DaemonSet))]
    fn a_daemon_sets_pod_is_drained_only_if_it_asks_for_it(
        #[case] value: Value,
        #[case] skip: Option<crate::drain::pod::Skip>,
    ) {
        let view = pod(json!({"metadata": {
            "annotations": {
                "cluster-autoscaler.kubernetes.io/enable-ds-eviction": value,
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true}],
        }}));
        assert_eq!(view.skip(), skip);
    }

    #[test]
    fn taints_are_kept_as_they_came() {
        let taints = json!([{"key": "a", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z", "new": 1}]);
        let node: WireNode = serde_json::from_value(json!({"spec": {"taints": taints}})).unwrap();
        assert_eq!(serde_json::to_value(node.view.taints).unwrap(), taints);
    }
}
