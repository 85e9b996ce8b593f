//! `spotwarden simulate`: a world in a box.

use std::process::ExitCode;

/// What `simulate` is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Placeholder.
pub fn main(_args: &Args) -> ExitCode {
    tracing::error!("simulate is not there yet");
    ExitCode::FAILURE
}
