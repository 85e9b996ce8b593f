//! The whole doctor beside the simulated metadata service and API server; and what it writes.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::config::LocalAddress;
use crate::interruption::fence::LOAD_BALANCER_LABEL;
use crate::interruption::state::ANNOTATION;
use crate::sim::apiserver::ApiServer;
use crate::sim::imds::{Fault, FaultKind, IdentitySpec, SimImds};
use crate::sim::ipamd::{Endpoint, SimIpamd};
use crate::sim::objects::{NodeSpec, Owner, PodSpec, budget};
use crate::tls::tests::{Authority, PRESENT, Scratch, Server};
use report::{Status, ids};

const NODE: &str = "n1";

/// A node with its metadata service and its API server, where all is well.
struct Place {
    clock: Clock,
    imds: SimImds,
    server: ApiServer,
    config: Config,
    tasks: JoinSet<()>,
}

impl Place {
    async fn new() -> Self {
        let clock = Clock::anchored("2026-03-31T16:32:24.5Z".parse().unwrap());
        let imds = SimImds::new(clock, IdentitySpec::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::for_node(NODE);
        config.imds.endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(imds.clone().serve(listener));
        let server = ApiServer::new(clock);
        let place = Self { clock, imds, server, config, tasks };
        place.seed("v1", "Node", serde_json::to_value(NodeSpec::new(NODE).build(clock.now().wall)).unwrap());
        place.pod(&PodSpec::new("default", "web-0"));
        place.pod(&PodSpec::new("default", "agent-0").owned_by(Owner::DaemonSet));
        place
    }

    fn seed(&self, version: &str, kind: &str, mut object: Value) {
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        self.server.seed(object).unwrap();
    }

    /// A pod that runs on the node.
    fn pod(&self, spec: &PodSpec) {
        let mut pod = serde_json::to_value(spec.clone().on(NODE).build()).unwrap();
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        self.seed("v1", "Pod", pod);
    }

    /// A budget that lets no pod of the app go.
    fn budget(&self, name: &str, app: &str) {
        let budget = budget("default", name, &[("app", app)], None, Some(0));
        self.seed("policy/v1", "PodDisruptionBudget", serde_json::to_value(budget).unwrap());
    }

    async fn patch_node(&self, patch: Value) {
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(self.server.client());
        nodes.patch(NODE, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    }

    async fn report(&self) -> Report {
        let report = examine(&self.config, Ok(self.server.client()), self.clock).await;
        let known = ids();
        let places: Vec<_> =
            report.findings.iter().map(|found| known.iter().position(|id| *id == found.id).unwrap()).collect();
        assert!(places.is_sorted(), "in the documented order, each once: {places:?}");
        assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), places.len());
        report
    }
}

fn finding<'a>(report: &'a Report, id: &str) -> &'a Finding {
    report.findings.iter().find(|finding| finding.id == id).unwrap()
}

/// Ids by status, those that are well left out.
fn trouble(report: &Report) -> Vec<(&'static str, Status)> {
    let no_cni = |finding: &&Finding| finding.status == Status::Skipped && finding.found.contains("ipamd");
    let others = report.findings.iter().filter(|finding| finding.status != Status::Ok && !no_cni(finding));
    others.map(|finding| (finding.id, finding.status)).collect()
}

#[tokio::test(start_paused = true)]
async fn where_all_is_well_everything_is_ok() {
    let place = Place::new().await;
    let report = place.report().await;
    assert_eq!(trouble(&report), [], "{}", report.table());
    assert!(report.passed());
    assert_eq!(finding(&report, "identity").found, "i-0123456789abcdef0, m5.large, eu-west-1a (euw1-az1), spot");
    assert_eq!(finding(&report, "budgets").found, "none of 1 evictions would be refused");
    let kinds: BTreeSet<_> = report.findings.iter().map(|finding| finding.id).collect();
    assert!(metadata::ITEMS.iter().all(|(kind, _)| kinds.contains(kind.as_str())));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_and_only_rights_of_the_agent_are_used() {
    let place = Place::new().await;
    let before = place.server.object("/api/v1/nodes/n1");
    let (client, asked) = recorded(place.server.client());
    let report = examine(&place.config, Ok(client), place.clock).await;
    assert!(report.passed());
    assert_eq!(place.server.object("/api/v1/nodes/n1"), before);
    assert!(
        place.server.object("/api/v1/namespaces/default/pods/web-0").unwrap()["metadata"]["deletionTimestamp"]
            .is_null()
    );
    let rights: BTreeSet<_> = RIGHTS.iter().map(|right| (right.verb, right.resource_path())).collect();
    for (verb, resource, query) in asked.lock().unwrap().iter() {
        match resource.as_str() {
            // `/version` and reviews of one's own rights: granted to everybody who has logged in.
            "" | "selfsubjectaccessreviews" => {}
            "pods/eviction" => assert!(query.contains("dryRun=All"), "{query}"),
            _ => assert!(
                rights.contains(&(*verb, resource.clone())) && ["get", "list"].contains(verb),
                "{verb} {resource}"
            ),
        }
    }
    assert!(asked.lock().unwrap().iter().any(|(_, resource, _)| resource == "pods/eviction"));
}

type Asked = std::sync::Arc<std::sync::Mutex<Vec<(&'static str, String, String)>>>;

/// The same client, with verb, resource and query of what it sends.
fn recorded(client: kube::Client) -> (kube::Client, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let attributes = crate::k8s::attributes::Attributes::of(request.method(), request.uri());
        let query = request.uri().query().unwrap_or_default().to_owned();
        log.lock().unwrap().push((attributes.verb, attributes.resource_path(), query));
        let client = client.clone();
        async move { client.send(request).await }
    });
    (kube::Client::new(service, "default"), asked)
}

#[tokio::test(start_paused = true)]
async fn a_token_request_without_an_answer_names_the_hop_limit_and_the_host_network() {
    let place = Place::new().await;
    place.imds.fault(Fault::new(FaultKind::Silence).method("PUT"));
    let report = place.report().await;
    let imds = finding(&report, "imds");
    assert_eq!(imds.status, Status::Missing);
    let remedy = imds.remedy.as_deref().unwrap();
    assert!(remedy.contains("hostNetwork: true") && remedy.contains("HttpPutResponseHopLimit to 2"), "{remedy}");
    for id in ["identity", "spot-interruption", "clock"] {
        assert_eq!(finding(&report, id).status, Status::Skipped, "{id}");
    }
    assert_eq!(finding(&report, "forecast").status, Status::Ok, "the API server is looked at all the same");
    assert!(!report.passed());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_metadata_endpoint_is_named() {
    let place = Place::new().await;
    place.imds.set_enabled(false);
    let report = place.report().await;
    let imds = finding(&report, "imds");
    assert!(imds.found.contains("403") && imds.found.contains("HttpEndpoint=disabled"), "{}", imds.found);
    assert!(imds.remedy.as_deref().unwrap().contains("HttpEndpoint=enabled"));
}

#[tokio::test(start_paused = true)]
async fn a_metadata_service_that_is_not_there_is_named_with_its_endpoint() {
    let mut place = Place::new().await;
    for (endpoint, remedy) in
        [("http://127.0.0.1:9", "AWS_EC2_METADATA_SERVICE_ENDPOINT"), ("http://[::1]:9", "HttpProtocolIpv6=enabled")]
    {
        place.config.imds.endpoint = endpoint.into();
        let report = place.report().await;
        let imds = finding(&report, "imds");
        assert_eq!(imds.status, Status::Missing);
        assert!(imds.found.starts_with(endpoint) && imds.remedy.as_deref().unwrap().contains(remedy), "{imds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_response_the_metadata_service_is_not_needed() {
    let mut place = Place::new().await;
    place.imds.power_off();
    place.config.on_spot_interruption = Response::Ignore;
    place.config.on_rebalance_recommendation = Response::Ignore;
    place.config.on_scheduled_event = Response::Ignore;
    place.config.on_asg_termination = Response::Ignore;
    let report = place.report().await;
    assert_eq!(finding(&report, "imds").status, Status::Skipped);
    assert!(report.passed(), "{}", report.table());
    assert!(place.imds.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_now_is_told() {
    let place = Place::new().await;
    place.imds.set_spot_action("stop", "2026-03-31T16:34:24Z".parse().unwrap());
    let report = place.report().await;
    let spot = finding(&report, "spot-interruption");
    assert_eq!(spot.status, Status::Warning);
    assert_eq!(spot.found, "announced now: EC2 will stop this instance at 2026-03-31T16:34:24Z");
    assert!(report.passed());
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_none_is_missing_with_its_words() {
    let place = Place::new().await;
    place.imds.set_raw("/latest/meta-data/spot/instance-action", "<html>\u{1b}[2J sign in</html>");
    let report = place.report().await;
    let spot = finding(&report, "spot-interruption");
    assert!(spot.status == Status::Missing && spot.found.contains("sign in"), "{spot:?}");
    assert!(!report.table().contains('\u{1b}'), "a terminal is not for others to write on");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_a_warning_with_its_side() {
    for (ahead, expected) in [(4, Status::Ok), (-4, Status::Ok), (60, Status::Warning), (-60, Status::Warning)] {
        let place = Place::new().await;
        place.imds.fault(Fault::new(FaultKind::DateSkew(SignedDuration::from_secs(ahead))));
        let report = place.report().await;
        let clock = finding(&report, "clock");
        assert_eq!(clock.status, expected, "{}", clock.found);
        // It is the platform's clock that was set.
        assert!(clock.found.contains(if ahead > 0 { "behind" } else { "ahead of" }), "{}", clock.found);
        assert!(report.passed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_on_demand_instance_is_only_a_note() {
    let place = Place::new().await;
    place.imds.set_raw("/latest/meta-data/instance-life-cycle", "on-demand");
    let report = place.report().await;
    let identity = finding(&report, "identity");
    assert!(identity.status == Status::Ok && identity.found.contains("not a spot instance"), "{identity:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_silent_costs_seconds_and_leaves_the_metadata_service_checked() {
    let place = Place::new().await;
    let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, Infallible>>()
    });
    let start = Instant::now();
    let report = examine(&place.config, Ok(kube::Client::new(silent, "default")), place.clock).await;
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(finding(&report, "api-server").status, Status::Missing);
    assert_eq!(finding(&report, "imds").status, Status::Ok);
    assert!(report.findings.iter().filter(|found| found.status == Status::Skipped).count() >= RIGHTS.len() + 3);
}

/// The slowest that can be: every question is answered just not in time.
#[tokio::test(start_paused = true)]
async fn everything_together_is_bounded() {
    let place = Place::new().await;
    (0..110).for_each(|number| place.pod(&PodSpec::new("default", &format!("full-{number}"))));
    place.imds.fault(Fault::new(FaultKind::Delay(Duration::from_millis(2900))));
    let inner = place.server.client();
    let slow = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let inner = inner.clone();
        async move {
            let eviction = request.uri().path().ends_with("/eviction");
            tokio::time::sleep(Duration::from_secs(if eviction { 11 } else { 5 })).await;
            inner.send(request).await
        }
    });
    let start = Instant::now();
    let report = examine(&place.config, Ok(kube::Client::new(slow, "default")), place.clock).await;
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(finding(&report, "api-server").status, Status::Warning, "5 s is slow");
    let budgets = finding(&report, "budgets");
    assert!(budgets.status == Status::Warning && budgets.found.contains("103 could not be tried out"), "{budgets:?}");
}

#[tokio::test(start_paused = true)]
async fn no_way_to_the_api_server_is_told_with_its_reason() {
    let place = Place::new().await;
    let error = ClientError::NotInCluster("no token".into());
    let report = examine(&place.config, Err(error), place.clock).await;
    let server = finding(&report, "api-server");
    assert!(server.status == Status::Missing && server.found.contains("no token"), "{server:?}");
}

#[tokio::test(start_paused = true)]
async fn each_missing_right_is_named_with_a_rule_to_paste() {
    for right in &RIGHTS {
        let place = Place::new().await;
        place.server.deny_review(right.verb, &right.resource_path());
        let report = place.report().await;
        let found = finding(&report, right.id);
        assert_eq!(found.status, Status::Missing, "{}", right.id);
        let missing: Vec<_> = trouble(&report).into_iter().filter(|(_, status)| *status == Status::Missing).collect();
        assert_eq!(missing, [(right.id, Status::Missing)]);
        let rule = found.paste.as_deref().unwrap();
        let rules: Vec<Value> = serde_saphyr::from_str(rule).unwrap();
        let expected = json!({"apiGroups": [right.group], "resources": [right.resource_path()], "verbs": [right.verb]});
        assert_eq!(rules, [expected]);
        assert!(report.table().lines().any(|line| line.trim() == rule), "in one piece: {}", report.table());
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_evict_budgets_are_skipped_and_the_forecast_is_made() {
    let place = Place::new().await;
    place.server.deny_review("create", "pods/eviction");
    let report = place.report().await;
    assert_eq!(finding(&report, "budgets").status, Status::Skipped);
    assert_eq!(finding(&report, "forecast").status, Status::Ok);
}

#[tokio::test(start_paused = true)]
async fn rights_that_the_settings_do_not_use_are_not_asked_for() {
    let mut place = Place::new().await;
    for (response, dry_run, skipped) in [
        (Response::Observe, false, 5),
        (Response::Cordon, false, 3),
        (Response::Drain, false, 0),
        (Response::Drain, true, 6),
    ] {
        place.config.dry_run = dry_run;
        place.config.on_spot_interruption = response;
        place.config.on_rebalance_recommendation = response;
        place.config.on_scheduled_event = response;
        place.config.on_asg_termination = response;
        let report = place.report().await;
        let rights = RIGHTS.iter().filter(|right| finding(&report, right.id).status == Status::Skipped);
        assert_eq!(rights.count(), skipped, "{response:?}, dry run: {dry_run}");
        assert!(report.passed());
    }
}

/// A service that answers some paths with a refusal.
fn refusing(inner: kube::Client, path: &'static str) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let inner = inner.clone();
        async move {
            if request.uri().path() != path {
                return inner.send(request).await;
            }
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                "reason": "Forbidden", "message": "not for you"});
            let body = kube::client::Body::from(status.to_string().into_bytes());
            Ok(http::Response::builder().status(403).body(body).unwrap())
        }
    });
    kube::Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_refused_leaves_the_others() {
    let place = Place::new().await;
    for (path, expected) in [
        ("/version", vec![]),
        ("/api/v1/pods", vec![("budgets", Status::Skipped), ("forecast", Status::Skipped)]),
        (
            "/api/v1/nodes",
            vec![
                ("node", Status::Missing),
                ("node-marks", Status::Skipped),
                ("budgets", Status::Skipped),
                ("forecast", Status::Skipped),
            ],
        ),
    ] {
        let client = refusing(place.server.client(), path);
        let report = examine(&place.config, Ok(client), place.clock).await;
        assert_eq!(trouble(&report), expected, "{path}");
    }
    let client = refusing(place.server.client(), "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
    let report = examine(&place.config, Ok(client), place.clock).await;
    for right in &RIGHTS {
        let found = finding(&report, right.id);
        assert!(found.status == Status::Warning && found.found.contains("403: not for you"), "{found:?}");
        assert!(found.remedy.as_deref().unwrap().contains("system:basic-user"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_node_name_is_named_with_the_remedy() {
    let mut place = Place::new().await;
    place.config.node_name = "n2".into();
    let report = place.report().await;
    let node = finding(&report, "node");
    assert!(node.status == Status::Missing && node.found.contains("n2"), "{node:?}");
    assert!(node.remedy.as_deref().unwrap().contains("NODE_NAME"));
    assert_eq!(finding(&report, "forecast").status, Status::Skipped, "nobody's pods");
}

#[tokio::test(start_paused = true)]
async fn budgets_that_would_refuse_are_named_with_the_servers_words() {
    let place = Place::new().await;
    place.pod(&PodSpec::new("default", "till-0"));
    place.budget("no-way", "till");
    let report = place.report().await;
    let budgets = finding(&report, "budgets");
    assert_eq!(budgets.status, Status::Warning);
    assert_eq!(budgets.found, "1 of 2 evictions would be refused now");
    assert!(budgets.details[0].starts_with("default/till-0: The disruption budget no-way needs"), "{budgets:?}");
    assert!(finding(&report, "forecast").details[0].starts_with("default/till-0: blocked"));
    assert!(report.passed(), "it is a warning");
}

#[tokio::test(start_paused = true)]
async fn two_budgets_on_one_pod_are_named_as_such() {
    let place = Place::new().await;
    place.budget("one", "web");
    place.budget("other", "web");
    let report = place.report().await;
    let budgets = finding(&report, "budgets");
    assert!(budgets.details[0].contains("more than one PodDisruptionBudget"), "{budgets:?}");
    assert!(budgets.remedy.as_deref().unwrap().contains("at most one"), "{budgets:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_that_want_more_than_a_notice_leaves_are_named_the_worst_five() {
    let place = Place::new().await;
    (0..7).for_each(|number| place.pod(&PodSpec::new("default", &format!("slow-{number}")).grace(600)));
    let report = place.report().await;
    let forecast = finding(&report, "forecast");
    assert_eq!(forecast.status, Status::Warning);
    assert!(forecast.found.contains("7 shortened") && forecast.found.contains("least slack -483 s"), "{forecast:?}");
    assert_eq!(forecast.details.len(), 6);
    assert_eq!(forecast.details[5], "and 2 more");
    let object: Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(object["forecast"]["pods"]["shortened"], 7);
    assert_eq!(object["forecast"]["least_slack_seconds"], -483.0);
    assert_eq!(object["forecast"]["worst"].as_array().unwrap().len(), 5);
}

fn state(marks: &Value, boot_id: &str) -> String {
    json!({
        "version": 2, "bootId": boot_id, "response": "drain", "complete": true, "marks": marks,
        "announcements": [{"kind": "scheduled-event", "action": "reboot", "id": "scheduled-event/1",
            "deadline": "2026-03-31T17:00:00Z", "firstSeen": "2026-03-31T16:00:00Z"}],
    })
    .to_string()
}

#[tokio::test(start_paused = true)]
async fn what_is_on_the_node_is_told_with_its_owner() {
    let boot = NodeSpec::new(NODE).boot_id();
    let taint = json!([{"key": "spotwarden/interruption", "value": "spot-interruption", "effect": "NoSchedule"}]);
    let annotated =
        |text: &str| json!({"metadata": {"annotations": {ANNOTATION: text}}, "spec": {"unschedulable": true}});
    let cases = [
        (json!({"spec": {"unschedulable": true}}), "cordoned, and not by the agent"),
        (
            json!({"spec": {"taints": taint}}),
            "marks like ours, but nothing is recorded: taint spotwarden/interruption=",
        ),
        (
            json!({"metadata": {"labels": {LOAD_BALANCER_LABEL: "spotwarden"}}}),
            "marks like ours, but nothing is recorded: label node.kubernetes.io/exclude",
        ),
        (annotated("{"), "annotation spotwarden/state is not readable"),
        (
            annotated(&state(&json!({}), &boot)),
            "scheduled-event (reboot) at 2026-03-31T17:00:00Z; cordoned by somebody",
        ),
        (annotated(&state(&json!({"unschedulable": true}), "other")), "left by an earlier boot of this node"),
    ];
    for (patch, expected) in cases {
        let place = Place::new().await;
        place.patch_node(patch).await;
        let report = place.report().await;
        let marks = finding(&report, "node-marks");
        assert!(marks.status == Status::Warning && marks.found.contains(expected), "{expected}: {marks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn foreign_load_balancer_labels_and_taints_are_not_taken_for_ours() {
    let place = Place::new().await;
    place
        .patch_node(json!({
            "metadata": {"labels": {LOAD_BALANCER_LABEL: "true"}},
            "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
        }))
        .await;
    assert_eq!(finding(&place.report().await, "node-marks").status, Status::Ok);
}

/// Puts the VPC CNI on the node.
async fn with_cni(place: &mut Place) -> SimIpamd {
    let ipamd = SimIpamd::new(place.clock, crate::sim::ipamd::NodeSpec::default());
    let mut addresses = Vec::new();
    for endpoint in [Endpoint::Introspection, Endpoint::Metrics] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(LocalAddress::Tcp(listener.local_addr().unwrap().to_string()));
        place.tasks.spawn(ipamd.clone().serve(endpoint, listener));
    }
    place.config.cni.metrics = addresses.pop().unwrap();
    place.config.cni.introspection = addresses.pop().unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    ipamd
}

#[tokio::test(start_paused = true)]
async fn the_headroom_of_addresses_is_told_where_the_vpc_cni_is() {
    let mut place = Place::new().await;
    let ipamd = with_cni(&mut place).await;
    let mut aws_node = serde_json::to_value(PodSpec::new("kube-system", "aws-node-x").on(NODE).build()).unwrap();
    aws_node["metadata"]["labels"] = json!({"k8s-app": "aws-node"});
    aws_node["spec"]["hostNetwork"] = json!(true);
    aws_node["spec"]["containers"] =
        json!([{"name": "aws-node", "image": "cni", "env": [{"name": "DISABLE_LEAKED_ENI_CLEANUP", "value": "true"}]}]);
    aws_node["status"] = json!({"phase": "Running"});
    place.seed("v1", "Pod", aws_node);
    let report = place.report().await;
    let found = |id| (finding(&report, id).status, finding(&report, id).found.as_str());
    assert_eq!(found("ipamd-introspection").0, Status::Ok, "{}", report.table());
    assert!(found("ipamd-metrics").1.ends_with("the CNI is v1.23.1"), "{}", report.table());
    let truth = ipamd.truth();
    let (status, words) = found("pod-addresses");
    assert!(
        status == Status::Ok && words.starts_with(&format!("{} of {} addresses", truth.free, truth.total)),
        "{words}"
    );
    assert_eq!(found("cni-settings").0, Status::Warning, "{}", report.table());
    assert!(report.passed(), "none of it is needed");
    place.config.cni.enabled = false;
    let report = place.report().await;
    assert!(finding(&report, "pod-addresses").found.contains("--cni-headroom is off"));
}

#[tokio::test(start_paused = true)]
async fn the_table_fits_a_terminal_and_the_json_has_every_finding() {
    let place = Place::new().await;
    place.pod(&PodSpec::new("default", &format!("till-{}", "x".repeat(40))).grace(600));
    place.budget("no-way", "till");
    place.server.deny_review("patch", "nodes");
    let mut report = place.report().await;
    report.settings = crate::config::parse::effective(&|_| None, &crate::config::settings::Environment::default());
    let table = report.table();
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        assert_eq!(line.trim_end(), line);
    }
    assert!(table.contains("Result: 1 needed thing is missing; 2 warnings\n"), "{table}");
    let object: Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!((&object["passed"], &object["node"]), (&json!(false), &json!(NODE)));
    assert_eq!(object["checks"].as_array().unwrap().len(), report.findings.len());
    let patch = object["checks"].as_array().unwrap().iter().find(|check| check["id"] == "nodes-patch").unwrap();
    assert_eq!(patch["status"], "missing");
    assert_eq!(patch["paste"], "- {apiGroups: [\"\"], resources: [nodes], verbs: [patch]}");
    let keys: Vec<&str> = patch.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["details", "found", "id", "paste", "remedy", "status"]);
    assert_eq!(object["settings"][2]["flag"], "on-spot-interruption");
    assert_eq!(object["settings"][2]["source"], "default");
}

#[test]
fn a_report_names_each_check_once() {
    let ids = ids();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
}

#[tokio::test]
async fn each_collector_is_asked_with_its_own_certificates_and_says_what_it_answers() {
    let (authority, scratch) = (Authority::new("ours"), Scratch::new("check"));
    let server = Server::start(&authority.sign("127.0.0.1", PRESENT), None).await;
    let mut otlp = crate::otlp::tests::config(&server.url);
    otlp.metrics.as_mut().unwrap().tls.ca_file = Some(scratch.put("ca.pem", &authority.pem()));
    let config = Config { otlp: Some(otlp), ..Config::for_node(NODE) };
    let found = telemetry::findings(&ask::collectors(&config, Clock::System).await);
    let told: Vec<_> = found.iter().map(|one| (one.id, one.status)).collect();
    assert_eq!(told, [("otlp-metrics", Status::Ok), ("otlp-traces", Status::Warning)]);
    assert!(found[0].found.ends_with("/v1/metrics answered 200 to an empty export"), "{found:?}");
    assert!(found[1].found.contains("the issuer of its certificate is not trusted"), "{found:?}");
    let asked = server.asked.lock().unwrap().clone();
    assert!(asked.len() == 1 && asked[0].to_ascii_lowercase().contains("content-length: 0\r\n"), "{asked:?}");
    assert_eq!(ask::collectors(&Config::for_node(NODE), Clock::System).await, [], "nothing is set");
}
