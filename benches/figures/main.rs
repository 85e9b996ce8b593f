//! `make bench`: what the release binary takes and gives, measured against a real control plane, in real time.
//!
//! The agent is a process of its own with the rights of `manifests/base`; IMDS and the kubelet are the simulated ones and
//! run here. Nothing is judged but what can be seen from outside: the API server's audit log, what IMDS was asked,
//! `/proc`, and what became of the pods. What can only be measured inside a process is, by the program of
//! `benches/decisions`, whose lines are taken in. A goal that is missed is printed as such and is no failure; the exit code says
//! whether everything could be measured.
//!
//! This program is not optimised and need not be: what it measures are other processes.

mod agent;
mod calls;
#[allow(
    dead_code,
    unused_imports,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper of the tests, of which only a part is needed here"
)]
#[path = "../../tests/it/controlplane.rs"]
mod controlplane;
mod decisions;
mod drain;
mod fence;
mod idle;
mod lab;
mod machine;
mod memory;
mod mixed;
mod outage;
#[path = "../decisions/pool.rs"]
mod pool;
mod report;
mod scraper;
mod stand;
mod telling;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures::future::{LocalBoxFuture, join_all};
use tokio::time::timeout;

use lab::Lab;
use machine::Machine;
use report::Row;

/// An error is only told to a person.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// No figure needs longer; the longest takes two minutes of notice and its preparation.
const LIMIT: Duration = Duration::from_mins(5);

const USAGE: &str =
    "usage: figures --binary FILE --decisions FILE [--write] [NAME…]; `make bench` builds the binaries and calls this";

/// A figure, or several that come out of one run.
struct Figure {
    name: &'static str,
    /// It loads the machine, or is disturbed by load: nothing else runs meanwhile.
    alone: bool,
    measure: for<'a> fn(&'a Lab) -> LocalBoxFuture<'a, Result<Vec<Row>>>,
}

/// In the order in which they are measured; the table keeps it.
const FIGURES: [Figure; 10] = [
    Figure { name: "fence", alone: true, measure: |lab| Box::pin(fence::measure(lab)) },
    Figure { name: "drain-58", alone: true, measure: |lab| Box::pin(drain::measure(lab, &drain::HALF)) },
    Figure { name: "drain-110", alone: true, measure: |lab| Box::pin(drain::measure(lab, &drain::FULL)) },
    Figure { name: "telling", alone: true, measure: |lab| Box::pin(telling::measure(lab)) },
    Figure { name: "size", alone: true, measure: |lab| Box::pin(async { machine::size(&lab.binary) }) },
    Figure { name: "memory", alone: true, measure: |_| Box::pin(async { memory::measure() }) },
    Figure { name: "decisions", alone: true, measure: |lab| Box::pin(decisions::measure(lab)) },
    Figure { name: "idle", alone: false, measure: |lab| Box::pin(idle::measure(lab)) },
    Figure { name: "mixed", alone: false, measure: |lab| Box::pin(mixed::measure(lab)) },
    Figure { name: "outage", alone: false, measure: |lab| Box::pin(outage::measure(lab)) },
];

/// What was asked for.
struct Wanted {
    binary: PathBuf,
    decisions: PathBuf,
    write: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let result = wanted().and_then(|wanted| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(&wanted))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("figures: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> Result<Wanted> {
    let mut arguments = std::env::args().skip(1);
    let mut wanted = Wanted { binary: PathBuf::new(), decisions: PathBuf::new(), write: false, names: Vec::new() };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--binary" => wanted.binary = arguments.next().ok_or(USAGE)?.into(),
            "--decisions" => wanted.decisions = arguments.next().ok_or(USAGE)?.into(),
            "--write" => wanted.write = true,
            name if FIGURES.iter().any(|figure| figure.name == name) => wanted.names.push(argument),
            other => {
                let names = FIGURES.map(|figure| figure.name).join(", ");
                return Err(format!("`{other}` is no figure; there are {names}\n{USAGE}").into());
            }
        }
    }
    for binary in [&wanted.binary, &wanted.decisions] {
        if !binary.is_file() {
            return Err(format!("there is no binary `{}`\n{USAGE}", binary.display()).into());
        }
    }
    if wanted.write && !wanted.names.is_empty() {
        return Err("a page with some of the figures would hide the others: leave the names out, or --write".into());
    }
    Ok(wanted)
}

async fn run(wanted: &Wanted) -> Result<()> {
    let machine = Machine::read()?;
    say(&format!("{machine}\nstarting the control plane …"));
    let lab = Lab::start(wanted.binary.clone(), wanted.decisions.clone()).await?;
    let chosen = |figure: &&Figure| wanted.names.is_empty() || wanted.names.iter().any(|name| name == figure.name);
    let (alone, together): (Vec<_>, Vec<_>) = FIGURES.iter().filter(chosen).partition(|figure| figure.alone);

    let mut results = Vec::new();
    for figure in alone {
        results.push(measure(&lab, figure).await);
    }
    results.extend(join_all(together.into_iter().map(|figure| measure(&lab, figure))).await);

    let failed: Vec<String> = results.iter().filter_map(|result| result.as_ref().err().cloned()).collect();
    let rows: Vec<Row> = results.into_iter().flatten().flatten().collect();
    say(&format!("\n{}", report::table(&rows)));
    if !failed.is_empty() {
        return Err(format!("could not be measured:\n{}", failed.join("\n")).into());
    }
    if wanted.write {
        let page = report::page(&rows, &machine, &lab.versions().await?);
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/figures.md"), page)?;
        say("written to docs/figures.md");
    }
    Ok(())
}

async fn measure(lab: &Lab, figure: &Figure) -> Result<Vec<Row>, String> {
    say(&format!("measuring {} …", figure.name));
    match timeout(LIMIT, (figure.measure)(lab)).await {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error)) => Err(format!("{}: {error}", figure.name)),
        Err(_) => Err(format!("{}: not done within {} s", figure.name, LIMIT.as_secs())),
    }
}

/// Tells the person at the terminal.
fn say(text: &str) {
    // Nothing can be done about a terminal that is gone.
    _ = writeln!(std::io::stdout(), "{text}");
}
