//! Somebody else who acts on the node and its pods while the agent does, straight at the API server.

use std::time::Duration;

use http::{Method, Request};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::World;
use super::marks::change_node;
use super::observer::Notes;
use crate::sim::scenario::{ActorDoes, ActorEvent, PodGroup};
use crate::sim::seen::{self, Pod};
use crate::sim::timeline::Actor;

/// What managed node groups and kubectl wait between two tries of a refused eviction.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Tries of one eviction.
const TRIES: u32 = 60;

/// Begins what the event says; the rest goes on beside the world.
pub(super) fn act(world: &mut World, event: &ActorEvent) {
    let by = Act {
        client: world.backend.client.clone(),
        node: world.node.clone(),
        namespace: world.namespace.clone(),
        actor: Actor::Other(event.name.clone()),
        notes: world.notes.clone(),
    };
    world.without_agent.change(&event.does);
    let pods = |chosen: &dyn Fn(&PodGroup) -> bool| -> Vec<String> {
        let chosen = world.scenario.pods.iter().filter(|group| chosen(group));
        chosen.flat_map(|group| group.pod_names().collect::<Vec<_>>()).collect()
    };
    match &event.does {
        ActorDoes::Delete { pods: groups, grace } => {
            for pod in pods(&|group| groups.contains(&group.name)) {
                world.tasks.spawn(by.clone().delete(pod, *grace));
            }
        }
        ActorDoes::Evict { pods: groups, grace } => {
            for pod in pods(&|group| groups.contains(&group.name)) {
                world.tasks.spawn(by.clone().evict(pod, *grace));
            }
        }
        ActorDoes::Drain { grace } => {
            let (pods, grace, does) = (pods(&PodGroup::is_drained), *grace, event.does.clone());
            world.tasks.spawn(async move {
                by.clone().change(does).await;
                futures::future::join_all(pods.into_iter().map(|pod| by.clone().evict(pod, grace))).await;
            });
        }
        does => _ = world.tasks.spawn(by.change(does.clone())),
    }
}

/// Pods are deleted by their controller, with their own grace.
pub(super) fn leave(world: &mut World, pods: Vec<String>) {
    let by = Act {
        client: world.backend.client.clone(),
        node: world.node.clone(),
        namespace: world.namespace.clone(),
        actor: Actor::World,
        notes: world.notes.clone(),
    };
    for pod in pods {
        world.tasks.spawn(by.clone().delete(pod, None));
    }
}

#[derive(Clone)]
struct Act {
    client: kube::Client,
    node: String,
    namespace: String,
    actor: Actor,
    notes: Notes,
}

impl Act {
    fn note(&self, what: impl Into<String>, pod: Option<String>) {
        self.notes.add(self.actor.clone(), what, pod);
    }

    /// Reads the node, changes it and writes it, again if somebody else wrote it meanwhile.
    async fn change(self, does: ActorDoes) {
        let path = format!("/api/v1/nodes/{}", self.node);
        loop {
            let written = async {
                let request = Request::get(&path).body(Vec::new()).map_err(kube::Error::HttpError)?;
                let mut node: Value = self.client.request(request).await?;
                change_node(&mut node, &does);
                seen::send(&self.client, Method::PUT, &path, &node).await
            };
            match written.await {
                Ok(()) => return self.note(in_words(&does), None),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return self.note(format!("fails, {error}"), None),
            }
        }
    }

    async fn delete(self, pod: String, grace: Option<u32>) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = DeleteParams { grace_period_seconds: grace, ..DeleteParams::default() };
        match pods.delete(&pod, &params).await {
            Ok(_) => self.told(pod, "deletes", grace),
            Err(error) => self.note(format!("cannot delete, {error}"), Some(pod)),
        }
    }

    async fn evict(self, pod: String, grace: Option<u32>) {
        for _ in 0..TRIES {
            match self.try_evict(&pod, grace).await {
                Ok(()) => return self.told(pod, "evicts", grace),
                Err(kube::Error::Api(status)) if matches!(status.code, 429 | 500) => {
                    self.note("is refused an eviction", Some(pod.clone()));
                }
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(error) => return self.note(format!("cannot evict, {error}"), Some(pod)),
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// kube's own `evict` loses the grace on its way.
    async fn try_evict(&self, pod: &str, grace: Option<u32>) -> kube::Result<()> {
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace},
            "deleteOptions": {"gracePeriodSeconds": grace},
        });
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", self.namespace);
        let request = Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
        self.client.request::<Value>(request).await.map(drop)
    }

    fn told(&self, pod: String, does: &str, grace: Option<u32>) {
        let grace = grace.map_or(String::new(), |grace| format!(" with {grace} s of grace"));
        self.notes.told(&pod);
        self.note(format!("{does}{grace}"), Some(pod));
    }
}

/// A change of the node, for people.
fn in_words(does: &ActorDoes) -> String {
    match does {
        ActorDoes::Cordon | ActorDoes::Drain { .. } => "cordons the node".into(),
        ActorDoes::Uncordon => "uncordons the node".into(),
        ActorDoes::Taint(taint) => format!("sets the taint {}", taint.key),
        ActorDoes::Untaint(taint) => format!("removes the taint {}", taint.key),
        ActorDoes::Label(pair) => format!("sets the label {}", pair.key),
        ActorDoes::Unlabel(key) => format!("removes the label {key}"),
        ActorDoes::Annotate(pair) => format!("sets the annotation {}", pair.key),
        ActorDoes::Unannotate(key) => format!("removes the annotation {key}"),
        ActorDoes::Evict { .. } | ActorDoes::Delete { .. } => "stops pods".into(),
    }
}
