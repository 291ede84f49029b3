use std::time::Duration;

use futures_util::TryStreamExt;
use wherry_control::LogRequest;
use wherry_metering::Resource;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{EndReason, InstanceSpec, InstanceState, RestartPolicy};
use wherry_runtime::fake::Fault;
use wherry_runtime::{ContainerRuntime, Labels, RuntimeError};
use wherry_testkit::{Stack, eventually, main_container, spec};

/// A server that says that it is ready.
fn server() -> InstanceSpec {
    let mut spec = spec();
    spec.containers[0].command = ["sh", "-c", "echo ready; serve"].map(str::to_owned).to_vec();
    spec
}

async fn output(stack: &Stack, run: i64) -> String {
    let acme = stack.acme();
    let request = LogRequest { run: Some(run), ..LogRequest::default() };
    let (control, main) = (stack.control(), main_container());
    let chunks = control.instance_logs(&acme.principal, &acme.project, "web", &main, request).await.unwrap();
    let chunks: Vec<Vec<u8>> = chunks.try_collect().await.unwrap();
    String::from_utf8(chunks.concat()).unwrap()
}

async fn until_nothing_is_left(stack: &mut Stack) {
    let node = stack.real();
    eventually("the machine is as it was", || async {
        let left = node.leftovers().await;
        left.is_empty().then_some(())
    })
    .await;
    wherry_store_contract::invariants::check(&stack.store()).await.unwrap();
    assert!(stack.zone().records().is_empty());
}

#[tokio::test]
async fn from_create_to_delete() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    let created = stack.create(&acme, "web", server()).await;
    let running = stack.until(&acme, "web", InstanceState::Running).await;
    assert!(running.instance.address.is_some());
    assert_eq!(stack.zone().lookup(&created.fqdn), running.instance.address);
    assert_eq!(output(&stack, 0).await, "ready\n");
    assert_eq!(stack.real().running().await, [created.instance.id]);

    stack.control().stop_instance(&acme.principal, &acme.project, "web").await.unwrap();
    let stopped = stack.until(&acme, "web", InstanceState::Stopped).await;
    assert_eq!(stopped.instance.reason, Some(EndReason::StoppedByUser));
    assert!(stack.zone().records().is_empty() && stack.real().running().await.is_empty());
    assert_eq!(output(&stack, 0).await, "ready\n", "the output of what was stopped is kept");

    let again = stack.control().start_instance(&acme.principal, &acme.project, "web").await.unwrap();
    assert_eq!(again.instance.first_run, 2);
    let running = stack.until(&acme, "web", InstanceState::Running).await;
    assert_eq!(stack.zone().lookup(&created.fqdn), running.instance.address);
    assert_eq!(output(&stack, -1).await, "ready\n");

    stack.control().delete_instance(&acme.principal, &acme.project, "web").await.unwrap();
    let gone = stack.until(&acme, &created.instance.id.to_string(), InstanceState::Deleted).await;
    assert!(!gone.instance.holds_resources);
    until_nothing_is_left(&mut stack).await;
}

#[tokio::test]
async fn a_container_that_fails_is_restarted_and_not_billed_in_between() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    let web = stack.create(&acme, "web", server()).await.instance;
    stack.until(&acme, "web", InstanceState::Running).await;
    stack.let_pass(Duration::from_millis(2_500)).await;
    assert!(stack.real().exit(web.id, 1).await);
    let waiting = stack.until(&acme, "web", InstanceState::Starting).await;
    assert_eq!(stack.zone().lookup(&waiting.fqdn), None);
    let ended = waiting.instance.containers[0].latest_run().unwrap().end.clone().unwrap();
    let restart_at = waiting.instance.containers[0].restart_at.unwrap();
    assert!(restart_at > ended.finished_at);
    stack.let_pass(Duration::from_secs(2)).await;
    let running = stack.until(&acme, "web", InstanceState::Running).await;
    assert_eq!((running.instance.containers[0].restart_count, running.instance.containers[0].runs.len()), (1, 2));
    assert!(running.instance.containers[0].runs[1].started_at >= restart_at);

    let mut once = server();
    once.restart_policy = RestartPolicy::Never;
    let once = stack.create(&acme, "once", once).await.instance;
    stack.until(&acme, "once", InstanceState::Running).await;
    assert!(stack.real().exit(once.id, 0).await);
    stack.until(&acme, "once", InstanceState::Succeeded).await;
    let (control, runs) = (stack.control(), &stack.read(&acme, "web").await.instance.containers[0].runs);
    let usage = control.instance_usage(&acme.principal, &acme.project, "web").await.unwrap();
    let first = runs[0].end.as_ref().unwrap().finished_at.grid_second() - runs[0].started_at.grid_second();
    let first_line = usage.bill.lines.iter().find(|line| line.kind == MeterKind::Run && line.number == 1).unwrap();
    assert_eq!((first_line.resource, first_line.seconds), (Resource::Cpu, first));
}

#[tokio::test]
async fn of_two_the_one_that_cannot_be_read_alone_is_stale() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    for name in ["one", "two"] {
        stack.create(&acme, name, server()).await;
        stack.until(&acme, name, InstanceState::Running).await;
    }
    let broken = Fault::Fail(RuntimeError::Internal { message: "broken".to_owned() });
    stack.real().engine().inject("Usage", broken, 1);
    let used = stack.control().project_stats(&acme.principal, &acme.project).await.unwrap();
    let mut told: Vec<_> = used.items.iter().map(|one| (one.stale, one.stats.is_some())).collect();
    told.sort_unstable();
    assert_eq!(told, [(false, true), (true, false)], "{used:#?}");
}

#[tokio::test]
async fn who_comes_back_adopts_what_runs() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    stack.create(&acme, "web", server()).await;
    let before = stack.until(&acme, "web", InstanceState::Running).await.instance;
    let containers = stack.real().engine().list_containers(&Labels::new()).await.unwrap();
    for round in 0..4 {
        if round % 2 == 0 {
            stack.restart_agent(0).await;
        }
        if round > 0 {
            stack.reopen().await;
        }
        stack.real().heard().await;
        let now = stack.real().engine().list_containers(&Labels::new()).await.unwrap();
        assert_eq!(now, containers, "round {round}");
        let after = stack.until(&acme, "web", InstanceState::Running).await.instance;
        assert_eq!((&after.containers, after.address), (&before.containers, before.address), "round {round}");
        assert_eq!(output(&stack, 0).await, "ready\n");
    }
}

#[tokio::test]
async fn what_ends_while_both_are_away_is_told_afterwards() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    let mut spec = server();
    spec.restart_policy = RestartPolicy::Never;
    let web = stack.create(&acme, "web", spec).await.instance;
    stack.until(&acme, "web", InstanceState::Running).await;
    stack.real().crash().await;
    stack.crash();
    stack.let_pass(Duration::from_secs(3)).await;
    assert!(stack.real().exit(web.id, 7).await);
    stack.let_pass(Duration::from_secs(3)).await;
    stack.restart().await;
    stack.restart_agent(0).await;
    let failed = stack.until(&acme, "web", InstanceState::Failed).await.instance;
    let run = failed.containers[0].latest_run().unwrap();
    let end = run.end.as_ref().unwrap();
    assert_eq!((end.exit_code, failed.reason), (7, Some(EndReason::Exited)));
    let control = stack.control();
    let usage = control.instance_usage(&acme.principal, &acme.project, "web").await.unwrap();
    let seconds = usage.bill.quantity(MeterKind::Run, Resource::Cpu) / 250;
    assert_eq!(seconds, i128::from(end.finished_at.grid_second() - run.started_at.grid_second()));
    assert!((3..=4).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn an_engine_that_does_not_answer_means_silence_and_comes_back() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    stack.create(&acme, "web", server()).await;
    let running = stack.until(&acme, "web", InstanceState::Running).await;
    stack.real().engine().set_engine_down(true);
    eventually("its instances become unknown", || async {
        stack.let_pass(Duration::from_secs(4)).await;
        stack.background().await;
        (stack.read(&acme, "web").await.instance.state == InstanceState::Unknown).then_some(())
    })
    .await;
    assert_eq!(stack.zone().lookup(&running.fqdn), None);
    stack.real().engine().set_engine_down(false);
    let back = stack.until(&acme, "web", InstanceState::Running).await;
    assert_eq!(back.instance.containers, running.instance.containers);
    assert_eq!(stack.zone().lookup(&running.fqdn), running.instance.address);
}

#[tokio::test]
async fn an_image_that_does_not_exist_fails_with_its_name() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    let mut spec = spec();
    spec.containers[0].image = "registry.example/demo/none:1".parse().unwrap();
    let made = stack.create(&acme, "web", spec).await.instance;
    let failed = stack.until(&acme, "web", InstanceState::Failed).await.instance;
    assert_eq!(failed.reason, Some(EndReason::ImagePullFailed));
    assert!(failed.message.as_ref().is_some_and(|message| message.contains("demo/none")), "{:?}", failed.message);
    let control = stack.control();
    let usage = control.instance_usage(&acme.principal, &acme.project, "web").await.unwrap();
    assert_eq!(usage.bill.total.0, 0);
    control.delete_instance(&acme.principal, &acme.project, "web").await.unwrap();
    stack.until(&acme, &made.id.to_string(), InstanceState::Deleted).await;
    until_nothing_is_left(&mut stack).await;
}

#[tokio::test]
async fn nothing_is_billed_past_an_end_that_was_not_told_in_time() {
    let mut stack = Stack::with_real_agent().await;
    let acme = stack.acme().clone();
    let mut spec = server();
    spec.restart_policy = RestartPolicy::Never;
    let web = stack.create(&acme, "web", spec).await.instance;
    stack.until(&acme, "web", InstanceState::Running).await;
    stack.let_pass(Duration::from_secs(3)).await;
    stack.line().refuse_reports(true);
    assert!(stack.real().exit(web.id, 0).await);
    // Heartbeats arrive all the while; then nothing does, until the node is given up.
    for _ in 0..10 {
        stack.let_pass(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(stack.read(&acme, "web").await.instance.state, InstanceState::Running);
    stack.real().crash().await;
    // A proof of life that was under way is taken before time passes.
    stack.quiet().await;
    stack.let_pass(Duration::from_secs(16)).await;
    stack.background().await;
    assert_eq!(stack.read(&acme, "web").await.instance.state, InstanceState::Unknown);
    stack.line().refuse_reports(false);
    stack.restart_agent(0).await;
    let ended = stack.until(&acme, "web", InstanceState::Succeeded).await.instance;
    let run = ended.containers[0].latest_run().unwrap();
    let ran = run.end.as_ref().unwrap().finished_at.grid_second() - run.started_at.grid_second();
    let usage = stack.control().instance_usage(&acme.principal, &acme.project, "web").await.unwrap();
    assert_eq!(usage.bill.quantity(MeterKind::Run, Resource::Cpu) / 250, i128::from(ran));
}
