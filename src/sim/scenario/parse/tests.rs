use super::*;
use crate::config::{MarkStyle, OnBlockedEviction, Response};
use crate::signal::Kind;
use crate::sim::ipamd::{Api, Endpoint, Refusal, Version};
use crate::sim::scenario::{ApiEvent, ApiFault, CniEvent, CniFault, KeyValue, Limit, Span, StopsAfter, Window};

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
    assert!(message.starts_with("try.toml:3:") && message.contains("between 0 and 2678400"), "{message}");
}

#[test]
fn what_the_parser_does_not_understand_is_refused_with_its_line() {
    assert!(refusal("title = \"t\"\nbroken\n").starts_with("try.toml:2:"));
    assert!(refusal("").contains("missing field `title`"));
}

#[test]
fn a_reference_to_nothing_is_refused_with_its_line_and_what_there_is() {
    let pods = "title = \"t\"\n[[pods]]\nname = \"web\"\n";
    let message =
        refusal(&format!("{pods}[[events]]\nat = 1\nactor = {{ name = \"a\", does = \"evict\", pods = [\"wbe\"] }}\n"));
    assert_eq!(message, "try.toml:4: no pod group is called \"wbe\"; there is web");
    let message =
        refusal(&format!("{pods}[[budgets]]\nname = \"b\"\nselector = {{ app = \"x\" }}\nmin_available = 1\n"));
    assert!(message.starts_with("try.toml:4: the selector of budget \"b\" matches no pod group"), "{message}");
    let message = refusal(&format!("{pods}[expect]\nevents = {{ Drained = 1 }}\n"));
    assert!(message.starts_with("try.toml:4: no Event reason is called \"Drained\"; there is SpotInterr"), "{message}");
}

#[test]
fn contradictions_are_refused_with_what_would_be_valid() {
    let budget = "title = \"t\"\n[[pods]]\nname = \"a\"\n[[budgets]]\nname = \"b\"\nselector = { app = \"a\" }\n";
    assert!(refusal(budget).contains("exactly one of `min_available` and `max_unavailable`"));
    let event = |what: &str| refusal(&format!("title = \"t\"\n[[events]]\nat = 1\n{what}\n"));
    assert!(event("").contains("exactly one of `rebalance`, `scheduled`"));
    assert!(event("api = { fault = \"slow\", for = 3 }").starts_with("try.toml:4: the fault `slow` needs `latency`"));
    assert!(event("api = { fault = \"gone\" }").contains("needs `for`"));
    assert!(event("actor = { name = \"a\", does = \"cordon\", grace = 3 }").contains("`cordon` needs nothing"));
    assert!(event("actor = { name = \"a\", does = \"taint\", taint = \"x\" }").contains("key=value:effect"));
    assert!(refusal("title = \"t\"\n[[pods]]\nname = \"a\"\n[[pods]]\nname = \"a\"\n").starts_with("try.toml:4: two"));
    assert!(refusal("title = \"t\"\n[[pods]]\nname = \"A\"\n").contains("cannot name a pod group"));
    assert!(refusal("title = \"t\"\n[[pods]]\nname = \"a\"\ncount = 501\n").contains("1 to 500 pods"));
    assert!(refusal("title = \"t\"\n[[pods]]\nname = \"a\"\nstops_after = \"soon\"\n").contains("or \"never\""));
}

#[test]
fn announcements_and_settings_keep_every_word() {
    let text = r#"
title = "t"
lasts = 90
virtual_only = "it is long"
[notice]
action = "stop"
back_after = 20
slides = true
word = "evaporate"
[node]
clock_ahead = -300
[agent]
on_rebalance_recommendation = "drain"
node_marks = "aws-node-termination-handler"
shutdown_grace_by_priority = { "1000" = 10, "-5" = 30 }
copies = 2
[[pods]]
name = "web"
priority = 7
annotations = { wish = "stay" }
[[events]]
at = 1
scheduled = { id = "a", code = "system-reboot", in = 60, lasts = 30 }
[[events]]
at = 2
scheduled = { id = "a", becomes = "lingering" }
[[events]]
at = 3
instance = { does = "reboot", back_after = 5 }
[[events]]
at = 4
actor = { name = "p", does = "label", label = "a/b=c=d" }
[[events]]
at = 5
look = { taint = "PreferNoSchedule", pending = ["asg-termination"] }
[expect]
told = { web = [1, 2.5] }
notices = { scheduled-event = 1 }
"#;
    let scenario = Scenario::parse("t.toml", text).unwrap();
    assert_eq!((scenario.lasts, scenario.virtual_only.as_deref()), (Some(Duration::from_secs(90)), Some("it is long")));
    let notice = scenario.notice.unwrap();
    assert_eq!((notice.back_after, notice.word.as_deref()), (Some(Duration::from_secs(20)), Some("evaporate")));
    assert!(notice.slides && !notice.fails && scenario.node.clock_ahead == -300);
    let shares: Vec<_> =
        scenario.agent.shutdown_grace_by_priority.iter().map(|share| (share.priority, share.seconds)).collect();
    assert_eq!(shares, [(-5, 30), (1000, 10)], "ascending");
    assert_eq!(scenario.agent.on_rebalance_recommendation, Some(Response::Drain));
    assert_eq!(scenario.agent.node_marks, Some(MarkStyle::NodeTerminationHandler));
    assert_eq!((scenario.pods[0].priority, scenario.pods[0].annotations["wish"].as_str()), (Some(7), "stay"));
    let What::Scheduled(first) = &scenario.events[0].what else { panic!("{:?}", scenario.events[0]) };
    assert_eq!((first.not_before_in, first.becomes), (Some(Duration::from_mins(1)), EventBecomes::Active));
    let label = ActorDoes::Label(KeyValue { key: "a/b".into(), value: "c=d".into() });
    assert_eq!(scenario.events[3].what, What::Actor(ActorEvent { name: "p".into(), does: label }));
    let What::Look(look) = &scenario.events[4].what else { panic!("{:?}", scenario.events[4]) };
    assert_eq!(
        (look.taint.as_deref(), look.pending.as_deref()),
        (Some("PreferNoSchedule"), Some(&[Kind::AsgTermination][..]))
    );
    let window = Window { from: Duration::from_secs(1), to: Duration::from_millis(2500) };
    assert_eq!(scenario.expect.told["web"], window);
}

#[test]
fn what_a_new_event_leaves_open_is_refused() {
    let event = |what: &str| refusal(&format!("title = \"t\"\n[[events]]\nat = 1\n{what}\n"));
    assert!(event("scheduled = { id = \"a\", in = 5 }").contains("needs `code` and `in` when it appears"));
    assert!(
        event("scheduled = { id = \"a\", code = \"x\", in = 5, becomes = \"vanished\" }").contains("when it appears")
    );
    assert!(event("instance = { does = \"reboot\" }").contains("needs `back_after`"));
    assert!(event("instance = { does = \"terminate\", back_after = 3 }").contains("for good"));
    assert!(event("actor = { name = \"a\", does = \"label\", label = \"x\" }").contains("expected \"key=value\""));
    assert!(event("actor = { name = \"a\", does = \"untaint\" }").contains("`untaint` need `taint`"));
    assert!(event("look = { taint = \"NoExecute\" }").contains("\"PreferNoSchedule\""));
    let table = |text: &str| refusal(&format!("title = \"t\"\n{text}\n"));
    assert!(table("[agent]\non_asg_termination = \"flee\"").contains("expected one of \"ignore\", \"observe\""));
    assert!(table("[agent]\nshutdown_grace_by_priority = { high = 3 }").contains("is not a whole number"));
    assert!(table("[[pods]]\nname = \"a\"\npriority = 1\npriority_class = \"x\"").contains("drop it or"));
    assert!(table("[[pods]]\nname = \"a\"\n[expect]\ntold = { a = [3, 2] }").contains("no span of time"));
    assert!(table("[expect]\nuntouched = [\"b\"]").contains("no pod group is called \"b\""));
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
        "[cni]\n",
        "[cni.settings]\n",
        "[[cni.subnets]]\nid = \"a\"\ncidr = \"10.8.1.0/24\"\n",
        "[agent]\n",
        "[[pods]]\n",
        "[[budgets]]\n",
        "[[events]]\n",
        "[[events]]\nbudget.",
        "[[events]]\nimds.",
        "[[events]]\napi.",
        "[[events]]\nagent.",
        "[[events]]\nactor.",
        "[[events]]\nrebalance.",
        "[[events]]\nscheduled.",
        "[[events]]\nraw.",
        "[[events]]\ninstance.",
        "[[events]]\nlook.",
        "[[events]]\ncni.",
        "[[events]]\nlook.headroom.",
        "[[events]]\nrebalance.",
        "[[events]]\nscheduled.",
        "[[events]]\nraw.",
        "[[events]]\ninstance.",
        "[[events]]\nlook.",
        "[expect]\n",
        "[sinks.slack]\n",
        "[sinks.slack]\n[expect.sinks.slack]\n",
        "[expect.headroom]\n",
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

#[test]
fn announced_times_and_the_settings_that_go_with_them_keep_their_proportions() {
    let text = "title = \"t\"\nlasts = 40\n[agent]\nasg_hook_timeout = 60\nsafety_margin = 3\n[[pods]]\nname = \"a\"\n\
                [[events]]\nat = 10\nscheduled = { id = \"e\", code = \"system-reboot\", in = 30 }\n\
                [expect]\ntold = { a = [10, 20] }\n";
    let half = Scenario::parse("t.toml", text).unwrap().scaled(0.5);
    let seconds = Duration::from_secs;
    assert_eq!((half.lasts, half.agent.asg_hook_timeout), (Some(seconds(20)), Some(seconds(30))));
    assert_eq!(half.agent.safety_margin, Some(seconds(3)), "what the agent brings along stays");
    assert_eq!(half.events[0].at, seconds(5));
    let What::Scheduled(change) = &half.events[0].what else { panic!("{:?}", half.events[0]) };
    assert_eq!(change.not_before_in, Some(seconds(15)));
    assert_eq!(half.expect.told["a"], Window { from: seconds(5), to: seconds(10) });
}

#[test]
fn the_cni_and_what_happens_to_it_keep_every_word() {
    let text = r#"
title = "t"
[cni]
version = "1.19.6"
cards = 2
settings = { WARM_IP_TARGET = 3, ENABLE_IPv6 = true, IP_COOLDOWN_PERIOD = 10 }
subnets = [{ id = "a", cidr = "10.8.1.0/24" }, { id = "b", cidr = "10.9.0.0/16" }]
pod_subnet = "b"
[[pods]]
name = "web"
count = 5
arrives = 10
every = 20
at_once = 2
lives = 30
host_network = true
[[events]]
at = 1
cni = { does = "fragment", subnet = "b", blocks = 2 }
[[events]]
at = 2
cni = { does = "refuse", call = "CreateNetworkInterface", code = "RequestLimitExceeded" }
[[events]]
at = 3
cni = { does = "hangs", endpoint = "metrics", for = 9 }
[[events]]
at = 4
look = { headroom = { now = 3, reachable = [4, 9], binding = "subnet" } }
[expect]
headroom = { states = ["ok", "stalled"], waited = 0 }
"#;
    let scenario = Scenario::parse("t.toml", text).unwrap();
    let cni = scenario.cni.unwrap();
    assert_eq!((cni.version, cni.cards, cni.max_pods), (Version(1, 19, 6), 2, 29));
    let settings = cni.settings.settings();
    assert_eq!((settings.warm_ip_target, settings.ipv6, settings.cooldown), (3, true, Duration::from_secs(10)));
    let variables = cni.settings.variables();
    assert!(variables.contains(&("ENABLE_IPv6", "true".into())) && variables.contains(&("WARM_IP_TARGET", "3".into())));
    assert!(!variables.iter().any(|(name, _)| *name == "MINIMUM_IP_TARGET"), "as in the manifest: {variables:?}");
    assert_eq!((cni.subnets[1].len, cni.pod_subnet.as_deref()), (16, Some("b")));
    let arrivals: Vec<_> = scenario.pods[0].arrivals().map(|(at, index)| (at.as_secs(), index)).collect();
    assert_eq!(arrivals, [(10, 0), (10, 1), (30, 2), (30, 3), (50, 4)]);
    assert!(scenario.pods[0].host_network && scenario.pods[0].lives == Some(Duration::from_secs(30)));
    let fragment = CniEvent::Fragment { subnet: Some("b".into()), blocks: 2 };
    let refuse = CniEvent::Refuse(Api::Create, Refusal::RequestLimitExceeded);
    let lasts = Duration::from_secs(9);
    let hangs = CniEvent::Fault { fault: CniFault::Hangs, endpoint: Some(Endpoint::Metrics), lasts };
    for (event, expected) in scenario.events.iter().zip([fragment, refuse, hangs]) {
        assert_eq!(event.what, What::Cni(expected));
    }
    let What::Look(NodeExpect { headroom: Some(headroom), .. }) = &scenario.events[3].what else { panic!("no look") };
    assert_eq!((headroom.now, headroom.reachable), (Some(Span { from: 3, to: 3 }), Some(Span { from: 4, to: 9 })));
    assert_eq!(scenario.expect.headroom.states.unwrap(), ["ok", "stalled"]);
}

#[test]
fn what_is_said_of_the_cni_is_refused_by_line_if_it_cannot_be() {
    let table = |text: &str| refusal(&format!("title = \"t\"\n[cni]\n{text}\n"));
    for (text, named) in [
        ("version = \"latest\"", "not a release"),
        ("max_pods = 0", "1 to 500"),
        ("enis = 16", "1 to 15"),
        ("subnets = []", "the primary interface needs one"),
        ("subnets = [{ id = \"a\", cidr = \"10.8.1.0\" }]", "no IPv4 subnet"),
        ("pod_subnet = \"subnet-x\"", "no subnet is called"),
        ("settings = { WARM_TARGET = 3 }", "WARM_ENI_TARGET"),
        ("[[pods]]\nname = \"a\"\nat_once = 2", "`every`"),
        ("[[events]]\nat = 1\ncni = { does = \"kill\", free = 1 }", "`kill` and `trunk` need nothing"),
        ("[[events]]\nat = 1\ncni = { does = \"hangs\" }", "need `for`"),
        ("[[events]]\nat = 1\ncni = { does = \"fill\", free = 1, subnet = \"x\" }", "no subnet is called"),
        ("[[events]]\nat = 1\ncni = { does = \"allow\", call = \"Run\" }", "AssignPrivateIpAddresses"),
        ("[[events]]\nat = 1\nlook = { headroom = { state = \"fine\" } }", "no growth state"),
        ("[[events]]\nat = 1\nlook = { headroom = { now = [2, 1] } }", "is empty"),
        ("[expect.headroom]\nbindings = [\"pods\"]", "no limit is called"),
        ("[expect.headroom]\nsources = [\"rumour\"]", "no source is called"),
    ] {
        let message = table(text);
        assert!(message.starts_with("try.toml:") && message.contains(named), "{text}: {message}");
    }
    for text in [
        "[[events]]\nat = 1\ncni = { does = \"kill\" }",
        "[[events]]\nat = 1\nlook = { headroom = { now = 1 } }",
        "[expect.headroom]\nwaited = 0",
    ] {
        assert!(refusal(&format!("title = \"t\"\n{text}\n")).contains("add a table `[cni]`"), "{text}");
    }
}
