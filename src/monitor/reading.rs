//! What one read of an item amounts to.

use crate::imds::documents::Oddity;
use crate::signal::{Kind, Observation, Others, Signal};

/// What one read amounts to.
#[derive(Debug, PartialEq)]
pub(super) struct Reading {
    /// What is in force.
    pub(super) signals: Vec<Signal>,
    /// What became of those that were in force before and are not listed.
    pub(super) others: Others,
    /// What was not taken as it came.
    pub(super) oddities: Vec<Oddity>,
    /// A deadline had to be placed by the guest's clock.
    pub(super) without_date: bool,
}

impl Reading {
    /// Nothing is in force as far as this read goes, and nothing is said of others.
    pub(super) fn nothing() -> Self {
        Self { signals: Vec::new(), others: Others::Unknown, oddities: Vec::new(), without_date: false }
    }

    /// As it is reported.
    pub(super) fn observation(self, kind: Kind) -> Observation {
        Observation { kind, signals: self.signals, others: self.others }
    }
}
