//! Which of the two text formats a scraper gets (RFC 9110 §12.5.1, as far as a metrics page needs it).

/// Content type of the OpenMetrics text format.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the classic Prometheus text format.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4; also what a browser and curl get, since every client can show plain text.
    Classic,
}

/// Chooses the format for an `Accept` header. OpenMetrics has to be named; wildcards, silence and nonsense mean classic.
pub fn format(accept: Option<&str>) -> Format {
    let (mut openmetrics, mut classic) = (0.0_f32, 0.0_f32);
    for range in accept.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f32, None);
        for (key, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match media.as_str() {
            "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
                openmetrics = openmetrics.max(quality);
            }
            "text/plain" | "text/*" | "*/*" => classic = classic.max(quality),
            _ => {}
        }
    }
    if openmetrics > 0.0 && openmetrics >= classic { Format::OpenMetrics } else { Format::Classic }
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
        assert_eq!(format(accept), expected);
    }
}
