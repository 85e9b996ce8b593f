//! The VPC CNI of a simulated node: its ipamd, what happens to it, and what the agent must make of it.

use std::time::Duration;

use super::parse;
use crate::sim::ipamd::{Api, Endpoint, Refusal, Settings, Version};

/// An ipamd, and the instance and the subnets that it manages addresses of.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CniSpec {
    /// The release.
    #[serde(deserialize_with = "parse::version")]
    pub version: Version,
    /// `status.allocatable.pods`, which ipamd reads too.
    pub max_pods: u32,
    /// Network interfaces of the instance type, on each network card.
    pub enis: u32,
    /// Addresses of one interface, its own included.
    pub addresses_per_eni: u32,
    /// Network cards of the instance type.
    pub cards: u32,
    /// The environment of aws-node.
    pub settings: Environment,
    /// The first one is the primary interface's.
    pub subnets: Vec<SubnetSpec>,
    /// The subnet of the node's ENIConfig, for custom networking.
    pub pod_subnet: Option<String>,
}

impl Default for CniSpec {
    /// An m5.large with the latest release and a subnet of its own.
    fn default() -> Self {
        Self {
            version: Version(1, 23, 1),
            max_pods: 29,
            enis: 3,
            addresses_per_eni: 10,
            cards: 1,
            settings: Environment::default(),
            subnets: vec![SubnetSpec { id: "subnet-0123456789abcdef0".into(), base: [10, 8, 1, 0].into(), len: 24 }],
            pod_subnet: None,
        }
    }
}

/// A subnet in which ipamd may have interfaces.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "parse::RawSubnet")]
pub struct SubnetSpec {
    /// `subnet-…`.
    pub id: String,
    /// Its first address.
    pub base: std::net::Ipv4Addr,
    /// Length of its prefix.
    pub len: u8,
}

/// Variables of aws-node under their own names; what is absent has the default of the manifest that AWS publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Environment {
    /// Interfaces kept in reserve.
    pub warm_eni_target: Option<i64>,
    /// Addresses kept in reserve.
    pub warm_ip_target: Option<i64>,
    /// Least number of addresses.
    pub minimum_ip_target: Option<i64>,
    /// Prefixes kept in reserve.
    pub warm_prefix_target: Option<i64>,
    /// Most interfaces.
    pub max_eni: Option<i64>,
    /// Prefixes instead of single addresses.
    pub enable_prefix_delegation: Option<bool>,
    /// Custom networking.
    pub aws_vpc_k8s_cni_custom_network_cfg: Option<bool>,
    /// New interfaces go to whichever subnet has most free addresses.
    pub enable_subnet_discovery: Option<bool>,
    /// A place is kept for the trunk interface.
    pub enable_pod_eni: Option<bool>,
    /// IPv6 alone.
    #[serde(rename = "ENABLE_IPv6")]
    pub enable_ipv6: Option<bool>,
    /// Seconds that an address rests.
    pub ip_cooldown_period: Option<u32>,
    /// Pods may have an interface on every network card.
    pub enable_multi_nic: Option<bool>,
    /// Interfaces are managed on a cordoned node too.
    pub aws_manage_enis_non_schedulable: Option<bool>,
    /// Nothing is attached.
    pub disable_network_resource_provisioning: Option<bool>,
    /// No metrics.
    pub disable_metrics: Option<bool>,
    /// No introspection.
    pub disable_introspection: Option<bool>,
}

impl Environment {
    /// As ipamd has it.
    pub fn settings(&self) -> Settings {
        let default = Settings::default();
        let cooldown = self.ip_cooldown_period.map(|seconds| Duration::from_secs(seconds.into()));
        Settings {
            warm_eni_target: self.warm_eni_target.unwrap_or(default.warm_eni_target),
            warm_ip_target: self.warm_ip_target.unwrap_or(default.warm_ip_target),
            minimum_ip_target: self.minimum_ip_target.unwrap_or(default.minimum_ip_target),
            warm_prefix_target: self.warm_prefix_target.unwrap_or(default.warm_prefix_target),
            max_eni: self.max_eni.unwrap_or(default.max_eni),
            prefix_delegation: self.enable_prefix_delegation.unwrap_or(default.prefix_delegation),
            custom_networking: self.aws_vpc_k8s_cni_custom_network_cfg.unwrap_or(default.custom_networking),
            subnet_discovery: self.enable_subnet_discovery.unwrap_or(default.subnet_discovery),
            pod_eni: self.enable_pod_eni.unwrap_or(default.pod_eni),
            ipv6: self.enable_ipv6.unwrap_or(default.ipv6),
            cooldown: cooldown.unwrap_or(default.cooldown),
            multi_nic: self.enable_multi_nic.unwrap_or(default.multi_nic),
            manage_enis_non_schedulable: self
                .aws_manage_enis_non_schedulable
                .unwrap_or(default.manage_enis_non_schedulable),
            provisioning_disabled: self.disable_network_resource_provisioning.unwrap_or(default.provisioning_disabled),
            metrics_disabled: self.disable_metrics.unwrap_or(default.metrics_disabled),
            introspection_disabled: self.disable_introspection.unwrap_or(default.introspection_disabled),
        }
    }

    /// As the pod of aws-node has it: every variable that the manifest of AWS sets, and what differs from it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings();
        let number = |value: Option<i64>| value.map(|value| value.to_string());
        let all = [
            ("WARM_ENI_TARGET", Some(settings.warm_eni_target.to_string())),
            ("WARM_IP_TARGET", number(self.warm_ip_target)),
            ("MINIMUM_IP_TARGET", number(self.minimum_ip_target)),
            ("WARM_PREFIX_TARGET", Some(settings.warm_prefix_target.to_string())),
            ("MAX_ENI", number(self.max_eni)),
            ("ENABLE_PREFIX_DELEGATION", Some(settings.prefix_delegation.to_string())),
            ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", Some(settings.custom_networking.to_string())),
            ("ENABLE_SUBNET_DISCOVERY", Some(settings.subnet_discovery.to_string())),
            ("ENABLE_POD_ENI", Some(settings.pod_eni.to_string())),
            ("ENABLE_IPv6", Some(settings.ipv6.to_string())),
            ("IP_COOLDOWN_PERIOD", self.ip_cooldown_period.map(|seconds| seconds.to_string())),
            ("ENABLE_MULTI_NIC", self.enable_multi_nic.map(|on| on.to_string())),
            ("AWS_MANAGE_ENIS_NON_SCHEDULABLE", self.aws_manage_enis_non_schedulable.map(|on| on.to_string())),
            ("DISABLE_NETWORK_RESOURCE_PROVISIONING", Some(settings.provisioning_disabled.to_string())),
            ("DISABLE_METRICS", Some(settings.metrics_disabled.to_string())),
            ("DISABLE_INTROSPECTION", Some(settings.introspection_disabled.to_string())),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Something happens to ipamd, to its subnets or to EC2.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "parse::RawCniEvent")]
pub enum CniEvent {
    /// ipamd ends and starts again.
    Restart,
    /// ipamd ends and stays away.
    Kill,
    /// Another release takes over.
    Upgrade(Version),
    /// aws-node is rolled out with another environment.
    Set(Box<Environment>),
    /// Others take addresses of a subnet until so many are left.
    Fill {
        /// Its id; absent = the first one.
        subnet: Option<String>,
        /// Addresses left.
        free: u32,
    },
    /// Others take one address of each free block of a subnet, but of so many.
    Fragment {
        /// Its id; absent = the first one.
        subnet: Option<String>,
        /// Whole blocks left.
        blocks: u32,
    },
    /// Others leave a subnet.
    Empty {
        /// Its id; absent = the first one.
        subnet: Option<String>,
    },
    /// EC2 refuses a call.
    Refuse(Api, Refusal),
    /// EC2 refuses a call no longer.
    Allow(Api),
    /// A trunk interface is attached.
    Trunk,
    /// An endpoint misbehaves.
    Fault {
        /// How.
        fault: CniFault,
        /// Which; absent = both.
        endpoint: Option<Endpoint>,
        /// For how long.
        lasts: Duration,
    },
}

/// How an endpoint of ipamd misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CniFault {
    /// It accepts and never answers.
    Hangs,
    /// It answers 200 with the list of its commands, as on an unknown path.
    CatchAll,
    /// It sends half of the document as if it were the whole.
    Malformed,
    /// It sends more than anybody should hold.
    Huge,
}

/// What must be true of the headroom at one moment; what is absent is not judged.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadroomExpect {
    /// Pods that could start now, by the agent's word and in truth.
    pub now: Option<Span>,
    /// Pods that could start once the pool has grown, by the agent's word and in truth.
    pub reachable: Option<Span>,
    /// The binding limit.
    pub binding: Option<String>,
    /// The growth state.
    pub state: Option<String>,
    /// Where the figures come from, or `none`.
    pub source: Option<String>,
    /// `exact` or `estimate`.
    pub confidence: Option<String>,
    /// Seconds until the free addresses are used up.
    pub exhausted_now: Option<Span>,
    /// Seconds until everything that can be reached is used up.
    pub exhausted_reachable: Option<Span>,
    /// The forecast names an end of the free addresses.
    pub falling: Option<bool>,
    /// No address is free and some are resting.
    pub starved: Option<bool>,
    /// Interfaces attached, in truth.
    pub enis: Option<Span>,
    /// Pods that wait for an address, in truth.
    pub waiting: Option<Span>,
}

/// What must be true of the headroom over the whole world; what is absent is not judged.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadroomStory {
    /// The growth states in the order in which they were seen.
    pub states: Option<Vec<String>>,
    /// The binding limits in the order in which they were seen.
    pub bindings: Option<Vec<String>>,
    /// The sources in the order in which they were in use.
    pub sources: Option<Vec<String>>,
    /// Pods that found no address when they came.
    pub waited: Option<Span>,
}

/// A whole number, or the least and the largest of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "parse::RawSpan")]
pub struct Span {
    /// The least.
    pub from: i64,
    /// The largest.
    pub to: i64,
}

impl Span {
    /// Whether `number` is one of them.
    pub fn contains(self, number: i64) -> bool {
        (self.from..=self.to).contains(&number)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{} to {}", self.from, self.to) }
    }
}
