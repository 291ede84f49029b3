//! A node that listens on nothing answers, and stops when nobody listens to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{
    Call, CallBoard as _, ExecOutcome, ExecQuery, InstanceStats, LogQuery, LogStream, NetworkStats, NodeDirectory as _,
    NodeError, NodeServices, Session, SessionQuery, StatsQuery,
};
use wherry_model::{Clock as _, Generation, Timestamp};

use super::conversing;
use super::tickets::{exec_query, instance, log_query};
use super::world::{Machine, Replica, SOON, World, node, until};
use crate::client::MAX_ANSWERS;
use crate::{Answerer, LinkClient};

/// The instances of [`Scripted`].
const TWO_LINES: u128 = 8;
const MISSING: u128 = 9;
const ENDLESS: u128 = 10;
pub(super) const FOLLOWED: u128 = 11;
const HANGS: u128 = 12;
const LARGE: u128 = 13;

/// A node that does what the number of the instance says.
pub(super) struct Scripted {
    /// Chunks that were taken of [`ENDLESS`].
    taken: Arc<AtomicUsize>,
    /// Answers that have not ended.
    open: Arc<AtomicUsize>,
    pub(super) lines: broadcast::Sender<Vec<u8>>,
}

/// Counts as open until it is dropped.
pub(super) struct Open(Arc<AtomicUsize>);

impl Open {
    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

const CHUNK_BYTES: usize = 64 * 1024;

impl Scripted {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { taken: Arc::default(), open: Arc::default(), lines: broadcast::Sender::new(16) })
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl NodeServices for Scripted {
    async fn logs(&self, query: LogQuery) -> Result<LogStream, NodeError> {
        let open = Open::of(&self.open);
        let held = move |_: &Result<Vec<u8>, NodeError>| {
            let _ = &open;
            std::future::ready(())
        };
        let chunks: LogStream = if query.instance == instance(TWO_LINES) {
            stream::iter([b"one\n".to_vec(), b"two\n".to_vec()].map(Ok)).boxed()
        } else if query.instance == instance(ENDLESS) {
            let taken = Arc::clone(&self.taken);
            stream::repeat_with(move || {
                let number = taken.fetch_add(1, Ordering::SeqCst).to_le_bytes()[0];
                Ok(vec![number; CHUNK_BYTES])
            })
            .boxed()
        } else if query.instance == instance(LARGE) {
            let line = [vec![b'x'; 999], vec![b'\n']].concat();
            stream::iter([Ok(line.repeat(3_000))]).boxed()
        } else if query.instance == instance(FOLLOWED) {
            let lines = self.lines.subscribe();
            stream::unfold(lines, |mut lines| async { Some((Ok(lines.recv().await.ok()?), lines)) }).boxed()
        } else {
            return Err(NodeError::NotFound("the run".to_owned()));
        };
        Ok(chunks
            .then(move |chunk| {
                let done = held(&chunk);
                async move {
                    done.await;
                    chunk
                }
            })
            .boxed())
    }

    async fn exec(&self, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        let _open = Open::of(&self.open);
        if query.instance == instance(HANGS) {
            std::future::pending::<()>().await;
        }
        let stdout = vec![b'x'; ExecOutcome::MAX_OUTPUT_BYTES + 1];
        Ok(ExecOutcome { exit_code: 3, stdout, stderr: query.command.concat().into_bytes(), truncated: false })
    }

    async fn session(&self, query: SessionQuery) -> Result<Session, NodeError> {
        conversing::hold(&query, &self.taken, Open::of(&self.open))
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
        if query.instance == instance(MISSING) {
            return Err(NodeError::Unavailable("the engine is away".to_owned()));
        }
        let stats = |(instance, generation): (_, Generation)| InstanceStats {
            instance,
            at: Timestamp::from_seconds(7),
            window_ms: Some(generation.0),
            network: Some(NetworkStats { received_bytes: 1, ..NetworkStats::default() }),
            containers: Vec::new(),
        };
        Ok(query.all().map(stats).collect())
    }
}

/// An agent that answers.
pub(super) struct Answering {
    pub(super) scripted: Arc<Scripted>,
    pub(super) link: Arc<LinkClient>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Answering {
    pub(super) fn start(world: &World, machine: &Machine) -> Self {
        let (scripted, link, stop) = (Scripted::new(), world.link(machine), CancellationToken::new());
        let task = Answerer::start(Arc::clone(&link), scripted.clone(), stop.clone());
        Self { scripted, link, stop, task }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("answering ends").unwrap();
    }
}

async fn logs(replica: &Replica, number: u128) -> Result<LogStream, NodeError> {
    let there = replica.dial_back.services(node(1));
    tokio::time::timeout(SOON, there.logs(log_query(number))).await.expect("the node answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_listens_on_nothing_answers_whichever_replica_asks() {
    let world = World::new();
    let (replica, other) = (world.replica().await, world.replica().await);
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    for asked in [&replica, &other] {
        let printed: Vec<_> = logs(asked, TWO_LINES).await.unwrap().collect().await;
        assert_eq!(printed.into_iter().collect::<Result<Vec<_>, _>>().unwrap().concat(), b"one\ntwo\n");
        assert_eq!(logs(asked, MISSING).await.err(), Some(NodeError::NotFound("the run".to_owned())));
        let outcome = asked.dial_back.services(node(1)).exec(exec_query(TWO_LINES)).await.unwrap();
        assert_eq!((outcome.exit_code, outcome.stderr.as_slice(), outcome.truncated), (3, b"ab".as_slice(), true));
        assert_eq!(outcome.stdout.len(), ExecOutcome::MAX_OUTPUT_BYTES);
        assert_eq!(asked.dial_back.waiting(), 0);
    }
    answering.end().await;
    replica.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_of_many_instances_what_they_use() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let there = replica.dial_back.services(node(1));
    let others = (0..255).map(|number| (instance(1_000 + number), Generation(3))).collect();
    let query = StatsQuery { instance: instance(TWO_LINES), generation: Generation(2), others };
    let asked: Vec<_> = query.all().map(|(instance, _)| instance).collect();
    let stats = tokio::time::timeout(SOON, there.stats(query)).await.unwrap().unwrap();
    assert_eq!(stats.iter().map(|stats| stats.instance).collect::<Vec<_>>(), asked);
    assert_eq!((stats[0].window_ms, stats[255].window_ms), (Some(2), Some(3)));
    assert_eq!(stats[9].network.unwrap().received_bytes, 1);
    let silent = StatsQuery { instance: instance(MISSING), generation: Generation(1), others: Vec::new() };
    let refused = tokio::time::timeout(SOON, there.stats(silent)).await.unwrap();
    assert_eq!(refused, Err(NodeError::Unavailable("the engine is away".to_owned())));
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_lost_is_made_again() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    world.control.lose_calls.store(1, Ordering::SeqCst);
    let printed: Vec<_> = logs(&replica, TWO_LINES).await.unwrap().collect().await;
    assert_eq!(printed.len(), 2);
    assert_eq!(world.control.lose_calls.load(Ordering::SeqCst), 0);
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_of_any_size_arrives_in_whole_lines() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let pieces: Vec<_> = logs(&replica, LARGE).await.unwrap().collect().await;
    let pieces: Vec<Vec<u8>> = pieces.into_iter().collect::<Result<_, _>>().unwrap();
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.ends_with(b"\n")));
    assert_eq!(pieces.concat().len(), 3_000_000);
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_ends_what_the_node_does_for_them() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let followed = logs(&replica, FOLLOWED).await.unwrap();
    let there = replica.dial_back.services(node(1));
    let running = tokio::spawn(async move { there.exec(exec_query(HANGS)).await });
    until("both are under way", || answering.scripted.open() == 2).await;
    drop(followed);
    until("the follower is gone", || answering.scripted.open() == 1).await;
    running.abort();
    until("the program is gone", || answering.scripted.open() == 0).await;
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_or_a_replica_that_ends_ends_its_answers() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let mut followed = logs(&replica, FOLLOWED).await.unwrap();
    let scripted = answering.scripted.clone();
    answering.end().await;
    assert_eq!(scripted.open(), 0);
    let cut = tokio::time::timeout(SOON, followed.next()).await.unwrap();
    assert!(matches!(cut, Some(Err(NodeError::Unavailable(_)))), "{cut:?}");

    let answering = Answering::start(&world, &machine);
    let mut followed = logs(&replica, FOLLOWED).await.unwrap();
    replica.end().await;
    let cut = tokio::time::timeout(SOON, followed.next()).await.unwrap();
    assert!(matches!(cut, Some(Err(NodeError::Unavailable(_)))), "{cut:?}");
    until("the node has stopped", || answering.scripted.open() == 0).await;
    answering.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_node_back() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let mut endless = logs(&replica, ENDLESS).await.unwrap();
    let mut read = 0_usize;
    let mut ahead = 0;
    for _ in 0..40 {
        let chunk = tokio::time::timeout(SOON, endless.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(chunk, vec![read.to_le_bytes()[0]; CHUNK_BYTES], "in order and whole");
        read += 1;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        ahead = ahead.max(answering.scripted.taken.load(Ordering::SeqCst) - read);
    }
    // The window of the stream, what hyper holds to send, a frame in each hand. Without backpressure it would be thousands.
    assert!(ahead * CHUNK_BYTES <= 4 * 1024 * 1024, "{ahead} chunks were read ahead");
    drop(endless);
    until("the node has stopped", || answering.scripted.open() == 0).await;
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_answers_as_much_as_it_can_says_so() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let mut held = Vec::new();
    for _ in 0..MAX_ANSWERS {
        held.push(logs(&replica, FOLLOWED).await.unwrap());
    }
    let refused = logs(&replica, TWO_LINES).await.err();
    assert_eq!(refused, Some(NodeError::Unavailable("this node answers as many questions as it can".to_owned())));
    held.clear();
    until("there is room again", || answering.scripted.open() == 0).await;
    let mut answered = logs(&replica, TWO_LINES).await;
    while answered.is_err() {
        answered = logs(&replica, TWO_LINES).await;
    }
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_dials_back_to_nobody_but_its_own_control_plane() {
    let (world, foreign) = (World::new(), World::new());
    let (replica, stranger) = (world.replica().await, foreign.replica().await);
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    // As if somebody had got hold of the table of calls: the answer must not go to a stranger.
    let there = stranger.dial_back.services(node(1));
    let asking = tokio::spawn(async move { there.exec(exec_query(TWO_LINES)).await });
    until("the stranger asks", || !foreign.control.calls.lock().unwrap().is_empty()).await;
    let call: Call = foreign.control.calls.lock().unwrap().remove(0);
    assert!(call.expires_at > world.clock.now());
    world.control.post_call(call).await.unwrap();
    // Answered after it.
    let printed: Vec<_> = logs(&replica, TWO_LINES).await.unwrap().collect().await;
    assert_eq!(printed.len(), 2);
    assert!(!asking.is_finished(), "the stranger was answered");
    assert_eq!(stranger.port.connected_nodes(), 0);
    asking.abort();
    answering.end().await;
    replica.end().await;
    stranger.end().await;
}
