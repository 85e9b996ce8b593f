//! Compression for scrapers and collectors that can undo it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// `text` as one gzip member. The fastest level: an exposition shrinks to a tenth with it, and the agent has better things
/// to do than the last percent.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    // Writing to memory cannot fail.
    _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default()
}
