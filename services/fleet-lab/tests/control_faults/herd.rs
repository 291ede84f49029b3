//! F40: the control plane comes back, and hundreds of agents find it at once (500 with `WHERRY_FAULT_AGENTS=500`). No containers: agents that keep their side of
//! the wire, over real sockets and real TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{ControlError, ControlPlane, DesiredInstance, Heartbeat, NodeHello, Report};
use wherry_agent_link::{Identity, JoinOrder, LinkClient, LinkSettings};
use wherry_api_client::Client;
use wherry_api_types::{JoinTokenCreate, JoinTokenCreated};
use wherry_fleet_lab::{Fleet, FleetOptions, History, Host, PROJECT};
use wherry_model::{Action, Architecture, BootId, Capacity, Clock, Entropy, Fact, JournalId, Observation, Timestamp};

use crate::support::{LOOK_EVERY, binary, is_retryable, server, told, until};

const AGENTS: u64 = 200;
/// Machines that join at the same time.
const JOINING_AT_ONCE: u64 = 16;
/// Callers of the API while the agents come back.
const READERS: usize = 4;
/// As real agents do.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The wait of an agent that was told to come again.
const AGAIN: Duration = Duration::from_millis(500);
const DETECTION: Duration = Duration::from_secs(8);
/// Longer than the detection: whoever judged by what was stored before would judge everybody at once.
const OUTAGE: Duration = Duration::from_secs(9);
/// Last byte of the agents' address on the lab's network.
const ADDRESS: u8 = 200;

struct RealClock;
impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "these agents live in real time, beside real processes")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap())
    }
}

struct RealEntropy;
impl Entropy for RealEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        use rand::TryRng as _;
        rand::rngs::SysRng.try_fill_bytes(bytes).unwrap();
    }
}

/// One agent, and what it has done.
struct Member {
    identity: Identity,
    /// Heartbeats that were taken.
    taken: AtomicU64,
    /// Messages that were not.
    refused: AtomicU64,
    /// Facts in its journal.
    reported: AtomicU64,
}

impl Member {
    fn hello(&self, boot: BootId, journal: JournalId) -> NodeHello {
        NodeHello {
            node: self.identity.node(),
            name: self.identity.name().to_owned(),
            architecture: Architecture::Amd64,
            capacity: Capacity { cpu_millis: 4_000, memory_mib: 4_096, instances: 100 },
            range: self.identity.range(),
            boot,
            journal,
            desired_revision: None,
            underlay: None,
            isolation: wherry_model::IsolationSet::default(),
            zone: None,
            disk_mib: None,
            gpus: wherry_model::GpuOffer::default(),
            images: Vec::new(),
            protocol: wherry_agent_api::PROTOCOL,
        }
    }

    /// Says of each instance that is to be removed that it is: nothing ever ran of it.
    fn removed(&self, journal: JournalId, instances: &[DesiredInstance]) -> Option<Report> {
        let goes = instances.iter().filter(|instance| instance.action == Action::Remove);
        let removed = |instance: &DesiredInstance| Observation {
            seq: self.reported.fetch_add(1, Ordering::Relaxed) + 1,
            instance: instance.id,
            generation: instance.generation,
            revision: 0,
            at: RealClock.now(),
            fact: Fact::Removed,
        };
        let observations: Vec<Observation> = goes.map(removed).collect();
        (!observations.is_empty()).then(|| Report { node: self.identity.node(), journal, observations })
    }

    fn note<T>(&self, answer: &Result<T, ControlError>) {
        if answer.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Introduces itself, proves life, and waits for news, for ever.
    async fn live(self: Arc<Self>, link: Arc<LinkClient>) {
        let (node, epoch) = (self.identity.node(), Arc::new(AtomicU64::new(0)));
        let boot = BootId::generate(&RealClock, &RealEntropy);
        let journal = JournalId::generate(&RealClock, &RealEntropy);
        let hello = self.hello(boot, journal);
        while let Err(error) = link.hello(hello.clone()).await {
            self.note::<()>(&Err(error));
            tokio::time::sleep(AGAIN).await;
        }
        let proves = async {
            let mut timer = tokio::time::interval(HEARTBEAT);
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                timer.tick().await;
                let (epoch, at) = (epoch.load(Ordering::Relaxed), RealClock.now());
                let heartbeat = Heartbeat { node, boot, epoch, at, running: Vec::new(), pulls: Vec::new() };
                let answer = link.heartbeat(heartbeat).await;
                self.note(&answer);
                if answer.is_ok() {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let waits_for_instances = async {
            let mut have = None;
            loop {
                let answer = link.desired(node, have).await;
                self.note(&answer);
                match answer {
                    Ok(Some(desired)) => {
                        epoch.store(desired.epoch, Ordering::Relaxed);
                        have = Some(desired.revision);
                        if let Some(report) = self.removed(journal, &desired.instances) {
                            while link.report(report.clone()).await.is_err() {
                                tokio::time::sleep(AGAIN).await;
                            }
                        }
                    }
                    Ok(None) => {}
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        let waits_for_surroundings = async {
            let mut have = None;
            loop {
                match link.surroundings(node, have).await {
                    Ok(Some(surroundings)) => have = Some(surroundings.tag),
                    Ok(None) => {}
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        tokio::join!(proves, waits_for_instances, waits_for_surroundings);
    }
}

/// A runtime whose sockets are on the lab's network.
struct Pasture {
    handle: Handle,
    over: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Pasture {
    fn open(host: &Host) -> Self {
        let (namespace, over) = (host.namespace.clone(), CancellationToken::new());
        let (told, heard) = std::sync::mpsc::channel();
        let ended = over.clone();
        let thread = std::thread::spawn(move || {
            let live = || {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                told.send(runtime.handle().clone()).unwrap();
                runtime.block_on(ended.cancelled());
                runtime.shutdown_background();
            };
            namespace.within(live).unwrap();
        });
        Self { handle: heard.recv().unwrap(), over, thread: Some(thread) }
    }
}

impl Drop for Pasture {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A machine joins as any does: with a token, a request and a certificate.
async fn join(token: JoinTokenCreated, folder: PathBuf, name: String) -> Arc<Member> {
    let order = JoinOrder {
        endpoint: token.join_url,
        token: token.token,
        ca_fingerprint: token.ca_fingerprint.parse().unwrap(),
        name,
    };
    let identity = Identity::join(&folder, order, Arc::new(RealClock), Arc::new(RealEntropy)).await.unwrap();
    Arc::new(Member { identity, taken: AtomicU64::new(0), refused: AtomicU64::new(0), reported: AtomicU64::new(0) })
}

/// Each with a range of its own, as an operator of so many would give them: looking for the next free one is another test.
fn order(number: u64) -> JoinTokenCreate {
    let (third, second) = (number % 256, 128 + number / 256);
    JoinTokenCreate { address_range: Some(format!("10.{second}.{third}.0/24")), ..JoinTokenCreate::default() }
}

/// The operator asks for the tokens from the lab's machine, the machines join from their network.
async fn herd(fleet: &Fleet, pasture: &Pasture, client: &Client, agents: u64) -> Vec<Arc<Member>> {
    let mut joining = JoinSet::new();
    for lane in 0..JOINING_AT_ONCE {
        let (client, folder, handle) = (client.clone(), fleet.folder().to_owned(), pasture.handle.clone());
        joining.spawn(async move {
            let mut members = Vec::new();
            for number in (lane..agents).step_by(usize::try_from(JOINING_AT_ONCE).unwrap()) {
                let name = format!("fake-{number}");
                let token = client.create_join_token(&order(number)).await.unwrap();
                members.push(handle.spawn(join(token, folder.join(&name), name)).await.unwrap());
            }
            members
        });
    }
    joining.join_all().await.into_iter().flatten().collect()
}

/// Both ends of hundreds of connections are files of this process or of its child.
fn allow_many_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_hundreds_of_agents_come_back_at_once() {
    allow_many_files();
    let agents: u64 = std::env::var("WHERRY_FAULT_AGENTS").map_or(AGENTS, |count| count.parse().unwrap());
    let control_settings = format!("[fleet]\ndetection_seconds = {}\nfence_after_seconds = 300\n", DETECTION.as_secs());
    let options = FleetOptions { replicas: 1, machines: 0, control_settings, ..FleetOptions::new(binary()) };
    let mut fleet = Fleet::start(options).await.unwrap();
    let history = History::start(&fleet).unwrap();
    let host = fleet.network.attach("agents", ADDRESS).unwrap();
    let client = fleet.client().unwrap();
    let pasture = Pasture::open(&host);
    let clients = [client.clone()];
    let begun = Instant::now();
    let members = herd(&fleet, &pasture, &client, agents).await;
    println!("F40: {agents} machines have joined after {:?}", begun.elapsed());
    for member in &members {
        let member = Arc::clone(member);
        let _in_the_runtime_of_the_agents = pasture.handle.enter();
        let identity = &member.identity;
        let (settings, keeper) = (LinkSettings::default(), Arc::new(Forgets));
        let (clock, entropy) = (Arc::new(RealClock), Arc::new(RealEntropy));
        let link = LinkClient::new(&identity.credential(), &identity.endpoints(), settings, keeper, clock, entropy);
        pasture.handle.spawn(Arc::clone(&member).live(Arc::new(link.unwrap())));
    }
    all(&members, "every agent is heard", |member| member.taken.load(Ordering::Relaxed) > 0).await;
    let plan = history.plan(server("registry.test/none", "somewhere"));
    let made = told(&clients, 0, async |client| history.create(client, &plan).await).await;

    fleet.replicas[0].kill();
    let killed = Instant::now();
    let refused: Vec<u64> = members.iter().map(|member| member.refused.load(Ordering::Relaxed)).collect();
    all(&members, "every agent has lost it", |member| {
        let index = members.iter().position(|other| std::ptr::eq(other.as_ref(), member)).unwrap();
        member.refused.load(Ordering::Relaxed) > refused[index]
    })
    .await;
    tokio::time::sleep(OUTAGE.saturating_sub(killed.elapsed())).await;
    let taken: Vec<u64> = members.iter().map(|member| member.taken.load(Ordering::Relaxed)).collect();

    // On a busy machine some may have been doubted before.
    let doubted = fleet_doubts(&fleet);
    let started = Instant::now();
    fleet.replicas[0].begin().unwrap();
    let is_back = |index: usize| members[index].taken.load(Ordering::Relaxed) > taken[index];
    let over = CancellationToken::new();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(read_again_and_again(client.clone(), made.id.clone(), over.clone()));
    }
    let (mut half, mut back) = (None, 0);
    while back < members.len() {
        // In this order: what was counted after this moment is not held against it.
        let doubts = fleet_doubts(&fleet);
        if started.elapsed() < DETECTION {
            assert_eq!(doubts, doubted, "a machine was judged {:?} after the start", started.elapsed());
        }
        back = (0..members.len()).filter(|index| is_back(*index)).count();
        if back >= members.len() / 2 {
            half.get_or_insert(started.elapsed());
        }
        assert!(started.elapsed() < Duration::from_mins(2), "{back} of {agents} are back:\n{}", fleet.logs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let all_back = started.elapsed();
    fleet.replicas[0].ready().await.unwrap();
    over.cancel();
    let mut times: Vec<Duration> = readers.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    println!(
        "F40: half of the agents were back {half:?} after the start, all after {all_back:?}; \
         meanwhile {} reads took p50 {:?}, p99 {:?}, at most {:?}",
        times.len(),
        percentile(&times, 50),
        percentile(&times, 99),
        times.last()
    );
    until("every machine is ready and nobody is doubted", async || {
        let row = fleet.psql("SELECT count(*) FILTER (WHERE state = 'ready' AND doubt = resolved_doubt) FROM nodes");
        (row.unwrap().trim() == agents.to_string()).then_some(())
    })
    .await;
    assert_eq!(fleet.psql("SELECT count(*), sum(used_instances) FROM nodes").unwrap().trim(), format!("{agents}|1"));
    let again = told(&clients, 0, async |client| client.instance(PROJECT, &made.id).await).await;
    assert_eq!((&again.id, again.generation), (&made.id, made.generation), "nothing was placed anew");
    // The history check, of which everything holds here but what asks a machine's engine and kernel: these have none.
    for member in &members {
        history.gone(member.identity.name());
    }
    history.check(&mut fleet).await.unwrap();
    told(&clients, 0, async |client| history.delete(client, &made.id).await).await;
    history.check(&mut fleet).await.unwrap();
    drop(pasture);
    drop(host);
    history.finish(fleet).await.unwrap();
}

fn fleet_doubts(fleet: &Fleet) -> String {
    fleet.psql("SELECT sum(doubt) FROM nodes").unwrap().trim().to_owned()
}

/// How long each read took. Every one is answered, if not at once.
async fn read_again_and_again(client: Client, id: String, over: CancellationToken) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.is_cancelled() {
        let asked = Instant::now();
        match client.instance(PROJECT, &id).await {
            Ok(_) => times.push(asked.elapsed()),
            Err(error) => assert!(is_retryable(&error), "{error:?}"),
        }
    }
    times
}

async fn all(members: &[Arc<Member>], what: &str, is_so: impl Fn(&Member) -> bool) {
    until(what, async || members.iter().all(|member| is_so(member)).then_some(())).await;
}

/// These agents live as long as the test.
struct Forgets;
impl wherry_agent_link::EndpointKeeper for Forgets {
    fn keep(&self, _endpoints: &[String]) {}
}
