//! The agent's binary in a simulated world that is kept up, in real time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

use std::path::Path;

use serde_json::{Value, json};

use super::exposition::{Exposition, parse};
use super::{Answer, Folder, Program, request};

const BINARY: &str = env!("CARGO_BIN_EXE_spotwarden");

/// Starts a world that is kept up; what it says of where it serves.
fn world(name: &str, scenario: &str, folder: &Folder, more: &[&str]) -> (Program, Value) {
    let scenario = folder.write(&format!("{name}.toml"), scenario);
    let arguments = ["simulate", "--serve", "--output=json", "--scenario", &scenario];
    let arguments: Vec<String> = arguments.iter().chain(more).map(|&argument| argument.to_owned()).collect();
    Program::start(Path::new(BINARY), &arguments, &[], folder.path("log"), |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["api"].is_string().then_some(line)
    })
}

/// `host:port` of a URL or of an address.
fn address(value: &Value) -> String {
    value.as_str().unwrap().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// A world with an agent.
pub(crate) struct Simulation {
    _world: Program,
    _agent: Option<Program>,
    /// Where the agent's page is, `host:port`.
    pub(crate) admin: String,
    /// The node's name.
    pub(crate) node: String,
    folder: Folder,
}

impl Simulation {
    /// Starts the scenario `name` with the text `scenario`, and an agent as `simulate` has it.
    pub(crate) fn start(name: &str, scenario: &str) -> Self {
        let folder = Folder::new(name);
        let (world, told) = world(name, scenario, &folder, &[]);
        let (admin, node) = (address(&told["admin"]), told["node"].as_str().unwrap().to_owned());
        Self { _world: world, _agent: None, admin, node, folder }
    }

    /// The same with `spotwarden run` as a process of its own, as it runs on a node, with these variables.
    pub(crate) fn with_agent(name: &str, scenario: &str, variables: &[(&str, String)]) -> Self {
        let folder = Folder::new(name);
        let (world, told) = world(name, scenario, &folder, &["--without-agent"]);
        let node = told["node"].as_str().unwrap().to_owned();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "u", "user": {}}],
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", address(&told["api"]))}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        let mut environment = vec![
            ("NODE_NAME", node.clone()),
            ("KUBECONFIG", folder.write("kubeconfig.yaml", &kubeconfig.to_string())),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", address(&told["imds"]))),
        ];
        environment.extend(variables.iter().cloned());
        let arguments = ["run", "--admin-address=127.0.0.1:0", "--log-format=json"].map(str::to_owned);
        let log = folder.path("agent-log");
        let (agent, admin) = Program::start(Path::new(BINARY), &arguments, &environment, log, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "starting").then(|| line["admin"].as_str().map(str::to_owned))?
        });
        Self { _world: world, _agent: Some(agent), admin, node, folder }
    }

    /// What `/metrics` answers to somebody who prefers `accept`.
    pub(crate) fn scraped_as(&self, accept: &str) -> Answer {
        let answer = request(&self.admin, "GET", "/metrics", &format!("Accept: {accept}\r\n"), "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    /// The agent's log so far; of one that is a process of its own.
    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.folder.path("agent-log")).unwrap_or_default()
    }

    /// What `/metrics` says now.
    pub(crate) fn metrics(&self) -> Exposition {
        parse(&self.scraped_as("text/plain").body)
    }
}
