//! `spotwarden simulate`: plays a scenario and shows what happens, live, with a verdict at the end.
//!
//! The agent that is shown is the one that `run` runs. Everything is in this process and on loopback; nothing outside is
//! asked or changed.

mod output;
mod replay;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use crate::cli::USAGE;
use crate::clock::Clock;
use crate::interruption::account::Account;
use crate::report;
use crate::sim::pace::Speed;
use crate::sim::scenario::{Scenario, ScenarioError, shipped};
use crate::sim::world::{BackendHandle, Options, World, WorldError};
use output::{Format, Output};
use replay::ReplayError;

/// What `simulate` is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A scenario's name (see --list) or a scenario file
    #[arg(long, value_name = "NAME|FILE", default_value = "plain-notice")]
    scenario: String,

    /// Play an interruption again from the report in an agent's log (`-` reads standard input), and compare
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "list", "serve"])]
    replay: Option<String>,

    /// Show the scenarios that come with the program
    #[arg(long)]
    list: bool,

    /// Simulated seconds in a real one (0.1 to 50), or `max` [default: 10, with --serve 1]
    #[arg(long, value_name = "N|max")]
    speed: Option<Speed>,

    /// Lines for people, or one JSON object on each line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Plain)]
    output: Format,

    /// Keep the world up until Ctrl-C, for kubectl, curl, a browser and other agents
    #[arg(long)]
    serve: bool,

    /// With --serve: where the simulated metadata service listens (loopback only; port 0 takes any)
    #[arg(long, value_name = "ADDRESS:PORT", requires = "serve")]
    imds_address: Option<SocketAddr>,

    /// With --serve: where the simulated API server listens (loopback only; port 0 takes any)
    #[arg(long, value_name = "ADDRESS:PORT", requires = "serve")]
    api_address: Option<SocketAddr>,

    /// With --serve: where the agent's admin page is served (loopback only; port 0 takes any)
    #[arg(long, value_name = "ADDRESS:PORT", requires = "serve", conflicts_with = "without_agent")]
    admin_address: Option<SocketAddr>,

    /// With --serve: no agent, so that another one can be tried
    #[arg(long, requires = "serve")]
    without_agent: bool,

    /// Any value but an empty one turns colours off (no-color.org)
    #[arg(long, hide = true, env = "NO_COLOR", hide_env_values = true, num_args = 0..=1, default_missing_value = "1")]
    no_color: Option<String>,
}

/// Ten times real time lets a person follow two minutes in twelve seconds.
const SPEED: Speed = Speed::Times(10.0);

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum SimulateError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Report(#[from] report::ReportError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    World(#[from] WorldError),
    #[error("no runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error("Ctrl-C cannot be heard: {0}")]
    Signals(#[source] io::Error),
}

/// Does what is asked: 0 if the verdict is good, 1 if it is bad or cannot be reached, 64 if there is no such scenario.
pub fn main(args: &Args) -> ExitCode {
    let mut output = Output::new(args.output, args.no_color.as_deref().is_none_or(str::is_empty));
    let done = if args.list { list(&mut output) } else { simulate(args, &mut output) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output.error(&error.to_string());
            match error {
                SimulateError::Scenario(_) | SimulateError::Report(_) | SimulateError::Replay(_) => {
                    ExitCode::from(USAGE)
                }
                SimulateError::World(_) | SimulateError::Runtime(_) | SimulateError::Signals(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn list(output: &mut Output) -> Result<bool, SimulateError> {
    output.list(&shipped()?);
    Ok(true)
}

fn simulate(args: &Args, output: &mut Output) -> Result<bool, SimulateError> {
    let past = args.replay.as_deref().map(past).transpose()?;
    let scenario = match &past {
        Some(account) => replay::scenario(account)?,
        None => Scenario::load(&args.scenario)?,
    };
    let speed = args.speed.unwrap_or(if args.serve { Speed::Real } else { SPEED });
    let runtime = speed.runtime().map_err(SimulateError::Runtime)?;
    runtime.block_on(async {
        let interrupted = async {
            match tokio::signal::ctrl_c().await {
                Ok(()) => Ok(true),
                Err(error) => Err(SimulateError::Signals(error)),
            }
        };
        tokio::select! {
            result = play(args, &scenario, past.as_ref(), speed, output) => result,
            // This is how a world that is kept up ends; any other ends with the process, by the signal's default action.
            result = interrupted, if args.serve => result,
            () = speed.pace() => Ok(false),
        }
    })
}

/// The interruption that is to be played again.
fn past(file: &str) -> Result<Account, SimulateError> {
    let (account, _) = report::choose(file, &report::read(file)?, None)?;
    Ok(account)
}

async fn play(
    args: &Args,
    scenario: &Scenario,
    past: Option<&Account>,
    speed: Speed,
    output: &mut Output,
) -> Result<bool, SimulateError> {
    // Real time needs no clock of its own; any other speed begins now and drifts from there.
    let clock = match speed {
        Speed::Real => Clock::System,
        Speed::Times(_) | Speed::Max => Clock::anchored(Clock::System.now().wall),
    };
    let mut world = World::open(scenario, BackendHandle::embedded(clock), clock, &options(args)).await?;
    output.begin(scenario, speed);
    if args.serve {
        output.addresses(world.addresses(), world.node_name());
    }
    output.head();
    let mut report = world.play(|entry| output.entry(&entry)).await;
    if let Some(past) = past {
        replay::compare(&mut report, past);
    }
    if let Some(account) = world.account() {
        output.account(&account);
    }
    output.report(&report);
    if args.serve {
        output.stays();
        std::future::pending::<()>().await;
    }
    Ok(report.passed)
}

fn options(args: &Args) -> Options {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Options {
        imds_address: args.imds_address.unwrap_or(any),
        api_address: args.api_address.unwrap_or(any),
        admin_address: (args.serve && !args.without_agent).then(|| args.admin_address.unwrap_or(any)),
        with_agent: !args.without_agent,
        ..Options::default()
    }
}
