//! The taint that keeps pods off a node without addresses, if it was asked for (`--pod-ip-exhaustion-taint`).
//!
//! The scheduler does not know of addresses, so that pods go on to be placed where they cannot start. The taint has a key of
//! its own and never `node.kubernetes.io/unschedulable`: that one stops ipamd from getting addresses, and nothing would heal.
//! What is on the Node is the only memory: a taint with our key, value and effect is ours, whichever agent set it. One that
//! is found while the setting is off goes too, so that switching it off leaves nothing behind.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::growth::State;
use super::model::Headroom;

/// The key.
pub const KEY: &str = "spotwarden/pod-ips-exhausted";
/// The value, by which the taint is told from one that somebody else set under the key.
pub const VALUE: &str = "no-free-address";
/// The effect.
const EFFECT: &str = "NoSchedule";

/// Exhaustion must last so long: ipamd needs up to this for a new interface, and several readings must agree.
const HOLD: Duration = Duration::from_mins(1);
/// Relief must last so long, for the first address that comes out of its cooldown is gone at once.
const RELIEF: Duration = Duration::from_mins(2);

/// What a headroom says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// The kubelet takes more pods, and none of them would get an address, neither now nor later.
    Exhausted,
    /// There are addresses, or there will be.
    Relieved,
    /// Neither: ipamd does not answer, the node is full or cordoned.
    Unknown,
}

impl Evidence {
    fn of(headroom: Option<&Headroom>) -> Self {
        let Some(headroom) = headroom.filter(|headroom| headroom.state != State::IpamdDown) else {
            return Self::Unknown;
        };
        let (Some(pool), Some(outlook)) = (&headroom.pool, headroom.outlook) else { return Self::Unknown };
        // Free addresses that are told without the cooldown are too many, so that none of them is none in truth.
        if pool.ipv6 || pool.free() > 0 || outlook.reachable > 0 {
            return Self::Relieved;
        }
        let places = headroom.limits.room.is_some_and(|room| room > 0);
        if places && headroom.state != State::NodeUnschedulable { Self::Exhausted } else { Self::Unknown }
    }
}

/// What is to happen to the taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is to be put on the Node.
    Set,
    /// It is to go.
    Remove,
}

/// What the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The setting.
    pub enabled: bool,
    /// The last headroom.
    pub headroom: Option<&'a Headroom>,
    /// `spec.taints` of the own Node.
    pub taints: Option<&'a [Value]>,
}

/// Remembers since when it has been so.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    exhausted_since: Option<Instant>,
    relieved_since: Option<Instant>,
}

impl Judge {
    /// What is to happen at `now`, if anything.
    pub fn step(&mut self, now: Instant, sight: &Sight<'_>) -> Option<Change> {
        let evidence = Evidence::of(sight.headroom);
        let lasts = |since: &mut Option<Instant>, applies: bool, hold: Duration| {
            *since = applies.then(|| since.unwrap_or(now));
            since.is_some_and(|since| now.duration_since(since) >= hold)
        };
        let exhausted = lasts(&mut self.exhausted_since, evidence == Evidence::Exhausted, HOLD);
        let relieved = lasts(&mut self.relieved_since, evidence == Evidence::Relieved, RELIEF);
        let is_set = sight.taints.is_some_and(|taints| taints.iter().any(is_ours));
        if is_set {
            return (relieved || !sight.enabled).then_some(Change::Remove);
        }
        // Under somebody else's value it does the same already, and the API server takes each key and effect once.
        let taken = sight.taints.is_some_and(|taints| taints.iter().any(is_like_ours));
        (exhausted && sight.enabled && !taken).then_some(Change::Set)
    }
}

fn text<'a>(taint: &'a Value, field: &str) -> &'a str {
    taint.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_like_ours(taint: &Value) -> bool {
    text(taint, "key") == KEY && text(taint, "effect") == EFFECT
}

fn is_ours(taint: &Value) -> bool {
    is_like_ours(taint) && text(taint, "value") == VALUE
}

/// The JSON Patch that does it, guarded by what was there, so that nobody's taint is lost.
pub fn patch(change: Change, taints: Option<&[Value]>) -> Value {
    let path = "/spec/taints";
    let mut after: Vec<Value> = taints.unwrap_or_default().to_vec();
    match change {
        Change::Set => after.push(json!({ "key": KEY, "value": VALUE, "effect": EFFECT })),
        Change::Remove => after.retain(|taint| !is_ours(taint)),
    }
    let change = if after.is_empty() {
        json!({ "op": "remove", "path": path })
    } else {
        json!({ "op": "add", "path": path, "value": after })
    };
    json!([{ "op": "test", "path": path, "value": taints }, change])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Now;
    use crate::cni::limits::{Limit, Outlook};
    use crate::cni::model::{Model, Reading};
    use crate::cni::node::NodeFacts;

    const ENIS: &[u8] = include_bytes!("../../tests/golden/cni/enis-blanked.json");

    /// One address is free and seven pods find room.
    fn plenty() -> Headroom {
        let now = Now { instant: Instant::now(), wall: "2026-05-04T10:00:30Z".parse().unwrap() };
        let facts = NodeFacts { max_pods: Some(11), pods: 4, aws_node: Some(Arc::default()), ..NodeFacts::default() };
        let reading = Reading { interfaces: Some(Ok(ENIS)), ..Reading::default() };
        Model::default().observe(now, &reading, &facts).unwrap()
    }

    fn exhausted() -> Headroom {
        let mut headroom = plenty();
        headroom.pool.as_mut().unwrap().assigned = 2;
        headroom.outlook = Some(Outlook { now: 0, reachable: 0, binding: Limit::Subnet });
        headroom
    }

    fn ours() -> Vec<Value> {
        vec![json!({ "key": KEY, "value": VALUE, "effect": EFFECT })]
    }

    fn on<'a>(headroom: &'a Headroom, taints: &'a [Value]) -> Sight<'a> {
        Sight { enabled: true, headroom: Some(headroom), taints: Some(taints) }
    }

    #[tokio::test]
    async fn it_comes_after_a_minute_without_addresses_and_goes_after_two_with_some() {
        let (start, none, some) = (Instant::now(), exhausted(), plenty());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut judge = Judge::default();
        assert_eq!(judge.step(at(0), &on(&none, &[])), None);
        assert_eq!(judge.step(at(59), &on(&none, &[])), None);
        assert_eq!(judge.step(at(60), &on(&none, &[])), Some(Change::Set));
        assert_eq!(judge.step(at(75), &on(&none, &ours())), None, "it is there");
        assert_eq!(judge.step(at(90), &on(&some, &ours())), None);
        assert_eq!(judge.step(at(200), &on(&none, &ours())), None, "the relief has passed");
        assert_eq!(judge.step(at(215), &on(&some, &ours())), None);
        assert_eq!(judge.step(at(335), &on(&some, &ours())), Some(Change::Remove));
        assert_eq!(judge.step(at(350), &on(&some, &[])), None);
    }

    #[tokio::test]
    async fn a_full_node_a_cordoned_one_and_one_without_ipamd_are_left_as_they_are() {
        let start = Instant::now();
        let mut full = exhausted();
        full.limits.room = Some(0);
        let mut unread = exhausted();
        unread.limits.room = None;
        let cordoned = Headroom { state: State::NodeUnschedulable, ..exhausted() };
        let down = Headroom { state: State::IpamdDown, ..plenty() };
        for headroom in [full, unread, cordoned, down] {
            for taints in [vec![], ours()] {
                let mut judge = Judge::default();
                for minute in 0..5 {
                    let change = judge.step(start + Duration::from_mins(minute), &on(&headroom, &taints));
                    assert_eq!(change, None, "{headroom:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_restarted_agent_knows_the_taint_by_key_and_value() {
        let (start, some) = (Instant::now(), plenty());
        let mut judge = Judge::default();
        judge.step(start, &on(&some, &ours()));
        assert_eq!(judge.step(start + RELIEF, &on(&some, &ours())), Some(Change::Remove));
        let theirs = [json!({ "key": KEY, "value": "mine", "effect": EFFECT })];
        assert_eq!(judge.step(start + RELIEF, &on(&some, &theirs)), None);
        let (mut judge, none) = (Judge::default(), exhausted());
        judge.step(start, &on(&none, &theirs));
        assert_eq!(judge.step(start + HOLD, &on(&none, &theirs)), None, "it does the same already");
    }

    #[tokio::test]
    async fn switched_off_it_is_never_set_and_what_is_there_goes_at_once() {
        let (start, none) = (Instant::now(), exhausted());
        let mut judge = Judge::default();
        let off = |taints| Sight { enabled: false, headroom: Some(&none), taints };
        judge.step(start, &off(None));
        assert_eq!(judge.step(start + HOLD * 3, &off(None)), None);
        let there = ours();
        assert_eq!(judge.step(start, &off(Some(&there))), Some(Change::Remove));
        let blind = Sight { headroom: None, ..off(Some(&there)) };
        assert_eq!(judge.step(start, &blind), Some(Change::Remove));
    }

    #[test]
    fn the_patch_is_guarded_and_keeps_what_others_set() {
        let theirs = json!({ "key": "team", "effect": "NoSchedule", "timeAdded": "2026-05-04T10:00:30Z" });
        let set = patch(Change::Set, Some(std::slice::from_ref(&theirs)));
        let expected = json!([
            { "op": "test", "path": "/spec/taints", "value": [theirs] },
            { "op": "add", "path": "/spec/taints", "value": [theirs, ours()[0]] },
        ]);
        assert_eq!(set, expected);
        let both = [ours(), vec![theirs.clone()]].concat();
        assert_eq!(
            patch(Change::Remove, Some(&both))[1],
            json!({"op": "add", "path": "/spec/taints", "value": [theirs]})
        );
        assert_eq!(patch(Change::Remove, Some(&ours()))[1], json!({ "op": "remove", "path": "/spec/taints" }));
        assert_eq!(patch(Change::Set, None)[0], json!({ "op": "test", "path": "/spec/taints", "value": null }));
        let text = patch(Change::Set, None).to_string();
        assert!(!text.contains("node.kubernetes.io/unschedulable"));
    }
}
