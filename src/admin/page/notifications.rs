//! The part of the page about who outside of the cluster is told.

use std::fmt::{self, Write as _};

use super::{Escaped, NONE, Span, class_of};
use crate::clock::Now;
use crate::notify::SinkStatus;

/// Writes the section. Without any sink there is none.
pub(super) fn notifications(out: &mut String, sinks: &[SinkStatus], dry_run: bool, now: Now) -> fmt::Result {
    if sinks.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Notifications</h2>\n<table class=\"rows\">")?;
    writeln!(out, "<tr><th>Sink</th><th>Last result</th><th>When</th><th>Detail</th></tr>")?;
    for status in sinks {
        let (result, when, detail) = match &status.last {
            None if dry_run => ("nothing is sent in a dry run", NONE.to_owned(), NONE),
            None => ("nothing sent yet", NONE.to_owned(), NONE),
            Some(last) => {
                let ago = now.instant.saturating_duration_since(now.instant_of(last.at));
                let result = if last.delivered { "delivered" } else { "not delivered" };
                let detail = if last.detail.is_empty() { NONE } else { &last.detail };
                (result, format!("{} ago", Span(ago)), detail)
            }
        };
        let alarm = if status.last.as_ref().is_some_and(|last| !last.delivered) { " class=\"alarm\"" } else { "" };
        write!(out, "<tr><td>{}</td><td{alarm} data-name=\"Last result\">{result}</td>", Escaped(&status.name))?;
        write!(
            out,
            "<td class=\"{}\" data-name=\"When\">{when}</td>",
            if when == NONE { "word none" } else { "word" }
        )?;
        writeln!(out, "<td class=\"{}\" data-name=\"Detail\">{}</td></tr>", class_of(detail), Escaped(detail))?;
    }
    writeln!(out, "</table>")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::notify::{LastTry, Sink};

    fn section(sinks: &[SinkStatus], dry_run: bool, now: Now) -> String {
        let mut out = String::new();
        notifications(&mut out, sinks, dry_run, now).unwrap();
        out
    }

    #[test]
    fn each_sink_has_a_row_with_its_last_result() {
        let start = Now { instant: tokio::time::Instant::now(), wall: "2026-11-21T10:00:00Z".parse().unwrap() };
        let last = |delivered, detail: &str| Some(LastTry { at: start.wall, delivered, detail: detail.into() });
        let status = |sink: Sink, name: &str, last| SinkStatus { sink, name: name.into(), last };
        let sinks = [
            status(Sink::Slack, "slack", last(false, "404: there is no such webhook, or it was revoked; given up")),
            status(Sink::Alertmanager, "alertmanager http://am:9093", last(true, "")),
            status(Sink::Webhook, "webhook", None),
        ];
        let page = section(&sinks, false, start.plus(Duration::from_secs(72)));
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("<tr><td>")).collect();
        assert!(rows[0].contains("class=\"alarm\" data-name=\"Last result\">not delivered</td>"), "{}", rows[0]);
        assert!(rows[0].contains("1 min 12 s ago") && rows[0].contains("404: there is no such webhook"), "{}", rows[0]);
        assert!(rows[1].contains("<td>alertmanager http://am:9093</td><td data-name=\"Last result\">delivered"));
        assert!(rows[2].contains("nothing sent yet"), "{}", rows[2]);
        assert!(section(&sinks, true, start).contains("nothing is sent in a dry run"));
        assert_eq!(section(&[], false, start), "");
    }
}
