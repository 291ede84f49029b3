//! The zone as a projection of running instances: a name answers while its instance runs and is ready, unless it asks to be
//! answered while it is not, and with its address only.
//!
//! A record is visible only as one of the present generation: whatever displaces, settles or stops an instance takes its
//! address or its state in the same change, and of two records the higher revision wins, in whatever order they arrive from
//! this replica's own commits and from the follower of the others'.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use wherry_agent_api::NameRecord;
use wherry_model::{Instance, InstanceId, InstanceState, Revision};

use crate::neighbours::Neighbourhood;
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
    /// Grows when anything that nodes are told of their surroundings may have changed.
    version: tokio::sync::watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct Names {
    serial: u64,
    /// First serial that is not reserved in the store.
    reserved_until: u64,
    known: BTreeMap<InstanceId, Known>,
    tombstones: VecDeque<InstanceId>,
    /// The sum of the hashes of all visible records: names the contents whatever way they came about.
    hash: u64,
    pub(crate) neighbourhood: Neighbourhood,
}

struct Known {
    revision: Revision,
    visible: Option<NameRecord>,
}

/// What a note has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Noted {
    names: bool,
    neighbours: bool,
}

impl Zone {
    pub(crate) fn new(publisher: Arc<dyn ZonePublisher>, apex: String) -> Self {
        Self { publisher, apex, names: Mutex::default(), version: tokio::sync::watch::channel(0).0 }
    }

    /// Takes note of a record; publishes when what DNS should answer has changed. Older revisions lose.
    pub(crate) fn observe(&self, instance: &Instance, fqdn: impl FnOnce() -> String) {
        let mut names = lock(&self.names);
        let noted = names.note(instance, fqdn);
        if noted.names {
            names.serial += 1;
            self.publish(&names);
        }
        if noted.names || noted.neighbours {
            self.tell();
        }
    }

    /// Takes note of many records and publishes once.
    pub(crate) fn observe_all(&self, instances: &[Instance], fqdn: impl Fn(&Instance) -> String) {
        let mut names = lock(&self.names);
        let mut changed = Noted::default();
        for instance in instances {
            let noted = names.note(instance, || fqdn(instance));
            changed.names |= noted.names;
            changed.neighbours |= noted.neighbours;
        }
        if changed.names {
            names.serial += 1;
            self.publish(&names);
        }
        if changed.names || changed.neighbours {
            self.tell();
        }
    }

    /// Wakes who waits for news of the surroundings of a node.
    pub(crate) fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Is told of each change of the surroundings.
    pub(crate) fn news(&self) -> tokio::sync::watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn apex(&self) -> &str {
        &self.apex
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Names) -> T) -> T {
        read(&lock(&self.names))
    }

    fn publish(&self, names: &Names) {
        let records = names.visible().map(|record| (record.name.clone(), record.address)).collect();
        self.publisher.publish(ZoneContents { apex: self.apex.clone(), serial: names.serial(), records });
    }
}

impl Names {
    /// RFC 1982 serials wrap; the low 32 bits of a number that only grows do just that.
    pub(crate) fn serial(&self) -> u32 {
        u32::try_from(self.serial & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    /// Every name that answers, in order of instance.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &NameRecord> {
        self.known.values().filter_map(|known| known.visible.as_ref())
    }

    /// Names all of [`Self::visible`].
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes note of a record; says what has changed by it.
    fn note(&mut self, instance: &Instance, fqdn: impl FnOnce() -> String) -> Noted {
        let known = self.known.get(&instance.id);
        if known.is_some_and(|known| known.revision >= instance.revision) {
            return Noted::default();
        }
        let neighbours = self.neighbourhood.note(instance);
        let before = self.known.remove(&instance.id).and_then(|known| known.visible);
        let answers =
            instance.is_ready() || (instance.spec.publish_unready && instance.state == InstanceState::Running);
        let visible = match (answers, instance.address) {
            (true, Some(address)) => {
                let (instance, revision, name) = (instance.id, instance.revision, fqdn());
                // The revision is that of the change which made it so: other writes of the record are no news.
                let same = before.as_ref().filter(|before| before.address == address && before.name == name);
                Some(same.cloned().unwrap_or(NameRecord { instance, revision, name, address }))
            }
            _ => None,
        };
        let names = before != visible;
        if names {
            let hash_of = |record: &Option<NameRecord>| record.as_ref().map_or(0, hash_of);
            self.hash = self.hash.wrapping_sub(hash_of(&before)).wrapping_add(hash_of(&visible));
        }
        self.known.insert(instance.id, Known { revision: instance.revision, visible });
        if instance.state == InstanceState::Deleted {
            self.tombstones.push_back(instance.id);
            if self.tombstones.len() > MAX_TOMBSTONES
                && let Some(oldest) = self.tombstones.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        Noted { names, neighbours }
    }
}

fn hash_of(record: &NameRecord) -> u64 {
    crate::stable_hash(&(record.instance, record.revision, &record.name, record.address))
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
        self.inner.zone.tell();
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
