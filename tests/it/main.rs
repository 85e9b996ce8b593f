//! Integration tests: one binary, one module per subject.

mod architecture;
mod docs;
mod manifests;
