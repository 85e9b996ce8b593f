//! How a pod's drain ended.

/// Every pod of a drained node ends in exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Gone in time, with all the grace it asked for.
    Graceful,
    /// Gone in time, with less grace than it asked for because the deadline was nearer.
    Shortened,
    /// Gone in time, deleted past a refusal of its eviction.
    Forced,
    /// Still running at the deadline.
    Unfinished,
    /// Left alone: DaemonSet, mirror or finished pod.
    Skipped,
}

impl Outcome {
    /// Every outcome, in the order in which reports list them.
    pub const ALL: [Self; 5] = [Self::Graceful, Self::Shortened, Self::Forced, Self::Unfinished, Self::Skipped];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::Shortened => "shortened",
            Self::Forced => "forced",
            Self::Unfinished => "unfinished",
            Self::Skipped => "skipped",
        }
    }
}
