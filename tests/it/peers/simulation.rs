//! The agent's binary in a simulated world that is kept up, in real time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

use std::path::Path;

use serde_json::Value;

use super::exposition::{Exposition, parse};
use super::{Answer, Folder, Program, request};

/// A world with an agent.
pub(crate) struct Simulation {
    _program: Program,
    /// Where the agent's page is, `host:port`.
    pub(crate) admin: String,
    /// The node's name.
    pub(crate) node: String,
    _folder: Folder,
}

impl Simulation {
    /// Starts the scenario `name` with the text `scenario`.
    pub(crate) fn start(name: &str, scenario: &str) -> Self {
        let folder = Folder::new(name);
        let scenario = folder.write(&format!("{name}.toml"), scenario);
        let arguments = ["simulate", "--serve", "--output=json", "--scenario", &scenario].map(str::to_owned);
        let path = Path::new(env!("CARGO_BIN_EXE_spotwarden"));
        let (program, (admin, node)) = Program::start(path, &arguments, &[], folder.path("log"), |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let admin = line["admin"].as_str()?.trim_start_matches("http://").trim_end_matches('/');
            Some((admin.to_owned(), line["node"].as_str()?.to_owned()))
        });
        Self { _program: program, admin, node, _folder: folder }
    }

    /// What `/metrics` answers to somebody who prefers `accept`.
    pub(crate) fn scraped_as(&self, accept: &str) -> Answer {
        let answer = request(&self.admin, "GET", "/metrics", &format!("Accept: {accept}\r\n"), "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    /// What `/metrics` says now.
    pub(crate) fn metrics(&self) -> Exposition {
        parse(&self.scraped_as("text/plain").body)
    }
}
