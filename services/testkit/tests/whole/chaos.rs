//! Crashes of control plane and agent, a misbehaving engine, callers that go away, at random moments:
//! no acknowledged create is lost (I1), an instance never has two containers (I2), nothing is left after a delete (I4),
//! and a name answers with its present address only (I7).

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wherry_control::CreateInstance;
use wherry_model::{InstanceId, InstanceName, InstanceState, Intent};
use wherry_runtime::RuntimeError;
use wherry_runtime::fake::Fault;
use wherry_testkit::{Node, Stack, eventually, interrupted, seeds, sized};

/// Steps of one seed.
const STEPS: u32 = 60;

/// What an engine may get wrong.
const CALLS: [&str; 7] = [
    "PullImage",
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "StopContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

struct Chaos {
    stack: Stack,
    random: StdRng,
    made: BTreeSet<InstanceId>,
    asked: Vec<CreateInstance>,
    names: u32,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let node = Node::sized(1_000, 1_024);
        let stack = Stack::builder()
            .seed(seed)
            .nodes([])
            .real_nodes([node, node])
            .configure(|config| config.settle_wait = Duration::from_millis(20))
            .start()
            .await;
        Self { stack, random: StdRng::seed_from_u64(seed), made: BTreeSet::new(), asked: Vec::new(), names: 0 }
    }

    fn below(&mut self, end: u32) -> u32 {
        self.random.random_range(0..end)
    }

    async fn step(&mut self) {
        match self.below(100) {
            0..14 => self.create().await,
            14..40 => self.ask().await,
            40..50 => self.container_ends().await,
            50..56 => self.stack.reopen().await,
            56..66 => {
                let index = self.random.random_range(0..2);
                self.stack.restart_agent(index).await;
            }
            66..75 => self.break_engine(),
            75..78 => {
                let (index, down) = (self.random.random_range(0..2), self.below(2) == 0);
                self.stack.real_nodes()[index].engine().set_engine_down(down);
            }
            78..86 => {
                let time = Duration::from_millis(u64::from(self.below(4_000)));
                self.stack.let_pass(time).await;
            }
            86..90 => drop(self.stack.background().await),
            _ => tokio::time::sleep(Duration::from_millis(15)).await,
        }
        self.check_that_nothing_runs_twice().await;
    }

    async fn create(&mut self) {
        self.names += 1;
        let name = format!("web-{}", self.names);
        let request = CreateInstance {
            project: "default".parse().unwrap(),
            name: Some(InstanceName::new(&*name).unwrap()),
            spec: sized(self.random.random_range(100..500), 64),
            idempotency_key: Some(name),
        };
        self.asked.push(request.clone());
        let polls = if self.below(3) == 0 { self.below(300) + 1 } else { u32::MAX };
        let principal = self.stack.acme().principal.clone();
        if let Some(Ok(created)) = interrupted(polls, self.stack.control().create_instance(&principal, request)).await {
            self.made.insert(created.view.instance.id);
        }
    }

    async fn ask(&mut self) {
        let Some(id) = self.made.iter().nth(self.random.random_range(0..self.made.len().max(1))).copied() else {
            return;
        };
        let (what, polls) = (self.below(4), if self.below(4) == 0 { self.below(300) + 1 } else { u32::MAX });
        interrupted(polls, self.asked_for(id, what)).await;
    }

    async fn asked_for(&self, id: InstanceId, what: u32) {
        let (control, acme, id) = (self.stack.control(), self.stack.acme(), id.to_string());
        let answer = match what {
            0 => control.delete_instance(&acme.principal, &acme.project, &id).await,
            1 => control.stop_instance(&acme.principal, &acme.project, &id).await,
            _ => control.start_instance(&acme.principal, &acme.project, &id).await,
        };
        if let Err(error) = answer {
            let expected = ["not_found", "instance_busy", "capacity_unavailable"];
            assert!(expected.contains(&error.code()), "{error:?}");
        }
    }

    async fn container_ends(&mut self) {
        let index = self.random.random_range(0..2);
        let exit_code = i32::from(self.below(3) > 0);
        let running = self.stack.real_nodes()[index].running().await;
        if let Some(id) = running.first() {
            self.stack.real_nodes()[index].exit(*id, exit_code).await;
        }
    }

    fn break_engine(&mut self) {
        let call = CALLS[self.random.random_range(0..CALLS.len())];
        let fault = match self.below(3) {
            0 => Fault::HangBefore,
            1 => Fault::HangAfter,
            _ => Fault::Fail(RuntimeError::Unavailable { message: "the engine is being restarted".to_owned() }),
        };
        let index = self.random.random_range(0..2);
        self.stack.real_nodes()[index].engine().inject(call, fault, 1);
    }

    async fn check_that_nothing_runs_twice(&mut self) {
        let mut seen = BTreeSet::new();
        for node in self.stack.real_nodes() {
            for instance in node.running().await {
                assert!(seen.insert(instance), "{instance} runs twice");
            }
        }
    }

    /// Heals everything, and waits until every instance is as its owner wants it.
    async fn settle(&mut self) {
        for node in self.stack.real_nodes() {
            node.engine().heal();
            node.engine().set_engine_down(false);
        }
        self.stack.reopen().await;
        for index in 0..2 {
            self.stack.restart_agent(index).await;
            self.stack.real_nodes()[index].heard().await;
        }
        let acme = self.stack.acme().clone();
        for request in std::mem::take(&mut self.asked) {
            match self.stack.control().create_instance(&acme.principal, request).await {
                Ok(created) => drop(self.made.insert(created.view.instance.id)),
                Err(error) => assert_eq!(error.code(), "capacity_unavailable", "{error}"),
            }
        }
        let (stack, made) = (&self.stack, &self.made);
        eventually("every instance is as its owner wants it", || async {
            for id in made {
                let instance = stack.read(&acme, &id.to_string()).await.instance;
                let ended = instance.state.is_settled() && !instance.holds_resources;
                let settled = match instance.intent {
                    Intent::Run => ended || (instance.state == InstanceState::Running),
                    Intent::Stop => ended,
                    Intent::Delete => instance.state == InstanceState::Deleted,
                };
                if !settled {
                    // It may wait for its next restart or pull.
                    stack.let_pass(Duration::from_secs(2)).await;
                    return None;
                }
            }
            Some(())
        })
        .await;
        self.check().await;
    }

    async fn check(&mut self) {
        let acme = self.stack.acme().clone();
        self.stack.quiet().await;
        wherry_store_contract::invariants::check(&self.stack.store()).await.unwrap();
        let mut answering = std::collections::BTreeMap::new();
        let mut wanted = BTreeSet::new();
        for id in &self.made {
            let view = self.stack.read(&acme, &id.to_string()).await;
            if view.instance.state == InstanceState::Running {
                wanted.insert(*id);
                answering.insert(view.fqdn, view.instance.address.unwrap());
            }
        }
        assert_eq!(self.stack.zone().records(), answering);
        let mut running = BTreeSet::new();
        for node in self.stack.real_nodes() {
            running.extend(node.running().await);
        }
        assert_eq!(running, wanted, "what runs is what the records say");
    }

    async fn finish(mut self) {
        self.settle().await;
        for id in self.made.clone() {
            self.asked_for(id, 0).await;
        }
        self.settle().await;
        assert!(self.stack.zone().records().is_empty());
        let store = self.stack.store();
        for node in self.stack.real_nodes() {
            eventually("the machine is as it was", || async { node.leftovers().await.is_empty().then_some(()) }).await;
            assert_eq!(store.node(node.node()).await.unwrap().unwrap().used.instances, 0);
        }
    }
}

#[tokio::test]
async fn crashes_lose_double_and_leave_nothing() {
    for seed in seeds(6) {
        let mut chaos = Chaos::new(seed).await;
        for step in 0..STEPS {
            chaos.step().await;
            if step % 20 == 19 {
                chaos.settle().await;
            }
        }
        chaos.finish().await;
    }
}
