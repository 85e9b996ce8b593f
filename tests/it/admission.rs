//! The admission policies as they are shipped, judged by a real API server with real tokens of two nodes.
//!
//! Every case is sent twice as a dry run: with the rights of the manifests and without the policies, for the documentation
//! states what is possible then; and with the policies and all rights that there are, so that nothing else can be what
//! refuses it.

use std::time::Duration;

use case::{Case, Outcome};
use http::Method;
use place::{Place, request};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::access;

mod case;
mod evictions;
mod nodes;
mod page;
mod place;
mod pods;
mod price;
mod theft;

/// Differences between what is expected and what came.
async fn judge(place: &Place, cases: &[Case], policy: Option<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let expected = if policy.is_some() { &case.policies } else { &case.rights };
        let came = place.send(case).await;
        let same = match (expected, &came) {
            (Outcome::Policy(words), Outcome::Policy(message)) => {
                let policy = policy.unwrap_or_default();
                message.contains(words)
                    && message.contains(&format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied"))
            }
            (expected, came) => expected == came,
        };
        if !same {
            wrong.push(format!("{}: expected {expected:?}, came {came:?}", case.name));
        }
    }
    wrong
}

#[tokio::test]
async fn every_case_ends_as_it_should_with_rights_alone_and_with_the_policies() {
    let place = Place::new().await;
    let all = [("spotwarden-own-node", nodes::cases()), ("spotwarden-own-pods", pods::cases())];
    let evictions = evictions::cases();
    let mut wrong = Vec::new();
    for cases in [&all[0].1, &all[1].1, &evictions] {
        wrong.extend(judge(&place, cases, None).await);
    }
    assert!(wrong.is_empty(), "with rights alone:\n{}", wrong.join("\n"));

    access::apply(&place.admin, access::policies()).await;
    access::until_enforced(&place.admin, access::ACCOUNT).await;
    let doubts = doubts(&place).await;
    assert!(doubts.is_empty(), "{doubts:?}");
    place.widen_rights().await;
    for (policy, cases) in &all {
        wrong.extend(judge(&place, cases, Some(policy)).await);
    }
    assert!(wrong.is_empty(), "with the policies:\n{}", wrong.join("\n"));
    wrong.extend(judge(&place, &evictions, None).await);
    assert!(wrong.is_empty(), "evictions with the policies of the base:\n{}", wrong.join("\n"));

    access::apply(&place.admin, access::eviction_policy()).await;
    until_evictions_are_confined(&place).await;
    wrong.extend(judge(&place, &evictions, Some("spotwarden-own-evictions")).await);
    assert!(wrong.is_empty(), "with the policy for evictions:\n{}", wrong.join("\n"));
}

/// What the control plane finds in the expressions when it checks their types, as it does for every policy.
async fn doubts(place: &Place) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(60);
    let mut doubts = Vec::new();
    for name in ["spotwarden-own-node", "spotwarden-own-pods"] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{name}");
        let status = loop {
            let (_, policy) = request(&place.admin, Method::GET, &path, "application/json", &Value::Null).await;
            if policy["status"]["observedGeneration"] == policy["metadata"]["generation"] {
                break policy["status"].clone();
            }
            assert!(Instant::now() < end, "{name} was not checked");
            sleep(Duration::from_millis(50)).await;
        };
        let warnings = status["typeChecking"]["expressionWarnings"].as_array().cloned().unwrap_or_default();
        doubts.extend(warnings.into_iter().map(|warning| format!("{name}: {warning}")));
    }
    doubts
}

/// Until another node's pod is refused and the own node's pod is not: in between the API server has no pods to look at yet.
async fn until_evictions_are_confined(place: &Place) {
    let end = Instant::now() + Duration::from_secs(60);
    let probes = evictions::cases();
    while !judge(place, &probes[..2], Some("spotwarden-own-evictions")).await.is_empty() {
        assert!(Instant::now() < end, "the policy for evictions is not in force");
        sleep(Duration::from_millis(50)).await;
    }
}
