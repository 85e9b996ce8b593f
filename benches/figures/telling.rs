//! How soon people hear of a notice, and what it costs the agent to tell everybody.
//!
//! The agent has every way of telling switched on: Slack, Alertmanager, a webhook, and a collector for metrics and spans.
//! The stand-ins take what is well-formed; when they had it is their own time of arrival.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric::Data, number_data_point::Value};
use prost::Message as _;
use spotwarden::sim::objects::PodSpec;
use spotwarden::sim::sinks::{SimSinks, SinkName};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::calls::Calls;
use crate::fence::{WAIT, random_below};
use crate::lab::Lab;
use crate::report::{Row, megabytes, percentile, seconds};
use crate::scraper::{Scrape, scrape_for};
use crate::stand::{Notice, Stand};

/// Agents that are told at once.
const AGENTS: usize = 10;
const SETTLE: Duration = Duration::from_secs(3);
/// After the fence was acknowledged.
const GOAL: Duration = Duration::from_millis(200);
const PODS: usize = 110;
const NODE: &str = "telling";
const IDLE: Duration = Duration::from_secs(30);
const SCRAPE_GOAL: Duration = Duration::from_millis(5);
/// Bytes, idle and at most.
const MEMORY_GOALS: (u64, u64) = (10_000_000, 14_000_000);
/// The pods stop in two seconds; their trace and the result follow.
const DRAIN: Duration = Duration::from_secs(12);
/// What a state change is seen by in the collector.
const PENDING: &str = "spotwarden.interruption.pending";

pub(crate) async fn measure(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = delays(lab).await?;
    rows.extend(costs(lab).await?);
    Ok(rows)
}

/// Everybody who may be told of one node.
struct Audience {
    sinks: SimSinks,
    /// When each export of metrics arrived, and whether it told of something that is coming.
    exports: Arc<Mutex<Vec<(Instant, bool)>>>,
    environment: Vec<(&'static str, String)>,
    _tasks: JoinSet<()>,
}

impl Audience {
    async fn open(lab: &Lab, node: &str) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let (sinks, exports) = (SimSinks::default(), Arc::<Mutex<Vec<(Instant, bool)>>>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tasks.spawn(sinks.clone().serve(listener));
        let collector = TcpListener::bind("127.0.0.1:0").await?;
        let collected = format!("http://{}", collector.local_addr()?);
        tasks.spawn(collect(collector, exports.clone()));
        let file = |sink: SinkName| -> Result<String> {
            let path = lab.plane.dir().join(format!("{node}-{}", sink.as_str()));
            std::fs::write(&path, SimSinks::url(address, sink))?;
            Ok(path.display().to_string())
        };
        let environment = vec![
            ("SPOTWARDEN_SLACK_WEBHOOK_URL_FILE", file(SinkName::Slack)?),
            ("SPOTWARDEN_WEBHOOK_URL_FILE", file(SinkName::Webhook)?),
            ("SPOTWARDEN_ALERTMANAGER_URL", SimSinks::url(address, SinkName::Alertmanager)),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collected),
            ("OTEL_METRIC_EXPORT_INTERVAL", "15000".to_owned()),
        ];
        Ok(Self { sinks, exports, environment, _tasks: tasks })
    }

    /// When the sink had its first message after `notice`.
    fn told(&self, sink: SinkName, notice: Notice) -> Result<Duration> {
        let received = self.sinks.received();
        let first = received.iter().find(|one| one.sink == sink && one.is_taken() && one.at >= notice.at.instant);
        let first = first.ok_or_else(|| format!("{} was told nothing", sink.as_str()))?;
        Ok(first.at.saturating_duration_since(notice.at.instant))
    }

    /// When the collector had the state change.
    fn exported(&self, notice: Notice) -> Result<Duration> {
        let exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        let first = exports.iter().find(|(_, pending)| *pending).ok_or("the collector was told nothing")?;
        Ok(first.0.saturating_duration_since(notice.at.instant))
    }
}

/// From the acknowledged fence to the message, for agents that all hear of their notice at some moment of two seconds.
async fn delays(lab: &Lab) -> Result<Vec<Row>> {
    let stands = (0..AGENTS).map(|agent| async move {
        let node = format!("telling-{agent}");
        let audience = Audience::open(lab, &node).await?;
        let stand = Stand::telling(lab, &node, Vec::new(), &audience.environment).await?;
        sleep(SETTLE + random_below(Duration::from_secs(2))).await;
        let notice = stand.give_notice();
        sleep(WAIT).await;
        Ok::<_, Box<dyn std::error::Error>>((stand, audience, notice))
    });
    let noticed = try_join_all(stands).await?;
    let log = lab.audit_log().await?;
    let (mut slack, mut collector) = (Vec::new(), Vec::new());
    for (stand, audience, notice) in &noticed {
        let fenced = Calls::of(&log, &stand.node).fence_after(notice.at.wall);
        let fenced = fenced.ok_or_else(|| format!("{} was not fenced:\n{}", stand.node, stand.agent.log()))?;
        slack.push(audience.told(SinkName::Slack, *notice)?.saturating_sub(fenced));
        collector.push(audience.exported(*notice)?.saturating_sub(fenced));
    }
    let row = |what: &str, took: &[Duration]| {
        let worst = took.iter().max().copied().unwrap_or_default();
        Row {
            what: format!("node fenced → {what}, {AGENTS} notices; every way of telling switched on"),
            goal: format!("≤ {}", seconds(GOAL)),
            measured: format!("p50 {}, max {}", seconds(percentile(took, 50)), seconds(worst)),
            incumbent: "–",
            met: Some(worst <= GOAL),
        }
    };
    Ok(vec![row("Slack has the message", &slack), row("the collector has the state change", &collector)])
}

/// Memory, and the answers of `/metrics` during the drain of a full node.
async fn costs(lab: &Lab) -> Result<Vec<Row>> {
    let pods = (0..PODS).map(|pod| PodSpec::new(NODE, &format!("web-{pod}")).on(NODE).stops_after("2"));
    let audience = Audience::open(lab, NODE).await?;
    let stand = Stand::telling(lab, NODE, pods.collect(), &audience.environment).await?;
    sleep(IDLE).await;
    let idle = stand.agent.memory("VmRSS")?;
    let admin: SocketAddr = stand.agent.admin().ok_or("no admin address")?.parse()?;
    let notice = stand.give_notice();
    let scrapes = scrape_for(admin, DRAIN, stand.agent.shares()).await?;
    let most = stand.agent.memory("VmHWM")?;
    if stand.fates().iter().any(|fate| fate.gone_at.is_none()) {
        return Err(format!("pods are left on {NODE}:\n{}", stand.agent.log()).into());
    }
    audience.told(SinkName::Webhook, notice)?;
    audience.told(SinkName::Alertmanager, notice)?;
    let memory = |what: &str, bytes: u64, goal: u64| Row {
        what: format!("memory with every way of telling switched on, {PODS} pods: {what}"),
        goal: format!("≤ {}", megabytes(goal)),
        measured: megabytes(bytes),
        incumbent: "–",
        met: Some(bytes <= goal),
    };
    let [answered, worked] = answers(&scrapes);
    Ok(vec![
        answered,
        worked,
        memory("idle (VmRSS)", idle, MEMORY_GOALS.0),
        memory("at most (VmHWM)", most, MEMORY_GOALS.1),
    ])
}

/// How long answers took, and what of that was the agent's: on a machine with as many processes as here the rest is the
/// wait for a core.
fn answers(scrapes: &[Scrape]) -> [Row; 2] {
    let percentiles = |of: fn(&Scrape) -> Duration| {
        let times: Vec<Duration> = scrapes.iter().map(of).collect();
        (percentile(&times, 50), percentile(&times, 99))
    };
    let row = |what: String, of: fn(&Scrape) -> Duration, more: String| {
        let (median, slowest) = percentiles(of);
        Row {
            what,
            goal: format!("p99 ≤ {}", seconds(SCRAPE_GOAL)),
            measured: format!("p50 {}, p99 {}{more}", seconds(median), seconds(slowest)),
            incumbent: "–",
            met: Some(slowest <= SCRAPE_GOAL),
        }
    };
    let what = format!("`/metrics` during the drain of {PODS} pods, {} scrapes one after the other", scrapes.len());
    let waited = percentiles(|scrape| scrape.waited).1;
    [
        row(what, |scrape| scrape.took, String::new()),
        row(
            "of this the agent worked, at the answer or at anything else".into(),
            |scrape| scrape.worked,
            format!("; it waited for a core p99 {}", seconds(waited)),
        ),
    ]
}

/// A collector that takes everything.
async fn collect(listener: TcpListener, exports: Arc<Mutex<Vec<(Instant, bool)>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let exports = exports.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let exports = exports.clone();
                async move {
                    let metrics = request.uri().path() == "/v1/metrics";
                    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                    let at = Instant::now();
                    if let (true, Ok(body)) = (metrics, body) {
                        exports.lock().unwrap_or_else(PoisonError::into_inner).push((at, is_pending(body)));
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                }
            });
            // An agent that went away is no error here.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Whether an export tells of something that is coming.
fn is_pending(body: Bytes) -> bool {
    let Ok(export) = ExportMetricsServiceRequest::decode(body) else { return false };
    let scopes = export.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let mut pending = scopes.flat_map(|scope| scope.metrics).filter(|metric| metric.name == PENDING);
    pending.any(|metric| match metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().any(is_set),
        _ => false,
    })
}

fn is_set(point: &NumberDataPoint) -> bool {
    match point.value {
        Some(Value::AsDouble(value)) => value > 0.0,
        Some(Value::AsInt(value)) => value > 0,
        None => false,
    }
}
