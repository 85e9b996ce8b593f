//! One log line for each thing that the machine reports.
//!
//! Messages are constant, so that a log search can name them; what varies is in the fields. `warn` is for what an
//! operator may have to act on or explain: a notice, a refusal, a pod that got less than it asked for.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::drain::outcome::Outcome;
use crate::drain::pod::PodRef;
use crate::interruption::chronicle::SURVIVED;
use crate::interruption::record::Record;
use crate::interruption::state::Entry;
use crate::signal::{Deadline, Kind};

/// Writes the line.
pub fn log(record: &Record) {
    match record {
        Record::NoticeSeen { signal, .. } => {
            warn!(
                kind = signal.kind.as_str(),
                action = signal.action.as_str(),
                deadline = wall(signal.deadline),
                detail = signal.detail,
                "interruption notice seen"
            );
        }
        Record::Interruption(trace) => info!(trace_id = trace.id, since = %trace.since, "interruption"),
        Record::Survived { announcements } => survived(announcements),
        Record::Resumed { signal, .. } => resumed(signal.kind, signal.deadline),
        Record::StateUnreadable { reason } => warn!(reason, "state annotation unreadable"),
        Record::Fenced { after, refused } => fenced(*after, refused),
        Record::FenceFailed { reason } => warn!(reason, "node not fenced yet"),
        Record::DrainStarted { pods, skipped } => info!(pods, skipped, "drain started"),
        Record::DrainPostponed { subnets } => warn!(subnets, "drain postponed: a subnet refused addresses lately"),
        Record::EvictionBlocked { pod, message } => {
            warn!(namespace = pod.namespace, pod = pod.name, reason = message, "eviction blocked");
        }
        Record::StopAccepted { pod, wanted, granted, forced } => stop_accepted(pod, *wanted, *granted, *forced),
        Record::PodEnded { pod, outcome, wanted, granted } => pod_ended(pod, *outcome, *wanted, *granted),
        Record::DrainFinished { took, slack_seconds, outcomes } => {
            drain_finished(took.as_secs_f64(), *slack_seconds, outcomes);
        }
        Record::Rescheduled { kind, deadline, .. } => {
            warn!(kind = kind.as_str(), deadline = %deadline.wall, "interruption rescheduled");
        }
        Record::Over { kind, because, .. } => info!(kind = kind.as_str(), because, "interruption over"),
        Record::Restored => info!("node restored"),
        Record::RestoreFailed { reason } => warn!(reason, "node not restored yet"),
        Record::Preflight { asked, blocked } => preflight(*asked, blocked),
        Record::NotDrained { reason } => warn!(reason, "node not drained"),
    }
}

/// Of the pods that a preflight found blocked, so many are named; all of them follow, should it come to a drain.
const MOST_NAMED: usize = 5;

fn preflight(asked: usize, blocked: &[(PodRef, String)]) {
    if blocked.is_empty() {
        info!(asked, blocked = 0, "preflight: no eviction would be refused");
        return;
    }
    let named: Vec<String> = blocked.iter().take(MOST_NAMED).map(|(pod, reason)| format!("{pod}: {reason}")).collect();
    warn!(asked, blocked = blocked.len(), pods = named.join("; "), "preflight: evictions would be refused");
}

fn resumed(kind: Kind, deadline: Option<Deadline>) {
    info!(kind = kind.as_str(), deadline = wall(deadline), "interruption resumed after a restart");
}

fn survived(announcements: &[Entry]) {
    for one in announcements {
        let (kind, action) = (one.kind.as_str(), one.action.as_str());
        info!(kind, action, because = SURVIVED, "interruption over");
    }
}

fn fenced(after: Duration, refused: &[&str]) {
    let after_seconds = after.as_secs_f64();
    if refused.is_empty() {
        info!(after_seconds, "node fenced");
    } else {
        warn!(after_seconds, refused = refused.join(","), "node fenced in part");
    }
}

fn stop_accepted(pod: &PodRef, wanted: Duration, granted: Duration, forced: bool) {
    let (namespace, name) = (&pod.namespace, &pod.name);
    let (wanted_seconds, granted_seconds) = (wanted.as_secs(), granted.as_secs());
    if forced {
        warn!(namespace, pod = name, wanted_seconds, granted_seconds, "pod deleted past a refusal");
    } else if granted < wanted {
        warn!(namespace, pod = name, wanted_seconds, granted_seconds, "pod stopping with shortened grace");
    } else {
        info!(namespace, pod = name, wanted_seconds, granted_seconds, "pod stopping");
    }
}

fn pod_ended(pod: &PodRef, outcome: Outcome, wanted: Duration, granted: Option<Duration>) {
    let (namespace, name, outcome_name) = (&pod.namespace, &pod.name, outcome.as_str());
    let (wanted_seconds, granted_seconds) = (wanted.as_secs(), granted.map(|granted| granted.as_secs()));
    match outcome {
        Outcome::Graceful | Outcome::Skipped => {
            info!(namespace, pod = name, outcome = outcome_name, wanted_seconds, granted_seconds, "pod drain ended");
        }
        Outcome::Shortened | Outcome::Forced | Outcome::Unfinished => {
            warn!(namespace, pod = name, outcome = outcome_name, wanted_seconds, granted_seconds, "pod drain ended");
        }
    }
}

fn drain_finished(took_seconds: f64, slack_seconds: Option<f64>, outcomes: &[u32; 5]) {
    // In the order of `Outcome::ALL`.
    let [graceful, shortened, forced, unfinished, skipped] = *outcomes;
    if unfinished > 0 {
        error!(
            took_seconds,
            slack_seconds, graceful, shortened, forced, unfinished, skipped, "drain not finished in time"
        );
    } else {
        info!(took_seconds, slack_seconds, graceful, shortened, forced, unfinished, skipped, "drain finished");
    }
}

fn wall(deadline: Option<Deadline>) -> Option<String> {
    deadline.map(|deadline| deadline.wall.to_string())
}
