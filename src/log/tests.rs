use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::drain::outcome::Outcome;
use crate::drain::pod::PodRef;
use crate::interruption::account::Account;
use crate::interruption::chronicle::{Milestone, News, SURVIVED};
use crate::interruption::record::Record;
use crate::interruption::state::{Entry, Trace};
use crate::report::find;
use crate::signal::{Action, Deadline, Kind, Signal};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written while `body` runs.
pub(crate) fn captured(format: LogFormat, filter: &str, body: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let config = LogConfig { format, filter: filter.parse().unwrap() };
    tracing::subscriber::with_default(subscriber(&config, move || writer.clone()), body);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn logged(record: &Record) -> Value {
    let text = captured(LogFormat::Json, "info", || record::log(record));
    assert_eq!(text.lines().count(), 1, "one line for each record: {text}");
    serde_json::from_str(&text).unwrap()
}

fn pod() -> PodRef {
    PodRef { namespace: "shop".into(), name: "cart".into(), uid: "u".into() }
}

fn deadline() -> Deadline {
    Deadline { instant: Instant::now(), wall: "2026-11-21T10:02:00Z".parse().unwrap() }
}

fn ended(outcome: Outcome) -> Record {
    Record::PodEnded { pod: pod(), outcome, wanted: Duration::from_secs(30), granted: Some(Duration::from_secs(5)) }
}

fn stop(granted: u64, forced: bool) -> Record {
    let (wanted, granted) = (Duration::from_secs(30), Duration::from_secs(granted));
    Record::StopAccepted { pod: pod(), wanted, granted, forced }
}

fn signal(kind: Kind, deadline: Option<Deadline>) -> Signal {
    Signal { deadline, ..Signal::new(kind, "i", Action::Terminate) }
}

fn entry() -> Entry {
    let (kind, action, first_seen) = (Kind::ScheduledEvent, Action::Reboot, Timestamp::UNIX_EPOCH);
    Entry { kind, action, id: "i".into(), deadline: None, issued: None, first_seen, detail: None }
}

fn finished(unfinished: u32) -> Record {
    let outcomes = [1, 2, 3, unfinished, 5];
    Record::DrainFinished { took: Duration::from_secs(61), slack_seconds: Some(12.5), outcomes }
}

#[rstest]
#[case(
    Record::NoticeSeen { signal: signal(Kind::SpotInterruption, Some(deadline())), first_seen: Timestamp::UNIX_EPOCH },
    "WARN", "interruption notice seen",
    json!({"kind": "spot-interruption", "action": "terminate", "deadline": "2026-11-21T10:02:00Z"}))]
#[case(Record::Resumed { signal: signal(Kind::SpotInterruption, Some(deadline())), first_seen: Timestamp::UNIX_EPOCH },
    "INFO", "interruption resumed after a restart", json!({"deadline": "2026-11-21T10:02:00Z"}))]
#[case(Record::StateUnreadable { reason: "not JSON".into() }, "WARN", "state annotation unreadable",
    json!({"reason": "not JSON"}))]
#[case(Record::Fenced { after: Duration::from_millis(40), refused: vec![] }, "INFO", "node fenced",
    json!({"after_seconds": 0.04}))]
#[case(Record::Fenced { after: Duration::from_millis(40), refused: vec!["label", "taint"] }, "WARN",
    "node fenced in part", json!({"refused": "label,taint"}))]
#[case(Record::FenceFailed { reason: "timed out".into() }, "WARN", "node not fenced yet", json!({"reason": "timed out"}))]
#[case(Record::DrainStarted { pods: 3, skipped: 2 }, "INFO", "drain started", json!({"pods": 3, "skipped": 2}))]
#[case(Record::EvictionBlocked { pod: pod(), message: "budget".into() }, "WARN", "eviction blocked",
    json!({"namespace": "shop", "pod": "cart", "reason": "budget"}))]
#[case(Record::Rescheduled { kind: Kind::ScheduledEvent, id: "i".into(), deadline: deadline() }, "WARN", "interruption rescheduled",
    json!({"kind": "scheduled-event", "deadline": "2026-11-21T10:02:00Z"}))]
#[case(Record::Over { kind: Kind::ScheduledEvent, id: "i".into(), because: "withdrawn" }, "INFO", "interruption over",
    json!({"kind": "scheduled-event", "because": "withdrawn"}))]
#[case(Record::Restored, "INFO", "node restored", json!({}))]
#[case(Record::RestoreFailed { reason: "503".into() }, "WARN", "node not restored yet", json!({"reason": "503"}))]
#[case(Record::Preflight { asked: 2, blocked: vec![] }, "INFO", "preflight: no eviction would be refused",
    json!({"asked": 2, "blocked": 0}))]
#[case(Record::Preflight { asked: 9, blocked: vec![(pod(), "needs 1".into()); 7] }, "WARN",
    "preflight: evictions would be refused",
    json!({"asked": 9, "blocked": 7, "pods": (["shop/cart: needs 1"; 5].join("; "))}))]
#[case(stop(30, false), "INFO", "pod stopping", json!({"wanted_seconds": 30, "granted_seconds": 30}))]
#[case(stop(5, false), "WARN", "pod stopping with shortened grace", json!({"granted_seconds": 5}))]
#[case(stop(30, true), "WARN", "pod deleted past a refusal", json!({"pod": "cart"}))]
#[case(ended(Outcome::Graceful), "INFO", "pod drain ended", json!({"outcome": "graceful", "granted_seconds": 5}))]
#[case(ended(Outcome::Shortened), "WARN", "pod drain ended", json!({"outcome": "shortened"}))]
#[case(ended(Outcome::Forced), "WARN", "pod drain ended", json!({"outcome": "forced"}))]
#[case(ended(Outcome::Unfinished), "WARN", "pod drain ended", json!({"outcome": "unfinished"}))]
#[case(finished(0), "INFO", "drain finished",
    json!({"took_seconds": 61.0, "slack_seconds": 12.5, "graceful": 1, "shortened": 2, "forced": 3, "skipped": 5}))]
#[case(finished(4), "ERROR", "drain not finished in time", json!({"unfinished": 4}))]
#[case(Record::Interruption(Trace { id: "4bf9".into(), since: Timestamp::UNIX_EPOCH }), "INFO", "interruption",
    json!({"trace_id": "4bf9", "since": "1970-01-01T00:00:00Z"}))]
#[case(Record::Survived { announcements: vec![entry()] }, "INFO", "interruption over",
    json!({"kind": "scheduled-event", "action": "reboot", "because": SURVIVED}))]
#[case(Record::DrainPostponed { subnets: "subnet-1".into() }, "WARN", "drain postponed: a subnet refused addresses lately", json!({"subnets": "subnet-1"}))]
#[case(Record::NotDrained { reason: "hibernation" }, "WARN", "node not drained", json!({"reason": "hibernation"}))]
fn a_record_is_one_line_with_its_level_message_and_fields(
    #[case] record: Record,
    #[case] level: &str,
    #[case] message: &str,
    #[case] fields: Value,
) {
    let line = logged(&record);
    assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some(level), Some(message)), "{line}");
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} in {line}");
    }
}

#[test]
fn an_absent_deadline_is_an_absent_field() {
    let signal = signal(Kind::RebalanceRecommendation, None);
    let line = logged(&Record::Resumed { signal, first_seen: Timestamp::UNIX_EPOCH });
    assert_eq!(line.get("deadline"), None, "{line}");
}

#[test]
fn plain_lines_are_for_people_and_cannot_be_forged() {
    let text = captured(LogFormat::Plain, "info", || {
        record::log(&Record::FenceFailed { reason: "refused\nERROR all is lost\u{1b}[31m".into() });
    });
    assert!(text.contains("WARN") && text.contains("node not fenced yet"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn the_filter_works_by_target_and_level() {
    let text = captured(LogFormat::Plain, "warn,spotwarden::log=debug,noisy=off", || {
        tracing::debug!("ours");
        tracing::info!(target: "elsewhere", "quiet");
        tracing::warn!(target: "elsewhere", "loud");
        tracing::error!(target: "noisy", "never");
    });
    assert!(text.contains("ours") && text.contains("loud"), "{text}");
    assert!(!text.contains("quiet") && !text.contains("never"), "{text}");
}

#[test]
fn an_empty_filter_is_the_default() {
    assert_eq!("".parse(), Ok(LogFilter::default()));
    assert_eq!("INFO".parse(), Ok(LogFilter::default()));
}

#[rstest]
#[case("inof", "`inof` is not a log level: use off, error, warn, info, debug or trace")]
#[case("spotwarden=loud", "`loud` is not a log level")]
#[case("=debug", "`` is not a log target")]
#[case("spotwarden[span{field=1}]=debug", "`spotwarden[span{field` is not a log target")]
fn a_filter_that_cannot_be_understood_is_named(#[case] text: &str, #[case] message: &str) {
    let error = text.parse::<LogFilter>().unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[rstest]
#[case(LogFormat::Json)]
#[case(LogFormat::Plain)]
fn a_report_is_one_line_from_which_the_account_comes_back(#[case] format: LogFormat) {
    let mut account = Account::drained();
    account.pods[3].blocked_by = Some("\u{1b}[31m\"two\nlines\"\u{85}\\ and 한글".into());
    let milestones = [
        (Milestone::Announced, 0),
        (Milestone::Resumed, 0),
        (Milestone::Fenced, 0),
        (Milestone::DrainStarted, 0),
        (Milestone::Rescheduled, 0),
        (Milestone::DrainFinished, 1),
        (Milestone::Over, 1),
        (Milestone::Restored, 1),
    ];
    for (milestone, lines) in milestones {
        let account = Arc::new(account.clone());
        let news = News { milestone, account: account.clone() };
        let text = captured(format, "info", || report::log(&news));
        assert_eq!(text.lines().count(), lines, "{milestone:?}: {text}");
        if lines > 0 {
            assert!(text.contains(report::MESSAGE) && !text.contains('\u{1b}'), "{text}");
            let found = find::reports(&text).accounts;
            assert_eq!(found, [(*account).clone()], "{text}");
        }
    }
}
