//! What can be set: one table for the command line, the environment, the help text and the check for unknown names.
//!
//! A flag wins over its environment variable, which wins over the default. An empty variable counts as not set, so that a
//! manifest can leave a value blank.

use std::collections::BTreeMap;

/// One thing that can be set.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The long flag without its dashes.
    pub flag: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// Placeholder in the help text.
    pub value_name: &'static str,
    /// What applies if nothing is given.
    pub default: Option<&'static str>,
    /// One sentence for the help text.
    pub help: &'static str,
}

/// Every setting of `run`. Names that the ecosystem already has are used as they are.
pub const SETTINGS: [Setting; 39] = [
    Setting {
        flag: "node-name",
        env: "NODE_NAME",
        value_name: "NAME",
        default: None,
        help: "Name of the Node that the agent runs on; in a pod from the downward API (spec.nodeName)",
    },
    Setting {
        flag: "kubeconfig",
        env: "KUBECONFIG",
        value_name: "FILE",
        default: None,
        help: "Where to find the API server when not running in a pod",
    },
    Setting {
        flag: "on-spot-interruption",
        env: "SPOTWARDEN_ON_SPOT_INTERRUPTION",
        value_name: "RESPONSE",
        default: Some("drain"),
        help: "Response to a spot interruption notice: ignore, observe, taint, cordon or drain",
    },
    Setting {
        flag: "on-rebalance-recommendation",
        env: "SPOTWARDEN_ON_REBALANCE_RECOMMENDATION",
        value_name: "RESPONSE",
        default: Some("taint"),
        help: "Response to a rebalance recommendation: ignore, observe, taint, cordon or drain",
    },
    Setting {
        flag: "on-scheduled-event",
        env: "SPOTWARDEN_ON_SCHEDULED_EVENT",
        value_name: "RESPONSE",
        default: Some("drain"),
        help: "Response to a scheduled event, timed to its NotBefore: ignore, observe, taint, cordon or drain",
    },
    Setting {
        flag: "on-asg-termination",
        env: "SPOTWARDEN_ON_ASG_TERMINATION",
        value_name: "RESPONSE",
        default: Some("drain"),
        help: "Response to the auto scaling group taking the instance out of service: ignore, observe, taint, cordon or drain",
    },
    Setting {
        flag: "rebalance-expiry",
        env: "SPOTWARDEN_REBALANCE_EXPIRY",
        value_name: "DURATION",
        default: Some("4h"),
        help: "When the marks of a rebalance recommendation go if no interruption follows",
    },
    Setting {
        flag: "scheduled-event-lead",
        env: "SPOTWARDEN_SCHEDULED_EVENT_LEAD",
        value_name: "DURATION",
        default: Some("10m"),
        help: "How long before a scheduled event the full response begins; until then the node has a soft taint",
    },
    Setting {
        flag: "asg-hook-timeout",
        env: "SPOTWARDEN_ASG_HOOK_TIMEOUT",
        value_name: "DURATION",
        default: Some("5m"),
        help: "Time that the termination hook of the auto scaling group leaves; set the hook's heartbeat to the same",
    },
    Setting {
        flag: "on-blocked-eviction",
        env: "SPOTWARDEN_ON_BLOCKED_EVICTION",
        value_name: "RESPONSE",
        default: Some("delete"),
        help: "When a budget still refuses an eviction at the pod's latest start: delete the pod, or wait",
    },
    Setting {
        flag: "shutdown-tail",
        env: "SPOTWARDEN_SHUTDOWN_TAIL",
        value_name: "DURATION",
        default: Some("0s"),
        help: "How long the kubelet lets pods run on after the instance is told to stop",
    },
    Setting {
        flag: "safety-margin",
        env: "SPOTWARDEN_SAFETY_MARGIN",
        value_name: "DURATION",
        default: Some("3s"),
        help: "Time kept free between a pod's end and the deadline",
    },
    Setting {
        flag: "load-balancer-wait",
        env: "SPOTWARDEN_LOAD_BALANCER_WAIT",
        value_name: "DURATION",
        default: Some("0s"),
        help: "How long evictions wait, out of a pod's slack, for load balancers to let go of the node",
    },
    Setting {
        flag: "shutdown-grace-by-priority",
        env: "SPOTWARDEN_SHUTDOWN_GRACE_BY_PRIORITY",
        value_name: "YAML",
        default: None,
        help: "Order and shares of the drain by pod priority: the kubelet's shutdownGracePeriodByPodPriority, scaled to the time left",
    },
    Setting {
        flag: "spot-poll-interval",
        env: "SPOTWARDEN_SPOT_POLL_INTERVAL",
        value_name: "DURATION",
        default: Some("1s"),
        help: "How often the metadata service is asked for a spot interruption notice; at least 1s",
    },
    Setting {
        flag: "rebalance-poll-interval",
        env: "SPOTWARDEN_REBALANCE_POLL_INTERVAL",
        value_name: "DURATION",
        default: Some("5s"),
        help: "How often the metadata service is asked for a rebalance recommendation",
    },
    Setting {
        flag: "asg-poll-interval",
        env: "SPOTWARDEN_ASG_POLL_INTERVAL",
        value_name: "DURATION",
        default: Some("5s"),
        help: "How often the metadata service is asked for the target lifecycle state",
    },
    Setting {
        flag: "scheduled-poll-interval",
        env: "SPOTWARDEN_SCHEDULED_POLL_INTERVAL",
        value_name: "DURATION",
        default: Some("30s"),
        help: "How often the metadata service is asked for scheduled events",
    },
    Setting {
        flag: "node-marks",
        env: "SPOTWARDEN_NODE_MARKS",
        value_name: "STYLE",
        default: Some("spotwarden"),
        help: "Taint keys and labels of the fence: spotwarden or aws-node-termination-handler",
    },
    Setting {
        flag: "taint-key",
        env: "SPOTWARDEN_TAINT_KEY",
        value_name: "KEY",
        default: Some("spotwarden/interruption"),
        help: "Key of the taint that fences the node",
    },
    Setting {
        flag: "taint-effect",
        env: "SPOTWARDEN_TAINT_EFFECT",
        value_name: "EFFECT",
        default: Some("NoSchedule"),
        help: "Effect of the taint that fences the node: NoSchedule or PreferNoSchedule",
    },
    Setting {
        flag: "cni-headroom",
        env: "SPOTWARDEN_CNI_HEADROOM",
        value_name: "MODE",
        default: Some("auto"),
        help: "Whether the headroom of pod addresses is watched where the Amazon VPC CNI answers: auto or off",
    },
    Setting {
        flag: "cni-introspection-address",
        env: "SPOTWARDEN_CNI_INTROSPECTION_ADDRESS",
        value_name: "ADDRESS",
        default: Some("127.0.0.1:61679"),
        help: "Where ipamd answers questions, as its INTROSPECTION_BIND_ADDRESS has it: host:port or unix:/path",
    },
    Setting {
        flag: "cni-metrics-address",
        env: "SPOTWARDEN_CNI_METRICS_ADDRESS",
        value_name: "ADDRESS",
        default: Some("127.0.0.1:61678"),
        help: "Where ipamd serves its metrics: host:port or unix:/path",
    },
    Setting {
        flag: "pod-ip-exhaustion-taint",
        env: "SPOTWARDEN_POD_IP_EXHAUSTION_TAINT",
        value_name: "BOOL",
        default: Some("false"),
        help: "Taint the node (spotwarden/pod-ips-exhausted:NoSchedule) while no pod can get an address here, now or later",
    },
    Setting {
        flag: "otlp-headers-file",
        env: "SPOTWARDEN_OTLP_HEADERS_FILE",
        value_name: "FILE",
        default: None,
        help: "Headers for the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, as name=value lines; read again when it changes",
    },
    Setting {
        flag: "alertmanager-url",
        env: "SPOTWARDEN_ALERTMANAGER_URL",
        value_name: "URLS",
        default: None,
        help: "Alertmanagers that are told of interruptions, with commas between their base URLs",
    },
    Setting {
        flag: "alertmanager-auth-file",
        env: "SPOTWARDEN_ALERTMANAGER_AUTH_FILE",
        value_name: "FILE",
        default: None,
        help: "File with the value of the Authorization header for Alertmanager",
    },
    Setting {
        flag: "slack-webhook-url-file",
        env: "SPOTWARDEN_SLACK_WEBHOOK_URL_FILE",
        value_name: "FILE",
        default: None,
        help: "File with the URL of an incoming webhook of Slack, one message for each node",
    },
    Setting {
        flag: "webhook-url-file",
        env: "SPOTWARDEN_WEBHOOK_URL_FILE",
        value_name: "FILE",
        default: None,
        help: "File with the URL of a webhook that gets each message as a POST",
    },
    Setting {
        flag: "webhook-template-file",
        env: "SPOTWARDEN_WEBHOOK_TEMPLATE_FILE",
        value_name: "FILE",
        default: None,
        help: "Template of the webhook's body, with fields such as {{node}}; without one every fact as JSON",
    },
    Setting {
        flag: "webhook-content-type",
        env: "SPOTWARDEN_WEBHOOK_CONTENT_TYPE",
        value_name: "TYPE",
        default: Some("application/json"),
        help: "What the webhook's body is: application/json or text/plain",
    },
    Setting {
        flag: "notify-on",
        env: "SPOTWARDEN_NOTIFY_ON",
        value_name: "KINDS",
        default: Some("all"),
        help: "What Alertmanager, Slack and the webhook are told of: all, or kinds of notices with commas between them",
    },
    Setting {
        flag: "notify-link",
        env: "SPOTWARDEN_NOTIFY_LINK",
        value_name: "URL",
        default: None,
        help: "Link in messages, for instance to a dashboard; {node} stands for the node's name",
    },
    Setting {
        flag: "cluster-name",
        env: "SPOTWARDEN_CLUSTER_NAME",
        value_name: "NAME",
        default: None,
        help: "Name of the cluster in messages; the same as the label cluster of its metrics",
    },
    Setting {
        flag: "dry-run",
        env: "SPOTWARDEN_DRY_RUN",
        value_name: "BOOL",
        default: Some("false"),
        help: "Decide and report everything, change nothing",
    },
    Setting {
        flag: "admin-address",
        env: "SPOTWARDEN_ADMIN_ADDRESS",
        value_name: "IP:PORT",
        default: Some("0.0.0.0:9808"),
        help: "Where /metrics, /livez, /readyz and / are served",
    },
    Setting {
        flag: "log-format",
        env: "SPOTWARDEN_LOG_FORMAT",
        value_name: "FORMAT",
        default: Some("plain"),
        help: "Shape of log lines on standard error: json or plain",
    },
    Setting {
        flag: "log-level",
        env: "SPOTWARDEN_LOG_LEVEL",
        value_name: "FILTER",
        default: None,
        help: "Log level, or a filter such as info,spotwarden=debug; if not given RUST_LOG applies, else info",
    },
];

/// The prefix of the agent's own variables.
const PREFIX: &str = "SPOTWARDEN_";

/// Environment variables by name. A value that is not UTF-8 has its bad bytes replaced, and then fails its own check.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of all variables, empty ones included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A variable that looks like one of ours and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable `{name}` is not known; did you mean `{nearest}`?")]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The nearest name that is known.
    pub nearest: &'static str,
}

/// Refuses the first name that begins with `SPOTWARDEN_` and belongs to no setting: a mistyped variable would otherwise
/// be found out during an interruption.
pub fn refuse_unknown<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), UnknownVariable> {
    let known = |name: &str| SETTINGS.iter().any(|setting| setting.env == name);
    for name in names.filter(|name| name.starts_with(PREFIX)) {
        if !known(name) && !is_service_link(name) {
            return Err(UnknownVariable { name: name.escape_debug().to_string(), nearest: nearest(name) });
        }
    }
    Ok(())
}

/// Kubernetes puts variables for each Service of the namespace into every container (`enableServiceLinks`, on by
/// default). A Service called `spotwarden` or `spotwarden-metrics` makes names with our prefix.
fn is_service_link(name: &str) -> bool {
    let protocol = |rest: &str| {
        let port = rest.trim_start_matches(|character: char| character.is_ascii_digit());
        port.len() < rest.len() && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| port.starts_with(protocol))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(at, found)| name.get(at + found.len()..).is_some_and(protocol))
}

fn nearest(name: &str) -> &'static str {
    let bare = name.strip_prefix(PREFIX).unwrap_or(name);
    let distance = |setting: &Setting| {
        let known = setting.env.strip_prefix(PREFIX).unwrap_or(setting.env);
        edit_distance(bare, known)
    };
    SETTINGS.iter().min_by_key(|setting| distance(setting)).map_or("", |setting| setting.env)
}

/// Levenshtein's distance in bytes.
pub(crate) fn edit_distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (deleted, left) in from.bytes().enumerate() {
        let mut diagonal = deleted;
        let mut previous = deleted + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(to.bytes()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = deleted + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_variable_follows_its_flag_unless_the_ecosystem_has_a_name() {
        for setting in SETTINGS {
            let derived = format!("{PREFIX}{}", setting.flag.to_ascii_uppercase().replace('-', "_"));
            assert!(setting.env == derived || ["NODE_NAME", "KUBECONFIG"].contains(&setting.env), "{}", setting.env);
        }
    }

    #[rstest]
    #[case("SPOTWARDEN_SHUTDOWN_TAIL_SECONDS", "SPOTWARDEN_SHUTDOWN_TAIL")]
    #[case("SPOTWARDEN_DRYRUN", "SPOTWARDEN_DRY_RUN")]
    #[case("SPOTWARDEN_NODE_NAME", "NODE_NAME")]
    #[case("SPOTWARDEN_ON_SPOT_INTERUPTION", "SPOTWARDEN_ON_SPOT_INTERRUPTION")]
    #[case("SPOTWARDEN_", "SPOTWARDEN_DRY_RUN")]
    fn an_unknown_variable_is_refused_with_the_nearest_known_one(#[case] name: &str, #[case] nearest: &'static str) {
        let error = refuse_unknown([name].into_iter()).unwrap_err();
        assert_eq!(error, UnknownVariable { name: name.into(), nearest });
    }

    #[test]
    fn known_variables_and_those_of_others_pass() {
        let known = SETTINGS.iter().map(|setting| setting.env);
        assert_eq!(refuse_unknown(known.chain(["PATH", "HOME", "SPOTWARDENX", "spotwarden_x"])), Ok(()));
    }

    #[test]
    fn what_kubernetes_adds_for_a_service_of_our_name_passes() {
        let links = [
            "SPOTWARDEN_SERVICE_HOST",
            "SPOTWARDEN_SERVICE_PORT",
            "SPOTWARDEN_SERVICE_PORT_METRICS",
            "SPOTWARDEN_PORT",
            "SPOTWARDEN_PORT_9808_TCP",
            "SPOTWARDEN_PORT_9808_TCP_PROTO",
            "SPOTWARDEN_PORT_9808_TCP_PORT",
            "SPOTWARDEN_PORT_9808_TCP_ADDR",
            "SPOTWARDEN_METRICS_SERVICE_HOST",
            "SPOTWARDEN_METRICS_PORT_53_UDP_ADDR",
        ];
        assert_eq!(refuse_unknown(links.into_iter()), Ok(()));
        assert!(refuse_unknown(["SPOTWARDEN_ADMIN_PORT_NUMBER"].into_iter()).is_err());
    }

    #[test]
    fn no_setting_can_be_taken_for_a_service_link() {
        assert!(SETTINGS.iter().all(|setting| !is_service_link(setting.env)));
    }

    #[rstest]
    #[case("", "", 0)]
    #[case("kitten", "sitting", 3)]
    #[case("", "abc", 3)]
    #[case("abc", "", 3)]
    #[case("abc", "abc", 0)]
    fn the_distance_counts_single_edits(#[case] from: &str, #[case] to: &str, #[case] expected: usize) {
        assert_eq!(edit_distance(from, to), expected);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let environment: Environment = [("A", ""), ("B", "x")].into_iter().collect();
        assert_eq!((environment.get("A"), environment.get("B"), environment.get("C")), (None, Some("x"), None));
    }
}
