//! How many more pods the node can give an address, what stops it, and for how long: the headroom of the Amazon VPC CNI.
//!
//! ```text
//!  ipamd: /v1/enis, /v1/ipamd-env-settings ─┐
//!         /metrics ─────────────────────────┼─► watch ─► model ─► Headroom ─► metrics
//!  own Node and its pods (watches) ─────────┘            (pure)
//! ```
//!
//! Symbols in formulas: T addresses attached to the node for pods, A assigned, C in cooldown, F = T − A − C free, S
//! addresses of one interface, I addresses of all the instance's interfaces, K pods that the kubelet still takes.
//!
//! Nothing here answers an interruption, and nothing that ipamd says can hold that up: reading it is a future of its own
//! with short time-outs, and what it says ends in gauges.

// Pure: what was read.
pub mod document;
pub mod exposition;
pub mod node;
pub mod settings;

// Pure: what follows from it.
pub mod advice;
pub mod counters;
pub mod forecast;
pub mod growth;
pub mod limits;
pub mod model;
pub mod pool;
pub mod source;
pub mod subnet;

// Reading.
pub mod client;
pub mod watch;
