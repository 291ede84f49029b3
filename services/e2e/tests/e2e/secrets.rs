//! Secrets: the program has them, and nobody else ever sees them again; and images that want a password.

use std::fs;
use std::path::{Path, PathBuf};

use wherry_api_types::{
    EmptyDirVolume, EndReason, EnvVar, InstanceCreate, InstanceSpec, InstanceState, PullPolicy, RegistryCredential,
    RestartPolicy, SecretText, SecretVolume, Volume, VolumeMount,
};

use crate::support::{PROJECT, World, plain_client, shell};

/// Found nowhere by chance.
const IN_ENVIRONMENT: &str = "hush-environment-4hVx0qPz";
const IN_FILE: &str = "hush-file-9Rk2mTdw";
const LATER: &str = "hush-later-Zs71bQcf";

fn secret(plain: &str) -> SecretText {
    SecretText::new(plain.to_owned())
}

/// The script prints only hashes of what it was given.
fn holder(world: &World) -> InstanceCreate {
    let script = "printf %s \"$TOKEN\" | sha256sum; sha256sum < /secret/pass; sha256sum < /one; ls -ln /secret/pass; ls -ln /wide/b; \
                  grep -c '^wherry-secret /secret tmpfs ro' /proc/mounts; \
                  (echo x >> /secret/pass) 2>/dev/null && echo BAD written; (touch /secret/new) 2>/dev/null && echo BAD made; \
                  [ -e /keep/ran ] || { touch /keep/ran; echo FIRST; exit 1; }; echo DONE; sleep 999 & wait";
    let mut create = world.script("holder", script);
    create.restart_policy = Some(RestartPolicy::OnFailure);
    let volume = |name: &str, files: &[(&str, &str)], mode: Option<&str>| {
        let files = files.iter().map(|(name, content)| ((*name).to_owned(), secret(content))).collect();
        let secret = SecretVolume { files, mode: mode.map(str::to_owned), ..SecretVolume::default() };
        Volume { name: name.to_owned(), secret: Some(secret), ..Volume::default() }
    };
    let keep = Volume { name: "keep".to_owned(), empty_dir: Some(EmptyDirVolume::default()), ..Volume::default() };
    create.volumes =
        vec![volume("secret", &[("pass", IN_FILE)], None), volume("wide", &[("b", IN_FILE)], Some("0444")), keep];
    let mount = |volume: &str, path: &str| VolumeMount {
        volume: volume.to_owned(),
        path: path.to_owned(),
        ..VolumeMount::default()
    };
    let one = VolumeMount { sub_path: Some("pass".to_owned()), ..mount("secret", "/one") };
    let container = &mut create.containers[0];
    container.volume_mounts = vec![mount("secret", "/secret"), one, mount("wide", "/wide"), mount("keep", "/keep")];
    container.env = vec![EnvVar::plain("PLAIN", "shown"), EnvVar::secret("TOKEN", secret(IN_ENVIRONMENT))];
    create
}

fn hash(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    data_encoding::HEXLOWER.encode(&Sha256::digest(text))
}

/// Every file below that holds one of the words.
fn files_with(folder: &Path, words: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() {
            files_with(&path, words, found);
        } else if about.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let holds = |word: &&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
            if words.iter().any(holds) {
                found.push(path);
            }
        }
    }
}

/// What the API says about everything that has to do with the instance.
async fn everything_said(world: &World) -> String {
    let token = world.wherry.token().await;
    let mut said = String::new();
    for path in [
        "/v1/projects/default/instances",
        "/v1/projects/default/instances/holder",
        "/v1/projects/default/instances/holder/events?follow=false",
        "/v1/projects/default/events?follow=false",
        "/v1/projects/default/audit",
        "/v1/projects/default/instances/holder/containers/main/logs",
    ] {
        let answer = plain_client().get(world.wherry.url(path)).bearer_auth(&token).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        said += &answer.text().await.unwrap();
    }
    said
}

async fn assert_nowhere(world: &World, words: &[&str]) {
    let said = everything_said(world).await;
    assert!(words.iter().all(|word| !said.contains(word)), "{said}");
    // Environment is known to the engine, which has to hand it on; of files it knows nothing.
    let (data, run) = (world.wherry.data(), world.wherry.run_folder());
    let mut found = Vec::new();
    files_with(world.wherry.scratch(), words, &mut found);
    found.retain(|path| !path.starts_with(data.join("containerd")));
    assert!(found.is_empty(), "{words:?} in {found:?}");
    for folder in [data.join("containerd"), run] {
        files_with(&folder, &[IN_FILE], &mut found);
    }
    assert!(found.is_empty(), "{IN_FILE:?} in {found:?}");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(words.iter().all(|word| !line.contains(word)), "{line}");
    }
}

#[tokio::test]
async fn the_program_has_its_secrets_and_they_stand_nowhere_else() {
    let mut world = World::start().await;
    let given = holder(&world);
    let made = world.create(&given).await;
    let variable = &made.spec.containers[0].env[1];
    assert_eq!((variable.secret_set, &variable.secret, variable.value.as_str()), (true, &None, ""));
    let volume = made.spec.volumes[0].secret.as_ref().unwrap();
    assert_eq!((volume.files_set.as_slice(), volume.files.len()), (["pass".to_owned()].as_slice(), 0));
    // The second run is the node's own: it has kept them.
    let expect = async |world: &World, in_environment: &str| {
        let text = world.logged("holder", "DONE").await;
        assert!(!text.contains("BAD"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let (environment, file) = (hash(in_environment), hash(IN_FILE));
        let hashes: Vec<&str> = lines[..3].iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(hashes, [environment.as_str(), &file, &file], "{text}");
        assert!(lines[3].starts_with("-r--------") && lines[4].starts_with("-r--r--r--"), "{text}");
        assert_eq!(lines[5], "1", "not a read-only file system in memory: {text}");
    };
    expect(&world, IN_ENVIRONMENT).await;
    assert_nowhere(&world, &[IN_ENVIRONMENT, IN_FILE]).await;

    // What is shown can be put back, and asking again for the same changes nothing.
    let found = world.get("holder").await;
    world.client.put_instance(PROJECT, "holder", &found.spec).await.unwrap();
    world.client.put_instance(PROJECT, "holder", &InstanceSpec { name: None, ..given.clone() }).await.unwrap();
    let after = world.get("holder").await;
    assert_eq!((after.containers[0].runs.len(), &after.spec), (found.containers[0].runs.len(), &found.spec));
    assert_eq!(after.generation, found.generation);

    // Another secret restarts the container, which the plan says without saying it.
    let mut other = found.spec.clone();
    other.containers[0].env[1] = EnvVar::secret("TOKEN", secret(LATER));
    let plan = world.client.preview_update(PROJECT, "holder", found.generation, &other).await.unwrap();
    assert!(plan.changes.contains(&"containers[0].env[1].secret".to_owned()), "{plan:?}");
    assert_eq!(plan.restarts[0].because, ["env"], "{plan:?}");

    // The agent dies and begins again; then the new secret comes.
    world.wherry.kill();
    world.wherry.start().await;
    world.reach("holder", InstanceState::Running).await;
    let runs = world.get("holder").await.containers[0].runs.len();
    world.client.update_instance(PROJECT, "holder", found.generation, &other).await.unwrap();
    crate::support::eventually("another run", std::time::Duration::from_secs(30), async || {
        let now = world.get("holder").await;
        (now.containers[0].runs.len() > runs && now.state == InstanceState::Running).then_some(())
    })
    .await;
    expect(&world, LATER).await;
    assert_nowhere(&world, &[IN_ENVIRONMENT, IN_FILE, LATER]).await;
    assert!(world.wherry.log().len() > 100, "there was no log to search");

    // A secret that is said to be there and is not.
    let mut missing = found.spec.clone();
    missing.containers[0].env.push(EnvVar { secret_set: true, ..EnvVar::plain("NONE", "") });
    let generation = world.get("holder").await.generation;
    let refused = world.client.update_instance(PROJECT, "holder", generation, &missing).await.unwrap_err().to_string();
    assert!(refused.contains("containers[0].env[2].secret"), "{refused}");
    let in_memory =
        |world: &World| world.wherry.engine_mounts().iter().filter(|line| line.contains("wherry-secret")).count();
    world.delete("holder").await;
    assert_eq!(in_memory(&world), 0, "files in memory are left");
    world.finish().await;
}

#[tokio::test]
async fn the_command_line_takes_secrets_from_files_only() {
    let world = World::start().await;
    let file = world.wherry.scratch().join("token");
    fs::write(&file, format!("{IN_ENVIRONMENT}\n")).unwrap();
    let from = format!("TOKEN=@{}", file.display());
    let script = "printf %s \"$TOKEN\" | sha256sum; echo DONE; sleep 999";
    let words = ["run", &world.tool, "--name", "cli", "--secret-env", &from, "--", "/bin/sh", "-c", script];
    world.wherry.cli(&words).await.well();
    assert!(world.logged("cli", "DONE").await.contains(&hash(IN_ENVIRONMENT)));
    let plain = format!("TOKEN={IN_ENVIRONMENT}");
    let refused = world.wherry.cli(&["run", &world.tool, "--secret-env", &plain]).await;
    assert!(refused.code == Some(2) && refused.err.contains("TOKEN=@FILE"), "{refused:#?}");
    world.finish().await;
}

#[tokio::test]
async fn private_images_are_pulled_by_who_has_the_password_and_by_nobody_else() {
    let mut world = World::start().await;
    let (user, password) = world.registry.demand_login().await.unwrap();
    let credential = |password: &str| RegistryCredential {
        registry: world.registry.address(),
        username: user.to_owned(),
        password: Some(secret(password)),
        password_set: false,
    };
    let create = |name: &str, credentials: Vec<RegistryCredential>| {
        let mut create = shell(name, &world.tool, "echo DONE; sleep 999 & wait");
        create.registry_credentials = credentials;
        create
    };
    for (name, credentials) in [("without", vec![]), ("wrong", vec![credential("guessed")])] {
        let ended = world.run_to_end(&create(name, credentials)).await;
        assert_eq!(
            (ended.state, ended.reason),
            (InstanceState::Failed, Some(EndReason::ImagePullFailed)),
            "{ended:#?}"
        );
        let said = ended.message.unwrap();
        assert!(said.contains("refused access") && said.contains("registry credentials"), "{said}");
        assert!(!said.contains("guessed"), "{said}");
    }
    let owner = world.run(&create("owner", vec![credential(password)])).await;
    assert!(owner.spec.registry_credentials[0].password_set && owner.spec.registry_credentials[0].password.is_none());

    // The image is on the machine now. Its project may run it, others have to ask: by name, and by digest too.
    let digest = owner.containers[0].image_digest.clone().unwrap();
    let pinned = format!("{}@{digest}", world.tool.rsplit_once(':').unwrap().0);
    world.client.create_project("other").await.unwrap();
    for (name, image, policy) in [
        ("present", world.tool.as_str(), PullPolicy::IfNotPresent),
        ("pinned", &pinned, PullPolicy::Once),
        ("pinned-present", &pinned, PullPolicy::IfNotPresent),
    ] {
        let mut wanted = create(name, Vec::new());
        wanted.containers[0].image = image.to_owned();
        wanted.containers[0].pull_policy = Some(policy);
        let made = world.client.create_instance("other", &wanted, None).await.unwrap();
        let ends = [InstanceState::Running, InstanceState::Succeeded, InstanceState::Failed];
        let wait = world.client.wait_instance("other", &made.id, &ends, std::time::Duration::from_secs(40));
        let ended = wait.await.unwrap().instance;
        assert_eq!(
            (ended.state, ended.reason),
            (InstanceState::Failed, Some(EndReason::ImagePullFailed)),
            "{ended:#?}"
        );
    }
    let mut sibling = create("sibling", Vec::new());
    sibling.containers[0].pull_policy = Some(PullPolicy::IfNotPresent);
    world.run(&sibling).await;
    let mut found = Vec::new();
    files_with(world.wherry.data(), &[password], &mut found);
    assert!(found.is_empty(), "the password is in {found:?}");
    assert!(!world.wherry.log().contains(password));
    world.finish().await;
}
