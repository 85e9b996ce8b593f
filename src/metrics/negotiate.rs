//! Which of the two text formats a scraper gets (RFC 9110 §12.5.1, as far as a metrics page needs it).

/// Content types of the OpenMetrics text format, by the way in which names beyond ASCII would be written. There are none
/// here, so that all are the same text; who asks for one wants to read that it is so.
const OPENMETRICS: [(&str, &str); 5] = [
    ("", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ("allow-utf-8", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
    ("underscores", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
    ("dots", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots"),
    ("values", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=values"),
];
/// Content type of the classic Prometheus text format.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4; also what a browser and curl get, since every client can show plain text.
    Classic,
}

/// Chooses the format for an `Accept` header, with its content type. OpenMetrics has to be named; wildcards, silence and
/// nonsense mean classic.
pub fn format(accept: Option<&str>) -> (Format, &'static str) {
    let (mut openmetrics, mut classic) = ((0.0_f32, CLASSIC), 0.0_f32);
    for range in accept.unwrap_or_default().split(',') {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        let (mut quality, mut version, mut escaping) = (1.0_f32, None, "");
        for (key, value) in parameters.split(';').filter_map(|parameter| parameter.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.parse().unwrap_or(0.0),
                "version" => version = Some(value),
                "escaping" => escaping = value,
                _ => {}
            }
        }
        match media.trim().to_ascii_lowercase().as_str() {
            "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
                let named = OPENMETRICS.iter().find(|(scheme, _)| *scheme == escaping).unwrap_or(&OPENMETRICS[0]);
                if quality > openmetrics.0 {
                    openmetrics = (quality, named.1);
                }
            }
            "text/plain" | "text/*" | "*/*" => classic = classic.max(quality),
            _ => {}
        }
    }
    if openmetrics.0 > 0.0 && openmetrics.0 >= classic {
        (Format::OpenMetrics, openmetrics.1)
    } else {
        (Format::Classic, CLASSIC)
    }
}

/// Whether an `Accept-Encoding` header wants gzip. It has to be named.
pub fn gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && quality.is_ok_and(|quality| quality > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::nothing_asked(None, Format::Classic)]
    #[case::empty(Some(""), Format::Classic)]
    #[case::curl(Some("*/*"), Format::Classic)]
    #[case::browser(Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Format::Classic)]
    #[case::prometheus(
        Some(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;\
             version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
             */*;q=0.2"
        ),
        Format::OpenMetrics
    )]
    #[case::classic_preferred(Some("application/openmetrics-text;q=0.4, text/plain;q=0.9"), Format::Classic)]
    #[case::openmetrics_refused(Some("application/openmetrics-text;q=0"), Format::Classic)]
    #[case::only_an_older_version(Some("application/openmetrics-text; version=0.0.1"), Format::Classic)]
    #[case::named_and_wild(Some("application/openmetrics-text, */*"), Format::OpenMetrics)]
    #[case::upper_case(Some("Application/OpenMetrics-Text; Version=\"1.0.0\""), Format::OpenMetrics)]
    #[case::broken_quality(Some("application/openmetrics-text;q=high"), Format::Classic)]
    fn the_format_follows_the_header(#[case] accept: Option<&str>, #[case] expected: Format) {
        let (format, content_type) = format(accept);
        assert_eq!(format, expected);
        let prefix = if expected == Format::Classic { "text/plain" } else { "application/openmetrics-text" };
        assert!(content_type.starts_with(prefix), "{content_type}");
    }

    #[rstest::rstest]
    #[case("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2", "; escaping=allow-utf-8")]
    #[case("application/openmetrics-text;version=1.0.0;escaping=underscores", "; escaping=underscores")]
    #[case("application/openmetrics-text; escaping=\"dots\"", "; escaping=dots")]
    #[case("application/openmetrics-text; escaping=values;q=0.1, application/openmetrics-text;q=0.5", "charset=utf-8")]
    #[case("application/openmetrics-text; escaping=other", "charset=utf-8")]
    fn the_scheme_for_names_is_repeated(#[case] accept: &str, #[case] end: &str) {
        let (_, content_type) = format(Some(accept));
        assert!(content_type.ends_with(end), "{content_type}");
    }

    #[rstest::rstest]
    #[case("gzip", true)]
    #[case("deflate, GZip;q=0.5", true)]
    #[case("gzip;q=0", false)]
    #[case("gzip;q=much", false)]
    #[case("", false)]
    #[case("*", false)]
    #[case("identity, zstd", false)]
    fn gzip_is_for_who_names_it(#[case] accept_encoding: &str, #[case] expected: bool) {
        assert_eq!(gzip(accept_encoding), expected);
    }
}
