//! Integration tests: one binary, one module per subject.

#[cfg(test)]
mod apiserver_parity;
