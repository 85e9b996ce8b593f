use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::notify::facts::tests as samples;

fn json(text: &str) -> Result<Template, TemplateError> {
    Template::parse(text, Escape::Json)
}

#[test]
fn the_default_bodies_are_those_of_the_golden_file() {
    samples::golden("webhook.json", &samples::all().map(|(name, facts, ..)| (name, payload(&facts))));
}

#[test]
fn a_template_has_the_values_in_place_of_the_fields() {
    let template =
        json(r#"{"text": "{{headline}} ({{ zone }})", "left": {{seconds_left}}, "pods": {{pods}}}"#).unwrap();
    let expected = r#"{"text": "ip-10-0-1-23 is terminated in 118 s: spot interruption (eu-central-1a)", "left": 118, "pods": 18}"#;
    assert_eq!(template.render(&samples::notice()), expected);
    let over = template.render(&Facts { seconds_left: None, pods: None, ..samples::over() });
    assert!(over.ends_with("\"left\": null, \"pods\": null}"), "{over}");
}

#[test]
fn plain_text_is_not_escaped() {
    let facts = Facts { headline: "a \"b\"\n<c>".into(), ..samples::notice() };
    assert_eq!(
        Template::parse("{{headline}} – {{node}}", Escape::Text).unwrap().render(&facts),
        "a \"b\"\n<c> – ip-10-0-1-23"
    );
}

#[rstest]
#[case::unknown(
    "{\n\"a\": \"{{nodename}}\"}",
    "line 2 names {{nodename}}, which is not known; known are event, headline, "
)]
#[case::logic("{{#if node}}x{{/if}}", "line 1 names {{#if node}}, which is not known")]
#[case::open("{\"a\": \"{{node\"}\n}}", "line 1 opens {{ and does not close it on the same line")]
#[case::bare_text("{\"a\": {{node}}}", "what comes out is not JSON: ")]
#[case::broken("{\"a\": \"{{node}}\"", "what comes out is not JSON: ")]
#[case::empty(" \n", "it is empty; write what is to be sent")]
fn a_template_with_a_mistake_is_refused_with_its_place_and_the_remedy(#[case] text: &str, #[case] message: &str) {
    let error = json(text).unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[test]
fn every_field_is_known_and_has_a_value_in_a_full_message() {
    let facts = samples::full();
    for field in FIELDS {
        let template = Template::parse(&format!("{{{{{field}}}}}"), Escape::Text).unwrap();
        assert!(!template.render(&facts).is_empty(), "{field}");
    }
}

proptest! {
    #[test]
    fn what_was_accepted_as_json_makes_json_of_every_message(
        words in ".{0,60}",
        fields in proptest::collection::vec(0..FIELDS.len(), 0..8),
        left in proptest::option::of(any::<i64>()),
        slack in proptest::option::of(-1e9_f64..1e9),
    ) {
        let text: Vec<String> = fields.iter().map(|at| format!("\"{at}\": \"{{{{{}}}}}\"", FIELDS[*at])).collect();
        let template = json(&format!("{{{}}}", text.join(", "))).unwrap();
        let mut facts = samples::full();
        facts.headline = words.clone();
        facts.place.zone = words.clone();
        facts.detail = Some(words.clone());
        facts.hurt = vec![words];
        (facts.seconds_left, facts.slack_seconds) = (left, slack);
        let out = template.render(&facts);
        prop_assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
    }
}
