//! Programs inside containers: only in what runs here, and never more than the bounds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use wherry_agent_api::{ExecOutcome, ExecQuery, NodeError, NodeServices as _};
use wherry_model::lifecycle::Ask;
use wherry_model::{ContainerName, Generation, InstanceId, InstanceState as S, RestartPolicy};
use wherry_runtime::RuntimeError;
use wherry_runtime::fake::Fault;

use super::world::{World, container};

fn query(world: &World, instance: InstanceId, program: &str) -> ExecQuery {
    ExecQuery {
        instance,
        generation: world.instance(instance).generation,
        container: container(),
        command: ["sh", "-c", program].map(str::to_owned).to_vec(),
        timeout_seconds: 30,
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_ends_with_what_it_did() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let outcome = agent.exec(query(&world, id, "echo out; echo bad >&2; exit 3")).await.unwrap();
    let expected = ExecOutcome { exit_code: 3, stdout: b"out\n".to_vec(), stderr: b"bad\n".to_vec(), truncated: false };
    assert_eq!(outcome, expected);
    let much = agent.exec(query(&world, id, "head -c 3000000 /dev/zero")).await.unwrap();
    assert_eq!((much.stdout.len(), much.truncated), (ExecOutcome::MAX_OUTPUT_BYTES, true));

    let listed = world.runtime.calls("ListContainers");
    agent.exec(query(&world, id, "echo again")).await.unwrap();
    assert_eq!(world.runtime.calls("ListContainers"), listed, "what runs is known");

    let late = agent.exec(ExecQuery { timeout_seconds: 2, ..query(&world, id, "sleep 1000") }).await.unwrap();
    assert_eq!(late.exit_code, 124);
    assert!(String::from_utf8(late.stderr).unwrap().contains("within 2 s"));
    let missing = ExecQuery { command: vec!["/no/such/program".to_owned()], ..query(&world, id, "") };
    let missing = agent.exec(missing).await.unwrap();
    assert_eq!((missing.exit_code, missing.stderr.is_empty()), (126, false));
}

#[tokio::test(start_paused = true)]
async fn it_runs_only_in_what_runs_here() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let good = query(&world, id, "echo");
    let generation = good.generation;
    for wrong in [
        ExecQuery { generation: Generation(generation.0 + 1), ..good.clone() },
        ExecQuery { generation: Generation(generation.0 - 1), ..good.clone() },
        ExecQuery { container: ContainerName::new("other").unwrap(), ..good.clone() },
        ExecQuery { instance: "77".repeat(16).parse().unwrap(), ..good.clone() },
    ] {
        let answer = agent.exec(wrong.clone()).await;
        assert!(matches!(answer, Err(NodeError::NotFound(_))), "{wrong:?}: {answer:?}");
    }
    assert_eq!(world.runtime.calls("ExecSync"), 0);
    let endless = query(&world, id, "sleep 1000");
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.control.ask(id, Ask::Stop);
    };
    let (cut_short, ()) = tokio::join!(agent.exec(endless), stopping);
    assert_eq!(cut_short.unwrap().exit_code, 137);
    world.until_state(id, S::Stopped).await;
    assert!(matches!(agent.exec(good).await, Err(NodeError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_run_at_once_and_an_agent_that_stops_waits_for_none() {
    let world = World::new();
    let mut config = world.config();
    config.at_once.programs = 6;
    let agent = Arc::new(world.agent_with(config).await);
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    let all = join_all((0..20).map(|_| agent.exec(query(&world, id, "sleep 20")))).await;
    let done = all.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(done, 3, "a tenant's share");
    assert!(all.iter().all(|outcome| matches!(outcome, Ok(_) | Err(NodeError::Unavailable(_)))));

    world.runtime.inject("ExecSync", Fault::Fail(RuntimeError::Internal { message: "broken".into() }), 1);
    assert!(matches!(agent.exec(query(&world, id, "echo")).await, Err(NodeError::Unavailable(_))));
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        agent.shut_down(Duration::from_secs(5)).await;
    };
    let (outcome, ()) = tokio::join!(agent.exec(query(&world, id, "sleep 20")), stop);
    assert!(matches!(outcome, Err(NodeError::Unavailable(_))));
    assert_eq!(world.running().await.len(), 1, "containers run on");
}
