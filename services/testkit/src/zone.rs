//! What the DNS server would have been given.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use wherry_control::{ZoneContents, ZonePublisher};

/// Keeps the latest zone and every serial. Lives through restarts of the application, as resolvers do.
#[derive(Debug, Default)]
pub struct RecordingZone(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    latest: Option<ZoneContents>,
    serials: Vec<u32>,
}

impl RecordingZone {
    /// The names that answer now.
    pub fn records(&self) -> BTreeMap<String, Ipv4Addr> {
        self.read(|recorded| recorded.latest.iter().flat_map(|zone| zone.records.clone()).collect())
    }

    /// What the name resolves to now.
    pub fn lookup(&self, fqdn: &str) -> Option<Ipv4Addr> {
        self.records().get(fqdn).copied()
    }

    /// Every serial that was published, in order.
    pub fn serials(&self) -> Vec<u32> {
        self.read(|recorded| recorded.serials.clone())
    }

    fn read<T>(&self, read: impl FnOnce(&Recorded) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ZonePublisher for RecordingZone {
    fn publish(&self, zone: ZoneContents) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.serials.push(zone.serial);
        recorded.latest = Some(zone);
    }
}
