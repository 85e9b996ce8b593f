//! The checks of what stands on the node at one moment.

use super::checks::{check, counted};
use super::{Check, NodeFacts, headroom};
use crate::signal::Kind;
use crate::sim::scenario::{FencePart, NodeExpect};

/// Everything that is expected of the node; `when` goes before each name.
pub(super) fn checks(when: &str, expected: &NodeExpect, found: &NodeFacts) -> Vec<Check> {
    let marks = [fence(expected, found), taint(expected, found), exhaustion(expected, found)];
    let others = [cordon(expected, found), restored(expected, found), pending(expected, found)];
    let checks = marks.into_iter().chain(others).flatten();
    let checks = checks.map(|check| Check { name: format!("{when}{}", check.name), ..check });
    let headroom =
        expected.headroom.iter().flat_map(|expected| headroom::moment(when, expected, found.headroom.as_ref()));
    checks.chain(headroom).collect()
}

fn fence(expected: &NodeExpect, found: &NodeFacts) -> Option<Check> {
    let wanted = expected.fenced?;
    let without = if wanted { expected.fence_without.clone() } else { FencePart::ALL.to_vec() };
    let parts: Vec<FencePart> = FencePart::ALL.into_iter().filter(|part| !without.contains(part)).collect();
    let there: Vec<&str> = found.fence.iter().map(|part| part.as_str()).collect();
    let there = if there.is_empty() { "none of it".into() } else { there.join(", ") };
    let name = match (wanted, without.is_empty()) {
        (false, _) => "no part of the fence is on the node".to_owned(),
        (true, true) => "the whole fence is on the node".to_owned(),
        (true, false) => {
            let without: Vec<&str> = without.iter().map(|part| part.as_str()).collect();
            format!("the fence is on the node without its {}", without.join(", "))
        }
    };
    Some(check(name, parts == found.fence, there))
}

fn taint(expected: &NodeExpect, found: &NodeFacts) -> Option<Check> {
    let wanted = expected.taint.as_deref()?;
    let there = found.taint.as_deref().unwrap_or("none");
    Some(check(format!("the effect of the agent's taint is {wanted}"), wanted == there, there))
}

fn exhaustion(expected: &NodeExpect, found: &NodeFacts) -> Option<Check> {
    let wanted = expected.exhaustion_taint?;
    let words = |there| if there { "is" } else { "is not" };
    let name = format!("the taint for want of addresses {} on the node", words(wanted));
    Some(check(name, wanted == found.exhaustion_taint, format!("it {}", words(found.exhaustion_taint))))
}

fn cordon(expected: &NodeExpect, found: &NodeFacts) -> Option<Check> {
    let wanted = expected.cordoned?;
    let words = |cordoned| if cordoned { "cordoned" } else { "not cordoned" };
    Some(check(format!("the node is {}", words(wanted)), wanted == found.cordoned, words(found.cordoned)))
}

fn restored(expected: &NodeExpect, found: &NodeFacts) -> Option<Check> {
    let wanted = expected.restored?;
    let name = if wanted {
        "the node is what it would be without the agent"
    } else {
        "the node is not yet what it would be without the agent"
    };
    Some(check(name, found.differs.is_empty() == wanted, counted(&found.differs)))
}

fn pending(expected: &NodeExpect, found: &NodeFacts) -> Option<Check> {
    let mut wanted = expected.pending.clone()?;
    wanted.sort_unstable();
    let name = format!("the agent says to be coming: {}", kinds(&wanted));
    Some(check(name, wanted == found.pending, kinds(&found.pending)))
}

fn kinds(kinds: &[Kind]) -> String {
    if kinds.is_empty() {
        return "nothing".into();
    }
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(expected: &str, found: &NodeFacts) -> Vec<String> {
        let expected: NodeExpect = toml::from_str(expected).unwrap();
        let checks = checks("at 5 s ", &expected, found);
        checks.into_iter().filter(|check| !check.passed).map(|check| check.name).collect()
    }

    #[test]
    fn only_what_is_named_is_judged() {
        let found = NodeFacts { cordoned: true, differs: vec!["label a".into()], ..NodeFacts::default() };
        assert_eq!(failed("", &found), [""; 0]);
        assert_eq!(failed("cordoned = false", &found), ["at 5 s the node is not cordoned"]);
    }

    #[test]
    fn each_expectation_fails_for_its_own_reason() {
        let soft = NodeFacts {
            fence: vec![FencePart::Annotation],
            taint: Some("PreferNoSchedule".into()),
            differs: vec!["annotation spotwarden/state".into()],
            pending: vec![Kind::RebalanceRecommendation],
            ..NodeFacts::default()
        };
        let good = "taint = \"PreferNoSchedule\"\ncordoned = false\nrestored = false\npending = [\"rebalance-recommendation\"]";
        assert_eq!(failed(good, &soft), [""; 0]);
        for bad in [
            "exhaustion_taint = true",
            "taint = \"none\"",
            "taint = \"NoSchedule\"",
            "restored = true",
            "fenced = true",
            "fenced = false",
            "pending = []",
            "pending = [\"rebalance-recommendation\", \"scheduled-event\"]",
        ] {
            assert_eq!(failed(bad, &soft).len(), 1, "{bad}");
        }
    }
}
