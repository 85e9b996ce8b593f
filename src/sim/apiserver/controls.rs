//! What a test sets on the server's controllers and reviews.

use jiff::Timestamp;

/// Settings; their own lock, apart from the objects'.
#[derive(Debug, Default)]
pub(super) struct Controls {
    pub(super) budgets_held: bool,
    /// When the disruption controller has to look again although nothing changed.
    pub(super) recheck: Option<Timestamp>,
    /// `(verb, resource)` that access reviews deny.
    pub(super) denied: Vec<(String, String)>,
}
