//! `spotwarden report`: shows the report of an interruption that an agent wrote into its log.

pub mod find;
mod svg;
mod table;
pub(crate) mod words;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::process::ExitCode;

use crate::interruption::account::Account;

/// How the report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// A picture of the time line.
    Svg,
    /// The report itself, for `simulate --replay` and other programs.
    Json,
}

/// What `report` is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A log or a report in JSON; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: String,

    /// How it is shown
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    output: Format,

    /// The beginning of the trace id of one interruption of several; else the last one
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
}

/// A log of more than this is not read at once.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// Which file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The file is too large.
    #[error("{file} has more than {} MiB; give the part of the log with the line `interruption report`", MOST_BYTES >> 20)]
    TooLarge {
        /// Which file.
        file: String,
    },
    /// There is no report in it.
    #[error(
        "{file} has no interruption report; an agent logs one when a drain is finished, at level info: look for the \
         message `interruption report`"
    )]
    None {
        /// Which file.
        file: String,
    },
    /// What there is cannot be used.
    #[error("{file}: {why}")]
    Broken {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// None of the reports is the one that was asked for, or several are.
    #[error("{file} has {matching} reports whose trace id begins with {wanted:?}; there is {there}")]
    Trace {
        /// Which file.
        file: String,
        /// How many.
        matching: usize,
        /// What was asked for.
        wanted: String,
        /// Trace ids.
        there: String,
    },
}

/// Shows what is asked for: 0 if it could be shown, else 1 with one line on standard error.
pub fn main(args: &Args) -> ExitCode {
    let shown = read(&args.file).and_then(|text| show(&args.file, &text, args.output, args.trace.as_deref()));
    match shown {
        Ok((text, others)) => {
            if let Some(others) = others {
                complain(&others);
            }
            // A reader that has gone away has seen enough.
            _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn complain(words: &str) {
    _ = writeln!(io::stderr(), "spotwarden: {words}");
}

/// The text of a file, or of standard input for `-`.
pub fn read(file: &str) -> Result<String, ReportError> {
    let unreadable = |source| ReportError::Unreadable { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = MOST_BYTES + 1;
    let read = if file == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
    };
    if read.map_err(unreadable)? as u64 == limit {
        return Err(ReportError::TooLarge { file: file.to_owned() });
    }
    // A log is not refused for a strange byte somewhere.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The report in `text` whose trace id begins with `trace`, or the last one, and the words for the others.
pub fn choose(file: &str, text: &str, trace: Option<&str>) -> Result<(Account, Option<String>), ReportError> {
    let find::Found { mut accounts, broken } = find::reports(text);
    let file = file.to_owned();
    let ids = |all: &[Account]| all.iter().map(|one| one.trace_id.as_str()).collect::<Vec<_>>().join(", ");
    if let (true, Some(why)) = (accounts.is_empty(), &broken) {
        return Err(ReportError::Broken { file, why: why.clone() });
    }
    if let (Some(wanted), false) = (trace, accounts.is_empty()) {
        let there = ids(&accounts);
        accounts.retain(|one| one.trace_id.starts_with(&wanted.to_ascii_lowercase()));
        if accounts.len() != 1 {
            let (matching, wanted) = (accounts.len(), wanted.to_owned());
            return Err(ReportError::Trace { file, matching, wanted, there });
        }
    }
    let others = (accounts.len() > 1).then(|| {
        format!(
            "{file} has {} interruptions, this is the last; --trace chooses one of {}",
            accounts.len(),
            ids(&accounts)
        )
    });
    let damaged = broken.map(|why| format!("{file}: {why}; this is the last that can be read"));
    accounts.pop().map(|account| (account, others.or(damaged))).ok_or(ReportError::None { file })
}

fn show(file: &str, text: &str, output: Format, trace: Option<&str>) -> Result<(String, Option<String>), ReportError> {
    let (account, others) = choose(file, text, trace)?;
    Ok((rendered(&account, output), others))
}

/// The account as `output` shows it.
pub fn rendered(account: &Account, output: Format) -> String {
    match output {
        Format::Table => table::table(account),
        Format::Svg => svg::svg(account),
        Format::Json => serde_json::to_string_pretty(account).map_or_else(|_| String::new(), |text| text + "\n"),
    }
}

#[cfg(test)]
mod tests;
