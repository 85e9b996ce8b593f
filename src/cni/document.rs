//! The answer of `/v1/enis`: every interface with its blocks of addresses, in all shapes since v1.7.
//!
//! The shape is told by the content, never by a version: flat up to v1.19, keyed by network card from v1.20. Only what the
//! model needs is kept: no container ids, no pod names, no single addresses.

use core::net::Ipv6Addr;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::imds::documents::network;

/// How the document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Up to v1.19: one object for the one network card.
    Flat,
    /// From v1.20: an object for each network card.
    Cards,
}

/// The whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// How it was laid out.
    pub shape: Shape,
    /// Ascending by index, with gaps where a card is not managed.
    pub cards: Vec<Card>,
}

/// The data store of one network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Index of the card.
    pub index: u32,
    /// ipamd's own sum; can be negative, and counts what no pod can get. For comparison only.
    pub stated_total: i64,
    /// ipamd's own sum. For comparison only.
    pub stated_assigned: i64,
    /// Its interfaces by id.
    pub interfaces: Vec<Eni>,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eni {
    /// `eni-…`.
    pub id: String,
    /// The interface that the instance was launched with.
    pub primary: bool,
    /// Carries the branch interfaces of pods with security groups, and no pool address.
    pub trunk: bool,
    /// Excluded from pod addresses (from v1.22).
    pub excluded: bool,
    /// From v1.22.
    pub subnet_id: Option<String>,
    /// Its blocks of addresses.
    pub blocks: Vec<Block>,
}

/// A single address or a prefix that is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it is, for IPv4.
    pub place: Option<network::Block>,
    /// How many addresses it holds.
    pub size: i64,
    /// Delegated as a prefix.
    pub prefix: bool,
    /// Of the IPv6 family.
    pub ipv6: bool,
    /// Addresses held by a pod.
    pub assigned: i64,
    /// When each address that is free again was given back.
    pub returned: Vec<Timestamp>,
}

/// Why an answer is not taken for a document of interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// ipamd knows no such path and lists those that it knows, with status 200.
    #[error("ipamd answered with its list of commands, so it does not know the path")]
    CatchAll,
    /// It could be read and names no interface, which no node with a running ipamd has.
    #[error("the document could be read but names no network interface")]
    Empty,
    /// It is not what the path promises.
    #[error("not a document of network interfaces: {0}")]
    Malformed(&'static str),
}

/// Reads the answer of `/v1/enis`.
pub fn document(body: &[u8]) -> Result<Document, Refusal> {
    let top: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body).map_err(|error| Refusal::Malformed(kind(&error)))?;
    if top.contains_key("AvailableCommands") {
        return Err(Refusal::CatchAll);
    }
    let document = if top.contains_key("ENIs") {
        let infos = serde_json::from_slice(body).map_err(|error| Refusal::Malformed(kind(&error)))?;
        Document { shape: Shape::Flat, cards: vec![card(0, infos)?] }
    } else {
        let mut cards = top.iter().map(|(index, infos)| keyed(index, infos)).collect::<Result<Vec<_>, _>>()?;
        cards.sort_by_key(|card| card.index);
        Document { shape: Shape::Cards, cards }
    };
    if document.cards.iter().all(|card| card.interfaces.is_empty()) {
        return Err(Refusal::Empty);
    }
    Ok(document)
}

fn keyed(index: &str, infos: &RawValue) -> Result<Card, Refusal> {
    let index =
        index.parse().map_err(|_| Refusal::Malformed("its keys are neither those of ipamd nor network cards"))?;
    let infos: Option<RawInfos> =
        serde_json::from_str(infos.get()).map_err(|error| Refusal::Malformed(kind(&error)))?;
    card(index, infos.unwrap_or_default())
}

/// The words of the JSON reader could repeat parts of the document.
fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a value has another type than ipamd gives it",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is no JSON",
    }
}

/// Everything is optional and may be `null`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawInfos {
    #[serde(rename = "TotalIPs")]
    total: Option<i64>,
    #[serde(rename = "AssignedIPs")]
    assigned: Option<i64>,
    #[serde(rename = "ENIs")]
    enis: Option<BTreeMap<String, Option<RawEni>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEni {
    #[serde(rename = "IsPrimary")]
    primary: Option<bool>,
    #[serde(rename = "IsTrunk")]
    trunk: Option<bool>,
    #[serde(rename = "IsExcludedForPodIPs")]
    excluded: Option<bool>,
    #[serde(rename = "SubnetID")]
    subnet_id: Option<String>,
    #[serde(rename = "AvailableIPv4Cidrs")]
    ipv4: Option<BTreeMap<String, Option<RawBlock>>>,
    #[serde(rename = "IPv6Cidrs")]
    ipv6: Option<BTreeMap<String, Option<RawBlock>>>,
    /// Up to v1.8, instead of blocks.
    #[serde(rename = "IPv4Addresses")]
    addresses: Option<BTreeMap<String, Option<RawAddress>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBlock {
    #[serde(rename = "IPAddresses")]
    addresses: Option<BTreeMap<String, Option<RawAddress>>>,
    /// The name in v1.9.
    #[serde(rename = "IPv4Addresses")]
    addresses_v1_9: Option<BTreeMap<String, Option<RawAddress>>>,
    #[serde(rename = "IsPrefix")]
    prefix: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAddress {
    #[serde(rename = "IPAMKey")]
    key: Option<RawKey>,
    #[serde(rename = "IPAMMetadata")]
    metadata: Option<RawMetadata>,
    #[serde(rename = "UnassignedTime")]
    unassigned: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawKey {
    network_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMetadata {
    #[serde(rename = "k8sPodName")]
    pod: Option<String>,
}

impl RawAddress {
    /// Never by the container id, which is blank from v1.23.
    fn is_assigned(&self) -> bool {
        let said = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
        said(self.key.as_ref().and_then(|key| key.network_name.as_ref()))
            || said(self.metadata.as_ref().and_then(|metadata| metadata.pod.as_ref()))
    }

    /// None if it never was assigned, which Go writes as the year 1.
    fn returned(&self) -> Option<Timestamp> {
        self.unassigned.filter(|time| *time > Timestamp::UNIX_EPOCH)
    }
}

fn card(index: u32, infos: RawInfos) -> Result<Card, Refusal> {
    let interfaces = infos.enis.unwrap_or_default().into_iter().map(|(id, raw)| eni(id, raw.unwrap_or_default()));
    Ok(Card {
        index,
        stated_total: infos.total.unwrap_or_default(),
        stated_assigned: infos.assigned.unwrap_or_default(),
        interfaces: interfaces.collect::<Result<_, _>>()?,
    })
}

fn eni(id: String, raw: RawEni) -> Result<Eni, Refusal> {
    let mut blocks = Vec::new();
    for (address, info) in raw.addresses.unwrap_or_default() {
        let place = network::Block::single(address.parse().map_err(|_| UNREADABLE)?);
        blocks.push(block(Some(place), 1, false, std::iter::once(info.unwrap_or_default())));
    }
    for (cidr, raw) in raw.ipv4.unwrap_or_default() {
        let raw = raw.unwrap_or_default();
        let place: network::Block = cidr.parse().map_err(|_| UNREADABLE)?;
        blocks.push(block(Some(place), place.size(), raw.prefix.unwrap_or_default(), raw.all_addresses()));
    }
    for (cidr, raw) in raw.ipv6.unwrap_or_default() {
        let raw = raw.unwrap_or_default();
        blocks.push(block(None, ipv6_size(&cidr)?, raw.prefix.unwrap_or_default(), raw.all_addresses()));
    }
    Ok(Eni {
        id,
        primary: raw.primary.unwrap_or_default(),
        trunk: raw.trunk.unwrap_or_default(),
        excluded: raw.excluded.unwrap_or_default(),
        subnet_id: raw.subnet_id.filter(|id| !id.is_empty()),
        blocks,
    })
}

impl RawBlock {
    fn all_addresses(self) -> impl Iterator<Item = RawAddress> {
        let maps = [self.addresses, self.addresses_v1_9].into_iter().flatten();
        maps.flat_map(BTreeMap::into_values).map(Option::unwrap_or_default)
    }
}

/// Capacity comes from the mask: addresses appear only once they have been handed out.
fn block(place: Option<network::Block>, size: i64, prefix: bool, addresses: impl Iterator<Item = RawAddress>) -> Block {
    let mut block = Block { place, size, prefix, ipv6: place.is_none(), assigned: 0, returned: Vec::new() };
    for address in addresses {
        // In this order: the time of the last return stays when the address is assigned again.
        if address.is_assigned() {
            block.assigned += 1;
        } else {
            block.returned.extend(address.returned());
        }
    }
    block
}

const UNREADABLE: Refusal = Refusal::Malformed("a block of addresses is not written as one");

/// 2^(128 − length), or as much as the type holds.
fn ipv6_size(cidr: &str) -> Result<i64, Refusal> {
    let (address, length) = cidr.split_once('/').ok_or(UNREADABLE)?;
    address.parse::<Ipv6Addr>().map_err(|_| UNREADABLE)?;
    let length: u32 = length.parse().map_err(|_| UNREADABLE)?;
    let bits = 128_u32.checked_sub(length).ok_or(UNREADABLE)?;
    Ok(2_i64.checked_pow(bits).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
