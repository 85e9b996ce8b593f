//! What ipamd counts, and what has happened between two scrapes of it.
//!
//! The first scrape is a baseline and no event. A counter that fell, or another start time, is another life of ipamd,
//! whose counts all happened since.

/// Everything of one scrape that only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// `process_start_time_seconds` of ipamd.
    pub started: Option<f64>,
    /// Assignments that found no usable address.
    pub unavailable: u64,
    /// Requests for an address, repeated and failed ones included.
    pub adds: u64,
    /// Grows at each reconcile of the pool, even if nothing changes; `None` before the first, and always in IPv6.
    pub heartbeat: Option<u64>,
    /// Errors by which EC2 says that a subnet has no address, or no free /28.
    pub refused: u64,
    /// Those of them that refused a whole new interface.
    pub refused_interfaces: u64,
    /// New interfaces that EC2 refused for an invalid parameter, which can mean a full subnet too.
    pub invalid: u64,
    /// EC2 throttled.
    pub throttled: u64,
    /// IAM refused.
    pub unauthorized: u64,
    /// Addresses and interfaces that were taken away from under pods.
    pub forced: u64,
    /// Interfaces detached.
    pub detachments: u64,
    /// How long successful EC2 calls took.
    pub latencies: Latencies,
}

impl Counters {
    /// Adds one series of `awscni_aws_api_error_count`.
    pub fn take_error(&mut self, api: &str, error: &str, count: u64) {
        if let ("CreateNetworkInterface", "InsufficientFreeAddressesInSubnet" | "InsufficientCidrBlocks") = (api, error)
        {
            self.refused_interfaces = self.refused_interfaces.saturating_add(count);
        }
        let counter = match (api, error) {
            (_, "InsufficientFreeAddressesInSubnet" | "InsufficientCidrBlocks") => &mut self.refused,
            ("CreateNetworkInterface", "InvalidParameterValue") => &mut self.invalid,
            (_, "RequestLimitExceeded") => &mut self.throttled,
            (_, "UnauthorizedOperation") => &mut self.unauthorized,
            _ => return,
        };
        *counter = counter.saturating_add(count);
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let restarted = self.is_another_life_than(before);
        let grown = |now: u64, then: u64| if restarted || now < then { now } else { now - then };
        let latency = |now: Latency, then: Latency| Latency {
            milliseconds: if restarted { now.milliseconds } else { (now.milliseconds - then.milliseconds).max(0.0) },
            calls: grown(now.calls, then.calls),
        };
        let (now, then) = (&self.latencies, &before.latencies);
        Self {
            started: self.started,
            unavailable: grown(self.unavailable, before.unavailable),
            adds: grown(self.adds, before.adds),
            heartbeat: self.heartbeat.map(|beats| grown(beats, before.heartbeat.unwrap_or_default())),
            refused: grown(self.refused, before.refused),
            refused_interfaces: grown(self.refused_interfaces, before.refused_interfaces),
            invalid: grown(self.invalid, before.invalid),
            throttled: grown(self.throttled, before.throttled),
            unauthorized: grown(self.unauthorized, before.unauthorized),
            forced: grown(self.forced, before.forced),
            detachments: grown(self.detachments, before.detachments),
            latencies: Latencies {
                assign: latency(now.assign, then.assign),
                create: latency(now.create, then.create),
                attach: latency(now.attach, then.attach),
                modify: latency(now.modify, then.modify),
                wait: latency(now.wait, then.wait),
            },
        }
    }

    fn is_another_life_than(&self, before: &Self) -> bool {
        // To the microsecond, in which no process starts twice and below which no text rounds.
        matches!((self.started, before.started), (Some(now), Some(then)) if (now - then).abs() > 1e-6)
    }
}

/// Successful calls of each step of a growth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latencies {
    /// `AssignPrivateIpAddresses`.
    pub assign: Latency,
    /// `CreateNetworkInterface`.
    pub create: Latency,
    /// `AttachNetworkInterface`.
    pub attach: Latency,
    /// `ModifyNetworkInterfaceAttribute`.
    pub modify: Latency,
    /// Waiting for the interface to appear in IMDS.
    pub wait: Latency,
}

/// Calls and the time that they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Their sum.
    pub milliseconds: f64,
    /// Their number.
    pub calls: u64,
}

impl Latency {
    /// Seconds of a call on average; `None` without calls.
    pub fn mean_seconds(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.milliseconds / self.calls as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_between_two_scrapes_is_the_difference() {
        let before = Counters { refused: 4, adds: 10, heartbeat: None, ..Counters::default() };
        let after = Counters { refused: 6, adds: 10, heartbeat: Some(3), ..before };
        let since = after.since(&before);
        assert_eq!((since.refused, since.adds, since.heartbeat), (2, 0, Some(3)));
    }

    #[test]
    fn after_a_restart_of_ipamd_everything_that_it_counted_is_new() {
        let before = Counters { started: Some(100.0), refused: 4, adds: 10, ..Counters::default() };
        let restarted = Counters { started: Some(160.0), refused: 5, adds: 11, ..Counters::default() };
        assert_eq!((restarted.since(&before).refused, restarted.since(&before).adds), (5, 11));
        // Without a start time the counter that fell tells it for itself.
        let fallen = Counters { refused: 1, adds: 10, ..Counters::default() };
        let since = fallen.since(&Counters { started: None, ..before });
        assert_eq!((since.refused, since.adds), (1, 0));
    }

    #[test]
    fn errors_are_told_apart_by_call_and_code() {
        let mut counters = Counters::default();
        for (api, error) in [
            ("AssignPrivateIpAddresses", "InsufficientFreeAddressesInSubnet"),
            ("AssignPrivateIpAddresses", "InsufficientCidrBlocks"),
            ("CreateNetworkInterface", "InsufficientFreeAddressesInSubnet"),
            ("CreateNetworkInterface", "InvalidParameterValue"),
            ("AssignPrivateIpAddresses", "InvalidParameterValue"),
            ("AssignPrivateIpAddresses", "PrivateIpAddressLimitExceeded"),
            ("CreateTags", "RequestLimitExceeded"),
            ("CreateTags", "UnauthorizedOperation"),
        ] {
            counters.take_error(api, error, 2);
        }
        let expected = Counters {
            refused: 6,
            refused_interfaces: 2,
            invalid: 2,
            throttled: 2,
            unauthorized: 2,
            ..Counters::default()
        };
        assert_eq!(counters, expected);
    }

    #[test]
    fn a_mean_needs_calls() {
        assert_eq!(Latency::default().mean_seconds(), None);
        assert_eq!(Latency { milliseconds: 3000.0, calls: 2 }.mean_seconds(), Some(1.5));
    }
}
