//! The agent's own log. Pure.
//!
//! The report of an interruption has everything; single lines stand in for one that is cut off or not written yet.

use jiff::Timestamp;
use serde_json::Value;

use super::lines::{Fields, Line, lines};
use super::{FARTHEST, Log, Part};
use crate::interruption::account::Account;
use crate::report::find;
use crate::report::words;

/// Reads a log. It may be in several parts.
pub fn log(texts: &[String]) -> Log {
    let mut log = Log::default();
    for account in texts.iter().flat_map(|text| find::reports(text).accounts) {
        log.parts.extend(parts(&account));
    }
    let reported = log.parts.len();
    let mut node = None;
    for line in texts.iter().flat_map(|text| lines(text)) {
        if let Some((time, message, fields)) = entry(&line) {
            log.saw(time);
            if message == "starting" {
                node = fields.text("node");
            }
            take(&mut log, reported, node.as_deref(), time, &message, &fields);
        }
    }
    // A report alone, as `spotwarden report --output json` gives it, is no log of lines.
    for time in log.parts.iter().filter_map(|part| part.seen).collect::<Vec<_>>() {
        let (first, last) = log.covers.unwrap_or((time, time));
        log.covers = Some((first.min(time), last.max(time)));
    }
    log
}

/// Everything that was announced in one interruption; its fence and drain are those of each.
fn parts(account: &Account) -> impl Iterator<Item = Part> {
    let at = |offset: f64| account.time(offset);
    let asked: Vec<f64> = account.pods.iter().filter_map(|pod| pod.asked).collect();
    let refused = account.pods.iter().filter_map(|pod| {
        Some((
            format!("{}/{}", pod.namespace, pod.name),
            pod.blocked_by.clone().or_else(|| pod.blocked.map(|_| String::new()))?,
        ))
    });
    let pods = words::to_go(account);
    let common = Part {
        node: Some(account.node.clone()),
        fenced: account.fence.as_ref().map(|fence| at(fence.at)),
        first_eviction: asked.iter().copied().min_by(f64::total_cmp).map(at),
        last_eviction: asked.iter().copied().max_by(f64::total_cmp).map(at),
        finished: account.drain.as_ref().and_then(|drain| drain.finished.as_ref()).map(|finish| at(finish.at)),
        pods: pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect(),
        tries: pods.len(),
        refused: refused.collect(),
        dry_run: account.dry_run,
        result: Some(words::result(account)),
        errors: account.fence.iter().flat_map(|fence| &fence.refused).map(|part| format!("refused: {part}")).collect(),
        ..Part::default()
    };
    account.announcements.iter().map(move |one| Part {
        kind: Some(one.kind.as_str().to_owned()),
        event: one.deadline_time,
        seen: Some(account.time(one.at)),
        ..common.clone()
    })
}

fn entry(line: &Line) -> Option<(Timestamp, String, Fields)> {
    let text = line.text.as_str();
    if let Some(object) = text.find('{').and_then(|at| serde_json::from_str::<Value>(text.get(at..)?).ok()) {
        let time = object.get("timestamp")?.as_str()?.parse().ok()?;
        let message = object.get("message")?.as_str()?.to_owned();
        return Some((time, message, Fields::Json(object)));
    }
    plain_entry(text)
}

/// `TIME LEVEL spans: target: message key=value`, wherever in the line it begins.
fn plain_entry(text: &str) -> Option<(Timestamp, String, Fields)> {
    let at = ["TRACE ", "DEBUG ", " INFO ", " WARN ", "ERROR "].iter().filter_map(|level| text.find(level)).min()?;
    let (before, after) = text.split_at_checked(at)?;
    let time = before.split_whitespace().next_back()?.parse().ok()?;
    // Targets are paths; what follows them is constant words and then fields.
    let (_, message) = after.split_once("spotwarden::")?;
    let (_, message) = message.split_once(": ")?;
    let end = message.split(' ').take_while(|word| !is_field(word)).map(|word| word.len() + 1).sum::<usize>();
    let words = message.get(..end.saturating_sub(1).min(message.len()))?.trim().to_owned();
    Some((time, words, Fields::Plain(message.to_owned())))
}

fn is_field(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// Takes a line into account where no report does: parts from `reported` on are made of lines.
fn take(log: &mut Log, reported: usize, node: Option<&str>, time: Timestamp, message: &str, fields: &Fields) {
    let is_known = |part: &Part| part.seen.is_some_and(|seen| time.duration_since(seen).abs() <= FARTHEST);
    match message {
        "interruption notice seen" => {
            let kind = fields.text("kind");
            let told =
                |part: &Part| is_known(part) && part.kind == kind && (node.is_none() || part.node.as_deref() == node);
            if log.parts.get(..reported).is_some_and(|parts| parts.iter().any(told)) {
                return;
            }
            let event = fields.text("deadline").and_then(|time| time.parse().ok());
            let node = node.map(str::to_owned);
            let result = Some("the log has no report of it: it ends before, or its line is cut off".to_owned());
            log.parts.push(Part { node, kind, event, seen: Some(time), result, ..Part::default() });
        }
        "IMDS cannot be read" => {
            *log.troubles
                .entry(format!("IMDS cannot be read ({})", fields.text("endpoint").unwrap_or_default()))
                .or_default() += 1;
        }
        _ => {
            let open = log.parts.get_mut(reported..).unwrap_or_default();
            for part in open.iter_mut().filter(|part| part.node.as_deref() == node && is_known(part)) {
                follow(part, time, message, fields);
            }
        }
    }
}

fn follow(part: &mut Part, time: Timestamp, message: &str, fields: &Fields) {
    let pod = || match fields.text("namespace") {
        Some(namespace) => Some(format!("{namespace}/{}", fields.text("pod")?)),
        None => fields.text("pod"),
    };
    match message {
        "node fenced" | "node fenced in part" => _ = part.fenced.get_or_insert(time),
        "node not fenced yet" => part.errors.extend(fields.text("reason")),
        "dry run: would evict"
        | "pod stopping"
        | "pod stopping with shortened grace"
        | "pod deleted past a refusal" => {
            part.dry_run |= message.starts_with("dry run");
            let Some(pod) = pod() else { return };
            if !part.pods.contains(&pod) {
                part.pods.push(pod);
                part.tries += 1;
                part.first_eviction.get_or_insert(time);
                part.last_eviction = Some(time);
            }
        }
        "eviction blocked" => {
            if let Some(pod) = pod() {
                part.refused.entry(pod).or_insert_with(|| fields.text("reason").unwrap_or_default());
            }
        }
        "drain finished" | "drain not finished in time" => {
            part.finished = Some(time);
            part.result = Some(message.to_owned());
        }
        _ => {}
    }
}
