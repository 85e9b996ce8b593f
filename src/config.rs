//! The validated configuration of one agent.
//!
//! [`settings`] lists what can be set and under which names, [`parse`] turns what was given into these values or into one
//! line that says what is wrong. Below this module nobody reads the environment or sees a string that has to be parsed.

pub mod otlp;
pub mod parse;
pub mod settings;
mod shares;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::notify::settings::NotifyConfig;
use crate::signal::Kind;

/// What to do when an eviction is still refused at a pod's latest start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBlockedEviction {
    /// Delete the pod: it would be cut off by the power anyway, and a SIGTERM is kinder.
    Delete,
    /// Keep asking until the deadline.
    Wait,
}

/// How strongly a signal is answered; each level includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// Whose taints and labels the fence speaks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkStyle {
    /// One taint key for everything, its value the signal's kind.
    Spotwarden,
    /// The keys of the AWS node termination handler, one for each kind: workloads that tolerate those need no change.
    NodeTerminationHandler,
}

/// The marks that fence the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkConfig {
    /// Whose words they are.
    pub style: MarkStyle,
    /// Key of the taint in our own style; default `spotwarden/interruption`.
    pub taint_key: String,
    /// Effect of the taint of a fence; default `NoSchedule`. A mere `taint` response is always soft.
    pub taint_effect: String,
}

/// The pods of this priority and above, up to the next entry's, and the share of a shutdown that is theirs: an entry of
/// the kubelet's `shutdownGracePeriodByPodPriority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityShare {
    /// The least priority.
    pub priority: i32,
    /// Seconds of a whole shutdown.
    pub seconds: u32,
}

/// Reading IMDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsConfig {
    /// Base URL without a trailing slash, e.g. `http://169.254.169.254`.
    pub endpoint: String,
    /// Interval of `spot/instance-action`; at least 1 s, as the others.
    pub spot_interval: Duration,
    /// Interval of `events/recommendations/rebalance`.
    pub rebalance_interval: Duration,
    /// Interval of `autoscaling/target-lifecycle-state`.
    pub asg_interval: Duration,
    /// Interval of `events/maintenance/scheduled`.
    pub scheduled_interval: Duration,
}

/// Where an HTTP server on this machine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// `host:port`.
    Tcp(String),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Watching the addresses of the Amazon VPC CNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniConfig {
    /// Whether at all; where the CNI is another one, nothing comes of it.
    pub enabled: bool,
    /// Introspection of ipamd.
    pub introspection: LocalAddress,
    /// Metrics of ipamd.
    pub metrics: LocalAddress,
    /// Whether a node that has no address left for pods gets a taint.
    pub taint_on_exhaustion: bool,
}

/// How the outside is reached: collectors, Alertmanager, webhooks. IMDS, ipamd and the API server never see a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressConfig {
    /// `HTTPS_PROXY`, for https addresses.
    pub https_proxy: Option<String>,
    /// `HTTP_PROXY`, for http addresses.
    pub http_proxy: Option<String>,
    /// `NO_PROXY`: hosts, domains and networks that are asked directly.
    pub no_proxy: Option<String>,
    /// `SSL_CERT_FILE`: certificates in PEM form to trust beside the public ones.
    pub ca_file: Option<PathBuf>,
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
    /// Response to a rebalance recommendation.
    pub on_rebalance_recommendation: Response,
    /// Response to a scheduled event.
    pub on_scheduled_event: Response,
    /// Response to the auto scaling group taking the instance out of service.
    pub on_asg_termination: Response,
    /// A rebalance recommendation that no interruption followed is over after so long.
    pub rebalance_expiry: Duration,
    /// The full response to a scheduled event begins so long before its time.
    pub scheduled_event_lead: Duration,
    /// How long the group's termination hook keeps the instance, counted from the change of its state.
    pub asg_hook_timeout: Duration,
    /// The marks of the fence.
    pub marks: MarkConfig,
    /// How long evictions may wait, out of a pod's slack, for load balancers to let go of the node.
    pub load_balancer_wait: Duration,
    /// Order and shares of the drain by pod priority, ascending; empty for the built-in order.
    pub shutdown_by_priority: Vec<PriorityShare>,
    /// What to do past a pod's latest start.
    pub on_blocked_eviction: OnBlockedEviction,
    /// How long the kubelet lets processes run after the instance is told to stop.
    pub shutdown_tail: Duration,
    /// Kept between a pod's end and the deadline for API, kubelet and runtime latency.
    pub safety_margin: Duration,
    /// Watching the pods' addresses.
    pub cni: CniConfig,
    /// Reaching the outside.
    pub egress: EgressConfig,
    /// Pushing telemetry, if it is to be pushed.
    pub otlp: Option<otlp::OtlpConfig>,
    /// Who outside of the cluster is told.
    pub notify: NotifyConfig,
    /// Decide and report, change nothing.
    pub dry_run: bool,
    /// Identity of the kernel's boot, as the kubelet reports it in the Node's status; absent where the machine does not
    /// tell. The Node's own word may lag behind a reboot.
    pub boot_id: Option<String>,
    /// When the kernel booted; a notice older than that belongs to an earlier life of the instance.
    pub booted_at: Option<Timestamp>,
    /// Where `/metrics`, `/livez`, `/readyz` and `/` are served.
    pub admin_address: SocketAddr,
}

impl Config {
    /// The response to signals of `kind`.
    pub fn response(&self, kind: Kind) -> Response {
        match kind {
            Kind::SpotInterruption => self.on_spot_interruption,
            Kind::RebalanceRecommendation => self.on_rebalance_recommendation,
            Kind::ScheduledEvent => self.on_scheduled_event,
            Kind::AsgTermination => self.on_asg_termination,
        }
    }

    /// The defaults for `node_name`.
    pub fn for_node(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            kubeconfig: None,
            imds: ImdsConfig {
                endpoint: "http://169.254.169.254".into(),
                spot_interval: Duration::from_secs(1),
                rebalance_interval: Duration::from_secs(5),
                asg_interval: Duration::from_secs(5),
                scheduled_interval: Duration::from_secs(30),
            },
            on_spot_interruption: Response::Drain,
            on_rebalance_recommendation: Response::Taint,
            on_scheduled_event: Response::Drain,
            on_asg_termination: Response::Drain,
            rebalance_expiry: Duration::from_hours(4),
            scheduled_event_lead: Duration::from_mins(10),
            asg_hook_timeout: Duration::from_mins(5),
            marks: MarkConfig {
                style: MarkStyle::Spotwarden,
                taint_key: "spotwarden/interruption".into(),
                taint_effect: "NoSchedule".into(),
            },
            load_balancer_wait: Duration::ZERO,
            shutdown_by_priority: Vec::new(),
            on_blocked_eviction: OnBlockedEviction::Delete,
            shutdown_tail: Duration::ZERO,
            safety_margin: Duration::from_secs(3),
            cni: CniConfig {
                enabled: true,
                introspection: LocalAddress::Tcp("127.0.0.1:61679".into()),
                metrics: LocalAddress::Tcp("127.0.0.1:61678".into()),
                taint_on_exhaustion: false,
            },
            egress: EgressConfig::default(),
            otlp: None,
            notify: NotifyConfig::default(),
            dry_run: false,
            boot_id: None,
            booted_at: None,
            admin_address: SocketAddr::from(([0, 0, 0, 0], 9808)),
        }
    }
}
