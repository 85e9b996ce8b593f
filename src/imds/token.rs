//! The session token of IMDSv2: its life, and when to ask for the next one.
//!
//! Expiry is kept on the monotonic clock. That clock stands still while an instance hibernates, so a token may be dead
//! before its time; the 401 path of the client covers that.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

/// What is asked for: the longest life that IMDS grants.
pub(super) const TTL: Duration = Duration::from_hours(6);

/// The shortest life that is believed: a header that says less is odd, and a token that dies early costs one 401.
const SHORTEST_TTL: Duration = Duration::from_mins(1);

/// Between two attempts to replace a token that still works, so that a failing token endpoint slows no poll down.
const REFRESH_PAUSE: Duration = Duration::from_mins(1);

/// Tokens seen so far have 56 characters.
const LONGEST: usize = 1024;

/// A token with its life. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct Token {
    header: HeaderValue,
    refresh_at: Instant,
    expires_at: Instant,
}

impl Token {
    /// Takes the body and the TTL header of a token answer that was asked for at `asked`. `None` if the token cannot be
    /// sent back in a header. A TTL that is missing or no number counts as the one asked for; others are clamped.
    pub(super) fn new(body: &[u8], ttl: Option<&HeaderValue>, asked: Instant) -> Option<Self> {
        let text = body.trim_ascii();
        if text.is_empty() || text.len() > LONGEST || !text.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut header = HeaderValue::from_bytes(text).ok()?;
        header.set_sensitive(true);
        let ttl = clamped_ttl(ttl);
        Some(Self { header, refresh_at: asked + ttl.mul_f64(0.8), expires_at: asked + ttl })
    }

    /// As it goes into the request.
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// It can still be sent.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now < self.expires_at
    }

    /// It is time to ask for the next one.
    pub(super) fn wants_refresh(&self, now: Instant) -> bool {
        now >= self.refresh_at
    }

    /// The next one could not be had: keep this one and ask again later.
    pub(super) fn postpone_refresh(&mut self, now: Instant) {
        self.refresh_at = now + REFRESH_PAUSE;
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

fn clamped_ttl(header: Option<&HeaderValue>) -> Duration {
    let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    seconds.map_or(TTL, |seconds| Duration::from_secs(seconds).clamp(SHORTEST_TTL, TTL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_replaced_at_80_percent_of_its_life_and_dead_at_its_end() {
        let asked = Instant::now();
        let token = Token::new(b"abc==", Some(&HeaderValue::from_static("100")), asked).unwrap();
        assert!(!token.wants_refresh(asked + Duration::from_secs(79)));
        assert!(token.wants_refresh(asked + Duration::from_secs(80)));
        assert!(token.is_alive(asked + Duration::from_secs(99)));
        assert!(!token.is_alive(asked + Duration::from_secs(100)));
    }

    #[test]
    fn odd_ttl_headers_are_clamped() {
        let cases = [
            (None, 21_600),
            (Some("0"), 60),
            (Some("-5"), 21_600),
            (Some("99999999"), 21_600),
            (Some("99999999999999999999999"), 21_600),
            (Some("soon"), 21_600),
            (Some(" 300 "), 300),
        ];
        for (header, seconds) in cases {
            let value = header.map(HeaderValue::from_static);
            assert_eq!(clamped_ttl(value.as_ref()), Duration::from_secs(seconds), "{header:?}");
        }
    }

    #[tokio::test]
    async fn a_token_that_no_header_can_carry_is_dropped() {
        let long = vec![b'x'; LONGEST + 1];
        let cases: [(&[u8], bool); 8] = [
            (b"AQAEAL==", true),
            (b"AQAEAL==\n", true),
            (b"", false),
            (b" \n", false),
            (b"AQ\x07AE", false),
            (b"AQ\r\nX-Evil: 1", false),
            (b"\xff\xfe", false),
            (&long, false),
        ];
        for (body, usable) in cases {
            assert_eq!(Token::new(body, None, Instant::now()).is_some(), usable, "{body:?}");
        }
    }

    #[tokio::test]
    async fn debug_output_does_not_show_the_token() {
        let token = Token::new(b"secret", None, Instant::now()).unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
    }
}
