mod page;
mod strict;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::*;
use crate::config::Response;
use crate::drain::forecast::{Forecast, PodForecast, Verdict};
use crate::drain::outcome::Outcome;
use crate::drain::pod::PodRef;
use crate::imds::documents::Oddity;
use crate::imds::{Endpoint, Failure, Outcome as Read};
use crate::interruption::record::{Pending, PodStatus};
use crate::signal::{Action, Deadline, Kind, Signal};

/// One agent's metrics, with the sender that stands for its state. Nobody knows who it is.
fn metrics() -> (watch::Sender<Status>, Metrics) {
    metrics_of(NodeIdentity::named("n1"), None)
}

fn metrics_of(identity: NodeIdentity, headroom: Option<Arc<Headroom>>) -> (watch::Sender<Status>, Metrics) {
    let status = watch::Sender::new(Status::default());
    let metrics = Metrics::new(status.subscribe(), watch::channel(headroom).1, watch::channel(identity).1);
    (status, metrics)
}

/// One that somebody has told of.
fn known() -> NodeIdentity {
    NodeIdentity { zone: "eu-central-1a".into(), ..NodeIdentity::named("n\"1") }
}

const FENCED: Record = Record::Fenced { after: Duration::from_millis(40), refused: Vec::new() };
const DRAINED: Record =
    Record::DrainFinished { took: Duration::from_secs(31), slack_seconds: Some(80.0), outcomes: [1, 0, 1, 0, 3] };

fn pod(name: &str) -> PodRef {
    PodRef { namespace: "default".into(), name: name.into(), uid: format!("uid-{name}") }
}

fn pending() -> Pending {
    let wall = "2026-11-21T10:02:00Z".parse().unwrap();
    let deadline = Some(Deadline { instant: Instant::now(), wall });
    Pending {
        kind: Kind::SpotInterruption,
        action: Action::Terminate,
        deadline,
        first_seen: "2026-11-21T10:00:00Z".parse().unwrap(),
        detail: None,
        response: Response::Drain,
    }
}

/// One pod that fits and one whose grace would be cut.
fn forecast() -> Forecast {
    let of = |name, verdict| PodForecast { pod: pod(name), verdict, reason: None, slack_seconds: 0.0 };
    Forecast { pods: vec![of("a", Verdict::Shortened), of("b", Verdict::Fits)], least_slack_seconds: Some(-12.5) }
}

/// A state in which every optional sample is shown.
fn drained() -> Status {
    Status {
        pending: vec![pending()],
        deadline: pending().deadline,
        forecast: Some(Arc::new(forecast())),
        fenced: true,
        node_seen: true,
        pods: vec![PodStatus {
            id: pod("a").into(),
            phase: "stopping",
            outcome: None,
            wanted: Duration::from_secs(30),
            granted: None,
            blocked: None,
        }],
        postponed: None,
        drained: true,
        slack_seconds: Some(-1.5),
    }
}

fn classic(metrics: &Metrics) -> String {
    metrics.text(None).1
}

/// The value of the one sample that is written exactly so.
fn value(metrics: &Metrics, sample: &str) -> Option<f64> {
    classic(metrics).lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

fn samples(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// The whole exposition without values, and without what differs from build to build or (the order within a family) from
/// run to run.
fn outline(text: &str) -> String {
    let mut outline = String::new();
    let mut family = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            family.sort();
            outline.extend(family.drain(..));
            _ = writeln!(outline, "{line}");
        } else {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let series = match series.split_once('{') {
                Some((name, labels)) if name.ends_with("_info") => {
                    let keys = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
                    format!("{name}{{{}}}", keys.map(|(key, _)| key).collect::<Vec<_>>().join(","))
                }
                _ => series.to_owned(),
            };
            family.push(format!("{series}\n"));
        }
    }
    outline
}

/// Metrics in a state in which every optional sample is shown, after one of everything that is counted by a closed set of
/// words. Calls to the API server are left out: which of them an agent makes depends on its cluster.
pub(crate) fn fullest() -> Metrics {
    let (status, metrics) = metrics_of(known(), Some(cni::tests::everything()));
    status.send_replace(drained());
    metrics.record(&Record::Preflight { asked: 1, blocked: Vec::new() });
    metrics.record(&FENCED);
    metrics.record(&DRAINED);
    for kind in Kind::ALL {
        metrics.record(&seen(kind));
    }
    for outcome in Outcome::ALL {
        metrics.record(&Record::PodEnded { pod: pod("a"), outcome, wanted: Duration::ZERO, granted: None });
    }
    for endpoint in Endpoint::ALL {
        metrics.imds.request(endpoint, Read::Ok);
        for failure in Failure::ALL {
            metrics.imds.request(endpoint, Read::Failed(failure));
        }
    }
    for oddity in Oddity::ALL {
        metrics.imds.rejected(oddity);
    }
    for sink in crate::notify::Sink::ALL {
        metrics.notify.configured(sink);
    }
    metrics
}

/// Metrics of a node whose pods were read and for which nothing is announced.
fn idle() -> Metrics {
    let (status, metrics) = metrics_of(known(), None);
    status.send_modify(|status| status.forecast = Some(Arc::new(forecast())));
    metrics
}

/// The samples of all counters in classic text, name and labels to value, but for the process's own CPU time.
fn counters(text: &str) -> BTreeMap<&str, &str> {
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let samples = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
        let name = series.split_once('{').map_or(*series, |(name, _)| name);
        names.contains(&name) && !name.starts_with("process_")
    });
    samples.collect()
}

/// The golden file is what dashboards, alerts and the documentation rely on. After a wanted change write it anew with
/// `UPDATE_GOLDEN=1 cargo test --lib metrics` and read the difference.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn names_types_help_and_labels_are_those_of_the_golden_file() {
    let outline = outline(&fullest().text(Some("application/openmetrics-text")).1);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &outline).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(outline, golden, "update with: UPDATE_GOLDEN=1 cargo test --lib metrics");
}

/// The promise is 100 on an idle node. A quiet node's address headroom has 20 more at most, by a
/// test of its own.
#[test]
fn an_idle_agent_shows_at_most_80_series_beside_the_address_headroom() {
    let (idle, fullest) = (classic(&idle()), classic(&fullest()));
    let addresses = idle.lines().filter(|line| line.starts_with("spotwarden_cni_")).count();
    let others = samples(&idle) - addresses;
    assert!((60..=80).contains(&others), "{others} series");
    assert!(samples(&fullest) > samples(&idle), "{fullest}");
}

#[test]
fn every_counter_of_an_agent_that_has_seen_it_all_is_there_with_0_on_an_idle_one() {
    let (idle, fullest) = (classic(&idle()), classic(&fullest()));
    let (idle, mut fullest) = (counters(&idle), counters(&fullest));
    // Of sinks only those that are configured; by default none is.
    fullest.retain(|series, _| !series.starts_with("spotwarden_notifications_total"));
    assert!(idle.len() > 30, "{idle:?}");
    assert!(idle.keys().eq(fullest.keys()), "{idle:?}\n{fullest:?}");
    assert!(idle.values().all(|value| *value == "0"), "{idle:?}");
}

#[test]
fn a_histogram_is_shown_from_its_first_observation_on() {
    let (_status, metrics) = metrics();
    let (fence, drain) = ("spotwarden_notice_to_fence_seconds", "spotwarden_drain_duration_seconds");
    let text = classic(&metrics);
    assert!(text.contains(fence) && !text.contains(drain), "the promise is there from the start: {text}");

    metrics.record(&DRAINED);
    metrics.record(&DRAINED);
    let text = classic(&metrics);
    assert!(text.contains(&format!("# TYPE {drain} histogram\n")), "{text}");
    assert_eq!(value(&metrics, &format!("{drain}_count")), Some(2.0));
}

#[test]
fn counters_exist_with_zero_before_anything_happened() {
    let (_status, metrics) = metrics();
    for kind in Kind::ALL {
        assert_eq!(value(&metrics, &format!("spotwarden_notices_total{{kind=\"{}\"}}", kind.as_str())), Some(0.0));
    }
    for outcome in Outcome::ALL {
        let sample = format!("spotwarden_drained_pods_total{{outcome=\"{}\"}}", outcome.as_str());
        assert_eq!(value(&metrics, &sample), Some(0.0));
    }
    for sample in [
        "spotwarden_eviction_requests_total{result=\"blocked\"}",
        "spotwarden_api_requests_total{verb=\"patch\",resource=\"nodes\",code=\"200\"}",
        "spotwarden_watch_restarts_total{resource=\"pods\"}",
        "spotwarden_fence_failures_total",
        "spotwarden_restores_total",
        "spotwarden_state_annotation_errors_total",
    ] {
        assert_eq!(value(&metrics, sample), Some(0.0), "{sample}");
    }
}

#[test]
fn what_is_not_known_has_no_sample() {
    let (status, metrics) = metrics();
    let optional = [
        "spotwarden_interruption_deadline_timestamp_seconds",
        "spotwarden_drain_slack_seconds",
        "spotwarden_drain_forecast_slack_seconds",
        "spotwarden_drain_forecast_pods",
        "spotwarden_preflight_blocked_pods",
        "spotwarden_node_info",
    ];
    let text = classic(&metrics);
    assert!(optional.iter().all(|name| !text.contains(name)), "{text}");

    status.send_replace(drained());
    assert_eq!(value(&metrics, optional[0]), Some(1_795_255_320.0));
    assert_eq!(value(&metrics, optional[1]), Some(-1.5));
    let info = "spotwarden_node_info{node=\"n\\\"1\",instance_id=\"\",instance_type=\"\",zone=\"eu-central-1a\",";
    assert!(classic(&metrics_of(known(), None).1).contains(info));

    status.send_modify(|status| status.drained = false);
    assert_eq!(value(&metrics, optional[1]), None, "slack is known when the drain is over");
}

#[test]
fn pending_is_one_for_the_kind_that_is_coming_only() {
    let (status, metrics) = metrics();
    status.send_replace(drained());
    assert_eq!(value(&metrics, "spotwarden_interruption_pending{kind=\"spot-interruption\"}"), Some(1.0));
    assert_eq!(value(&metrics, "spotwarden_interruption_pending{kind=\"asg-termination\"}"), Some(0.0));
    assert_eq!(value(&metrics, "spotwarden_fenced"), Some(1.0));
    assert_eq!(value(&metrics, "spotwarden_drain_waiting_pods"), Some(1.0));
    status.send_replace(Status::default());
    assert_eq!(value(&metrics, "spotwarden_interruption_pending{kind=\"spot-interruption\"}"), Some(0.0));
}

#[test]
fn the_forecast_is_shown_for_every_verdict_with_the_least_slack() {
    let (status, metrics) = metrics();
    status.send_modify(|status| status.forecast = Some(Arc::new(forecast())));
    for (verdict, count) in Verdict::ALL.into_iter().zip([1.0, 0.0, 0.0, 0.0, 1.0]) {
        let sample = format!("spotwarden_drain_forecast_pods{{verdict=\"{}\"}}", verdict.as_str());
        assert_eq!(value(&metrics, &sample), Some(count), "{sample}");
    }
    assert_eq!(value(&metrics, "spotwarden_drain_forecast_slack_seconds"), Some(-12.5));
    status.send_modify(|status| status.forecast = Some(Arc::default()));
    assert_eq!(value(&metrics, "spotwarden_drain_forecast_slack_seconds"), None, "nobody is there to be late");
}

fn seen(kind: Kind) -> Record {
    Record::NoticeSeen { signal: Signal::new(kind, "i", Action::Terminate), first_seen: Timestamp::UNIX_EPOCH }
}

#[test]
fn records_move_the_counters_that_they_are_about() {
    let (_status, metrics) = metrics();
    let ended = |name, outcome| Record::PodEnded { pod: pod(name), outcome, wanted: Duration::ZERO, granted: None };
    let records = [
        seen(Kind::SpotInterruption),
        Record::Resumed {
            signal: Signal::new(Kind::SpotInterruption, "i", Action::Terminate),
            first_seen: Timestamp::UNIX_EPOCH,
        },
        Record::StateUnreadable { reason: "not JSON".into() },
        Record::Preflight { asked: 3, blocked: vec![(pod("a"), "budget".into()), (pod("b"), "budget".into())] },
        Record::Preflight { asked: 3, blocked: vec![(pod("b"), "budget".into())] },
        Record::Restored,
        Record::FenceFailed { reason: "timed out".into() },
        Record::Fenced { after: Duration::from_millis(60), refused: vec!["label"] },
        Record::DrainStarted { pods: 2, skipped: 3 },
        ended("a", Outcome::Graceful),
        ended("b", Outcome::Forced),
        ended("c", Outcome::Skipped),
        Record::DrainFinished { took: Duration::from_secs(31), slack_seconds: Some(80.0), outcomes: [1, 0, 1, 0, 3] },
    ];
    for record in &records {
        metrics.record(record);
    }
    metrics.eviction(&EvictionAnswer::Blocked("budget".into()));
    for (sample, expected) in [
        ("spotwarden_notices_total{kind=\"spot-interruption\"}", 1.0),
        ("spotwarden_state_annotation_errors_total", 1.0),
        ("spotwarden_preflight_blocked_pods", 1.0),
        ("spotwarden_restores_total", 1.0),
        ("spotwarden_fence_failures_total", 1.0),
        ("spotwarden_fence_parts_refused_total", 1.0),
        ("spotwarden_notice_to_fence_seconds_bucket{le=\"0.05\"}", 0.0),
        ("spotwarden_notice_to_fence_seconds_bucket{le=\"0.1\"}", 1.0),
        ("spotwarden_drained_pods_total{outcome=\"graceful\"}", 1.0),
        ("spotwarden_drained_pods_total{outcome=\"forced\"}", 1.0),
        ("spotwarden_drained_pods_total{outcome=\"skipped\"}", 1.0),
        ("spotwarden_drain_duration_seconds_bucket{le=\"30.0\"}", 0.0),
        ("spotwarden_drain_duration_seconds_bucket{le=\"60.0\"}", 1.0),
        ("spotwarden_eviction_requests_total{result=\"blocked\"}", 1.0),
    ] {
        assert_eq!(value(&metrics, sample), Some(expected), "{sample}");
    }
}

#[test]
fn every_answer_to_an_eviction_is_counted_on_a_series_that_existed() {
    let (_status, metrics) = metrics();
    let before = samples(&classic(&metrics));
    for answer in [
        EvictionAnswer::Accepted,
        EvictionAnswer::Gone,
        EvictionAnswer::Blocked(String::new()),
        EvictionAnswer::Throttled(None),
        EvictionAnswer::NamespaceTerminating,
        EvictionAnswer::Refused(String::new()),
        EvictionAnswer::Unknown(String::new()),
        EvictionAnswer::DryRun,
    ] {
        metrics.eviction(&answer);
    }
    assert_eq!(samples(&classic(&metrics)), before);
}

#[test]
fn an_unknown_call_cannot_add_labels_without_bound() {
    let (_status, metrics) = metrics();
    let before = samples(&classic(&metrics));
    for number in 0..500_u16 {
        metrics.api.request(&format!("verb{number}"), &format!("pods/{number}"), Some(600 + number));
        metrics.api.watch_restarted(&format!("thing{number}"));
    }
    metrics.api.request("patch", "nodes", None);
    assert_eq!(
        value(&metrics, "spotwarden_api_requests_total{verb=\"other\",resource=\"other\",code=\"other\"}"),
        Some(500.0)
    );
    assert_eq!(
        value(&metrics, "spotwarden_api_requests_total{verb=\"patch\",resource=\"nodes\",code=\"error\"}"),
        Some(1.0)
    );
    assert_eq!(samples(&classic(&metrics)), before + 3);
}
