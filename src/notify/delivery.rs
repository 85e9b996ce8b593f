//! What a sink's answer means, and whether and when to try again.

use std::time::Duration;

/// From one try to the next without a word of the peer: half a second, doubled up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// For one try, the answer included.
pub const TRY_LIMIT: Duration = Duration::from_secs(10);

/// What came back from one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Answer {
        /// Its HTTP status.
        status: u16,
        /// How long the peer asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// None; in words that name no address.
    Silence(String),
    /// It was not sent: what is needed for it cannot be read at the moment.
    Unsent(String),
}

/// What follows from a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer has it.
    Delivered,
    /// It may go better later.
    Retry {
        /// How long to wait.
        pause: Duration,
        /// The peer asked for it, so it is not to be cut short.
        asked: bool,
        /// Why it did not work.
        why: String,
    },
    /// It would not go better later.
    GiveUp {
        /// Why.
        why: String,
    },
}

/// Judges the reply to try number `tries` (from 1).
pub fn judge(reply: &Reply, tries: u32) -> Verdict {
    let later = |why: String| Verdict::Retry { pause: pause(tries), asked: false, why };
    match reply {
        Reply::Silence(why) | Reply::Unsent(why) => later(why.clone()),
        Reply::Answer { status: 200..=299, .. } => Verdict::Delivered,
        Reply::Answer { status: status @ (408 | 425 | 429 | 500..=599), retry_after } => match retry_after {
            Some(asked) => Verdict::Retry {
                pause: (*asked).max(FIRST_PAUSE),
                asked: true,
                why: format!("{status}, try again in {} s", asked.as_secs()),
            },
            None => later(words(*status)),
        },
        Reply::Answer { status, .. } => Verdict::GiveUp { why: words(*status) },
    }
}

/// Doubles with each try. Agents of a storm are apart by the moments of their polls.
fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1).min(16))).min(LONGEST_PAUSE)
}

fn words(status: u16) -> String {
    let meaning = match status {
        300..=399 => "it points elsewhere, and a secret is not sent along",
        400 | 422 => "it does not accept the message",
        401 | 403 => "it does not accept the credentials",
        404 | 410 => "there is no such webhook, or it was revoked",
        408 | 425 => "it was not ready",
        413 => "the message is too large for it",
        429 => "too many messages",
        500..=599 => "it is not well",
        _ => "it refuses the message",
    };
    format!("{status}: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn answer(status: u16, retry_after: Option<u64>) -> Reply {
        Reply::Answer { status, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[rstest]
    #[case(200)]
    #[case(202)]
    #[case(204)]
    fn any_success_is_one(#[case] status: u16) {
        assert_eq!(judge(&answer(status, None), 1), Verdict::Delivered);
    }

    #[rstest]
    #[case(301)]
    #[case(308)]
    #[case(400)]
    #[case(401)]
    #[case(403)]
    #[case(404)]
    #[case(410)]
    #[case(413)]
    #[case(422)]
    fn what_the_peer_will_never_take_is_given_up_at_once(#[case] status: u16) {
        let verdict = judge(&answer(status, Some(1)), 1);
        assert!(matches!(&verdict, Verdict::GiveUp { why } if why.starts_with(&format!("{status}: "))), "{verdict:?}");
    }

    #[rstest]
    #[case(408)]
    #[case(425)]
    #[case(429)]
    #[case(500)]
    #[case(503)]
    #[case(504)]
    fn what_may_pass_is_tried_again(#[case] status: u16) {
        let verdict = judge(&answer(status, None), 1);
        assert!(matches!(verdict, Verdict::Retry { pause: FIRST_PAUSE, asked: false, .. }), "{verdict:?}");
    }

    #[rstest]
    #[case::seconds(7, Duration::from_secs(7))]
    #[case::none_at_all(0, FIRST_PAUSE)]
    #[case::longer_than_our_own(600, Duration::from_secs(600))]
    fn the_peers_own_pause_is_kept(#[case] asked: u64, #[case] kept: Duration) {
        for status in [429, 503] {
            let verdict = judge(&answer(status, Some(asked)), 1);
            assert!(
                matches!(verdict, Verdict::Retry { pause, asked: true, .. } if pause == kept),
                "{status}: {verdict:?}"
            );
        }
    }

    #[rstest]
    #[case(1, 500)]
    #[case(2, 1000)]
    #[case(3, 2000)]
    #[case(6, 15_000)]
    #[case(u32::MAX, 15_000)]
    fn pauses_grow_to_a_limit(#[case] tries: u32, #[case] millis: u64) {
        for reply in [Reply::Silence("no answer in time".into()), Reply::Unsent("no file".into())] {
            let verdict = judge(&reply, tries);
            assert!(
                matches!(verdict, Verdict::Retry { pause, asked: false, .. } if pause == Duration::from_millis(millis)),
                "{verdict:?}"
            );
        }
    }
}
