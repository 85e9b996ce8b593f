//! The life of one pod's process, from its start to the removal of the API object, as a state machine. Pure.
//!
//! Follows the kubelet: the effective grace is the smallest seen so far; when it shrinks, the stop is taken up again with
//! the new grace counted from that moment; SIGKILL never comes earlier than two seconds after SIGTERM was due.

use std::time::Duration;

use tokio::time::Instant;

/// How long the steps take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the deletion being seen to SIGTERM.
    pub observe: Duration,
    /// Least time from SIGTERM to SIGKILL.
    pub minimum: Duration,
    /// From the process's end to the final DELETE of the API object.
    pub cleanup: Duration,
}

/// How a process answers SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Exits after this time.
    After(Duration),
    /// Ignores it.
    Never,
}

impl Behaviour {
    /// What a pod without the annotation does.
    pub const DEFAULT: Self = Self::After(Duration::from_secs(1));

    /// Reads the annotation: seconds as a decimal number, `never`, or `NN%` of the pod's own grace. What it does not
    /// understand is the default.
    pub fn parse(text: &str, own_grace: Duration) -> Self {
        let seconds = |text: &str| text.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        let after = match text.trim() {
            "never" => return Self::Never,
            text => match text.strip_suffix('%') {
                Some(percent) => percent
                    .trim()
                    .parse::<f64>()
                    .ok()
                    .and_then(|p| Duration::try_from_secs_f64(own_grace.as_secs_f64() * p / 100.0).ok()),
                None => seconds(text),
            },
        };
        after.map_or(Self::DEFAULT, Self::After)
    }
}

/// Something that happens to the process or its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The process is told to stop.
    Sigterm,
    /// The process is gone.
    Exited {
        /// By SIGKILL at the end of its grace.
        killed: bool,
    },
    /// The API object may be removed.
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Observed { term_at: Instant },
    Stopping { kill_at: Instant, exits_at: Option<Instant> },
    Exited { remove_at: Instant },
    Removed,
}

/// The process of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    timing: Timing,
    behaviour: Behaviour,
    /// The smallest grace seen, once there was one.
    grace: Option<Duration>,
    state: State,
}

impl Process {
    /// A process that has not been started.
    pub fn new(timing: Timing, behaviour: Behaviour) -> Self {
        Self { timing, behaviour, grace: None, state: State::Waiting }
    }

    /// It runs. Without effect if a stop came first.
    pub fn start(&mut self) {
        if self.state == State::Waiting {
            self.state = State::Running;
        }
    }

    /// Not started yet, and not to be stopped before.
    pub fn waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Started and not gone.
    pub fn running(&self) -> bool {
        matches!(self.state, State::Running | State::Observed { .. } | State::Stopping { .. })
    }

    /// No stop was asked for.
    pub fn untold(&self) -> bool {
        matches!(self.state, State::Waiting | State::Running)
    }

    /// The smallest grace seen so far.
    pub fn grace(&self) -> Option<Duration> {
        self.grace
    }

    /// The deletion was seen, with this grace; SIGTERM is due after `observe`, but not before `not_before`. Seeing the
    /// same or a longer grace again changes nothing.
    pub fn delete(&mut self, now: Instant, grace: Duration, not_before: Instant) {
        // The kubelet's own final DELETE asks for a grace of 0; nobody was granted that.
        let over = matches!(self.state, State::Exited { .. } | State::Removed);
        if over || self.grace.is_some_and(|seen| seen <= grace) {
            return;
        }
        self.grace = Some(grace);
        match &mut self.state {
            State::Waiting => self.state = State::Exited { remove_at: now + self.timing.observe },
            State::Running => self.state = State::Observed { term_at: (now + self.timing.observe).max(not_before) },
            State::Stopping { kill_at, .. } => *kill_at = now + grace.max(self.timing.minimum),
            State::Observed { .. } | State::Exited { .. } | State::Removed => {}
        }
    }

    /// When the next step is due.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting | State::Running | State::Removed => None,
            State::Observed { term_at } => Some(term_at),
            State::Stopping { kill_at, exits_at } => Some(exits_at.map_or(kill_at, |exits| exits.min(kill_at))),
            State::Exited { remove_at } => Some(remove_at),
        }
    }

    /// Takes the next step if it is due, with the moment at which it was.
    pub fn step(&mut self, now: Instant) -> Option<(Instant, Step)> {
        let at = self.due().filter(|due| *due <= now)?;
        let step = match self.state {
            State::Waiting | State::Running | State::Removed => return None,
            State::Observed { .. } => {
                let exits_at = match self.behaviour {
                    Behaviour::After(time) => at.checked_add(time),
                    Behaviour::Never => None,
                };
                let kill_at = at + self.grace.unwrap_or_default().max(self.timing.minimum);
                self.state = State::Stopping { kill_at, exits_at };
                Step::Sigterm
            }
            State::Stopping { exits_at, .. } => {
                self.state = State::Exited { remove_at: at + self.timing.cleanup };
                Step::Exited { killed: exits_at.is_none_or(|exits| exits > at) }
            }
            State::Exited { .. } => {
                self.state = State::Removed;
                Step::Remove
            }
        };
        Some((at, step))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NEVER: Behaviour = Behaviour::Never;
    /// Steps without latency, for vectors that count in whole seconds.
    const EXACT: Timing = Timing { observe: Duration::ZERO, minimum: Duration::from_secs(2), cleanup: Duration::ZERO };
    /// What a real node was measured at.
    const MEASURED: Timing = crate::sim::kubelet::MEASURED;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    /// Plays deletions (second, grace in seconds) and returns the steps by second.
    fn play(timing: Timing, behaviour: Behaviour, deletions: &[(f64, f64)]) -> Vec<(f64, Step)> {
        let start = Instant::now();
        let mut process = Process::new(timing, behaviour);
        process.start();
        let mut steps = Vec::new();
        let mut run = |process: &mut Process, until: Instant| {
            while let Some((at, step)) = process.step(until) {
                steps.push(((at - start).as_secs_f64(), step));
            }
        };
        for (second, grace) in deletions {
            let now = start + secs(*second);
            run(&mut process, now);
            process.delete(now, secs(*grace), now);
        }
        run(&mut process, start + secs(1e6));
        steps
    }

    fn killed_at(steps: &[(f64, Step)]) -> Option<f64> {
        steps.iter().find(|(_, step)| *step == Step::Exited { killed: true }).map(|(at, _)| *at)
    }

    /// Test vectors of the re-truncation table: pod deleted at 0 with 300 s, shortened later.
    #[rstest]
    #[case(&[(0.0, 300.0)], 300.0)]
    #[case(&[(0.0, 300.0), (10.0, 110.0)], 120.0)]
    #[case(&[(0.0, 300.0), (58.0, 62.0)], 120.0)]
    #[case(&[(0.0, 300.0), (70.0, 1.0)], 72.0)]
    #[case(&[(0.0, 300.0), (117.0, 1.0)], 119.0)]
    fn a_shortened_grace_counts_from_the_moment_it_is_seen(#[case] deletions: &[(f64, f64)], #[case] expected: f64) {
        assert_eq!(killed_at(&play(EXACT, NEVER, deletions)), Some(expected));
    }

    #[rstest]
    #[case(&[(0.0, 30.0), (10.0, 30.0)])]
    #[case(&[(0.0, 30.0), (10.0, 60.0)])]
    fn a_grace_that_does_not_shrink_changes_nothing(#[case] deletions: &[(f64, f64)]) {
        assert_eq!(killed_at(&play(EXACT, NEVER, deletions)), Some(30.0));
    }

    #[rstest]
    #[case(0.0)]
    #[case(1.0)]
    #[case(2.0)]
    fn two_seconds_pass_between_sigterm_and_sigkill_at_least(#[case] grace: f64) {
        assert_eq!(killed_at(&play(EXACT, NEVER, &[(0.0, grace)])), Some(2.0));
    }

    #[test]
    fn a_process_that_exits_in_time_is_not_killed() {
        let steps = play(EXACT, Behaviour::After(secs(30.0)), &[(0.0, 30.0)]);
        assert_eq!(steps, [(0.0, Step::Sigterm), (30.0, Step::Exited { killed: false }), (30.0, Step::Remove)]);
    }

    #[test]
    fn a_process_goes_on_with_its_stop_when_the_grace_shrinks_around_it() {
        let steps = play(EXACT, Behaviour::After(secs(20.0)), &[(0.0, 300.0), (10.0, 60.0)]);
        assert_eq!(steps.get(1), Some(&(20.0, Step::Exited { killed: false })));
    }

    #[test]
    fn a_grace_that_shrinks_before_sigterm_does_not_delay_it() {
        let timing = Timing { observe: secs(1.0), ..EXACT };
        let steps = play(timing, NEVER, &[(0.0, 300.0), (0.5, 10.0)]);
        assert_eq!(steps.first(), Some(&(1.0, Step::Sigterm)));
        assert_eq!(killed_at(&steps), Some(11.0));
    }

    /// From the eviction being accepted to the object being gone, as measured on a real node.
    #[rstest]
    #[case::ignores_sigterm(NEVER, 5.0, 5.6..=6.0)]
    #[case::evicted_with_less_than_its_own(NEVER, 3.0, 3.7..=4.1)]
    #[case::exits_after_a_second(Behaviour::DEFAULT, 30.0, 1.95..=2.15)]
    fn the_measured_latencies_are_reproduced(
        #[case] behaviour: Behaviour,
        #[case] grace: f64,
        #[case] expected: std::ops::RangeInclusive<f64>,
    ) {
        let steps = play(MEASURED, behaviour, &[(0.0, grace)]);
        let (gone, last) = *steps.last().unwrap();
        assert_eq!(last, Step::Remove);
        assert!(expected.contains(&gone), "{gone} is not in {expected:?}");
    }

    #[test]
    fn a_pod_that_never_started_has_no_process_to_stop() {
        let now = Instant::now();
        let mut process = Process::new(EXACT, NEVER);
        process.delete(now, secs(30.0), now);
        process.start();
        assert!(!process.running());
        assert_eq!(process.step(now), Some((now, Step::Remove)));
        assert_eq!(process.step(now), None);
    }

    #[rstest]
    #[case("never", NEVER)]
    #[case("2.5", Behaviour::After(secs(2.5)))]
    #[case("0", Behaviour::After(secs(0.0)))]
    #[case("50%", Behaviour::After(secs(15.0)))]
    #[case("120 %", Behaviour::After(secs(36.0)))]
    #[case("-1", Behaviour::DEFAULT)]
    #[case("NaN", Behaviour::DEFAULT)]
    #[case("1e300", Behaviour::DEFAULT)]
    #[case("soon", Behaviour::DEFAULT)]
    fn the_annotation_says_how_a_process_stops(#[case] text: &str, #[case] expected: Behaviour) {
        assert_eq!(Behaviour::parse(text, secs(30.0)), expected);
    }
}
