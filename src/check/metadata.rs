//! What the answers of the metadata service mean. Pure.

use jiff::SignedDuration;

use super::report::{CLOCK, Finding, IDENTITY, IMDS, Status};
use crate::config::{Config, Response};
use crate::http::BuildError;
use crate::imds::documents::{Identity, spot_notice};
use crate::imds::{Answer, Error, Item, Timing};
use crate::signal::Kind;

/// What is asked first, to see whether anything can be asked at all.
pub const FIRST: Item = Item::InstanceId;

/// Where each kind is announced.
pub const ITEMS: [(Kind, Item); 1] = [(Kind::SpotInterruption, Item::SpotAction)];

/// A clock that is further off than this is worth a look.
const NOTABLE_SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Of a document that is shown as it came.
const MOST_SHOWN: usize = 200;

/// Why an item could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The client's reason.
    #[error(transparent)]
    Imds(#[from] Error),
    /// The time for this question was up.
    #[error("no complete answer in time")]
    TooSlow,
}

/// An item as it was read.
pub type Read = Result<Answer, Unread>;

/// Whether these settings ask the metadata service at all.
pub fn is_asked(config: &Config) -> bool {
    Kind::ALL.into_iter().any(|kind| config.response(kind) != Response::Ignore)
}

/// The findings if nothing is asked.
pub fn not_asked() -> Vec<Finding> {
    all(Status::Skipped, "every response is `ignore`, so the agent does not ask the metadata service")
}

/// The findings if nothing can be asked.
pub fn no_client(config: &Config, error: &BuildError) -> Vec<Finding> {
    let text = format!("{}: {error}", config.imds.endpoint);
    [Finding::new(IMDS, Status::Missing, text)].into_iter().chain(skipped()).collect()
}

/// The other findings if the metadata service cannot be read.
pub fn skipped() -> Vec<Finding> {
    all(Status::Skipped, "the metadata service cannot be read")
        .into_iter()
        .filter(|finding| finding.id != IMDS)
        .collect()
}

fn all(status: Status, found: &str) -> Vec<Finding> {
    let kinds = ITEMS.iter().map(|(kind, _)| kind.as_str());
    let ids = [IMDS, IDENTITY].into_iter().chain(kinds).chain([CLOCK]);
    ids.map(|id| Finding::new(id, status, found)).collect()
}

/// Whether the metadata service hands out a session token and answers to it.
pub fn imds(endpoint: &str, first: &Read) -> Finding {
    let ipv6 = endpoint.starts_with("http://[");
    let missing =
        |found: &str, remedy: &str| Finding::new(IMDS, Status::Missing, format!("{endpoint}: {found}")).remedy(remedy);
    match first {
        Ok(_) => {
            let over = if ipv6 { " over IPv6" } else { "" };
            Finding::new(IMDS, Status::Ok, format!("{endpoint} answers{over} with a session token (version 2)"))
        }
        Err(Unread::Imds(Error::TokenTimeout)) => missing(
            "the token request (PUT) was not answered, as happens to a pod outside the host network while the \
             instance's HttpPutResponseHopLimit is 1",
            "Set hostNetwork: true on the agent's pod, or raise the instance's HttpPutResponseHopLimit to 2.",
        ),
        Err(Unread::Imds(Error::Forbidden(_))) => missing(
            "answers 403: the metadata endpoint is disabled (HttpEndpoint=disabled) or something in between forbids it",
            "Set HttpEndpoint=enabled in the instance's metadata options (aws ec2 modify-instance-metadata-options).",
        ),
        Err(Unread::Imds(Error::Connection { detail, .. })) if ipv6 => missing(
            &format!("no connection over IPv6: {detail}"),
            "Set HttpProtocolIpv6=enabled in the instance's metadata options (Nitro only), or unset \
             AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE and AWS_EC2_METADATA_SERVICE_ENDPOINT for IPv4.",
        ),
        Err(Unread::Imds(Error::Connection { detail, .. })) => missing(
            &format!("no connection: {detail}"),
            "Run it on an EC2 instance, check AWS_EC2_METADATA_SERVICE_ENDPOINT, and look for a firewall rule or network \
             policy that keeps pods from the metadata service.",
        ),
        Err(Unread::Imds(Error::Throttled(_))) => missing(
            "answers 429: requests are throttled",
            "Find what else on this node asks the metadata service in a loop, then check again.",
        ),
        Err(Unread::TooSlow | Unread::Imds(Error::Timeout(_))) => missing(
            "hands out a token, but does not answer in time",
            "Find what keeps it busy (many requests from this node share its packet limit), then check again.",
        ),
        Err(error) => missing(
            &words(error),
            "Check that the endpoint is an EC2 metadata service with version 2, then check again.",
        ),
    }
}

/// The client's errors promise another poll, which does not come here.
fn words(error: &Unread) -> String {
    let text = error.to_string();
    text.split("; the next poll").next().unwrap_or_default().to_owned()
}

/// Who the instance is; `None` if that could not be read.
pub fn identity(identity: Option<Identity>) -> Finding {
    let Some(identity) = identity else {
        return Finding::new(IDENTITY, Status::Warning, "the instance's names could not be read")
            .remedy("Check again; only names in metrics and messages depend on it.");
    };
    let zone = match (identity.availability_zone, identity.availability_zone_id) {
        (Some(zone), Some(id)) => Some(format!("{zone} ({id})")),
        (zone, id) => zone.or(id),
    };
    let known: Vec<String> = [identity.instance_id, identity.instance_type, zone, identity.life_cycle.clone()]
        .into_iter()
        .flatten()
        .collect();
    if known.is_empty() {
        return Finding::new(IDENTITY, Status::Warning, "the metadata service does not say who the instance is")
            .remedy("Check that the endpoint is an EC2 metadata service; only names depend on it.");
    }
    let note = match identity.life_cycle.as_deref() {
        None | Some("spot") => "",
        Some(_) => "; not a spot instance, so no spot interruption is to be expected",
    };
    Finding::new(IDENTITY, Status::Ok, format!("{}{note}", known.join(", ")))
}

/// The finding on a kind that is not asked for.
pub fn ignored(kind: Kind) -> Finding {
    Finding::new(kind.as_str(), Status::Skipped, "its response is `ignore`")
}

/// What the metadata service says of one kind now.
pub fn signal(kind: Kind, read: &Read) -> Finding {
    let id = kind.as_str();
    let answer = match read {
        Ok(answer) => answer,
        Err(error) => {
            return Finding::new(id, Status::Missing, words(error))
                .remedy("Check again; if it stays, look for a proxy or firewall that singles this path out.");
        }
    };
    let text = answer.body.as_deref().map(|body| String::from_utf8_lossy(body).trim().to_owned());
    let text = text.unwrap_or_default();
    if is_quiet(kind, &text) {
        let shown = if text.is_empty() || text == "[]" { String::new() } else { format!(" ({})", shortened(&text)) };
        return Finding::new(id, Status::Ok, format!("nothing announced{shown}"));
    }
    if kind == Kind::SpotInterruption {
        return spot(&text);
    }
    Finding::new(id, Status::Warning, format!("announced now: {}", shortened(&text)))
}

/// Whether a document announces nothing.
fn is_quiet(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::AsgTermination => text != "Terminated",
        Kind::SpotInterruption | Kind::RebalanceRecommendation | Kind::ScheduledEvent => {
            text.is_empty() || text == "[]"
        }
    }
}

fn spot(text: &str) -> Finding {
    let id = Kind::SpotInterruption.as_str();
    match spot_notice(text.as_bytes()) {
        Ok(notice) => {
            let what = notice.action.map_or("end this instance", crate::signal::Action::phrase);
            let when = notice.time.map_or_else(|| "a time that it does not say".to_owned(), |time| time.to_string());
            Finding::new(id, Status::Warning, format!("announced now: EC2 will {what} at {when}"))
        }
        Err(malformed) => Finding::new(id, Status::Missing, format!("{malformed}: {}", shortened(text)))
            .remedy("Check that the endpoint is an EC2 metadata service and that no proxy stands in between."),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MOST_SHOWN).collect()
}

/// The node's clock beside the platform's.
pub fn clock(timing: &Timing) -> Finding {
    let Some(skew) = timing.clock_skew() else {
        return Finding::new(CLOCK, Status::Warning, "the metadata service does not tell its time (no Date header)")
            .remedy(
                "Keep the node's clock synchronized: deadlines follow it alone while the platform's is not known.",
            );
    };
    let side = if skew.is_negative() { "behind" } else { "ahead of" };
    let seconds = skew.abs().as_secs_f64();
    if skew.abs() <= NOTABLE_SKEW {
        return Finding::new(CLOCK, Status::Ok, format!("{seconds:.1} s {side} the platform's"));
    }
    Finding::new(
        CLOCK,
        Status::Warning,
        format!("{seconds:.1} s {side} the platform's; deadlines follow the platform's"),
    )
    .remedy("Let chrony follow the Amazon Time Sync Service at 169.254.169.123.")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::time::Instant;

    use super::*;
    use crate::clock::Now;
    use crate::imds::Endpoint;

    const AT: &str = "http://169.254.169.254";

    fn answer(body: Option<&str>) -> Answer {
        let now = Now { instant: Instant::now(), wall: "2026-03-31T16:32:24.5Z".parse().unwrap() };
        let timing = Timing { asked: now, answered: now, date: None };
        Answer { body: body.map(|text| text.to_owned().into()), timing }
    }

    #[rstest]
    #[case::hop_limit(Error::TokenTimeout, "(PUT) was not answered", "hostNetwork: true")]
    #[case::disabled(Error::Forbidden(Endpoint::Token), "HttpEndpoint=disabled", "HttpEndpoint=enabled")]
    #[case::slow(Error::Timeout(Endpoint::Identity), "does not answer in time", "packet limit")]
    #[case::throttled(Error::Throttled(Endpoint::Token), "429", "in a loop")]
    #[case::broken(Error::Server { endpoint: Endpoint::Token, status: 503 }, "status 503", "version 2")]
    #[case::other(Error::Status { endpoint: Endpoint::Token, status: 404 }, "status 404", "version 2")]
    #[case::refused(
        Error::Connection { endpoint: Endpoint::Token, detail: "Connection refused".into() },
        "no connection: Connection refused",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT"
    )]
    fn each_way_to_fail_has_its_words_and_its_remedy(#[case] error: Error, #[case] found: &str, #[case] remedy: &str) {
        let finding = imds(AT, &Err(error.into()));
        assert_eq!(finding.status, Status::Missing);
        assert!(finding.found.starts_with(AT) && finding.found.contains(found), "{finding:?}");
        assert!(!finding.found.contains("next poll"), "nobody polls here: {finding:?}");
        let one = finding.remedy.unwrap();
        assert!(one.contains(remedy) && one.ends_with('.'), "{one}");
    }

    #[tokio::test]
    async fn an_answer_over_ipv6_says_so() {
        assert!(imds("http://[fd00:ec2::254]", &Ok(answer(None))).found.contains("over IPv6"));
        assert!(!imds(AT, &Ok(answer(None))).found.contains("IPv6"));
    }

    #[rstest]
    #[case(Kind::SpotInterruption, None, Status::Ok, "nothing announced")]
    #[case(Kind::RebalanceRecommendation, None, Status::Ok, "nothing announced")]
    #[case(
        Kind::RebalanceRecommendation,
        Some(r#"{"noticeTime":"2026-03-31T16:00:00Z"}"#),
        Status::Warning,
        "noticeTime"
    )]
    #[case(Kind::ScheduledEvent, Some("[]"), Status::Ok, "nothing announced")]
    #[case(Kind::ScheduledEvent, Some(r#"[{"Code":"system-reboot"}]"#), Status::Warning, "system-reboot")]
    #[case(Kind::AsgTermination, None, Status::Ok, "nothing announced")]
    #[case(Kind::AsgTermination, Some("InService\n"), Status::Ok, "nothing announced (InService)")]
    #[case(Kind::AsgTermination, Some("Terminated"), Status::Warning, "announced now: Terminated")]
    #[tokio::test]
    async fn a_level_is_told_as_it_stands(
        #[case] kind: Kind,
        #[case] body: Option<&str>,
        #[case] status: Status,
        #[case] words: &str,
    ) {
        let finding = signal(kind, &Ok(answer(body)));
        assert_eq!((finding.id, finding.status), (kind.as_str(), status));
        assert!(finding.found.contains(words), "{finding:?}");
    }

    #[test]
    fn a_kind_that_cannot_be_read_is_missing_while_others_can() {
        let finding = signal(Kind::ScheduledEvent, &Err(Unread::TooSlow));
        assert_eq!((finding.status, finding.found.as_str()), (Status::Missing, "no complete answer in time"));
    }

    #[test]
    fn names_that_are_not_known_are_left_out() {
        let some = Identity { availability_zone_id: Some("euw1-az1".into()), ..Identity::default() };
        assert_eq!(identity(Some(some)).found, "euw1-az1");
        assert_eq!(identity(Some(Identity::default())).status, Status::Warning);
        assert_eq!(identity(None).status, Status::Warning);
    }

    #[tokio::test]
    async fn a_platform_that_hides_its_time_is_a_warning() {
        assert_eq!(clock(&answer(None).timing).status, Status::Warning);
    }
}
