//! Any order of asks, silences, returns, drains, confirmations and changes of the replica: nothing runs twice, nothing
//! acknowledged is lost, no name has an address of the past, every second that is billed was run, and in the end all is well.
//!
//! The whole fleet with played agents; the simulation of `testkit` goes further with the real agent and a seeded network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wherry_control::{Control, DrainRequest};
use wherry_model::lifecycle::MeterKind;
use wherry_model::{Clock, DrainThen, InstanceId, InstanceState, OnNodeLoss, Timestamp};
use wherry_store::UsageQuery;
use wherry_testkit::{Node, RecordingZone, ScriptedAgent, Stack, interrupted, seeds, sized};

use crate::support::{asked, seconds};

/// Steps of one seed.
const STEPS: u32 = 100;

/// Seconds without an answered heartbeat after which an agent ends what may be replaced.
const FENCE_AFTER: u32 = 20;

struct Run {
    stack: Stack,
    other: Control,
    other_zone: Arc<RecordingZone>,
    random: StdRng,
    machines: Vec<Machine>,
    made: Vec<InstanceId>,
    /// Instances whose last seconds may be unproved for ever: their machine was given up.
    given_up: BTreeSet<InstanceId>,
}

/// What is true of a machine, whoever knows it.
struct Machine {
    agent: ScriptedAgent,
    reachable: bool,
    renewed_at: Timestamp,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let node = Node::sized(900, 2_048);
        let stack = Stack::builder()
            .seed(seed)
            .nodes([node, node, node])
            .configure(|config| {
                config.detection = seconds(6);
                config.fence_after_seconds = FENCE_AFTER;
                config.fence_margin = seconds(5);
                config.settle_wait = Duration::from_millis(1);
            })
            .start()
            .await;
        let other_zone = Arc::new(RecordingZone::default());
        let other = stack.replica_with(&other_zone, |_| {}).await;
        let renewed_at = stack.clock().now();
        let machine = |agent: &ScriptedAgent| Machine { agent: agent.clone(), reachable: true, renewed_at };
        let machines = stack.agents().iter().map(machine).collect();
        let (made, given_up) = (Vec::new(), BTreeSet::new());
        Self { stack, other, other_zone, random: StdRng::seed_from_u64(seed), machines, made, given_up }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    /// One of the replicas.
    fn control(&mut self) -> Control {
        if self.below(2) == 0 { self.stack.control().clone() } else { self.other.clone() }
    }

    async fn step(&mut self) {
        let index = self.below(self.machines.len());
        let kind = self.below(100);
        match kind {
            0..12 => self.create().await,
            12..22 => self.ask().await,
            22..38 => self.work_on(index).await,
            38..50 => self.heartbeat(index).await,
            50..56 => self.machines[index].reachable = false,
            56..62 => self.machines[index].reachable = true,
            62..76 => self.background().await,
            76..92 => {
                let time = 1 + self.below(9);
                self.pass(time).await;
            }
            92..96 => self.operate(index).await,
            96..98 => self.give_up(index).await,
            _ => {
                // The agents call the other replica from now on.
                let control = self.control();
                self.stack.line().plug(control);
            }
        }
    }

    async fn create(&mut self) {
        let mut spec = sized(self.random.random_range(100..400), 64);
        spec.on_node_loss = if self.below(2) == 0 { OnNodeLoss::Keep } else { OnNodeLoss::Replace };
        let name = format!("web-{}", self.made.len());
        let (control, principal) = (self.control(), self.stack.acme().principal.clone());
        match control.create_instance(&principal, asked(Some(&name), spec)).await {
            Ok(created) => self.made.push(created.view.instance.id),
            Err(error) => assert_eq!(error.code(), "capacity_unavailable", "{error}"),
        }
    }

    async fn ask(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let index = self.below(self.made.len());
        let id = self.made[index].to_string();
        let (control, acme) = (self.control(), self.stack.acme().clone());
        let answer = match self.below(4) {
            0 => control.stop_instance(&acme.principal, &acme.project, &id).await,
            1 | 2 => control.start_instance(&acme.principal, &acme.project, &id).await,
            _ => control.delete_instance(&acme.principal, &acme.project, &id).await,
        };
        if let Err(error) = answer {
            let expected = ["not_found", "instance_busy", "capacity_unavailable"];
            assert!(expected.contains(&error.code()), "{error:?}");
        }
    }

    /// The agent does what is desired and reports it, and is cut off somewhere in it now and then.
    async fn work_on(&mut self, index: usize) {
        if self.machines[index].reachable {
            let agent = self.machines[index].agent.clone();
            let polls = if self.below(4) == 0 { self.random.random_range(1..300) } else { u32::MAX };
            interrupted(polls, async {
                drop(agent.act().await);
                drop(agent.report().await);
            })
            .await;
            self.check_running();
        }
    }

    async fn heartbeat(&mut self, index: usize) {
        let sent_at = self.stack.clock().now();
        if self.machines[index].reachable {
            let polls = if self.below(5) == 0 { self.random.random_range(1..200) } else { u32::MAX };
            let answer = interrupted(polls, self.machines[index].agent.heartbeat()).await;
            match answer {
                Some(Ok(())) => self.machines[index].renewed_at = sent_at,
                // It was fenced: it takes its desired state first.
                Some(Err(_)) => drop(self.machines[index].agent.act().await),
                None => {}
            }
            self.stack.quiet().await;
        }
    }

    async fn background(&mut self) {
        let control = self.control();
        Stack::background_of(&control).await;
    }

    /// A second at a time: agents end by themselves what their lease does not cover any more.
    async fn pass(&mut self, time: usize) {
        for _ in 0..time {
            self.stack.let_pass(seconds(1)).await;
            let now = self.stack.clock().now();
            for machine in &self.machines {
                if now.since(machine.renewed_at) >= seconds(u64::from(FENCE_AFTER)) {
                    machine.agent.fence();
                }
            }
            // Agents beat and work by themselves, and replicas look.
            for index in 0..self.machines.len() {
                if self.below(10) < 7 {
                    self.heartbeat(index).await;
                }
                if self.below(10) < 3 {
                    self.work_on(index).await;
                }
            }
            if self.below(10) < 4 {
                self.background().await;
            }
        }
    }

    async fn operate(&mut self, index: usize) {
        let (control, operator) = (self.control(), self.stack.operator().clone());
        let node = self.machines[index].agent.node().to_string();
        let then = if self.below(2) == 0 { DrainThen::Move } else { DrainThen::Stop };
        let request = DrainRequest { grace: seconds(u64::try_from(self.below(5)).unwrap()), then };
        let answer = match self.below(5) {
            0 => control.cordon_node(&operator, &node).await,
            1 => control.drain_node(&operator, &node, request).await,
            2 | 3 => control.cancel_drain(&operator, &node).await,
            _ => control.uncordon_node(&operator, &node).await,
        };
        if let Err(error) = answer {
            assert!(["node_not_draining", "node_draining"].contains(&error.code()), "{error:?}");
        }
    }

    /// Somebody pulls the plug of a machine that is not heard, and says so.
    async fn give_up(&mut self, index: usize) {
        if self.machines[index].reachable {
            return;
        }
        let agent = self.machines[index].agent.clone();
        let running: Vec<InstanceId> = agent.running().iter().map(|one| one.instance).collect();
        for instance in &running {
            agent.exit(*instance, 137, None);
        }
        let there = self.stack.store().instances_on(agent.node()).await.unwrap().unwrap().instances;
        self.given_up.extend(there.iter().map(|instance| instance.id));
        self.given_up.extend(running);
        let (control, operator) = (self.control(), self.stack.operator().clone());
        match control.confirm_node_off(&operator, &agent.node().to_string()).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), "node_heard", "{error:?}"),
        }
    }

    /// At any moment: no instance runs on two machines.
    fn check_running(&self) {
        let mut where_it_runs: BTreeMap<InstanceId, u32> = BTreeMap::new();
        for running in self.machines.iter().flat_map(|machine| machine.agent.running()) {
            *where_it_runs.entry(running.instance).or_default() += 1;
        }
        assert!(where_it_runs.values().all(|count| *count <= 1), "it runs twice: {where_it_runs:?}");
    }

    async fn check(&mut self) {
        self.stack.quiet().await;
        self.check_running();
        let store = self.stack.store();
        wherry_store_contract::invariants::check(&store).await.unwrap();
        // Until nobody does anything any more, and so everybody has followed everything.
        loop {
            let before = store.cursor().await.unwrap();
            for control in [self.stack.control().clone(), self.other.clone()] {
                Stack::background_of(&control).await;
            }
            self.stack.quiet().await;
            if store.cursor().await.unwrap() == before {
                break;
            }
        }
        let mut answering = BTreeMap::new();
        let acme = self.stack.acme().clone();
        for id in &self.made {
            let view = self.stack.read(&acme, &id.to_string()).await;
            if view.instance.state == InstanceState::Running {
                answering.insert(view.fqdn, view.instance.address.unwrap());
            }
        }
        for zone in [self.stack.zone(), self.other_zone.as_ref()] {
            for (name, address) in zone.records() {
                assert_eq!(answering.get(&name), Some(&address), "{name}: a name answers what is not");
            }
        }
        let ran = self.ran();
        for (instance, billed) in self.billed().await {
            let ran = ran.get(&instance).cloned().unwrap_or_default();
            let unfounded: Vec<i64> = billed.difference(&ran).copied().collect();
            assert!(unfounded.is_empty(), "{instance} is billed for seconds that it did not run: {unfounded:?}");
        }
    }

    /// Everybody is heard again and every drain is over.
    async fn settle(&mut self) {
        let (control, operator) = (self.stack.control().clone(), self.stack.operator().clone());
        for index in 0..self.machines.len() {
            self.machines[index].reachable = true;
            let node = self.machines[index].agent.node().to_string();
            drop(control.cancel_drain(&operator, &node).await);
            drop(control.uncordon_node(&operator, &node).await);
        }
        for _ in 0..12 {
            for index in 0..self.machines.len() {
                let agent = self.machines[index].agent.clone();
                drop(agent.hello().await);
                drop(agent.act().await);
                agent.report().await.unwrap();
                agent.heartbeat().await.unwrap();
                self.machines[index].renewed_at = self.stack.clock().now();
            }
            self.pass(3).await;
            for control in [control.clone(), self.other.clone()] {
                Stack::background_of(&control).await;
            }
        }
        for machine in &self.machines {
            machine.agent.heartbeat().await.unwrap();
        }
        self.check().await;
        let acme = self.stack.acme().clone();
        let ran = self.ran();
        let billed = self.billed().await;
        for id in &self.made {
            let instance = self.stack.read(&acme, &id.to_string()).await.instance;
            let state = instance.state;
            assert!(
                state.is_settled() || matches!(state, InstanceState::Running | InstanceState::Pending),
                "{id} is still {state}: {:?}",
                instance.message
            );
            if instance.spec.on_node_loss == OnNodeLoss::Keep && !self.given_up.contains(id) {
                let (billed, ran) =
                    (billed.get(id).cloned().unwrap_or_default(), ran.get(id).cloned().unwrap_or_default());
                let missing: Vec<i64> = ran.difference(&billed).copied().collect();
                assert!(missing.is_empty(), "{id} ran and is not billed: {missing:?}");
            }
        }
    }

    async fn billed(&self) -> BTreeMap<InstanceId, BTreeSet<i64>> {
        let now = self.stack.clock().now();
        let query = UsageQuery {
            tenant: self.stack.acme().record.id,
            project: None,
            instance: None,
            from_second: 0,
            to_second: i64::MAX,
            limit: 10_000,
            after: None,
        };
        let mut found: BTreeMap<InstanceId, BTreeSet<i64>> = BTreeMap::new();
        let intervals = self.stack.store().intervals(&query).await.unwrap();
        for interval in intervals.iter().filter(|interval| interval.kind == MeterKind::Run) {
            let covered = interval.covered(now);
            for second in covered.from_second..covered.to_second {
                assert!(found.entry(interval.instance).or_default().insert(second), "a second is billed twice");
            }
        }
        found
    }

    fn ran(&self) -> BTreeMap<InstanceId, BTreeSet<i64>> {
        let now = self.stack.clock().now();
        let mut found: BTreeMap<InstanceId, BTreeSet<i64>> = BTreeMap::new();
        for ran in self.machines.iter().flat_map(|machine| machine.agent.history()) {
            let run = ran.from.grid_second()..ran.to.unwrap_or(now).grid_second();
            if !run.is_empty() {
                found.entry(ran.instance).or_default().extend(run);
            }
        }
        found
    }

    async fn live(mut self) {
        for step in 0..STEPS {
            self.step().await;
            if step % 5 == 0 {
                self.check().await;
            }
            if step % 50 == 49 {
                self.settle().await;
            }
        }
        let acme = self.stack.acme().clone();
        for id in self.made.clone() {
            let id = id.to_string();
            drop(self.stack.control().delete_instance(&acme.principal, &acme.project, &id).await);
        }
        self.settle().await;
        for machine in &self.machines {
            assert!(machine.agent.running().is_empty());
            let node = self.stack.store().node(machine.agent.node()).await.unwrap().unwrap();
            assert_eq!(node.used.instances, 0);
        }
        assert!(self.stack.zone().records().is_empty());
        assert!(self.other_zone.records().is_empty());
    }
}

#[tokio::test]
async fn any_history_of_a_fleet_runs_nothing_twice_and_loses_nothing() {
    for seed in seeds(6) {
        eprintln!("seed {seed}");
        Run::new(seed).await.live().await;
    }
}
