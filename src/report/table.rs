//! The report as lines for people. Pure.

use std::fmt::Write as _;

use super::words::{announced, outcome, plain, result, seconds, to_go, whole};
use crate::interruption::account::{Account, PodPart};

const HEAD: [&str; 8] = ["asked", "told", "gone", "wanted", "granted", "blocked", "outcome", "pod"];
/// The pod comes last, for its name has no width.
const WIDTHS: [usize; 7] = [8, 8, 8, 8, 8, 8, 10];

pub(crate) fn table(account: &Account) -> String {
    let mut lines = vec![
        format!("Interruption of {}, trace {}", plain(&account.node), plain(&account.trace_id)),
        format!("Seconds count from {}, when it was first seen.", whole(account.started)),
    ];
    if account.dry_run {
        lines.push("A dry run: nothing was really done.".to_owned());
    }
    if let Some(at) = account.resumed {
        lines.push(format!("An agent took it up at {at:.1} s; what was done before is known in part only."));
    }
    lines.push(String::new());
    for one in &account.announcements {
        lines.push(format!("{:>9}  {}", seconds(Some(one.at)), announced(one)));
        if let Some(over) = &one.over {
            lines.push(format!("{:>9}  {} over: {}", seconds(Some(over.at)), one.kind.as_str(), plain(&over.because)));
        }
    }
    if let Some(fence) = &account.fence {
        let refused = if fence.refused.is_empty() {
            String::new()
        } else {
            format!("; refused: {}", plain(&fence.refused.join(", ")))
        };
        lines.push(format!("{:>9}  fenced {:.3} s after the notice{refused}", seconds(Some(fence.at)), fence.took));
    }
    if let Some(drain) = &account.drain {
        let (at, pods, skipped) = (seconds(Some(drain.at)), drain.pods, drain.skipped);
        lines.push(format!("{at:>9}  drain began: {pods} pods to evict, {skipped} left alone"));
    }
    if let Some(finish) = account.drain.as_ref().and_then(|drain| drain.finished.as_ref()) {
        lines.push(format!("{:>9}  drain finished", seconds(Some(finish.at))));
    }
    if let Some(deadline) = account.deadline() {
        let tail = if account.shutdown_tail > 0.0 {
            format!(", and processes run on for {:.0} s", account.shutdown_tail)
        } else {
            String::new()
        };
        lines.push(format!("{:>9}  deadline{tail}", seconds(Some(deadline))));
    }
    if let Some(at) = account.restored {
        lines.push(format!("{:>9}  restored", seconds(Some(at))));
    }
    pods(account, &mut lines);
    if !account.foreseen.is_empty() {
        lines.extend([String::new(), "Found blocked while there was time".to_owned()]);
        lines.extend(account.foreseen.iter().map(|one| format!("  {}: {}", plain(&one.pod), plain(&one.message))));
    }
    lines.extend([String::new(), format!("Result: {}", result(account)), String::new()]);
    lines.join("\n")
}

fn pods(account: &Account, lines: &mut Vec<String>) {
    let pods = to_go(account);
    if pods.is_empty() {
        return;
    }
    lines.extend([String::new(), row(&HEAD.map(str::to_owned))]);
    let mut refusals: Vec<(String, Vec<&str>)> = Vec::new();
    for pod in &pods {
        lines.push(row(&[
            seconds(pod.asked),
            seconds(pod.told),
            seconds(pod.ended),
            seconds(pod.wanted),
            seconds(pod.granted),
            seconds(pod.blocked_seconds()),
            outcome(pod).to_owned(),
            plain(&format!("{}/{}", pod.namespace, pod.name)),
        ]));
        if let Some(words) = &pod.blocked_by {
            match refusals.iter_mut().find(|(known, _)| known == words) {
                Some((_, names)) => names.push(&pod.name),
                None => refusals.push((words.clone(), vec![&pod.name])),
            }
        }
    }
    let sum = |of: fn(&PodPart) -> Option<f64>| pods.iter().filter_map(|pod| of(pod)).sum();
    let all = [
        None,
        None,
        None,
        Some(sum(|pod| pod.wanted)),
        Some(sum(|pod| pod.granted)),
        Some(sum(PodPart::blocked_seconds)),
    ];
    let [a, b, c, wanted, granted, blocked] =
        all.map(|value: Option<f64>| value.map_or_else(String::new, |value| seconds(Some(value))));
    lines.push(row(&[a, b, c, wanted, granted, blocked, String::new(), format!("{} pods", pods.len())]));
    if !refusals.is_empty() {
        lines.extend([String::new(), "Refusals".to_owned()]);
        lines.extend(refusals.iter().map(|(words, names)| format!("  {}: {}", plain(&names.join(", ")), plain(words))));
    }
}

fn row(cells: &[String; 8]) -> String {
    let mut line = String::new();
    for (index, cell) in cells.iter().enumerate() {
        match WIDTHS.get(index) {
            Some(width) if index < 6 => _ = write!(line, "{cell:>width$}  "),
            Some(width) => _ = write!(line, "{cell:<width$}  "),
            None => line.push_str(cell),
        }
    }
    line.trim_end().to_owned()
}
