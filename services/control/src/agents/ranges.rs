//! Address ranges of nodes: first address and prefix length.

use std::net::Ipv4Addr;

/// First address and prefix length.
pub(crate) type Range = (Ipv4Addr, u8);

/// The number of addresses of a range.
const fn size(prefix: u8) -> u64 {
    1_u64 << (32 - if prefix > 32 { 32 } else { prefix })
}

fn bounds(range: Range) -> (u64, u64) {
    let first = u64::from(range.0.to_bits());
    (first, first + size(range.1))
}

/// Whether its first address is the first of that many, and it has room for a gateway and instances.
pub(crate) fn is_right(range: Range) -> bool {
    (8..=30).contains(&range.1) && u64::from(range.0.to_bits()).is_multiple_of(size(range.1))
}

pub(crate) fn overlap(one: Range, other: Range) -> bool {
    let ((first, end), (from, until)) = (bounds(one), bounds(other));
    first < until && from < end
}

pub(super) fn contains(range: Range, address: Ipv4Addr) -> bool {
    let (first, end) = bounds(range);
    (first..end).contains(&u64::from(address.to_bits()))
}

/// The first range of `prefix` in `fleet` that overlaps none that is taken.
pub(super) fn first_free(fleet: Range, prefix: u8, taken: &[Range]) -> Option<Range> {
    let (mut candidate, end) = bounds(fleet);
    let step = size(prefix);
    let mut blocks: Vec<(u64, u64)> = taken.iter().copied().map(bounds).collect();
    blocks.sort_unstable();
    for (first, last) in blocks {
        if candidate + step <= first {
            break;
        }
        if last > candidate {
            candidate = last.div_ceil(step) * step;
        }
    }
    let free = candidate + step <= end;
    free.then(|| u32::try_from(candidate).ok().map(|bits| (Ipv4Addr::from_bits(bits), prefix))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    #[test]
    fn the_next_free_one_is_the_first_that_overlaps_nothing() {
        let fleet = range("10.128.0.0/22");
        let free = |taken: &[&str]| {
            let taken: Vec<Range> = taken.iter().map(|text| range(text)).collect();
            first_free(fleet, 24, &taken).map(|(address, _)| address.to_string())
        };
        assert_eq!(free(&[]).as_deref(), Some("10.128.0.0"));
        assert_eq!(free(&["10.128.0.0/24", "10.128.2.0/24"]).as_deref(), Some("10.128.1.0"));
        assert_eq!(free(&["10.128.0.128/30"]).as_deref(), Some("10.128.1.0"));
        assert_eq!(free(&["10.128.0.0/23", "10.128.0.0/24"]).as_deref(), Some("10.128.2.0"));
        assert_eq!(free(&["10.0.0.0/8"]), None, "all of it is taken");
        assert_eq!(free(&["10.64.0.0/24", "10.192.0.0/24"]).as_deref(), Some("10.128.0.0"), "others are elsewhere");
        assert_eq!(free(&["10.128.0.0/24", "10.128.1.0/24", "10.128.2.0/24", "10.128.3.0/24"]), None);
    }

    #[test]
    fn a_range_begins_at_its_first_address() {
        assert!(is_right(range("10.128.4.0/24")) && is_right(range("10.128.4.4/30")));
        for wrong in ["10.128.4.1/24", "10.128.4.0/31", "10.128.4.0/33", "0.0.0.0/0"] {
            assert!(!is_right(range(wrong)), "{wrong}");
        }
        assert!(contains(range("10.0.1.0/24"), "10.0.1.255".parse().unwrap()));
        assert!(!contains(range("10.0.1.0/24"), "10.0.2.0".parse().unwrap()));
    }
}
