//! HTTP as the metadata service writes it: one request per connection. Written by hand because the faults reach into the
//! framing, which an HTTP library would rightly prevent.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::net::TcpStream;

use super::content::{error_page, phrase};
use crate::sim::head;
use crate::sim::onlooker::is_onlooker;

/// The head of a request; bodies have no meaning here.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, named in lower case. Two of a kind are as good as none: a client that appends a second
    /// token to a stale one must not get away with it.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() { Some("") } else { first }
    }

    /// It comes from a person who looks on.
    pub(super) fn is_onlookers(&self) -> bool {
        is_onlooker(self.header("user-agent").unwrap_or_default())
    }

    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Some(Self { method, path, headers })
    }
}

/// Reads up to the empty line. `None` if the client hangs up before or sends no HTTP.
pub(super) async fn read_head(stream: &mut TcpStream) -> Option<Request> {
    Request::parse(&head::read(stream).await?)
}

/// An answer before it is written.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) date: Option<Timestamp>,
    pub(super) date_text: Option<String>,
    pub(super) last_modified: Option<Timestamp>,
    pub(super) ttl: Option<String>,
    pub(super) allow: Option<&'static str>,
    /// Announced instead of the body's length.
    pub(super) length: Option<usize>,
    pub(super) http10: bool,
}

impl Reply {
    /// 200 with `body`.
    pub(super) fn content(body: Vec<u8>) -> Self {
        Self {
            status: 200,
            body,
            date: None,
            date_text: None,
            last_modified: None,
            ttl: None,
            allow: None,
            length: None,
            http10: false,
        }
    }

    /// `status` with its error page.
    pub(super) fn error(status: u16) -> Self {
        Self { status, ..Self::content(error_page(status)) }
    }

    /// Takes over the headers of the reply that this one replaces.
    pub(super) fn inherit(&mut self, other: Self) {
        *self = Self { status: self.status, body: std::mem::take(&mut self.body), allow: None, ..other };
    }

    /// Everything up to and with the empty line.
    pub(super) fn head(&self) -> Vec<u8> {
        let version = if self.http10 { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {} {}\r\n", self.status, phrase(self.status));
        let mut line = |name: &str, value: &str| {
            // Writing into a String cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        };
        let success = self.status == 200;
        line("Content-Type", if success { "text/plain" } else { "text/html" });
        if success {
            line("Accept-Ranges", "none");
            if let Some(text) = self.last_modified.and_then(http_date) {
                line("Last-Modified", &text);
            }
        }
        if let Some(ttl) = &self.ttl {
            line("X-aws-ec2-metadata-token-ttl-seconds", ttl);
        }
        if let Some(allow) = self.allow {
            line("Allow", allow);
        }
        line("Content-Length", &self.length.unwrap_or(self.body.len()).to_string());
        if let Some(text) = self.date_text.clone().or_else(|| self.date.and_then(http_date)) {
            line("Date", &text);
        }
        line("Server", "EC2ws");
        line("Connection", "close");
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn http_date(time: Timestamp) -> Option<String> {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_without_regard_to_case_and_a_doubled_header_is_worth_nothing() {
        let request = Request::parse("GET /latest/?a HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\nB:3").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/latest/?a"));
        assert_eq!((request.header("host"), request.header("b")), (Some("x"), Some("3")));
        assert_eq!((request.header("x-a"), request.header("c")), (Some(""), None));
    }

    #[test]
    fn a_reply_looks_like_the_service() {
        let date = "2026-03-31T16:32:24.7Z".parse().ok();
        let reply = Reply { date, ttl: Some("21600".into()), ..Reply::error(404) };
        let expected = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\
                        X-aws-ec2-metadata-token-ttl-seconds: 21600\r\nContent-Length: 339\r\n\
                        Date: Tue, 31 Mar 2026 16:32:24 GMT\r\nServer: EC2ws\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(reply.head()).unwrap(), expected);
    }
}
