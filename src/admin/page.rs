//! The page at `/`: the node's state for a person with a browser, a phone or curl.
//!
//! Plain HTML without scripts or anything to load, laid out so that its source can be read in a terminal. Everything
//! that came from outside the agent is escaped.

mod addresses;
mod notifications;

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use super::readiness::Report;
use crate::clock::Now;
use crate::cni::model::Headroom;
use crate::config::Response;
use crate::drain::forecast::{Forecast, PodForecast, Verdict};
use crate::drain::outcome::Outcome;
use crate::identity::NodeIdentity;
use crate::interruption::record::{Pending, PodStatus, Status};
use crate::notify::SinkStatus;
use crate::signal::{Deadline, Kind};

/// An empty cell; on a narrow screen it is left out.
const NONE: &str = "-";

/// Browsers fetch the page again after so many seconds.
const REFRESH_SECONDS: u8 = 5;

/// Of the pods that a notice would hurt, so many are named.
const MOST_FORECAST_ROWS: usize = 10;

/// On a narrow screen each row becomes a block of lines, each with its column's name before it.
const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:1rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ccc}
th,td.word{white-space:nowrap}
td{overflow-wrap:anywhere}.pods td:first-child{min-width:40%}
.facts{width:auto}.facts+.rows{margin-top:.5rem}.facts th{padding-right:1.5rem}
.alarm{color:#a30000;font-weight:600}
@media(max-width:40rem){.rows tr:first-child{display:none}.rows tr{display:block;padding:.4rem 0;border-bottom:1px solid #ccc}
.rows td{display:block;border:0;padding:0}.rows td:first-child{font-weight:600}
.rows .none{display:none}.rows td+td::before{content:attr(data-name) \": \"}}
@media(prefers-color-scheme:dark){body{color:#eee;background:#111}a{color:#9cf}.alarm{color:#ff8080}\
th,td,.rows tr{border-color:#444}}";

/// What the page tells.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The own Node and its instance, as far as they are known.
    pub node: &'a NodeIdentity,
    /// The agent's state.
    pub status: &'a Status,
    /// The headroom of pod addresses, where it is known.
    pub headroom: Option<&'a Headroom>,
    /// Who outside of the cluster is told.
    pub sinks: &'a [SinkStatus],
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
    let node = Escaped(&facts.node.node);
    writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">")?;
    writeln!(out, "<title>{node} - spotwarden</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>")?;
    writeln!(out, "<h1>{node}</h1>")?;
    coming(out, facts)?;
    summary(out, facts)?;
    pods(out, facts.status)?;
    if let Some(found) = facts.status.forecast.as_deref() {
        forecast(out, found)?;
    }
    if let Some(headroom) = facts.headroom {
        addresses::addresses(out, headroom)?;
    }
    notifications::notifications(out, facts.sinks, facts.dry_run, facts.now)?;
    writeln!(
        out,
        "<p>spotwarden {}, {}. <a href=\"/metrics\">Metrics</a>, <a href=\"/readyz\">readiness</a>.</p>",
        env!("CARGO_PKG_VERSION"),
        Seconds(facts.now.wall)
    )?;
    writeln!(out, "</body>\n</html>")
}

fn coming(out: &mut String, facts: &Facts<'_>) -> fmt::Result {
    let pending = &facts.status.pending;
    if pending.is_empty() {
        return Ok(());
    }
    // The whole node goes by the earliest, which is the first.
    writeln!(out, "<h2>Coming</h2>\n<table class=\"rows\">")?;
    writeln!(out, "<tr><th>What</th><th>When</th><th>Response</th><th>First seen</th><th>Detail</th></tr>")?;
    pending.iter().try_for_each(|pending| coming_row(out, pending, facts.now))?;
    writeln!(out, "</table>")
}

fn coming_row(out: &mut String, pending: &Pending, now: Now) -> fmt::Result {
    let (what, will) = (kind_words(pending.kind), pending.action.phrase());
    write!(out, "<tr><td class=\"alarm\">{what}: EC2 will {will}</td>")?;
    write!(out, "<td data-name=\"When\">{}</td>", countdown(pending.deadline, now))?;
    write!(out, "<td class=\"word\" data-name=\"Response\">{}</td>", response_words(pending.response))?;
    write!(out, "<td data-name=\"First seen\">{}</td>", Seconds(pending.first_seen))?;
    let detail = pending.detail.as_deref().unwrap_or(NONE);
    writeln!(out, "<td class=\"{}\" data-name=\"Detail\">{}</td></tr>", class_of(detail), Escaped(detail))
}

fn countdown(deadline: Option<Deadline>, now: Now) -> String {
    match deadline {
        None => "no time given".to_owned(),
        Some(deadline) if deadline.instant > now.instant => {
            format!("in {}, at {}", Span(deadline.instant - now.instant), Seconds(deadline.wall))
        }
        Some(deadline) => format!("{} ago, at {}", Span(now.instant - deadline.instant), Seconds(deadline.wall)),
    }
}

fn summary(out: &mut String, facts: &Facts<'_>) -> fmt::Result {
    let status = facts.status;
    writeln!(out, "<h2>Now</h2>\n<table class=\"facts\">")?;
    let NodeIdentity { instance_id, instance_type, lifecycle, zone, .. } = facts.node;
    let instance: Vec<&str> = [instance_id, instance_type, lifecycle, zone]
        .into_iter()
        .map(String::as_str)
        .filter(|fact| !fact.is_empty())
        .collect();
    if !instance.is_empty() {
        row(out, "Instance", &instance.join(", "))?;
    }
    if status.pending.is_empty() {
        row(out, "Coming", "nothing")?;
    }
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

/// What a notice that arrived now would mean: the counts, and the worst pods by name.
fn forecast(out: &mut String, forecast: &Forecast) -> fmt::Result {
    writeln!(out, "<h2>If a notice came now</h2>\n<table class=\"facts\">")?;
    row(out, "Pods", &verdict_counts(forecast))?;
    let slack = forecast.least_slack_seconds.map(|slack| match slack {
        ..0.0 => format!("{:.0} s short of its grace", -slack),
        _ => format!("{slack:.0} s to spare"),
    });
    row(out, "Tightest pod", slack.as_deref().unwrap_or("none"))?;
    writeln!(out, "</table>")?;
    let trouble: Vec<&PodForecast> = forecast.pods.iter().filter(|pod| pod.verdict != Verdict::Fits).collect();
    if trouble.is_empty() {
        return Ok(());
    }
    writeln!(out, "<table class=\"rows pods\">\n<tr><th>Pod</th><th>Verdict</th><th>Reason</th></tr>")?;
    for pod in trouble.iter().take(MOST_FORECAST_ROWS) {
        let reason = pod.reason.as_deref().unwrap_or(NONE);
        write!(out, "<tr><td>{}</td>", Escaped(&pod.pod.to_string()))?;
        write!(out, "<td class=\"word\" data-name=\"Verdict\">{}</td>", pod.verdict.as_str())?;
        writeln!(out, "<td class=\"{}\" data-name=\"Reason\">{}</td></tr>", class_of(reason), Escaped(reason))?;
    }
    writeln!(out, "</table>")?;
    match trouble.len().saturating_sub(MOST_FORECAST_ROWS) {
        0 => Ok(()),
        more => writeln!(out, "<p>and {more} more</p>"),
    }
}

fn verdict_counts(forecast: &Forecast) -> String {
    let counts = Verdict::ALL.into_iter().zip(forecast.counts()).filter(|(_, count)| *count > 0);
    let some: Vec<String> = counts.map(|(verdict, count)| format!("{count} {}", verdict.as_str())).collect();
    if some.is_empty() { "none to drain".to_owned() } else { some.join(", ") }
}

fn class_of(text: &str) -> &'static str {
    if text == NONE { "none" } else { "text" }
}

fn row(out: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))
}

/// What is done about it, as far as it goes.
fn response_words(response: Response) -> &'static str {
    match response {
        Response::Ignore => "ignored",
        Response::Observe => "observed",
        Response::Taint => "soft taint",
        Response::Cordon => "fence",
        Response::Drain => "fence and drain",
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
    } else if let Some(refused) = &status.postponed {
        let subnets = if refused.subnets.is_empty() { "a subnet of this node" } else { &refused.subnets };
        format!("waits: {subnets} refused addresses within the last 10 min")
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
    writeln!(out, "<h2>Pods</h2>\n<table class=\"rows pods\">")?;
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
    writeln!(out, "<td class=\"{}\" data-name=\"Blocked by\">{}</td></tr>", class_of(blocked), Escaped(blocked))
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
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::drain::pod::PodRef;
    use crate::signal::Action;

    const READY: Report = Report { imds_answered: true, node_seen: true, stopping: false };

    fn now() -> Now {
        Now { instant: Instant::now(), wall: "2026-11-21T10:00:30.9Z".parse().unwrap() }
    }

    fn named(node: &str) -> NodeIdentity {
        NodeIdentity::named(node)
    }

    #[test]
    fn the_instance_is_named_as_far_as_it_is_known() {
        let known = NodeIdentity { instance_id: "i-0abc".into(), zone: "eu-central-1a".into(), ..named("n") };
        let instance = |node: &NodeIdentity| {
            let facts = Facts {
                node,
                status: &Status::default(),
                headroom: None,
                sinks: &[],
                report: READY,
                dry_run: false,
                now: now(),
            };
            render(&facts).lines().find(|line| line.contains("Instance")).map(str::to_owned)
        };
        assert_eq!(instance(&known).as_deref(), Some("<tr><th>Instance</th><td>i-0abc, eu-central-1a</td></tr>"));
        assert_eq!(instance(&named("n")), None);
    }

    fn page(status: &Status, now: Now) -> String {
        render(&Facts {
            node: &named("ip-10-0-0-1"),
            status,
            headroom: None,
            sinks: &[],
            report: READY,
            dry_run: false,
            now,
        })
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
            id: PodRef { namespace: "shop".into(), name: name.into(), uid: String::new() }.into(),
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
        assert!(
            !page.contains("<h2>Pods")
                && !page.contains("If a notice")
                && !page.contains("Slack")
                && !page.contains("Dry run"),
            "{page}"
        );
    }

    #[test]
    fn remaining_time_counts_down_to_the_deadline_and_up_after_it() {
        let start = now();
        let status = coming(start, Duration::from_secs(89));
        let before = page(&status, start);
        assert!(before.contains("in 1 min 29 s, at 2026-11-21 10:01:59 UTC"), "{before}");
        let after = page(&status, start.plus(Duration::from_secs(100)));
        assert!(after.contains("11 s ago, at 2026-11-21 10:01:59 UTC"), "{after}");
    }

    #[test]
    fn everything_that_is_coming_has_its_own_countdown_response_and_words() {
        let now = now();
        let mut status = coming(now, Duration::from_secs(89));
        let event =
            Deadline { instant: now.instant + Duration::from_hours(1), wall: now.plus(Duration::from_hours(1)).wall };
        status.pending.push(Pending {
            kind: Kind::ScheduledEvent,
            action: Action::Reboot,
            deadline: Some(event),
            detail: Some("system-reboot <b>instance-event-0</b>".into()),
            response: Response::Taint,
            ..status.pending[0].clone()
        });
        status.pending.push(Pending {
            kind: Kind::RebalanceRecommendation,
            deadline: None,
            response: Response::Observe,
            ..status.pending[0].clone()
        });
        let page = page(&status, now);
        let rows: Vec<&str> = page.lines().filter(|line| line.contains("class=\"alarm\"")).collect();
        let expected = [
            ["spot interruption: EC2 will terminate this instance", "in 1 min 29 s, at", "fence and drain"],
            ["scheduled event: EC2 will reboot this instance", "in 1 h, at", "soft taint"],
            ["rebalance recommendation: EC2 will terminate", "no time given", "observed"],
        ];
        assert_eq!(rows.len(), expected.len(), "{page}");
        for (row, words) in rows.iter().zip(expected) {
            assert!(words.iter().all(|word| row.contains(word)), "{words:?} in {row}");
        }
        assert!(rows[1].contains("system-reboot &lt;b&gt;instance-event-0"), "{}", rows[1]);
        assert!(!page.contains("<td>nothing</td>"), "{page}");
    }

    fn forecast(hurt: usize, slack: f64) -> Status {
        let of = |number: usize, verdict| PodForecast {
            pod: PodRef { namespace: "shop".into(), name: format!("pod-{number}"), uid: String::new() },
            verdict,
            slack_seconds: 0.0,
            reason: (verdict == Verdict::Shortened).then(|| "grace 600 s, a notice leaves 117 s".to_owned()),
        };
        let mut pods: Vec<_> = (0..hurt).map(|number| of(number, Verdict::Shortened)).collect();
        pods.push(of(90, Verdict::Fits));
        let forecast = Forecast { pods, least_slack_seconds: Some(slack) };
        Status { forecast: Some(Arc::new(forecast)), ..Status::default() }
    }

    #[test]
    fn the_forecast_names_the_pods_that_a_notice_would_hurt_and_no_others() {
        let hurt = page(&forecast(2, -483.0), now());
        assert!(hurt.contains("<th>Pods</th><td>2 shortened, 1 fits</td>"), "{hurt}");
        assert!(hurt.contains("<th>Tightest pod</th><td>483 s short of its grace</td>"), "{hurt}");
        let row = "<tr><td>shop/pod-1</td><td class=\"word\" data-name=\"Verdict\">shortened</td>\
                   <td class=\"text\" data-name=\"Reason\">grace 600 s, a notice leaves 117 s</td></tr>";
        assert!(hurt.contains(row) && !hurt.contains("pod-90") && !hurt.contains("more</p>"), "{hurt}");
        let well = page(&forecast(0, 87.0), now());
        assert!(well.contains("<td>1 fits</td>") && well.contains("<td>87 s to spare</td>"), "{well}");
        assert!(!well.contains("<th>Verdict</th>"), "{well}");
    }

    #[test]
    fn a_full_node_does_not_make_a_long_page() {
        let page = page(&forecast(40, -1.0), now());
        assert_eq!(page.matches("data-name=\"Verdict\"").count(), MOST_FORECAST_ROWS);
        assert!(page.contains("<p>and 30 more</p>"), "{page}");
    }

    #[test]
    fn a_node_without_pods_has_an_empty_forecast() {
        let page = page(&Status { forecast: Some(Arc::default()), ..Status::default() }, now());
        assert!(
            page.contains("<td>none to drain</td>") && page.contains("<th>Tightest pod</th><td>none</td>"),
            "{page}"
        );
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
        let page = render(&Facts {
            node: &named(evil),
            status: &status,
            headroom: None,
            sinks: &[],
            report: READY,
            dry_run: true,
            now: now(),
        });
        assert!(!page.contains("<script") && !page.contains("\"&\"") && !page.contains("('x')"), "{page}");
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;";
        assert_eq!(page.matches(escaped).count(), 4, "title, heading, pod, refusal: {page}");
    }

    #[test]
    fn what_readiness_misses_is_on_the_page() {
        let report = Report { imds_answered: false, ..READY };
        let status = Status::default();
        let page = render(&Facts {
            node: &named("n"),
            status: &status,
            headroom: None,
            sinks: &[],
            report,
            dry_run: true,
            now: now(),
        });
        assert!(page.contains("the instance metadata service has not answered yet"), "{page}");
        assert!(page.contains("Dry run"), "{page}");
    }

    #[test]
    fn a_dry_run_does_not_claim_to_have_done_anything() {
        let status = Status { fenced: true, drained: true, ..coming(now(), Duration::from_mins(1)) };
        let page = render(&Facts {
            node: &named("n"),
            status: &status,
            headroom: None,
            sinks: &[],
            report: READY,
            dry_run: true,
            now: now(),
        });
        assert!(page.contains("would be set now") && page.contains("no pod was asked to stop"), "{page}");
        assert!(page.contains("spot interruption: EC2 will terminate this instance"), "{page}");
    }
}
