//! A real Alertmanager with the shipped route.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

use serde_json::{Value, json};

use super::slack::SlackStandIn;
use super::{Folder, Program, get, request, tool, yaml};

/// A running Alertmanager.
pub(crate) struct Alertmanager {
    program: Program,
    /// Where it listens, `host:port`.
    pub(crate) address: String,
    _folder: Folder,
}

impl Alertmanager {
    /// Starts one with `config`, which [`shipped`] makes.
    pub(crate) fn start(config: &Value) -> Self {
        let folder = Folder::new("alertmanager");
        let config = folder.write("alertmanager.yml", &config.to_string());
        let arguments = [
            format!("--config.file={config}"),
            format!("--storage.path={}", folder.path("data").display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            "--cluster.listen-address=".to_owned(),
        ];
        let log = folder.path("log");
        let path = tool("alertmanager", "alertmanager");
        let (program, address) = Program::start(&path, &arguments, &[], log, super::prometheus::listening);
        Self { program, address, _folder: folder }
    }

    /// Posts alerts as whoever fires them does.
    pub(crate) fn push(&self, alerts: &[Value]) {
        let body = Value::from(alerts).to_string();
        let answer = request(&self.address, "POST", "/api/v2/alerts", "Content-Type: application/json\r\n", &body);
        assert_eq!(answer.status, 200, "{}\n{}", answer.body, self.program.log());
    }

    /// The labels of each alert that it holds.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let alerts = get(&self.address, "/api/v2/alerts").json();
        alerts.as_array().unwrap().iter().map(|alert| alert["labels"].clone()).collect()
    }
}

/// The shipped configuration with what a test has to replace: the webhooks, which are those of `slack` (the path is the
/// receiver's name), and the waits before a first message, which last a second. What has no receiver gets one.
pub(crate) fn shipped(slack: &SlackStandIn, urls: &Folder) -> Value {
    let mut config = yaml("monitoring/alertmanager.yaml");
    for route in config["route"]["routes"].as_array_mut().unwrap() {
        route["group_wait"] = "1s".into();
    }
    config["route"]["group_wait"] = "1s".into();
    config["route"]["group_by"] = json!(["alertname", "cluster"]);
    for receiver in config["receivers"].as_array_mut().unwrap() {
        let name = receiver["name"].as_str().unwrap().to_owned();
        let file = urls.write(&name, &slack.url(&format!("/{name}")));
        if receiver["slack_configs"].is_null() {
            receiver["slack_configs"] = json!([{"text": "{{ .CommonLabels.cluster }}"}]);
        }
        receiver["slack_configs"][0]["api_url_file"] = file.into();
    }
    config
}
