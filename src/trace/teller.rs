//! When the trace is told: at every milestone, in batches while pods end, at the last call, and when the agent stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::spans::{self, Told};
use crate::clock::Clock;
use crate::interruption::account::Account;
use crate::interruption::chronicle::{Milestone, News};
use crate::otlp::traces::Traces;

/// Between two batches of pods: what an agent that is killed may leave untold.
const BATCH: Duration = Duration::from_secs(2);

/// Of what is passed on, so much may wait for the one who sends it; each brings the whole account.
const WAITING: usize = 16;

/// Tells the trace of every interruption, until `closing` becomes true and what is known then was told.
pub async fn tell(
    traces: Traces,
    news: broadcast::Receiver<News>,
    account: watch::Receiver<Option<Arc<Account>>>,
    clock: Clock,
    closing: watch::Receiver<bool>,
) {
    let (out, heard) = broadcast::channel(WAITING);
    let mut told = Told::default();
    let stopping = closing.clone();
    let spans_of = move |news: &News| {
        let stopping = *stopping.borrow();
        told.spans(&news.account, clock.now().wall, stopping)
    };
    // The transport closes after the last word has been passed to it.
    let (last_word, passed) = watch::channel(false);
    let relay = async {
        relay(news, account, out, clock, closing).await;
        last_word.send_replace(true);
    };
    tokio::join!(relay, traces.run(heard, spans_of, passed));
}

/// Passes on every milestone, and beside them what happened meanwhile: the account as it is then, with the milestone before.
/// Ends when `closing` becomes true, having passed on the last of it; dropping `out` is how its reader knows.
pub async fn relay(
    mut news: broadcast::Receiver<News>,
    mut account: watch::Receiver<Option<Arc<Account>>>,
    out: broadcast::Sender<News>,
    clock: Clock,
    mut closing: watch::Receiver<bool>,
) {
    let mut batch: Option<Instant> = None;
    let mut last = None;
    let mut called = None;
    loop {
        let call = account.borrow().as_deref().and_then(spans::last_call).filter(|at| Some(*at) != called);
        let call_at = call.map(|at| clock.now().instant_of(at));
        tokio::select! {
            biased;
            heard = news.recv() => match heard {
                Ok(heard) => {
                    last = Some(heard.milestone);
                    // Nobody reads any more only when the agent is about to end.
                    _ = out.send(heard);
                    continue;
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = closing.wait_for(|closing| *closing) => {
                pass_on(&mut account, last, &out);
                return;
            }
            changed = account.changed(), if batch.is_none() => {
                if changed.is_err() {
                    return;
                }
                batch = Some(Instant::now() + BATCH);
                continue;
            }
            () = at(batch) => batch = None,
            () = at(call_at) => called = call,
        }
        pass_on(&mut account, last, &out);
    }
}

fn pass_on(
    account: &mut watch::Receiver<Option<Arc<Account>>>,
    last: Option<Milestone>,
    out: &broadcast::Sender<News>,
) {
    let account = account.borrow_and_update().clone();
    if let (Some(account), Some(milestone)) = (account, last) {
        _ = out.send(News { milestone, account });
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::trace::spans::tests::account;

    struct Stand {
        news: broadcast::Sender<News>,
        account: watch::Sender<Option<Arc<Account>>>,
        heard: broadcast::Receiver<News>,
        closing: watch::Sender<bool>,
        start: Instant,
        _tasks: JoinSet<()>,
    }

    impl Stand {
        fn new() -> Self {
            let clock = Clock::anchored(account().started);
            let (news, account, closing) =
                (broadcast::Sender::new(16), watch::Sender::new(None), watch::Sender::new(false));
            let (out, heard) = broadcast::channel(64);
            let mut tasks = JoinSet::new();
            tasks.spawn(relay(news.subscribe(), account.subscribe(), out, clock, closing.subscribe()));
            Self { news, account, heard, closing, start: Instant::now(), _tasks: tasks }
        }

        fn happens(&self, milestone: Option<Milestone>) {
            let now = Arc::new(account());
            self.account.send_replace(Some(now.clone()));
            if let Some(milestone) = milestone {
                self.news.send(News { milestone, account: now }).unwrap();
            }
        }

        /// Milestones with the seconds at which they were passed on, until `until`.
        async fn heard(&mut self, until: u64) -> Vec<(u64, Milestone)> {
            let mut all = Vec::new();
            let end = self.start + Duration::from_secs(until);
            while let Ok(Ok(heard)) = tokio::time::timeout_at(end, self.heard.recv()).await {
                all.push((self.start.elapsed().as_secs(), heard.milestone));
            }
            all
        }
    }

    #[tokio::test(start_paused = true)]
    async fn milestones_pass_at_once_pods_in_batches_and_what_is_open_at_the_last_call() {
        let mut stand = Stand::new();
        stand.happens(Some(Milestone::Announced));
        assert_eq!(stand.heard(1).await, [(0, Milestone::Announced)]);
        for _ in 0..5 {
            stand.happens(None);
        }
        let announced = |at| (at, Milestone::Announced);
        // The account changes at 0 s and at 1 s; the deadline is at 120 s.
        assert_eq!(stand.heard(110).await, [announced(2)]);
        stand.happens(None);
        assert_eq!(stand.heard(130).await, [announced(112), announced(118)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_stops_tells_what_it_knows_and_ends() {
        let mut stand = Stand::new();
        stand.happens(Some(Milestone::DrainStarted));
        assert_eq!(stand.heard(5).await.len(), 2);
        stand.happens(None);
        stand.closing.send_replace(true);
        assert_eq!(stand.heard(60).await, [(5, Milestone::DrainStarted)]);
        assert!(matches!(stand.heard.try_recv(), Err(broadcast::error::TryRecvError::Closed)));
    }
}
