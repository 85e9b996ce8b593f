//! Who is told what, and when: the fold over the news of an interruption, for one sink.
//!
//! It is level-triggered. There is no queue of messages; there is the account as it stands, and the turns that the sink
//! has not been told yet. A message is made at the moment at which it can go, from all of them, so that a sink that was
//! away hears the present state once and not the past in order, and nothing can pile up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::delivery::{self, Reply, TRY_LIMIT, Verdict};
use super::turn::{Bulletin, Turn, Turns};
use crate::clock::Now;
use crate::interruption::account::{Account, Announced};
use crate::interruption::chronicle::{Milestone, News};
use crate::signal::Kind;

/// What comes together is told together. The fence and the first evictions go out meanwhile, so that a message neither
/// takes anything from them nor misses what they met.
pub const GATHER: Duration = Duration::from_millis(100);
/// What only may clear the node is told when it is known which budgets would refuse, which takes as long as a few requests
/// for each pod; and without that if it takes longer.
pub const FORESEE: Duration = Duration::from_secs(2);
/// Whether the marks are gone, too, is known a moment later.
const GATHER_END: Duration = Duration::from_secs(1);
/// A notice that was seen so long ago was told by the agent that saw it.
pub const FRESH: f64 = 10.0;
/// Messages in so long are limited to so many, of which some are kept for notices that the node will not survive.
pub const WINDOWS: [(Duration, usize, usize); 2] = [(Duration::from_mins(1), 6, 2), (Duration::from_hours(1), 30, 10)];
/// A message that nobody takes is given up after so long, or when the node goes, but not before the least.
const LONGEST_TRYING: Duration = Duration::from_mins(10);
const LEAST_TRYING: Duration = Duration::from_secs(30);
/// To a peer that forgets, what lasts is said again after so long.
pub const AGAIN: Duration = Duration::from_mins(5);

/// How a sink wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Each turn once: two messages are two messages to the people behind it.
    Once,
    /// The state, again and again: the same twice is the same, and what is not repeated is forgotten.
    Level,
}

/// What became of a try, or of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The sink has the message.
    Delivered,
    /// It will be tried again.
    Retried(String),
    /// It is given up.
    Failed(String),
}

/// One message to send now.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What to tell.
    pub bulletin: Bulletin,
    /// How long the try may take.
    pub limit: Duration,
}

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Trying {
    turns: Turns,
    tries: u32,
    until: Instant,
    /// None while the answer is awaited.
    next: Option<Instant>,
    /// The pause was the peer's wish.
    asked: bool,
    /// Suppressed turns that it mentions.
    mentions: u32,
}

/// What one sink has been told, and what not.
#[derive(Debug)]
pub struct Plan {
    manner: Manner,
    kinds: Vec<Kind>,
    story: Option<Story>,
    untold: Turns,
    /// When what is untold may go.
    ripe: Option<Instant>,
    trying: Option<Trying>,
    /// When messages were begun, the last hour.
    sent: VecDeque<Instant>,
    /// Turns that no message tells of its own.
    suppressed: u32,
    /// When a peer that forgets was told last, and with success or not.
    said: Option<Instant>,
    /// Everything has to be said by then.
    closing: Option<Instant>,
}

#[derive(Debug)]
struct Story {
    account: Arc<Account>,
    /// Offset 0 of the account.
    start: Instant,
    repeated: bool,
    /// Something of it is of a kind that is worth a message.
    known: bool,
}

impl Plan {
    /// Nothing was told yet; `kinds` are those that are worth a message.
    pub fn new(manner: Manner, kinds: Vec<Kind>) -> Self {
        Self {
            manner,
            kinds,
            story: None,
            untold: Turns::default(),
            ripe: None,
            trying: None,
            sent: VecDeque::new(),
            suppressed: 0,
            said: None,
            closing: None,
        }
    }

    /// Takes one piece of news; the number of turns that will not be told of their own because of it.
    pub fn note(&mut self, now: Now, news: &News) -> u32 {
        let mut dropped = 0;
        let is_new = self.story.as_ref().is_none_or(|story| story.account.trace_id != news.account.trace_id);
        if is_new {
            dropped += self.forget();
            self.story = Some(Story::begin(now, news));
        } else if let Some(story) = &mut self.story {
            story.account = news.account.clone();
        }
        let concerns = |one: &Announced| self.kinds.contains(&one.kind);
        if let Some(story) = &mut self.story {
            story.known = story.account.announcements.iter().any(concerns);
        }
        if matches!(news.milestone, Milestone::Foreseen | Milestone::DrainStarted) && self.untold.has(Turn::Notice) {
            // A notice that waits for it need not wait any longer; it is worth no message of its own.
            self.ripe = self.ripe.map(|ripe| ripe.min(now.instant + GATHER));
        }
        let Some(turn) = self.turn(news) else { return dropped };
        let wait = match turn {
            Turn::Over => GATHER_END,
            Turn::Notice if foresees(&news.account) => FORESEE,
            _ => GATHER,
        };
        match self.ripe {
            // It was to be told long ago, and is told once for all.
            Some(ripe) if self.untold.has(turn) && ripe <= now.instant => {
                dropped += 1;
                self.suppressed = self.suppressed.saturating_add(1);
            }
            Some(ripe) => self.ripe = Some(ripe.min(now.instant + wait)),
            None => self.ripe = Some(now.instant + wait),
        }
        self.untold.add(turn);
        dropped
    }

    /// Lets go of what was not told of an interruption that is history.
    fn forget(&mut self) -> u32 {
        let lost = u32::from(!self.untold.is_empty()) + u32::from(self.trying.is_some_and(|one| one.next.is_some()));
        (self.untold, self.ripe) = (Turns::default(), None);
        self.trying = self.trying.filter(|one| one.next.is_none());
        if let Some(trying) = &mut self.trying {
            // It is on its way; whatever comes back, it is not tried again.
            trying.turns = Turns::default();
        }
        self.suppressed = self.suppressed.saturating_add(lost);
        lost
    }

    /// What a piece of news is worth to this sink.
    fn turn(&mut self, news: &News) -> Option<Turn> {
        let account = &news.account;
        let newest = account.announcements.last().is_some_and(|one| self.kinds.contains(&one.kind));
        let story = self.story.as_mut()?;
        match news.milestone {
            Milestone::Announced => newest.then_some(Turn::Notice),
            Milestone::Resumed => {
                let age = account.announcements.last().zip(account.resumed).map(|(one, resumed)| resumed - one.at);
                let fresh = age.is_some_and(|age| age < FRESH);
                story.repeated |= fresh;
                (newest && (fresh || self.manner == Manner::Level)).then_some(Turn::Notice)
            }
            Milestone::Rescheduled => story.known.then_some(Turn::Rescheduled),
            Milestone::DrainFinished => {
                // After a restart with nothing left to do, the result was most likely told before.
                let nothing_left = account.drain.as_ref().is_some_and(|drain| drain.pods == 0);
                let stale = account.resumed.is_some() && nothing_left && self.manner == Manner::Once;
                (story.known && !stale).then_some(Turn::Result)
            }
            Milestone::Over => story.known.then_some(Turn::Over),
            // The account has them, for the message that is told next.
            Milestone::Fenced | Milestone::Foreseen | Milestone::DrainStarted | Milestone::Restored => None,
        }
    }

    /// The message that is to go out now, if there is one. Its answer has to be handed to [`Plan::answered`].
    pub fn next(&mut self, now: Now) -> Option<Job> {
        if self.due()? > now.instant {
            return None;
        }
        let lasting = self.untold.is_empty() && self.trying.is_none();
        let (is_urgent, until) = (self.is_urgent(), self.until(now));
        let story = self.story.as_mut()?;
        let trying = if let Some(trying) = self.trying.take() {
            Trying { tries: trying.tries.saturating_add(1), ..trying }
        } else {
            begin(&mut self.sent, now.instant);
            Trying { turns: Turns::default(), tries: 1, until, next: None, asked: false, mentions: 0 }
        };
        let mut turns = trying.turns;
        turns.join(self.untold);
        if lasting {
            turns.add(Turn::Lasting);
        }
        (self.untold, self.ripe) = (Turns::default(), None);
        self.said = Some(now.instant);
        // What is new to tell deserves its own time.
        let until = if turns == trying.turns { trying.until } else { trying.until.max(until) };
        let until = self.closing.map_or(until, |closing| until.min(closing));
        self.trying = Some(Trying { turns, until, next: None, asked: false, mentions: self.suppressed, ..trying });
        let left = until.saturating_duration_since(now.instant);
        let limit = if is_urgent || self.closing.is_some() { TRY_LIMIT.min(left) } else { TRY_LIMIT };
        Some(Job {
            bulletin: Bulletin {
                account: story.account.clone(),
                turns,
                at: story.at(now.instant),
                now: now.wall,
                suppressed: self.suppressed,
                repeated: story.repeated && turns.has(Turn::Notice),
            },
            limit,
        })
    }

    /// Takes the answer to the last message.
    pub fn answered(&mut self, now: Now, reply: &Reply) -> Fate {
        let Some(trying) = self.trying.take() else { return Fate::Failed("nothing was asked".into()) };
        match delivery::judge(reply, trying.tries) {
            Verdict::Delivered => {
                self.suppressed = self.suppressed.saturating_sub(trying.mentions);
                Fate::Delivered
            }
            Verdict::GiveUp { why } => Fate::Failed(why),
            Verdict::Retry { pause, asked, why } => {
                let next = now.instant + pause;
                // Nothing of it is worth telling any more, or there is no time left to.
                if trying.turns.is_empty() || next >= trying.until {
                    return Fate::Failed(why);
                }
                self.trying = Some(Trying { next: Some(next), asked, ..trying });
                Fate::Retried(why)
            }
        }
    }

    /// The agent stops; what is left to say has to be said by `end`.
    pub fn close(&mut self, now: Now, end: Instant) {
        self.closing = Some(end);
        self.ripe = self.ripe.map(|_| now.instant);
        if let Some(trying) = &mut self.trying {
            trying.until = trying.until.min(end);
            if !trying.asked {
                trying.next = trying.next.map(|_| now.instant);
            }
        }
    }

    /// Nothing will be said any more.
    pub fn is_finished(&self, now: Now) -> bool {
        let in_time = |due: Instant| self.closing.is_none_or(|end| due < end && now.instant < end);
        let waits = self.trying.is_some_and(|trying| trying.next.is_none());
        self.closing.is_some() && !waits && !self.due().is_some_and(in_time)
    }

    /// When there is something to send; `None` while an answer is awaited, or if there is nothing.
    pub fn due(&self) -> Option<Instant> {
        if let Some(trying) = &self.trying {
            return trying.next;
        }
        let lasts = self.manner == Manner::Level && self.closing.is_none() && self.is_pending();
        let again = || self.said.filter(|_| lasts).map(|said| said + AGAIN);
        let due = self.ripe.or_else(again)?;
        Some(self.room().map_or(due, |room| room.max(due)))
    }

    fn is_pending(&self) -> bool {
        let Some(story) = &self.story else { return false };
        story.known && story.account.over.is_none()
    }

    /// When the caps leave room for another message; `None` or past if they do now.
    fn room(&self) -> Option<Instant> {
        let urgent = self.is_urgent();
        let full = |(window, most, kept): (Duration, usize, usize)| {
            let most = if urgent { most } else { most - kept };
            let oldest = self.sent.len().checked_sub(most)?;
            Some(*self.sent.get(oldest)? + window)
        };
        WINDOWS.into_iter().filter_map(full).max()
    }

    /// The node will not survive it.
    fn is_urgent(&self) -> bool {
        let ends = |kind: Kind| matches!(kind, Kind::SpotInterruption | Kind::AsgTermination);
        let Some(story) = &self.story else { return false };
        story.account.announcements.iter().any(|one| ends(one.kind))
    }

    /// When a message that is begun now is given up.
    fn until(&self, now: Now) -> Instant {
        let longest = now.instant + LONGEST_TRYING;
        let end = self.story.as_ref().and_then(Story::end).unwrap_or(longest);
        end.min(longest).max(now.instant + LEAST_TRYING)
    }
}

/// Nothing that is coming is so near that the node is cleared for it at once, as far as the account tells by now.
fn foresees(account: &Account) -> bool {
    let may_wait = |one: &Announced| matches!(one.kind, Kind::RebalanceRecommendation | Kind::ScheduledEvent);
    account.drain.is_none() && account.not_drained.is_none() && account.pending().all(may_wait)
}

/// Notes the beginning of a message; what is older than the longest window does not count any more.
fn begin(sent: &mut VecDeque<Instant>, now: Instant) {
    let longest = WINDOWS.iter().map(|(window, ..)| *window).max().unwrap_or_default();
    while sent.front().is_some_and(|first| *first + longest <= now) {
        sent.pop_front();
    }
    sent.push_back(now);
}

impl Story {
    /// The account's times are on the monotonic clock of the agent that wrote it, which is this one's.
    fn begin(now: Now, news: &News) -> Self {
        let account = &news.account;
        let offset = match news.milestone {
            Milestone::Announced => account.announcements.last().map(|one| one.at),
            Milestone::Resumed => account.resumed,
            _ => None,
        };
        let offset = offset.and_then(|offset| Duration::try_from_secs_f64(offset).ok());
        let start = offset.and_then(|offset| now.instant.checked_sub(offset));
        let start = start.unwrap_or_else(|| now.instant_of(account.started).min(now.instant));
        Self { account: account.clone(), start, repeated: false, known: false }
    }

    fn at(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.start).as_secs_f64()
    }

    /// When the power goes.
    fn end(&self) -> Option<Instant> {
        let end = self.account.deadline()? + self.account.shutdown_tail;
        self.start.checked_add(Duration::try_from_secs_f64(end).ok()?)
    }
}

#[cfg(test)]
mod tests;
