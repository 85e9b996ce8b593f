//! The binary as a process: exit codes, streams, signals. Everything else is tested closer to its code.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The binary with nothing in its environment that a developer's shell may have set.
fn spotwarden() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotwarden"));
    command.env_clear();
    command
}

/// A kubeconfig for the API server at `url`, in a file of this name: tests run side by side.
fn kubeconfig_for(name: &str, url: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-kubeconfig.yaml"));
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: x, users: [{{name: u, user: {{}}}}], \
          clusters: [{{name: c, cluster: {{server: '{url}'}}}}], \
          contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A kubeconfig for an API server that is not there.
fn kubeconfig(name: &str) -> PathBuf {
    kubeconfig_for(name, "http://127.0.0.1:9")
}

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    admin: String,
}

impl Agent {
    /// An agent that reaches nothing.
    fn cut_off() -> Self {
        Self::start("n1", &kubeconfig("cut-off"), "http://127.0.0.1:9")
    }

    /// An agent for `node` that finds IMDS at the URL `imds`.
    pub(crate) fn start(node: &str, kubeconfig: &Path, imds: &str) -> Self {
        let mut child = spotwarden()
            .args(["run", "--admin-address=127.0.0.1:0", "--log-format=json"])
            .env("NODE_NAME", node)
            .env("KUBECONFIG", kubeconfig)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "starting", "{line}");
        Self { child, log, admin: line["admin"].as_str().unwrap().to_owned() }
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Sends SIGTERM and returns the exit code and the rest of the log. Reading ends when the process does.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_wrong_invocation_is_one_line_on_standard_error_and_code_64() {
    let output = spotwarden().args(["run", "--safety-margin=5"]).env("NODE_NAME", "n1").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("spotwarden: --safety-margin is `5`") && message.lines().count() == 1, "{message}");
    assert!(output.stdout.is_empty());
}

#[test]
fn help_goes_to_standard_output_with_code_0() {
    let output = spotwarden().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("run"));
}

#[test]
fn a_run_that_cannot_start_fails_with_code_1() {
    let arguments = ["run", "--node-name=n1", "--admin-address=127.0.0.1:0", "--kubeconfig=/nowhere"];
    let output = spotwarden().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("/nowhere"), "{log}");
}

#[test]
fn the_agent_serves_while_it_reaches_nothing_and_ends_cleanly_on_sigterm() {
    let agent = Agent::cut_off();
    assert!(agent.get("/livez").starts_with("HTTP/1.1 200 "));
    assert!(agent.get("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(agent.get("/metrics").contains("spotwarden_build_info"));
    let start = tokio::time::Instant::now();
    let (code, log) = agent.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(log.contains("\"message\":\"stopping"), "{log}");
}

/// `check` with `arguments`, told where IMDS and the API server are.
fn check(arguments: &[&str], imds: &str, kubeconfig: &Path) -> std::process::Output {
    spotwarden()
        .arg("check")
        .args(arguments)
        .env("NODE_NAME", "spot-plain-notice")
        .env("KUBECONFIG", kubeconfig)
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds)
        .output()
        .unwrap()
}

/// A world that is kept up; killed when dropped.
struct Served {
    child: Child,
    imds: String,
    api: String,
}

impl Served {
    fn start() -> Self {
        let mut child = spotwarden()
            .args(["simulate", "--serve", "--without-agent", "--scenario=plain-notice"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut after = |mark: &str| {
            let line = lines.find(|line| line.contains(mark)).unwrap();
            line.split(mark).nth(1).unwrap().split(' ').next().unwrap().to_owned()
        };
        let imds = after("AWS_EC2_METADATA_SERVICE_ENDPOINT=");
        let api = after("--server=");
        Self { child, imds, api }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_check_where_nothing_is_missing_ends_with_code_0_and_one_json_object() {
    let world = Served::start();
    let output = check(&["--output=json"], &world.imds, &kubeconfig_for("check-well", &world.api));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&object["passed"], &object["node"]), (&true.into(), &"spot-plain-notice".into()));
    assert!(object["checks"].as_array().unwrap().iter().all(|check| check["status"] != "missing"), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_check_that_reaches_nothing_ends_with_code_1_and_a_table() {
    let output = check(&[], "http://127.0.0.1:9", &kubeconfig("check-nothing"));
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    for line in ["missing  imds ", "missing  api-server ", "Result: 2 needed things are missing"] {
        assert!(table.lines().any(|found| found.starts_with(line)), "{line}: {table}");
    }
}

#[test]
fn a_check_with_a_wrong_setting_ends_as_a_run_does() {
    let output = check(&["--safety-margin=5"], "http://127.0.0.1:9", &kubeconfig("check-wrong"));
    assert_eq!(output.status.code(), Some(64));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("spotwarden: --safety-margin is `5`") && message.lines().count() == 1, "{message}");
    assert!(output.stdout.is_empty());
}
