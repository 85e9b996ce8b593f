//! The kubelet against the embedded API server, in virtual time.

use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::sim::apiserver::ApiServer;
use crate::sim::gateway::Gateway;
use crate::sim::gateway::answers::CannedAnswer;
use crate::sim::gateway::backend::in_process;
use crate::sim::gateway::faults::{Fault, FaultKind, Matcher};
use crate::sim::objects::{Owner, PodSpec};

const MINUTE: Duration = Duration::from_mins(1);

/// A client whose requests go through `gateway`.
fn client(gateway: Gateway) -> Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let gateway = gateway.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            gateway.handle(Request::from_parts(head, body)).await.map_err(|error| error.to_string())
        }
    });
    Client::new(service, "default")
}

struct World {
    server: ApiServer,
    /// Between the kubelet and the server.
    gateway: Gateway,
    kubelet: KubeletHandle,
    start: Instant,
    tasks: JoinSet<()>,
}

impl World {
    /// A kubelet of `n1`, after its first list.
    async fn new() -> Self {
        Self::with(clock(), KubeletSpec::default()).await
    }

    async fn with(clock: Clock, spec: KubeletSpec) -> Self {
        let server = ApiServer::new(clock);
        server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})).unwrap();
        let behind = server.clone();
        let gateway = Gateway::new(
            in_process(move |request| {
                let server = behind.clone();
                async move { server.handle(&request) }
            }),
            clock,
        );
        let kubelet = Kubelet::new(client(gateway.clone()), "n1", clock, spec);
        let handle = kubelet.handle();
        let mut tasks = JoinSet::new();
        tasks.spawn(kubelet.run());
        sleep(Duration::from_secs(1)).await;
        Self { server, gateway, kubelet: handle, start: Instant::now(), tasks }
    }

    /// Creates pods and waits until they run and are no longer fresh.
    async fn run_pods(&mut self, pods: impl IntoIterator<Item = PodSpec>) {
        for pod in pods {
            let path = format!("/api/v1/namespaces/{}/pods", pod.namespace);
            assert_eq!(self.send("POST", &path, &serde_json::to_value(pod.build()).unwrap()), 201);
        }
        sleep(Duration::from_secs(10)).await;
        self.start = Instant::now();
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> u16 {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.server.handle(&request.body(body.to_string().into()).unwrap()).status().as_u16()
    }

    fn evict(&self, name: &str, grace: u32) {
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "a"},
            "deleteOptions": {"gracePeriodSeconds": grace},
        });
        assert_eq!(self.send("POST", &format!("/api/v1/namespaces/a/pods/{name}/eviction"), &body), 201);
    }

    fn delete(&self, name: &str, grace: u32) {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace});
        assert_eq!(self.send("DELETE", &format!("/api/v1/namespaces/a/pods/{name}"), &options), 200);
    }

    fn pod(&self, name: &str) -> Option<Value> {
        self.server.object(&format!("/api/v1/namespaces/a/pods/{name}"))
    }

    fn fate(&self, name: &str) -> PodFate {
        self.kubelet.fates().into_iter().find(|fate| fate.name == name).expect("a pod of that name")
    }

    fn seconds(&self, moment: Option<Now>) -> Option<f64> {
        moment.map(|now| (now.instant - self.start).as_secs_f64())
    }

    /// SIGTERM, process gone, object gone: seconds since the start.
    fn times(&self, fate: &PodFate) -> [Option<f64>; 3] {
        [fate.told_at, fate.exited_at, fate.gone_at].map(|moment| self.seconds(moment))
    }
}

fn clock() -> Clock {
    Clock::anchored("2026-01-01T12:00:00Z".parse().unwrap())
}

fn pod(name: &str) -> PodSpec {
    PodSpec::new("a", name).on("n1")
}

fn near(found: [Option<f64>; 3], expected: [Option<f64>; 3]) -> bool {
    found.iter().zip(expected).all(|(found, expected)| match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() < 0.02,
        (found, expected) => *found == expected,
    })
}

#[tokio::test(start_paused = true)]
async fn a_bound_pod_becomes_ready_after_the_start_latency() {
    let mut world = World::new().await;
    let created = Instant::now();
    world.run_pods([pod("web-1")]).await;
    let status = world.pod("web-1").unwrap()["status"].clone();
    assert_eq!(status["phase"], "Running");
    let ready = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "True");
    assert_eq!(status["containerStatuses"].as_array().unwrap().len(), 2);
    let started = world.fate("web-1").started.unwrap();
    assert_eq!((started.instant - created).as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_stops_in_its_own_time_and_its_object_goes() {
    let mut world = World::new().await;
    world.run_pods([pod("web-1").stops_after("10")]).await;
    world.evict("web-1", 30);
    sleep(MINUTE).await;
    let fate = world.fate("web-1");
    let times = world.times(&fate);
    assert!(near(times, [Some(0.05), Some(10.05), Some(10.95)]), "{times:?}");
    assert_eq!((fate.killed, fate.cut_off, fate.grace_granted), (false, false, Some(Duration::from_secs(30))));
    assert_eq!(world.pod("web-1"), None);
    let requests = world.gateway.requests();
    let last: Vec<_> =
        requests.iter().rev().take(2).map(|r| (r.attributes.verb, r.attributes.resource_path())).collect();
    assert_eq!(last, [("delete", "pods".to_owned()), ("patch", "pods/status".to_owned())], "the end is reported first");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ignores_sigterm_is_killed_at_the_end_of_the_grace_it_was_given() {
    let mut world = World::new().await;
    world.run_pods([pod("web-1").grace(30).stops_after("never")]).await;
    world.evict("web-1", 3);
    sleep(MINUTE).await;
    let fate = world.fate("web-1");
    let times = world.times(&fate);
    assert!(near(times, [Some(0.05), Some(3.05), Some(3.95)]), "{times:?}");
    assert_eq!((fate.killed, fate.own_grace), (true, Duration::from_secs(30)));
    assert_eq!(fate.grace_granted, Some(Duration::from_secs(3)), "the final DELETE with grace 0 is no grant");
}

/// The server rebases a shortened grace on the first delete; the kubelet counts it from when it sees it.
#[tokio::test(start_paused = true)]
async fn a_second_delete_shortens_the_running_stop() {
    let mut world = World::new().await;
    world.run_pods([pod("web-1").grace(300).stops_after("never")]).await;
    world.delete("web-1", 300);
    sleep(Duration::from_secs(10)).await;
    world.delete("web-1", 110);
    sleep(5 * MINUTE).await;
    let times = world.times(&world.fate("web-1"));
    assert!(near(times, [Some(0.05), Some(120.0), Some(120.9)]), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_removes_the_object_while_the_process_runs_on() {
    let mut world = World::new().await;
    world.run_pods([pod("db-0").owned_by(Owner::StatefulSet).stops_after("never")]).await;
    world.delete("db-0", 0);
    sleep(MINUTE).await;
    let times = world.times(&world.fate("db-0"));
    assert!(near(times, [Some(0.05), Some(2.05), Some(0.0)]), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_power_cuts_off_what_still_runs_and_silences_the_kubelet() {
    let mut world = World::new().await;
    world.run_pods([pod("told-1").stops_after("never"), pod("untold-1"), pod("done-1")]).await;
    world.evict("told-1", 30);
    world.evict("done-1", 30);
    world.kubelet.power_off(world.start + Duration::from_secs(10));
    sleep(Duration::from_secs(10)).await;
    assert!(world.tasks.join_next().await.is_some(), "the kubelet ends with the power");
    let cut_off = ["told-1", "untold-1", "done-1"].map(|name| world.fate(name).cut_off);
    assert_eq!(cut_off, [true, true, false]);
    assert_eq!(world.fate("told-1").exited_at, None);
    let calls = world.gateway.requests().len();
    sleep(MINUTE).await;
    assert_eq!(world.gateway.requests().len(), calls);
    assert!(world.pod("told-1").is_some(), "its object stays behind");
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_ends_with_the_power_is_not_cut_off() {
    let mut world = World::new().await;
    world.run_pods([pod("web-1").stops_after("10")]).await;
    world.evict("web-1", 30);
    world.kubelet.power_off(world.start + Duration::from_millis(10_051));
    sleep(MINUTE).await;
    let fate = world.fate("web-1");
    assert_eq!((fate.exited_at.is_some(), fate.cut_off, fate.gone_at), (true, false, None));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_up_again_after_a_reboot_keeps_its_record_and_can_be_stopped() {
    let mut world = World::new().await;
    world.run_pods([pod("web-1").stops_after("10"), pod("web-2").stops_after("10")]).await;
    world.evict("web-1", 30);
    world.kubelet.power_off(world.start + Duration::from_secs(5));
    sleep(Duration::from_secs(6)).await;
    let again = Kubelet::new(client(world.gateway.clone()), "n1", clock(), KubeletSpec::default());
    world.tasks.spawn(again.after_reboot(world.kubelet.clone()).run());
    sleep(MINUTE).await;
    assert_eq!(world.kubelet.fates().len(), 2, "no pod is counted twice");
    // Its processes ended with the power; what is left of the stop is the object's removal.
    assert!(world.fate("web-1").cut_off && world.fate("web-1").gone_at.is_some());
    let stopped = Instant::now();
    world.evict("web-2", 30);
    sleep(MINUTE).await;
    let fate = world.fate("web-2");
    assert!(fate.cut_off && fate.told_at.is_some_and(|told| told.instant >= stopped));
    assert!(fate.exited_at.is_some() && fate.gone_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn deleting_a_mirror_stops_no_process() {
    let mut world = World::new().await;
    world.run_pods([pod("proxy-n1").owned_by(Owner::Mirror)]).await;
    world.delete("proxy-n1", 0);
    sleep(MINUTE).await;
    let fate = world.fate("proxy-n1");
    assert!(fate.gone_at.is_some() && fate.running());
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_before_its_start_never_runs() {
    let mut world = World::new().await;
    let body = serde_json::to_value(pod("web-1").build()).unwrap();
    world.send("POST", "/api/v1/namespaces/a/pods", &body);
    sleep(Duration::from_millis(500)).await;
    world.start = Instant::now();
    world.delete("web-1", 30);
    sleep(MINUTE).await;
    let fate = world.fate("web-1");
    assert_eq!((fate.started, fate.told_at, fate.exited_at), (None, None, None));
    assert!(world.pod("web-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn pods_of_other_nodes_are_left_to_others() {
    let mut world = World::new().await;
    let others = Kubelet::new(world.server.client(), Nodes::AllBut("n1".into()), clock(), KubeletSpec::default());
    let handle = others.handle();
    world.tasks.spawn(others.run());
    world.run_pods([pod("here-1"), PodSpec::new("a", "there-1").on("n2"), PodSpec::new("a", "unbound-1")]).await;
    let names = |fates: Vec<PodFate>| fates.into_iter().map(|fate| (fate.name, fate.node)).collect::<Vec<_>>();
    assert_eq!(names(world.kubelet.fates()), [("here-1".to_owned(), "n1".to_owned())]);
    assert_eq!(names(handle.fates()), [("there-1".to_owned(), "n2".to_owned())]);
}

/// Measured on a real node: 100 evictions at once got their SIGTERM within 0.1–2.1 s.
#[tokio::test(start_paused = true)]
async fn a_full_node_is_drained_with_the_spread_of_a_real_one() {
    let mut world = World::new().await;
    world.run_pods((0..110).map(|n| pod(&format!("web-{n}")))).await;
    for n in 0..110 {
        world.evict(&format!("web-{n}"), 30);
    }
    sleep(MINUTE).await;
    let mut told: Vec<f64> = world.kubelet.fates().iter().filter_map(|f| world.seconds(f.told_at)).collect();
    told.sort_by(f64::total_cmp);
    assert_eq!(told.len(), 110);
    assert!(told[0] < 0.1 && (2.0..2.4).contains(&told[109]), "{} … {}", told[0], told[109]);
    assert!(world.kubelet.fates().iter().all(|fate| fate.gone_at.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_outlives_an_api_server_that_is_away_or_fails() {
    let mut world = World::new().await;
    let gateway = world.gateway.clone();
    world.run_pods([pod("web-1")]).await;
    let errors = FaultKind::Answer(CannedAnswer::internal_error());
    gateway.inject(Fault::new(errors).on(Matcher::new("delete", "pods")).times(3));
    gateway.inject(Fault::new(FaultKind::CloseWatches { expired: true }).between(world.start, world.start));
    gateway.inject(Fault::new(FaultKind::Unavailable).between(world.start, world.start + Duration::from_secs(5)));
    world.evict("web-1", 30);
    sleep(MINUTE).await;
    let fate = world.fate("web-1");
    assert!(fate.gone_at.is_some(), "{fate:?}");
    assert!(gateway.requests().iter().filter(|request| request.is("delete", "pods")).count() >= 4);
}

/// Nothing depends on a paused clock: the same in real time, with short latencies.
#[tokio::test]
async fn a_pod_starts_and_stops_in_real_time() {
    let timing = Timing { observe: Duration::from_millis(5), cleanup: Duration::from_millis(5), ..MEASURED };
    let spec = KubeletSpec { start: Duration::from_millis(5), timing, fresh: Duration::ZERO, ..KubeletSpec::default() };
    let mut world = World::with(Clock::System, spec).await;
    world.server.seed(serde_json::to_value(pod("web-1").stops_after("0.01").build()).unwrap()).unwrap();
    let until = async |done: fn(&PodFate) -> bool| {
        while !world.kubelet.fates().iter().any(done) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    until(|fate| fate.started.is_some()).await;
    world.delete("web-1", 30);
    until(|fate| fate.gone_at.is_some()).await;
    world.tasks.shutdown().await;
    assert!(world.fate("web-1").exited_at.is_some_and(|exited| exited.instant < Instant::now()));
}
