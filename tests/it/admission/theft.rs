//! The token of one node in the hands of somebody who wants another, by the agent's own calls and for real; and the same
//! calls where they belong.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use spotwarden::drain::eviction::EvictionAnswer;
use spotwarden::drain::pod::PodRef;
use spotwarden::interruption::{PatchAnswer, Stop};
use spotwarden::k8s::api::Api;

use super::case::Who::AgentOn;
use super::nodes;
use super::place::{Place, request};
use crate::access;

const AT_ONCE: Duration = Duration::from_secs(10);

async fn object(place: &Place, path: &str) -> Value {
    let (code, object) = request(&place.admin, Method::GET, path, "application/json", &Value::Null).await;
    assert_eq!(code, 200, "{path}: {object}");
    object
}

async fn pod(place: &Place, name: &str) -> PodRef {
    let object = object(place, &format!("/api/v1/namespaces/shop/pods/{name}")).await;
    let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
    PodRef { namespace: "shop".into(), name: name.into(), uid }
}

fn stop(pod: &PodRef) -> Stop {
    Stop { pod: pod.clone(), grace_seconds: 5, timeout: AT_ONCE }
}

fn refused(answer: &EvictionAnswer, policy: &str) -> bool {
    matches!(answer, EvictionAnswer::Refused(words) if words.starts_with("403") && words.contains(policy))
}

#[tokio::test]
async fn a_token_that_was_stolen_from_one_node_is_of_no_use_at_another() {
    let place = Place::new().await;
    access::apply(&place.admin, access::policies()).await;
    access::until_enforced(&place.admin, access::ACCOUNT).await;
    let (far, waiting) = (pod(&place, "far").await, pod(&place, "waiting").await);
    let paths = ["/api/v1/nodes/other", "/api/v1/namespaces/shop/pods/far", "/api/v1/namespaces/shop/pods/waiting"];
    let mut before = Vec::new();
    for path in paths {
        before.push(object(&place, path).await);
    }

    let thief = Api::new(place.client(AgentOn("own")), "other");
    for operations in [nodes::fence(), json!([{"op": "add", "path": "/spec/unschedulable", "value": true}])] {
        let answer = thief.patch_node(&operations, AT_ONCE).await;
        let PatchAnswer::Refused { status: 403, message, fresh: Some(fresh) } = answer else { panic!("{answer:?}") };
        assert!(message.contains("'spotwarden-own-node'"), "{message}");
        assert!(message.ends_with("the agent on own may only patch its own Node, not UPDATE nodes other"), "{message}");
        assert_eq!(fresh.name, "other", "reading is not confined");
    }
    for pod in [&far, &waiting] {
        let answer = thief.delete(&stop(pod)).await;
        assert!(refused(&answer, "'spotwarden-own-pods'"), "{answer:?}");
        let words = thief.mark_disruption(pod).await.unwrap_err();
        assert!(words.contains("403") && words.ends_with("the pod is not on the agent's node own"), "{words}");
    }
    // Evictions are left to the budgets, unless the component is there.
    assert_eq!(thief.probe(&far).await, EvictionAnswer::Accepted);
    access::apply(&place.admin, access::eviction_policy()).await;
    super::until_evictions_are_confined(&place).await;
    for pod in [&far, &waiting] {
        let answer = thief.evict(&stop(pod)).await;
        assert!(refused(&answer, "'spotwarden-own-evictions'"), "{answer:?}");
    }
    for (path, before) in paths.into_iter().zip(before) {
        assert_eq!(object(&place, path).await, before, "untouched");
    }
}

#[tokio::test]
async fn the_agent_does_all_of_its_work_under_all_policies() {
    let place = Place::new().await;
    access::apply(&place.admin, access::policies()).await;
    access::apply(&place.admin, access::eviction_policy()).await;
    access::until_enforced(&place.admin, access::ACCOUNT).await;
    super::until_evictions_are_confined(&place).await;
    let agent = Api::new(place.client(AgentOn("own")), "own");
    let (web, told) = (pod(&place, "web").await, pod(&place, "told").await);

    let answer = agent.patch_node(&nodes::fence(), AT_ONCE).await;
    assert!(matches!(answer, PatchAnswer::Applied(node) if node.unschedulable == Some(true)));
    assert_eq!(agent.probe(&web).await, EvictionAnswer::Accepted);
    assert_eq!(agent.evict(&stop(&web)).await, EvictionAnswer::Accepted);
    for pod in [&web, &told] {
        agent.mark_disruption(pod).await.unwrap();
        assert_eq!(agent.delete(&stop(pod)).await, EvictionAnswer::Accepted);
    }
    let answer = agent.patch_node(&nodes::restore(), AT_ONCE).await;
    assert!(matches!(answer, PatchAnswer::Applied(node) if node.unschedulable.is_none()));
}
