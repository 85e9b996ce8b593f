//! What the decisions cost, from the program that measures them in its own, optimised process.

use std::process::Command;

use crate::Result;
use crate::lab::Lab;
use crate::report::Row;

pub(crate) async fn measure(lab: &Lab) -> Result<Vec<Row>> {
    let mut command = Command::new(&lab.decisions);
    // It takes half a minute; the one thread here stays free.
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    String::from_utf8(output.stdout)?.lines().map(row).collect()
}

/// What, goal, measured and the verdict, separated by tabs.
fn row(line: &str) -> Result<Row> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [what, goal, measured, verdict] = cells.as_slice() else {
        return Err(format!("four cells are expected: `{line}`").into());
    };
    let met = match *verdict {
        "met" => Some(true),
        "missed" => Some(false),
        "" => None,
        other => return Err(format!("`{other}` is no verdict: `{line}`").into()),
    };
    Ok(Row {
        what: (*what).to_owned(),
        goal: (*goal).to_owned(),
        measured: (*measured).to_owned(),
        // It has no part that could be measured alone.
        incumbent: "–",
        met,
    })
}
