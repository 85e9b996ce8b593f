//! What the simulators read of Pods and Nodes, and nothing else.
//!
//! Code that decodes the whole types would be a tenth of the binary, and every agent would carry it around.

use http::{Method, Request};
use k8s_openapi::api::core::v1 as full;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::k8s::reduced::resource_like;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// As in the API.
    pub metadata: ObjectMeta,
    /// As in the API.
    pub spec: Option<PodSpec>,
    /// As in the API.
    pub status: Option<PodStatus>,
}

/// A pod's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// As in the API.
    pub node_name: Option<String>,
    /// As in the API.
    pub host_network: Option<bool>,
    /// As in the API.
    pub termination_grace_period_seconds: Option<i64>,
    /// As in the API.
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Container {
    /// As in the API.
    pub name: String,
    /// As in the API.
    pub image: Option<String>,
}

/// A pod's `status`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// As in the API.
    pub phase: Option<String>,
    /// As in the API.
    pub conditions: Option<Vec<Condition>>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// As in the API.
    #[serde(rename = "type")]
    pub type_: String,
    /// As in the API.
    pub status: String,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// As in the API.
    pub metadata: ObjectMeta,
    /// As in the API.
    pub spec: Option<NodeSpec>,
}

/// A node's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// As in the API.
    pub taints: Option<Vec<Value>>,
    /// As in the API.
    pub unschedulable: Option<bool>,
}

resource_like!(Pod, full::Pod);
resource_like!(Node, full::Node);

/// Creates or replaces an object of any type; the answer is not decoded.
///
/// # Errors
/// Those of [`kube::Client::request`].
pub(crate) async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    object: &impl Serialize,
) -> kube::Result<()> {
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, "application/json");
    let request = request.body(body).map_err(kube::Error::HttpError)?;
    client.request::<Value>(request).await.map(drop)
}
