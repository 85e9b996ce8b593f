//! What a release rests on: one version everywhere, a changelog that tells of it, pins that agree.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy excuses only the functions marked as tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What stands behind `key` at the beginning of a line.
fn value_of(text: &str, key: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("(no such line)");
    value.trim().trim_matches('"').to_owned()
}

/// Files that are written by hand, below `folder`.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), ".git" | "target" | "dist") {
                    folders.push(path);
                }
            } else if [".md", ".yaml", ".yml", ".sh", ".txt", ".tpl", "Dockerfile", "Makefile"]
                .iter()
                .any(|ending| name.ends_with(ending))
            {
                found.push(path);
            }
        }
    }
    found
}

/// The versions that a text gives the image or the chart, as in `spotwarden:1.2.3`.
fn image_versions(text: &str) -> Vec<String> {
    let behind = text.split("spotwarden:").skip(1).map(|rest| rest.strip_prefix('v').unwrap_or(rest));
    let word =
        |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric() && !".-".contains(c)).next().map(str::to_owned);
    let versions = behind.filter_map(word).map(|word| word.trim_end_matches(['.', '-']).to_owned());
    versions.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.matches('.').count() > 1).collect()
}

/// Every place of the tree that states the version, with what it states.
fn stated(tree: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut add = |place: &str, version: &str| found.insert(place.to_owned(), version.to_owned());
    let manifest: toml::Table = read(&tree.join("Cargo.toml")).parse().unwrap();
    add("Cargo.toml", manifest["package"]["version"].as_str().unwrap_or_default());
    let lock: toml::Table = read(&tree.join("Cargo.lock")).parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let own = packages.iter().find(|package| package["name"].as_str() == Some("spotwarden")).unwrap();
    add("Cargo.lock", own["version"].as_str().unwrap_or_default());
    add("Dockerfile ARG VERSION", &value_of(&read(&tree.join("Dockerfile")), "ARG VERSION="));
    let kustomization = yaml(&tree.join("manifests/base/kustomization.yaml"));
    add("manifests/base/kustomization.yaml newTag", kustomization["images"][0]["newTag"].as_str().unwrap_or_default());
    let chart = yaml(&tree.join("chart/Chart.yaml"));
    for key in ["version", "appVersion"] {
        add(&format!("chart/Chart.yaml {key}"), chart[key].as_str().unwrap_or_default());
    }
    let changelog = read(&tree.join("CHANGELOG.md"));
    let newest =
        sections(&changelog).into_iter().map(|section| section.version).find(|version| version != "Unreleased");
    add("CHANGELOG.md, newest section", &newest.unwrap_or_default());
    for page in pages(tree) {
        for (number, line) in read(&page).lines().enumerate() {
            for version in image_versions(line) {
                let page = page.strip_prefix(tree).unwrap_or(&page).display();
                add(&format!("{page}:{}", number + 1), &version);
            }
        }
    }
    found
}

/// The places that state another version than Cargo.toml does.
fn disagreements(tree: &Path) -> Vec<String> {
    let stated = stated(tree);
    let version = stated["Cargo.toml"].clone();
    stated
        .into_iter()
        .filter(|(_, other)| *other != version)
        .map(|(place, other)| format!("{place}: {other}"))
        .collect()
}

struct Section {
    version: String,
    date: Option<String>,
    /// Headings of the third level, in their order.
    groups: Vec<String>,
    entries: usize,
}

fn sections(changelog: &str) -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    for line in changelog.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let (version, date) = match heading.split_once(" - ") {
                Some((version, date)) => (version, Some(date.to_owned())),
                None => (heading, None),
            };
            let version = version.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or("(no brackets)");
            found.push(Section { version: version.to_owned(), date, groups: Vec::new(), entries: 0 });
        } else if let Some(section) = found.last_mut() {
            section.groups.extend(line.strip_prefix("### ").map(str::to_owned));
            section.entries += usize::from(line.starts_with("- "));
        }
    }
    found
}

/// Major, minor, patch, and whether it is no pre-release, which comes before.
fn precedence(version: &str) -> Option<(u64, u64, u64, bool)> {
    let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
    let mut parts = core.split('.').map(str::parse);
    let core = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    parts.next().is_none().then_some((core.0, core.1, core.2, pre.is_none()))
}

/// What is against <https://keepachangelog.com/en/1.1.0/>.
fn misshapen(changelog: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let sections = sections(changelog);
    if sections.first().map(|section| section.version.as_str()) != Some("Unreleased") {
        complaints.push("the first section is not [Unreleased]".to_owned());
    }
    for (place, section) in sections.iter().enumerate() {
        let version = &section.version;
        let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
        let places: Vec<Option<usize>> =
            section.groups.iter().map(|group| kinds.iter().position(|kind| kind == group)).collect();
        if places.contains(&None) || !places.is_sorted_by(|a, b| a < b) {
            complaints.push(format!("[{version}]: groups are {:?}; known, in this order: {kinds:?}", section.groups));
        }
        if place == 0 {
            continue;
        }
        if precedence(version).is_none() {
            complaints.push(format!("[{version}] is no version"));
        }
        if place > 1 && sections.get(place - 1).is_some_and(|newer| precedence(&newer.version) <= precedence(version)) {
            complaints.push(format!("[{version}] stands below an older one"));
        }
        if section.date.as_deref().is_none_or(|date| date.parse::<jiff::civil::Date>().is_err()) {
            complaints.push(format!("[{version}] has no date like 2026-01-31"));
        }
        if section.entries == 0 {
            complaints.push(format!("[{version}] says nothing"));
        }
    }
    complaints
}

#[test]
fn the_version_is_the_same_everywhere() {
    assert_eq!(disagreements(root()), Vec::<String>::new());
    let places = stated(root());
    assert!(places.keys().any(|place| place.starts_with("Dockerfile:")), "{places:?}");
}

#[test]
fn the_changelog_keeps_its_shape() {
    assert_eq!(misshapen(&read(&root().join("CHANGELOG.md"))), Vec::<String>::new());
}

#[test]
fn a_changelog_out_of_shape_is_noticed() {
    let entry = "\n### Added\n\n- Something.\n";
    let good = format!(
        "# Changelog\n\n## [Unreleased]\n\n## [1.10.0] - 2026-02-01\n{entry}\n## [1.9.0] - 2026-01-31\n{entry}"
    );
    assert_eq!(misshapen(&good), Vec::<String>::new());
    for (from, to, complaint) in [
        ("## [Unreleased]\n", "", "the first section"),
        ("[1.10.0] - 2026-02-01", "[1.10.0]", "no date"),
        ("[1.10.0] - 2026-02-01", "[1.10.0] - 2026-02-31", "no date"),
        ("[1.10.0]", "[1.8.0]", "stands below"),
        ("[1.10.0]", "1.10.0", "no version"),
        ("[1.10.0]", "[1.10]", "no version"),
        ("### Added", "### New", "groups are"),
        ("### Added", "### Fixed\n\n- A.\n\n### Added", "groups are"),
        ("- Something.", "", "says nothing"),
    ] {
        let bad = misshapen(&good.replacen(from, to, 1));
        assert!(bad.iter().any(|found| found.contains(complaint)), "{from} -> {to}: {bad:?}");
    }
}

#[test]
fn versions_in_commands_are_found() {
    assert_eq!(
        image_versions("docker build -t spotwarden:0.1.0 . # and x/spotwarden:v1.2.3-rc.1."),
        ["0.1.0", "1.2.3-rc.1"]
    );
    assert_eq!(image_versions("spotwarden:<version>, spotwarden:9808, spotwarden: 1.2.3"), Vec::<String>::new());
}

/// The files that `.ci/version` reads and writes, and the pages that it looks through, in a folder of their own.
fn copy_of_the_tree(name: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("release-{name}"));
    let _ = std::fs::remove_dir_all(&copy);
    let more = ["Cargo.toml", "Cargo.lock", ".ci/version"].map(|file| root().join(file));
    for file in pages(root()).into_iter().chain(more) {
        let to = copy.join(file.strip_prefix(root()).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&file, &to).unwrap();
    }
    copy
}

/// Runs `.ci/version` of the copy; what it printed on either stream, and whether it succeeded.
fn version(tree: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("bash").arg(tree.join(".ci/version")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_new_version_reaches_every_place() {
    let tree = copy_of_the_tree("set");
    let changelog = tree.join("CHANGELOG.md");
    let text = read(&changelog);
    let (head, rest) = text.split_once("## [Unreleased]\n").unwrap();
    let (_, released) = rest.split_once("\n## [").unwrap();
    let entry = "### Added\n\n- A thing of note.\n";
    std::fs::write(&changelog, format!("{head}## [Unreleased]\n\n{entry}\n## [{released}")).unwrap();
    let (success, output) = version(&tree, &["set", "7.8.9"]);
    assert!(success, "{output}");
    let stated = stated(&tree);
    assert!(stated.values().all(|version| version == "7.8.9"), "{stated:?}");
    assert_eq!(stated.len(), self::stated(root()).len());
    assert_eq!(version(&tree, &[]), (true, "7.8.9\n".into()));
    let (_, notes) = version(&tree, &["notes", "7.8.9"]);
    assert_eq!(notes, entry);
    assert_eq!(misshapen(&read(&changelog)), Vec::<String>::new());
    // Unreleased is empty now.
    let (success, output) = version(&tree, &["set", "7.9.0"]);
    assert!(!success && output.contains("nothing under Unreleased"), "{output}");
}

#[test]
fn what_is_no_version_is_refused() {
    let tree = copy_of_the_tree("refused");
    for wrong in ["v1.2.3", "1.2", "1.2.3.4", "01.2.3", "latest", "1.2.3 "] {
        let (success, output) = version(&tree, &["set", wrong]);
        assert!(!success && output.contains("is not a version like 1.2.3"), "{wrong}: {output}");
    }
    assert_eq!(disagreements(&tree), Vec::<String>::new());
}

/// Each place by itself, so that none is compared with nothing.
#[test]
fn a_place_that_was_forgotten_is_noticed() {
    let version = env!("CARGO_PKG_VERSION");
    let edits = [
        (
            "Cargo.lock",
            format!("name = \"spotwarden\"\nversion = \"{version}\""),
            "name = \"spotwarden\"\nversion = \"9.9.9\"".to_owned(),
        ),
        ("Dockerfile", format!("ARG VERSION={version}"), "ARG VERSION=9.9.9".into()),
        ("manifests/base/kustomization.yaml", format!("newTag: {version}"), "newTag: 9.9.9".into()),
        ("CHANGELOG.md", format!("## [{version}]"), "## [9.9.9]".into()),
        ("Dockerfile", format!("spotwarden:{version}"), "spotwarden:9.9.9".into()),
        ("chart/Chart.yaml", format!("\nversion: {version}"), "\nversion: 9.9.9".into()),
        ("chart/Chart.yaml", format!("\nappVersion: {version}"), "\nappVersion: 9.9.9".into()),
    ];
    for (file, from, to) in edits {
        let tree = copy_of_the_tree("forgotten");
        let text = read(&tree.join(file));
        assert!(text.contains(&from), "{file} has no {from}");
        std::fs::write(tree.join(file), text.replacen(&from, &to, 1)).unwrap();
        let found = disagreements(&tree);
        assert!(found.len() == 1 && found[0].starts_with(file) && found[0].ends_with("9.9.9"), "{file}: {found:?}");
    }
}

/// What a workflow does that it had better not.
fn risks(workflow: &str) -> Vec<String> {
    let document: Value = serde_saphyr::from_str(workflow).unwrap();
    let mut complaints = Vec::new();
    if document["permissions"].as_object().is_none_or(|permissions| !permissions.is_empty()) {
        complaints.push("permissions are not {} at the top, to be raised job by job".to_owned());
    }
    if !document["concurrency"].is_object() {
        complaints.push("no concurrency group".to_owned());
    }
    for (name, job) in document["jobs"].as_object().unwrap() {
        if !job["permissions"].is_object() {
            complaints.push(format!("{name}: no permissions of its own"));
        }
        if !job["timeout-minutes"].is_u64() && !job["uses"].is_string() {
            complaints.push(format!("{name}: no timeout"));
        }
        for step in job["steps"].as_array().into_iter().flatten() {
            let checkout = step["uses"].as_str().is_some_and(|action| action.starts_with("actions/checkout@"));
            if checkout && step["with"]["persist-credentials"] != false {
                complaints.push(format!("{name}: checkout leaves the token behind"));
            }
            // An expression would be pasted into the script before the shell reads it.
            if step["run"].as_str().is_some_and(|script| script.contains("${{")) {
                complaints.push(format!("{name}: an expression in a script; hand it over in env"));
            }
        }
    }
    for line in workflow.lines() {
        let Some((_, action)) = line.split_once("uses: ") else { continue };
        let (name, pin) = action.split_once('@').unwrap_or((action, ""));
        let (commit, version) = pin.split_once(" # v").unwrap_or((pin, ""));
        let pinned = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fixed = pinned && precedence(version).is_some();
        if !fixed && !name.starts_with("./") {
            complaints.push(format!("{action}: not pinned as <commit> # v1.2.3"));
        }
    }
    complaints
}

fn workflows() -> Vec<String> {
    let folder = std::fs::read_dir(root().join(".github/workflows")).unwrap();
    folder.map(|entry| read(&entry.unwrap().path())).collect()
}

#[test]
fn workflows_have_least_rights_limits_and_pins() {
    assert_eq!(workflows().len(), 2);
    for workflow in workflows() {
        assert_eq!(risks(&workflow), Vec::<String>::new());
    }
}

#[test]
fn an_action_has_one_pin() {
    let mut pins: BTreeMap<String, String> = BTreeMap::new();
    for workflow in workflows() {
        for action in workflow.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, action)| action) {
            let Some((name, pin)) = action.split_once('@') else { continue };
            let first = pins.entry(name.to_owned()).or_insert_with(|| pin.to_owned());
            assert_eq!(first, pin, "{name}");
        }
    }
    assert!(pins.len() > 5, "{pins:?}");
}

#[test]
fn a_careless_workflow_is_noticed() {
    let good = read(&root().join(".github/workflows/test.yaml"));
    assert_eq!(risks(&good), Vec::<String>::new());
    let commit = good.split_once("actions/checkout@").unwrap().1.split(' ').next().unwrap();
    for (from, to, complaint) in [
        ("\npermissions: {}\n", "\npermissions: write-all\n", "permissions are not {}"),
        ("\npermissions: {}\n", "\npermissions: {contents: write}\n", "permissions are not {}"),
        ("\nconcurrency:\n", "\nenv:\n", "no concurrency"),
        ("    timeout-minutes: 150\n", "", "no timeout"),
        ("    permissions:\n      contents: read\n", "", "no permissions of its own"),
        ("persist-credentials: false", "fetch-depth: 1", "leaves the token behind"),
        ("run: bash .ci/run", "run: bash .ci/run ${{ github.head_ref }}", "an expression in a script"),
        (commit, "v7", "not pinned"),
        (" # v7.0.1", "", "not pinned"),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = risks(&good.replacen(from, to, 1));
        assert!(bad.len() == 1 && bad[0].contains(complaint), "{from}: {bad:?}");
    }
}
