//! What the documents of IMDS say. Pure; tolerant of what is odd, but it says what was odd.
//!
//! Documents are read by their path, never by their content type: real services, proxies and mocks disagree on it.

mod date;
mod identity;
mod lifecycle;
pub mod network;
mod rebalance;
mod scheduled;
mod spot;

use serde_json::Value;

pub use self::identity::{Identity, identity};
pub use self::lifecycle::{LifecycleState, LifecycleWord, lifecycle_state};
pub use self::rebalance::{RebalanceRecommendation, rebalance_recommendation};
pub use self::scheduled::{Code, ScheduledEvent, ScheduledEvents, event_history, scheduled_events};
pub use self::spot::{SpotNotice, spot_notice};

/// Longer than any name in an identity.
const LONGEST_NAME: usize = 256;

/// Something in a document that was not taken as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Not what the path promises: the read counts as failed; or one element of a list is not, and is left out.
    Malformed,
    /// A word that is missing or that this version does not know: an action (read as terminate), the code of an event
    /// (as terminate) or its state (as active), a lifecycle state (as nothing at all).
    UnknownWord,
    /// The time is missing or unreadable; the announcement is real all the same.
    NoTime,
    /// The time is readable but not written as the service does: another form, another zone than GMT, fractions.
    OddTime,
    /// The time is further ahead than it can be; it is not believed.
    FarFuture,
    /// The time is older than this boot: an announcement to an earlier life of the instance.
    Stale,
    /// An event without a usable id gets one from its code and time; of several with one id the earliest active one counts.
    OddId,
}

impl Oddity {
    /// Every oddity.
    pub const ALL: [Self; 7] =
        [Self::Malformed, Self::UnknownWord, Self::NoTime, Self::OddTime, Self::FarFuture, Self::Stale, Self::OddId];

    /// What the log calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownWord => "unknown_word",
            Self::NoTime => "no_time",
            Self::OddTime => "odd_time",
            Self::FarFuture => "far_future",
            Self::Stale => "stale",
            Self::OddId => "odd_id",
        }
    }

    /// What metrics count it as: what a reader of a graph would act on differently. Details are odd in several ways.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed | Self::UnknownWord | Self::Stale => self.as_str(),
            Self::NoTime | Self::OddTime | Self::FarFuture | Self::OddId => "odd",
        }
    }
}

/// The body is not a document of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the expected document: {0}")]
pub struct Malformed(&'static str);

fn object(body: &[u8]) -> Result<serde_json::Map<String, Value>, Malformed> {
    if body.trim_ascii().is_empty() {
        return Err(Malformed("it is empty"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Malformed("it is JSON but no object")),
        Err(_) => Err(Malformed("it is no JSON")),
    }
}

/// Reads an item that is one word. `None` for what cannot be a name: nothing, HTML, several lines, other scripts.
pub fn name(body: &[u8]) -> Option<String> {
    let text = body.trim_ascii();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@,".contains(byte);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.iter().all(plain) {
        return None;
    }
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_word() {
        for (body, expected) in [
            (b"spot\n".as_slice(), Some("spot")),
            (b"on-demand", Some("on-demand")),
            (b"", None),
            (b"two words", None),
            (b"<html>", None),
            (b"a\nb", None),
            (b"\xff", None),
        ] {
            assert_eq!(name(body).as_deref(), expected);
        }
        assert_eq!(name(&[b'x'; LONGEST_NAME + 1]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_the_parsers_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (spot_notice(&body), identity(&body), name(&body));
            let _ = (rebalance_recommendation(&body), scheduled_events(&body), event_history(&body), lifecycle_state(&body));
            let _ = (network::macs(&body), network::addresses(&body), network::blocks(&body), network::number(&body));
        }

        /// Random bytes are hardly ever JSON; these bodies always are, with the keys and words that the parsers look for.
        #[test]
        fn no_document_makes_the_parsers_panic(body in document()) {
            let body = body.as_bytes();
            let _ = (spot_notice(body), identity(body), name(body));
            let _ = (rebalance_recommendation(body), scheduled_events(body), event_history(body), lifecycle_state(body));
        }
    }

    /// JSON objects, and lists of them, in the vocabulary of IMDS.
    fn document() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let key = proptest::sample::select(vec![
            "action",
            "time",
            "noticeTime",
            "EventId",
            "Code",
            "State",
            "NotBefore",
            "NotAfter",
            "Description",
            "other",
        ]);
        let value = prop_oneof![
            proptest::sample::select(vec![
                "terminate",
                "system-reboot",
                "active",
                "[Completed] x",
                "14 Nov 2026 09:00:43 GMT",
                "1 \u{17f}ep 2026 0:0:0 GMT",
                "2026-11-14T09:00:43Z",
                "99 Feb 9999 99:99:99 +9999",
                "-1 Jan -1 -1:-1:-1 GMT",
                "",
            ])
            .prop_map(|text| Value::from(text).to_string()),
            any::<String>().prop_map(|text| Value::from(text).to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            Just("null".to_owned()),
            Just("1e999".to_owned()),
            Just("[[{}]]".to_owned()),
        ];
        let object = proptest::collection::vec((key, value), 0..9).prop_map(|fields| {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        });
        prop_oneof![
            object.clone(),
            proptest::collection::vec(object, 0..5).prop_map(|objects| format!("[{}]", objects.join(","))),
        ]
    }
}
