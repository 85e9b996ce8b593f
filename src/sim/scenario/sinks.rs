//! Who outside of the cluster is told, and what must have arrived there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parse;
use crate::sim::sinks::{SinkFault, SinkName};

/// The sinks that there are; the agent is told of each.
pub type Sinks = BTreeMap<SinkName, SinkSpec>;

/// One sink.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SinkSpec {
    /// What is wrong with it: `hangs`, `refuses`, `revoked`, `throttles`, `fails` or `huge`.
    pub fault: Option<SinkFault>,
    /// Seconds from the start of the world until it is well; absent = never.
    #[serde(rename = "for", deserialize_with = "parse::some_seconds")]
    pub lasts: Option<Duration>,
}

/// What must have arrived.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SinkExpect {
    /// Messages that it took. Default: not judged.
    pub messages: Option<u32>,
    /// Seconds from IMDS telling the notice to the first of them. Default: not judged.
    #[serde(deserialize_with = "parse::some_seconds")]
    pub told_within: Option<Duration>,
    /// What must stand in the first of them. Default: not judged.
    pub first_says: Option<String>,
    /// Most requests that it may see, taken or not. Default: not judged.
    pub max_requests: Option<u32>,
}
