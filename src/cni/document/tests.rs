mod wording;

use super::*;

fn golden(name: &str) -> Document {
    let path = format!("{}/tests/golden/cni/{name}", env!("CARGO_MANIFEST_DIR"));
    document(&std::fs::read(path).unwrap()).unwrap()
}

/// Sizes, assigned and returned addresses of every block, interface by interface.
fn blocks(document: &Document) -> Vec<Vec<(i64, i64, usize)>> {
    let interfaces = document.cards.iter().flat_map(|card| &card.interfaces);
    let of = |eni: &Eni| eni.blocks.iter().map(|block| (block.size, block.assigned, block.returned.len())).collect();
    interfaces.map(of).collect()
}

#[test]
fn one_node_reads_the_same_in_every_schema() {
    for (name, shape, subnet) in [
        ("enis-v1.7.json", Shape::Flat, None),
        ("enis-v1.9.json", Shape::Flat, None),
        ("enis-flat.json", Shape::Flat, None),
        ("enis-cards.json", Shape::Cards, None),
        ("enis-blanked.json", Shape::Cards, Some("subnet-0123456789abcdef0")),
    ] {
        let document = golden(name);
        assert_eq!(document.shape, shape, "{name}");
        assert_eq!(blocks(&document), [vec![(1, 1, 0), (1, 0, 1)], vec![(1, 0, 0)]], "{name}");
        let [card] = document.cards.as_slice() else { panic!("{name}") };
        assert_eq!((card.index, card.stated_total, card.stated_assigned), (0, 3, 1), "{name}");
        let [first, second] = card.interfaces.as_slice() else { panic!("{name}") };
        assert_eq!((first.primary, second.primary), (true, false), "{name}");
        assert_eq!(first.subnet_id.as_deref(), subnet, "{name}");
        assert_eq!(first.blocks[1].returned, ["2026-05-04T10:00:12.5Z".parse().unwrap()], "{name}");
    }
}

#[test]
fn the_capacity_of_a_prefix_comes_from_its_mask() {
    let document = golden("enis-prefixes.json");
    assert_eq!(blocks(&document), [vec![(16, 1, 1)], vec![(16, 1, 0)]]);
    assert!(document.cards[0].interfaces[0].blocks[0].prefix);
}

#[test]
fn ipv6_blocks_and_trunks_are_read() {
    let document = golden("enis-ipv6.json");
    assert_eq!(blocks(&document), [vec![(1 << 48, 2, 1)], vec![]]);
    assert!(document.cards[0].interfaces[0].blocks[0].ipv6);
    assert!(document.cards[0].interfaces[1].trunk);
}

#[test]
fn a_negative_total_is_kept_for_the_comparison() {
    assert_eq!(golden("enis-negative-total.json").cards[0].stated_total, -2);
}

#[test]
fn the_list_of_commands_is_no_document() {
    let body = include_bytes!("../../../tests/golden/cni/catch-all.json");
    assert_eq!(document(body), Err(Refusal::CatchAll));
}

#[test]
fn what_is_empty_is_told_from_what_is_odd() {
    for body in ["{}", r#"{"ENIs":{}}"#, r#"{"ENIs":null}"#, r#"{"0":{"TotalIPs":0,"ENIs":{}}}"#, r#"{"0":null}"#] {
        assert_eq!(document(body.as_bytes()), Err(Refusal::Empty), "{body}");
    }
    for body in [
        "",
        "Not Found",
        "[]",
        "null",
        "\"us-east-1a\"",
        r#"{"enis":{}}"#,
        r#"{"-1":{"ENIs":{"a":{}}}}"#,
        r#"{"ENIs":[]}"#,
        r#"{"0":{"TotalIPs":"3","ENIs":{"a":{}}}}"#,
        r#"{"0":{"ENIs":{"a":{"AvailableIPv4Cidrs":{"10.8.1.20":{}}}}}}"#,
        r#"{"0":{"ENIs":{"a":{"AvailableIPv4Cidrs":{"10.8.1.20/33":{}}}}}}"#,
        r#"{"0":{"ENIs":{"a":{"AvailableIPv4Cidrs":{"10.8.1.900/32":{}}}}}}"#,
        r#"{"0":{"ENIs":{"a":{"AvailableIPv4Cidrs":{"10.8.1.20/-1":{}}}}}}"#,
        r#"{"ENIs":{"a":{"IPv4Addresses":{"here":{}}}}}"#,
        r#"{"0":{"ENIs":{"a":{"IPv6Cidrs":{"10.8.1.20/32":{}}}}}}"#,
    ] {
        assert!(matches!(document(body.as_bytes()), Err(Refusal::Malformed(_))), "{body}");
    }
}

#[test]
fn a_document_that_is_cut_is_refused_wherever_the_cut_is() {
    let body = include_bytes!("../../../tests/golden/cni/enis-blanked.json").trim_ascii_end();
    for length in 0..body.len() {
        assert!(document(&body[..length]).is_err(), "{length}");
    }
}

#[test]
fn cards_may_be_sparse_and_come_in_order() {
    let body = br#"{"10":{"ENIs":{"c":{}}},"2":{"ENIs":{"b":{}}},"0":{"ENIs":{"a":{}}}}"#;
    let cards = document(body).unwrap().cards;
    assert_eq!(cards.iter().map(|card| card.index).collect::<Vec<_>>(), [0, 2, 10]);
}

#[test]
fn nulls_and_unknown_fields_do_no_harm() {
    let body = br#"{"0":{"TotalIPs":null,"New":{"x":[1]},"ENIs":{
        "a":{"ID":null,"IsPrimary":null,"SubnetID":"","AvailableIPv4Cidrs":null,"IPv6Cidrs":null,"New":1},
        "b":null,
        "c":{"AvailableIPv4Cidrs":{"10.0.0.1/32":null,"10.0.0.2/32":{"IPAddresses":null},
            "10.0.0.3/32":{"IPAddresses":{"10.0.0.3":null}},
            "10.0.0.4/32":{"IPAddresses":{"10.0.0.4":{"IPAMKey":null,"IPAMMetadata":null,"UnassignedTime":null}}}}}}}}"#;
    let document = document(body).unwrap();
    assert_eq!(blocks(&document), [vec![], vec![], vec![(1, 0, 0); 4]]);
    assert_eq!(document.cards[0].interfaces[0].subnet_id, None);
}

/// The one address of a document, with these fields.
fn address(fields: &str) -> Result<Block, Refusal> {
    let body = format!(
        r#"{{"0":{{"ENIs":{{"a":{{"AvailableIPv4Cidrs":{{"10.0.0.1/32":{{"IPAddresses":{{"10.0.0.1":{{{fields}}}}}}}}}}}}}}}}}"#
    );
    document(body.as_bytes()).map(|document| document.cards[0].interfaces[0].blocks[0].clone())
}

#[test]
fn an_address_is_assigned_if_it_has_a_network_or_a_pod_whatever_its_container_is_called() {
    for (fields, assigned) in [
        (r#""IPAMKey":{"networkName":"aws-cni","containerID":"","ifName":""}"#, 1),
        (r#""IPAMKey":{"networkName":"_migrated-from-cri"}"#, 1),
        (r#""IPAMKey":{"networkName":""},"IPAMMetadata":{"k8sPodName":"api-0"}"#, 1),
        (r#""IPAMKey":{"networkName":"","containerID":"9f2c41","ifName":"eth0"},"IPAMMetadata":{}"#, 0),
        ("", 0),
    ] {
        assert_eq!(address(fields).unwrap().assigned, assigned, "{fields}");
    }
    let again = r#""IPAMKey":{"networkName":"aws-cni"},"UnassignedTime":"2026-05-04T10:00:12Z""#;
    assert!(address(again).unwrap().returned.is_empty(), "an assigned address does not rest");
}

#[test]
fn times_come_with_any_fraction_and_offset_and_the_year_1_is_never() {
    for (written, expected) in [
        ("2026-05-04T10:00:12Z", Some("2026-05-04T10:00:12Z")),
        ("2026-05-04T10:00:12.5Z", Some("2026-05-04T10:00:12.5Z")),
        ("2026-05-04T10:00:12.123456Z", Some("2026-05-04T10:00:12.123456Z")),
        ("2026-05-04T10:00:12.123456789Z", Some("2026-05-04T10:00:12.123456789Z")),
        ("2026-05-04T12:00:12+02:00", Some("2026-05-04T10:00:12Z")),
        ("0001-01-01T00:00:00Z", None),
    ] {
        let returned = address(&format!(r#""UnassignedTime":"{written}""#)).unwrap().returned;
        assert_eq!(returned.first().copied(), expected.map(|time| time.parse().unwrap()), "{written}");
    }
    assert!(address(r#""UnassignedTime":"yesterday""#).is_err());
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = document(&body);
    }

    #[test]
    fn no_single_changed_byte_makes_the_parser_panic(at in 0_usize..1300, byte in proptest::num::u8::ANY) {
        let mut body = include_bytes!("../../../tests/golden/cni/enis-blanked.json").to_vec();
        body[at] = byte;
        let _ = document(&body);
    }
}
