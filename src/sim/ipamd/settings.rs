//! What is set from outside: the environment of aws-node, the instance type, how long EC2 takes.

use std::time::Duration;

use super::version::Version;

/// Addresses of one IPv4 prefix.
pub(super) const PREFIX_SIZE: i64 = 16;

/// The environment of aws-node, as far as it matters to the address pool. [`Settings::default`] is the manifest of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `WARM_ENI_TARGET`; negative counts as 1.
    pub warm_eni_target: i64,
    /// `WARM_IP_TARGET`; 0 is unset.
    pub warm_ip_target: i64,
    /// `MINIMUM_IP_TARGET`; 0 is unset.
    pub minimum_ip_target: i64,
    /// `WARM_PREFIX_TARGET`.
    pub warm_prefix_target: i64,
    /// `MAX_ENI`; below 1 is unset.
    pub max_eni: i64,
    /// `ENABLE_PREFIX_DELEGATION`, since v1.9. Without effect on an instance that is not Nitro.
    pub prefix_delegation: bool,
    /// `AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`.
    pub custom_networking: bool,
    /// `ENABLE_SUBNET_DISCOVERY`, since v1.18.
    pub subnet_discovery: bool,
    /// `ENABLE_POD_ENI`.
    pub pod_eni: bool,
    /// `ENABLE_IPv6`, since v1.10.
    pub ipv6: bool,
    /// `IP_COOLDOWN_PERIOD`, settable since v1.15.0.
    pub cooldown: Duration,
    /// `ENABLE_MULTI_NIC`, since v1.20.0.
    pub multi_nic: bool,
    /// `AWS_MANAGE_ENIS_NON_SCHEDULABLE`, since v1.12.6.
    pub manage_enis_non_schedulable: bool,
    /// `DISABLE_NETWORK_RESOURCE_PROVISIONING` or `ENABLE_IMDS_ONLY_MODE`.
    pub provisioning_disabled: bool,
    /// `DISABLE_METRICS`.
    pub metrics_disabled: bool,
    /// `DISABLE_INTROSPECTION`.
    pub introspection_disabled: bool,
}

/// The cooldown of releases in which it cannot be set, and the default of the others.
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(30);

impl Default for Settings {
    fn default() -> Self {
        Self {
            warm_eni_target: 1,
            warm_ip_target: 0,
            minimum_ip_target: 0,
            warm_prefix_target: 1,
            max_eni: -1,
            prefix_delegation: false,
            custom_networking: false,
            subnet_discovery: true,
            pod_eni: false,
            ipv6: false,
            cooldown: DEFAULT_COOLDOWN,
            multi_nic: false,
            manage_enis_non_schedulable: false,
            provisioning_disabled: false,
            metrics_disabled: false,
            introspection_disabled: false,
        }
    }
}

impl Settings {
    /// What a release makes of them: what it does not know yet has no effect.
    #[must_use]
    pub(super) fn understood_by(&self, version: Version) -> Self {
        let since = |set: bool, first: Version| set && version >= first;
        Self {
            warm_eni_target: if self.warm_eni_target < 0 { 1 } else { self.warm_eni_target },
            warm_ip_target: self.warm_ip_target.max(0),
            minimum_ip_target: self.minimum_ip_target.max(0),
            warm_prefix_target: self.warm_prefix_target.max(0),
            prefix_delegation: since(self.prefix_delegation, Version(1, 9, 0)),
            subnet_discovery: since(self.subnet_discovery, Version(1, 18, 0)),
            ipv6: since(self.ipv6, Version(1, 10, 0)),
            cooldown: if version >= Version(1, 15, 0) { self.cooldown } else { DEFAULT_COOLDOWN },
            multi_nic: since(self.multi_nic, Version(1, 20, 0)),
            manage_enis_non_schedulable: since(self.manage_enis_non_schedulable, Version(1, 12, 6)),
            provisioning_disabled: since(self.provisioning_disabled, Version(1, 19, 6)),
            ..self.clone()
        }
    }
}

/// What an instance type allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// ENIs per network card.
    pub enis: i64,
    /// IPv4 addresses per ENI, its primary one included.
    pub addresses_per_eni: i64,
    /// Network cards.
    pub cards: u32,
    /// Prefixes need Nitro.
    pub nitro: bool,
}

impl Instance {
    /// An `m5.large`: 3 ENIs of 10 addresses.
    pub fn m5_large() -> Self {
        Self { enis: 3, addresses_per_eni: 10, cards: 1, nitro: true }
    }

    /// A `t3.small`: 3 ENIs of 4 addresses.
    pub fn t3_small() -> Self {
        Self { enis: 3, addresses_per_eni: 4, cards: 1, nitro: true }
    }

    /// Addresses or prefixes that an ENI can carry beside its primary address.
    pub(super) fn slots(&self) -> i64 {
        (self.addresses_per_eni - 1).max(0)
    }
}

/// How long things take. Plausible, not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From the start of the process to its first EC2 call.
    pub startup: Duration,
    /// `AssignPrivateIpAddresses`, `UnassignPrivateIpAddresses`.
    pub assign: Duration,
    /// `CreateNetworkInterface`.
    pub create: Duration,
    /// `AttachNetworkInterface`, `DetachNetworkInterface`.
    pub attach: Duration,
    /// `ModifyNetworkInterfaceAttribute`, `DeleteNetworkInterface`.
    pub modify: Duration,
    /// Until IMDS shows a new ENI.
    pub imds: Duration,
    /// Between two tries of the kubelet to start a pod's sandbox.
    pub sandbox_retry: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            startup: Duration::from_secs(3),
            assign: Duration::from_millis(500),
            create: Duration::from_millis(700),
            attach: Duration::from_millis(1_300),
            modify: Duration::from_millis(300),
            imds: Duration::from_millis(5_000),
            sandbox_retry: Duration::from_secs(12),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_ignores_what_it_does_not_know() {
        let set = Settings {
            prefix_delegation: true,
            ipv6: true,
            multi_nic: true,
            cooldown: Duration::from_secs(5),
            warm_eni_target: -3,
            ..Settings::default()
        };
        let old = set.understood_by(Version(1, 8, 0));
        assert!(!old.prefix_delegation && !old.ipv6 && !old.multi_nic && !old.subnet_discovery);
        assert_eq!((old.cooldown, old.warm_eni_target), (Duration::from_secs(30), 1));
        let new = set.understood_by(Version(1, 23, 1));
        assert_eq!(new, Settings { warm_eni_target: 1, ..set });
    }
}
