//! The own Node as the agent sees it.

use std::collections::BTreeMap;

/// The parts of a Node that matter here. Taints stay as they came over the wire, so that foreign ones can be written back
/// byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`; absent and empty differ in a JSON Patch.
    pub labels: Option<BTreeMap<String, String>>,
    /// `metadata.annotations`; absent and empty differ in a JSON Patch.
    pub annotations: Option<BTreeMap<String, String>>,
    /// `spec.taints`, unparsed.
    pub taints: Option<Vec<serde_json::Value>>,
    /// `spec.unschedulable`; absent means false.
    pub unschedulable: Option<bool>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: Option<String>,
    /// `status.allocatable.pods`: how many pods the kubelet takes.
    pub allocatable_pods: Option<i64>,
    /// `status.allocatable[vpc.amazonaws.com/pod-eni]`: interfaces for pods with security groups of their own; absent where
    /// there are none.
    pub branch_interfaces: Option<i64>,
    /// `spec.providerID`, on EC2 `aws:///zone/instance-id`.
    pub provider_id: Option<String>,
}
