//! An IPv4 address range, as a node owns one.

use std::fmt;
use std::net::Ipv4Addr;

/// Addresses that share their first `prefix_bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Range {
    network: u32,
    mask: u32,
    prefix_bits: u8,
}

/// The prefix is longer than an address.
#[derive(Debug, thiserror::Error)]
#[error("an IPv4 range has at most 32 prefix bits, not {prefix_bits}")]
pub struct RangeError {
    /// What was given.
    pub prefix_bits: u8,
}

impl Ipv4Range {
    /// The range that `address` is in; bits behind the prefix are ignored.
    pub fn new(address: Ipv4Addr, prefix_bits: u8) -> Result<Self, RangeError> {
        let host_bits = 32_u8.checked_sub(prefix_bits).ok_or(RangeError { prefix_bits })?;
        let mask = u32::MAX.checked_shl(u32::from(host_bits)).unwrap_or(0);
        Ok(Self { network: address.to_bits() & mask, mask, prefix_bits })
    }

    /// Whether `address` is in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask == self.network
    }
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from_bits(self.network), self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_of_ranges() {
        let range = Ipv4Range::new(Ipv4Addr::new(10, 77, 3, 9), 22).unwrap();
        assert_eq!(range.to_string(), "10.77.0.0/22");
        assert!(range.contains(Ipv4Addr::new(10, 77, 3, 255)));
        assert!(!range.contains(Ipv4Addr::new(10, 77, 4, 0)));
        assert!(!range.contains(Ipv4Addr::new(10, 76, 255, 255)));
        assert!(Ipv4Range::new(Ipv4Addr::LOCALHOST, 0).unwrap().contains(Ipv4Addr::BROADCAST));
        assert!(!Ipv4Range::new(Ipv4Addr::LOCALHOST, 32).unwrap().contains(Ipv4Addr::new(127, 0, 0, 2)));
        assert!(Ipv4Range::new(Ipv4Addr::LOCALHOST, 33).is_err());
    }
}
