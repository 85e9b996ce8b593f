//! The validated configuration of one agent.
//!
//! [`settings`] lists what can be set and under which names, [`parse`] turns what was given into these values or into one
//! line that says what is wrong. Below this module nobody reads the environment or sees a string that has to be parsed.

pub mod parse;
pub mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

/// What to do when an eviction is still refused at a pod's latest start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBlockedEviction {
    /// Delete the pod: it would be cut off by the power anyway, and a SIGTERM is kinder.
    Delete,
    /// Keep asking until the deadline.
    Wait,
}

/// How strongly a signal is answered; each level includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Response {
    /// Not even polled.
    Ignore,
    /// Metrics, events, notifications.
    Observe,
    /// Soft taint `PreferNoSchedule`.
    Taint,
    /// The fence.
    Cordon,
    /// The fence and the drain.
    Drain,
}

/// The taint that fences the node; its value is the signal's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintConfig {
    /// Default `spotwarden/interruption`.
    pub key: String,
    /// Default `NoSchedule`.
    pub effect: String,
}

/// Reading IMDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsConfig {
    /// Base URL without a trailing slash, e.g. `http://169.254.169.254`.
    pub endpoint: String,
    /// Interval of `spot/instance-action`; at least 1 s.
    pub spot_interval: Duration,
}

/// Everything an agent needs to know. A plain value: nothing below it reads the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the own Node.
    pub node_name: String,
    /// Where to find the API server outside of a cluster; `None` in a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Reading IMDS.
    pub imds: ImdsConfig,
    /// Response to a spot interruption notice.
    pub on_spot_interruption: Response,
    /// The fencing taint.
    pub taint: TaintConfig,
    /// What to do past a pod's latest start.
    pub on_blocked_eviction: OnBlockedEviction,
    /// How long the kubelet lets processes run after the instance is told to stop.
    pub shutdown_tail: Duration,
    /// Kept between a pod's end and the deadline for API, kubelet and runtime latency.
    pub safety_margin: Duration,
    /// Decide and report, change nothing.
    pub dry_run: bool,
    /// When the kernel booted; a notice older than that belongs to an earlier life of the instance.
    pub booted_at: Option<Timestamp>,
    /// Where `/metrics`, `/livez`, `/readyz` and `/` are served.
    pub admin_address: SocketAddr,
}

impl Config {
    /// The defaults for `node_name`.
    pub fn for_node(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            kubeconfig: None,
            imds: ImdsConfig { endpoint: "http://169.254.169.254".into(), spot_interval: Duration::from_secs(1) },
            on_spot_interruption: Response::Drain,
            taint: TaintConfig { key: "spotwarden/interruption".into(), effect: "NoSchedule".into() },
            on_blocked_eviction: OnBlockedEviction::Delete,
            shutdown_tail: Duration::ZERO,
            safety_margin: Duration::from_secs(3),
            dry_run: false,
            booted_at: None,
            admin_address: SocketAddr::from(([0, 0, 0, 0], 9808)),
        }
    }
}
