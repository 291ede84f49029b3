//! Simulated nodes: agents that join, prove life, wait for what they are to keep, "run" it and report, over the agents' real protocol,
//! with real certificates on real sockets, in this process and not in Wherry's. They run nothing.
//!
//! What of a real agent they leave out: names, ways and neighbours ("surroundings") are followed only when asked for, because each
//! node is told the whole zone at each change of it.

pub(crate) mod delays;
mod enrol;
mod faults;
mod machine;
mod node;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use wherry_api_client::Client;
use wherry_model::Capacity;

use crate::system::Seeded;

pub(crate) use faults::Faults;
pub(crate) use machine::{Run, command};
pub(crate) use node::Node;

const HEARD_WITHIN: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Nodes that come to life each second: handshakes cost both sides a signature.
const LIVE_PER_SECOND: u64 = 400;

/// What the nodes are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) capacity: Capacity,
    /// Whether what is placed is ever started.
    pub(crate) starts: bool,
    /// Whether names, ways and neighbours are followed.
    pub(crate) surroundings: bool,
    pub(crate) seed: u64,
}

/// Makes so many nodes, or finds their identities in `folder`, and brings them to life.
pub(crate) async fn bring_up(
    client: &Client,
    folder: &Path,
    count: u32,
    habits: Habits,
    bar: &ProgressBar,
) -> Result<Vec<Arc<Node>>> {
    let identities = enrol::all(client, folder, count, bar).await?;
    bar.set_message("simulated nodes come to life");
    bar.set_length(u64::from(count));
    bar.set_position(0);
    let mut random = Seeded::new(habits.seed);
    let mut nodes = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1_000 / LIVE_PER_SECOND.min(1_000)));
    for identity in identities {
        ticks.tick().await;
        let node = Arc::new(Node::new(identity, habits, random.next()));
        node.live()?;
        nodes.push(node);
        bar.inc(1);
    }
    until_heard(&nodes).await?;
    Ok(nodes)
}

async fn until_heard(nodes: &[Arc<Node>]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let silent: Vec<&Arc<Node>> = nodes.iter().filter(|node| node.heard().is_none()).collect();
        let Some(first) = silent.first() else { return Ok(()) };
        ensure!(
            begun.elapsed() < HEARD_WITHIN,
            "{} of {} simulated nodes are not heard; the first: {}",
            silent.len(),
            nodes.len(),
            first.trouble()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
