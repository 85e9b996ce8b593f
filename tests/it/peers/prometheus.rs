//! A real Prometheus with the shipped scrape and rules.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

use serde_json::{Value, json};

use super::{Folder, Program, START_LIMIT, eventually, get, percent_encoded, request, tool, yaml};

/// A running Prometheus.
pub(crate) struct Prometheus {
    program: Program,
    /// Where it listens, `host:port`.
    pub(crate) address: String,
    _folder: Folder,
}

impl Prometheus {
    /// Starts one with `config`, which [`shipped`] makes, and the shipped rules, evaluated every second.
    pub(crate) fn start(config: &Value) -> Self {
        let folder = Folder::new("prometheus");
        let mut rules = yaml("monitoring/rules.yaml");
        for group in rules["groups"].as_array_mut().unwrap() {
            group["interval"] = "1s".into();
        }
        folder.write("rules.yaml", &rules.to_string());
        let config = folder.write("prometheus.yml", &config.to_string());
        let arguments = [
            format!("--config.file={config}"),
            format!("--storage.tsdb.path={}", folder.path("data").display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            "--web.enable-otlp-receiver".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        let log = folder.path("log");
        let (program, address) = Program::start(&tool("prometheus", "prometheus"), &arguments, &[], log, listening);
        // It listens before it has read its storage, and refuses until then.
        eventually("the readiness of Prometheus", START_LIMIT, || {
            (request(&address, "GET", "/-/ready", "", "").status == 200).then_some(())
        });
        Self { program, address, _folder: folder }
    }

    /// What the API answers.
    pub(crate) fn api(&self, target: &str) -> Value {
        let answer = get(&self.address, target).json();
        assert_eq!(answer["status"], "success", "{answer}\n{}", self.program.log());
        answer["data"].clone()
    }

    /// The samples that `expression` has now: labels and value.
    pub(crate) fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let data = self.api(&format!("/api/v1/query?query={}", percent_encoded(expression)));
        let samples = data["result"].as_array().unwrap().iter();
        samples
            .map(|sample| (sample["metric"].clone(), sample["value"][1].as_str().unwrap().parse().unwrap()))
            .collect()
    }
}

/// Where Prometheus or Alertmanager says that it listens.
pub(crate) fn listening(line: &str) -> Option<String> {
    let (_, address) = line.split_once("msg=\"Listening on\"")?.1.split_once("address=")?;
    Some(address.split(' ').next()?.to_owned())
}

/// The shipped configuration with what a test has to replace: instead of the API server of Kubernetes, the one target
/// `admin` on the node `node`, with the very labels that discovery would give it; and a scrape each second.
pub(crate) fn shipped(admin: &str, node: &str) -> Value {
    let mut config = yaml("monitoring/prometheus.yaml");
    let scrape = &mut config["scrape_configs"][0];
    undiscovered(scrape, admin, node);
    config
}

/// Replaces discovery in the scrape configuration `scrape`; the relabelings stay and are executed.
pub(crate) fn undiscovered(scrape: &mut Value, admin: &str, node: &str) {
    let discovered = scrape.as_object_mut().unwrap().remove("kubernetes_sd_configs");
    assert_eq!(discovered.unwrap()[0]["role"], "pod");
    scrape["scrape_interval"] = "1s".into();
    scrape["scrape_timeout"] = "1s".into();
    scrape["static_configs"] = json!([{"targets": [admin], "labels": {
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": "spotwarden",
        "__meta_kubernetes_pod_container_port_name": "admin",
        "__meta_kubernetes_pod_node_name": node,
        "__meta_kubernetes_node_label_topology_kubernetes_io_zone": "eu-central-1a",
        "__meta_kubernetes_node_label_node_kubernetes_io_instance_type": "m5.large",
        "__meta_kubernetes_node_label_karpenter_sh_nodepool": "pool",
    }}]);
}
