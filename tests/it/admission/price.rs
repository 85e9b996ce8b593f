//! What the policies cost, measured by hand:
//!
//! ```sh
//! cargo test --test it -- --ignored --nocapture the_price_of_the_policies
//! ```
//!
//! Requests are sent one after the other on one connection, with the policies and without them in turn, so that what else
//! the machine does falls on both.

use std::fmt::Write as _;

use http::Method;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::case::Who::AgentOn;
use super::case::{JSON, JSON_PATCH, MERGE, Request, evict};
use super::nodes;
use super::place::{Place, pod, request};
use crate::access;

const ROUNDS: usize = 5;
const REQUESTS: usize = 60;

/// Name, who asks, and the requests that are sent in turn.
type Figure<'a> = (String, &'a Client, Vec<Request>);

#[tokio::test]
#[ignore = "a measurement: a minute, and of use on a quiet machine alone"]
async fn the_price_of_the_policies() {
    let place = Place::new().await;
    let status = json!({"status": {"images": images()}});
    for node in ["own", "other"] {
        let path = format!("/api/v1/nodes/{node}/status");
        assert_eq!(request(&place.admin, Method::PATCH, &path, MERGE, &status).await.0, 200);
    }
    for (namespace, count) in [("few", 10), ("some", 110), ("many", 1000)] {
        place.make("/api/v1/namespaces", json!({"metadata": {"name": namespace}})).await;
        for number in 0..count {
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            place.make(&path, pod(namespace, &format!("web-{number}"), Some("other"))).await;
        }
    }
    let agent = place.client(AgentOn("own"));
    let beat =
        |at: u8| json!({"status": {"conditions": [{"type": "Ready", "status": "True", "message": at.to_string()}]}});
    let of_node = |at| Request(Method::PATCH, "/api/v1/nodes/other/status".into(), MERGE, beat(at));
    let of_pod = |at| Request(Method::PATCH, "/api/v1/namespaces/shop/pods/far/status".into(), MERGE, beat(at));
    let mut figures: Vec<Figure<'_>> = vec![
        ("the agent's fence".into(), &agent, vec![nodes::request(nodes::fence()), nodes::request(nodes::restore())]),
        ("a kubelet's write of a Node's status".into(), &place.admin, vec![of_node(0), of_node(1)]),
        ("a kubelet's write of a Pod's status".into(), &place.admin, vec![of_pod(0), of_pod(1)]),
    ];
    let mut report = String::new();
    measure(&place, &figures, &access::policies(), &mut report).await;
    figures = [("few", 10), ("some", 110), ("many", 1000)]
        .map(|(namespace, count)| {
            let Request(method, path, content_type, body) = evict(namespace, "web-1", None);
            let tried = Request(method, format!("{path}?dryRun=All"), content_type, body);
            (format!("anybody's eviction, {count} pods in the namespace"), &place.admin, vec![tried])
        })
        .into();
    measure(&place, &figures, &access::eviction_policy(), &mut report).await;
    println!("{report}");
}

async fn measure(place: &Place, figures: &[Figure<'_>], policies: &[Value], report: &mut String) {
    let mut took = vec![[Vec::new(), Vec::new()]; figures.len()];
    for _ in 0..ROUNDS {
        for on in [0, 1] {
            switch(place, policies, on == 1).await;
            for ((_, client, requests), took) in figures.iter().zip(&mut took) {
                for number in 0..REQUESTS {
                    took[on].push(send(client, &requests[number % requests.len()]).await);
                }
            }
        }
    }
    for ((name, ..), mut took) in figures.iter().zip(took) {
        took[0].sort();
        took[1].sort();
        let at = |on: usize, part: usize| took[on][took[on].len() * part / 100].as_secs_f64() * 1000.0;
        writeln!(
            report,
            "{name}: median {:.2} ms without, {:.2} ms with; p90 {:.2} ms without, {:.2} ms with",
            at(0, 50),
            at(1, 50),
            at(0, 90),
            at(1, 90),
        )
        .unwrap();
    }
    switch(place, policies, true).await;
}

async fn send(client: &Client, Request(method, path, content_type, body): &Request) -> Duration {
    let request = http::Request::builder().method(method).uri(path).header("content-type", *content_type);
    let request = request.body(Body::from(body.to_string().into_bytes())).unwrap();
    let start = Instant::now();
    let answer = client.send(request).await.unwrap();
    let code = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(code.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&body));
    start.elapsed()
}

/// Puts bindings there or takes them away, and waits until it is so.
async fn switch(place: &Place, policies: &[Value], on: bool) {
    if on {
        access::apply(&place.admin, policies.to_vec()).await;
    } else {
        for binding in policies.iter().filter(|document| document["kind"] == "ValidatingAdmissionPolicyBinding") {
            let path = format!(
                "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{}",
                binding["metadata"]["name"].as_str().unwrap()
            );
            request(&place.admin, Method::DELETE, &path, JSON, &Value::Null).await;
        }
    }
    // The agent may do neither under the policies.
    let probes = [
        Request(Method::PATCH, "/api/v1/nodes/other?dryRun=All".into(), JSON_PATCH, nodes::fence()),
        evict("shop", "far", None),
    ];
    let evictions = policies.iter().any(|document| document["metadata"]["name"] == "spotwarden-own-evictions");
    let Request(method, path, content_type, body) = &probes[usize::from(evictions)];
    let path = if evictions { format!("{path}?dryRun=All") } else { path.clone() };
    let client = place.client(AgentOn("own"));
    while (request(&client, method.clone(), &path, content_type, body).await.0 == 403) != on {
        sleep(Duration::from_millis(50)).await;
    }
    // The bindings come into force together, but for the last moment.
    sleep(Duration::from_secs(1)).await;
}

/// As many as a kubelet tells of.
fn images() -> Vec<Value> {
    let name = |number: u32| format!("registry.example.com/team-{number}/service-with-a-long-name");
    let image = |number| {
        let digest = format!("{}@sha256:{number:064x}", name(number));
        json!({"names": [digest, format!("{}:v1.2.{number}", name(number))], "sizeBytes": 123_456_789 + number})
    };
    (0..50).map(image).collect()
}
