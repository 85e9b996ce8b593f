//! The standard `process_*` metrics, read from procfs at each scrape. On a system without procfs there are none.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

use super::gauge;
use crate::clock;

/// The unit of times in procfs. Linux fixed it at 100 per second for user space, whatever the kernel's tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the own process.
#[derive(Debug)]
pub struct ProcessCollector {
    /// Unix time in seconds; does not change and needs a second file, so it is read once.
    start_time: Option<f64>,
}

impl ProcessCollector {
    /// Reads what never changes.
    pub fn new() -> Self {
        let started = stat().and_then(|text| Stat::parse(&text)).map(|stat| stat.start_seconds);
        let start_time = clock::booted_at().zip(started).map(|(boot, started)| boot.as_second() as f64 + started);
        Self { start_time }
    }
}

impl Default for ProcessCollector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        if let Some(stat) = stat().and_then(|text| Stat::parse(&text)) {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            let help = "User and system CPU time spent.";
            cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?)?;
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(resident) = bytes_of(&status, "VmRSS:") {
            gauge(&mut encoder, "process_resident_memory", "Resident memory size.", Some(&Unit::Bytes), resident)?;
        }
        if let Some(size) = bytes_of(&status, "VmSize:") {
            gauge(&mut encoder, "process_virtual_memory", "Virtual memory size.", Some(&Unit::Bytes), size)?;
        }
        if let Some(start) = self.start_time {
            gauge(&mut encoder, "process_start_time", "Start of the process, unix time.", Some(&Unit::Seconds), start)?;
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            let open = entries.count().saturating_sub(1);
            gauge(&mut encoder, "process_open_fds", "Open file descriptors.", None, open as f64)?;
        }
        if let Some(most) = fs::read_to_string("/proc/self/limits").ok().and_then(|text| most_open_files(&text)) {
            gauge(&mut encoder, "process_max_fds", "Most file descriptors that may be open.", None, most)?;
        }
        Ok(())
    }
}

fn stat() -> Option<String> {
    fs::read_to_string("/proc/self/stat").ok()
}

/// What is used of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// Since boot.
    start_seconds: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the command in parentheses, which may itself hold spaces and parentheses.
        let (_, after_command) = text.rsplit_once(')')?;
        let ticks = |number: usize| after_command.split_ascii_whitespace().nth(number - 3)?.parse::<f64>().ok();
        let (user, system, start) = (ticks(14)?, ticks(15)?, ticks(22)?);
        Some(Self { cpu_seconds: (user + system) / TICKS_PER_SECOND, start_seconds: start / TICKS_PER_SECOND })
    }
}

/// A size of `/proc/self/status`. `statm` would be shorter but counts pages of unknown size.
fn bytes_of(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// The soft limit of `/proc/self/limits`; `None` if there is none.
fn most_open_files(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a b) c) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 12345 1000 200";
        assert_eq!(Stat::parse(text), Some(Stat { cpu_seconds: 3.0, start_seconds: 123.45 }));
    }

    #[test]
    fn text_that_is_not_procfs_gives_nothing() {
        assert_eq!(Stat::parse(""), None);
        assert_eq!(Stat::parse("42 (x) S 1"), None);
        assert_eq!(bytes_of("VmRSS: much kB\nVmSize: 1 kB", "VmRSS:"), None);
        assert_eq!(most_open_files("Max processes 1 2 processes"), None);
        assert_eq!(most_open_files("Max open files            unlimited  unlimited  files"), None);
    }

    #[test]
    fn the_soft_limit_of_open_files_counts() {
        let text =
            "Limit      Soft Limit  Hard Limit  Units\nMax open files            1024       1048576      files\n";
        assert_eq!(most_open_files(text), Some(1024.0));
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(bytes_of(text, "VmRSS:"), Some(1_048_576.0));
        assert_eq!(bytes_of(text, "VmSize:"), Some(2_097_152.0));
    }
}
