//! The table, for the terminal and for `docs/figures.md`.

use std::time::Duration;

use spotwarden::clock::Clock;

use crate::machine::Machine;

/// The incumbent that it is compared with.
const INCUMBENT: &str = "aws-node-termination-handler";

/// One figure.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) goal: String,
    pub(crate) measured: String,
    /// Of aws-node-termination-handler in IMDS mode at commit 62a8761, measured in the same way.
    pub(crate) incumbent: &'static str,
    /// Absent if there is no goal.
    pub(crate) met: Option<bool>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        }
    }
}

/// A Markdown table, in columns that a person can read as they are.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = ["figure", "goal", "measured", "", INCUMBENT].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        [row.what.clone(), row.goal.clone(), row.measured.clone(), row.verdict().into(), row.incumbent.into()]
    });
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(cells).collect();
    let mut widths = [3; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("| {cell:width$} "));
        table.extend(cells.chain(["|\n".to_owned()]));
        if number == 0 {
            table.extend(widths.map(|width| format!("| {:-<width$} ", "")));
            table += "|\n";
        }
    }
    table
}

/// `docs/figures.md`.
pub(crate) fn page(rows: &[Row], machine: &Machine, versions: &str) -> String {
    let date = Clock::System.now().wall.strftime("%Y-%m-%d");
    let missed = rows.iter().filter(|row| row.met == Some(false)).count();
    let version = env!("CARGO_PKG_VERSION");
    let verdict = if missed == 0 { "Every goal is met.".to_owned() } else { format!("Goals missed: {missed}.") };
    format!(
        "# Figures

Written by `make bench WRITE=1` on {date}; not edited by hand. spotwarden {version}, static release binary.

- Machine: {machine}
- Against: {versions}, etcd and the disruption controller on the same machine; IMDS and the kubelet are the simulated ones
- {INCUMBENT}: IMDS mode, commit `62a8761`, measured in the same way

{verdict}

{}
How: each agent is a process with the rights of [manifests/base](../manifests/base/rbac.yaml) and a token bound to its
pod. Times run from the moment at which IMDS first tells the notice to the API server's own time stamps in its audit log:
for the fence when it was acknowledged, for an eviction when it arrived. Calls are counted there too. Memory is `VmRSS`
and `VmHWM` of `/proc/PID/status`, CPU the `schedstat` of all threads; MB are 10⁶ bytes. An agent that idles polls every
signal, in the default intervals, and reads a simulated ipamd.

Decisions are timed in a process of their own, built for the same target, with warm caches: for each input `handle`,
`status` and `next_timeout`, as the agent calls them, the median of 41 passes. The interruption is that of a node with
pods of 30 to 300 s of grace, critical and pinned ones, and eight behind a budget that never gives way; the platform is
polled throughout. An answer of `/metrics` is made there of the state in the middle of that drain and of a full pool of
addresses. Scrapes come from a thread that goes before all others, as from another machine; what the agent had of a core, and
how long it waited for one, is its `schedstat` before and after each. What a reading of ipamd allocates is counted in this program, by its allocator. Forecasts are those of
the agent's own model, reading a simulated ipamd every 21 s, from the fifteenth pod to the fifteenth before the last: pods
come one by one, and their rate is not known closer than by one of them. A world is the agent, the embedded API server, the kubelet and IMDS, in virtual time.
",
        table(rows)
    )
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// The smallest value that `percent` of all do not exceed.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}
