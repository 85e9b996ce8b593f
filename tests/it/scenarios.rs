//! Every shipped scenario, played with the real agent: against the embedded API server in virtual time, and side by side
//! against a real one in real time, with the token and the rights that the manifests give the agent.

use std::collections::BTreeSet;
use std::time::Duration;

use spotwarden::clock::Clock;
use spotwarden::config::MarkStyle;
use spotwarden::sim::gateway::backend::Remote;
use spotwarden::sim::gateway::log::LoggedRequest;
use spotwarden::sim::scenario::{SHIPPED, Scenario};
use spotwarden::sim::timeline::TimelineEntry;
use spotwarden::sim::world::{BackendHandle, Options, World};

use crate::access::{ACCOUNT, apply_access, apply_access_of_termination_handler, token_on};
use crate::controlplane::ControlPlane;
use crate::manifests;

/// Plays a scenario and fails with the whole story if the verdict is bad.
///
/// Nothing here depends on the API server being the embedded one or on time being virtual.
async fn play(scenario: &Scenario, backend: BackendHandle, clock: Clock) -> Vec<LoggedRequest> {
    let mut story = String::new();
    let tell = |entry: TimelineEntry| {
        story.push_str(&entry.line(false));
        story.push('\n');
    };
    let mut world = match World::open(scenario, backend, clock, &Options::default()).await {
        Ok(world) => world,
        Err(error) => panic!("{}: {error}", scenario.name),
    };
    let report = world.play(tell).await;
    assert!(report.passed, "\n{story}\n{}", report.text(false));
    world.requests()
}

fn shipped(name: &str) -> Scenario {
    Scenario::load(name).unwrap()
}

fn virtual_clock() -> Clock {
    Clock::anchored("2026-01-05T12:00:00.25Z".parse().unwrap())
}

macro_rules! scenarios {
    ($($test:ident: $name:literal),* $(,)?) => {
        const TESTED: &[&str] = &[$($name),*];
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                let clock = virtual_clock();
                play(&shipped($name), BackendHandle::embedded(clock), clock).await;
            }
        )*
    };
}

scenarios! {
    plain_notice: "plain-notice",
    full_node: "full-node",
    budget_frees: "budget-frees",
    budget_never_frees: "budget-never-frees",
    two_budgets: "two-budgets",
    long_graces: "long-graces",
    ignores_sigterm: "ignores-sigterm",
    mixed_node: "mixed-node",
    late_pods: "late-pods",
    late_notice: "late-notice",
    stop: "stop",
    hibernate: "hibernate",
    wait: "wait",
    pod_wishes: "pod-wishes",
    priority_shares: "priority-shares",
    load_balancer_wait: "load-balancer-wait",
    shutdown_tail: "shutdown-tail",
    dry_run: "dry-run",
    observe: "observe",
    rebalance_alone: "rebalance-alone",
    rebalance_then_notice: "rebalance-then-notice",
    rebalance_with_notice: "rebalance-with-notice",
    rebalance_drain: "rebalance-drain",
    reboot: "reboot",
    reboot_rescheduled: "reboot-rescheduled",
    two_events: "two-events",
    maintenance_lingers: "maintenance-lingers",
    stop_and_start: "stop-and-start",
    asg_termination: "asg-termination",
    asg_back_in_service: "asg-back-in-service",
    asg_standby: "asg-standby",
    asg_and_notice: "asg-and-notice",
    nth_marks: "nth-marks",
    imds_down: "imds-down",
    imds_flaps: "imds-flaps",
    imds_disabled: "imds-disabled",
    hop_limit: "hop-limit",
    sliding_notice: "sliding-notice",
    clock_ahead: "clock-ahead",
    failed_termination: "failed-termination",
    unknown_words: "unknown-words",
    api_slow: "api-slow",
    api_gone: "api-gone",
    admission_denies_label: "admission-denies-label",
    admission_denies_taint: "admission-denies-taint",
    agent_restart: "agent-restart",
    agent_stop: "agent-stop",
    asg_restart: "asg-restart",
    two_agents: "two-agents",
    sinks_told: "sinks-told",
    sinks_foreseen: "sinks-foreseen",
    sinks_down: "sinks-down",
    sinks_slow: "sinks-slow",
    sinks_restart: "sinks-restart",
    sinks_dry_run: "sinks-dry-run",
    second_actor: "second-actor",
    people_and_kubectl: "people-and-kubectl",
    other_controllers: "other-controllers",
    taken_over: "taken-over",
    beside_nth: "beside-nth",
    nth_left_behind: "nth-left-behind",
    everybody_at_once: "everybody-at-once",
    cni_growth: "cni-growth",
    cni_max_pods: "cni-max-pods",
    cni_subnet_full: "cni-subnet-full",
    cni_fragmented: "cni-fragmented",
    cni_custom_networking: "cni-custom-networking",
    cni_cooldown: "cni-cooldown",
    cni_sawtooth: "cni-sawtooth",
    cni_restart: "cni-restart",
    cni_gone: "cni-gone",
    cni_lies: "cni-lies",
    cni_upgrade: "cni-upgrade",
    cni_settings: "cni-settings",
    cni_ipv6: "cni-ipv6",
    cni_two_cards: "cni-two-cards",
    cni_interruption: "cni-interruption",
    cni_drain_waits: "cni-drain-waits",
    cni_drain_hurries: "cni-drain-hurries",
    cni_taint: "cni-taint",
}

#[test]
fn every_shipped_scenario_is_played() {
    let shipped: BTreeSet<_> = SHIPPED.iter().filter_map(|(file, _)| file.strip_suffix(".toml")).collect();
    assert_eq!(TESTED.iter().copied().collect::<BTreeSet<_>>(), shipped);
}

/// Rows of the tables in docs/scenarios.md whose first cell is `cell`-like and whose last names files.
fn rows_of_the_page() -> Vec<(String, Vec<String>)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scenarios.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("What is shown")).unwrap().to_owned();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let files = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    cells.filter(|cells| cells.len() > 1).map(|cells| (cells[0].to_owned(), files(cells[cells.len() - 1]))).collect()
}

#[test]
fn the_page_says_which_file_shows_each_acceptance_scenario() {
    let rows = rows_of_the_page();
    for number in 1..=20 {
        let name = format!("S{number}");
        let files: Vec<_> = rows.iter().filter(|(cell, _)| *cell == name).flat_map(|(_, files)| files).collect();
        assert!(!files.is_empty(), "{name} has no file");
    }
    let named: BTreeSet<&str> = rows.iter().flat_map(|(_, files)| files).map(String::as_str).collect();
    let there: BTreeSet<&str> = TESTED.iter().copied().collect();
    assert_eq!(named, there, "left: named on the page, right: files");
}

#[tokio::test(start_paused = true)]
async fn a_long_scenario_has_the_same_verdict_in_half_the_time() {
    let clock = virtual_clock();
    play(&short(shipped("mixed-node")), BackendHandle::embedded(clock), clock).await;
}

#[tokio::test(start_paused = true)]
async fn two_worlds_share_one_api_server() {
    let clock = virtual_clock();
    let backend = BackendHandle::embedded(clock);
    let (one, other) = (shipped("stop"), shipped("budget-frees"));
    tokio::join!(play(&one, backend.clone(), clock), play(&other, backend, clock));
}

#[tokio::test(start_paused = true)]
async fn a_bad_end_is_a_bad_verdict() {
    let text = "title = \"t\"\n[notice]\nlead = 15\n[agent]\non_blocked_eviction = \"wait\"\n[[pods]]\nname = \"web\"\n\
                [[budgets]]\nname = \"web\"\nselector = { app = \"web\" }\nmin_available = 1\n";
    let scenario = Scenario::parse("bad.toml", text).unwrap();
    let clock = virtual_clock();
    let report = World::run(&scenario, BackendHandle::embedded(clock), clock, |_| {}).await.unwrap();
    assert_eq!((report.passed, report.deadline_met), (false, Some(false)));
    assert_eq!(report.cut_off, ["web-0"]);
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.passed).map(|check| &check.name).collect();
    assert_eq!(failed, ["the node is clear before the deadline", "the number of pods cut off by the power is 0"]);
}

/// Where nobody listens at ipamd's addresses, the agent has nothing to say of addresses; where ipamd answers, it says so.
#[tokio::test(start_paused = true)]
async fn only_a_node_with_the_vpc_cni_has_a_headroom() {
    for (cni, expected) in [("", false), ("[cni]\n", true)] {
        let text = format!("title = \"t\"\nlasts = 60\n{cni}[[pods]]\nname = \"web\"\n");
        let scenario = Scenario::parse("quiet.toml", &text).unwrap();
        let (clock, mut lines) = (virtual_clock(), Vec::new());
        let tell = |entry: TimelineEntry| lines.push(entry.line(false));
        let report = World::run(&scenario, BackendHandle::embedded(clock), clock, tell).await.unwrap();
        assert!(report.passed, "{}", report.text(false));
        assert_eq!(lines.iter().any(|line| line.contains("sees addresses for")), expected, "{lines:#?}");
        assert_eq!((report.headroom.is_some(), report.text(false).contains("pod IPs")), (expected, expected));
        assert!(!report.events.keys().any(|reason| reason.starts_with("PodIPs")), "{:?}", report.events);
    }
}

/// Both directions: a call without a rule would fail in a cluster, a rule without a call is a right for nothing.
#[tokio::test(start_paused = true)]
async fn the_manifests_grant_exactly_the_calls_of_all_scenarios() {
    let mut made = BTreeSet::new();
    for name in TESTED {
        let clock = virtual_clock();
        let requests = play(&shipped(name), BackendHandle::embedded(clock), clock).await;
        made.extend(requests.into_iter().map(|request| permission(&request)));
    }
    assert_eq!(made, manifests::granted());
}

fn permission(request: &LoggedRequest) -> manifests::Permission {
    let attributes = &request.attributes;
    (attributes.group.clone(), attributes.resource_path(), attributes.verb.to_string())
}

/// Until the next world begins, so that their pods are not made, evicted and stopped in the same moments on two cores.
fn headway(scenario: &Scenario) -> Duration {
    let pods: u32 = scenario.pods.iter().map(|group| group.count).sum();
    Duration::from_millis(250) + Duration::from_millis(20) * pods
}

/// The account of agents that mark nodes like the AWS node termination handler.
const LIKE_NTH: &str = "spotwarden-like-nth";

/// One thread and one runtime for each scenario, side by side: what is waited for is real time.
#[test]
fn every_scenario_has_the_same_verdict_on_a_real_api_server() {
    let plane = ControlPlane::shared();
    runtime().block_on(async {
        apply_access(&plane.admin_client()).await;
        apply_access_of_termination_handler(&plane.admin_client(), LIKE_NTH).await;
    });
    let mut in_real_time: Vec<Scenario> =
        TESTED.iter().map(|name| shipped(name)).filter(|scenario| scenario.virtual_only.is_none()).collect();
    in_real_time.sort_by_key(|scenario| std::cmp::Reverse(headway(scenario)));
    std::thread::scope(|scope| {
        let mut begins = Duration::ZERO;
        let players = in_real_time.iter().map(|scenario| {
            let after = begins;
            begins += headway(scenario);
            let play = move || {
                std::thread::sleep(after);
                runtime().block_on(async {
                    let like_nth = scenario.agent.node_marks == Some(MarkStyle::NodeTerminationHandler);
                    let account = if like_nth { LIKE_NTH } else { ACCOUNT };
                    let token = token_on(plane, account, &World::node_of(scenario)).await;
                    let backend = Remote::new(&plane.server_url(), plane.http()).with_bearer(&token).unwrap();
                    let backend = BackendHandle::remote(plane.admin_client(), backend);
                    play(&patient(short(scenario.clone())), backend, Clock::System).await;
                });
            };
            std::thread::Builder::new().name(scenario.name.clone()).spawn_scoped(scope, play).unwrap()
        });
        let players: Vec<_> = players.collect();
        let told = players.into_iter().zip(&in_real_time);
        let bad: Vec<_> = told.filter_map(|(player, scenario)| player.join().err().map(|_| &scenario.name)).collect();
        assert!(bad.is_empty(), "bad verdicts, told above: {bad:?}");
    });
}

/// What takes long in real time is played at half its length; the meaning is in the proportions.
fn short(scenario: Scenario) -> Scenario {
    let long = scenario.notice.as_ref().is_some_and(|notice| notice.lead > Duration::from_mins(1));
    if long { scenario.scaled(0.5) } else { scenario }
}

/// Dozens of worlds and a control plane share two cores in real time: what happens is judged as ever, how fast less so.
fn patient(mut scenario: Scenario) -> Scenario {
    scenario.expect.patience = Duration::from_secs(5);
    scenario
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A reclaim storm: an agent is a value, so a hundred of them fit into one process and one API server, each with its own
/// node, metadata service and registry.
#[tokio::test(start_paused = true)]
async fn a_hundred_agents_share_a_process_and_an_api_server() {
    let clock = virtual_clock();
    let backend = BackendHandle::embedded(clock);
    let plain = Scenario::load("plain-notice").unwrap();
    let worlds = (0..100).map(|number| {
        let scenario = Scenario { name: format!("storm-{number}"), ..plain.clone() };
        let backend = backend.clone();
        async move { World::run(&scenario, backend, clock, |_| {}).await.unwrap() }
    });
    let reports = futures::future::join_all(worlds).await;
    let bad: Vec<_> = reports.iter().filter(|report| !report.passed).map(|report| report.text(false)).collect();
    assert!(bad.is_empty(), "{} of {}:\n{}", bad.len(), reports.len(), bad[0]);
}
