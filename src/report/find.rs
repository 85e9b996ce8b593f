//! Finds reports in text: a file with nothing else in it, log lines of either format, what a container's runtime wrapped
//! around them, and what `kubectl logs` or CloudWatch put around that. Pure.

use std::borrow::Cow;

use serde_json::Value;

use crate::interruption::account::Account;

/// Every account has it.
const MARK: &str = "trace_id";
/// In a line of the plain format the account follows this.
const FIELD: &str = "report={";
/// Things that are wrapped in each other more often than this are none of ours.
const DEEPEST: usize = 24;

/// What is in a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The last report of each interruption, in the order in which the interruptions were first reported. Of an agent that
    /// took it up only to see its end, no more than the end counts.
    pub accounts: Vec<Account>,
    /// Why something that looks like a report is none; the last of them.
    pub broken: Option<String>,
}

/// Everything that looks like a report.
pub fn reports(text: &str) -> Found {
    let mut found = Found::default();
    found.text(text, 0);
    found
}

impl Found {
    fn text(&mut self, text: &str, depth: usize) {
        if depth > DEEPEST || !text.contains(MARK) {
            return;
        }
        if let Ok(value) = serde_json::from_str(text) {
            return self.value(value, depth + 1);
        }
        for line in whole_lines(text) {
            if line.contains(MARK) {
                self.line(&line, depth + 1);
            }
        }
    }

    /// One line that is not JSON from its beginning to its end of a text that is not either, or is the only one.
    fn line(&mut self, line: &str, depth: usize) {
        // A line in an envelope of JSON has the field too, escaped.
        let first = line.find('{').and_then(|at| line.get(at..)).unwrap_or_default();
        if let Some(Ok(Value::Object(envelope))) = serde_json::Deserializer::from_str(first).into_iter().next() {
            return self.value(Value::Object(envelope), depth);
        }
        let after_field = line.find(FIELD).map(|at| at + FIELD.len() - 1);
        let Some(json) = after_field.or_else(|| line.find('{')).and_then(|at| line.get(at..)) else { return };
        // What follows the first value is of no interest.
        match serde_json::Deserializer::from_str(json).into_iter::<Value>().next() {
            Some(Ok(value)) => self.value(value, depth),
            Some(Err(error)) if after_field.is_some() || looks_like_one(json) => {
                self.broken = Some(format!("a report is cut off or damaged ({error})"));
            }
            _ => {}
        }
    }

    fn value(&mut self, value: Value, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        match value {
            Value::Object(fields) if fields.contains_key(MARK) && fields.contains_key("announcements") => {
                self.account(Value::Object(fields));
            }
            // Of another version so little may be left of it.
            Value::Object(fields) if fields.contains_key(MARK) && fields.contains_key("version") => {
                self.account(Value::Object(fields));
            }
            Value::Object(fields) => fields.into_iter().for_each(|(_, value)| self.value(value, depth + 1)),
            Value::Array(values) => values.into_iter().for_each(|value| self.value(value, depth + 1)),
            Value::String(text) if text.contains('{') => self.text(&text, depth + 1),
            _ => {}
        }
    }

    fn account(&mut self, value: Value) {
        match Account::from_value(value) {
            Ok(account) => match self.accounts.iter_mut().find(|known| known.trace_id == account.trace_id) {
                Some(known) => follow(known, account),
                None => self.accounts.push(account),
            },
            Err(error) => self.broken = Some(format!("there is a report, but {error}")),
        }
    }
}

/// Takes a later report of the same interruption.
fn follow(known: &mut Account, later: Account) {
    if later.resumed.is_none() || later.pods.len() >= known.pods.len() {
        *known = later;
        return;
    }
    for one in later.announcements {
        match known.announcements.iter_mut().find(|own| own.id == one.id) {
            Some(own) => own.over = one.over.or(own.over.take()),
            None => known.announcements.push(one),
        }
    }
    (known.over, known.restored) = (later.over.or(known.over), later.restored.or(known.restored));
}

fn looks_like_one(json: &str) -> bool {
    json.contains("announcements") || json.contains("interruption report")
}

/// The lines, those joined that a container's runtime split (CRI: time, stream, `P` or `F`, text).
fn whole_lines(text: &str) -> Vec<Cow<'_, str>> {
    let mut lines: Vec<Cow<'_, str>> = Vec::new();
    let mut partial = String::new();
    for line in text.lines() {
        match cri(line) {
            Some((false, part)) => partial.push_str(part),
            Some((true, part)) if partial.is_empty() => lines.push(Cow::Borrowed(part)),
            Some((true, part)) => lines.push(Cow::Owned(std::mem::take(&mut partial) + part)),
            None => lines.push(Cow::Borrowed(line)),
        }
    }
    if !partial.is_empty() {
        lines.push(Cow::Owned(partial));
    }
    lines
}

/// Whether the line is complete, and its text.
fn cri(line: &str) -> Option<(bool, &str)> {
    let mut words = line.splitn(4, ' ');
    let (time, stream, tag, text) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T');
    let is_stream = matches!(stream, "stdout" | "stderr");
    match tag {
        "F" if is_time && is_stream => Some((true, text)),
        "P" if is_time && is_stream => Some((false, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::interruption::account::Over;

    fn account() -> Account {
        Account::drained()
    }

    fn json() -> String {
        serde_json::to_string(&account()).unwrap()
    }

    fn log_line() -> String {
        json!({"timestamp": "t", "level": "INFO", "trace_id": account().trace_id, "report": json(), "message": "interruption report"})
            .to_string()
    }

    fn plain_line() -> String {
        format!(
            "2026-03-31T16:34:24Z  INFO dry_run{{a=1}}: spotwarden::log::report: interruption report trace_id=\"x\" report={} b=1",
            json()
        )
    }

    fn cri_lines(line: &str) -> String {
        let parts: Vec<_> = line.as_bytes().chunks(200).map(|part| std::str::from_utf8(part).unwrap()).collect();
        let tag = |index: usize| if index + 1 < parts.len() { "P" } else { "F" };
        let lines = parts
            .iter()
            .enumerate()
            .map(|(index, part)| format!("2026-03-31T16:34:24.1Z stderr {} {part}\n", tag(index)));
        lines.collect()
    }

    #[rstest]
    #[case::alone(json())]
    #[case::pretty(serde_json::to_string_pretty(&account()).unwrap())]
    #[case::json_line(log_line())]
    #[case::json_line_among_others(format!("{{\"message\":\"node fenced\"}}\n{}\nnot JSON\n", log_line()))]
    #[case::plain_line(plain_line())]
    #[case::cri_json(cri_lines(&log_line()))]
    #[case::cri_plain(format!("2026-03-31T16:34:24.1Z stderr F something else\n{}", cri_lines(&plain_line())))]
    #[case::docker(json!({"log": log_line(), "stream": "stderr"}).to_string())]
    #[case::docker_lines(format!("{}\n{}\n", json!({"log": "x\n"}), json!({"log": plain_line()})))]
    #[case::kubectl_with_prefix(format!("[pod/spotwarden-x/spotwarden] {}\n", log_line()))]
    #[case::kubectl_with_timestamps(format!("2026-03-31T16:34:24.123Z {}\n", log_line()))]
    #[case::cloudwatch_tail(format!("2026-03-31T16:34:24 node/spotwarden {}", log_line()))]
    #[case::cloudwatch_json(json!({"events": [{"message": "x"}, {"timestamp": 1, "message": log_line()}]}).to_string())]
    #[case::fluent_bit(json!({"events": [{"message": json!({"log": log_line(), "kubernetes": {}}).to_string()}]}).to_string())]
    fn a_report_is_found_whatever_is_around_it(#[case] text: String) {
        let found = reports(&text);
        assert_eq!((found.accounts, found.broken), (vec![account()], None), "{text}");
    }

    #[test]
    fn of_one_interruption_the_last_report_counts() {
        let other = Account { trace_id: "0af7651916cd43dd8448eb211c80319c".into(), ..account() };
        let later = Account { over: Some(300.0), ..account() };
        let lines = [&account(), &other, &later].map(|one| serde_json::to_string(one).unwrap());
        assert_eq!(reports(&lines.join("\n")).accounts, [later, other]);
    }

    #[test]
    fn an_agent_that_saw_only_the_end_adds_only_the_end() {
        let mut end = Account { resumed: Some(300.0), over: Some(300.0), restored: Some(301.0), ..Account::sample() };
        end.announcements[0].over = Some(Over { at: 300.0, because: "booted".into() });
        let lines = [&account(), &end].map(|one| serde_json::to_string(one).unwrap());
        let mut wanted = account();
        (wanted.over, wanted.restored) = (end.over, end.restored);
        wanted.announcements[0].over.clone_from(&end.announcements[0].over);
        assert_eq!(reports(&lines.join("\n")).accounts, [wanted]);
    }

    #[rstest]
    #[case::cut_off(plain_line()[..700].to_owned(), "a report is cut off or damaged (EOF")]
    #[case::half_of_a_line(cri_lines(&plain_line())[..900].to_owned(), "a report is cut off or damaged (EOF")]
    #[case::other_version(json!({"version": 7, "trace_id": "x"}).to_string(), "there is a report, but it has version 7")]
    #[case::damaged(json().replace("\"node\"", "\"mode\""), "there is a report, but it cannot be read: missing field `node`")]
    fn what_is_no_report_says_why(#[case] text: String, #[case] why: &str) {
        let found = reports(&text);
        assert!(
            found.accounts.is_empty() && found.broken.as_ref().is_some_and(|words| words.starts_with(why)),
            "{found:?}"
        );
    }

    #[rstest]
    #[case("")]
    #[case("{}")]
    #[case("node fenced\n{\"message\":\"node fenced\"}\n")]
    #[case("{\"level\":\"INFO\",\"trace_id\":\"4bf9\",\"message\":\"interruption\"}\n")]
    fn without_a_report_nothing_is_found(#[case] text: &str) {
        assert_eq!(reports(text), Found::default());
    }

    #[test]
    fn text_that_is_wrapped_without_end_is_left() {
        let mut text = json();
        for _ in 0..12 {
            text = json!({"log": text}).to_string();
        }
        assert!(text.len() < 20_000_000 && reports(&text).accounts.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,200}", at in 0_usize..2000) {
            let line = log_line();
            let cut = line.get(..at.min(line.len())).unwrap_or_default();
            let _ = reports(&format!("{text}{cut}trace_id{text}"));
        }
    }
}
