//! `spotwarden migrate`: from aws-node-termination-handler (NTH) to here. Its values in ours, and the logs of both compared.

pub mod compare;
pub mod given;
pub mod manifest;
pub mod mapping;
pub mod output;
pub mod read;
pub mod table;
pub mod template;
pub mod tree;
pub mod yaml;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::process::ExitCode;

use self::given::Settings;
use self::mapping::Wish;
use self::tree::Tree;
use crate::cli::USAGE;

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Values for the Helm chart, with comments.
    Helm,
    /// A table of what both did (with --nth-log).
    Table,
    /// One JSON object for machines.
    Json,
}

/// What `migrate` is asked to do.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Values of NTH's Helm chart, or of a chart that has it as a part; `-` reads standard input. More than one are laid
    /// over each other as Helm does, the last one wins
    #[arg(long, value_name = "FILE", required_unless_present_any = ["manifest", "nth_log"], conflicts_with_all = ["manifest", "nth_log"])]
    values: Vec<String>,

    /// A manifest with NTH's DaemonSet, rendered or from `kubectl get daemonset -o yaml`
    #[arg(long, value_name = "FILE", conflicts_with = "nth_log")]
    manifest: Option<String>,

    /// Values for running beside NTH in a dry run
    #[arg(long, conflicts_with = "nth_log")]
    beside: bool,

    /// Compare: the log of NTH, plain or JSON, as `kubectl logs` or a log store gives it; may be given more than once
    #[arg(long, value_name = "FILE", requires = "spotwarden_log")]
    nth_log: Vec<String>,

    /// Compare: the log of the agent that ran beside it; may be given more than once
    #[arg(long, value_name = "FILE", requires = "nth_log")]
    spotwarden_log: Vec<String>,

    /// What comes out: by default helm, and table for a comparison
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// For `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 if the values say it all, or both logs tell of the same announcements; 3 if \
                              something needs a hand, or one log has an announcement that the other has not; 1 if nothing \
                              can be read; 64 if the invocation is wrong.";

/// Exit code of a result that a person has to look at.
const LOOK: u8 = 3;

/// Files of more than this are no values.
const MOST_VALUES: u64 = 4 * 1024 * 1024;
/// A log of more than this is not read at once.
const MOST_LOG: u64 = 64 * 1024 * 1024;

/// Why nothing comes out.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// Which file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The file is too large.
    #[error("{file} has more than {} MiB; give a part of it", limit >> 20)]
    TooLarge {
        /// Which file.
        file: String,
        /// What is read at most.
        limit: u64,
    },
    /// What is in it cannot be used.
    #[error("{} {why}", if file == "-" { "standard input" } else { file })]
    Unusable {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A log is one of something else.
    #[error("{files} has no line of {of}; give its log as `kubectl logs` or a log store gives it")]
    NoLog {
        /// Which files.
        files: String,
        /// Whose log it should be.
        of: &'static str,
    },
    /// The output does not go with the rest.
    #[error("--output {0} does not go with what is asked for: helm is for values, table for logs")]
    Output(&'static str),
}

/// Shows what is asked for.
pub fn main(args: &Args) -> ExitCode {
    match outcome(args) {
        Ok((text, clean)) => {
            // A reader that has gone away has seen enough.
            _ = io::stdout().write_all(text.as_bytes());
            if clean { ExitCode::SUCCESS } else { ExitCode::from(LOOK) }
        }
        Err(error) => {
            _ = writeln!(io::stderr(), "spotwarden: {error}");
            if matches!(error, MigrateError::Output(_)) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// The text, and whether nothing in it needs a person.
fn outcome(args: &Args) -> Result<(String, bool), MigrateError> {
    if !args.nth_log.is_empty() {
        return compared(args);
    }
    if args.output == Some(Format::Table) {
        return Err(MigrateError::Output("table"));
    }
    let mut tree = Tree::default();
    for file in &args.values {
        tree.lay(read::values(file, &text(file, MOST_VALUES)?).map_err(unusable(file))?);
    }
    if let Some(file) = &args.manifest {
        let text = text(file, MOST_VALUES)?;
        tree =
            read::manifest(file, &text).and_then(|documents| manifest::values(&documents)).map_err(unusable(file))?;
    }
    let migration = mapping::migrate(&Settings::read(&tree), Wish { beside: args.beside });
    let text = if args.output == Some(Format::Json) { output::json(&migration) } else { output::helm(&migration) };
    Ok((text, !migration.needs_a_hand()))
}

fn unusable(file: &str) -> impl FnOnce(String) -> MigrateError {
    let file = file.to_owned();
    move |why| MigrateError::Unusable { file, why }
}

fn compared(args: &Args) -> Result<(String, bool), MigrateError> {
    if args.output == Some(Format::Helm) {
        return Err(MigrateError::Output("helm"));
    }
    let log = |files: &[String], of: &'static str, parse: fn(&[String]) -> compare::Log| {
        let texts = files.iter().map(|file| text(file, MOST_LOG)).collect::<Result<Vec<_>, _>>()?;
        let log = parse(&texts);
        let found = log.lines > 0 || !log.parts.is_empty();
        if found { Ok(log) } else { Err(MigrateError::NoLog { files: files.join(", "), of }) }
    };
    let nth = log(&args.nth_log, "aws-node-termination-handler", compare::nth_log)?;
    let own = log(&args.spotwarden_log, "spotwarden", compare::own_log)?;
    let comparison = compare::compare(nth, own);
    let text = match args.output {
        Some(Format::Json) => serde_json::to_string_pretty(&comparison).unwrap_or_default() + "\n",
        _ => compare::table::table(&comparison),
    };
    Ok((text, comparison.is_complete()))
}

/// The text of a file, or of standard input for `-`. A strange byte somewhere is no reason to refuse it.
fn text(file: &str, limit: u64) -> Result<String, MigrateError> {
    let mut bytes = Vec::new();
    let read = if file == "-" {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|opened| opened.take(limit + 1).read_to_end(&mut bytes))
    };
    read.map_err(|source| MigrateError::Unreadable { file: file.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(MigrateError::TooLarge { file: file.to_owned(), limit });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
