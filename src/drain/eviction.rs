//! What the API server's answer to an eviction or a deletion means.
//!
//! The status code alone does not tell: 409 and 429 have several meanings each, and a 500 may be a permanent refusal.

use std::time::Duration;

/// The meaning of an answer to an eviction or deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvictionAnswer {
    /// 200, 201: the stop was asked for. The pod is gone only when the watch says so.
    Accepted,
    /// 404, or 409 on the UID precondition: this pod object no longer exists.
    Gone,
    /// A disruption budget (or two of them, which the API cannot resolve) refuses. The message is the server's.
    Blocked(String),
    /// 429 without a budget as cause: the API server protects itself. Its `Retry-After`, if sent.
    Throttled(Option<Duration>),
    /// 403 because the namespace is being deleted: the pod is going away without us.
    NamespaceTerminating,
    /// Another 4xx: asking again in the same way cannot help (missing right, admission policy).
    Refused(String),
    /// Conflict on the budget, 5xx, time-out, broken connection: not known whether it was applied; safe to ask again.
    Unknown(String),
    /// `--dry-run`: nothing was sent.
    DryRun,
}

impl EvictionAnswer {
    /// The `result` label of `spotwarden_eviction_requests_total`.
    pub const fn result(&self) -> &'static str {
        match self {
            Self::Accepted | Self::DryRun => "evicted",
            Self::Gone => "gone",
            Self::Blocked(_) => "blocked",
            Self::Throttled(_) => "throttled",
            Self::NamespaceTerminating | Self::Refused(_) | Self::Unknown(_) => "error",
        }
    }
}
