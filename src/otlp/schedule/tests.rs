use super::*;

const INTERVAL: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

/// A schedule whose first push was taken at the returned time.
fn running() -> (Instant, Schedule) {
    let start = Instant::now();
    let mut schedule = Schedule::new(start, INTERVAL);
    schedule.began(start);
    schedule.ended(start, Outcome::Taken);
    (start, schedule)
}

#[test]
fn the_first_push_waits_for_the_identity_but_not_for_ever() {
    let start = Instant::now();
    let mut schedule = Schedule::new(start, INTERVAL);
    assert_eq!(schedule.due(), start + FIRST);
    schedule.identified(start + 2 * SECOND);
    assert_eq!(schedule.due(), start + 2 * SECOND);
    schedule.began(start + 2 * SECOND);
    schedule.ended(start + 2 * SECOND, Outcome::Taken);
    schedule.identified(start + 3 * SECOND);
    assert_eq!(schedule.due(), start + 2 * SECOND + INTERVAL);
    assert_eq!(Schedule::new(start, SECOND).due(), start + SECOND);
}

#[test]
fn a_burst_of_changes_is_one_push_soon_after_the_first() {
    let (start, mut schedule) = running();
    let at = start + 10 * SECOND;
    schedule.changed(at, true);
    schedule.changed(at + COALESCE / 2, true);
    assert_eq!(schedule.due(), at + COALESCE);
    schedule.began(at + COALESCE);
    assert_eq!(schedule.due(), at + COALESCE + INTERVAL);
}

#[test]
fn what_is_not_urgent_is_pushed_once_a_second_and_what_is_does_not_wait_for_it() {
    let (start, mut schedule) = running();
    schedule.changed(start + SECOND / 10, false);
    assert_eq!(schedule.due(), start + LEAST_BETWEEN);
    schedule.changed(start + SECOND / 5, true);
    assert_eq!(schedule.due(), start + SECOND / 5 + COALESCE);
    schedule.began(start + SECOND);
    schedule.changed(start + 5 * SECOND, false);
    assert_eq!(schedule.due(), start + 5 * SECOND + COALESCE);
}

#[test]
fn a_change_while_a_push_is_under_way_is_pushed_after_it() {
    let (start, mut schedule) = running();
    schedule.began(start + SECOND);
    schedule.changed(start + 2 * SECOND, true);
    schedule.ended(start + 9 * SECOND, Outcome::Taken);
    assert!(schedule.due() <= start + 9 * SECOND);
}

#[test]
fn what_is_urgent_does_not_wait_for_long_behind_a_request_that_hangs() {
    let (start, mut schedule) = running();
    schedule.began(start + SECOND);
    assert_eq!(schedule.give_up(), None, "nothing waits");
    schedule.changed(start + 2 * SECOND, false);
    assert_eq!(schedule.give_up(), None, "nothing urgent waits");
    schedule.changed(start + SECOND + COALESCE, true);
    assert_eq!(schedule.give_up(), Some(start + SECOND + PATIENCE));
    schedule.changed(start + 2 * SECOND, true);
    assert_eq!(schedule.give_up(), Some(start + SECOND + PATIENCE), "the first one counts");
    schedule.gave_up();
    let again = start + SECOND + PATIENCE;
    assert!(schedule.due() <= again);
    schedule.began(again);
    schedule.changed(again + SECOND / 10, true);
    assert_eq!(schedule.give_up(), Some(again + 2 * PATIENCE), "a slow collector gets more time");
    schedule.ended(again + SECOND, Outcome::Taken);
    schedule.began(again + SECOND);
    schedule.changed(again + 9 * SECOND, true);
    assert_eq!(schedule.give_up(), Some(again + 9 * SECOND + COALESCE), "as soon as it would be sent");
}

#[test]
fn the_push_before_the_deadline_does_not_wait_behind_one_that_hangs() {
    let (start, mut schedule) = running();
    let deadline = start + 2 * INTERVAL;
    schedule.deadline(start, Some(deadline));
    schedule.began(deadline - BEFORE_DEADLINE - 3 * SECOND);
    assert_eq!(schedule.give_up(), Some(deadline - BEFORE_DEADLINE));
    schedule.gave_up();
    schedule.began(deadline - BEFORE_DEADLINE);
    assert_eq!(schedule.give_up(), None, "it is the last");
}

#[test]
fn everything_is_pushed_once_shortly_before_the_deadline() {
    let (start, mut schedule) = running();
    let deadline = start + 2 * INTERVAL;
    for _ in 0..3 {
        schedule.deadline(start, Some(deadline));
    }
    schedule.began(start + INTERVAL);
    let at = deadline - BEFORE_DEADLINE;
    assert_eq!(schedule.due(), at);
    schedule.began(at);
    schedule.deadline(at, Some(deadline));
    assert_eq!(schedule.due(), at + INTERVAL, "once");
    schedule.deadline(at, Some(deadline + INTERVAL / 2));
    assert_eq!(schedule.due(), at + INTERVAL / 2, "the time was moved");
    schedule.deadline(at, None);
    assert_eq!(schedule.due(), at + INTERVAL, "it was called off");
    schedule.deadline(at, Some(at + SECOND));
    assert_eq!(schedule.due(), at + INTERVAL, "too late for more than the push of the change itself");
}

#[test]
fn a_failure_is_tried_again_with_growing_pauses_until_the_next_regular_push() {
    let (start, mut schedule) = running();
    let mut now = start + INTERVAL;
    let regular = now + INTERVAL;
    schedule.began(now);
    let mut pauses = Vec::new();
    loop {
        schedule.ended(now, Outcome::Later(None));
        let due = schedule.due();
        assert!(due > now);
        if due >= now + PAUSES.1 * 2 || due == regular {
            break;
        }
        pauses.push(due - now);
        now = due;
        // A retry is a push like any other, but for the test the regular one stays where it is.
        let regular = schedule.regular;
        schedule.began(now);
        schedule.regular = regular;
    }
    assert!(pauses.len() >= 3, "{pauses:?}");
    assert!(pauses[0] >= PAUSES.0 && pauses[0] <= PAUSES.0 * 2, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= PAUSES.1 * 2), "{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] * 3 >= pair[0]), "{pauses:?}");
}

#[test]
fn a_change_does_not_wait_for_our_own_pause_but_for_the_one_that_was_asked_for() {
    let (start, mut schedule) = running();
    schedule.began(start);
    schedule.ended(start, Outcome::Later(None));
    schedule.changed(start + SECOND / 10, true);
    assert_eq!(schedule.due(), start + SECOND / 10 + COALESCE);

    schedule.began(start);
    schedule.ended(start, Outcome::Later(Some(7 * SECOND)));
    schedule.changed(start + SECOND, true);
    assert_eq!(schedule.due(), start + 7 * SECOND);
    schedule.began(start + 7 * SECOND);
    schedule.ended(start + 7 * SECOND, Outcome::Taken);
    assert_eq!(schedule.due(), start + 7 * SECOND + INTERVAL);
}

#[test]
fn a_collector_that_asks_for_a_year_gets_minutes() {
    let (start, mut schedule) = running();
    schedule.began(start);
    schedule.ended(start, Outcome::Later(Some(Duration::from_hours(24 * 365))));
    assert_eq!(schedule.due(), start + MOST_ASKED);
}

#[test]
fn what_is_refused_for_good_waits_for_the_next_regular_push() {
    let (start, mut schedule) = running();
    schedule.began(start);
    schedule.ended(start, Outcome::Never);
    assert_eq!(schedule.due(), start + INTERVAL);
}

#[test]
fn pauses_begin_anew_after_a_success() {
    let mut pauses = Pauses::default();
    for _ in 0..10 {
        pauses.after(Outcome::Later(None));
    }
    assert_eq!(pauses.after(Outcome::Taken), Duration::ZERO);
    assert!(pauses.after(Outcome::Later(None)) <= PAUSES.0 * 2);
}
