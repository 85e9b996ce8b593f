//! Rules of the server, one test each. Wording is compared with a real server's in `tests/it/apiserver_parity.rs`.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    runtime::watcher::{self, Event},
};
use rstest::rstest;

use super::*;

const POD: &str = "/api/v1/namespaces/default/pods/web";

/// A server at noon on a paused clock.
fn server() -> ApiServer {
    ApiServer::new(Clock::anchored("2026-01-01T12:00:00.4Z".parse().unwrap()))
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "web"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn pod_with(name: &str, pointer: &str, value: Value) -> Value {
    let mut pod = pod(name);
    *pod.pointer_mut(pointer).unwrap() = value;
    pod
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

fn pdb(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec.get("selector").is_none() {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
    }
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
           "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

async fn call(server: &ApiServer, method: &str, path: &str, body: &Value) -> (u16, Value) {
    send(server, method, path, "application/json", body).await
}

async fn send(server: &ApiServer, method: &str, path: &str, content_type: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("content-type", content_type).body(body).unwrap();
    let response = server.handle(&request);
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
}

async fn evict(server: &ApiServer, name: &str, options: &Value) -> (u16, Value) {
    let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                      "metadata": {"name": name, "namespace": "default"}, "deleteOptions": options});
    call(server, "POST", &path, &body).await
}

async fn delete_with(server: &ApiServer, grace: i64) -> Value {
    call(server, "DELETE", POD, &json!({"gracePeriodSeconds": grace})).await.1
}

fn deletion_of(pod: &Value) -> (String, i64) {
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(-1);
    (object::meta_str(pod, "deletionTimestamp").to_owned(), grace)
}

fn at(clock: &str, grace: i64) -> (String, i64) {
    (format!("2026-01-01T{clock}Z"), grace)
}

fn allowed(server: &ApiServer, name: &str) -> i64 {
    let path = format!("/apis/policy/v1/namespaces/default/poddisruptionbudgets/{name}");
    server.object(&path).unwrap()["status"]["disruptionsAllowed"].as_i64().unwrap()
}

async fn watch_lines(server: &ApiServer, path: &str) -> Vec<Value> {
    let request = Request::builder().uri(path).body(Bytes::new()).unwrap();
    let bytes = server.handle(&request).into_body().collect().await.unwrap().to_bytes();
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["type"].as_str().unwrap()).collect()
}

// ---- deletion -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn first_delete_sets_whole_seconds_from_now() {
    let server = server();
    server.seed(pod("web")).unwrap();
    assert_eq!(deletion_of(&delete_with(&server, 60).await), at("12:01:00", 60));
}

#[tokio::test(start_paused = true)]
async fn delete_without_grace_takes_the_pods_own() {
    let server = server();
    server.seed(pod("web")).unwrap();
    let (_, answer) = call(&server, "DELETE", POD, &Value::Null).await;
    assert_eq!(deletion_of(&answer), at("12:00:30", 30));
}

/// Reference vectors: grace 300 at t0, then a second delete at `now` seconds asks for `asked`.
#[rstest]
#[case::exact(10, 110, "12:01:50", 110)]
#[case::still_ahead(58, 62, "12:01:02", 62)]
#[case::in_the_past_collapses(70, 50, "12:01:10", 1)]
#[case::longer_changes_nothing(10, 400, "12:05:00", 300)]
#[case::equal_changes_nothing(10, 300, "12:05:00", 300)]
#[case::negative_is_one(0, -5, "12:00:01", 1)]
#[tokio::test(start_paused = true)]
async fn second_delete_counts_from_the_first(
    #[case] now: u64,
    #[case] asked: i64,
    #[case] deletion: &str,
    #[case] grace: i64,
) {
    let server = server();
    server.seed(pod("web")).unwrap();
    delete_with(&server, 300).await;
    tokio::time::advance(Duration::from_secs(now)).await;
    assert_eq!(deletion_of(&delete_with(&server, asked).await), at(deletion, grace));
    assert!(server.object(POD).is_some());
}

#[tokio::test(start_paused = true)]
async fn grace_zero_removes_a_terminating_pod_at_once() {
    let server = server();
    server.seed(pod("web")).unwrap();
    delete_with(&server, 300).await;
    delete_with(&server, 0).await;
    assert_eq!(server.object(POD), None);
}

#[rstest]
#[case::succeeded("/status/phase", json!("Succeeded"))]
#[case::failed("/status/phase", json!("Failed"))]
#[case::unscheduled("/spec/nodeName", json!(""))]
#[tokio::test(start_paused = true)]
async fn pods_that_do_not_run_go_at_once(#[case] pointer: &str, #[case] value: Value) {
    let server = server();
    server.seed(pod_with("web", pointer, value)).unwrap();
    delete_with(&server, 60).await;
    assert_eq!(server.object(POD), None);
}

#[tokio::test(start_paused = true)]
async fn delete_of_another_uid_is_a_conflict_on_the_kind() {
    let server = server();
    server.seed(pod("web")).unwrap();
    let (code, answer) = call(&server, "DELETE", POD, &json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!((code, &answer["details"]["kind"]), (409, &json!("Pod")));
    assert!(server.object(POD).unwrap()["metadata"].get("deletionTimestamp").is_none());
}

// ---- eviction -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn eviction_marks_the_pod_and_grants_the_grace_sent() {
    let server = server();
    server.seed(pod("web")).unwrap();
    let (code, answer) = evict(&server, "web", &json!({"gracePeriodSeconds": 12})).await;
    assert_eq!((code, &answer["status"]), (201, &json!("Success")));
    let pod = server.object(POD).unwrap();
    assert_eq!(deletion_of(&pod), at("12:00:12", 12));
    assert_eq!(pod["status"]["conditions"][1]["reason"], "EvictionByEvictionAPI");
}

#[tokio::test(start_paused = true)]
async fn misspelt_delete_options_are_ignored() {
    let server = server();
    server.seed(pod("web")).unwrap();
    let body = json!({"metadata": {"name": "web"}, "delete_options": {"gracePeriodSeconds": 5}});
    call(&server, "POST", &format!("{POD}/eviction"), &body).await;
    assert_eq!(deletion_of(&server.object(POD).unwrap()), at("12:00:30", 30));
}

#[tokio::test(start_paused = true)]
async fn spent_budget_refuses_without_retry_after_and_recovers_when_a_pod_is_ready() {
    let server = server();
    server.seed(pod("web")).unwrap();
    server.seed(pdb("one", &json!({"minAvailable": 1}))).unwrap();
    let (code, answer) = evict(&server, "web", &json!({})).await;
    assert_eq!(code, 429);
    let cause = &answer["details"]["causes"][0];
    assert_eq!(cause["message"], "The disruption budget one needs 1 healthy pods and has 1 currently");
    assert!(answer["details"].get("retryAfterSeconds").is_none());
    server.seed(pod("web2")).unwrap();
    assert_eq!(evict(&server, "web", &json!({})).await.0, 201);
    assert_eq!(evict(&server, "web2", &json!({})).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn lagging_budget_status_is_refused_with_retry_after() {
    let server = server();
    server.seed(pod("web")).unwrap();
    server.hold_budgets(true);
    server.seed(pdb("one", &json!({"minAvailable": 0}))).unwrap();
    let request = Request::post(format!("{POD}/eviction")).body(Bytes::from(r#"{"metadata":{"name":"web"}}"#)).unwrap();
    let response = server.handle(&request);
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (429, "10"));
    server.hold_budgets(false);
    assert_eq!(evict(&server, "web", &json!({})).await.0, 201);
}

#[tokio::test(start_paused = true)]
async fn two_budgets_are_an_error_without_a_reason() {
    let server = server();
    server.seed(pod("web")).unwrap();
    server.seed(pdb("one", &json!({"minAvailable": 0}))).unwrap();
    server.seed(pdb("two", &json!({"minAvailable": 0}))).unwrap();
    let (code, answer) = evict(&server, "web", &json!({})).await;
    assert_eq!((code, answer.get("reason")), (500, None));
}

#[rstest]
#[case::null_matches_nothing(json!({"minAvailable": 9, "selector": null}), 201)]
#[case::empty_matches_everything(json!({"minAvailable": 9, "selector": {}}), 429)]
#[case::other_labels(json!({"minAvailable": 9, "selector": {"matchLabels": {"app": "db"}}}), 201)]
#[case::expression(
    json!({"minAvailable": 9, "selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}), 429
)]
#[tokio::test(start_paused = true)]
async fn budget_selectors_follow_the_policy_api(#[case] spec: Value, #[case] code: u16) {
    let server = server();
    server.seed(pod("web")).unwrap();
    server.seed(pdb("one", &spec)).unwrap();
    assert_eq!(evict(&server, "web", &json!({})).await.0, code);
}

#[rstest]
#[case::pending(pod_with("web", "/status/phase", json!("Pending")))]
#[case::succeeded(pod_with("web", "/status/phase", json!("Succeeded")))]
#[case::failed(pod_with("web", "/status/phase", json!("Failed")))]
#[tokio::test(start_paused = true)]
async fn pods_that_serve_nobody_skip_budgets(#[case] pod: Value) {
    let server = server();
    server.seed(pod).unwrap();
    server.seed(pdb("one", &json!({"minAvailable": 1}))).unwrap();
    assert_eq!(evict(&server, "web", &json!({})).await.0, 201);
}

#[rstest]
#[case::default_policy_needs_a_whole_application(json!({"minAvailable": 2}), 429)]
#[case::always_allow(json!({"minAvailable": 2, "unhealthyPodEvictionPolicy": "AlwaysAllow"}), 201)]
#[case::whole_application(json!({"minAvailable": 1}), 201)]
#[tokio::test(start_paused = true)]
async fn unready_pods_follow_the_eviction_policy(#[case] spec: Value, #[case] code: u16) {
    let server = server();
    server.seed(pod_with("web", "/status/conditions/0/status", json!("False"))).unwrap();
    server.seed(pod("healthy")).unwrap();
    server.seed(pdb("one", &spec)).unwrap();
    let before = allowed(&server, "one");
    assert_eq!(evict(&server, "web", &json!({})).await.0, code);
    assert_eq!(allowed(&server, "one"), before, "an unready pod costs no disruption");
}

#[tokio::test(start_paused = true)]
async fn wrong_uid_costs_a_disruption_until_it_is_forgotten() {
    let server = server();
    server.seed(pod("web")).unwrap();
    server.seed(pod("web2")).unwrap();
    server.seed(pdb("one", &json!({"maxUnavailable": 1}))).unwrap();
    let (code, answer) = evict(&server, "web", &json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!((code, &answer["reason"]), (409, &json!("Conflict")));
    assert_eq!(allowed(&server, "one"), 0);
    tokio::time::advance(Duration::from_secs(121)).await;
    assert_eq!(evict(&server, "web", &json!({})).await.0, 201);
}

#[tokio::test(start_paused = true)]
async fn dry_run_asks_the_budget_and_changes_nothing() {
    let server = server();
    server.seed(pod("web")).unwrap();
    server.seed(pdb("one", &json!({"maxUnavailable": 1}))).unwrap();
    let before = server.object(POD);
    assert_eq!(evict(&server, "web", &json!({"dryRun": ["All"]})).await.0, 201);
    assert_eq!((server.object(POD), allowed(&server, "one")), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn terminating_namespace_refuses_evictions_by_cause_and_ends_when_empty() {
    let server = server();
    server.seed(pod("web")).unwrap();
    call(&server, "DELETE", "/api/v1/namespaces/default", &Value::Null).await;
    let (code, answer) = evict(&server, "web", &json!({})).await;
    assert_eq!((code, &answer["details"]["causes"][0]["reason"]), (403, &json!("NamespaceTerminating")));
    delete_with(&server, 0).await;
    assert_eq!(server.object("/api/v1/namespaces/default"), None);
}

// ---- budgets --------------------------------------------------------------------------------------------------------

#[rstest]
#[case::min_count(json!({"minAvailable": 2}), 3)]
#[case::min_share_rounds_up(json!({"minAvailable": "50%"}), 2)]
#[case::max_count(json!({"maxUnavailable": 1}), 1)]
#[case::max_share_rounds_up(json!({"maxUnavailable": "25%"}), 2)]
#[case::zero(json!({"maxUnavailable": 0}), 0)]
#[tokio::test(start_paused = true)]
async fn budget_of_five_pods_allows(#[case] spec: Value, #[case] expected: i64) {
    let server = server();
    for at in 0..5 {
        server.seed(pod(&format!("web{at}"))).unwrap();
    }
    server.seed(pdb("one", &spec)).unwrap();
    assert_eq!(allowed(&server, "one"), expected);
}

#[tokio::test(start_paused = true)]
async fn workload_replicas_count_also_while_a_pod_is_missing() {
    let server = server();
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "default"},
                     "spec": {"replicas": 3}});
    let set = server.seed(set).unwrap();
    for name in ["a", "b"] {
        let mut pod = pod(name);
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
            "uid": set["metadata"]["uid"], "controller": true}]);
        server.seed(pod).unwrap();
    }
    server.seed(pdb("one", &json!({"maxUnavailable": 1}))).unwrap();
    assert_eq!(allowed(&server, "one"), 0, "two of three are healthy already");
}

// ---- patches and updates --------------------------------------------------------------------------------------------

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

#[rstest]
#[case::absent_against_null(json!([{"op": "test", "path": "/spec/taints", "value": null}]), 200)]
#[case::absent_against_a_value(json!([{"op": "test", "path": "/spec/taints", "value": []}]), 422)]
#[case::present_against_null(json!([{"op": "test", "path": "/metadata/name", "value": null}]), 422)]
#[case::append_below_nothing(json!([{"op": "add", "path": "/spec/taints/-", "value": {}}]), 422)]
#[case::add_below_a_missing_map(json!([{"op": "add", "path": "/metadata/annotations/a", "value": "1"}]), 422)]
#[case::replace_of_nothing_adds(json!([{"op": "replace", "path": "/spec/unschedulable", "value": true}]), 200)]
#[case::remove_of_nothing(json!([{"op": "remove", "path": "/spec/taints"}]), 422)]
#[case::unknown_operation(json!([{"op": "drop", "path": "/spec/taints"}]), 400)]
#[case::stale_revision(json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}]), 409)]
#[tokio::test(start_paused = true)]
async fn json_patch_answers(#[case] patch: Value, #[case] code: u16) {
    let server = server();
    server.seed(node("n1")).unwrap();
    assert_eq!(send(&server, "PATCH", "/api/v1/nodes/n1", JSON_PATCH, &patch).await.0, code);
}

#[tokio::test(start_paused = true)]
async fn taints_are_atomic_in_every_patch_type_and_unique() {
    let server = server();
    let mut tainted = node("n1");
    tainted["spec"] = json!({"taints": [{"key": "theirs", "effect": "NoSchedule"}]});
    server.seed(tainted).unwrap();
    let ours = json!({"spec": {"taints": [{"key": "ours", "effect": "NoSchedule"}], "unschedulable": true}});
    for content_type in [MERGE, STRATEGIC] {
        let (_, node) = send(&server, "PATCH", "/api/v1/nodes/n1", content_type, &ours).await;
        assert_eq!(node["spec"], ours["spec"]);
    }
    let twice = json!([{"op": "add", "path": "/spec/taints/-", "value": {"key": "ours", "effect": "NoSchedule"}}]);
    assert_eq!(send(&server, "PATCH", "/api/v1/nodes/n1", JSON_PATCH, &twice).await.0, 422);
}

#[tokio::test(start_paused = true)]
async fn what_the_types_omit_when_empty_is_absent() {
    let server = server();
    server.seed(node("n1")).unwrap();
    let set = json!({"metadata": {"annotations": {"a": "1"}}, "spec": {"unschedulable": true}});
    send(&server, "PATCH", "/api/v1/nodes/n1", MERGE, &set).await;
    let unset = json!({"metadata": {"annotations": {"a": null}}, "spec": {"unschedulable": false, "taints": []}});
    let (_, node) = send(&server, "PATCH", "/api/v1/nodes/n1", MERGE, &unset).await;
    assert_eq!((node["metadata"].get("annotations"), &node["spec"]), (None, &json!({})));
}

#[tokio::test(start_paused = true)]
async fn strategic_merge_joins_conditions_by_type() {
    let server = server();
    server.seed(pod("web")).unwrap();
    let patch =
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "X", "status": "True"}]}});
    let (_, pod) = send(&server, "PATCH", &format!("{POD}/status"), STRATEGIC, &patch).await;
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2);
    assert_eq!((&conditions[0]["type"], &conditions[1]["status"]), (&json!("X"), &json!("False")));
    assert_eq!(pod["status"]["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn spec_and_status_change_only_through_their_own_url() {
    let server = server();
    server.seed(node("n1")).unwrap();
    let both = json!({"spec": {"unschedulable": true}, "status": {"phase": "x"}});
    let (_, node) = send(&server, "PATCH", "/api/v1/nodes/n1/status", MERGE, &both).await;
    assert_eq!((&node["spec"], &node["status"]["phase"]), (&json!({}), &json!("x")));
    let (_, node) = send(&server, "PATCH", "/api/v1/nodes/n1", MERGE, &json!({"status": {"phase": "y"}})).await;
    assert_eq!(node["status"]["phase"], "x");
}

#[tokio::test(start_paused = true)]
async fn stale_writes_conflict_and_unchanged_ones_keep_the_revision() {
    let server = server();
    let stale = server.seed(node("n1")).unwrap();
    let (_, fresh) =
        send(&server, "PATCH", "/api/v1/nodes/n1", MERGE, &json!({"metadata": {"labels": {"a": "1"}}})).await;
    let (code, answer) = call(&server, "PUT", "/api/v1/nodes/n1", &stale).await;
    assert_eq!((code, &answer["reason"]), (409, &json!("Conflict")));
    let merge = json!({"metadata": {"resourceVersion": stale["metadata"]["resourceVersion"]}});
    assert_eq!(send(&server, "PATCH", "/api/v1/nodes/n1", MERGE, &merge).await.0, 409);
    let (code, same) = call(&server, "PUT", "/api/v1/nodes/n1", &fresh).await;
    assert_eq!((code, &same), (200, &fresh));
}

#[tokio::test(start_paused = true)]
async fn budget_generation_counts_changes_of_spec_alone() {
    let server = server();
    server.seed(pdb("one", &json!({"minAvailable": 1}))).unwrap();
    let path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/one";
    send(&server, "PATCH", path, MERGE, &json!({"metadata": {"labels": {"a": "1"}}})).await;
    let (_, pdb) = send(&server, "PATCH", path, MERGE, &json!({"spec": {"minAvailable": 2}})).await;
    assert_eq!(pdb["metadata"]["generation"], 2);
    assert_eq!(server.object(path).unwrap()["status"]["observedGeneration"], 2);
}

#[tokio::test(start_paused = true)]
async fn creation_refuses_duplicates_and_unknown_namespaces_and_resets_status() {
    let server = server();
    let (code, created) = call(&server, "POST", "/api/v1/namespaces/default/pods", &pod("web")).await;
    assert_eq!((code, &created["status"]["phase"]), (201, &json!("Pending")));
    let (code, answer) = call(&server, "POST", "/api/v1/namespaces/default/pods", &pod("web")).await;
    assert_eq!((code, &answer["reason"]), (409, &json!("AlreadyExists")));
    let mut elsewhere = pod("web");
    elsewhere["metadata"]["namespace"] = json!("nowhere");
    let (code, answer) = call(&server, "POST", "/api/v1/namespaces/nowhere/pods", &elsewhere).await;
    assert_eq!((code, &answer["details"]["kind"]), (404, &json!("namespaces")));
}

// ---- list and watch -------------------------------------------------------------------------------------------------

#[rstest]
#[case::node("fieldSelector=spec.nodeName%3Dn1", 2)]
#[case::not_phase("fieldSelector=status.phase!=Running", 1)]
#[case::name("fieldSelector=metadata.name=c,metadata.namespace=default", 1)]
#[case::label("labelSelector=app=web", 3)]
#[case::label_set("labelSelector=app+in+(web,db),!gone", 3)]
#[case::label_not_in("labelSelector=app+notin+(web)", 0)]
#[tokio::test(start_paused = true)]
async fn selectors_filter_lists(#[case] query: &str, #[case] count: usize) {
    let server = server();
    server.seed(pod("a")).unwrap();
    server.seed(pod_with("b", "/status/phase", json!("Failed"))).unwrap();
    server.seed(pod_with("c", "/spec/nodeName", json!("n2"))).unwrap();
    let (_, list) = call(&server, "GET", &format!("/api/v1/pods?{query}"), &Value::Null).await;
    assert_eq!(list["items"].as_array().unwrap().len(), count);
    assert!(list["items"].as_array().unwrap().iter().all(|item| item.get("kind").is_none()));
}

#[tokio::test(start_paused = true)]
async fn unsupported_field_selectors_are_refused() {
    let (code, _) = call(&server(), "GET", "/api/v1/pods?fieldSelector=spec.colour=red", &Value::Null).await;
    assert_eq!(code, 400);
}

#[tokio::test(start_paused = true)]
async fn pages_join_to_the_whole_list_and_expire_with_compaction() {
    let server = server();
    for at in 0..5 {
        server.seed(pod(&format!("p{at}"))).unwrap();
    }
    let (_, first) = call(&server, "GET", "/api/v1/pods?limit=3", &Value::Null).await;
    assert_eq!((&first["metadata"]["remainingItemCount"], first["items"].as_array().unwrap().len()), (&json!(2), 3));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = call(&server, "GET", &format!("/api/v1/pods?limit=3&continue={token}"), &Value::Null).await;
    assert_eq!(second["items"][0]["metadata"]["name"], "p3");
    assert!(second["metadata"].get("continue").is_none());
    server.compact();
    let (code, _) = call(&server, "GET", &format!("/api/v1/pods?limit=3&continue={token}"), &Value::Null).await;
    assert_eq!(code, 410);
}

#[tokio::test(start_paused = true)]
async fn watch_replays_from_its_revision_and_ends_with_its_timeout() {
    let server = server();
    let first = server.seed(pod("web")).unwrap();
    delete_with(&server, 0).await;
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let began = tokio::time::Instant::now();
    let lines =
        watch_lines(&server, &format!("/api/v1/pods?watch=1&resourceVersion={revision}&timeoutSeconds=9")).await;
    assert_eq!(kinds(&lines), ["MODIFIED", "DELETED"]);
    assert_eq!(began.elapsed(), Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn watch_without_a_revision_starts_with_what_is_there() {
    let server = server();
    server.seed(node("n1")).unwrap();
    server.seed(node("n2")).unwrap();
    let lines =
        watch_lines(&server, "/api/v1/nodes?watch=true&timeoutSeconds=5&fieldSelector=metadata.name%3Dn2").await;
    assert_eq!(kinds(&lines), ["ADDED"]);
}

#[tokio::test(start_paused = true)]
async fn bookmark_comes_only_when_asked_for() {
    let server = server();
    let lines = watch_lines(&server, "/api/v1/nodes?watch=1&timeoutSeconds=60&allowWatchBookmarks=true").await;
    assert_eq!(kinds(&lines), ["BOOKMARK"]);
    assert!(watch_lines(&server, "/api/v1/nodes?watch=1&timeoutSeconds=60").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn old_revision_after_compaction_is_expired() {
    let server = server();
    let seen = server.seed(node("n1")).unwrap();
    server.compact();
    let revision = seen["metadata"]["resourceVersion"].as_str().unwrap();
    let lines =
        watch_lines(&server, &format!("/api/v1/nodes?watch=1&resourceVersion={revision}&timeoutSeconds=5")).await;
    assert_eq!((kinds(&lines), &lines[0]["object"]["code"]), (vec!["ERROR"], &json!(410)));
    assert_eq!(lines[0]["object"]["reason"], "Expired");
}

#[tokio::test(start_paused = true)]
async fn object_that_leaves_the_selection_is_deleted_for_the_watch() {
    let server = server();
    let seen = server.seed(pod_with("web", "/spec/nodeName", json!(""))).unwrap();
    call(&server, "POST", &format!("{POD}/binding"), &json!({"target": {"name": "n1"}})).await;
    send(&server, "PATCH", &format!("{POD}/status"), MERGE, &json!({"status": {"phase": "Failed"}})).await;
    let revision = seen["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!(
        "/api/v1/pods?watch=1&resourceVersion={revision}&timeoutSeconds=5&fieldSelector=spec.nodeName=n1,status.phase!=Failed"
    );
    let lines = watch_lines(&server, &path).await;
    assert_eq!(kinds(&lines), ["ADDED", "DELETED"]);
    assert_eq!(lines[1]["object"]["status"]["phase"], "Running", "the last state that matched");
}

// ---- through kube ---------------------------------------------------------------------------------------------------

/// Reads watcher events, as words, up to and including `last`; errors are words too.
async fn until<S>(events: &mut S, last: &str) -> Vec<String>
where
    S: futures::Stream<Item = watcher::Result<Event<Pod>>> + Unpin,
{
    let mut seen = Vec::new();
    while seen.last().is_none_or(|word| word != last) {
        let name = |pod: Pod| pod.metadata.name.unwrap();
        let event = tokio::time::timeout(Duration::from_mins(15), events.next()).await;
        seen.push(match event.expect("an event in time").unwrap() {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitApply(pod)) => format!("listed {}", name(pod)),
            Ok(Event::InitDone) => "synced".to_owned(),
            Ok(Event::Apply(pod)) => format!("applied {}", name(pod)),
            Ok(Event::Delete(pod)) => format!("deleted {}", name(pod)),
            Err(_) => "error".to_owned(),
        });
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn kube_watcher_sees_everything_across_closed_watches_and_compaction() {
    let server = server();
    server.seed(pod("web")).unwrap();
    let api: Api<Pod> = Api::all(server.client());
    let mut events = watcher::watcher(api, watcher::Config::default().fields("spec.nodeName=n1")).boxed();
    assert_eq!(until(&mut events, "synced").await, ["init", "listed web", "synced"]);
    server.seed(pod("b")).unwrap();
    // Seeding writes twice: the creation, then the status.
    assert_eq!(until(&mut events, "applied b").await, ["applied b"]);
    server.close_watches();
    delete_with(&server, 0).await;
    assert_eq!(until(&mut events, "deleted web").await, ["applied b", "applied web", "deleted web"]);
    server.close_watches();
    server.seed(pod("c")).unwrap();
    server.compact();
    assert_eq!(until(&mut events, "synced").await, ["error", "init", "listed b", "listed c", "synced"]);
}

#[tokio::test(start_paused = true)]
async fn kube_client_reads_nodes_and_reports_conflicts() {
    let server = server();
    server.seed(node("n1")).unwrap();
    let nodes: Api<Node> = Api::all(server.client());
    let mut stale = nodes.get("n1").await.unwrap();
    stale.metadata.resource_version = Some("1".to_owned());
    let error = nodes.replace("n1", &kube::api::PostParams::default(), &stale).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.is_conflict()));
    let lines = nodes.watch(&kube::api::WatchParams::default().timeout(3), "0").await.unwrap();
    assert_eq!(lines.boxed().try_collect::<Vec<_>>().await.unwrap().len(), 2, "the node and a bookmark");
}

// ---- the rest -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn discovery_lists_every_resource() {
    let server = server();
    for path in ["/version", "/api", "/apis", "/api/v1", "/apis/policy/v1", "/apis/policy", "/livez", "/readyz"] {
        assert_eq!(call(&server, "GET", path, &Value::Null).await.0, 200, "{path}");
    }
    let (_, list) = call(&server, "GET", "/api/v1", &Value::Null).await;
    assert!(list["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == "pods/eviction"));
    assert_eq!(call(&server, "GET", "/api/v1/secrets", &Value::Null).await.0, 404);
    assert_eq!(call(&server, "DELETE", "/api/v1/nodes", &Value::Null).await.0, 405);
}

#[tokio::test(start_paused = true)]
async fn access_reviews_allow_unless_told_otherwise() {
    let server = server();
    server.deny_review("create", "pods/eviction");
    let review = |resource: &str, subresource: &str| json!({"spec": {"resourceAttributes": {"verb": "create", "resource": resource, "subresource": subresource}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (_, denied) = call(&server, "POST", path, &review("pods", "eviction")).await;
    let (_, allowed) = call(&server, "POST", path, &review("pods", "")).await;
    assert_eq!((&denied["status"]["allowed"], &allowed["status"]["allowed"]), (&json!(false), &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn garbage_is_a_bad_request() {
    let server = server();
    server.seed(node("n1")).unwrap();
    for (method, path) in [("POST", "/api/v1/nodes"), ("PUT", "/api/v1/nodes/n1"), ("DELETE", "/api/v1/nodes/n1")] {
        let request = Request::builder().method(method).uri(path).body(Bytes::from_static(b"{nope")).unwrap();
        assert_eq!(server.handle(&request).status().as_u16(), 400, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_can_be_written_and_read_in_either_form() {
    let server = server();
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1", "namespace": "default"}, "reason": "Told",
        "involvedObject": {"kind": "Node", "name": "n1", "uid": "n1"}, "message": "hello", "source": {"component": "x"},
        "type": "Normal", "count": 1,
    });
    let (code, created) = call(&server, "POST", "/api/v1/namespaces/default/events", &event).await;
    assert_eq!((code, &created["apiVersion"], &created["message"]), (201, &json!("v1"), &json!("hello")));
    let (_, new) = call(&server, "GET", "/apis/events.k8s.io/v1/namespaces/default/events/e1", &Value::Null).await;
    assert_eq!((&new["note"], &new["regarding"]["name"]), (&json!("hello"), &json!("n1")));
    assert!(new.get("message").is_none() && new["apiVersion"] == "events.k8s.io/v1", "{new}");
    let (_, list) = call(&server, "GET", "/api/v1/events?fieldSelector=involvedObject.uid%3Dn1", &Value::Null).await;
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("v1")));
    assert_eq!(list["items"][0]["message"], "hello");
    let lines = watch_lines(&server, "/api/v1/events?watch=1&timeoutSeconds=1").await;
    assert_eq!(lines[0]["object"]["involvedObject"]["name"], "n1");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_a_table_gets_one() {
    let server = server();
    server.seed(node("n1")).unwrap();
    let cordon = json!({"spec": {"unschedulable": true}});
    send(&server, "PATCH", "/api/v1/nodes/n1", "application/merge-patch+json", &cordon).await;
    let get = async |path: &str, accept: &str| -> Value {
        let request = Request::builder().uri(path).header("accept", accept).body(Bytes::new()).unwrap();
        let bytes = server.handle(&request).into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(bytes.split(|byte| *byte == b'\n').next().unwrap()).unwrap()
    };
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = get("/api/v1/nodes", accept).await;
    assert_eq!(table["kind"], "Table");
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(columns[..5], ["Name", "Status", "Roles", "Age", "Version"]);
    let row = &table["rows"][0];
    assert_eq!((&row["cells"][0], &row["object"]["metadata"]["name"]), (&json!("n1"), &json!("n1")));
    assert!(row["cells"][1].as_str().unwrap().ends_with(",SchedulingDisabled"), "{row}");
    let watched = get("/api/v1/nodes?watch=1&timeoutSeconds=1", accept).await;
    assert_eq!((&watched["type"], &watched["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(get("/api/v1/nodes/n1", "application/json").await["kind"], "Node", "unasked, nothing changes");
    assert_eq!(get("/api/v1/nodes/n2", accept).await["kind"], "Status", "a refusal is no table");
}
