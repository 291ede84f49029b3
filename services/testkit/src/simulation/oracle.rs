//! What an observer outside of the system knows for certain, and what must never be seen: the invariants of a world.
//!
//! It sees every process begin and end at its true time, every write of the store at its commit, and every answer that a
//! user got. Names `I1` to `I10` are those of the fault list in `docs/reliability.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::{
    Generation, Instance, InstanceId, InstanceName, Intent, NodeId, NodeRecord, OnNodeLoss, ProjectId, TenantId,
};
use wherry_runtime::fake::RunWitness;
use wherry_runtime::{ContainerId, ContainerStatus};
use wherry_store_memory::Witness;

use super::legal;
use super::machine::owner;

/// A machine that can act again ends what must not run within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// A replica learns of another's change within this time, unless it cannot reach the store.
const LEARNS_WITHIN: Duration = Duration::from_secs(8);

/// One process, from its true begin to its true end.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) instance: InstanceId,
    pub(super) machine: usize,
    generation: u64,
    /// Which container of the instance, by its name.
    name: String,
    /// The number of the run.
    number: u32,
    container: String,
    pub(super) began: Instant,
    pub(super) ended: Option<Instant>,
}

/// The observer of one world.
pub(super) struct Oracle {
    begun: Instant,
    /// From the last heartbeat of a lost node to the earliest new start of what ran there.
    fence: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    violations: Vec<String>,
    story: Vec<String>,
    trace: DefaultHasher,
    records: BTreeMap<InstanceId, Instance>,
    names: BTreeMap<InstanceId, String>,
    /// What DNS has to answer for a name, in order: none, an address, none again, another one.
    answers: BTreeMap<Named, Vec<Option<Ipv4Addr>>>,
    /// Addresses that an instance answered with, and until when.
    past_addresses: Vec<(InstanceId, Ipv4Addr, Instant)>,
    runs: Vec<Run>,
    /// Of each machine: since when an agent on it could act; none while it cannot.
    able: BTreeMap<usize, Option<Instant>>,
    /// Machines that an operator said to be off: when each was told first what is still its own. Until then it runs what it
    /// knows, should it have power again, and nobody can tell it otherwise.
    said_off: BTreeMap<usize, Option<Instant>>,
    acknowledged: BTreeSet<InstanceId>,
    deleted: BTreeSet<InstanceId>,
    keys: BTreeMap<(TenantId, String), InstanceId>,
    /// Instances of whose runs not everything can be known: their machine lost power or was given up.
    blurred: BTreeSet<InstanceId>,
}

impl Seen {
    /// Whether the machine was said to be off and may not have ended yet what was taken from it.
    fn may_not_know(&self, machine: usize, now: Instant) -> bool {
        let told = self.said_off.get(&machine).copied();
        told.is_some_and(|told| told.is_none_or(|told| now.duration_since(told) <= ENDS_WITHIN))
    }
}

impl Oracle {
    pub(super) fn new(fence: Duration) -> Self {
        Self { begun: Instant::now(), fence, seen: Mutex::default() }
    }

    /// A sentence of the world's story. All of it together is what two runs of one seed are compared by.
    pub(super) fn note(&self, sentence: impl Into<String>) {
        let mut seen = self.seen();
        self.tell(&mut seen, sentence.into());
    }

    fn tell(&self, seen: &mut Seen, sentence: String) {
        let line = format!("{:>8.3} {sentence}", self.begun.elapsed().as_secs_f64());
        line.hash(&mut seen.trace);
        seen.story.push(line);
    }

    /// Something must never be seen, and was.
    pub(super) fn violated(&self, sentence: impl Into<String>) {
        let mut seen = self.seen();
        self.violate(&mut seen, sentence.into());
    }

    fn violate(&self, seen: &mut Seen, sentence: String) {
        self.tell(seen, format!("VIOLATION {sentence}"));
        seen.violations.push(sentence);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.seen().violations.clone()
    }

    /// The story, and a number that names it.
    pub(super) fn story(&self) -> (Vec<String>, u64) {
        let seen = self.seen();
        (seen.story.clone(), seen.trace.finish())
    }

    pub(super) fn machine_is(&self, machine: usize, able: bool) {
        let mut seen = self.seen();
        let before = seen.able.get(&machine).copied().flatten();
        let since = if able { before.or_else(|| Some(Instant::now())) } else { None };
        seen.able.insert(machine, since);
    }

    pub(super) fn machine_is_said_off(&self, machine: usize) {
        self.seen().said_off.insert(machine, None);
    }

    /// The machine's agent was answered what it has to run.
    pub(super) fn machine_is_told(&self, machine: usize) {
        if let Some(told) = self.seen().said_off.get_mut(&machine) {
            told.get_or_insert_with(Instant::now);
        }
    }

    /// A create was acknowledged: it must never be lost, and its key must never make another one.
    pub(super) fn created(&self, instance: &Instance, fqdn: &str, key: Option<&String>) {
        let mut seen = self.seen();
        let (id, tenant) = (instance.id, instance.tenant);
        self.tell(&mut seen, format!("user: {} is created as {id}", instance.name));
        seen.acknowledged.insert(id);
        seen.names.insert(id, fqdn.to_owned());
        if let Some(key) = key {
            let first = *seen.keys.entry((tenant, key.clone())).or_insert(id);
            if first != id {
                self.violate(&mut seen, format!("I1: the key {key} made {first} and then {id}"));
            }
        }
    }

    pub(super) fn named(&self, instance: InstanceId, fqdn: &str) {
        self.seen().names.insert(instance, fqdn.to_owned());
    }

    /// A delete was acknowledged.
    pub(super) fn deleted(&self, instance: InstanceId) {
        self.seen().deleted.insert(instance);
    }

    /// Not everything of what ran on the node can be known any more.
    pub(super) fn blur(&self, node: NodeId) {
        let mut seen = self.seen();
        let on: Vec<InstanceId> =
            seen.records.values().filter(|record| record.node == Some(node)).map(|record| record.id).collect();
        seen.blurred.extend(on);
    }

    pub(super) fn is_blurred(&self, instance: InstanceId) -> bool {
        self.seen().blurred.contains(&instance)
    }

    /// Containers that run on the machine now, with their instances.
    pub(super) fn running_on(&self, machine: usize) -> Vec<(ContainerId, InstanceId)> {
        let seen = self.seen();
        let here = seen.runs.iter().filter(|run| run.machine == machine && run.ended.is_none());
        here.map(|run| (ContainerId::new(run.container.clone()), run.instance)).collect()
    }

    pub(super) fn runs(&self) -> Vec<Run> {
        self.seen().runs.clone()
    }

    pub(super) fn records(&self) -> Vec<Instance> {
        self.seen().records.values().cloned().collect()
    }

    /// What must hold at every moment, beyond what each write and each start is checked for.
    pub(super) fn check(&self, nodes: &[NodeRecord]) {
        let mut seen = self.seen();
        let now = Instant::now();
        let mut wrong = Vec::new();
        for id in &seen.acknowledged {
            if !seen.records.contains_key(id) {
                wrong.push(format!("I1: {id} was acknowledged and is lost"));
            }
        }
        for id in &seen.deleted {
            if seen.records.get(id).is_some_and(|record| record.intent != Intent::Delete) {
                wrong.push(format!("I1: the delete of {id} was acknowledged and is lost"));
            }
        }
        for (index, node) in nodes.iter().enumerate() {
            wrong.extend(placed_wrong(node, seen.records.values()));
            let same = |other: &&NodeRecord| other.name == node.name || other.range == node.range;
            if let Some(other) = nodes.iter().skip(index + 1).find(same) {
                wrong.push(format!("I10: {} and {} have one name or one range", node.id, other.id));
            }
        }
        let mut running: BTreeMap<InstanceId, Vec<&Run>> = BTreeMap::new();
        for run in seen.runs.iter().filter(|run| run.ended.is_none()) {
            running.entry(run.instance).or_default().push(run);
        }
        for (id, runs) in running.iter().filter(|(_, runs)| any_twice(runs)) {
            let all_can_act = runs.iter().all(|run| {
                let since = seen.able.get(&run.machine).copied().flatten();
                since.is_some_and(|since| now.duration_since(since) > ENDS_WITHIN)
                    && !seen.may_not_know(run.machine, now)
            });
            if all_can_act {
                wrong.push(format!("I2: {id} goes on running twice"));
            }
        }
        for sentence in wrong {
            if !seen.violations.contains(&sentence) {
                self.violate(&mut seen, sentence);
            }
        }
    }

    /// I7: what a replica's DNS server answers is an address that the instance has, or had until a moment ago.
    pub(super) fn check_zone(&self, replica: usize, zone: &[(String, Ipv4Addr)]) {
        let mut seen = self.seen();
        let now = Instant::now();
        let mut wrong = Vec::new();
        for (name, address) in zone {
            let may_be = |id: &InstanceId| seen.names.get(id).is_none_or(|known| known == name);
            let present = seen.records.values().any(|record| visible(record) == Some(*address) && may_be(&record.id));
            let recent = seen
                .past_addresses
                .iter()
                .any(|(id, past, until)| past == address && may_be(id) && now.duration_since(*until) <= LEARNS_WITHIN);
            if !(present || recent) {
                wrong.push(format!("I7: replica {replica} answers {name} with {address}, which it does not have"));
            }
        }
        for sentence in wrong {
            if !seen.violations.contains(&sentence) {
                self.violate(&mut seen, sentence);
            }
        }
    }

    /// I10: a packet filter counts every instance to its own tenant and project.
    pub(super) fn check_filter(&self, machine: usize, admitted: &[(InstanceId, TenantId, ProjectId)]) {
        let mut seen = self.seen();
        for (id, tenant, project) in admitted {
            let own = seen.records.get(id).is_some_and(|record| (record.tenant, record.project) == (*tenant, *project));
            if !own {
                self.violate(&mut seen, format!("I10: machine {machine} counts {id} to another tenant"));
            }
        }
    }

    /// I7: a replica's DNS server goes through the answers of each name in their order, and never back. `reached` is how far
    /// this server has come with each name.
    pub(super) fn check_order(
        &self,
        replica: usize,
        zone: &BTreeMap<String, Ipv4Addr>,
        reached: &mut BTreeMap<Named, usize>,
    ) {
        let mut seen = self.seen();
        let mut wrong = Vec::new();
        for (id, name) in &seen.names {
            let Some(key) = seen.records.get(id).map(named) else { continue };
            let Some(answers) = seen.answers.get(&key) else { continue };
            let (now, from) = (zone.get(name).copied(), reached.get(&key).copied().unwrap_or(0));
            match answers.iter().skip(from).position(|answer| *answer == now) {
                Some(further) => drop(reached.insert(key, from + further)),
                None => wrong.push(format!("I7: replica {replica} goes back to {now:?} for {name}")),
            }
        }
        for sentence in wrong {
            self.violate(&mut seen, sentence);
        }
    }

    /// How many names must answer now.
    pub(super) fn visible_names(&self) -> usize {
        self.seen().records.values().filter(|record| visible(record).is_some()).count()
    }

    /// The addresses that names must answer with now.
    pub(super) fn visible_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.seen().records.values().filter_map(visible).collect()
    }

    fn began(&self, machine: usize, container: &ContainerStatus) {
        let Some(instance) = owner(&container.labels) else { return };
        let mut seen = self.seen();
        let now = Instant::now();
        let generation = container.labels.get("wherry/generation").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.tell(&mut seen, format!("machine {machine}: {instance} g{generation} runs in {}", container.id));
        let policy = seen.records.get(&instance).map(|record| record.spec.on_node_loss);
        let others: Vec<Run> =
            seen.runs.iter().filter(|run| run.instance == instance && run.ended.is_none()).cloned().collect();
        for other in others {
            // A machine that cannot act cannot end what it runs: the promise of `replace` begins when it can again.
            let since = seen.able.get(&other.machine).copied().flatten();
            let could_act = since.is_some_and(|since| now.duration_since(since) > self.fence);
            let belongs_together = other.machine == machine && other.generation == generation;
            if belongs_together && other.name != container.name {
                continue;
            }
            if other.machine != machine && (seen.may_not_know(machine, now) || seen.may_not_know(other.machine, now)) {
                continue;
            }
            if policy != Some(OnNodeLoss::Replace) || could_act || other.machine == machine {
                let sentence = format!(
                    "I2: {instance} begins as g{generation} on machine {machine} while {} of g{} runs on machine {}",
                    other.container, other.generation, other.machine
                );
                self.violate(&mut seen, sentence);
            }
        }
        let number = container.labels.get("wherry/run").and_then(|text| text.parse().ok()).unwrap_or(0);
        let (name, container) = (container.name.clone(), container.id.to_string());
        seen.runs.push(Run { instance, machine, generation, name, number, container, began: now, ended: None });
    }

    fn ended(&self, machine: usize, container: &ContainerStatus) {
        let mut seen = self.seen();
        let id = container.id.to_string();
        self.tell(&mut seen, format!("machine {machine}: {id} ends ({})", container.reason));
        let run = seen.runs.iter_mut().find(|run| run.machine == machine && run.container == id && run.ended.is_none());
        if let Some(run) = run {
            run.ended = Some(Instant::now());
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether these runs of one instance are on several machines, or of one container twice.
fn any_twice(runs: &[&Run]) -> bool {
    let twice = |one: &Run, other: &Run| one.machine != other.machine || one.name == other.name;
    runs.iter().enumerate().any(|(index, one)| runs.iter().skip(index + 1).any(|other| twice(one, other)))
}

/// A run that the record counts to its present generation, and that no process of it ever was.
fn foreign_run(record: &Instance, runs: &[Run]) -> Option<u32> {
    let of_it = |run: &&Run| run.instance == record.id && run.generation == record.generation.0;
    let was = |name: &str, number| runs.iter().filter(of_it).any(|run| run.name == name && run.number == number);
    record.containers.iter().find_map(|container| {
        let mut present = container.runs.iter().filter(|run| run.number >= record.first_run);
        present.find(|run| !was(container.name.as_str(), run.number)).map(|run| run.number)
    })
}

/// By what a name is one: whoever has it now answers to it.
pub(super) type Named = (TenantId, ProjectId, InstanceName);

fn named(record: &Instance) -> Named {
    (record.tenant, record.project, record.name.clone())
}

/// The address that DNS answers with.
fn visible(record: &Instance) -> Option<Ipv4Addr> {
    record.address.filter(|_| record.is_ready())
}

/// I3: what is placed is what the row says, and no more than there is.
fn placed_wrong<'i>(node: &NodeRecord, records: impl Iterator<Item = &'i Instance>) -> Option<String> {
    let (mut cpu, mut memory, mut instances) = (0, 0, 0);
    for record in records.filter(|record| record.node == Some(node.id) && record.holds_resources) {
        let demand = record.demand();
        cpu += u64::from(demand.cpu.get());
        memory += u64::from(demand.memory.get());
        instances += 1;
    }
    let (used, capacity) = (node.used, node.capacity);
    if (cpu, memory, instances) != (used.cpu_millis, used.memory_mib, used.instances) {
        return Some(format!(
            "I3: the row of {} says {} instances with {}m, {instances} with {cpu}m are placed there",
            node.name, used.instances, used.cpu_millis
        ));
    }
    let over = cpu > capacity.cpu_millis || memory > capacity.memory_mib || instances > capacity.instances;
    over.then(|| format!("I3: {} holds more than it has: {used:?}", node.name))
}

impl Witness for Oracle {
    fn instance_written(&self, before: Option<&Instance>, after: Option<&Instance>) {
        let mut seen = self.seen();
        let Some(after) = after else {
            let id = before.map(|before| before.id);
            self.violate(&mut seen, format!("I1: the record of {id:?} is forgotten before its time"));
            return;
        };
        let node = after.node.map_or_else(|| "nowhere".to_owned(), |node| node.to_string());
        let (id, Generation(generation)) = (after.id, after.generation);
        self.tell(&mut seen, format!("store: {id} g{generation} r{} {} on {node}", after.revision.0, after.state));
        if let Some(wrong) = legal::broken(before, after) {
            self.violate(&mut seen, format!("I8: {id}: {wrong}"));
        }
        if let Some(before) = before
            && let Some(address) = visible(before)
            && visible(after) != Some(address)
        {
            seen.past_addresses.push((after.id, address, Instant::now()));
        }
        let answers = seen.answers.entry(named(after)).or_insert_with(|| vec![None]);
        if answers.last() != Some(&visible(after)) {
            answers.push(visible(after));
        }
        if let Some(number) = foreign_run(after, &seen.runs) {
            let sentence =
                format!("I8: {id} g{generation} is said to have had run {number}, which was none of this generation");
            self.violate(&mut seen, sentence);
        }
        seen.records.insert(after.id, after.clone());
    }

    fn node_written(&self, before: Option<&NodeRecord>, after: &NodeRecord) {
        let mut seen = self.seen();
        if let Some(before) = before {
            let grew =
                |what: &str, from: u64, to: u64| (to < from).then(|| format!("I8: {what} of {} falls", after.name));
            let wrong = [
                grew("the epoch", before.epoch, after.epoch),
                grew("the desired revision", before.desired_revision, after.desired_revision),
                grew("the count of heartbeats", before.heartbeats, after.heartbeats),
            ];
            for sentence in wrong.into_iter().flatten() {
                self.violate(&mut seen, sentence);
            }
            if after.epoch > before.epoch {
                self.tell(&mut seen, format!("store: {} is fenced, epoch {}", after.name, after.epoch));
                let on: Vec<InstanceId> = seen
                    .records
                    .values()
                    .filter(|record| record.node == Some(after.id) || record.node.is_none())
                    .map(|record| record.id)
                    .collect();
                seen.blurred.extend(on);
            }
            if after.state != before.state {
                self.tell(&mut seen, format!("store: {} is {:?}", after.name, after.state));
            }
        }
    }
}

/// Sees the processes of one machine.
pub(super) struct MachineWitness {
    oracle: Arc<Oracle>,
    machine: usize,
}

impl MachineWitness {
    pub(super) const fn new(oracle: Arc<Oracle>, machine: usize) -> Self {
        Self { oracle, machine }
    }
}

impl std::fmt::Debug for MachineWitness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineWitness").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl RunWitness for MachineWitness {
    fn started(&self, container: &ContainerStatus) {
        self.oracle.began(self.machine, container);
    }

    fn ended(&self, container: &ContainerStatus) {
        self.oracle.ended(self.machine, container);
    }
}
