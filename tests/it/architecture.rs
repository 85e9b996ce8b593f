//! The borders that the module tree promises: decisions are pure, and only `simulate` knows the simulators.
//!
//! The compiler cannot refuse these imports, so the sources are read. What is inside `#[cfg(test)]` does not count.

mod source;

use std::path::{Path, PathBuf};

use source::{Mention, mentions, test_modules};

/// The modules that decide: functions of (state, input, time). `signal` declares what they decide about.
const PURE: &[&str] = &[
    "interruption",
    "drain",
    "identity",
    "signal",
    "cni::advice",
    "cni::alarm",
    "cni::cause",
    "cni::counters",
    "cni::departure",
    "cni::document",
    "cni::drift",
    "cni::exposition",
    "cni::forecast",
    "cni::growth",
    "cni::limits",
    "cni::model",
    "cni::node",
    "cni::pool",
    "cni::settings",
    "cni::source",
    "cni::subnet",
    "cni::taint",
    "cni::warm",
    "notify::alertmanager",
    "notify::delivery",
    "notify::facts",
    "notify::plan",
    "notify::slack",
    "notify::turn",
    "notify::webhook",
    "otlp::names",
    "otlp::schedule",
    "trace::spans",
    "report::find",
    "report::svg",
    "report::table",
    "report::words",
];

/// The modules that may name the simulators: the command that shows them, and where the tree is declared.
const KNOW_SIMULATORS: [&str; 4] = ["lib", "main", "cli", "simulate"];

/// What a pure module may take from the rest of the crate: itself, and plain values.
const PURE_MAY_USE: [&str; 9] = [
    "crate::clock::Now",
    "crate::config",
    "crate::drain",
    "crate::imds::documents::Identity",
    "crate::imds::documents::network",
    "crate::identity",
    "crate::interruption",
    "crate::k8s::node",
    "crate::signal",
];

/// Crates that pure modules may use. Everything else reaches a socket, a task or the outside in some way.
const PURE_CRATES: [&str; 10] =
    ["alloc", "backon", "core", "jiff", "opentelemetry_proto", "ring", "serde", "serde_json", "std", "thiserror"];

/// Parts of the standard library that are not plain computation.
const IMPURE_STD: [&str; 9] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync::mpsc",
    "std::thread",
    "std::time::SystemTime",
];

/// Words that have no place in a pure module, wherever they stand.
const IMPURE_WORDS: [&str; 9] =
    ["async", "await", "broadcast", "eprintln", "kube", "mpsc", "oneshot", "println", "tracing"];

/// Every crate that the manifest names, as paths spell it.
fn crates() -> Vec<String> {
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().expect("Cargo.toml is TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    dependencies
        .keys()
        .map(|name| name.replace('-', "_"))
        .chain(["std".into(), "core".into(), "alloc".into()])
        .collect()
}

/// Why a pure module must not say this; `None` if it may.
fn impure(mention: &Mention, crates: &[String]) -> Option<&'static str> {
    let path = mention.path.as_str();
    let root = path.split("::").next().unwrap_or(path);
    if IMPURE_WORDS.iter().any(|word| path.split("::").any(|segment| segment == *word)) {
        return Some("waits, prints, traces or talks to others");
    }
    if path.ends_with("::now") {
        return Some("reads a clock; time is an argument");
    }
    if root == "tokio" {
        let value = ["tokio::time::Instant", "tokio::time::Duration"].iter().any(|allowed| within(path, allowed));
        return (!value).then_some("of tokio only time::Instant and time::Duration are values");
    }
    if IMPURE_STD.iter().any(|part| within(path, part)) || within(path, "std::time::Instant") {
        return Some("reaches the machine");
    }
    if root == "crate" && path != "crate" {
        // A grouped or aliased import of a parent (`use crate::k8s;`) could hide anything below it.
        let inside = path.strip_prefix("crate::").unwrap_or(path);
        let known =
            PURE_MAY_USE.iter().any(|allowed| within(path, allowed)) || PURE.iter().any(|pure| within(inside, pure));
        return (!known).then_some("only plain values of other modules are at hand here");
    }
    let names_crate = (mention.imported || root != path) && crates.iter().any(|name| name == root);
    (names_crate && !PURE_CRATES.contains(&root)).then_some("does more than compute")
}

/// `path` is `parent` or below it.
fn within(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `crate::sim` from anywhere, also through the library's name.
fn names_simulators(mention: &Mention) -> bool {
    within(&mention.path, "crate::sim") || within(&mention.path, "spotwarden::sim")
}

/// One file of `src` with the name of the module that it holds, `interruption::fence` say.
struct Module {
    name: String,
    file: PathBuf,
}

impl Module {
    fn is_pure(&self) -> bool {
        PURE.iter().any(|pure| within(&self.name, pure))
    }

    fn top(&self) -> &str {
        self.name.split("::").next().unwrap_or(&self.name)
    }

    fn mentions(&self) -> Vec<Mention> {
        mentions(&std::fs::read_to_string(&self.file).expect("a readable source"), &self.name)
    }
}

/// Every module that is compiled into the agent: not those which their parent declares under `#[cfg(test)]`.
fn modules() -> Vec<Module> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let file = entry.expect("a readable entry").path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                let below = file.strip_prefix(&src).expect("below src").with_extension("");
                let name = below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("::");
                found.push(Module { name, file });
            }
        }
    }
    let tests: Vec<String> = found
        .iter()
        .flat_map(|parent| {
            let source = std::fs::read_to_string(&parent.file).expect("a readable source");
            let children = test_modules(&source).into_iter();
            children.map(|child| if is_root(&parent.name) { child } else { format!("{}::{child}", parent.name) })
        })
        .collect();
    found.retain(|module| !tests.iter().any(|test| within(&module.name, test)));
    found
}

fn is_root(module: &str) -> bool {
    matches!(module, "lib" | "main")
}

fn complaints(modules: &[Module], judge: impl Fn(&Mention) -> Option<&'static str>) -> Vec<String> {
    let mut complaints = Vec::new();
    for module in modules {
        for mention in module.mentions() {
            if let Some(why) = judge(&mention) {
                complaints.push(format!("{}:{}: `{}`: {why}", module.file.display(), mention.line, mention.path));
            }
        }
    }
    complaints
}

#[test]
fn decisions_touch_no_socket_clock_task_or_log() {
    let crates = crates();
    let pure: Vec<Module> = modules().into_iter().filter(Module::is_pure).collect();
    for name in PURE {
        assert!(pure.iter().any(|module| module.name == *name), "src/{name}.rs is gone: name its successor in PURE");
    }
    let complaints = complaints(&pure, |mention| impure(mention, &crates));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_module_of_the_agent_names_the_simulators() {
    let agent: Vec<Module> = modules()
        .into_iter()
        .filter(|module| module.top() != "sim" && !KNOW_SIMULATORS.contains(&module.top()))
        .collect();
    assert!(agent.len() > PURE.len(), "the sources were not found");
    let complaints = complaints(&agent, |mention| {
        names_simulators(mention).then_some("the agent must not know that it is simulated")
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn what_a_pure_module_may_not_say_is_recognised() {
    let crates = crates();
    let refused = |source: &str| {
        let found = mentions(source, "interruption::machine");
        found.iter().filter(|mention| impure(mention, &crates).is_some()).map(|m| m.path.clone()).collect::<Vec<_>>()
    };
    for source in [
        "use kube::Api;",
        "use kube as k;",
        "use reqwest::Client;",
        "fn f(r: hyper::Request<()>) {}",
        "use tokio::sync::mpsc;",
        "use tokio::{sync::watch, time::Instant};",
        "use tokio::time::{Instant, sleep};",
        "use tokio::time::{self, Instant};",
        "fn f() { let t = tokio::time::Instant::now(); }",
        "use tokio::time::Instant; fn f() { let t = Instant::now(); }",
        "fn f() { jiff::Timestamp::now() }",
        "use std::{env, fmt};",
        "use std::time::SystemTime;",
        "fn f() { std::env::var(\"A\") }",
        "async fn f() {}",
        "fn f() { tracing::info!(\"x\") }",
        "use crate::agent::Agent;",
        "use crate::k8s;",
        "use super::super::metrics::Metrics;",
        "use crate::clock::Clock;",
        "use crate::sim::World;",
        "use crate::{drain, metrics::Metrics};",
        "use crate::cni;",
        "use crate::cni::client::Client;",
    ] {
        assert!(!refused(source).is_empty(), "not recognised: {source}");
    }
    for source in [
        "use tokio::time::Instant;",
        "use tokio::time::{Duration, Instant};",
        "use std::time::Duration; use std::collections::{BTreeMap, BTreeSet};",
        "use super::{Effect, Input}; use crate::drain::pod::{PodRef, PodView};",
        "use crate::clock::Now; use crate::k8s::node::NodeView; use jiff::Timestamp;",
        "fn f(now: Now) -> Instant { let bytes = now.instant; bytes }",
        "/// Never `tokio::spawn`, `kube::Api` or [`crate::sim`].\nfn f() -> &'static str { \"use kube::Api; async\" } // async",
        "fn f<'a>(x: &'a str) { let c = 'k'; let r = r#\"kube::Api \"quoted\" \"#; }",
        "#[cfg(test)]\nmod tests { use tokio::sync::mpsc; #[tokio::test] async fn f() { if true { } } }",
        "#[cfg(test)]\nuse tokio::sync::mpsc;",
    ] {
        assert_eq!(refused(source), Vec::<String>::new(), "refused without reason: {source}");
    }
}

#[test]
fn modules_for_tests_alone_are_recognised_by_their_declaration() {
    let source = "pub mod agent;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod inline { mod x {} }\nmod state;";
    assert_eq!(test_modules(source), ["tests"]);
}

#[test]
fn the_simulators_are_recognised_behind_every_spelling() {
    for source in [
        "use crate::sim;",
        "use crate::{agent, sim::World};",
        "use super::sim::World;",
        "fn f() { spotwarden::sim::x() }",
    ] {
        assert!(mentions(source, "agent").iter().any(names_simulators), "not recognised: {source}");
    }
    assert!(!mentions("use crate::simulate; use super::simple;", "agent").iter().any(names_simulators));
}
