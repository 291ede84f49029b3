//! Limits of a server, and the permits that enforce them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What clients may use of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// TCP connections at a time. More are closed at once.
    pub tcp_connections: usize,
    /// TCP connections at a time from one client (an IPv4 address or an IPv6 /64).
    pub tcp_connections_per_client: usize,
    /// A TCP connection is closed when a whole request has not arrived, or an answer has not gone out, within this time
    /// (RFC 7766, section 6.2.3).
    pub tcp_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tcp_connections: 256, tcp_connections_per_client: 32, tcp_idle_timeout: Duration::from_secs(10) }
    }
}

/// Hands out permits: so many in all, so many to one client. Refuses at once, never queues.
pub(crate) struct Permits {
    all: Arc<Semaphore>,
    per_client: usize,
    /// Only clients that hold a permit have an entry, so the map is as bounded as the permits.
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One unit of use; given back when dropped.
pub(crate) struct Permit {
    _one: OwnedSemaphorePermit,
    client: IpAddr,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Permits {
    pub(crate) fn new(all: usize, per_client: usize) -> Self {
        let all = Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS)));
        Self { all, per_client, held: Arc::default() }
    }

    pub(crate) fn take(&self, client: IpAddr) -> Option<Permit> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let client = site(client);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&client).copied().unwrap_or_default();
        if count >= self.per_client {
            return None;
        }
        held.insert(client, count + 1);
        drop(held);
        Some(Permit { _one: one, client, held: Arc::clone(&self.held) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                held.remove(&self.client);
            }
        }
    }
}

/// One client may use a whole IPv6 /64, so that counts as one.
fn site(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        ipv4 @ IpAddr::V4(_) => ipv4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_per_client_and_in_all_and_come_back() {
        let permits = Permits::new(3, 2);
        let [one, two]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let first = permits.take(one).unwrap();
        let _second = permits.take(one).unwrap();
        assert!(permits.take(one).is_none(), "the client's share is used up");
        let third = permits.take(two).unwrap();
        assert!(permits.take(two).is_none(), "all are used up");
        drop(first);
        drop(third);
        assert!(permits.take(one).is_some());
        assert_eq!(permits.held.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let permits = Permits::new(9, 1);
        let _first = permits.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(permits.take("2001:db8::2".parse().unwrap()).is_none());
        assert!(permits.take("2001:db8:0:1::2".parse().unwrap()).is_some());
    }
}
