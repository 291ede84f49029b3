//! The zone as a projection of running instances: a name answers while its instance runs and is ready, unless it asks to be
//! answered while it is not, and with its address only.
//!
//! A record is visible only as one of the present generation: whatever displaces, settles or stops an instance takes its
//! address or its state in the same change, and of two records the higher revision wins, in whatever order they arrive from
//! this replica's own commits and from the follower of the others'. A name belongs to the newest instance that is known to
//! have it and is not known to be deleted: that there is a newer one means that the older is gone, whether or not this replica
//! has heard of it, so its address is never answered again. (Newer is by id, which is a time of the replica that made it: with
//! clocks that differ, a name taken anew within the difference answers when the deletion has arrived.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
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

/// A zone of no more names is published at each change. To publish is to write all of it, so a larger one is published as often as
/// that leaves time for other things ([`Zone::publish_large`]).
const SMALL: usize = 2_000;

/// The shortest time between two publications of a large zone, and how many times as long as the latest took.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);
const PUBLISH_REST: u32 = 9;

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
    /// A large zone has changed since it was published.
    stale: tokio::sync::Notify,
}

#[derive(Default)]
pub(crate) struct Names {
    serial: u64,
    /// First serial that is not reserved in the store.
    reserved_until: u64,
    known: BTreeMap<InstanceId, Known>,
    /// Who has which name, of all that are not known to be deleted.
    claims: BTreeSet<(String, InstanceId)>,
    tombstones: VecDeque<InstanceId>,
    /// The sum of the hashes of all visible records: names the contents whatever way they came about.
    hash: u64,
    pub(crate) neighbourhood: Neighbourhood,
}

struct Known {
    revision: Revision,
    /// What it would answer.
    record: Option<NameRecord>,
    /// A newer instance has its name.
    is_superseded: bool,
}

impl Known {
    fn visible(&self) -> Option<&NameRecord> {
        self.record.as_ref().filter(|_| !self.is_superseded)
    }
}

/// What a note has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Noted {
    names: bool,
    neighbours: bool,
}

impl Zone {
    pub(crate) fn new(publisher: Arc<dyn ZonePublisher>, apex: String) -> Self {
        Self {
            publisher,
            apex,
            names: Mutex::default(),
            version: tokio::sync::watch::channel(0).0,
            stale: tokio::sync::Notify::new(),
        }
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

    /// Publishes a large zone whenever it has changed. Never ends.
    pub(crate) async fn publish_large(&self) {
        loop {
            self.stale.notified().await;
            let begun = Instant::now();
            self.publish_now(&lock(&self.names));
            tokio::time::sleep(begun.elapsed().saturating_mul(PUBLISH_REST).max(PUBLISH_EVERY)).await;
        }
    }

    fn publish(&self, names: &Names) {
        if names.claims.len() <= SMALL {
            self.publish_now(names);
        } else {
            self.stale.notify_one();
        }
    }

    fn publish_now(&self, names: &Names) {
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
        self.known.values().filter_map(Known::visible)
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
        let name = fqdn();
        let (owner, answered) = self.answer(&name);
        let before = self.known.remove(&instance.id).and_then(|known| known.record);
        let answers =
            instance.is_ready() || (instance.spec.publish_unready && instance.state == InstanceState::Running);
        let record = match (answers, instance.address) {
            (true, Some(address)) => {
                let (instance, revision, name) = (instance.id, instance.revision, name.clone());
                // The revision is that of the change which made it so: other writes of the record are no news.
                let same = before.filter(|before| before.address == address && before.name == name);
                Some(same.unwrap_or(NameRecord { instance, revision, name, address }))
            }
            _ => None,
        };
        self.known.insert(instance.id, Known { revision: instance.revision, record, is_superseded: true });
        let claim = (name, instance.id);
        if instance.state == InstanceState::Deleted {
            self.claims.remove(&claim);
        } else {
            self.claims.insert(claim.clone());
        }
        let names = self.settle(&claim.0, owner, answered);
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

    /// Whose a name is, and what is answered.
    fn answer(&self, name: &str) -> (Option<InstanceId>, Option<NameRecord>) {
        let newest = (name.to_owned(), InstanceId::from_uuid(Uuid::max()));
        let owner = self.claims.range(..=newest).next_back().filter(|(claimed, _)| claimed == name);
        let owner = owner.map(|(_, owner)| *owner);
        let known = owner.and_then(|owner| self.known.get(&owner));
        (owner, known.and_then(Known::visible).cloned())
    }

    /// Gives a name to whose it is after a change; says whether anything else is answered now.
    fn settle(&mut self, name: &str, before: Option<InstanceId>, answered: Option<NameRecord>) -> bool {
        let (owner, _) = self.answer(name);
        for (who, is_superseded) in [(before, true), (owner, false)] {
            if let Some(known) = who.and_then(|who| self.known.get_mut(&who)) {
                known.is_superseded = is_superseded;
            }
        }
        let (_, answers) = self.answer(name);
        let hash_of = |record: &Option<NameRecord>| record.as_ref().map_or(0, hash_of);
        self.hash = self.hash.wrapping_sub(hash_of(&answered)).wrapping_add(hash_of(&answers));
        answered != answers
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
        self.inner.zone.publish_now(&lock(&self.inner.zone.names));
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

#[cfg(test)]
mod tests {
    use wherry_testkit::{Stack, spec};

    use super::*;

    /// Each order of `records`.
    fn orders(records: &[Instance]) -> Vec<Vec<Instance>> {
        if records.is_empty() {
            return vec![Vec::new()];
        }
        let with_first = |first: usize| {
            let mut rest = records.to_vec();
            let first = rest.remove(first);
            orders(&rest).into_iter().map(move |mut order| {
                order.insert(0, first.clone());
                order
            })
        };
        (0..records.len()).flat_map(with_first).collect()
    }

    #[tokio::test]
    async fn an_older_instance_never_answers_again_once_a_newer_one_of_its_name_is_known() {
        let stack = Stack::start().await;
        let older = stack.create(stack.acme(), "web", spec()).await.instance.id;
        stack.agent().obey().await;
        let old = stack.read(stack.acme(), "web").await.instance;
        let deleted = Instance {
            state: InstanceState::Deleted,
            address: None,
            revision: Revision(old.revision.0 + 3),
            ..old.clone()
        };
        let control = stack.control();
        control.delete_instance(&stack.acme().principal, &stack.acme().project, "web").await.unwrap();
        stack.agent().obey().await;
        stack.advance(std::time::Duration::from_millis(1));
        let newer = stack.create(stack.acme(), "web", spec()).await.instance;
        stack.agent().obey().await;
        let runs = stack.read(stack.acme(), "web").await.instance;
        assert!(newer.id > older && old.address.is_some() && runs.address.is_some());
        let stops =
            Instance { state: InstanceState::Stopping, revision: Revision(runs.revision.0 + 1), ..runs.clone() };
        for order in orders(&[old.clone(), deleted, newer.clone(), runs.clone(), stops.clone()]) {
            let (mut names, mut knows_newer) = (Names::default(), false);
            for record in &order {
                let before: Vec<_> = names.visible().cloned().collect();
                let noted = names.note(record, || "web".to_owned());
                knows_newer |= record.id == newer.id;
                let answered: Vec<_> = names.visible().cloned().collect();
                assert_eq!(noted.names, before != answered);
                assert_eq!(names.hash(), answered.iter().map(hash_of).fold(0, u64::wrapping_add));
                assert!(answered.iter().all(|answer| answer.instance == newer.id || !knows_newer), "{answered:?}");
            }
            assert_eq!(names.visible().count(), 0, "the newer one stops: {order:?}");
        }
    }
}
