//! `autoscaling/target-lifecycle-state`: the state that the auto scaling group is moving the instance to, one bare word.

use super::{Malformed, name};

/// The states that EC2 Auto Scaling documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleState {
    /// In service, or getting there.
    InService,
    /// Leaves the group for good; the instance ends.
    Terminated,
    /// Leaves service, stays in the group and runs on.
    Standby,
    /// Leaves the group and runs on.
    Detached,
    /// To or within the warm pool, running.
    WarmedRunning,
    /// To or within the warm pool, stopped.
    WarmedStopped,
    /// To or within the warm pool, hibernated.
    WarmedHibernated,
    /// Ends in the warm pool.
    WarmedTerminated,
}

impl LifecycleState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::InService,
        Self::Terminated,
        Self::Standby,
        Self::Detached,
        Self::WarmedRunning,
        Self::WarmedStopped,
        Self::WarmedHibernated,
        Self::WarmedTerminated,
    ];

    /// The word as the service spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InService => "InService",
            Self::Terminated => "Terminated",
            Self::Standby => "Standby",
            Self::Detached => "Detached",
            Self::WarmedRunning => "Warmed:Running",
            Self::WarmedStopped => "Warmed:Stopped",
            Self::WarmedHibernated => "Warmed:Hibernated",
            Self::WarmedTerminated => "Warmed:Terminated",
        }
    }
}

/// What `autoscaling/target-lifecycle-state` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleWord {
    /// Nothing: the group has no hook.
    Empty,
    /// One of the documented states.
    Known(LifecycleState),
    /// A word that this version does not know.
    Unknown,
}

/// Reads `autoscaling/target-lifecycle-state`. What cannot be a word, a proxy's page say, is malformed.
pub fn lifecycle_state(body: &[u8]) -> Result<LifecycleWord, Malformed> {
    if body.trim_ascii().is_empty() {
        return Ok(LifecycleWord::Empty);
    }
    let word = name(body).ok_or(Malformed("it is no single word"))?;
    let known = LifecycleState::ALL.into_iter().find(|state| word.eq_ignore_ascii_case(state.as_str()));
    Ok(known.map_or(LifecycleWord::Unknown, LifecycleWord::Known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_word_is_known_in_any_case_and_with_a_line_break() {
        for state in LifecycleState::ALL {
            let word = state.as_str();
            for spelling in [word.to_owned(), format!("{word}\n"), word.to_lowercase(), word.to_uppercase()] {
                assert_eq!(lifecycle_state(spelling.as_bytes()), Ok(LifecycleWord::Known(state)), "{spelling:?}");
            }
        }
    }

    #[test]
    fn other_words_nothing_and_what_is_no_word_are_told_apart() {
        for empty in ["", "\n", "  "] {
            assert_eq!(lifecycle_state(empty.as_bytes()), Ok(LifecycleWord::Empty));
        }
        for unknown in ["Terminating:Wait", "Warmed:", "None", "InServices"] {
            assert_eq!(lifecycle_state(unknown.as_bytes()), Ok(LifecycleWord::Unknown), "{unknown}");
        }
        for malformed in [b"<html>".as_slice(), b"InService Terminated", b"InService\nTerminated", b"\xff", b"{}"] {
            assert!(lifecycle_state(malformed).is_err());
        }
    }
}
