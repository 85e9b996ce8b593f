//! The tree `network/interfaces/macs/`: every network interface with its addresses, as EC2 has them.
//!
//! Lists are one element a line; what there is nothing of is absent. The tree follows EC2 with a delay of seconds, seldom of
//! more. Facts from <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html>.

use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

use tokio::time::Instant;

use super::Malformed;

/// More interfaces than any instance has.
const MOST_INTERFACES: usize = 128;
/// More addresses or prefixes than any interface has.
const MOST_ADDRESSES: usize = 1024;

/// The hardware address of an interface, which is its name in the tree. A value of this type holds nothing else, so that
/// what a listing says can go into a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

impl FromStr for Mac {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or(NO_MAC)?;
        }
        if parts.next().is_some() { Err(NO_MAC) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

const NO_MAC: Malformed = Malformed("a line is no hardware address");

/// A block of IPv4 addresses: a subnet, a delegated prefix or, with 32 bits, a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// The first address.
    pub first: Ipv4Addr,
    /// Length of the mask, 0 to 32.
    pub length: u8,
}

impl Block {
    /// One address.
    pub const fn single(address: Ipv4Addr) -> Self {
        Self { first: address, length: 32 }
    }

    /// How many addresses it holds.
    pub fn size(self) -> i64 {
        1_i64 << (32 - u32::from(self.length.min(32)))
    }

    /// Whether `address` is one of them.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = i64::from(address.to_bits()) - i64::from(self.first.to_bits());
        (0..self.size()).contains(&offset)
    }
}

impl FromStr for Block {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (first, length) = text.split_once('/').ok_or(NO_BLOCK)?;
        let length: u8 = length.parse().ok().filter(|length| *length <= 32).ok_or(NO_BLOCK)?;
        Ok(Self { first: first.parse().map_err(|_| NO_BLOCK)?, length })
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

const NO_BLOCK: Malformed = Malformed("a line is no block of IPv4 addresses");

/// One interface as the tree shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-…`.
    pub id: String,
    /// 0 is the interface that the instance was launched with.
    pub device: u32,
    /// `subnet-…`.
    pub subnet_id: Option<String>,
    /// The subnet's own addresses.
    pub subnet: Option<Block>,
    /// The interface's own address; an interface for EFA alone has none.
    pub primary: Option<Ipv4Addr>,
    /// Its other addresses.
    pub secondary: Vec<Ipv4Addr>,
    /// Delegated prefixes.
    pub prefixes: Vec<Block>,
}

impl NetworkInterface {
    /// Addresses beside its own.
    pub fn attached(&self) -> i64 {
        let prefixes = self.prefixes.iter().map(|prefix| prefix.size());
        prefixes.fold(i64::try_from(self.secondary.len()).unwrap_or(i64::MAX), i64::saturating_add)
    }
}

/// Every interface, read one after the other within some seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// When the first of it was asked for: nothing in it is older.
    pub since: Instant,
    /// By device.
    pub interfaces: Vec<NetworkInterface>,
}

/// Reads `macs/`.
pub fn macs(body: &[u8]) -> Result<Vec<Mac>, Malformed> {
    let macs = lines(body, MOST_INTERFACES, |line| line.strip_suffix('/').unwrap_or(line).parse())?;
    if macs.is_empty() { Err(Malformed("it lists no interface")) } else { Ok(macs) }
}

/// Reads `local-ipv4s`: the first is the interface's own.
pub fn addresses(body: &[u8]) -> Result<Vec<Ipv4Addr>, Malformed> {
    lines(body, MOST_ADDRESSES, |line| line.parse().map_err(|_| Malformed("a line is no IPv4 address")))
}

/// Reads `ipv4-prefix`, or `subnet-ipv4-cidr-block`, which has one line.
pub fn blocks(body: &[u8]) -> Result<Vec<Block>, Malformed> {
    lines(body, MOST_ADDRESSES, str::parse)
}

/// Reads `interface-id` and `subnet-id`.
pub fn id(body: &[u8]) -> Result<String, Malformed> {
    super::name(body).ok_or(Malformed("it is no id"))
}

/// Reads `device-number`.
pub fn number(body: &[u8]) -> Result<u32, Malformed> {
    let text = std::str::from_utf8(body.trim_ascii()).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Malformed("it is no number"))
}

fn lines<T>(body: &[u8], most: usize, read: impl Fn(&str) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed("it is no text"))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(most + 1).collect();
    if lines.len() > most {
        return Err(Malformed("it is longer than any instance has use for"));
    }
    lines.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_line_by_line() {
        let found = macs(b"0a:00:00:00:10:01/\n0A:00:00:00:10:02/").unwrap();
        assert_eq!(found.iter().map(Mac::to_string).collect::<Vec<_>>(), ["0a:00:00:00:10:01", "0a:00:00:00:10:02"]);
        let found = addresses(b"10.8.1.9\n10.8.1.20\n").unwrap();
        assert_eq!(found, [Ipv4Addr::new(10, 8, 1, 9), Ipv4Addr::new(10, 8, 1, 20)]);
        let found = blocks(b"10.8.2.16/28\n10.8.0.0/16").unwrap();
        assert_eq!(found.iter().map(|block| block.size()).collect::<Vec<_>>(), [16, 65536]);
        assert_eq!(
            (id(b"eni-0123456789abcde01").unwrap().as_str(), number(b"3\n").unwrap()),
            ("eni-0123456789abcde01", 3)
        );
    }

    #[test]
    fn what_is_no_list_of_them_is_refused() {
        for body in
            [b"".as_slice(), b"<html>", b"0a:00:00:00:10/", b"../iam/", b"0a:00:00:00:10:01:02/", b"+a:00:00:00:10:01"]
        {
            assert!(macs(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        let many = "0a:00:00:00:10:01/\n".repeat(MOST_INTERFACES + 1);
        assert!(macs(many.as_bytes()).is_err());
        assert!(addresses(b"10.8.1.300").is_err() && addresses(b"\xff").is_err());
        for body in [b"10.8.2.16".as_slice(), b"10.8.2.16/33", b"10.8.2/28", b"10.8.2.16/-1"] {
            assert!(blocks(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        assert!(number(b"one").is_err() && id(b"two words").is_err());
    }

    #[test]
    fn a_block_knows_its_addresses() {
        let block: Block = "10.8.2.16/28".parse().unwrap();
        for (last, inside) in [(15, false), (16, true), (31, true), (32, false)] {
            assert_eq!(block.contains(Ipv4Addr::new(10, 8, 2, last)), inside, "{last}");
        }
        assert_eq!((block.to_string(), "0.0.0.0/0".parse::<Block>().unwrap().size()), ("10.8.2.16/28".into(), 1 << 32));
        assert!(Block::single(block.first).contains(block.first));
    }
}
