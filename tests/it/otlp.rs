//! The whole agent in a world, pushing telemetry to a collector that behaves badly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;
use rstest::rstest;
use serde_json::Value as Json;
use spotwarden::clock::Clock;
use spotwarden::config::EgressConfig;
use spotwarden::config::otlp::OtlpConfig;
use spotwarden::config::parse::run_config;
use spotwarden::identity::NodeIdentity;
use spotwarden::interruption::record::{Record, Status};
use spotwarden::metrics::Metrics;
use spotwarden::otlp::OtlpSignal;
use spotwarden::otlp::exporter::Exporter;
use spotwarden::otlp::pusher::Pusher;
use spotwarden::sim::report::Report;
use spotwarden::sim::scenario::Scenario;
use spotwarden::sim::timeline::TimelineEntry;
use spotwarden::sim::world::{BackendHandle, Options, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::peers::collector::{Collector, plain};
use crate::peers::eventually;
use crate::peers::exposition::{Series, parse};

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

/// The collector knows of the fence while the node is being cleared, not a minute later; also one that took the request
/// before it and never answers that.
#[rstest]
#[case::well(0)]
#[case::hung_before(1)]
#[tokio::test(start_paused = true)]
async fn a_collector_hears_of_the_fence_within_200_ms_and_of_the_end_too(#[case] hung: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut taken) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut connections, mut held) = (JoinSet::new(), Vec::new());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if held.len() < hung {
                held.push(stream);
            } else {
                connections.spawn(take(stream, sender.clone()));
            }
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
    assert!(before + hung >= 1, "zeros come before there is anything else");
    assert!(pushes.len() < 60, "{} pushes", pushes.len());
}

/// A number that protobuf's JSON writes as one, or as text.
fn number(value: &Json) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value}"))
}

fn labels(point: &Json) -> BTreeMap<String, String> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let attributes = point["attributes"].as_array().into_iter().flatten();
    attributes.map(|one| (text(&one["key"]), text(&one["value"]["stringValue"]))).collect()
}

/// The samples that a collector's exporter for Prometheus would make of the metrics that it got.
fn samples(batch: &Json) -> BTreeMap<Series, f64> {
    let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
    let scopes = list(&batch["resourceMetrics"]).into_iter().flat_map(|resource| list(&resource["scopeMetrics"]));
    let mut samples = BTreeMap::new();
    for metric in scopes.flat_map(|scope| list(&scope["metrics"])) {
        let unit = match metric["unit"].as_str().unwrap_or_default() {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let name = format!("{}{unit}", metric["name"].as_str().unwrap().replace('.', "_"));
        let total = if metric["sum"]["isMonotonic"] == true { "_total" } else { "" };
        for point in list(&metric["sum"]["dataPoints"]).into_iter().chain(list(&metric["gauge"]["dataPoints"])) {
            samples.insert((format!("{name}{total}"), labels(&point)), number(&point["asDouble"]));
        }
        for point in list(&metric["histogram"]["dataPoints"]) {
            // What is 0 is left out of the JSON form.
            let count = |value: &Json| if value.is_null() { 0.0 } else { number(value) };
            samples.insert((format!("{name}_count"), labels(&point)), count(&point["count"]));
            samples.insert((format!("{name}_sum"), labels(&point)), count(&point["sum"]));
            let bounds = list(&point["explicitBounds"]).into_iter().map(|bound| format!("{:?}", number(&bound)));
            let mut below = 0.0;
            for (bound, inside) in bounds.chain(["+Inf".into()]).zip(list(&point["bucketCounts"])) {
                below += number(&inside);
                let mut labels = labels(&point);
                labels.insert("le".into(), bound);
                samples.insert((format!("{name}_bucket"), labels), below);
            }
        }
    }
    samples
}

/// The real collector undoes the compression, understands the message, and has the values of `/metrics`.
#[tokio::test]
async fn a_real_collector_has_the_values_that_are_scraped() {
    let collector = Collector::start(&plain());
    let config = otlp(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http_endpoint),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=test"),
        ("POD_NAME", "spotwarden-x7"),
        ("POD_NAMESPACE", "spotwarden"),
    ]);
    let config = config.unwrap();
    let (_status, status) = watch::channel(Status::default());
    let identity = NodeIdentity { instance_id: "i-1".into(), ..NodeIdentity::named("n1") };
    let identity = watch::channel(identity).1;
    let mut metrics = Metrics::new(status.clone(), watch::channel(None).1, identity.clone());
    let counts = metrics.count_exports(&config);
    let metrics = Arc::new(metrics);
    metrics.record(&Record::Restored);
    for milliseconds in [40, 70, 3000] {
        metrics.record(&Record::Fenced { after: Duration::from_millis(milliseconds), refused: vec!["label"] });
    }
    metrics.api.request("patch", "nodes", Some(200));
    let exporter =
        Exporter::new(OtlpSignal::Metrics, &config, &EgressConfig::default(), counts, Clock::System).unwrap();
    let pusher = Pusher::new(exporter, &config, metrics.clone(), identity, Clock::System);
    let (news, closing) = (broadcast::Sender::new(1), watch::channel(true).1);
    pusher.run(news.subscribe(), status, closing).await;

    let batch = eventually("the push", Duration::from_secs(20), || collector.received().pop());
    let is_own = |(name, _): &Series| name.starts_with("spotwarden_") && name != "spotwarden_otlp_exports_total";
    let mut received = samples(&batch);
    received.retain(|series, _| is_own(series));
    let mut scraped = parse(&metrics.text(None).1).samples;
    scraped.retain(|series, _| is_own(series));
    assert!(scraped.len() > 60, "{}", scraped.len());
    assert_eq!(received, scraped, "{}", collector.log());
    let taken = "spotwarden_otlp_exports_total{signal=\"metrics\"} 1\n";
    assert!(metrics.text(None).1.contains(taken), "{}", collector.log());
    let resource = labels(&batch["resourceMetrics"][0]["resource"]);
    for (key, value) in [
        ("service.name", "spotwarden"),
        ("service.instance.id", "spotwarden.spotwarden-x7.spotwarden"),
        ("k8s.cluster.name", "test"),
        ("k8s.node.name", "n1"),
        ("host.id", "i-1"),
    ] {
        assert_eq!(resource.get(key).map(String::as_str), Some(value), "{key}");
    }
}

/// What `check` sends.
#[tokio::test]
async fn a_real_collector_takes_an_export_without_content() {
    let collector = Collector::start(&plain());
    for compression in ["none", "gzip"] {
        let config = otlp(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http_endpoint),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
        ]);
        let config = config.unwrap();
        for signal in [OtlpSignal::Metrics, OtlpSignal::Traces] {
            let identity = watch::channel(NodeIdentity::default()).1;
            let mut metrics = Metrics::new(watch::channel(Status::default()).1, watch::channel(None).1, identity);
            let counts = metrics.count_exports(&config);
            let exporter = Exporter::new(signal, &config, &EgressConfig::default(), counts, Clock::System);
            let answer = exporter.unwrap().try_out().await.map(|status| status.as_u16());
            assert_eq!(answer, Ok(200), "{signal:?} {compression}: {}", collector.log());
        }
    }
}
