//! What `simulate` prints: lines for people, with colours on a terminal, or one JSON object on each line for machines.
//!
//! JSON lines have a `type`: `scenario` first, then `timeline` as things happen, `interruption` with
//! the agent's own account, `report` last. `docs/scenarios.md` says
//! what is in them.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::interruption::account::Account;
use crate::sim::pace::Speed;
use crate::sim::report::Report;
use crate::sim::scenario::Scenario;
use crate::sim::timeline::TimelineEntry;
use crate::sim::world::Addresses;

/// How things are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Lines for people.
    Plain,
    /// One JSON object on each line.
    Json,
}

/// Widest line of a description.
const WIDTH: usize = 100;

/// Where everything is printed. A reader that has gone away is no reason to stop: the exit code still tells the verdict.
pub(super) struct Output {
    format: Format,
    colour: bool,
    sink: Box<dyn Write>,
}

impl Output {
    /// Prints to standard output; in colour if that is a terminal and `colour_allowed`.
    pub(super) fn new(format: Format, colour_allowed: bool) -> Self {
        let sink = io::stdout();
        Self { format, colour: colour_allowed && sink.is_terminal(), sink: Box::new(sink) }
    }

    pub(super) fn list(&mut self, scenarios: &[Scenario]) {
        let widest = scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
        for scenario in scenarios {
            match self.format {
                Format::Plain => self.line(&format!("{:widest$}  {}", scenario.name, scenario.title)),
                Format::Json => self.json("scenario", json!(about(scenario))),
            }
        }
    }

    pub(super) fn begin(&mut self, scenario: &Scenario, speed: Speed) {
        if self.format == Format::Json {
            let mut about = about(scenario);
            if let Some(fields) = about.as_object_mut() {
                fields.insert("speed".into(), speed.to_string().into());
            }
            return self.json("scenario", about);
        }
        let title = if self.colour { format!("\u{1b}[1m{}\u{1b}[0m", scenario.title) } else { scenario.title.clone() };
        self.line(&format!("{}: {title}", scenario.name));
        for line in wrapped(&scenario.description, WIDTH) {
            self.line(&format!("  {line}"));
        }
        let others = match speed {
            Speed::Real => "--speed 10 is quicker, --speed max gives the verdict at once",
            Speed::Times(_) => "--speed 1 is real time, --speed max gives the verdict at once",
            Speed::Max => "--speed 1 is real time",
        };
        self.line(&format!("  Time passes: {speed} ({others}).\n"));
    }

    pub(super) fn head(&mut self) {
        if self.format == Format::Plain {
            self.line(&format!("{:>9}  {:>8}  {:<10}  what", "time", "left", "who"));
        }
    }

    pub(super) fn addresses(&mut self, at: Addresses, node: &str) {
        if self.format == Format::Json {
            let admin = at.admin.map(|admin| format!("http://{admin}/"));
            let (imds, api) = (format!("http://{}", at.imds), format!("http://{}", at.api));
            return self.json("serving", json!({"imds": imds, "api": api, "admin": admin, "node": node}));
        }
        self.line(&format!("  IMDS        AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{}", at.imds));
        self.line(&format!("  API server  kubectl --server=http://{} get nodes,pods --all-namespaces", at.api));
        if let Some(admin) = at.admin {
            self.line(&format!("  agent       http://{admin}/"));
        }
        self.line(&format!("  node        {node}\n"));
    }

    pub(super) fn entry(&mut self, entry: &TimelineEntry) {
        match self.format {
            Format::Plain => self.line(&entry.line(self.colour)),
            Format::Json => self.json("timeline", entry),
        }
    }

    pub(super) fn report(&mut self, report: &Report) {
        match self.format {
            Format::Plain => self.line(&format!("\n{}", report.text(self.colour).trim_end())),
            Format::Json => self.json("report", report),
        }
    }

    /// What `spotwarden report` reads; people have the verdict.
    pub(super) fn account(&mut self, account: &Account) {
        if self.format == Format::Json {
            self.json("interruption", account);
        }
    }

    pub(super) fn stays(&mut self) {
        if self.format == Format::Plain {
            self.line("\nThe API server stays up until Ctrl-C; the instance is as the scenario left it.");
        }
    }

    /// One line on standard error.
    #[allow(clippy::unused_self, reason = "the counterpart of the other lines")]
    pub(super) fn error(&self, message: &str) {
        _ = writeln!(io::stderr(), "spotwarden: {message}");
    }

    fn line(&mut self, line: &str) {
        _ = writeln!(self.sink, "{line}");
    }

    fn json(&mut self, kind: &str, body: impl Serialize) {
        let mut line = serde_json::to_value(body).unwrap_or_default();
        if let Value::Object(fields) = &mut line {
            fields.insert("type".into(), kind.into());
        }
        self.line(&line.to_string());
    }
}

fn about(scenario: &Scenario) -> Value {
    let description = scenario.description.split_whitespace().collect::<Vec<_>>().join(" ");
    json!({"name": scenario.name, "title": scenario.title, "description": description})
}

/// Text in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(format: Format, print: impl FnOnce(&mut Output)) -> String {
        let paper = Paper::default();
        print(&mut Output { format, colour: false, sink: Box::new(paper.clone()) });
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn every_json_line_is_an_object_that_says_what_it_is() {
        let scenario = Scenario::load("plain-notice").unwrap();
        let text = printed(Format::Json, |output| {
            output.begin(&scenario, Speed::Max);
            output.list(std::slice::from_ref(&scenario));
        });
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line["type"] == "scenario" && line["name"] == "plain-notice"), "{text}");
        assert_eq!(lines[0]["speed"], "as fast as the machine can");
        assert!(!lines[0]["description"].as_str().unwrap().contains('\n'), "a paragraph has no lines: {text}");
    }

    #[test]
    fn a_reader_that_has_gone_away_does_no_harm() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        Output { format: Format::Plain, colour: false, sink: Box::new(Closed) }.stays();
    }

    #[test]
    fn the_head_names_the_speed_and_how_to_change_it() {
        let scenario = Scenario::load("plain-notice").unwrap();
        let text = printed(Format::Plain, |output| output.begin(&scenario, Speed::Times(10.0)));
        assert!(text.contains("Time passes: 10 times real time (--speed 1"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH + 2), "{text}");
    }
}
