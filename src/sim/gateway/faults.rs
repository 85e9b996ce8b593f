//! What goes wrong, when, and for which requests. The decision is pure; `Faults` adds the lock and the waiting.
//!
//! Invariant: a request meets at most one fault that ends it on its way in and one on its way back; delays add up. A
//! fault limited to its next *n* requests is used up only by requests that it really acted on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, header};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::answers::CannedAnswer;
use super::denial::Denial;
use crate::k8s::attributes::Attributes;

/// Names an injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Takes longer.
    Latency(Duration),
    /// The API server is gone: open connections (watches too) break when the window begins, new ones are accepted and
    /// closed. Concerns everything; its matcher and stage are not consulted.
    Unavailable,
    /// Never answers; the connection stays open.
    Stall,
    /// Closes the connection instead of answering.
    Reset,
    /// Answers this.
    Answer(CannedAnswer),
    /// The answer breaks off in its middle; of a watch, in the middle of its first chunk.
    Truncate,
    /// Matching watches end when the window begins, and at once while it lasts.
    CloseWatches {
        /// Sends the `ERROR` event of an expired resource version (410) first.
        expired: bool,
    },
    /// Events of matching watches, running ones too, arrive this much later.
    WatchLag(Duration),
    /// An admission policy refuses requests that write a field.
    Deny(Denial),
}

/// Where on a request's way a fault acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    /// Before the backend saw the request: nothing was applied.
    #[default]
    Request,
    /// On the answer's way back: the change is applied, the client does not hear of it (or later).
    Answer,
}

/// Which requests. Absent means any; all that is present must hold.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Matcher {
    /// RBAC verbs; empty for any.
    pub verbs: Vec<String>,
    /// Plural resource.
    pub resource: Option<String>,
    /// Subresource; `""` for requests without one.
    pub subresource: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Object name.
    pub name: Option<String>,
}

impl Matcher {
    /// One verb on one resource (`pods`) or subresource (`pods/eviction`); `pods` alone means no subresource.
    pub fn new(verb: &str, resource: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Self {
            verbs: vec![verb.into()],
            resource: Some(resource.into()),
            subresource: Some(subresource.into()),
            ..Self::default()
        }
    }

    /// Only the object of this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether a request is meant.
    pub fn matches(&self, request: &Attributes) -> bool {
        let holds = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        (self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == request.verb))
            && holds(&self.resource, &request.resource)
            && holds(&self.subresource, &request.subresource)
            && holds(&self.namespace, &request.namespace)
            && holds(&self.name, &request.name)
    }
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// For which requests.
    pub on: Matcher,
    /// From when, on the runtime's clock.
    pub from: Instant,
    /// Until when (exclusive); absent for good.
    pub until: Option<Instant>,
    /// For at most this many requests; absent for all. Faults of connections and of running watches are not counted.
    pub times: Option<u32>,
    /// Before or after the backend acts.
    pub stage: Stage,
}

impl Fault {
    /// A fault that concerns every request from now on.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, on: Matcher::default(), from: Instant::now(), until: None, times: None, stage: Stage::Request }
    }

    /// Only these requests.
    #[must_use]
    pub fn on(mut self, matcher: Matcher) -> Self {
        self.on = matcher;
        self
    }

    /// Only in this window; the end is exclusive.
    #[must_use]
    pub fn between(mut self, from: Instant, until: Instant) -> Self {
        (self.from, self.until) = (from, Some(until));
        self
    }

    /// Only for the next `n` requests that match.
    #[must_use]
    pub fn times(mut self, n: u32) -> Self {
        self.times = Some(n);
        self
    }

    /// After the backend has acted.
    #[must_use]
    pub fn after_applied(mut self) -> Self {
        self.stage = Stage::Answer;
        self
    }

    fn active(&self, now: Instant) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }

    /// When something that exists since `since` is first hit. A window that opens later counts even if it is over by
    /// the time anybody looks.
    fn first_hit(&self, since: Instant) -> Option<Instant> {
        let reaches = self.from >= since || self.until.is_none_or(|until| since < until);
        (reaches && self.times != Some(0)).then(|| self.from.max(since))
    }
}

/// A request as faults see it.
#[derive(Clone, Debug)]
pub(super) struct Seen<'a> {
    attributes: &'a Attributes,
    content_type: &'a str,
    body: &'a [u8],
}

impl<'a> Seen<'a> {
    pub(super) fn new(request: &'a Request<bytes::Bytes>, attributes: &'a Attributes) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self { attributes, content_type: content_type.unwrap_or_default(), body: request.body() }
    }
}

/// How a request ends instead of being let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Disconnect,
    Stall,
    Answer(CannedAnswer),
}

/// What happens to one request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Plan {
    /// Before the request is forwarded.
    pub(super) delay: Duration,
    /// Instead of forwarding it.
    pub(super) verdict: Option<Verdict>,
    /// Before the answer is returned.
    pub(super) answer_delay: Duration,
    /// Instead of returning it.
    pub(super) answer_verdict: Option<Verdict>,
    /// Cut the answer.
    pub(super) truncate: bool,
}

impl Plan {
    /// Lets a fault act; false if it has nothing to do here.
    fn apply(&mut self, fault: &Fault, request: &Seen<'_>) -> bool {
        let verdict = match &fault.kind {
            FaultKind::CloseWatches { .. } | FaultKind::WatchLag(_) => return false,
            FaultKind::Latency(by) => {
                match fault.stage {
                    Stage::Request => self.delay += *by,
                    Stage::Answer => self.answer_delay += *by,
                }
                return true;
            }
            FaultKind::Truncate => return !std::mem::replace(&mut self.truncate, true),
            FaultKind::Deny(denial) => {
                if !denial.forbids(request.attributes, request.content_type, request.body) {
                    return false;
                }
                Verdict::Answer(denial.answer(request.attributes))
            }
            FaultKind::Stall => Verdict::Stall,
            FaultKind::Reset | FaultKind::Unavailable => Verdict::Disconnect,
            FaultKind::Answer(answer) => Verdict::Answer(answer.clone()),
        };
        let early = fault.stage == Stage::Request || matches!(fault.kind, FaultKind::Deny(_) | FaultKind::Unavailable);
        let slot = if early { &mut self.verdict } else { &mut self.answer_verdict };
        let free = slot.is_none();
        if free {
            *slot = Some(verdict);
        }
        free
    }
}

/// Decides about one request and uses up limited faults.
fn plan<'a>(faults: impl Iterator<Item = &'a mut Fault>, now: Instant, request: &Seen<'_>) -> Plan {
    let mut plan = Plan::default();
    for fault in faults {
        let concerned = fault.kind == FaultKind::Unavailable || fault.on.matches(request.attributes);
        if fault.active(now)
            && concerned
            && fault.times != Some(0)
            // A request that ends on its way in never meets what waits on the way back.
            && (plan.verdict.is_none() || fault.stage == Stage::Request)
            && plan.apply(fault, request)
        {
            fault.times = fault.times.map(|left| left.saturating_sub(1));
        }
    }
    plan
}

/// The injected faults; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    armed: Arc<Mutex<Vec<(FaultId, Fault)>>>,
    /// Counts changes; also the source of ids.
    changes: Arc<watch::Sender<u64>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { armed: Arc::default(), changes: Arc::new(watch::Sender::new(0)) }
    }
}

impl Faults {
    pub(super) fn inject(&self, fault: Fault) -> FaultId {
        let id = FaultId(*self.changes.borrow());
        self.with(|armed| armed.push((id, fault)));
        self.changes.send_modify(|count| *count += 1);
        id
    }

    pub(super) fn lift(&self, id: FaultId) {
        self.with(|armed| armed.retain(|(armed, _)| *armed != id));
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn plan(&self, request: &Seen<'_>) -> Plan {
        self.with(|armed| plan(armed.iter_mut().map(|(_, fault)| fault), Instant::now(), request))
    }

    /// Whether the API server is gone right now.
    pub(super) fn unavailable(&self) -> bool {
        let now = Instant::now();
        self.with(|armed| armed.iter().any(|(_, fault)| fault.kind == FaultKind::Unavailable && fault.active(now)))
    }

    /// How much later an event of this watch arrives that the server sends now.
    pub(super) fn lag(&self, watch: &Attributes) -> Duration {
        let now = Instant::now();
        let lag = |fault: &Fault| match fault.kind {
            FaultKind::WatchLag(by) if fault.active(now) && fault.on.matches(watch) => by,
            _ => Duration::ZERO,
        };
        self.with(|armed| armed.iter().map(|(_, fault)| lag(fault)).sum())
    }

    /// Resolves when the API server goes away.
    pub(super) async fn until_unavailable(self) {
        self.until(|fault| (fault.kind == FaultKind::Unavailable).then_some(())).await;
    }

    /// Resolves when a watch that begins now is closed; true if an `ERROR` event goes first.
    pub(super) async fn until_closed(self, watch: Attributes) -> bool {
        self.until(move |fault| match fault.kind {
            FaultKind::CloseWatches { expired } if fault.on.matches(&watch) => Some(expired),
            _ => None,
        })
        .await
    }

    /// Waits for the first hit by a fault that `select` picks, seen from now.
    async fn until<T>(self, select: impl Fn(&Fault) -> Option<T>) -> T {
        let since = Instant::now();
        let mut changes = self.changes.subscribe();
        loop {
            let next = self.with(|armed| {
                let hits = armed.iter().filter_map(|(_, fault)| Some((fault.first_hit(since)?, select(fault)?)));
                hits.min_by_key(|(at, _)| *at)
            });
            let Some((at, what)) = next else {
                // Neither end of the channel can close: `self` holds the sender.
                let _ = changes.changed().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(at) => return what,
                _ = changes.changed() => {}
            }
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<(FaultId, Fault)>) -> T) -> T {
        act(&mut self.armed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, Uri};

    use super::*;

    fn planned(faults: &mut [Fault], now: Instant, method: Method, uri: &'static str) -> Plan {
        let attributes = Attributes::of(&method, &Uri::from_static(uri));
        let request = Request::builder().method(method).uri(uri).body(Bytes::new()).unwrap();
        plan(faults.iter_mut(), now, &Seen::new(&request, &attributes))
    }

    const EVICTION: &str = "/api/v1/namespaces/a/pods/p/eviction";
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fault_acts_from_the_start_of_its_window_to_just_before_its_end() {
        let start = Instant::now();
        let mut faults = [Fault::new(FaultKind::Reset).between(start + SECOND, start + 2 * SECOND)];
        let acts = |faults: &mut [Fault], now| planned(faults, now, Method::GET, "/version").verdict.is_some();
        assert!(!acts(&mut faults, start));
        assert!(acts(&mut faults, start + SECOND));
        assert!(!acts(&mut faults, start + 2 * SECOND));
    }

    #[test]
    fn only_requests_that_match_use_a_limited_fault_up() {
        let answer = FaultKind::Answer(CannedAnswer::throttled());
        let mut faults = [Fault::new(answer).on(Matcher::new("create", "pods/eviction")).times(1)];
        let now = Instant::now();
        assert_eq!(planned(&mut faults, now, Method::DELETE, "/api/v1/namespaces/a/pods/p"), Plan::default());
        assert_eq!(planned(&mut faults, now, Method::POST, "/api/v1/namespaces/a/pods"), Plan::default());
        let hit = planned(&mut faults, now, Method::POST, EVICTION);
        assert_eq!(hit.verdict, Some(Verdict::Answer(CannedAnswer::throttled())));
        assert_eq!(planned(&mut faults, now, Method::POST, EVICTION), Plan::default());
    }

    #[test]
    fn delays_add_up_and_the_first_of_two_endings_wins_without_using_up_the_second() {
        let mut faults = [
            Fault::new(FaultKind::Latency(SECOND)),
            Fault::new(FaultKind::Latency(SECOND)),
            Fault::new(FaultKind::Stall).times(1),
            Fault::new(FaultKind::Reset).times(1),
        ];
        let now = Instant::now();
        let first = planned(&mut faults, now, Method::POST, EVICTION);
        assert_eq!((first.delay, first.verdict), (2 * SECOND, Some(Verdict::Stall)));
        assert_eq!(planned(&mut faults, now, Method::POST, EVICTION).verdict, Some(Verdict::Disconnect));
    }

    #[test]
    fn what_acts_after_the_backend_leaves_the_way_in_alone() {
        let mut faults =
            [Fault::new(FaultKind::Reset).after_applied(), Fault::new(FaultKind::Latency(SECOND)).after_applied()];
        let plan = planned(&mut faults, Instant::now(), Method::POST, EVICTION);
        assert_eq!((plan.delay, plan.verdict), (Duration::ZERO, None));
        assert_eq!((plan.answer_delay, plan.answer_verdict), (SECOND, Some(Verdict::Disconnect)));
    }

    #[test]
    fn a_window_of_no_length_still_hits_what_was_open_before_it() {
        let start = Instant::now();
        let at = start + SECOND;
        let fault = Fault::new(FaultKind::CloseWatches { expired: false }).between(at, at);
        assert_eq!(fault.first_hit(start), Some(at));
        assert_eq!(fault.first_hit(at + SECOND), None);
    }
}
