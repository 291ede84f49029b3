//! Doing what is desired, once or for as long as the test likes.

use std::time::Duration;

use tokio::task::JoinHandle;
use wherry_agent_api::{ControlError, ControlPlane};

use super::ScriptedAgent;

/// Rounds until nothing more is asked: stopping what has ended is asked for only after its end was reported.
const MAX_ROUNDS: u32 = 10;

impl ScriptedAgent {
    /// Does all that is desired now, reports it, and proves life; panics when the control plane does not take it.
    pub async fn obey(&self) {
        self.try_obey().await.expect("the control plane takes what an honest agent says");
    }

    /// The same, for tests in which the control plane may be away.
    pub async fn try_obey(&self) -> Result<(), ControlError> {
        let mut revision = None;
        for _ in 0..MAX_ROUNDS {
            let now = self.now();
            let desired = self.desired().await?;
            self.machine().obey(&desired, now);
            self.report().await?;
            self.heartbeat().await?;
            if revision == Some(desired.revision) {
                return Ok(());
            }
            revision = Some(desired.revision);
        }
        panic!("the desired state still changes after {MAX_ROUNDS} rounds of obeying it");
    }

    /// Does all that is desired now and journals it, but sends nothing.
    pub async fn act(&self) -> Result<(), ControlError> {
        let desired = self.desired().await?;
        let now = self.now();
        self.machine().obey(&desired, now);
        Ok(())
    }

    /// Obeys in the background until the handle is dropped, also through restarts of the control plane.
    pub fn keep_obeying(&self) -> Obedience {
        let agent = self.clone();
        Obedience(tokio::spawn(async move {
            let mut have = None;
            loop {
                match agent.line.desired(agent.node(), have).await {
                    Ok(Some(desired)) if agent.try_obey().await.is_ok() => have = Some(desired.revision),
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => {
                        // Answered when it is back; a new revision is not needed for that.
                        have = None;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        drop(agent.hello().await);
                    }
                }
            }
        }))
    }
}

/// An agent at work in the background; dropping it ends the work.
#[derive(Debug)]
pub struct Obedience(JoinHandle<()>);

impl Drop for Obedience {
    fn drop(&mut self) {
        self.0.abort();
    }
}
