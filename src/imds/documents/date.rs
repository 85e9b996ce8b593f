//! The dates of maintenance events: `14 Nov 2026 09:00:43 GMT`, with a day of one or two digits.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// RFC 2822 allows this form: the weekday may be missing and `GMT` is one of its old zones.
static PARSER: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// Reads a date of an event, and says whether it was written in another way than EC2 does. Besides RFC 2822 with any zone
/// RFC 3339 is read, and fractions of a second are cut. Without a zone it is taken for GMT: all times of EC2 are.
pub(super) fn event_date(text: &str) -> Option<(Timestamp, bool)> {
    let text = text.trim();
    let plain = text.ends_with(" GMT") && text.starts_with(|first: char| first.is_ascii_digit());
    if let Ok(time) = PARSER.parse_timestamp(text) {
        return Some((time, !plain));
    }
    let time = text.parse().ok().or_else(|| {
        let whole = without_fraction(text);
        let zoned = PARSER.parse_timestamp(&whole).ok();
        zoned.or_else(|| PARSER.parse_timestamp(format!("{whole} GMT")).ok())
    })?;
    Some((time, true))
}

/// `9:00:43.25 GMT` → `9:00:43 GMT`.
fn without_fraction(text: &str) -> String {
    let Some((before, after)) = text.split_once('.') else { return text.to_owned() };
    format!("{before}{}", after.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_documented("14 Nov 2026 09:00:43 GMT", "2026-11-14T09:00:43Z", false)]
    #[case::one_digit("4 Nov 2026 09:00:43 GMT", "2026-11-04T09:00:43Z", false)]
    #[case::padded("04 Nov 2026 09:00:43 GMT", "2026-11-04T09:00:43Z", false)]
    #[case::leap_day("29 Feb 2028 23:59:59 GMT", "2028-02-29T23:59:59Z", false)]
    #[case::other_case("14 nOV 2026 09:00:43 GMT", "2026-11-14T09:00:43Z", false)]
    #[case::surrounded(" 14 Nov 2026 09:00:43 GMT\n", "2026-11-14T09:00:43Z", false)]
    #[case::weekday("Sat, 14 Nov 2026 09:00:43 GMT", "2026-11-14T09:00:43Z", true)]
    #[case::wrong_weekday("Mon, 14 Nov 2026 09:00:43 GMT", "2026-11-14T09:00:43Z", true)]
    #[case::offset("14 Nov 2026 11:00:43 +0200", "2026-11-14T09:00:43Z", true)]
    #[case::fraction("14 Nov 2026 09:00:43.750 GMT", "2026-11-14T09:00:43Z", true)]
    #[case::fraction_and_offset("14 Nov 2026 04:00:43.5 -0500", "2026-11-14T09:00:43Z", true)]
    #[case::no_zone("14 Nov 2026 09:00:43", "2026-11-14T09:00:43Z", true)]
    #[case::rfc3339("2026-11-14T09:00:43Z", "2026-11-14T09:00:43Z", true)]
    #[case::rfc3339_offset("2026-11-14T11:00:43+02:00", "2026-11-14T09:00:43Z", true)]
    fn a_date_is_read_and_said_to_be_odd_or_not(#[case] text: &str, #[case] time: &str, #[case] odd: bool) {
        assert_eq!(event_date(text), Some((time.parse().unwrap(), odd)));
    }

    #[test]
    fn every_month_has_its_place() {
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        for (index, month) in months.into_iter().enumerate() {
            let expected = format!("2026-{:02}-09T00:00:00Z", index + 1).parse().unwrap();
            for spelling in [month.to_owned(), month.to_uppercase(), month.to_lowercase()] {
                assert_eq!(event_date(&format!("9 {spelling} 2026 00:00:00 GMT")), Some((expected, false)));
            }
        }
    }

    #[rstest]
    #[case("")]
    #[case("soon")]
    #[case("31 Feb 2026 09:00:43 GMT")]
    #[case("29 Feb 2026 09:00:43 GMT")]
    #[case("14 Nov 2026 25:00:43 GMT")]
    #[case("14 Okt 2026 09:00:43 GMT")]
    #[case("14 Nov 2026 09:00:43 Europe/Berlin")]
    #[case("14/11/2026 09:00:43 GMT")]
    #[case("2026-11-14 09:00:43")]
    #[case("1794646843")]
    #[case("14 Nov")]
    #[case("14 Nov 2026 09:00:43 GMT GMT")]
    fn what_is_no_date_is_none(#[case] text: &str) {
        assert_eq!(event_date(text), None);
    }

    proptest::proptest! {
        #[test]
        fn any_second_of_a_century_survives_being_written_and_read(second in 0_i64..4_102_444_800) {
            let time = Timestamp::from_second(second).unwrap();
            for form in ["%d %b %Y %H:%M:%S GMT", "%-d %b %Y %H:%M:%S GMT"] {
                proptest::prop_assert_eq!(event_date(&time.strftime(form).to_string()), Some((time, false)));
            }
        }
    }
}
