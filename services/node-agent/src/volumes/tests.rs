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
    fs::create_dir_all(folder.join("scratch.new")).unwrap();
    prepare(&folder, &wanted).unwrap();
    assert_eq!((mode(&folder.join("scratch")), mode(&data.path().join("volumes"))), (0o777, 0o700));
    assert_eq!(mode(&folder.join("conf/a")), 0o644);
    fs::write(folder.join("scratch/mine"), "kept").unwrap();
    fs::set_permissions(folder.join("scratch"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(folder.join("conf/a"), "torn").unwrap();
    prepare(&folder, &wanted).unwrap();
    assert_eq!(fs::read_to_string(folder.join("scratch/mine")).unwrap(), "kept");
    assert_eq!(mode(&folder.join("scratch")), 0o750, "that is the container's");
    assert_eq!(fs::read_to_string(folder.join("conf/a")).unwrap(), "1");
    prepare(&folder, &desired(vec![volume("conf", config(&[("b", "2")]))])).unwrap();
    assert!(!folder.join("conf/a").exists() && folder.join("conf/b").exists());
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
    let seen = mounts(Path::new("/v"), &wanted, &container);
    let part = MountPart { path: "x/y".into(), stage: format!("/v/.parts/{}.0", container.name).into() };
    assert_eq!((seen[0].part.as_ref(), seen[0].memory_bytes, seen[0].read_only), (Some(&part), None, false));
    assert_eq!((seen[1].part.as_ref(), seen[1].memory_bytes), (None, Some(8 << 20)));
    assert_eq!((seen[2].host_path.as_path(), seen[2].read_only), (Path::new("/v/conf/a"), true));
}
