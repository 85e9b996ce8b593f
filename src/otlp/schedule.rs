//! When metrics are pushed, and when a failed export is tried again.
//!
//! ```text
//!  interval ──────────────┐
//!  change + 50 ms ────────┤
//!  5 s before a deadline ─┼─► the earliest, but not before the time that the collector asked for
//!  pause after a failure ─┘
//! ```
//!
//! There is nothing to keep while a push waits: what is sent is read from the registry when its time has come, so that
//! newer figures replace older ones by themselves. A change does not wait for the pause after a failure, for the collector
//! may be back and the node may not be there for long.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// Changes come in bursts, and the fence and the evictions go first.
pub const COALESCE: Duration = Duration::from_millis(50);
/// Between two pushes for the sake of changes that are not urgent, such as the end of one pod of many.
pub const LEAST_BETWEEN: Duration = Duration::from_secs(1);
/// How long before a deadline everything is pushed once more; a second attempt fits in.
pub const BEFORE_DEADLINE: Duration = Duration::from_secs(5);
/// The first push waits so long for the instance's identity, which its resource is made of.
pub const FIRST: Duration = Duration::from_secs(10);
/// A collector that asks for more is not believed: an interruption lasts two minutes.
pub const MOST_ASKED: Duration = Duration::from_mins(5);
/// What is urgent waits so long for a request that is under way, and after each one that was given up twice as long: a
/// collector that is slow and not away gets its chance.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// What is under way when the agent stops may take so long to end,
pub const IN_FLIGHT_GRACE: Duration = Duration::from_millis(500);
/// and the last request so long.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Pauses after failures.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has it, or has said what it does not want of it.
    Taken,
    /// It may be sent again, not before this time has passed if the collector named one.
    Later(Option<Duration>),
    /// Sending it again is of no use.
    Never,
}

/// Growing pauses with jitter, until something is taken.
#[derive(Debug, Default)]
pub struct Pauses(Option<ExponentialBackoff>);

impl Pauses {
    /// The pause before the next attempt.
    pub fn after(&mut self, outcome: Outcome) -> Duration {
        let Outcome::Later(asked) = outcome else {
            self.0 = None;
            return Duration::ZERO;
        };
        let (least, most) = PAUSES;
        let builder = ExponentialBuilder::default().with_min_delay(least).with_max_delay(most).with_jitter();
        let pauses = self.0.get_or_insert_with(|| builder.without_max_times().build());
        let own = pauses.next().unwrap_or(most);
        asked.map_or(own, |asked| asked.min(MOST_ASKED))
    }
}

/// The times of one agent's pushes.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    /// Nothing was pushed yet.
    fresh: bool,
    regular: Instant,
    changed: Option<Instant>,
    /// The same for changes that are urgent.
    urgent: Option<Instant>,
    retry: Option<Instant>,
    last_chance: Option<Instant>,
    /// What the last chance was computed from.
    deadline: Option<Instant>,
    /// The collector wants to be left alone until then.
    not_before: Option<Instant>,
    /// When the last push began.
    begun: Instant,
    patience: Duration,
    pauses: Pauses,
}

impl Schedule {
    /// An agent that has just started.
    pub fn new(now: Instant, interval: Duration) -> Self {
        Self {
            interval,
            fresh: true,
            regular: now + FIRST.min(interval),
            changed: None,
            urgent: None,
            retry: None,
            last_chance: None,
            deadline: None,
            not_before: None,
            begun: now,
            patience: PATIENCE,
            pauses: Pauses::default(),
        }
    }

    /// The resource is complete; the first push need not wait any more.
    pub fn identified(&mut self, now: Instant) {
        if self.fresh {
            self.regular = self.regular.min(now);
        }
    }

    /// Something has changed that is worth a push of its own, soon if it is not urgent and at once if it is.
    pub fn changed(&mut self, now: Instant, urgent: bool) {
        let at = now + COALESCE;
        let at = if urgent { at } else { at.max(self.begun + LEAST_BETWEEN) };
        self.changed = Some(self.changed.map_or(at, |sooner| sooner.min(at)));
        if urgent {
            self.urgent.get_or_insert(at);
        }
    }

    /// The instance may lose power then.
    pub fn deadline(&mut self, now: Instant, deadline: Option<Instant>) {
        if deadline != self.deadline {
            self.deadline = deadline;
            self.last_chance = deadline.and_then(|at| at.checked_sub(BEFORE_DEADLINE)).filter(|at| *at > now);
        }
    }

    /// When the next push is due.
    pub fn due(&self) -> Instant {
        let others = [self.changed, self.retry, self.last_chance].into_iter().flatten();
        let due = others.fold(self.regular, Instant::min);
        self.not_before.map_or(due, |not_before| due.max(not_before))
    }

    /// A push begins, with all that is known now.
    pub fn began(&mut self, now: Instant) {
        self.fresh = false;
        self.begun = now;
        self.regular = now + self.interval;
        self.changed = None;
        self.urgent = None;
        self.retry = None;
        self.not_before = None;
        self.last_chance = self.last_chance.filter(|at| *at > now);
    }

    /// When the push that is under way is given up in favour of a newer one: something urgent has waited for it long enough.
    /// Nothing is lost by that, for what is sent next has everything.
    pub fn give_up(&self) -> Option<Instant> {
        let waits = [self.urgent, self.last_chance].into_iter().flatten().min()?;
        Some(waits.max(self.begun + self.patience))
    }

    /// The push that was under way was given up.
    pub fn gave_up(&mut self) {
        self.patience *= 2;
    }

    /// A push ended. A retry that would come after the next regular push is none.
    pub fn ended(&mut self, now: Instant, outcome: Outcome) {
        let pause = self.pauses.after(outcome);
        if outcome == Outcome::Taken {
            self.patience = PATIENCE;
        }
        if let Outcome::Later(asked) = outcome {
            let at = now + pause;
            self.not_before = asked.map(|_| at);
            self.retry = Some(at).filter(|at| *at < self.regular);
        }
    }
}

#[cfg(test)]
mod tests;
