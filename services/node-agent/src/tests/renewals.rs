//! Another run for what runs: its image is fetched first, and what runs is ended only when that is here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wherry_model::lifecycle::{Ask, MeterEdge, MeterKind, restart, update};
use wherry_model::{
    Check, ContainerKind, ContainerName, ContainerSpec, EndReason, Fact, Hooks, InstanceId, InstanceSpec,
    InstanceState as S, Probe, Probes, PullPolicy, RegistryCredential, RestartPolicy, Sealed, Seconds,
};
use wherry_runtime::fake::FakeImage;
use wherry_runtime::{Labels, RegistryAuth, RuntimeError};

use super::world::{IMAGE, World, program};
use crate::{Agent, AgentConfig};

const NEXT: &str = "r.example/next:1";
const MISSING: &str = "r.example/missing:1";
/// How long a pull of the next image takes.
const SLOW: Duration = Duration::from_secs(40);
/// Longer than any wait of the agent: nothing is done any more.
const LONG: Duration = Duration::from_mins(5);
const TRIES: u32 = 3;

fn world() -> World {
    let world = World::new();
    world.runtime.publish(NEXT, FakeImage { size_bytes: 1_000, pull_delay: SLOW, ..FakeImage::default() });
    world
}

async fn agent_of(world: &World) -> Agent {
    let mut config: AgentConfig = world.config();
    config.pulls.tries = TRIES;
    world.agent_with(config).await
}

/// Asks for another spec, as `wherry update` does.
fn change(world: &World, id: InstanceId, change: impl FnOnce(&mut InstanceSpec)) {
    let now = world.instance(id).updated_at;
    world.control.edit(id, |instance| {
        let mut spec = instance.spec.clone();
        change(&mut spec);
        *instance = update(instance, &spec, "test", now).unwrap().unwrap().after;
    });
}

/// Asks for another image of the container at this place.
fn update_to(world: &World, id: InstanceId, container: usize, image: &str) {
    change(world, id, |spec| spec.containers[container].image = image.parse().unwrap());
}

fn restart_all(world: &World, id: InstanceId, pull: bool) {
    let now = world.instance(id).updated_at;
    world.control.edit(id, |instance| *instance = restart(instance, None, pull, "test", now).unwrap().unwrap().after);
}

/// How the runs of a container ended, in their order.
fn ends(world: &World, id: InstanceId, name: &str) -> Vec<EndReason> {
    let facts = world.control.facts(id);
    let end = |fact: &Fact| match fact {
        Fact::ContainerExited { container, exit, .. } if container.as_str() == name => Some(exit.reason),
        _ => None,
    };
    facts.iter().filter_map(end).collect()
}

fn retries(world: &World, id: InstanceId) -> usize {
    world.control.facts(id).iter().filter(|fact| matches!(fact, Fact::PullRetrying { .. })).count()
}

fn runs(world: &World, id: InstanceId, container: usize) -> usize {
    world.instance(id).containers[container].runs.len()
}

fn is_left(world: &World, id: InstanceId) -> bool {
    world.instance(id).message.is_some_and(|text| text.contains("runs on"))
}

/// How often a pull was metered.
fn metered_pulls(world: &World, id: InstanceId) -> usize {
    let opens = |edge: &MeterEdge| matches!(edge, MeterEdge::Open { kind: MeterKind::Pull, .. });
    world.control.edges(id).iter().filter(|edge| opens(edge)).count()
}

/// Between the end of each run and the start of the next one.
fn pauses(world: &World, id: InstanceId, container: usize) -> Vec<Duration> {
    let runs = world.instance(id).containers[container].runs.clone();
    let pause =
        |pair: &[wherry_model::ContainerRun]| pair[1].started_at.since(pair[0].end.as_ref().unwrap().finished_at);
    runs.windows(2).map(pause).collect()
}

async fn running(world: &World, program: &str) -> InstanceId {
    let id = world.create(program, RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    id
}

fn exec(text: &str) -> Check {
    Check::Exec { command: ["sh", "-c", text].map(str::to_owned).to_vec() }
}

fn init(name: &str, text: &str) -> ContainerSpec {
    ContainerSpec { kind: ContainerKind::Init, ..program(name, text) }
}

#[tokio::test(start_paused = true)]
async fn what_runs_runs_on_until_the_next_image_is_here() {
    let world = world();
    let _agent = agent_of(&world).await;
    let id = running(&world, "serve").await;
    let pulls = metered_pulls(&world, id);
    update_to(&world, id, 0, NEXT);
    let begun = world.elapsed();
    world.until("it is being fetched", |w| w.runtime.calls("PullImage") == 2).await;
    while world.elapsed() + Duration::from_secs(1) < begun + SLOW {
        let now = world.instance(id);
        assert_eq!((now.state, now.containers[0].runs.len()), (S::Running, 1), "{now:#?}");
        assert_eq!(world.running().await.len(), 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.until_run(id, 2).await;
    assert_eq!((metered_pulls(&world, id), world.instance(id).message), (pulls, None), "it was metered as running");
    // The same of a restart that asks the registry again, and one that does not asks nobody.
    for pull in [true, false] {
        let (before, asked) = (runs(&world, id, 0), world.runtime.calls("PullImage"));
        restart_all(&world, id, pull);
        world.until("it runs again", |w| runs(w, id, 0) == before + 1).await;
        assert_eq!(world.runtime.calls("PullImage") > asked, pull);
    }
    assert_eq!(ends(&world, id, "main"), [EndReason::Restarted; 3]);
    assert!(pauses(&world, id, 0).iter().all(|pause| *pause < Duration::from_secs(1)), "{:?}", pauses(&world, id, 0));
}

#[tokio::test(start_paused = true)]
async fn what_runs_runs_on_when_the_next_image_cannot_be_had_and_its_owner_is_told() {
    let world = world();
    let away = RuntimeError::RegistryUnavailable { reference: "r.example/dead:1".into(), message: "refused".into() };
    let dead = FakeImage { pull_failures: vec![away; 50], ..FakeImage::default() };
    world.runtime.publish("r.example/dead:1", dead);
    let labels = Labels::from([("containerd.io/restart.status".to_owned(), "running".to_owned())]);
    world.runtime.publish("r.example/evil:1", FakeImage { labels, ..FakeImage::default() });
    let agent = agent_of(&world).await;
    let id = running(&world, "serve").await;
    let (mut told, tries) = (0, usize::try_from(TRIES).unwrap());
    for (image, times) in [(MISSING, 1), ("r.example/evil:1", 1), ("r.example/dead:1", tries)] {
        update_to(&world, id, 0, image);
        told += times;
        world.until("its owner is told", |w| retries(w, id) == told && is_left(w, id)).await;
        let asked = world.runtime.calls("PullImage");
        tokio::time::sleep(LONG).await;
        let now = world.instance(id);
        assert_eq!((now.state, now.containers[0].runs.len(), now.reason), (S::Running, 1, None), "{now:#?}");
        assert_eq!((world.runtime.calls("PullImage"), retries(&world, id)), (asked, told), "it is left at that");
        assert_eq!(world.running().await.len(), 1);
    }
    // Whoever comes after the agent tries again, and leaves it at that as well.
    agent.shut_down(Duration::from_secs(5)).await;
    let _agent = agent_of(&world).await;
    world.until("its owner is told again", |w| retries(w, id) == told + tries).await;
    tokio::time::sleep(LONG).await;
    assert_eq!((retries(&world, id), runs(&world, id, 0)), (told + tries, 1));
    // What is asked for in its place heals it, the image of before too.
    for (run, image) in [(2, IMAGE), (3, NEXT)] {
        update_to(&world, id, 0, image);
        world.until_run(id, run).await;
        world.until("nothing is said of it any more", |w| w.instance(id).message.is_none()).await;
    }
    assert_eq!(ends(&world, id, "main"), [EndReason::Restarted; 2]);
}

fn give_credentials(world: &World, id: InstanceId, password: &str) {
    let password = Sealed::new(password.to_owned());
    change(world, id, |spec| {
        spec.registry_credentials =
            vec![RegistryCredential { registry: "r.example".into(), username: "robot".into(), password }];
    });
}

/// Whoever asks first for it is refused, after a while.
fn refuses_the_first<'a>(world: &World, reference: &'a str) -> &'a str {
    let refused = RuntimeError::Unauthorized { reference: reference.into(), message: "another password".into() };
    let pull_failures = vec![refused];
    world.runtime.publish(reference, FakeImage { pull_delay: SLOW, pull_failures, ..FakeImage::default() });
    reference
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_under_former_credentials_gives_nothing_up_under_others() {
    let world = world();
    let _agent = agent_of(&world).await;
    let id = running(&world, "serve").await;
    update_to(&world, id, 0, refuses_the_first(&world, "r.example/private:1"));
    world.until("it is being fetched", |w| w.runtime.calls("PullImage") == 2).await;
    tokio::time::sleep(SLOW / 2).await;
    give_credentials(&world, id, "open:sesame");
    world.until_run(id, 2).await;
    assert_eq!((retries(&world, id), world.runtime.calls("PullImage")), (0, 3), "the refusal was not waited for");
    assert_eq!(ends(&world, id, "main"), [EndReason::Restarted]);
    // The same of one that does not run yet.
    let other = world.create_from(refuses_the_first(&world, "r.example/private:2"), "serve", RestartPolicy::Always);
    world.until("it is being fetched", |w| w.runtime.calls("PullImage") == 4).await;
    tokio::time::sleep(SLOW / 2).await;
    give_credentials(&world, other, "open:sesame");
    world.until_state(other, S::Running).await;
    assert_eq!(world.runtime.calls("PullImage"), 5);
}

#[tokio::test(start_paused = true)]
async fn other_credentials_are_tried_without_another_word() {
    let world = world();
    let auth = Some(RegistryAuth { username: "robot".into(), password: "open".into() });
    world.runtime.publish("r.example/private:1", FakeImage { auth, ..FakeImage::default() });
    let _agent = agent_of(&world).await;
    let id = running(&world, "serve").await;
    update_to(&world, id, 0, "r.example/private:1");
    world.until("it is left at that", |w| is_left(w, id)).await;
    let asked = world.runtime.calls("PullImage");
    give_credentials(&world, id, "AAAA");
    // Nobody opens the password here, so it is refused again: what counts is that it was tried.
    world.until("it is tried again", |w| retries(w, id) == 2).await;
    assert_eq!((runs(&world, id, 0), world.runtime.calls("PullImage")), (1, asked));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_after_another_fetches_first_as_well() {
    let world = world();
    let agent = agent_of(&world).await;
    let id = running(&world, "serve").await;
    update_to(&world, id, 0, NEXT);
    world.until("it is being fetched", |w| w.runtime.calls("PullImage") == 2).await;
    tokio::time::sleep(SLOW / 2).await;
    agent.buried().await;
    let _agent = agent_of(&world).await;
    world.until("it is being fetched again", |w| w.runtime.calls("PullImage") == 3).await;
    tokio::time::sleep(SLOW / 2).await;
    assert_eq!((world.instance(id).state, world.running().await.len()), (S::Running, 1));
    assert_eq!(ends(&world, id, "main"), []);
    world.until_run(id, 2).await;
    assert_eq!(ends(&world, id, "main"), [EndReason::Restarted]);
}

#[tokio::test(start_paused = true)]
async fn what_ends_by_itself_meanwhile_waits_for_the_next_image() {
    let world = world();
    let _agent = agent_of(&world).await;
    let id = running(&world, "sleep 20; exit 1").await;
    update_to(&world, id, 0, NEXT);
    let begun = world.elapsed();
    world.until("it has ended", |w| ends(w, id, "main").len() == 1).await;
    assert_eq!(ends(&world, id, "main"), [EndReason::Exited]);
    world.until_run(id, 2).await;
    assert!(world.elapsed() >= begun + SLOW, "it ran again before its image was here");
    // One that cannot be had fails it when nothing of it runs any more.
    update_to(&world, id, 0, MISSING);
    world.until("it is left at that", |w| is_left(w, id)).await;
    world.until_state(id, S::Failed).await;
    assert_eq!(world.instance(id).reason, Some(EndReason::ImagePullFailed));
    assert_eq!(ends(&world, id, "main"), [EndReason::Exited; 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_or_stopped_meanwhile_is_not_fetched_any_more() {
    let world = world();
    let _agent = agent_of(&world).await;
    let id = running(&world, "serve").await;
    update_to(&world, id, 0, NEXT);
    world.until("it is being fetched", |w| w.runtime.calls("PullImage") == 2).await;
    update_to(&world, id, 0, IMAGE);
    world.until_run(id, 2).await;
    tokio::time::sleep(LONG).await;
    let spec = world.instance(id).containers[0].clone();
    assert_eq!((spec.runs.len(), spec.revision), (2, 2), "one run of what is asked for now, and none of what was");
    update_to(&world, id, 0, NEXT);
    world.until("it is being fetched again", |w| w.runtime.calls("PullImage") == 4).await;
    world.control.ask(id, Ask::Stop);
    world.until_state(id, S::Stopped).await;
    assert_eq!(ends(&world, id, "main"), [EndReason::Restarted, EndReason::StoppedByUser]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_not_said_yet_is_not_made_again_and_is_followed_by_what_is_asked_for() {
    let world = world();
    let _agent = agent_of(&world).await;
    let hooks = Hooks { post_start: Some(exec("sleep 20")), pre_stop: None };
    let spec = ContainerSpec { hooks, ..program("main", "serve") };
    let id = world.create_spec(InstanceSpec::new(vec![spec]));
    world.until("its hook is under way", |w| w.runtime.calls("ExecSync") == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.runtime.calls("CreateContainer"), 1, "the run that is there is not made again");
    update_to(&world, id, 0, NEXT);
    world.until("it is fetched beside the hook", |w| w.runtime.calls("PullImage") == 2).await;
    assert_eq!(world.running().await.len(), 1);
    world.until_run(id, 2).await;
    assert_eq!((ends(&world, id, "main").as_slice(), runs(&world, id, 0)), ([EndReason::Restarted].as_slice(), 2));
    assert_eq!(world.runtime.calls("CreateContainer"), 2);
    assert!(pauses(&world, id, 0)[0] < Duration::from_secs(1), "{:?}", pauses(&world, id, 0));
}

#[tokio::test(start_paused = true)]
async fn only_what_an_update_is_about_waits_and_a_beginning_comes_between_end_and_start() {
    let world = world();
    let _agent = agent_of(&world).await;
    let all = vec![init("prepare", "sleep 1"), program("web", "serve"), program("side", "serve")];
    let id = world.create_spec(InstanceSpec::new(all));
    world.until("all run", |w| w.instance(id).is_ready()).await;
    // All of it again, with what the references mean now: the beginning's is the slow one.
    world.control.edit(id, |instance| instance.spec.containers[0].image = NEXT.parse().unwrap());
    let asked = world.runtime.calls("PullImage");
    restart_all(&world, id, true);
    world.until("they are asked for", |w| w.runtime.calls("PullImage") >= asked + 3).await;
    tokio::time::sleep(SLOW / 2).await;
    assert_eq!(
        (world.running().await.len(), runs(&world, id, 0)),
        (2, 1),
        "none is ended, and none begins beside them"
    );
    world.until("all run again", |w| w.instance(id).is_ready() && runs(w, id, 1) == 2).await;
    let instance = world.instance(id);
    let [prepare, web, side] = [0, 1, 2].map(|index| instance.containers[index].runs.clone());
    assert_eq!([prepare.len(), web.len(), side.len()], [2, 2, 2]);
    for main in [&web, &side] {
        let end = main[0].end.clone().unwrap();
        assert!(end.reason == EndReason::Restarted && end.finished_at <= prepare[1].started_at, "{main:#?}");
        assert!(prepare[1].end.clone().unwrap().finished_at <= main[1].started_at);
    }
    // An image that the beginning cannot have ends nobody either, nor one of a container beside.
    for (container, beginnings) in [(0, 2), (1, 3)] {
        update_to(&world, id, container, MISSING);
        world.until("it is left at that", |w| is_left(w, id)).await;
        tokio::time::sleep(LONG).await;
        assert_eq!([0, 1, 2].map(|index| runs(&world, id, index)), [beginnings, 2, 2]);
        assert_eq!((world.instance(id).state, world.running().await.len()), (S::Running, 2));
        update_to(&world, id, container, IMAGE);
        world.until("nothing is said of it any more", |w| w.instance(id).message.is_none()).await;
    }
    world.until("what was asked for runs", |w| runs(w, id, 1) == 3 && runs(w, id, 0) == 3).await;
    assert_eq!(ends(&world, id, "side"), [EndReason::Restarted]);
    // Who waits for what cannot be had does not wait for ever.
    update_to(&world, id, 0, MISSING);
    world.until("it is left at that", |w| is_left(w, id)).await;
    let side = ContainerName::new("side").unwrap();
    let of_side: BTreeMap<_, _> = world.containers().await.into_iter().map(|one| (one.name.clone(), one.id)).collect();
    assert!(world.runtime.exit_container(&of_side[side.as_str()], 1));
    world.until_state(id, S::Failed).await;
    assert_eq!(world.instance(id).reason, Some(EndReason::ImagePullFailed));
    world.until("nothing is left", |w| !w.instance(id).holds_resources).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_over_and_cannot_be_had_anew_ends_nobody() {
    let world = world();
    let _agent = agent_of(&world).await;
    let all = vec![program("web", "serve"), program("job", "sleep 1")];
    let id = world.create_spec(InstanceSpec { restart_policy: RestartPolicy::Never, ..InstanceSpec::new(all) });
    world.until("the job is over", |w| ends(w, id, "job").len() == 1).await;
    update_to(&world, id, 1, MISSING);
    world.until("it is left at that", |w| is_left(w, id)).await;
    tokio::time::sleep(LONG).await;
    assert_eq!((world.instance(id).state, retries(&world, id), runs(&world, id, 1)), (S::Running, 1, 1));
    update_to(&world, id, 1, IMAGE);
    world.until("the job runs again", |w| ends(w, id, "job").len() == 2).await;
    assert_eq!(ends(&world, id, "web"), []);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_next_image_is_probed_as_before() {
    let world = world();
    let _agent = agent_of(&world).await;
    let probe = Probe {
        check: exec("exit 0"),
        initial_delay: Seconds(0),
        period: Seconds(1),
        timeout: Seconds(1),
        success_threshold: 1,
        failure_threshold: 2,
    };
    let probes = Probes { liveness: Some(probe), ..Probes::default() };
    let id = world.create_spec(InstanceSpec::new(vec![ContainerSpec { probes, ..program("main", "serve") }]));
    world.until_state(id, S::Running).await;
    // The probes of the next program are not those of this one.
    change(&world, id, |spec| {
        spec.containers[0].image = NEXT.parse().unwrap();
        spec.containers[0].probes.liveness.as_mut().unwrap().check = exec("exit 1");
    });
    world.until("it is being fetched", |w| w.runtime.calls("PullImage") == 2).await;
    let asked = world.runtime.calls("ExecSync");
    tokio::time::sleep(SLOW / 2).await;
    assert!(world.runtime.calls("ExecSync") >= asked + 15, "it is probed on");
    assert_eq!(ends(&world, id, "main"), []);
    world.until("the next one is ended by its own probe", |w| ends(w, id, "main").len() == 2).await;
    assert_eq!(ends(&world, id, "main"), [EndReason::Restarted, EndReason::ProbeFailed]);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_was_asked_for_asks_the_registry_whatever_others_of_the_project_run() {
    let world = world();
    let _agent = agent_of(&world).await;
    let spec = ContainerSpec { pull: PullPolicy::IfNotPresent, ..program("main", "serve") };
    let [one, two] = [(); 2].map(|()| world.create_spec(InstanceSpec::new(vec![spec.clone()])));
    for id in [one, two] {
        world.until_state(id, S::Running).await;
    }
    let asked = world.runtime.calls("PullImage");
    restart_all(&world, one, false);
    world.until_run(one, 2).await;
    assert_eq!(world.runtime.calls("PullImage"), asked);
    restart_all(&world, one, true);
    world.until_run(one, 3).await;
    assert_eq!(world.runtime.calls("PullImage"), asked + 1, "what the other runs does not answer it");
    restart_all(&world, one, false);
    world.until_run(one, 4).await;
    assert_eq!(world.runtime.calls("PullImage"), asked + 1, "it was asked once");
}

/// One life of changes, through which an agent may die at any moment: another image, one that cannot be had, the one of before,
/// all of it anew with what the references mean now.
pub(super) async fn live_renewed(world: &World) {
    world.runtime.publish(NEXT, FakeImage { size_bytes: 1_000, pull_delay: SLOW, ..FakeImage::default() });
    let hooks = Hooks { post_start: Some(exec("sleep 1")), pre_stop: None };
    let web = ContainerSpec { hooks, ..program("web", "serve") };
    let id = world.create_spec(InstanceSpec::new(vec![init("prepare", "sleep 1"), web, program("side", "serve")]));
    let all_run = |w: &World, number| runs(w, id, 1) == number && w.instance(id).is_ready();
    world.until("all run", |w| all_run(w, 1)).await;
    update_to(world, id, 1, NEXT);
    world.until("the next image runs", |w| all_run(w, 2)).await;
    update_to(world, id, 1, MISSING);
    world.until("its owner is told", |w| is_left(w, id)).await;
    assert!(all_run(world, 2), "{:#?}", world.instance(id));
    update_to(world, id, 1, IMAGE);
    world.until("the image of before runs", |w| all_run(w, 3)).await;
    restart_all(world, id, true);
    world.until("all run anew", |w| all_run(w, 4)).await;
    world.control.ask(id, Ask::Delete);
    world.until_state(id, S::Deleted).await;
    let last = |reason: &EndReason| matches!(reason, EndReason::StoppedByUser | EndReason::Exited);
    for (name, restarts) in [("web", 3), ("side", 1)] {
        let ends = ends(world, id, name);
        assert_eq!(ends[..ends.len() - 1], vec![EndReason::Restarted; restarts], "{name}: {ends:?}");
        // An agent that comes after the signal finds it ended, and cannot know by whom.
        assert!(ends.last().is_some_and(last), "{name}: {ends:?}");
    }
    assert_eq!(runs(world, id, 0), 2);
    // A pull takes far longer.
    assert!(pauses(world, id, 1).iter().all(|pause| *pause < SLOW / 3), "{:?}", pauses(world, id, 1));
    assert_metered_once(world, id);
    world.assert_clean().await;
}

/// Each second in which a container ran is metered, and no other, and none twice.
fn assert_metered_once(world: &World, id: InstanceId) {
    let (mut since, mut metered) = (None, BTreeSet::new());
    for edge in world.control.edges(id) {
        match edge {
            MeterEdge::Open { kind: MeterKind::Run, at, .. } => assert_eq!(since.replace(at.grid_second()), None),
            MeterEdge::Close { kind: MeterKind::Run, at } => {
                for second in since.take().unwrap()..at.grid_second() {
                    assert!(metered.insert(second), "second {second} is metered twice");
                }
            }
            MeterEdge::Open { .. } | MeterEdge::Close { .. } => {}
        }
    }
    assert_eq!(since, None);
    let instance = world.instance(id);
    let runs = instance.containers.iter().flat_map(|container| &container.runs);
    let ran: BTreeSet<i64> = runs
        .flat_map(|run| run.started_at.grid_second()..run.end.as_ref().unwrap().finished_at.grid_second())
        .collect();
    assert_eq!(metered, ran);
}
