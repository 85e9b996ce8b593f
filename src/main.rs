//! The `spotwarden` binary.

fn main() {}
