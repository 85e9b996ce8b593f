//! The report that the README shows is one of a simulated interruption, and stays what comes out of it.

use std::path::Path;

use spotwarden::clock::Clock;
use spotwarden::interruption::account::Account;
use spotwarden::report::{Format, rendered};
use spotwarden::sim::scenario::Scenario;
use spotwarden::sim::world::{BackendHandle, Options, World};

/// A node with a bit of everything.
const SHOWN: &str = r#"
title = "What the README shows"
[notice]
[[pods]]
name = "web"
count = 3
grace = 30
stops_after = 6
[[pods]]
name = "batch"
grace = 90
stops_after = 71
[[pods]]
name = "search"
grace = 300
stops_after = "never"
[[pods]]
name = "queue"
count = 2
grace = 30
stops_after = 18
[[pods]]
name = "db"
grace = 60
stops_after = 22
[[pods]]
name = "logs"
owner = "DaemonSet"
[[budgets]]
name = "queue"
selector = { app = "queue" }
min_available = 2
[[budgets]]
name = "db"
selector = { app = "db" }
min_available = 1
[[events]]
at = 41
budget = { name = "db", min_available = 0 }
"#;

async fn account() -> Account {
    let scenario = Scenario::parse("shop.toml", SHOWN).unwrap();
    let clock = Clock::anchored("2026-03-31T16:32:24.25Z".parse().unwrap());
    let backend = BackendHandle::embedded(clock);
    let mut world = World::open(&scenario, backend, clock, &Options::default()).await.unwrap();
    let report = world.play(|_| {}).await;
    assert!(report.cut_off.is_empty(), "{}", report.text(false));
    (*world.account().unwrap()).clone()
}

/// Polls and pauses are jittered: figures differ from run to run, everything else does not. The order of what is asked for
/// in one moment does not matter either.
fn shape(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let plain = line
                .split_whitespace()
                .map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
            plain.collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

fn write(path: &str, text: &str) {
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), text).unwrap();
}

/// The block of the README behind this line.
const INTRODUCTION: &str = "spotwarden report agent.log\n```\n\n```text\n";

fn shown_in(readme: &str) -> (usize, usize) {
    let from = readme.find(INTRODUCTION).expect("the README shows a report") + INTRODUCTION.len();
    (from, from + readme[from..].find("```").unwrap())
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
async fn the_readme_shows_what_comes_out() {
    let account = account().await;
    let (table, picture) = (rendered(&account, Format::Table), rendered(&account, Format::Svg));
    let mut readme = read("README.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let (from, to) = shown_in(&readme);
        readme.replace_range(from..to, &table);
        write("README.md", &readme);
        write("docs/interruption.svg", &picture);
    }
    let (from, to) = shown_in(&readme);
    let how = "look at it, then UPDATE_GOLDEN=1 cargo test --test it report";
    assert_eq!(shape(&readme[from..to]), shape(&table), "{how}");
    assert_eq!(shape(&read("docs/interruption.svg")), shape(&picture), "{how}");
    assert!(readme.contains("(docs/interruption.svg)"));
}
