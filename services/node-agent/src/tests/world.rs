//! A machine with an engine, a firewall and a control plane, on which agents come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::lifecycle::{Birth, create};
use wherry_model::{
    Architecture, BootId, Capacity, Clock, ContainerName, ContainerSpec, CpuMillis, Entropy, Instance, InstanceId,
    InstanceName, InstanceSpec, InstanceState, MemoryMib, Port, ProjectName, Protocol, RestartPolicy, Timestamp,
};
use wherry_runtime::fake::{FakeImage, FakeRuntime};
use wherry_runtime::{Container, ContainerId, ContainerRuntime as _, ContainerState, Labels};

use super::control::FakeControl;
use crate::agent::AgentParts;
use crate::{Agent, AgentConfig, Machine, RecordingFirewall, RecordingNames, RecordingRoutes};

pub(super) const IMAGE: &str = "r.example/web:1";

/// Wall clock and tokio's clock are one.
#[derive(Clone)]
pub(super) struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000).plus(self.0.elapsed())
    }
}

impl crate::BootClock for TokioClock {
    fn since_boot(&self) -> Duration {
        Duration::from_secs(1_000) + self.0.elapsed()
    }
}

#[derive(Default)]
pub(super) struct Counter(AtomicU8);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) clock: TokioClock,
    pub(super) runtime: FakeRuntime,
    pub(super) firewall: Arc<RecordingFirewall>,
    pub(super) routes: Arc<RecordingRoutes>,
    pub(super) names: Arc<RecordingNames>,
    pub(super) control: Arc<FakeControl>,
    pub(super) entropy: Arc<Counter>,
    pub(super) boot: BootId,
    ids: AtomicU8,
}

impl World {
    pub(super) fn new() -> Self {
        let clock = TokioClock(Instant::now());
        let runtime = FakeRuntime::new(Arc::new(clock.clone()));
        runtime.publish(IMAGE, FakeImage { size_bytes: 1_000, ..FakeImage::default() });
        let of_control = clock.clone();
        Self {
            folder: tempfile::tempdir().unwrap(),
            runtime,
            firewall: Arc::new(RecordingFirewall::new()),
            routes: Arc::default(),
            names: Arc::default(),
            control: Arc::new(FakeControl::new(move || of_control.now())),
            entropy: Arc::default(),
            boot: "b0".repeat(16).parse().unwrap(),
            clock,
            ids: AtomicU8::new(1),
        }
    }

    pub(super) fn config(&self) -> AgentConfig {
        let machine = Machine {
            node: "0a".repeat(16).parse().unwrap(),
            name: "test".to_owned(),
            architecture: Architecture::Amd64,
            capacity: Capacity { cpu_millis: 1_000, memory_mib: 1_000, instances: 10 },
            range: ([10, 77, 0, 0].into(), 16),
            boot: self.boot,
            dns_server: [10, 77, 0, 1].into(),
            underlay: None,
        };
        AgentConfig { sysctls: BTreeMap::new(), ..AgentConfig::new(self.folder.path().to_owned(), machine) }
    }

    pub(super) fn parts(&self) -> AgentParts {
        AgentParts {
            runtime: Arc::new(self.runtime.clone()),
            firewall: self.firewall.clone(),
            routes: Some(self.routes.clone()),
            names: Some(self.names.clone()),
            control: self.control.clone(),
            clock: Arc::new(self.clock.clone()),
            boot_clock: Arc::new(self.clock.clone()),
            entropy: self.entropy.clone(),
        }
    }

    pub(super) async fn agent(&self) -> Agent {
        self.agent_with(self.config()).await
    }

    pub(super) async fn agent_with(&self, config: AgentConfig) -> Agent {
        Agent::start_on_disk(config, self.parts(), |disk| disk).await.unwrap()
    }

    /// A new instance that runs `sh -c program`.
    pub(super) fn create(&self, program: &str, restart_policy: RestartPolicy) -> InstanceId {
        self.create_from(IMAGE, program, restart_policy)
    }

    pub(super) fn create_from(&self, image: &str, program: &str, restart_policy: RestartPolicy) -> InstanceId {
        self.create_for("aa", image, program, restart_policy)
    }

    /// The same for the tenant whose id is this byte, sixteen times.
    pub(super) fn create_for(
        &self,
        tenant: &str,
        image: &str,
        program: &str,
        restart_policy: RestartPolicy,
    ) -> InstanceId {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let words = |text: &str| text.split('\u{1}').map(str::to_owned).collect::<Vec<_>>();
        let command =
            if program.starts_with('/') { words(program) } else { words(&format!("sh\u{1}-c\u{1}{program}")) };
        let image = image.parse().unwrap();
        let container = ContainerSpec {
            command,
            ports: vec![Port::new(80, Protocol::Tcp)],
            ..ContainerSpec::new(container(), image, CpuMillis::new(100), MemoryMib::new(64))
        };
        let spec = InstanceSpec { restart_policy, ..InstanceSpec::new(vec![container]) };
        self.create_instance(number, tenant, spec)
    }

    /// A new instance as this spec says.
    pub(super) fn create_spec(&self, spec: InstanceSpec) -> InstanceId {
        assert_eq!(spec.check(), Ok(()));
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        self.create_instance(number, "aa", spec)
    }

    fn create_instance(&self, number: u8, tenant: &str, spec: InstanceSpec) -> InstanceId {
        let birth = Birth {
            id: format!("{number:032x}").parse().unwrap(),
            tenant: tenant.repeat(16).parse().unwrap(),
            project: "bb".repeat(16).parse().unwrap(),
            project_name: ProjectName::new("default").unwrap(),
            name: InstanceName::new(format!("web-{number}")).unwrap(),
            spec,
            node: Some(self.config().machine.node),
            actor: "test".to_owned(),
        };
        let id = birth.id;
        self.control.put(create(birth, self.clock.now()).after);
        id
    }

    pub(super) fn instance(&self, id: InstanceId) -> Instance {
        self.control.get(id)
    }

    /// What the wall clock said when it began.
    pub(super) fn begun(&self) -> Timestamp {
        self.clock.now().minus(self.elapsed())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.0.elapsed()
    }

    /// Waits in virtual time until it holds; ten minutes are for ever.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(10);
        while !holds(self) {
            assert!(Instant::now() < deadline, "in vain: {what}; {:#?}", self.runtime);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn until_state(&self, id: InstanceId, state: InstanceState) {
        let deadline = Instant::now() + Duration::from_mins(10);
        while self.instance(id).state != state {
            assert!(Instant::now() < deadline, "never {state}: {:#?}", self.instance(id));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a number of runs that were said to have started.
    pub(super) async fn until_run(&self, id: InstanceId, run: u32) {
        self.until("the run", |world| {
            world.instance(id).containers[0].latest_run().is_some_and(|latest| latest.number >= run)
        })
        .await;
    }

    pub(super) async fn containers(&self) -> Vec<Container> {
        self.runtime.list_containers(&Labels::new()).await.unwrap()
    }

    pub(super) async fn running(&self) -> Vec<ContainerId> {
        let all = self.containers().await;
        all.into_iter().filter(|container| container.state == ContainerState::Running).map(|c| c.id).collect()
    }

    /// Nothing is left on the machine.
    pub(super) async fn assert_clean(&self) {
        assert_eq!(self.containers().await, []);
        assert_eq!(self.runtime.list_sandboxes(&Labels::new()).await.unwrap(), []);
        assert_eq!(self.firewall.in_force().unwrap_or_default().instances, []);
        assert_eq!(std::fs::read_dir(self.folder.path().join("logs")).unwrap().count(), 0);
    }
}

/// A container that runs `sh -c program`.
pub(super) fn program(name: &str, program: &str) -> ContainerSpec {
    let name = ContainerName::new(name).unwrap();
    let spec = ContainerSpec::new(name, IMAGE.parse().unwrap(), CpuMillis::new(100), MemoryMib::new(64));
    ContainerSpec { command: ["sh", "-c", program].map(str::to_owned).to_vec(), ..spec }
}

pub(super) fn container() -> ContainerName {
    ContainerName::new("main").unwrap()
}
