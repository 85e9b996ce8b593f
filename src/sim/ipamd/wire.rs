//! HTTP as the two servers of ipamd write it. Written by hand because the faults reach into the framing. One request per
//! connection.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fault::FaultKind;
use crate::sim::head;

/// What ipamd does not set, and Go's server makes of it.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// Prometheus' text.
pub(super) const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

const HTML: &str =
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in to continue.</body></html>\n";

/// A request, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) user_agent: String,
}

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        let user_agent = headers.find(|(name, _)| name.eq_ignore_ascii_case("user-agent"));
        let user_agent = user_agent.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
        Some(Self { method, path: target.split('?').next().unwrap_or_default().to_owned(), user_agent })
    }
}

/// Reads up to the empty line. `None` if the client hangs up before or sends no HTTP.
pub(super) async fn read_head(stream: &mut TcpStream) -> Option<Request> {
    Request::parse(&head::read(stream).await?)
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Truncated,
    Never,
    Reset,
}

/// An answer with everything that happens to it on its way.
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    delay: Duration,
    end: End,
}

impl Reply {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, body: body.into(), delay: Duration::ZERO, end: End::Whole }
    }

    /// Nobody is there.
    pub(super) fn refused() -> Self {
        Self { end: End::Reset, ..Self::new(200, TEXT, "") }
    }

    /// The status that the client gets to see.
    pub(super) fn status(&self) -> Option<u16> {
        (![End::Never, End::Reset].contains(&self.end)).then_some(self.status)
    }

    /// `commands` is the document of an unknown path.
    pub(super) fn suffer(&mut self, kind: FaultKind, commands: &str) {
        let ok = |body: Vec<u8>| Self::new(200, TEXT, body);
        let (delay, end) = (self.delay, self.end);
        let replaced = match kind {
            FaultKind::Hang => return self.end = End::Never,
            FaultKind::Refuse => return self.end = End::Reset,
            FaultKind::Truncate => return self.end = End::Truncated,
            FaultKind::Delay(delay) => return self.delay += delay,
            FaultKind::Malformed => return self.body.truncate(self.body.len() / 2),
            FaultKind::Huge(lines) => return self.body.resize(self.body.len() + lines, b'\n'),
            FaultKind::Status(status) => Self::new(status, TEXT, format!("{status}\n")),
            FaultKind::CatchAll => ok(commands.into()),
            FaultKind::Html => Self { content_type: "text/html; charset=utf-8", ..ok(HTML.into()) },
            FaultKind::Empty => ok(Vec::new()),
            FaultKind::Body(body) => ok(body),
        };
        *self = Self { delay, end, ..replaced };
    }

    /// Sends it, or does not.
    pub(super) async fn carry_out(self, mut stream: TcpStream, date: Timestamp, head_only: bool) -> io::Result<()> {
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
            End::Reset => return stream.set_zero_linger(),
            End::Whole | End::Truncated => {}
        }
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap_or_default();
        let status = http::StatusCode::from_u16(self.status).unwrap_or_default();
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nDate: {date}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.status,
            status.canonical_reason().unwrap_or_default(),
            self.content_type,
            self.body.len()
        )
        .into_bytes();
        let sent = if self.end == End::Whole { self.body.len() } else { self.body.len() / 2 };
        if !head_only {
            bytes.extend(self.body.iter().take(sent));
        }
        stream.write_all(&bytes).await?;
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

    #[test]
    fn a_head_is_read_without_its_query() {
        let head = "GET /v1/enis?x=1 HTTP/1.1\r\nHost: x\r\nUSER-AGENT:  spotwarden/0.1 ";
        let expected = Request { method: "GET".into(), path: "/v1/enis".into(), user_agent: "spotwarden/0.1".into() };
        assert_eq!(Request::parse(head), Some(expected));
        assert_eq!(Request::parse(""), None);
    }

    #[test]
    fn faults_add_up() {
        let mut reply = Reply::new(200, TEXT, "0123456789");
        reply.suffer(FaultKind::Delay(Duration::from_secs(1)), "");
        reply.suffer(FaultKind::Malformed, "");
        assert_eq!((reply.body.as_slice(), reply.status()), (b"01234".as_slice(), Some(200)));
        reply.suffer(FaultKind::Huge(3), "");
        assert_eq!(reply.body, b"01234\n\n\n");
        reply.suffer(FaultKind::CatchAll, "{}");
        assert_eq!((reply.body.as_slice(), reply.delay), (b"{}".as_slice(), Duration::from_secs(1)));
        reply.suffer(FaultKind::Status(503), "");
        assert_eq!(reply.status(), Some(503));
        reply.suffer(FaultKind::Hang, "");
        assert_eq!(reply.status(), None);
    }
}
