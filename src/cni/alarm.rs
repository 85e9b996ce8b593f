//! When the lack of addresses is worth an Event on the Node: once for each episode, never for a passing one.

use std::time::Duration;

use tokio::time::Instant;

use super::growth::State;
use super::limits::Limit;
use super::model::Headroom;
use crate::clock::Now;
use crate::interruption::NodeEvent;

/// A lack must last so long: ipamd needs up to this for a new interface, and several readings must agree.
const HOLD: Duration = Duration::from_mins(1);
/// An episode is over after so long without a lack.
const CALM: Duration = Duration::from_mins(10);
/// What is left of time when it is worth a word, if the pool cannot grow.
const SOON: f64 = 900.0;

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The kubelet takes more pods, and none of them would get an address, neither now nor later.
    Exhausted,
    /// The addresses end soon.
    Low,
}

impl Lack {
    const fn reason(self) -> &'static str {
        match self {
            Self::Exhausted => "PodIPsExhausted",
            Self::Low => "PodIPsLow",
        }
    }

    fn applies(self, headroom: &Headroom) -> bool {
        // On a cordoned node, which a draining one is too, nobody waits for addresses.
        if matches!(headroom.state, State::NodeUnschedulable | State::IpamdDown) {
            return false;
        }
        let (Some(pool), Some(outlook)) = (headroom.pool.as_ref().filter(|pool| !pool.ipv6), headroom.outlook) else {
            return false;
        };
        // A node without room for pods is simply full. Nor is anything known of it before the Node was read.
        let places = headroom.limits.room.unwrap_or_default();
        let exhausted = pool.free() <= 0 && outlook.reachable == 0;
        match self {
            Self::Exhausted => exhausted && places > 0,
            Self::Low if exhausted || places <= 0 => false,
            Self::Low => {
                let grows = outlook.reachable > outlook.now;
                let enough = if grows { headroom.forecast.refill.unwrap_or(SOON) } else { SOON };
                // Running into max-pods is what a node is for.
                let pods_end_first = !grows && outlook.binding == Limit::MaxPods;
                let soon = headroom.forecast.exhausted_now.is_some_and(|left| left < enough) && !pods_end_first;
                soon || headroom.forecast.starved
            }
        }
    }
}

/// One lack over time.
#[derive(Clone, Debug, Default)]
struct Episode {
    since: Option<Instant>,
    last: Option<Instant>,
    reported: bool,
}

impl Episode {
    /// Whether the lack is to be reported now.
    fn step(&mut self, now: Instant, applies: bool) -> bool {
        if applies {
            self.last = Some(now);
            let since = *self.since.get_or_insert(now);
            let due = !self.reported && now.duration_since(since) >= HOLD;
            self.reported |= due;
            return due;
        }
        self.since = None;
        if self.last.is_some_and(|last| now.duration_since(last) >= CALM) {
            *self = Self::default();
        }
        false
    }
}

/// Remembers what was reported.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    exhausted: Episode,
    low: Episode,
}

impl Alarms {
    /// The Events that are due.
    pub fn step(&mut self, now: Now, headroom: &Headroom) -> Vec<NodeEvent> {
        let both = [(Lack::Exhausted, &mut self.exhausted), (Lack::Low, &mut self.low)];
        let due = both.into_iter().filter_map(|(lack, episode)| {
            episode.step(now.instant, lack.applies(headroom)).then(|| event(now, lack, headroom))
        });
        due.collect()
    }
}

/// A restarted agent repeats an Event of the same hour under the same name, which the API server takes for one.
fn event(now: Now, lack: Lack, headroom: &Headroom) -> NodeEvent {
    let hour = now.wall.as_second() / 3600;
    let number = |of: Option<i64>| of.map_or_else(|| "an unknown number".to_owned(), |of| of.to_string());
    let pool = headroom.pool.as_ref();
    let (free, resting) = (number(pool.map(super::pool::Pool::free)), number(pool.and_then(|pool| pool.cooldown)));
    let places = number(headroom.limits.room);
    let what = match (lack, headroom.forecast.exhausted_now.filter(|_| !headroom.forecast.starved)) {
        (Lack::Exhausted, _) => "pods that are placed here get no address".to_owned(),
        (Lack::Low, Some(left)) => format!("pods' addresses last for {left:.0} s"),
        (Lack::Low, None) => "all addresses that are left are in cooldown".to_owned(),
    };
    NodeEvent {
        key: format!("{}/{hour}", lack.reason()),
        reason: lack.reason(),
        note: format!("{what}: {free} free, {resting} in cooldown, room for {places} pods; {}", headroom.cause),
        warning: true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cni::forecast::Forecast;
    use crate::cni::limits::Outlook;
    use crate::cni::model::{Model, Reading};
    use crate::cni::node::NodeFacts;
    use crate::cni::settings::Environment;

    const ENIS: &[u8] = include_bytes!("../../tests/golden/cni/enis-blanked.json");

    fn start() -> Now {
        Now { instant: Instant::now(), wall: "2026-05-04T10:00:30Z".parse().unwrap() }
    }

    /// Three addresses of which one is free; room for seven pods.
    fn plenty() -> Headroom {
        let facts = NodeFacts {
            max_pods: Some(11),
            pods: 4,
            addressed_pods: 1,
            aws_node: Some(Arc::new(Environment::new())),
            ..NodeFacts::default()
        };
        let reading = Reading { interfaces: Some(Ok(ENIS)), ..Reading::default() };
        let headroom = Model::default().observe(start(), &reading, &facts).unwrap();
        Headroom { outlook: Some(Outlook { now: 1, reachable: 7, binding: Limit::InstanceLimit }), ..headroom }
    }

    fn exhausted() -> Headroom {
        let mut headroom = plenty();
        headroom.pool.as_mut().unwrap().assigned = 2;
        headroom.outlook = Some(Outlook { now: 0, reachable: 0, binding: Limit::Subnet });
        headroom.state = State::SubnetExhausted;
        headroom.cause = "subnet-1 is full".to_owned();
        headroom
    }

    fn ends_in(seconds: f64, reachable: i64) -> Headroom {
        let mut headroom = plenty();
        headroom.outlook = Some(Outlook { now: 1, reachable, binding: Limit::InstanceLimit });
        headroom.forecast = Forecast { exhausted_now: Some(seconds), refill: Some(15.0), ..Forecast::default() };
        headroom
    }

    /// The reasons of the Events when the headroom is this one for two minutes.
    fn reasons(headroom: &Headroom) -> Vec<&'static str> {
        let (mut alarms, mut now) = (Alarms::default(), start());
        let mut reasons = Vec::new();
        for _ in 0..8 {
            reasons.extend(alarms.step(now, headroom).into_iter().map(|event| event.reason));
            now = now.plus(Duration::from_secs(15));
        }
        reasons
    }

    #[tokio::test]
    async fn a_node_without_addresses_but_with_room_is_reported_once() {
        assert_eq!(reasons(&exhausted()), ["PodIPsExhausted"]);
        assert_eq!(reasons(&plenty()), [""; 0]);
    }

    #[tokio::test]
    async fn a_full_node_and_a_cordoned_one_are_not_reported() {
        let mut full = exhausted();
        full.limits.room = Some(0);
        let mut unread = exhausted();
        unread.limits.room = None;
        let cordoned = Headroom { state: State::NodeUnschedulable, ..exhausted() };
        let down = Headroom { state: State::IpamdDown, ..exhausted() };
        for headroom in [full, unread, cordoned, down, Headroom { outlook: None, ..exhausted() }] {
            assert_eq!(reasons(&headroom), [""; 0], "{headroom:?}");
        }
    }

    #[tokio::test]
    async fn addresses_that_end_before_a_refill_comes_are_low() {
        assert_eq!(reasons(&ends_in(14.0, 7)), ["PodIPsLow"]);
        assert_eq!(reasons(&ends_in(16.0, 7)), [""; 0], "ipamd keeps up");
        assert_eq!(reasons(&ends_in(899.0, 1)), ["PodIPsLow"], "nothing will come");
        assert_eq!(reasons(&ends_in(901.0, 1)), [""; 0]);
        let mut ordinary = ends_in(60.0, 1);
        ordinary.outlook = Some(Outlook { now: 1, reachable: 1, binding: Limit::MaxPods });
        assert_eq!(reasons(&ordinary), [""; 0], "the node only fills up");
    }

    #[tokio::test]
    async fn addresses_that_all_rest_are_low() {
        let mut headroom = plenty();
        headroom.forecast = Forecast { starved: true, ..Forecast::default() };
        assert_eq!(reasons(&headroom), ["PodIPsLow"]);
    }

    #[tokio::test]
    async fn an_episode_begins_anew_only_after_ten_calm_minutes() {
        let (mut alarms, mut now) = (Alarms::default(), start());
        let mut step = |seconds: u64, headroom: &Headroom| {
            now = now.plus(Duration::from_secs(seconds));
            alarms.step(now, headroom).len()
        };
        let (none, calm) = (exhausted(), plenty());
        assert_eq!((step(0, &none), step(59, &none), step(1, &calm)), (0, 0, 0), "it passed");
        assert_eq!((step(0, &none), step(60, &none), step(60, &none)), (0, 1, 0));
        assert_eq!((step(15, &calm), step(500, &none), step(60, &none)), (0, 0, 0), "the same one");
        assert_eq!((step(600, &calm), step(15, &none), step(60, &none)), (0, 0, 1));
    }

    #[tokio::test]
    async fn the_note_names_figures_and_cause_and_the_key_the_hour() {
        let mut alarms = Alarms::default();
        let now = start();
        alarms.step(now, &exhausted());
        let events = alarms.step(now.plus(HOLD), &exhausted());
        let note = "pods that are placed here get no address: 0 free, 1 in cooldown, room for 7 pods; subnet-1 is full";
        assert_eq!(events[0].note, note);
        assert_eq!(events[0].key, format!("PodIPsExhausted/{}", now.wall.as_second() / 3600));
        assert!(events[0].warning);
    }
}
