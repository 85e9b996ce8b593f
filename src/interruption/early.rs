//! What was read before the own Node was: whether a notice is news is known only from the Node's annotation.

use std::time::Duration;

use tokio::time::Instant;

use crate::signal::Observation;

/// How long the first observation waits for the first view of the own Node. Past this the node is taken for unmarked,
/// since a late drain is worse than a notice counted twice.
const NODE_PATIENCE: Duration = Duration::from_secs(2);

/// The last level of each kind, and when it was first read.
#[derive(Debug, Default)]
pub(super) struct Early {
    kept: Vec<(Observation, Instant)>,
    /// The patience is over.
    over: bool,
}

impl Early {
    /// Whether there is still patience at `now`.
    pub(super) fn holds(&self, now: Instant) -> bool {
        !self.over && self.due().is_none_or(|due| now < due)
    }

    /// Keeps the level for later.
    pub(super) fn keep(&mut self, observation: Observation, read_at: Instant) {
        match self.kept.iter_mut().find(|(kept, _)| kept.kind == observation.kind) {
            // One empty reading among others is noise; a notice that was read once stays read.
            Some((kept, _)) if observation.signals.is_empty() && !kept.signals.is_empty() => {}
            Some((kept, first)) => {
                if kept.signals.is_empty() {
                    *first = read_at;
                }
                *kept = observation;
            }
            None => self.kept.push((observation, read_at)),
        }
    }

    /// When the patience ends. Only something that is coming is worth it.
    pub(super) fn due(&self) -> Option<Instant> {
        let coming = self.kept.iter().filter(|(observation, _)| !observation.signals.is_empty());
        coming.map(|(_, read_at)| *read_at + NODE_PATIENCE).min()
    }

    /// Everything, now that the Node is known.
    pub(super) fn take(&mut self) -> Vec<(Observation, Instant)> {
        // In the order in which they would have been acted upon.
        self.kept.sort_by_key(|(observation, _)| observation.kind);
        std::mem::take(&mut self.kept)
    }

    /// Everything, if the patience is over.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<(Observation, Instant)> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.over = true;
        self.take()
    }
}
