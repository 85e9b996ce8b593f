//! Compression for scrapers and collectors that can undo it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// `text` as one gzip member, quickly: at the default level a page of metrics takes half as long again and is a sixth
/// smaller, and it is asked for while a node is drained.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    // Writing to memory cannot fail.
    _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_was_compressed_comes_back_and_was_smaller() {
        let text = "spotwarden_imds_requests_total{endpoint=\"spot\",outcome=\"ok\"} 17\n".repeat(100);
        let compressed = gzip(text.as_bytes());
        let mut back = String::new();
        flate2::read::GzDecoder::new(compressed.as_slice()).read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
        assert!(compressed.len() < text.len() / 10, "{}", compressed.len());
    }
}
