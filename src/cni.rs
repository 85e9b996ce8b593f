//! How many more pods the node can give an address, what stops it, and for how long: the headroom of the Amazon VPC CNI.
//!
//! ```text
//!  ipamd: /v1/enis, /v1/ipamd-env-settings ─┐
//!         /metrics ─────────────────────────┼─► watch ─► model ─► Headroom ─► metrics, Events
//!  IMDS: network/interfaces/macs ───────────┤            (pure)    taint, a gentle drain
//!  own Node and its pods (watches) ─────────┘
//! ```
//!
//! Symbols in formulas: T addresses attached to the node for pods, A assigned, C in cooldown, F = T − A − C free, S
//! addresses of one interface, I addresses of all the instance's interfaces, K pods that the kubelet still takes.
//!
//! Nothing here answers an interruption, and nothing that ipamd says can hold that up: reading it is a future of its own
//! with short time-outs, and what it says ends in gauges and Events.

// Pure: what was read.
pub mod document;
pub mod exposition;
pub mod node;
pub mod settings;

// Pure: what follows from it.
pub mod advice;
pub mod alarm;
pub mod cause;
pub mod counters;
pub mod departure;
pub mod drift;
pub mod forecast;
pub mod growth;
pub mod limits;
pub mod model;
pub mod pool;
pub mod source;
pub mod subnet;
pub mod taint;
pub mod warm;

// Sockets.
pub mod client;
pub mod keeper;
pub mod watch;
