//! What the decisions and a reading of ipamd cost, and what a simulated world costs: measured in this process, on one core.
//!
//! Built with optimisation and for the release's own target, whose allocator is part of the cost. Prints one line for
//! each figure, its cells separated by tabs: what, goal, measured, and `met` or `missed`, which is empty without a goal.
//! `make bench` takes the lines into its table.

mod cni;
mod exposition;
mod full_node;
mod machine;
mod pool;
mod replay;
mod series;
mod worlds;

use std::io::Write as _;
use std::process::ExitCode;

/// An error is only told to a person.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// One figure.
struct Row {
    what: String,
    goal: String,
    measured: String,
    /// Absent if there is no goal.
    met: Option<bool>,
}

fn measured() -> Result<Vec<Row>> {
    Ok([exposition::measure()?, machine::measure()?, cni::measure()?, worlds::measure()?]
        .into_iter()
        .flatten()
        .collect())
}

fn main() -> ExitCode {
    // Fails only if there is a provider already, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    match measured() {
        Ok(rows) => {
            let mut out = std::io::stdout();
            for Row { what, goal, measured, met } in rows {
                let verdict = met.map_or("", |met| if met { "met" } else { "missed" });
                // Nothing can be done about a reader that is gone.
                _ = writeln!(out, "{what}\t{goal}\t{measured}\t{verdict}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            _ = writeln!(std::io::stderr(), "decisions: {error}");
            ExitCode::FAILURE
        }
    }
}
