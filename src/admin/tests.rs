use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::*;

/// A server on loopback within the test's own runtime; it stops when this is dropped or told to.
struct Server {
    address: SocketAddr,
    status: watch::Sender<Status>,
    readiness: Arc<Readiness>,
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

async fn server() -> Server {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let status = watch::Sender::new(Status::default());
    let readiness = Arc::new(Readiness::default());
    let handles = Handles {
        metrics: Arc::new(Metrics::new(
            status.subscribe(),
            watch::channel(None).1,
            watch::channel(NodeIdentity::default()).1,
        )),
        readiness: readiness.clone(),
        status: status.subscribe(),
        headroom: watch::channel(None).1,
        sinks: watch::channel(Vec::new()).1,
        clock: Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap()),
        identity: watch::Sender::new(NodeIdentity::named("ip-10-0-0-1")).subscribe(),
        dry_run: false,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut task = JoinSet::new();
    task.spawn(serve(listener, handles, async move { _ = stopped.await }));
    Server { address, status, readiness, stop, task }
}

impl Server {
    /// Sends bytes as they are and reads to the end of the connection.
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses a request may reset the connection behind its answer.
        _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_live_process_answers_livez() {
    let server = server().await;
    let answer = server.get("/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(body(&answer), "ok\n");
}

#[tokio::test]
async fn readyz_is_red_until_both_readings_and_again_on_shutdown() {
    let server = server().await;
    let answer = server.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(body(&answer).contains("metadata service") && body(&answer).contains("own Node"), "{answer}");

    server.readiness.imds_answered();
    server.status.send_modify(|status| status.node_seen = true);
    let answer = server.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    server.readiness.stopping();
    let answer = server.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && body(&answer).contains("stopping"), "{answer}");
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let server = server().await;
    let plain = server.get("/metrics?name=x").await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{plain}");
    assert!(body(&plain).contains("# TYPE spotwarden_notices_total counter\n"), "{plain}");
    assert!(!plain.contains("# EOF"));

    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;q=0.3\r\n\
                   Accept: application/openmetrics-text;version=1.0.0\r\n\r\n";
    let openmetrics = server.send(request).await;
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(openmetrics.contains(content_type), "{openmetrics}");
    assert!(openmetrics.ends_with("# EOF\n"), "{openmetrics}");
}

#[tokio::test]
async fn the_page_names_the_node_and_may_not_run_anything() {
    let server = server().await;
    let answer = server.get("/").await;
    assert!(answer.contains("content-type: text/html; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
    assert!(body(&answer).contains("<h1>ip-10-0-0-1</h1>"), "{answer}");
}

#[tokio::test]
async fn head_has_the_headers_and_the_length_but_no_body() {
    let server = server().await;
    let answer = server.send("HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-length: 3\r\n"), "{answer}");
    assert_eq!(body(&answer), "");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_with_the_right_codes() {
    let server = server().await;
    let answer = server.get("/metrics/").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && body(&answer).contains("/readyz"), "{answer}");
    let answer = server.send("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"), "{answer}");
}

#[tokio::test]
async fn a_header_beyond_the_limit_is_refused() {
    let server = server().await;
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(MAX_BUFFER));
    let answer = server.send(&request).await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_header_is_cut_off_after_two_seconds() {
    let server = server().await;
    let start = Instant::now();
    let answer = server.send("GET / HTTP/1.1\r\nHo").await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!((HEADER_TIMEOUT..HEADER_TIMEOUT * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn silent_connections_fill_the_server_for_no_longer_than_their_timeout() {
    let server = server().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 4 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let start = Instant::now();
    let answer = server.get("/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(start.elapsed() >= HEADER_TIMEOUT, "it had to wait for a place: {:?}", start.elapsed());
    assert!(start.elapsed() < CONNECTION_TIMEOUT, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_open_connection_does_not_hold_up_the_shutdown() {
    let mut server = server().await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    assert!(server.get("/livez").await.contains("200 OK"));
    let start = Instant::now();
    server.stop.send(()).unwrap();
    server.task.join_next().await.unwrap().unwrap();
    assert!(start.elapsed() <= SHUTDOWN_GRACE, "{:?}", start.elapsed());
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_remedy() {
    let server = server().await;
    let error = bind(server.address).await.unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("--admin-address"), "{error}");
}

#[tokio::test]
async fn metrics_are_compressed_for_who_asks_for_it() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0;\
                   escaping=allow-utf-8\r\nAccept-Encoding: gzip\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8(head.to_vec()).unwrap();
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert!(head.contains("version=1.0.0; charset=utf-8; escaping=allow-utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    let mut text = String::new();
    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(body), &mut text).unwrap();
    assert!(text.contains("spotwarden_notices_total") && text.ends_with("# EOF\n"), "{text}");
}
