//! Pushes the registry: on the interval, when something has changed, before a deadline, and when the agent stops.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::closed;
use super::exporter::Exporter;
use super::metrics::{Taken, counted_from, cumulative, request};
use super::resource::resource;
use super::schedule::{FAREWELL, IN_FLIGHT_GRACE, Outcome, Schedule};
use crate::clock::Clock;
use crate::config::otlp::{OtlpConfig, ResourceConfig, Temporality};
use crate::identity::NodeIdentity;
use crate::interruption::chronicle::News;
use crate::interruption::record::Status;
use crate::metrics::Metrics;
use crate::signal::{Action, Kind};

/// Pushes the metrics of one agent.
#[derive(Debug)]
pub struct Pusher {
    exporter: Exporter,
    source: Source,
    interval: Duration,
    /// For one push.
    limit: Duration,
    taken: Option<Taken>,
}

/// What a message is made of.
#[derive(Debug)]
struct Source {
    metrics: Arc<Metrics>,
    resource: ResourceConfig,
    node: watch::Receiver<NodeIdentity>,
    temporality: Temporality,
    clock: Clock,
    /// When counting began, in nanoseconds since the epoch.
    started: u64,
}

impl Pusher {
    /// Nothing is sent before [`Pusher::run`]. Counting began when this is made.
    pub fn new(
        exporter: Exporter,
        config: &OtlpConfig,
        metrics: Arc<Metrics>,
        node: watch::Receiver<NodeIdentity>,
        clock: Clock,
    ) -> Self {
        let source = Source {
            metrics,
            resource: config.resource.clone(),
            node,
            temporality: config.temporality,
            clock,
            started: nanoseconds(clock.now().wall),
        };
        Self { exporter, source, interval: config.interval, limit: config.export_timeout, taken: None }
    }

    /// Pushes until `closing` becomes true, then once more; ends some seconds later at the latest.
    pub async fn run(
        mut self,
        news: broadcast::Receiver<News>,
        status: watch::Receiver<Status>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut schedule = Schedule::new(Instant::now(), self.interval);
        let mut ear = Ear { news: Some(news), node: self.source.node.clone(), status, seen: Seen::default() };
        loop {
            tokio::select! {
                () = closed(&mut closing) => break,
                heard = ear.next() => heard.note(&mut schedule, Instant::now()),
                () = sleep_until(schedule.due()) => self.push(&mut schedule, &mut ear, &mut closing).await,
            }
        }
        // Whatever pause was due: nobody comes after.
        let (body, _) = self.source.message(self.taken.as_ref());
        self.exporter.send(body, FAREWELL).await;
    }

    /// One request; what happens meanwhile is noted for the next.
    async fn push(&mut self, schedule: &mut Schedule, ear: &mut Ear, closing: &mut watch::Receiver<bool>) {
        schedule.began(Instant::now());
        let (body, read) = self.source.message(self.taken.as_ref());
        let outcome = {
            let mut sending = pin!(self.exporter.send(body, self.limit));
            loop {
                tokio::select! {
                    outcome = &mut sending => break Some(outcome),
                    heard = ear.next() => heard.note(schedule, Instant::now()),
                    () = at(schedule.give_up()) => break None,
                    () = closed(closing) => {
                        break Some(timeout(IN_FLIGHT_GRACE, sending).await.unwrap_or(Outcome::Later(None)));
                    }
                }
            }
        };
        let Some(outcome) = outcome else {
            self.exporter.given_up();
            schedule.gave_up();
            return;
        };
        if outcome == Outcome::Taken {
            self.taken = read;
        }
        schedule.ended(Instant::now(), outcome);
    }
}

impl Source {
    /// A message with everything of now, and what to remember if it is taken.
    fn message(&self, taken: Option<&Taken>) -> (Vec<u8>, Option<Taken>) {
        let at = nanoseconds(self.clock.now().wall);
        let metrics = cumulative(self.metrics.families(), self.started, at);
        let read = (self.temporality != Temporality::Cumulative).then(|| Taken { at, metrics: metrics.clone() });
        let metrics = counted_from(metrics, self.temporality, taken);
        (request(resource(&self.resource, &self.node.borrow()), metrics).encode_to_vec(), read)
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn nanoseconds(time: Timestamp) -> u64 {
    time.as_nanosecond().try_into().unwrap_or_default()
}

/// Listens for what is worth a push.
struct Ear {
    /// None once nobody can tell anything any more.
    news: Option<broadcast::Receiver<News>>,
    status: watch::Receiver<Status>,
    node: watch::Receiver<NodeIdentity>,
    seen: Seen,
}

/// The parts of the agent's state that people react to.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    pending: Vec<(Kind, Action)>,
    deadline: Option<Timestamp>,
    fenced: bool,
    draining: bool,
    drained: bool,
}

/// What was heard.
enum Heard {
    /// Nothing more is to come of the instance's identity.
    Identity,
    /// A turn of events.
    Turn,
    /// The state with its deadline, and whether more than a pod's place has changed.
    State { deadline: Option<Instant>, urgent: bool, pods: bool },
}

impl Heard {
    fn note(self, schedule: &mut Schedule, now: Instant) {
        match self {
            Self::Identity => schedule.identified(now),
            Self::Turn => schedule.changed(now, true),
            Self::State { deadline, urgent, pods } => {
                schedule.deadline(now, deadline);
                if urgent || pods {
                    schedule.changed(now, urgent);
                }
            }
        }
    }
}

impl Ear {
    /// Loses nothing when it is dropped before it is ready.
    async fn next(&mut self) -> Heard {
        loop {
            let told = async {
                match &mut self.news {
                    Some(news) => news.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = told => match told {
                    Err(broadcast::error::RecvError::Closed) => self.news = None,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return Heard::Turn,
                },
                Ok(()) = self.status.changed() => {
                    if let Some(heard) = self.look() {
                        return heard;
                    }
                }
                Ok(()) = self.node.changed() => {
                    if self.node.borrow_and_update().is_complete {
                        return Heard::Identity;
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    fn look(&mut self) -> Option<Heard> {
        let status = self.status.borrow_and_update();
        let seen = Seen {
            pending: status.pending.iter().map(|one| (one.kind, one.action)).collect(),
            deadline: status.deadline.map(|deadline| deadline.wall),
            fenced: status.fenced,
            draining: !status.pods.is_empty(),
            drained: status.drained,
        };
        let urgent = seen != self.seen;
        let deadline = status.deadline.map(|deadline| deadline.instant);
        // While a drain is under way every look finds a pod somewhere else.
        let pods = seen.draining && !seen.drained;
        drop(status);
        self.seen = seen;
        (urgent || pods).then_some(Heard::State { deadline, urgent, pods })
    }
}
