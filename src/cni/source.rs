//! Which source the figures come from: the best that answers, without flapping.

/// Where the pool can be read, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// ipamd's `/v1/enis`: every address.
    Introspection,
    /// ipamd's `/metrics`: sums without the cooldown.
    Metrics,
    /// What EC2 has attached, by IMDS, and the node's pods: ipamd is not asked at all.
    Imds,
}

impl Source {
    /// Every source, the best first.
    pub const ALL: [Self; 3] = [Self::Introspection, Self::Metrics, Self::Imds];
    /// Those that are ipamd itself.
    pub const IPAMD: [Self; 2] = [Self::Introspection, Self::Metrics];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Introspection => "introspection",
            Self::Metrics => "metrics",
            Self::Imds => "imds",
        }
    }
}

/// How far figures can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// Counted address by address.
    Exact,
    /// Free addresses are an upper bound, or limits are those of one of several network cards.
    Estimate,
}

impl Confidence {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Estimate => "estimate",
        }
    }
}

/// A source counts as gone after so many failures in a row.
pub const PATIENCE: u32 = 3;

/// The failures of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    failures: u32,
    answered: bool,
}

impl Streak {
    /// It answered.
    pub fn succeeded(&mut self) {
        *self = Self { failures: 0, answered: true };
    }

    /// It did not, or not with what it should.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Failed so often in a row that it is not waited for any longer.
    pub fn is_gone(self) -> bool {
        self.failures >= PATIENCE
    }

    /// Has ever answered.
    pub fn has_answered(self) -> bool {
        self.answered
    }

    /// What it said last is still good.
    fn is_usable(self) -> bool {
        self.answered && !self.is_gone()
    }
}

/// The best source whose last answer is good: one failure does not end it, one answer brings it back.
pub fn choose(introspection: Streak, metrics: Streak, imds: Streak) -> Option<Source> {
    let streaks = [(Source::Introspection, introspection), (Source::Metrics, metrics), (Source::Imds, imds)];
    streaks.into_iter().find(|(_, streak)| streak.is_usable()).map(|(source, _)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Streak = Streak { failures: 0, answered: false };

    #[test]
    fn the_metadata_service_comes_last() {
        let (mut ipamd, mut imds) = (Streak::default(), Streak::default());
        imds.succeeded();
        assert_eq!(choose(ipamd, ipamd, imds), Some(Source::Imds));
        ipamd.succeeded();
        assert_eq!(choose(NONE, ipamd, imds), Some(Source::Metrics));
        (0..PATIENCE).for_each(|_| ipamd.failed());
        assert_eq!(choose(NONE, ipamd, imds), Some(Source::Imds));
    }

    #[test]
    fn a_source_is_left_after_three_failures_and_taken_again_after_one_answer() {
        let (mut introspection, mut metrics) = (Streak::default(), Streak::default());
        assert_eq!(choose(introspection, metrics, NONE), None);
        metrics.succeeded();
        assert_eq!(
            choose(introspection, metrics, NONE),
            Some(Source::Metrics),
            "the first that answers is used at once"
        );
        introspection.succeeded();
        assert_eq!(choose(introspection, metrics, NONE), Some(Source::Introspection));
        for expected in [Source::Introspection, Source::Introspection, Source::Metrics] {
            introspection.failed();
            assert_eq!(choose(introspection, metrics, NONE), Some(expected));
        }
        introspection.succeeded();
        assert_eq!(choose(introspection, metrics, NONE), Some(Source::Introspection));
    }

    #[test]
    fn with_all_sources_gone_there_is_none() {
        let mut streak = Streak::default();
        streak.succeeded();
        (0..PATIENCE).for_each(|_| streak.failed());
        assert!(streak.is_gone() && streak.has_answered());
        assert_eq!(choose(streak, streak, streak), None);
    }
}
