//! What the figures were measured on, and the size of what was measured.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use crate::Result;
use crate::report::{Row, megabytes};

/// Bytes.
const SIZE_GOAL: u64 = 7_000_000;

pub(crate) struct Machine {
    cores: usize,
    model: String,
    kernel: String,
    /// Processes that wanted a core before it began, averaged over a minute.
    load: String,
}

impl Machine {
    pub(crate) fn read() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            cores: available_parallelism()?.get(),
            model: model.map_or(std::env::consts::ARCH, |(_, model)| model).to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: load.split_whitespace().next().unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, model, kernel, load } = self;
        write!(f, "{cores} cores ({model}), Linux {kernel}, load before the start {load}")
    }
}

pub(crate) fn size(binary: &Path) -> Result<Vec<Row>> {
    let bytes = fs::metadata(binary)?.len();
    Ok(vec![Row {
        what: "size of the static binary".into(),
        goal: format!("≤ {}", megabytes(SIZE_GOAL)),
        measured: megabytes(bytes),
        incumbent: "64 MB",
        met: Some(bytes <= SIZE_GOAL),
    }])
}
