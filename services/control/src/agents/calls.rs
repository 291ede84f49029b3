//! Questions that wait for a node. The row says that there is one and for whom; its ticket is stored as a hash beside the call
//! that carries it, and both are gone once the call is handed out.

use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};
use wherry_agent_api::{Call, CallBoard, ControlError};
use wherry_model::NodeId;
use wherry_store::CallRecord;

use super::NEWS_WAIT;
use crate::{Control, Error};

/// The distance of two looks for calls of one node: commits come much more often than calls.
const LOOK_DISTANCE: Duration = Duration::from_millis(20);

/// The longest time to a look for calls that other replicas have posted.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(1);

#[async_trait::async_trait]
impl CallBoard for Control {
    async fn post_call(&self, call: Call) -> Result<(), ControlError> {
        let json = serde_json::to_string(&call).map_err(|error| ControlError::Refused(error.to_string()))?;
        let record = CallRecord {
            ticket_hash: Sha256::digest(call.ticket.as_bytes()).into(),
            node: call.node,
            expires_at: call.expires_at,
            call: json,
        };
        self.store().post_call(&record, self.now()).await.map_err(Error::from)?;
        self.inner.call_bells.ring(call.node);
        Ok(())
    }

    async fn calls(&self, node: NodeId) -> Result<Vec<Call>, ControlError> {
        let deadline = Instant::now() + NEWS_WAIT;
        let mut bell = self.inner.call_bells.listen(node);
        loop {
            let seen = self.store().position();
            bell.borrow_and_update();
            let looked = Instant::now();
            let called = self.called(seen).await?;
            if called.contains(&node) {
                let records = self.store().take_calls(node, self.now()).await.map_err(Error::from)?;
                let calls: Vec<Call> = records.iter().filter_map(|record| read_call(record, node)).collect();
                if !calls.is_empty() {
                    return Ok(calls);
                }
            }
            // A call that another replica has posted is found by a look, in a large fleet a second later.
            let others = if self.inner.config.is_alone { NEWS_WAIT } else { LOOK_AT_OTHERS };
            let news = async {
                tokio::select! {
                    biased;
                    () = self.news_of(&mut bell, seen) => {}
                    () = tokio::time::sleep(others) => {}
                }
            };
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                return Ok(Vec::new());
            }
            tokio::time::sleep_until(looked + LOOK_DISTANCE).await;
        }
    }
}

fn read_call(record: &CallRecord, node: NodeId) -> Option<Call> {
    match serde_json::from_str::<Call>(&record.call) {
        Ok(call) if call.node == node => Some(call),
        Ok(_) => None,
        // Of another version of the control plane: whoever asked is told that nobody answered.
        Err(error) => {
            tracing::warn!(%node, %error, "a call that cannot be read was dropped");
            None
        }
    }
}
