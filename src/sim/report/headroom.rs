//! The checks of the headroom of pod addresses.

use std::time::Duration;

use serde::Serialize;

use super::Check;
use super::checks::{check, counted};
use crate::sim::scenario::{HeadroomExpect, HeadroomStory, Span};

/// Of one reading: two documents and the settings. Each process of the agent begins with one.
const FIRST_READING: usize = 3;
/// Of a reading that came at the end of the world.
const LAST_READING: usize = 2;
/// ipamd is asked at most once in so long, over the length of the world.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// What the agent says, as far as a change of it is news.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HeadroomSaid {
    /// The growth state.
    pub state: String,
    /// Where the figures come from, or `none`.
    pub source: String,
    /// The binding limit; absent if nothing is known.
    pub binding: Option<String>,
    /// Pods that could start now.
    pub now: Option<i64>,
    /// Pods that could start once the pool has grown.
    pub reachable: Option<i64>,
}

/// What is the case, by ipamd's own books and by trying on a copy of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadroomTruth {
    /// Pods that could start now.
    pub now: i64,
    /// Pods that could start once the pool has grown.
    pub reachable: i64,
    /// Interfaces attached.
    pub enis: i64,
    /// Pods that wait for an address.
    pub waiting: i64,
}

/// The headroom at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadroomFacts {
    /// By the agent's word.
    pub said: HeadroomSaid,
    /// `exact` or `estimate`.
    pub confidence: String,
    /// Seconds until the free addresses are used up.
    pub exhausted_now: Option<f64>,
    /// Seconds until everything that can be reached is used up.
    pub exhausted_reachable: Option<f64>,
    /// No address is free and some are resting.
    pub starved: bool,
    /// In truth; absent if it was not asked for.
    pub truth: Option<HeadroomTruth>,
}

/// The headroom over the whole world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniFacts {
    /// Everything that the agent said, in order of time.
    pub said: Vec<HeadroomSaid>,
    /// The agent's requests to ipamd.
    pub requests: usize,
    /// The largest number of them at one time.
    pub most_at_once: usize,
    /// For how long the agent could ask.
    pub lasted: Duration,
    /// Pods that found no address when they came.
    pub waited: Vec<String>,
}

/// What became of the headroom.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadroomReport {
    /// Growth states in the order in which they were seen.
    pub states: Vec<String>,
    /// Binding limits in the order in which they were seen.
    pub bindings: Vec<String>,
    /// Sources in the order in which they were in use.
    pub sources: Vec<String>,
    /// Pods that could start in the end.
    pub now: Option<i64>,
    /// Pods that could start in the end once the pool has grown.
    pub reachable: Option<i64>,
    /// Pods that found no address when they came.
    pub waited: Vec<String>,
    /// The agent's requests to ipamd.
    pub ipamd_requests: usize,
}

impl HeadroomReport {
    pub(super) fn of(facts: &CniFacts) -> Self {
        let row = |word: &dyn Fn(&HeadroomSaid) -> Option<String>| {
            let mut words: Vec<String> = facts.said.iter().filter_map(word).collect();
            words.dedup();
            words
        };
        let last = facts.said.last();
        Self {
            states: row(&|said| Some(said.state.clone())),
            bindings: row(&|said| said.binding.clone()),
            sources: row(&|said| Some(said.source.clone())),
            now: last.and_then(|said| said.now),
            reachable: last.and_then(|said| said.reachable),
            waited: facts.waited.clone(),
            ipamd_requests: facts.requests,
        }
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let number = |pods: Option<i64>| pods.map_or("unknown".to_owned(), |pods| pods.to_string());
        let mut lines = vec![
            format!(
                "{} more pods now, {} in reach; {} requests to ipamd",
                number(self.now),
                number(self.reachable),
                self.ipamd_requests
            ),
            format!("growth {}; bound by {}; from {}", row(&self.states), row(&self.bindings), row(&self.sources)),
        ];
        if !self.waited.is_empty() {
            lines.push(format!("pods that had to wait for an address: {}", counted(&self.waited)));
        }
        lines
    }
}

/// What is expected of the whole world.
pub(super) fn story(expected: &HeadroomStory, facts: &CniFacts, copies: usize, lives: u32) -> Vec<Check> {
    let report = HeadroomReport::of(facts);
    let rows = [
        ("growth states", &expected.states, &report.states),
        ("binding limits", &expected.bindings, &report.bindings),
        ("sources", &expected.sources, &report.sources),
    ];
    let rows = rows.into_iter().filter_map(|(what, expected, found)| {
        let expected = expected.as_ref()?;
        Some(check(format!("the {what} are in turn {}", row(expected)), expected == found, row(found)))
    });
    let waited = expected.waited.map(|span| {
        let number = i64::try_from(facts.waited.len()).unwrap_or(i64::MAX);
        check(format!("pods that had to wait for an address: {span}"), span.contains(number), counted(&facts.waited))
    });
    let mut checks: Vec<Check> = rows.chain(waited).collect();
    let spans = usize::try_from(facts.lasted.as_secs() / ASKED_EVERY.as_secs()).unwrap_or(usize::MAX);
    let lives = usize::try_from(lives).unwrap_or(usize::MAX);
    let most =
        spans.saturating_add(LAST_READING).saturating_mul(copies).saturating_add(lives.saturating_mul(FIRST_READING));
    let passed = facts.requests <= most && facts.most_at_once <= copies;
    let found = format!("{} requests in {} s, {} at once", facts.requests, facts.lasted.as_secs(), facts.most_at_once);
    checks.push(check("ipamd is asked at most once in 10 seconds, and one thing at a time", passed, found));
    checks
}

/// What is expected of one moment; `when` goes before each name.
pub(super) fn moment(when: &str, expected: &HeadroomExpect, found: Option<&HeadroomFacts>) -> Vec<Check> {
    let named = |what: String, passed: bool, found: String| check(format!("{when}{what}"), passed, found);
    let Some(facts) = found else {
        return vec![named("the agent tells a headroom".into(), false, "it does not".into())];
    };
    let truth = facts.truth.unwrap_or_default();
    let mut checks = Vec::new();
    for (what, span, said, truth) in [
        ("pods that could start now", expected.now, facts.said.now, truth.now),
        ("pods in reach", expected.reachable, facts.said.reachable, truth.reachable),
    ] {
        let Some(span) = span else { continue };
        let passed = said.is_some_and(|said| span.contains(said)) && span.contains(truth);
        let said = said.map_or("nothing".to_owned(), |said| said.to_string());
        checks.push(named(format!("{what}: {span}"), passed, format!("{said} said, {truth} true")));
    }
    for (what, expected, said) in [
        ("the binding limit", &expected.binding, facts.said.binding.as_deref().unwrap_or("none")),
        ("the growth state", &expected.state, &facts.said.state),
        ("the source", &expected.source, &facts.said.source),
        ("the confidence", &expected.confidence, &facts.confidence),
    ] {
        let Some(expected) = expected else { continue };
        checks.push(named(format!("{what} is {expected}"), expected == said, said.to_owned()));
    }
    for (what, span, said) in [
        ("the free addresses end", expected.exhausted_now, facts.exhausted_now),
        ("what is in reach ends", expected.exhausted_reachable, facts.exhausted_reachable),
    ] {
        let Some(span) = span else { continue };
        let passed = said.is_some_and(|said| within(span, said));
        let found = said.map_or("never".to_owned(), |said| format!("{said:.1} s"));
        checks.push(named(format!("{what} in {span} s"), passed, found));
    }
    for (what, expected, said) in [
        ("the addresses become fewer", expected.falling, facts.exhausted_now.is_some()),
        ("all addresses that are left are resting", expected.starved, facts.starved),
    ] {
        let Some(expected) = expected else { continue };
        let words = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        checks.push(named(format!("{what}: {}", words(expected)), expected == said, words(said)));
    }
    for (what, span, truth) in [
        ("interfaces attached", expected.enis, truth.enis),
        ("pods that wait for an address", expected.waiting, truth.waiting),
    ] {
        let Some(span) = span else { continue };
        checks.push(named(format!("{what}: {span}"), span.contains(truth), truth.to_string()));
    }
    checks
}

fn within(span: Span, seconds: f64) -> bool {
    (span.from as f64..=span.to as f64).contains(&seconds)
}

fn row(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(" → ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> HeadroomFacts {
        HeadroomFacts {
            said: HeadroomSaid {
                state: "ok".into(),
                source: "introspection".into(),
                binding: Some("max_pods".into()),
                now: Some(4),
                reachable: Some(9),
            },
            confidence: "exact".into(),
            exhausted_now: Some(40.0),
            exhausted_reachable: Some(90.0),
            starved: false,
            truth: Some(HeadroomTruth { now: 4, reachable: 9, enis: 2, waiting: 0 }),
        }
    }

    fn failed(expected: &str, found: Option<&HeadroomFacts>) -> Vec<String> {
        let expected: HeadroomExpect = toml::from_str(expected).unwrap();
        let checks = moment("at 5 s ", &expected, found);
        checks.into_iter().filter(|check| !check.passed).map(|check| check.name).collect()
    }

    #[test]
    fn each_expectation_of_a_moment_fails_for_its_own_reason() {
        let good = "now = 4\nreachable = [8, 9]\nbinding = \"max_pods\"\nstate = \"ok\"\nsource = \"introspection\"\n\
                    confidence = \"exact\"\nexhausted_now = [35, 45]\nexhausted_reachable = [90, 90]\nfalling = true\n\
                    starved = false\nenis = 2\nwaiting = 0";
        assert_eq!(failed(good, Some(&found())), [""; 0]);
        for (bad, named) in [
            ("now = 5", "start now"),
            ("reachable = [10, 12]", "in reach"),
            ("binding = \"subnet\"", "binding"),
            ("state = \"stalled\"", "state"),
            ("source = \"none\"", "source"),
            ("confidence = \"estimate\"", "confidence"),
            ("exhausted_now = [41, 45]", "end in"),
            ("exhausted_reachable = 91", "in reach ends"),
            ("falling = false", "fewer"),
            ("starved = true", "resting"),
            ("enis = 1", "interfaces"),
            ("waiting = [1, 9]", "wait for"),
        ] {
            let failed = failed(bad, Some(&found()));
            assert!(failed.len() == 1 && failed[0].contains(named), "{bad}: {failed:?}");
        }
        assert_eq!(failed("now = 4", None), ["at 5 s the agent tells a headroom"]);
    }

    #[test]
    fn a_figure_that_is_said_and_not_true_fails() {
        let mut lie = found();
        lie.truth = Some(HeadroomTruth { now: 3, ..lie.truth.unwrap() });
        assert_eq!(failed("now = 4\nreachable = 9", Some(&lie)), ["at 5 s pods that could start now: 4"]);
    }

    #[test]
    fn the_story_is_told_in_order_without_repetition() {
        let mut facts =
            CniFacts { lasted: Duration::from_secs(100), requests: 15, most_at_once: 1, ..CniFacts::default() };
        for (state, binding) in [("ok", "max_pods"), ("ok", "subnet"), ("stalled", "subnet"), ("ok", "subnet")] {
            let (state, binding) = (state.to_owned(), Some(binding.to_owned()));
            facts.said.push(HeadroomSaid { state, binding, source: "metrics".into(), ..HeadroomSaid::default() });
        }
        let failed = |expected: &str, facts: &CniFacts| {
            let expected: HeadroomStory = toml::from_str(expected).unwrap();
            story(&expected, facts, 1, 1).into_iter().filter(|check| !check.passed).count()
        };
        let good = "states = [\"ok\", \"stalled\", \"ok\"]\nbindings = [\"max_pods\", \"subnet\"]\nsources = [\"metrics\"]\n\
                    waited = 0";
        assert_eq!(failed(good, &facts), 0);
        for bad in ["states = [\"ok\", \"stalled\"]", "bindings = [\"subnet\"]", "sources = []", "waited = 1"] {
            assert_eq!(failed(bad, &facts), 1, "{bad}");
        }
        assert_eq!(failed("", &CniFacts { requests: 16, ..facts.clone() }), 1);
        assert_eq!(failed("", &CniFacts { most_at_once: 2, ..facts }), 1);
    }
}
