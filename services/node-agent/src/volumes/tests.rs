use std::collections::BTreeMap;

use wherry_agent_api::{DesiredContainer, DesiredMore};
use wherry_model::{Action, CpuMillis, Generation, MemoryMib, RestartPolicy};

use super::*;

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.parse().unwrap(), source }
}

fn config(files: &[(&str, &str)]) -> VolumeSource {
    let files: BTreeMap<String, String> = files.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    VolumeSource::Config { files }
}

fn empty(medium: Medium, size: Option<u32>) -> VolumeSource {
    VolumeSource::EmptyDir { medium, size: size.map(MemoryMib::new) }
}

fn desired(volumes: Vec<Volume>) -> DesiredInstance {
    let image = "r.example/web:1".parse().unwrap();
    let spec = ContainerSpec::new("main".parse().unwrap(), image, CpuMillis::new(100), MemoryMib::new(64));
    DesiredInstance {
        id: "01".repeat(16).parse().unwrap(),
        generation: Generation::FIRST,
        action: Action::Run,
        tenant: "02".repeat(16).parse().unwrap(),
        project: "03".repeat(16).parse().unwrap(),
        name: "web".parse().unwrap(),
        search_domain: "x.example".to_owned(),
        containers: vec![DesiredContainer::new(spec, None)],
        restart_policy: RestartPolicy::Always,
        stop_grace_seconds: 10,
        first_run: 1,
        fence_after_seconds: None,
        more: DesiredMore { volumes, ..DesiredMore::default() },
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn ready_again_changes_nothing_that_was_written() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("volumes/one");
    let wanted = desired(vec![volume("scratch", empty(Medium::Disk, None)), volume("conf", config(&[("a", "1")]))]);
    fs::create_dir_all(folder.join("disk/scratch.new/x")).unwrap();
    prepare(&folder, &wanted).unwrap();
    assert_eq!((mode(&folder.join("disk/scratch")), mode(&data.path().join("volumes"))), (0o777, 0o700));
    assert_eq!(mode(&folder.join("config/conf/a")), 0o644);
    fs::write(folder.join("disk/scratch/mine"), "kept").unwrap();
    fs::set_permissions(folder.join("disk/scratch"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(folder.join("config/conf/a"), "torn").unwrap();
    prepare(&folder, &wanted).unwrap();
    assert_eq!(fs::read_to_string(folder.join("disk/scratch/mine")).unwrap(), "kept");
    assert_eq!(mode(&folder.join("disk/scratch")), 0o750, "that is the container's");
    assert_eq!(fs::read_to_string(folder.join("config/conf/a")).unwrap(), "1");
    prepare(&folder, &desired(vec![volume("conf", config(&[("b", "2")]))])).unwrap();
    assert!(!folder.join("config/conf/a").exists() && folder.join("config/conf/b").exists());
    remove(&folder).unwrap();
    remove(&folder).unwrap();
    assert!(!folder.exists());
}

#[test]
fn what_a_container_sees() {
    let wanted = desired(vec![
        volume("disk", empty(Medium::Disk, None)),
        volume("fast", empty(Medium::Memory, Some(8))),
        volume("conf", config(&[("a", "1")])),
    ]);
    let mount = |name: &str, sub_path: Option<&str>| VolumeMount {
        volume: name.parse().unwrap(),
        path: format!("/{name}"),
        sub_path: sub_path.map(str::to_owned),
        read_only: false,
    };
    let mut container = wanted.containers[0].spec.clone();
    container.mounts = vec![mount("disk", Some("x/y")), mount("fast", None), mount("conf", Some("a"))];
    let seen = mounts(Path::new("/v"), &wanted, &container).unwrap();
    let part = MountPart { path: "x/y".into(), stage: format!("/v/.parts/{}.0", container.name).into() };
    assert_eq!((seen[0].part.as_ref(), seen[0].memory_bytes, seen[0].read_only), (Some(&part), None, false));
    assert_eq!((seen[1].part.as_ref(), seen[1].memory_bytes), (None, Some(8 << 20)));
    assert_eq!(seen[1].host_path, Path::new("/v/memory/fast.1"));
    assert_eq!((seen[2].host_path.as_path(), seen[2].read_only), (Path::new("/v/config/conf/a"), true));
}

#[test]
fn what_the_spec_does_not_name_any_more_goes() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("volumes/one");
    let disk = || volume("v", empty(Medium::Disk, None));
    prepare(&folder, &desired(vec![disk(), volume("old", empty(Medium::Disk, None))])).unwrap();
    fs::write(folder.join("disk/old/x"), "x").unwrap();
    fs::write(folder.join("disk/v/x"), "x").unwrap();
    prepare(&folder, &desired(vec![disk()])).unwrap();
    assert!(folder.join("disk/v/x").exists() && !folder.join("disk/old").exists());
    prepare(&folder, &desired(Vec::new())).unwrap();
    assert!(!folder.exists());
}

#[test]
fn a_volume_of_another_kind_is_another_volume() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("volumes/one");
    let host = data.path().join("of-the-host");
    fs::write(&host, "secret").unwrap();
    let wanted = |source| desired(vec![volume("v", source)]);
    prepare(&folder, &wanted(empty(Medium::Disk, None))).unwrap();
    std::os::unix::fs::symlink(&host, folder.join("disk/v/f")).unwrap();
    fs::create_dir_all(folder.join("disk/v/g/h")).unwrap();
    prepare(&folder, &wanted(config(&[("f", ""), ("g", "1")]))).unwrap();
    assert!(!folder.join("disk/v").exists());
    assert_eq!(fs::read_to_string(folder.join("config/v/g")).unwrap(), "1");
    prepare(&folder, &wanted(empty(Medium::Disk, None))).unwrap();
    assert_eq!(fs::read_dir(folder.join("disk/v")).unwrap().count(), 0);
    assert_eq!(mode(&folder.join("disk/v")), 0o777);
    assert!(!folder.join("config/v").exists());
    assert_eq!(fs::read_to_string(host).unwrap(), "secret");
}

#[test]
fn files_are_put_in_the_place_of_whatever_is_there() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("conf");
    let host = data.path().join("of-the-host");
    fs::write(&host, "same").unwrap();
    fs::create_dir_all(folder.join("folder/x")).unwrap();
    fs::create_dir_all(folder.join("unnamed/x")).unwrap();
    std::os::unix::fs::symlink(&host, folder.join("link")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("endless")).unwrap();
    std::os::unix::fs::symlink(&host, folder.join("..new")).unwrap();
    let queue = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, folder.join("queue"), rustix::fs::FileType::Fifo, queue, 0).unwrap();
    fs::write(folder.join("right"), "same").unwrap();
    let names = ["endless", "folder", "link", "queue", "right"];
    files::write(&folder, &names.map(|name| (name.to_owned(), "same".to_owned())).into()).unwrap();
    for name in names {
        let about = fs::symlink_metadata(folder.join(name)).unwrap();
        assert!(about.is_file(), "{name} is none of ours");
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "same", "{name}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), names.len());
    fs::remove_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(data.path(), &folder).unwrap();
    files::write(&folder, &[("a".to_owned(), "1".to_owned())].into()).unwrap();
    assert!(is_folder(&folder) && host.exists(), "the folder was a link");
}

#[test]
fn memory_is_given_back_without_touching_what_is_in_it() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("volumes/one");
    remove_memory(&folder).unwrap();
    let mut wanted =
        desired(vec![volume("fast", empty(Medium::Memory, None)), volume("kept", empty(Medium::Disk, None))]);
    prepare(&folder, &wanted).unwrap();
    fs::create_dir_all(folder.join(".parts/main.0")).unwrap();
    remove_memory(&folder).unwrap();
    assert!(!folder.join("memory/fast.1").exists() && !folder.join(".parts/main.0").exists());
    assert!(folder.join("disk/kept").exists());
    prepare(&folder, &wanted).unwrap();
    assert!(folder.join("memory/fast.1").exists());
    wanted.generation = wanted.generation.next();
    prepare(&folder, &wanted).unwrap();
    assert!(!folder.join("memory/fast.1").exists() && folder.join("memory/fast.2").exists());
    fs::create_dir_all(folder.join(".parts/main.0/data")).unwrap();
    assert!(remove_memory(&folder).is_err() && folder.join(".parts/main.0/data").exists());
}

#[test]
fn volumes_in_memory_take_no_more_than_the_containers_together() {
    let (sized, rest) = (empty(Medium::Memory, Some(24)), empty(Medium::Memory, None));
    let wanted = desired(vec![volume("a", sized), volume("b", rest.clone()), volume("c", rest)]);
    assert_eq!(memory_left(&wanted), 20 << 20);
    let all = desired(vec![volume("a", empty(Medium::Memory, Some(64))), volume("b", empty(Medium::Memory, None))]);
    assert_eq!(memory_left(&all), 1 << 20, "0 would be no limit");
}
