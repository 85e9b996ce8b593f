//! `spot/instance-action`.

use jiff::Timestamp;
use serde_json::Value;

use super::{Malformed, object};
use crate::signal::Action;

/// The content of `spot/instance-action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpotNotice {
    /// What happens; `None` if the document does not say it in a word that is known here.
    pub action: Option<Action>,
    /// About when; `None` if the document does not say it readably.
    pub time: Option<Timestamp>,
}

/// Reads `spot/instance-action`.
///
/// A notice is too costly to miss over a detail: one readable field makes it one. What has neither an action word nor a
/// time is not a notice, whatever its status was: a proxy's HTML page, an error object, an empty body.
pub fn spot_notice(body: &[u8]) -> Result<SpotNotice, Malformed> {
    let document = object(body)?;
    let word = document.get("action").and_then(Value::as_str).map(str::trim).filter(|word| !word.is_empty());
    let time = document.get("time").and_then(Value::as_str).and_then(|text| text.trim().parse().ok());
    if word.is_none() && time.is_none() {
        return Err(Malformed("neither an action nor a time"));
    }
    Ok(SpotNotice { action: word.and_then(action), time })
}

fn action(word: &str) -> Option<Action> {
    [Action::Terminate, Action::Stop, Action::Hibernate].into_iter().find(|a| word.eq_ignore_ascii_case(a.as_str()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_documented(r#"{"action":"terminate","time":"2026-03-31T16:34:24Z"}"#, Some(Action::Terminate), true)]
    #[case::stop(r#"{"action":"stop","time":"2026-03-31T16:34:24Z"}"#, Some(Action::Stop), true)]
    #[case::hibernate(r#"{"action":"hibernate","time":"2026-03-31T16:34:24Z"}"#, Some(Action::Hibernate), true)]
    #[case::pretty_printed(
        "{\n  \"action\" : \"stop\",\n  \"time\" : \"2026-03-31T16:34:24Z\"\n}\n",
        Some(Action::Stop),
        true
    )]
    #[case::other_case(r#"{"action":"Terminate ","time":"2026-03-31T16:34:24Z"}"#, Some(Action::Terminate), true)]
    #[case::unknown_keys(
        r#"{"action":"stop","time":"2026-03-31T16:34:24Z","new":{"a":[1]}}"#,
        Some(Action::Stop),
        true
    )]
    #[case::with_an_offset(r#"{"action":"stop","time":"2026-03-31T18:34:24+02:00"}"#, Some(Action::Stop), true)]
    #[case::unknown_action(r#"{"action":"evaporate","time":"2026-03-31T16:34:24Z"}"#, None, true)]
    #[case::numeric_action(r#"{"action":7,"time":"2026-03-31T16:34:24Z"}"#, None, true)]
    #[case::no_action(r#"{"time":"2026-03-31T16:34:24Z"}"#, None, true)]
    #[case::no_time(r#"{"action":"terminate"}"#, Some(Action::Terminate), false)]
    #[case::null_time(r#"{"action":"terminate","time":null}"#, Some(Action::Terminate), false)]
    #[case::numeric_time(r#"{"action":"terminate","time":1774974864}"#, Some(Action::Terminate), false)]
    #[case::other_date_form(r#"{"action":"stop","time":"31 Mar 2026 16:34:24 GMT"}"#, Some(Action::Stop), false)]
    #[case::no_offset(r#"{"action":"terminate","time":"2026-03-31T16:34:24"}"#, Some(Action::Terminate), false)]
    #[case::impossible_day(r#"{"action":"terminate","time":"2026-02-31T16:34:24Z"}"#, Some(Action::Terminate), false)]
    fn a_notice_is_read_by_what_it_says(#[case] body: &str, #[case] action: Option<Action>, #[case] timed: bool) {
        let time = timed.then(|| "2026-03-31T16:34:24Z".parse().unwrap());
        assert_eq!(spot_notice(body.as_bytes()), Ok(SpotNotice { action, time }));
    }

    #[rstest]
    #[case::empty(b"")]
    #[case::blank(b" \n")]
    #[case::html(b"<html><body>Sign in to the guest network</body></html>")]
    #[case::half(br#"{"action":"terminate","time":"2026-03-"#)]
    #[case::empty_object(b"{}")]
    #[case::error_object(br#"{"message":"not now"}"#)]
    #[case::nulls(br#"{"action":null,"time":null}"#)]
    #[case::blank_action(br#"{"action":" "}"#)]
    #[case::null(b"null")]
    #[case::string(br#""terminate""#)]
    #[case::list(br#"[{"action":"terminate","time":"2026-03-31T16:34:24Z"}]"#)]
    #[case::not_utf8(b"{\"action\":\"term\xff\",\"time\":\"2026-03-31T16:34:24Z\"}")]
    #[case::binary(&[0, 1, 2, 255])]
    fn what_says_nothing_is_no_notice(#[case] body: &[u8]) {
        assert!(spot_notice(body).is_err(), "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn deep_nesting_is_refused_and_not_recursed_into() {
        let body = format!(r#"{{"action":{}"#, "[".repeat(60_000));
        assert!(spot_notice(body.as_bytes()).is_err());
    }
}
