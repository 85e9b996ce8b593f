//! From successive reads of `autoscaling/target-lifecycle-state` to the end of service, and back. Pure.
//!
//! The item says where the group moves the instance to, with no time, reason or name of a hook. Whatever makes an
//! announcement end is taken only when it was read twice in a row.

use super::reading::Reading;
use crate::imds::documents::{LifecycleState, LifecycleWord, Oddity};
use crate::signal::{Action, Kind, Others, Signal};

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct LifecycleTracker {
    /// The last word if it says anything at all.
    last: Option<LifecycleState>,
    /// The instance was in service while this process watched.
    served: bool,
}

impl LifecycleTracker {
    /// The item is absent: no group, no hook, or no transition for years. Also noise between two words.
    pub(super) fn absent(&mut self) {
        self.last = None;
    }

    /// The item says `word`.
    pub(super) fn read(&mut self, word: LifecycleWord) -> Reading {
        let LifecycleWord::Known(state) = word else {
            self.absent();
            let odd = word == LifecycleWord::Unknown;
            return Reading {
                oddities: odd.then_some(Oddity::UnknownWord).into_iter().collect(),
                ..Reading::nothing()
            };
        };
        self.served |= state == LifecycleState::InService;
        let again = self.last.replace(state).is_some_and(|last| last == state || is_calm(last) && is_calm(state));
        let Some(action) = self.action(state) else {
            let over = again && is_calm(state);
            return Reading { others: if over { Others::Over } else { Others::Unknown }, ..Reading::nothing() };
        };
        let id = format!("{}/{}", Kind::AsgTermination.as_str(), state.as_str());
        let signal =
            Signal { detail: Some(state.as_str().to_owned()), ..Signal::new(Kind::AsgTermination, id, action) };
        let others = if again { Others::Over } else { Others::Unknown };
        Reading { signals: vec![signal], others, ..Reading::nothing() }
    }

    fn action(&self, state: LifecycleState) -> Option<Action> {
        match state {
            LifecycleState::Terminated | LifecycleState::WarmedTerminated => Some(Action::Terminate),
            LifecycleState::WarmedStopped | LifecycleState::WarmedHibernated => Some(Action::Stop),
            // On its way into the pool it loses its pods; on its way out of it there are none yet.
            LifecycleState::WarmedRunning => self.served.then_some(Action::Stop),
            LifecycleState::Standby => Some(Action::Standby),
            LifecycleState::InService | LifecycleState::Detached => None,
        }
    }
}

/// The instance stays, in the group or out of it.
fn is_calm(state: LifecycleState) -> bool {
    matches!(state, LifecycleState::InService | LifecycleState::Detached)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::LifecycleState::{
        Detached, InService, Standby, Terminated, WarmedHibernated, WarmedRunning, WarmedStopped, WarmedTerminated,
    };
    use super::*;

    /// What is reported, in short: the action if there is a signal, and whether others are over.
    fn read(tracker: &mut LifecycleTracker, state: LifecycleState) -> (Option<Action>, bool) {
        let reading = tracker.read(LifecycleWord::Known(state));
        (reading.signals.first().map(|signal| signal.action), reading.others == Others::Over)
    }

    #[rstest]
    #[case(Terminated, Some(Action::Terminate))]
    #[case(WarmedTerminated, Some(Action::Terminate))]
    #[case(WarmedStopped, Some(Action::Stop))]
    #[case(WarmedHibernated, Some(Action::Stop))]
    #[case(Standby, Some(Action::Standby))]
    #[case(WarmedRunning, None)]
    #[case(InService, None)]
    #[case(Detached, None)]
    fn each_word_has_its_action(#[case] state: LifecycleState, #[case] action: Option<Action>) {
        let reading = LifecycleTracker::default().read(LifecycleWord::Known(state));
        let signal = action.map(|action| Signal {
            detail: Some(state.as_str().into()),
            ..Signal::new(Kind::AsgTermination, format!("asg-termination/{}", state.as_str()), action)
        });
        assert_eq!(reading, Reading { signals: signal.into_iter().collect(), ..Reading::nothing() });
    }

    #[test]
    fn the_way_into_a_warm_pool_clears_the_node_only_if_it_was_in_service() {
        let mut tracker = LifecycleTracker::default();
        assert_eq!(read(&mut tracker, WarmedRunning), (None, false));
        assert_eq!(read(&mut tracker, WarmedRunning), (None, false));
        assert_eq!(read(&mut tracker, InService), (None, false));
        assert_eq!(read(&mut tracker, WarmedRunning), (Some(Action::Stop), false));
        assert_eq!(read(&mut tracker, WarmedRunning), (Some(Action::Stop), true));
    }

    #[rstest]
    #[case(InService, InService, true)]
    #[case(Detached, Detached, true)]
    #[case(InService, Detached, true)]
    #[case(Terminated, InService, false)]
    #[case(Standby, Detached, false)]
    fn being_in_service_again_counts_from_the_second_read_in_a_row(
        #[case] first: LifecycleState,
        #[case] second: LifecycleState,
        #[case] over: bool,
    ) {
        let mut tracker = LifecycleTracker::default();
        read(&mut tracker, first);
        assert_eq!(read(&mut tracker, second), (None, over));
    }

    #[test]
    fn a_changed_word_ends_the_old_announcement_at_its_second_read() {
        let mut tracker = LifecycleTracker::default();
        assert_eq!(read(&mut tracker, Standby), (Some(Action::Standby), false));
        assert_eq!(read(&mut tracker, Terminated), (Some(Action::Terminate), false));
        assert_eq!(read(&mut tracker, Terminated), (Some(Action::Terminate), true));
    }

    #[test]
    fn absence_nothing_and_unknown_words_say_nothing_and_break_the_row() {
        for (word, odd) in [(None, false), (Some(LifecycleWord::Empty), false), (Some(LifecycleWord::Unknown), true)] {
            let mut tracker = LifecycleTracker::default();
            read(&mut tracker, InService);
            let reading = if let Some(word) = word {
                tracker.read(word)
            } else {
                tracker.absent();
                Reading::nothing()
            };
            let oddities = if odd { vec![Oddity::UnknownWord] } else { Vec::new() };
            assert_eq!(reading, Reading { oddities, ..Reading::nothing() });
            assert_eq!(read(&mut tracker, InService), (None, false));
            assert_eq!(read(&mut tracker, InService), (None, true));
        }
    }

    proptest! {
        /// In whatever order words come: that others are over is said only at the second of two that agree.
        #[test]
        fn nothing_is_over_at_the_first_read_of_a_word(words in proptest::collection::vec(0_usize..10, 1..60)) {
            let mut tracker = LifecycleTracker::default();
            let mut last = None;
            for index in words {
                let word = LifecycleState::ALL.get(index).map_or(LifecycleWord::Unknown, |state| LifecycleWord::Known(*state));
                let reading = tracker.read(word);
                let calm = |word| matches!(word, LifecycleWord::Known(InService | Detached));
                let agrees = last.is_some_and(|last| last == word || calm(last) && calm(word));
                prop_assert!(reading.others == Others::Unknown || agrees);
                prop_assert!(reading.signals.len() <= 1);
                last = Some(word);
            }
        }
    }
}
