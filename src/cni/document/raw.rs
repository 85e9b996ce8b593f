//! ipamd's JSON in ipamd's own words.
//!
//! A full node has hundreds of addresses, of which two texts and a time matter. So nothing of the document is copied, what an
//! address says is only counted, and an interface is done with before the next one is read.

use core::fmt;
use core::marker::PhantomData;
use core::net::Ipv6Addr;
use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::{Block, Eni, MISTYPED, Refusal};
use crate::imds::documents::network;

/// The data store of a card. Everything is optional and may be `null`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Infos {
    #[serde(rename = "TotalIPs")]
    pub(super) total: Option<i64>,
    #[serde(rename = "AssignedIPs")]
    pub(super) assigned: Option<i64>,
    #[serde(rename = "ENIs")]
    pub(super) enis: Option<BTreeMap<String, Option<Nameless>>>,
}

/// An interface without its id, which is its key; or why it is none.
#[derive(Deserialize)]
#[serde(from = "RawEni<'_>")]
pub(super) struct Nameless(pub(super) Result<Eni, Refusal>);

impl Default for Nameless {
    fn default() -> Self {
        RawEni::default().into()
    }
}

/// Index of a network card.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index(pub(super) u32);

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer)?.as_str().parse().map(Self).map_err(D::Error::custom)
    }
}

/// A text, copied only where it is written with escapes.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEni<'a> {
    #[serde(rename = "IsPrimary")]
    primary: Option<bool>,
    #[serde(rename = "IsTrunk")]
    trunk: Option<bool>,
    #[serde(rename = "IsExcludedForPodIPs")]
    excluded: Option<bool>,
    #[serde(rename = "SubnetID")]
    subnet_id: Option<String>,
    #[serde(rename = "AvailableIPv4Cidrs", borrow)]
    ipv4: Option<Entries<'a, RawBlock>>,
    #[serde(rename = "IPv6Cidrs", borrow)]
    ipv6: Option<Entries<'a, RawBlock>>,
    /// Up to v1.8, instead of blocks.
    #[serde(rename = "IPv4Addresses", borrow)]
    addresses: Option<Entries<'a, RawAddress<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBlock {
    #[serde(rename = "IPAddresses")]
    addresses: Option<Tally>,
    /// The name in v1.9.
    #[serde(rename = "IPv4Addresses")]
    addresses_v1_9: Option<Tally>,
    #[serde(rename = "IsPrefix")]
    prefix: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAddress<'a> {
    #[serde(rename = "IPAMKey", borrow)]
    key: Option<RawKey<'a>>,
    #[serde(rename = "IPAMMetadata", borrow)]
    metadata: Option<RawMetadata<'a>>,
    #[serde(rename = "UnassignedTime", borrow)]
    unassigned: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawKey<'a> {
    #[serde(rename = "networkName", borrow)]
    network: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMetadata<'a> {
    #[serde(rename = "k8sPodName", borrow)]
    pod: Option<Text<'a>>,
}

impl RawAddress<'_> {
    /// Never by the container id, which is blank from v1.23.
    fn is_assigned(&self) -> bool {
        let network = self.key.as_ref().and_then(|key| key.network.as_ref());
        let pod = self.metadata.as_ref().and_then(|metadata| metadata.pod.as_ref());
        [network, pod].into_iter().flatten().any(|text| !text.as_str().is_empty())
    }

    /// None if it never was assigned, which Go writes as the year 1.
    fn returned(&self) -> Result<Option<Timestamp>, jiff::Error> {
        let time = self.unassigned.as_ref().map(|time| time.as_str().parse::<Timestamp>()).transpose()?;
        Ok(time.filter(|time| *time > Timestamp::UNIX_EPOCH))
    }
}

/// What the addresses of a block come to.
#[derive(Default)]
struct Tally {
    assigned: i64,
    returned: Vec<Timestamp>,
}

impl Tally {
    fn add(&mut self, address: &RawAddress<'_>) -> Result<(), jiff::Error> {
        // In this order: the time of the last return stays when the address is assigned again.
        if address.is_assigned() {
            self.assigned += 1;
        } else {
            self.returned.extend(address.returned()?);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Addresses;

        impl<'de> Visitor<'de> for Addresses {
            type Value = Tally;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of addresses")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tally, A::Error> {
                let mut tally = Tally::default();
                let Some((first, mut address)) = map.next_entry::<Text<'de>, Option<RawAddress<'de>>>()? else {
                    return Ok(tally);
                };
                // Most blocks are one address, so that this stays empty and takes no memory.
                let mut others = BTreeMap::new();
                while let Some((key, other)) = map.next_entry::<Text<'de>, Option<RawAddress<'de>>>()? {
                    if key == first {
                        address = other;
                    } else {
                        others.insert(key, other);
                    }
                }
                for address in core::iter::once(address).chain(others.into_values()) {
                    tally.add(&address.unwrap_or_default()).map_err(A::Error::custom)?;
                }
                Ok(tally)
            }
        }

        deserializer.deserialize_map(Addresses)
    }
}

/// Addresses that an interface has on most instances: room for so many at once saves growing step by step.
const USUAL: usize = 50;

/// The entries of an object by their keys. Of several with the same key the last one counts.
struct Entries<'a, T>(Vec<(Text<'a>, T)>);

impl<'de: 'a, 'a, T: Deserialize<'de> + Default> Deserialize<'de> for Entries<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<'a, T>(PhantomData<Entries<'a, T>>);

        impl<'de: 'a, 'a, T: Deserialize<'de> + Default> Visitor<'de> for Object<'a, T> {
            type Value = Entries<'a, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'a>, Option<T>>()? {
                    if entries.is_empty() {
                        entries.reserve(USUAL);
                    }
                    entries.push((key, value.unwrap_or_default()));
                }
                // Go writes them in order; whoever does not may write a key twice.
                if !entries.is_sorted_by(|(one, _), (next, _)| one < next) {
                    entries = entries.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}

impl From<RawEni<'_>> for Nameless {
    fn from(raw: RawEni<'_>) -> Self {
        Self(raw.read())
    }
}

impl RawEni<'_> {
    fn read(self) -> Result<Eni, Refusal> {
        let entries = |blocks: &Option<Entries<'_, RawBlock>>| blocks.as_ref().map_or(0, |entries| entries.0.len());
        let mut blocks = Vec::with_capacity(entries(&self.ipv4) + entries(&self.ipv6));
        for (address, raw) in self.addresses.into_iter().flat_map(|entries| entries.0) {
            let place = network::Block::single(address.as_str().parse().map_err(|_| UNREADABLE)?);
            let mut tally = Tally::default();
            tally.add(&raw).map_err(|_| MISTYPED)?;
            blocks.push(block(Some(place), 1, false, tally));
        }
        for (cidr, raw) in self.ipv4.into_iter().flat_map(|entries| entries.0) {
            let place: network::Block = cidr.as_str().parse().map_err(|_| UNREADABLE)?;
            blocks.push(block(Some(place), place.size(), raw.prefix.unwrap_or_default(), raw.tally()));
        }
        for (cidr, raw) in self.ipv6.into_iter().flat_map(|entries| entries.0) {
            blocks.push(block(None, ipv6_size(cidr.as_str())?, raw.prefix.unwrap_or_default(), raw.tally()));
        }
        Ok(Eni {
            id: String::new(),
            primary: self.primary.unwrap_or_default(),
            trunk: self.trunk.unwrap_or_default(),
            excluded: self.excluded.unwrap_or_default(),
            subnet_id: self.subnet_id.filter(|id| !id.is_empty()),
            blocks,
        })
    }
}

impl RawBlock {
    fn tally(self) -> Tally {
        let mut tally = self.addresses.unwrap_or_default();
        let older = self.addresses_v1_9.unwrap_or_default();
        tally.assigned += older.assigned;
        tally.returned.extend(older.returned);
        tally
    }
}

/// Capacity comes from the mask: addresses appear only once they have been handed out.
fn block(place: Option<network::Block>, size: i64, prefix: bool, tally: Tally) -> Block {
    Block { place, size, prefix, ipv6: place.is_none(), assigned: tally.assigned, returned: tally.returned }
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
