//! spotwarden is the warden of one Kubernetes node on AWS.
//!
//! ```text
//!  IMDS ──► monitor ──► interruption, drain ──► k8s ──► API server
//!                        (pure decisions)  ▲             │
//!                               │          └── own Node, own node's pods
//!                               ▼
//!                    metrics, log, Events, page, messages
//! ```
//!
//! [`agent`] puts it together and is the file to read first. The modules below follow the flow.

// What every part shares.
pub mod clock;
pub mod config;
pub mod identity;
pub mod tls;

// Signals in.
pub mod signal;

pub mod http;
pub mod imds;
pub mod monitor;

// Decisions: pure functions of state, input and time.
pub mod interruption;

pub mod drain;

// The headroom of pod addresses: read, decide, report.
pub mod cni;

// Actions on Kubernetes.
pub mod k8s;

// What an operator sees.
pub mod admin;
pub mod egress;
pub mod gzip;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod otlp;
pub mod trace;

// Put together.
pub mod agent;

// The commands.
pub mod check;
pub mod cli;
pub mod report;
pub mod run;
pub mod simulate;

// The simulated world.
pub mod sim;
