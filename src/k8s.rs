//! The thin shell around the Kubernetes API: reads the own node and its pods, carries out what was decided.

pub mod api;
pub mod attributes;
pub mod client;
pub mod events;
pub mod eviction;
pub mod metered;
pub mod node;

pub mod watch;
pub(crate) mod wire;
