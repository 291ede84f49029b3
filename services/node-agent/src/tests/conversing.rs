//! Conversations: only with what runs here, in bounds, and over when it is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use wherry_agent_api::{
    NodeError, NodeServices as _, Session, SessionInput, SessionKind, SessionOutput, SessionQuery, TerminalSize,
};
use wherry_model::lifecycle::Ask;
use wherry_model::{
    ContainerName, ContainerSpec, Generation, InstanceId, InstanceSpec, InstanceState as S, RestartPolicy,
};
use wherry_runtime::ContainerState;

use super::world::{World, container};
use crate::Agent;

fn program(world: &World, instance: InstanceId, text: &str) -> SessionQuery {
    let command = ["sh", "-c", text].map(str::to_owned).to_vec();
    let kind = SessionKind::Exec { container: container(), command, stdin: true, tty: None };
    SessionQuery { instance, generation: world.instance(instance).generation, kind }
}

fn port(world: &World, instance: InstanceId, port: u16) -> SessionQuery {
    let generation = world.instance(instance).generation;
    SessionQuery { instance, generation, kind: SessionKind::Port { port } }
}

async fn begin(agent: &Agent, query: SessionQuery) -> Session {
    agent.session(query).await.unwrap()
}

/// What is left to come out.
async fn all(session: Session) -> Vec<Result<SessionOutput, NodeError>> {
    session.output.collect().await
}

/// Output and complaints each in one piece, and the exit code.
async fn told(session: Session) -> (Vec<u8>, Vec<u8>, i32) {
    let (mut out, mut bad, mut code) = (Vec::new(), Vec::new(), None);
    for message in all(session).await {
        assert_eq!(code, None, "something came after the end");
        match message.unwrap() {
            SessionOutput::Stdout(bytes) => out.extend(bytes),
            SessionOutput::Stderr(bytes) => bad.extend(bytes),
            SessionOutput::Exited(ended) => code = Some(ended),
        }
    }
    (out, bad, code.expect("an end"))
}

async fn serving(world: &World, text: &str) -> (Agent, InstanceId) {
    let agent = world.agent().await;
    let id = world.create(text, RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    (agent, id)
}

async fn until_quiet(world: &World) {
    world.until("no program is talked to", |world| world.runtime.talking() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_program_is_told_and_tells() {
    let world = World::new();
    let (agent, id) = serving(&world, "serve").await;
    let mut echo = begin(&agent, program(&world, id, "echo bad >&2; cat; echo done; exit 3")).await;
    let sent: Vec<u8> = (0..3_000_000_usize).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let pieces: Vec<SessionInput> =
        sent.chunks(Session::MAX_MESSAGE_BYTES).map(|piece| SessionInput::Data(piece.to_vec())).collect();
    let input = async {
        for piece in pieces {
            echo.input.send(piece).await.unwrap();
        }
        echo.input.send(SessionInput::End).await.unwrap();
    };
    let output = echo.output.collect::<Vec<_>>();
    let ((), came) = tokio::join!(input, output);
    let came: Vec<_> = came.into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(came.last(), Some(&SessionOutput::Exited(3)));
    let printed: Vec<u8> = came
        .iter()
        .flat_map(|message| match message {
            SessionOutput::Stdout(bytes) => {
                assert!(bytes.len() <= Session::MAX_MESSAGE_BYTES);
                bytes.clone()
            }
            _ => Vec::new(),
        })
        .collect();
    assert!(printed.strip_suffix(b"done\n") == Some(&sent), "{} bytes came back", printed.len());
    assert!(came.contains(&SessionOutput::Stderr(b"bad\n".to_vec())));
    until_quiet(&world).await;

    let SessionKind::Exec { container, command, .. } = program(&world, id, "cat; stty size; exit 4").kind else {
        panic!("it is a program")
    };
    let tty = Some(TerminalSize { columns: 80, rows: 24 });
    let query =
        SessionQuery { kind: SessionKind::Exec { container, command, stdin: true, tty }, ..port(&world, id, 1) };
    let mut terminal = begin(&agent, query).await;
    terminal.input.send(SessionInput::Resize(TerminalSize { columns: 100, rows: 40 })).await.unwrap();
    // Closing is the end of the input too.
    terminal.input.close().await.unwrap();
    drop(std::mem::replace(
        &mut terminal.input,
        Box::pin(futures_util::sink::drain().sink_map_err(|never| match never {})),
    ));
    assert_eq!(told(terminal).await, (b"40 100\r\n".to_vec(), Vec::new(), 4));
}

#[tokio::test(start_paused = true)]
async fn a_port_is_reached_and_a_closed_one_is_told() {
    let world = World::new();
    let (agent, id) = serving(&world, "nc -ll -p 7001 -e cat").await;
    let mut echo = begin(&agent, port(&world, id, 7001)).await;
    echo.input.send(SessionInput::Data(b"hello".to_vec())).await.unwrap();
    assert_eq!(echo.output.next().await, Some(Ok(SessionOutput::Stdout(b"hello".to_vec()))));
    echo.input.send(SessionInput::End).await.unwrap();
    assert_eq!(told(echo).await, (Vec::new(), Vec::new(), 0));
    let closed = agent.session(port(&world, id, 7002)).await.err();
    assert!(matches!(&closed, Some(NodeError::Refused(said)) if said.contains("7002")), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn it_is_held_only_with_what_runs_here_and_while_it_does() {
    let world = World::new();
    let (agent, id) = serving(&world, "nc -ll -p 7001 -e cat").await;
    let good = program(&world, id, "sleep 1000");
    let other = |change: fn(&mut SessionQuery)| {
        let mut query = good.clone();
        change(&mut query);
        query
    };
    for wrong in [
        other(|query| query.generation = Generation(query.generation.0 + 1)),
        other(|query| query.instance = "77".repeat(16).parse().unwrap()),
        other(|query| {
            let SessionKind::Exec { container, .. } = &mut query.kind else { panic!("it is a program") };
            *container = ContainerName::new("other").unwrap();
        }),
    ] {
        let answer = agent.session(wrong.clone()).await.err();
        assert!(matches!(answer, Some(NodeError::NotFound(_))), "{wrong:?}: {answer:?}");
    }
    let missing = other(|query| {
        let SessionKind::Exec { command, .. } = &mut query.kind else { panic!("it is a program") };
        *command = vec!["/no/such/program".to_owned()];
    });
    let missing = agent.session(missing).await.err();
    assert!(matches!(missing, Some(NodeError::Refused(_))), "{missing:?}");

    let (talk, relay) = (begin(&agent, good.clone()).await, begin(&agent, port(&world, id, 7001)).await);
    assert_eq!(world.runtime.talking(), 1);
    world.control.ask(id, Ask::Stop);
    for cut in [all(talk).await, all(relay).await] {
        assert!(matches!(cut.as_slice(), [Err(NodeError::NotFound(_))]), "{cut:?}");
    }
    until_quiet(&world).await;
    world.until_state(id, S::Stopped).await;
    assert!(matches!(agent.session(good).await.err(), Some(NodeError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_ends_the_program_and_an_agent_that_stops_too() {
    let world = World::new();
    let (agent, id) = serving(&world, "serve").await;
    let agent = Arc::new(agent);
    let talk = begin(&agent, program(&world, id, "sleep 1000")).await;
    let endless = begin(&agent, program(&world, id, "head -c 100000000 /dev/zero")).await;
    assert_eq!(world.runtime.talking(), 2);
    let Session { input, output } = talk;
    drop(output);
    drop(endless);
    until_quiet(&world).await;
    drop(input);

    let talk = begin(&agent, program(&world, id, "sleep 1000")).await;
    agent.shut_down(Duration::from_secs(5)).await;
    let cut = all(talk).await;
    assert!(matches!(cut.as_slice(), [Err(NodeError::Unavailable(_))]), "{cut:?}");
    until_quiet(&world).await;
    assert_eq!(world.running().await.len(), 1, "containers run on");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_held_at_once() {
    let world = World::new();
    let mut config = world.config();
    config.at_once.conversations = 10;
    let agent = world.agent_with(config).await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let begun = join_all((0..10).map(|_| agent.session(program(&world, id, "cat")))).await;
    let held = begun.iter().filter(|begun| begun.is_ok()).count();
    assert_eq!(held, 5, "a tenant's share");
    assert!(begun.iter().all(|begun| matches!(begun, Ok(_) | Err(NodeError::Unavailable(_)))));
    drop(begun);
    until_quiet(&world).await;
    let mut again = begin(&agent, program(&world, id, "cat")).await;
    again.input.send(SessionInput::End).await.unwrap();
    assert_eq!(told(again).await, (Vec::new(), Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn who_attaches_hears_what_comes_from_now_on_and_leaves_the_program_alone() {
    let world = World::new();
    let (agent, id) = serving(&world, "echo before; sleep 30; echo after; sleep 1000").await;
    let kind = SessionKind::Attach { container: container(), stdin: false, tty: None };
    let query = SessionQuery { kind, ..port(&world, id, 1) };
    drop(begin(&agent, query.clone()).await);
    let mut attached = begin(&agent, query).await;
    assert_eq!(attached.output.next().await, Some(Ok(SessionOutput::Stdout(b"after\n".to_vec()))));
    drop(attached);
    assert_eq!(world.running().await.len(), 1);
}

fn attaching(world: &World, instance: InstanceId, stdin: bool) -> SessionQuery {
    let kind = SessionKind::Attach { container: container(), stdin, tty: None };
    SessionQuery { kind, ..port(world, instance, 1) }
}

/// That the instance is over is known before whoever is attached has looked at its program: it is told the end nevertheless.
#[tokio::test(start_paused = true)]
async fn who_is_attached_to_what_ends_its_instance_is_told_its_exit_code() {
    let world = World::new();
    let agent = world.agent().await;
    for (program, stdin) in [("sleep 30; echo last; exit 3", false), ("cat; exit 3", true)] {
        let spec = ContainerSpec { stdin, ..super::world::program("main", program) };
        let id =
            world.create_spec(InstanceSpec { restart_policy: RestartPolicy::Never, ..InstanceSpec::new(vec![spec]) });
        world.until_state(id, S::Running).await;
        // Many, as each looks at a moment of its own.
        let mut attached = Vec::new();
        for _ in 0..10 {
            attached.push(begin(&agent, attaching(&world, id, stdin)).await);
            tokio::time::sleep(Duration::from_millis(70)).await;
        }
        if stdin {
            for session in &mut attached {
                session.input.send(SessionInput::End).await.unwrap();
            }
            let id = world.containers().await.into_iter().find(|one| one.state == ContainerState::Running).unwrap().id;
            world.runtime.exit_container(&id, 3);
        }
        for session in attached {
            assert_eq!(told(session).await.2, 3, "{program}");
        }
        world.until_state(id, S::Failed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_last_exit_code_is_told_when_the_agent_stops() {
    let world = World::new();
    let (agent, id) = serving(&world, "trap '' TERM; serve").await;
    let attached = begin(&agent, attaching(&world, id, false)).await;
    world.control.ask(id, Ask::Stop);
    world.until("it is being stopped", |world| world.runtime.calls("StopContainer") > 0).await;
    agent.shut_down(Duration::from_mins(1)).await;
    let last = all(attached).await.pop();
    assert!(matches!(last, Some(Err(NodeError::Unavailable(_)))), "{last:?}");
}
