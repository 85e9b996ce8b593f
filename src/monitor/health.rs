//! One log line per change: working, failing and why, working again.

use crate::imds::Item;

/// What is known to fail now.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: Vec<Failing>,
}

#[derive(Debug)]
struct Failing {
    item: Item,
    attempts: u64,
    /// Reasons that were logged since it last worked. They come from a closed set, so that reasons that take turns fill
    /// neither this nor the log.
    reasons: Vec<&'static str>,
}

impl Health {
    /// `item` was read and understood.
    pub(super) fn succeeded(&mut self, item: Item) {
        if let Some(index) = self.failing.iter().position(|failing| failing.item == item) {
            let failing = self.failing.swap_remove(index);
            tracing::info!(
                endpoint = item.endpoint().as_str(),
                failed_attempts = failing.attempts,
                "IMDS is readable again"
            );
        }
    }

    /// `item` was not read, or not understood. Returns whether this was news.
    pub(super) fn failed(&mut self, item: Item, reason: &'static str, message: &str) -> bool {
        let index = self.failing.iter().position(|failing| failing.item == item).unwrap_or(self.failing.len());
        if index == self.failing.len() {
            self.failing.push(Failing { item, attempts: 0, reasons: Vec::new() });
        }
        let Some(failing) = self.failing.get_mut(index) else { return false };
        failing.attempts += 1;
        let news = !failing.reasons.contains(&reason);
        if news {
            failing.reasons.push(reason);
            tracing::warn!(endpoint = item.endpoint().as_str(), reason, error = message, "IMDS cannot be read");
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_news_once_until_it_works_again() {
        let mut health = Health::default();
        let mut fail = |reason| health.failed(Item::SpotAction, reason, "");
        assert!(fail("timeout"));
        assert!(!fail("timeout"));
        assert!(fail("denied"));
        assert!(!fail("timeout") && !fail("denied"));
        assert!(health.failed(Item::Rebalance, "timeout", ""));
        health.succeeded(Item::SpotAction);
        assert!(health.failed(Item::SpotAction, "timeout", ""));
        assert!(!health.failed(Item::Rebalance, "timeout", ""));
    }
}
