//! Probes, hooks, stop signals, deadlines and restarts: what is asked of containers and what comes of the answers.

use wherry_api_types::{
    Condition, ContainerRun, ContainerSpec, EndReason, Hook, HttpCheck, Instance, InstanceState, Probe, RestartPolicy,
    TcpCheck,
};

use crate::several::{SOON, after, began, command, container, ended, of, one, probe, until};
use crate::support::{PROJECT, World, dns, eventually};

const STAY: &str = "sleep 999 & wait";

fn http(port: u16, path: &str) -> HttpCheck {
    HttpCheck { port, path: Some(path.to_owned()), scheme: None, headers: Vec::new() }
}

fn exec_probe(failures: u32, script: &str) -> Probe {
    Probe { exec: Some(command(script)), ..probe(failures) }
}

fn exec_hook(script: &str) -> Hook {
    Hook { exec: Some(command(script)), ..Hook::default() }
}

fn last(instance: &Instance, name: &str) -> ContainerRun {
    container(instance, name).runs.last().unwrap_or_else(|| panic!("{name} never ran: {instance:#?}")).clone()
}

/// Runs `script` in a container, which must succeed.
async fn inside(world: &World, name: &str, container: &str, script: &str) {
    world.wherry.cli(&["exec", "-c", container, name, "--", "sh", "-c", script]).await.well();
}

fn answers(world: &World, instance: &Instance) -> usize {
    dns::over_udp(world.wherry.dns, &instance.fqdn).addresses.len()
}

/// Until its name is answered with so many addresses.
async fn answered(world: &World, instance: &Instance, addresses: usize) {
    let what = format!("{addresses} addresses for {}", instance.fqdn);
    eventually(&what, SOON, async || (answers(world, instance) == addresses).then_some(())).await;
}

#[tokio::test]
async fn a_name_answers_while_its_instance_is_ready() {
    let world = World::start().await;
    let is_ready = Some(exec_probe(1, "test -f /tmp/ready"));
    let web = ContainerSpec { readiness_probe: is_ready, ..one(&world, "web", STAY) };
    let shy = of("shy", vec![web.clone(), one(&world, "side", STAY)], RestartPolicy::Always);
    let mut bold = of("bold", vec![web], RestartPolicy::Always);
    bold.publish_unready = true;
    world.create(&shy).await;
    world.create(&bold).await;

    let bold = until(&world, "it runs", "bold", |now| now.state == InstanceState::Running).await;
    answered(&world, &bold, 1).await;
    assert!(!world.get("bold").await.ready);
    // Long after it runs, still nothing: both were asked for at the same time and the other one is answered.
    let all_run = |now: &Instance| now.containers.iter().all(|one| !one.runs.is_empty());
    let shy = until(&world, "all run", "shy", all_run).await;
    assert!(!shy.ready && answers(&world, &shy) == 0, "{shy:#?}");
    inside(&world, "shy", "web", "touch /tmp/ready").await;
    answered(&world, &shy, 1).await;
    let ready = until(&world, "it is ready", "shy", |now| now.ready).await;
    assert!(container(&ready, "web").ready && ready.state == InstanceState::Running);
    inside(&world, "shy", "web", "rm /tmp/ready").await;
    answered(&world, &shy, 0).await;
    let unready = until(&world, "it is not ready", "shy", |now| !now.ready).await;
    assert_eq!((unready.state, &unready.address), (InstanceState::Running, &shy.address), "{unready:#?}");
    assert_eq!(container(&unready, "web").runs.len(), 1, "readiness ends nothing: {unready:#?}");
    world.finish().await;
}

#[tokio::test]
async fn probes_of_every_kind_decide_over_readiness_and_restarts() {
    let world = World::start().await;
    let alive = Some(Probe { http: Some(http(8081, "/alive")), ..probe(2) });
    let serve = "mkdir /www; touch /www/alive; httpd -f -p 8081 -h /www & wait";
    let listens = Some(Probe { tcp: Some(TcpCheck { port: 8082 }), ..probe(1) });
    let all = vec![
        // Alive until its page is gone.
        ContainerSpec {
            startup_probe: Some(Probe { failure_threshold: Some(60), ..alive.clone().unwrap() }),
            liveness_probe: alive,
            ..one(&world, "http", serve)
        },
        // Ready when somebody listens.
        ContainerSpec { readiness_probe: listens, ..one(&world, "tcp", "sleep 1; nc -ll -p 8082 -e cat & wait") },
        // Its first second would have been its last without a startup probe.
        ContainerSpec {
            startup_probe: Some(exec_probe(60, "test -f /tmp/up")),
            liveness_probe: Some(exec_probe(1, "test -f /tmp/up")),
            ..one(&world, "slow", "sleep 3; touch /tmp/up; sleep 999 & wait")
        },
    ];
    world.create(&of("kinds", all, RestartPolicy::OnFailure)).await;
    let stuck =
        ContainerSpec { startup_probe: Some(exec_probe(2, "echo not yet >&2; exit 1")), ..one(&world, "main", STAY) };
    let mut create = of("stuck", vec![stuck], RestartPolicy::OnFailure);
    create.max_restarts = Some(1);
    let failed = world.run_to_end(&create).await;
    assert_eq!((failed.state, failed.reason), (InstanceState::Failed, Some(EndReason::ProbeFailed)), "{failed:#?}");
    assert!(last(&failed, "main").message.unwrap_or_default().contains("not yet"), "{failed:#?}");
    assert_eq!(container(&failed, "main").runs.len(), 2);

    let kinds = until(&world, "all are ready", "kinds", |now| now.ready).await;
    for one in &kinds.containers {
        assert_eq!(one.runs.len(), 1, "{one:#?}");
    }
    inside(&world, "kinds", "http", "rm /www/alive").await;
    let again = |now: &Instance| now.ready && container(now, "http").runs.len() == 2;
    let kinds = until(&world, "http runs again", "kinds", again).await;
    let first = &container(&kinds, "http").runs[0];
    assert_eq!(first.reason, Some(EndReason::ProbeFailed), "{first:#?}");
    assert!(first.message.as_deref().unwrap_or_default().contains("404"), "{first:#?}");
    assert_eq!([container(&kinds, "tcp").runs.len(), container(&kinds, "slow").runs.len()], [1, 1], "{kinds:#?}");
    world.finish().await;
}

#[tokio::test]
async fn hooks_signals_deadlines_and_counted_restarts() {
    let world = World::start().await;
    let print = |word: &str| format!("echo {word} > /proc/1/fd/1");
    let polite = ContainerSpec {
        post_start: Some(exec_hook(&format!("{}; sleep 1", print("GREETED")))),
        pre_stop: Some(exec_hook(&format!("{}; sleep 1", print("WARNED")))),
        stop_signal: Some("SIGUSR1".to_owned()),
        ..one(&world, "polite", "trap 'echo SIGNALLED; exit 7' USR1; sleep 999 & wait")
    };
    // Nobody listens at first.
    let late = ContainerSpec {
        post_start: Some(Hook { http: Some(http(8083, "/hello")), ..Hook::default() }),
        ..one(&world, "late", "mkdir /www; touch /www/hello; sleep 1; httpd -f -vv -p 8083 -h /www & wait")
    };
    let side = after(one(&world, "side", STAY), "polite", Condition::Started);
    world.create(&of("hooked", vec![polite, late, side], RestartPolicy::Always)).await;
    let rude = ContainerSpec { post_start: Some(exec_hook("echo broken >&2; exit 2")), ..one(&world, "main", STAY) };
    world.create(&of("rude", vec![rude], RestartPolicy::Never)).await;
    let mut counted = of("counted", vec![one(&world, "main", "exit 1")], RestartPolicy::OnFailure);
    counted.max_restarts = Some(2);
    world.create(&counted).await;
    let mut short = of("short", vec![one(&world, "a", STAY), one(&world, "b", STAY)], RestartPolicy::Always);
    // Both must have begun by then, on a busy machine.
    short.deadline_seconds = Some(10);
    world.create(&short).await;

    let hooked = until(&world, "all are ready", "hooked", |now| now.ready).await;
    let waited = began(&last(&hooked, "side")).duration_since(began(&last(&hooked, "polite")));
    assert!(waited.as_millis() >= 1_000, "who waits for a start waits for what is done after it: {waited}");
    assert!(world.wherry.cli(&["logs", "-c", "late", "hooked"]).await.well().contains("/hello"));
    // Its shell has said what it does with the signal once it runs something else.
    inside(&world, "hooked", "side", "until grep -qx sleep /proc/[0-9]*/comm; do sleep 0.1; done").await;
    world.client.stop_instance(PROJECT, "hooked").await.unwrap();
    let stopped = world.reach("hooked", InstanceState::Stopped).await;
    let run = last(&stopped, "polite");
    assert_eq!((run.exit_code, run.reason), (Some(7), Some(EndReason::StoppedByUser)), "{run:#?}");
    assert_eq!(last(&stopped, "side").exit_code, Some(0), "{stopped:#?}");
    let printed = world.wherry.cli(&["logs", "-c", "polite", "hooked"]).await.well();
    assert_eq!(printed.lines().collect::<Vec<_>>(), ["GREETED", "WARNED", "SIGNALLED"]);

    let rude = world.reach("rude", InstanceState::Failed).await;
    assert_eq!(rude.reason, Some(EndReason::HookFailed), "{rude:#?}");
    assert!(rude.message.as_deref().unwrap_or_default().contains("broken"), "{rude:#?}");

    let counted = world.reach("counted", InstanceState::Failed).await;
    let runs = &container(&counted, "main").runs;
    assert_eq!((runs.len(), container(&counted, "main").restart_count), (3, 2), "{counted:#?}");
    for (before, least_ms) in [(0, 1_000), (1, 2_000)] {
        let waited = began(&runs[before + 1]).duration_since(ended(&runs[before]));
        assert!(waited.as_millis() >= least_ms, "restart {} came after {waited}", before + 1);
    }

    let short = world.reach("short", InstanceState::Failed).await;
    assert_eq!(short.reason, Some(EndReason::DeadlineExceeded), "{short:#?}");
    let all_ended = short.containers.iter().map(|one| one.runs[0].reason);
    assert_eq!(all_ended.collect::<Vec<_>>(), [Some(EndReason::DeadlineExceeded); 2]);
    let lived = ended(&last(&short, "a")).duration_since(crate::several::time(short.started_at.as_ref().unwrap()));
    assert!(lived.as_millis() >= 10_000, "it was ended {lived} after its start");
    world.finish().await;
}

/// The lines that probes of the container `main` have printed in its first run.
async fn asked(world: &World, name: &str) -> Vec<i64> {
    let text = world.logs(name, Some(1)).await;
    text.lines().filter_map(|line| line.strip_prefix("ASKED ")?.parse().ok()).collect()
}

#[tokio::test]
async fn the_times_of_probes_are_kept() {
    const ASK: &str = "echo ASKED $(date +%s) > /proc/1/fd/1";
    let world = World::start().await;
    let make = async |name: &str, container: ContainerSpec| {
        let container = ContainerSpec { name: None, ..container };
        world.create(&of(name, vec![container], RestartPolicy::Never)).await;
    };
    let with = |script: &str, more: Probe| Some(Probe { exec: Some(command(script)), ..more });
    // The third time and the fourth are the first two in a row.
    let counts = format!("{ASK}; echo x >> /tmp/asked; test $(wc -l < /tmp/asked) -ge 3");
    let twice = Probe { success_threshold: Some(2), ..probe(1) };
    make("twice", ContainerSpec { readiness_probe: with(&counts, twice), ..one(&world, "main", STAY) }).await;
    // Asked once, and not again for an hour.
    let seldom = Probe { period_seconds: Some(3_600), ..probe(1) };
    let ill = format!("{ASK}; exit 1");
    make("seldom", ContainerSpec { readiness_probe: with(&ill, seldom), ..one(&world, "main", STAY) }).await;
    // Not before its time, and three times.
    let third = Probe { initial_delay_seconds: Some(3), ..probe(3) };
    make("third", ContainerSpec { liveness_probe: with(&ill, third), ..one(&world, "main", STAY) }).await;
    // Longer than it may take, and not longer.
    let hasty = Probe { timeout_seconds: Some(1), ..probe(1) };
    make("hasty", ContainerSpec { liveness_probe: with("sleep 60", hasty), ..one(&world, "main", STAY) }).await;
    let patient = Probe { timeout_seconds: Some(60), ..probe(1) };
    make("patient", ContainerSpec { readiness_probe: with("sleep 2", patient), ..one(&world, "main", STAY) }).await;

    let twice = until(&world, "it is ready", "twice", |now| now.ready).await;
    assert!(asked(&world, "twice").await.len() >= 4, "{:?} {twice:#?}", world.logs("twice", None).await);
    until(&world, "it is ready", "patient", |now| now.ready).await;

    let third = world.reach("third", InstanceState::Failed).await;
    assert!(third.message.as_deref().unwrap_or_default().contains("3 times in a row"), "{third:#?}");
    let times = asked(&world, "third").await;
    assert_eq!(times.len(), 3, "it is not asked after its fate is decided: {times:?}");
    // In whole seconds, and the container tells the time of its start.
    assert!(times[0] >= began(&last(&third, "main")).as_second() + 2, "{times:?} {third:#?}");

    let hasty = world.reach("hasty", InstanceState::Failed).await;
    assert_eq!(hasty.reason, Some(EndReason::ProbeFailed), "{hasty:#?}");
    assert!(hasty.message.as_deref().unwrap_or_default().contains("1 s"), "{hasty:#?}");

    eventually("it is asked", SOON, async || (!asked(&world, "seldom").await.is_empty()).then_some(())).await;
    assert_eq!(asked(&world, "seldom").await.len(), 1, "others were asked many times since then");
    world.finish().await;
}

#[tokio::test]
async fn a_stop_is_a_signal_then_a_time_then_an_end() {
    let world = World::start().await;
    let deaf = one(&world, "main", "trap 'echo HEARD' TERM; while :; do sleep 1 & wait $!; done");
    let slow = one(&world, "main", "trap 'echo HEARD; sleep 2; echo DONE; exit 4' TERM; sleep 999 & wait $!");
    for (name, container, grace) in [("deaf", deaf, 1), ("slow", slow, 60)] {
        let mut create = of(name, vec![ContainerSpec { name: None, ..container }], RestartPolicy::Always);
        create.stop_grace_seconds = Some(grace);
        world.run(&create).await;
        // The shell has said what it does with the signal once it runs something else.
        inside(&world, name, "main", "until grep -qx sleep /proc/[0-9]*/comm; do sleep 0.1; done").await;
        world.client.stop_instance(PROJECT, name).await.unwrap();
    }
    let deaf = world.reach("deaf", InstanceState::Stopped).await;
    let run = last(&deaf, "main");
    assert_eq!(
        (run.exit_code, run.signal, run.reason),
        (Some(137), Some(9), Some(EndReason::StoppedByUser)),
        "{run:#?}"
    );
    assert!(world.logs("deaf", None).await.contains("HEARD"), "it was asked first");
    let slow = world.reach("slow", InstanceState::Stopped).await;
    assert_eq!(last(&slow, "main").exit_code, Some(4), "{slow:#?}");
    assert_eq!(world.logs("slow", None).await, "HEARD\nDONE\n");
    world.finish().await;
}
