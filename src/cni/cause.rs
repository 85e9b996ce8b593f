//! What the headroom ends at, in words for people.

use std::collections::BTreeMap;
use std::fmt;

use super::growth::State;
use super::limits::{Limit, Limits};
use super::pool::Mode;
use super::subnet::{Refused, SubnetShare};

/// What the words are made of.
#[derive(Clone, Debug)]
pub struct Cause<'a> {
    /// What growth comes up against.
    pub state: State,
    /// The limit that the reachable headroom ends at, if anything is known.
    pub binding: Option<Limit>,
    /// How large each limit is.
    pub limits: &'a Limits,
    /// What is in a slot.
    pub mode: Mode,
    /// Refusals by EC2 since the pool last grew.
    pub refusals: u64,
    /// The subnets that refused lately.
    pub refused: Option<Refused>,
    /// The subnets that the node holds addresses of.
    pub subnets: &'a BTreeMap<String, SubnetShare>,
    /// What may explain a pool that hangs.
    pub hint: Option<&'static str>,
}

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            State::IpamdDown => f.write_str("ipamd answers neither introspection nor metrics"),
            State::ProvisioningDisabled => f.write_str("settings of the CNI forbid it to attach addresses"),
            State::NodeUnschedulable => f.write_str("cordoned: ipamd does not grow"),
            State::SubnetExhausted => self.refusal(f),
            State::Throttled => f.write_str("EC2 throttles its calls: growth takes longer"),
            State::Stalled => {
                let hint = self.hint.unwrap_or("see ipamd.log");
                write!(f, "ipamd should have got addresses for minutes and has not; {hint}")
            }
            State::AtInstanceLimit => self.limit(f, Limit::InstanceLimit),
            State::AtMaxPods => self.limit(f, Limit::MaxPods),
            State::ConfigCeiling => self.limit(f, Limit::ConfigCeiling),
            State::Ok => self.limit(f, self.binding.unwrap_or(Limit::AddressPool)),
        }
    }
}

impl Cause<'_> {
    fn refusal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lately = self.refused.as_ref().map(|refused| refused.subnets.clone()).filter(|subnets| !subnets.is_empty());
        let held = || self.subnets.keys().cloned().collect::<Vec<_>>().join(" or ");
        let subnet = Some(lately.unwrap_or_else(held)).filter(|subnets| !subnets.is_empty());
        let subnet = subnet.unwrap_or_else(|| "the subnet".to_owned());
        let full = match self.mode {
            Mode::Secondary => "full",
            Mode::Prefix => "fragmented or full",
        };
        match self.refusals {
            0 => write!(f, "{subnet} is {full}: EC2 refused before this agent started"),
            1 => write!(f, "{subnet} is {full}: EC2 refused once since the pool last grew"),
            times => write!(f, "{subnet} is {full}: EC2 refused {times} times since the pool last grew"),
        }
    }

    fn limit(&self, f: &mut fmt::Formatter<'_>, limit: Limit) -> fmt::Result {
        let number = |of: Option<i64>| of.map_or_else(|| "unknown".to_owned(), |of| of.to_string());
        match limit {
            Limit::InstanceLimit => write!(f, "instance limit of {} addresses", number(self.limits.instance)),
            Limit::MaxPods => write!(f, "max-pods {}", number(self.limits.max_pods)),
            Limit::ConfigCeiling => {
                let ceiling = number(self.limits.configured);
                write!(f, "MINIMUM_IP_TARGET without WARM_IP_TARGET: ceiling of {ceiling}")
            }
            Limit::AddressPool | Limit::Subnet => f.write_str("how far the pool can grow is not known"),
        }
    }
}
