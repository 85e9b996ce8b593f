//! All kinds of signals from one worker: what is asked when, what the documents amount to, and that no fault of one
//! endpoint reaches another.

use std::time::Duration;

use jiff::SignedDuration;
use rstest::rstest;
use spotwarden::imds::{Client, Item};
use spotwarden::monitor::ImdsMonitor;
use spotwarden::signal::{Action, Kind, Observation, Others, SignalSource};
use spotwarden::sim::imds::{Fault, FaultKind, IdentitySpec};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ASG, HISTORY, REBALANCE, SCHEDULED, SPOT, TOKEN, World};

const SECOND: Duration = Duration::from_secs(1);

/// What else a poll may be late by: one slow answer of another endpoint, its head and the timers' resolution.
const ONE_OTHER: Duration = Duration::from_millis(1510);

/// All levels that are read within `period`.
async fn levels(monitor: &mut ImdsMonitor, period: Duration) -> Vec<Observation> {
    let end = Instant::now() + period;
    let mut levels = Vec::new();
    while let Ok(level) = tokio::time::timeout_at(end, monitor.next()).await {
        levels.push(level);
    }
    levels
}

/// The next level of `kind`.
async fn next_of(monitor: &mut ImdsMonitor, kind: Kind) -> Observation {
    loop {
        let level = monitor.next().await;
        if level.kind == kind {
            return level;
        }
    }
}

fn longest_pause(polls: &[Instant]) -> Duration {
    polls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

/// A list of one event whose date is `lead` seconds ahead by the platform's clock.
fn planned(world: &World, id: &str, lead: i64, state: &str) -> String {
    let at = world.sim.now().wall + SignedDuration::from_secs(lead);
    let not_before = at.strftime("%-d %b %Y %H:%M:%S GMT");
    format!(
        r#"[{{"NotBefore":"{not_before}","Code":"system-reboot","Description":"","EventId":"{id}","State":"{state}"}}]"#
    )
}

#[tokio::test(start_paused = true)]
async fn every_endpoint_is_polled_in_its_interval_and_all_together_stay_below_two_requests_a_second() {
    let world = World::new().await;
    let started = Instant::now();
    let read = levels(&mut world.monitor_of(Kind::ALL), 600 * SECOND).await;
    assert!(read.iter().all(|level| level.signals.is_empty()));
    for (path, interval) in [(SPOT, 1), (REBALANCE, 5), (ASG, 5), (SCHEDULED, 30)] {
        let polls = world.asked(path);
        assert!(polls[0] - started < 2 * SECOND, "{path}: {:?}", polls[0] - started);
        // The clock of timers has a resolution of 1 ms, and the others keep half a second from each other.
        let limit = if path == SPOT { Duration::ZERO } else { Duration::from_millis(1000) };
        let longest = longest_pause(&polls);
        assert!(longest <= interval * SECOND + limit + Duration::from_millis(2), "{path}: {longest:?}");
    }
    assert_eq!(world.asked(HISTORY).len(), 0);
    let all: Vec<Instant> = world.sim.requests().iter().map(|request| request.at.instant).collect();
    let rate = f64::from(u32::try_from(all.len()).unwrap()) / 600.0;
    assert!((1.4..1.6).contains(&rate), "{rate} requests a second");
    for start in &all {
        let within = |window: Duration| all.iter().filter(|at| *at >= start && **at - *start < window).count();
        let (second, ten) = (within(SECOND), within(10 * SECOND));
        assert!(second <= 4 && ten <= 20, "{second} in a second, {ten} in ten");
    }
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn only_the_kinds_that_are_wanted_are_asked_for() {
    let paths = [(Kind::SpotInterruption, SPOT), (Kind::RebalanceRecommendation, REBALANCE)];
    let paths = paths.into_iter().chain([(Kind::ScheduledEvent, SCHEDULED), (Kind::AsgTermination, ASG)]);
    for (kind, path) in paths {
        let world = World::new().await;
        let read = levels(&mut world.monitor_of([kind]), 70 * SECOND).await;
        assert!(read.len() >= 3 && read.iter().all(|level| level.kind == kind));
        let stranger = world.sim.requests().into_iter().find(|request| request.path != path && request.path != TOKEN);
        assert_eq!(stranger, None);
    }
    let world = World::new().await;
    assert_eq!(levels(&mut world.monitor_of([]), 70 * SECOND).await, []);
    assert_eq!(world.log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn all_four_signals_are_read_side_by_side() {
    let world = World::new().await;
    let issued = world.sim.now().wall - SignedDuration::from_mins(10);
    world.announce("terminate", 120);
    world.sim.set_raw(REBALANCE, format!(r#"{{"noticeTime":"{}"}}"#, issued.strftime("%FT%TZ")));
    world.sim.set_raw(SCHEDULED, planned(&world, "instance-event-0abc", 7200, "active"));
    world.sim.set_raw(ASG, "Terminated");
    let platform = world.sim.now();
    let mut monitor = world.monitor_of(Kind::ALL);
    let mut signals = Vec::new();
    for kind in Kind::ALL {
        signals.push(next_of(&mut monitor, kind).await.signals.remove(0));
    }
    let ids: Vec<&str> = signals.iter().map(|signal| signal.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "spot-interruption/terminate",
            "rebalance-recommendation/2026-03-31T16:22:24Z",
            "scheduled-event/instance-event-0abc",
            "asg-termination/Terminated"
        ]
    );
    let actions: Vec<Action> = signals.iter().map(|signal| signal.action).collect();
    assert_eq!(actions, [Action::Terminate, Action::Terminate, Action::Reboot, Action::Terminate]);
    let truth = platform.instant_of(issued);
    let off = truth.saturating_duration_since(signals[1].issued.unwrap().instant);
    assert!(off <= 2 * SECOND && signals[1].issued.unwrap().instant <= truth, "{off:?}");
    let deadline = signals[2].deadline.unwrap();
    let truth = platform.instant + 7200 * SECOND;
    assert!(deadline.instant <= truth && truth - deadline.instant <= 2 * SECOND);
    assert_eq!(signals[2].detail.as_deref(), Some("system-reboot, instance-event-0abc"));
    assert_eq!((signals[3].deadline, signals[3].detail.as_deref()), (None, Some("Terminated")));
    world.assert_well_behaved();
}

#[rstest]
#[case::rebalance(REBALANCE)]
#[case::scheduled(SCHEDULED)]
#[case::asg(ASG)]
#[tokio::test(start_paused = true)]
async fn a_fault_of_one_endpoint_leaves_the_others_alone(#[case] broken: &str) {
    for kind in [
        FaultKind::Silence,
        FaultKind::Delay(4 * SECOND),
        FaultKind::Reset,
        FaultKind::Truncate,
        FaultKind::Dribble(SECOND / 10),
        FaultKind::Status(401),
        FaultKind::Status(403),
        FaultKind::Status(429),
        FaultKind::Status(503),
        FaultKind::Body(b"<html><body>Sign in</body></html>".to_vec()),
        FaultKind::Body(vec![b'x'; 100_000]),
    ] {
        let world = World::new().await;
        let mut monitor = world.monitor_of(Kind::ALL);
        let name = format!("{kind:?}").chars().take(40).collect::<String>();
        world.sim.set_raw(REBALANCE, r#"{"noticeTime":"2026-03-31T16:30:00Z"}"#);
        world.sim.set_raw(ASG, "InService");
        // The service notices late that nobody reads on.
        let lingers = matches!(kind, FaultKind::Dribble(_));
        world.sim.fault(Fault::new(kind).path(broken));
        levels(&mut monitor, 100 * SECOND).await;
        let endpoints = [(SPOT, 1, "spot"), (REBALANCE, 5, "rebalance"), (ASG, 5, "asg"), (SCHEDULED, 30, "scheduled")];
        for (path, interval, label) in endpoints {
            let longest = longest_pause(&world.asked(path));
            // A failing endpoint is asked again, at the latest after its own pause.
            let interval = if path == broken { interval.max(10) * SECOND } else { interval * SECOND };
            // Two of the others and the notice in between, for those that are not the notice.
            let late = if path == SPOT { ONE_OTHER } else { 2 * ONE_OTHER + SECOND };
            assert!(longest <= interval + late, "{name} at {broken}, {path}: {longest:?}");
            let success = world.value(&format!("last_success_timestamp_seconds{{endpoint=\"{label}\"}}"));
            assert_eq!(success < 1.0, path == broken, "{name}: {path} is seen to work or not");
        }
        world.sim.clear_faults();
        let before = world.asked(broken).len();
        levels(&mut monitor, 12 * SECOND).await;
        assert!(world.asked(broken).len() > before, "{name} at {broken} is asked again");
        if !lingers {
            world.assert_well_behaved();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_all_hang_keep_a_notice_waiting_for_no_more_than_one_of_them() {
    let world = World::new().await;
    let mut monitor = world.monitor_of(Kind::ALL);
    for path in [REBALANCE, SCHEDULED, ASG] {
        world.sim.fault(Fault::new(FaultKind::Silence).path(path));
    }
    let read = levels(&mut monitor, 300 * SECOND).await;
    assert!(read.iter().all(|level| level.kind == Kind::SpotInterruption));
    let longest = longest_pause(&world.asked(SPOT));
    assert!(longest > SECOND && longest <= SECOND + ONE_OTHER, "{longest:?}");
    let polls = world.asked(SPOT).len();
    assert!(polls > 210, "{polls} polls in 300 s");
    for path in [REBALANCE, SCHEDULED, ASG] {
        assert!(world.asked(path).len() >= 20, "{path}: {}", world.asked(path).len());
    }
    world.assert_well_behaved();
}

#[rstest]
#[case::stale_token(FaultKind::Status(401))]
#[case::silence(FaultKind::Silence)]
#[tokio::test(start_paused = true)]
async fn a_notice_is_read_in_time_while_another_endpoint_fails(#[case] kind: FaultKind) {
    let world = World::new().await;
    let mut monitor = world.monitor_of(Kind::ALL);
    world.sim.fault(Fault::new(kind).path("/latest/meta-data/events/"));
    levels(&mut monitor, 20 * SECOND).await;
    world.announce("terminate", 120);
    let announced = Instant::now();
    while next_of(&mut monitor, Kind::SpotInterruption).await.signals.is_empty() {}
    assert!(announced.elapsed() <= SECOND + ONE_OTHER, "{:?}", announced.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_recommendation_whose_time_slides_is_one_and_its_absence_says_nothing() {
    let world = World::new().await;
    let mut monitor = world.monitor_of([Kind::RebalanceRecommendation]);
    let slide = || {
        let now = world.sim.now().wall.strftime("%FT%TZ").to_string();
        world.sim.set_raw(REBALANCE, format!(r#"{{"noticeTime":"{now}"}}"#));
    };
    slide();
    let first = monitor.next().await;
    for read in 0..30 {
        slide();
        if read % 4 == 3 {
            world.sim.set_absent(REBALANCE);
            assert_eq!(monitor.next().await, Observation::of(Kind::RebalanceRecommendation, None));
        } else {
            assert_eq!(monitor.next().await, first);
        }
    }
    world.sim.set_raw(REBALANCE, "{}");
    assert_eq!(monitor.next().await, first);
    assert_eq!(world.rejected("odd"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_planned_anew_and_then_cancelled_by_the_history() {
    let world = World::new().await;
    let mut monitor = world.monitor_of(Kind::ALL);
    world.sim.set_raw(SCHEDULED, planned(&world, "e1", 7200, "active"));
    let first = next_of(&mut monitor, Kind::ScheduledEvent).await;
    assert_eq!(first.others, Others::Unknown);
    let moved = planned(&world, "e1", 9600, "active");
    world.sim.set_raw(SCHEDULED, moved.clone());
    let second = next_of(&mut monitor, Kind::ScheduledEvent).await;
    assert_eq!((&second.signals[0].id, second.others), (&first.signals[0].id, Others::Over));
    let later = second.signals[0].deadline.unwrap().instant - first.signals[0].deadline.unwrap().instant;
    assert!(later > 2398 * SECOND && later < 2402 * SECOND, "{later:?}");
    assert_eq!(world.asked(HISTORY), []);
    world.sim.set_raw(SCHEDULED, "[]");
    world.sim.set_raw(HISTORY, moved.replace("active", "canceled"));
    let missing = next_of(&mut monitor, Kind::ScheduledEvent).await;
    assert_eq!((missing.signals.len(), missing.others), (0, Others::Unknown));
    let gone = Instant::now();
    let ended = next_of(&mut monitor, Kind::ScheduledEvent).await;
    assert_eq!((ended.signals.len(), ended.others), (0, Others::Over));
    assert!(gone.elapsed() < 3 * SECOND, "{:?}", gone.elapsed());
    levels(&mut monitor, 100 * SECOND).await;
    assert_eq!(world.asked(HISTORY).len(), 1);
    world.assert_well_behaved();
}

#[rstest]
#[case::empty(None)]
#[case::absent(Some(FaultKind::Status(404)))]
#[case::failing(Some(FaultKind::Status(503)))]
#[case::hanging(Some(FaultKind::Silence))]
#[case::malformed(Some(FaultKind::Body(b"<html/>".to_vec())))]
#[tokio::test(start_paused = true)]
async fn an_event_that_no_history_tells_of_is_over_at_its_third_absence(#[case] history: Option<FaultKind>) {
    let world = World::new().await;
    let mut monitor = world.monitor_of(Kind::ALL);
    world.sim.set_raw(SCHEDULED, planned(&world, "e1", 7200, "active"));
    for _ in 0..3 {
        next_of(&mut monitor, Kind::ScheduledEvent).await;
    }
    if let Some(kind) = history {
        world.sim.fault(Fault::new(kind).path(HISTORY));
    }
    world.sim.set_absent(SCHEDULED);
    for others in [Others::Unknown, Others::Unknown, Others::Over] {
        assert_eq!(next_of(&mut monitor, Kind::ScheduledEvent).await.others, others);
    }
    let asked = world.asked(HISTORY).len();
    assert!(asked >= 2, "{asked}");
    levels(&mut monitor, 60 * SECOND).await;
    assert_eq!(world.asked(HISTORY).len(), asked, "what is over is not looked for any more");
}

#[tokio::test(start_paused = true)]
async fn a_list_with_a_bad_element_is_read_and_a_list_that_is_none_changes_nothing() {
    let world = World::new().await;
    let mut monitor = world.monitor_of([Kind::ScheduledEvent]);
    let good = planned(&world, "e1", 7200, "active");
    world.sim.set_raw(SCHEDULED, good.clone());
    let first = monitor.next().await;
    assert_eq!(monitor.next().await.others, Others::Over);
    world.sim.set_raw(SCHEDULED, good.replace('[', r#"[{"Code":7},"#));
    let read = monitor.next().await;
    assert_eq!((read.signals[0].id.as_str(), read.others), ("scheduled-event/e1", Others::Unknown));
    assert_eq!(world.rejected("malformed"), 1);
    world.sim.set_raw(SCHEDULED, "<html>Sign in</html>");
    assert_eq!(levels(&mut monitor, 100 * SECOND).await, []);
    world.sim.set_raw(SCHEDULED, good);
    let again = monitor.next().await;
    assert_eq!((&again.signals[0].id, again.others), (&first.signals[0].id, Others::Over));
}

#[rstest]
#[case::code("system-reboot", "instance-teleport", Some(Action::Terminate))]
#[case::state("\"active\"", "\"paused\"", Some(Action::Reboot))]
#[case::done("\"Description\":\"\"", "\"Description\":\"[Completed] x\"", None)]
#[tokio::test(start_paused = true)]
async fn a_word_of_an_event_has_its_reading(#[case] word: &str, #[case] other: &str, #[case] action: Option<Action>) {
    let world = World::new().await;
    world.sim.set_raw(SCHEDULED, planned(&world, "e1", 7200, "active").replace(word, other));
    let level = world.monitor_of([Kind::ScheduledEvent]).next().await;
    assert_eq!(level.signals.first().map(|signal| signal.action), action);
    assert_eq!(world.rejected("unknown_word"), u64::from(action.is_some()));
}

#[tokio::test(start_paused = true)]
async fn the_way_back_into_service_is_told_at_its_second_read() {
    let world = World::new().await;
    let mut monitor = world.monitor_of([Kind::AsgTermination]);
    let mut read = Vec::new();
    for body in ["InService", "Terminated", "Terminated", "", "Terminating:Wait", "InService", "InService\n"] {
        world.sim.set_raw(ASG, body);
        let level = monitor.next().await;
        read.push((level.signals.len(), level.others == Others::Over));
    }
    let expected = [(0, false), (1, false), (1, true), (0, false), (0, false), (0, false), (0, true)];
    assert_eq!(read, expected);
    assert_eq!(world.rejected("unknown_word"), 1);
}

#[tokio::test(start_paused = true)]
async fn flapping_endpoints_are_reported_as_they_are_read_and_end_nothing() {
    let world = World::new().await;
    let mut monitor = world.monitor_of([Kind::ScheduledEvent, Kind::AsgTermination, Kind::RebalanceRecommendation]);
    world.sim.set_raw(SCHEDULED, planned(&world, "e1", 7200, "active"));
    world.sim.set_raw(ASG, "Terminated");
    world.sim.set_raw(REBALANCE, r#"{"noticeTime":"2026-03-31T16:30:00Z"}"#);
    for path in [SCHEDULED, ASG, REBALANCE] {
        world.sim.fault(Fault::new(FaultKind::Status(404)).path(path).every(2));
    }
    let read = levels(&mut monitor, 600 * SECOND).await;
    assert!(read.iter().any(|level| !level.signals.is_empty()));
    assert!(read.iter().filter(|level| level.signals.is_empty()).all(|level| level.others == Others::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_clock_step_of_the_guest_moves_no_event() {
    for skew in [-7200, 7200] {
        let world = World::with_skew(IdentitySpec::default(), SignedDuration::from_secs(skew)).await;
        world.sim.set_raw(SCHEDULED, planned(&world, "e1", 7200, "active"));
        let truth = world.sim.now().instant + 7200 * SECOND;
        let level = world.monitor_of([Kind::ScheduledEvent]).next().await;
        let deadline = level.signals[0].deadline.unwrap().instant;
        assert!(deadline <= truth && truth - deadline <= 3 * SECOND, "{skew}: {:?}", truth - deadline);
    }
}

#[tokio::test(start_paused = true)]
async fn over_ipv6_everything_is_the_same() {
    let world = World::new().await;
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let mut config = world.config.clone();
    config.endpoint = format!("http://[::1]:{}", listener.local_addr().unwrap().port());
    let mut tasks = JoinSet::new();
    tasks.spawn(world.sim.clone().serve(listener));
    world.announce("terminate", 120);
    world.sim.set_raw(ASG, "Terminated");
    let client = Client::new(&config, world.clock, world.metrics.clone()).unwrap();
    assert!(client.get(Item::SpotAction).await.unwrap().body.is_some());
    let mut monitor = ImdsMonitor::new(client, &config, Kind::ALL, world.clock, world.metrics.clone(), None);
    for kind in [Kind::SpotInterruption, Kind::AsgTermination] {
        assert_eq!(next_of(&mut monitor, kind).await.signals.len(), 1);
    }
    assert!(next_of(&mut monitor, Kind::ScheduledEvent).await.signals.is_empty());
    world.assert_well_behaved();
}
