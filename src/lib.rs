//! spotwarden is the warden of one Kubernetes node on AWS.
//!
//! ```text
//!  IMDS ──► monitor ──► interruption (pure) ──► drain / k8s ──► API server
//!                                  │
//!                                  └──► metrics, events, log
//! ```

pub mod admin;
pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drain;
pub mod http;
pub mod imds;
pub mod interruption;
pub mod k8s;
pub mod log;
pub mod metrics;
pub mod monitor;
pub mod run;
pub mod signal;
pub mod sim;
pub mod simulate;
