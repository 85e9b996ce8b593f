//! What the kubelet writes to the API: the status of a started and of an ended pod, and the final DELETE.

use std::time::Duration;

use crate::sim::seen::Pod;
use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::sim::objects::NODE_IP;

/// Longest a call may take before it is made again.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause after a failed call; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause after a failed call.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Conditions of a pod whose containers are ready.
const READY: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
/// Conditions that a pod loses with its containers.
const UNREADY: [&str; 2] = ["Ready", "ContainersReady"];

/// Names one pod object.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) api: Api<Pod>,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Target {
    /// Writes the status; ends when it is written or the pod is gone.
    pub(super) async fn write_status(self, patch: Value) {
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        until_settled(|| async { self.api.patch_status(&self.name, &params, &patch).await.map(drop) }).await;
    }

    /// Reports the end of the containers, then removes the object; ends when it is gone.
    pub(super) async fn remove(self, end: Option<Value>) {
        if let Some(end) = end {
            self.clone().write_status(end).await;
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        until_settled(|| async { self.api.delete(&self.name, &params).await.map(drop) }).await;
    }
}

/// Repeats a call until it succeeds or can no longer: 404, another pod of that name (409), or a body that is refused.
async fn until_settled<F: Future<Output = kube::Result<()>>>(call: impl Fn() -> F) {
    let mut pause = FIRST_PAUSE;
    loop {
        match timeout(CALL_TIMEOUT, call()).await {
            Ok(Ok(())) => return,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 404 | 409 | 422) => {
                if !matches!(status.code, 404 | 409) {
                    tracing::warn!(code = status.code, message = %status.message, "kubelet call refused");
                }
                return;
            }
            Ok(Err(_)) | Err(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Status of a pod that runs and is ready.
pub(super) fn started(pod: &Pod, at: Timestamp, pod_ip: &str) -> Value {
    let at = seconds(at);
    let condition = |kind| json!({ "type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": at });
    let host_ip = NODE_IP;
    json!({
        "metadata": { "uid": pod.metadata.uid },
        "status": {
            "phase": "Running",
            "startTime": at,
            "hostIP": host_ip,
            "hostIPs": [{ "ip": host_ip }],
            "podIP": pod_ip,
            "podIPs": [{ "ip": pod_ip }],
            "conditions": READY.map(condition),
            "containerStatuses": containers(pod, true, &json!({ "running": { "startedAt": at } })),
        },
    })
}

/// Status of a pod whose containers ended.
pub(super) fn ended(pod: &Pod, at: Timestamp, killed: bool) -> Value {
    let at = seconds(at);
    let (phase, code, reason) = if killed { ("Failed", 137, "Error") } else { ("Succeeded", 0, "Completed") };
    let why = if killed { "PodFailed" } else { "PodCompleted" };
    let condition = |kind| json!({ "type": kind, "status": "False", "reason": why, "lastTransitionTime": at });
    let end = json!({ "terminated": { "exitCode": code, "reason": reason, "finishedAt": at } });
    json!({
        "metadata": { "uid": pod.metadata.uid },
        "status": {
            "phase": phase,
            "conditions": UNREADY.map(condition),
            "containerStatuses": containers(pod, false, &end),
        },
    })
}

fn containers(pod: &Pod, ready: bool, state: &Value) -> Vec<Value> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| {
            let image = container.image.clone().unwrap_or_default();
            json!({
                "name": container.name,
                "image": image,
                "imageID": image,
                "containerID": format!("containerd://{}", pod.metadata.uid.as_deref().unwrap_or_default()),
                "ready": ready,
                "started": ready,
                "restartCount": 0,
                "state": state,
            })
        })
        .collect()
}

/// Kubernetes writes times in whole seconds.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
