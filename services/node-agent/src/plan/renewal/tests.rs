//! A world of plans alone: what the steps ask for happens at once, chance changes what is asked, ends containers and agents.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use wherry_agent_api::{DesiredContainer, DesiredInstance, DesiredMore};
use wherry_model::{
    Action, ContainerExit, ContainerSpec, CpuMillis, EndReason, Fact, Generation, InstanceName, MemoryMib,
    RestartPolicy, Timestamp,
};
use wherry_runtime::{ContainerId, ContainerState, SandboxId};

use super::*;
use crate::plan::{SeenSandbox, Step, Target, next_step};
use crate::verdict::Verdict;

/// The first two are the beginning.
const NAMES: [&str; 5] = ["prepare", "migrate", "web", "side", "third"];
const BEGINNING: usize = 2;
const GENERATION: Generation = Generation(1);
/// More steps than any change takes.
const PATIENCE: u32 = 200;

#[derive(Debug, Clone)]
enum Event {
    /// Another image for this container, which can be had or not.
    Update { whom: Index, can_be_had: bool },
    /// All of it again; what the references mean is asked again or not.
    RestartAll { pull: bool },
    /// The agent dies, and another comes.
    Death,
    /// A main container ends by itself.
    Crash { whom: Index },
}

fn now() -> Timestamp {
    Timestamp::from_seconds(100)
}

fn name(index: usize) -> ContainerName {
    ContainerName::new(NAMES[index]).unwrap()
}

struct World {
    desired: DesiredInstance,
    /// Images that cannot be had.
    missing: BTreeSet<(ContainerName, u32)>,
    memory: Memory,
    seen: Seen,
    at_work: AtWork,
    /// Whether something was down that nobody had fetched anything for.
    crashed: bool,
}

impl World {
    fn new() -> Self {
        let container = |index: usize| {
            let kind = if index < BEGINNING { ContainerKind::Init } else { ContainerKind::Main };
            let image = "r.example/web:1".parse().unwrap();
            let spec = ContainerSpec::new(name(index), image, CpuMillis::new(100), MemoryMib::new(64));
            DesiredContainer::new(ContainerSpec { kind, ..spec }, None)
        };
        let desired = DesiredInstance {
            id: "01".repeat(16).parse().unwrap(),
            generation: GENERATION,
            action: Action::Run,
            tenant: "02".repeat(16).parse().unwrap(),
            project: "03".repeat(16).parse().unwrap(),
            name: InstanceName::new("web").unwrap(),
            search_domain: "x.example".to_owned(),
            containers: (0..NAMES.len()).map(container).collect(),
            restart_policy: RestartPolicy::Always,
            stop_grace_seconds: 10,
            first_run: 1,
            fence_after_seconds: None,
            more: DesiredMore::default(),
        };
        let (memory, seen, at_work) = (Memory::new(GENERATION), Seen::default(), AtWork::default());
        Self { desired, missing: BTreeSet::new(), memory, seen, at_work, crashed: false }
    }

    fn revision(&self, name: &ContainerName) -> u32 {
        self.desired.container(name).unwrap().revision
    }

    fn say(&mut self, name: &ContainerName, revision: u32, fact: &Fact) {
        self.memory.fold(GENERATION, revision, fact);
        if let (Fact::Pulled { digest, .. }, true) = (fact, revision == self.revision(name)) {
            let container = self.desired.containers.iter_mut().find(|one| one.spec.name == *name).unwrap();
            container.digest = Some(digest.clone());
        }
    }

    fn runs(&self, name: &ContainerName) -> Option<&SeenContainer> {
        self.seen.run_of(GENERATION, name)
    }

    /// What the agent does about the image; whether it is here.
    fn provide(&mut self, name: &ContainerName) -> bool {
        let revision = self.revision(name);
        let is_known = self.desired.container(name).unwrap().digest.is_some();
        if self.memory.container(name).digest_of(revision).is_some() {
            return true;
        }
        if is_known || !self.missing.contains(&(name.clone(), revision)) {
            let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
            self.say(name, revision, &Fact::Pulled { container: name.clone(), digest, cached: false });
            return true;
        }
        if is_spared(&self.desired, &self.memory, &self.seen, &self.at_work, name) {
            let (container, message) = (name.clone(), "missing".to_owned());
            self.say(name, revision, &Fact::PullRetrying { container, message, retry_at: now() });
            self.at_work.given_up.insert(name.clone());
        } else {
            self.at_work.doom = Some(Verdict::new(EndReason::ImagePullFailed, "missing".to_owned()));
        }
        false
    }

    fn start(&mut self, name: &ContainerName) {
        let (run, revision) = (self.memory.container(name).run + 1, self.revision(name));
        assert!(self.runs(name).is_none(), "{name} runs twice");
        let is_main = self.desired.container(name).unwrap().spec.kind == ContainerKind::Main;
        let running = self.seen.containers.iter().filter(|one| one.state == ContainerState::Running);
        let running: Vec<_> = running.map(|one| (&one.name, one.revision)).collect();
        let are_asked = running.iter().all(|(other, revision)| *revision == self.revision(other));
        assert!(is_main || are_asked, "{name} prepares what is to end yet: {running:?}");
        if self.seen.sandboxes.is_empty() {
            self.seen.sandboxes.push(SeenSandbox { id: SandboxId::new("s"), generation: GENERATION, ready: true });
            self.memory.fold(GENERATION, 0, &Fact::SandboxReady { address: [10, 77, 0, 2].into() });
        }
        let id = ContainerId::new(format!("{name}.{run}"));
        let (sandbox, state) = (SandboxId::new("s"), ContainerState::Running);
        let (generation, name) = (GENERATION, name.clone());
        self.seen.containers.push(SeenContainer { id, sandbox, generation, name, run, revision, state });
    }

    fn end(&mut self, id: &ContainerId) {
        let found = self.seen.containers.iter_mut().find(|one| one.id == *id).unwrap();
        found.state = ContainerState::Exited;
    }

    /// Does the next thing; false when there is none.
    fn step(&mut self) -> bool {
        match next_step(Target::Listed(&self.desired), &self.memory, &self.seen, &self.at_work, now()) {
            Step::Rest { .. } => return false,
            Step::Bring { start, fetch } => {
                for name in fetch {
                    self.provide(&name);
                }
                for name in start {
                    if self.provide(&name) {
                        self.start(&name);
                    }
                }
            }
            Step::TellStart(seen) => {
                let (container, run, started_at) = (seen.name.clone(), seen.run, now());
                self.say(&seen.name, seen.revision, &Fact::ContainerStarted { container, run, started_at });
            }
            Step::End { id, verdict } => {
                assert_eq!(verdict.reason, EndReason::Restarted);
                let ended = self.seen.containers.iter().find(|one| one.id == id).unwrap().clone();
                for one in self.desired.containers.iter().filter(|one| one.spec.name == ended.name) {
                    assert!(knows_image(one, &self.memory.container(&one.spec.name)), "{id} ended for a pull");
                }
                self.end(&id);
            }
            Step::TellEnd(seen) => {
                let is_init = self.desired.container(&seen.name).unwrap().spec.kind == ContainerKind::Init;
                let is_outdated = seen.revision < self.revision(&seen.name);
                let (exit_code, reason) = if is_init { (0, EndReason::Exited) } else { (1, EndReason::Exited) };
                let exit = ContainerExit { finished_at: now(), exit_code, signal: None, reason, message: None };
                let restart_at = (is_outdated || !is_init).then_some(now());
                let (container, run, started_at) = (seen.name.clone(), seen.run, now());
                let fact = Fact::ContainerExited { container, run, started_at, exit, restart_at };
                self.say(&seen.name, seen.revision, &fact);
            }
            Step::RemoveContainer(id) => self.seen.containers.retain(|one| one.id != id),
            Step::EndAll { ids, .. } => {
                for id in &ids {
                    self.end(id);
                }
            }
            Step::Fail(Verdict { reason, message }) => {
                self.memory.fold(GENERATION, 0, &Fact::Failed { reason, message: message.unwrap() });
                self.at_work = AtWork::default();
            }
            Step::RemoveSandbox(_) => self.seen = Seen::default(),
            Step::TellSandboxStopped => self.memory.fold(GENERATION, 0, &Fact::SandboxStopped),
            other => panic!("{other:?}"),
        }
        true
    }

    /// The beginning that runs comes to its end; whether one did.
    fn finish_beginning(&mut self) -> bool {
        let runs = |index: &usize| self.runs(&name(*index)).map(|run| run.id.clone());
        let running: Vec<ContainerId> = (0..BEGINNING).filter_map(|index| runs(&index)).collect();
        for id in &running {
            self.end(id);
        }
        !running.is_empty()
    }

    fn settle(&mut self) {
        for _ in 0..PATIENCE {
            if !self.step() && !self.finish_beginning() {
                return;
            }
        }
        panic!("it never rests: {:#?} {:#?} {:#?}", self.memory, self.seen, self.at_work);
    }

    /// What anybody asks is followed at once.
    fn asked(&mut self, whom: &[usize], forgets: bool) {
        for index in whom {
            let container = &mut self.desired.containers[*index];
            container.revision += 1;
            if forgets {
                container.digest = None;
            }
            self.at_work.given_up.remove(&name(*index));
        }
        self.at_work.doom = None;
    }

    fn happen(&mut self, event: &Event) {
        // What does not run when it is asked for is as if it had ended by itself.
        let is_asked = matches!(event, Event::Update { .. } | Event::RestartAll { .. });
        self.crashed |= is_asked && (BEGINNING..NAMES.len()).any(|index| self.runs(&name(index)).is_none());
        match event {
            Event::Update { whom, can_be_had } => {
                let index = whom.index(NAMES.len());
                self.asked(&[index], true);
                if !can_be_had {
                    let name = name(index);
                    self.missing.insert((name.clone(), self.revision(&name)));
                }
            }
            Event::RestartAll { pull } => {
                // What cannot be had now cannot be had under the next number either.
                let lacking: Vec<ContainerName> = (0..NAMES.len())
                    .map(name)
                    .filter(|name| self.missing.contains(&(name.clone(), self.revision(name))))
                    .collect();
                self.asked(&[0, 1, 2, 3, 4], *pull);
                for name in lacking {
                    self.missing.insert((name.clone(), self.revision(&name)));
                }
            }
            Event::Death => self.at_work = AtWork::default(),
            Event::Crash { whom } => {
                let name = name(BEGINNING + whom.index(NAMES.len() - BEGINNING));
                if let Some(id) = self.runs(&name).map(|run| run.id.clone()) {
                    self.crashed = true;
                    self.end(&id);
                }
            }
        }
    }

    fn check(&self) {
        let lacks = |name: &ContainerName| self.missing.contains(&(name.clone(), self.revision(name)));
        let is_lacking = (0..NAMES.len()).any(|index| lacks(&name(index)));
        if self.memory.failed {
            assert!(self.crashed && is_lacking, "it failed although all ran on");
            return;
        }
        for index in 0..NAMES.len() {
            let (name, is_main) = (name(index), index >= BEGINNING);
            let latest = self.memory.container(&name).revision;
            assert_eq!(self.runs(&name).is_some(), is_main, "{name}");
            assert!(!lacks(&name) || latest < self.revision(&name), "{name} runs what cannot be had");
            // Those of which the image is here wait only for a beginning that cannot be had, or that waits for others.
            assert!(is_lacking || latest == self.revision(&name), "{name} does not run what is asked for");
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<Index>(), any::<bool>()).prop_map(|(whom, can_be_had)| Event::Update { whom, can_be_had }),
        1 => any::<bool>().prop_map(|pull| Event::RestartAll { pull }),
        2 => Just(Event::Death),
        1 => any::<Index>().prop_map(|whom| Event::Crash { whom }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is asked for at whatever moment, and however often the agent dies: all that ran runs, with what is asked for where
    /// that can be had, and nothing is ended before the image of its successor is here. Only what ends by itself can fail it.
    #[test]
    fn nothing_is_down_for_an_image_that_is_not_here(events in prop::collection::vec((0..7_u32, event()), 1..12)) {
        let mut world = World::new();
        world.settle();
        world.check();
        for (steps, event) in events {
            if world.memory.failed {
                break;
            }
            world.happen(&event);
            for _ in 0..steps {
                world.step();
            }
            if steps == 0 {
                world.settle();
                world.check();
            }
        }
        world.settle();
        world.check();
    }
}
