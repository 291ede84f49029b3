//! What happened second by second beside the answers: processor time and memory of both sides, and how much runs.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::nodes::Node;
use crate::process;

/// One second.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// Seconds from the begin of the run.
    pub(crate) at_seconds: f64,
    /// Thousandths of a core since the sample before; none when the process is not known.
    pub(crate) wherry_millicores: Option<u64>,
    pub(crate) generator_millicores: u64,
    pub(crate) wherry_resident_kib: Option<u64>,
    pub(crate) generator_resident_kib: u64,
    /// Instances that run on simulated nodes.
    pub(crate) running: u64,
}

/// Looks each second until it is ended.
pub(crate) struct Sampler {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    pub(crate) fn start(wherry: Option<u32>, nodes: Vec<Arc<Node>>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let (begun, own) = (Instant::now(), std::process::id());
            let looked = || (wherry.and_then(process::of), process::of(own).unwrap_or_default(), Instant::now());
            let (mut before, mut samples) = (looked(), Vec::new());
            loop {
                let over = tokio::time::timeout(Duration::from_secs(1), stopped.changed()).await.is_ok();
                let now = looked();
                let passed = now.2.duration_since(before.2);
                let rate = |now: Duration, before: Duration| {
                    let used = now.saturating_sub(before).as_micros() * 1_000;
                    u64::try_from(used / passed.as_micros().max(1)).unwrap_or(u64::MAX)
                };
                samples.push(Sample {
                    at_seconds: begun.elapsed().as_secs_f64(),
                    wherry_millicores: now.0.zip(before.0).map(|(now, before)| rate(now.cpu, before.cpu)),
                    generator_millicores: rate(now.1.cpu, before.1.cpu),
                    wherry_resident_kib: now.0.map(|used| used.resident_kib),
                    generator_resident_kib: now.1.resident_kib,
                    running: nodes.iter().map(|node| u64::try_from(node.running()).unwrap_or_default()).sum(),
                });
                before = now;
                if over {
                    return samples;
                }
            }
        });
        Self { stop, task }
    }

    pub(crate) async fn end(self) -> Vec<Sample> {
        self.stop.send_replace(true);
        self.task.await.unwrap_or_default()
    }
}
