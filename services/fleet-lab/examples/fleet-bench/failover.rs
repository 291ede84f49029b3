//! From the death of a process to the next acknowledged create, as a client sees it that knows both replicas; and without a second
//! replica, when the process is started again at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wherry_model::Capacity;

use crate::agents::{self, Agent, Work};
use crate::api::Api;
use crate::figures::Samples;
use crate::plane::{Plane, Store};

/// Quick and in earnest.
const DEATHS: [usize; 2] = [2, 10];
const MACHINES: usize = 12;
const CAPACITY: Capacity = Capacity { cpu_millis: 64_000, memory_mib: 262_144, instances: 500 };
/// The client asks again after so long when nobody has answered.
const PAUSE: Duration = Duration::from_millis(5);
const SETTLE: Duration = Duration::from_secs(2);
const SERVED_WITHIN: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What one kind of control plane showed.
#[derive(Default)]
struct Seen {
    served: Samples,
    agents_heard: Samples,
    creates: u64,
}

/// Lines for the report.
pub(crate) async fn measure(binary: &Path, quick: bool) -> Result<Vec<String>> {
    let deaths = DEATHS[usize::from(!quick)];
    let two = of_two(binary, deaths).await.context("two replicas")?;
    let sqlite = alone(binary, Store::Sqlite, deaths).await.context("SQLite")?;
    let postgres = alone(binary, Store::Postgres, deaths).await.context("PostgreSQL, one replica")?;
    Ok(vec![
        "### A process of the control plane dies".to_owned(),
        String::new(),
        format!(
            "- `kill -9` of the replica that is asked → the next create acknowledged, by the other: {}",
            two.served.in_seconds()
        ),
        format!("- the same → every agent heard again: {}", two.agents_heard.in_seconds()),
        format!(
            "- one process on SQLite, started again at once → the next create acknowledged: {}",
            sqlite.served.in_seconds()
        ),
        format!("- one process on PostgreSQL, likewise: {}", postgres.served.in_seconds()),
        format!(
            "- {deaths} deaths each, {MACHINES} fake agents, one client that creates without a pause, with both URLs where there are two, \
             and asks again at once; {} creates were acknowledged, all of them are there",
            two.creates + sqlite.creates + postgres.creates
        ),
    ])
}

async fn of_two(binary: &Path, deaths: usize) -> Result<Seen> {
    let mut plane = Plane::start(binary, Store::Postgres, 2).await?;
    let api = Api::connect(&plane.replicas[0]).await?;
    let agents = agents::join(&api, &plane.folder().join("agents"), MACHINES, CAPACITY, Work::Follow).await?;
    let apis: Vec<Api> = plane.replicas.iter().map(|replica| api.at(replica)).collect();
    let client = Client::start(apis);
    let mut seen = Seen::default();
    for _ in 0..deaths {
        tokio::time::sleep(SETTLE).await;
        let victim = client.asks();
        let died = Instant::now();
        plane.replicas[victim].kill();
        seen.served.add(client.served_after(died).await?);
        seen.agents_heard.add(heard_after(&agents, died).await?);
        plane.replicas[victim].begin()?;
        plane.replicas[victim].ready().await?;
    }
    seen.creates = client.end(&api.at(&plane.replicas[0])).await?;
    Ok(seen)
}

async fn alone(binary: &Path, store: Store, deaths: usize) -> Result<Seen> {
    let mut plane = Plane::start(binary, store, 1).await?;
    let api = Api::connect(&plane.replicas[0]).await?;
    let _agents = agents::join(&api, &plane.folder().join("agents"), MACHINES, CAPACITY, Work::Follow).await?;
    let client = Client::start(vec![api.clone()]);
    let mut seen = Seen::default();
    for _ in 0..deaths {
        tokio::time::sleep(SETTLE).await;
        let died = Instant::now();
        plane.replicas[0].kill();
        plane.replicas[0].begin()?;
        seen.served.add(client.served_after(died).await?);
    }
    seen.creates = client.end(&api).await?;
    Ok(seen)
}

async fn heard_after(agents: &[Agent], died: Instant) -> Result<Duration> {
    let [_, _, last] = agents::until_heard(agents, died).await?;
    Ok(last)
}

/// Creates without a pause, at one replica until that does not answer, then at the next.
struct Client {
    state: Arc<watch::Sender<State>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Vec<String>>,
}

#[derive(Default)]
struct State {
    at: usize,
    /// When the last create that was acknowledged had been sent, and when its answer came.
    served: Option<(Instant, Instant)>,
}

impl Client {
    fn start(apis: Vec<Api>) -> Self {
        let (state, stop) = (Arc::new(watch::Sender::new(State::default())), CancellationToken::new());
        let task = tokio::spawn(create(apis, Arc::clone(&state), stop.clone()));
        Self { state, stop, task }
    }

    /// The replica that it asks now.
    fn asks(&self) -> usize {
        self.state.borrow().at
    }

    /// How long after `died` the first create was acknowledged that cannot have been decided before.
    async fn served_after(&self, died: Instant) -> Result<Duration> {
        loop {
            if let Some((asked, answered)) = self.state.borrow().served
                && asked > died
            {
                return Ok(answered.saturating_duration_since(died));
            }
            ensure!(died.elapsed() < SERVED_WITHIN, "no create was acknowledged for {SERVED_WITHIN:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops it and looks whether everything that it was promised is there.
    async fn end(self, api: &Api) -> Result<u64> {
        self.stop.cancel();
        let promised = self.task.await.context("the client ended")?;
        for (number, id) in promised.iter().enumerate() {
            api.instance(id).await.with_context(|| format!("create {number} was acknowledged and is lost: {id}"))?;
        }
        Ok(u64::try_from(promised.len())?)
    }
}

async fn create(apis: Vec<Api>, state: Arc<watch::Sender<State>>, stop: CancellationToken) -> Vec<String> {
    let mut promised = Vec::new();
    for number in 0_u64.. {
        let key = format!("bench-{number}");
        loop {
            if stop.is_cancelled() {
                return promised;
            }
            let (at, asked) = (state.borrow().at, Instant::now());
            if let Ok(instance) = apis[at].create(&key).await {
                promised.push(instance.id);
                state.send_modify(|state| state.served = Some((asked, Instant::now())));
                break;
            }
            state.send_modify(|state| state.at = (at + 1) % apis.len());
            tokio::time::sleep(PAUSE).await;
        }
    }
    promised
}
