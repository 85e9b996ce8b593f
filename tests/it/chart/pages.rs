//! What is written about the chart: its README, its notes, its versions.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Helm;
use crate::peers::{root, text, tool, yaml};

/// helm-docs writes the README from the comments of values.yaml.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn readme_is_what_the_comments_of_the_values_say() {
    let output = Command::new(tool("helm", "helm-docs"))
        .args(["--chart-search-root=chart", "--sort-values-order=file", "--log-level=warning", "--dry-run"])
        .env_clear()
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let wanted = String::from_utf8(output.stdout).unwrap();
    let wanted = format!("{}\n", wanted.trim_end());
    let path = root().join("chart/README.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let how = "UPDATE_GOLDEN=1 cargo test --test it chart::pages";
    assert!(fs::read_to_string(path).unwrap() == wanted, "chart/README.md is out of date: {how}");
    let rows: Vec<&str> = wanted.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Key")).collect();
    assert!(rows.len() > 120, "{} rows", rows.len());
    let bare: Vec<_> = rows.iter().filter(|row| row.ends_with("|  |")).collect();
    assert!(bare.is_empty(), "values that nothing is said about: {bare:?}");
}

#[test]
fn chart_and_agent_have_the_same_version_and_the_chart_says_what_it_needs() {
    let chart = yaml("chart/Chart.yaml");
    assert_eq!(chart["apiVersion"], "v2");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["kubeVersion"], ">=1.30.0-0");
    let images: Value =
        serde_saphyr::from_str(chart["annotations"]["artifacthub.io/images"].as_str().unwrap()).unwrap();
    assert_eq!(images[0]["image"], format!("spotwarden:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(chart["annotations"]["artifacthub.io/license"], "Apache-2.0");
}

/// The notes that `helm install` prints; without a cluster only a dry run of it does.
fn notes(more: &[&str]) -> String {
    let mut arguments = vec!["install", "spotwarden", "chart", "--namespace=spotwarden", "--dry-run=client"];
    arguments.extend(more);
    // It asks nobody, and wants an address all the same.
    let said = Helm("helm4").run_with(&arguments, &[("KUBECONFIG", "/dev/null")]);
    assert!(said.passed, "{}", said.err);
    said.out.split_once("NOTES:\n").unwrap_or_else(|| panic!("no notes: {}", said.out)).1.to_owned()
}

#[test]
fn the_notes_say_how_to_see_it_work() {
    let plain = notes(&[]);
    for words in [
        "kubectl rollout status daemonset/spotwarden -n spotwarden",
        "helm test spotwarden -n spotwarden --logs",
        "-l app.kubernetes.io/name=spotwarden,app.kubernetes.io/instance=spotwarden",
        "-- /spotwarden check",
        "kubectl get --raw \"/api/v1/namespaces/spotwarden/pods/$POD:9808/proxy/\"",
        "--set dryRun=true",
        "pod-security.kubernetes.io/enforce=privileged",
    ] {
        assert!(plain.contains(words), "{words}: {plain}");
    }
    assert!(!plain.contains("Left out") && !plain.contains("HttpPutResponseHopLimit"), "{plain}");
    let dry = notes(&["--set=dryRun=true,podMonitor.enabled=auto"]);
    assert!(dry.contains("in dry run") && dry.contains("Left out: podMonitor, as this cluster is not known"), "{dry}");
    let pushed = notes(&["--set=otlp.endpoint=http://$(HOST_IP):4318"]);
    assert!(pushed.contains("set\n`metrics.scrapeAnnotations` to false"), "{pushed}");
    let traced = notes(&["--set=otlp.endpoint=http://$(HOST_IP):4318,otlp.metrics.exporter=none"]);
    assert!(!traced.contains("Metrics are pushed") && !plain.contains("Metrics are pushed"), "{traced}");
    let own = notes(&["--set=hostNetwork=false"]);
    assert!(own.contains("HttpPutResponseHopLimit 2") && own.contains("headroom of pod addresses is off"), "{own}");
    assert!(!own.contains("enforce=privileged"), "{own}");
}

/// What docs/install-helm.md shows is what the chart takes.
#[test]
fn every_example_of_values_in_the_page_is_taken() {
    let page = text("docs/install-helm.md");
    let mut blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let mut values = 0;
    for block in blocks.by_ref().filter(|block| !block.contains("apiVersion:")) {
        super::objects(block);
        values += 1;
    }
    assert!(values > 3, "only {values} examples were found");
}
