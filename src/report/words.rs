//! Words that the table and the picture share. Pure.

use crate::interruption::account::{Account, Announced, Outcomes, PodPart};

/// Text from outside must not move the cursor of a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `12.3 s`, or a dash for what is not known.
pub(crate) fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"))
}

/// What is to happen, and when.
pub(crate) fn announced(one: &Announced) -> String {
    let when = one.deadline_time.map_or_else(|| ", no time given".to_owned(), |at| format!(" at {}", whole(at)));
    let detail = one.detail.as_ref().map_or_else(String::new, |detail| format!(" ({})", plain(detail)));
    format!("{} ({}){when}{detail}", one.kind.as_str(), one.action.as_str())
}

/// Without the fraction of a second.
pub(crate) fn whole(at: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// `3 graceful, 1 forced`; those that there are.
pub(crate) fn outcomes(counts: &Outcomes) -> String {
    let all = [
        (counts.graceful, "graceful"),
        (counts.shortened, "shortened"),
        (counts.forced, "forced"),
        (counts.unfinished, "unfinished"),
        (counts.skipped, "left alone"),
    ];
    let named: Vec<String> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if named.is_empty() { "no pods".to_owned() } else { named.join(", ") }
}

/// What came of the interruption as a whole.
pub(crate) fn result(account: &Account) -> String {
    if let Some(reason) = &account.not_drained {
        return format!("not drained: {}", plain(reason));
    }
    let Some(drain) = &account.drain else { return "no drain".to_owned() };
    let Some(finish) = &drain.finished else { return "the drain is not finished".to_owned() };
    let slack = match finish.slack {
        Some(slack) if slack < 0.0 => format!(", {:.1} s too late", -slack),
        Some(slack) => format!(", {slack:.1} s before the end"),
        None => String::new(),
    };
    format!("{} in {:.1} s{slack}", outcomes(&finish.outcomes), finish.took)
}

/// The pods that were to go, in the order in which they were asked.
pub(crate) fn to_go(account: &Account) -> Vec<&PodPart> {
    let mut pods: Vec<&PodPart> = account.pods.iter().filter(|pod| pod.was_to_go()).collect();
    let begin = |pod: &PodPart| pod.asked.or(pod.blocked).or(pod.told).or(pod.ended).unwrap_or(0.0);
    pods.sort_by(|a, b| begin(a).total_cmp(&begin(b)));
    pods
}

/// The end's name, or what is known instead.
pub(crate) fn outcome(pod: &PodPart) -> &'static str {
    pod.outcome.map_or("not known", crate::drain::outcome::Outcome::as_str)
}
