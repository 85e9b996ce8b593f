//! The monitor: what it reports, when it asks, and that no fault ends it.

use std::time::Duration;

use jiff::SignedDuration;
use rstest::rstest;
use spotwarden::monitor::ImdsMonitor;
use spotwarden::signal::{Action, Kind, Observation, SignalSource};
use spotwarden::sim::imds::{Fault, FaultKind, IdentitySpec};
use tokio::time::{Instant, sleep, timeout};

use super::{SPOT, TOKEN, World};

const SECOND: Duration = Duration::from_secs(1);

/// All levels that are read within `period`.
async fn levels(monitor: &mut ImdsMonitor, period: Duration) -> Vec<Observation> {
    let end = Instant::now() + period;
    let mut levels = Vec::new();
    while let Ok(level) = tokio::time::timeout_at(end, monitor.next()).await {
        levels.push(level);
    }
    levels
}

#[tokio::test(start_paused = true)]
async fn the_first_poll_comes_at_once_and_the_others_within_the_interval() {
    let world = World::new().await;
    let started = Instant::now();
    let read = levels(&mut world.monitor(), 100 * SECOND).await;
    assert!(read.iter().all(|level| level.kind == Kind::SpotInterruption && level.signals.is_empty()));
    let polls: Vec<Instant> =
        world.sim.requests().iter().filter(|request| request.path == SPOT).map(|request| request.at.instant).collect();
    assert!(polls[0] - started < SECOND / 20);
    let pauses: Vec<Duration> = polls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The clock of timers has a resolution of 1 ms.
    let bounds = Duration::from_millis(899)..=Duration::from_millis(1002);
    assert!(pauses.iter().all(|pause| bounds.contains(pause)), "{pauses:?}");
    assert!((104..=108).contains(&polls.len()), "{}", polls.len());
    assert_eq!(world.log().iter().filter(|line| line.starts_with("PUT")).count(), 1);
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn an_interval_below_one_second_is_raised() {
    let mut world = World::new().await;
    world.config.spot_interval = Duration::from_millis(10);
    let read = levels(&mut world.monitor(), 10 * SECOND).await;
    assert!((10..=12).contains(&read.len()), "{}", read.len());
}

#[rstest]
#[case("terminate", 120, Action::Terminate)]
#[case("terminate", 40, Action::Terminate)]
#[case("stop", 120, Action::Stop)]
#[case("hibernate", 0, Action::Hibernate)]
#[case("terminate", -300, Action::Terminate)]
#[tokio::test(start_paused = true)]
async fn a_notice_is_reported_within_one_interval_with_its_deadline(
    #[case] word: &str,
    #[case] lead: i64,
    #[case] action: Action,
) {
    let world = World::new().await;
    let mut monitor = world.monitor();
    levels(&mut monitor, Duration::from_millis(10_400)).await;
    world.announce(word, lead);
    let announced = world.sim.now();
    let level = timeout(Duration::from_millis(1050), monitor.next()).await.unwrap();
    let signal = &level.signals[0];
    assert_eq!((signal.kind, signal.action), (Kind::SpotInterruption, action));
    assert_eq!(signal.id, format!("spot-interruption/{word}"));
    let deadline = signal.deadline.unwrap();
    let written = announced.wall + SignedDuration::from_secs(lead);
    assert_eq!(deadline.wall.as_second(), written.as_second());
    // Never later than the truth, and at most the resolution of `Date` and of the time before it.
    let truth = announced.instant_of(written);
    let early = truth.saturating_duration_since(deadline.instant);
    assert!(deadline.instant <= truth && early <= 2 * SECOND, "{early:?} early");
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_narrows_with_each_poll_and_never_passes_the_truth() {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    // The service cuts the fraction of the announced time, 250 ms here.
    let truth = world.sim.now().instant + Duration::from_millis(119_750);
    let deadlines: Vec<Instant> = levels(&mut monitor, 60 * SECOND)
        .await
        .iter()
        .map(|level| level.signals[0].deadline.unwrap().instant)
        .collect();
    assert!(deadlines.is_sorted(), "{deadlines:?}");
    let last = *deadlines.last().unwrap();
    assert!(last <= truth && truth - last < Duration::from_millis(100), "{:?}", truth - last);
    assert!(truth - deadlines[0] > truth - last);
}

#[rstest]
#[case(300)]
#[case(-300)]
#[tokio::test(start_paused = true)]
async fn a_guest_clock_that_is_off_moves_no_deadline_and_is_reported(#[case] skew: i64) {
    let world = World::with_skew(IdentitySpec::default(), SignedDuration::from_secs(skew)).await;
    world.announce("terminate", 120);
    let truth = world.sim.now().instant + Duration::from_millis(119_750);
    let level = world.monitor().next().await;
    let deadline = level.signals[0].deadline.unwrap().instant;
    assert!(deadline <= truth && truth - deadline <= SECOND + SECOND / 10);
    assert!((world.value("clock_skew_seconds") - f64::from(i32::try_from(skew).unwrap())).abs() < 0.6);
    assert_eq!(world.count("deadlines_without_date_total"), 0);
}

#[rstest]
#[case::missing(FaultKind::NoDate)]
#[case::words(FaultKind::DateText("yesterday".into()))]
#[tokio::test(start_paused = true)]
async fn without_a_date_the_deadline_follows_the_guest_clock_and_is_counted(#[case] kind: FaultKind) {
    let world = World::new().await;
    world.sim.fault(Fault::new(kind));
    world.announce("terminate", 120);
    let truth = world.sim.now().instant + Duration::from_millis(119_750);
    let level = world.monitor().next().await;
    let off = truth.saturating_duration_since(level.signals[0].deadline.unwrap().instant);
    assert!(off < SECOND / 10, "{off:?}");
    assert_eq!(world.count("deadlines_without_date_total"), 1);
}

#[rstest]
#[case::ahead(600)]
#[case::behind(-600)]
#[case::days(864_000)]
#[tokio::test(start_paused = true)]
async fn a_platform_clock_that_is_off_changes_the_figure_and_hides_no_notice(#[case] skew: i64) {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    world.sim.fault(Fault::new(FaultKind::DateSkew(SignedDuration::from_secs(skew))).path(SPOT));
    let level = monitor.next().await;
    assert_eq!((level.signals.len(), world.rejected("stale")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_notice_from_before_this_boot_is_stale() {
    let world = World::new().await;
    world.announce("stop", -3700);
    let level = world.monitor().next().await;
    assert!(level.signals.is_empty());
    assert_eq!(world.rejected("stale"), 1);
}

#[rstest]
#[case::unknown_action(r#"{"action":"evaporate","time":"2026-03-31T16:34:24Z"}"#, "unknown_word", 120)]
#[case::no_time(r#"{"action":"terminate"}"#, "odd", 120)]
#[case::other_date_form(r#"{"action":"terminate","time":"31 Mar 2026 16:34:24 GMT"}"#, "odd", 120)]
#[case::far_future(r#"{"action":"terminate","time":"2036-03-31T16:34:24Z"}"#, "odd", 120)]
#[tokio::test(start_paused = true)]
async fn an_odd_notice_is_a_notice_and_is_counted(#[case] body: &str, #[case] reason: &str, #[case] lead: u64) {
    let world = World::new().await;
    world.sim.set_raw(SPOT, body);
    let started = Instant::now();
    let mut monitor = world.monitor();
    let first = monitor.next().await.signals.remove(0);
    assert_eq!(first.action, Action::Terminate);
    let ahead = first.deadline.unwrap().instant - started;
    assert!(ahead > Duration::from_secs(lead - 2) && ahead <= Duration::from_secs(lead + 1), "{ahead:?}");
    let later = levels(&mut monitor, 30 * SECOND).await;
    assert!(later.iter().all(|level| level.signals[0].id == first.id));
    let last = later.last().unwrap().signals[0].deadline.unwrap();
    assert_eq!(last.wall, first.deadline.unwrap().wall);
    assert_eq!(world.rejected(reason), 1 + later.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_sliding_time_is_one_signal_with_one_deadline() {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    let first = monitor.next().await;
    for _ in 0..30 {
        world.announce("terminate", 125);
        assert_eq!(monitor.next().await, first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flapping_notice_is_reported_as_it_is_read() {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    world.sim.fault(Fault::new(FaultKind::Status(404)).path(SPOT).every(2));
    let read: Vec<usize> = levels(&mut monitor, 8 * SECOND).await.iter().map(|level| level.signals.len()).collect();
    assert_eq!(read[..6], [0, 1, 0, 1, 0, 1]);
    assert_eq!(world.rejected("malformed"), 0);
}

#[rstest]
#[case::latency(FaultKind::Delay(4 * SECOND), "timeout")]
#[case::silence(FaultKind::Silence, "timeout")]
#[case::reset(FaultKind::Reset, "connection")]
#[case::closed(FaultKind::Close, "connection")]
#[case::reset_in_the_body(FaultKind::ResetMidBody, "connection")]
#[case::truncated(FaultKind::Truncate, "connection")]
#[case::announced_too_long(FaultKind::ContentLength(5000), "connection")]
#[case::dribble(FaultKind::Dribble(SECOND / 10), "timeout")]
#[case::unauthorized(FaultKind::Status(401), "denied")]
#[case::disabled(FaultKind::Status(403), "denied")]
#[case::throttled(FaultKind::Status(429), "throttled")]
#[case::server_error(FaultKind::Status(500), "server_error")]
#[case::bad_gateway(FaultKind::Status(502), "server_error")]
#[case::unavailable(FaultKind::Status(503), "server_error")]
#[case::gateway_timeout(FaultKind::Status(504), "server_error")]
#[case::oversize(FaultKind::Body(vec![b'x'; 100_000]), "protocol")]
#[tokio::test(start_paused = true)]
async fn a_fault_on_the_read_is_silence_and_the_notice_is_read_when_it_is_over(
    #[case] kind: FaultKind,
    #[case] outcome: &str,
) {
    let world = World::new().await;
    let mut monitor = world.monitor();
    assert_eq!(levels(&mut monitor, 2 * SECOND).await.len(), 3);
    world.announce("terminate", 120);
    world.sim.fault(Fault::new(kind).path(SPOT));
    assert_eq!(levels(&mut monitor, 30 * SECOND).await, []);
    // Cycles of at most 3 s of waiting and 2 s of pause.
    assert!(world.failures(outcome) >= 6, "{}", world.text());
    world.sim.clear_faults();
    let level = timeout(5 * SECOND, monitor.next()).await.unwrap();
    assert_eq!(level.signals.len(), 1);
    world.assert_well_behaved();
}

#[rstest]
#[case::empty(FaultKind::Body(Vec::new()))]
#[case::html(FaultKind::Body(b"<html><body>Sign in</body></html>".to_vec()))]
#[case::not_utf8(FaultKind::Body(vec![0xff, 0xfe, 0x00]))]
#[case::malformed(FaultKind::Body(br#"{"action":"terminate","#.to_vec()))]
#[case::cut_by_its_length(FaultKind::ContentLength(20))]
#[tokio::test(start_paused = true)]
async fn a_document_that_says_nothing_is_silence_and_counted(#[case] kind: FaultKind) {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    world.sim.fault(Fault::new(kind).path(SPOT));
    assert_eq!(levels(&mut monitor, 30 * SECOND).await, []);
    assert!(world.rejected("malformed") >= 15, "{}", world.text());
    assert!(world.value("last_success_timestamp_seconds{endpoint=\"spot\"}") < 1.0, "blindness must show");
    world.sim.clear_faults();
    assert_eq!(timeout(3 * SECOND, monitor.next()).await.unwrap().signals.len(), 1);
    assert!(world.value("last_success_timestamp_seconds{endpoint=\"spot\"}") > 1.0);
    world.assert_well_behaved();
}

#[rstest]
#[case::hop_limit(FaultKind::Silence, "timeout")]
#[case::reset(FaultKind::Reset, "connection")]
#[case::disabled(FaultKind::Status(403), "denied")]
#[case::unavailable(FaultKind::Status(503), "server_error")]
#[case::truncated(FaultKind::Truncate, "connection")]
#[case::control_characters(FaultKind::Body(b"AQ\x01".to_vec()), "protocol")]
#[tokio::test(start_paused = true)]
async fn a_fault_on_the_token_is_silence_and_the_notice_is_read_when_it_is_over(
    #[case] kind: FaultKind,
    #[case] outcome: &str,
) {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    world.sim.fault(Fault::new(kind).method("PUT").path(TOKEN));
    assert_eq!(levels(&mut monitor, 30 * SECOND).await, []);
    assert!(world.failures(outcome) >= 6, "{}", world.text());
    world.sim.clear_faults();
    assert_eq!(timeout(5 * SECOND, monitor.next()).await.unwrap().signals.len(), 1);
    world.assert_well_behaved();
}

#[rstest]
#[case::every_second_request(Fault::new(FaultKind::Status(401)).path(SPOT).every(2))]
#[case::tokens_good_for_one_request(Fault::new(FaultKind::TokenUses(1)).path(TOKEN))]
#[case::latency(Fault::new(FaultKind::Delay(SECOND / 2)))]
#[case::http_1_0(Fault::new(FaultKind::Http10))]
#[case::no_ttl(Fault::new(FaultKind::NoTtl))]
#[tokio::test(start_paused = true)]
async fn what_can_be_lived_with_costs_no_poll(#[case] fault: Fault) {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.sim.fault(fault);
    world.announce("terminate", 120);
    let read = levels(&mut monitor, 20 * SECOND).await;
    assert!(read.len() >= 13 && read.iter().all(|level| level.signals.len() == 1), "{}", read.len());
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_dies_during_the_notice_costs_no_poll() {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    for _ in 0..10 {
        world.sim.forget_tokens();
        let level = timeout(Duration::from_millis(1010), monitor.next()).await.unwrap();
        assert_eq!(level.signals.len(), 1);
    }
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn sixty_seconds_of_503_over_the_start_of_the_notice_leave_the_rest_of_the_time() {
    let world = World::new().await;
    let mut monitor = world.monitor();
    levels(&mut monitor, 5 * SECOND).await;
    let recovery = Instant::now() + 60 * SECOND;
    world.sim.fault(Fault::new(FaultKind::Status(503)).until(recovery));
    sleep(10 * SECOND).await;
    world.announce("terminate", 120);
    let level = timeout(63 * SECOND, monitor.next()).await.unwrap();
    let left = level.signals[0].deadline.unwrap().instant - Instant::now();
    assert!(left > 66 * SECOND && left < 71 * SECOND, "{left:?}");
    assert!(recovery.elapsed() < Duration::from_millis(2050), "{:?}", recovery.elapsed());
}

#[tokio::test(start_paused = true)]
async fn after_power_off_there_is_silence() {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 2);
    assert!(!levels(&mut monitor, 2 * SECOND).await.is_empty());
    world.sim.power_off();
    assert_eq!(levels(&mut monitor, 20 * SECOND).await, []);
    assert!(world.failures("connection") >= 8);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_dropped_is_asked_again() {
    let world = World::new().await;
    let mut monitor = world.monitor();
    world.announce("terminate", 120);
    world.sim.fault(Fault::new(FaultKind::Delay(SECOND / 2)).path(SPOT).next(1));
    assert!(timeout(SECOND / 10, monitor.next()).await.is_err());
    assert_eq!(timeout(SECOND / 10, monitor.next()).await.unwrap().signals.len(), 1);
}
