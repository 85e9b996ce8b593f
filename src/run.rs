//! `spotwarden run`: puts the agent, its admin server and the process' signals together.
//!
//! The admin port is taken before anything else, so that a second agent on the node stops here. The first SIGTERM or
//! SIGINT asks the agent to stop, a second one does not wait for it; either way the process is gone within 5 s, and the
//! node's state stays as it is.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::admin::{self, AdminError, Handles};
use crate::agent::Agent;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::egress::{self, EgressError, PeerTls};
use crate::http::BuildError;
use crate::k8s::client::{self, ClientError};
use crate::notify::settings::SettingError;

/// How long the agent may take to stop. With the admin server's second it stays within the 5 s that are promised.
const STOP_LIMIT: Duration = Duration::from_millis(3500);

/// Why the agent could not run, or did not end as asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin server cannot start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no way to IMDS.
    #[error(transparent)]
    Http(#[from] BuildError),
    /// A notification's address or template is wrong.
    #[error(transparent)]
    Notify(#[from] SettingError),
    /// Notifications cannot be sent at all.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The process cannot hear signals.
    #[error("signals cannot be handled: {0}")]
    Signals(#[source] io::Error),
    /// The agent ended without being asked to.
    #[error("the agent ended without being told to")]
    Ended,
    /// A second signal came while the agent was stopping.
    #[error("a second signal came before the agent had stopped")]
    Aborted,
}

/// Runs until the process is told to stop.
pub async fn run(config: Config) -> Result<(), RunError> {
    let signals = stop_signals().map_err(RunError::Signals)?;
    let address = config.admin_address;
    notifications(&config)?;
    let listener = admin::bind(address).await?;
    let kube = client::build(config.kubeconfig.as_deref()).await?;
    let (node_name, dry_run) = (config.node_name.clone(), config.dry_run);
    // The port may have been left to the system.
    let admin = listener.local_addr().unwrap_or(address);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = node_name, dry_run, %admin, "starting");

    let clock = Clock::System;
    let agent = Agent::new(Config { boot_id: clock::boot_id(), booted_at: clock::booted_at(), ..config }, kube, clock)?;
    let readiness = agent.readiness();
    let handles = Handles {
        metrics: agent.metrics(),
        readiness: readiness.clone(),
        status: agent.status(),
        headroom: agent.headroom(),
        sinks: agent.sinks(),
        clock,
        identity: agent.identity(),
        dry_run,
    };
    let (stop_agent, agent_stops) = oneshot::channel::<()>();
    let (stop_admin, admin_stops) = oneshot::channel::<()>();
    let on_stop = move || {
        readiness.stopping();
        _ = stop_agent.send(());
    };
    // On the heap: the agent is the largest future by far, and there is one.
    let agent = Box::pin(agent.run(async { _ = agent_stops.await }));
    let supervised = async {
        let result = supervise(agent, signals, on_stop).await;
        _ = stop_admin.send(());
        result
    };
    // The probes are answered until the agent has stopped.
    let (result, ()) = tokio::join!(supervised, admin::serve(listener, handles, async { _ = admin_stops.await }));
    result
}

/// What can be known of notifications before there is one. What is only missing may come: the node comes first.
fn notifications(config: &Config) -> Result<(), RunError> {
    for missing in config.notify.inspect()? {
        tracing::warn!(%missing, "nobody can be told this way for now");
    }
    if !config.notify.is_empty() {
        egress::client(&config.egress, &PeerTls::default())?;
    }
    Ok(())
}

/// Each SIGTERM or SIGINT as one item.
fn stop_signals() -> io::Result<impl Stream<Item = ()> + Unpin> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(futures::stream::poll_fn(move |context| {
        if terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready() {
            Poll::Ready(Some(()))
        } else {
            Poll::Pending
        }
    }))
}

/// Drives the agent; `on_stop` tells it to stop.
async fn supervise(
    agent: impl Future<Output = ()>,
    mut signals: impl Stream<Item = ()> + Unpin,
    on_stop: impl FnOnce(),
) -> Result<(), RunError> {
    let mut agent = pin!(agent);
    tokio::select! {
        _ = signals.next() => {}
        () = &mut agent => return Err(RunError::Ended),
    }
    tracing::info!("stopping; the node's state is left as it is");
    on_stop();
    tokio::select! {
        () = &mut agent => Ok(()),
        _ = signals.next() => Err(RunError::Aborted),
        () = sleep(STOP_LIMIT) => {
            tracing::warn!("the agent did not stop in time and is left behind");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::stream;
    use tokio::time::Instant;

    use super::*;

    /// A signal after each of these many seconds.
    fn signals(seconds: &'static [u64]) -> impl Stream<Item = ()> + Unpin {
        Box::pin(stream::iter(seconds).then(|after| sleep(Duration::from_secs(*after))).chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_stops_the_agent_and_the_run_succeeds() {
        let (stop, stops) = oneshot::channel();
        let start = Instant::now();
        let agent = async {
            stops.await.unwrap();
            sleep(Duration::from_secs(1)).await;
        };
        let result = supervise(agent, signals(&[10]), move || stop.send(()).unwrap()).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(11));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_stop_is_left_behind_within_five_seconds() {
        let start = Instant::now();
        let result = supervise(pending(), signals(&[0]), || {}).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(start.elapsed(), STOP_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_does_not_wait() {
        let start = Instant::now();
        let result = supervise(pending(), signals(&[1, 1]), || {}).await;
        assert!(matches!(result, Err(RunError::Aborted)), "{result:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_ends_by_itself_is_a_failure() {
        let result = supervise(async {}, signals(&[]), || {}).await;
        assert!(matches!(result, Err(RunError::Ended)), "{result:?}");
    }
}
