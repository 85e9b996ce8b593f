//! Puts a scenario's objects on an API server, by the same calls that an administrator would make.

use std::future::Future;
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Taint as NodeTaint};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::sleep;

use super::{NodeSpec, WorldError};
use crate::sim::objects::{self, PodSpec};
use crate::sim::scenario::{Budget, Limit, Owner, Phase, PodGroup, Scenario, StopsAfter, Taint};
use crate::sim::seen::{self, Node, Pod};

/// Calls under way at once while pods are made.
const AT_ONCE: usize = 16;
/// Until pods are ready and budgets are counted: a real kubelet and disruption controller need seconds for a full node.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

pub(super) struct Setup<'a> {
    pub(super) client: kube::Client,
    pub(super) node: &'a str,
    pub(super) namespace: &'a str,
    pub(super) scenario: &'a Scenario,
}

impl Setup<'_> {
    /// The node, the namespace, and pods that have ended already: the kubelet must never see them running.
    pub(super) async fn before_the_kubelet(&self, now: Timestamp) -> Result<(), WorldError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta { name: Some(self.namespace.into()), ..Default::default() },
            ..Default::default()
        };
        call("create the namespace", namespaces.create(&PostParams::default(), &namespace)).await?;
        self.node(now).await?;
        for priority in self.scenario.pods.iter().filter_map(|group| group.priority) {
            self.priority_class(priority).await?;
        }
        for group in self.scenario.pods.iter().filter(|group| group.phase != Phase::Running) {
            self.group(group).await?;
            let phase = if group.phase == Phase::Succeeded { "Succeeded" } else { "Failed" };
            for name in group.pod_names() {
                let patch = Patch::Merge(json!({"status": {"phase": phase}}));
                call("end a pod", self.pods().patch_status(&name, &PatchParams::default(), &patch)).await?;
            }
        }
        Ok(())
    }

    /// Budgets and running pods; returns when the pods are ready and the budgets know them.
    pub(super) async fn workloads(&self) -> Result<(), WorldError> {
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), self.namespace);
        for budget in &self.scenario.budgets {
            let object = budget_object(self.namespace, budget);
            call("create a budget", budgets.create(&PostParams::default(), &object)).await?;
        }
        let groups = self.scenario.pods.iter();
        for group in groups.filter(|group| group.phase == Phase::Running && !group.comes_later()) {
            self.group(group).await?;
        }
        self.until_ready(&budgets).await
    }

    /// The node as it is now.
    pub(super) async fn read_node(&self) -> Result<Node, WorldError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        call("read the node", nodes.get(self.node)).await
    }

    async fn node(&self, now: Timestamp) -> Result<(), WorldError> {
        let wanted = &self.scenario.node;
        let mut spec = NodeSpec::new(self.node);
        spec.labels.clone_from(&wanted.labels);
        spec.taints = wanted.taints.iter().map(node_taint).collect();
        spec.unschedulable = wanted.cordoned;
        spec.max_pods = self.scenario.cni.as_ref().map_or(spec.max_pods, |cni| cni.max_pods);
        let object = spec.build(now);
        let nodes: Api<Node> = Api::all(self.client.clone());
        call("create the node", seen::send(&self.client, Method::POST, "/api/v1/nodes", &object)).await?;
        let status = Patch::Merge(json!({"status": object.status}));
        call("write the node's status", nodes.patch_status(self.node, &PatchParams::default(), &status)).await?;
        Ok(())
    }

    /// A real API server takes a pod's priority from its class alone; worlds that share one share the classes.
    async fn priority_class(&self, priority: i32) -> Result<(), WorldError> {
        let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": priority_class(priority)},
            "value": priority,
        });
        match seen::send(&self.client, Method::POST, path, &class).await {
            // The embedded server keeps no classes and takes what the pod says.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            made => call("create a priority class", async { made }).await,
        }
    }

    /// Makes the pods of one group.
    async fn group(&self, group: &PodGroup) -> Result<(), WorldError> {
        self.some(group, group.pod_names().collect()).await
    }

    /// Makes some pods of one group.
    pub(super) async fn some(&self, group: &PodGroup, names: Vec<String>) -> Result<(), WorldError> {
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let made = stream::iter(names).map(|name| {
            let (path, object) = (path.clone(), pod_object(self.namespace, self.node, group, &name));
            async move { call("create a pod", seen::send(&self.client, Method::POST, &path, &object)).await }
        });
        made.buffer_unordered(AT_ONCE).try_collect().await
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn until_ready(&self, budgets: &Api<PodDisruptionBudget>) -> Result<(), WorldError> {
        let look = async {
            loop {
                let pods = call("list the pods", self.pods().list(&ListParams::default())).await?;
                let budgets = call("list the budgets", budgets.list(&ListParams::default())).await?;
                if pods.iter().all(is_settled) && budgets.iter().all(|budget| self.is_counted(budget)) {
                    return Ok(());
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        let late = || WorldError::Late { what: "pods and budgets are not ready".into(), within: READY_WITHIN };
        tokio::time::timeout(READY_WITHIN, look).await.map_err(|_| late())?
    }

    /// Whether the disruption controller has seen every pod that the budget selects. Of two budgets over one pod it
    /// follows the pod's changes for one alone, so then it is enough that it has seen the budget.
    fn is_counted(&self, budget: &PodDisruptionBudget) -> bool {
        let name = budget.metadata.name.as_deref().unwrap_or_default();
        let Some(wanted) = self.scenario.budgets.iter().find(|budget| budget.name == name) else { return true };
        let Some(status) = &budget.status else { return false };
        let is_there = |group: &&PodGroup| group.phase == Phase::Running && !group.comes_later();
        let followed = |group: &&PodGroup| self.scenario.budgets.iter().filter(|any| any.selects(group)).count() == 1;
        let groups = self.scenario.pods.iter().filter(is_there);
        let pods: u32 = groups.filter(|group| wanted.selects(group)).filter(followed).map(|group| group.count).sum();
        status.observed_generation.is_some() && u32::try_from(status.current_healthy).unwrap_or(0) >= pods
    }
}

fn is_settled(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready =
        status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn pod_object(namespace: &str, node: &str, group: &PodGroup, name: &str) -> k8s_openapi::api::core::v1::Pod {
    let mut spec = PodSpec::new(namespace, name).on(node).grace(group.grace);
    spec.labels.clone_from(&group.labels);
    spec.labels.insert("app".into(), group.name.clone());
    spec.annotations.clone_from(&group.annotations);
    spec.priority_class = group.priority.map(priority_class).or_else(|| group.priority_class.clone());
    spec.priority = group.priority;
    spec.host_network = group.host_network;
    spec.owner = match group.owner {
        Owner::ReplicaSet => objects::Owner::ReplicaSet,
        Owner::StatefulSet => objects::Owner::StatefulSet,
        Owner::Job => objects::Owner::Job,
        Owner::DaemonSet => objects::Owner::DaemonSet,
        Owner::Node => objects::Owner::Mirror,
        Owner::Nothing => objects::Owner::None,
    };
    let stops_after = match group.stops_after {
        StopsAfter::Time(time) => time.as_secs_f64().to_string(),
        StopsAfter::Never => "never".to_owned(),
    };
    spec.stops_after(&stops_after).build()
}

/// The name of the class that a scenario's priority comes with.
fn priority_class(priority: i32) -> String {
    format!("priority-{}{}", if priority < 0 { "minus-" } else { "" }, priority.unsigned_abs())
}

fn budget_object(namespace: &str, budget: &Budget) -> PodDisruptionBudget {
    let labels: Vec<(&str, &str)> = budget.selector.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let number = |pods: u32| Some(i32::try_from(pods).unwrap_or(i32::MAX));
    let (min_available, max_unavailable) = match budget.limit {
        Limit::MinAvailable(pods) => (number(pods), None),
        Limit::MaxUnavailable(pods) => (None, number(pods)),
    };
    objects::budget(namespace, &budget.name, &labels, min_available, max_unavailable)
}

/// A scenario's taint as the API has it.
pub(super) fn node_taint(taint: &Taint) -> NodeTaint {
    let value = (!taint.value.is_empty()).then(|| taint.value.clone());
    NodeTaint { key: taint.key.clone(), value, effect: taint.effect.clone(), time_added: None }
}

async fn call<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, WorldError> {
    request.await.map_err(|source| WorldError::Api { what: what.to_owned(), source: Box::new(source) })
}
