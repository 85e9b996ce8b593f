//! The raw shapes of what is said of the VPC CNI.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::values::some_seconds;
use crate::cni::growth::State;
use crate::cni::limits::Limit;
use crate::cni::source::{Confidence, Source};
use crate::sim::ipamd::{Api, Endpoint, Refusal, Version};
use crate::sim::scenario::{CniEvent, CniFault, CniSpec, Environment, HeadroomExpect, HeadroomStory, Span, SubnetSpec};

/// A release of the CNI.
pub(in crate::sim::scenario) fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| de::Error::custom(format!("{text:?} is {error}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawSubnet {
    id: String,
    cidr: String,
}

impl TryFrom<RawSubnet> for SubnetSpec {
    type Error = String;

    fn try_from(raw: RawSubnet) -> Result<Self, String> {
        let parts = raw.cidr.split_once('/');
        let read = parts.and_then(|(base, len)| Some((base.parse::<Ipv4Addr>().ok()?, len.parse::<u8>().ok()?)));
        let (base, len) = read.filter(|(_, len)| (16..=28).contains(len)).ok_or_else(|| {
            format!("{:?} is no IPv4 subnet of EC2: write \"10.8.1.0/24\", from /16 to /28", raw.cidr)
        })?;
        Ok(Self { id: raw.id, base, len })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(in crate::sim::scenario) enum RawSpan {
    One(i64),
    Two([i64; 2]),
}

impl TryFrom<RawSpan> for Span {
    type Error = String;

    fn try_from(raw: RawSpan) -> Result<Self, String> {
        match raw {
            RawSpan::One(number) => Ok(Self { from: number, to: number }),
            RawSpan::Two([from, to]) if from <= to => Ok(Self { from, to }),
            RawSpan::Two([from, to]) => Err(format!("[{from}, {to}] is empty; write [least, largest]")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawCniDoes {
    Restart,
    Kill,
    Upgrade,
    Set,
    Fill,
    Fragment,
    Empty,
    Refuse,
    Allow,
    Trunk,
    Hangs,
    CatchAll,
    Malformed,
    Huge,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawCniEvent {
    does: RawCniDoes,
    version: Option<String>,
    settings: Option<Environment>,
    subnet: Option<String>,
    free: Option<u32>,
    blocks: Option<u32>,
    call: Option<String>,
    code: Option<String>,
    endpoint: Option<String>,
    #[serde(default, rename = "for", deserialize_with = "some_seconds")]
    lasts: Option<Duration>,
}

/// What each needs, for people.
const NEEDS: &str = "`restart`, `kill` and `trunk` need nothing; `upgrade` needs `version`, `set` needs `settings`, `fill` \
                     needs `free`, `fragment` needs `blocks` (these and `empty` may have `subnet`), `refuse` needs `call` \
                     and `code`, `allow` needs `call`; `hangs`, `catch-all`, `malformed` and `huge` need `for` and may \
                     have `endpoint`";

impl TryFrom<RawCniEvent> for CniEvent {
    type Error = String;

    fn try_from(raw: RawCniEvent) -> Result<Self, String> {
        use RawCniDoes as Does;
        let given = [
            (raw.version.is_some(), "version"),
            (raw.settings.is_some(), "settings"),
            (raw.subnet.is_some(), "subnet"),
            (raw.free.is_some(), "free"),
            (raw.blocks.is_some(), "blocks"),
            (raw.call.is_some(), "call"),
            (raw.code.is_some(), "code"),
            (raw.endpoint.is_some(), "endpoint"),
            (raw.lasts.is_some(), "for"),
        ];
        let valid: &[&str] = match raw.does {
            Does::Restart | Does::Kill | Does::Trunk => &[],
            Does::Upgrade => &["version"],
            Does::Set => &["settings"],
            Does::Fill => &["subnet", "free"],
            Does::Fragment => &["subnet", "blocks"],
            Does::Empty => &["subnet"],
            Does::Refuse => &["call", "code"],
            Does::Allow => &["call"],
            Does::Hangs | Does::CatchAll | Does::Malformed | Does::Huge => &["endpoint", "for"],
        };
        if given.iter().any(|(given, key)| *given && !valid.contains(key)) {
            return Err(NEEDS.into());
        }
        let subnet = raw.subnet;
        Ok(match raw.does {
            Does::Restart => Self::Restart,
            Does::Kill => Self::Kill,
            Does::Trunk => Self::Trunk,
            Does::Upgrade => {
                let text = raw.version.ok_or(NEEDS)?;
                Self::Upgrade(text.parse().map_err(|error| format!("{text:?} is {error}"))?)
            }
            Does::Set => Self::Set(Box::new(raw.settings.ok_or(NEEDS)?)),
            Does::Fill => Self::Fill { subnet, free: raw.free.ok_or(NEEDS)? },
            Does::Fragment => Self::Fragment { subnet, blocks: raw.blocks.ok_or(NEEDS)? },
            Does::Empty => Self::Empty { subnet },
            Does::Refuse => Self::Refuse(call(&raw.call.ok_or(NEEDS)?)?, code(&raw.code.ok_or(NEEDS)?)?),
            Does::Allow => Self::Allow(call(&raw.call.ok_or(NEEDS)?)?),
            Does::Hangs | Does::CatchAll | Does::Malformed | Does::Huge => {
                let fault = match raw.does {
                    Does::Hangs => CniFault::Hangs,
                    Does::CatchAll => CniFault::CatchAll,
                    Does::Malformed => CniFault::Malformed,
                    _ => CniFault::Huge,
                };
                let endpoint = raw.endpoint.as_deref().map(endpoint).transpose()?;
                Self::Fault { fault, endpoint, lasts: raw.lasts.ok_or(NEEDS)? }
            }
        })
    }
}

/// The one of `all` that is called `given`.
fn one<T: Copy>(what: &str, given: &str, all: &[T], name: impl Fn(&T) -> &'static str) -> Result<T, String> {
    let valid = || all.iter().map(|one| format!("{:?}", name(one))).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|one| name(one) == given).copied();
    found.ok_or_else(|| format!("{given:?} is no {what}; there is {}", valid()))
}

fn call(given: &str) -> Result<Api, String> {
    let all =
        [Api::Assign, Api::Unassign, Api::Create, Api::Attach, Api::Modify, Api::Detach, Api::Delete, Api::Describe];
    one("call of ipamd to EC2", given, &all, |api| api.name())
}

fn code(given: &str) -> Result<Refusal, String> {
    let all = [
        Refusal::InsufficientFreeAddressesInSubnet,
        Refusal::InsufficientCidrBlocks,
        Refusal::InvalidParameterValue,
        Refusal::PrivateIpAddressLimitExceeded,
        Refusal::AttachmentLimitExceeded,
        Refusal::RequestLimitExceeded,
        Refusal::UnauthorizedOperation,
    ];
    one("refusal of EC2", given, &all, |refusal| refusal.code())
}

fn endpoint(given: &str) -> Result<Endpoint, String> {
    let name = |endpoint: &Endpoint| match endpoint {
        Endpoint::Introspection => "introspection",
        Endpoint::Metrics => "metrics",
    };
    one("endpoint of ipamd", given, &[Endpoint::Introspection, Endpoint::Metrics], name)
}

impl CniSpec {
    /// What a type alone cannot tell.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=500).contains(&self.max_pods) {
            return Err(format!("`max_pods` is {}, and a node takes 1 to 500", self.max_pods));
        }
        let instance =
            [("enis", self.enis, 15), ("addresses_per_eni", self.addresses_per_eni, 50), ("cards", self.cards, 32)];
        for (key, value, most) in instance {
            if !(1..=most).contains(&value) {
                return Err(format!("`{key}` is {value}, and no instance type has that; 1 to {most} are valid"));
            }
        }
        if self.subnets.is_empty() {
            return Err("`subnets` is empty; the primary interface needs one".into());
        }
        self.pod_subnet.as_ref().map_or(Ok(()), |subnet| self.knows(subnet))
    }

    /// Whether a subnet that is named is there.
    pub(super) fn knows(&self, subnet: &str) -> Result<(), String> {
        let names: Vec<&str> = self.subnets.iter().map(|subnet| subnet.id.as_str()).collect();
        super::known("subnet", subnet, &names)
    }

    /// Whether an event can happen here.
    pub(super) fn check_event(&self, event: &CniEvent) -> Result<(), String> {
        match event {
            CniEvent::Fill { subnet, .. } | CniEvent::Fragment { subnet, .. } | CniEvent::Empty { subnet } => {
                subnet.as_ref().map_or(Ok(()), |subnet| self.knows(subnet))
            }
            _ => Ok(()),
        }
    }
}

fn is_state(word: &str) -> Result<(), String> {
    super::known("growth state", word, &State::ALL.map(State::as_str))
}

fn is_limit(word: &str) -> Result<(), String> {
    super::known("limit", word, &Limit::ALL.map(Limit::as_str))
}

fn is_source(word: &str) -> Result<(), String> {
    let names: Vec<&str> = Source::ALL.into_iter().map(Source::as_str).chain(["none"]).collect();
    super::known("source", word, &names)
}

impl HeadroomExpect {
    /// What a type alone cannot tell.
    pub(super) fn check(&self) -> Result<(), String> {
        let confidences = [Confidence::Exact, Confidence::Estimate].map(Confidence::as_str);
        self.state.as_deref().map_or(Ok(()), is_state)?;
        self.binding.as_deref().map_or(Ok(()), is_limit)?;
        self.source.as_deref().map_or(Ok(()), is_source)?;
        self.confidence.as_deref().map_or(Ok(()), |word| super::known("confidence", word, &confidences))
    }
}

impl HeadroomStory {
    /// What a type alone cannot tell.
    pub(super) fn check(&self) -> Result<(), String> {
        self.states.iter().flatten().try_for_each(|word| is_state(word))?;
        self.bindings.iter().flatten().try_for_each(|word| is_limit(word))?;
        self.sources.iter().flatten().try_for_each(|word| is_source(word))
    }
}
