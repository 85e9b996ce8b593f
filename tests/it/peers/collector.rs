//! A real OpenTelemetry collector.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::prometheus::undiscovered;
use super::{Folder, Program, tool, yaml};

/// A running collector.
pub(crate) struct Collector {
    program: Program,
    /// Where it takes OTLP over HTTP: `http://host:port`, to which `/v1/metrics` and `/v1/traces` are added.
    pub(crate) http_endpoint: String,
    received: PathBuf,
    _folder: Folder,
}

impl Collector {
    /// Starts one with `config`, which [`shipped`] or [`plain`] makes. Whatever its file exporters are called, they write
    /// to where [`Collector::received`] reads.
    pub(crate) fn start(config: &Value) -> Self {
        let folder = Folder::new("collector");
        let received = folder.path("received");
        let mut config = config.clone();
        for (name, exporter) in config["exporters"].as_object_mut().unwrap() {
            if name == "file" || name.starts_with("file/") {
                exporter["path"] = received.to_str().unwrap().into();
            }
        }
        let config = folder.write("config.yaml", &config.to_string());
        let mut endpoint = None;
        let (program, http_endpoint) = Program::start(
            &tool("otelcol", "otelcol"),
            &["--config".to_owned(), config],
            &environment(),
            folder.path("log"),
            |line| {
                if line.contains("Starting HTTP server") {
                    let (_, found) = line.rsplit_once("\"endpoint\": \"")?;
                    endpoint = Some(format!("http://{}", found.split('"').next()?));
                }
                line.contains("Everything is ready").then(|| endpoint.clone()).flatten()
            },
        );
        Self { program, http_endpoint, received, _folder: folder }
    }

    /// All batches that arrived so far, each as the JSON of an OTLP request: `resourceMetrics`, `resourceSpans`.
    pub(crate) fn received(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.received).unwrap_or_default();
        // Complete lines only.
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.program.log()
    }
}

/// What the shipped files take from the environment.
pub(crate) fn environment() -> Vec<(&'static str, String)> {
    let values = [
        ("MY_POD_IP", "127.0.0.1"),
        ("CLUSTER_NAME", "test"),
        ("AWS_REGION", "eu-central-1"),
        ("REMOTE_WRITE_URL", "http://127.0.0.1:9/api/v1/write"),
        ("OTLP_TRACES_URL", "http://127.0.0.1:9/v1/traces"),
        ("AMP_REMOTE_WRITE_URL", "http://127.0.0.1:9/api/v1/remote_write"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        // Nobody is to ask for an instance's role.
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    values.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// A collector of a test's own: takes metrics and traces by OTLP and keeps them as they came.
pub(crate) fn plain() -> Value {
    json!({
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}},
        "exporters": {"file": {"path": ""}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "metrics": {"receivers": ["otlp"], "exporters": ["file"]},
                "traces": {"receivers": ["otlp"], "exporters": ["file"]},
            },
        },
    })
}

/// The shipped configuration `path` with what a test has to replace:
///
/// - instead of the API server of Kubernetes, the one target `admin` on the node `node`, scraped each second;
/// - instead of every exporter, one that writes to a file (and with them go the extensions that sign for AWS);
/// - any port instead of the fixed ones, and batches that wait for a tenth of a second.
///
/// Receivers, relabelings, the list of what is kept, processors and pipelines are executed as they are shipped.
pub(crate) fn shipped(path: &str, admin: &str, node: &str) -> Value {
    let mut config = yaml(path);
    undiscovered(&mut config["receivers"]["prometheus"]["config"]["scrape_configs"][0], admin, node);
    config["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = "127.0.0.1:0".into();
    config["extensions"]["health_check"]["endpoint"] = "127.0.0.1:0".into();
    config["processors"]["batch"]["timeout"] = "100ms".into();
    config["exporters"] = json!({"file": {}});
    config["extensions"].as_object_mut().unwrap().retain(|name, _| name == "health_check");
    config["service"]["extensions"] = json!(["health_check"]);
    config["service"]["telemetry"] = json!({"metrics": {"level": "none"}});
    for pipeline in config["service"]["pipelines"].as_object_mut().unwrap().values_mut() {
        pipeline["exporters"] = json!(["file"]);
    }
    config
}
