//! The `spotwarden` binary: command line → log → command → exit code.

use std::io;
use std::process::ExitCode;

use spotwarden::check::{self, CheckConfig};
use spotwarden::cli::{self, Command};
use spotwarden::config::Config;
use spotwarden::{log, migrate, report, run, simulate};

/// Name look-ups block, nothing else does; two at a time are enough and keep their stacks small.
const BLOCKING_THREADS: usize = 2;
const STACK_BYTES: usize = 256 * 1024;

fn main() -> ExitCode {
    // Fails only if there is a provider already, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    match cli::parse(std::env::args_os(), &cli::process_environment()) {
        Ok(Command::Run(config)) => {
            log::init(&config.log);
            agent(config.agent)
        }
        Ok(Command::Check(config)) => {
            log::init(&config.run.log);
            doctor(&config)
        }
        Ok(Command::Report(args)) => report::main(&args),
        Ok(Command::Migrate(args)) => migrate::main(&args),
        Ok(Command::Simulate(args)) => simulate::main(&args),
        Err(error) => error.report(),
    }
}

fn agent(config: Config) -> ExitCode {
    let result = runtime().map(|runtime| {
        let result = runtime.block_on(run::run(config));
        // A name look-up that hangs must not hold up the exit.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure(&error),
        Err(error) => failure(&error),
    }
}

fn doctor(config: &CheckConfig) -> ExitCode {
    match runtime() {
        Ok(runtime) => {
            let report = runtime.block_on(check::run(config));
            runtime.shutdown_background();
            check::finish(&report, config.output)
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!(error = %error, "spotwarden failed");
    ExitCode::FAILURE
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .build()
}
