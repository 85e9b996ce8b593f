//! Integration tests: one binary, one module per subject.

#[cfg(test)]
mod imds;
mod scenarios;
