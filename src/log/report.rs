//! The report of an interruption: its whole account in one line, for `spotwarden report` and `simulate --replay`.
//!
//! The formatter has no nested objects for what is not known at build time, so in the JSON format the account is the text
//! of the field `report`; in the plain one it follows the field's name as it is. `docs/report.md` says how to get it out.

use std::fmt::Write as _;

use tracing::info;

use crate::interruption::chronicle::{Milestone, News};

/// The message of the line.
pub const MESSAGE: &str = "interruption report";

/// Writes the line when the response is complete, and again when the interruption is over and when the node is restored.
pub fn log(news: &News) {
    if !matches!(news.milestone, Milestone::DrainFinished | Milestone::Over | Milestone::Restored) {
        return;
    }
    match serde_json::to_string(&*news.account) {
        Ok(text) => info!(trace_id = news.account.trace_id, report = %plain(&text), "interruption report"),
        Err(error) => tracing::warn!(%error, "the interruption's report cannot be written"),
    }
}

/// JSON leaves some control characters as they are, which a formatter would escape in a way of its own.
fn plain(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_control() {
            _ = write!(text, "\\u{:04x}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}
