//! What is around this node: the names that its instances may ask for, the ways to the other nodes, and who elsewhere may
//! reach them. Asked for by a long poll of its own, beside the desired state.
//!
//! Invariants:
//! - What was known last is served at once after a restart, with the control plane away for however long.
//! - Names never go back within a bound ([`belief`]); peers and neighbours are as the latest answer says.
//! - An answer that is larger than any fleet is refused whole; what was known stays.
//! - What is served changes first, then the file, at most every [`STORE_EVERY`]: a file that is a little behind costs
//!   nothing, because the first answer after a restart is served as soon as it is there.
//!
//! Rejected: changes instead of the whole (a node that missed one would need a way to find out; a zone of ten thousand
//! names is about 2 MiB, and asking waits the longer the larger it is).

mod belief;
mod file;
mod sink;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use wherry_agent_api::{ControlError, Neighbours, Peer, Surroundings};

use self::belief::Belief;
use self::file::Kept;
pub(crate) use self::file::KeptFile;
pub use self::sink::{NamesSink, NodeNames, RecordingNames};
use crate::backoff::Backoff;
use crate::blocking::blocking;
use crate::firewall::Elsewhere;
use crate::node::Node;
use crate::session;

/// Without an answer in this time the control plane counts as away; it answers after about 30 s when nothing changes.
const LONG_POLL_WITHIN: Duration = Duration::from_mins(1);
/// The file is written at most so often.
const STORE_EVERY: Duration = Duration::from_secs(2);
/// Between an answer and the next question: a busy fleet changes all the time.
const PAUSE: Duration = Duration::from_millis(20);
/// The same for each name in the answer: whoever fetches much fetches it less often.
const PAUSE_FOR_EACH_NAME: Duration = Duration::from_micros(20);
/// The same for each other node. All of them ask when one joins: so long a pause that together they ask at most a thousand times
/// a second, however many they are.
const PAUSE_FOR_EACH_PEER: Duration = Duration::from_millis(1);

/// Serials that may have been served since the file was written, generously: they are never served again.
const SERIALS_SINCE_STORED: u32 = 10_000;

/// Most names in an answer.
const MOST_NAMES: usize = 500_000;
/// Most other nodes in an answer.
const MOST_PEERS: usize = 10_000;
/// Most addresses of neighbours in an answer.
const MOST_NEIGHBOURS: usize = 100_000;

/// Everything but the names.
#[derive(Debug, Clone)]
struct Around {
    tag: u64,
    apex: String,
    /// This node's own.
    serial: u32,
    peers: Vec<Peer>,
    neighbours: Vec<Neighbours>,
}

/// Keeps what is around the node.
pub(crate) struct Keeper {
    node: Arc<Node>,
    file: KeptFile,
    names: Option<Arc<dyn NamesSink>>,
    peers: watch::Sender<Option<Vec<Peer>>>,
    belief: Belief,
    around: Option<Around>,
    /// The tag of what need not be sent again.
    have: Option<u64>,
    failures: u32,
    /// When the file is to be written, if it is behind.
    store_at: Option<Instant>,
    stored: Option<Instant>,
}

type Answer = Result<Option<Surroundings>, ControlError>;

impl Keeper {
    /// Begins with what the file says.
    pub(crate) fn new(node: Arc<Node>, mut file: KeptFile, names: Option<Arc<dyn NamesSink>>) -> Self {
        let peers = watch::channel(None).0;
        let (belief, around, have) = match file.found.take() {
            None => (Belief::default(), None, None),
            Some(Kept { as_told, surroundings }) => {
                let Surroundings { tag, apex, serial, names, peers, neighbours } = surroundings;
                let serial = serial.saturating_add(SERIALS_SINCE_STORED);
                (Belief::resume(names), Some(Around { tag, apex, serial, peers, neighbours }), as_told.then_some(tag))
            }
        };
        let (failures, store_at, stored) = (0, None, None);
        Self { node, file, names, peers, belief, around, have, failures, store_at, stored }
    }

    /// The other nodes; none before any were known.
    pub(crate) fn peers(&self) -> watch::Receiver<Option<Vec<Peer>>> {
        self.peers.subscribe()
    }

    /// Serves what is known.
    pub(crate) fn announce(&self) {
        let Some(around) = &self.around else { return };
        let records = self.belief.names();
        self.node.board.set(|status| &mut status.names, records.len());
        if let Some(names) = &self.names {
            names.publish(NodeNames { apex: around.apex.clone(), serial: around.serial, records });
        }
        let ranges = around.peers.iter().map(|peer| peer.range).collect();
        self.node.gate.surround(Elsewhere { ranges, neighbours: around.neighbours.clone() });
        self.peers.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&around.peers);
            if changed {
                *known = Some(around.peers.clone());
            }
            changed
        });
    }

    /// Runs for ever.
    pub(crate) async fn keep(mut self) {
        let mut asking = self.ask(Duration::ZERO);
        loop {
            tokio::select! {
                biased;
                answer = &mut asking => {
                    let pause = self.take(answer);
                    asking = self.ask(pause);
                }
                () = reached(self.belief.settles_at()) => {
                    self.belief.settle(Instant::now());
                    self.change();
                }
                () = reached(self.store_at) => self.store().await,
            }
        }
    }

    fn ask(&self, pause: Duration) -> BoxFuture<'static, Answer> {
        let (node, have) = (self.node.clone(), self.have);
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            let question = node.control.surroundings(node.config.machine.node, have);
            let answer = tokio::time::timeout(LONG_POLL_WITHIN, question).await;
            answer.unwrap_or_else(|_| Err(ControlError::Unavailable("it did not answer".to_owned())))
        })
    }

    /// Returns how long to wait before the next question.
    fn take(&mut self, answer: Answer) -> Duration {
        // The node's session introduces it, at its start at the same time as this is asked; what goes wrong there is told there.
        let is_unknown = matches!(answer, Err(ControlError::UnknownNode));
        let trouble = match answer {
            Ok(None) => None,
            Ok(Some(surroundings)) => excess(&surroundings).or_else(|| {
                self.believe(surroundings);
                None
            }),
            Err(error) => Some(error.to_string()),
        };
        if let (Some(trouble), 0, false) = (&trouble, self.failures, is_unknown) {
            tracing::warn!(trouble, "what is around this node is not known anew; what was known goes on");
        }
        self.failures = if trouble.is_some() { self.failures.saturating_add(1) } else { 0 };
        self.node.board.set(|status| &mut status.surroundings_trouble, trouble);
        match self.failures {
            0 => self.pause(),
            _ if self.node.desired.is_removed() => session::REMOVED_LOOK,
            failures => Backoff::CONTROL_PLANE.delay(failures),
        }
    }

    /// Between an answer and the next question.
    fn pause(&self) -> Duration {
        let times = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let peers = self.around.as_ref().map_or(0, |around| around.peers.len());
        PAUSE + PAUSE_FOR_EACH_NAME * times(self.belief.len()) + PAUSE_FOR_EACH_PEER * times(peers)
    }

    fn believe(&mut self, surroundings: Surroundings) {
        let Surroundings { tag, apex, serial, names, peers, neighbours } = surroundings;
        let serial = self.around.as_ref().map_or(serial, |known| known.serial.max(serial));
        self.around = Some(Around { tag, apex, serial, peers, neighbours });
        self.have = Some(tag);
        self.belief.tell(names, Instant::now());
        self.change();
    }

    fn change(&mut self) {
        if let Some(around) = &mut self.around {
            around.serial = around.serial.saturating_add(1);
        }
        self.announce();
        let due = self.stored.map_or_else(Instant::now, |stored| stored + STORE_EVERY);
        self.store_at = self.store_at.or(Some(due));
    }

    async fn store(&mut self) {
        self.store_at = None;
        self.stored = Some(Instant::now());
        let Some(Around { tag, apex, serial, peers, neighbours }) = self.around.clone() else { return };
        let surroundings = Surroundings { tag, apex, serial, names: self.belief.names(), peers, neighbours };
        let kept = Kept { as_told: self.belief.is_as_told(), surroundings };
        let path = self.file.path().to_owned();
        if let Err(error) = blocking(move || file::store(&path, &kept)).await {
            tracing::warn!(%error, "what is around this node cannot be kept on disk; it is tried again");
            self.store_at = Some(Instant::now() + STORE_EVERY);
        }
    }
}

/// What is too much of an answer, if anything.
fn excess(answer: &Surroundings) -> Option<String> {
    let addresses = answer.neighbours.iter().map(|neighbours| neighbours.addresses.len()).sum::<usize>();
    let counts = [
        (answer.names.len(), MOST_NAMES, "names"),
        (answer.peers.len(), MOST_PEERS, "nodes"),
        (addresses, MOST_NEIGHBOURS, "addresses of neighbours"),
    ];
    let excess = counts.into_iter().find(|(count, most, _)| count > most);
    excess.map(|(count, most, what)| format!("it told of {count} {what}, and a node takes {most} at most"))
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
