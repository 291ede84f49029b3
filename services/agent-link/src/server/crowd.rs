//! Connections that have not shown a node's certificate: how many at once, how many of one address, and who gives way.
//!
//! Anybody who reaches the port can open connections, and whoever knocks is a node or a stranger only once its handshake is
//! over. So the bound refuses nobody who comes: the oldest connection of the address that holds most makes room. A node needs
//! its place for a few round trips and leaves it for good; who sits in it without going on is who gives way. A stranger with
//! one address therefore takes from nobody but itself, and one with many has to open connections faster than nodes shake
//! hands.
//!
//! Rejected: refusing the newcomer (a stranger who holds the places keeps a fleet out), a rate for each address (a fleet behind
//! one address comes back at once), a list of addresses that nodes have called from (empty when it is needed most, after a
//! restart).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address, all of which one host can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(network_of(address)),
        }
    }
}

fn network_of(address: Ipv6Addr) -> [u16; 4] {
    let [first, second, third, fourth, ..] = address.segments();
    [first, second, third, fourth]
}

/// All that stand at one stage.
pub(super) struct Crowd {
    most: usize,
    most_of_an_origin: usize,
    present: Arc<Mutex<Present>>,
    displaced: AtomicU64,
}

/// Nobody is listed with nothing.
#[derive(Default)]
struct Present {
    count: usize,
    next: u64,
    of: BTreeMap<Origin, BTreeMap<u64, CancellationToken>>,
}

/// One of the crowd, until it is dropped.
pub(super) struct Stand {
    origin: Origin,
    number: u64,
    gives_way: CancellationToken,
    present: Arc<Mutex<Present>>,
}

impl Crowd {
    pub(super) fn new(most: usize, most_of_an_origin: usize) -> Self {
        Self { most, most_of_an_origin, present: Arc::default(), displaced: AtomicU64::new(0) }
    }

    /// Lets one more in. Whoever has to give way for it is told.
    pub(super) fn admit(&self, origin: Origin) -> Stand {
        let mut present = lock(&self.present);
        let own = present.of.get(&origin).map_or(0, BTreeMap::len);
        let gives_way = if own >= self.most_of_an_origin {
            Some(origin)
        } else if present.count >= self.most {
            present.holds_most()
        } else {
            None
        };
        if let Some(token) = gives_way.and_then(|origin| present.take_oldest(origin)) {
            token.cancel();
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        let (number, token) = (present.next, CancellationToken::new());
        present.next += 1;
        present.count += 1;
        present.of.entry(origin).or_default().insert(number, token.clone());
        Stand { origin, number, gives_way: token, present: Arc::clone(&self.present) }
    }

    /// How many stand there now.
    pub(super) fn count(&self) -> usize {
        lock(&self.present).count
    }

    /// How many had to give way since the start.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }
}

impl Present {
    /// Among equals the one who has been there longest.
    fn holds_most(&self) -> Option<Origin> {
        let weight = |held: &BTreeMap<u64, CancellationToken>| (held.len(), Reverse(held.keys().next().copied()));
        self.of.iter().max_by_key(|(_, held)| weight(held)).map(|(origin, _)| *origin)
    }

    fn take_oldest(&mut self, origin: Origin) -> Option<CancellationToken> {
        let oldest = *self.of.get(&origin)?.keys().next()?;
        self.take(origin, oldest)
    }

    fn take(&mut self, origin: Origin, number: u64) -> Option<CancellationToken> {
        let held = self.of.get_mut(&origin)?;
        let token = held.remove(&number)?;
        if held.is_empty() {
            self.of.remove(&origin);
        }
        self.count -= 1;
        Some(token)
    }
}

impl Stand {
    /// Ends when it has to give way.
    pub(super) async fn gives_way(&self) {
        self.gives_way.cancelled().await;
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        lock(&self.present).take(self.origin, self.number);
    }
}

fn lock(present: &Mutex<Present>) -> MutexGuard<'_, Present> {
    present.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Origin {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn gone(stands: &[Stand]) -> Vec<usize> {
        stands.iter().enumerate().filter(|(_, stand)| stand.gives_way.is_cancelled()).map(|(index, _)| index).collect()
    }

    #[test]
    fn an_address_takes_from_itself() {
        let crowd = Crowd::new(10, 2);
        let other = crowd.admit(from("192.0.2.1"));
        let stands: Vec<_> = (0..5).map(|_| crowd.admit(from("192.0.2.2"))).collect();
        assert_eq!(gone(&stands), [0, 1, 2], "the oldest first");
        assert!(!other.gives_way.is_cancelled());
        assert_eq!((crowd.count(), crowd.displaced()), (3, 3));
        drop((stands, other));
        assert_eq!(crowd.count(), 0);
        assert!(lock(&crowd.present).of.is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn who_holds_most_makes_room_and_among_equals_the_oldest() {
        let crowd = Crowd::new(4, 3);
        let mut stands: Vec<_> =
            ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"].map(|one| crowd.admit(from(one))).into();
        stands.push(crowd.admit(from("192.0.2.4")));
        assert_eq!(gone(&stands), [1]);
        stands.push(crowd.admit(from("192.0.2.5")));
        assert_eq!(gone(&stands), [0, 1], "all hold one: the oldest");
        assert_eq!(crowd.count(), 4);
    }

    #[test]
    fn a_host_of_many_addresses_is_one() {
        assert_eq!(from("2001:db8:1:2::1"), from("2001:db8:1:2:ffff::9"));
        assert_ne!(from("2001:db8:1:2::1"), from("2001:db8:1:3::1"));
        assert_eq!(from("::ffff:192.0.2.1"), from("192.0.2.1"));
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
    }
}
