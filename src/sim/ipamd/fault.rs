//! What can go wrong with an answer, and when it does.

use std::time::Duration;

use tokio::time::Instant;

use super::Endpoint;

/// One way to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Accept and never answer.
    Hang,
    /// Reset the connection instead of answering, as nearly as a bound listener comes to refusing it.
    Refuse,
    /// Wait before the answer.
    Delay(Duration),
    /// Answer with this status and a line of text.
    Status(u16),
    /// Answer with the list of commands, as on an unknown path.
    CatchAll,
    /// Close the connection in the middle of the body, shorter than announced.
    Truncate,
    /// Half of the body, as if it were the whole.
    Malformed,
    /// The body with so many empty lines after it: right, but too much of it.
    Huge(usize),
    /// 200 with a page of a proxy.
    Html,
    /// 200 without a body.
    Empty,
    /// 200 with this body.
    Body(Vec<u8>),
}

/// A [`FaultKind`] with the requests that it strikes: all of them, unless narrowed.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    endpoint: Option<Endpoint>,
    path: Option<String>,
    from: Option<Instant>,
    until: Option<Instant>,
    left: u32,
}

impl Fault {
    /// Strikes every request from now on.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, endpoint: None, path: None, from: None, until: None, left: u32::MAX }
    }

    /// Only on this endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Only requests whose path starts with `path`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Only from `from` on.
    #[must_use]
    pub fn from(mut self, from: Instant) -> Self {
        self.from = Some(from);
        self
    }

    /// Only before `until`.
    #[must_use]
    pub fn until(mut self, until: Instant) -> Self {
        self.until = Some(until);
        self
    }

    /// Only the next `count` of the requests that the other conditions leave.
    #[must_use]
    pub fn next(mut self, count: u32) -> Self {
        self.left = count;
        self
    }

    /// The fault if it strikes this request.
    pub(super) fn strike(&mut self, endpoint: Endpoint, path: &str, now: Instant) -> Option<FaultKind> {
        let meant = self.endpoint.is_none_or(|meant| meant == endpoint)
            && self.path.as_ref().is_none_or(|meant| path.starts_with(meant))
            && self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until)
            && self.left > 0;
        if !meant {
            return None;
        }
        self.left -= 1;
        Some(self.kind.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fault_strikes_what_it_is_narrowed_to() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let strikes = |mut fault: Fault| {
            [0; 3].map(|_| u8::from(fault.strike(Endpoint::Introspection, "/v1/enis", now).is_some()))
        };
        let fault = || Fault::new(FaultKind::Hang);
        assert_eq!(strikes(fault()), [1, 1, 1]);
        assert_eq!(strikes(fault().next(2)), [1, 1, 0]);
        assert_eq!(strikes(fault().endpoint(Endpoint::Introspection).path("/v1/enis")), [1, 1, 1]);
        assert_eq!(strikes(fault().endpoint(Endpoint::Metrics)), [0, 0, 0]);
        assert_eq!(strikes(fault().path("/v1/eni-configs")), [0, 0, 0]);
        assert_eq!(strikes(fault().from(now).until(now + second)), [1, 1, 1]);
        assert_eq!(strikes(fault().from(now + second)), [0, 0, 0]);
        assert_eq!(strikes(fault().until(now)), [0, 0, 0]);
    }
}
