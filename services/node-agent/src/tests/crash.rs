//! The agent dies at every step: before and after every call that changes the engine or the firewall, every look at a
//! container, every report, and before, in the middle of and after every write of the journal. Its successor must bring
//! the same life to the same end, with nothing done twice and nothing left over.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{Ack, ControlError, ControlPlane, Desired, Heartbeat, NodeHello, Report, Surroundings, Welcome};
use wherry_model::lifecycle::{Ask, MeterEdge};
use wherry_model::{
    Check, Condition, ContainerKind, ContainerSpec, Dependency, EndReason, Hooks, InstanceId, InstanceSpec,
    InstanceState as S, Medium, NodeId, Probe, Probes, RestartPolicy, Seconds, Volume, VolumeMount, VolumeName,
    VolumeSource,
};
use wherry_runtime::{
    AttachRequest, Connection, Container, ContainerConfig, ContainerId, ContainerRuntime, ContainerStatus,
    Conversation, ExecOutput, ExecRequest, Image, ImageDisk, Labels, PullProgress, PullRequest, PulledImage, Readiness,
    Result, RuntimeEvent, RuntimeVersion, Sandbox, SandboxConfig, SandboxId, SandboxStatus, StreamExec, Usage,
};

use super::world::{World, program};
use crate::agent::AgentParts;
use crate::firewall::{Firewall, FirewallError, Ruleset};
use crate::journal::{JournalDisk, JournalFolder};
use crate::{Agent, AgentError};

/// Counts steps and kills the agent at one of them.
#[derive(Debug)]
struct Fate {
    state: Mutex<FateState>,
    struck: CancellationToken,
}

#[derive(Debug, Default)]
struct FateState {
    steps: u32,
    strikes_at: u32,
    kill: Option<CancellationToken>,
    last: &'static str,
}

impl Fate {
    fn new(strikes_at: u32) -> Arc<Self> {
        let state = Mutex::new(FateState { strikes_at, ..FateState::default() });
        Arc::new(Self { state, struck: CancellationToken::new() })
    }

    /// Whether the agent dies here.
    fn strikes(&self, what: &'static str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.steps += 1;
        if state.steps == state.strikes_at {
            state.last = what;
            if let Some(kill) = &state.kill {
                kill.cancel();
            }
            self.struck.cancel();
        }
        self.struck.is_cancelled()
    }

    async fn step(&self, what: &'static str) {
        if self.strikes(what) {
            std::future::pending::<()>().await;
        }
    }

    fn arm(&self, kill: CancellationToken) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.struck.is_cancelled() {
            kill.cancel();
        }
        state.kill = Some(kill);
    }
}

#[derive(Debug)]
struct Mortal<T: ?Sized> {
    fate: Arc<Fate>,
    inner: Arc<T>,
}

impl<T: ?Sized> Mortal<T> {
    async fn around<R>(&self, what: &'static str, call: impl Future<Output = R>) -> R {
        self.fate.step(what).await;
        let outcome = call.await;
        self.fate.step(what).await;
        outcome
    }
}

#[async_trait]
impl ContainerRuntime for Mortal<dyn ContainerRuntime> {
    async fn version(&self) -> Result<RuntimeVersion> {
        self.inner.version().await
    }

    async fn status(&self) -> Result<Readiness> {
        self.inner.status().await
    }

    async fn pull_image(&self, request: &PullRequest) -> Result<PulledImage> {
        self.around("pull_image", self.inner.pull_image(request)).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.inner.image(reference).await
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        self.inner.list_images().await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.around("remove_image", self.inner.remove_image(reference)).await
    }

    async fn image_disk(&self) -> Result<ImageDisk> {
        self.inner.image_disk().await
    }

    async fn pull_progress(&self, references: &[String]) -> Result<Vec<PullProgress>> {
        self.inner.pull_progress(references).await
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<SandboxId> {
        self.around("run_sandbox", self.inner.run_sandbox(config)).await
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<Option<SandboxStatus>> {
        self.inner.sandbox(id).await
    }

    async fn list_sandboxes(&self, selector: &Labels) -> Result<Vec<Sandbox>> {
        self.inner.list_sandboxes(selector).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.around("stop_sandbox", self.inner.stop_sandbox(id)).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.around("remove_sandbox", self.inner.remove_sandbox(id)).await
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        sandbox_config: &SandboxConfig,
        config: &ContainerConfig,
    ) -> Result<ContainerId> {
        self.around("create_container", self.inner.create_container(sandbox, sandbox_config, config)).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let started = self.around("start_container", self.inner.start_container(id)).await;
        let all = self.inner.list_containers(&Labels::new()).await?;
        let running = all.iter().filter(|container| container.state == wherry_runtime::ContainerState::Running);
        let names: Vec<&str> = running.map(|container| container.name.as_str()).collect();
        assert!(BTreeSet::from_iter(&names).len() == names.len(), "a container runs twice: {names:?}");
        assert!(names.len() == 1 || !names.contains(&"prepare"), "what comes first runs beside others: {names:?}");
        started
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        self.around("stop_container", self.inner.stop_container(id, grace)).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.around("remove_container", self.inner.remove_container(id)).await
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        self.around("container", self.inner.container(id)).await
    }

    async fn list_containers(&self, selector: &Labels) -> Result<Vec<Container>> {
        self.inner.list_containers(selector).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.inner.reopen_log(id).await
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecOutput> {
        self.around("exec", self.inner.exec(id, request)).await
    }

    async fn exec_stream(&self, id: &ContainerId, request: &StreamExec) -> Result<Conversation> {
        self.inner.exec_stream(id, request).await
    }

    async fn attach(&self, id: &ContainerId, request: &AttachRequest) -> Result<Conversation> {
        self.inner.attach(id, request).await
    }

    async fn connect(&self, sandbox: &SandboxId, port: u16) -> Result<Connection> {
        self.inner.connect(sandbox, port).await
    }

    async fn reach(&self, address: Ipv4Addr, port: u16) -> Result<Connection> {
        self.inner.reach(address, port).await
    }

    async fn signal_container(&self, id: &ContainerId, signal: u8) -> Result<()> {
        self.around("signal_container", self.inner.signal_container(id, signal)).await
    }

    async fn written(&self, sandbox: &SandboxId) -> Result<BTreeMap<ContainerId, u64>> {
        self.inner.written(sandbox).await
    }

    async fn fetch_repository(
        &self,
        sandbox: &SandboxId,
        request: &wherry_runtime::RepositoryRequest,
    ) -> Result<wherry_runtime::Fetched> {
        self.around("fetch_repository", self.inner.fetch_repository(sandbox, request)).await
    }

    async fn alive_in_cgroup(&self, cgroup_name: &str) -> Result<BTreeSet<ContainerId>> {
        self.inner.alive_in_cgroup(cgroup_name).await
    }

    async fn end_by_force(&self, cgroup_name: &str) -> Result<()> {
        self.around("end_by_force", self.inner.end_by_force(cgroup_name)).await
    }

    async fn usage(&self, sandbox: &SandboxId, cgroup_name: &str) -> Result<Usage> {
        self.inner.usage(sandbox, cgroup_name).await
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events()
    }
}

#[async_trait]
impl ControlPlane for Mortal<dyn ControlPlane> {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        self.inner.hello(hello).await
    }

    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let desired = self.inner.desired(node, have).await;
        self.fate.step("desired").await;
        desired
    }

    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        self.around("report", self.inner.report(report)).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        self.inner.heartbeat(heartbeat).await
    }

    async fn surroundings(&self, node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        self.inner.surroundings(node, have).await
    }
}

#[async_trait]
impl Firewall for Mortal<dyn Firewall> {
    async fn apply(&self, rules: &Ruleset) -> Result<(), FirewallError> {
        self.around("firewall", self.inner.apply(rules)).await
    }

    async fn stands(&self) -> Result<bool, FirewallError> {
        self.inner.stands().await
    }

    async fn remove(&self) -> Result<(), FirewallError> {
        self.inner.remove().await
    }
}

struct MortalDisk {
    fate: Arc<Fate>,
    real: JournalFolder,
}

impl JournalDisk for MortalDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let dead = || Err(io::Error::other("the agent is dead"));
        if self.fate.strikes("before a journal write") {
            return dead();
        }
        if self.fate.strikes("within a journal write") {
            self.real.write_at(offset, &bytes[..bytes.len() * 2 / 3])?;
            return dead();
        }
        self.real.write_at(offset, bytes)?;
        if self.fate.strikes("after a journal write") { dead() } else { Ok(()) }
    }

    fn replace_snapshot(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.real.replace_snapshot(bytes)
    }
}

async fn agent(world: &World, fate: &Arc<Fate>) -> Agent {
    loop {
        // A write that was under way at the death may hold the file for a moment longer, unlike after a real death.
        match try_agent(world, fate).await {
            Err(AgentError::DataFolder { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(1));
            }
            agent => return agent.unwrap(),
        }
    }
}

async fn try_agent(world: &World, fate: &Arc<Fate>) -> std::result::Result<Agent, AgentError> {
    let AgentParts { runtime, firewall, routes, names, control, clock, boot_clock, entropy } = world.parts();
    let parts = AgentParts {
        runtime: Arc::new(Mortal { fate: fate.clone(), inner: runtime }),
        firewall: Arc::new(Mortal { fate: fate.clone(), inner: firewall }),
        routes,
        names,
        control: Arc::new(Mortal { fate: fate.clone(), inner: control }),
        clock,
        boot_clock,
        entropy,
    };
    let seam = fate.clone();
    let disk = |real| MortalDisk { fate: seam, real };
    let agent = Agent::start_on_disk(world.config(), parts, disk).await?;
    fate.arm(agent.kill_switch());
    Ok(agent)
}

/// Brings every agent that dies a successor; gives out how many steps there were and where the first one died.
async fn keep_alive(world: Arc<World>, fate: Arc<Fate>, end: CancellationToken) -> Agent {
    let first = agent(&world, &fate).await;
    tokio::select! {
        () = fate.struck.cancelled() => {}
        () = end.cancelled() => return first,
    }
    first.buried().await;
    let successor = agent(&world, &Fate::new(u32::MAX)).await;
    end.cancelled().await;
    successor
}

/// One life: runs, fails, is restarted, is stopped, started again and deleted. Returns the numbers of its runs.
async fn live(world: &World) {
    let id = world.create("echo hello; sleep 3; exit 7", RestartPolicy::OnFailure);
    world.until_run(id, 2).await;
    until_let_in(world, id).await;
    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    world.until("resources are back", |w| !w.instance(id).holds_resources).await;
    world.control.ask(id, Ask::Start(world.config().machine.node));
    world.until_state(id, S::Running).await;
    until_let_in(world, id).await;
    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;
    let runs: Vec<u32> = world.instance(id).containers[0].runs.iter().map(|run| run.number).collect();
    assert!(runs.windows(2).all(|pair| pair[0] < pair[1]), "{runs:?}");
    // A crash can cost at most the time that a run needs to fail once more.
    assert!((3..=4).contains(&runs.len()), "{runs:?}");
    assert!(world.instance(id).containers[0].runs.iter().all(|run| run.end.is_some()));
    let mut open = None;
    for edge in world.control.edges(id) {
        match edge {
            MeterEdge::Open { kind, .. } => assert_eq!(open.replace(kind), None),
            MeterEdge::Close { kind, .. } => assert_eq!(open.take(), Some(kind)),
        }
    }
    assert_eq!(open, None);
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while std::fs::read_dir(world.config().logs_folder()).unwrap().count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "logs are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.assert_clean().await;
}

/// One life of several containers that share a volume: something before them, hooks, a probe, one that waits for another.
async fn live_together(world: &World) {
    let data: VolumeName = "data".parse().unwrap();
    let volume = Volume { name: data.clone(), source: VolumeSource::EmptyDir { medium: Medium::Disk, size: None } };
    let exec = |text: &str| Check::Exec { command: ["sh", "-c", text].map(str::to_owned).to_vec() };
    let mount = VolumeMount { volume: data, path: "/data".to_owned(), sub_path: None, read_only: false };
    let one = |name: &str, text: &str| ContainerSpec { mounts: vec![mount.clone()], ..program(name, text) };
    let prepare = ContainerSpec { kind: ContainerKind::Init, ..one("prepare", "sleep 1") };
    let readiness = Probe {
        check: exec("exit 0"),
        initial_delay: Seconds(1),
        period: Seconds(1),
        timeout: Seconds(1),
        success_threshold: 1,
        failure_threshold: 1,
    };
    let web = ContainerSpec {
        probes: Probes { readiness: Some(readiness), ..Probes::default() },
        hooks: Hooks { post_start: Some(exec("sleep 1")), pre_stop: Some(exec("sleep 1")) },
        ..one("web", "serve")
    };
    let waits = Dependency { container: web.name.clone(), condition: Condition::Healthy };
    let side = ContainerSpec { depends_on: vec![waits], ..one("side", "serve") };
    let spec = InstanceSpec { volumes: vec![volume], ..InstanceSpec::new(vec![prepare, web, side]) };
    let id = world.create_spec(spec);
    let volumes = world.config().volumes_of(id);
    world.until("all are ready", |w| w.instance(id).is_ready()).await;
    until_let_in(world, id).await;
    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    world.until("resources are back", |w| !w.instance(id).holds_resources).await;
    assert!(volumes.exists(), "what is on disk is kept through a stop");
    world.control.ask(id, Ask::Start(world.config().machine.node));
    world.until("all are ready again", |w| w.instance(id).is_ready()).await;
    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;

    let instance = world.instance(id);
    let runs = |index: usize| &instance.containers[index].runs;
    for index in 0..3 {
        let ended = runs(index).iter().all(|run| run.end.is_some());
        // A crash costs no run here: what was begun is found again, and what is done after a start may be done twice.
        assert!(runs(index).len() == 2 && ended, "{:#?}", instance.containers);
    }
    for life in 0..2 {
        let end = |index: usize| runs(index)[life].end.as_ref().unwrap();
        assert_eq!(end(0).exit_code, 0);
        assert!(runs(1)[life].started_at >= end(0).finished_at, "it began before what comes first had ended");
        assert!(runs(2)[life].started_at >= runs(1)[life].started_at.plus(Duration::from_secs(1)), "it did not wait");
        // An agent that comes after the signal finds it ended, and cannot know by whom.
        let is_told = |reason| matches!(reason, EndReason::StoppedByUser | EndReason::Exited);
        for end in [end(1), end(2)] {
            assert!(end.exit_code == 143 && is_told(end.reason), "{end:?}");
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while volumes.exists() || std::fs::read_dir(world.config().logs_folder()).unwrap().count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "logs or volumes are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.assert_clean().await;
}

/// Its address is known, and the firewall lets exactly it in.
async fn until_let_in(world: &World, id: InstanceId) {
    world
        .until("it is let in", |world| {
            let rules = world.firewall.in_force().unwrap_or_default().instances;
            let let_in = rules.first().map(|(_, admitted)| admitted.address);
            let_in.is_some() && let_in == world.instance(id).address
        })
        .await;
    assert!(world.instance(id).containers[0].image_digest.is_some());
}

/// Lives with a death at the given step. None when the life has fewer steps.
fn live_and_die(step: u32, life: impl AsyncFn(&World)) -> Option<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (world, fate, end) = (Arc::new(World::new()), Fate::new(step), CancellationToken::new());
        let keeper = tokio::spawn(keep_alive(world.clone(), fate.clone(), end.clone()));
        life(&world).await;
        end.cancel();
        keeper.await.unwrap().buried().await;
        let state = fate.state.lock().unwrap_or_else(PoisonError::into_inner);
        fate.struck.is_cancelled().then_some(state.last)
    })
}

/// Lives again and again, and dies at every step, or at every `stride`th. Gives out how many deaths there were where.
fn die_everywhere(
    stride: u32,
    life: impl AsyncFn(&World) + Copy + Sync,
) -> std::collections::BTreeMap<&'static str, u32> {
    let next = std::sync::atomic::AtomicU32::new(1);
    let places = Mutex::new(std::collections::BTreeMap::<&str, u32>::new());
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                loop {
                    let step = next.fetch_add(stride, std::sync::atomic::Ordering::Relaxed);
                    assert!(step < 4_000, "a life has not so many steps");
                    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live_and_die(step, life)));
                    let Ok(died) = died else { panic!("a death at step {step} was not made good") };
                    let Some(place) = died else { return };
                    *places.lock().unwrap().entry(place).or_default() += 1;
                }
            });
        }
    });
    let places = places.into_inner().unwrap();
    println!("deaths: {places:?}");
    assert!(places.len() >= 12, "the agent died in too few places: {places:?}");
    places
}

#[test]
fn a_death_at_any_step_changes_nothing_in_the_end() {
    die_everywhere(1, live);
}

#[test]
fn a_death_at_any_step_of_several_containers_changes_nothing_in_the_end() {
    let places = die_everywhere(1, live_together);
    assert!(places.contains_key("exec"), "hooks and probes were not cut off: {places:?}");
}

#[test]
fn a_death_at_any_step_of_a_change_loses_no_run_and_waits_for_no_pull_twice() {
    let places = die_everywhere(2, super::renewals::live_renewed);
    assert!(places.contains_key("pull_image"), "no pull was cut off: {places:?}");
}
