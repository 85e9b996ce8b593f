//! Releases of the VPC CNI.

use std::fmt;
use std::str::FromStr;

/// A release, as `v1.23.1`; compares as releases do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(
    /// Major.
    pub u16,
    /// Minor.
    pub u16,
    /// Patch.
    pub u16,
);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A text is no release of the form `v1.23.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a release of the form v1.23.1")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let mut numbers = text.strip_prefix('v').unwrap_or(text).split('.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok(Self(major, minor, patch)),
            _ => Err(NoVersion),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_as_it_is_written_and_compares_by_number() {
        for text in ["v1.9.0", "v1.20.3", "v1.23.1"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
        assert_eq!("1.7.10".parse(), Ok(Version(1, 7, 10)));
        assert!(Version(1, 9, 3) < Version(1, 10, 0) && Version(1, 20, 0) < Version(1, 20, 3));
        for text in ["", "v1", "v1.2", "v1.2.3.4", "v1.x.3", "v1.2.-3"] {
            assert_eq!(text.parse::<Version>(), Err(NoVersion), "{text}");
        }
    }
}
