//! The settings of the aws-node pod on the own node, as ipamd understands them.
//!
//! `/v1/ipamd-env-settings` has a few of them as the running process sees them, and wins; the rest is in the pod's spec. A
//! value that comes from elsewhere (`valueFrom`) is unknown, and unknown is not the default.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The variables of the container `aws-node` by name; `None` for a value that the pod's spec does not hold.
pub type Environment = BTreeMap<String, Option<String>>;

/// The variables that are read.
pub const VARIABLES: [&str; 15] = [
    "WARM_ENI_TARGET",
    "WARM_IP_TARGET",
    "MINIMUM_IP_TARGET",
    "WARM_PREFIX_TARGET",
    "ENABLE_PREFIX_DELEGATION",
    "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
    "ENABLE_POD_ENI",
    "ENABLE_IPv6",
    "IP_COOLDOWN_PERIOD",
    "AWS_MANAGE_ENIS_NON_SCHEDULABLE",
    "DISABLE_NETWORK_RESOURCE_PROVISIONING",
    "ENABLE_IMDS_ONLY_MODE",
    "DISABLE_LEAKED_ENI_CLEANUP",
    "DISABLE_METRICS",
    "DISABLE_INTROSPECTION",
];

/// How long an address rests unless set otherwise.
const DEFAULT_COOLDOWN: i64 = 30;

/// What is known of each setting; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Interfaces kept in reserve; counts only where no other target is set.
    pub warm_eni: Option<i64>,
    /// Addresses kept in reserve; 0 is unset.
    pub warm_ip: Option<i64>,
    /// Least number of addresses; 0 is unset.
    pub minimum_ip: Option<i64>,
    /// Prefixes kept in reserve.
    pub warm_prefix: Option<i64>,
    /// Prefixes are asked for, which an instance type may not offer.
    pub prefix_delegation: Option<bool>,
    /// Pods never get addresses of the primary interface.
    pub custom_networking: Option<bool>,
    /// A place is kept for the trunk interface.
    pub pod_eni: Option<bool>,
    /// Pods get IPv6 addresses alone.
    pub ipv6: Option<bool>,
    /// Seconds that an address rests after its pod.
    pub cooldown: Option<i64>,
    /// ipamd manages interfaces on a cordoned node too.
    pub manage_unschedulable: Option<bool>,
    /// ipamd attaches nothing: either of two settings says so.
    pub provisioning_disabled: Option<bool>,
    /// Interfaces that were left behind are not collected.
    pub leak_cleanup_disabled: Option<bool>,
    /// A part of what is read here is switched off.
    pub blinded: Option<bool>,
    /// Some variable comes from elsewhere.
    pub indirect: bool,
}

/// The answer of `/v1/ipamd-env-settings`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Running {
    #[serde(rename = "WARM_IP_TARGET")]
    warm_ip: Option<i64>,
    #[serde(rename = "WARM_ENI_TARGET")]
    warm_eni: Option<i64>,
    #[serde(rename = "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG")]
    custom_networking: Option<bool>,
    #[serde(rename = "AWS_MANAGE_ENIS_NON_SCHEDULABLE")]
    manage_unschedulable: Option<bool>,
}

/// Reads the answer of `/v1/ipamd-env-settings`; `None` if it is something else, the list of commands say.
pub fn running(body: &[u8]) -> Option<Running> {
    let running: Running = serde_json::from_slice(body).ok()?;
    (running != Running::default()).then_some(running)
}

impl Settings {
    /// Puts together what the pod's spec and the running process say.
    pub fn of(environment: Option<&Environment>, running: Option<&Running>) -> Self {
        let pod = environment.map(Self::of_pod).unwrap_or_default();
        let Some(running) = running else { return pod };
        Self {
            warm_ip: running.warm_ip.map(|target| sane(target, 0)).or(pod.warm_ip),
            warm_eni: running.warm_eni.map(|target| sane(target, 1)).or(pod.warm_eni),
            custom_networking: running.custom_networking.or(pod.custom_networking),
            manage_unschedulable: running.manage_unschedulable.or(pod.manage_unschedulable),
            ..pod
        }
    }

    fn of_pod(environment: &Environment) -> Self {
        let number = |name: &str, default: i64| lookup(environment, name, default, |text| text.parse().ok());
        let target = |name: &str, default: i64| number(name, default).map(|value| sane(value, default));
        let switch = |name: &str| lookup(environment, name, false, parse_bool);
        let either = |one: &str, other: &str| match (switch(one), switch(other)) {
            (Some(false), Some(false)) => Some(false),
            (Some(true), _) | (_, Some(true)) => Some(true),
            _ => None,
        };
        Self {
            warm_eni: target("WARM_ENI_TARGET", 1),
            warm_ip: target("WARM_IP_TARGET", 0),
            minimum_ip: target("MINIMUM_IP_TARGET", 0),
            warm_prefix: target("WARM_PREFIX_TARGET", 0),
            prefix_delegation: switch("ENABLE_PREFIX_DELEGATION"),
            custom_networking: switch("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"),
            pod_eni: switch("ENABLE_POD_ENI"),
            ipv6: switch("ENABLE_IPv6"),
            cooldown: target("IP_COOLDOWN_PERIOD", DEFAULT_COOLDOWN),
            manage_unschedulable: switch("AWS_MANAGE_ENIS_NON_SCHEDULABLE"),
            provisioning_disabled: either("DISABLE_NETWORK_RESOURCE_PROVISIONING", "ENABLE_IMDS_ONLY_MODE"),
            leak_cleanup_disabled: switch("DISABLE_LEAKED_ENI_CLEANUP"),
            blinded: either("DISABLE_METRICS", "DISABLE_INTROSPECTION"),
            indirect: environment.values().any(Option::is_none),
        }
    }

    /// Seconds that an address rests; ipamd's default where it is unknown.
    pub fn cooldown_seconds(&self) -> i64 {
        self.cooldown.unwrap_or(DEFAULT_COOLDOWN)
    }

    /// Whether a target of addresses replaces those of interfaces and prefixes; `None` if that hangs on an unknown value.
    pub fn targets_defined(&self) -> Option<bool> {
        match (self.warm_ip, self.minimum_ip) {
            (Some(0), Some(0)) => Some(false),
            (Some(1..), _) | (_, Some(1..)) => Some(true),
            _ => None,
        }
    }
}

/// A negative target counts as not set, and no node can have more addresses than this.
fn sane(target: i64, default: i64) -> i64 {
    if target < 0 { default } else { target.min(i64::from(i32::MAX)) }
}

/// The value of a variable: the default if it is not set or cannot be read, `None` if it comes from elsewhere.
fn lookup<T>(environment: &Environment, name: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    match environment.get(name) {
        None => Some(default),
        Some(None) => None,
        Some(Some(text)) => Some(parse(text).unwrap_or(default)),
    }
}

/// As Go reads a boolean.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, Option<&str>)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    }

    #[test]
    fn what_is_not_set_has_the_default_of_the_code() {
        let settings = Settings::of(Some(&Environment::new()), None);
        assert_eq!(settings.warm_eni, Some(1));
        assert_eq!((settings.warm_ip, settings.minimum_ip, settings.warm_prefix), (Some(0), Some(0), Some(0)));
        assert_eq!((settings.cooldown_seconds(), settings.targets_defined()), (30, Some(false)));
        assert_eq!((settings.provisioning_disabled, settings.indirect), (Some(false), false));
    }

    #[test]
    fn without_the_pod_everything_is_unknown_but_the_cooldown_is_assumed() {
        let settings = Settings::of(None, None);
        assert_eq!((settings.warm_eni, settings.targets_defined(), settings.cooldown_seconds()), (None, None, 30));
    }

    #[test]
    fn a_value_from_elsewhere_is_unknown_and_not_the_default() {
        let settings = Settings::of(Some(&environment(&[("MINIMUM_IP_TARGET", None)])), None);
        assert_eq!((settings.minimum_ip, settings.targets_defined(), settings.indirect), (None, None, true));
        let settings =
            Settings::of(Some(&environment(&[("MINIMUM_IP_TARGET", None), ("WARM_IP_TARGET", Some("2"))])), None);
        assert_eq!(settings.targets_defined(), Some(true));
    }

    #[test]
    fn values_are_read_as_go_reads_them_and_odd_ones_count_as_not_set() {
        for (text, expected) in [("t", true), ("TRUE", true), ("1", true), ("yes", false), ("F", false), ("", false)] {
            let settings = Settings::of(Some(&environment(&[("ENABLE_POD_ENI", Some(text))])), None);
            assert_eq!(settings.pod_eni, Some(expected), "{text}");
        }
        for (text, expected) in [("0", 0), ("45", 45), ("-1", 30), ("soon", 30)] {
            let settings = Settings::of(Some(&environment(&[("IP_COOLDOWN_PERIOD", Some(text))])), None);
            assert_eq!(settings.cooldown_seconds(), expected, "{text}");
        }
        assert_eq!(Settings::of(Some(&environment(&[("WARM_ENI_TARGET", Some("-3"))])), None).warm_eni, Some(1));
    }

    #[test]
    fn either_switch_stops_provisioning() {
        for name in ["DISABLE_NETWORK_RESOURCE_PROVISIONING", "ENABLE_IMDS_ONLY_MODE"] {
            let settings = Settings::of(Some(&environment(&[(name, Some("true"))])), None);
            assert_eq!(settings.provisioning_disabled, Some(true), "{name}");
        }
    }

    #[test]
    fn the_running_process_knows_better_than_the_pods_spec() {
        let body = br#"{"AWS_MANAGE_ENIS_NON_SCHEDULABLE":true,"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG":false,"ENABLE_SUBNET_DISCOVERY":true,"WARM_ENI_TARGET":1,"WARM_IP_TARGET":5}"#;
        let pod = environment(&[("WARM_IP_TARGET", Some("2")), ("MINIMUM_IP_TARGET", Some("9"))]);
        let settings = Settings::of(Some(&pod), running(body).as_ref());
        assert_eq!((settings.warm_ip, settings.minimum_ip), (Some(5), Some(9)));
        assert_eq!(settings.manage_unschedulable, Some(true));
    }

    #[test]
    fn the_list_of_commands_is_no_answer() {
        assert_eq!(running(br#"{"AvailableCommands":["/v1/enis"]}"#), None);
        for body in [b"".as_slice(), b"Not Found", b"{\"WARM_IP_TARGET\":\"x\"}"] {
            assert_eq!(running(body), None);
        }
    }
}
