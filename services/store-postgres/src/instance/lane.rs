//! Creates that arrive together share a transaction, its round trips and its flush to disk.
//!
//! A node's row and the numbering of a project are locked until the commit, so creates on one node or in one project cannot
//! commit side by side: without this each would wait for the disk in turn. Two lanes take what waits in one queue; while one
//! commits, the other collects. A group is all or nothing: whoever is in its way (a name or key in use, a node that refuses)
//! is taken out and tried alone, so neighbours share no failure.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use wherry_store::{CreateOutcome, Placed, StoreError};

use super::create::{Create, Trouble, attempt};
use super::read;
use crate::error::{Context, Meaning, meaning_behind, unavailable};
use crate::transaction::{Connections, PATIENCE, Unit, Verdict};

const CONTEXT: &str = "creating an instance";
/// Creates that wait for a lane; more callers wait to get into the queue.
const QUEUE: usize = 256;
/// Creates that share a transaction.
const GROUP: usize = 64;
const LANES: usize = 2;

/// The way of creates into the database. Its tasks end when it is dropped.
#[derive(Debug)]
pub(crate) struct Lanes {
    queue: mpsc::Sender<Waiting>,
}

/// One create and who waits for it.
struct Waiting {
    placed: Placed,
    reply: oneshot::Sender<Result<CreateOutcome, StoreError>>,
}

impl Lanes {
    pub(crate) fn start(connections: &Arc<Connections>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..LANES {
            tokio::spawn(serve(Arc::clone(connections), Arc::clone(&waiting)));
        }
        Self { queue }
    }

    /// Queues a create and waits for its outcome. A caller that goes away before its group begins has asked for nothing.
    pub(crate) async fn create(&self, placed: &Placed) -> Result<CreateOutcome, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let stopped = || unavailable(CONTEXT, "the store is closed");
        match timeout_at(Instant::now() + PATIENCE, self.queue.reserve()).await {
            Ok(permit) => permit.map_err(|_| stopped())?.send(Waiting { placed: placed.clone(), reply }),
            Err(_) => return Err(unavailable(CONTEXT, "too many creates wait already")),
        }
        outcome.await.map_err(|_| stopped())?
    }
}

async fn serve(connections: Arc<Connections>, waiting: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
    loop {
        let group = {
            let mut queue = waiting.lock().await;
            let Some(first) = queue.recv().await else { return };
            let mut group = vec![first];
            while group.len() < GROUP {
                let Ok(next) = queue.try_recv() else { break };
                group.push(next);
            }
            group
        };
        run(&connections, group).await;
    }
}

async fn run(connections: &Arc<Connections>, mut group: Vec<Waiting>) {
    group.retain(|one| !one.reply.is_closed());
    for rival in rivals(&mut group) {
        alone(connections, rival);
    }
    while group.len() > 1 {
        let creates: Vec<&Placed> = group.iter().map(|one| &one.placed).collect();
        match connections.write(CONTEXT, &Group { creates }).await {
            Ok(troubles) if troubles.is_empty() => {
                for one in group {
                    let made = Box::new(one.placed.change.after);
                    // A caller that has gone away does not need it.
                    drop(one.reply.send(Ok(CreateOutcome::Created(made))));
                }
                return;
            }
            Ok(troubles) => {
                // From behind: positions of the others stay.
                for position in troubles.into_iter().map(|(position, _)| position).collect::<BTreeSet<_>>().iter().rev()
                {
                    alone(connections, group.swap_remove(*position));
                }
            }
            // The database is away, for one as for all.
            Err(error @ StoreError::Unavailable { .. }) if meaning_behind(&error) != Meaning::Locked => {
                for one in group {
                    drop(one.reply.send(Err(unavailable(CONTEXT, &error.to_string()))));
                }
                return;
            }
            Err(StoreError::DiskFull) => {
                for one in group {
                    drop(one.reply.send(Err(StoreError::DiskFull)));
                }
                return;
            }
            // Something is wrong with one of them: each is told its own.
            Err(_) => {
                for one in group.drain(1..) {
                    alone(connections, one);
                }
            }
        }
    }
    for one in group {
        let outcome = connections.write(CONTEXT, &Create { placed: &one.placed }).await;
        drop(one.reply.send(outcome));
    }
}

/// Takes out who cannot be in one transaction with somebody before it: the same name, the same key.
fn rivals(group: &mut Vec<Waiting>) -> Vec<Waiting> {
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    let (friends, rivals) = std::mem::take(group).into_iter().partition(|one| {
        let after = &one.placed.change.after;
        let new_name = names.insert((after.tenant, after.project, after.name.clone()));
        let new_key = one.placed.idempotency.as_ref().is_none_or(|(key, _)| keys.insert((after.tenant, key.clone())));
        new_name && new_key
    });
    *group = friends;
    rivals
}

/// Tries one by itself, beside whatever the lane does next. There are never more of them than callers.
fn alone(connections: &Arc<Connections>, one: Waiting) {
    let connections = Arc::clone(connections);
    tokio::spawn(async move {
        let outcome = connections.write(CONTEXT, &Create { placed: &one.placed }).await;
        drop(one.reply.send(outcome));
    });
}

/// Several creates, all or none of them; the answer names those in the way.
struct Group<'a> {
    creates: Vec<&'a Placed>,
}

#[async_trait]
impl Unit for Group<'_> {
    type Answer = Vec<(usize, Trouble)>;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<Self::Answer>, StoreError> {
        let troubles = attempt(connection, &self.creates).await?;
        Ok(if troubles.is_empty() { Verdict::Keep(troubles) } else { Verdict::Undo(troubles) })
    }

    /// Nobody else makes an instance of such an id, and where one is all are.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<Self::Answer>, StoreError> {
        let Some(first) = self.creates.first().map(|placed| &placed.change.after) else { return Ok(None) };
        let found = read::of_tenant(first.tenant, first.id).fetch_optional(connection).await.context(CONTEXT)?;
        Ok(found.map(|_| Vec::new()))
    }
}
