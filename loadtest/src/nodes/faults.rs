//! What happens to nodes during a run: some die, some are not heard for a while. Which and when is drawn from the seed.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Node;
use crate::system::Seeded;

/// How many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) deaths: u32,
    pub(crate) silences: u32,
    /// How long a silent node is not heard.
    pub(crate) silence: Duration,
}

impl Faults {
    /// Lets them happen within `time` from now. Never two to one node. Ends when the last is over.
    pub(crate) fn begin(self, nodes: &[Arc<Node>], time: Duration, seed: u64) -> JoinSet<()> {
        let mut random = Seeded::new(seed);
        let mut left: Vec<Arc<Node>> = nodes.to_vec();
        let mut tasks = JoinSet::new();
        for number in 0..self.deaths + self.silences {
            let Some(choices) = u64::try_from(left.len()).ok().filter(|choices| *choices > 0) else { break };
            let Ok(chosen) = usize::try_from(random.below(choices)) else { break };
            let (node, at) = (left.swap_remove(chosen), time.mul_f64(random.fraction()));
            let silence = (number >= self.deaths).then_some(self.silence);
            tasks.spawn(async move {
                tokio::time::sleep(at).await;
                match silence {
                    None => node.die(),
                    Some(silence) => {
                        node.fall_silent();
                        tokio::time::sleep(silence).await;
                        // Fails only when its certificate cannot be read again; then it stays away and the auditor sees it.
                        drop(node.live());
                    }
                }
            });
        }
        tasks
    }
}
