//! Integration tests: one binary, one module per subject.
//!
//! `cfg(test)` holds for all of it anyway; written out, it tells clippy that helpers may unwrap as tests may.

#[cfg(test)]
mod access;
#[cfg(test)]
mod admission;
#[cfg(test)]
mod apiserver_parity;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod chart;
#[cfg(test)]
mod check;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod controlplane;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod imds;
#[cfg(test)]
mod kustomize;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod migrate;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod release;
#[cfg(test)]
mod report;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod shared_files;
#[cfg(test)]
mod stop_parity;
