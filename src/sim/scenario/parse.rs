//! From a file's text to a [`Scenario`]: the raw shapes that TOML gives, and every check that a type alone cannot make.
//!
//! Every refusal names file, line, what is wrong and what would be valid: a misspelt key that is silently ignored would
//! make a scenario prove something else than it says.

mod cni;
mod events;
mod values;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

pub(super) use self::cni::{RawCniEvent, RawSpan, RawSubnet, version};
pub(super) use self::events::{
    RawActorEvent, RawApiEvent, RawBudget, RawBudgetChange, RawEvent, RawImdsEvent, RawInstanceEvent,
};
pub(super) use self::values::{
    effect, node_marks, on_blocked_eviction, response, seconds, shutdown_grace_by_priority, some_seconds,
};
use super::{
    ActorDoes, ActorEvent, AgentSpec, Budget, CniSpec, Event, EventBecomes, Expect, HeadroomStory, NodeExpect,
    NodeSpec, Notice, Phase, PodGroup, Scenario, ScenarioError, ScheduledChange, Sinks, What,
};

/// Most pods in one scenario. A node has 110 by default and rarely more than 250.
const MAX_PODS: u32 = 500;
/// Reasons of the Events that the agent publishes, and so those that an expectation may name.
pub const EVENT_REASONS: [&str; 11] = [
    "SpotInterruption",
    "RebalanceRecommendation",
    "ScheduledEvent",
    "ASGTermination",
    "Fenced",
    "DrainStarted",
    "DrainFinished",
    "DrainIncomplete",
    "Restored",
    "PodIPsLow",
    "PodIPsExhausted",
];

/// The file as TOML gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default, deserialize_with = "some_seconds")]
    lasts: Option<Duration>,
    virtual_only: Option<String>,
    notice: Option<Notice>,
    #[serde(default)]
    node: NodeSpec,
    cni: Option<Spanned<CniSpec>>,
    #[serde(default)]
    sinks: Sinks,
    #[serde(default)]
    agent: AgentSpec,
    #[serde(default)]
    pods: Vec<Spanned<PodGroup>>,
    #[serde(default)]
    budgets: Vec<Spanned<Budget>>,
    #[serde(default)]
    events: Vec<Spanned<Event>>,
    expect: Option<Spanned<Expect>>,
}

/// Reads a scenario from `text`.
pub(super) fn scenario(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let invalid = |span: Option<Range<usize>>, message: String| ScenarioError::Invalid {
        file: file.to_owned(),
        line: line_of(text, span.map_or(0, |span| span.start)),
        message,
    };
    let document: Document = toml::from_str(text).map_err(|error| invalid(error.span(), one_line(error.message())))?;
    let name = scenario_name(file).map_err(|message| invalid(None, message))?;
    document.check().map_err(|(span, message)| invalid(Some(span), message))?;
    let mut events: Vec<Event> = document.events.into_iter().map(Spanned::into_inner).collect();
    events.sort_by_key(|event| event.at);
    Ok(Scenario {
        name,
        title: document.title,
        description: document.description.trim().to_owned(),
        lasts: document.lasts,
        virtual_only: document.virtual_only,
        notice: document.notice,
        node: document.node,
        cni: document.cni.map(Spanned::into_inner),
        sinks: document.sinks,
        agent: document.agent,
        pods: document.pods.into_iter().map(Spanned::into_inner).collect(),
        budgets: document.budgets.into_iter().map(Spanned::into_inner).collect(),
        events,
        expect: document.expect.map(Spanned::into_inner).unwrap_or_default(),
    })
}

type Refusal = (Range<usize>, String);

impl Document {
    fn check(&self) -> Result<(), Refusal> {
        if let Some(cni) = &self.cni {
            cni.get_ref().check().map_err(|message| (cni.span(), message))?;
        }
        self.check_pods()?;
        self.check_budgets()?;
        let mut scheduled = BTreeSet::new();
        for event in &self.events {
            self.check_event(event.get_ref()).map_err(|message| (event.span(), message))?;
            if let What::Scheduled(change) = &event.get_ref().what {
                check_scheduled(&mut scheduled, change).map_err(|message| (event.span(), message))?;
            }
        }
        if let Some(expect) = &self.expect {
            self.check_expect(expect.get_ref()).map_err(|message| (expect.span(), message))?;
        }
        Ok(())
    }

    fn check_pods(&self) -> Result<(), Refusal> {
        let (mut names, mut total) = (BTreeSet::new(), 0_u32);
        for group in &self.pods {
            let (span, pod) = (group.span(), group.get_ref());
            check_name("a pod group", &pod.name).map_err(|message| (span.clone(), message))?;
            if !names.insert(&pod.name) {
                return Err((
                    span,
                    format!("two pod groups are called {:?}; every group needs a name of its own", pod.name),
                ));
            }
            total = total.saturating_add(pod.count);
            if pod.count == 0 || total > MAX_PODS {
                return Err((
                    span,
                    format!("a scenario has 1 to {MAX_PODS} pods, each group at least one; this is number {total}"),
                ));
            }
            if pod.priority.is_some() && pod.priority_class.is_some() {
                return Err((span, "`priority` comes with a class of its own; drop it or `priority_class`".into()));
            }
            if pod.at_once == 0 || (pod.at_once > 1 && pod.every.is_none()) {
                return Err((
                    span,
                    "`at_once` says how many pods come together `every` so many seconds, at least 1".into(),
                ));
            }
            if pod.comes_later() && pod.phase != Phase::Running {
                return Err((span, "a pod that arrives later arrives running; drop `phase` or `arrives`".into()));
            }
        }
        Ok(())
    }

    fn check_budgets(&self) -> Result<(), Refusal> {
        let mut names = BTreeSet::new();
        for budget in &self.budgets {
            let (span, budget) = (budget.span(), budget.get_ref());
            check_name("a budget", &budget.name).map_err(|message| (span.clone(), message))?;
            if !names.insert(&budget.name) {
                return Err((
                    span,
                    format!("two budgets are called {:?}; every budget needs a name of its own", budget.name),
                ));
            }
            if !self.pods.iter().any(|group| budget.selects(group.get_ref())) {
                let labels = "a group's pods have the label `app` = the group's name, and what `labels` adds";
                return Err((span, format!("the selector of budget {:?} matches no pod group; {labels}", budget.name)));
            }
        }
        Ok(())
    }

    fn check_event(&self, event: &Event) -> Result<(), String> {
        match &event.what {
            What::Budget(change) => {
                let names: Vec<&str> = self.budgets.iter().map(|budget| budget.get_ref().name.as_str()).collect();
                known("budget", &change.name, &names)
            }
            What::Cni(event) => self.the_cni()?.check_event(event),
            What::Look(NodeExpect { headroom: Some(headroom), .. }) => {
                self.the_cni()?;
                headroom.check()
            }
            What::Actor(ActorEvent {
                does: ActorDoes::Evict { pods, .. } | ActorDoes::Delete { pods, .. }, ..
            }) => pods.iter().try_for_each(|group| known("pod group", group, &self.group_names())),
            _ => Ok(()),
        }
    }

    fn the_cni(&self) -> Result<&CniSpec, String> {
        let cni = self.cni.as_ref().map(Spanned::get_ref);
        cni.ok_or_else(|| "the node has no VPC CNI; add a table `[cni]`, which may be empty".to_owned())
    }

    fn check_expect(&self, expect: &Expect) -> Result<(), String> {
        if expect.headroom != HeadroomStory::default() {
            self.the_cni()?;
            expect.headroom.check()?;
        }
        for reason in expect.events.keys() {
            known("Event reason", reason, &EVENT_REASONS)?;
        }
        let groups = expect.min_granted.keys().chain(expect.told.keys()).chain(&expect.untouched);
        if let Some(sink) = expect.sinks.keys().find(|sink| !self.sinks.contains_key(sink)) {
            return Err(format!("there is no sink {0:?}; add [sinks.{0}]", sink.as_str()).replace('"', "`"));
        }
        groups.into_iter().try_for_each(|group| known("pod group", group, &self.group_names()))
    }

    fn group_names(&self) -> Vec<&str> {
        self.pods.iter().map(|group| group.get_ref().name.as_str()).collect()
    }
}

/// What a scheduled event needs when it is named first. Events may be written in any order of time, so the first in the
/// file has to be the first to happen.
fn check_scheduled(seen: &mut BTreeSet<String>, change: &ScheduledChange) -> Result<(), String> {
    let is_new = seen.insert(change.id.clone());
    let is_whole = change.code.is_some() && change.not_before_in.is_some() && change.becomes == EventBecomes::Active;
    if is_new && !is_whole {
        return Err(format!("the scheduled event {:?} needs `code` and `in` when it appears", change.id));
    }
    Ok(())
}

fn known(what: &str, name: &str, names: &[&str]) -> Result<(), String> {
    if names.contains(&name) {
        return Ok(());
    }
    let there = if names.is_empty() { "there is none".to_owned() } else { format!("there is {}", names.join(", ")) };
    Err(format!("no {what} is called {name:?}; {there}"))
}

/// Names become parts of Kubernetes object names (RFC 1123 labels), with an index behind them.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = name.starts_with('-') || name.ends_with('-');
    if name.is_empty() || name.len() > 40 || edges || !name.chars().all(valid) {
        return Err(format!(
            "{name:?} cannot name {what}: 1 to 40 lower case letters, digits and inner hyphens are valid"
        ));
    }
    Ok(())
}

fn scenario_name(file: &str) -> Result<String, String> {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    check_name("a scenario (it comes from the file's name)", stem)?;
    Ok(stem.to_owned())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// A message of the TOML parser on one line.
fn one_line(message: &str) -> String {
    message
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace("expected u32", "expected a whole number from 0 up")
}

#[cfg(test)]
mod tests;
