//! A stand-in for Slack's incoming webhooks: it judges each payload by Slack's rules and keeps it.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy excuses only the functions marked as tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

/// Slack cuts off what is longer.
const TEXT: usize = 40_000;
/// Blocks of a message, and characters of one that holds text or a head.
const BLOCKS: usize = 50;
const SECTION: usize = 3_000;
const HEADER: usize = 150;
/// Slack refuses more.
const ATTACHMENTS: usize = 100;

/// Fields of a payload that are shown, the first ones above the others.
const READ: [&str; 5] = ["pretext", "title", "text", "value", "footer"];

/// A message that came.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Below which path it was posted: whoever posts can be told apart by it.
    pub(crate) path: String,
    /// What.
    pub(crate) payload: Value,
    /// What Slack would not have taken; empty for a good one.
    pub(crate) complaints: Vec<String>,
}

impl Message {
    /// Everything in it that a person would read, one line for each piece.
    pub(crate) fn words(&self) -> String {
        fn collect(value: &Value, words: &mut Vec<String>) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
                Value::Object(fields) => {
                    let said = READ.iter().filter_map(|name| fields.get(*name)?.as_str());
                    words.extend(said.map(str::to_owned));
                    fields.values().for_each(|value| collect(value, words));
                }
                _ => {}
            }
        }
        let mut words = Vec::new();
        collect(&self.payload, &mut words);
        words.join("\n")
    }
}

/// A running stand-in.
pub(crate) struct SlackStandIn {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SlackStandIn {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, stop) = (Arc::<Mutex<Vec<Message>>>::default(), Arc::<AtomicBool>::default());
        let (kept, stopped) = (Arc::clone(&messages), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                _ = serve(stream, &kept);
            }
        });
        Self { address, messages, stop, thread: Some(thread) }
    }

    /// A webhook below `path`, which begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All messages so far, in their order.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    /// Insists that Slack would have taken each message so far.
    pub(crate) fn assert_content(&self) {
        for message in self.messages() {
            assert_eq!(message.complaints, Vec::<String>::new(), "{}", message.payload);
        }
    }
}

impl Drop for SlackStandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Takes one request, keeps it, and answers; `None` if nothing that can be read came.
fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Message>>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 8192];
    let (head, mut body) = loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        received.extend(buffer.get(..read)?);
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = received.split_off(end + 4);
            break (String::from_utf8_lossy(&received).to_ascii_lowercase(), body);
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    while body.len() < length.unwrap_or_default() {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        body.extend(buffer.get(..read)?);
    }
    let payload: Option<Value> = serde_json::from_slice(&body).ok();
    let mut complaints = payload.as_ref().map_or_else(|| vec!["no JSON".to_owned()], complaints_about);
    if !head.starts_with("post ") {
        complaints.push("not a POST".to_owned());
    }
    if !head.lines().any(|line| line.starts_with("content-type:") && line.contains("json")) {
        complaints.push("the content type is not JSON".to_owned());
    }
    let answer = if complaints.is_empty() { ("200 OK", "ok") } else { ("400 Bad Request", "invalid_payload") };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    // Before the answer: whoever has that may look at once.
    kept.lock().unwrap().push(Message { path, payload: payload.unwrap_or_default(), complaints });
    let (status, body) = answer;
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close");
    write!(stream, "{head}\r\n\r\n{body}").ok()
}

/// What Slack would refuse or cut off.
pub(crate) fn complaints_about(payload: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let text = payload["text"].as_str().unwrap_or_default();
    let blocks = payload["blocks"].as_array().map_or(&[][..], Vec::as_slice);
    let attachments = payload["attachments"].as_array().map_or(&[][..], Vec::as_slice);
    if text.is_empty() && blocks.is_empty() && attachments.is_empty() {
        complaints.push("no_text: neither text nor blocks nor attachments".to_owned());
    }
    if text.chars().count() > TEXT {
        complaints.push(format!("the text has more than {TEXT} characters"));
    }
    // The notification on a telephone shows nothing but the text, or the fallback of an attachment.
    if text.is_empty() && !blocks.is_empty() {
        complaints.push("blocks without a text: the notification would be empty".to_owned());
    }
    if blocks.len() > BLOCKS {
        complaints.push(format!("more than {BLOCKS} blocks"));
    }
    if attachments.len() > ATTACHMENTS {
        complaints.push(format!("more than {ATTACHMENTS} attachments"));
    }
    complaints.extend(blocks.iter().filter_map(complaint_about_block));
    for attachment in attachments {
        if ["text", "fallback", "blocks"].iter().all(|field| attachment[field].as_str().is_none_or(str::is_empty))
            && attachment["blocks"].as_array().is_none_or(Vec::is_empty)
        {
            complaints.push("an attachment without text, fallback and blocks".to_owned());
        }
        let inner = attachment["blocks"].as_array().map_or(&[][..], Vec::as_slice);
        complaints.extend(inner.iter().filter_map(complaint_about_block));
    }
    complaints
}

fn complaint_about_block(block: &Value) -> Option<String> {
    let text = block["text"]["text"].as_str();
    let length = text.map(|text| text.chars().count()).unwrap_or_default();
    match block["type"].as_str() {
        None => Some("a block without a type".to_owned()),
        Some("header") if !(1..=HEADER).contains(&length) || block["text"]["type"] != "plain_text" => {
            Some(format!("a head is plain text of 1 to {HEADER} characters"))
        }
        Some("section") if text.is_some() && !(1..=SECTION).contains(&length) => {
            Some(format!("the text of a section has 1 to {SECTION} characters"))
        }
        Some("section") if block["fields"].as_array().is_some_and(|fields| fields.len() > 10) => {
            Some("a section has more than 10 fields".to_owned())
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::peers::request;

    #[rstest::rstest]
    #[case::text(json!({"text": "x"}), true)]
    #[case::attachment(json!({"attachments": [{"text": "x"}]}), true)]
    #[case::blocks(json!({"text": "x", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "y"}}]}), true)]
    #[case::nothing(json!({}), false)]
    #[case::empty_attachment(json!({"attachments": [{"title": "x"}]}), false)]
    #[case::blocks_alone(json!({"blocks": [{"type": "divider"}]}), false)]
    #[case::long_section(
        json!({"text": "x", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "y".repeat(3001)}}]}),
        false
    )]
    #[case::head_with_marks(
        json!({"text": "x", "blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "y"}}]}),
        false
    )]
    fn payloads_are_judged(#[case] payload: Value, #[case] good: bool) {
        let slack = SlackStandIn::start();
        let body = payload.to_string();
        let answer = request(&slack.address.to_string(), "POST", "/hook", "Content-Type: application/json\r\n", &body);
        assert_eq!(answer.status == 200, good, "{body}: {}", answer.body);
        assert_eq!(slack.messages()[0].complaints.is_empty(), good, "{body}");
    }
}
