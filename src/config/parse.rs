//! From what was given to a validated [`Config`], or to the one line that stops the start.
//!
//! Pure: the command line and the environment come in as values. Every check is made here, so that nothing can turn out
//! to be wrong when a notice arrives.

mod notify;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

use super::settings::{Environment, SETTINGS, UnknownVariable, refuse_unknown};
use super::{
    CniConfig, Config, EgressConfig, ImdsConfig, LocalAddress, MarkConfig, MarkStyle, OnBlockedEviction, PriorityShare,
    Response,
};
use crate::log::{LogConfig, LogFilter, LogFormat};

/// Base URL of the metadata service over IPv4 and over IPv6 (EC2 user guide, "Instance metadata and user data").
const IMDS_IPV4: &str = "http://169.254.169.254";
const IMDS_IPV6: &str = "http://[fd00:ec2::254]";

/// A notice leaves two minutes; a margin of half of it can only be a mistake.
const MAX_SAFETY_MARGIN: Duration = Duration::from_mins(1);
/// EC2 forces an instance off after a few minutes at most.
const MAX_SHUTDOWN_TAIL: Duration = Duration::from_mins(10);
/// More often is load without gain, more seldom eats the two minutes.
const POLL_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The other signals leave more time.
const SLOW_POLL_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));
const REBALANCE_EXPIRY_RANGE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(168));
const SCHEDULED_LEAD_RANGE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(24));
/// EC2 Auto Scaling keeps an instance waiting for 48 h at most, whatever the hook's heartbeat.
const ASG_HOOK_RANGE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(48));
const LOAD_BALANCER_WAIT_RANGE: (Duration, Duration) = (Duration::ZERO, Duration::from_mins(5));
/// As the table of settings has it.
const DEFAULT_TAINT_KEY: &str = "spotwarden/interruption";
/// Of a refused value, no more than this is repeated.
const MAX_SHOWN: usize = 100;

/// What `run` was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// The agent's.
    pub agent: Config,
    /// The log's.
    pub log: LogConfig,
}

/// Why the start is refused: which setting, why, and what would be valid. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting without which nothing works is not given.
    #[error("{name} is not set: {remedy}")]
    Missing {
        /// Flag and variable.
        name: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A value cannot be used.
    #[error("{name} is `{value}`, which {why}; {valid}")]
    Invalid {
        /// The flag or variable that it came from.
        name: String,
        /// The value, shortened.
        value: String,
        /// What is wrong with it.
        why: String,
        /// What would be valid.
        valid: String,
    },
    /// A variable that belongs to no setting.
    #[error(transparent)]
    Unknown(#[from] UnknownVariable),
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) value: String,
}

impl Given {
    /// The same for a value that must not be repeated.
    pub(super) fn hidden(&self) -> Self {
        Self { name: self.name.clone(), value: "…".into() }
    }

    pub(super) fn refuse(&self, why: impl Into<String>, valid: impl Into<String>) -> ConfigError {
        let value = shown(&self.value);
        ConfigError::Invalid { name: self.name.clone(), value, why: why.into(), valid: valid.into() }
    }
}

/// A value made fit for one line.
fn shown(value: &str) -> String {
    let mut text: String = value.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if value.chars().count() > MAX_SHOWN {
        text.push('…');
    }
    text
}

/// Reads every setting: `flags` tells the value of a flag that was given, by its name without dashes.
pub fn run_config(flags: &dyn Fn(&str) -> Option<String>, env: &Environment) -> Result<RunConfig, ConfigError> {
    refuse_unknown(env.names())?;
    let sources = Sources { flags, env };
    let agent = Config {
        node_name: node_name(&sources)?,
        kubeconfig: sources.get("kubeconfig").map(|given| PathBuf::from(given.value)),
        imds: ImdsConfig {
            endpoint: imds_endpoint(env)?,
            spot_interval: spot_interval(&sources)?,
            rebalance_interval: poll_interval(&sources, "rebalance-poll-interval")?,
            asg_interval: poll_interval(&sources, "asg-poll-interval")?,
            scheduled_interval: poll_interval(&sources, "scheduled-poll-interval")?,
        },
        on_spot_interruption: sources.choice("on-spot-interruption", &RESPONSES)?,
        on_rebalance_recommendation: sources.choice("on-rebalance-recommendation", &RESPONSES)?,
        on_scheduled_event: sources.choice("on-scheduled-event", &RESPONSES)?,
        on_asg_termination: sources.choice("on-asg-termination", &RESPONSES)?,
        rebalance_expiry: within(&sources, "rebalance-expiry", REBALANCE_EXPIRY_RANGE, "use 1m to 168h")?,
        scheduled_event_lead: within(&sources, "scheduled-event-lead", SCHEDULED_LEAD_RANGE, "use 1m to 24h")?,
        asg_hook_timeout: within(&sources, "asg-hook-timeout", ASG_HOOK_RANGE, "use 30s to 48h, the hook's own time")?,
        marks: marks(&sources)?,
        load_balancer_wait: within(&sources, "load-balancer-wait", LOAD_BALANCER_WAIT_RANGE, "use 0s to 5m")?,
        shutdown_by_priority: shutdown_by_priority(&sources)?,
        on_blocked_eviction: sources.choice("on-blocked-eviction", &BLOCKED)?,
        shutdown_tail: shutdown_tail(&sources)?,
        safety_margin: safety_margin(&sources)?,
        cni: CniConfig {
            enabled: sources.choice("cni-headroom", &AUTO)?,
            introspection: local_address(&sources, "cni-introspection-address")?,
            metrics: local_address(&sources, "cni-metrics-address")?,
            taint_on_exhaustion: taint_on_exhaustion(&sources)?,
        },
        egress: egress(env),
        otlp: super::otlp::parse(env, sources.get("otlp-headers-file"))?,
        notify: notify::notify(&sources)?,
        dry_run: sources.choice("dry-run", &BOOLS)?,
        // Facts of the machine, not settings.
        boot_id: None,
        booted_at: None,
        admin_address: admin_address(&sources)?,
    };
    let log = LogConfig { format: sources.choice("log-format", &FORMATS)?, filter: log_filter(&sources)? };
    Ok(RunConfig { agent, log })
}

/// The taint follows from the headroom, which has to be watched for it.
fn taint_on_exhaustion(sources: &Sources<'_>) -> Result<bool, ConfigError> {
    let wanted = sources.choice("pod-ip-exhaustion-taint", &BOOLS)?;
    let watched: bool = sources.choice("cni-headroom", &AUTO)?;
    if let Some(given) = sources.get("pod-ip-exhaustion-taint").filter(|_| wanted && !watched) {
        return Err(given.refuse(
            "needs the headroom of pod addresses, and --cni-headroom is off",
            "set --cni-headroom to auto, or this to false",
        ));
    }
    Ok(wanted)
}

/// A setting as it applies, and where its value came from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Effective {
    /// The flag without dashes; `None` for what only the environment can set.
    pub flag: Option<&'static str>,
    /// The environment variable.
    pub env: &'static str,
    /// What applies; `None` if nothing was given and there is no default.
    pub value: Option<String>,
    /// Who said so.
    pub source: Source,
}

/// Where the value of a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// Nobody: it is the default, or not set at all.
    Default,
}

impl Source {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Default => "default",
        }
    }
}

/// Every setting with its value and where that came from, by the rules of [`run_config`]. The values are those that were
/// written, so this is for a configuration that was accepted.
pub fn effective(flags: &dyn Fn(&str) -> Option<String>, env: &Environment) -> Vec<Effective> {
    let sources = Sources { flags, env };
    let origin = |flag: &str, variable: &str| match (flags(flag), env.get(variable)) {
        (Some(_), _) => Source::Flag,
        (None, Some(_)) => Source::Environment,
        (None, None) => Source::Default,
    };
    let of_setting = |setting: &super::settings::Setting| Effective {
        flag: Some(setting.flag),
        env: setting.env,
        value: sources.get(setting.flag).map(|given| given.value).filter(|value| !value.is_empty()),
        source: origin(setting.flag, setting.env),
    };
    let endpoint_given = IMDS_VARIABLES.iter().any(|name| env.get(name).is_some());
    let endpoint = Effective {
        flag: None,
        env: "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        value: imds_endpoint(env).ok(),
        source: if endpoint_given { Source::Environment } else { Source::Default },
    };
    let rust_log = env.get("RUST_LOG").map(|value| Effective {
        flag: None,
        env: "RUST_LOG",
        value: Some(value.to_owned()),
        source: Source::Environment,
    });
    let otlp = super::otlp::VARIABLES.into_iter().filter_map(|name| {
        let value = env.get(name)?;
        let value = if super::otlp::is_secret(name) { "(hidden)" } else { value };
        Some(Effective { flag: None, env: name, value: Some(value.to_owned()), source: Source::Environment })
    });
    SETTINGS.iter().map(of_setting).chain([endpoint]).chain(rust_log).chain(otlp).collect()
}

/// What decides where the metadata service answers.
const IMDS_VARIABLES: [&str; 2] = ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"];

const RESPONSES: [(&str, Response); 5] = [
    ("ignore", Response::Ignore),
    ("observe", Response::Observe),
    ("taint", Response::Taint),
    ("cordon", Response::Cordon),
    ("drain", Response::Drain),
];
const BLOCKED: [(&str, OnBlockedEviction); 2] =
    [("delete", OnBlockedEviction::Delete), ("wait", OnBlockedEviction::Wait)];
const MARK_STYLES: [(&str, MarkStyle); 2] =
    [("spotwarden", MarkStyle::Spotwarden), ("aws-node-termination-handler", MarkStyle::NodeTerminationHandler)];
const BOOLS: [(&str, bool); 2] = [("true", true), ("false", false)];
const AUTO: [(&str, bool); 2] = [("auto", true), ("off", false)];
const FORMATS: [(&str, LogFormat); 2] = [("json", LogFormat::Json), ("plain", LogFormat::Plain)];

/// The command line, then the environment, then the default.
struct Sources<'a> {
    flags: &'a dyn Fn(&str) -> Option<String>,
    env: &'a Environment,
}

impl Sources<'_> {
    fn get(&self, flag: &str) -> Option<Given> {
        if let Some(value) = (self.flags)(flag) {
            return Some(Given { name: format!("--{flag}"), value });
        }
        let setting = SETTINGS.iter().find(|setting| setting.flag == flag)?;
        let from_env = self.env.get(setting.env).map(|value| (setting.env.to_owned(), value));
        let (name, value) = from_env.or_else(|| Some((format!("--{flag}"), setting.default?)))?;
        Some(Given { name, value: value.to_owned() })
    }

    /// A setting that has a default.
    fn value(&self, flag: &str) -> Given {
        self.get(flag).unwrap_or_else(|| Given { name: format!("--{flag}"), value: String::new() })
    }

    fn choice<T: Copy>(&self, flag: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let given = self.value(flag);
        let chosen = choices.iter().find(|(name, _)| *name == given.value);
        chosen.map(|(_, value)| *value).ok_or_else(|| given.refuse("is not known", one_of(choices)))
    }

    fn duration(&self, flag: &str) -> Result<(Given, Duration), ConfigError> {
        let given = self.value(flag);
        let valid = "write for example 500ms, 30s or 2m";
        let parsed: SignedDuration =
            given.value.parse().map_err(|_| given.refuse("is not a duration with a unit", valid))?;
        let duration = Duration::try_from(parsed).map_err(|_| given.refuse("is less than nothing", valid))?;
        Ok((given, duration))
    }
}

fn one_of<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    match names.as_slice() {
        [first, second] => format!("use {first} or {second}"),
        _ => format!("use one of {}", names.join(", ")),
    }
}

fn node_name(sources: &Sources<'_>) -> Result<String, ConfigError> {
    let remedy = "set it from the downward API (fieldRef: spec.nodeName), or give --node-name";
    let given = sources.get("node-name").ok_or(ConfigError::Missing { name: "NODE_NAME", remedy })?;
    if !is_subdomain(&given.value) {
        let valid = "use the metadata.name of a Node: lower-case letters, digits, `-` and `.`, at most 253 characters";
        return Err(given.refuse("cannot be the name of a Node", valid));
    }
    Ok(given.value)
}

fn spot_interval(sources: &Sources<'_>) -> Result<Duration, ConfigError> {
    let (given, interval) = sources.duration("spot-poll-interval")?;
    let (least, most) = POLL_RANGE;
    if interval < least {
        return Err(given.refuse("is too often for the metadata service", "use 1s to 30s"));
    }
    if interval > most {
        return Err(given.refuse("is too seldom: a notice leaves two minutes", "use 1s to 30s"));
    }
    Ok(interval)
}

/// Polls that no two minutes hang on.
fn poll_interval(sources: &Sources<'_>, flag: &str) -> Result<Duration, ConfigError> {
    within(sources, flag, SLOW_POLL_RANGE, "use 1s to 10m")
}

fn within(
    sources: &Sources<'_>,
    flag: &str,
    (least, most): (Duration, Duration),
    valid: &str,
) -> Result<Duration, ConfigError> {
    let (given, duration) = sources.duration(flag)?;
    if duration < least {
        return Err(given.refuse("is too short", valid));
    }
    if duration > most {
        return Err(given.refuse("is too long", valid));
    }
    Ok(duration)
}

/// An address as ipamd itself takes it. A server of this node is meant, but its name is not looked up here.
fn local_address(sources: &Sources<'_>, flag: &str) -> Result<LocalAddress, ConfigError> {
    let given = sources.value(flag);
    let valid = "use host:port, for example 127.0.0.1:61679, or unix:/path";
    if let Some(path) = given.value.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        return if path.is_absolute() {
            Ok(LocalAddress::Unix(path))
        } else {
            Err(given.refuse("has no absolute path", valid))
        };
    }
    if given.value.contains("://") {
        return Err(given.refuse("is a URL", valid));
    }
    let authority: http::uri::Authority = given.value.parse().map_err(|_| given.refuse("is not an address", valid))?;
    if authority.port_u16().is_none_or(|port| port == 0) || authority.host().is_empty() || given.value.contains('@') {
        return Err(given.refuse("does not have both a host and a port", valid));
    }
    Ok(LocalAddress::Tcp(given.value))
}

fn marks(sources: &Sources<'_>) -> Result<MarkConfig, ConfigError> {
    let style = sources.choice("node-marks", &MARK_STYLES)?;
    let marks = MarkConfig { style, taint_key: taint_key(sources)?, taint_effect: taint_effect(sources)? };
    if style == MarkStyle::NodeTerminationHandler && marks.taint_key != DEFAULT_TAINT_KEY {
        let why = "has no effect beside --node-marks aws-node-termination-handler, which has a key for each kind";
        return Err(sources.value("taint-key").refuse(why, "give one of the two"));
    }
    Ok(marks)
}

fn shutdown_by_priority(sources: &Sources<'_>) -> Result<Vec<PriorityShare>, ConfigError> {
    let Some(given) = sources.get("shutdown-grace-by-priority") else { return Ok(Vec::new()) };
    let valid = "paste the kubelet's list, for example [{priority: 0, shutdownGracePeriodSeconds: 60}]";
    super::shares::parse(&given.value).map_err(|why| given.refuse(why, valid))
}

fn safety_margin(sources: &Sources<'_>) -> Result<Duration, ConfigError> {
    let (given, margin) = sources.duration("safety-margin")?;
    if margin >= MAX_SAFETY_MARGIN {
        return Err(given.refuse("is at least half of the two minutes that a notice leaves", "use less than 60s"));
    }
    Ok(margin)
}

fn shutdown_tail(sources: &Sources<'_>) -> Result<Duration, ConfigError> {
    let (given, tail) = sources.duration("shutdown-tail")?;
    if tail > MAX_SHUTDOWN_TAIL {
        let valid = "use the kubelet's shutdownGracePeriod, at most 10m";
        return Err(given.refuse("is longer than EC2 waits for an instance to stop", valid));
    }
    Ok(tail)
}

fn taint_key(sources: &Sources<'_>) -> Result<String, ConfigError> {
    let given = sources.value("taint-key");
    if !is_qualified_name(&given.value) {
        let valid = "use name or domain/name: letters, digits, `-`, `_` and `.`, the name at most 63 characters";
        return Err(given.refuse("is not a qualified name", valid));
    }
    Ok(given.value)
}

fn taint_effect(sources: &Sources<'_>) -> Result<String, ConfigError> {
    let given = sources.value("taint-effect");
    let valid = "use NoSchedule or PreferNoSchedule";
    match given.value.as_str() {
        "NoSchedule" | "PreferNoSchedule" => Ok(given.value),
        // The control plane would delete every pod at once, past budgets and deadline arithmetic.
        "NoExecute" => Err(given.refuse("would take the drain out of the agent's hands", valid)),
        _ => Err(given.refuse("is not a taint effect", valid)),
    }
}

fn admin_address(sources: &Sources<'_>) -> Result<SocketAddr, ConfigError> {
    let given = sources.value("admin-address");
    let valid = "write for example 0.0.0.0:9808 or [::]:9808";
    let address = given.value.parse().ok().or_else(|| unbracketed(&given.value));
    address.ok_or_else(|| given.refuse("is not an IP address with a port", valid))
}

/// An IPv6 address with a port and no brackets, as `$(POD_IP):9808` becomes on a cluster with IPv6. What follows the last
/// colon is the port.
fn unbracketed(value: &str) -> Option<SocketAddr> {
    let (ip, port) = value.rsplit_once(':')?;
    Some(SocketAddr::new(ip.parse::<Ipv6Addr>().ok()?.into(), port.parse().ok()?))
}

fn log_filter(sources: &Sources<'_>) -> Result<LogFilter, ConfigError> {
    let rust_log = || sources.env.get("RUST_LOG").map(|value| Given { name: "RUST_LOG".into(), value: value.into() });
    let Some(given) = sources.get("log-level").or_else(rust_log) else { return Ok(LogFilter::default()) };
    let valid = "write for example info or info,spotwarden=debug";
    given
        .value
        .parse()
        .map_err(|error: crate::log::LogFilterError| given.refuse(format!("has a mistake: {error}"), valid))
}

/// The names that the ecosystem has, in both spellings; of two that are set the lower case one wins, as in curl.
fn egress(env: &Environment) -> EgressConfig {
    let either = |name: &str| env.get(&name.to_ascii_lowercase()).or_else(|| env.get(name)).map(str::to_owned);
    EgressConfig {
        https_proxy: either("HTTPS_PROXY"),
        http_proxy: either("HTTP_PROXY"),
        no_proxy: either("NO_PROXY"),
        ca_file: env.get("SSL_CERT_FILE").map(PathBuf::from),
    }
}

/// The metadata service's base URL without a trailing slash, from the variables that AWS' own tools read.
fn imds_endpoint(env: &Environment) -> Result<String, ConfigError> {
    let variable = |name: &str| env.get(name).map(|value| Given { name: name.into(), value: value.into() });
    if let Some(given) = variable("AWS_EC2_METADATA_DISABLED")
        && given.value.eq_ignore_ascii_case("true")
    {
        let why = "leaves the agent nothing to read notices from";
        return Err(given.refuse(why, "unset it for the agent's container"));
    }
    let by_mode = match variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
        None => IMDS_IPV4,
        Some(mode) if mode.value.eq_ignore_ascii_case("ipv4") => IMDS_IPV4,
        Some(mode) if mode.value.eq_ignore_ascii_case("ipv6") => IMDS_IPV6,
        Some(mode) => return Err(mode.refuse("is not known", "use IPv4 or IPv6")),
    };
    // An endpoint wins over the mode, as in AWS' SDKs.
    variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").map_or_else(|| Ok(by_mode.to_owned()), |given| base_url(&given))
}

fn base_url(given: &Given) -> Result<String, ConfigError> {
    let valid = "write for example http://169.254.169.254 or http://[fd00:ec2::254]";
    if given.value.contains('@') {
        // The value is not repeated: it holds a secret.
        return Err(given.hidden().refuse("holds credentials, which the metadata service does not take", valid));
    }
    let uri: http::Uri = given.value.parse().map_err(|_| given.refuse("is not a URL", valid))?;
    let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
        return Err(given.refuse("is not an http:// URL", valid));
    };
    if authority.host().is_empty() || (authority.port().is_none() && authority.as_str() != authority.host()) {
        return Err(given.refuse("has no usable host and port", valid));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || given.value.contains('#') {
        return Err(given.refuse("has a path, query or fragment", valid));
    }
    Ok(format!("http://{authority}"))
}

/// A DNS subdomain as Kubernetes wants it (RFC 1123): labels of lower-case letters, digits and inner dashes.
fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(alphanumeric)
                && label.ends_with(alphanumeric)
                && label.chars().all(|character| alphanumeric(character) || character == '-')
        })
}

/// A key of labels, annotations and taints: an optional subdomain and `/`, then at most 63 characters that begin and end
/// with a letter or digit.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let alphanumeric = |character: char| character.is_ascii_alphanumeric();
    prefix.is_none_or(is_subdomain)
        && name.len() <= 63
        && name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && name.chars().all(|character| alphanumeric(character) || "-_.".contains(character))
}

#[cfg(test)]
mod tests;
