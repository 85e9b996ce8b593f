//! The raw shapes of events and budgets, and what only the whole of one can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::values::{seconds, some_seconds};
use crate::sim::scenario::{
    ActorDoes, ActorEvent, AgentEvent, ApiEvent, ApiFault, Budget, BudgetChange, CniEvent, Event, FencePart, ImdsEvent,
    ImdsFault, InstanceEvent, KeyValue, Limit, NodeExpect, RawDocument, RebalanceEvent, ScheduledChange, Taint, What,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawBudget {
    name: String,
    selector: BTreeMap<String, String>,
    min_available: Option<u32>,
    max_unavailable: Option<u32>,
}

impl TryFrom<RawBudget> for Budget {
    type Error = String;

    fn try_from(raw: RawBudget) -> Result<Self, String> {
        let limit = limit(&raw.name, raw.min_available, raw.max_unavailable)?;
        Ok(Self { name: raw.name, selector: raw.selector, limit })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawBudgetChange {
    name: String,
    min_available: Option<u32>,
    max_unavailable: Option<u32>,
}

impl TryFrom<RawBudgetChange> for BudgetChange {
    type Error = String;

    fn try_from(raw: RawBudgetChange) -> Result<Self, String> {
        let limit = limit(&raw.name, raw.min_available, raw.max_unavailable)?;
        Ok(Self { name: raw.name, limit })
    }
}

fn limit(name: &str, min_available: Option<u32>, max_unavailable: Option<u32>) -> Result<Limit, String> {
    match (min_available, max_unavailable) {
        (Some(pods), None) => Ok(Limit::MinAvailable(pods)),
        (None, Some(pods)) => Ok(Limit::MaxUnavailable(pods)),
        _ => Err(format!("budget {name:?} needs exactly one of `min_available` and `max_unavailable`")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawEvent {
    #[serde(deserialize_with = "seconds")]
    at: Duration,
    budget: Option<BudgetChange>,
    imds: Option<ImdsEvent>,
    api: Option<ApiEvent>,
    agent: Option<AgentEvent>,
    actor: Option<ActorEvent>,
    rebalance: Option<RebalanceEvent>,
    scheduled: Option<ScheduledChange>,
    lifecycle: Option<String>,
    raw: Option<RawDocument>,
    instance: Option<InstanceEvent>,
    cni: Option<CniEvent>,
    look: Option<NodeExpect>,
}

/// The keys beside `at`, for people.
const KINDS: &str = "`rebalance`, `scheduled`, `lifecycle`, `raw`, `instance`, `imds`, `api`, `agent`, `actor`, `budget`, \
                     `cni` and `look`";

impl TryFrom<RawEvent> for Event {
    type Error = String;

    fn try_from(raw: RawEvent) -> Result<Self, String> {
        let all = [
            raw.budget.map(What::Budget),
            raw.imds.map(What::Imds),
            raw.api.map(What::Api),
            raw.agent.map(What::Agent),
            raw.actor.map(What::Actor),
            raw.rebalance.map(What::Rebalance),
            raw.scheduled.map(What::Scheduled),
            raw.lifecycle.map(What::Lifecycle),
            raw.raw.map(What::Raw),
            raw.instance.map(What::Instance),
            raw.cni.map(What::Cni),
            raw.look.map(What::Look),
        ];
        let mut given = all.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(what), None) => Ok(Self { at: raw.at, what }),
            _ => Err(format!("an event needs `at` and exactly one of {KINDS}")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawImdsEvent {
    fault: ImdsFault,
    #[serde(default, rename = "for", deserialize_with = "some_seconds")]
    lasts: Option<Duration>,
}

impl TryFrom<RawImdsEvent> for ImdsEvent {
    type Error = String;

    fn try_from(raw: RawImdsEvent) -> Result<Self, String> {
        let lasts = duration("tokens-expire", raw.fault == ImdsFault::TokensExpire, raw.lasts)?;
        Ok(Self { fault: raw.fault, lasts })
    }
}

/// How long a fault lasts: every fault says it but the one that happens once.
fn duration(once: &str, happens_once: bool, lasts: Option<Duration>) -> Result<Duration, String> {
    match (happens_once, lasts) {
        (true, None) => Ok(Duration::ZERO),
        (true, Some(_)) => Err(format!("the fault `{once}` happens once; it has no `for`")),
        (false, Some(lasts)) => Ok(lasts),
        (false, None) => Err("the fault needs `for`: how many seconds it lasts".into()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawApiFault {
    Slow,
    Gone,
    Throttled,
    Unavailable,
    Compacted,
    Denied,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawApiEvent {
    fault: RawApiFault,
    #[serde(default, rename = "for", deserialize_with = "some_seconds")]
    lasts: Option<Duration>,
    #[serde(default, deserialize_with = "some_seconds")]
    latency: Option<Duration>,
    part: Option<FencePart>,
}

impl TryFrom<RawApiEvent> for ApiEvent {
    type Error = String;

    fn try_from(raw: RawApiEvent) -> Result<Self, String> {
        let fault = match (raw.fault, raw.latency, raw.part) {
            (RawApiFault::Slow, Some(latency), None) => ApiFault::Slow(latency),
            (RawApiFault::Slow, ..) => return Err("the fault `slow` needs `latency` (seconds) and no `part`".into()),
            (RawApiFault::Denied, None, Some(part)) => ApiFault::Denied(part),
            (RawApiFault::Denied, ..) => {
                return Err(
                    "the fault `denied` needs `part` (taint, cordon, label or annotation) and no `latency`".into()
                );
            }
            (RawApiFault::Gone, None, None) => ApiFault::Gone,
            (RawApiFault::Throttled, None, None) => ApiFault::Throttled,
            (RawApiFault::Unavailable, None, None) => ApiFault::Unavailable,
            (RawApiFault::Compacted, None, None) => ApiFault::Compacted,
            _ => return Err("`latency` belongs to the fault `slow`, `part` to `denied`".into()),
        };
        let lasts = duration("compacted", fault == ApiFault::Compacted, raw.lasts)?;
        Ok(Self { fault, lasts })
    }
}

/// What can happen to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawInstanceDoes {
    Reboot,
    Terminate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawInstanceEvent {
    does: RawInstanceDoes,
    #[serde(default, deserialize_with = "some_seconds")]
    back_after: Option<Duration>,
}

impl TryFrom<RawInstanceEvent> for InstanceEvent {
    type Error = String;

    fn try_from(raw: RawInstanceEvent) -> Result<Self, String> {
        if (raw.does == RawInstanceDoes::Reboot) != raw.back_after.is_some() {
            return Err(
                "an instance that does `reboot` needs `back_after`; `terminate` is for good and has none".into()
            );
        }
        Ok(Self { back_after: raw.back_after })
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawActorDoes {
    Evict,
    Delete,
    Drain,
    Cordon,
    Uncordon,
    Taint,
    Untaint,
    Label,
    Unlabel,
    Annotate,
    Unannotate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sim::scenario) struct RawActorEvent {
    name: String,
    does: RawActorDoes,
    pods: Option<Vec<String>>,
    grace: Option<u32>,
    taint: Option<Taint>,
    label: Option<String>,
    annotation: Option<String>,
}

impl TryFrom<RawActorEvent> for ActorEvent {
    type Error = String;

    fn try_from(raw: RawActorEvent) -> Result<Self, String> {
        use RawActorDoes as Does;
        let RawActorEvent { name, does, pods, grace, taint, label, annotation } = raw;
        let pair = |text: String| KeyValue::try_from(text);
        let does = match (does, pods, grace, taint, label, annotation) {
            (Does::Evict, Some(pods), grace, None, None, None) => ActorDoes::Evict { pods, grace },
            (Does::Delete, Some(pods), grace, None, None, None) => ActorDoes::Delete { pods, grace },
            (Does::Drain, None, grace, None, None, None) => ActorDoes::Drain { grace },
            (Does::Cordon, None, None, None, None, None) => ActorDoes::Cordon,
            (Does::Uncordon, None, None, None, None, None) => ActorDoes::Uncordon,
            (Does::Taint, None, None, Some(taint), None, None) => ActorDoes::Taint(taint),
            (Does::Untaint, None, None, Some(taint), None, None) => ActorDoes::Untaint(taint),
            (Does::Label, None, None, None, Some(label), None) => ActorDoes::Label(pair(label)?),
            (Does::Unlabel, None, None, None, Some(key), None) => ActorDoes::Unlabel(key),
            (Does::Annotate, None, None, None, None, Some(annotation)) => ActorDoes::Annotate(pair(annotation)?),
            (Does::Unannotate, None, None, None, None, Some(key)) => ActorDoes::Unannotate(key),
            _ => {
                return Err(
                    "an actor that does `evict` or `delete` needs `pods` (names of pod groups), and these and \
                            `drain` may have `grace`; `taint` and `untaint` need `taint`; `label` and `unlabel` need \
                            `label`; `annotate` and `unannotate` need `annotation`; `cordon` needs nothing, nor does \
                            `uncordon`"
                        .into(),
                );
            }
        };
        Ok(Self { name, does })
    }
}
