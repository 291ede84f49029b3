use uuid::Uuid;

use super::*;
use crate::fact::{ContainerExit, Fact, Observation};
use crate::id::{InstanceId, NodeId, ProjectId, TenantId};
use crate::instance::{Action, EndReason, Leaving};
use crate::name::ContainerName;
use crate::quantity::{CpuMillis, MemoryMib, Seconds};
use crate::spec::{
    Check, ContainerKind, ContainerSpec, EnvVar, Medium, OnNodeLoss, Probe, PullPolicy, RestartPolicy, Volume,
    VolumeSource,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn container(text: &str) -> ContainerSpec {
    let image = "r.example/web:1".parse().unwrap();
    ContainerSpec::new(name(text), image, CpuMillis::new(100), MemoryMib::new(64))
}

fn node() -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(9))
}

fn born(spec: InstanceSpec) -> Instance {
    let birth = Birth {
        id: InstanceId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        project: ProjectId::from_uuid(Uuid::from_u128(3)),
        project_name: ProjectName::default_project(),
        name: InstanceName::new("web").unwrap(),
        spec,
        node: Some(node()),
        actor: "key:1".into(),
    };
    create(birth, at(0)).after
}

fn seen(instance: &Instance, seconds: i64, revision: u32, fact: Fact) -> Result<Change, Ignored> {
    let (generation, at) = (instance.generation, at(seconds));
    observe(instance, &Observation { seq: 1, instance: instance.id, generation, revision, at, fact }, at)
}

fn started(instance: &Instance, container: &str, run: u32, seconds: i64) -> Instance {
    let fact = Fact::ContainerStarted { container: name(container), run, started_at: at(seconds) };
    seen(instance, seconds, 0, fact).unwrap().after
}

fn ended(instance: &Instance, container: &str, seconds: i64, exit_code: i32) -> Instance {
    let exit =
        ContainerExit { finished_at: at(seconds), exit_code, signal: None, reason: EndReason::Exited, message: None };
    let fact = Fact::ContainerExited { container: name(container), run: 1, started_at: at(1), exit, restart_at: None };
    seen(instance, seconds, 0, fact).unwrap().after
}

fn pulled(revision: u32, letter: char) -> (u32, Fact) {
    let digest = format!("sha256:{}", letter.to_string().repeat(64)).parse().unwrap();
    (revision, Fact::Pulled { container: name("web"), digest, cached: false })
}

/// Two containers, both running.
fn two() -> Instance {
    let instance = started(&born(InstanceSpec::new(vec![container("web"), container("side")])), "web", 1, 1);
    started(&instance, "side", 1, 1)
}

fn revisions(instance: &Instance) -> Vec<u32> {
    instance.containers.iter().map(|status| status.revision).collect()
}

#[test]
fn a_restart_is_of_one_container_or_of_all() {
    let instance = two();
    let one = restart(&instance, Some(&name("side")), false, "k", at(5)).unwrap().unwrap();
    assert_eq!((revisions(&one.after), one.after.generation), (vec![0, 1], Generation::FIRST));
    assert_eq!((one.releases, one.takes, one.meter.len()), (None, None, 0));
    let all = restart(&one.after, None, false, "k", at(6)).unwrap().unwrap();
    assert_eq!(revisions(&all.after), [1, 2]);
    assert_eq!(all.events[0].actor.as_deref(), Some("k"));
}

#[test]
fn only_what_is_there_to_run_is_restarted() {
    let mut spec = InstanceSpec::new(vec![container("prepare"), container("web")]);
    spec.containers[0].kind = ContainerKind::Init;
    let instance = born(spec);
    assert_eq!(restart(&instance, Some(&name("prepare")), false, "k", at(1)), Err(Refusal::Beginning));
    let stopping = intend(&instance, Ask::Stop, "k", at(2)).unwrap().unwrap().after;
    assert_eq!(restart(&stopping, None, false, "k", at(3)), Err(Refusal::StillStopping));
    let stopped = seen(&stopping, 4, 0, Fact::SandboxStopped).unwrap().after;
    assert_eq!(restart(&stopped, None, false, "k", at(5)), Err(Refusal::Ended));
    let deleting = intend(&stopped, Ask::Delete, "k", at(6)).unwrap().unwrap().after;
    assert_eq!(restart(&deleting, None, false, "k", at(7)), Err(Refusal::Gone));
}

#[test]
fn a_pull_forgets_what_the_reference_meant_and_believes_no_older_word() {
    let (revision, fact) = pulled(0, 'a');
    let instance = seen(&two(), 2, revision, fact.clone()).unwrap().after;
    assert!(instance.containers[0].image_digest.is_some());
    let kept = restart(&instance, None, false, "k", at(3)).unwrap().unwrap().after;
    assert_eq!(kept.containers[0].image_digest, instance.containers[0].image_digest);
    let asked = restart(&instance, Some(&name("web")), true, "k", at(3)).unwrap().unwrap().after;
    assert_eq!((asked.containers[0].image_digest.as_ref(), asked.containers[0].asks_registry), (None, true));
    assert!(!asked.containers[1].asks_registry && !kept.containers[0].asks_registry, "of the others nobody asked it");
    let late = seen(&asked, 4, revision, fact).unwrap().after;
    let of_web = &late.containers[0];
    assert_eq!((of_web.image_digest.as_ref(), of_web.asks_registry), (None, true), "said of the revision before");
    let (revision, fact) = pulled(1, 'b');
    let now = seen(&asked, 5, revision, fact).unwrap().after;
    assert!(now.containers[0].image_digest.is_some() && !now.containers[0].asks_registry, "it was asked");
    let forgotten = forget_images(&now, at(6)).unwrap().after;
    assert_eq!((forgotten.containers[0].image_digest.as_ref(), forgotten.containers[0].revision), (None, 2));
    assert_eq!(forget_images(&forgotten, at(7)), None);
}

#[test]
fn what_is_fetched_beside_what_runs_neither_changes_its_state_nor_its_meter() {
    let mut instance = started(&born(InstanceSpec::new(vec![container("web")])), "web", 1, 1);
    let mut spec = instance.spec.clone();
    spec.containers[0].image = "r.example/next:1".parse().unwrap();
    instance = update(&instance, &spec, "k", at(2)).unwrap().unwrap().after;
    let begun = seen(&instance, 3, 1, Fact::PullStarted { container: name("web") }).unwrap();
    assert_eq!((begun.after.state, begun.meter.as_slice()), (InstanceState::Running, [].as_slice()));
    let failed = |retry_at| {
        let fact = Fact::PullRetrying { container: name("web"), message: "away".into(), retry_at: at(retry_at) };
        let change = seen(&begun.after, 4, 1, fact).unwrap();
        assert_eq!((change.after.state, change.meter.as_slice()), (InstanceState::Running, [].as_slice()));
        assert_eq!(
            (change.after.message.as_ref(), change.events[0].kind),
            (Some(&change.events[0].message), EventKind::PullRetrying)
        );
        change.after
    };
    assert!(failed(9).message.unwrap().contains("next try"));
    let left = failed(4);
    assert!(left.message.as_ref().unwrap().contains("runs on"), "{:?}", left.message);
    assert_eq!(left.reason, None);
    let again = restart(&left, None, true, "k", at(5)).unwrap().unwrap().after;
    assert_eq!((again.state, again.message), (InstanceState::Running, None), "that was said of the try before");
    let (revision, fact) = pulled(1, 'b');
    let here = seen(&left, 5, revision, fact).unwrap();
    let after = (here.after.state, &here.after.message, here.meter.as_slice());
    assert_eq!(after, (InstanceState::Running, &None, [].as_slice()));
    // What does not run is not said to run on.
    let waits =
        seen(&born(spec), 4, 0, Fact::PullRetrying { container: name("web"), message: "away".into(), retry_at: at(4) });
    assert!(!waits.unwrap().after.message.unwrap().contains("runs on"));
}

#[test]
fn only_what_must_restart_does() {
    let instance = two();
    let mut calm = instance.spec.clone();
    calm.labels.insert("team".into(), "net".into());
    calm.ttl_seconds = Some(60);
    calm.deadline_seconds = Some(600);
    calm.restart_policy = RestartPolicy::Always;
    calm.max_restarts = Some(3);
    let change = update(&instance, &calm, "k", at(5)).unwrap().unwrap();
    assert_eq!((revisions(&change.after), change.after.generation), (vec![0, 0], Generation::FIRST));
    assert_eq!((change.after.version(), change.releases, change.takes), (Generation(2), None, None));
    assert_eq!(update(&change.after, &calm, "k", at(6)), Ok(None), "the same again is no change");

    type Edit = fn(&mut ContainerSpec);
    let edits: [(&str, Edit); 5] = [
        ("image", |c| c.image = "r.example/web:2".parse().unwrap()),
        ("env", |c| c.env.push(EnvVar::plain("A", "1"))),
        ("command", |c| c.command.push("serve".into())),
        ("user", |c| c.user = Some("1000".into())),
        ("memory", |c| c.memory = MemoryMib::new(128)),
    ];
    for (field, edit) in edits {
        let mut spec = instance.spec.clone();
        edit(&mut spec.containers[1]);
        let plan = plan_update(&instance, &spec).unwrap();
        assert_eq!(plan.restarts, [ContainerRestart { container: name("side"), because: vec![field.to_owned()] }]);
        assert_eq!(plan.changes, [format!("containers[1].{field}")]);
        let after = update(&instance, &spec, "k", at(5)).unwrap().unwrap().after;
        assert_eq!((revisions(&after), after.address, after.state), (vec![0, 1], instance.address, instance.state));
    }
}

#[test]
fn a_plan_names_fields_as_their_caller_gives_them() {
    let mut spec = InstanceSpec::new(vec![container("prepare"), container("web")]);
    spec.containers[0].kind = ContainerKind::Init;
    let instance = born(spec.clone());
    spec.containers[0].pull = PullPolicy::Always;
    let web = &mut spec.containers[1];
    web.memory_limit = Some(MemoryMib::new(512));
    web.hooks.pre_stop = Some(Check::Tcp { port: 80 });
    web.probes.liveness = Some(Probe {
        check: Check::Tcp { port: 80 },
        initial_delay: Seconds(0),
        period: Seconds(1),
        timeout: Seconds(1),
        success_threshold: 1,
        failure_threshold: 2,
    });
    let plan = plan_update(&instance, &spec).unwrap();
    let web = ["limits.memory", "pre_stop", "liveness_probe"].map(|field| format!("containers[0].{field}"));
    assert_eq!(plan.changes, [&["init_containers[0].pull_policy".to_owned()][..], &web].concat());
    let because = vec!["limits.memory".to_owned()];
    assert_eq!(plan.restarts, [ContainerRestart { container: name("web"), because }]);
}

#[test]
fn an_image_is_forgotten_when_its_reference_changes_and_kept_otherwise() {
    let (revision, fact) = pulled(0, 'a');
    let instance = seen(&two(), 2, revision, fact).unwrap().after;
    let mut spec = instance.spec.clone();
    spec.containers[0].args.push("x".into());
    let kept = update(&instance, &spec, "k", at(3)).unwrap().unwrap().after;
    assert!(kept.containers[0].image_digest.is_some());
    spec.containers[0].image = "r.example/web:2".parse().unwrap();
    assert_eq!(update(&kept, &spec, "k", at(4)).unwrap().unwrap().after.containers[0].image_digest, None);
}

#[test]
fn another_amount_is_taken_anew_and_metered_apart() {
    let instance = two();
    let mut spec = instance.spec.clone();
    spec.containers[0].cpu = CpuMillis::new(500);
    let change = update(&instance, &spec, "k", at(9)).unwrap().unwrap();
    assert_eq!((change.releases, change.takes), (Some(node()), Some(node())));
    let (kind, late) = (MeterKind::Run, false);
    assert_eq!(change.meter, [MeterEdge::Close { kind, at: at(9) }, MeterEdge::Open { kind, at: at(9), late }]);
    assert_eq!(change.after.run_meter, Meter { open_since: Some(at(9)), until: Some(at(9)) });
    // Nobody knows what of the silent time has run.
    let silent = silence(&instance, at(5), at(40)).unwrap().after;
    assert_eq!(update(&silent, &spec, "k", at(41)), Err(NotInPlace::Refused(Refusal::Silent)));
    let mut labelled = silent.spec.clone();
    labelled.labels.insert("a".into(), "b".into());
    assert!(update(&silent, &labelled, "k", at(41)).unwrap().is_some());
}

#[test]
fn what_belongs_to_the_sandbox_changes_when_it_has_ended() {
    type Edit = fn(&mut InstanceSpec);
    let edits: [(&str, Edit); 4] = [
        ("volumes", |s| {
            let source = VolumeSource::EmptyDir { medium: Medium::Disk, size: None };
            s.volumes = vec![Volume { name: "data".parse().unwrap(), source }];
        }),
        ("containers", |s| s.containers.push(container("third"))),
        ("on_node_loss", |s| s.on_node_loss = OnNodeLoss::Replace),
        ("dns", |s| s.dns.searches = vec!["example".into()]),
    ];
    let running = two();
    let stopping = intend(&running, Ask::Stop, "k", at(6)).unwrap().unwrap().after;
    let stopped = seen(&stopping, 7, 0, Fact::SandboxStopped).unwrap().after;
    for (field, edit) in edits {
        let mut spec = running.spec.clone();
        edit(&mut spec);
        for held in [&running, &stopping] {
            assert_eq!(update(held, &spec, "k", at(8)), Err(NotInPlace::Fixed(field.to_owned())));
        }
        let change = update(&stopped, &spec, "k", at(8)).unwrap().unwrap();
        assert_eq!((change.after.containers.len(), change.takes), (spec.containers.len(), None));
        assert_eq!(plan_update(&stopped, &spec).unwrap().restarts, []);
        let again = intend(&change.after, Ask::Start(node()), "k", at(9)).unwrap().unwrap();
        assert_eq!((again.takes, again.after.version()), (Some(node()), Generation(3)));
    }
}

#[test]
fn what_ended_by_itself_is_kept_for_its_time() {
    let mut spec = InstanceSpec::new(vec![container("web")]);
    spec.ttl_seconds = Some(60);
    for exit_code in [0, 1] {
        let running =
            started(&born(InstanceSpec { restart_policy: RestartPolicy::Never, ..spec.clone() }), "web", 1, 1);
        assert_eq!((running.expires_at, expire(&running, at(1_000_000))), (None, None));
        let done = ended(&running, "web", 10, exit_code);
        assert!(done.state.is_settled());
        assert_eq!(done.expires_at, Some(at(70)));
        assert_eq!(expire(&done, Timestamp::from_micros(at(70).as_micros() - 1)), None);
        let over = expire(&done, at(70)).unwrap();
        assert_eq!((over.after.state, over.after.expires_at), (InstanceState::Deleting, None));
        assert_eq!(expire(&over.after, at(71)), None);
        // More time is given, or it is started again: it stays.
        let longer = update(&done, &InstanceSpec { ttl_seconds: Some(600), ..done.spec.clone() }, "k", at(69));
        assert_eq!(expire(&longer.unwrap().unwrap().after, at(70)), None);
        let gone = seen(&done, 11, 0, Fact::SandboxStopped).unwrap().after;
        let again = intend(&gone, Ask::Start(node()), "k", at(69)).unwrap().unwrap().after;
        assert_eq!((again.expires_at, expire(&again, at(70))), (None, None));
    }
    let stopping = intend(&started(&born(spec), "web", 1, 1), Ask::Stop, "k", at(6)).unwrap().unwrap().after;
    let stopped = seen(&stopping, 7, 0, Fact::SandboxStopped).unwrap().after;
    assert_eq!(stopped.expires_at, None, "somebody stopped it and may start it again");
}

fn ended_at(
    instance: &Instance,
    container: &str,
    run: u32,
    seconds: i64,
    exit_code: i32,
    restart_at: Option<i64>,
) -> Instance {
    let exit =
        ContainerExit { finished_at: at(seconds), exit_code, signal: None, reason: EndReason::Exited, message: None };
    let (container, restart_at) = (name(container), restart_at.map(at));
    seen(instance, seconds, 0, Fact::ContainerExited { container, run, started_at: at(1), exit, restart_at })
        .unwrap()
        .after
}

fn began_again(instance: &Instance, container: &str, revision: u32, seconds: i64) -> Instance {
    let fact = Fact::ContainerStarted { container: name(container), run: 2, started_at: at(seconds) };
    seen(instance, seconds, revision, fact).unwrap().after
}

#[test]
fn revisions_begin_anew_with_a_generation() {
    let restarted = restart(&two(), None, false, "k", at(5)).unwrap().unwrap().after;
    assert_eq!(revisions(&restarted), [1, 1]);
    let stopping = intend(&restarted, Ask::Stop, "k", at(6)).unwrap().unwrap().after;
    let stopped = seen(&stopping, 7, 0, Fact::SandboxStopped).unwrap().after;
    // Nothing runs that could be out of date: nothing is asked of a node that knows no revisions.
    let mut spec = stopped.spec.clone();
    spec.containers[0].image = "r.example/web:2".parse().unwrap();
    let changed = update(&stopped, &spec, "k", at(8)).unwrap().unwrap().after;
    assert_eq!(revisions(&changed), revisions(&stopped));
    let (revision, fact) = pulled(1, 'a');
    let late = seen(&changed, 9, revision, fact).unwrap().after;
    assert_eq!(late.containers[0].image_digest, None, "of the image before");
    let again = intend(&changed, Ask::Start(node()), "k", at(10)).unwrap().unwrap().after;
    assert_eq!((revisions(&again), again.generation), (vec![0, 0], Generation(2)));
    let leaving = leave(&restarted, Leaving::Move, at(6)).unwrap().after;
    let waiting = seen(&leaving, 7, 0, Fact::SandboxStopped).unwrap().after;
    let asked = restart(&waiting, None, true, "k", at(8)).unwrap().unwrap().after;
    assert_eq!(revisions(&place(&asked, node(), at(9)).unwrap().after), [0, 0]);
}

#[test]
fn what_was_asked_to_run_again_does_when_the_others_have_ended() {
    // One waits for its next try, or has ended for good, and is given another image.
    for restart_at in [Some(60), None] {
        let waiting = ended_at(&two(), "web", 1, 3, 1, restart_at);
        let mut spec = waiting.spec.clone();
        spec.containers[0].image = "r.example/web:2".parse().unwrap();
        let changed = update(&waiting, &spec, "k", at(4)).unwrap().unwrap().after;
        let alone = ended_at(&changed, "side", 1, 5, 0, None);
        assert_eq!((alone.state, alone.action()), (InstanceState::Starting, Action::Run));
        let again = began_again(&alone, "web", 1, 6);
        assert_eq!((again.state, again.containers[0].is_due), (InstanceState::Running, false));
        assert_eq!(ended_at(&again, "web", 2, 7, 0, None).state, InstanceState::Succeeded);
    }
    // It ends while it is asked for: its node hears of that, or has taken everything down by then.
    let asked = restart(&two(), None, false, "k", at(4)).unwrap().unwrap().after;
    let down = ended_at(&ended_at(&asked, "web", 1, 5, 0, None), "side", 1, 5, 0, None);
    assert_eq!(down.state, InstanceState::Starting);
    let change = seen(&down, 6, 0, Fact::SandboxStopped).unwrap();
    assert_eq!((change.after.state, change.after.generation), (InstanceState::Scheduled, Generation(2)));
    assert_eq!((change.after.node, change.releases, change.takes), (Some(node()), None, None));
    assert_eq!((revisions(&change.after), change.after.first_run), (vec![0, 0], 2));
    // What ended beside it is not run twice, so it comes to its end with the others.
    let asked = restart(&two(), Some(&name("web")), false, "k", at(4)).unwrap().unwrap().after;
    let down = ended_at(&ended_at(&asked, "web", 1, 5, 7, None), "side", 1, 5, 0, None);
    let change = seen(&down, 6, 0, Fact::SandboxStopped).unwrap();
    assert_eq!((change.after.state, change.releases), (InstanceState::Failed, Some(node())));
    assert!(change.after.containers.iter().all(|status| !status.is_due));
}

#[test]
fn who_asks_for_another_run_while_its_machine_is_emptied_is_moved() {
    let spec = InstanceSpec { restart_policy: RestartPolicy::Never, ..InstanceSpec::new(vec![container("web")]) };
    let running = started(&born(spec), "web", 1, 1);
    let asked = restart(&running, None, false, "k", at(4)).unwrap().unwrap().after;
    let leaving = leave(&asked, Leaving::Move, at(5)).unwrap().after;
    for (revision, reason) in [(0, EndReason::Exited), (0, EndReason::Restarted), (1, EndReason::Evicted)] {
        let exit = ContainerExit { finished_at: at(6), exit_code: 0, signal: None, reason, message: None };
        let fact = Fact::ContainerExited { container: name("web"), run: 1, started_at: at(1), exit, restart_at: None };
        let ended = seen(&leaving, 6, revision, fact).unwrap().after;
        assert_eq!(ended.state, InstanceState::Stopping);
        let waiting = seen(&ended, 7, 0, Fact::SandboxStopped).unwrap().after;
        assert_eq!((waiting.state, waiting.containers[0].is_due), (InstanceState::Pending, false));
    }
    // Runs that somebody asked for are no tries of its policy.
    let spec = InstanceSpec { max_restarts: Some(1), ..InstanceSpec::new(vec![container("web")]) };
    let again = restart(&started(&born(spec), "web", 1, 1), None, false, "k", at(2)).unwrap().unwrap().after;
    let leaving = leave(&began_again(&again, "web", 1, 4), Leaving::Move, at(5)).unwrap().after;
    assert_eq!(ended_at(&leaving, "web", 2, 6, 1, None).state, InstanceState::Stopping);
    // A user who stops it has the last word.
    let stopping = intend(&asked, Ask::Stop, "k", at(5)).unwrap().unwrap().after;
    assert!(!stopping.containers[0].is_due);
}

#[test]
fn time_that_is_not_proved_is_not_metered_with_the_amounts_of_before() {
    let instance = two();
    let mut spec = instance.spec.clone();
    spec.containers[0].cpu = CpuMillis::new(500);
    let (kind, late) = (MeterKind::Run, false);
    for (proof, cut) in [(7, 7), (0, 1), (99, 9)] {
        let change = update_proved(&instance, &spec, "k", at(proof), at(9)).unwrap().unwrap();
        assert_eq!(change.meter, [MeterEdge::Close { kind, at: at(cut) }, MeterEdge::Open { kind, at: at(cut), late }]);
    }
    // Its node was dead already.
    let resized = update_proved(&instance, &spec, "k", at(7), at(9)).unwrap().unwrap().after;
    assert_eq!(silence(&resized, at(7), at(40)).unwrap().meter, [MeterEdge::Close { kind, at: at(7) }]);
}
