//! `spotwarden migrate`: its table against the facts about the other side, its page against its table, and the binary.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use spotwarden::migrate::table::{Row, rows};
use spotwarden::migrate::template;

const PAGE: &str = "docs/migrate-from-nth.md";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn golden(name: &str) -> String {
    path("tests/golden/nth").join(name).to_string_lossy().into_owned()
}

#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn is_updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn migrate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spotwarden")).env_clear().arg("migrate").args(arguments).output().unwrap()
}

fn with_stdin(arguments: &[&str], text: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotwarden"));
    command.env_clear().arg("migrate").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Paths and values of everything that is no mapping, or that the table takes as a whole.
fn leaves(value: &Value, at: &str, known: &BTreeMap<&str, Row>, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(entries) if !known.contains_key(at) => {
            for (key, value) in entries {
                let below = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                leaves(value, &below, known, out);
            }
        }
        value => _ = out.insert(at.to_owned(), value.clone()),
    }
}

#[test]
fn the_table_has_every_value_of_nths_chart_with_its_default_and_no_other() {
    let known: BTreeMap<&str, Row> = rows().into_iter().map(|row| (row.key, row)).collect();
    let chart: Value = serde_saphyr::from_str(&read("tests/golden/nth/values.yaml")).unwrap();
    let mut theirs = BTreeMap::new();
    leaves(&chart, "", &known, &mut theirs);
    let ours = known.values().filter(|row| row.key != row.key.to_uppercase());
    let ours: BTreeMap<String, Value> = ours.map(|row| (row.key.to_owned(), row.default.clone())).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn the_table_has_every_variable_of_nths_binary_but_those_that_nobody_chooses() {
    let plumbing = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "NAMESPACE", "NODE_NAME", "POD_NAME"];
    let all = read("tests/golden/nth/env.txt");
    let theirs: BTreeSet<&str> =
        all.lines().filter(|line| !line.starts_with('#') && !plumbing.contains(line)).collect();
    let ours: BTreeSet<&str> = rows().iter().filter_map(|row| row.env).collect();
    assert_eq!(ours, theirs);
}

/// The rows of the page's table.
fn page_rows() -> String {
    let mut out = String::new();
    for row in rows() {
        let code = |cell: &str| if cell.is_empty() { String::new() } else { format!("`{cell}`") };
        let default = row.default.to_string();
        let shown = if default.len() > 60 { "see the chart".to_owned() } else { code(&default) };
        let (env, ours) = (code(row.env.unwrap_or_default()), code(row.ours.unwrap_or_default()));
        let cells = [code(row.key), env, shown, row.fate.as_str().to_owned(), ours, row.note.to_owned()];
        writeln!(
            out,
            "| {} |",
            cells.map(|cell| cell.trim().to_owned()).join(" | ").replace("|  |", "| |").replace("|  |", "| |")
        )
        .unwrap();
    }
    out
}

/// Puts `new` between the two marks of the page, or compares.
fn compare_page(from: &str, to: &str, new: &str) {
    let page = read(PAGE);
    let start = page.find(from).unwrap_or_else(|| panic!("{PAGE} has no {from:?}")) + from.len();
    let end = start + page[start..].find(to).unwrap();
    if is_updating() {
        std::fs::write(path(PAGE), format!("{}{new}{}", &page[..start], &page[end..])).unwrap();
    } else {
        assert_eq!(&page[start..end], new, "UPDATE_GOLDEN=1 cargo test --test it migrate -- --test-threads 1");
    }
}

#[test]
fn the_page_shows_the_table_and_a_comparison() {
    compare_page(
        "| NTH | variable | its default | here | becomes | to know |\n| --- | --- | --- | --- | --- | --- |\n",
        "\n## ",
        &page_rows(),
    );
    let output = migrate(&["--nth-log", &golden("console.log"), "--spotwarden-log", &golden("spotwarden.plain.log")]);
    assert_eq!(output.status.code(), Some(0));
    let indented: String = text(&output.stdout)
        .trim_end()
        .lines()
        .map(|line| format!("   {line}"))
        .map(|l| l.trim_end().to_owned() + "\n")
        .collect();
    compare_page("compared by a test. -->\n\n   ```text\n", "   ```\n", &indented);
}

#[test]
fn the_page_has_a_row_for_each_field_of_a_template() {
    let page = read(PAGE);
    for (theirs, ours) in template::FIELDS {
        let cell = ours.map_or_else(|| "none".to_owned(), |ours| format!("`{{{{{ours}}}}}`"));
        let row = format!("| `{{{{ .{theirs} }}}}` | {cell} |");
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn the_pages_name_metrics_scenarios_and_flags_that_there_are() {
    let metrics = read("docs/metrics.md");
    for page in [PAGE, "docs/faq.md"] {
        let page = read(page);
        let words =
            page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("spotwarden_"));
        for word in words.filter(|word| *word != "spotwarden_") {
            let name = word.trim_end_matches("_bucket");
            assert!(metrics.contains(&format!("| `{name}` |")), "{word}");
        }
        let flags = page.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("--"));
        for flag in flags.map(|code| code.split([' ', '=']).next().unwrap()) {
            let of_run = spotwarden::config::settings::SETTINGS.iter().any(|setting| setting.flag == flag);
            let other = ["values", "beside", "nth-log", "output", "timestamps", "prefix", "manifest"].contains(&flag);
            assert!(of_run || other, "--{flag}");
        }
    }
}

#[test]
fn an_example_becomes_what_is_kept() {
    let output = migrate(&["--values", &golden("example.yaml")]);
    assert_eq!(output.status.code(), Some(3), "something needs a hand");
    // The folder is that of this machine.
    let folder = golden("");
    let shown = text(&output.stdout).replace(&folder, "").split_whitespace().collect::<Vec<_>>().join(" ");
    let kept = golden("example.out.yaml");
    if is_updating() {
        let here = Command::new(env!("CARGO_BIN_EXE_spotwarden"))
            .env_clear()
            .args(["migrate", "--values", "example.yaml"])
            .current_dir(&folder)
            .output()
            .unwrap();
        std::fs::write(&kept, here.stdout).unwrap();
    }
    let kept = std::fs::read_to_string(&kept).unwrap();
    let words = |text: &str| text.replace('#', "").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&shown), words(&kept), "UPDATE_GOLDEN=1 cargo test --test it migrate");
    let json = migrate(&["--values", &golden("example.yaml"), "--output=json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let values: Value = serde_saphyr::from_str(&kept).unwrap();
    assert_eq!((json["values"].clone(), json["needs_a_hand"].clone()), (values, Value::Bool(true)));
    let stray = json["notes"].as_array().unwrap().iter().find(|note| note["kind"] == "unknown").unwrap();
    assert_eq!((stray["key"].as_str(), stray["line"].as_u64()), (Some("ignoreDaemonset"), Some(23)));
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let help = migrate(&["--help"]);
    for word in ["Exit codes: 0", " 3 ", " 1 ", " 64 ", "--beside", "--nth-log", "--manifest"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    let defaults = golden("values.yaml");
    let cases: [(&[&str], i32); 8] = [
        (&["--values", &defaults], 0),
        (&["--values", &defaults, "--values", &golden("example.yaml")], 3),
        (&["--values", "no-such-file.yaml"], 1),
        (&["--values", &golden("console.log")], 1),
        (&["--manifest", &defaults], 1),
        (&["--values", &defaults, "--output", "table"], 64),
        (&["--nth-log", &golden("console.log")], 64),
        (&["--nth-log", &golden("spotwarden.plain.log"), "--spotwarden-log", &golden("console.log")], 1),
    ];
    for (arguments, code) in cases {
        let output = migrate(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        let lines = text(&output.stderr).lines().count();
        assert_eq!((lines, output.stdout.is_empty()), if code == 1 || code == 64 { (1, true) } else { (0, false) });
    }
}

#[test]
fn standard_input_is_read_and_bad_yaml_gives_one_clear_line() {
    let output = with_stdin(&["--values", "-"], "taintNode: true\n");
    assert!(output.status.success() && text(&output.stdout).contains("taintNode: true (stdin:1)"));
    let output = with_stdin(&["--values", "-"], "a: 1\n  b: [\n");
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.starts_with("spotwarden: standard input is not the YAML that Helm reads: line 2"), "{error}");
}

/// Values of NTH and a variable that the chart then sets for the agent.
const RENDERED: [(&str, &str, &str); 12] = [
    ("", "SPOTWARDEN_ON_REBALANCE_RECOMMENDATION", "ignore"),
    ("cordonOnly: true", "SPOTWARDEN_ON_SPOT_INTERRUPTION", "cordon"),
    (
        "taintNode: true\nextraEnv: [{name: TAINT_EFFECT, value: PreferNoSchedule}]",
        "SPOTWARDEN_TAINT_EFFECT",
        "PreferNoSchedule",
    ),
    ("taintNode: true", "SPOTWARDEN_NODE_MARKS", "aws-node-termination-handler"),
    ("webhookURL: https://hooks.slack.com/x", "SPOTWARDEN_SLACK_WEBHOOK_URL_FILE", "/"),
    ("webhookURLSecretName: s", "SPOTWARDEN_WEBHOOK_TEMPLATE_FILE", "/"),
    (
        "webhookURLSecretName: s\nwebhookHeaders: '{\"Content-Type\":\"text/plain\"}'\nwebhookTemplate: '{{ .NodeName }}'",
        "SPOTWARDEN_WEBHOOK_CONTENT_TYPE",
        "text/plain",
    ),
    ("webhookProxy: http://proxy.example.com:3128", "HTTPS_PROXY", "http://proxy.example.com:3128"),
    ("jsonLogging: true\nlogLevel: debug\nprometheusServerPort: 9100", "SPOTWARDEN_LOG_FORMAT", "json"),
    (
        "dryRun: true\ninstanceMetadataURL: http://127.0.0.1:1338",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "http://127.0.0.1:1338",
    ),
    ("extraEnv: [{name: RUST_LOG, value: debug}]", "RUST_LOG", "debug"),
    (
        "{dnsPolicy: ClusterFirst, linuxTolerations: [{operator: Exists}], daemonsetPriorityClassName: x, customLabels: {a: b}, podLabels: {c: d}, \
      podAnnotations: {e: f}, nodeSelector: {g: h}, affinity: {nodeAffinity: {}}, updateStrategy: {type: OnDelete}, dnsConfig: {searches: [i]}, \
      image: {pullPolicy: Always, pullSecrets: [{name: j}]}, serviceAccount: {create: false, name: k, annotations: {l: m}}, \
      useHostNetwork: false, enablePrometheusServer: true, cordonOnly: true}",
        "SPOTWARDEN_ON_ASG_TERMINATION",
        "cordon",
    ),
];

#[test]
fn the_chart_takes_what_comes_out() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("migrated-values");
    std::fs::create_dir_all(&folder).unwrap();
    for (index, (theirs, name, value)) in RENDERED.into_iter().enumerate() {
        for beside in [&[][..], &["--beside"]] {
            let output = with_stdin(&[&["--values", "-"], beside].concat(), theirs);
            assert!(matches!(output.status.code(), Some(0 | 3)), "{theirs}: {}", text(&output.stderr));
            let file = folder.join(format!("{index}.yaml"));
            std::fs::write(&file, &output.stdout).unwrap();
            let helm = Command::new(crate::peers::tool("helm", "helm4"))
                .args([
                    "template",
                    "spotwarden",
                    "chart",
                    "--namespace=spotwarden",
                    "--show-only=templates/daemon-set.yaml",
                    "--values",
                ])
                .arg(&file)
                .env_clear()
                .env("HOME", &folder)
                .current_dir(path(""))
                .output()
                .unwrap();
            assert!(helm.status.success(), "{theirs}: {}\n{}", text(&helm.stderr), text(&output.stdout));
            let set: Value = serde_saphyr::from_str(text(&helm.stdout)).unwrap();
            let container = &set["spec"]["template"]["spec"]["containers"][0];
            let env = |name: &str| {
                let variables = container["env"].as_array().unwrap();
                variables
                    .iter()
                    .find(|one| one["name"] == name)
                    .and_then(|one| one["value"].as_str())
                    .unwrap_or_default()
            };
            assert!(env(name).starts_with(value), "{theirs}: {name} is {:?}", env(name));
            assert!(beside.is_empty() || env("SPOTWARDEN_DRY_RUN") == "true", "{theirs}");
        }
    }
}

#[test]
fn every_value_that_the_table_promises_is_one_of_the_chart() {
    let chart: Value = serde_saphyr::from_str(&read("chart/values.yaml")).unwrap();
    for row in rows() {
        let Some(ours) = row.ours else { continue };
        let at = ours.trim_end_matches(".*").replace('.', "/");
        assert!(chart.pointer(&format!("/{at}")).is_some(), "{}: {ours}", row.key);
    }
}

/// A simulated node without an agent, ended when dropped.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

const INTERRUPTED: &str = "title = \"t\"\n[notice]\nat = 3\n[[pods]]\nname = \"web\"\ncount = 3\ngrace = 10\n\
                           [[pods]]\nname = \"logs\"\nowner = \"DaemonSet\"\n";

/// The formats of the golden logs are those that the agent writes today.
#[test]
#[allow(clippy::disallowed_methods, reason = "the log of the other program is of now")]
fn the_log_of_an_agent_that_runs_now_can_be_compared() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("migrate");
    std::fs::create_dir_all(&folder).unwrap();
    let scenario = folder.join("compared.toml");
    std::fs::write(&scenario, INTERRUPTED).unwrap();
    let binary = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotwarden"));
        command.env_clear();
        command
    };
    let mut world = binary()
        .args([
            "simulate",
            "--serve",
            "--without-agent",
            "--speed=1",
            "--imds-address=127.0.0.1:0",
            "--api-address=127.0.0.1:0",
        ])
        .arg("--scenario")
        .arg(&scenario)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(world.stdout.take().unwrap());
    let _world = Served(world);
    let mut after = |mark: &str| loop {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the world ended without {mark}");
        if let Some((_, rest)) = line.split_once(mark) {
            return rest.split_whitespace().next().unwrap().to_owned();
        }
    };
    let imds = after("AWS_EC2_METADATA_SERVICE_ENDPOINT=");
    let api = after("--server=");
    let node = after("  node ");
    let kubeconfig = folder.join("kubeconfig.yaml");
    let config = format!(
        "{{apiVersion: v1, kind: Config, current-context: x, users: [{{name: u, user: {{}}}}], clusters: [{{name: c, cluster: \
         {{server: '{api}'}}}}], contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}"
    );
    std::fs::write(&kubeconfig, config).unwrap();
    let agents = ["plain", "json"].map(|format| {
        let log = folder.join(format!("{format}.log"));
        let agent = binary()
            .args(["run", "--dry-run", "--admin-address=127.0.0.1:0", "--log-format", format])
            .env("NODE_NAME", &node)
            .env("KUBECONFIG", &kubeconfig)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        (Served(agent), log)
    });
    for (agent, log) in agents {
        let written = || std::fs::read_to_string(&log).unwrap();
        let mut patience = 300;
        while !written().contains("drain finished") {
            patience -= 1;
            assert!(patience > 0, "no drain in 30 s: {}", written());
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(agent);
        let nth = folder.join("nth.log");
        let now = jiff::Timestamp::now().strftime("%Y/%m/%d %H:%M:%S").to_string();
        std::fs::write(
            &nth,
            read("tests/golden/nth/console.log").replace("spot-beside", &node).replace("2026/11/21 16:23:20", &now),
        )
        .unwrap();
        let of = |log: &Path| {
            let output = migrate(&[
                "--output=json",
                "--nth-log",
                nth.to_str().unwrap(),
                "--spotwarden-log",
                log.to_str().unwrap(),
            ]);
            let compared: Value = serde_json::from_slice(&output.stdout).unwrap();
            let pairs = compared["pairs"].as_array().unwrap();
            let pair = pairs.iter().find(|pair| !pair["spotwarden"].is_null()).unwrap();
            assert_eq!(pair["nth"]["kind"], "spot-interruption", "{compared:#}");
            pair["spotwarden"].clone()
        };
        let whole = of(&log);
        let cut = folder.join("cut.log");
        let kept: Vec<String> =
            written().lines().filter(|line| !line.contains("interruption report")).map(str::to_owned).collect();
        std::fs::write(&cut, kept.join("\n")).unwrap();
        for own in [whole, of(&cut)] {
            assert_eq!((own["node"].as_str(), own["dry_run"].as_bool()), (Some(node.as_str()), Some(true)), "{own:#}");
            assert_eq!(own["pods"].as_array().unwrap().len(), 3, "{own:#}");
            for moment in ["seen", "fenced", "first_eviction", "event"] {
                assert!(own[moment].is_string(), "{moment}: {own:#}");
            }
        }
    }
}
