//! Wake-ups from containerd's event service.
//!
//! containerd tells the world of an exit before its own CRI plugin has taken note of it, so a caller that reads at once
//! would still see `Running` and sleep on. An exit is therefore passed on when CRI shows it, or after a short bound.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{Semaphore, broadcast};
use wherry_runtime::RuntimeEvent;

use crate::connection::{Connection, READ_LIMIT, answered, request};
use crate::failure::About;
use crate::generated::containerd::events::{TaskExit, TaskOom};
use crate::generated::containerd::services::events::v1::SubscribeRequest;
use crate::generated::containerd::types::Envelope;
use crate::generated::runtime::v1;

const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MOST: Duration = Duration::from_secs(2);
const HEADERS_PATIENCE: Duration = Duration::from_millis(200);
const SETTLE_TRIES: u32 = 50;
const SETTLE_PAUSE: Duration = Duration::from_millis(5);
/// Exits that are being waited for at once; beyond it they are passed on unsettled.
const SETTLING_MOST: usize = 32;

/// Listens for as long as the task lives; whatever the engine does, it starts anew.
pub(crate) async fn listen(connection: Connection, sender: broadcast::Sender<RuntimeEvent>) {
    let settling = Arc::new(Semaphore::new(SETTLING_MOST));
    let mut pause = RECONNECT_FIRST;
    loop {
        let mut connected = false;
        if let Err(status) = follow(&connection, &sender, &settling, &mut connected).await {
            tracing::debug!(%status, "container engine's event stream broke");
        }
        pause = if connected { RECONNECT_FIRST } else { (pause * 2).min(RECONNECT_MOST) };
        tokio::time::sleep(pause).await;
    }
}

/// One subscription until it breaks; sets `connected` once it stands.
async fn follow(
    connection: &Connection,
    sender: &broadcast::Sender<RuntimeEvent>,
    settling: &Arc<Semaphore>,
    connected: &mut bool,
) -> Result<(), tonic::Status> {
    let filter = |topic: &str| format!("namespace==k8s.io,topic==\"{topic}\"");
    let message = SubscribeRequest { filters: vec![filter("/tasks/exit"), filter("/tasks/oom")] };
    // containerd sends the headers of this stream with its first event, which may never come.
    let mut client = connection.events();
    let mut answer = std::pin::pin!(client.subscribe(message));
    let early = tokio::time::timeout(HEADERS_PATIENCE, &mut answer).await;
    let early = early.ok().transpose()?;
    *connected = true;
    drop(sender.send(RuntimeEvent::Resynchronise));
    let response = match early {
        Some(response) => response,
        None => answer.await?,
    };
    let mut stream = response.into_inner();
    while let Some(envelope) = stream.message().await? {
        pass_on(connection, sender, settling, envelope);
    }
    Ok(())
}

fn pass_on(
    connection: &Connection,
    sender: &broadcast::Sender<RuntimeEvent>,
    settling: &Arc<Semaphore>,
    envelope: Envelope,
) {
    let Some(body) = envelope.event else { return };
    match envelope.topic.as_str() {
        "/tasks/oom" => {
            if let Ok(event) = TaskOom::decode(body.value.as_slice()) {
                drop(sender.send(RuntimeEvent::OutOfMemory { id: event.container_id }));
            }
        }
        "/tasks/exit" => {
            let Ok(event) = TaskExit::decode(body.value.as_slice()) else { return };
            // A process that was started by exec ended, not the container.
            if event.id != event.container_id {
                return;
            }
            let wake = RuntimeEvent::Exited { id: event.container_id.clone() };
            let Ok(permit) = Arc::clone(settling).try_acquire_owned() else {
                drop(sender.send(wake));
                return;
            };
            let (connection, sender) = (connection.clone(), sender.clone());
            tokio::spawn(async move {
                settle(&connection, &event.container_id).await;
                drop(sender.send(wake));
                drop(permit);
            });
        }
        _ => {}
    }
}

/// Waits until CRI no longer shows the container as running.
async fn settle(connection: &Connection, id: &str) {
    for _ in 0..SETTLE_TRIES {
        let message = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let mut client = connection.runtime();
        let answer = client.container_status(request(message, READ_LIMIT));
        let running =
            answered("ContainerStatus", About::Container(id), READ_LIMIT, answer).await.is_ok_and(|response| {
                response.status.is_some_and(|status| status.state() == v1::ContainerState::ContainerRunning)
            });
        if !running {
            return;
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}
