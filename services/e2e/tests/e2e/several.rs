//! Several containers in one instance: what they share, in which order they begin, what ends them.

use std::time::Duration;

use wherry_api_types::{
    Condition, Container, ContainerRun, ContainerSpec, Dependency, EmptyDirVolume, EndReason, ExecCheck, HttpCheck,
    Instance, InstanceCreate, InstanceState, Probe, RestartPolicy, Volume, VolumeMount,
};

use crate::support::{PROJECT, World, eventually, shell};

/// For what takes a start or two on a machine that is busy with something else.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// A container that runs a shell script.
pub(crate) fn one(world: &World, name: &str, script: &str) -> ContainerSpec {
    let container = shell(name, &world.tool, script).containers.remove(0);
    ContainerSpec {
        name: Some(name.to_owned()),
        cpu: Some("20m".to_owned()),
        memory: Some("16Mi".to_owned()),
        ..container
    }
}

pub(crate) fn of(name: &str, containers: Vec<ContainerSpec>, policy: RestartPolicy) -> InstanceCreate {
    InstanceCreate {
        name: Some(name.to_owned()),
        containers,
        restart_policy: Some(policy),
        ..InstanceCreate::default()
    }
}

pub(crate) fn after(container: ContainerSpec, other: &str, condition: Condition) -> ContainerSpec {
    ContainerSpec { depends_on: vec![Dependency { container: other.to_owned(), condition }], ..container }
}

pub(crate) fn command(script: &str) -> ExecCheck {
    ExecCheck { command: ["sh", "-c", script].map(str::to_owned).to_vec() }
}

/// Every second, at once, found ill after `failures`.
pub(crate) fn probe(failures: u32) -> Probe {
    Probe { period_seconds: Some(1), timeout_seconds: Some(10), failure_threshold: Some(failures), ..Probe::default() }
}

pub(crate) fn container<'a>(instance: &'a Instance, name: &str) -> &'a Container {
    let mut all = instance.containers.iter().chain(&instance.init_containers);
    all.find(|one| one.name == name).unwrap_or_else(|| panic!("there is no container {name}: {instance:#?}"))
}

pub(crate) fn time(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

pub(crate) fn began(run: &ContainerRun) -> jiff::Timestamp {
    time(&run.started_at)
}

pub(crate) fn ended(run: &ContainerRun) -> jiff::Timestamp {
    time(run.finished_at.as_ref().unwrap_or_else(|| panic!("it runs: {run:#?}")))
}

/// Looks until `is` is so.
pub(crate) async fn until(world: &World, what: &str, name: &str, is: impl Fn(&Instance) -> bool) -> Instance {
    eventually(&format!("{name}: {what}"), SOON, async || {
        let now = world.get(name).await;
        is(&now).then_some(now)
    })
    .await
}

/// All its containers mount one volume at `/data`.
fn sharing(mut create: InstanceCreate) -> InstanceCreate {
    let data = Volume { name: "data".to_owned(), empty_dir: Some(EmptyDirVolume::default()), ..Volume::default() };
    create.volumes = vec![data];
    for container in create.containers.iter_mut().chain(&mut create.init_containers) {
        let mount = VolumeMount { volume: "data".to_owned(), path: "/data".to_owned(), ..VolumeMount::default() };
        container.volume_mounts = vec![mount];
    }
    create
}

#[tokio::test]
async fn they_share_network_and_volumes_and_begin_in_their_order() {
    let world = World::start().await;
    let say = |word: &str| format!("echo {word} >> /data/order");
    let stay = "sleep 999 & wait";
    let ask = format!("wget -q -O - http://127.0.0.1:8080/order && {}", say("migrate"));
    let serve = format!("{}; httpd -p 8080 -h /data; sleep 1; touch /data/open; {stay}", say("db"));
    let path = Some("/open".to_owned());
    let is_open = Probe { http: Some(HttpCheck { port: 8080, path, scheme: None, headers: Vec::new() }), ..probe(3) };
    let db = ContainerSpec { readiness_probe: Some(is_open), ..one(&world, "db", &serve) };
    let show = format!("{}; cat /data/order; echo DONE; {stay}", say("web"));
    // In the spec they stand in another order than in time.
    let all = vec![
        after(one(&world, "side", stay), "web", Condition::Started),
        after(one(&world, "web", &show), "migrate", Condition::Completed),
        after(one(&world, "migrate", &ask), "db", Condition::Healthy),
        db,
    ];
    let mut create = of("app", all, RestartPolicy::Always);
    create.init_containers = vec![
        one(&world, "one", &format!("{}; sleep 1; {}", say("one"), say("one-done"))),
        one(&world, "two", &say("two")),
    ];
    world.create(&sharing(create)).await;
    // Meanwhile: what is waited for in vain is named, whichever way it is waited for.
    let mut broken = of("broken", vec![one(&world, "web", stay)], RestartPolicy::Never);
    broken.init_containers = vec![one(&world, "prepare", "exit 3")];
    let vain = vec![
        one(&world, "side", stay),
        one(&world, "migrate", "exit 4"),
        after(one(&world, "web", stay), "migrate", Condition::Completed),
    ];
    for (create, culprit) in [(broken, "prepare"), (of("vain", vain, RestartPolicy::Never), "migrate")] {
        let ended = world.run_to_end(&create).await;
        assert_eq!((ended.state, ended.reason), (InstanceState::Failed, Some(EndReason::DependencyFailed)));
        let said = ended.message.clone().unwrap_or_default();
        assert!(said.contains(culprit) && said.contains("web"), "{said}");
        assert!(container(&ended, "web").runs.is_empty(), "{ended:#?}");
        assert!(ended.containers.iter().flat_map(|one| &one.runs).all(|run| run.finished_at.is_some()), "{ended:#?}");
    }

    let app = until(&world, "all are ready", "app", |now| now.ready).await;
    let order = world.wherry.cli(&["logs", "-c", "web", "app"]).await.well();
    assert_eq!(
        order.split_whitespace().collect::<Vec<_>>(),
        ["one", "one-done", "two", "db", "migrate", "web", "DONE"]
    );
    let run = |name: &str| container(&app, name).runs.first().unwrap_or_else(|| panic!("{name} never ran: {app:#?}"));
    assert!(began(run("two")) >= ended(run("one")) && began(run("db")) >= ended(run("two")), "{app:#?}");
    assert!(began(run("web")) >= ended(run("migrate")) && began(run("side")) >= began(run("web")), "{app:#?}");
    for (name, runs) in [("one", 1), ("two", 1), ("migrate", 1), ("db", 1)] {
        assert_eq!(container(&app, name).runs.len(), runs, "what came to its end is not started again: {app:#?}");
    }
    let heard =
        world.wherry.cli(&["exec", "-c", "side", "app", "--", "wget", "-q", "-O", "-", "http://localhost:8080/order"]);
    assert!(heard.await.well().starts_with("one\n"));
    world.delete("app").await;
    world.finish().await;
}

/// `WHERRY_E2E_CONTAINERS`: how many; the most that an instance can have is 60.
fn many() -> usize {
    std::env::var("WHERRY_E2E_CONTAINERS").map_or(12, |number| number.parse().unwrap())
}

#[tokio::test]
async fn many_containers_begin_and_end_together() {
    let world = World::start().await;
    let all: Vec<ContainerSpec> = (0..many())
        .map(|number| {
            let small = one(&world, &format!("c{number}"), "sleep 999 & wait");
            ContainerSpec { cpu: Some("10m".to_owned()), memory: Some("4Mi".to_owned()), ..small }
        })
        .collect();
    let begun = std::time::Instant::now();
    world.create(&of("many", all, RestartPolicy::Always)).await;
    let instance = eventually("all run", Duration::from_mins(2), async || {
        let now = world.get("many").await;
        now.ready.then_some(now)
    })
    .await;
    eprintln!("all run after {:?}", begun.elapsed());
    assert!(
        instance.containers.iter().all(|one| one.runs.len() == 1 && one.runs[0].finished_at.is_none()),
        "{instance:#?}"
    );
    assert_eq!(world.wherry.engine().iter().filter(|one| one.is_container() && one.pid.is_some()).count(), many());
    let begun = std::time::Instant::now();
    world.client.stop_instance(PROJECT, "many").await.unwrap();
    let stopped = world.reach("many", InstanceState::Stopped).await;
    eprintln!("and have stopped after {:?}", begun.elapsed());
    let exits: Vec<_> = stopped.containers.iter().map(|one| one.runs[0].exit_code).collect();
    assert!(exits.iter().all(|code| *code == Some(0)), "each was asked first: {exits:?}");
    world.finish().await;
}
