//! A pusher and a collector that behaves well or badly, over real sockets and virtual time.

use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message as _;
use rstest::rstest;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::collector::{Collector, Received, Reply};
use super::*;
use crate::config::Response;
use crate::interruption::record::Pending;
use crate::signal::Deadline;

const SECOND: Duration = Duration::from_secs(1);
const EXPORTS: &str = "spotwarden_otlp_exports_total{signal=\"metrics\"}";

impl Pushed {
    /// A notice whose deadline is `left` away.
    fn notice(&self, left: Duration) {
        let now = self.clock.now();
        let deadline = Some(Deadline { instant: now.instant + left, wall: now.plus(left).wall });
        let pending = Pending {
            kind: Kind::SpotInterruption,
            action: Action::Terminate,
            deadline,
            first_seen: now.wall,
            detail: None,
            response: Response::Drain,
        };
        self.status.send_replace(Status { pending: vec![pending], deadline, ..Status::default() });
    }
}

fn is_pending(received: &Received) -> u64 {
    received.number("spotwarden.interruption.pending", Some("spot-interruption"))
}

#[tokio::test(start_paused = true)]
async fn the_first_push_comes_with_the_identity_and_the_next_on_the_interval() {
    let mut collector = Collector::start([]).await;
    let pushed = Pushed::start(&config(&collector.url));
    let start = Instant::now();
    sleep(2 * SECOND).await;
    pushed.identified();
    let first = collector.next().await;
    assert_eq!(
        (first.path.as_str(), &first.headers["content-type"]),
        ("/v1/metrics", &"application/x-protobuf".parse().unwrap())
    );
    assert!(first.headers["user-agent"].to_str().unwrap().starts_with("spotwarden/"));
    assert!(first.at - start < 3 * SECOND, "{:?}", first.at - start);
    let second = collector.next().await;
    let between = second.at - first.at;
    assert!((60 * SECOND..61 * SECOND).contains(&between), "{between:?}");
    assert_eq!(second.number("spotwarden.otlp.exports", Some("metrics")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_pushed_within_200_ms_and_once_more_before_its_deadline() {
    let mut collector = Collector::start([]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    assert_eq!(is_pending(&collector.next().await), 0, "zero before it happens");
    sleep(10 * SECOND).await;
    let at = Instant::now();
    pushed.notice(40 * SECOND);
    let told = collector.next().await;
    assert!(told.at - at <= Duration::from_millis(200), "{:?}", told.at - at);
    assert_eq!(is_pending(&told), 1);
    let last = collector.next().await;
    let left = at + 40 * SECOND - last.at;
    assert!((4 * SECOND..=5 * SECOND).contains(&left), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_events_that_no_state_shows_is_pushed_too() {
    let mut collector = Collector::start([]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    collector.next().await;
    sleep(10 * SECOND).await;
    let at = Instant::now();
    pushed.news.send(announced(pushed.clock)).unwrap();
    assert!(collector.next().await.at - at <= Duration::from_millis(200));
}

/// In real time.
#[tokio::test]
async fn a_notice_is_pushed_within_200_ms_of_the_wall_clock_too() {
    let mut collector = Collector::start([]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    collector.next().await;
    for _ in 0..3 {
        let at = Instant::now();
        pushed.notice(SECOND * 120);
        let told = collector.next().await;
        assert!(told.at - at <= Duration::from_millis(200), "{:?}", told.at - at);
        pushed.status.send_replace(Status::default());
        assert_eq!(is_pending(&collector.next().await), 0);
    }
}

#[rstest]
#[case::busy(429, "busy", true)]
#[case::bad_gateway(502, "busy", true)]
#[case::unavailable(503, "busy", true)]
#[case::gateway_timeout(504, "busy", true)]
#[case::bad_request(400, "refused", false)]
#[case::unauthorized(401, "refused", false)]
#[case::not_found(404, "refused", false)]
#[case::too_large(413, "refused", false)]
#[case::error(500, "refused", false)]
#[case::moved(307, "refused", false)]
#[tokio::test(start_paused = true)]
async fn only_what_may_be_tried_again_is(#[case] status: u16, #[case] reason: &str, #[case] again: bool) {
    let mut collector = Collector::start([Reply::status(status), Reply::status(200)]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    let first = collector.next().await;
    let second = collector.next().await;
    let between = second.at - first.at;
    assert_eq!(between < 10 * SECOND, again, "{between:?}");
    assert!(between > SECOND / 3 && between < 61 * SECOND, "{between:?}");
    sleep(SECOND).await;
    assert_eq!((pushed.failures(reason), pushed.value(EXPORTS)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_pause_that_the_collector_asks_for_is_kept_by_a_change_too() {
    let mut collector = Collector::start([Reply::With(429, Some("20"), Vec::new()), Reply::status(200)]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    let first = collector.next().await;
    sleep(SECOND).await;
    pushed.notice(120 * SECOND);
    let second = collector.next().await;
    let between = second.at - first.at;
    assert!((20 * SECOND..21 * SECOND).contains(&between), "{between:?}");
    assert_eq!(is_pending(&second), 1);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_gets_the_newest_figures_afterwards_and_one_request_at_a_time() {
    let mut collector = Collector::start([Reply::Never]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    let first = collector.next().await;
    for _ in 0..500 {
        pushed.metrics.record(&Record::Restored);
        sleep(Duration::from_millis(10)).await;
    }
    assert!(collector.received.try_recv().is_err(), "one is under way");
    collector.answer([]);
    let second = collector.next().await;
    let between = second.at - first.at;
    assert!((9 * SECOND..12 * SECOND).contains(&between), "{between:?}");
    assert_eq!(second.number("spotwarden.restores", None), 500);
    assert_eq!(pushed.failures("timeout"), 1);
    sleep(10 * SECOND).await;
    assert!(collector.received.try_recv().is_err(), "nothing was queued");
}

#[tokio::test(start_paused = true)]
async fn a_notice_behind_a_request_that_hangs_is_told_over_another_connection() {
    let mut collector = Collector::start([Reply::Never, Reply::status(200)]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    assert_eq!(is_pending(&collector.next().await), 0);
    sleep(2 * SECOND).await;
    let at = Instant::now();
    pushed.notice(120 * SECOND);
    let told = collector.next().await;
    assert!(told.at - at <= Duration::from_millis(200), "{:?}", told.at - at);
    assert_eq!(is_pending(&told), 1);
    sleep(SECOND).await;
    assert_eq!((pushed.failures("timeout"), pushed.value(EXPORTS)), (1, 1), "the one that was given up is counted");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_asks_a_collector_that_hangs_only_now_and_then() {
    let mut collector = Collector::start([Reply::Never]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    let first = collector.next().await;
    for _ in 0..100 {
        pushed.notice(120 * SECOND);
        sleep(SECOND / 10).await;
        pushed.status.send_replace(Status::default());
        sleep(SECOND / 10).await;
    }
    let mut at = Vec::new();
    while let Ok(received) = collector.received.try_recv() {
        at.push((received.at - first.at).as_secs());
    }
    // After one second, two, four and eight, as long as the request itself may take.
    assert_eq!(at, [1, 3, 7, 15]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_is_tried_again_and_then_there_are_new_figures() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let pushed = Pushed::start(&config(&format!("http://{address}")));
    pushed.identified();
    sleep(30 * SECOND).await;
    let failures = pushed.failures("connection");
    assert!((3..=30).contains(&failures), "{failures}");
    assert_eq!(pushed.value(EXPORTS), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_ten_megabytes_is_a_success_that_is_not_read() {
    let mut collector = Collector::start([Reply::With(200, None, vec![b'x'; 10 << 20])]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    collector.next().await;
    sleep(SECOND).await;
    assert_eq!(pushed.value(EXPORTS), 1);
}

#[rstest]
#[case::some(3, "partial", 1, 0)]
#[case::a_mere_warning(0, "partial", 0, 1)]
#[tokio::test(start_paused = true)]
async fn a_partial_success_is_counted_and_not_repeated(
    #[case] rejected: i64,
    #[case] reason: &str,
    #[case] failures: u64,
    #[case] exports: u64,
) {
    let partial =
        ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: "too many labels".into() };
    let body = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let mut collector = Collector::start([Reply::With(200, None, body)]).await;
    let pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    collector.next().await;
    sleep(30 * SECOND).await;
    assert!(collector.received.try_recv().is_err());
    assert_eq!((pushed.failures(reason), pushed.value(EXPORTS)), (failures, exports));
}

#[tokio::test(start_paused = true)]
async fn headers_come_from_variable_and_file_and_a_new_file_is_used_at_once() {
    let path = std::env::temp_dir().join(format!("spotwarden-otlp-rotated-{}", std::process::id()));
    let mut collector = Collector::start([]).await;
    let mut config = config(&collector.url);
    config.headers_file = Some(path.clone());
    config.metrics.as_mut().unwrap().headers =
        crate::config::otlp::headers("x-scope-orgid=7,authorization=old").unwrap();
    let pushed = Pushed::start(&config);
    pushed.identified();
    sleep(3 * SECOND).await;
    assert!(pushed.failures("configuration") >= 1, "the file is not there yet");
    for token in ["first", "second-token"] {
        std::fs::write(&path, format!("authorization=Bearer%20{token}\n")).unwrap();
        let received = collector.next().await;
        assert_eq!(received.headers["authorization"], format!("Bearer {token}"), "the file wins");
        assert_eq!(received.headers["x-scope-orgid"], "7");
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_compressed_push_says_the_same() {
    let mut collector = Collector::start([]).await;
    let mut config = config(&collector.url);
    config.metrics.as_mut().unwrap().gzip = true;
    let pushed = Pushed::start(&config);
    pushed.identified();
    let received = collector.next().await;
    assert_eq!(received.headers["content-encoding"], "gzip");
    assert!(received.body.len() * 2 < received.plain().len(), "{}", received.body.len());
    assert_eq!(is_pending(&received), 0);
}

#[tokio::test(start_paused = true)]
async fn deltas_lose_nothing_when_a_push_fails() {
    let mut collector = Collector::start([Reply::status(200), Reply::status(400), Reply::status(200)]).await;
    let config = OtlpConfig { temporality: Temporality::Delta, ..config(&collector.url) };
    let pushed = Pushed::start(&config);
    pushed.metrics.record(&Record::Restored);
    pushed.identified();
    let mut restores = Vec::new();
    for _ in 0..4 {
        restores.push(collector.next().await.number("spotwarden.restores", None));
        pushed.metrics.record(&Record::Restored);
    }
    assert_eq!(restores, [1, 1, 2, 1]);
}

/// Everything is said in the end, and the end is not held up: not by a collector that hangs, nor by one that is gone.
#[rstest]
#[case::well(Reply::status(200))]
#[case::busy(Reply::With(429, Some("600"), Vec::new()))]
#[case::silent(Reply::Never)]
#[tokio::test(start_paused = true)]
async fn the_last_push_is_made_when_the_agent_stops_and_takes_less_than_three_seconds(#[case] reply: Reply) {
    let mut collector = Collector::start([reply]).await;
    let mut pushed = Pushed::start(&config(&collector.url));
    pushed.identified();
    collector.next().await;
    pushed.metrics.record(&Record::Restored);
    let at = Instant::now();
    pushed.closing.send_replace(true);
    pushed.tasks.join_next().await.unwrap().unwrap();
    assert!(at.elapsed() < 3 * SECOND, "{:?}", at.elapsed());
    assert_eq!(collector.next().await.number("spotwarden.restores", None), 1);
}
