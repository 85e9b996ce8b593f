//! What a pod says of its own disruption, in the annotations that the field already has.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// Karpenter's: `"true"`, or a duration that counts from the pod's start.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// The Cluster Autoscaler's: `"true"`, `"false"` or `"on-completion"`.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// The Cluster Autoscaler's, on a pod of a DaemonSet: `"true"` has it evicted like others.
pub const ENABLE_DAEMON_SET_EVICTION: &str = "cluster-autoscaler.kubernetes.io/enable-ds-eviction";

/// What a pod wishes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To be left alone. An interruption is not voluntary: it is honoured until the pod's latest start.
    Stay {
        /// The annotation.
        asked_by: &'static str,
        /// When the wish ends by itself, if it does.
        until: Option<Timestamp>,
    },
    /// To run to its own end; evicted no earlier than at its latest start.
    Finish,
    /// It does not mind: evicted first.
    Leave,
}

impl Wish {
    /// The wish in these annotations of a pod that started then. Of several the most careful one counts; a value that is
    /// not understood says nothing, as with those who made the annotation.
    pub fn of(annotations: &BTreeMap<String, String>, started: Option<Timestamp>) -> Option<Self> {
        let value = |key: &str| annotations.get(key).map(String::as_str);
        let autoscaler = match value(SAFE_TO_EVICT) {
            Some("false") => Some(Self::Stay { asked_by: SAFE_TO_EVICT, until: None }),
            Some("on-completion") => Some(Self::Finish),
            Some("true") => Some(Self::Leave),
            _ => None,
        };
        let karpenter = value(DO_NOT_DISRUPT).and_then(|value| {
            if value == "true" {
                return Some(Self::Stay { asked_by: DO_NOT_DISRUPT, until: None });
            }
            let lasts = go_duration(value)?;
            // A pod that has not started yet has all of it ahead.
            let until = started.map(|started| started.checked_add(lasts).unwrap_or(Timestamp::MAX));
            Some(Self::Stay { asked_by: DO_NOT_DISRUPT, until })
        });
        match (karpenter, autoscaler) {
            (Some(Self::Stay { until: Some(_), .. }), Some(forever @ Self::Stay { .. })) => Some(forever),
            (stay @ Some(Self::Stay { .. }), _) => stay,
            (_, autoscaler) => autoscaler,
        }
    }

    /// The annotation that asks to leave the pod alone at `now`, if one does.
    pub fn pinned_by(self, now: Timestamp) -> Option<&'static str> {
        match self {
            Self::Stay { until: Some(until), .. } if until <= now => None,
            Self::Stay { asked_by, .. } => Some(asked_by),
            Self::Finish => Some(SAFE_TO_EVICT),
            Self::Leave => None,
        }
    }
}

/// A positive duration as Go's `time.ParseDuration` reads it: `4h`, `1h30m`, `1.5h`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (digits, tail) = rest.split_at(number);
        let unit = tail.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let value: f64 = digits.parse().ok()?;
        sum = sum.checked_add(Duration::try_from_secs_f64(value * seconds).ok()?)?;
        rest = tail;
    }
    // Go counts nanoseconds in 63 bits: 292 years.
    (!sum.is_zero() && sum.as_nanos() <= i64::MAX.unsigned_abs().into()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const STAY: Option<Wish> = Some(Wish::Stay { asked_by: DO_NOT_DISRUPT, until: None });
    const UNSAFE: Option<Wish> = Some(Wish::Stay { asked_by: SAFE_TO_EVICT, until: None });

    fn until(text: &str) -> Wish {
        Wish::Stay { asked_by: DO_NOT_DISRUPT, until: Some(text.parse().unwrap()) }
    }

    fn of(karpenter: &str, autoscaler: &str) -> Option<Wish> {
        let both = [(DO_NOT_DISRUPT, karpenter), (SAFE_TO_EVICT, autoscaler)];
        let given = both.into_iter().filter(|(_, value)| *value != "-");
        let annotations = given.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Wish::of(&annotations, Some("2026-03-31T12:00:00Z".parse().unwrap()))
    }

    #[rstest]
    #[case::nothing("-", "-", None)]
    #[case::karpenter("true", "-", STAY)]
    #[case::karpenter_false("false", "-", None)]
    #[case::karpenter_case("True", "-", None)]
    #[case::for_hours("4h", "-", Some(until("2026-03-31T16:00:00Z")))]
    #[case::mixed("1h30m", "-", Some(until("2026-03-31T13:30:00Z")))]
    #[case::fraction("1.5h", "-", Some(until("2026-03-31T13:30:00Z")))]
    #[case::no_unit("4", "-", None)]
    #[case::words("4 hours", "-", None)]
    #[case::days("4d", "-", None)]
    #[case::negative("-4h", "-", None)]
    #[case::zero("0s", "-", None)]
    #[case::empty("", "-", None)]
    #[case::dots("1.2.3h", "-", None)]
    #[case::dot(".h", "-", None)]
    #[case::beyond_go("10000000h", "-", None)]
    #[case::autoscaler("-", "false", UNSAFE)]
    #[case::safe("-", "true", Some(Wish::Leave))]
    #[case::on_completion("-", "on-completion", Some(Wish::Finish))]
    #[case::autoscaler_typo("-", "no", None)]
    #[case::stay_beats_leave("true", "true", STAY)]
    #[case::stay_beats_finish("4h", "on-completion", Some(until("2026-03-31T16:00:00Z")))]
    #[case::forever_beats_a_while("4h", "false", UNSAFE)]
    #[case::both("true", "false", STAY)]
    fn the_most_careful_wish_that_is_understood_counts(
        #[case] karpenter: &str,
        #[case] autoscaler: &str,
        #[case] expected: Option<Wish>,
    ) {
        assert_eq!(of(karpenter, autoscaler), expected);
    }

    #[test]
    fn a_pod_that_has_not_started_has_its_whole_time_ahead() {
        let annotations = BTreeMap::from([(DO_NOT_DISRUPT.to_owned(), "4h".to_owned())]);
        assert_eq!(Wish::of(&annotations, None), STAY);
    }

    #[test]
    fn a_wish_that_ended_pins_nobody() {
        let now: Timestamp = "2026-03-31T16:00:00Z".parse().unwrap();
        assert_eq!(of("4h", "-").unwrap().pinned_by(now), None);
        assert_eq!(of("5h", "-").unwrap().pinned_by(now), Some(DO_NOT_DISRUPT));
        assert_eq!(of("-", "on-completion").unwrap().pinned_by(now), Some(SAFE_TO_EVICT));
        assert_eq!(of("-", "true").unwrap().pinned_by(now), None);
    }

    #[test]
    fn any_text_is_a_duration_or_none() {
        proptest::proptest!(|(text in "[0-9.+hmsuµn-]{0,12}")| {
            let _ = go_duration(&text);
        });
    }
}
