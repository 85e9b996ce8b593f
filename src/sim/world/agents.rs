//! The agent's processes: each life is one [`Agent`] with its own registry, as a restarted container has.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{Addresses, Options, WorldError};
use crate::admin::{self, Handles};
use crate::agent::Agent;
use crate::clock::{Clock, Now};
use crate::cni::model::Headroom;
use crate::config::{CniConfig, Config};
use crate::interruption::account::Account;
use crate::interruption::record::Status;
use crate::k8s::client;
use crate::metrics::Metrics;
use crate::notify::settings::NotifyConfig;
use crate::sim::objects::NodeSpec;
use crate::sim::scenario::{AgentDoes, AgentSpec, Scenario};

/// One process of the agent.
pub(super) struct Life {
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) headroom: watch::Receiver<Option<Arc<Headroom>>>,
    account: watch::Receiver<Option<Arc<Account>>>,
    process: AbortHandle,
    stop: Option<oneshot::Sender<()>>,
}

/// All processes of the agent, the last one possibly running.
pub(super) struct Agents {
    config: Config,
    api: SocketAddr,
    clock: Clock,
    admin: Option<std::net::TcpListener>,
    with_agent: bool,
    /// How many run side by side.
    copies: u8,
    pub(super) lives: Vec<Life>,
    tasks: JoinSet<Result<(), String>>,
    /// The last process was ended by the scenario.
    ended: bool,
    /// Why one ended by itself.
    pub(super) died: Option<String>,
}

impl Agents {
    pub(super) fn new(
        scenario: &Scenario,
        node: &str,
        at: Addresses,
        cni: CniConfig,
        clock: Clock,
        admin: Option<std::net::TcpListener>,
        options: &Options,
    ) -> Self {
        let mut config = configured(&scenario.agent, Config::for_node(node));
        config.imds.endpoint = format!("http://{}", at.imds);
        config.boot_id = Some(NodeSpec::new(node).boot_id());
        config.cni = CniConfig { taint_on_exhaustion: scenario.agent.pod_ip_exhaustion_taint, ..cni };
        config.otlp.clone_from(&options.otlp);
        let clock = ahead(clock, scenario.node.clock_ahead);
        Self {
            config,
            copies: scenario.agent.copies.max(1),
            api: at.api,
            clock,
            admin,
            with_agent: options.with_agent,
            lives: Vec::new(),
            tasks: JoinSet::new(),
            ended: true,
            died: None,
        }
    }

    /// Whom the agent tells, from its next process on.
    pub(super) fn tells(&mut self, notify: NotifyConfig) {
        self.config.notify = notify;
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The kernel has booted: what agents find from now on in `/proc`.
    pub(super) fn booted(&mut self, boot_id: String) {
        self.config.booted_at = Some(self.clock.now().wall);
        self.config.boot_id = Some(boot_id);
    }

    /// Starts as many processes as there are to be, if there is to be an agent at all.
    pub(super) fn start(&mut self) -> Result<(), WorldError> {
        if !self.with_agent {
            return Ok(());
        }
        (0..self.copies).try_for_each(|_| self.start_one())
    }

    fn start_one(&mut self) -> Result<(), WorldError> {
        let unusable = |error: &dyn std::error::Error| WorldError::Client(error.to_string());
        let url = format!("http://{}", self.api).parse().map_err(|error| unusable(&error as &http::uri::InvalidUri))?;
        let client = client::from_config(kube::Config::new(url)).map_err(|error| unusable(&error))?;
        let agent = Agent::new(self.config.clone(), client, self.clock).map_err(|error| unusable(&error))?;
        let (metrics, status, headroom) = (agent.metrics(), agent.status(), agent.headroom());
        let handles = Handles {
            metrics: metrics.clone(),
            readiness: agent.readiness(),
            status: status.clone(),
            headroom: headroom.clone(),
            sinks: agent.sinks(),
            clock: self.clock,
            identity: agent.identity(),
            dry_run: self.config.dry_run,
        };
        let admin = self.admin.as_ref().map(std::net::TcpListener::try_clone).transpose();
        let admin = admin.map_err(|error| unusable(&error))?;
        let account = agent.account();
        let (stop, stopped) = oneshot::channel();
        let process = self.tasks.spawn(process(agent, admin, handles, stopped));
        self.lives.push(Life { metrics, status, account, headroom, process, stop: Some(stop) });
        self.ended = false;
        Ok(())
    }

    /// Ends every process that runs.
    pub(super) fn end(&mut self, how: AgentDoes) {
        self.ended = true;
        for life in &mut self.lives {
            match how {
                AgentDoes::Crash => life.process.abort(),
                AgentDoes::Stop => _ = life.stop.take().map(|stop| stop.send(())),
            }
        }
    }

    /// Whether a process is meant to run now.
    pub(super) fn is_running(&self) -> bool {
        !self.ended && self.died.is_none()
    }

    /// The last process's state.
    pub(super) fn status(&self) -> Option<Status> {
        self.lives.last().map(|life| life.status.borrow().clone())
    }

    /// The account of the last process that wrote one.
    pub(super) fn account(&self) -> Option<Arc<Account>> {
        self.lives.iter().rev().find_map(|life| life.account.borrow().clone())
    }

    /// What the last process says of the pods' addresses.
    pub(super) fn headroom(&self) -> Option<Arc<Headroom>> {
        self.lives.last()?.headroom.borrow().clone()
    }

    /// Waits until the running process has something new to tell, or ends.
    pub(super) async fn changed(&mut self) {
        let Some(life) = self.lives.last_mut() else { return std::future::pending().await };
        let changed = async {
            tokio::select! {
                Ok(()) = life.status.changed() => {}
                // Where there is no VPC CNI, each reading says so again.
                Ok(()) = headroom_again(&mut life.headroom) => {}
                // The process is gone; its end arrives by the other branch, once.
                else => std::future::pending::<()>().await,
            }
        };
        tokio::select! {
            () = changed => {}
            Some(ended) = self.tasks.join_next() => self.died = unexpected(ended, self.ended).or(self.died.take()),
            else => std::future::pending().await,
        }
    }
}

/// Waits until there is a headroom that was not there before.
async fn headroom_again(headroom: &mut watch::Receiver<Option<Arc<Headroom>>>) -> Result<(), watch::error::RecvError> {
    loop {
        headroom.changed().await?;
        if headroom.borrow_and_update().is_some() {
            return Ok(());
        }
    }
}

/// What the scenario sets; the rest is the agent's default.
fn configured(wanted: &AgentSpec, mut config: Config) -> Config {
    config.dry_run = wanted.dry_run;
    config.on_spot_interruption = wanted.on_spot_interruption.unwrap_or(config.on_spot_interruption);
    config.on_rebalance_recommendation =
        wanted.on_rebalance_recommendation.unwrap_or(config.on_rebalance_recommendation);
    config.on_scheduled_event = wanted.on_scheduled_event.unwrap_or(config.on_scheduled_event);
    config.on_asg_termination = wanted.on_asg_termination.unwrap_or(config.on_asg_termination);
    config.rebalance_expiry = wanted.rebalance_expiry.unwrap_or(config.rebalance_expiry);
    config.scheduled_event_lead = wanted.scheduled_event_lead.unwrap_or(config.scheduled_event_lead);
    config.asg_hook_timeout = wanted.asg_hook_timeout.unwrap_or(config.asg_hook_timeout);
    config.on_blocked_eviction = wanted.on_blocked_eviction.unwrap_or(config.on_blocked_eviction);
    config.shutdown_tail = wanted.shutdown_tail.unwrap_or(config.shutdown_tail);
    config.safety_margin = wanted.safety_margin.unwrap_or(config.safety_margin);
    config.load_balancer_wait = wanted.load_balancer_wait.unwrap_or(config.load_balancer_wait);
    config.shutdown_by_priority.clone_from(&wanted.shutdown_grace_by_priority);
    config.imds.spot_interval = wanted.spot_poll_interval.unwrap_or(config.imds.spot_interval);
    config.imds.rebalance_interval = wanted.rebalance_poll_interval.unwrap_or(config.imds.rebalance_interval);
    config.imds.asg_interval = wanted.asg_poll_interval.unwrap_or(config.imds.asg_interval);
    config.imds.scheduled_interval = wanted.scheduled_poll_interval.unwrap_or(config.imds.scheduled_interval);
    config.marks.style = wanted.node_marks.unwrap_or(config.marks.style);
    config
}

/// A clock whose wall time is ahead by so many seconds; the monotonic one is the same for everybody.
fn ahead(clock: Clock, seconds: i32) -> Clock {
    if seconds == 0 {
        return clock;
    }
    let now = clock.now();
    let wall = now.wall.checked_add(jiff::SignedDuration::from_secs(seconds.into())).unwrap_or(now.wall);
    Clock::Anchored(Now { wall, ..now })
}

/// Why a process ended, if it was not the scenario's doing.
fn unexpected(ended: Result<Result<(), String>, tokio::task::JoinError>, meant: bool) -> Option<String> {
    match ended {
        Err(error) if error.is_panic() => Some("the agent panicked".into()),
        Err(_) => None,
        Ok(Err(reason)) => Some(reason),
        Ok(Ok(())) if meant => None,
        Ok(Ok(())) => Some("the agent ended by itself".into()),
    }
}

/// The agent with its admin server, as one process.
async fn process(
    agent: Agent,
    admin: Option<std::net::TcpListener>,
    handles: Handles,
    stopped: oneshot::Receiver<()>,
) -> Result<(), String> {
    let admin = async {
        if let Some(listener) = admin {
            let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
            admin::serve(listener, handles, std::future::pending()).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        () = agent.run(async { _ = stopped.await }) => Ok(()),
        failed = admin => failed,
    }
}
