//! What the documents of IMDS say. Pure; tolerant of what is odd, but it says what was odd.
//!
//! Documents are read by their path, never by their content type: real services, proxies and mocks disagree on it.

use jiff::Timestamp;
use serde_json::Value;

use crate::imds::{Client, Error, Item};
use crate::signal::Action;

/// Longer than any name in an identity.
const LONGEST_NAME: usize = 256;

/// Something in a document that was not taken as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Oddity {
    /// Not the JSON object that the path promises; the read counts as failed.
    Malformed,
    /// An action that is missing or that this version does not know; read as terminate.
    UnknownAction,
    /// The time is missing or unreadable; the notice is real all the same.
    NoTime,
    /// The time is further ahead than any notice; it is not believed.
    FarFuture,
    /// The time is older than this boot: a notice to an earlier life of the instance.
    Stale,
}

impl Oddity {
    /// Every oddity.
    pub const ALL: [Self; 5] = [Self::Malformed, Self::UnknownAction, Self::NoTime, Self::FarFuture, Self::Stale];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownAction => "unknown_action",
            Self::NoTime => "no_time",
            Self::FarFuture => "far_future",
            Self::Stale => "stale",
        }
    }
}

/// The content of `spot/instance-action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpotNotice {
    /// What happens; `None` if the document does not say it in a word that is known here.
    pub action: Option<Action>,
    /// About when; `None` if the document does not say it readably.
    pub time: Option<Timestamp>,
}

/// The body is not a document of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the expected JSON document: {0}")]
pub struct Malformed(&'static str);

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

/// Who and where the instance is. For names and defaults only, never for decisions about safety; what IMDS does not
/// offer (an instance launched long ago, say) is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// E.g. `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// E.g. `m5.large`.
    pub instance_type: Option<String>,
    /// E.g. `eu-west-1a`.
    pub availability_zone: Option<String>,
    /// E.g. `euw1-az2`: the same zone in every account.
    pub availability_zone_id: Option<String>,
    /// E.g. `eu-west-1`.
    pub region: Option<String>,
    /// `spot`, `on-demand`, or another purchasing option.
    pub life_cycle: Option<String>,
    /// The owner, twelve digits.
    pub account_id: Option<String>,
    /// E.g. `ami-0123456789abcdef0`.
    pub image_id: Option<String>,
    /// E.g. `x86_64`.
    pub architecture: Option<String>,
    /// The primary private address.
    pub private_ip: Option<String>,
}

/// Reads the instance identity document.
pub fn identity(body: &[u8]) -> Result<Identity, Malformed> {
    let document = object(body)?;
    let field = |key: &str| document.get(key).and_then(Value::as_str).and_then(|text| name(text.as_bytes()));
    Ok(Identity {
        instance_id: field("instanceId"),
        instance_type: field("instanceType"),
        availability_zone: field("availabilityZone"),
        availability_zone_id: None,
        region: field("region"),
        life_cycle: None,
        account_id: field("accountId"),
        image_id: field("imageId"),
        architecture: field("architecture"),
        private_ip: field("privateIp"),
    })
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

impl Client {
    /// Reads the identity: the document, then one by one what it does not have. Fails only if IMDS cannot be read at all;
    /// an item that is absent or unreadable stays `None`.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let document = self.get(Item::IdentityDocument).await?.body;
        let mut identity = match document.map(|body| identity(&body)) {
            Some(Ok(identity)) => identity,
            Some(Err(malformed)) => {
                tracing::warn!(%malformed, "the instance identity document cannot be used");
                self.count_rejected(Item::IdentityDocument, Oddity::Malformed);
                Identity::default()
            }
            None => Identity::default(),
        };
        let items = [
            (Item::LifeCycle, &mut identity.life_cycle),
            (Item::AvailabilityZoneId, &mut identity.availability_zone_id),
            (Item::InstanceId, &mut identity.instance_id),
            (Item::InstanceType, &mut identity.instance_type),
            (Item::AvailabilityZone, &mut identity.availability_zone),
            (Item::Region, &mut identity.region),
        ];
        for (item, field) in items {
            if field.is_none() {
                *field = self.get(item).await.ok().and_then(|answer| name(&answer.body?));
            }
        }
        self.note_success(Item::IdentityDocument);
        Ok(identity)
    }
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

    #[test]
    fn identity_fields_that_cannot_be_names_are_left_out() {
        let read = identity(br#"{"instanceId":"i-0123456789abcdef0","region":"eu west","instanceType":null}"#).unwrap();
        assert_eq!(read.instance_id.as_deref(), Some("i-0123456789abcdef0"));
        assert_eq!((read.region, read.instance_type), (None, None));
        assert!(identity(b"<html/>").is_err());
    }

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
        }
    }
}
