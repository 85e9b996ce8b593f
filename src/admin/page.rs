//! The page at `/`: the node's state for a person with a browser, a phone or curl.
//!
//! Plain HTML without scripts or anything to load, laid out so that its source can be read in a terminal. Everything
//! that came from outside the agent is escaped.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use super::readiness::Report;
use crate::clock::Now;
use crate::drain::outcome::Outcome;
use crate::interruption::record::{Pending, PodStatus, Status};
use crate::signal::{Action, Kind};

/// An empty cell; on a narrow screen it is left out.
const NONE: &str = "-";

/// Browsers fetch the page again after so many seconds.
const REFRESH_SECONDS: u8 = 5;

/// On a narrow screen each pod's row becomes a block of lines, each with its column's name before it.
const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:1rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ccc}
th,td.word{white-space:nowrap}
td{overflow-wrap:anywhere}.pods td:first-child{min-width:40%}
.facts{width:auto}.facts th{padding-right:1.5rem}
.alarm{color:#a30000;font-weight:600}
@media(max-width:40rem){.pods tr:first-child{display:none}.pods tr{display:block;padding:.4rem 0;border-bottom:1px solid #ccc}
.pods td{display:block;border:0;padding:0}.pods td:first-child{font-weight:600}
.pods .none{display:none}.pods td+td::before{content:attr(data-name) \": \"}}
@media(prefers-color-scheme:dark){body{color:#eee;background:#111}a{color:#9cf}.alarm{color:#ff8080}\
th,td,.pods tr{border-color:#444}}";

/// What the page tells.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Name of the own Node.
    pub node_name: &'a str,
    /// The agent's state.
    pub status: &'a Status,
    /// Readiness.
    pub report: Report,
    /// The agent changes nothing.
    pub dry_run: bool,
    /// The moment at which remaining times are told.
    pub now: Now,
}

/// The whole document.
pub fn render(facts: &Facts<'_>) -> String {
    let mut out = String::with_capacity(4096);
    // Writing to a string does not fail.
    _ = write(&mut out, facts);
    out
}

fn write(out: &mut String, facts: &Facts<'_>) -> fmt::Result {
    let node = Escaped(facts.node_name);
    writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">")?;
    writeln!(out, "<title>{node} - spotwarden</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>")?;
    writeln!(out, "<h1>{node}</h1>")?;
    summary(out, facts)?;
    pods(out, facts.status)?;
    writeln!(
        out,
        "<p>spotwarden {}, {}. <a href=\"/metrics\">Metrics</a>, <a href=\"/readyz\">readiness</a>.</p>",
        env!("CARGO_PKG_VERSION"),
        Seconds(facts.now.wall)
    )?;
    writeln!(out, "</body>\n</html>")
}

fn summary(out: &mut String, facts: &Facts<'_>) -> fmt::Result {
    let status = facts.status;
    writeln!(out, "<table class=\"facts\">")?;
    if status.pending.is_empty() {
        row(out, "Coming", "nothing")?;
    }
    status.pending.iter().try_for_each(|pending| coming(out, pending, facts.now))?;
    if facts.dry_run {
        row(out, "Dry run", "everything is decided and reported, nothing is changed")?;
    }
    let fence = match (status.fenced, facts.dry_run) {
        (false, _) => "not set",
        (true, false) => "set: the node takes no new pods",
        (true, true) => "would be set now",
    };
    row(out, "Fence", fence)?;
    row(out, "Drain", &drain_words(status, facts.dry_run))?;
    if let Some(slack) = status.slack_seconds.filter(|_| status.drained) {
        row(out, "Last pod gone", &slack_words(slack))?;
    }
    let missing = facts.report.missing();
    let agent = if missing.is_empty() { "ready".into() } else { format!("not ready: {}", missing.join("; ")) };
    row(out, "Agent", &agent)?;
    writeln!(out, "</table>")
}

fn coming(out: &mut String, pending: &Pending, now: Now) -> fmt::Result {
    let what = kind_words(pending.kind);
    let action = action_words(pending.action);
    writeln!(out, "<tr><th>Coming</th><td class=\"alarm\">{what}: {action}</td></tr>")?;
    let when = match pending.deadline {
        None => "no time given".to_owned(),
        Some(deadline) if deadline.instant > now.instant => {
            format!("{}, in {}", Seconds(deadline.wall), Span(deadline.instant - now.instant))
        }
        Some(deadline) => format!("{}, {} ago", Seconds(deadline.wall), Span(now.instant - deadline.instant)),
    };
    row(out, "Deadline", &when)?;
    row(out, "First seen", &Seconds(pending.first_seen).to_string())
}

fn row(out: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))
}

fn action_words(action: Action) -> &'static str {
    match action {
        Action::Terminate => "EC2 will terminate the instance",
        Action::Stop => "EC2 will stop the instance",
        Action::Hibernate => "EC2 will hibernate the instance",
        Action::Reboot => "EC2 will reboot the instance",
        Action::Maintenance => "EC2 will work on the host",
        Action::Standby => "the instance leaves service",
    }
}

fn kind_words(kind: Kind) -> &'static str {
    match kind {
        Kind::SpotInterruption => "spot interruption",
        Kind::RebalanceRecommendation => "rebalance recommendation",
        Kind::ScheduledEvent => "scheduled event",
        Kind::AsgTermination => "termination by the auto scaling group",
    }
}

fn drain_words(status: &Status, dry_run: bool) -> String {
    let left = status.pods.iter().filter(|pod| pod.outcome.is_none()).count();
    if status.drained {
        let unfinished = status.pods.iter().filter(|pod| pod.outcome == Some(Outcome::Unfinished)).count();
        let words =
            if unfinished == 0 { "done".into() } else { format!("over, {unfinished} still running at the deadline") };
        if dry_run { format!("{words}, as planned; no pod was asked to stop") } else { words }
    } else if status.pods.is_empty() {
        "none".into()
    } else {
        format!("{left} of {} pods left", status.pods.len())
    }
}

fn slack_words(slack: f64) -> String {
    if slack < 0.0 { format!("{:.1} s too late", -slack) } else { format!("{slack:.1} s before the deadline") }
}

fn pods(out: &mut String, status: &Status) -> fmt::Result {
    if status.pods.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Pods</h2>\n<table class=\"pods\">")?;
    writeln!(out, "<tr><th>Pod</th><th>State</th><th>Grace wanted</th><th>Grace granted</th><th>Blocked by</th></tr>")?;
    // What is still to be done comes first.
    let (left, over): (Vec<_>, Vec<_>) = status.pods.iter().partition(|pod| pod.outcome.is_none());
    left.into_iter().chain(over).try_for_each(|pod| pod_row(out, pod))?;
    writeln!(out, "</table>")
}

fn pod_row(out: &mut String, pod: &PodStatus) -> fmt::Result {
    let state = pod.outcome.map_or(pod.phase, Outcome::as_str);
    let granted = pod.granted.map_or_else(|| NONE.to_owned(), |granted| Span(granted).to_string());
    let blocked = pod.blocked.as_deref().filter(|_| pod.outcome.is_none()).unwrap_or(NONE);
    write!(out, "<tr><td>{}</td>", Escaped(&pod.id.to_string()))?;
    let words = [("State", state), ("Grace wanted", &Span(pod.wanted).to_string()), ("Grace granted", &granted)];
    words.iter().try_for_each(|(name, word)| {
        let class = if *word == NONE { "word none" } else { "word" };
        write!(out, "<td class=\"{class}\" data-name=\"{name}\">{word}</td>")
    })?;
    let class = if blocked == NONE { "none" } else { "text" };
    writeln!(out, "<td class=\"{class}\" data-name=\"Blocked by\">{}</td></tr>", Escaped(blocked))
}

/// Text made safe between tags and within a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => f.write_char(other),
        })
    }
}

/// A wall time to the second.
struct Seconds(jiff::Timestamp);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%d %H:%M:%S UTC"))
    }
}

/// A span to the second, its larger units first.
struct Span(Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{rest} s"),
            (0, _) if rest == 0 => write!(f, "{minutes} min"),
            (0, _) => write!(f, "{minutes} min {rest} s"),
            (_, 0) => write!(f, "{hours} h"),
            _ => write!(f, "{hours} h {minutes} min"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config::Response;
    use crate::drain::pod::PodRef;
    use crate::signal::Deadline;

    const READY: Report = Report { imds_answered: true, node_seen: true, stopping: false };

    fn now() -> Now {
        Now { instant: Instant::now(), wall: "2026-11-21T10:00:30.9Z".parse().unwrap() }
    }

    fn page(status: &Status, now: Now) -> String {
        render(&Facts { node_name: "ip-10-0-0-1", status, report: READY, dry_run: false, now })
    }

    fn coming(now: Now, after: Duration) -> Status {
        let deadline = Deadline { instant: now.instant + after, wall: now.plus(after).wall };
        let pending = Pending {
            kind: Kind::SpotInterruption,
            action: Action::Terminate,
            deadline: Some(deadline),
            first_seen: "2026-11-21T10:00:00Z".parse().unwrap(),
            detail: None,
            response: Response::Drain,
        };
        Status { pending: vec![pending], ..Status::default() }
    }

    fn pod(name: &str) -> PodStatus {
        PodStatus {
            id: PodRef { namespace: "shop".into(), name: name.into(), uid: String::new() },
            phase: "blocked",
            outcome: None,
            wanted: Duration::from_secs(90),
            granted: None,
            blocked: Some("needs 1 healthy pods".into()),
        }
    }

    #[test]
    fn a_quiet_node_says_so() {
        let page = page(&Status::default(), now());
        assert!(page.contains("<h1>ip-10-0-0-1</h1>"), "{page}");
        assert!(page.contains("<th>Coming</th><td>nothing</td>"), "{page}");
        assert!(page.contains("<th>Agent</th><td>ready</td>"), "{page}");
        assert!(page.contains("name=\"viewport\"") && !page.contains("<script"), "{page}");
        assert!(!page.contains("Pods") && !page.contains("Slack") && !page.contains("Dry run"), "{page}");
    }

    #[test]
    fn remaining_time_counts_down_to_the_deadline_and_up_after_it() {
        let start = now();
        let status = coming(start, Duration::from_secs(89));
        let before = page(&status, start);
        assert!(before.contains("2026-11-21 10:01:59 UTC, in 1 min 29 s"), "{before}");
        let after = page(&status, start.plus(Duration::from_secs(100)));
        assert!(after.contains("10:01:59 UTC, 11 s ago"), "{after}");
    }

    #[test]
    fn a_pod_has_a_row_with_its_state_graces_and_refusal() {
        let mut status = Status { pods: vec![pod("till"), pod("cart")], ..coming(now(), Duration::from_mins(1)) };
        status.pods[0].outcome = Some(Outcome::Shortened);
        status.pods[0].granted = Some(Duration::from_secs(25));
        let page = page(&status, now());
        let row = |name: &str, cells: [&str; 4]| {
            let [state, wanted, granted, blocked] = cells;
            let none = |cell: &str, with: &'static str, without: &'static str| if cell == "-" { with } else { without };
            let (first, second) = (none(granted, "word none", "word"), none(blocked, "none", "text"));
            format!(
                "<tr><td>shop/{name}</td><td class=\"word\" data-name=\"State\">{state}</td>\
                 <td class=\"word\" data-name=\"Grace wanted\">{wanted}</td>\
                 <td class=\"{first}\" data-name=\"Grace granted\">{granted}</td>\
                 <td class=\"{second}\" data-name=\"Blocked by\">{blocked}</td></tr>"
            )
        };
        let cart = page.find(&row("cart", ["blocked", "1 min 30 s", "-", "needs 1 healthy pods"]));
        let till = page.find(&row("till", ["shortened", "1 min 30 s", "25 s", "-"]));
        assert!(cart.is_some() && till.is_some() && cart < till, "what is left comes first: {page}");
        assert!(page.contains("1 of 2 pods left"), "{page}");
    }

    #[test]
    fn the_end_of_a_drain_is_told_with_its_slack() {
        let mut status = Status { drained: true, slack_seconds: Some(41.26), ..Status::default() };
        let good = page(&status, now());
        assert!(
            good.contains("<th>Drain</th><td>done</td>") && good.contains("<td>41.3 s before the deadline</td>"),
            "{good}"
        );
        status.slack_seconds = Some(-2.0);
        status.pods = vec![PodStatus { outcome: Some(Outcome::Unfinished), ..pod("cart") }];
        let late = page(&status, now());
        assert!(late.contains("2.0 s too late") && late.contains("1 still running at the deadline"), "{late}");
    }

    #[test]
    fn text_from_outside_cannot_become_markup() {
        let evil = "<script>alert('x')</script>\"&";
        let status = Status { pods: vec![PodStatus { blocked: Some(evil.into()), ..pod(evil) }], ..Status::default() };
        let page = render(&Facts { node_name: evil, status: &status, report: READY, dry_run: true, now: now() });
        assert!(!page.contains("<script") && !page.contains("\"&\"") && !page.contains("('x')"), "{page}");
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;";
        assert_eq!(page.matches(escaped).count(), 4, "title, heading, pod, refusal: {page}");
    }

    #[test]
    fn what_readiness_misses_is_on_the_page() {
        let report = Report { imds_answered: false, ..READY };
        let status = Status::default();
        let page = render(&Facts { node_name: "n", status: &status, report, dry_run: true, now: now() });
        assert!(page.contains("the instance metadata service has not answered yet"), "{page}");
        assert!(page.contains("Dry run"), "{page}");
    }

    #[test]
    fn a_dry_run_does_not_claim_to_have_done_anything() {
        let status = Status { fenced: true, drained: true, ..coming(now(), Duration::from_mins(1)) };
        let page = render(&Facts { node_name: "n", status: &status, report: READY, dry_run: true, now: now() });
        assert!(page.contains("would be set now") && page.contains("no pod was asked to stop"), "{page}");
        assert!(page.contains("spot interruption: EC2 will terminate the instance"), "{page}");
    }
}
