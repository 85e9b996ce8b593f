//! The state annotation.
