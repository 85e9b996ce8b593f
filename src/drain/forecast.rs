//! The drain forecast: could this node be cleared within a notice that arrived now? Pure.

use super::pod::PodRef;

/// The verdict on every pod of the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Every pod that a drain would end, the worst first.
    pub pods: Vec<PodForecast>,
    /// Seconds that the tightest pod would have to spare; negative if its grace would be cut. `None` without pods.
    pub least_slack_seconds: Option<f64>,
}

/// What a notice that arrived now would mean for one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodForecast {
    /// Which pod.
    pub pod: PodRef,
    /// What would become of it.
    pub verdict: Verdict,
    /// For people: the annotation, the grace, the budget.
    pub reason: Option<String>,
}

/// What a notice that arrived now would mean for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Its grace is longer than a notice leaves.
    Shortened,
    /// Its eviction would be refused, as the last preflight saw it.
    Blocked,
    /// An annotation asks to leave it alone, which a notice cannot.
    Pinned,
    /// Nothing would put it up again elsewhere.
    Unmanaged,
    /// It would end in time with all of its grace.
    Fits,
}

impl Verdict {
    /// Every verdict, the worst first.
    pub const ALL: [Self; 5] = [Self::Shortened, Self::Blocked, Self::Pinned, Self::Unmanaged, Self::Fits];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shortened => "shortened",
            Self::Blocked => "blocked",
            Self::Pinned => "pinned",
            Self::Unmanaged => "unmanaged",
            Self::Fits => "fits",
        }
    }
}
