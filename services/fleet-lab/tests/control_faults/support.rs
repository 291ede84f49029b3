//! A fleet to break, and clients that use it meanwhile.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _, TryRng as _};
use tokio::task::JoinSet;
use wherry_api_client::{Client, ClientError};
use wherry_api_types::{ContainerSpec, Instance, InstanceCreate, InstanceState, RestartPolicy};
use wherry_demo_images::recipes;
use wherry_fleet_lab::{Fleet, FleetOptions, History, PROJECT, Plan};

/// A client waits this long for a service that is killed again and again, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Live instances of one client at most.
const MOST_LIVE: usize = 2;

/// The binary beside these tests.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WHERRY_E2E_BINARY") {
        return PathBuf::from(path);
    }
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("wherry")
}

/// A fleet over PostgreSQL with an image to run.
pub(crate) struct Lab {
    pub(crate) fleet: Fleet,
    pub(crate) history: History,
    pub(crate) image: String,
}

impl Lab {
    pub(crate) async fn start(replicas: usize, machines: usize) -> Self {
        Self::start_with(replicas, machines, "").await
    }

    /// `settings` is added to those of every replica.
    pub(crate) async fn start_with(replicas: usize, machines: usize, settings: &str) -> Self {
        let control_settings = settings.to_owned();
        Self::start_of(FleetOptions { replicas, machines, control_settings, ..FleetOptions::new(binary()) }).await
    }

    pub(crate) async fn start_of(options: FleetOptions) -> Self {
        let fleet = Fleet::start(options).await.unwrap();
        let history = History::start(&fleet).unwrap();
        let image = recipes::tool().unwrap().push(&fleet.registry.address(), "demo/tool", "1").await.unwrap();
        Self { fleet, history, image }
    }

    /// One client for each replica, in order.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.fleet.replicas.iter().map(|replica| replica.client().unwrap()).collect()
    }

    pub(crate) fn customer(&self, name: &str, seed: u64) -> Customer {
        Customer {
            name: name.to_owned(),
            clients: self.clients(),
            history: self.history.clone(),
            image: self.image.clone(),
            random: StdRng::seed_from_u64(seed),
            live: VecDeque::new(),
            made: 0,
        }
    }

    /// What is stored, a row a line.
    pub(crate) fn stored(&self, statement: &str) -> String {
        self.fleet.psql(statement).unwrap().trim().to_owned()
    }

    /// How often the instance was given a place after it had left its first.
    pub(crate) fn placed_again(&self, id: &str) -> usize {
        let statement = format!("SELECT count(*) FROM events WHERE instance = '{id}' AND kind = 'scheduled'");
        self.stored(&statement).parse().unwrap()
    }

    /// Kills the replica as a crash does, and begins it anew without waiting for it.
    pub(crate) fn crash(&mut self, replica: usize) {
        self.fleet.replicas[replica].kill();
        self.fleet.replicas[replica].begin().unwrap();
    }

    /// Waits until every replica answers.
    pub(crate) async fn ready(&mut self) {
        for replica in &mut self.fleet.replicas {
            replica.ready().await.unwrap();
        }
    }

    /// The history check, the end of everything, the check again: nothing may be left.
    pub(crate) async fn finish(self) {
        self.history.finish(self.fleet).await.unwrap();
    }
}

/// The choices of a test; printed, and taken again from `WHERRY_FAULT_SEED`.
pub(crate) fn seed() -> u64 {
    let seed = number("WHERRY_FAULT_SEED").unwrap_or_else(|| SysRng.try_next_u64().unwrap());
    println!("WHERRY_FAULT_SEED={seed}");
    seed
}

/// What a variable of the environment says, if it is set.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok()?;
    Some(given.parse().unwrap_or_else(|_| panic!("{variable} has to be a whole number, it is {given:?}")))
}

/// The body of a create that runs until it is stopped, and ends at once then.
pub(crate) fn server(image: &str, name: &str) -> InstanceCreate {
    let script = "trap 'exit 0' TERM; while :; do sleep 9 & wait $!; done";
    let container = ContainerSpec {
        image: image.to_owned(),
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        cpu: Some("20m".to_owned()),
        memory: Some("16Mi".to_owned()),
        ..ContainerSpec::default()
    };
    InstanceCreate {
        name: Some(name.to_owned()),
        containers: vec![container],
        restart_policy: Some(RestartPolicy::Never),
        stop_grace_seconds: Some(2),
        ..InstanceCreate::default()
    }
}

/// Looks again and again until there is an answer; fails with `what` after [`PATIENCE`].
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether asking again is right: nobody answered, or the service said that it cannot now. Any other answer to a right
/// question is a fault of the service.
pub(crate) fn is_retryable(error: &ClientError) -> bool {
    matches!(error.status(), None | Some(503 | 429))
}

/// Asks one replica after the other until one answers.
pub(crate) async fn told<T>(
    clients: &[Client],
    first: usize,
    ask: impl AsyncFn(&Client) -> Result<T, ClientError>,
) -> T {
    let begun = Instant::now();
    for client in clients.iter().cycle().skip(first % clients.len()) {
        match ask(client).await {
            Ok(answer) => return answer,
            Err(error) => again(client, error, begun).await,
        }
    }
    unreachable!("the replicas are asked in turns without end")
}

/// The pause before asking the next replica; fails when the answer was none that a caller can use, or patience is over.
pub(crate) async fn again(client: &Client, error: ClientError, begun: Instant) {
    assert!(is_retryable(&error), "{} gave an answer that no caller can use: {error:?}", client.server());
    assert!(begun.elapsed() < PATIENCE, "no replica answers within {PATIENCE:?}: {error:?}");
    tokio::time::sleep(LOOK_EVERY).await;
}

/// Somebody who creates and deletes through whichever replica answers.
pub(crate) struct Customer {
    name: String,
    clients: Vec<Client>,
    history: History,
    image: String,
    random: StdRng,
    live: VecDeque<String>,
    made: usize,
}

impl Customer {
    /// One create or delete, asked until it is acknowledged. Now and then a create is asked once more.
    async fn act(&mut self) {
        let first = self.random.random_range(0..self.clients.len());
        if self.live.len() >= MOST_LIVE || (!self.live.is_empty() && self.random.random_bool(0.3)) {
            let Some(id) = self.live.pop_front() else { return };
            self.delete(&id, first).await;
            return;
        }
        self.made += 1;
        let plan = self.history.plan(server(&self.image, &format!("{}-{}", self.name, self.made)));
        let made = self.create(&plan, first).await;
        if self.random.random_bool(0.3) {
            let again = self.create(&plan, first + 1).await;
            assert_eq!(again.id, made.id, "one key means one instance");
        }
        self.live.push_back(made.id);
    }

    async fn create(&self, plan: &Plan, first: usize) -> Instance {
        let begun = Instant::now();
        let mut turn = first;
        loop {
            let client = &self.clients[turn % self.clients.len()];
            match self.history.create(client, plan).await {
                Ok(made) => return made,
                Err(error) => again(client, error, begun).await,
            }
            turn += 1;
        }
    }

    async fn delete(&self, id: &str, first: usize) {
        let begun = Instant::now();
        let mut turn = first;
        loop {
            let client = &self.clients[turn % self.clients.len()];
            match self.history.delete(client, id).await {
                Ok(_) => return,
                Err(error) => again(client, error, begun).await,
            }
            turn += 1;
        }
    }
}

/// Customers at work.
pub(crate) struct Crowd {
    tasks: JoinSet<()>,
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Crowd {
    pub(crate) fn start(lab: &Lab, customers: u64, seed: u64) -> Self {
        let (over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for number in 0..customers {
            let mut customer = lab.customer(&format!("c{number}"), seed.wrapping_add(number + 1));
            let (over, acknowledged) = (Arc::clone(&over), Arc::clone(&acknowledged));
            tasks.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let pause = customer.random.random_range(0..200);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    customer.act().await;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { tasks, over, acknowledged }
    }

    /// Answers to customers so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for so many more answers; fails at once when a customer was told something wrong.
    pub(crate) async fn more(&mut self, count: usize) {
        let before = self.acknowledged();
        until(&format!("{count} more answers"), async || {
            self.fail_with_customers();
            (self.acknowledged() >= before + count).then_some(())
        })
        .await;
    }

    /// Lets everybody finish what they are at.
    pub(crate) async fn leave(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn fail_with_customers(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.unwrap();
            assert!(self.over.load(Ordering::Relaxed), "a customer has left");
        }
    }
}

/// Creates `count` servers through the first client and waits until they run; their ids.
pub(crate) async fn run_servers(lab: &Lab, count: usize, change: impl Fn(&mut InstanceCreate)) -> Vec<String> {
    let clients = lab.clients();
    let mut ids = Vec::new();
    for number in 0..count {
        let mut body = server(&lab.image, &format!("s{number}"));
        change(&mut body);
        let plan = lab.history.plan(body);
        ids.push(told(&clients, 0, async |client| lab.history.create(client, &plan).await).await.id);
    }
    for id in &ids {
        reach(&clients, id, InstanceState::Running).await;
    }
    ids
}

/// Waits until the instance is in this state, whichever replica tells.
pub(crate) async fn reach(clients: &[Client], id: &str, state: InstanceState) -> Instance {
    let begun = Instant::now();
    loop {
        let time = Duration::from_secs(20);
        let waited = told(clients, 0, async |client| client.wait_instance(PROJECT, id, &[state], time).await).await;
        if waited.reached {
            return waited.instance;
        }
        assert!(begun.elapsed() < PATIENCE, "{id} is to be {state}: {:#?}", waited.instance);
    }
}
