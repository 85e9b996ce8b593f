//! Spans, from the news to the collector.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::time::{Instant, sleep};

use super::collector::{Collector, Received, Reply};
use super::*;
use crate::interruption::chronicle::Milestone;
use crate::otlp::traces::Traces;

const SECOND: Duration = Duration::from_secs(1);

struct Traced {
    metrics: Metrics,
    news: broadcast::Sender<News>,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
    clock: Clock,
}

impl Traced {
    /// Every turn of events makes `each` spans.
    fn start(url: &str, each: usize) -> Self {
        let (config, clock) = (config(url), Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap()));
        let mut metrics = Metrics::new(
            watch::channel(Status::default()).1,
            watch::channel(None).1,
            watch::channel(NodeIdentity::default()).1,
        );
        let counts = metrics.count_exports(&config);
        let exporter = Exporter::new(OtlpSignal::Traces, &config, &EgressConfig::default(), counts, clock).unwrap();
        let traces = Traces::new(exporter, ResourceConfig::default(), watch::channel(on_ec2()).1);
        let (news, closing) = (broadcast::Sender::new(16), watch::Sender::new(false));
        let mut made = 0;
        let spans_of = move |news: &News| {
            let name = if news.milestone == Milestone::Announced { "notice" } else { "other" };
            let spans = (made..made + each).map(|number| Span { name: format!("{name} {number}"), ..Span::default() });
            made += each;
            spans.collect()
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(traces.run(news.subscribe(), spans_of, closing.subscribe()));
        Self { metrics, news, closing, tasks, clock }
    }

    /// A notice.
    fn announce(&self) {
        self.news.send(announced(self.clock)).unwrap();
    }

    fn failures(&self, reason: &str) -> u64 {
        let sample = format!("spotwarden_otlp_export_failures_total{{signal=\"traces\",reason=\"{reason}\"}}");
        value(&self.metrics, &sample)
    }
}

fn spans(received: &Received) -> Vec<String> {
    assert_eq!(received.path, "/v1/traces");
    let request = ExportTraceServiceRequest::decode(received.body.as_ref()).unwrap();
    let [resource] = request.resource_spans.try_into().unwrap();
    let host = resource.resource.unwrap().attributes.into_iter().find(|one| one.key == "host.id").unwrap();
    assert_eq!(text_of(&host), "i-0123456789abcdef0");
    let [scope] = resource.scope_spans.try_into().unwrap();
    scope.spans.into_iter().map(|span| span.name).collect()
}

#[tokio::test(start_paused = true)]
async fn spans_are_sent_at_once_and_once() {
    let mut collector = Collector::start([]).await;
    let traced = Traced::start(&collector.url, 2);
    for first in [0, 2] {
        let at = Instant::now();
        traced.announce();
        let received = collector.next().await;
        assert_eq!(spans(&received), [format!("notice {first}"), format!("notice {}", first + 1)]);
        assert!(received.at - at < Duration::from_millis(200));
        sleep(SECOND).await;
    }
    assert!(collector.received.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_may_be_sent_again_waits_with_what_comes_meanwhile_and_what_is_refused_does_not() {
    let mut collector = Collector::start([Reply::status(503), Reply::status(400), Reply::status(200)]).await;
    let traced = Traced::start(&collector.url, 1);
    traced.announce();
    assert_eq!(spans(&collector.next().await), ["notice 0"]);
    traced.announce();
    assert_eq!(spans(&collector.next().await), ["notice 0", "notice 1"]);
    sleep(30 * SECOND).await;
    assert!(collector.received.try_recv().is_err(), "refused for good");
    traced.announce();
    assert_eq!(spans(&collector.next().await), ["notice 2"]);
    assert_eq!((traced.failures("busy"), traced.failures("refused")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_a_bounded_number_of_spans() {
    let mut collector = Collector::start([Reply::Never]).await;
    let mut traced = Traced::start(&collector.url, 100);
    for _ in 0..10 {
        traced.announce();
        sleep(SECOND / 10).await;
    }
    assert_eq!(spans(&collector.next().await).len(), 100);
    collector.answer([]);
    let rest = spans(&collector.next().await);
    assert_eq!((rest.len(), rest.last().map(String::as_str)), (256, Some("notice 999")));
    assert_eq!(traced.failures("dropped"), 1000 - 256);
    let at = Instant::now();
    traced.closing.send_replace(true);
    traced.tasks.join_next().await.unwrap().unwrap();
    assert!(at.elapsed() < SECOND, "nothing was left to say");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_sent_when_the_agent_stops_within_three_seconds() {
    for reply in [Reply::status(200), Reply::Never] {
        let mut collector = Collector::start([Reply::status(429), reply]).await;
        let mut traced = Traced::start(&collector.url, 1);
        traced.announce();
        assert_eq!(spans(&collector.next().await), ["notice 0"]);
        let at = Instant::now();
        traced.announce();
        traced.closing.send_replace(true);
        traced.tasks.join_next().await.unwrap().unwrap();
        assert!(at.elapsed() < 3 * SECOND, "{:?}", at.elapsed());
        let mut last = Vec::new();
        while let Ok(received) = collector.received.try_recv() {
            last = spans(&received);
        }
        assert_eq!(last, ["notice 0", "notice 1"]);
    }
}
