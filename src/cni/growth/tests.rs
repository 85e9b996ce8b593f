use super::*;
use crate::cni::limits::Instance;

/// A node of three interfaces with nine addresses each, one of them attached, under ipamd's defaults.
struct Node {
    pool: Pool,
    mode: Mode,
    instance: Instance,
    settings: Settings,
    max_pods: Option<i64>,
    cordoned: bool,
    down: bool,
    tracker: Tracker,
    now: Instant,
}

impl Node {
    fn new() -> Self {
        Self {
            pool: Pool { total: 9, assigned: 2, cooldown: Some(0), enis: 1, cards: 1, ..Pool::default() },
            mode: Mode::Secondary,
            instance: Instance { eni_max: Some(3), per_eni: Some(9) },
            settings: Settings {
                warm_eni: Some(1),
                warm_ip: Some(0),
                minimum_ip: Some(0),
                warm_prefix: Some(0),
                provisioning_disabled: Some(false),
                manage_unschedulable: Some(false),
                ..Settings::default()
            },
            max_pods: Some(29),
            cordoned: false,
            down: false,
            tracker: Tracker::default(),
            now: Instant::now(),
        }
    }

    fn limits(&self) -> Limits {
        Limits::of(&self.pool, self.mode, self.instance, &self.settings, self.max_pods, 4)
    }

    /// The state `seconds` later, after a scrape with these counts.
    fn after(&mut self, seconds: u64, scraped: Option<Counted>) -> State {
        self.now += Duration::from_secs(seconds);
        let limits = self.limits();
        let sight = Sight {
            down: self.down,
            pool: Some(&self.pool),
            source_changed: false,
            mode: self.mode,
            limits: &limits,
            settings: &self.settings,
            cordoned: self.cordoned,
            scraped,
        };
        self.tracker.step(self.now, &sight)
    }

    fn too_low(&self) -> Option<bool> {
        is_too_low(&self.pool, self.mode, &self.limits(), &self.settings)
    }
}

/// Nothing happened since the scrape before.
const QUIET: Option<Counted> = Some(Counted::Since(Counters {
    refused_interfaces: 0,
    started: None,
    unavailable: 0,
    adds: 0,
    heartbeat: None,
    refused: 0,
    invalid: 0,
    throttled: 0,
    unauthorized: 0,
    forced: 0,
    detachments: 0,
    latencies: NO_LATENCIES,
}));
const NO_LATENCIES: crate::cni::counters::Latencies = {
    let none = crate::cni::counters::Latency { milliseconds: 0.0, calls: 0 };
    crate::cni::counters::Latencies { assign: none, create: none, attach: none, modify: none, wait: none }
};

fn refused(times: u64) -> Counters {
    Counters { refused: times, ..Counters::default() }
}

#[allow(clippy::unnecessary_wraps, reason = "as the node takes it")]
fn since(counters: Counters) -> Option<Counted> {
    Some(Counted::Since(counters))
}

type Change<T> = fn(&mut T);

#[tokio::test]
async fn each_state_of_the_moment_is_entered_and_left() {
    let enter: [(State, Change<Node>); 6] = [
        (State::IpamdDown, |node| node.down = true),
        (State::ProvisioningDisabled, |node| node.settings.provisioning_disabled = Some(true)),
        (State::NodeUnschedulable, |node| node.cordoned = true),
        (State::AtInstanceLimit, |node| node.pool.total = 27),
        (State::AtMaxPods, |node| node.max_pods = Some(9)),
        (State::ConfigCeiling, |node| node.settings.minimum_ip = Some(9)),
    ];
    for (state, enter) in enter {
        let mut node = Node::new();
        assert_eq!(node.after(0, None), State::Ok);
        enter(&mut node);
        assert_eq!(node.after(15, None), state);
        let (tracker, now) = (node.tracker, node.now);
        let mut node = Node { tracker, now, ..Node::new() };
        assert_eq!(node.after(15, None), State::Ok, "after {}", state.as_str());
    }
}

#[tokio::test]
async fn ipamd_may_be_told_to_manage_a_cordoned_node() {
    let mut node = Node::new();
    node.cordoned = true;
    node.settings.manage_unschedulable = Some(true);
    assert_eq!(node.after(0, None), State::Ok);
    node.settings.manage_unschedulable = None;
    assert_eq!(node.after(0, None), State::NodeUnschedulable, "the default where it is not known");
}

#[tokio::test]
async fn the_first_state_that_applies_wins() {
    let mut node = Node::new();
    node.after(0, None);
    let throttled = Counters { throttled: 1, ..refused(1) };
    node.down = true;
    node.settings = Settings { provisioning_disabled: Some(true), minimum_ip: Some(9), ..node.settings };
    node.cordoned = true;
    node.max_pods = Some(9);
    node.instance = Instance { eni_max: Some(1), per_eni: Some(9) };
    assert_eq!(node.after(15, since(throttled)), State::IpamdDown);
    node.down = false;
    assert_eq!(node.after(0, None), State::ProvisioningDisabled);
    node.settings.provisioning_disabled = Some(false);
    assert_eq!(node.after(0, None), State::NodeUnschedulable);
    node.cordoned = false;
    assert_eq!(node.after(0, None), State::AtInstanceLimit);
    node.instance = Instance { eni_max: Some(3), per_eni: Some(9) };
    assert_eq!(node.after(0, None), State::AtMaxPods);
    node.max_pods = Some(29);
    assert_eq!(node.after(0, None), State::ConfigCeiling);
    node.settings.minimum_ip = Some(0);
    assert_eq!(node.after(0, None), State::SubnetExhausted);
    node.tracker.refused_at = None;
    assert_eq!(node.after(0, None), State::Throttled);
}

#[tokio::test]
async fn a_refusal_counts_for_five_minutes() {
    let mut node = Node::new();
    node.pool.assigned = 0;
    assert_eq!(node.after(0, QUIET), State::Ok);
    assert_eq!(node.after(15, since(refused(4))), State::SubnetExhausted);
    assert_eq!(node.after(299, QUIET), State::SubnetExhausted);
    assert_eq!(node.after(1, QUIET), State::Ok);
    assert_eq!(node.tracker.refusals(), 4);
}

#[tokio::test]
async fn growth_ends_a_refusal_and_a_refusal_beside_growth_is_none() {
    let grow: [Change<Pool>; 2] = [|pool| pool.total += 1, |pool| pool.enis += 1];
    for grow in grow {
        let mut node = Node::new();
        node.after(0, QUIET);
        assert_eq!(node.after(15, since(refused(1))), State::SubnetExhausted);
        grow(&mut node.pool);
        assert_eq!(node.after(15, QUIET), State::Ok);
        grow(&mut node.pool);
        assert_eq!(node.after(15, since(refused(2))), State::Ok, "one subnet refused, the next one gave");
    }
}

#[tokio::test]
async fn another_source_with_more_addresses_is_no_growth() {
    let mut node = Node::new();
    node.after(0, QUIET);
    node.after(15, since(refused(1)));
    node.pool.total += 5;
    let limits = node.limits();
    let sight = Sight {
        down: false,
        pool: Some(&node.pool),
        source_changed: true,
        mode: node.mode,
        limits: &limits,
        settings: &node.settings,
        cordoned: false,
        scraped: None,
    };
    assert_eq!(node.tracker.step(node.now, &sight), State::SubnetExhausted);
}

#[tokio::test]
async fn refusals_from_before_the_first_scrape_count_until_the_second() {
    let mut node = Node::new();
    assert_eq!(node.after(0, Some(Counted::First(refused(5)))), State::SubnetExhausted);
    assert_eq!(node.after(5, None), State::SubnetExhausted, "no scrape has decided yet");
    assert_eq!(node.after(10, QUIET), State::Ok);
    let mut content = Node::new();
    content.pool = Pool { total: 18, enis: 2, ..content.pool };
    assert_eq!(content.after(0, Some(Counted::First(refused(5)))), State::Ok, "ipamd wants no more");
}

#[tokio::test]
async fn counts_of_the_first_scrape_alone_are_no_event() {
    let mut node = Node::new();
    node.pool = Pool { total: 18, enis: 2, ..node.pool };
    let old = Counters { refused: 9, throttled: 9, invalid: 9, unauthorized: 9, ..Counters::default() };
    assert_eq!(node.after(0, Some(Counted::First(old))), State::Ok);
    assert_eq!(node.tracker.hint(), None);
}

#[tokio::test]
async fn throttling_counts_for_five_minutes() {
    let mut node = Node::new();
    let throttled = Counters { throttled: 1, ..Counters::default() };
    assert_eq!(node.after(0, since(throttled)), State::Throttled);
    node.pool = Pool { total: 18, enis: 2, ..node.pool };
    assert_eq!(node.after(299, QUIET), State::Throttled);
    assert_eq!(node.after(1, QUIET), State::Ok);
}

#[tokio::test]
async fn a_pool_that_should_grow_and_does_not_is_stalled_after_three_minutes() {
    let mut node = Node::new();
    assert_eq!(node.too_low(), Some(true));
    assert_eq!(node.after(0, QUIET), State::Ok);
    assert_eq!(node.after(180, QUIET), State::Ok);
    let denied = Counters { unauthorized: 1, ..Counters::default() };
    assert_eq!(node.after(1, since(denied)), State::Stalled);
    assert!(node.tracker.hint().unwrap().contains("UnauthorizedOperation"));
    node.pool.total += 1;
    assert_eq!(node.after(1, QUIET), State::Ok);
    assert_eq!(node.tracker.hint(), None);
    assert_eq!(node.after(181, QUIET), State::Ok, "it has grown a moment ago");
}

#[tokio::test]
async fn a_pool_that_is_large_enough_never_stalls() {
    let mut node = Node::new();
    node.pool = Pool { total: 18, enis: 2, ..node.pool };
    assert_eq!((node.too_low(), node.after(0, QUIET), node.after(900, QUIET)), (Some(false), State::Ok, State::Ok));
    node.settings.warm_eni = None;
    node.pool = Pool { total: 9, enis: 1, ..node.pool };
    assert_eq!((node.too_low(), node.after(900, QUIET)), (None, State::Ok), "nor one whose targets are unknown");
}

/// (total, assigned) with the targets WARM_ENI, WARM_IP, MINIMUM, WARM_PREFIX.
fn too_low(mode: Mode, (total, assigned): (i64, i64), [eni, ip, minimum, prefix]: [i64; 4]) -> bool {
    let mut node = Node::new();
    node.mode = mode;
    node.pool = Pool { total, assigned, ..node.pool };
    node.max_pods = Some(110);
    node.settings = Settings {
        warm_eni: Some(eni),
        warm_ip: Some(ip),
        minimum_ip: Some(minimum),
        warm_prefix: Some(prefix),
        ..node.settings
    };
    node.too_low().unwrap()
}

#[tokio::test]
async fn ipamds_wish_for_more_addresses_follows_its_targets() {
    use Mode::{Prefix, Secondary};
    for (mode, pool, targets, expected) in [
        // Whole interfaces in reserve.
        (Secondary, (9, 0), [1, 0, 0, 0], false),
        (Secondary, (9, 1), [1, 0, 0, 0], true),
        (Secondary, (18, 1), [2, 0, 0, 0], true),
        (Secondary, (18, 0), [2, 0, 0, 0], false),
        (Secondary, (9, 8), [0, 0, 0, 0], false),
        (Secondary, (9, 9), [0, 0, 0, 0], true),
        // Single addresses in reserve, or a least number of them.
        (Secondary, (9, 7), [1, 2, 0, 0], false),
        (Secondary, (9, 8), [1, 2, 0, 0], true),
        (Secondary, (9, 8), [1, 0, 9, 0], false),
        (Secondary, (8, 1), [1, 0, 9, 0], true),
        (Secondary, (9, 9), [1, 0, 9, 0], false),
        (Secondary, (9, 8), [1, 2, 9, 0], true),
        // Whole prefixes in reserve; interfaces do not matter.
        (Prefix, (16, 0), [1, 0, 0, 1], false),
        (Prefix, (16, 1), [1, 0, 0, 1], true),
        (Prefix, (16, 15), [1, 0, 0, 0], false),
        (Prefix, (16, 16), [1, 0, 0, 0], true),
        (Prefix, (32, 1), [1, 0, 0, 2], true),
        (Prefix, (16, 14), [1, 2, 0, 1], false),
        (Prefix, (16, 15), [1, 2, 0, 1], true),
        // As many addresses as pods.
        (Prefix, (112, 112), [1, 2, 0, 1], false),
    ] {
        assert_eq!(too_low(mode, pool, targets), expected, "{mode:?} {pool:?} {targets:?}");
    }
}
