//! Templates of NTH's webhook (Go's text/template) in the form that templates have here. Pure.

use crate::notify::webhook::{Escape, Template};

/// NTH's fields and those here that say the same; `None` if none does.
pub const FIELDS: [(&str, Option<&str>); 25] = [
    ("EventID", Some("trace_id")),
    ("Kind", Some("kind")),
    ("Monitor", None),
    ("Description", Some("headline")),
    ("State", None),
    ("AutoScalingGroupName", None),
    ("NodeName", Some("node")),
    ("NodeLabels", None),
    ("Pods", Some("pods")),
    ("InstanceID", Some("instance_id")),
    ("ProviderID", None),
    ("InstanceType", Some("instance_type")),
    ("IsManaged", None),
    ("StartTime", Some("deadline")),
    ("EndTime", None),
    ("NodeProcessed", None),
    ("InProgress", None),
    ("AccountId", None),
    ("InstanceLifeCycle", None),
    ("PublicHostname", None),
    ("PublicIP", None),
    ("LocalHostname", None),
    ("LocalIP", None),
    ("AvailabilityZone", Some("zone")),
    ("Region", Some("region")),
];

/// The body that NTH has by default, as far as its receivers look: an object with `text`.
pub const DEFAULT: &str = r#"{"text": "{{summary}}"}"#;

/// The template here that makes the same of an interruption. The error says what stands in the way.
pub fn translate(text: &str, escape: Escape) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, behind) = after.split_once("}}").ok_or("it has a `{{` without its end")?;
        out.push_str(before);
        out.push_str("{{");
        out.push_str(field(action)?);
        out.push_str("}}");
        rest = behind;
    }
    out.push_str(rest);
    match Template::parse(&out, escape) {
        Ok(_) => Ok(out),
        Err(why) => Err(why.to_string()),
    }
}

fn field(action: &str) -> Result<&'static str, String> {
    let shown: String = action.trim().chars().take(60).collect();
    // A dash takes white space away around the action; a field alone seldom means it.
    let bare = action.strip_prefix("- ").unwrap_or(action);
    let bare = bare.strip_suffix(" -").unwrap_or(bare).trim();
    let Some(name) = bare.strip_prefix('.') else {
        return Err(format!("it has `{shown}`, and templates here have no logic"));
    };
    match FIELDS.iter().find(|(theirs, _)| *theirs == name) {
        Some((_, Some(ours))) => Ok(ours),
        Some((_, None)) => Err(format!("it names `.{name}`, which is not known here")),
        None => Err(format!("it has `{shown}`, and templates here have fields alone")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        r#"{"text":"{{ .NodeName }}: {{.Description}} {{- .Kind -}}"}"#,
        r#"{"text":"{{node}}: {{headline}} {{kind}}"}"#
    )]
    #[case(r#"{"text": "plain"}"#, r#"{"text": "plain"}"#)]
    fn fields_are_translated(#[case] theirs: &str, #[case] ours: &str) {
        assert_eq!(translate(theirs, Escape::Json).as_deref(), Ok(ours));
    }

    #[rstest]
    #[case("{{ if .Pods }}x{{ end }}", "it has `if .Pods`, and templates here have no logic")]
    #[case("{{ .NodeLabels }}", "it names `.NodeLabels`, which is not known here")]
    #[case("{{ .Kind | lower }}", "it has `.Kind | lower`, and templates here have fields alone")]
    #[case("{{ .Kind", "it has a `{{` without its end")]
    #[case("{text: {{ .Kind }}}", "what comes out is not JSON: ")]
    fn what_cannot_be_translated_is_said(#[case] theirs: &str, #[case] why: &str) {
        let error = translate(theirs, Escape::Json).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }

    #[test]
    fn every_field_here_exists_and_the_default_body_is_a_template() {
        for (_, ours) in FIELDS {
            assert!(ours.is_none_or(|ours| crate::notify::webhook::FIELDS.contains(&ours)), "{ours:?}");
        }
        assert!(Template::parse(DEFAULT, Escape::Json).is_ok());
    }
}
