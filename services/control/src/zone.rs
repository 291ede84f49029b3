//! The zone as a projection of running instances: a name answers while its instance runs, and with its address only.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use wherry_model::{Instance, InstanceId, InstanceState, Revision};

use crate::{Control, Error, lock};

/// Serial numbers that are taken from the store at once, so that a change does not cost a write of its own. Half of them
/// must last until the reconciler looks again: more changes than the store can commit in that time.
const SERIAL_BLOCK: u32 = 100_000;

/// The counter in the store.
const SERIALS: &str = "zone_serial";

/// Instances read at once when the zone is built at start.
const LOAD_PAGE: u32 = 1_000;

/// Deleted instances whose revision is remembered, so that a late note about one cannot bring its name back.
const MAX_TOMBSTONES: usize = 10_000;

/// Everything that the DNS server answers from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneContents {
    /// The apex, for example `local.wherry.internal`.
    pub apex: String,
    /// Grows with every change, also over restarts.
    pub serial: u32,
    /// Full names without a dot at the end, and their addresses.
    pub records: Vec<(String, Ipv4Addr)>,
}

/// Takes a new zone whole; must not block.
pub trait ZonePublisher: Send + Sync {
    /// Serves `zone` from now on.
    fn publish(&self, zone: ZoneContents);
}

pub(crate) struct Zone {
    publisher: Arc<dyn ZonePublisher>,
    apex: String,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    serial: u64,
    /// First serial that is not reserved in the store.
    reserved_until: u64,
    known: BTreeMap<InstanceId, (Revision, Option<(String, Ipv4Addr)>)>,
    tombstones: VecDeque<InstanceId>,
}

impl Zone {
    pub(crate) fn new(publisher: Arc<dyn ZonePublisher>, apex: String) -> Self {
        Self { publisher, apex, names: Mutex::default() }
    }

    /// Takes note of a record; publishes when what DNS should answer has changed. Older revisions lose.
    pub(crate) fn observe(&self, instance: &Instance, fqdn: impl FnOnce() -> String) {
        let mut names = lock(&self.names);
        if names.note(instance, fqdn) {
            names.serial += 1;
            self.publish(&names);
        }
    }

    fn publish(&self, names: &Names) {
        let records = names.known.values().filter_map(|(_, record)| record.clone()).collect();
        // RFC 1982 serials wrap; the low 32 bits of a number that only grows do just that.
        let serial = u32::try_from(names.serial & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        self.publisher.publish(ZoneContents { apex: self.apex.clone(), serial, records });
    }
}

impl Names {
    /// Takes note of a record; says whether what DNS should answer has changed.
    fn note(&mut self, instance: &Instance, fqdn: impl FnOnce() -> String) -> bool {
        if self.known.get(&instance.id).is_some_and(|(revision, _)| *revision >= instance.revision) {
            return false;
        }
        let visible = match (instance.state, instance.address) {
            (InstanceState::Running, Some(address)) => Some((fqdn(), address)),
            _ => None,
        };
        let before = self.known.insert(instance.id, (instance.revision, visible.clone()));
        if instance.state == InstanceState::Deleted {
            self.tombstones.push_back(instance.id);
            if self.tombstones.len() > MAX_TOMBSTONES
                && let Some(oldest) = self.tombstones.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        before.and_then(|(_, record)| record) != visible
    }
}

impl Control {
    /// Builds the zone from the store and publishes it once, with a serial above all that were served before.
    pub(crate) async fn load_zone(&self) -> Result<(), Error> {
        let serial = self.store().reserve(SERIALS, SERIAL_BLOCK).await?;
        {
            let mut names = lock(&self.inner.zone.names);
            names.serial = serial;
            names.reserved_until = serial.saturating_add(u64::from(SERIAL_BLOCK));
        }
        let mut after = None;
        loop {
            let page = self.store().addressed(after, LOAD_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            let mut names = lock(&self.inner.zone.names);
            for instance in &page {
                names.note(instance, || self.inner.config.fqdn(instance));
            }
        }
        self.inner.zone.publish(&lock(&self.inner.zone.names));
        Ok(())
    }

    /// Takes the next block of serials when this one is nearly used, so that a restart begins above what was served.
    pub(crate) async fn renew_serials(&self) -> Result<(), Error> {
        let (used, reserved_until) = {
            let names = lock(&self.inner.zone.names);
            (names.serial, names.reserved_until)
        };
        let wanted = used.saturating_add(u64::from(SERIAL_BLOCK / 2));
        if wanted >= reserved_until {
            let missing = u32::try_from(wanted - reserved_until).unwrap_or(u32::MAX);
            let count = missing.saturating_add(SERIAL_BLOCK);
            let first = self.store().reserve(SERIALS, count).await?;
            lock(&self.inner.zone.names).reserved_until = first.saturating_add(u64::from(count));
        }
        Ok(())
    }
}
