//! One pod's way through the drain.

use std::time::Duration;

use tokio::time::Instant;

use super::eviction::EvictionAnswer;
use super::grace::{self, Correction, Stopping};
use super::outcome::Outcome;
use super::plan::{HEAD_START, Opening, Terms};
use super::pod::{Deletion, PodView};
use super::wish::Wish;
use crate::clock::Now;
use crate::config::OnBlockedEviction;

/// An eviction may legitimately take about 10 s in the API server (20 retries of a contended budget, 500 ms each).
const CALL_TIMEOUT: Duration = Duration::from_secs(12);
/// No call gets less than this, however little time is left.
const MIN_CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// First pause after a refusal; it grows by half each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A budget may be freed at any moment, so pauses stay short even late in the drain.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Past the latest start every pause costs grace.
const LONGEST_LATE_PAUSE: Duration = Duration::from_secs(2);
/// Whatever the pauses were, the last eviction is tried this long before the latest start, so that its answer is there
/// when the pod is marked.
const LAST_TRY_AHEAD: Duration = Duration::from_millis(1500);
/// How long evictions that nobody refuses (no answer, throttling) may go on past the latest start before they are
/// overtaken by a deletion.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// The condition `DisruptionTarget` is written this long before a forced deletion.
const MARK_AHEAD: Duration = Duration::from_secs(1);

/// A pod that asked to stay is evicted this long before its latest start: time for a budget to answer once or twice, and
/// no more of the pod's time than that.
const STAY_HEAD_START: Duration = Duration::from_secs(5);

/// What one pod needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Evict with this grace.
    Evict(u32),
    /// Announce the forced deletion in the pod's status.
    Mark,
    /// Delete with this grace.
    Delete(u32),
}

/// A pod that is being drained.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) view: PodView,
    pub(super) stopping: Option<Stopping>,
    pub(super) outcome: Option<Outcome>,
    /// When its wish to stay ends by itself.
    wish_ends: Option<Instant>,
    pub(super) refusal: Option<String>,
    forcing: bool,
    evicted: bool,
    marked: bool,
    evicting: bool,
    deleting: bool,
    first_try: Option<Instant>,
    next_try: Option<Instant>,
    /// Tries that came to nothing.
    tries: u32,
    asked: u32,
}

impl Tracked {
    pub(super) fn new(view: PodView, now: Now) -> Self {
        let stopping = view.deletion.map(|deletion| {
            // Seen for the first time with its stop under way: only the API server's clock tells when it began.
            let ends = now.instant_of(deletion.at);
            let grace = granted_by(deletion, &view);
            Stopping { began: ends.checked_sub(grace).unwrap_or(ends), grace, ends }
        });
        // An agent before this one forced it; the pod itself is the record of that.
        let forcing = view.marked && stopping.is_some();
        Self {
            wish_ends: wish_ends(&view, now),
            view,
            stopping,
            outcome: None,
            refusal: None,
            forcing,
            evicted: false,
            marked: false,
            evicting: false,
            deleting: false,
            first_try: None,
            next_try: None,
            tries: 0,
            asked: 0,
        }
    }

    /// Takes over what the watch shows.
    pub(super) fn seen(&mut self, view: PodView, now: Now) {
        if view.wish != self.view.wish {
            self.wish_ends = wish_ends(&view, now);
        }
        if let Some(grace) = view.deletion.map(|deletion| granted_by(deletion, &view)) {
            self.stops_within(grace, now.instant);
        }
        self.view = view;
    }

    /// What the order of stops within a class follows: who does not mind, then the least slack.
    pub(super) fn urgency(&self, terms: Terms) -> (bool, Option<Instant>) {
        (self.view.wish != Some(Wish::Leave), terms.latest)
    }

    /// When its eviction may begin, given how long it has to wait for others.
    fn opening(&self, terms: Terms, order: Opening) -> Opening {
        let latest = terms.latest;
        let ahead =
            |head| latest.map_or(Opening::Shut, |latest| Opening::At(latest.checked_sub(head).unwrap_or(latest)));
        let ready = || terms.ready.map_or(Opening::Open, |ready| Opening::At(ready).min(ahead(HEAD_START)));
        let own = match self.view.wish {
            Some(Wish::Leave) if !self.view.serves_others() => Opening::Open,
            Some(Wish::Finish) => ahead(LAST_TRY_AHEAD),
            Some(Wish::Stay { .. }) => {
                let ended = self.wish_ends.map_or(Opening::Shut, |at| Opening::At(at).max(ready()));
                match terms.on_blocked {
                    OnBlockedEviction::Delete => ended.min(ahead(STAY_HEAD_START)),
                    OnBlockedEviction::Wait => ended,
                }
            }
            Some(Wish::Leave) | None => ready(),
        };
        own.max(order)
    }

    /// The grace that it got, if its stop was asked for.
    pub(super) fn granted(&self) -> Option<Duration> {
        self.stopping.map(|stopping| stopping.grace)
    }

    /// The drain still has to see to it.
    pub(super) fn is_left(&self) -> bool {
        self.outcome.is_none() && self.view.skip().is_none()
    }

    /// Nobody has asked it to stop, and no call that would is under way.
    pub(super) fn untold(&self) -> bool {
        self.stopping.is_none() && !self.evicting && !self.deleting
    }

    /// It was deleted past a refusal. Known from what was asked, since the watch may show the deletion before the answer
    /// to it arrives.
    pub(super) fn forced(&self) -> bool {
        self.forcing && !self.evicted
    }

    /// What to do now, if anything; [`Tracked::wake`] tells when to ask again.
    pub(super) fn next_action(&mut self, now: Instant, terms: Terms, order: Opening) -> Option<Action> {
        if self.outcome.is_some() {
            return None;
        }
        if let Some(stopping) = self.stopping {
            return self.correct(stopping, now, terms);
        }
        if self.view.finished || !self.opening(terms, order).is_open(now) {
            return None;
        }
        if self.force_due(now, terms) {
            if !self.marked {
                self.marked = true;
                return Some(Action::Mark);
            }
            // The pauses between evictions do not hold up the first deletion.
            let pausing = self.forcing && self.next_try.is_some_and(|at| now < at);
            if self.deleting || pausing {
                return None;
            }
            self.deleting = true;
            self.forcing = true;
            return Some(Action::Delete(self.ask(now, terms)));
        }
        if self.mark_due(now, terms) {
            self.marked = true;
            return Some(Action::Mark);
        }
        if self.evicting || self.next_try.is_some_and(|at| now < at) {
            return None;
        }
        self.evicting = true;
        self.first_try.get_or_insert(now);
        Some(Action::Evict(self.ask(now, terms)))
    }

    fn ask(&mut self, now: Instant, terms: Terms) -> u32 {
        self.asked = grace::granted(self.view.grace, now, terms.limit);
        self.asked
    }

    fn correct(&mut self, stopping: Stopping, now: Instant, terms: Terms) -> Option<Action> {
        if self.deleting || self.next_try.is_some_and(|at| now < at) {
            return None;
        }
        match grace::correction(stopping, now, terms.end_by?) {
            Correction::Shorten(seconds) => {
                self.deleting = true;
                self.asked = seconds;
                Some(Action::Delete(seconds))
            }
            Correction::None | Correction::LastActAt(_) => None,
        }
    }

    /// When the pod's budget, or whatever else refuses its eviction, stops counting.
    fn force_at(&self, terms: Terms) -> Option<Instant> {
        if terms.on_blocked == OnBlockedEviction::Wait {
            return None;
        }
        let latest = terms.latest?;
        if self.refusal.is_some() {
            return Some(latest);
        }
        self.first_try.map(|tried| latest.max(tried + ANSWER_PATIENCE))
    }

    fn force_due(&self, now: Instant, terms: Terms) -> bool {
        // Once it came to that, a window that the pod joins later does not bring its budget back.
        self.forcing || self.force_at(terms).is_some_and(|at| now >= at)
    }

    fn mark_at(&self, terms: Terms) -> Option<Instant> {
        let at = self.force_at(terms).filter(|_| self.refusal.is_some() && !self.marked)?;
        Some(at.checked_sub(MARK_AHEAD).unwrap_or(at))
    }

    fn mark_due(&self, now: Instant, terms: Terms) -> bool {
        self.mark_at(terms).is_some_and(|at| now >= at)
    }

    /// When [`Tracked::next_action`] has something new to say, if nothing else happens.
    pub(super) fn wake(&self, now: Instant, terms: Terms, order: Opening) -> Option<Instant> {
        if self.outcome.is_some() {
            return None;
        }
        if let Some(stopping) = self.stopping {
            let limit = terms.end_by.filter(|_| !self.deleting)?;
            return match grace::correction(stopping, now, limit) {
                Correction::LastActAt(at) => Some(at),
                Correction::Shorten(_) => self.next_try,
                Correction::None => None,
            };
        }
        match self.opening(terms, order) {
            Opening::At(at) if at > now => return Some(at),
            Opening::Shut => return None,
            Opening::Open | Opening::At(_) => {}
        }
        let force = if self.deleting { None } else { self.force_at(terms) };
        // An eviction that got no answer yet does not hold up the next deletion.
        let calling = self.deleting || (self.evicting && !self.forcing);
        let retry = if calling { None } else { self.next_try };
        [force, self.mark_at(terms), retry].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Takes over the answer to an eviction.
    pub(super) fn evicted(&mut self, answer: &EvictionAnswer, now: Instant, terms: Terms) {
        self.evicting = false;
        self.evicted |= matches!(answer, EvictionAnswer::Accepted | EvictionAnswer::DryRun);
        self.answered(answer, now, terms);
    }

    /// Takes over the answer to a deletion.
    pub(super) fn deleted(&mut self, answer: &EvictionAnswer, now: Instant, terms: Terms) {
        self.deleting = false;
        if *answer == EvictionAnswer::Gone && self.stopping.is_none() {
            // It went before the deletion came.
            self.forcing = false;
        }
        self.answered(answer, now, terms);
    }

    fn answered(&mut self, answer: &EvictionAnswer, now: Instant, terms: Terms) {
        match answer {
            EvictionAnswer::Accepted | EvictionAnswer::DryRun => self.accepted(now),
            EvictionAnswer::Gone => {}
            EvictionAnswer::Throttled(after) => {
                let pause = after.unwrap_or(Duration::from_secs(1)).min(LONGEST_PAUSE);
                self.try_again(pause, now, terms);
            }
            EvictionAnswer::Blocked(message) | EvictionAnswer::Refused(message) => self.refused(message, now, terms),
            EvictionAnswer::NamespaceTerminating => self.refused("the namespace is being deleted", now, terms),
            EvictionAnswer::Unknown(_) => self.try_again(self.pause(), now, terms),
        }
    }

    fn accepted(&mut self, now: Instant) {
        let grace = Duration::from_secs(u64::from(self.asked));
        self.next_try = None;
        self.refusal = None;
        self.stops_within(grace, now);
    }

    /// Its stop is under way with this grace. A shorter one makes the kubelet start the stop anew, counted from now.
    fn stops_within(&mut self, grace: Duration, now: Instant) {
        match &mut self.stopping {
            None => self.stopping = Some(Stopping { began: now, grace, ends: now + grace }),
            Some(stopping) if grace < stopping.grace => {
                stopping.grace = grace;
                stopping.ends = now + grace;
            }
            Some(_) => {}
        }
    }

    fn refused(&mut self, message: &str, now: Instant, terms: Terms) {
        self.refusal = Some(message.to_owned());
        self.try_again(self.pause(), now, terms);
    }

    fn try_again(&mut self, pause: Duration, now: Instant, terms: Terms) {
        self.tries += 1;
        let retry = now + pause;
        self.next_try = Some(match terms.latest {
            // Never sleep across the latest start, when a refusal stops counting, nor across the last try before it.
            Some(latest) if latest > now => {
                let last_try = latest.checked_sub(LAST_TRY_AHEAD).filter(|at| *at > now);
                retry.min(last_try.unwrap_or(latest))
            }
            Some(_) => now + pause.min(LONGEST_LATE_PAUSE),
            None => retry,
        });
    }

    /// Grows by half with each try; spread by the pod's identity so that pods behind one budget do not ask in step.
    fn pause(&self) -> Duration {
        let grown = FIRST_PAUSE.mul_f64(1.5_f64.powi(i32::try_from(self.tries).unwrap_or(32).min(32)));
        let spread =
            self.view.id.uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 256;
        grown.min(LONGEST_PAUSE).mul_f64(0.8 + 0.4 * f64::from(spread) / 256.0)
    }

    /// How it ended, now that the object is gone.
    pub(super) fn outcome_when_gone(&self) -> Outcome {
        match self.granted() {
            _ if self.forced() => Outcome::Forced,
            Some(granted) if granted < self.view.grace => Outcome::Shortened,
            _ => Outcome::Graceful,
        }
    }

    /// The word for people.
    pub(super) fn phase(&self) -> &'static str {
        match self.outcome {
            Some(outcome) => outcome.as_str(),
            None if self.stopping.is_some() => "stopping",
            None if self.refusal.is_some() => "blocked",
            None if self.evicting => "evicting",
            None => "waiting",
        }
    }
}

/// The grace that a deletion left the pod. Zero is the word of the kubelet (or of somebody's `--force`) that the object
/// may go: nobody was granted that, and nobody can shorten it.
fn granted_by(deletion: Deletion, view: &PodView) -> Duration {
    if deletion.grace.is_zero() { view.grace } else { deletion.grace }
}

fn wish_ends(view: &PodView, now: Now) -> Option<Instant> {
    match view.wish {
        Some(Wish::Stay { until, .. }) => until.map(|until| now.instant_of(until)),
        _ => None,
    }
}

/// How long a call may take now: less than what is left.
pub(super) fn call_timeout(now: Instant, terms: Terms) -> Duration {
    let left = terms.end_by.map_or(CALL_TIMEOUT, |limit| limit.saturating_duration_since(now));
    left.clamp(MIN_CALL_TIMEOUT, CALL_TIMEOUT)
}
