//! The whole agent in a world, pushing telemetry to a collector that behaves badly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;
use spotwarden::clock::Clock;
use spotwarden::config::otlp::OtlpConfig;
use spotwarden::config::parse::run_config;
use spotwarden::sim::report::Report;
use spotwarden::sim::scenario::Scenario;
use spotwarden::sim::timeline::TimelineEntry;
use spotwarden::sim::world::{BackendHandle, Options, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What an agent makes of these variables.
fn otlp(env: &[(&str, &str)]) -> Option<OtlpConfig> {
    let env = [("NODE_NAME", "n1")].iter().chain(env).copied().collect();
    run_config(&|_| None, &env).unwrap().agent.otlp
}

async fn play(scenario: &str, otlp: Option<OtlpConfig>, tell: impl FnMut(TimelineEntry)) -> Report {
    let clock = Clock::anchored("2026-01-05T12:00:00.25Z".parse().unwrap());
    let options = Options { otlp, ..Options::default() };
    let scenario = Scenario::load(scenario).unwrap();
    let mut world = World::open(&scenario, BackendHandle::embedded(clock), clock, &options).await.unwrap();
    world.play(tell).await
}

/// A collector that takes connections and says nothing costs the fence and the drain no time.
#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_the_interruption_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let count = asked.clone();
    tasks.spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    for scenario in ["plain-notice", "full-node"] {
        let without = play(scenario, None, |_| {}).await;
        assert_eq!(asked.swap(0, Ordering::Relaxed), 0);
        let with = play(scenario, otlp(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]), |_| {}).await;
        assert!(asked.swap(0, Ordering::Relaxed) > 0, "the collector was asked");
        assert!(without.passed && with.passed, "{}", with.text(false));
        let (fence, fenced) = (without.notice_to_fence_seconds.unwrap(), with.notice_to_fence_seconds.unwrap());
        assert!((fenced - fence).abs() < 0.005, "{scenario}: {fenced} s, and without {fence} s");
        let (slack, left) = (without.slack_seconds.unwrap(), with.slack_seconds.unwrap());
        assert!((slack - left).abs() < 0.1, "{scenario}: {left} s, and without {slack} s");
        assert_eq!(with.outcomes, without.outcomes);
        assert_eq!(with.api_calls, without.api_calls);
    }
}

/// Takes requests one after the other on each connection; the names and values of gauges and sums without labels.
async fn take(
    mut stream: TcpStream,
    taken: mpsc::UnboundedSender<(Instant, Vec<(String, f64)>)>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let end = head + length.parse::<usize>().unwrap();
        while buffer.len() < end {
            stream.read_buf(&mut buffer).await?;
        }
        let request = ExportMetricsServiceRequest::decode(&buffer[head..end]).unwrap();
        buffer.drain(..end);
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| scope.metrics);
        let values = metrics.filter_map(|metric| {
            let point = match metric.data? {
                Data::Gauge(gauge) => gauge.data_points.into_iter().next()?,
                Data::Sum(sum) => sum.data_points.into_iter().next()?,
                _ => return None,
            };
            let Some(Value::AsDouble(value)) = point.value else { return None };
            Some((metric.name, value))
        });
        let _ = taken.send((Instant::now(), values.collect()));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
    }
}

/// The collector knows of the fence while the node is being cleared, not a minute later.
#[tokio::test(start_paused = true)]
async fn a_collector_hears_of_the_fence_within_200_ms_and_of_the_end_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut taken) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(take(stream, sender.clone()));
        }
    });
    let mut fenced = None;
    let mut drained = None;
    let metrics_only = [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", url.as_str())];
    let report = play("plain-notice", otlp(&metrics_only), |entry| {
        if entry.what.contains("has fenced the node") {
            fenced = Some(Instant::now());
        }
        if entry.what.contains("is done with the drain") {
            drained = Some(Instant::now());
        }
    });
    assert!(report.await.passed);
    let mut pushes = Vec::new();
    while let Ok(push) = taken.try_recv() {
        pushes.push(push);
    }
    let first = |name: &str| {
        let has = |values: &[(String, f64)]| values.iter().any(|(one, value)| one == name && *value != 0.0);
        pushes.iter().find(|(_, values)| has(values)).map(|(at, _)| *at).expect(name)
    };
    let limit = Duration::from_millis(200);
    let late = first("spotwarden.fenced").saturating_duration_since(fenced.unwrap());
    assert!(late <= limit, "the fence after {late:?}");
    let late = first("spotwarden.drain.slack").saturating_duration_since(drained.unwrap());
    assert!(late <= limit, "the end of the drain after {late:?}");
    let before = pushes.iter().filter(|(at, _)| *at < fenced.unwrap()).count();
    assert!(before >= 1, "zeros come before there is anything else");
    assert!(pushes.len() < 60, "{} pushes", pushes.len());
}
