use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::cni::settings::Environment;

const ENIS: &[u8] = include_bytes!("../../../tests/golden/cni/enis-blanked.json");
const METRICS: &[u8] = include_bytes!("../../../tests/golden/cni/metrics.txt");
const SETTINGS: &[u8] = include_bytes!("../../../tests/golden/cni/ipamd-env-settings.json");

/// One node over time.
struct Node {
    model: Model,
    now: Now,
    facts: NodeFacts,
}

impl Node {
    /// The node of the golden documents: t3.small, four pods, one of them with an address of its own.
    fn new() -> Self {
        let facts = NodeFacts {
            max_pods: Some(11),
            pods: 4,
            host_network_pods: 3,
            addressed_pods: 1,
            aws_node: Some(Arc::new(Environment::new())),
            ..NodeFacts::default()
        };
        let wall = "2026-05-04T10:00:30Z".parse().unwrap();
        Self { model: Model::default(), now: Now { instant: Instant::now(), wall }, facts }
    }

    fn reads(&mut self, reading: &Reading<'_>) -> Headroom {
        self.try_reads(reading).unwrap()
    }

    fn try_reads(&mut self, reading: &Reading<'_>) -> Option<Headroom> {
        let headroom = self.model.observe(self.now, reading, &self.facts);
        self.now = self.now.plus(Duration::from_secs(15));
        headroom
    }
}

/// Both endpoints answer as the golden files have it.
fn all() -> Reading<'static> {
    Reading { network: None, interfaces: Some(Ok(ENIS)), settings: Some(SETTINGS), metrics: Some(Ok(METRICS)) }
}

fn failing(problem: Problem) -> Reading<'static> {
    Reading { interfaces: Some(Err(problem)), ..all() }
}

fn pods(headroom: &Headroom) -> (i64, i64, Limit) {
    let outlook = headroom.outlook.unwrap();
    (outlook.now, outlook.reachable, outlook.binding)
}

#[tokio::test]
async fn the_node_of_the_golden_documents_is_read_whole() {
    let mut node = Node::new();
    let first = node.reads(&all());
    assert_eq!((first.source, first.confidence), (Some(Source::Introspection), Confidence::Exact));
    assert_eq!(first.state, State::SubnetExhausted, "refusals from before our time, until the next scrape");
    assert_eq!(pods(&first), (1, 1, Limit::Subnet));
    assert_eq!(first.cause, "subnet-0123456789abcdef0 is full: EC2 refused before this agent started");
    let second = node.reads(&all());
    assert_eq!((second.state, pods(&second)), (State::Ok, (2, 7, Limit::MaxPods)), "the last address has come to rest");
    assert_eq!((second.cause.as_str(), second.problems.len()), ("max-pods 11", 0));
    assert_eq!(second.states, [State::SubnetExhausted, State::Ok]);
    assert_eq!(second.bindings, [Limit::Subnet, Limit::MaxPods]);
    assert_eq!((second.traps.len(), second.doubts.len()), (0, 0));
    let share = SubnetShare { pool: 3, interfaces: 2, block: None };
    assert_eq!(second.subnets, BTreeMap::from([("subnet-0123456789abcdef0".to_owned(), share)]));
    for (counter, times) in [(2, "once"), (4, "3 times")] {
        let counted = format!("InSubnet\"}} {counter}\n");
        let refused = String::from_utf8(METRICS.to_vec()).unwrap().replace("InSubnet\"} 1\n", &counted);
        let third = node.reads(&Reading { metrics: Some(Ok(refused.as_bytes())), ..all() });
        assert_eq!((third.state, pods(&third)), (State::SubnetExhausted, (2, 2, Limit::Subnet)));
        let cause = format!("subnet-0123456789abcdef0 is full: EC2 refused {times} since the pool last grew");
        assert_eq!(third.cause, cause);
    }
}

#[tokio::test]
async fn a_source_that_fails_gives_way_after_three_times_and_comes_back_at_once() {
    let mut node = Node::new();
    node.reads(&all());
    for (times, source) in [(1, Source::Introspection), (2, Source::Introspection), (3, Source::Metrics)] {
        let headroom = node.reads(&failing(Problem::Timeout));
        assert_eq!(headroom.source, Some(source), "{times}");
        assert_eq!(headroom.problems["introspection"], "no complete answer in time");
    }
    let headroom = node.reads(&failing(Problem::Refused));
    let pool = headroom.pool.as_ref().unwrap();
    assert_eq!((pool.total, pool.assigned, pool.cooldown, pool.free()), (3, 1, None, 2));
    assert_eq!(headroom.confidence, Confidence::Estimate);
    assert!(headroom.subnets.is_empty() && !headroom.forecast.starved);
    let headroom = node.reads(&all());
    assert_eq!((headroom.source, headroom.problems.len()), (Some(Source::Introspection), 0));
}

#[tokio::test]
async fn each_bad_answer_of_introspection_is_named_and_the_metrics_take_over() {
    for (answer, named) in [
        (Ok(b"".as_slice()), "ends too early"),
        (Ok(&ENIS[..200]), "ends too early"),
        (Ok(br#"{"AvailableCommands":["/v1/enis"]}"#), "list of commands"),
        (Ok(b"Not Found"), "no JSON"),
        (Ok(br#"{"0":{"ENIs":{}}}"#), "names no network interface"),
        (Err(Problem::Refused), "nobody listens"),
        (Err(Problem::Timeout), "in time"),
        (Err(Problem::Broken), "broke"),
        (Err(Problem::Status(404)), "status 404"),
        (Err(Problem::TooLarge), "too large"),
    ] {
        let mut node = Node::new();
        let mut headroom = None;
        for _ in 0..3 {
            headroom = node.try_reads(&Reading { interfaces: Some(answer.clone()), ..all() });
        }
        let headroom = headroom.unwrap();
        assert_eq!(headroom.source, Some(Source::Metrics), "{named}");
        assert!(headroom.problems["introspection"].contains(named), "{:?}", headroom.problems);
    }
}

#[tokio::test]
async fn with_metrics_gone_the_pool_stays_exact_and_the_instances_limits_are_remembered() {
    let mut node = Node::new();
    node.reads(&all());
    for _ in 0..4 {
        let headroom = node.reads(&Reading { metrics: Some(Err(Problem::Refused)), ..all() });
        assert_eq!((headroom.source, headroom.confidence), (Some(Source::Introspection), Confidence::Exact));
        assert_eq!(headroom.limits.instance, Some(9));
    }
    let mut never = Node::new();
    let headroom = never.reads(&Reading { metrics: Some(Err(Problem::Refused)), ..all() });
    assert_eq!((headroom.limits.instance, pods(&headroom)), (None, (1, 1, Limit::AddressPool)));
    assert_eq!(headroom.cause, "how far the pool can grow is not known");
}

#[tokio::test]
async fn ipamd_is_down_when_both_are_gone_and_up_when_either_answers() {
    let nothing = || Reading {
        network: None,
        interfaces: Some(Err(Problem::Refused)),
        settings: None,
        metrics: Some(Err(Problem::Refused)),
    };
    let mut node = Node::new();
    for state in [State::Ok, State::Ok, State::IpamdDown] {
        let headroom = node.reads(&nothing());
        assert_eq!((headroom.state, headroom.source, headroom.outlook), (state, None, None));
    }
    assert_eq!(node.reads(&Reading { metrics: Some(Ok(METRICS)), ..nothing() }).source, Some(Source::Metrics));
    assert_ne!(node.reads(&Reading::default()).state, State::IpamdDown);
}

#[tokio::test]
async fn on_a_node_with_another_cni_there_is_nothing_to_say() {
    let mut node = Node::new();
    node.facts.aws_node = None;
    for _ in 0..5 {
        let nothing = Reading {
            network: None,
            interfaces: Some(Err(Problem::Refused)),
            settings: None,
            metrics: Some(Ok(b"go_threads 5\n".as_slice())),
        };
        assert_eq!(node.try_reads(&nothing), None);
    }
    assert!(node.model.problems()["metrics"].contains("not ipamd's metrics"));
}

#[tokio::test]
async fn with_ipv6_the_headroom_is_the_kubelets_room() {
    let mut node = Node::new();
    let enis = include_bytes!("../../../tests/golden/cni/enis-ipv6.json");
    let headroom = node.reads(&Reading { interfaces: Some(Ok(enis)), ..all() });
    assert_eq!((pods(&headroom), headroom.efficiency), ((7, 7, Limit::MaxPods), None));
    assert_eq!(headroom.forecast, Forecast::default());
}

#[tokio::test]
async fn several_network_cards_are_an_estimate() {
    let enis = String::from_utf8(ENIS.to_vec()).unwrap();
    let other = r#","1":{"TotalIPs":1,"ENIs":{"eni-2":{"AvailableIPv4Cidrs":{"10.8.9.9/32":{}}}}}}"#;
    let both = format!("{}{other}", enis.trim_end().strip_suffix('}').unwrap());
    let headroom = Node::new().reads(&Reading { interfaces: Some(Ok(both.as_bytes())), ..all() });
    assert_eq!(headroom.confidence, Confidence::Estimate);
    assert_eq!(headroom.limits.instance, Some(18), "each card has as many interfaces as ipamd tells of one");
    let pool = headroom.pool.unwrap();
    assert_eq!((pool.total, pool.cards, pool.scarcest_card), (4, 2, 1));
    let unused = both.replace(r#""eni-2":{"#, r#""eni-2":{"IsExcludedForPodIPs":true,"#);
    let headroom = Node::new().reads(&Reading { interfaces: Some(Ok(unused.as_bytes())), ..all() });
    assert_eq!((headroom.limits.instance, headroom.pool.unwrap().total), (Some(9), 3), "a card that carries no pods");
}

#[tokio::test]
async fn the_settings_of_the_pod_shape_the_limits_and_the_cooldown() {
    let set = |name: &str, value: &str| Environment::from([(name.to_owned(), Some(value.to_owned()))]);
    let mut node = Node::new();
    node.facts.aws_node = Some(Arc::new(set("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true")));
    assert_eq!(node.reads(&Reading { network: None, settings: None, ..all() }).limits.instance, Some(6));
    assert_eq!(node.reads(&all()).limits.instance, Some(9), "the running process says false");
    let mut node = Node::new();
    node.facts.aws_node = Some(Arc::new(set("IP_COOLDOWN_PERIOD", "0")));
    let headroom = node.reads(&all());
    assert_eq!((headroom.pool.unwrap().cooldown, headroom.traps), (Some(0), vec![Trap::NoCooldown]));
    let mut node = Node::new();
    node.facts.aws_node = Some(Arc::new(set("MINIMUM_IP_TARGET", "3")));
    let headroom = node.reads(&all());
    assert_eq!((headroom.state, headroom.traps), (State::ConfigCeiling, vec![Trap::MinimumWithoutWarm]));
    assert_eq!(headroom.cause, "MINIMUM_IP_TARGET without WARM_IP_TARGET: ceiling of 3");
}

#[tokio::test]
async fn a_cordon_stops_growth_and_says_so() {
    let mut node = Node::new();
    node.facts.cordoned = true;
    let headroom = node.reads(&all());
    assert_eq!((headroom.state, pods(&headroom)), (State::NodeUnschedulable, (1, 1, Limit::AddressPool)));
    assert_eq!(headroom.cause, "cordoned: ipamd does not grow");
}

/// The doubts that are found when every reading is this one for ten minutes.
fn doubts(node: &mut Node, reading: &dyn Fn(u32) -> Vec<u8>) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    for time in 0..40 {
        let body = reading(time);
        let metrics = String::from_utf8(METRICS.to_vec()).unwrap();
        // The pool manager is alive.
        let metrics = metrics.replace("ReconcileAdd\"} 54", &format!("ReconcileAdd\"}} {}", 54 + time));
        let reading = Reading {
            network: None,
            interfaces: Some(Ok(&body)),
            settings: None,
            metrics: Some(Ok(metrics.as_bytes())),
        };
        doubts = node.reads(&reading).doubts;
    }
    doubts
}

#[tokio::test]
async fn sums_that_do_not_add_up_for_minutes_are_doubted() {
    assert_eq!(doubts(&mut Node::new(), &|_| ENIS.to_vec()), []);
    let mut fewer = Node::new();
    fewer.facts.addressed_pods = 0;
    assert_eq!(doubts(&mut fewer, &|_| ENIS.to_vec()), [Doubt::Leak]);
    let negative = include_bytes!("../../../tests/golden/cni/enis-negative-total.json");
    assert_eq!(doubts(&mut Node::new(), &|_| negative.to_vec()), [Doubt::TotalMismatch]);
    assert_eq!(doubts(&mut Node::new(), &|_| b"{}".to_vec()), [Doubt::EmptyDocument]);
    let sometimes = |time: u32| if time.is_multiple_of(5) { ENIS.to_vec() } else { b"{}".to_vec() };
    assert_eq!(doubts(&mut Node::new(), &sometimes), []);
}

#[tokio::test]
async fn a_pool_manager_without_a_heartbeat_is_doubted() {
    let mut node = Node::new();
    let mut doubts = Vec::new();
    for _ in 0..23 {
        doubts = node.reads(&all()).doubts;
    }
    assert_eq!(doubts, [Doubt::PoolManagerStuck]);
}

proptest::proptest! {
    /// Whatever both endpoints say, something is made of it without a panic, and nothing below zero comes out.
    #[test]
    fn no_figures_of_ipamd_make_the_model_panic(
        figures in proptest::collection::vec(proptest::num::f64::ANY, 5), stated in proptest::num::i64::ANY,
        length in 0_u32..129, max_pods in proptest::option::of(proptest::num::i64::ANY), minimum in proptest::num::i64::ANY,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let mut node = Node::new();
        node.facts.max_pods = max_pods;
        let environment = [("MINIMUM_IP_TARGET".to_owned(), Some(minimum.to_string()))];
        node.facts.aws_node = Some(Arc::new(Environment::from(environment)));
        let names = ["eni_max", "ip_max", "total_ip_addresses", "assigned_ip_addresses", "add_ip_req_count"];
        let lines = names.iter().zip(&figures).map(|(name, value)| format!("awscni_{name} {value}\n"));
        let metrics: String = lines.collect();
        let enis = format!(
            r#"{{"0":{{"TotalIPs":{stated},"ENIs":{{"a":{{"AvailableIPv4Cidrs":{{"10.0.0.0/{}":{{}}}},"IPv6Cidrs":{{"::/{length}":{{}},"::1/0":{{}}}}}},"b":{{}}}}}}}}"#,
            length % 33
        );
        for reading in [
            Reading { network: None, interfaces: Some(Ok(enis.as_bytes())), settings: None, metrics: Some(Ok(metrics.as_bytes())) },
            Reading { network: None, interfaces: None, settings: None, metrics: Some(Ok(metrics.as_bytes())) },
        ] {
            if let Some(outlook) = node.try_reads(&reading).and_then(|headroom| headroom.outlook) {
                proptest::prop_assert!(outlook.now >= 0 && outlook.reachable >= outlook.now);
            }
        }
    }
}
