//! Kubernetes objects of a realistic size for simulated worlds: pods, nodes, disruption budgets.
//!
//! Size matters: an agent's memory while it drains is made of the pods that it lists.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerImage, EmptyDirVolumeSource, EnvVar, EnvVarSource, Node, NodeAddress, NodeCondition,
    NodeSpec as NodeSpecObject, NodeStatus, NodeSystemInfo, ObjectFieldSelector, Pod, PodSpec as PodSpecObject,
    ResourceRequirements, Taint, Toleration, Volume, VolumeMount,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    FieldsV1, LabelSelector, ManagedFieldsEntry, ObjectMeta, OwnerReference, Time,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::kubelet::STOPS_AFTER;

/// What controls a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Owner {
    /// `apps/v1` ReplicaSet.
    #[default]
    ReplicaSet,
    /// `apps/v1` DaemonSet; the pod tolerates everything, as its controller makes it.
    DaemonSet,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `batch/v1` Job; the pod is not restarted.
    Job,
    /// Nothing.
    None,
    /// A file on the node: the API object is the mirror of a static pod.
    Mirror,
}

/// A pod to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSpec {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `spec.nodeName`; absent leaves it to a scheduler.
    pub node: Option<String>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: u32,
    /// How long the process takes to stop; see [`STOPS_AFTER`].
    pub stops_after: Option<String>,
    /// What controls it.
    pub owner: Owner,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`, besides those that other fields make.
    pub annotations: BTreeMap<String, String>,
    /// `spec.priorityClassName`.
    pub priority_class: Option<String>,
    /// `spec.priority` of a class that not every cluster has.
    pub priority: Option<i32>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Number of containers; at least one is made.
    pub containers: usize,
    /// Adds the bookkeeping of server-side apply, about a third of a real pod's size. For servers that do not keep it
    /// themselves.
    pub managed_fields: bool,
}

impl PodSpec {
    /// A pod of a ReplicaSet with the API's default grace.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            node: None,
            grace: 30,
            stops_after: None,
            owner: Owner::default(),
            labels: BTreeMap::from([("app".into(), workload(name).into())]),
            annotations: BTreeMap::new(),
            priority_class: None,
            priority: None,
            host_network: false,
            containers: 2,
            managed_fields: false,
        }
    }

    /// Binds it to a node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Sets its own grace in seconds.
    #[must_use]
    pub fn grace(mut self, seconds: u32) -> Self {
        self.grace = seconds;
        self
    }

    /// Sets how long its process takes to stop: seconds, `never`, or `NN%` of its grace.
    #[must_use]
    pub fn stops_after(mut self, text: &str) -> Self {
        self.stops_after = Some(text.into());
        self
    }

    /// Sets what controls it.
    #[must_use]
    pub fn owned_by(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets its priority class.
    #[must_use]
    pub fn priority_class(mut self, name: &str) -> Self {
        self.priority_class = Some(name.into());
        self
    }

    /// The object as a controller would create it: without UID and status, which are the server's and the kubelet's.
    pub fn build(&self) -> Pod {
        Pod { metadata: self.metadata(), spec: Some(self.spec()), status: None }
    }

    fn metadata(&self) -> ObjectMeta {
        let mut annotations = self.annotations.clone();
        if let Some(text) = &self.stops_after {
            annotations.insert(STOPS_AFTER.into(), text.clone());
        }
        if self.owner == Owner::Mirror {
            for key in ["kubernetes.io/config.mirror", "kubernetes.io/config.hash"] {
                annotations.insert(key.into(), stable_uid(&self.name).replace('-', ""));
            }
            annotations.insert("kubernetes.io/config.source".into(), "file".into());
        }
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels.clone()),
            annotations: Some(annotations),
            owner_references: self.owner_reference().map(|owner| vec![owner]),
            managed_fields: self.managed_fields.then(|| vec![managed_fields()]),
            ..ObjectMeta::default()
        }
    }

    fn owner_reference(&self) -> Option<OwnerReference> {
        let (version, kind, name) = match self.owner {
            Owner::ReplicaSet => ("apps/v1", "ReplicaSet", workload(&self.name)),
            Owner::DaemonSet => ("apps/v1", "DaemonSet", workload(&self.name)),
            Owner::StatefulSet => ("apps/v1", "StatefulSet", workload(&self.name)),
            Owner::Job => ("batch/v1", "Job", workload(&self.name)),
            Owner::Mirror => ("v1", "Node", self.node.as_deref()?),
            Owner::None => return None,
        };
        Some(OwnerReference {
            api_version: version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: stable_uid(&format!("{kind}/{}/{name}", self.namespace)),
            controller: Some(true),
            block_owner_deletion: Some(self.owner != Owner::Mirror),
        })
    }

    fn spec(&self) -> PodSpecObject {
        let everything = Toleration { operator: Some("Exists".into()), ..Toleration::default() };
        PodSpecObject {
            node_name: self.node.clone(),
            containers: (0..self.containers.max(1)).map(|number| container(workload(&self.name), number)).collect(),
            volumes: Some(vec![
                Volume { name: "tmp".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
                Volume { name: "cache".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
            ]),
            termination_grace_period_seconds: Some(self.grace.into()),
            host_network: self.host_network.then_some(true),
            restart_policy: Some(if self.owner == Owner::Job { "Never" } else { "Always" }.into()),
            dns_policy: Some("ClusterFirst".into()),
            priority_class_name: self.priority_class.clone(),
            priority: self.priority.or_else(|| self.priority_class.as_deref().and_then(system_priority)),
            tolerations: matches!(self.owner, Owner::DaemonSet | Owner::Mirror).then(|| vec![everything]),
            automount_service_account_token: Some(false),
            ..PodSpecObject::default()
        }
    }
}

/// Address of every simulated node.
pub(super) const NODE_IP: &str = "10.0.0.10";

/// A node to be made.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NodeSpec {
    /// `metadata.name`.
    pub name: String,
    /// Labels, besides those that every node on EC2 has.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// EC2 instance id; makes the provider id.
    pub instance_id: String,
    /// EC2 instance type.
    pub instance_type: String,
    /// Availability zone.
    pub zone: String,
    /// Counts boots; makes `status.nodeInfo.bootID`.
    pub boot: u32,
    /// `status.allocatable.pods`.
    pub max_pods: u32,
    /// Number of images that the node reports; the kubelet sends at most 50.
    pub images: usize,
}

impl NodeSpec {
    /// A spot node with 50 images.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            instance_id: "i-0123456789abcdef0".into(),
            instance_type: "m5.large".into(),
            zone: "eu-west-1a".into(),
            boot: 1,
            max_pods: 110,
            images: 50,
            ..Self::default()
        }
    }

    /// The boot id of its `boot`th boot.
    pub fn boot_id(&self) -> String {
        stable_uid(&format!("{}/boot/{}", self.name, self.boot))
    }

    /// The object as a kubelet registers it.
    pub fn build(&self, now: Timestamp) -> Node {
        Node { metadata: self.metadata(), spec: Some(self.spec()), status: Some(self.status(now)) }
    }

    fn metadata(&self) -> ObjectMeta {
        let region = self.zone.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
        let own = [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
            ("node.kubernetes.io/instance-type", &self.instance_type),
            ("topology.kubernetes.io/zone", &self.zone),
            ("topology.kubernetes.io/region", region),
            ("eks.amazonaws.com/capacityType", "SPOT"),
            ("eks.amazonaws.com/nodegroup", "spot"),
        ];
        let mut labels: BTreeMap<String, String> = own.map(|(key, value)| (key.into(), value.into())).into();
        labels.extend(self.labels.clone());
        let annotations = [
            ("alpha.kubernetes.io/provided-node-ip", NODE_IP),
            ("node.alpha.kubernetes.io/ttl", "0"),
            ("volumes.kubernetes.io/controller-managed-attach-detach", "true"),
        ];
        ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(labels),
            annotations: Some(annotations.map(|(key, value)| (key.into(), value.into())).into()),
            ..ObjectMeta::default()
        }
    }

    fn spec(&self) -> NodeSpecObject {
        NodeSpecObject {
            provider_id: Some(format!("aws:///{}/{}", self.zone, self.instance_id)),
            taints: (!self.taints.is_empty()).then(|| self.taints.clone()),
            unschedulable: self.unschedulable.then_some(true),
            ..NodeSpecObject::default()
        }
    }

    fn status(&self, now: Timestamp) -> NodeStatus {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let condition = |kind: &str, status: &str, reason: &str, message: &str| NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        };
        let pods = self.max_pods.to_string();
        let resources =
            quantities(&[("cpu", "2"), ("memory", "7910184Ki"), ("pods", &pods), ("ephemeral-storage", "80Gi")]);
        NodeStatus {
            capacity: Some(resources.clone()),
            allocatable: Some(resources),
            addresses: Some(vec![
                NodeAddress { type_: "InternalIP".into(), address: NODE_IP.into() },
                NodeAddress { type_: "Hostname".into(), address: self.name.clone() },
                NodeAddress { type_: "InternalDNS".into(), address: self.name.clone() },
            ]),
            conditions: Some(vec![
                condition(
                    "MemoryPressure",
                    "False",
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                ),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ]),
            node_info: Some(NodeSystemInfo {
                architecture: "amd64".into(),
                boot_id: self.boot_id(),
                container_runtime_version: "containerd://2.1.5".into(),
                kernel_version: "6.12.55-74.119.amzn2023.x86_64".into(),
                kubelet_version: "v1.34.2-eks-113cf36".into(),
                machine_id: stable_uid(&self.name).replace('-', ""),
                operating_system: "linux".into(),
                os_image: "Amazon Linux 2023".into(),
                system_uuid: stable_uid(&self.instance_id),
                ..NodeSystemInfo::default()
            }),
            images: Some((0..self.images).map(image).collect()),
            ..NodeStatus::default()
        }
    }
}

/// A disruption budget over the pods with all of these labels.
pub fn budget(
    namespace: &str,
    name: &str,
    labels: &[(&str, &str)],
    min_available: Option<i32>,
    max_unavailable: Option<i32>,
) -> PodDisruptionBudget {
    let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    PodDisruptionBudget {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        spec: Some(PodDisruptionBudgetSpec {
            selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
            min_available: min_available.map(IntOrString::Int),
            max_unavailable: max_unavailable.map(IntOrString::Int),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// A UID that depends on its seed alone, in the form of a version 4 UUID.
pub fn stable_uid(seed: &str) -> String {
    // FNV-1a, 128 bit.
    let hash = seed.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    let hex = format!("{hash:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
}

/// The name without its last part: `web-7d4b9-x2x` belongs to `web-7d4b9`.
fn workload(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(workload, _)| workload)
}

/// The priorities of the two classes that every cluster has.
fn system_priority(class: &str) -> Option<i32> {
    match class {
        "system-cluster-critical" => Some(2_000_000_000),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    }
}

fn container(workload: &str, number: usize) -> Container {
    let plain = (0..12).map(|n| EnvVar {
        name: format!("{}_SETTING_{n:02}", workload.to_uppercase().replace('-', "_")),
        value: Some(format!("https://{workload}-{n}.internal.example.com:8443/v1?timeout=30s")),
        value_from: None,
    });
    let derived = [("POD_NAME", "metadata.name"), ("POD_IP", "status.podIP")].map(|(name, path)| EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.into() }),
            ..EnvVarSource::default()
        }),
    });
    let mount =
        |name: &str, path: &str| VolumeMount { name: name.into(), mount_path: path.into(), ..VolumeMount::default() };
    Container {
        name: if number == 0 { "main".into() } else { format!("side-{number}") },
        image: Some(format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/{workload}/{number}:v1.42.0")),
        env: Some(plain.chain(derived).collect()),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&[("cpu", "10m"), ("memory", "32Mi")])),
            limits: Some(quantities(&[("memory", "256Mi")])),
            ..ResourceRequirements::default()
        }),
        volume_mounts: Some(vec![mount("tmp", "/tmp"), mount("cache", "/var/cache")]),
        ..Container::default()
    }
}

fn image(number: usize) -> ContainerImage {
    let digest = stable_uid(&format!("image/{number}")).replace('-', "").repeat(2);
    let repository = format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/team-{}/service-{number:02}", number % 7);
    ContainerImage {
        names: Some(vec![format!("{repository}@sha256:{digest}"), format!("{repository}:v1.{number}.0")]),
        size_bytes: Some(40_000_000 + 1_000_003 * i64::try_from(number).unwrap_or(0)),
    }
}

fn managed_fields() -> ManagedFieldsEntry {
    let fields =
        |names: &[&str]| names.iter().map(|name| (format!("f:{name}"), json!({}))).collect::<serde_json::Map<_, _>>();
    let container = fields(&["env", "image", "imagePullPolicy", "name", "resources", "volumeMounts"]);
    let spec = json!({
        "f:containers": { "k:{\"name\":\"main\"}": container, "k:{\"name\":\"side-1\"}": container },
        "f:dnsPolicy": {}, "f:nodeName": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
        "f:terminationGracePeriodSeconds": {}, "f:volumes": { "k:{\"name\":\"tmp\"}": fields(&["emptyDir", "name"]) },
    });
    ManagedFieldsEntry {
        api_version: Some("v1".into()),
        fields_type: Some("FieldsV1".into()),
        fields_v1: Some(FieldsV1(json!({ "f:metadata": { "f:labels": { "f:app": {} } }, "f:spec": spec }))),
        manager: Some("kube-controller-manager".into()),
        operation: Some("Update".into()),
        ..ManagedFieldsEntry::default()
    }
}

fn quantities(of: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    of.iter().map(|(name, amount)| ((*name).into(), Quantity((*amount).into()))).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Owner::ReplicaSet, Some(("apps/v1", "ReplicaSet", "web-7d4b9")))]
    #[case(Owner::DaemonSet, Some(("apps/v1", "DaemonSet", "web-7d4b9")))]
    #[case(Owner::StatefulSet, Some(("apps/v1", "StatefulSet", "web-7d4b9")))]
    #[case(Owner::Job, Some(("batch/v1", "Job", "web-7d4b9")))]
    #[case(Owner::Mirror, Some(("v1", "Node", "n1")))]
    #[case(Owner::None, None)]
    fn a_pod_names_its_controller(#[case] owner: Owner, #[case] expected: Option<(&str, &str, &str)>) {
        let pod = PodSpec::new("a", "web-7d4b9-x2x").on("n1").owned_by(owner).build();
        let owners = pod.metadata.owner_references.unwrap_or_default();
        let found = owners.first().map(|o| (o.api_version.as_str(), o.kind.as_str(), o.name.as_str()));
        assert_eq!(found, expected);
        assert!(owners.iter().all(|owner| owner.controller == Some(true)));
    }

    #[test]
    fn objects_have_the_size_of_real_ones() {
        let bytes = |object: serde_json::Value| object.to_string().len();
        let pod = PodSpec { managed_fields: true, ..PodSpec::new("a", "web-7d4b9-x2x").on("n1") };
        let pod = bytes(serde_json::to_value(pod.build()).unwrap());
        let node = bytes(serde_json::to_value(NodeSpec::new("n1").build(Timestamp::UNIX_EPOCH)).unwrap());
        assert!((4_000..10_000).contains(&pod), "pod: {pod} bytes");
        assert!((12_000..25_000).contains(&node), "node: {node} bytes");
    }

    #[test]
    fn another_boot_has_another_boot_id() {
        let first = NodeSpec::new("n1");
        let second = NodeSpec { boot: 2, ..first.clone() };
        assert_eq!(first.boot_id(), NodeSpec::new("n1").boot_id());
        assert_ne!(first.boot_id(), second.boot_id());
    }

    #[test]
    fn a_stable_uid_has_the_form_of_a_uuid() {
        let uid = stable_uid("x");
        let lengths: Vec<_> = uid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uid}");
        assert_ne!(uid, stable_uid("y"));
    }
}
