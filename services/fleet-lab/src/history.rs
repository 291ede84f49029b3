//! The history check: what callers were told, held against what is true, at the end of a fault test.
//!
//! A test creates and deletes through a [`History`], which remembers what was acknowledged, while a witness of its own sees
//! in `/proc` what runs where and when. [`History::check`] then reads the store past Wherry, asks every machine's containerd, reads
//! the machines' packet filters, routes, leases and cgroups, and proves:
//!
//! - no acknowledged create is lost, and nothing is there that nobody asked for;
//! - no instance ran twice at once, and under `keep` on one machine only, unless the test says that it may move;
//! - each node's row has room for what is placed on it, and holds exactly the sum of its instances;
//! - names are those of what runs, at the address that its process really has;
//! - every second on a bill is one that a process ran in, every second that a process ran is on the bill, no second twice, and
//!   quantities, amounts and totals are what anyone computes again from them;
//! - of what is gone nothing is left on any machine.
//!
//! A test that breaks a machine for good, or an agent at a bad moment, says so with [`History::doubt`]: what ran there then, unproved,
//! need not be billed. It must never be billed without having run.
//!
//! Rejected: comparing sums (an error of each sign hides another), and asking Wherry what runs (that is what is tested).

mod bills;
mod leaks;
mod placed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wherry_api_client::{Client, ClientError};
use wherry_api_types::{EnvVar, Instance, InstanceCreate, InstanceState, OnNodeLoss};

use crate::fleet::Fleet;
use crate::machine::Machine;
use crate::witness::{Run, TAG, Witness, now};

/// The project that every tenant has, and that all this is done in.
pub const PROJECT: &str = "default";
/// The promise is a minute from contact on (I4, I5, I9); the machine of the tests may have more to do.
const CONVERGED_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const DELETED_WITHIN: Duration = Duration::from_mins(1);
/// A proof of life is at most this old when a machine goes away.
const PROOF_AGE: Duration = Duration::from_secs(8);

/// What was asked and answered. Clones share it.
#[derive(Debug, Clone)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    witness: Witness,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// By tag.
    entries: BTreeMap<String, Entry>,
    doubts: Vec<Doubt>,
    gone: BTreeSet<String>,
}

/// One create.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    keeps: bool,
    may_move: bool,
    /// Id and name in DNS, once it was acknowledged.
    acknowledged: Option<(String, String)>,
    /// Whether its delete was acknowledged.
    deleted: bool,
    /// Whether its delete was asked for.
    may_be_deleted: bool,
}

/// On this machine nobody can prove what runs.
#[derive(Debug, Clone)]
struct Doubt {
    machine: String,
    /// Of this instance only, by its tag.
    tag: Option<String>,
    from: Duration,
    to: Option<Duration>,
}

/// A create that may be sent again: the same key, the same body.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is sent.
    pub body: InstanceCreate,
    /// Its idempotency key, which is also the tag of what it runs.
    pub key: String,
}

/// What a look has found.
#[derive(Debug, Default)]
struct Findings {
    /// Can never be right again.
    wrong: Vec<String>,
    /// Must be right soon.
    not_yet: Vec<String>,
}

impl History {
    /// Begins it, with the witness of all machines that the fleet has now.
    pub fn start(fleet: &Fleet) -> Result<Self> {
        let history = Self { inner: Arc::new(Inner { witness: Witness::start()?, book: Mutex::default() }) };
        for machine in &fleet.machines {
            history.watch(machine);
        }
        Ok(history)
    }

    /// Watches a machine that came later, too.
    pub fn watch(&self, machine: &Machine) {
        self.inner.witness.watch(&machine.host.name, format!("wherry-{}", machine.short_id()));
    }

    /// Gives a create its key and its tag. Instances without a name are named by it.
    pub fn plan(&self, mut body: InstanceCreate) -> Plan {
        let mut book = self.book();
        let number = book.entries.len();
        let key = format!("{}-{number}", body.name.as_deref().unwrap_or("lab"));
        let name = body.name.get_or_insert_with(|| key.clone()).clone();
        for container in &mut body.containers {
            container.env.push(EnvVar::plain(TAG, key.clone()));
        }
        let keeps = body.on_node_loss != Some(OnNodeLoss::Replace);
        let entry = Entry { name, keeps, may_move: !keeps, acknowledged: None, deleted: false, may_be_deleted: false };
        book.entries.insert(key.clone(), entry);
        Plan { body, key }
    }

    /// Sends a create. An answer is remembered; without one it may be sent again.
    pub async fn create(&self, client: &Client, plan: &Plan) -> Result<Instance, ClientError> {
        let made = client.create_instance(PROJECT, &plan.body, Some(&plan.key)).await?;
        let mut book = self.book();
        if let Some(entry) = book.entries.get_mut(&plan.key) {
            let told = (made.id.clone(), made.fqdn.clone());
            let before = entry.acknowledged.replace(told.clone());
            assert!(before.is_none_or(|before| before == told), "one key, two instances: {}", plan.key);
        }
        Ok(made)
    }

    /// Plans and sends a create, and waits until it runs.
    pub async fn run(&self, client: &Client, body: InstanceCreate) -> Result<Instance> {
        let plan = self.plan(body);
        let made = self.create(client, &plan).await.with_context(|| format!("cannot create {}", plan.key))?;
        let waited = client.wait_instance(PROJECT, &made.id, &[InstanceState::Running], DELETED_WITHIN).await;
        let waited = waited.with_context(|| format!("cannot wait for {}", plan.key))?;
        ensure!(waited.reached, "{} does not run: {:#?}", plan.key, waited.instance);
        Ok(waited.instance)
    }

    /// Sends a delete. An answer is remembered; without one it may be sent again.
    pub async fn delete(&self, client: &Client, id: &str) -> Result<Instance, ClientError> {
        self.entry(id, |entry| entry.may_be_deleted = true);
        let asked = client.delete_instance(PROJECT, id).await?;
        self.entry(id, |entry| entry.deleted = true);
        Ok(asked)
    }

    /// This instance of `keep` may run on another machine: it was drained, or its machine was confirmed to be off.
    pub fn may_move(&self, id: &str) {
        self.entry(id, |entry| entry.may_move = true);
    }

    /// From some seconds ago on nobody can prove what runs on this machine. What runs there need not be billed.
    pub fn doubt(&self, machine: &str) {
        self.add_doubt(machine, None);
    }

    /// The same for one instance: it was lost with its machine, and is run elsewhere.
    pub fn doubt_of(&self, machine: &str, id: &str) {
        let tag = self.tag(id);
        self.add_doubt(machine, Some(tag));
    }

    /// From now on what runs on this machine can be proved again.
    pub fn doubt_ends(&self, machine: &str) {
        let to = Some(now());
        for doubt in self.book().doubts.iter_mut().filter(|doubt| doubt.machine == machine && doubt.to.is_none()) {
            doubt.to = to;
        }
    }

    /// This machine will not be heard again: nothing is expected of it, and it is not looked at.
    pub fn gone(&self, machine: &str) {
        self.doubt(machine);
        self.book().gone.insert(machine.to_owned());
    }

    /// What the witness has seen run of this instance, in order.
    pub fn runs(&self, id: &str) -> Vec<Run> {
        self.inner.witness.runs().remove(&self.tag(id)).unwrap_or_default()
    }

    /// Ids of what was acknowledged and not deleted.
    pub fn live(&self) -> Vec<String> {
        let book = self.book();
        let live = book.entries.values().filter(|entry| !entry.may_be_deleted);
        live.filter_map(|entry| Some(entry.acknowledged.as_ref()?.0.clone())).collect()
    }

    /// The check. Waits for what must become right by itself; an error says all that did not.
    pub async fn check(&self, fleet: &mut Fleet) -> Result<()> {
        let begun = Instant::now();
        loop {
            let found = self.look(fleet).await?;
            if found.wrong.is_empty() && found.not_yet.is_empty() {
                return Ok(());
            }
            let is_over = !found.wrong.is_empty() || begun.elapsed() > CONVERGED_WITHIN;
            let all = || [found.wrong.as_slice(), found.not_yet.as_slice()].concat().join("\n  ");
            ensure!(!is_over, "the history does not hold after {:?}:\n  {}", begun.elapsed(), all());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The check, then the end of everything, the check again, and the end of the fleet, of which nothing may be left.
    pub async fn finish(self, mut fleet: Fleet) -> Result<()> {
        self.check(&mut fleet).await?;
        let client = fleet.client()?;
        for id in self.live() {
            self.delete(&client, &id).await.with_context(|| format!("cannot delete {id}"))?;
        }
        self.check(&mut fleet).await.context("after everything was deleted")?;
        fleet.end().await
    }

    async fn look(&self, fleet: &mut Fleet) -> Result<Findings> {
        let mut found = Findings::default();
        let client = fleet.client()?;
        let rows = match placed::read(fleet) {
            Ok(rows) => rows,
            Err(error) => {
                found.not_yet.push(format!("the store cannot be read: {error:#}"));
                return Ok(found);
            }
        };
        let (entries, doubts, gone) = {
            let book = self.book();
            (book.entries.clone(), book.doubts.clone(), book.gone.clone())
        };
        let runs = self.inner.witness.runs();
        placed::acknowledged(&entries, &rows, &mut found);
        placed::capacity(&rows, &mut found);
        placed::one_place(&entries, &runs, &mut found);
        let machines: Vec<&Machine> =
            fleet.machines.iter().filter(|machine| !gone.contains(&machine.host.name)).collect();
        for machine in &machines {
            match machine.engine() {
                Ok(engine) => {
                    placed::engine(machine, &engine, &rows, &mut found);
                    leaks::machine(machine, &engine, &rows, &mut found);
                }
                Err(error) => found.not_yet.push(format!("{}: {error:#}", machine.host.name)),
            }
        }
        placed::settled(&rows, &gone, &mut found);
        for replica in &mut fleet.replicas {
            if replica.program.is_alive()? {
                placed::names(replica, &entries, &rows, &mut found);
            }
        }
        bills::check(&client, &entries, &rows, &runs, &doubts, &mut found).await;
        Ok(found)
    }

    fn add_doubt(&self, machine: &str, tag: Option<String>) {
        let from = now().saturating_sub(PROOF_AGE);
        self.book().doubts.push(Doubt { machine: machine.to_owned(), tag, from, to: None });
    }

    /// Empty, and so nobody's, for what was never acknowledged.
    fn tag(&self, id: &str) -> String {
        let book = self.book();
        book.entries.iter().find(|(_, entry)| entry.is(id)).map(|(tag, _)| tag.clone()).unwrap_or_default()
    }

    fn entry(&self, id: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.book().entries.values_mut().find(|entry| entry.is(id)) {
            change(entry);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entry {
    fn is(&self, id: &str) -> bool {
        self.acknowledged.as_ref().is_some_and(|(known, _)| known == id)
    }
}
