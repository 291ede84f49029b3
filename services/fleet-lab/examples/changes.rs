//! How long a change takes to another replica and its agents: `cargo run -p wherry-fleet-lab --example changes -- BINARY [CHANGES]`.
//!
//! Instances are created through one replica. An agent that holds its long poll at the other one is told of each, over TLS. The time
//! runs from the acknowledgement of the create to the agent's having the whole desired state; what arrives before the
//! acknowledgement counts as no time. The agent runs nothing, and is on the lab's network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc;
use wherry_agent_api::{ControlPlane, Heartbeat, NodeHello};
use wherry_agent_link::{EndpointKeeper, Identity, JoinOrder, LinkClient, LinkSettings};
use wherry_api_client::{Client, ClientError};
use wherry_api_types::{ContainerSpec, Instance, InstanceCreate, JoinTokenCreate};
use wherry_fleet_lab::{Fleet, FleetOptions, Namespace, PROJECT};
use wherry_model::{Architecture, BootId, Capacity, Clock, Entropy, JournalId, Timestamp};

const CHANGES: usize = 200;
const ADDRESS: u8 = 200;
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Between two changes, so that each is told for itself.
const PAUSE: Duration = Duration::from_millis(50);
const SEEN_WITHIN: Duration = Duration::from_secs(30);

struct RealClock;
impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "the agent lives in real time, beside real processes")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or_default())
    }
}

struct RealEntropy;
impl Entropy for RealEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        use rand::TryRng as _;
        rand::rngs::SysRng.try_fill_bytes(bytes).unwrap_or_else(|error| panic!("no random numbers: {error}"));
    }
}

/// It knows one replica and stays with it.
struct Forgets;
impl EndpointKeeper for Forgets {
    fn keep(&self, _endpoints: &[String]) {}
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let binary = PathBuf::from(words.next().context("give the binary and the number of changes")?);
    let changes = words.next().map_or(Ok(CHANGES), |word| word.parse()).context("this is no number")?;
    let mut fleet = Fleet::start(FleetOptions { replicas: 2, machines: 0, ..FleetOptions::new(binary) }).await?;
    let mut times = measure(&mut fleet, changes).await?;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1_000.0;
    println!(
        "{changes} changes to the agent of another replica: p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
    fleet.end().await
}

async fn measure(fleet: &mut Fleet, changes: usize) -> Result<Vec<Duration>> {
    let client = fleet.replicas[0].client()?;
    let token = client.create_join_token(&JoinTokenCreate::default()).await?;
    let other = fleet.replicas[1].join_url();
    let order = JoinOrder {
        endpoint: other.clone(),
        token: token.token,
        ca_fingerprint: token.ca_fingerprint.parse().context("the fingerprint is none")?,
        name: "fake".to_owned(),
    };
    let host = fleet.network.attach("agent", ADDRESS)?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let (namespace, folder) = (host.namespace.clone(), fleet.folder().join("fake"));
    let agent = std::thread::spawn(move || agent_in(&namespace, folder, order, other, told));
    heard.recv().await.context("the agent has ended")?;
    // The replica that is asked sees within a second that there is room.
    let begun = Instant::now();
    while let Err(error) = create(&client, "warm-up").await {
        ensure!(begun.elapsed() < SEEN_WITHIN, "no create works: {error}");
        tokio::time::sleep(PAUSE).await;
    }
    let mut times = Vec::new();
    for number in 0..changes {
        let made = create(&client, &format!("change-{number}")).await?;
        let acknowledged = Instant::now();
        loop {
            let (ids, at): (Vec<String>, Instant) =
                tokio::time::timeout(SEEN_WITHIN, heard.recv()).await?.context("the agent has ended")?;
            if ids.contains(&made.id) {
                times.push(at.saturating_duration_since(acknowledged));
                break;
            }
            ensure!(acknowledged.elapsed() < SEEN_WITHIN, "{} never reached the agent", made.id);
        }
        tokio::time::sleep(PAUSE).await;
    }
    // Nobody listens any more: it ends, and lets go of its network.
    drop(heard);
    tokio::task::spawn_blocking(move || agent.join()).await?.map_err(|_| anyhow::anyhow!("the agent panicked"))?;
    Ok(times)
}

async fn create(client: &Client, name: &str) -> Result<Instance, ClientError> {
    let container = ContainerSpec {
        image: "registry.test/none".to_owned(),
        cpu: Some("10m".to_owned()),
        memory: Some("4Mi".to_owned()),
        ..ContainerSpec::default()
    };
    let containers = vec![container];
    let body = InstanceCreate { name: Some(name.to_owned()), containers, ..InstanceCreate::default() };
    client.create_instance(PROJECT, &body, Some(name)).await
}

fn agent_in(
    namespace: &Namespace,
    folder: PathBuf,
    order: JoinOrder,
    endpoint: String,
    told: mpsc::UnboundedSender<(Vec<String>, Instant)>,
) {
    let live = || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(agent(folder, order, endpoint, told))
    };
    if let Err(error) = namespace.within(live).and_then(|ended| ended) {
        eprintln!("the agent has ended: {error:#}");
    }
}

/// Tells what it is to keep whenever that changes.
async fn agent(
    folder: PathBuf,
    order: JoinOrder,
    endpoint: String,
    told: mpsc::UnboundedSender<(Vec<String>, Instant)>,
) -> Result<()> {
    let (clock, entropy) = (Arc::new(RealClock), Arc::new(RealEntropy));
    let identity = Identity::join(&folder, order, clock.clone(), entropy.clone()).await?;
    let settings = LinkSettings::default();
    let link = LinkClient::new(&identity.credential(), &[endpoint], settings, Arc::new(Forgets), clock, entropy)?;
    let node = identity.node();
    let boot = BootId::generate(&RealClock, &RealEntropy);
    let hello = NodeHello {
        node,
        name: identity.name().to_owned(),
        architecture: Architecture::Amd64,
        capacity: Capacity { cpu_millis: 1_000_000, memory_mib: 1_000_000, instances: 100_000 },
        range: identity.range(),
        boot,
        journal: JournalId::generate(&RealClock, &RealEntropy),
        desired_revision: None,
        underlay: None,
        isolation: wherry_model::IsolationSet::default(),
        zone: None,
        disk_mib: None,
        gpus: wherry_model::GpuOffer::default(),
        images: Vec::new(),
        protocol: wherry_agent_api::PROTOCOL,
    };
    // Its answer names all replicas, this one first.
    link.hello(hello).await?;
    let proves = async {
        loop {
            let at = RealClock.now();
            let heartbeat = Heartbeat { node, boot, epoch: 0, at, running: Vec::new(), pulls: Vec::new() };
            drop(link.heartbeat(heartbeat).await);
            tokio::time::sleep(HEARTBEAT).await;
        }
    };
    let waits = async {
        let mut have = None;
        loop {
            if let Ok(Some(desired)) = link.desired(node, have).await {
                have = Some(desired.revision);
                let ids = desired.instances.iter().map(|instance| instance.id.to_string()).collect();
                if told.send((ids, Instant::now())).is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = waits => Ok(()),
        () = proves => Ok(()),
        () = told.closed() => Ok(()),
    }
}
