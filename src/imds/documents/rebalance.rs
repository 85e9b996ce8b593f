//! `events/recommendations/rebalance`.

use jiff::Timestamp;
use serde_json::Value;

use super::{Malformed, object};

/// The content of `events/recommendations/rebalance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebalanceRecommendation {
    /// When it was issued; `None` if the document does not say it readably.
    pub notice_time: Option<Timestamp>,
}

/// Reads `events/recommendations/rebalance`. That the document is there is the recommendation; its time is only needed to
/// tell it from the next one.
pub fn rebalance_recommendation(body: &[u8]) -> Result<RebalanceRecommendation, Malformed> {
    let document = object(body)?;
    let time = document.get("noticeTime").and_then(Value::as_str);
    Ok(RebalanceRecommendation { notice_time: time.and_then(|text| text.trim().parse().ok()) })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_documented(r#"{"noticeTime":"2026-03-31T15:02:10Z"}"#, true)]
    #[case::pretty_printed("{\n  \"noticeTime\" : \"2026-03-31T15:02:10Z\"\n}\n", true)]
    #[case::unknown_keys(r#"{"noticeTime":"2026-03-31T15:02:10Z","new":1}"#, true)]
    #[case::offset(r#"{"noticeTime":"2026-03-31T17:02:10+02:00"}"#, true)]
    #[case::fraction_of_zero(r#"{"noticeTime":"2026-03-31T15:02:10.000Z"}"#, true)]
    #[case::local_time(r#"{"noticeTime":"2026-03-31T15:02:10"}"#, false)]
    #[case::other_form(r#"{"noticeTime":"31 Mar 2026 15:02:10 GMT"}"#, false)]
    #[case::null(r#"{"noticeTime":null}"#, false)]
    #[case::number(r#"{"noticeTime":1774969330}"#, false)]
    #[case::missing("{}", false)]
    fn a_recommendation_is_one_with_or_without_a_time(#[case] body: &str, #[case] timed: bool) {
        let notice_time = timed.then(|| "2026-03-31T15:02:10Z".parse().unwrap());
        assert_eq!(rebalance_recommendation(body.as_bytes()), Ok(RebalanceRecommendation { notice_time }));
    }

    #[rstest]
    #[case(b"")]
    #[case(b"<html/>")]
    #[case(b"[]")]
    #[case(b"null")]
    #[case(br#"{"noticeTime":"2026-03"#)]
    #[case(b"{\"noticeTime\":\"\xff\"}")]
    fn what_is_no_object_is_no_recommendation(#[case] body: &[u8]) {
        assert!(rebalance_recommendation(body).is_err());
    }
}
