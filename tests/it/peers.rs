//! Real programs that agents are seen by: Prometheus, Alertmanager, an OpenTelemetry collector; and a stand-in for Slack.
//!
//! Each listens on loopback on a port that the system chose, works in a folder of its own, and ends with the value that
//! stands for it, or with the test process, however that ends. `make peers` builds them; without them the tests fail.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

pub(crate) mod alertmanager;
pub(crate) mod collector;
pub(crate) mod exposition;
pub(crate) mod prometheus;
pub(crate) mod simulation;
pub(crate) mod slack;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// The programs are up within a second; a loaded machine gets a multiple of that before the test is called broken.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Runs the program that follows, and ends it when the other end of standard input is gone.
const WRAPPER: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
pid=$!
(cat <&3 >/dev/null; kill -KILL "$pid" 2>/dev/null) &
exec 3<&-
wait "$pid"
"#;

/// The program `name` of the group (a folder of tests/tools) that it is built with.
///
/// # Panics
/// With what to do, if it was not built.
pub(crate) fn tool(group: &str, name: &str) -> PathBuf {
    let script = root().join("tests/tools/build.sh");
    let output = Command::new(&script).args(["--no-build", group]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Path::new(String::from_utf8(output.stdout).unwrap().trim_end()).join(name)
}

/// Runs `promtool`, `amtool` or another program that ends by itself: whether it was content, and all that it said.
pub(crate) fn ask(group: &str, name: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(tool(group, name)).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository, read.
pub(crate) fn text(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file of the repository, read. Written again as JSON, it is YAML still.
pub(crate) fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Polls until `wanted` has an answer.
///
/// # Panics
/// If there is none within `limit`.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut wanted: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen within {limit:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A folder that goes when the value does.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new one, with `name` in its name.
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peers-{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes `file` and says where it is.
    pub(crate) fn write(&self, file: &str, content: &str) -> String {
        let path = self.path(file);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program.
pub(crate) struct Program {
    wrapper: Child,
    log: PathBuf,
}

impl Program {
    /// Starts the program at `path`, with its output in the file `log`, and waits for the line in which `told` finds what
    /// it looks for.
    ///
    /// # Panics
    /// With the log, if it ends or does not tell in time.
    pub(crate) fn start<T>(
        path: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
        log: PathBuf,
        mut told: impl FnMut(&str) -> Option<T>,
    ) -> (Self, T) {
        let output = File::create(&log).unwrap();
        let wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "peer"])
            .arg(path)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut program = Self { wrapper, log };
        let end = Instant::now() + START_LIMIT;
        loop {
            let log = program.log();
            // Lines only: one that is being written is not complete yet.
            let complete = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(found) = complete.lines().find_map(&mut told) {
                return (program, found);
            }
            let ended = program.wrapper.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{} did not start ({ended:?}):\n{log}", path.display());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// All that it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.wrapper.stdin.take());
        _ = self.wrapper.wait();
    }
}

/// The answer to a request: its status, its head and its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Asks `address` for `target` with the method, the header lines (each ending in CRLF) and the body that are given.
/// HTTP/1.0, for which servers neither keep the connection nor send chunks.
pub(crate) fn request(address: &str, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    write!(stream, "{method} {target} HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{target}: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.unwrap_or_else(|| panic!("{head}")), head: head.to_owned(), body: body.to_owned() }
}

/// Asks `address` for `target` and insists on success.
pub(crate) fn get(address: &str, target: &str) -> Answer {
    let answer = request(address, "GET", target, "", "");
    assert_eq!(answer.status, 200, "{target}: {}", answer.body);
    answer
}

/// `text` as it may stand in a query.
pub(crate) fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match char::from(byte) {
        plain if plain.is_ascii_alphanumeric() => plain.to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}
