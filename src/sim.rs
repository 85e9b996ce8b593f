//! A world in a box: simulated IMDS, API server, kubelet and ipamd. Speaks only the wire protocols; no other module of the
//! agent imports it.

pub mod apiserver;
pub mod gateway;
mod head;
pub mod imds;
pub mod ipamd;
pub mod kubelet;
pub mod objects;
mod onlooker;
pub mod pace;
pub mod ramp;
pub mod report;
pub mod scenario;
pub mod seen;
pub mod sinks;
pub mod timeline;
pub mod world;
