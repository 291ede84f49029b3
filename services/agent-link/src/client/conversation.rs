//! The node's half of a conversation on the wire: what the asker says comes in the body of the response, what comes out goes into the
//! body of the request.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use wherry_agent_api::{
    NodeError, NodeServices, Session, SessionInput, SessionOutput, SessionQuery, SessionSink, SessionStream,
};

use crate::frames::{End, Frame, FrameReader};

/// Holds it; whether there was an end to say, because the asker has not gone before.
pub(super) async fn produce(
    query: SessionQuery,
    services: &dyn NodeServices,
    frames: &mpsc::Sender<Bytes>,
    asker: &mut FrameReader,
) -> bool {
    let begun = tokio::select! {
        biased;
        // Nothing is said before it has begun.
        _ = asker.next() => return false,
        begun = services.session(query) => begun,
    };
    let Session { input, output } = match begun {
        Ok(session) => session,
        Err(error) => return frames.send(Frame::Failed(error).encode()).await.is_ok(),
    };
    if frames.send(Frame::Begun.encode()).await.is_err() {
        return false;
    }
    tokio::select! {
        biased;
        // That the asker has gone does not show behind what the program does not take.
        () = frames.closed() => false,
        () = listen(input, asker) => false,
        said = speak(output, frames) => said.is_some(),
    }
}

/// Passes on what the asker says until it has gone.
async fn listen(mut input: SessionSink, asker: &mut FrameReader) {
    while let Ok(frame) = asker.next().await {
        let message = match frame {
            Frame::Input(bytes) if bytes.len() <= Session::MAX_MESSAGE_BYTES => SessionInput::Data(bytes.into()),
            Frame::InputEnded => SessionInput::End,
            Frame::Resized(size) => SessionInput::Resize(size),
            _ => return tracing::warn!("a replica says in a conversation what nobody can say there"),
        };
        // One that is over takes no more; how it ended is on its way the other way.
        let _ = input.send(message).await;
    }
}

/// Passes on what comes out, with the end; none when nobody takes it.
async fn speak(mut output: SessionStream, frames: &mpsc::Sender<Bytes>) -> Option<()> {
    while let Some(message) = output.next().await {
        let frame = match message {
            Ok(SessionOutput::Stdout(bytes)) => Frame::Stdout(bytes.into()),
            Ok(SessionOutput::Stderr(bytes)) => Frame::Stderr(bytes.into()),
            Ok(SessionOutput::Exited(code)) => Frame::Ended(End { exit_code: Some(code), truncated: false }),
            Err(error) => Frame::Failed(error),
        };
        let is_last = matches!(frame, Frame::Ended(_) | Frame::Failed(_));
        frames.send(frame.encode()).await.ok()?;
        if is_last {
            return Some(());
        }
    }
    let lost = NodeError::Unavailable("the conversation broke off".to_owned());
    frames.send(Frame::Failed(lost).encode()).await.ok()
}
