//! What the answers of the metadata service mean. Pure.

use jiff::{SignedDuration, Timestamp};

use super::report::{CLOCK, Finding, IDENTITY, IMDS, Status};
use crate::config::{Config, Response};
use crate::http::BuildError;
use crate::imds::documents::{
    Identity, LifecycleState, LifecycleWord, Malformed, lifecycle_state, rebalance_recommendation, scheduled_events,
    spot_notice,
};
use crate::imds::{Answer, Error, Item, Timing};
use crate::signal::{Action, Kind};

/// What is asked first, to see whether anything can be asked at all.
pub const FIRST: Item = Item::InstanceId;

/// Where each kind is announced.
pub const ITEMS: [(Kind, Item); 4] = [
    (Kind::SpotInterruption, Item::SpotAction),
    (Kind::RebalanceRecommendation, Item::Rebalance),
    (Kind::ScheduledEvent, Item::ScheduledEvents),
    (Kind::AsgTermination, Item::TargetLifecycleState),
];

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
    let body = match read {
        Ok(answer) => answer.body.as_deref(),
        Err(error) => {
            return Finding::new(id, Status::Missing, words(error))
                .remedy("Check again; if it stays, look for a proxy or firewall that singles this path out.");
        }
    };
    // 404 is how the metadata service says that there is nothing.
    let Some(body) = body else { return quiet(kind, "") };
    let said = match kind {
        Kind::SpotInterruption => spot(body),
        Kind::RebalanceRecommendation => rebalance(body),
        Kind::ScheduledEvent => scheduled(body),
        Kind::AsgTermination => lifecycle(body),
    };
    match said {
        Ok(Said::Nothing(state)) => quiet(kind, state),
        Ok(Said::Announced(what)) => Finding::new(id, Status::Warning, format!("announced now: {what}")),
        Err(malformed) => {
            let text: String = String::from_utf8_lossy(body).chars().take(MOST_SHOWN).collect();
            Finding::new(id, Status::Missing, format!("{malformed}: {text}"))
                .remedy("Check that the endpoint is an EC2 metadata service and that no proxy stands in between.")
        }
    }
}

/// What a document says, in words.
enum Said {
    /// Nothing is announced; the state that it tells, if it tells one.
    Nothing(&'static str),
    /// This is.
    Announced(String),
}

fn quiet(kind: Kind, state: &str) -> Finding {
    let state = if state.is_empty() { String::new() } else { format!(" ({state})") };
    Finding::new(kind.as_str(), Status::Ok, format!("nothing announced{state}"))
}

fn spot(body: &[u8]) -> Result<Said, Malformed> {
    let notice = spot_notice(body)?;
    let what = notice.action.map_or("end this instance", Action::phrase);
    Ok(Said::Announced(format!("EC2 will {what} at {}", at(notice.time))))
}

fn rebalance(body: &[u8]) -> Result<Said, Malformed> {
    let recommendation = rebalance_recommendation(body)?;
    Ok(Said::Announced(format!("an elevated risk of an interruption, since {}", at(recommendation.notice_time))))
}

fn scheduled(body: &[u8]) -> Result<Said, Malformed> {
    let read = scheduled_events(body)?;
    let mut events: Vec<String> = read
        .events
        .iter()
        .filter(|event| !event.done)
        .map(|event| format!("{} ({}) not before {}", event.code_word, event.id, at(event.not_before)))
        .collect();
    if !read.complete {
        events.push("an event that cannot be read".to_owned());
    }
    Ok(if events.is_empty() { Said::Nothing("") } else { Said::Announced(events.join(", ")) })
}

fn lifecycle(body: &[u8]) -> Result<Said, Malformed> {
    Ok(match lifecycle_state(body)? {
        LifecycleWord::Empty => Said::Nothing(""),
        LifecycleWord::Known(LifecycleState::InService) => Said::Nothing(LifecycleState::InService.as_str()),
        LifecycleWord::Known(state) => {
            Said::Announced(format!("the auto scaling group moves it to {}", state.as_str()))
        }
        LifecycleWord::Unknown => {
            Said::Announced(format!("a target state that is not known: {}", String::from_utf8_lossy(body).trim()))
        }
    })
}

fn at(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "a time that it does not say".to_owned(), |time| time.to_string())
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
        "since 2026-03-31T16"
    )]
    #[case(Kind::RebalanceRecommendation, Some("{}"), Status::Warning, "a time that it does not say")]
    #[case(Kind::RebalanceRecommendation, Some("<html/>"), Status::Missing, "<html/>")]
    #[case(Kind::ScheduledEvent, Some("[]"), Status::Ok, "nothing announced")]
    #[case(
        Kind::ScheduledEvent,
        Some(r#"[{"Code":"system-reboot","EventId":"instance-event-0","State":"active","NotBefore":"21 Jan 2027 09:00:43 GMT"}]"#),
        Status::Warning,
        "system-reboot (instance-event-0) not before 2027-01-21T09:00:43Z"
    )]
    #[case(
        Kind::ScheduledEvent,
        Some(r#"[{"Code":"system-reboot","EventId":"instance-event-0","State":"canceled","NotBefore":"21 Jan 2027 09:00:43 GMT"}]"#),
        Status::Ok,
        "nothing announced"
    )]
    #[case(Kind::ScheduledEvent, Some("[7]"), Status::Warning, "cannot be read")]
    #[case(Kind::ScheduledEvent, Some("{}"), Status::Missing, "no JSON list")]
    #[case(Kind::AsgTermination, None, Status::Ok, "nothing announced")]
    #[case(Kind::AsgTermination, Some("InService\n"), Status::Ok, "nothing announced (InService)")]
    #[case(Kind::AsgTermination, Some("Terminated"), Status::Warning, "moves it to Terminated")]
    #[case(Kind::AsgTermination, Some("Orbiting"), Status::Warning, "not known: Orbiting")]
    #[case(Kind::AsgTermination, Some("two words"), Status::Missing, "no single word")]
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
