//! A ticket opens one answer, for whom it was made.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::StatusCode;
use tokio::task::JoinHandle;
use wherry_agent_api::{Call, ExecOutcome, ExecQuery, LogQuery, NodeDirectory as _, NodeError};
use wherry_model::{Generation, InstanceId};

use super::world::{Replica, SOON, World, node, show_ticket, until};
use crate::frames::{End, Frame};

pub(super) fn instance(number: u128) -> InstanceId {
    InstanceId::from_uuid(uuid::Uuid::from_u128(number))
}

pub(super) fn log_query(number: u128) -> LogQuery {
    let container = "main".parse().unwrap();
    LogQuery {
        instance: instance(number),
        container,
        run: None,
        tail: None,
        follow: false,
        timestamps: false,
        since: None,
    }
}

pub(super) fn exec_query(number: u128) -> ExecQuery {
    let command = vec!["a".to_owned(), "b".to_owned()];
    let container = "main".parse().unwrap();
    ExecQuery { instance: instance(number), generation: Generation(4), container, command, timeout_seconds: 5 }
}

/// Asks node 1 for output; what it is and the call that went out.
async fn ask(world: &World, replica: &Replica) -> (JoinHandle<Result<Vec<u8>, NodeError>>, Call) {
    world.control.calls.lock().unwrap().clear();
    let there = replica.dial_back.services(node(1));
    let asking = tokio::spawn(async move {
        let chunks: Vec<_> = there.logs(log_query(8)).await?.collect().await;
        Ok(chunks.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    });
    until("a call goes out", || !world.control.calls.lock().unwrap().is_empty()).await;
    let call = world.control.calls.lock().unwrap().remove(0);
    (asking, call)
}

fn the_answer() -> Vec<bytes::Bytes> {
    let frames = [Frame::Begun, Frame::Output("hello\n".into()), Frame::Ended(End::default())];
    frames.iter().map(Frame::encode).collect()
}

fn id(number: u128) -> String {
    instance(number).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_ticket_opens_nothing_and_is_not_used_up() {
    let world = World::new();
    let replica = world.replica().await;
    let (first, second) = (world.machine(&replica, 1).await, world.machine(&replica, 2).await);
    let (asking, call) = ask(&world, &replica).await;
    assert_eq!((call.ticket.len(), call.node, call.reply_to.as_str()), (43, node(1), replica.url.as_str()));
    let thief = world.dial_as(&replica, &second.identity.credential()).await;
    let (status, said) = show_ticket(&thief, &call.ticket, &id(8), None, the_answer()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, said_of_a_guess) = show_ticket(&thief, &"A".repeat(43), &id(8), None, the_answer()).await;
    assert_eq!(said, said_of_a_guess, "a thief does not learn that the ticket exists");

    let owner = world.dial_as(&replica, &first.identity.credential()).await;
    for (instance, generation) in [(id(9), None), (id(8), Some("4")), ("nonsense".to_owned(), None)] {
        let (status, _) = show_ticket(&owner, &call.ticket, &instance, generation, the_answer()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{instance} {generation:?}");
    }
    assert_eq!(show_ticket(&owner, &call.ticket, &id(8), None, the_answer()).await.0, StatusCode::OK);
    assert_eq!(tokio::time::timeout(SOON, asking).await.unwrap().unwrap(), Ok(b"hello\n".to_vec()));
    let (twice, _) = show_ticket(&owner, &call.ticket, &id(8), None, the_answer()).await;
    assert_eq!(twice, StatusCode::FORBIDDEN);
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_for_a_program_is_bound_to_the_generation() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let there = replica.dial_back.services(node(1));
    let asking = tokio::spawn(async move { there.exec(exec_query(8)).await });
    until("a call goes out", || !world.control.calls.lock().unwrap().is_empty()).await;
    let call = world.control.calls.lock().unwrap().remove(0);
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    let answer = || {
        let end = End { exit_code: Some(3), truncated: false };
        vec![Frame::Stdout("out".into()).encode(), Frame::Ended(end).encode()]
    };
    for generation in [None, Some("3"), Some("5"), Some("x")] {
        let (status, _) = show_ticket(&live, &call.ticket, &id(8), generation, answer()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{generation:?}");
    }
    assert_eq!(show_ticket(&live, &call.ticket, &id(8), Some("4"), answer()).await.0, StatusCode::OK);
    let outcome = ExecOutcome { exit_code: 3, stdout: b"out".to_vec(), stderr: Vec::new(), truncated: false };
    assert_eq!(tokio::time::timeout(SOON, asking).await.unwrap().unwrap(), Ok(outcome));
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_works_at_one_replica_for_a_minute_and_while_somebody_waits() {
    let world = World::new();
    let (replica, other) = (world.replica().await, world.replica().await);
    let machine = world.machine(&replica, 1).await;
    let (asking, call) = ask(&world, &replica).await;
    let elsewhere = world.dial_as(&other, &machine.identity.credential()).await;
    assert_eq!(show_ticket(&elsewhere, &call.ticket, &id(8), None, the_answer()).await.0, StatusCode::FORBIDDEN);
    world.clock.at(Call::LIFETIME.as_secs());
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    assert_eq!(show_ticket(&live, &call.ticket, &id(8), None, the_answer()).await.0, StatusCode::FORBIDDEN);
    assert!(!asking.is_finished(), "the question can be answered yet, to another call");
    asking.abort();

    let (asking, call) = ask(&world, &replica).await;
    asking.abort();
    until("nobody waits", || replica.dial_back.waiting() == 0).await;
    assert_eq!(show_ticket(&live, &call.ticket, &id(8), None, the_answer()).await.0, StatusCode::FORBIDDEN);
    replica.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_does_not_answer_and_does_not_go_on() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    let there = replica.dial_back.services(node(1));
    let following = tokio::spawn(async move { there.logs(log_query(8)).await });
    until("a call goes out", || !world.control.calls.lock().unwrap().is_empty()).await;
    let call = world.control.calls.lock().unwrap().remove(0);
    let (frames, body) = tokio::sync::mpsc::unbounded_channel();
    let body = futures_util::stream::unfold(body, |mut body| async move {
        let frame: bytes::Bytes = body.recv().await?;
        Some((Ok(http_body::Frame::data(frame)), body))
    });
    let body = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(body));
    let mut request =
        crate::client::request(http::Method::POST, &format!("{}{}", crate::wire::path::ANSWER, call.ticket), 2, body);
    request.headers_mut().insert(crate::wire::INSTANCE_HEADER, id(8).parse().unwrap());
    frames.send(Frame::Begun.encode()).unwrap();
    let response = tokio::time::timeout(SOON, live.open(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut output = tokio::time::timeout(SOON, following).await.unwrap().unwrap().unwrap();
    frames.send(Frame::Output("one\n".into()).encode()).unwrap();
    assert_eq!(tokio::time::timeout(SOON, output.next()).await.unwrap(), Some(Ok(b"one\n".to_vec())));

    world.control.removed.lock().unwrap().insert(node(1));
    let ended = http_body_util::BodyExt::collect(response.into_body());
    tokio::time::timeout(SOON, ended).await.expect("the node is told that its answer is over").unwrap();
    drop(live);
    drop(frames);
    assert!(matches!(tokio::time::timeout(SOON, output.next()).await.unwrap(), Some(Err(NodeError::Unavailable(_)))));

    let (asking, call) = ask(&world, &replica).await;
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    assert_eq!(show_ticket(&live, &call.ticket, &id(8), None, the_answer()).await.0, StatusCode::FORBIDDEN);
    asking.abort();
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_ends_in_an_error() {
    let world = World::new();
    let replica = world.replica().await;
    let machine = world.machine(&replica, 1).await;
    let live = world.dial_as(&replica, &machine.identity.credential()).await;
    let begun = Frame::Begun.encode();
    let wrong: [(&str, Vec<bytes::Bytes>); 5] = [
        ("nothing", vec![]),
        ("no end", vec![begun.clone(), Frame::Output("x".into()).encode()]),
        ("cut in a frame", vec![begun.clone(), Frame::Output("xyz".into()).encode().slice(..6)]),
        ("too long", vec![begun.clone(), vec![2, 255, 255, 255, 255].into()]),
        ("of a program", vec![begun, Frame::Stdout("x".into()).encode()]),
    ];
    for (what, frames) in wrong {
        let (asking, call) = ask(&world, &replica).await;
        assert_eq!(show_ticket(&live, &call.ticket, &id(8), None, frames).await.0, StatusCode::OK, "{what}");
        let answer = tokio::time::timeout(SOON, asking).await.unwrap().unwrap();
        assert!(matches!(answer, Err(NodeError::Unavailable(_))), "{what}: {answer:?}");
    }
    // What a later version may say in between is skipped.
    let (asking, call) = ask(&world, &replica).await;
    let mut frames = the_answer();
    frames.insert(1, bytes::Bytes::from_static(&[99, 0, 0, 0, 2, 1, 2]));
    assert_eq!(show_ticket(&live, &call.ticket, &id(8), None, frames).await.0, StatusCode::OK);
    assert_eq!(tokio::time::timeout(SOON, asking).await.unwrap().unwrap(), Ok(b"hello\n".to_vec()));
    replica.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_wait_are_bounded_and_forgotten() {
    let world = World::new();
    let replica = world.replica().await;
    let there = Arc::new(replica.dial_back.services(node(1)));
    let mut asking = Vec::new();
    for _ in 0..64 {
        let there = Arc::clone(&there);
        asking.push(tokio::spawn(async move { there.logs(log_query(8)).await.err() }));
    }
    until("all wait", || replica.dial_back.waiting() == 64).await;
    let refused = tokio::time::timeout(SOON, there.logs(log_query(8))).await.unwrap().err();
    assert_eq!(refused, Some(NodeError::Unavailable("too many questions wait for nodes".to_owned())));
    for asking in asking {
        asking.abort();
    }
    until("nobody waits", || replica.dial_back.waiting() == 0).await;
    replica.end().await;
}
