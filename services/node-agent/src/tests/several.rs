//! Instances of several containers: their beginning, their order, what ends them, and what ends one of them.

use std::time::Duration;

use wherry_model::lifecycle::Ask;
use wherry_model::{
    Check, Condition, ContainerKind, ContainerName, ContainerSpec, Dependency, EndReason, Fact, Hooks, InstanceId,
    InstanceSpec, InstanceState as S, Probe, Probes, RestartPolicy, Seconds,
};
use wherry_runtime::fake::FakeImage;
use wherry_runtime::{ContainerRuntime as _, Labels, RuntimeError};

use super::world::{IMAGE, World, program};

fn init(name: &str, text: &str) -> ContainerSpec {
    ContainerSpec { kind: ContainerKind::Init, ..program(name, text) }
}

fn after(spec: ContainerSpec, other: &str, condition: Condition) -> ContainerSpec {
    let container = ContainerName::new(other).unwrap();
    ContainerSpec { depends_on: vec![Dependency { container, condition }], ..spec }
}

fn probe(check: Check) -> Probe {
    Probe {
        check,
        initial_delay: Seconds(0),
        period: Seconds(1),
        timeout: Seconds(1),
        success_threshold: 1,
        failure_threshold: 2,
    }
}

fn exec(text: &str) -> Check {
    Check::Exec { command: ["sh", "-c", text].map(str::to_owned).to_vec() }
}

fn of(containers: Vec<ContainerSpec>, restart_policy: RestartPolicy) -> InstanceSpec {
    InstanceSpec { restart_policy, ..InstanceSpec::new(containers) }
}

/// Starts and ends in the order in which they happened.
fn story(world: &World, id: InstanceId) -> Vec<String> {
    let facts = world.control.facts(id);
    let word = |fact: &Fact| match fact {
        Fact::ContainerStarted { container, run, .. } => Some(format!("{container}.{run} starts")),
        Fact::ContainerExited { container, run, exit, .. } => {
            Some(format!("{container}.{run} {}", exit.reason.as_str()))
        }
        Fact::Readiness { container, ready, .. } => Some(format!("{container} ready: {ready}")),
        _ => None,
    };
    facts.iter().filter_map(word).collect()
}

fn since(world: &World, before: Duration) -> Duration {
    world.elapsed().saturating_sub(before)
}

fn runs(world: &World, id: InstanceId, container: usize) -> usize {
    world.instance(id).containers[container].runs.len()
}

#[tokio::test(start_paused = true)]
async fn the_beginning_goes_first_one_by_one_and_then_all() {
    let world = World::new();
    let _agent = world.agent().await;
    let all = vec![init("one", "sleep 2"), init("two", "sleep 3"), program("web", "serve"), program("side", "serve")];
    let id = world.create_spec(of(all, RestartPolicy::Always));
    world.until("all run", |w| w.instance(id).is_ready()).await;
    assert_eq!(
        story(&world, id),
        ["one.1 starts", "one.1 exited", "two.1 starts", "two.1 exited", "web.1 starts", "side.1 starts"]
    );
    assert!(world.elapsed() < Duration::from_secs(6), "{:?}", world.elapsed());
    assert_eq!(world.runtime.list_sandboxes(&Labels::new()).await.unwrap().len(), 1);
    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;
}

#[tokio::test(start_paused = true)]
async fn a_beginning_that_fails_is_tried_again_by_policy_and_ends_the_instance_by_never() {
    let world = World::new();
    let _agent = world.agent().await;
    let all = |text| vec![init("prepare", text), program("web", "serve")];
    let again = world.create_spec(of(all("exit 1"), RestartPolicy::OnFailure));
    world.until("it is tried again", |w| runs(w, again, 0) >= 3).await;
    assert_eq!(runs(&world, again, 1), 0);
    let never = world.create_spec(of(all("exit 1"), RestartPolicy::Never));
    world.until_state(never, S::Failed).await;
    let failed = world.instance(never);
    assert_eq!(failed.reason, Some(EndReason::DependencyFailed));
    let message = failed.message.unwrap();
    assert!(message.contains("web") && message.contains("prepare"), "{message}");
    world.until("resources are back", |w| !w.instance(never).holds_resources).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_the_beginning_comes_first_again_and_a_completed_one_does_not() {
    let world = World::new();
    let agent = world.agent().await;
    let web = after(program("web", "serve"), "migrate", Condition::Completed);
    let all = vec![init("prepare", "sleep 1"), program("migrate", "sleep 1"), web];
    let id = world.create_spec(of(all, RestartPolicy::Always));
    world.until("it runs", |w| runs(w, id, 2) == 1).await;
    agent.shut_down(Duration::from_secs(5)).await;
    world.runtime.reboot();
    let _agent = world.agent().await;
    world.until("it runs again", |w| runs(w, id, 2) == 2).await;
    assert_eq!((runs(&world, id, 0), runs(&world, id, 1)), (2, 1));
    let story = story(&world, id);
    let place = |what: &str| story.iter().position(|word| word == what).unwrap();
    assert!(place("prepare.2 exited") < place("web.2 starts"), "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn each_waits_for_what_it_depends_on() {
    let world = World::new();
    let _agent = world.agent().await;
    let ready =
        Probes { readiness: Some(Probe { initial_delay: Seconds(4), ..probe(exec("exit 0")) }), ..Probes::default() };
    let db = ContainerSpec { probes: ready, ..program("db", "serve") };
    let all = vec![
        after(program("web", "serve"), "migrate", Condition::Completed),
        after(program("migrate", "sleep 2"), "db", Condition::Healthy),
        db,
        after(program("side", "serve"), "web", Condition::Started),
    ];
    let id = world.create_spec(of(all, RestartPolicy::Always));
    world.until("all run", |w| w.instance(id).is_ready()).await;
    let expected =
        ["db.1 starts", "db ready: true", "migrate.1 starts", "migrate.1 exited", "web.1 starts", "side.1 starts"];
    assert_eq!(story(&world, id), expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_in_vain_ends_what_runs_and_is_named() {
    let world = World::new();
    let _agent = world.agent().await;
    let all = vec![
        program("side", "serve"),
        program("migrate", "sleep 3; exit 4"),
        after(program("web", "serve"), "migrate", Condition::Completed),
    ];
    let id = world.create_spec(of(all, RestartPolicy::Never));
    world.until_state(id, S::Failed).await;
    let failed = world.instance(id);
    assert_eq!(failed.reason, Some(EndReason::DependencyFailed));
    let message = failed.message.clone().unwrap();
    assert!(message.contains("web") && message.contains("migrate"), "{message}");
    assert_eq!(
        story(&world, id),
        ["side.1 starts", "migrate.1 starts", "migrate.1 exited", "side.1 dependency_failed"]
    );
    assert!(!failed.any_container_runs());
}

#[tokio::test(start_paused = true)]
async fn no_container_waits_for_the_image_of_another() {
    let world = World::new();
    let slow = "r.example/slow:1";
    world.runtime.publish(slow, FakeImage { pull_delay: Duration::from_mins(2), ..FakeImage::default() });
    let _agent = world.agent().await;
    let late = ContainerSpec { image: slow.parse().unwrap(), ..program("late", "serve") };
    let later =
        ContainerSpec { image: slow.parse().unwrap(), ..after(program("later", "serve"), "late", Condition::Started) };
    let id = world.create_spec(of(vec![program("web", "sleep 5; exit 1"), late, later], RestartPolicy::Always));
    world.until("web is restarted meanwhile", |w| runs(w, id, 0) >= 3).await;
    assert!(world.elapsed() < Duration::from_mins(1));
    assert_eq!(world.instance(id).state, S::Running);
    assert_eq!(runs(&world, id, 1), 0);
    world.until("the others come", |w| runs(w, id, 1) == 1 && runs(w, id, 2) == 1).await;
    assert!(world.elapsed() < Duration::from_secs(130), "both were pulled at the same time: {:?}", world.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_exist_ends_the_others_too() {
    let world = World::new();
    let _agent = world.agent().await;
    let lost = ContainerSpec { image: "r.example/lost:1".parse().unwrap(), ..program("lost", "serve") };
    let id = world.create_spec(of(vec![program("web", "serve"), lost], RestartPolicy::Always));
    world.until_state(id, S::Failed).await;
    assert_eq!(world.instance(id).reason, Some(EndReason::ImagePullFailed));
    world.until("nothing is left", |w| !w.instance(id).holds_resources).await;
    assert_eq!(world.running().await, []);
}

#[tokio::test(start_paused = true)]
async fn max_restarts_are_counted_for_each_container() {
    let world = World::new();
    let _agent = world.agent().await;
    let all = vec![program("a", "sleep 1; exit 1"), program("b", "sleep 60; exit 1")];
    let id = world.create_spec(InstanceSpec { max_restarts: Some(2), ..of(all, RestartPolicy::Always) });
    world.until_state(id, S::Failed).await;
    assert_eq!((runs(&world, id, 0), runs(&world, id, 1)), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_one_container_leaves_the_others_alone() {
    let world = World::new();
    let agent = world.agent().await;
    let all = vec![program("web", "serve"), program("side", "serve"), program("job", "sleep 1")];
    let id = world.create_spec(InstanceSpec { max_restarts: Some(0), ..of(all, RestartPolicy::Never) });
    world
        .until("the job is done", |w| w.instance(id).containers[2].latest_run().is_some_and(|run| run.end.is_some()))
        .await;
    let address = world.instance(id).address;
    let before = world.elapsed();
    world.control.edit(id, |instance| instance.containers[0].revision += 1);
    world.until("it was restarted", |w| runs(w, id, 0) == 2).await;
    assert!(since(&world, before) < Duration::from_millis(500), "without a wait");
    let end = world.instance(id).containers[0].runs[0].end.clone().unwrap();
    assert_eq!(end.reason, EndReason::Restarted);
    world.control.edit(id, |instance| instance.containers[2].revision += 1);
    world.until("the job ran again", |w| runs(w, id, 2) == 2).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!([0, 1, 2].map(|index| runs(&world, id, index)), [2, 1, 2]);
    assert_eq!((world.instance(id).address, world.instance(id).state), (address, S::Running));
    agent.shut_down(Duration::from_secs(5)).await;
    let _agent = world.agent().await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!([0, 1, 2].map(|index| runs(&world, id, index)), [2, 1, 2], "an agent that comes back restarts nothing");
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_asked_for_does_not_wait_for_the_back_off() {
    let world = World::new();
    let _agent = world.agent().await;
    let id = world.create_spec(of(vec![program("web", "exit 1"), program("side", "serve")], RestartPolicy::Always));
    world.until("the wait is long", |w| runs(w, id, 0) == 7).await;
    let before = world.elapsed();
    world.control.edit(id, |instance| instance.containers[0].revision += 1);
    world
        .until("it was restarted", |w| w.instance(id).containers[0].latest_run().is_some_and(|run| run.number == 8))
        .await;
    assert!(since(&world, before) < Duration::from_millis(500), "{:?}", since(&world, before));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_it_with_the_control_plane_away_and_after_a_restart() {
    let world = World::new();
    let agent = world.agent().await;
    let all = vec![program("web", "serve"), program("job", "sleep 1")];
    let id = world.create_spec(InstanceSpec { deadline_seconds: Some(60), ..of(all, RestartPolicy::Always) });
    world.until_state(id, S::Running).await;
    agent.shut_down(Duration::from_secs(5)).await;
    world.control.set_away(true);
    let _agent = world.agent().await;
    let deadline = world.instance(id).started_at.unwrap().plus(Duration::from_mins(1));
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(world.running().await, []);
    world.control.set_away(false);
    world.until_state(id, S::Failed).await;
    let failed = world.instance(id);
    assert_eq!(failed.reason, Some(EndReason::DeadlineExceeded));
    let end = failed.containers[0].latest_run().unwrap().end.clone().unwrap();
    assert_eq!(end.reason, EndReason::DeadlineExceeded);
    assert!(end.finished_at >= deadline && end.finished_at.since(deadline) < Duration::from_secs(2));
    world.until("nothing is left", |w| !w.instance(id).holds_resources).await;
}

#[tokio::test(start_paused = true)]
async fn readiness_is_said_when_it_changes_and_liveness_ends_a_container() {
    let world = World::new();
    let _agent = world.agent().await;
    let http = Check::Http { port: 8080, path: "/".into(), tls: false, headers: vec![] };
    let probes = Probes { readiness: Some(probe(Check::Tcp { port: 7007 })), ..Probes::default() };
    let echo = ContainerSpec { probes, ..program("echo", "nc -ll -p 7007 -e cat") };
    let probes = Probes { liveness: Some(probe(http)), ..Probes::default() };
    let deaf = ContainerSpec { probes, ..program("deaf", "serve") };
    let id = world.create_spec(of(vec![echo, deaf], RestartPolicy::OnFailure));
    world.until("it is restarted", |w| runs(w, id, 1) == 2).await;
    let instance = world.instance(id);
    let end = instance.containers[1].runs[0].end.clone().unwrap();
    assert_eq!(end.reason, EndReason::ProbeFailed);
    assert!(end.message.as_deref().unwrap().contains("nothing listens on port 8080"), "{end:?}");
    assert!(instance.containers[0].is_ready());
    let said = story(&world, id).iter().filter(|word| word.starts_with("echo")).count();
    assert_eq!(said, 2, "a start and one word of readiness");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_probes_on_and_restarts_nothing() {
    let world = World::new();
    let agent = world.agent().await;
    let probes = Probes {
        startup: Some(probe(exec("exit 0"))),
        liveness: Some(probe(exec("exit 0"))),
        readiness: Some(probe(Check::Tcp { port: 7007 })),
    };
    let echo = ContainerSpec { probes, ..program("echo", "nc -ll -p 7007 -e cat") };
    let id = world.create_spec(of(vec![echo], RestartPolicy::Always));
    world.until("it is ready", |w| w.instance(id).is_ready()).await;
    agent.shut_down(Duration::from_secs(5)).await;
    let _agent = world.agent().await;
    let execs = world.runtime.calls("ExecSync");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(world.runtime.calls("ExecSync") >= execs + 50, "it is probed on");
    assert_eq!(story(&world, id), ["echo.1 starts", "echo ready: true"]);
}

#[tokio::test(start_paused = true)]
async fn slow_probes_of_one_tenant_delay_no_other_instance() {
    let world = World::new();
    let _agent = world.agent().await;
    for _ in 0..8 {
        let slow = Probe { timeout: Seconds(3600), ..probe(exec("sleep 3000")) };
        let probes = Probes { liveness: Some(slow), ..Probes::default() };
        let containers = (0..4).map(|n| ContainerSpec { probes: probes.clone(), ..program(&format!("c{n}"), "serve") });
        world.create_spec(of(containers.collect(), RestartPolicy::Always));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let probes = Probes { liveness: Some(probe(Check::Tcp { port: 9 })), ..Probes::default() };
    let id = world.create_spec(of(vec![ContainerSpec { probes, ..program("deaf", "serve") }], RestartPolicy::Always));
    world.until_state(id, S::Running).await;
    let began = world.elapsed();
    world.until("its probe ends it", |w| runs(w, id, 0) == 2).await;
    assert!(since(&world, began) < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_fails_no_probe() {
    let world = World::new();
    let _agent = world.agent().await;
    let probes = Probes { liveness: Some(probe(exec("exit 0"))), ..Probes::default() };
    let id = world.create_spec(of(vec![ContainerSpec { probes, ..program("web", "serve") }], RestartPolicy::Always));
    world.until_state(id, S::Running).await;
    world.runtime.inject(
        "ExecSync",
        wherry_runtime::fake::Fault::Fail(RuntimeError::Unavailable { message: "x".into() }),
        30,
    );
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(story(&world, id), ["web.1 starts"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_after_a_start_comes_before_it_counts_and_a_failure_ends_it() {
    let world = World::new();
    let _agent = world.agent().await;
    let greeted = |text: &str| Hooks { post_start: Some(exec(text)), pre_stop: None };
    let web = ContainerSpec { hooks: greeted("sleep 5"), ..program("web", "serve") };
    let side = after(program("side", "serve"), "web", Condition::Started);
    let id = world.create_spec(of(vec![web, side], RestartPolicy::Always));
    world.until("both run", |w| runs(w, id, 1) == 1).await;
    let instance = world.instance(id);
    let started = |index: usize| instance.containers[index].runs[0].started_at;
    assert!(started(1).since(started(0)) >= Duration::from_secs(5));
    let bad = ContainerSpec { hooks: greeted("echo broken >&2; exit 2"), ..program("web", "serve") };
    let id = world.create_spec(of(vec![bad], RestartPolicy::Never));
    world.until_state(id, S::Failed).await;
    let failed = world.instance(id);
    assert_eq!(failed.reason, Some(EndReason::HookFailed));
    assert!(failed.message.as_deref().unwrap().contains("broken"), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_done_before_an_end_and_the_signal_are_within_the_grace() {
    let world = World::new();
    let _agent = world.agent().await;
    let pre_stop = |text: &str| Hooks { post_start: None, pre_stop: Some(exec(text)) };
    let polite = ContainerSpec {
        hooks: pre_stop("sleep 3"),
        stop_signal: Some("SIGUSR1".into()),
        ..program("polite", "trap 'exit 7' USR1; serve")
    };
    let deaf =
        ContainerSpec { hooks: pre_stop("sleep 4"), stop_signal: Some("SIGINT".into()), ..program("deaf", "serve") };
    let id = world.create_spec(of(vec![polite, deaf], RestartPolicy::Always));
    world.until("both run", |w| w.instance(id).is_ready()).await;
    let began = world.elapsed();
    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    let took = since(&world, began);
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(12), "{took:?}");
    let instance = world.instance(id);
    let ends = [0, 1].map(|index: usize| instance.containers[index].runs[0].end.clone().unwrap());
    assert_eq!(ends.each_ref().map(|end| end.exit_code), [7, 137]);
    assert!(ends.iter().all(|end| end.reason == EndReason::StoppedByUser));
    assert_eq!(world.instance(id).spec.containers[0].image.to_string(), IMAGE);
}
