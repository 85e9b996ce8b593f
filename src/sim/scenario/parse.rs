//! From a file's text to a [`Scenario`]: the raw shapes that TOML gives, and every check that a type alone cannot make.
//!
//! Every refusal names file, line, what is wrong and what would be valid: a misspelt key that is silently ignored would
//! make a scenario prove something else than it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;

use super::{
    ActorDoes, ActorEvent, AgentEvent, AgentSpec, ApiEvent, ApiFault, Budget, BudgetChange, Event, Expect, FencePart,
    ImdsEvent, ImdsFault, Limit, NodeSpec, Notice, Phase, PodGroup, Scenario, ScenarioError, StopsAfter, Taint, What,
};
use crate::config::OnBlockedEviction;

/// Longest time that a scenario may name: a day.
const MAX_SECONDS: f64 = 86_400.0;
/// Most pods in one scenario. A node has 110 by default and rarely more than 250.
const MAX_PODS: u32 = 500;
/// Reasons of Events that an expectation may name.
const EVENT_REASONS: [&str; 11] = [
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
    notice: Option<Notice>,
    #[serde(default)]
    node: NodeSpec,
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
        notice: document.notice,
        node: document.node,
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
        self.check_pods()?;
        self.check_budgets()?;
        for event in &self.events {
            self.check_event(event.get_ref()).map_err(|message| (event.span(), message))?;
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
            if !pod.arrives.is_zero() && pod.phase != Phase::Running {
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
            What::Actor(ActorEvent {
                does: ActorDoes::Evict { pods, .. } | ActorDoes::Delete { pods, .. }, ..
            }) => pods.iter().try_for_each(|group| known("pod group", group, &self.group_names())),
            What::Actor(_) | What::Imds(_) | What::Api(_) | What::Agent(_) => Ok(()),
        }
    }

    fn check_expect(&self, expect: &Expect) -> Result<(), String> {
        for reason in expect.events.keys() {
            known("Event reason", reason, &EVENT_REASONS)?;
        }
        expect.min_granted.keys().try_for_each(|group| known("pod group", group, &self.group_names()))
    }

    fn group_names(&self) -> Vec<&str> {
        self.pods.iter().map(|group| group.get_ref().name.as_str()).collect()
    }
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

/// A number of seconds, whole or not.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(SecondsVisitor)
}

/// A number of seconds that may be absent.
pub(super) fn some_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    seconds(deserializer).map(Some)
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of seconds between 0 and {MAX_SECONDS}")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Duration, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Duration, E> {
        if (0.0..=MAX_SECONDS).contains(&value) {
            Ok(Duration::from_secs_f64(value))
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }
}

impl<'de> Deserialize<'de> for StopsAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Word(String),
        }
        match Raw::deserialize(deserializer) {
            Ok(Raw::Number(value)) => SecondsVisitor.visit_f64(value).map(Self::Time),
            Ok(Raw::Word(word)) if word == "never" => Ok(Self::Never),
            Ok(Raw::Word(_)) | Err(_) => Err(de::Error::custom("expected a number of seconds or \"never\"")),
        }
    }
}

/// The setting's words, as the command line has them.
pub(super) fn on_blocked_eviction<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OnBlockedEviction>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "delete" => Ok(Some(OnBlockedEviction::Delete)),
        "wait" => Ok(Some(OnBlockedEviction::Wait)),
        other => Err(de::Error::custom(format!("unknown value {other:?}, expected \"delete\" or \"wait\""))),
    }
}

impl TryFrom<String> for Taint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = "expected \"key=value:effect\" or \"key:effect\" with NoSchedule, PreferNoSchedule or NoExecute";
        let (rest, effect) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} is no taint: {valid}"))?;
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        if key.is_empty() || !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            return Err(format!("{text:?} is no taint: {valid}"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBudget {
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
pub(super) struct RawBudgetChange {
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
pub(super) struct RawEvent {
    #[serde(deserialize_with = "seconds")]
    at: Duration,
    budget: Option<BudgetChange>,
    imds: Option<ImdsEvent>,
    api: Option<ApiEvent>,
    agent: Option<AgentEvent>,
    actor: Option<ActorEvent>,
}

impl TryFrom<RawEvent> for Event {
    type Error = String;

    fn try_from(raw: RawEvent) -> Result<Self, String> {
        let all = [
            raw.budget.map(What::Budget),
            raw.imds.map(What::Imds),
            raw.api.map(What::Api),
            raw.agent.map(What::Agent),
            raw.actor.map(What::Actor),
        ];
        let mut given = all.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(what), None) => Ok(Self { at: raw.at, what }),
            _ => Err("an event needs `at` and exactly one of `budget`, `imds`, `api`, `agent` and `actor`".into()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawImdsEvent {
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
pub(super) struct RawApiEvent {
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

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawActorDoes {
    Evict,
    Delete,
    Cordon,
    Taint,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawActorEvent {
    name: String,
    does: RawActorDoes,
    pods: Option<Vec<String>>,
    grace: Option<u32>,
    taint: Option<Taint>,
}

impl TryFrom<RawActorEvent> for ActorEvent {
    type Error = String;

    fn try_from(raw: RawActorEvent) -> Result<Self, String> {
        let does = match (raw.does, raw.pods, raw.grace, raw.taint) {
            (RawActorDoes::Evict, Some(pods), grace, None) => ActorDoes::Evict { pods, grace },
            (RawActorDoes::Delete, Some(pods), grace, None) => ActorDoes::Delete { pods, grace },
            (RawActorDoes::Cordon, None, None, None) => ActorDoes::Cordon,
            (RawActorDoes::Taint, None, None, Some(taint)) => ActorDoes::Taint(taint),
            _ => {
                return Err("an actor that does `evict` or `delete` needs `pods` (names of pod groups) and may have \
                            `grace`; `taint` needs `taint`; `cordon` needs nothing"
                    .into());
            }
        };
        Ok(Self { name: raw.name, does })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Scenario::parse("try.toml", text).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_shortest_scenario_has_only_a_title() {
        let scenario = Scenario::parse("dir/quiet-node.toml", "title = \"Nothing\"").unwrap();
        assert_eq!(scenario.name, "quiet-node");
        assert_eq!(scenario.notice, None);
        assert!(scenario.pods.is_empty() && scenario.events.is_empty());
    }

    #[test]
    fn a_full_scenario_keeps_every_word() {
        let text = r#"
title = "t"
[notice]
action = "stop"
lead = 20
[agent]
on_blocked_eviction = "wait"
safety_margin = 1.5
[[pods]]
name = "web"
count = 2
stops_after = "never"
owner = "StatefulSet"
[[budgets]]
name = "web"
selector = { app = "web" }
min_available = 2
[[events]]
at = 9
actor = { name = "node-group", does = "delete", pods = ["web"], grace = 300 }
[[events]]
at = 4
api = { fault = "slow", latency = 0.5, for = 3 }
[expect]
outcomes = { graceful = 2 }
"#;
        let scenario = Scenario::parse("t.toml", text).unwrap();
        let notice = scenario.notice.unwrap();
        assert_eq!((notice.at.as_secs(), notice.lead.as_secs()), (3, 20));
        assert_eq!(scenario.agent.on_blocked_eviction, Some(OnBlockedEviction::Wait));
        assert_eq!(scenario.agent.safety_margin, Some(Duration::from_millis(1500)));
        assert_eq!(scenario.pods[0].stops_after, StopsAfter::Never);
        assert_eq!(scenario.budgets[0].limit, Limit::MinAvailable(2));
        assert_eq!(scenario.events[0].at, Duration::from_secs(4), "events are in order of time");
        let slow = ApiEvent { fault: ApiFault::Slow(Duration::from_millis(500)), lasts: Duration::from_secs(3) };
        assert_eq!(scenario.events[0].what, What::Api(slow));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_valid_keys() {
        let message = refusal("title = \"t\"\n\n[[pods]]\nname = \"a\"\ngraec = 3\n");
        assert!(message.starts_with("try.toml:5: unknown field `graec`, expected one of `name`, `count`"), "{message}");
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_its_line() {
        let message = refusal("title = \"t\"\n[notice]\nlead = -1\n");
        assert!(message.starts_with("try.toml:3:") && message.contains("between 0 and 86400"), "{message}");
    }

    #[test]
    fn what_the_parser_does_not_understand_is_refused_with_its_line() {
        assert!(refusal("title = \"t\"\nbroken\n").starts_with("try.toml:2:"));
        assert!(refusal("").contains("missing field `title`"));
    }

    #[test]
    fn a_reference_to_nothing_is_refused_with_its_line_and_what_there_is() {
        let pods = "title = \"t\"\n[[pods]]\nname = \"web\"\n";
        let message = refusal(&format!(
            "{pods}[[events]]\nat = 1\nactor = {{ name = \"a\", does = \"evict\", pods = [\"wbe\"] }}\n"
        ));
        assert_eq!(message, "try.toml:4: no pod group is called \"wbe\"; there is web");
        let message =
            refusal(&format!("{pods}[[budgets]]\nname = \"b\"\nselector = {{ app = \"x\" }}\nmin_available = 1\n"));
        assert!(message.starts_with("try.toml:4: the selector of budget \"b\" matches no pod group"), "{message}");
        let message = refusal(&format!("{pods}[expect]\nevents = {{ Drained = 1 }}\n"));
        assert!(
            message.starts_with("try.toml:4: no Event reason is called \"Drained\"; there is SpotInterr"),
            "{message}"
        );
    }

    #[test]
    fn contradictions_are_refused_with_what_would_be_valid() {
        let budget = "title = \"t\"\n[[pods]]\nname = \"a\"\n[[budgets]]\nname = \"b\"\nselector = { app = \"a\" }\n";
        assert!(refusal(budget).contains("exactly one of `min_available` and `max_unavailable`"));
        let event = |what: &str| refusal(&format!("title = \"t\"\n[[events]]\nat = 1\n{what}\n"));
        assert!(event("").contains("exactly one of `budget`, `imds`"));
        assert!(
            event("api = { fault = \"slow\", for = 3 }").starts_with("try.toml:4: the fault `slow` needs `latency`")
        );
        assert!(event("api = { fault = \"gone\" }").contains("needs `for`"));
        assert!(event("actor = { name = \"a\", does = \"cordon\", grace = 3 }").contains("`cordon` needs nothing"));
        assert!(event("actor = { name = \"a\", does = \"taint\", taint = \"x\" }").contains("key=value:effect"));
        assert!(
            refusal("title = \"t\"\n[[pods]]\nname = \"a\"\n[[pods]]\nname = \"a\"\n").starts_with("try.toml:4: two")
        );
        assert!(refusal("title = \"t\"\n[[pods]]\nname = \"A\"\n").contains("cannot name a pod group"));
        assert!(refusal("title = \"t\"\n[[pods]]\nname = \"a\"\ncount = 501\n").contains("1 to 500 pods"));
        assert!(refusal("title = \"t\"\n[[pods]]\nname = \"a\"\nstops_after = \"soon\"\n").contains("or \"never\""));
    }

    /// The keys that are valid where `text` has the key `nonsense`, as the refusal lists them.
    fn valid_keys(text: &str) -> Vec<String> {
        let message = refusal(text);
        let (_, list) = message.split_once("expected").unwrap_or_else(|| panic!("{message}"));
        list.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
    }

    #[test]
    fn the_page_for_people_names_every_key() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scenarios.md")).unwrap();
        let tables = [
            "",
            "[notice]\n",
            "[node]\n",
            "[agent]\n",
            "[[pods]]\n",
            "[[budgets]]\n",
            "[[events]]\n",
            "[[events]]\nbudget.",
            "[[events]]\nimds.",
            "[[events]]\napi.",
            "[[events]]\nagent.",
            "[[events]]\nactor.",
            "[expect]\n",
        ];
        for table in tables {
            let keys = valid_keys(&format!("{table}nonsense = 1\n"));
            assert!(!keys.is_empty(), "{table}");
            for key in keys {
                let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                assert!(words.clone().any(|word| word == key), "{table}: {key} is not in docs/scenarios.md");
            }
        }
    }

    #[test]
    fn the_example_for_people_is_valid() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scenarios.md")).unwrap();
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let scenario = Scenario::parse("example.toml", example).unwrap();
        assert_eq!(scenario.events.len(), 1);
    }

    #[test]
    fn a_scenario_at_half_its_length_keeps_its_proportions() {
        let text = "title = \"t\"\n[notice]\nlead = 120\n[[pods]]\nname = \"a\"\ngrace = 45\nstops_after = 36\narrives = 13\n\
                    [[events]]\nat = 23\napi = { fault = \"gone\", for = 10 }\n[expect]\nmin_granted = { a = 29 }\n";
        let half = Scenario::parse("t.toml", text).unwrap().scaled(0.5);
        let notice = half.notice.unwrap();
        assert_eq!((notice.at.as_secs(), notice.lead.as_secs()), (3, 60));
        assert_eq!((half.pods[0].grace, half.pods[0].stops_after), (23, StopsAfter::Time(Duration::from_secs(18))));
        assert_eq!(half.pods[0].arrives, Duration::from_secs(8));
        assert_eq!(half.events[0].at, Duration::from_secs(13));
        let gone = ApiEvent { fault: ApiFault::Gone, lasts: Duration::from_secs(5) };
        assert_eq!(half.events[0].what, What::Api(gone));
        assert_eq!(half.expect.min_granted["a"], 14);
    }
}
