//! NTH's log. Pure.
//!
//! Its lines, as of 1.25.6: the console form of zerolog (`2026/11/21 10:00:02 INF message key=value`, times in whole
//! seconds) or JSON, and within them what the drain of kubectl prints. `logFormatVersion` changes none that is read here.
//!
//! | message | from |
//! | --- | --- |
//! | Adding new event to the event store | pkg/interruptioneventstore/interruption-event-store.go |
//! | Requesting instance drain | pkg/logging/versioned.go |
//! | There was a problem monitoring for events | pkg/logging/versioned.go |
//! | Successfully added taint on node, Draining the node, Node would have been … | pkg/node/node.go |
//! | Node successfully cordoned (and drained), There was a problem while trying to cordon … | pkg/interruptionevent/draincordon/handler.go |
//! | Webhook Success, Webhook Error | pkg/webhook/webhook.go |
//! | Stopping NTH - Duplicate Error Threshold hit | cmd/node-termination-handler.go |
//! | evicting pod, error when evicting | k8s.io/kubectl/pkg/drain/drain.go |

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::lines::{Fields, Line, lines};
use super::{FARTHEST, Log, Part};

/// Reads a log. It may be in several parts, as NTH writes warnings and errors to a stream of their own.
pub fn log(texts: &[String]) -> Log {
    let mut reader = Reader::default();
    let all = texts.iter().flat_map(|text| lines(text));
    let mut entries: Vec<(String, Entry)> = all.filter_map(|line| Some((line.stream.clone(), entry(&line)?))).collect();
    entries.sort_by_key(|(_, entry)| entry.time);
    for (stream, entry) in entries {
        reader.log.saw(entry.time);
        reader.log.whole_seconds |= !entry.exact;
        reader.take(&stream, &entry);
    }
    reader.log
}

/// One line that is understood.
struct Entry {
    time: Timestamp,
    /// The time is more than whole seconds.
    exact: bool,
    message: String,
    fields: Fields,
}

fn entry(line: &Line) -> Option<Entry> {
    let (time, message, fields) = json_entry(&line.text).or_else(|| console_entry(&line.text))?;
    // What the container's runtime wrote is finer, and certainly UTC.
    Some(Entry { time: line.taken.unwrap_or(time), exact: line.taken.is_some(), message, fields })
}

fn json_entry(text: &str) -> Option<(Timestamp, String, Fields)> {
    let object: Value = serde_json::from_str(text.get(text.find('{')?..)?).ok()?;
    let time = object.get("time")?.as_str()?.parse().ok()?;
    let message = object.get("message")?.as_str()?.to_owned();
    object.get("level")?;
    Some((time, message, Fields::Json(object)))
}

/// `2026/11/21 10:00:02 INF …`, wherever in the line it begins.
fn console_entry(text: &str) -> Option<(Timestamp, String, Fields)> {
    const TIME: usize = "2026/11/21 10:00:02".len();
    let starts = text.match_indices('/').filter_map(|(at, _)| at.checked_sub(4));
    for at in starts {
        let Some(head) = text.get(at..at + TIME) else { continue };
        let Ok(time) = DateTime::strptime("%Y/%m/%d %H:%M:%S", head) else { continue };
        let time = TimeZone::UTC.to_timestamp(time).ok()?;
        let rest = text.get(at + TIME..)?.trim_start();
        // Old versions have no level, and unknown ones are `???`.
        let words =
            ["TRC", "DBG", "INF", "WRN", "ERR", "FTL", "PNC", "???"].iter().find_map(|level| rest.strip_prefix(level));
        let words = words.unwrap_or(rest).trim_start().to_owned();
        return Some((time, words.clone(), Fields::Plain(words)));
    }
    None
}

/// Kinds in the words used here; others stay as they are.
fn kind(theirs: &str) -> String {
    match theirs {
        "SPOT_ITN" => "spot-interruption",
        "REBALANCE_RECOMMENDATION" => "rebalance-recommendation",
        "SCHEDULED_EVENT" => "scheduled-event",
        "ASG_LIFECYCLE" => "asg-termination",
        other => other,
    }
    .to_owned()
}

#[derive(Default)]
struct Reader {
    log: Log,
    /// Event id to its part.
    ids: BTreeMap<String, usize>,
    /// Stream to the part that is being handled.
    current: BTreeMap<String, usize>,
}

impl Reader {
    fn take(&mut self, stream: &str, entry: &Entry) {
        let (time, words) = (entry.time, entry.message.as_str());
        if words.starts_with("Adding new event to the event store") {
            self.added(stream, entry);
        } else if words.starts_with("Requesting instance drain") {
            self.requested(stream, entry);
        } else if words.starts_with("Successfully added taint on node") {
            self.with(stream, entry, |part| first(&mut part.fenced, time));
        } else if words.starts_with("Draining the node") {
            // The cordon has no line of its own; this one follows it.
            self.with(stream, entry, |part| first(&mut part.fenced, time));
        } else if let Some(rest) = words.strip_prefix("evicting pod ") {
            self.evicting(stream, entry, rest);
        } else if words.starts_with("error when evicting pod") {
            self.refused(stream, entry, words);
        } else if words.starts_with("Node successfully cordoned and drained") {
            self.finished(stream, entry, "drained");
        } else if words.starts_with("Node successfully cordoned") {
            self.with(stream, entry, |part| first(&mut part.fenced, time));
            self.finished(stream, entry, "cordoned");
        } else if words.starts_with("Node would have been cordoned") {
            self.with(stream, entry, |part| {
                part.dry_run = true;
                first(&mut part.fenced, time);
            });
            self.finished(stream, entry, "dry run");
        } else if words.starts_with("There was a problem while trying to cordon") {
            let why = entry.fields.text("error").unwrap_or_else(|| "not said".to_owned());
            self.with(stream, entry, |part| part.errors.push(why));
            self.finished(stream, entry, "failed");
        } else if words.starts_with("Pre-drain task failed") {
            let why = entry.fields.text("error").unwrap_or_default();
            self.with(stream, entry, |part| part.errors.push(format!("pre-drain task failed: {why}")));
            self.finished(stream, entry, "failed before the cordon");
        } else if words.starts_with("Webhook Success") {
            self.with(stream, entry, |part| first(&mut part.told, time));
        } else if words.starts_with("Webhook Error") {
            let why = entry.fields.text("error").or_else(|| entry.fields.text("status_code")).unwrap_or_default();
            self.with(stream, entry, |part| part.errors.push(format!("webhook: {why}")));
        } else if words.starts_with("There was a problem monitoring for events") {
            let why = entry.fields.text("error").unwrap_or_default();
            self.log.trouble(format!("cannot read the announcements: {why}"));
        } else if words.starts_with("Stopping NTH - Duplicate Error Threshold") {
            self.log.trouble("NTH crashed: the same error four times".to_owned());
        } else if words.starts_with("Uncordoning the node due to a cancellation event") {
            self.log.trouble("NTH uncordoned the node".to_owned());
        } else if words.starts_with("all workers busy") {
            self.log.trouble("all workers busy".to_owned());
        }
    }

    fn added(&mut self, stream: &str, entry: &Entry) {
        let Some(event) = entry.fields.get("event") else {
            self.log.trouble("a line with an event is cut off".to_owned());
            return;
        };
        let text = |key: &str| event.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (node, kind) = (text("NodeName").map(str::to_owned), text("Kind").map(kind));
        let start = text("StartTime").and_then(|time| time.parse().ok());
        let same = |part: &&mut Part| {
            let near = part.seen.is_some_and(|seen| entry.time.duration_since(seen).abs() <= FARTHEST);
            near && part.node == node && part.kind == kind
        };
        let known = self.log.parts.iter_mut().enumerate().find(|(_, part)| same(part));
        let index = if let Some((index, part)) = known {
            part.repeated += 1;
            index
        } else {
            // Of the two that carry the time of the notice itself; the others have that of the poll.
            let event = start.filter(|_| kind.as_deref() == Some("spot-interruption"));
            self.log.parts.push(Part { node, kind, event, seen: Some(entry.time), ..Part::default() });
            self.log.parts.len() - 1
        };
        if let Some(id) = text("EventID") {
            self.ids.insert(id.to_owned(), index);
        }
        self.current.insert(stream.to_owned(), index);
    }

    fn requested(&mut self, stream: &str, entry: &Entry) {
        let known = entry.fields.text("event-id").and_then(|id| self.ids.get(&id).copied());
        let index = known.unwrap_or_else(|| {
            // The log begins after it was seen.
            let (node, kind) = (entry.fields.text("node-name"), entry.fields.text("kind").map(|theirs| kind(&theirs)));
            self.log.parts.push(Part { node, kind, ..Part::default() });
            self.log.parts.len() - 1
        });
        self.current.insert(stream.to_owned(), index);
    }

    /// What is being handled in this stream; something unknown if the log begins in the midst of it.
    fn with(&mut self, stream: &str, entry: &Entry, change: impl FnOnce(&mut Part)) {
        let parts = &mut self.log.parts;
        let index = *self.current.entry(stream.to_owned()).or_insert_with(|| {
            parts.push(Part { node: entry.fields.text("node_name"), ..Part::default() });
            parts.len() - 1
        });
        if let Some(part) = parts.get_mut(index) {
            change(part);
        }
    }

    fn evicting(&mut self, stream: &str, entry: &Entry, rest: &str) {
        let pod = rest.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned();
        self.with(stream, entry, |part| {
            part.tries += 1;
            if !part.pods.contains(&pod) {
                part.pods.push(pod);
                first(&mut part.first_eviction, entry.time);
                part.last_eviction = Some(entry.time);
            }
        });
    }

    /// `error when evicting pods/"name" -n "namespace" (will retry after 5s): words`
    fn refused(&mut self, stream: &str, entry: &Entry, words: &str) {
        let mut quoted = words.split('"').skip(1).step_by(2);
        let (name, namespace) = (quoted.next().unwrap_or_default(), quoted.next());
        let pod = namespace.filter(|_| words.contains(" -n ")).map_or(name.to_owned(), |ns| format!("{ns}/{name}"));
        let why = words.split_once("): ").map_or(words, |(_, why)| why).to_owned();
        self.with(stream, entry, |part| _ = part.refused.entry(pod).or_insert(why));
    }

    fn finished(&mut self, stream: &str, entry: &Entry, result: &str) {
        self.with(stream, entry, |part| {
            part.finished = Some(entry.time);
            part.result = Some(result.to_owned());
        });
    }
}

fn first(slot: &mut Option<Timestamp>, time: Timestamp) {
    slot.get_or_insert(time);
}
