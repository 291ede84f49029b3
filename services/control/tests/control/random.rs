//! Any order of asks, facts, losses, silences and crashes: nothing acknowledged is lost, and every second that a container
//! ran is billed once, no other one ever.
//!
//! The reference is what an observer beside the agents would have seen ([`wherry_testkit::ScriptedAgent::history`]):
//! floored to grid seconds it must equal the seconds of the stored intervals once every fact has arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wherry_control::CreateInstance;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{Clock, InstanceId, InstanceName, InstanceState, Timestamp};
use wherry_store::UsageQuery;
use wherry_testkit::{Node, ScriptedAgent, Stack, Tenant, interrupted, seeds, sized};

/// Steps of one seed.
const STEPS: u32 = 70;

struct Run {
    stack: Stack,
    random: StdRng,
    /// Creates that were acknowledged.
    made: Vec<(usize, InstanceId)>,
    /// Creates that were cut off, with their keys: there or not, but never twice.
    asked: Vec<(usize, CreateInstance)>,
    names: u32,
    /// Whether the wall clock is set back now and then. Which seconds were meant is not known then, only that none may be
    /// billed twice, none in the future, and none when nothing was there.
    clock_goes_back: bool,
    /// The latest that the wall clock ever was.
    latest: Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Stop,
    Start,
    Delete,
}

impl Run {
    async fn new(seed: u64, clock_goes_back: bool) -> Self {
        let node = Node::sized(1_000, 1_024);
        let builder = Stack::builder().seed(seed).nodes([node, node]);
        let stack = builder.configure(|config| config.settle_wait = Duration::from_millis(1)).start().await;
        let latest = stack.clock().now();
        let random = StdRng::seed_from_u64(seed);
        Self { stack, random, made: Vec::new(), asked: Vec::new(), names: 0, clock_goes_back, latest }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn agent(&mut self) -> ScriptedAgent {
        let index = self.random.random_range(0..self.stack.agents().len());
        self.stack.agents()[index].clone()
    }

    fn tenant(&self, index: usize) -> &Tenant {
        if index == 0 { self.stack.acme() } else { self.stack.blue() }
    }

    /// Cut off somewhere, sometimes.
    fn polls(&mut self) -> u32 {
        if self.chance(25) { self.random.random_range(1..400) } else { u32::MAX }
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..12 => self.create().await,
            12..18 => self.ask(Ask::Stop).await,
            18..26 => self.ask(Ask::Start).await,
            26..31 => self.ask(Ask::Delete).await,
            31..46 => drop(self.agent().act().await),
            46..56 => self.report().await,
            56..60 => self.resend().await,
            60..68 => self.heartbeat().await,
            68..76 => self.container_ends_or_starts(),
            76..78 => self.agent().break_next_start(),
            78..92 => self.time_passes().await,
            92..95 => drop(self.stack.background().await),
            95..97 => self.ask_while_reporting().await,
            _ => self.crash().await,
        }
    }

    async fn create(&mut self) {
        let tenant = self.random.random_range(0..2);
        self.names += 1;
        let request = CreateInstance {
            project: "default".parse().unwrap(),
            name: Some(InstanceName::new(format!("web-{}", self.names)).unwrap()),
            spec: sized(self.random.random_range(100..400), 64),
            idempotency_key: Some(format!("{tenant}/{}", self.names)),
        };
        let polls = self.polls();
        let principal = self.tenant(tenant).principal.clone();
        match interrupted(polls, self.stack.control().create_instance(&principal, request.clone())).await {
            Some(Ok(created)) => self.made.push((tenant, created.view.instance.id)),
            Some(Err(error)) => assert_eq!(error.code(), "capacity_unavailable", "{error}"),
            None if tenant == 0 => self.asked.push((tenant, request)),
            None => self.repeat(tenant, request).await,
        }
    }

    /// The client asks again with the same key, as it should.
    async fn repeat(&mut self, tenant: usize, request: CreateInstance) {
        let principal = self.tenant(tenant).principal.clone();
        match self.stack.control().create_instance(&principal, request.clone()).await {
            Ok(created) => self.made.push((tenant, created.view.instance.id)),
            // The first one may still be under way, and hold the room.
            Err(error) => {
                assert_eq!(error.code(), "capacity_unavailable", "{error}");
                self.asked.push((tenant, request));
            }
        }
    }

    fn pick(&mut self) -> Option<(Tenant, String)> {
        let (tenant, id) = *self.made.get(self.random.random_range(0..self.made.len().max(1)))?;
        Some((self.tenant(tenant).clone(), id.to_string()))
    }

    async fn ask(&mut self, ask: Ask) {
        let Some((tenant, id)) = self.pick() else { return };
        let polls = self.polls();
        interrupted(polls, asked(&self.stack, &tenant, &id, ask)).await;
    }

    async fn report(&mut self) {
        if self.chance(20) {
            self.stack.line().lose_answers(1);
        }
        let polls = self.polls();
        drop(interrupted(polls, self.agent().report()).await);
        self.stack.line().lose_answers(0);
    }

    async fn heartbeat(&mut self) {
        let polls = self.polls();
        drop(interrupted(polls, self.agent().heartbeat()).await);
    }

    /// Any stretch of the journal that leaves no gap after what is stored: known facts, new ones, or both.
    async fn resend(&mut self) {
        let agent = self.agent();
        let (said, pending) = (agent.said(), agent.unacknowledged(usize::MAX).len());
        let from = self.random.random_range(0..=said.len() - pending);
        let to = self.random.random_range(from..=said.len());
        drop(agent.deliver(said[from..to].iter().take(256).cloned().collect()).await);
    }

    async fn ask_while_reporting(&mut self) {
        let Some((tenant, id)) = self.pick() else { return };
        let agent = self.agent();
        let ask = [Ask::Stop, Ask::Start, Ask::Delete][self.random.random_range(0..3)];
        drop(tokio::join!(agent.report(), asked(&self.stack, &tenant, &id, ask), agent.heartbeat()));
    }

    fn container_ends_or_starts(&mut self) {
        let agent = self.agent();
        let ids: Vec<InstanceId> = self.made.iter().map(|(_, id)| *id).collect();
        for id in ids {
            if agent.waits_for_restart(id) && self.chance(60) {
                agent.start_again(id);
            } else if agent.runs(id) && self.chance(40) {
                let restart_at = self.chance(60).then(|| agent.now().plus(Duration::from_secs(5)));
                let exit_code = i32::from(restart_at.is_some() || self.chance(50));
                agent.exit(id, exit_code, restart_at);
            }
        }
    }

    async fn time_passes(&mut self) {
        let most = if self.chance(20) { 60_000_000 } else { 4_000_000 };
        let time = Duration::from_micros(self.random.random_range(1..most));
        self.pass(time).await;
        if self.chance(3) {
            // A time server corrects the machine, or it was asleep.
            self.stack.advance(Duration::from_hours(1));
        } else if self.clock_goes_back && self.chance(6) {
            self.stack.clock().turn_back(Duration::from_mins(90));
        }
        self.latest = self.latest.max(self.stack.clock().now());
    }

    async fn pass(&mut self, time: Duration) {
        self.stack.let_pass(time).await;
        self.latest = self.latest.max(self.stack.clock().now());
    }

    async fn crash(&mut self) {
        self.stack.crash();
        if self.chance(50) {
            let away = Duration::from_micros(self.random.random_range(1..40_000_000));
            self.pass(away).await;
            self.container_ends_or_starts();
            assert!(self.agent().heartbeat().await.is_err(), "the line is cut");
        }
        self.stack.restart().await;
        if self.chance(50) {
            drop(self.agent().hello().await);
        }
    }

    /// What holds at any moment.
    async fn check(&self) {
        self.stack.quiet().await;
        let store = self.stack.store();
        wherry_store_contract::invariants::check(&store).await.unwrap();
        let mut answering = BTreeMap::new();
        for agent in self.stack.agents() {
            let instances = store.instances_on(agent.node()).await.unwrap().unwrap().instances;
            for instance in instances.iter().filter(|instance| instance.state == InstanceState::Running) {
                if let Some(address) = instance.address {
                    answering.insert(self.stack.control().config().fqdn(instance), address);
                }
            }
        }
        assert_eq!(self.stack.zone().records(), answering);
        for seconds in self.billed().await.into_values() {
            assert!(seconds.into_iter().all(|second| second <= self.latest.grid_second()), "billed in the future");
        }
    }

    /// Everybody is heard and everything is done and told.
    async fn settle(&mut self) {
        self.stack.quiet().await;
        for (tenant, request) in std::mem::take(&mut self.asked) {
            self.repeat(tenant, request).await;
        }
        // With nothing under way, what has no room is not there and will not be.
        self.asked.clear();
        for _ in 0..2 {
            for agent in self.stack.agents() {
                agent.hello().await.unwrap();
                agent.obey().await;
            }
        }
        self.check().await;
        if !self.clock_goes_back {
            assert_eq!(self.billed().await, self.ran());
        }
    }

    /// The grid seconds that the stored intervals cover, by instance. Panics when one is covered twice.
    async fn billed(&self) -> BTreeMap<InstanceId, BTreeSet<i64>> {
        let now = self.stack.clock().now();
        let mut seconds: BTreeMap<InstanceId, BTreeSet<i64>> = BTreeMap::new();
        for tenant in [self.stack.acme(), self.stack.blue()] {
            let query = UsageQuery {
                tenant: tenant.record.id,
                project: None,
                instance: None,
                from_second: 0,
                to_second: i64::MAX,
                limit: 10_000,
                after: None,
            };
            let intervals = self.stack.store().intervals(&query).await.unwrap();
            for interval in intervals.iter().filter(|interval| interval.kind == MeterKind::Run) {
                let covered = interval.covered(now);
                for second in covered.from_second..covered.to_second {
                    let new = seconds.entry(interval.instance).or_default().insert(second);
                    assert!(new, "second {second} of {} is billed twice", interval.instance);
                }
            }
        }
        seconds
    }

    /// The grid seconds that containers really ran.
    fn ran(&self) -> BTreeMap<InstanceId, BTreeSet<i64>> {
        let now = self.stack.clock().now();
        let mut seconds: BTreeMap<InstanceId, BTreeSet<i64>> = BTreeMap::new();
        for ran in self.stack.agents().iter().flat_map(ScriptedAgent::history) {
            let run = ran.from.grid_second()..ran.to.unwrap_or(now).grid_second();
            if !run.is_empty() {
                seconds.entry(ran.instance).or_default().extend(run);
            }
        }
        seconds
    }

    /// Nothing that was acknowledged is lost, and in the end nothing is left.
    async fn finish(mut self) {
        self.settle().await;
        for (tenant, id) in self.made.clone() {
            let tenant = self.tenant(tenant).clone();
            let found = self.stack.read(&tenant, &id.to_string()).await;
            assert_eq!(found.instance.tenant, tenant.record.id);
            asked(&self.stack, &tenant, &id.to_string(), Ask::Delete).await;
        }
        self.pass(Duration::from_secs(7)).await;
        self.settle().await;
        for agent in self.stack.agents() {
            let left = agent.desired().await.unwrap().instances;
            assert!(left.is_empty(), "still there after their deletion: {left:#?}");
            assert!(agent.running().is_empty());
            let node = self.stack.store().node(agent.node()).await.unwrap().unwrap();
            assert_eq!(node.used.instances, 0);
        }
        assert!(self.stack.zone().records().is_empty());
        let distinct: BTreeSet<_> = self.made.iter().collect();
        assert_eq!(distinct.len(), self.made.len(), "one instance was acknowledged as two");
    }
}

async fn asked(stack: &Stack, tenant: &Tenant, id: &str, ask: Ask) {
    let (control, principal, project) = (stack.control(), &tenant.principal, &tenant.project);
    let answer = match ask {
        Ask::Stop => control.stop_instance(principal, project, id).await,
        Ask::Start => control.start_instance(principal, project, id).await,
        Ask::Delete => control.delete_instance(principal, project, id).await,
    };
    if let Err(error) = answer {
        let expected = ["not_found", "instance_busy", "capacity_unavailable"];
        assert!(expected.contains(&error.code()), "{ask:?}: {error:?}");
    }
}

async fn live(seed: u64, clock_goes_back: bool) {
    let mut run = Run::new(seed, clock_goes_back).await;
    for step in 0..STEPS {
        run.step().await;
        if step % 4 == 0 {
            run.check().await;
        }
        if step % 25 == 24 {
            run.settle().await;
        }
    }
    run.finish().await;
}

#[tokio::test]
async fn any_history_is_billed_second_by_second() {
    for seed in seeds(10) {
        Box::pin(live(seed, false)).await;
    }
}

#[tokio::test]
async fn no_clock_makes_a_second_count_twice() {
    for seed in seeds(4) {
        Box::pin(live(seed, true)).await;
    }
}
