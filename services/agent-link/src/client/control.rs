//! [`ControlPlane`] over the wire.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wherry_agent_api::{Ack, ControlError, ControlPlane, Desired, Heartbeat, NodeHello, Report, Surroundings, Welcome};
use wherry_model::NodeId;

use super::dial::{Answer, Live};
use super::{LinkClient, Message};
use crate::refusal;
use crate::wire::{Calls, Issued, PROTOCOL_OF_FLEETS, RenewRequest, path};

/// The version of the facts that every replica understands.
const OLDEST_FACTS: u32 = 2;

/// Fields that version 1 does not have, at the top of a message.
const NOT_IN_VERSION_1: [&str; 2] = ["epoch", "underlay"];

#[async_trait]
impl ControlPlane for LinkClient {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        let welcome: Option<Welcome> = self.tell(path::HELLO, &hello).await?;
        // Version 1 answers nothing.
        let welcome = welcome.unwrap_or(Welcome { endpoints: Vec::new() });
        self.learn_endpoints(&welcome.endpoints);
        Ok(welcome)
    }

    async fn desired(&self, _node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let (_, answer) = self.ask(&Message::long_poll(path::DESIRED, have), self.shared.settings.long_poll).await?;
        some_or_none(&answer)
    }

    /// A replica that does not understand a fact is not told it, nor anything that comes after it, until there is one that does.
    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        let mut report = report;
        let most = self.shared.settings.protocol;
        let spoken = if report.observations.iter().all(|observation| observation.fact.least_protocol() <= OLDEST_FACTS)
        {
            most
        } else {
            self.spoken().await?.min(most)
        };
        let understood =
            report.observations.iter().take_while(|told| told.fact.least_protocol() <= spoken.max(OLDEST_FACTS));
        let understood = understood.count();
        if understood == 0 && !report.observations.is_empty() {
            return Err(ControlError::Unavailable(format!(
                "the replica speaks version {spoken} and does not understand what there is to report; it waits for one that does"
            )));
        }
        report.observations.truncate(understood);
        self.tell(path::REPORT, &report).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        let _anything: serde_json::Value = self.tell(path::HEARTBEAT, &heartbeat).await?;
        Ok(())
    }

    async fn surroundings(&self, _node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        match self.ask_of_fleets(path::SURROUNDINGS, have).await? {
            Some(answer) => some_or_none(&answer),
            None => Ok(None),
        }
    }
}

impl LinkClient {
    /// Questions that wait for this node, as they came: one that cannot be read must not hide the others.
    pub(crate) async fn calls(&self) -> Result<Vec<serde_json::Value>, ControlError> {
        match self.ask_of_fleets(path::CALLS, None).await? {
            Some(answer) => read::<Calls<serde_json::Value>>(&answer).map(|answer| answer.calls),
            None => Ok(Vec::new()),
        }
    }

    /// A certificate for the key of this request.
    pub(crate) async fn renew(&self, csr: String) -> Result<Issued, ControlError> {
        self.tell(path::RENEW, &RenewRequest { csr }).await
    }

    async fn tell<A: DeserializeOwned>(&self, path: &str, message: &impl Serialize) -> Result<A, ControlError> {
        let body = encode(message, self.shared.settings.protocol)
            .map_err(|error| ControlError::Refused(format!("the message cannot be written: {error}")))?;
        let (_, answer) = self.ask(&Message::post(path, body), self.shared.settings.message).await?;
        read(&answer)
    }

    /// The version that the replica of now speaks with us. One that is too old is left, where there is another to ask.
    async fn spoken(&self) -> Result<u32, ControlError> {
        let (live, _) = self.ask(&Message::ping(), self.shared.settings.message).await?;
        let spoken = live.spoken().unwrap_or(self.shared.settings.protocol);
        if spoken < self.shared.settings.protocol && self.shared.endpoints().len() > 1 {
            live.leave();
        }
        Ok(spoken)
    }

    /// A long poll that version 1 does not have: where it is spoken there is nothing new for as long as a long poll takes.
    async fn ask_of_fleets(&self, path: &str, have: Option<u64>) -> Result<Option<Answer>, ControlError> {
        let time = self.shared.settings.long_poll;
        if self.shared.settings.protocol < PROTOCOL_OF_FLEETS {
            tokio::time::sleep(time).await;
            return Ok(None);
        }
        let (live, answer) = self.ask(&Message::long_poll(path, have), time).await?;
        if live.spoken().is_some_and(|spoken| spoken < PROTOCOL_OF_FLEETS) {
            // Until this replica is upgraded, which ends the connection.
            self.until_lost(&live, time).await;
            return Ok(None);
        }
        Ok(Some(answer))
    }

    async fn until_lost(&self, live: &Arc<Live>, time: std::time::Duration) {
        let _ = tokio::time::timeout(time, live.lost()).await;
    }
}

pub(crate) fn encode(message: &impl Serialize, protocol: u32) -> serde_json::Result<Vec<u8>> {
    if protocol >= PROTOCOL_OF_FLEETS {
        return serde_json::to_vec(message);
    }
    let mut message = serde_json::to_value(message)?;
    if let Some(fields) = message.as_object_mut() {
        for field in NOT_IN_VERSION_1 {
            fields.remove(field);
        }
    }
    serde_json::to_vec(&message)
}

fn some_or_none<A: DeserializeOwned>(answer: &Answer) -> Result<Option<A>, ControlError> {
    if answer.status == StatusCode::NO_CONTENT { Ok(None) } else { read(answer).map(Some) }
}

/// An answer that cannot be read is trouble of the replica, which may be over at the next: it is asked again.
pub(crate) fn read<A: DeserializeOwned>(answer: &Answer) -> Result<A, ControlError> {
    if !answer.status.is_success() {
        return Err(refusal::from_answer(answer.status, &answer.body));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| ControlError::Unavailable(format!("the answer cannot be read: {error}")))
}
