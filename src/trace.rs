//! The trace of an interruption: what its spans are ([`spans`]), and when they are told ([`teller`]).

pub mod spans;
pub mod teller;
