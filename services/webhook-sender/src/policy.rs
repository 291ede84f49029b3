//! Which addresses are connected to: those of the public internet, and ranges that the operator allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// What a tenant is told of an address that is not let through. It does not say which address it is.
pub(crate) const REFUSED: &str = "it leads to no public address: webhooks reach private, local and reserved addresses only where the operator allows it";

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    bits: u8,
}

/// Text that is no range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no range: write ADDRESS/BITS, for example 10.0.0.0/8 or fd00::/8")]
pub struct RangeError(String);

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let read = || {
            let (first, bits) = text.split_once('/')?;
            let (first, bits): (IpAddr, u8) = (first.parse().ok()?, bits.parse().ok()?);
            (bits <= if first.is_ipv4() { 32 } else { 128 }).then_some(Self { first, bits })
        };
        read().ok_or_else(|| RangeError(text.to_owned()))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl Range {
    fn has(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => v4(address, first, self.bits),
            (IpAddr::V6(first), IpAddr::V6(address)) => v6(address, first, self.bits),
            _ => false,
        }
    }
}

fn v4(address: Ipv4Addr, first: Ipv4Addr, bits: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
    address.to_bits() & mask == first.to_bits() & mask
}

fn v6(address: Ipv6Addr, first: Ipv6Addr, bits: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    address.to_bits() & mask == first.to_bits() & mask
}

/// What IANA's registry of special purposes takes out of IPv4.
const NOT_PUBLIC_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The one range of IPv6 that is public, and what is taken out of it: ways into IPv4, documentation.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NOT_PUBLIC_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Where webhooks may lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    http: bool,
    allowed: Vec<Range>,
    refused: Vec<Range>,
}

impl Policy {
    /// `allowed` are reached whatever they are, `refused` (the fleet's own) are not unless they are allowed, and of all others
    /// those that are public. Without `http` only by HTTPS.
    pub const fn new(http: bool, allowed: Vec<Range>, refused: Vec<Range>) -> Self {
        Self { http, allowed, refused }
    }

    pub(crate) const fn allows_http(&self) -> bool {
        self.http
    }

    pub(crate) const fn schemes(&self) -> &'static str {
        if self.http {
            "it begins with https:// or http://"
        } else {
            "it begins with https://: plain http is not allowed here"
        }
    }

    /// Whether this address is connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if self.allowed.iter().any(|range| range.has(address)) {
            return true;
        }
        if self.refused.iter().any(|range| range.has(address)) {
            return false;
        }
        match address {
            IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|(first, bits)| v4(address, *first, *bits)),
            IpAddr::V6(address) => {
                v6(address, PUBLIC_V6.0, PUBLIC_V6.1)
                    && !NOT_PUBLIC_V6.iter().any(|(first, bits)| v6(address, *first, *bits))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Range> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_public_addresses_are_let_through() {
        let policy = Policy::new(false, Vec::new(), Vec::new());
        for public in ["9.9.9.9", "100.63.255.255", "100.128.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1111"] {
            assert!(policy.allows(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!policy.allows(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn the_operator_allows_and_the_fleet_is_out_of_bounds() {
        let policy = Policy::new(false, ranges(&["10.9.0.0/16", "::1/128"]), ranges(&["9.9.0.0/16"]));
        for (address, allowed) in [
            ("10.9.1.1", true),
            ("::ffff:10.9.1.1", true),
            ("10.8.1.1", false),
            ("::1", true),
            ("9.9.9.9", false),
            ("9.8.9.9", true),
        ] {
            assert_eq!(policy.allows(address.parse().unwrap()), allowed, "{address}");
        }
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
