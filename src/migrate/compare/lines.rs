//! Lines of a log without what `kubectl logs`, a container's runtime or a log store put around them. Pure.

use jiff::Timestamp;
use serde_json::Value;

/// Things that are wrapped in each other more often than this are no log.
const DEEPEST: usize = 8;

/// One line of the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Which of several pods wrote it, as far as is known.
    pub stream: String,
    /// When the line was taken from the container, if that stands before it.
    pub taken: Option<Timestamp>,
    /// The line.
    pub text: String,
}

/// Every line of a text.
pub fn lines(text: &str) -> Vec<Line> {
    let mut out = Vec::new();
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Array(_) | Value::Object(_))) => unwrap(value, "", None, &mut out, 0),
        _ => text.lines().for_each(|line| self::line(line, "", None, &mut out, 0)),
    }
    out
}

fn line(text: &str, stream: &str, taken: Option<Timestamp>, out: &mut Vec<Line>, depth: usize) {
    let mut text = text.trim_end();
    let mut stream = stream.to_owned();
    // `kubectl logs --prefix`
    if let Some((prefix, rest)) = text.strip_prefix("[pod/").and_then(|rest| rest.split_once("] ")) {
        (stream, text) = (prefix.to_owned(), rest);
    }
    // `kubectl logs --timestamps`, or the runtime's file
    let (mut taken, whole) = (taken, text);
    if let Some((time, rest)) = text.split_once(' ')
        && let Ok(time) = time.parse::<Timestamp>()
    {
        (taken, text) = (Some(time), rest);
        for tag in ["stdout F ", "stderr F ", "stdout P ", "stderr P "] {
            text = text.strip_prefix(tag).unwrap_or(text);
        }
    }
    if depth < DEEPEST
        && text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str::<Value>(text)
        && inner(&value).is_some()
    {
        return unwrap(value, &stream, taken, out, depth + 1);
    }
    // A time that stands before words may be the line's own, so it stays.
    let text = if is_level(text) { whole } else { text };
    out.push(Line { stream, taken, text: text.to_owned() });
}

/// What a line begins with whose own time was taken for that of a runtime.
fn is_level(text: &str) -> bool {
    ["TRACE ", "DEBUG ", "INFO ", "WARN ", "ERROR "].iter().any(|level| text.trim_start().starts_with(level))
}

/// What an envelope holds: Docker's `log`, or the `message` of a log store, which has no level of its own.
fn inner(value: &Value) -> Option<&Value> {
    let text = |key: &str| value.get(key).filter(|inner| inner.is_string() || inner.is_object());
    let events = || value.get("events").filter(|events| events.is_array());
    let message = || text("message").or_else(|| text("@message")).filter(|_| value.get("level").is_none());
    text("log").or_else(events).or_else(message)
}

fn unwrap(value: Value, stream: &str, taken: Option<Timestamp>, out: &mut Vec<Line>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if let Value::Array(items) = value {
        return items.into_iter().for_each(|item| unwrap(item, stream, taken, out, depth + 1));
    }
    let pod = value.pointer("/kubernetes/pod_name").or_else(|| value.get("logStreamName")).and_then(Value::as_str);
    let stream = pod.unwrap_or(stream);
    let time = value.get("time").and_then(Value::as_str).and_then(|time| time.parse().ok()).or(taken);
    match inner(&value) {
        Some(Value::String(text)) => text.lines().for_each(|text| line(text, stream, time, out, depth + 1)),
        Some(inner) => unwrap(inner.clone(), stream, time, out, depth + 1),
        None => out.push(Line { stream: stream.to_owned(), taken, text: value.to_string() }),
    }
}

/// The fields of a line, whichever form it has.
#[derive(Clone, Debug, PartialEq)]
pub enum Fields {
    /// A JSON object.
    Json(Value),
    /// `key=value` somewhere in the text.
    Plain(String),
}

impl Fields {
    /// A field's value.
    pub fn get(&self, key: &str) -> Option<Value> {
        match self {
            Self::Json(value) => value.get(key).cloned(),
            Self::Plain(text) => {
                let mark = format!(" {key}=");
                let value = text.get(text.find(&mark)? + mark.len()..)?;
                if value.starts_with(['"', '{', '[']) {
                    return serde_json::Deserializer::from_str(value).into_iter::<Value>().next()?.ok();
                }
                Some(Value::from(value.split(' ').next()?))
            }
        }
    }

    /// A field as text.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const WORDS: &str = "2026/11/21 10:00:02 INF Draining the node node_name=n1";

    #[rstest]
    #[case::bare(WORDS.to_owned(), "", None)]
    #[case::kubectl_prefix(format!("[pod/nth-x/nth] {WORDS}"), "nth-x/nth", None)]
    #[case::kubectl_both(format!("[pod/nth-x/nth] 2026-11-21T10:00:02.5Z {WORDS}"), "nth-x/nth", Some("2026-11-21T10:00:02.5Z"))]
    #[case::runtime(format!("2026-11-21T10:00:02.5Z stderr F {WORDS}"), "", Some("2026-11-21T10:00:02.5Z"))]
    #[case::docker(json!({"log": format!("{WORDS}\n"), "stream": "stderr", "time": "2026-11-21T10:00:02.5Z"}).to_string(), "", Some("2026-11-21T10:00:02.5Z"))]
    #[case::fluent_bit(json!({"log": WORDS, "kubernetes": {"pod_name": "p"}}).to_string(), "p", None)]
    #[case::cloudwatch(json!({"events": [{"logStreamName": "s", "timestamp": 1, "message": WORDS}]}).to_string(), "s", None)]
    #[case::wrapped_twice(json!({"events": [{"message": json!({"log": WORDS}).to_string()}]}).to_string(), "", None)]
    fn what_is_around_a_line_is_taken_off(#[case] text: String, #[case] stream: &str, #[case] taken: Option<&str>) {
        let taken = taken.map(|time| time.parse().unwrap());
        assert_eq!(lines(&text), [Line { stream: stream.into(), taken, text: WORDS.into() }]);
    }

    #[test]
    fn a_lines_own_time_and_a_lines_own_json_stay() {
        let plain = "2026-11-21T16:00:35.2Z  WARN dry_run: spotwarden::log::record: interruption notice seen";
        assert_eq!(lines(plain)[0].text, plain);
        let json = r#"{"level":"info","time":"2026-11-21T10:00:02Z","message":"Draining the node"}"#;
        let both = format!("{json}\n{json}");
        assert_eq!(lines(&both).iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), [json, json]);
    }

    #[test]
    fn fields_are_found_in_both_forms() {
        let plain =
            Fields::Plain(r#" a=b event={"x":"1 2","y":[3]} reason="say \"hi\" \n" pods=["p","q"] last=z"#.into());
        assert_eq!(plain.text("a").as_deref(), Some("b"));
        assert_eq!(plain.get("event"), Some(json!({"x": "1 2", "y": [3]})));
        assert_eq!(plain.text("reason").as_deref(), Some("say \"hi\" \n"));
        assert_eq!((plain.get("pods"), plain.text("last")), (Some(json!(["p", "q"])), Some("z".into())));
        assert_eq!(plain.get("event2"), None);
        assert_eq!(Fields::Json(json!({"a": 1})).text("a").as_deref(), Some("1"));
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_too_strange(text in "\\PC{0,200}", cut in 0_usize..300) {
            let docker = json!({"log": text}).to_string();
            let cut = docker.get(..cut.min(docker.len())).unwrap_or_default();
            let found = lines(&format!("{text}\n[pod/{cut}\n{docker}"));
            let _ = Fields::Plain(text).get("a");
            proptest::prop_assert!(!found.is_empty());
        }
    }
}
