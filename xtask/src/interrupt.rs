//! Ctrl-C, SIGTERM and a closed terminal, as a wish to end in order.
//!
//! Listening starts before anything is set up, so that there is no moment at which a signal leaves something behind.

use anyhow::{Context, Result, bail};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Knows whether the person wants us to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    raised: watch::Receiver<bool>,
}

impl Interrupt {
    /// From now on the signals no longer kill this process.
    pub(crate) fn listen(runtime: &Handle) -> Result<Self> {
        let _inside = runtime.enter();
        let (sender, raised) = watch::channel(false);
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind).context("cannot listen for signals")?;
            let sender = sender.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    sender.send_replace(true);
                }
            });
        }
        Ok(Self { raised })
    }

    /// Returns once a signal has come.
    pub(crate) async fn raised(&self) {
        // Fails only when the listening tasks are gone, which is when this process ends.
        let _ = self.raised.clone().wait_for(|raised| *raised).await;
    }

    /// An error once a signal has come: for work that goes step by step.
    pub(crate) fn check(&self) -> Result<()> {
        if *self.raised.borrow() {
            bail!("interrupted");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_signal_is_a_wish_and_no_end() {
        let interrupt = Interrupt::listen(&Handle::current()).unwrap();
        interrupt.check().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        tokio::time::timeout(Duration::from_secs(5), interrupt.raised()).await.unwrap();
        assert!(interrupt.check().is_err());
    }
}
