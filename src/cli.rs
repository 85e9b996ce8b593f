//! The command line: from arguments and environment to a command with validated settings.
//!
//! The flags of `run` are made from the table in [`crate::config::settings`], so that a setting has one name, one
//! variable and one sentence of help. A wrong invocation ends with one line and the exit code 64 (`EX_USAGE` of BSD's
//! `sysexits`); 1 is kept for a run that failed.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args as _, Command as Clap, FromArgMatches as _};

use crate::check::{CheckConfig, Format};
use crate::config::parse::{ConfigError, RunConfig, effective, run_config};
use crate::config::settings::{Environment, SETTINGS, Setting};
use crate::{migrate, report, simulate};

/// Exit code of a wrong invocation.
pub const USAGE: u8 = 64;

/// The flag that `check` has besides those of `run`.
const OUTPUT: &str = "output";
/// The other one.
const NOTIFY_TEST: &str = "notify-test";

const CHECK_EXIT_CODES: &str = "Exit codes: 0 if nothing that is needed is missing (there may be warnings), 1 if \
                                something is, 64 if a setting is wrong.";

/// What to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Be the agent.
    Run(Box<RunConfig>),
    /// Be the doctor.
    Check(Box<CheckConfig>),
    /// Show a world in a box.
    Simulate(simulate::Args),
    /// Show what an agent did.
    Report(report::Args),
    /// Come over from aws-node-termination-handler.
    Migrate(migrate::Args),
}

/// Why no command comes out of the command line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Help or the version was asked for.
    #[error("{0}")]
    Shown(clap::Error),
    /// The arguments cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl CliError {
    /// Tells the person at the terminal, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        // Nothing can be done about a terminal that is gone.
        match self {
            Self::Shown(text) => {
                _ = text.print();
                ExitCode::SUCCESS
            }
            Self::Usage(_) | Self::Config(_) => {
                _ = writeln!(std::io::stderr(), "spotwarden: {self}");
                ExitCode::from(USAGE)
            }
        }
    }
}

/// The process' environment.
pub fn process_environment() -> Environment {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

/// Understands a command line, the program's name first. Settings are checked too: a command that comes out can start.
pub fn parse<I, T>(arguments: I, env: &Environment) -> Result<Command, CliError>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = clap().try_get_matches_from(arguments).map_err(refusal)?;
    match matches.subcommand() {
        Some(("simulate", matches)) => {
            Ok(Command::Simulate(simulate::Args::from_arg_matches(matches).map_err(refusal)?))
        }
        Some(("report", matches)) => Ok(Command::Report(report::Args::from_arg_matches(matches).map_err(refusal)?)),
        Some(("migrate", matches)) => Ok(Command::Migrate(migrate::Args::from_arg_matches(matches).map_err(refusal)?)),
        Some(("check", matches)) => Ok(Command::Check(Box::new(check(matches, env)?))),
        Some((_, matches)) => Ok(Command::Run(Box::new(run_config(&|flag| given(matches, flag), env)?))),
        None => Err(CliError::Usage("no command given; use one of run, check, report, simulate, migrate".into())),
    }
}

fn check(matches: &ArgMatches, env: &Environment) -> Result<CheckConfig, CliError> {
    let flags = |flag: &str| given(matches, flag);
    let output = matches.get_one(OUTPUT).copied().unwrap_or(Format::Table);
    let notify_test = matches.get_flag(NOTIFY_TEST);
    Ok(CheckConfig { run: run_config(&flags, env)?, settings: effective(&flags, env), output, notify_test })
}

fn given(matches: &ArgMatches, flag: &str) -> Option<String> {
    matches.get_one::<String>(flag).cloned()
}

fn clap() -> Clap {
    let run = Clap::new("run").about("Look after this node: fence and drain it when an interruption is announced");
    let check = Clap::new("check")
        .about(
            "Find out what the agent would miss here, and whether this node could be cleared in time; changes nothing",
        )
        .after_help(CHECK_EXIT_CODES)
        .args(SETTINGS.iter().map(argument))
        .arg(
            Arg::new(OUTPUT)
                .long(OUTPUT)
                .value_name("FORMAT")
                .value_parser(clap::value_parser!(Format))
                .default_value("table")
                .help("A table for people, or one JSON object for machines"),
        )
        .arg(
            Arg::new(NOTIFY_TEST)
                .long(NOTIFY_TEST)
                .action(clap::ArgAction::SetTrue)
                .help("Send a test message to Slack, Alertmanager and the webhook, as far as they are set"),
        );
    let simulate = simulate::Args::augment_args(Clap::new("simulate"))
        .about("Run the agent against a simulated node, cluster and metadata service");
    let report = report::Args::augment_args(Clap::new("report"))
        .about("Show the report of an interruption that an agent wrote into its log")
        .after_help("Exit codes: 0 if a report is shown, 1 if there is none or it cannot be read.");
    let migrate = migrate::Args::augment_args(Clap::new("migrate"))
        .about("Turn values of aws-node-termination-handler into ours, or compare the logs of both")
        .after_help(migrate::EXIT_CODES);
    Clap::new("spotwarden")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .disable_help_subcommand(true)
        .subcommand(run.args(SETTINGS.iter().map(argument)))
        .subcommand(check)
        .subcommand(report)
        .subcommand(simulate)
        .subcommand(migrate)
}

fn argument(setting: &Setting) -> Arg {
    let default = setting.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
    let help = format!("{} [env: {}]{default}", setting.help, setting.env);
    let argument = Arg::new(setting.flag).long(setting.flag).value_name(setting.value_name).help(help);
    match setting.default {
        // A switch may stand alone; a value has to be attached, or it would swallow what follows.
        Some("false") => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => argument,
    }
}

/// Brings the parser's words on one line, without its usage summary.
fn refusal(error: clap::Error) -> CliError {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return CliError::Shown(error);
    }
    let text = error.render().to_string();
    let words: Vec<_> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = words.join("; ").replace(":;", ":");
    CliError::Usage(format!("{}; see --help", line.strip_prefix("error: ").unwrap_or(&line)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::config::parse::Source;

    fn cli(arguments: &[&str]) -> Result<Command, CliError> {
        let env = [("NODE_NAME", "n1"), ("SPOTWARDEN_SHUTDOWN_TAIL", "20s")].into_iter().collect();
        parse(["spotwarden"].iter().chain(arguments), &env)
    }

    fn run(arguments: &[&str]) -> RunConfig {
        match cli(arguments) {
            Ok(Command::Run(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_parser_is_consistent() {
        clap().debug_assert();
    }

    #[test]
    fn flags_and_variables_reach_the_configuration() {
        let config = run(&["run", "--safety-margin", "5s", "--taint-effect=PreferNoSchedule"]);
        assert_eq!(config.agent.node_name, "n1");
        assert_eq!(config.agent.safety_margin, Duration::from_secs(5));
        assert_eq!(config.agent.marks.taint_effect, "PreferNoSchedule");
        assert_eq!(config.agent.shutdown_tail, Duration::from_secs(20));
    }

    #[rstest]
    #[case(&["run"], false)]
    #[case(&["run", "--dry-run"], true)]
    #[case(&["run", "--dry-run", "--node-name", "n2"], true)]
    #[case(&["run", "--dry-run=false"], false)]
    fn dry_run_is_a_switch(#[case] arguments: &[&str], #[case] expected: bool) {
        assert_eq!(run(arguments).agent.dry_run, expected);
    }

    #[rstest]
    #[case(&["run", "--safety-margn", "5s"], "unexpected argument '--safety-margn' found; tip: a similar argument")]
    #[case(&["rum"], "unrecognized subcommand 'rum'; tip: a similar subcommand exists: 'run'")]
    #[case(&["run", "--taint-key"], "a value is required for '--taint-key <KEY>' but none was supplied")]
    #[case(&["run", "--taint-key", "a", "--taint-key", "b"], "the argument '--taint-key <KEY>' cannot be used multiple")]
    #[case(&["run", "stray"], "unexpected argument 'stray' found")]
    #[case(&["simulate", "--without-agent"], "the following required arguments were not provided: --serve; see --help")]
    #[case(&[], "no command given; use one of run, check, report, simulate, migrate")]
    #[case(&["report"], "the following required arguments were not provided: <FILE>; see --help")]
    #[case(&["check", "--output=yaml"], "invalid value 'yaml' for '--output <FORMAT>'; [possible values: table, json]")]
    #[case(&["check", "--safety-margin", "5"], "--safety-margin is `5`, which is not a duration")]
    #[case(&["run", "--output=json"], "unexpected argument '--output' found")]
    #[case(&["run", "--safety-margin", "5"], "--safety-margin is `5`, which is not a duration")]
    fn a_wrong_invocation_ends_with_one_line(#[case] arguments: &[&str], #[case] expected: &str) {
        let error = cli(arguments).unwrap_err();
        assert!(!matches!(error, CliError::Shown(_)));
        let message = error.to_string();
        assert!(message.starts_with(expected) && message.lines().count() == 1, "{message}");
    }

    #[test]
    fn check_takes_the_settings_of_run_and_keeps_where_each_came_from() {
        let Ok(Command::Check(config)) = cli(&["check", "--safety-margin=5s", "--dry-run", "--output", "json"]) else {
            panic!("no check")
        };
        assert_eq!(config.run, run(&["run", "--safety-margin=5s", "--dry-run"]));
        assert_eq!(config.output, Format::Json);
        let of = |flag: &str| {
            let setting = config.settings.iter().find(|setting| setting.flag == Some(flag)).unwrap();
            (setting.value.as_deref(), setting.source)
        };
        assert_eq!(of("safety-margin"), (Some("5s"), Source::Flag));
        assert_eq!(of("dry-run"), (Some("true"), Source::Flag));
        assert_eq!(of("shutdown-tail"), (Some("20s"), Source::Environment));
        assert_eq!(of("taint-effect"), (Some("NoSchedule"), Source::Default));
        assert_eq!(of("log-level"), (None, Source::Default));
    }

    #[test]
    fn help_of_check_names_the_exit_codes() {
        let help = cli(&["check", "--help"]).unwrap_err().to_string();
        assert!(
            ["Exit codes: 0", " 1 ", " 64 ", "--output <FORMAT>", "table:", "json:"].iter().all(|w| help.contains(w)),
            "{help}"
        );
    }

    #[test]
    fn help_names_every_flag_with_its_variable() {
        let help = cli(&["run", "--help"]).unwrap_err();
        assert!(matches!(help, CliError::Shown(_)));
        let help = help.to_string();
        for setting in SETTINGS {
            assert!(help.contains(&format!("--{}", setting.flag)), "{help}");
            assert!(help.contains(&format!("[env: {}]", setting.env)), "{help}");
        }
    }

    #[test]
    fn a_simulation_needs_no_settings() {
        let env = [("SPOTWARDEN_TYPO", "1")].into_iter().collect();
        assert!(matches!(parse(["spotwarden", "simulate"], &env), Ok(Command::Simulate(_))));
    }
}
