use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::clock::Clock;
use crate::interruption::account::{DrainPart, Finish, Foreseen, Outcomes, Over};
use crate::notify::facts::tests as samples;

const OK: Reply = Reply::Answer { status: 200, retry_after: None };
const BUSY: Reply = Reply::Answer { status: 503, retry_after: None };
const GONE: Reply = Reply::Answer { status: 404, retry_after: None };

/// A plan with a clock that is moved by hand and a sink that is asked at every moment.
struct Desk {
    plan: Plan,
    start: Now,
    now: Now,
    dropped: u32,
}

fn spot() -> Account {
    Account { drain: None, fence: None, ..samples::account() }
}

fn of_kind(kind: Kind, deadline: Option<f64>) -> Account {
    let mut account = spot();
    account.trace_id = format!("{kind:?}");
    (account.announcements[0].kind, account.announcements[0].deadline) = (kind, deadline);
    account
}

impl Desk {
    fn new(manner: Manner) -> Self {
        let start = Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap()).now();
        Self { plan: Plan::new(manner, Kind::ALL.to_vec()), start, now: start, dropped: 0 }
    }

    fn note(&mut self, milestone: Milestone, account: &Account) {
        self.dropped += self.plan.note(self.now, &News { milestone, account: Arc::new(account.clone()) });
    }

    fn after(&mut self, seconds: f64) {
        self.now = self.now.plus(Duration::from_secs_f64(seconds));
    }

    /// Lets time pass, with this reply to whatever goes out; what went out, and when.
    fn run(&mut self, seconds: f64, reply: &Reply) -> Vec<(f64, Bulletin)> {
        let (end, mut told) = (self.now.plus(Duration::from_secs_f64(seconds)), Vec::new());
        loop {
            while let Some(job) = self.plan.next(self.now) {
                assert_eq!(self.plan.next(self.now), None, "one at a time");
                told.push((self.at(), job.bulletin));
                self.plan.answered(self.now, reply);
            }
            match self.plan.due() {
                Some(due) if due <= end.instant => {
                    self.now = self.now.plus(due.saturating_duration_since(self.now.instant));
                }
                _ => {
                    self.now = end;
                    return told;
                }
            }
        }
    }

    fn at(&self) -> f64 {
        (self.now.instant - self.start.instant).as_secs_f64()
    }
}

fn turns(told: &[(f64, Bulletin)]) -> Vec<(f64, Turn)> {
    told.iter().map(|(at, bulletin)| ((at * 10.0).round() / 10.0, bulletin.main())).collect()
}

fn finished(account: &Account, pods: usize) -> Account {
    let finish = Finish { at: 30.0, took: 30.0, slack: Some(88.0), outcomes: Outcomes::default() };
    Account { drain: Some(DrainPart { at: 0.1, pods, skipped: 0, finished: Some(finish) }), ..account.clone() }
}

fn ended(account: &Account) -> Account {
    let mut account = account.clone();
    account.over = Some(50.0);
    for one in &mut account.announcements {
        one.over = Some(Over { at: 50.0, because: "it is gone".into() });
    }
    account
}

#[tokio::test]
async fn a_notice_is_told_a_moment_later_and_its_result_once() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    desk.note(Milestone::Fenced, &spot());
    desk.note(Milestone::DrainStarted, &spot());
    let first = desk.run(30.0, &OK);
    assert_eq!(turns(&first), [(0.1, Turn::Notice)]);
    assert!((first[0].1.at - 0.1).abs() < 1e-6);
    desk.note(Milestone::DrainFinished, &finished(&spot(), 18));
    assert_eq!(turns(&desk.run(600.0, &OK)), [(30.1, Turn::Result)]);
}

#[tokio::test]
async fn what_comes_together_is_one_message() {
    let mut desk = Desk::new(Manner::Once);
    let mut both = of_kind(Kind::RebalanceRecommendation, None);
    desk.note(Milestone::Announced, &both);
    both.announcements.push(spot().announcements.remove(0));
    desk.note(Milestone::Announced, &both);
    let told = desk.run(60.0, &OK);
    assert_eq!(turns(&told), [(0.1, Turn::Notice)]);
    assert_eq!((told[0].1.account.announcements.len(), desk.dropped), (2, 0));
}

#[rstest]
#[case::known_at_once(Milestone::Foreseen, 0.3, 0.4)]
#[case::a_drain_after_all(Milestone::DrainStarted, 0.05, 0.2)]
#[case::known_too_late(Milestone::Foreseen, 2.5, 2.0)]
#[tokio::test]
async fn a_mere_recommendation_waits_a_moment_for_the_budgets_in_the_way(
    #[case] milestone: Milestone,
    #[case] after: f64,
    #[case] told_at: f64,
) {
    let mut desk = Desk::new(Manner::Once);
    let mut account = of_kind(Kind::RebalanceRecommendation, None);
    desk.note(Milestone::Announced, &account);
    desk.note(Milestone::Fenced, &account);
    let mut told = desk.run(after, &OK);
    account.foreseen = vec![Foreseen { pod: "shop/cart-0".into(), message: "The disruption budget cart".into() }];
    desk.note(milestone, &account);
    told.extend(desk.run(60.0, &OK));
    assert_eq!(turns(&told), [(told_at, Turn::Notice)], "and no message for that alone");
    assert_eq!(told[0].1.account.foreseen.len(), usize::from(told_at > after), "as far as it was known");
}

#[tokio::test]
async fn a_notice_that_the_node_will_not_survive_waits_for_no_budget() {
    let mut desk = Desk::new(Manner::Once);
    let mut account = of_kind(Kind::RebalanceRecommendation, None);
    desk.note(Milestone::Announced, &account);
    desk.after(0.5);
    account.announcements.push(spot().announcements.remove(0));
    desk.note(Milestone::Announced, &account);
    assert_eq!(turns(&desk.run(60.0, &OK)), [(0.6, Turn::Notice)]);
}

#[tokio::test]
async fn the_end_is_told_with_the_marks_that_went() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    desk.run(50.0, &OK);
    desk.note(Milestone::Over, &ended(&spot()));
    desk.after(0.3);
    desk.note(Milestone::Restored, &Account { restored: Some(50.3), ..ended(&spot()) });
    let told = desk.run(600.0, &OK);
    assert_eq!(turns(&told), [(51.0, Turn::Over)]);
    assert_eq!(told[0].1.account.restored, Some(50.3));
}

#[tokio::test]
async fn what_nobody_wants_to_hear_of_is_not_told() {
    let mut desk = Desk::new(Manner::Once);
    desk.plan = Plan::new(Manner::Once, vec![Kind::SpotInterruption]);
    let mut account = of_kind(Kind::RebalanceRecommendation, None);
    desk.note(Milestone::Announced, &account);
    desk.note(Milestone::DrainFinished, &finished(&account, 3));
    assert_eq!(turns(&desk.run(60.0, &OK)), []);
    account.announcements.push(spot().announcements.remove(0));
    desk.note(Milestone::Announced, &account);
    assert_eq!(turns(&desk.run(60.0, &OK)), [(60.1, Turn::Notice)]);
}

#[rstest]
#[case::at_once(Manner::Once, 0.5, 1)]
#[case::long_ago(Manner::Once, 40.0, 0)]
#[case::long_ago_where_the_same_is_the_same(Manner::Level, 40.0, 1)]
#[tokio::test]
async fn a_restarted_agent_repeats_only_what_may_not_have_been_heard(
    #[case] manner: Manner,
    #[case] resumed: f64,
    #[case] messages: usize,
) {
    let mut desk = Desk::new(manner);
    let account = Account { resumed: Some(resumed), ..spot() };
    desk.note(Milestone::Resumed, &account);
    let told = desk.run(10.0, &OK);
    assert_eq!(told.len(), messages);
    assert!(told.iter().all(|(_, bulletin)| bulletin.repeated == (resumed < FRESH) && bulletin.at >= resumed));
    desk.note(Milestone::DrainFinished, &finished(&account, 3));
    assert_eq!(turns(&desk.run(10.0, &OK)), [(10.1, Turn::Result)], "what it did itself is told");
}

#[tokio::test]
async fn a_restart_after_the_result_tells_it_no_second_time() {
    let mut desk = Desk::new(Manner::Once);
    let account = Account { resumed: Some(60.0), ..spot() };
    desk.note(Milestone::Resumed, &account);
    desk.note(Milestone::DrainFinished, &finished(&account, 0));
    assert_eq!(turns(&desk.run(100.0, &OK)), []);
}

#[tokio::test]
async fn a_sink_that_forgets_is_told_again_while_it_lasts_and_of_the_end() {
    let mut desk = Desk::new(Manner::Level);
    let account = of_kind(Kind::RebalanceRecommendation, None);
    desk.note(Milestone::Announced, &account);
    let lasting = Turn::Lasting;
    assert_eq!(turns(&desk.run(700.0, &OK)), [(2.0, Turn::Notice), (302.0, lasting), (602.0, lasting)]);
    desk.note(Milestone::Over, &ended(&account));
    assert_eq!(turns(&desk.run(3600.0, &OK)), [(701.0, Turn::Over)]);
}

#[tokio::test]
async fn a_failing_sink_is_tried_until_the_node_goes() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    let tries: Vec<f64> = desk.run(600.0, &BUSY).into_iter().map(|(at, _)| at).collect();
    let gaps = tries.windows(2).map(|pair| ((pair[1] - pair[0]) * 1000.0).round() / 1000.0);
    let gaps: Vec<f64> = gaps.collect();
    assert_eq!(gaps[..5], [0.5, 1.0, 2.0, 4.0, 8.0]);
    assert!(gaps[5..].iter().all(|gap| (gap - 15.0).abs() < 1e-6), "{gaps:?}");
    let last = tries.last().unwrap();
    assert!((100.0..118.0).contains(last), "{last}");
}

#[tokio::test]
async fn without_a_deadline_it_is_tried_for_ten_minutes() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &of_kind(Kind::RebalanceRecommendation, None));
    let last = desk.run(7200.0, &BUSY).last().unwrap().0;
    assert!((580.0..602.1).contains(&last), "{last}");
}

#[tokio::test]
async fn a_late_message_has_half_a_minute_all_the_same() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    desk.run(117.0, &OK);
    desk.note(Milestone::DrainFinished, &finished(&spot(), 18));
    let last = desk.run(600.0, &BUSY).last().unwrap().0;
    assert!((130.0..148.0).contains(&last), "{last}");
}

#[tokio::test]
async fn a_revoked_webhook_is_not_tried_again_but_the_next_turn_is_told() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    assert_eq!(desk.run(30.0, &GONE).len(), 1);
    desk.note(Milestone::DrainFinished, &finished(&spot(), 18));
    let told = desk.run(30.0, &OK);
    assert_eq!(turns(&told), [(30.1, Turn::Result)]);
}

#[tokio::test]
async fn the_peers_pause_is_kept() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    let slow = Reply::Answer { status: 429, retry_after: Some(Duration::from_secs(20)) };
    let told = desk.run(61.0, &slow);
    assert_eq!(turns(&told), [(0.1, Turn::Notice), (20.1, Turn::Notice), (40.1, Turn::Notice), (60.1, Turn::Notice)]);
}

#[tokio::test]
async fn a_pause_beyond_the_time_left_is_the_end_of_the_message() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    desk.after(0.1);
    desk.plan.next(desk.now).unwrap();
    let fate =
        desk.plan.answered(desk.now, &Reply::Answer { status: 429, retry_after: Some(Duration::from_secs(600)) });
    assert_eq!(fate, Fate::Failed("429, try again in 600 s".into()));
}

/// Nothing is queued: what could not be told is part of what is told when it can be.
#[tokio::test]
async fn a_sink_that_comes_back_hears_how_things_stand() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    desk.run(30.0, &BUSY);
    desk.note(Milestone::DrainFinished, &finished(&spot(), 18));
    let told = desk.run(60.0, &OK);
    assert_eq!(told.len(), 1);
    assert!(told[0].1.turns.has(Turn::Notice) && told[0].1.turns.has(Turn::Result));
    assert_eq!(told[0].1.main(), Turn::Result);
}

#[tokio::test]
async fn a_try_ends_with_the_time_that_is_left() {
    let mut desk = Desk::new(Manner::Once);
    let mut account = spot();
    account.announcements[0].deadline = Some(5.0);
    desk.note(Milestone::Announced, &account);
    desk.after(0.1);
    assert_eq!(desk.plan.next(desk.now).unwrap().limit, TRY_LIMIT, "half a minute is left at least");
    desk.plan.close(desk.now, desk.now.instant + Duration::from_secs(2));
    desk.plan.answered(desk.now, &BUSY);
    desk.after(0.5);
    let job = desk.plan.next(desk.now).unwrap();
    assert_eq!(job.limit, Duration::from_millis(1500));
}

#[tokio::test]
async fn an_agent_that_stops_says_at_once_what_is_left_to_say() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    let end = desk.now.instant + Duration::from_secs(2);
    desk.plan.close(desk.now, end);
    assert!(!desk.plan.is_finished(desk.now));
    assert_eq!(turns(&desk.run(0.0, &OK)), [(0.0, Turn::Notice)]);
    assert!(desk.plan.is_finished(desk.now));
}

#[tokio::test]
async fn an_agent_that_stops_does_not_wait_for_a_sink_that_is_away() {
    let mut desk = Desk::new(Manner::Once);
    desk.note(Milestone::Announced, &spot());
    desk.run(40.0, &BUSY);
    let end = desk.now.instant + Duration::from_secs(2);
    desk.plan.close(desk.now, end);
    assert!(desk.run(10.0, &BUSY).len() <= 3);
    assert!(desk.plan.is_finished(desk.now));
}

#[tokio::test]
async fn a_flapping_signal_is_told_a_few_times_a_minute_and_the_rest_is_a_number() {
    let mut desk = Desk::new(Manner::Once);
    let mut told = Vec::new();
    for round in 0..120 {
        let account = Account { trace_id: format!("{round}"), ..of_kind(Kind::RebalanceRecommendation, None) };
        desk.note(Milestone::Announced, &account);
        told.extend(desk.run(1.0, &OK));
        desk.note(Milestone::Over, &ended(&account));
        told.extend(desk.run(1.0, &OK));
    }
    told.extend(desk.run(300.0, &OK));
    assert!((10..=24).contains(&told.len()), "{}", told.len());
    let mentioned: u32 = told.iter().map(|(_, bulletin)| bulletin.suppressed).sum();
    assert!(mentioned > 100 && mentioned == desk.dropped, "{mentioned} of {}", desk.dropped);
    // The notice that the node will not survive has its place all the same.
    let at = desk.at();
    for round in 0..4 {
        desk.note(
            Milestone::Announced,
            &Account { trace_id: format!("x{round}"), ..of_kind(Kind::ScheduledEvent, None) },
        );
        desk.run(1.0, &OK);
    }
    desk.note(Milestone::Announced, &spot());
    assert_eq!(turns(&desk.run(1.0, &OK)), [(at + 4.1, Turn::Notice)]);
}

fn news() -> impl Strategy<Value = (u8, u8, f64)> {
    (0_u8..7, 0_u8..4, prop_oneof![0.0..0.3_f64, 0.0..5.0_f64, 0.0..200.0_f64])
}

proptest! {
    #[test]
    fn whatever_happens_the_caps_hold_and_the_first_notice_is_told(
        sequence in proptest::collection::vec(news(), 1..120),
        fails in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        for manner in [Manner::Once, Manner::Level] {
            let mut desk = Desk::new(manner);
            let (mut told, mut failing) = (Vec::new(), fails.iter().cycle());
            let (mut first, mut current) = (None, 0);
            for (what, which, wait) in &sequence {
                let milestone = match what {
                    0 | 1 => Milestone::Announced,
                    2 => Milestone::Resumed,
                    3 => Milestone::Rescheduled,
                    4 => Milestone::DrainFinished,
                    5 => Milestone::Over,
                    _ => Milestone::Fenced,
                };
                // Only what is announced anew can be another interruption.
                if milestone == Milestone::Announced { current = *which; }
                let kind = Kind::ALL[usize::from(current) % 4];
                let mut account = Account { trace_id: format!("{current}"), ..of_kind(kind, Some(desk.at() + 118.0)) };
                if milestone == Milestone::Over { account = ended(&account); }
                if milestone == Milestone::Announced && first.is_none() { first = Some(desk.at()); }
                desk.note(milestone, &account);
                let reply = if *failing.next().unwrap() { BUSY } else { OK };
                told.extend(desk.run(*wait, &reply));
            }
            told.extend(desk.run(4000.0, &OK));
            if let Some(first) = first {
                prop_assert!(told.iter().any(|(at, _)| *at >= first), "{first}");
            }
            // Messages, not tries: what is tried again has the turns of the try before.
            let begun: Vec<f64> = desk.plan.sent.iter().map(|at| (*at - desk.start.instant).as_secs_f64()).collect();
            for (window, most, _) in WINDOWS {
                let span = window.as_secs_f64() - 1e-3;
                prop_assert!(begun.windows(most + 1).all(|some| some[most] - some[0] >= span), "{begun:?}");
            }
            prop_assert!(desk.plan.sent.len() <= 40);
            prop_assert!(desk.plan.trying.is_none() && desk.plan.untold.is_empty());
        }
    }
}
