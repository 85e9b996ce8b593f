//! The log: where it goes, what passes its filter, and in which shape.
//!
//! Both formats go to standard error: standard output belongs to what a command was asked for (a table of `check`, a
//! verdict of `simulate`), and a container's runtime collects both.

pub mod record;
pub mod report;

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry};

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object, its fields at the top level.
    Json,
    /// For people: time, level, message, fields.
    #[default]
    Plain,
}

/// The log's settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogConfig {
    /// The shape of a line.
    pub format: LogFormat,
    /// What passes.
    pub filter: LogFilter,
}

/// Which targets are logged from which level on, e.g. `info,spotwarden=debug,kube=off`.
///
/// Of the syntax that `RUST_LOG` has elsewhere this is the part without spans and fields. A word without `=` has to be a
/// level: elsewhere a mistyped `inof` is taken for a target and silences everything.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter(Targets);

impl Default for LogFilter {
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

/// A filter that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// Not a level.
    #[error("`{0}` is not a log level: use off, error, warn, info, debug or trace")]
    Level(String),
    /// The target is empty or holds characters that no target has.
    #[error(
        "`{0}` is not a log target: use a module path such as spotwarden::admin; spans and fields cannot be selected"
    )]
    Target(String),
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Self(mut targets) = Self::default();
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            targets = match directive.split_once('=') {
                None => targets.with_default(level(directive)?),
                Some((target, level_name)) => targets.with_target(self::target(target)?, level(level_name)?),
            };
        }
        Ok(Self(targets))
    }
}

fn level(name: &str) -> Result<LevelFilter, LogFilterError> {
    match name.trim().to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(LogFilterError::Level(name.trim().to_owned())),
    }
}

fn target(name: &str) -> Result<&str, LogFilterError> {
    let name = name.trim();
    let plain = |character: char| character.is_ascii_alphanumeric() || "_:-".contains(character);
    if name.is_empty() || !name.chars().all(plain) { Err(LogFilterError::Target(name.to_owned())) } else { Ok(name) }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Plain => "plain",
        })
    }
}

/// Installs the log for the whole process. A second call changes nothing.
pub fn init(config: &LogConfig) {
    _ = tracing::subscriber::set_global_default(subscriber(config, std::io::stderr));
}

fn subscriber<W>(config: &LogConfig, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let LogFilter(targets) = config.filter.clone();
    // Colours need a feature that is not compiled in; control characters in values are escaped by the formatter.
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let layer = match config.format {
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Plain => layer.boxed(),
    };
    Registry::default().with(layer.with_filter(targets))
}

#[cfg(test)]
pub(crate) mod tests;
