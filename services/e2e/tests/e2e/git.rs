//! Volumes that are filled from git repositories.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt as _;
use wherry_api_client::EventOptions;
use wherry_api_types::{
    EmptyDirVolume, EventKind, GitVolume, InstanceCreate, InstanceState, RestartPolicy, Volume, VolumeMount,
};

use crate::support::{PROJECT, World, eventually};

/// The machine's git, with nothing of whoever runs this.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
    let mut command = Command::new("git");
    command.args(identity).args(arguments).current_dir(folder).env_clear();
    command.env("PATH", std::env::var("PATH").unwrap()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.env("GIT_CONFIG_NOSYSTEM", "1").output().expect("git cannot be started: install it");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Two commits, the first with the tag v1, as plain files that any web server can serve; says both.
fn publish(work: &Path, to: &Path) -> (String, String) {
    std::fs::create_dir(work).unwrap();
    git(work, &["init", "-q", "-b", "main", "."]);
    let mut commits = ["first", "second"].map(|text| {
        std::fs::write(work.join("README"), format!("the {text}\n")).unwrap();
        git(work, &["add", "README"]);
        git(work, &["commit", "-q", "-m", text]);
        if text == "first" {
            git(work, &["tag", "v1"]);
        }
        git(work, &["rev-parse", "HEAD"])
    });
    git(work, &["clone", "-q", "--bare", ".", to.to_str().unwrap()]);
    git(to, &["update-server-info"]);
    for path in [to.parent().unwrap(), to] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    (std::mem::take(&mut commits[0]), std::mem::take(&mut commits[1]))
}

fn with(mut create: InstanceCreate, volume: Volume, path: &str) -> InstanceCreate {
    create.containers[0].volume_mounts =
        vec![VolumeMount { volume: volume.name.clone(), path: path.to_owned(), ..VolumeMount::default() }];
    create.volumes = vec![volume];
    create
}

fn repository(url: &str, revision: Option<&str>, directory: Option<&str>) -> Volume {
    let git = GitVolume {
        repository: url.to_owned(),
        revision: revision.map(str::to_owned),
        directory: directory.map(str::to_owned),
    };
    Volume { name: "site".to_owned(), git: Some(git), ..Volume::default() }
}

async fn events(world: &World, name: &str, kind: EventKind) -> Vec<String> {
    let options = EventOptions { instance: Some(name.to_owned()), past_only: true, ..EventOptions::default() };
    let stream = world.client.events(PROJECT, &options).await.unwrap();
    let all: Vec<_> = stream.collect().await;
    all.into_iter().map(Result::unwrap).filter(|event| event.kind == kind).map(|event| event.message).collect()
}

/// Whether git is at it: its program that talks to a web server runs for this URL.
fn asks_for(url: &str) -> bool {
    let asks = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.split('\0').next().is_some_and(|program| program.ends_with("git-remote-http")) && line.contains(url)
    };
    std::fs::read_dir("/proc").unwrap().flatten().any(asks)
}

#[tokio::test]
async fn a_repository_is_fetched_from_within_the_network_of_the_instance_and_nothing_else_is() {
    let world = World::start().await;
    // Served by another instance of the project, under its bare name.
    let empty = Volume { name: "www".to_owned(), empty_dir: Some(EmptyDirVolume::default()), ..Volume::default() };
    let server = world.script("server", "httpd -f -p 8080 -h /www");
    let server = world.run(&with(server, empty, "/www")).await;
    let www = world.wherry.data().join("node/agent/volumes");
    let www = if www.exists() { www } else { world.wherry.data().join("node/volumes") };
    let www = www.join(&server.id).join("disk/www/site.git");
    let (first, second) = publish(&world.wherry.scratch().join("work"), &www);

    // By branch, which is what the repository says itself, and by tag into a folder; kept through a restart.
    let url = "http://server:8080/site.git";
    let script = "cat /site/README; ls -A /site; echo more >> /site/README && echo RUN $(wc -l < /site/README); \
                  [ $(wc -l < /site/README) = 2 ] && exit 1; echo DONE; sleep 999 & wait";
    let mut reader = with(world.script("reader", script), repository(url, None, None), "/site");
    reader.restart_policy = Some(RestartPolicy::OnFailure);
    reader.containers[0].user = Some("1000:1000".to_owned());
    world.run(&reader).await;
    let text = world.logged("reader", "DONE").await;
    assert!(text.starts_with("the second\nmore\n"), "the volume is not kept through a restart: {text}");
    let told = events(&world, "reader", EventKind::VolumeReady).await;
    assert_eq!(told, [format!("volume site holds {url} at {second}")]);
    for (name, revision) in [("tagged", "v1"), ("exact", first.as_str())] {
        let script = world.script(name, "cat /site/a/b/README; echo DONE; sleep 999 & wait");
        world.run(&with(script, repository(url, Some(revision), Some("a/b")), "/site")).await;
        assert!(world.logged(name, "DONE").await.starts_with("the first\n"), "{revision}");
    }

    // What this machine serves for itself is nobody's, and why it is not there is said.
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let gateway = world.wherry.gateway();
    let spy = [format!("http://127.0.0.1:{port}/x.git"), format!("http://{gateway}:{port}/x.git")];
    for (name, url) in ["loopback", "gateway"].into_iter().zip(&spy) {
        let script = world.script(name, "sleep 999");
        let made = world.create(&with(script, repository(url, None, None), "/site")).await;
        if name == "loopback" {
            let said = eventually("it is said why", Duration::from_mins(1), async || {
                events(&world, &made.id, EventKind::VolumeRetrying).await.into_iter().next()
            });
            let said = said.await;
            assert!(said.contains(url.as_str()) && said.contains("unable to access"), "{said}");
        } else {
            // Nobody answers, so it asks for minutes: it is enough that it does.
            eventually("git asks for it", Duration::from_mins(1), async || asks_for(url).then_some(())).await;
        }
        let heard = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await;
        assert!(heard.is_err(), "a repository was asked for at the machine itself: {heard:?}");
        world.delete(name).await;
    }

    // A revision that is not there.
    let missing = with(world.script("missing", "sleep 999"), repository(url, Some("no-such"), None), "/site");
    world.create(&missing).await;
    let said = eventually("it is said that there is no such revision", Duration::from_mins(1), async || {
        events(&world, "missing", EventKind::VolumeRetrying).await.into_iter().next()
    });
    assert!(said.await.contains("no-such"));
    world.delete("missing").await;
    assert_eq!(world.get("reader").await.state, InstanceState::Running);
    world.finish().await;
}
