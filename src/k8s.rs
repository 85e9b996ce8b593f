//! The thin shell around the Kubernetes API: reads the own node and its pods, carries out what was decided.

pub mod client;
pub mod events;
pub mod node;
