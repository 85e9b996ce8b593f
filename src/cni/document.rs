//! The answer of `/v1/enis`: every interface with its blocks of addresses, in all shapes since v1.7.
//!
//! The shape is told by the content, never by a version: flat up to v1.19, keyed by network card from v1.20. Only what the
//! model needs is kept: no container ids, no pod names, no single addresses.

mod raw;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::imds::documents::network;
use raw::{Index, Infos, Text};

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
    let text = std::str::from_utf8(body).map_err(|_| NO_JSON)?;
    // One pass over what every supported release sends; another layout shows at its first key.
    let document = match serde_json::from_str::<BTreeMap<Index, Option<Infos>>>(text) {
        Ok(cards) => {
            let cards = cards.into_iter().map(|(index, infos)| card(index.0, infos.unwrap_or_default()));
            Document { shape: Shape::Cards, cards: cards.collect::<Result<_, _>>()? }
        }
        Err(error) => without_cards(text, &error)?,
    };
    if document.cards.iter().all(|card| card.interfaces.is_empty()) {
        return Err(Refusal::Empty);
    }
    Ok(document)
}

/// What is not laid out by cards; `error` says why it is not.
fn without_cards(text: &str, error: &serde_json::Error) -> Result<Document, Refusal> {
    let top: BTreeMap<Text<'_>, &RawValue> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    let mut keys = top.keys().map(Text::as_str);
    if keys.clone().any(|key| key == "AvailableCommands") {
        Err(Refusal::CatchAll)
    } else if keys.clone().any(|key| key == "ENIs") {
        let infos = serde_json::from_str(text).map_err(|error| malformed(&error))?;
        Ok(Document { shape: Shape::Flat, cards: vec![card(0, infos)?] })
    } else if keys.all(|key| key.parse::<u32>().is_ok()) {
        Err(malformed(error))
    } else {
        Err(Refusal::Malformed("its keys are neither those of ipamd nor network cards"))
    }
}

fn card(index: u32, infos: Infos) -> Result<Card, Refusal> {
    let interfaces = infos.enis.unwrap_or_default().into_iter();
    let interfaces = interfaces.map(|(id, eni)| Ok(Eni { id, ..eni.unwrap_or_default().0? }));
    Ok(Card {
        index,
        stated_total: infos.total.unwrap_or_default(),
        stated_assigned: infos.assigned.unwrap_or_default(),
        interfaces: interfaces.collect::<Result<_, _>>()?,
    })
}

const NO_JSON: Refusal = Refusal::Malformed("it is no JSON");
const MISTYPED: Refusal = Refusal::Malformed("a value has another type than ipamd gives it");

/// The words of the JSON reader could repeat parts of the document.
fn malformed(error: &serde_json::Error) -> Refusal {
    match error.classify() {
        serde_json::error::Category::Eof => Refusal::Malformed("it ends too early"),
        serde_json::error::Category::Data => MISTYPED,
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => NO_JSON,
    }
}

#[cfg(test)]
mod tests;
