//! A comparison for people. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Comparison, Pair, Part};
use crate::report::words::plain;

/// Widths of the columns; the last has none.
const WIDTHS: [usize; 3] = [20, 28, 28];

/// The comparison as lines.
pub fn table(comparison: &Comparison) -> String {
    let mut out = String::new();
    if comparison.overlap.is_none() && !comparison.pairs.is_empty() {
        out.push_str("The two logs have no time in common: they are not of the same hours.\n\n");
    }
    for pair in &comparison.pairs {
        self::pair(&mut out, pair);
    }
    if comparison.pairs.is_empty() {
        out.push_str(
            "Neither log tells of an announcement: nothing was interrupted in that time, or its lines are missing.\n\n",
        );
    }
    troubles(&mut out, "NTH also complained", &comparison.nth_troubles);
    troubles(&mut out, "spotwarden also complained", &comparison.spotwarden_troubles);
    let both = comparison.pairs.iter().filter(|pair| pair.nth.is_some() && pair.spotwarden.is_some()).count();
    _ = writeln!(out, "{both} of {} announcements are in both logs.", comparison.pairs.len());
    if comparison.nth_whole_seconds {
        out.push_str("NTH's log has whole seconds, cut off: it was up to a second later than shown.\n");
    }
    out
}

fn pair(out: &mut String, pair: &Pair) {
    let (nth, own) = (pair.nth.as_ref(), pair.spotwarden.as_ref());
    let either = |of: fn(&Part) -> Option<String>| own.and_then(of).or_else(|| nth.and_then(of));
    let node = either(|part| part.node.clone()).unwrap_or_else(|| "a node".into());
    let kind = either(|part| part.kind.clone()).unwrap_or_else(|| "something announced before the logs begin".into());
    let when = either(|part| part.event.map(|time| format!(", EC2 acts at {time}"))).unwrap_or_default();
    _ = writeln!(out, "{}: {}{when}", plain(&node), plain(&kind));
    let head = |part: Option<&Part>, name: &str| match part {
        None => format!("{name}: not in its log"),
        Some(part) if part.dry_run => format!("{name} (dry run)"),
        Some(_) => name.to_owned(),
    };
    row(out, ["", &head(nth, "NTH"), &head(own, "spotwarden"), ""]);
    for (name, of) in TIMES {
        let (theirs, ours) = (nth.and_then(of), own.and_then(of));
        if theirs.is_some() || ours.is_some() {
            row(out, [name, &clock(theirs), &clock(ours), &difference(theirs, ours)]);
        }
    }
    let pods = |part: Option<&Part>| part.map_or_else(String::new, asked);
    row(out, ["pods asked to go", &pods(nth), &pods(own), ""]);
    for (name, part) in [("NTH", nth), ("spotwarden", own)] {
        let Some(part) = part else { continue };
        if let Some(result) = &part.result {
            let planned = if part.dry_run { "planned, without asking budgets: " } else { "" };
            _ = writeln!(out, "  {name}: {planned}{}", plain(result));
        }
        if part.repeated > 0 {
            _ = writeln!(out, "  {name}: took the same announcement for a new one {} times more", part.repeated);
        }
        for (pod, why) in &part.refused {
            _ = writeln!(out, "  {name}: {} was refused: {}", plain(pod), plain(why));
        }
        for error in &part.errors {
            _ = writeln!(out, "  {name}: error: {}", plain(error));
        }
        if let (Some(event), Some(finished)) = (part.event, part.finished)
            && !part.dry_run
        {
            let left = finished.duration_since(event).as_secs_f64();
            let words = if left > 0.0 { "after" } else { "before" };
            _ = writeln!(out, "  {name}: ended {:.1} s {words} EC2 acts", left.abs());
        }
    }
    out.push('\n');
}

type Of = fn(&Part) -> Option<Timestamp>;

/// Moments in their usual order.
const TIMES: [(&str, Of); 6] = [
    ("notice seen", |part| part.seen),
    ("node fenced", |part| part.fenced),
    ("first eviction", |part| part.first_eviction),
    ("last eviction", |part| part.last_eviction),
    ("ended", |part| part.finished.filter(|_| !part.dry_run)),
    ("message sent", |part| part.told),
];

fn asked(part: &Part) -> String {
    let refused = if part.refused.is_empty() { String::new() } else { format!(", {} refused", part.refused.len()) };
    let tries = if part.tries > part.pods.len() { format!(", {} tries", part.tries) } else { String::new() };
    format!("{}{refused}{tries}", part.pods.len())
}

fn clock(time: Option<Timestamp>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| {
            let digits = if time.subsec_nanosecond() == 0 { 0 } else { 3 };
            format!("{:.digits$}", time.to_zoned(TimeZone::UTC).time())
        },
    )
}

/// How much sooner or later spotwarden was.
fn difference(theirs: Option<Timestamp>, ours: Option<Timestamp>) -> String {
    let Some((theirs, ours)) = theirs.zip(ours) else { return String::new() };
    let seconds = ours.duration_since(theirs).as_secs_f64();
    let words = if seconds < 0.0 { "sooner" } else { "later" };
    format!("{:.1} s {words}", seconds.abs())
}

fn row(out: &mut String, cells: [&str; 4]) {
    let mut line = String::from("  ");
    for (index, cell) in cells.iter().enumerate() {
        let cell = plain(cell);
        match WIDTHS.get(index) {
            Some(width) => _ = write!(line, "{cell:<width$}"),
            None => line.push_str(&cell),
        }
    }
    _ = writeln!(out, "{}", line.trim_end());
}

fn troubles(out: &mut String, heading: &str, troubles: &BTreeMap<String, usize>) {
    if troubles.is_empty() {
        return;
    }
    _ = writeln!(out, "{heading}");
    for (words, times) in troubles {
        _ = writeln!(out, "  {times} × {}", plain(words));
    }
    out.push('\n');
}
