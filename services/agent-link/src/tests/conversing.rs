//! Conversations with what is inside an instance on a machine that listens on nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, sink, stream};
use http::StatusCode;
use tokio::sync::mpsc;
use wherry_agent_api::{
    NodeDirectory as _, NodeError, Session, SessionInput, SessionKind, SessionOutput, SessionQuery, TerminalSize,
};
use wherry_model::Generation;

use super::answering::{Answering, Open};
use super::tickets::instance;
use super::world::{Replica, SOON, World, node, show_ticket, until};
use crate::frames::Frame;

/// The instances of [`hold`].
const ECHOES: u128 = 40;
const SPEAKS: u128 = 41;
const ENDLESS: u128 = 42;
const DEAF: u128 = 43;
const REFUSES: u128 = 44;
const BREAKS: u128 = 45;

const SIZE: TerminalSize = TerminalSize { columns: 100, rows: 40 };

fn query(number: u128) -> SessionQuery {
    let container = "main".parse().unwrap();
    let kind = SessionKind::Exec { container, command: vec!["x".to_owned()], stdin: true, tty: Some(SIZE) };
    SessionQuery { instance: instance(number), generation: Generation(4), kind }
}

/// A conversation as the number of the instance says; `taken` counts messages, in whichever direction.
pub(super) fn hold(query: &SessionQuery, taken: &Arc<AtomicUsize>, open: Open) -> Result<Session, NodeError> {
    let (input, mut inputs) = mpsc::channel::<SessionInput>(1);
    let taken = Arc::clone(taken);
    let kept = move |message| {
        let _ = &open;
        message
    };
    let output = if query.instance == instance(ECHOES) {
        let echo = stream::unfold(Some(inputs), |inputs| async {
            let mut inputs = inputs?;
            Some(match inputs.recv().await {
                Some(SessionInput::Data(bytes)) => (SessionOutput::Stdout(bytes), Some(inputs)),
                Some(SessionInput::Resize(size)) => {
                    (SessionOutput::Stderr(format!("{} {}", size.columns, size.rows).into_bytes()), Some(inputs))
                }
                Some(SessionInput::End) | None => (SessionOutput::Exited(3), None),
            })
        });
        echo.map(Ok).map(kept).boxed()
    } else if query.instance == instance(SPEAKS) {
        let said = [SessionOutput::Stdout(b"out".to_vec()), SessionOutput::Stderr(b"bad".to_vec())];
        let held = stream::once(async move {
            while inputs.recv().await.is_some_and(|told| told != SessionInput::End) {}
            SessionOutput::Exited(137)
        });
        stream::iter(said).chain(held).map(Ok).map(kept).boxed()
    } else if query.instance == instance(ENDLESS) {
        let endless = stream::repeat_with(move || {
            taken.fetch_add(1, Ordering::SeqCst);
            let _ = &inputs;
            SessionOutput::Stdout(vec![7; Session::MAX_MESSAGE_BYTES])
        });
        endless.map(Ok).map(kept).boxed()
    } else if query.instance == instance(DEAF) {
        let deaf = stream::once(async move {
            let _inputs = inputs;
            std::future::pending().await
        });
        deaf.map(kept).boxed()
    } else if query.instance == instance(BREAKS) {
        stream::iter([Err(NodeError::Unavailable("lost".to_owned()))]).map(kept).boxed()
    } else {
        return Err(NodeError::Refused("there is no such program".to_owned()));
    };
    let input = sink::unfold(input, |input, message| async move {
        input.send(message).await.map_err(|_| NodeError::Unavailable("it is over".to_owned()))?;
        Ok(input)
    });
    Ok(Session { input: Box::pin(input), output })
}

async fn begin(replica: &Replica, number: u128) -> Result<Session, NodeError> {
    let there = replica.dial_back.services(node(1));
    tokio::time::timeout(SOON, there.session(query(number))).await.expect("the node answers")
}

async fn next(session: &mut Session) -> Option<Result<SessionOutput, NodeError>> {
    tokio::time::timeout(SOON, session.output.next()).await.expect("something comes out")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_flow_whichever_replica_asks() {
    let world = World::new();
    let (replica, other) = (world.replica().await, world.replica().await);
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    for asked in [&replica, &other] {
        let mut talk = begin(asked, SPEAKS).await.unwrap();
        assert_eq!(next(&mut talk).await, Some(Ok(SessionOutput::Stdout(b"out".to_vec()))));
        assert_eq!(next(&mut talk).await, Some(Ok(SessionOutput::Stderr(b"bad".to_vec()))));
        talk.input.send(SessionInput::Data(b"ignored".to_vec())).await.unwrap();
        talk.input.send(SessionInput::End).await.unwrap();
        assert_eq!(next(&mut talk).await, Some(Ok(SessionOutput::Exited(137))));
        assert_eq!(next(&mut talk).await, None);

        let mut echo = begin(asked, ECHOES).await.unwrap();
        echo.input.send(SessionInput::Resize(SIZE)).await.unwrap();
        assert_eq!(next(&mut echo).await, Some(Ok(SessionOutput::Stderr(b"100 40".to_vec()))));
        // Who lets go of the input has said all; what comes out goes on.
        drop(echo.input);
        echo.input = Box::pin(sink::drain().sink_map_err(|never| match never {}));
        assert_eq!(next(&mut echo).await, Some(Ok(SessionOutput::Exited(3))));

        let refused = begin(asked, REFUSES).await.err();
        assert_eq!(refused, Some(NodeError::Refused("there is no such program".to_owned())));
        let mut breaks = begin(asked, BREAKS).await.unwrap();
        assert_eq!(next(&mut breaks).await, Some(Err(NodeError::Unavailable("lost".to_owned()))));
        assert_eq!(next(&mut breaks).await, None);
    }
    until("nothing is left", || answering.scripted.open() == 0).await;
    answering.end().await;
    replica.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_in_comes_back_whole_and_in_order() {
    const PIECE: usize = 100_000;
    const PIECES: usize = 670;
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let Session { mut input, mut output } = begin(&replica, ECHOES).await.unwrap();
    // 64 MiB in which no two places that a mistake could swap are alike.
    let byte = |at: usize| (at % 251).to_le_bytes()[0];
    let send = async {
        for piece in 0..PIECES {
            let bytes = (piece * PIECE..(piece + 1) * PIECE).map(byte).collect();
            input.send(SessionInput::Data(bytes)).await.unwrap();
        }
        input.send(SessionInput::End).await.unwrap();
    };
    let receive = async {
        let mut received = 0;
        loop {
            match output.next().await.unwrap().unwrap() {
                SessionOutput::Stdout(bytes) => {
                    assert!(bytes.len() <= Session::MAX_MESSAGE_BYTES);
                    assert!(bytes.iter().enumerate().all(|(at, got)| *got == byte(received + at)), "at {received}");
                    received += bytes.len();
                }
                other => return (received, other),
            }
        }
    };
    let both = async { tokio::join!(send, receive).1 };
    let ended = tokio::time::timeout(SOON * 2, both).await.expect("it all comes back");
    assert_eq!(ended, (PIECES * PIECE, SessionOutput::Exited(3)));
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_holds_the_other_side_back() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let mut endless = begin(&replica, ENDLESS).await.unwrap();
    let (mut read, mut ahead) = (0, 0);
    for _ in 0..60 {
        assert!(matches!(next(&mut endless).await, Some(Ok(SessionOutput::Stdout(_)))));
        read += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
        ahead = ahead.max(answering.scripted.taken() - read);
    }
    let most = 4 * 1024 * 1024 / Session::MAX_MESSAGE_BYTES;
    assert!(ahead <= most, "{ahead} messages were made ahead of the reader");
    drop(endless);
    until("the node has stopped", || answering.scripted.open() == 0).await;

    let mut deaf = begin(&replica, DEAF).await.unwrap();
    let mut taken = 0;
    let piece = || SessionInput::Data(vec![7; Session::MAX_MESSAGE_BYTES]);
    while tokio::time::timeout(Duration::from_secs(3), deaf.input.send(piece())).await.is_ok() {
        taken += 1;
        assert!(taken <= 2 * most, "a program that takes nothing was sent {taken} messages");
    }
    drop(deaf);
    until("the node has stopped", || answering.scripted.open() == 0).await;
    answering.end().await;
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_ends_the_conversation() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let answering = Answering::start(&world, &machine);
    let held = begin(&replica, DEAF).await.unwrap();
    until("it is held", || answering.scripted.open() == 1).await;
    let Session { input, output } = held;
    drop(output);
    until("the program is gone", || answering.scripted.open() == 0).await;
    drop(input);

    let mut held = begin(&replica, DEAF).await.unwrap();
    let scripted = answering.scripted.clone();
    answering.end().await;
    assert_eq!(scripted.open(), 0);
    assert!(matches!(next(&mut held).await, Some(Err(NodeError::Unavailable(_)))));
    let told = async {
        while held.input.send(SessionInput::Data(vec![1])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, told).await.expect("whoever speaks on is told that it is over");

    let answering = Answering::start(&world, &machine);
    let mut held = begin(&replica, DEAF).await.unwrap();
    replica.end().await;
    assert!(matches!(next(&mut held).await, Some(Err(NodeError::Unavailable(_)))));
    until("the node has stopped", || answering.scripted.open() == 0).await;
    answering.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_before_says_that_it_cannot() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let there = replica.dial_back.services(node(1));
    let asking = tokio::spawn(async move { there.session(query(ECHOES)).await.err() });
    until("a call goes out", || !world.control.calls.lock().unwrap().is_empty()).await;
    let call = world.control.calls.lock().unwrap().remove(0);
    let asked = serde_json::to_value(&call).unwrap();
    // Where such an agent looks for what its answer is bound to.
    assert_eq!(asked["question"]["instance"], instance(ECHOES).to_string());
    assert_eq!(asked["question"]["generation"], 4);
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    let old = NodeError::Unavailable("this agent is too old for the question".to_owned());
    let answer = vec![Frame::Failed(old.clone()).encode()];
    let id = instance(ECHOES).to_string();
    assert_eq!(show_ticket(&live, &call.ticket, &id, Some("4"), answer).await.0, StatusCode::OK);
    assert_eq!(tokio::time::timeout(SOON, asking).await.unwrap().unwrap(), Some(old));
    replica.end().await;
}
