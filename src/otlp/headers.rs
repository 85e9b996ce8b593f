//! Headers from a file that may change at any time, as a Secret's file does.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use http::HeaderMap;

use crate::config::otlp::headers;

/// Nobody has more headers.
const MAX_BYTES: u64 = 64 * 1024;

/// What tells one version of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    /// A Secret's file is replaced, not written.
    inode: (u64, u64),
    bytes: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), inode: (metadata.dev(), metadata.ino()), bytes: metadata.len() }
    }
}

/// The headers of a file, read again when it has changed.
#[derive(Debug)]
pub(super) struct HeaderFile {
    path: PathBuf,
    kept: Option<(Stamp, Result<HeaderMap, String>)>,
}

impl HeaderFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, kept: None }
    }

    /// The headers of now, or what is wrong with the file, in words that repeat nothing of it.
    pub(super) fn read(&mut self) -> Result<HeaderMap, String> {
        let problem = |problem: String| format!("the file of --otlp-headers-file, {}, {problem}", self.path.display());
        let metadata = fs::metadata(&self.path).map_err(|error| problem(format!("cannot be read: {error}")))?;
        let stamp = Stamp::of(&metadata);
        if let Some((kept, headers)) = &self.kept
            && *kept == stamp
        {
            return headers.clone();
        }
        let read = || {
            if !metadata.is_file() || metadata.len() > MAX_BYTES {
                return Err(problem(format!("is not a file of at most {MAX_BYTES} bytes")));
            }
            let text = fs::read_to_string(&self.path).map_err(|error| problem(format!("cannot be read: {error}")))?;
            match headers(&text) {
                Ok(headers) if headers.is_empty() => Err(problem("is empty; write name=value lines".to_owned())),
                Ok(headers) => Ok(headers),
                Err(why) => Err(problem(format!("{why}; write name=value lines with values percent-encoded"))),
            }
        };
        let headers = read();
        self.kept = Some((stamp, headers.clone()));
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of its own for each test, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("spotwarden-otlp-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_its_problem_is_told_without_its_content() {
        let scratch = Scratch::new("headers");
        let mut file = HeaderFile::new(scratch.0.clone());
        let error = file.read().unwrap_err();
        assert!(error.contains("cannot be read") && error.contains(&scratch.0.display().to_string()), "{error}");
        for (text, expected) in [
            ("authorization=Bearer%20one\n", Ok("Bearer one")),
            ("authorization=Bearer%20second\nx-scope-orgid=7\n", Ok("Bearer second")),
            ("authorization", Err("without `=`")),
            ("", Err("is empty")),
            ("authorization=secret%2", Err("not percent-encoded")),
            ("authorization=third", Ok("third")),
        ] {
            fs::write(&scratch.0, text).unwrap();
            match (file.read(), expected) {
                (Ok(headers), Ok(value)) => assert_eq!(headers["authorization"], value),
                (Err(error), Err(part)) => assert!(error.contains(part) && !error.contains("secret"), "{error}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
        assert!(!format!("{file:?}").contains("third"), "{file:?}");
    }
}
