//! The same content in other words of JSON, and what has no place in it.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::*;

/// As `\u…` throughout, which no borrowed text can hold.
fn escaped(text: &str) -> String {
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    format!("\"{}\"", units.collect::<String>())
}

/// Every text of the document, keys included, with escapes.
fn escaped_throughout(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}:{}", escaped(key), escaped_throughout(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(escaped_throughout).collect::<Vec<_>>().join(","))
        }
        Value::String(text) => escaped(text),
        other => other.to_string(),
    }
}

const GOLDENS: [&str; 9] = [
    "enis-v1.7.json",
    "enis-v1.9.json",
    "enis-flat.json",
    "enis-cards.json",
    "enis-blanked.json",
    "enis-prefixes.json",
    "enis-ipv6.json",
    "enis-negative-total.json",
    "catch-all.json",
];

fn golden_value(name: &str) -> Value {
    let path = format!("{}/tests/golden/cni/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn escapes_change_nothing() {
    for name in GOLDENS {
        let value = golden_value(name);
        let expected = document(value.to_string().as_bytes());
        assert_eq!(document(escaped_throughout(&value).as_bytes()), expected, "{name}");
    }
}

/// Pointers to every value within.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{}", key.replace('/', "~1"));
        pointers(value, &at, found);
        found.push(at);
    }
}

#[test]
fn null_is_taken_wherever_it_stands() {
    let mut tried = 0;
    for name in GOLDENS {
        let value = golden_value(name);
        let mut found = Vec::new();
        pointers(&value, "", &mut found);
        for pointer in found {
            let mut value = value.clone();
            *value.pointer_mut(&pointer).unwrap() = Value::Null;
            let read = document(value.to_string().as_bytes());
            assert!(!matches!(read, Err(Refusal::Malformed(_))), "{name}{pointer}: {read:?}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn of_two_entries_with_one_key_the_last_counts() {
    const HELD: &str = r#"{"IPAMKey":{"networkName":"aws-cni"}}"#;
    let block = |addresses: &str| format!(r#"{{"IPAddresses":{{{addresses}}}}}"#);
    let eni = |blocks: &str| format!(r#"{{"AvailableIPv4Cidrs":{{{blocks}}}}}"#);
    let card = |enis: &str| format!(r#"{{"ENIs":{{{enis}}}}}"#);
    let (free, held) = (block(""), block(&format!(r#""10.0.0.1":{HELD}"#)));
    let (empty, full) = (eni(""), eni(&format!(r#""10.0.0.1/32":{held}"#)));
    let whole = |blocks: &str| format!(r#"{{"0":{}}}"#, card(&format!(r#""a":{}"#, eni(blocks))));
    for (body, expected) in [
        // Two addresses of one name, beside each other and apart.
        (
            whole(&format!(r#""10.0.0.0/28":{}"#, block(&format!(r#""10.0.0.1":{HELD},"10.0.0.1":{{}}"#)))),
            vec![(16, 0)],
        ),
        (
            whole(&format!(r#""10.0.0.0/28":{}"#, block(&format!(r#""10.0.0.1":{{}},"10.0.0.1":{HELD}"#)))),
            vec![(16, 1)],
        ),
        (
            whole(&format!(
                r#""10.0.0.0/28":{}"#,
                block(&format!(r#""10.0.0.1":{HELD},"10.0.0.2":{HELD},"10.0.0.1":{{}},"10.0.0.2":{HELD}"#))
            )),
            vec![(16, 1)],
        ),
        // Two blocks.
        (whole(&format!(r#""10.0.0.1/32":{held},"10.0.0.1/32":{free}"#)), vec![(1, 0)]),
        (whole(&format!(r#""10.0.0.1/32":{free},"10.0.0.0/28":null,"10.0.0.1\/32":{held}"#)), vec![(16, 0), (1, 1)]),
        // Two interfaces, and two cards.
        (format!(r#"{{"0":{}}}"#, card(&format!(r#""a":{full},"a":{empty}"#))), vec![]),
        (format!(r#"{{"0":{}}}"#, card(&format!(r#""a":{empty},"a":{full}"#))), vec![(1, 1)]),
        (format!(r#"{{"0":null,"\u0030":{}}}"#, card(&format!(r#""a":{full}"#))), vec![(1, 1)]),
    ] {
        let document = document(body.as_bytes()).unwrap();
        let read = document.cards.iter().flat_map(|card| &card.interfaces).flat_map(|eni| &eni.blocks);
        assert_eq!(read.map(|block| (block.size, block.assigned)).collect::<Vec<_>>(), expected, "{body}");
    }
}

#[test]
fn a_field_of_another_type_or_told_twice_is_refused() {
    for fields in [
        r#""IPAMKey":{"networkName":1}"#,
        r#""IPAMKey":"aws-cni""#,
        r#""IPAMMetadata":{"k8sPodName":["api-0"]}"#,
        r#""UnassignedTime":1777888812"#,
        r#""UnassignedTime":"1777888812""#,
        r#""IPAMKey":{},"IPAMKey":{}"#,
        r#""UnassignedTime":null,"UnassignedTime":null"#,
    ] {
        assert_eq!(address(fields), Err(MISTYPED), "{fields}");
    }
    for body in [
        r#"{"0":{"AssignedIPs":1.5,"ENIs":{"a":{}}}}"#,
        r#"{"0":{"TotalIPs":99999999999999999999,"ENIs":{"a":{}}}}"#,
        r#"{"0":{"ENIs":{"a":{"IsPrimary":"true"}}}}"#,
        r#"{"0":{"ENIs":{"a":{"SubnetID":7}}}}"#,
        r#"{"0":{"ENIs":{"a":{"AvailableIPv4Cidrs":["10.0.0.1/32"]}}}}"#,
        r#"{"0":{"ENIs":{"a":{"AvailableIPv4Cidrs":{"10.0.0.1/32":{"IPAddresses":["10.0.0.1"]}}}}}}"#,
        r#"{"ENIs":{"a":{"IPv4Addresses":{"10.0.0.1":{"UnassignedTime":"yesterday"}}}}}"#,
        r#"{"ENIs":{"a":{}},"ENIs":{"b":{}}}"#,
    ] {
        assert_eq!(document(body.as_bytes()), Err(MISTYPED), "{body}");
    }
}

#[test]
fn what_is_not_read_may_be_of_any_type_and_depth() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let odd = format!(r#""Cidr":{deep},"AssignedTime":7,"New":{{"IPAMKey":1}}"#);
    let body = format!(
        r#"{{"0":{{{odd},"ENIs":{{"a":{{{odd},"AvailableIPv4Cidrs":{{"10.0.0.1/32":{{{odd},"IPAddresses":{{"10.0.0.1":{{{odd},"IPAMKey":{{"networkName":"aws-cni","ifName":[]}}}}}}}}}}}}}}}}}}"#
    );
    assert_eq!(blocks(&document(body.as_bytes()).unwrap()), [[(1, 1, 0)]]);
    // And where it is read, or never closed, it is refused.
    let read = format!(r#"{{"0":{{"ENIs":{{"a":{deep}}}}}}}"#);
    for body in [read, "[".repeat(100_000), format!(r#"{{"0":{{"New":{}"#, "{\"a\":".repeat(100_000))] {
        assert!(matches!(document(body.as_bytes()), Err(Refusal::Malformed(_))));
    }
}

#[test]
fn the_whole_document_is_text_and_nothing_comes_after_it() {
    let broken = [br#"{"0":{"ENIs":{"a":{"New":""#.as_slice(), b"\xff", br#""}}}}"#].concat();
    assert_eq!(document(&broken), Err(NO_JSON));
    for body in [r#"{"0":{"ENIs":{"a":{}}}}}"#, r#"{"0":{"ENIs":{"a":{}}}} {}"#, r#"{"ENIs":{"a":{}}},"#] {
        assert_eq!(document(body.as_bytes()), Err(NO_JSON), "{body}");
    }
}

#[test]
fn what_a_layout_without_cards_holds_beside_is_passed_over() {
    let flat = document(br#"{"0":5,"New":[],"ENIs":{"a":{}}}"#).unwrap();
    assert_eq!((flat.shape, flat.cards.len()), (Shape::Flat, 1));
    for body in
        [r#"{"AvailableCommands":null}"#, r#"{"0":{},"AvailableCommands":[]}"#, r#"{"ENIs":5,"AvailableCommands":[]}"#]
    {
        assert_eq!(document(body.as_bytes()), Err(Refusal::CatchAll), "{body}");
    }
}

/// A text, written plainly or with escapes, or `null`.
fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    (select(of), 0..3_u8).prop_map(|(text, way)| match way {
        0 => "null".to_owned(),
        1 => escaped(text),
        _ => format!("\"{text}\""),
    })
}

/// An object of up to three entries, in any order and with keys that come again.
fn object(keys: &'static [&'static str], value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let value = prop_oneof![9 => value, 1 => Just("null".to_owned())];
    let entry = (select(keys), any::<bool>(), value).prop_map(|(key, plain, value)| {
        if plain { format!("\"{key}\":{value}") } else { format!("{}:{value}", escaped(key)) }
    });
    prop::collection::vec(entry, 0..4).prop_map(|entries| format!("{{{}}}", entries.join(","))).boxed()
}

fn any_document() -> BoxedStrategy<String> {
    const TIMES: &[&str] = &["0001-01-01T00:00:00Z", "2026-05-04T10:00:12Z", "2026-05-04T12:00:12.5+02:00"];
    let fields = (text(&["", "aws-cni"]), text(&["", "api-0"]), text(TIMES));
    let address = fields.prop_map(|(network, pod, time)| {
        format!(
            r#"{{"IPAMKey":{{"networkName":{network}}},"IPAMMetadata":{{"k8sPodName":{pod}}},"UnassignedTime":{time}}}"#
        )
    });
    let addresses = object(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], address.boxed());
    let block = (addresses, any::<bool>())
        .prop_map(|(addresses, prefix)| format!(r#"{{"IPAddresses":{addresses},"IsPrefix":{prefix}}}"#));
    let blocks = object(&["10.0.0.0/28", "10.0.0.1/32", "10.0.0.2/32"], block.boxed());
    let eni = blocks.prop_map(|blocks| format!(r#"{{"AvailableIPv4Cidrs":{blocks}}}"#));
    let card = object(&["a", "b"], eni.boxed()).prop_map(|enis| format!(r#"{{"ENIs":{enis}}}"#));
    object(&["0", "1"], card.boxed())
}

/// Interface by interface and block by block, out of the tree that the JSON library makes of the same text.
fn by_the_tree(text: &str) -> Vec<Vec<(i64, i64, Vec<Timestamp>)>> {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let said = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let block = |(cidr, block): (String, Value)| {
        let (mut assigned, mut returned) = (0, Vec::new());
        for (_, address) in entries(&block["IPAddresses"]) {
            if said(&address["IPAMKey"]["networkName"]) || said(&address["IPAMMetadata"]["k8sPodName"]) {
                assigned += 1;
            } else if let Some(time) = address["UnassignedTime"].as_str().filter(|time| !time.starts_with("0001")) {
                returned.push(time.parse().unwrap());
            }
        }
        returned.sort();
        (if cidr.ends_with("/28") { 16 } else { 1 }, assigned, returned)
    };
    let tree: Value = serde_json::from_str(text).unwrap();
    let enis = entries(&tree).into_iter().flat_map(|(_, card)| entries(&card["ENIs"]));
    enis.map(|(_, eni)| entries(&eni["AvailableIPv4Cidrs"]).into_iter().map(block).collect()).collect()
}

proptest! {
    #[test]
    fn every_document_reads_as_the_tree_of_it_does(text in any_document()) {
        let expected = by_the_tree(&text);
        match document(text.as_bytes()) {
            Ok(document) => {
                let sorted = |times: &[Timestamp]| times.iter().copied().collect::<std::collections::BinaryHeap<_>>().into_sorted_vec();
                let of = |eni: &Eni| {
                    let blocks = eni.blocks.iter().map(|block| (block.size, block.assigned, sorted(&block.returned)));
                    blocks.collect::<Vec<_>>()
                };
                let read = document.cards.iter().flat_map(|card| &card.interfaces).map(of).collect::<Vec<_>>();
                prop_assert_eq!(read, expected);
            }
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::Empty);
                prop_assert!(expected.is_empty());
            }
        }
    }
}
