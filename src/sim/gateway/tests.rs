//! The gateway on a loopback socket in front of a small backend, in virtual time.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use rstest::rstest;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::backend::{Remote, full, in_process};
use super::denial::Denial;
use super::faults::{FaultKind, Matcher};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NODE: &str = "/api/v1/nodes/n1";
const EVICTION: &str = "/api/v1/namespaces/a/pods/p/eviction";
const WATCH: &str = "/api/v1/pods?watch=true";

/// A gateway that listens; its connections end with it.
struct Setup {
    gateway: Gateway,
    client: reqwest::Client,
    url: String,
    tasks: JoinSet<()>,
    applied: Arc<AtomicU32>,
}

impl Setup {
    /// In front of a backend that counts, echoes bodies and sends one watch event per second.
    async fn new() -> Self {
        let applied = Arc::<AtomicU32>::default();
        let counter = applied.clone();
        let backend = in_process(move |request| {
            counter.fetch_add(1, Relaxed);
            async move { answer(request) }
        });
        Self::over(backend, applied).await
    }

    async fn over(backend: impl Backend + 'static, applied: Arc<AtomicU32>) -> Self {
        let gateway = Gateway::new(backend, Clock::anchored("2026-01-01T00:00:00Z".parse().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(gateway.clone().serve(listener));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots = rustls::RootCertStore::empty();
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let client =
            reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).user_agent("agent/1").build().unwrap();
        Self { gateway, client, url, tasks, applied }
    }

    async fn send(&self, method: Method, path: &str, body: &'static str) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}{path}", self.url);
        let request = self.client.request(method, url).header("content-type", "application/json-patch+json");
        request.body(body).send().await
    }

    /// The answer's status, or why there is none.
    async fn outcome(&self, method: Method, path: &str) -> String {
        let call = async {
            let answer = self.send(method, path, "[]").await.map_err(|_| "disconnected")?;
            let status = answer.status().as_u16().to_string();
            answer.bytes().await.map_err(|_| "broken off")?;
            Ok::<_, &str>(status)
        };
        match timeout(10 * SECOND, call).await {
            Ok(Ok(status)) => status,
            Ok(Err(why)) => why.into(),
            Err(_) => "no answer".into(),
        }
    }

    fn applied(&self) -> u32 {
        self.applied.load(Relaxed)
    }
}

fn answer(request: Request<Bytes>) -> Response<Body> {
    if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
        let events = futures::stream::unfold(0, |n| async move {
            sleep(SECOND).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(format!("event {n}\n")))), n + 1))
        });
        return Response::new(StreamBody::new(events).map_err(|never| match never {}).boxed_unsync());
    }
    Response::new(full(request.into_body()))
}

#[tokio::test(start_paused = true)]
async fn a_request_passes_and_is_logged_in_the_words_of_rbac() {
    let setup = Setup::new().await;
    let answer = setup.send(Method::POST, EVICTION, "{\"a\":1}").await.unwrap();
    assert_eq!(answer.headers().get("date").unwrap(), "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(answer.bytes().await.unwrap(), "{\"a\":1}");
    setup.outcome(Method::GET, NODE).await;

    let log = setup.gateway.requests();
    let eviction = &log[0];
    assert!(eviction.is("create", "pods/eviction") && eviction.mutating());
    assert_eq!((eviction.attributes.namespace.as_str(), eviction.attributes.name.as_str()), ("a", "p"));
    assert_eq!((eviction.code, eviction.user_agent.as_str()), (200, "agent/1"));
    assert_eq!(eviction.json(), Some(serde_json::json!({"a": 1})));
    assert!(eviction.done_at.is_some());
    assert!(log[1].is("get", "nodes") && !log[1].mutating());
    assert_eq!(log[1].body, None);
}

#[tokio::test(start_paused = true)]
async fn people_who_look_on_are_answered_and_neither_logged_nor_disturbed() {
    let setup = Setup::new().await;
    setup.gateway.inject(Fault::new(FaultKind::Answer(CannedAnswer::throttled())));
    let request = setup.client.get(format!("{}{NODE}", setup.url)).header("user-agent", "kubectl/v1.36.3");
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(setup.gateway.requests(), []);
    assert_eq!(setup.outcome(Method::GET, NODE).await, "429", "the agent is disturbed");
    assert_eq!(setup.gateway.requests().len(), 1);
}

#[rstest]
#[case::latency_on_the_way_in(Fault::new(FaultKind::Latency(3 * SECOND)), "200", 1, 3)]
#[case::latency_on_the_way_back(Fault::new(FaultKind::Latency(3 * SECOND)).after_applied(), "200", 1, 3)]
#[case::stall(Fault::new(FaultKind::Stall), "no answer", 0, 10)]
#[case::stall_after(Fault::new(FaultKind::Stall).after_applied(), "no answer", 1, 10)]
#[case::reset(Fault::new(FaultKind::Reset), "disconnected", 0, 0)]
#[case::reset_after(Fault::new(FaultKind::Reset).after_applied(), "disconnected", 1, 0)]
#[case::throttled(Fault::new(FaultKind::Answer(CannedAnswer::throttled())), "429", 0, 0)]
#[case::shutting_down(Fault::new(FaultKind::Answer(CannedAnswer::shutting_down())), "429", 0, 0)]
#[case::unauthorized(Fault::new(FaultKind::Answer(CannedAnswer::unauthorized())), "401", 0, 0)]
#[case::error_after(Fault::new(FaultKind::Answer(CannedAnswer::internal_error())).after_applied(), "500", 1, 0)]
#[case::truncated(Fault::new(FaultKind::Truncate), "broken off", 1, 0)]
#[case::another_verb(Fault::new(FaultKind::Stall).on(Matcher::new("get", "nodes")), "200", 1, 0)]
#[tokio::test(start_paused = true)]
async fn a_fault_does_to_a_request_what_it_says(
    #[case] fault: Fault,
    #[case] expected: &str,
    #[case] applied: u32,
    #[case] seconds: u64,
) {
    let setup = Setup::new().await;
    let start = Instant::now();
    // Windows are absolute: the case was built before the runtime's clock was this one.
    setup.gateway.inject(Fault { from: start, ..fault });
    assert_eq!(setup.outcome(Method::PATCH, NODE).await, expected);
    assert_eq!(start.elapsed().as_secs(), seconds);
    assert_eq!(setup.applied(), applied);
    let entry = setup.gateway.wait_for(|entry| entry.done_at.is_some()).await;
    assert_eq!(entry.code.to_string(), if applied == 1 && expected == "broken off" { "200" } else { code(expected) });
}

fn code(outcome: &str) -> &str {
    if outcome.chars().all(|c| c.is_ascii_digit()) { outcome } else { "0" }
}

#[tokio::test(start_paused = true)]
async fn throttling_is_plain_text_with_a_time_to_wait() {
    let setup = Setup::new().await;
    setup.gateway.inject(Fault::new(FaultKind::Answer(CannedAnswer::throttled())).times(1));
    let answer = setup.send(Method::POST, EVICTION, "{}").await.unwrap();
    assert_eq!(answer.headers().get("retry-after").unwrap(), "1");
    assert!(answer.headers().get("content-type").unwrap().to_str().unwrap().starts_with("text/plain"));
    assert_eq!(answer.bytes().await.unwrap(), "Too many requests, please try again later.\n");
    assert_eq!(setup.outcome(Method::POST, EVICTION).await, "200");
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_server_breaks_open_watches_and_refuses_new_connections_for_its_window() {
    let setup = Setup::new().await;
    let mut watch = setup.send(Method::GET, WATCH, "").await.unwrap();
    assert_eq!(watch.chunk().await.unwrap().unwrap(), "event 0\n");
    let start = Instant::now();
    let fault = Fault::new(FaultKind::Unavailable).between(start + SECOND * 9 / 2, start + 8 * SECOND);
    setup.gateway.inject(fault);

    let mut events = 0;
    while let Ok(Some(_)) = watch.chunk().await {
        events += 1;
    }
    assert_eq!((events, start.elapsed()), (4, SECOND * 9 / 2));
    assert_eq!(setup.outcome(Method::GET, NODE).await, "disconnected");
    sleep(4 * SECOND).await;
    assert_eq!(setup.outcome(Method::GET, NODE).await, "200");
    assert_eq!(setup.applied(), 2, "nothing reached the backend in the window");
}

#[rstest]
#[case(false, "event 1\n")]
#[case(true, "\"type\":\"ERROR\"}\n")]
#[tokio::test(start_paused = true)]
async fn closed_watches_end_cleanly_and_others_go_on(#[case] expired: bool, #[case] end: &str) {
    let setup = Setup::new().await;
    let mut pods = setup.send(Method::GET, WATCH, "").await.unwrap();
    let mut nodes = setup.send(Method::GET, "/api/v1/nodes?watch=true", "").await.unwrap();
    let at = Instant::now() + Duration::from_millis(2500);
    let fault = Fault::new(FaultKind::CloseWatches { expired }).on(Matcher::new("watch", "pods")).between(at, at);
    setup.gateway.inject(fault);
    let mut text = String::new();
    while let Some(chunk) = pods.chunk().await.expect("a clean end") {
        text += std::str::from_utf8(&chunk).unwrap();
    }
    assert!(text.starts_with("event 0\n") && text.contains(end), "{text}");
    assert_eq!(Instant::now().duration_since(at).as_millis(), 0);
    for n in 0..4 {
        assert_eq!(nodes.chunk().await.unwrap().unwrap(), format!("event {n}\n"));
    }
    let closed = setup.gateway.requests().remove(0);
    assert_eq!((closed.attributes.verb, closed.done_at.unwrap().instant), ("watch", at));
}

#[tokio::test(start_paused = true)]
async fn events_of_a_lagging_watch_come_late_and_in_order() {
    let setup = Setup::new().await;
    let start = Instant::now();
    let fault = Fault::new(FaultKind::WatchLag(5 * SECOND)).on(Matcher::new("watch", "pods"));
    setup.gateway.inject(fault.between(start + SECOND * 3 / 2, start + SECOND * 7 / 2));
    let mut watch = setup.send(Method::GET, WATCH, "").await.unwrap();
    let mut arrivals = Vec::new();
    let mut text = String::new();
    while arrivals.len() < 4 {
        text += std::str::from_utf8(&watch.chunk().await.unwrap().unwrap()).unwrap();
        arrivals.push(start.elapsed().as_secs());
    }
    // Events 1 and 2 were sent in the window, at 2 s and 3 s; those after it may not overtake them.
    assert_eq!(arrivals, [1, 7, 8, 8]);
    assert!(text.starts_with("event 0\nevent 1\nevent 2\nevent 3\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_truncated_watch_breaks_off_inside_an_event() {
    let setup = Setup::new().await;
    setup.gateway.inject(Fault::new(FaultKind::Truncate).on(Matcher::new("watch", "pods")).times(1));
    let mut watch = setup.send(Method::GET, WATCH, "").await.unwrap();
    assert_eq!(watch.chunk().await.unwrap().unwrap(), "even");
    assert!(watch.chunk().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_policy_refuses_the_patch_that_touches_its_field_and_no_other() {
    let setup = Setup::new().await;
    setup.gateway.inject(Fault::new(FaultKind::Deny(Denial::of("/spec/taints", "own-node", "hands off"))));
    let fence = r#"[{"op":"add","path":"/spec/taints","value":[]}]"#;
    let answer = setup.send(Method::PATCH, NODE, fence).await.unwrap();
    assert_eq!(answer.status(), 422);
    assert!(String::from_utf8_lossy(&answer.bytes().await.unwrap()).contains("denied request: hands off"));
    let cordon = r#"[{"op":"add","path":"/spec/unschedulable","value":true}]"#;
    assert_eq!(setup.send(Method::PATCH, NODE, cordon).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_lifted_fault_is_over() {
    let setup = Setup::new().await;
    let id = setup.gateway.inject(Fault::new(FaultKind::Unavailable));
    assert_eq!(setup.outcome(Method::GET, NODE).await, "disconnected");
    setup.gateway.lift(id);
    assert_eq!(setup.outcome(Method::GET, NODE).await, "200");
}

/// One gateway as the remote server of another: headers, bodies and streams pass through.
#[tokio::test(start_paused = true)]
async fn a_remote_backend_passes_headers_bodies_and_watches_through() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = seen.clone();
    let server = in_process(move |request: Request<Bytes>| {
        record.lock().unwrap().push(request.headers().clone());
        async move { answer(request) }
    });
    let inner = Setup::over(server, Arc::default()).await;
    let remote = Remote::new(&inner.url, inner.client.clone()).with_bearer("secret").unwrap();
    let outer = Setup::over(remote, Arc::default()).await;

    let answer = outer.send(Method::POST, EVICTION, "{\"x\":2}").await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), "{\"x\":2}");
    let mut watch = outer.send(Method::GET, WATCH, "").await.unwrap();
    for n in 0..2 {
        assert_eq!(watch.chunk().await.unwrap().unwrap(), format!("event {n}\n"));
    }
    let headers = seen.lock().unwrap().remove(0);
    assert_eq!(headers.get("authorization").unwrap(), "Bearer secret");
    assert_eq!(headers.get("content-type").unwrap(), "application/json-patch+json");
    assert_eq!(headers.get("user-agent").unwrap(), "agent/1");
}

#[tokio::test(start_paused = true)]
async fn connections_end_with_the_listener() {
    let mut setup = Setup::new().await;
    let mut watch = setup.send(Method::GET, WATCH, "").await.unwrap();
    watch.chunk().await.unwrap();
    setup.tasks.shutdown().await;
    assert!(watch.chunk().await.is_err());
    assert!(setup.gateway.requests()[0].done_at.is_some());
}

/// A kube client may take a gateway in this process for its transport.
#[tokio::test(start_paused = true)]
async fn a_request_can_be_handled_without_a_socket() {
    let gateway = Setup::new().await.gateway;
    let request = Request::get(NODE).body(Bytes::new()).unwrap();
    assert_eq!(gateway.handle(request.clone()).await.unwrap().status(), 200);
    gateway.inject(Fault::new(FaultKind::Reset));
    assert!(gateway.handle(request).await.is_err());
}
