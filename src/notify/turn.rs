//! What a message is about, and what it is made from.

use std::sync::Arc;

use jiff::Timestamp;

use crate::interruption::account::Account;

/// A turn of events that people are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something is announced.
    Notice,
    /// Its time was moved.
    Rescheduled,
    /// The drain is over, or the response is complete without one.
    Result,
    /// Nothing is coming any more.
    Over,
    /// What goes on is said again, for a peer that would forget it otherwise.
    Lasting,
}

impl Turn {
    /// Every turn.
    pub const ALL: [Self; 5] = [Self::Notice, Self::Rescheduled, Self::Result, Self::Over, Self::Lasting];

    /// The word in messages for machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Rescheduled => "rescheduled",
            Self::Result => "result",
            Self::Over => "over",
            Self::Lasting => "lasting",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns(u8);

impl Turns {
    /// Adds one.
    pub fn add(&mut self, turn: Turn) {
        self.0 |= turn.bit();
    }

    /// Adds all of the others.
    pub fn join(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether it is there.
    pub fn has(self, turn: Turn) -> bool {
        self.0 & turn.bit() != 0
    }

    /// Whether none is there.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one that matters most: what is over needs no count-down, and a result tells that there was a notice. A response
    /// without a drain is complete at once, and then the notice is the news.
    pub fn main(self, drained: bool) -> Turn {
        let result = if drained { [Turn::Result, Turn::Notice] } else { [Turn::Notice, Turn::Result] };
        let order = [Turn::Over, result[0], result[1], Turn::Rescheduled];
        order.into_iter().find(|turn| self.has(*turn)).unwrap_or(Turn::Lasting)
    }
}

impl FromIterator<Turn> for Turns {
    fn from_iter<I: IntoIterator<Item = Turn>>(turns: I) -> Self {
        let mut all = Self::default();
        turns.into_iter().for_each(|turn| all.add(turn));
        all
    }
}

/// One message to be: what every sink makes its own form of.
#[derive(Clone, Debug, PartialEq)]
pub struct Bulletin {
    /// The interruption as far as it has come.
    pub account: Arc<Account>,
    /// What is told with this message.
    pub turns: Turns,
    /// The moment in seconds of the account.
    pub at: f64,
    /// The same moment by the wall clock.
    pub now: Timestamp,
    /// Turns that were not told one by one, so as not to flood the sink.
    pub suppressed: u32,
    /// An agent before this one may have told the notice already.
    pub repeated: bool,
}

impl Bulletin {
    /// What it is about above all.
    pub fn main(&self) -> Turn {
        self.turns.main(self.account.not_drained.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::notice(&[Turn::Notice], Turn::Notice)]
    #[case::late_notice(&[Turn::Notice, Turn::Result], Turn::Result)]
    #[case::over(&[Turn::Notice, Turn::Result, Turn::Over], Turn::Over)]
    #[case::moved(&[Turn::Rescheduled, Turn::Lasting], Turn::Rescheduled)]
    #[case::moved_notice(&[Turn::Rescheduled, Turn::Notice], Turn::Notice)]
    #[case::nothing(&[], Turn::Lasting)]
    fn of_several_turns_one_is_in_the_headline(#[case] turns: &[Turn], #[case] main: Turn) {
        assert_eq!(turns.iter().copied().collect::<Turns>().main(true), main);
    }

    #[test]
    fn a_response_without_a_drain_does_not_hide_the_notice() {
        let turns: Turns = [Turn::Notice, Turn::Result].into_iter().collect();
        assert_eq!(turns.main(false), Turn::Notice);
        assert_eq!([Turn::Result].into_iter().collect::<Turns>().main(false), Turn::Result);
    }
}
