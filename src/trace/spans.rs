//! From the account of an interruption to spans, each told once. Pure.
//!
//! ```text
//!  interruption (SERVER, so that X-Ray makes a segment of it)
//!  ├─ fence
//!  ├─ drain
//!  │   └─ pod  (one for each that was to go)
//!  └─ restore
//! ```
//!
//! A span is told when what it is about has ended, and so is the root: when the response is complete. The node may be gone
//! in the same moment, hence a last call shortly before: whatever is known by then is told as it is, pods that still run
//! included. Ids follow from the trace and from what a span is about, so that a restarted agent that comes to the same
//! result tells it under the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use crate::drain::outcome::Outcome;
use crate::interruption::account::{Account, Announced, PodPart};

/// What is still open so long before the power goes is told as it is: an export takes milliseconds, a slow collector a
/// second. Pods are stopped a safety margin of 3 s ahead, so those that end later than this are exceptions.
pub const LAST_CALL: Duration = Duration::from_secs(2);

/// An agent that is told to stop so shortly before the deadline stops with its node.
const STOPS_WITH_NODE: Duration = Duration::from_secs(5);

/// Sampled (W3C trace context).
const FLAGS: u32 = 1;

/// What was told of the present interruption.
#[derive(Debug, Default)]
pub struct Told {
    trace_id: String,
    spans: BTreeSet<[u8; 8]>,
}

/// When the last call is, if the account has a deadline.
pub fn last_call(account: &Account) -> Option<Timestamp> {
    let coming = account.pending().next().is_some();
    let end = account.deadline().filter(|_| coming)? + account.shutdown_tail;
    Some(account.time(end - LAST_CALL.as_secs_f64()))
}

/// Whether whatever is open is to be told now. `stopping`: the agent was told to stop.
fn is_last_call(account: &Account, now: Timestamp, stopping: bool) -> bool {
    let Some(at) = last_call(account) else { return false };
    let tail = Duration::try_from_secs_f64(account.shutdown_tail).unwrap_or_default();
    let ahead = tail + STOPS_WITH_NODE.saturating_sub(LAST_CALL);
    now >= at || (stopping && now >= at.checked_sub(ahead).unwrap_or(at))
}

impl Told {
    /// The spans of `account` that have ended by `now` and were not told yet. `stopping`: the agent was told to stop.
    pub fn spans(&mut self, account: &Account, now: Timestamp, stopping: bool) -> Vec<Span> {
        if self.trace_id != account.trace_id {
            *self = Self { trace_id: account.trace_id.clone(), spans: BTreeSet::new() };
        }
        let Some(trace) = Trace::new(account) else { return Vec::new() };
        let cut = is_last_call(account, now, stopping).then(|| offset(account, now));
        let mut spans = trace.spans(cut);
        spans.retain(|span| <[u8; 8]>::try_from(span.span_id.as_slice()).is_ok_and(|id| self.spans.insert(id)));
        spans
    }
}

/// Seconds from the start of the account to `time`.
fn offset(account: &Account, time: Timestamp) -> f64 {
    time.duration_since(account.started).as_secs_f64().max(0.0)
}

struct Trace<'a> {
    account: &'a Account,
    trace_id: [u8; 16],
}

impl<'a> Trace<'a> {
    fn new(account: &'a Account) -> Option<Self> {
        let trace_id = u128::from_str_radix(&account.trace_id, 16).ok()?.to_be_bytes();
        Some(Self { account, trace_id })
    }

    /// Everything that has ended, the root last. `cut`: what has not ends now.
    fn spans(&self, cut: Option<f64>) -> Vec<Span> {
        let mut spans = Vec::new();
        spans.extend(self.fence());
        let mut turns: BTreeMap<String, u32> = BTreeMap::new();
        for pod in self.account.pods.iter().filter(|pod| pod.was_to_go()) {
            // A later pod of the same name has a span of its own.
            let name = format!("{}/{}", pod.namespace, pod.name);
            let turn = turns.entry(name.clone()).and_modify(|turn| *turn += 1).or_insert(1);
            spans.extend(self.pod(pod, &format!("pod/{name}/{turn}"), cut));
        }
        spans.extend(self.drain(cut));
        spans.extend(self.restore());
        spans.extend(self.root(cut));
        spans
    }

    fn fence(&self) -> Option<Span> {
        let fence = self.account.fence.as_ref()?;
        let mut span = self.span("fence", "fence", (fence.at - fence.took).max(0.0), fence.at);
        let refused = fence.refused.iter().map(|part| text(part)).collect();
        let values = Value::ArrayValue(ArrayValue { values: refused });
        span.attributes.push(key_value("spotwarden.fence.refused", values));
        for part in &fence.refused {
            let refused = vec![attribute("spotwarden.fence.part", part)];
            span.events.push(self.event("spotwarden.fence.refused", fence.at, refused));
        }
        Some(span)
    }

    fn drain(&self, cut: Option<f64>) -> Option<Span> {
        let drain = self.account.drain.as_ref()?;
        let end = drain.finished.as_ref().map(|finish| finish.at).or(cut)?;
        let mut span = self.span("drain", "drain", drain.at, end);
        span.attributes.push(number("spotwarden.drain.pods", drain.pods as u64));
        span.attributes.extend(self.result());
        let unfinished = self.unfinished(cut);
        span.status = failed(unfinished > 0, || format!("{unfinished} pods unfinished"));
        Some(span)
    }

    fn pod(&self, pod: &PodPart, what: &str, cut: Option<f64>) -> Option<Span> {
        let end = pod.ended.or(cut)?;
        let drain = self.account.drain.as_ref().map(|drain| drain.at);
        let start = [pod.asked, pod.blocked, pod.told, drain].into_iter().flatten().next().unwrap_or(end);
        let mut span = self.span("pod", what, start.min(end), end);
        span.parent_span_id = self.span_id("drain").to_vec();
        span.attributes.extend([
            attribute("k8s.namespace.name", &pod.namespace),
            attribute("k8s.pod.name", &pod.name),
            attribute("spotwarden.pod.outcome", pod.outcome.map_or("running", Outcome::as_str)),
            flag("spotwarden.pod.forced", pod.forced),
        ]);
        let seconds = [
            ("spotwarden.pod.grace.wanted", pod.wanted),
            ("spotwarden.pod.grace.granted", pod.granted),
            ("spotwarden.pod.blocked", pod.blocked.map(|at| pod.told.unwrap_or(end) - at)),
        ];
        span.attributes.extend(seconds.into_iter().filter_map(|(key, value)| Some(double(key, value?.max(0.0)))));
        if let Some(at) = pod.blocked {
            let words = pod.blocked_by.iter().map(|words| attribute("spotwarden.eviction.refusal", words)).collect();
            span.events.push(self.event("spotwarden.eviction.refused", at, words));
        }
        if let Some(at) = pod.told {
            span.events.push(self.event("spotwarden.pod.told", at, Vec::new()));
        }
        span.status = match (pod.outcome, &pod.blocked_by) {
            (Some(Outcome::Unfinished), _) => failed(true, || "still running when the power was to go".into()),
            (None, _) => failed(true, || "still running at the last call".into()),
            (Some(Outcome::Forced), Some(words)) => failed(true, || format!("deleted past a refusal: {words}")),
            (Some(Outcome::Forced), None) => failed(true, || "deleted past a refusal".into()),
            _ => None,
        };
        Some(span)
    }

    fn restore(&self) -> Option<Span> {
        let (over, restored) = (self.account.over?, self.account.restored?);
        Some(self.span("restore", "restore", over, restored))
    }

    fn root(&self, cut: Option<f64>) -> Option<Span> {
        let account = self.account;
        let drained = account.drain.as_ref().map(|drain| drain.finished.as_ref().map(|finish| finish.at));
        // What was survived is taken up only to be restored; its response was complete before.
        let over = account.over.filter(|over| account.resumed != Some(*over));
        let complete = match drained {
            Some(finished) => finished,
            None => over.or_else(|| self.complete_without_drain()),
        };
        let end = complete.or(cut)?;
        let mut span = self.span("interruption", "interruption", 0.0, end);
        span.kind = SpanKind::Server.into();
        span.parent_span_id.clear();
        span.attributes.push(attribute("k8s.node.name", &account.node));
        if let Some(one) = leading(account) {
            span.attributes.extend(announcement(one));
        }
        span.attributes.push(flag("spotwarden.dry_run", account.dry_run));
        span.attributes.push(flag("spotwarden.resumed", account.resumed.is_some()));
        span.attributes.extend(account.not_drained.iter().map(|why| attribute("spotwarden.not_drained", why)));
        span.attributes.extend(self.result());
        for one in account.announcements.iter().filter(|one| one.at <= end) {
            span.events.push(self.event("spotwarden.announced", one.at, announcement(one)));
            if let Some(over) = one.over.as_ref().filter(|over| over.at <= end) {
                let because = vec![
                    attribute("spotwarden.interruption.id", &one.id),
                    attribute("spotwarden.because", &over.because),
                ];
                span.events.push(self.event("spotwarden.over", over.at, because));
            }
        }
        let unfinished = self.unfinished(cut);
        span.status = failed(unfinished > 0, || format!("{unfinished} pods unfinished"));
        Some(span)
    }

    /// A hibernation begins with its notice; there is nothing left to do but the fence.
    fn complete_without_drain(&self) -> Option<f64> {
        self.account.not_drained.as_ref()?;
        let fenced = self.account.fence.as_ref().map(|fence| fence.at);
        Some(fenced.or(self.account.announcements.first().map(|one| one.at)).unwrap_or(0.0))
    }

    /// The figures of a drain that has finished.
    fn result(&self) -> Vec<KeyValue> {
        let finish = self.account.drain.as_ref().and_then(|drain| drain.finished.as_ref());
        let Some(finish) = finish else { return Vec::new() };
        let counts = &finish.outcomes;
        let counts = [
            ("spotwarden.drain.graceful", counts.graceful),
            ("spotwarden.drain.shortened", counts.shortened),
            ("spotwarden.drain.forced", counts.forced),
            ("spotwarden.drain.unfinished", counts.unfinished),
            ("spotwarden.drain.skipped", counts.skipped),
        ];
        let slack = finish.slack.map(|slack| double("spotwarden.drain.slack", slack));
        counts.into_iter().map(|(key, count)| number(key, count.into())).chain(slack).collect()
    }

    fn unfinished(&self, cut: Option<f64>) -> usize {
        let is_open =
            |pod: &&PodPart| pod.outcome == Some(Outcome::Unfinished) || (pod.outcome.is_none() && cut.is_some());
        self.account.pods.iter().filter(is_open).count()
    }

    fn span(&self, name: &str, what: &str, start: f64, end: f64) -> Span {
        Span {
            trace_id: self.trace_id.to_vec(),
            span_id: self.span_id(what).to_vec(),
            parent_span_id: self.span_id("interruption").to_vec(),
            flags: FLAGS,
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.nanos(start),
            end_time_unix_nano: self.nanos(end.max(start)),
            ..Span::default()
        }
    }

    fn event(&self, name: &str, at: f64, attributes: Vec<KeyValue>) -> Event {
        Event { time_unix_nano: self.nanos(at), name: name.to_owned(), attributes, dropped_attributes_count: 0 }
    }

    /// The same in every agent.
    fn span_id(&self, what: &str) -> [u8; 8] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &[&self.trace_id, what.as_bytes()].concat());
        digest.as_ref().first_chunk().copied().filter(|id| *id != [0; 8]).unwrap_or([1; 8])
    }

    fn nanos(&self, offset: f64) -> u64 {
        u64::try_from(self.account.time(offset).as_nanosecond()).unwrap_or_default()
    }
}

/// The announcement that says most about what happens to the node: that with the earliest deadline.
fn leading(account: &Account) -> Option<&Announced> {
    account.announcements.iter().min_by(|a, b| {
        let key = |one: &Announced| one.deadline.unwrap_or(f64::INFINITY);
        key(a).total_cmp(&key(b))
    })
}

fn announcement(one: &Announced) -> Vec<KeyValue> {
    let always = [
        attribute("spotwarden.interruption.kind", one.kind.as_str()),
        attribute("spotwarden.interruption.action", one.action.as_str()),
        attribute("spotwarden.interruption.id", &one.id),
    ];
    let deadline = one.deadline_time.map(|at| attribute("spotwarden.interruption.deadline", &at.to_string()));
    let detail = one.detail.iter().map(|words| attribute("spotwarden.interruption.detail", words));
    always.into_iter().chain(deadline).chain(detail).collect()
}

fn failed(it_has: bool, message: impl FnOnce() -> String) -> Option<Status> {
    it_has.then(|| Status { message: message(), code: StatusCode::Error.into() })
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(words: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(words.to_owned())) }
}

fn attribute(key: &str, words: &str) -> KeyValue {
    key_value(key, Value::StringValue(words.to_owned()))
}

fn flag(key: &str, value: bool) -> KeyValue {
    key_value(key, Value::BoolValue(value))
}

fn number(key: &str, value: u64) -> KeyValue {
    key_value(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// Seconds.
fn double(key: &str, value: f64) -> KeyValue {
    key_value(key, Value::DoubleValue(value))
}

#[cfg(test)]
pub(in crate::trace) mod tests;
