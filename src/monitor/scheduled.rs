//! From successive reads of the maintenance events to one signal for each event in force, and to the end of those that are
//! not. Pure.
//!
//! An event is over when the platform says so (its state, its description, its place in the history), when the reboot that
//! it announced has happened, or when it is missing from several lists in a row. Until then its absence means nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::boot::Boot;
use super::reading::Reading;
use crate::imds::Timing;
use crate::imds::deadline::{Basis, Interval};
use crate::imds::documents::{Code, ScheduledEvent, ScheduledEvents};
use crate::signal::{Deadline, Kind, Others, Signal};

/// An event that is in neither list counts as over at this absence in a row.
const ABSENCES: u32 = 3;

/// A time that differs from the one read before by no more than this, and the time between the two reads, slides with the
/// reads; nobody plans an event anew for that.
const SLIDE: SignedDuration = SignedDuration::from_secs(10);

/// As much as the time between two reads counts for.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);

/// Maintenance is over so long after its end.
const AFTER_THE_END: SignedDuration = SignedDuration::from_hours(1);

/// More events than can be in force; beyond it those that are not listed are forgotten.
const MOST_KNOWN: usize = 256;

/// What was read so far.
#[derive(Debug)]
pub(super) struct ScheduledTracker {
    boot: Boot,
    /// Events that were in force and are not known to be over, by id.
    known: BTreeMap<String, Known>,
    /// What the last list had in force.
    signals: Vec<Signal>,
    /// The ids of the last list if it was complete.
    last: Option<BTreeSet<String>>,
    /// Two complete lists in a row agreed: from then on nothing is over that this process has not seen going.
    settled: bool,
    history_wanted: bool,
}

#[derive(Debug, Default)]
struct Known {
    placed: Option<Placed>,
    read: Option<(Timestamp, Instant)>,
    absences: u32,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    time: Timestamp,
    interval: Interval,
    basis: Basis,
}

impl ScheduledTracker {
    /// Nothing was read yet.
    pub(super) fn new(boot: Boot) -> Self {
        let (known, signals) = (BTreeMap::new(), Vec::new());
        Self { boot, known, signals, last: None, settled: false, history_wanted: false }
    }

    /// The list says `list`; an absent one is empty.
    pub(super) fn read(&mut self, list: &ScheduledEvents, timing: &Timing) -> Reading {
        self.signals.clear();
        let mut without_date = false;
        let mut listed = BTreeSet::new();
        for event in &list.events {
            if event.done || self.has_happened(event, timing) {
                self.known.remove(&event.id);
                continue;
            }
            let known = self.known.entry(event.id.clone()).or_default();
            known.absences = 0;
            known.take(event.not_before, timing);
            without_date |= known.placed.is_some_and(|placed| placed.basis == Basis::GuestClock);
            self.signals.push(signal(event, known.placed));
            listed.insert(event.id.clone());
        }
        // An element that could not be read may be the event that seems to be missing.
        if list.complete {
            self.known.retain(|id, known| {
                known.absences += u32::from(!listed.contains(id));
                known.absences < ABSENCES
            });
            self.settled |= self.last.as_ref() == Some(&listed);
        }
        if self.known.len() > MOST_KNOWN {
            self.known.retain(|id, _| listed.contains(id));
        }
        self.history_wanted = self.known.len() > listed.len();
        self.last = list.complete.then_some(listed);
        Reading { signals: self.signals.clone(), others: self.others(), oddities: Vec::new(), without_date }
    }

    /// An event is missing, and the history may say why.
    pub(super) fn wants_history(&self) -> bool {
        self.history_wanted
    }

    /// The history says `list`. Returns the present level if that ends an event.
    pub(super) fn read_history(&mut self, list: &ScheduledEvents) -> Option<Reading> {
        self.history_wanted = false;
        let before = self.known.len();
        self.known.retain(|id, known| {
            let ended =
                |event: &ScheduledEvent| event.id == *id && event.done && known.was_planned_for(event.not_before);
            known.absences == 0 || !list.events.iter().any(ended)
        });
        let ended = self.known.len() < before;
        ended.then(|| Reading { signals: self.signals.clone(), others: self.others(), ..Reading::nothing() })
    }

    fn others(&self) -> Others {
        // Listed ones are among the known ones, so equal numbers mean that none is missing.
        let none_missing = self.last.as_ref().is_some_and(|listed| listed.len() == self.known.len());
        if self.settled && none_missing { Others::Over } else { Others::Unknown }
    }

    fn has_happened(&self, event: &ScheduledEvent, timing: &Timing) -> bool {
        let before_boot = |time: Option<Timestamp>| time.is_some_and(|time| self.boot.is_after(time, timing));
        match event.code {
            Code::InstanceStop | Code::InstanceRetirement | Code::InstanceReboot | Code::SystemReboot => {
                before_boot(event.not_before)
            }
            Code::SystemMaintenance => event.not_after.is_some_and(|end| is_long_past(end, timing)),
            Code::Other => before_boot(event.not_after.or(event.not_before)),
        }
    }
}

impl Known {
    /// Takes the newest word of the platform, whether it is earlier or later.
    fn take(&mut self, time: Option<Timestamp>, timing: &Timing) {
        let Some(time) = time else { return };
        let now = timing.answered.instant;
        let (interval, basis) = Interval::place(time, timing);
        let fresh = Placed { time, interval, basis };
        let slides = self.read.is_some_and(|(last, at)| {
            let pause = now.saturating_duration_since(at).min(LONGEST_PAUSE);
            time.duration_since(last).abs() <= SLIDE.saturating_add(SignedDuration::try_from(pause).unwrap_or(SLIDE))
        });
        self.read = Some((time, now));
        self.placed = Some(match self.placed {
            Some(old) if time == old.time && basis == old.basis => {
                Placed { interval: old.interval.refined_by(interval), ..old }
            }
            Some(old) if time == old.time => {
                if basis > old.basis {
                    fresh
                } else {
                    old
                }
            }
            Some(old) if slides && old.time < time => old,
            _ => fresh,
        });
    }

    /// A history has one entry for each time that an event was planned for; only the last one ends it.
    fn was_planned_for(&self, time: Option<Timestamp>) -> bool {
        let Some((last, _)) = self.read else { return true };
        time.is_some_and(|time| time.duration_since(last).abs() <= SLIDE)
    }
}

fn signal(event: &ScheduledEvent, placed: Option<Placed>) -> Signal {
    let id = format!("{}/{}", Kind::ScheduledEvent.as_str(), event.id);
    Signal {
        deadline: placed.map(|placed| Deadline { instant: placed.interval.lo, wall: placed.time }),
        detail: Some(format!("{}, {}", event.code_word, event.id)),
        ..Signal::new(Kind::ScheduledEvent, id, event.code.action())
    }
}

/// By the platform's clock and by the guest's.
fn is_long_past(time: Timestamp, timing: &Timing) -> bool {
    let past = |now: Timestamp| now.duration_since(time) > AFTER_THE_END;
    timing.date.is_some_and(past) && past(timing.answered.wall)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::clock::Now;
    use crate::signal::Action;

    const ORIGIN: i64 = 1_774_974_744;
    const HOUR: i64 = 3600;

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(ORIGIN + seconds).unwrap()
    }

    fn origin() -> Now {
        Now { instant: Instant::now() + Duration::from_secs(1_000_000), wall: wall(0) }
    }

    /// A tracker of an instance that booted an hour before the origin, and what it is read with.
    struct Reader {
        origin: Now,
        tracker: ScheduledTracker,
        at: u64,
    }

    impl Reader {
        fn new() -> Self {
            let origin = origin();
            Self { origin, tracker: ScheduledTracker::new(Boot::new(Some(wall(-HOUR)), origin)), at: 0 }
        }

        /// An answer that took no time, from a platform whose clock equals the guest's.
        fn timing(&self) -> Timing {
            let now = self.origin.plus(Duration::from_secs(self.at));
            Timing { asked: now, answered: now, date: Some(now.wall) }
        }

        /// The next list, 30 s after the one before.
        fn read(&mut self, events: &[ScheduledEvent]) -> Reading {
            let reading = self.read_list(events, true);
            self.at += 30;
            reading
        }

        fn read_list(&mut self, events: &[ScheduledEvent], complete: bool) -> Reading {
            let list = ScheduledEvents { events: events.to_vec(), complete, oddities: Vec::new() };
            let timing = self.timing();
            self.tracker.read(&list, &timing)
        }

        fn history(&mut self, events: &[ScheduledEvent]) -> Option<Reading> {
            let list = ScheduledEvents { events: events.to_vec(), complete: true, oddities: Vec::new() };
            self.tracker.read_history(&list)
        }

        /// A tracker that has seen `events` in force for long.
        fn settled(events: &[ScheduledEvent]) -> Self {
            let mut reader = Self::new();
            reader.read(events);
            assert_eq!(reader.read(events).others, Others::Over);
            reader
        }
    }

    fn event(id: &str, not_before: i64) -> ScheduledEvent {
        ScheduledEvent {
            id: id.into(),
            code: Code::InstanceReboot,
            code_word: "instance-reboot".into(),
            not_before: Some(wall(not_before)),
            not_after: None,
            done: false,
        }
    }

    fn done(event: ScheduledEvent) -> ScheduledEvent {
        ScheduledEvent { done: true, ..event }
    }

    fn wall_of(reading: &Reading) -> Timestamp {
        reading.signals[0].deadline.unwrap().wall
    }

    #[tokio::test(start_paused = true)]
    async fn each_event_in_force_is_one_signal_with_its_deadline_and_its_names() {
        let mut reader = Reader::new();
        let stop = ScheduledEvent { code: Code::InstanceStop, code_word: "instance-stop".into(), ..event("e2", 100) };
        let reading = reader.read(&[event("e1", 3 * HOUR), stop, done(event("e3", HOUR))]);
        let expected = |id: &str, action, code: &str, at: i64| Signal {
            deadline: Some(Deadline { instant: reader.origin.instant_of(wall(at - 1)), wall: wall(at) }),
            detail: Some(format!("{code}, {id}")),
            ..Signal::new(Kind::ScheduledEvent, format!("scheduled-event/{id}"), action)
        };
        let signals = vec![
            expected("e1", Action::Reboot, "instance-reboot", 3 * HOUR),
            expected("e2", Action::Stop, "instance-stop", 100),
        ];
        assert_eq!(reading, Reading { signals, ..Reading::nothing() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_without_a_time_has_no_deadline_and_one_that_had_a_time_keeps_it() {
        let mut reader = Reader::new();
        let timeless = ScheduledEvent { not_before: None, ..event("e1", 0) };
        assert_eq!(reader.read(std::slice::from_ref(&timeless)).signals[0].deadline, None);
        let timed = reader.read(&[event("e1", HOUR)]);
        assert_eq!(reader.read(&[timeless]).signals, timed.signals);
    }

    #[rstest]
    #[case::later(48 * HOUR)]
    #[case::earlier(12 * HOUR)]
    #[case::into_the_past(-60)]
    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_planned_anew_has_its_new_time(#[case] moved: i64) {
        let mut reader = Reader::settled(&[event("e1", 24 * HOUR)]);
        let reading = reader.read(&[event("e1", moved)]);
        assert_eq!((wall_of(&reading), reading.others), (wall(moved), Others::Over));
        assert_eq!(wall_of(&reader.read(&[event("e1", 24 * HOUR)])), wall(24 * HOUR));
    }

    #[rstest]
    #[case::by_seconds(7)]
    #[case::with_the_clock(30)]
    #[tokio::test(start_paused = true)]
    async fn a_time_that_slides_with_each_read_keeps_the_deadline(#[case] step: i64) {
        let mut reader = Reader::new();
        let first = reader.read(&[event("e1", HOUR)]);
        for read in 1..200 {
            let next = reader.read(&[event("e1", HOUR + step * read)]);
            assert_eq!(next.signals, first.signals);
        }
        assert_eq!(wall_of(&reader.read(&[event("e1", HOUR + step * 199 - 5)])), wall(HOUR));
        let mut reader = Reader::new();
        reader.read(&[event("e1", HOUR)]);
        assert_eq!(wall_of(&reader.read(&[event("e1", HOUR - 7)])), wall(HOUR - 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_process_says_nothing_of_others_before_two_lists_agree() {
        let mut reader = Reader::new();
        assert_eq!(reader.read(&[]).others, Others::Unknown);
        assert_eq!(reader.read(&[event("e1", HOUR)]).others, Others::Unknown);
        assert_eq!(reader.read(&[]).others, Others::Unknown);
        let mut reader = Reader::new();
        assert_eq!(reader.read(&[]).others, Others::Unknown);
        assert_eq!(reader.read(&[]).others, Others::Over);
        // A list with a hole agrees with nothing.
        let mut reader = Reader::new();
        assert_eq!(reader.read_list(&[], false).others, Others::Unknown);
        assert_eq!(reader.read(&[]).others, Others::Unknown);
        assert_eq!(reader.read_list(&[], false).others, Others::Unknown);
        assert_eq!(reader.read(&[]).others, Others::Unknown);
        assert_eq!(reader.read(&[]).others, Others::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_listed_as_done_is_over_at_once() {
        let mut reader = Reader::settled(&[event("e1", HOUR), event("e2", HOUR)]);
        let reading = reader.read(&[done(event("e1", HOUR)), event("e2", HOUR)]);
        assert_eq!((reading.signals.len(), reading.others), (1, Others::Over));
        assert!(!reader.tracker.wants_history());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_left_the_list_is_over_when_the_history_says_so() {
        let mut reader = Reader::settled(&[event("e1", HOUR), event("e2", HOUR)]);
        let reading = reader.read(&[event("e2", HOUR)]);
        assert_eq!((reading.signals.len(), reading.others), (1, Others::Unknown));
        assert!(reader.tracker.wants_history());
        let confirmed = reader.history(&[done(event("e1", HOUR))]).unwrap();
        assert_eq!((confirmed.signals, confirmed.others), (reading.signals, Others::Over));
        assert!(!reader.tracker.wants_history());
    }

    #[rstest]
    #[case::of_another_event(done(event("e9", HOUR)))]
    #[case::not_done(event("e1", HOUR))]
    #[case::of_an_earlier_plan(done(event("e1", 2 * HOUR)))]
    #[case::without_a_time(ScheduledEvent { not_before: None, ..done(event("e1", 0)) })]
    #[tokio::test(start_paused = true)]
    async fn a_history_without_its_end_leaves_an_event_to_three_absences(#[case] entry: ScheduledEvent) {
        let mut reader = Reader::settled(&[event("e1", HOUR)]);
        for _ in 0..2 {
            assert_eq!(reader.read(&[]).others, Others::Unknown);
            assert!(reader.tracker.wants_history());
            assert_eq!(reader.history(std::slice::from_ref(&entry)), None);
        }
        assert_eq!(reader.read(&[]).others, Others::Over);
        assert!(!reader.tracker.wants_history());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_one_event_is_not_the_end_of_another() {
        let mut reader = Reader::settled(&[event("e1", HOUR), event("e2", HOUR)]);
        reader.read(&[]);
        let confirmed = reader.history(&[done(event("e1", HOUR))]).unwrap();
        assert_eq!(confirmed.others, Others::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn flapping_lists_end_nothing() {
        let mut reader = Reader::settled(&[event("e1", HOUR)]);
        for _ in 0..20 {
            assert_eq!(reader.read(&[]).others, Others::Unknown);
            assert_eq!(reader.read(&[]).others, Others::Unknown);
            assert_eq!(reader.read(&[event("e1", HOUR)]).others, Others::Over);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_with_a_hole_counts_for_no_absence() {
        let mut reader = Reader::settled(&[event("e1", HOUR)]);
        for _ in 0..10 {
            assert_eq!(reader.read_list(&[], false).others, Others::Unknown);
        }
        for others in [Others::Unknown, Others::Unknown, Others::Over] {
            assert_eq!(reader.read(&[]).others, others);
        }
    }

    #[rstest]
    #[case::reboot(Code::InstanceReboot, -HOUR - 1, None, true)]
    #[case::host_reboot(Code::SystemReboot, -HOUR - 1, None, true)]
    #[case::stop(Code::InstanceStop, -HOUR - 1, None, true)]
    #[case::retirement(Code::InstanceRetirement, -HOUR - 1, None, true)]
    #[case::after_boot(Code::InstanceReboot, -HOUR + 1, None, false)]
    #[case::maintenance_before_boot(Code::SystemMaintenance, -2 * HOUR, None, false)]
    #[case::maintenance_long_ended(Code::SystemMaintenance, -2 * HOUR, Some(-HOUR - 1), true)]
    #[case::maintenance_just_ended(Code::SystemMaintenance, -2 * HOUR, Some(-HOUR + 1), false)]
    #[case::reboot_overdue(Code::InstanceReboot, -60, Some(-10), false)]
    #[case::unknown_before_boot(Code::Other, -2 * HOUR, None, true)]
    #[case::unknown_under_way(Code::Other, -2 * HOUR, Some(HOUR), false)]
    #[tokio::test(start_paused = true)]
    async fn what_has_happened_is_over_although_it_is_listed(
        #[case] code: Code,
        #[case] from: i64,
        #[case] to: Option<i64>,
        #[case] over: bool,
    ) {
        let mut reader = Reader::new();
        let event = ScheduledEvent { code, not_after: to.map(wall), ..event("e1", from) };
        assert_eq!(reader.read(std::slice::from_ref(&event)).signals.is_empty(), over);
        // One clock alone does not end it.
        for skew in [-9_000_000, 9_000_000] {
            for platform in [true, false] {
                let mut reader = Reader::new();
                let mut timing = reader.timing();
                if platform {
                    timing.date = Some(wall(skew));
                } else {
                    timing.answered.wall = wall(skew);
                }
                let list = ScheduledEvents { events: vec![event.clone()], complete: true, oddities: Vec::new() };
                let ended = reader.tracker.read(&list, &timing).signals.is_empty();
                assert!(over || !ended, "ended by one clock");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_guest_clock_places_what_the_platform_did_not_date() {
        let mut reader = Reader::new();
        let blind = Timing { date: None, ..reader.timing() };
        let list = ScheduledEvents { events: vec![event("e1", HOUR)], complete: true, oddities: Vec::new() };
        let reading = reader.tracker.read(&list, &blind);
        assert!(reading.without_date);
        assert_eq!(reading.signals[0].deadline.unwrap().instant, reader.origin.instant_of(wall(HOUR)));
        let dated = reader.read(&[event("e1", HOUR)]);
        assert_eq!(dated.signals[0].deadline.unwrap().instant, reader.origin.instant_of(wall(HOUR - 1)));
        assert_eq!(reader.tracker.read(&list, &blind).signals, dated.signals);
    }

    #[tokio::test(start_paused = true)]
    async fn ids_without_end_do_not_pile_up() {
        let mut reader = Reader::new();
        for read in 0..2000 {
            reader.read_list(&[event(&format!("e{read}"), HOUR)], false);
        }
        assert!(reader.tracker.known.len() <= MOST_KNOWN, "{}", reader.tracker.known.len());
    }

    proptest! {
        /// Whatever is listed in whatever order: that others are over is said only if every event that was in force is
        /// listed, was said to be done, or was missing three times in a row.
        #[test]
        fn over_is_said_only_of_what_is_over(
            reads in proptest::collection::vec(
                (proptest::collection::btree_map(0_usize..4, any::<bool>(), 0..4), any::<bool>(), any::<bool>()),
                1..60,
            ),
        ) {
            let mut reader = Reader::new();
            let mut open: BTreeMap<usize, u32> = BTreeMap::new();
            for (listed, complete, history) in reads {
                let events: Vec<ScheduledEvent> = listed
                    .iter()
                    .map(|(id, done)| ScheduledEvent { done: *done, ..event(&format!("e{id}"), HOUR) })
                    .collect();
                let reading = reader.read_list(&events, complete);
                reader.at += 30;
                for (id, done) in &listed {
                    if *done { open.remove(id); } else { open.insert(*id, 0); }
                }
                open.retain(|id, absences| {
                    *absences += u32::from(complete && !listed.contains_key(id));
                    *absences < ABSENCES
                });
                let missing = open.keys().any(|id| !listed.contains_key(id));
                prop_assert!(reading.others == Others::Unknown || (complete && !missing));
                prop_assert_eq!(reading.signals.len(), listed.values().filter(|done| !**done).count());
                if history && reader.tracker.wants_history() {
                    reader.history(&[done(event("e0", HOUR))]);
                    if open.get(&0).is_some_and(|absences| *absences > 0) {
                        open.remove(&0);
                    }
                }
            }
        }
    }
}
