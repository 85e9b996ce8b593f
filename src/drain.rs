//! The drain: which pods, in which order, with how much grace, and what became of each. Pure.

pub mod eviction;
pub mod outcome;
pub mod pod;
