//! The documents of one node in the shape of each release, compared with golden ones.

use rstest::rstest;

use super::*;
use crate::sim::ipamd::datastore::Holder;

const ONE: &str = "eni-0123456789abcde01";
const TWO: &str = "eni-0123456789abcde02";

fn cidr(text: &str) -> Cidr {
    let (first, len) = text.split_once('/').unwrap();
    Cidr::new(first.parse().unwrap(), len.parse().unwrap())
}

fn time_of(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn eni_with(id: &str, cidrs: &[&str]) -> Eni {
    let primary = id == ONE;
    Eni {
        id: id.into(),
        primary,
        trunk: false,
        excluded: false,
        device: u32::from(!primary),
        route_table: if primary { 254 } else { 2 },
        subnet: "subnet-0123456789abcdef0".into(),
        since: Timestamp::UNIX_EPOCH,
        cidrs: cidrs.iter().map(|text| ((*text).to_owned(), (cidr(text), Addresses::new()))).collect(),
    }
}

fn holder(name: &str) -> Holder {
    Holder { namespace: "demo".into(), name: name.into(), container: "9f2c41".into(), interfaces: 1 }
}

/// Two ENIs; `held` are pods' and the last of them has just gone.
fn store(prefixes: bool, one: &[&str], two: &[&str], held: &[&str], rests: &str) -> BTreeMap<u32, Datastore> {
    let mut store = Datastore::new(prefixes, std::time::Duration::from_secs(30));
    store.add_eni(eni_with(ONE, one));
    store.add_eni(eni_with(TWO, two));
    let since = time_of("2026-05-04T09:12:00.25Z");
    for (n, address) in held.iter().enumerate() {
        store.restore(address.parse().unwrap(), &holder(&format!("api-{n}")), since).unwrap();
    }
    let gone = Holder { container: "gone".into(), ..holder("gone") };
    store.restore(rests.parse().unwrap(), &gone, since).unwrap();
    store.release("gone", time_of("2026-05-04T10:00:12.5Z")).unwrap();
    BTreeMap::from([(0, store)])
}

fn secondary() -> BTreeMap<u32, Datastore> {
    store(false, &["10.8.1.20/32", "10.8.1.21/32"], &["10.8.1.60/32"], &["10.8.1.20"], "10.8.1.21")
}

/// Without the line breaks that are there for reading.
fn one_line(golden: &str) -> String {
    golden.split_whitespace().collect()
}

#[rstest]
#[case::flat(Version(1, 11, 0), include_str!("golden/flat.json"))]
#[case::still_flat(Version(1, 19, 6), include_str!("golden/flat.json"))]
#[case::by_card(Version(1, 20, 0), include_str!("golden/cards.json"))]
#[case::still_without_route_tables(Version(1, 20, 2), include_str!("golden/cards.json"))]
#[case::ids_blanked(Version(1, 23, 0), include_str!("golden/blanked.json"))]
fn a_node_in_secondary_ip_mode(#[case] version: Version, #[case] golden: &str) {
    assert_eq!(enis(version, &secondary()), one_line(golden));
}

#[test]
fn the_latest_shape_grew_field_by_field() {
    let has = |version, text: &str| enis(version, &secondary()).contains(text);
    assert!(
        !has(Version(1, 20, 2), "RouteTableID") && has(Version(1, 20, 3), "},\"IPv6Cidrs\":{},\"RouteTableID\":254}")
    );
    assert!(!has(Version(1, 21, 9), "SubnetID") && has(Version(1, 22, 0), "\"IsExcludedForPodIPs\":false"));
    assert!(has(Version(1, 22, 9), "\"containerID\":\"9f2c41\",\"ifName\":\"eth0\""));
}

#[test]
fn a_node_with_prefixes() {
    let store = store(true, &["10.8.2.16/28"], &["10.8.2.96/28"], &["10.8.2.16", "10.8.2.96"], "10.8.2.17");
    assert_eq!(enis(Version(1, 23, 1), &store), one_line(include_str!("golden/prefixes.json")));
}

#[test]
fn a_node_with_ipv6_and_a_trunk() {
    let held = ["2001:db8:7:1::", "2001:db8:7:1::1"];
    let mut store = store(false, &["2001:db8:7:1::/80"], &[], &held, "2001:db8:7:1::2");
    store.get_mut(&0).unwrap().enis.get_mut(TWO).unwrap().trunk = true;
    assert_eq!(enis(Version(1, 23, 1), &store), one_line(include_str!("golden/ipv6.json")));
}

#[test]
fn a_total_below_zero() {
    let mut store = store(false, &[], &["10.8.1.60/32", "10.8.1.61/32"], &["10.8.1.60"], "10.8.1.61");
    store.get_mut(&0).unwrap().force_out(TWO).unwrap();
    assert_eq!(enis(Version(1, 23, 1), &store), one_line(include_str!("golden/negative.json")));
}

#[test]
fn before_eleven_an_address_has_neither_metadata_nor_the_time_of_its_assignment() {
    let used = r#""10.8.1.20":{"IPAMKey":{"networkName":"aws-cni","containerID":"9f2c41","ifName":"eth0"},"Address":"10.8.1.20","UnassignedTime":"0001-01-01T00:00:00Z"}"#;
    let nine = enis(Version(1, 9, 3), &secondary());
    let cidr = r#""10.8.1.20/32":{"Cidr":{"IP":"10.8.1.20","Mask":"/////w=="},"#;
    assert!(nine.contains(&format!("{cidr}\"IPv4Addresses\":{{{used}}},\"IsPrefix\":false}}")), "{nine}");
    assert!(!nine.contains("IPv6Cidrs") && !nine.contains("AddressFamily"), "{nine}");
    let ten = enis(Version(1, 10, 4), &secondary());
    assert!(
        ten.contains(&format!("{cidr}\"IPAddresses\":{{{used}}},\"IsPrefix\":false,\"AddressFamily\":\"\"}}")),
        "{ten}"
    );
    assert!(ten.contains("\"IPv6Cidrs\":{}"), "{ten}");
}

#[test]
fn before_nine_an_eni_lists_every_address_used_or_not() {
    let document: Value = serde_json::from_str(&enis(Version(1, 8, 0), &secondary())).unwrap();
    let addresses =
        |eni: &str| document["ENIs"][eni]["IPv4Addresses"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        (addresses(ONE), addresses(TWO)),
        (vec!["10.8.1.20".into(), "10.8.1.21".into()], vec!["10.8.1.60".to_owned()])
    );
    assert!(document["ENIs"][ONE].get("AvailableIPv4Cidrs").is_none());
    let unused = &document["ENIs"][TWO]["IPv4Addresses"]["10.8.1.60"];
    assert_eq!((unused["IPAMKey"]["networkName"].as_str(), unused["UnassignedTime"].as_str()), (Some(""), Some(NEVER)));
}

#[test]
fn two_cards_are_two_keys_and_an_old_release_knows_the_first() {
    let mut cards = secondary();
    cards.insert(2, Datastore::new(false, std::time::Duration::ZERO));
    let document = enis(Version(1, 23, 1), &cards);
    assert!(document.ends_with(r#","2":{"TotalIPs":0,"AssignedIPs":0,"ENIs":{}}}"#), "{document}");
    assert_eq!(enis(Version(1, 19, 0), &cards), one_line(include_str!("golden/flat.json")));
}

#[test]
fn keys_are_sorted_as_texts() {
    let store = store(false, &["10.8.1.100/32", "10.8.1.20/32", "10.8.1.9/32"], &["10.8.1.60/32"], &[], "10.8.1.60");
    let document = enis(Version(1, 23, 1), &store);
    let at = |text: &str| document.find(text).unwrap();
    assert!(at("\"10.8.1.100/32\"") < at("\"10.8.1.20/32\"") && at("\"10.8.1.20/32\"") < at("\"10.8.1.9/32\""));
}

#[test]
fn settings_are_told_as_far_as_a_release_tells_them() {
    let settings = Settings::default();
    let golden = one_line(include_str!("golden/ipamd-settings.json"));
    assert_eq!(ipamd_settings(Version(1, 23, 1), &settings), golden);
    let old = r#"{"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG":false,"WARM_ENI_TARGET":1,"WARM_IP_TARGET":0}"#;
    assert_eq!(ipamd_settings(Version(1, 12, 5), &settings), old);
    assert!(!ipamd_settings(Version(1, 17, 0), &settings).contains("SUBNET"));
    assert_eq!(network_settings(), one_line(include_str!("golden/network-settings.json")));
}

#[test]
fn an_eni_config_is_a_bare_text() {
    assert_eq!(eni_config("us-east-1a"), "\"us-east-1a\"");
}

#[test]
fn the_commands_are_the_four_paths_in_any_order() {
    let list = |turn| {
        let document: Value = serde_json::from_str(&commands(turn)).unwrap();
        document["AvailableCommands"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
    };
    let (first, second): (Vec<String>, Vec<String>) = (list(0), list(1));
    assert_eq!(first, PATHS);
    assert_ne!(first, second);
    assert!(second.iter().all(|path| PATHS.contains(&path.as_str())) && second.len() == 4);
}
