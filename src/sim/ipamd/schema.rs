//! The documents of the introspection endpoint, in the shape of each release: one line, no white space, the fields of an
//! object in ipamd's order and the keys of a map sorted as texts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::cidr::Cidr;
use super::datastore::{Address, Addresses, Datastore, Eni};
use super::settings::Settings;
use super::version::Version;

/// The documents that have a path of their own.
pub(super) const PATHS: [&str; 4] =
    ["/v1/enis", "/v1/eni-configs", "/v1/networkutils-env-settings", "/v1/ipamd-env-settings"];

/// How "never" is written.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// `/v1/enis`. Of several cards, releases before v1.20.0 know the first alone.
pub(super) fn enis(version: Version, cards: &BTreeMap<u32, Datastore>) -> String {
    let keyed = version >= Version(1, 20, 0);
    let infos = |store: &Datastore| {
        let enis = map(store.enis.iter().map(|(id, one)| (id.clone(), eni(version, one))));
        object([("TotalIPs", store.total.to_string()), ("AssignedIPs", store.assigned.to_string()), ("ENIs", enis)])
    };
    if keyed {
        map(cards.iter().map(|(card, store)| (card.to_string(), infos(store))))
    } else {
        cards.get(&0).map_or_else(|| "{}".into(), infos)
    }
}

fn eni(version: Version, eni: &Eni) -> String {
    let of_family = |ipv4: bool| {
        map(eni
            .cidrs
            .iter()
            .filter(|(_, (cidr, _))| cidr.is_ipv4() == ipv4)
            .map(|(key, (cidr, addresses))| (key.clone(), cidr_info(version, *cidr, addresses))))
    };
    let mut fields = vec![
        ("ID", quoted(&eni.id)),
        ("IsPrimary", eni.primary.to_string()),
        ("IsTrunk", eni.trunk.to_string()),
        ("IsEFA", false.to_string()),
        ("DeviceNumber", eni.device.to_string()),
    ];
    if version < Version(1, 9, 0) {
        fields.push(("IPv4Addresses", every_address(version, eni)));
        return object(fields);
    }
    fields.push(("AvailableIPv4Cidrs", of_family(true)));
    if version >= Version(1, 10, 0) {
        fields.push(("IPv6Cidrs", of_family(false)));
    }
    if version >= Version(1, 22, 0) {
        fields.push(("IsExcludedForPodIPs", eni.excluded.to_string()));
    }
    if version >= Version(1, 20, 3) {
        fields.push(("RouteTableID", eni.route_table.to_string()));
    }
    if version >= Version(1, 22, 0) {
        fields.push(("SubnetID", quoted(&eni.subnet)));
    }
    object(fields)
}

/// Before there were CIDRs, an ENI listed its addresses, used or not.
fn every_address(version: Version, eni: &Eni) -> String {
    let never_used = Address::default();
    let mut all = BTreeMap::new();
    for (cidr, addresses) in eni.cidrs.values().filter(|(cidr, _)| !cidr.is_prefix()) {
        let (key, entry) = (cidr.first().to_string(), addresses.get(&cidr.first()).unwrap_or(&never_used));
        all.insert(key.clone(), address_info(version, &key, entry));
    }
    map(all)
}

fn cidr_info(version: Version, cidr: Cidr, addresses: &Addresses) -> String {
    let entries: BTreeMap<String, String> = addresses
        .iter()
        .map(|(address, entry)| {
            let key = address.to_string();
            (key.clone(), address_info(version, &key, entry))
        })
        .collect();
    let plain = object([("IP", quoted(&cidr.first().to_string())), ("Mask", quoted(cidr.mask()))]);
    let named = if version < Version(1, 10, 0) { "IPv4Addresses" } else { "IPAddresses" };
    let mut fields = vec![("Cidr", plain), (named, map(entries)), ("IsPrefix", cidr.is_prefix().to_string())];
    if version >= Version(1, 10, 0) {
        fields.push(("AddressFamily", quoted("")));
    }
    object(fields)
}

fn address_info(version: Version, address: &str, entry: &Address) -> String {
    let holder = entry.holder.as_ref();
    let blank = version >= Version(1, 23, 0);
    let id = |text: Option<&str>| quoted(text.filter(|_| !blank).unwrap_or_default());
    let key = object([
        ("networkName", quoted(holder.map_or("", |_| "aws-cni"))),
        ("containerID", id(holder.map(|holder| holder.container.as_str()))),
        ("ifName", id(holder.map(|_| "eth0"))),
    ]);
    let unassigned = time(entry.unassigned);
    if version < Version(1, 11, 0) {
        return object([("IPAMKey", key), ("Address", quoted(address)), ("UnassignedTime", unassigned)]);
    }
    let mut metadata = Vec::new();
    if let Some(holder) = holder {
        metadata.push(("k8sPodNamespace", quoted(&holder.namespace)));
        metadata.push(("k8sPodName", quoted(&holder.name)));
        if version >= Version(1, 20, 0) {
            metadata.push(("interfacesCount", holder.interfaces.to_string()));
        }
    }
    object([
        ("Address", quoted(address)),
        ("IPAMKey", key),
        ("IPAMMetadata", object(metadata)),
        ("AssignedTime", time(entry.assigned)),
        ("UnassignedTime", unassigned),
    ])
}

/// `/v1/eni-configs`: the name of this node's ENIConfig.
pub(super) fn eni_config(name: &str) -> String {
    quoted(name)
}

/// `/v1/ipamd-env-settings`: a part of what is set, as the process understood it.
pub(super) fn ipamd_settings(version: Version, settings: &Settings) -> String {
    let mut fields = BTreeMap::new();
    if version >= Version(1, 12, 6) {
        fields.insert("AWS_MANAGE_ENIS_NON_SCHEDULABLE", settings.manage_enis_non_schedulable.to_string());
    }
    fields.insert("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", settings.custom_networking.to_string());
    if version >= Version(1, 18, 0) {
        fields.insert("ENABLE_SUBNET_DISCOVERY", settings.subnet_discovery.to_string());
    }
    fields.insert("WARM_ENI_TARGET", settings.warm_eni_target.to_string());
    fields.insert("WARM_IP_TARGET", settings.warm_ip_target.to_string());
    object(fields)
}

/// `/v1/networkutils-env-settings`: the defaults.
pub(super) fn network_settings() -> String {
    object([
        ("AWS_EXTERNAL_SERVICE_CIDRS", "null".into()),
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "true".into()),
        ("AWS_VPC_ENI_MTU", "9001".into()),
        ("AWS_VPC_K8S_CNI_CONNMARK", "128".into()),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "null".into()),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false".into()),
        ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "2".into()),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", quoted("eni")),
    ])
}

/// What every unknown path answers, in any order; `turn` says in which.
pub(super) fn commands(turn: usize) -> String {
    let mut paths = PATHS;
    paths.rotate_left(turn % PATHS.len());
    let paths: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
    object([("AvailableCommands", format!("[{}]", paths.join(",")))])
}

fn time(time: Option<Timestamp>) -> String {
    quoted(&time.map_or_else(|| NEVER.to_owned(), |time| time.to_string()))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

fn map(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{}:{value}", quoted(&key))).collect();
    format!("{{{}}}", entries.join(","))
}

#[cfg(test)]
mod tests;
