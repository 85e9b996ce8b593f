//! What can go wrong with an answer, and when it does.

use std::io;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::wire::{Reply, Request};

/// One way to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Answer with this status and its error page; the request has no other effect.
    Status(u16),
    /// Wait before the answer.
    Delay(Duration),
    /// Accept and never answer. On `PUT` alone it is what a pod sees when the hop limit is 1.
    Silence,
    /// Reset the connection instead of answering, as a service does that is not up yet.
    Reset,
    /// Close the connection instead of answering.
    Close,
    /// Reset the connection in the middle of the body.
    ResetMidBody,
    /// Close the connection in the middle of the body, shorter than announced.
    Truncate,
    /// Announce this `Content-Length`, whatever the body has.
    ContentLength(usize),
    /// A body that came out of somewhere else, with status 200.
    Body(Vec<u8>),
    /// Send the answer byte by byte, with this pause before each.
    Dribble(Duration),
    /// Leave the token's TTL header out.
    NoTtl,
    /// Another text in the token's TTL header.
    Ttl(String),
    /// Tokens handed out now are good for so many requests.
    TokenUses(u32),
    /// Leave `Date` out.
    NoDate,
    /// Let the platform's `Date` run ahead by this much, or behind.
    DateSkew(SignedDuration),
    /// Another text in `Date`.
    DateText(String),
    /// Answer as HTTP/1.0.
    Http10,
}

impl FaultKind {
    pub(super) fn forced_status(&self) -> Option<u16> {
        if let Self::Status(status) = self { Some(*status) } else { None }
    }

    pub(super) fn token_uses(&self) -> Option<u32> {
        if let Self::TokenUses(uses) = self { Some(*uses) } else { None }
    }
}

/// A [`FaultKind`] with the requests that it strikes: all of them, unless narrowed.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    path: Option<String>,
    method: Option<String>,
    from: Option<Instant>,
    until: Option<Instant>,
    every: u32,
    seen: u32,
    left: u32,
}

impl Fault {
    /// Strikes every request from now on.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, path: None, method: None, from: None, until: None, every: 1, seen: 0, left: u32::MAX }
    }

    /// Only requests whose path starts with `path`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
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

    /// Only each `nth` of the requests that the other conditions leave, beginning with the first.
    #[must_use]
    pub fn every(mut self, nth: u32) -> Self {
        self.every = nth.max(1);
        self
    }

    /// The fault if it strikes this request.
    pub(super) fn strike(&mut self, request: &Request, now: Instant) -> Option<FaultKind> {
        let meant = self.path.as_ref().is_none_or(|path| request.path.starts_with(path))
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until);
        if !meant {
            return None;
        }
        let turn = self.seen.is_multiple_of(self.every);
        self.seen = self.seen.wrapping_add(1);
        if !turn || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(self.kind.clone())
    }
}

/// An answer with everything that happens to it on its way.
#[derive(Debug)]
pub(super) struct Delivery {
    reply: Reply,
    delay: Duration,
    pace: Option<Duration>,
    end: End,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the whole answer.
    Whole,
    /// The client gives up first.
    Never,
    /// Closed before the answer.
    Close,
    /// Reset before the answer.
    Reset,
    /// Closed in the middle of the body.
    Truncate,
    /// Reset in the middle of the body.
    ResetMidBody,
}

impl Delivery {
    pub(super) fn of(reply: Reply) -> Self {
        Self { reply, delay: Duration::ZERO, pace: None, end: End::Whole }
    }

    /// The status that the client gets to see.
    pub(super) fn status(&self) -> Option<u16> {
        let silent = [End::Never, End::Close, End::Reset].contains(&self.end);
        (!silent).then_some(self.reply.status)
    }

    /// The text of a 200 that arrives whole.
    pub(super) fn content(&self) -> Option<&str> {
        let arrives = self.end == End::Whole && self.reply.status == 200;
        arrives.then(|| std::str::from_utf8(&self.reply.body).ok()).flatten()
    }

    pub(super) fn suffer(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::Status(_) | FaultKind::TokenUses(_) => {}
            FaultKind::Delay(delay) => self.delay += delay,
            FaultKind::Silence => self.end = End::Never,
            FaultKind::Reset => self.end = End::Reset,
            FaultKind::Close => self.end = End::Close,
            FaultKind::ResetMidBody => self.end = End::ResetMidBody,
            FaultKind::Truncate => self.end = End::Truncate,
            FaultKind::ContentLength(length) => self.reply.length = Some(length),
            FaultKind::Body(body) => {
                let reply = std::mem::replace(&mut self.reply, Reply::content(body));
                self.reply.inherit(reply);
            }
            FaultKind::Dribble(pace) => self.pace = Some(pace),
            FaultKind::NoTtl => self.reply.ttl = None,
            FaultKind::Ttl(text) => self.reply.ttl = Some(text),
            FaultKind::NoDate => self.reply.date = None,
            FaultKind::DateSkew(skew) => {
                self.reply.date = self.reply.date.and_then(|date| date.checked_add(skew).ok());
            }
            FaultKind::DateText(text) => self.reply.date_text = Some(text),
            FaultKind::Http10 => self.reply.http10 = true,
        }
    }

    /// Sends it, or does not.
    pub(super) async fn carry_out(self, mut stream: TcpStream, head_only: bool) -> io::Result<()> {
        if !self.delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(self.delay) => {}
                () = hung_up(&mut stream) => return Ok(()),
            }
        }
        match self.end {
            End::Never => {
                hung_up(&mut stream).await;
                return Ok(());
            }
            End::Close => return stream.shutdown().await,
            End::Reset => return stream.set_zero_linger(),
            End::Whole | End::Truncate | End::ResetMidBody => {}
        }
        let mut bytes = self.reply.head();
        let body = self.reply.body.as_slice();
        let sent = if self.end == End::Whole { body.len() } else { body.len() / 2 };
        if !head_only {
            bytes.extend(body.iter().take(sent));
        }
        match self.pace {
            None => stream.write_all(&bytes).await?,
            Some(pace) => {
                for byte in bytes {
                    tokio::time::sleep(pace).await;
                    stream.write_all(&[byte]).await?;
                }
            }
        }
        if self.end == End::ResetMidBody {
            return stream.set_zero_linger();
        }
        stream.shutdown().await
    }
}

/// Resolves when the client closes the connection.
async fn hung_up(stream: &mut TcpStream) {
    let mut rest = [0; 512];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str) -> Request {
        Request { method: method.into(), path: path.into(), headers: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_strikes_what_it_is_narrowed_to() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let get = request("GET", "/latest/meta-data/spot/instance-action");
        let put = request("PUT", "/latest/api/token");
        let strikes = |mut fault: Fault, request: &Request, at: Instant| {
            (0..6).map(|_| u8::from(fault.strike(request, at).is_some())).collect::<Vec<_>>()
        };
        let fault = || Fault::new(FaultKind::Silence);
        assert_eq!(strikes(fault(), &get, now), [1, 1, 1, 1, 1, 1]);
        assert_eq!(strikes(fault().method("PUT"), &get, now), [0; 6]);
        assert_eq!(strikes(fault().method("PUT"), &put, now), [1; 6]);
        assert_eq!(strikes(fault().path("/latest/meta-data/spot"), &get, now), [1; 6]);
        assert_eq!(strikes(fault().path("/latest/meta-data/spot"), &put, now), [0; 6]);
        assert_eq!(strikes(fault().next(2), &get, now), [1, 1, 0, 0, 0, 0]);
        assert_eq!(strikes(fault().every(2), &get, now), [1, 0, 1, 0, 1, 0]);
        assert_eq!(strikes(fault().every(2).next(2), &get, now), [1, 0, 1, 0, 0, 0]);
        assert_eq!(strikes(fault().from(now + second), &get, now), [0; 6]);
        assert_eq!(strikes(fault().from(now).until(now + second), &get, now), [1; 6]);
        assert_eq!(strikes(fault().until(now), &get, now), [0; 6]);
    }
}
