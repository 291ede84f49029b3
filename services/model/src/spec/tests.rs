//! Every bound names its field, and a record of the first release reads as what it said.

use super::*;
use crate::name::{ContainerName, VolumeName};
use crate::quantity::Seconds;
use crate::terms::{DeviceSet, GpuAmount};

fn container(name: &str) -> ContainerSpec {
    let name = ContainerName::new(name).unwrap();
    ContainerSpec::new(name, "r.example/web:1".parse().unwrap(), CpuMillis::new(250), MemoryMib::new(64))
}

fn good() -> InstanceSpec {
    InstanceSpec::new(vec![container("main")])
}

fn init(name: &str, cpu: u32) -> ContainerSpec {
    ContainerSpec { kind: ContainerKind::Init, cpu: CpuMillis::new(cpu), ..container(name) }
}

fn waits_for(name: &str, condition: Condition) -> Dependency {
    Dependency { container: ContainerName::new(name).unwrap(), condition }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    let volume = VolumeName::new(volume).unwrap();
    VolumeMount { volume, path: path.to_owned(), sub_path: None, read_only: false }
}

fn repository(url: &str) -> VolumeSource {
    VolumeSource::Git { repository: url.to_owned(), revision: None, directory: None }
}

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: VolumeName::new(name).unwrap(), source }
}

fn probe() -> Probe {
    Probe {
        check: Check::Tcp { port: 80 },
        initial_delay: Seconds(0),
        period: Seconds(10),
        timeout: Seconds(1),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

#[test]
fn a_good_spec_passes_and_sums_up() {
    let spec = good();
    assert_eq!(spec.check(), Ok(()));
    assert_eq!((spec.demand().cpu.get(), spec.demand().memory.get()), (250, 64));
}

#[test]
fn the_beginning_takes_the_place_of_the_rest_and_not_more() {
    let spec = |largest| {
        let mut spec = good();
        spec.containers = vec![init("a", 100), init("b", largest), container("web"), container("side")];
        assert_eq!(spec.check(), Ok(()));
        spec.demand().cpu.get()
    };
    assert_eq!((spec(400), spec(900)), (500, 900));
}

#[test]
fn what_an_older_agent_would_ignore_asks_for_a_newer_one() {
    let mut spec = good();
    spec.containers[0].env = vec![EnvVar::plain("A", "1")];
    spec.containers[0].ports = vec![Port::new(80, Protocol::Tcp)];
    spec.ttl_seconds = Some(60);
    assert_eq!(spec.least_protocol(), 2);
    type Ask = fn(&mut InstanceSpec);
    let asks: [Ask; 6] = [
        |s| s.gpu = Some(GpuDemand::new(GpuAmount::Whole(1))),
        |s| s.containers.push(container("side")),
        |s| s.containers[0].probes.liveness = Some(probe()),
        |s| s.containers[0].ports[0].public_port = Some(8080),
        |s| s.containers[0].env[0].secret = Some(Sealed::new("x".to_owned())),
        |s| s.deadline_seconds = Some(5),
    ];
    for ask in asks {
        let mut spec = spec.clone();
        ask(&mut spec);
        assert_eq!(spec.least_protocol(), 3);
    }
}

#[test]
fn a_record_of_the_first_release_reads_as_what_it_said() {
    let record = r#"{"containers":[{"name":"main","image":"r.example/web:1","command":[],"args":[],"env":[{"name":"A","value":"1"}],
        "working_dir":null,"cpu":250,"memory":64,"ports":[{"port":80,"protocol":"tcp"}]}],
        "restart_policy":"on_failure","architecture":null,"stop_grace_seconds":10,"labels":{}}"#;
    let mut wanted = good();
    wanted.containers[0].env = vec![EnvVar::plain("A", "1")];
    wanted.containers[0].ports = vec![Port::new(80, Protocol::Tcp)];
    let read: InstanceSpec = serde_json::from_str(record).unwrap();
    assert_eq!(read, wanted);
    let compact: String = record.split_whitespace().collect();
    assert_eq!(serde_json::to_string(&read).unwrap(), compact);
}

#[test]
fn circles_are_found_and_chains_are_not() {
    let mut spec = good();
    spec.containers = vec![container("a"), container("b"), container("c")];
    spec.containers[0].depends_on = vec![waits_for("b", Condition::Healthy)];
    spec.containers[1].depends_on = vec![waits_for("c", Condition::Completed)];
    assert_eq!(spec.check(), Ok(()));
    assert!(spec.runs_once(&spec.containers[2]) && !spec.runs_once(&spec.containers[1]));
    spec.containers[2].depends_on = vec![waits_for("a", Condition::Started)];
    assert_eq!(spec.check().unwrap_err().field, "containers[0].depends_on");
}

#[test]
fn signals_have_the_numbers_of_the_kernel() {
    for (name, number) in
        [("SIGHUP", 1), ("SIGINT", 2), ("SIGKILL", 9), ("SIGUSR2", 12), ("SIGTERM", 15), ("SIGSYS", 31)]
    {
        let spec = ContainerSpec { stop_signal: Some(name.to_owned()), ..container("main") };
        assert_eq!(spec.stop_signal_number(), Some(number), "{name}");
    }
    assert_eq!(container("main").stop_signal_number(), None);
}

#[test]
fn limits_above_what_is_reserved_can_be_refused() {
    let mut spec = good();
    assert_eq!(spec.check_limits_are_reserved(), Ok(()));
    spec.containers[0].memory_limit = Some(spec.containers[0].memory);
    assert_eq!(spec.check(), Ok(()));
    assert_eq!(spec.check_limits_are_reserved().unwrap_err().field, "containers[0].limits");
}

#[test]
fn every_bound_names_its_field() {
    type Break = fn(&mut InstanceSpec);
    let cases: [(&str, Break); 74] = [
        ("containers", |s| s.containers.clear()),
        ("containers", |s| s.containers = vec![init("a", 100)]),
        ("containers", |s| s.containers = (0..61).map(|n| container(&format!("c{n}"))).collect()),
        ("containers[1].name", |s| s.containers.push(s.containers[0].clone())),
        ("init_containers[1].name", |s| s.containers.extend([init("a", 100), init("a", 100)])),
        ("containers[0].cpu", |s| s.containers[0].cpu = CpuMillis::new(9)),
        ("containers[0].memory", |s| s.containers[0].memory = MemoryMib::new(3)),
        ("containers[0].limits.cpu", |s| s.containers[0].cpu_limit = Some(CpuMillis::new(249))),
        ("containers[0].limits.memory", |s| s.containers[0].memory_limit = Some(MemoryMib::new(63))),
        ("containers[0].command", |s| s.containers[0].command = vec!["x".into(); 257]),
        ("containers[0].command", |s| s.containers[0].args = vec!["x".repeat(40_000)]),
        ("containers[0].command", |s| s.containers[0].args = vec!["a\0b".into()]),
        ("containers[0].working_dir", |s| s.containers[0].working_dir = Some("srv".into())),
        ("containers[0].user", |s| s.containers[0].user = Some("1000:www".into())),
        ("containers[0].user", |s| s.containers[0].user = Some("a b".into())),
        ("containers[0].stop_signal", |s| s.containers[0].stop_signal = Some("TERM".into())),
        ("containers[0].ports[0].port", |s| s.containers[0].ports = vec![Port::new(0, Protocol::Tcp)]),
        ("containers[0].ports[0].public_port", |s| {
            s.containers[0].ports = vec![Port { public_port: Some(0), ..Port::new(80, Protocol::Tcp) }];
        }),
        ("containers[0].ports[1]", |s| s.containers[0].ports = vec![Port::new(80, Protocol::Tcp); 2]),
        ("containers[1].ports[0]", |s| {
            s.containers.push(container("side"));
            s.containers.iter_mut().for_each(|c| c.ports = vec![Port::new(80, Protocol::Tcp)]);
        }),
        ("containers[0].env[0].name", |s| s.containers[0].env = vec![EnvVar::plain("A=B", "")]),
        ("containers[0].env[0].value", |s| s.containers[0].env = vec![EnvVar::plain("A", "\0")]),
        ("containers[0].env[1].name", |s| s.containers[0].env = vec![EnvVar::plain("A", ""); 2]),
        ("containers[0].volume_mounts[0].volume", |s| s.containers[0].mounts = vec![mount("data", "/data")]),
        ("containers[0].volume_mounts[0].path", |s| {
            s.volumes = vec![volume("data", VolumeSource::EmptyDir { medium: Medium::Disk, size: None })];
            s.containers[0].mounts = vec![mount("data", "/proc/sys")];
        }),
        ("containers[0].volume_mounts[0].path", |s| {
            s.volumes = vec![volume("data", VolumeSource::EmptyDir { medium: Medium::Disk, size: None })];
            s.containers[0].mounts = vec![mount("data", "//proc")];
        }),
        ("containers[0].volume_mounts[1].path", |s| {
            s.volumes = vec![volume("data", VolumeSource::EmptyDir { medium: Medium::Disk, size: None })];
            s.containers[0].mounts = vec![mount("data", "/a//b"), mount("data", "/a/b")];
        }),
        ("containers[0].volume_mounts[1].path", |s| {
            s.volumes = vec![volume("data", VolumeSource::EmptyDir { medium: Medium::Disk, size: None })];
            s.containers[0].mounts = vec![mount("data", "/data"), mount("data", "/data/")];
        }),
        ("ephemeral_disk", |s| s.ephemeral_disk = Some(MemoryMib::new(3))),
        ("gpu.count", |s| s.gpu = Some(GpuDemand::new(GpuAmount::Whole(0)))),
        ("gpu.count", |s| s.gpu = Some(GpuDemand::new(GpuAmount::Whole(17)))),
        ("gpu.share_percent", |s| s.gpu = Some(GpuDemand::new(GpuAmount::Share(0)))),
        ("gpu.share_percent", |s| s.gpu = Some(GpuDemand::new(GpuAmount::Share(1_001)))),
        ("gpu", |s| {
            let devices = DeviceSet::from_bits(1);
            s.gpu = Some(GpuDemand { devices, ..GpuDemand::new(GpuAmount::Whole(1)) });
        }),
        ("gpu", |s| {
            s.gpu = Some(GpuDemand::new(GpuAmount::Share(500)));
            s.isolation = Isolation::Sandboxed;
        }),
        ("pids", |s| s.pids = Some(15)),
        ("pids", |s| s.pids = Some(16_385)),
        ("volumes[0].git.repository", |s| s.volumes = vec![volume("g", repository("ssh://git@a.example/b.git"))]),
        ("volumes[0].git.repository", |s| s.volumes = vec![volume("g", repository("https://me:pass@a.example/b"))]),
        ("volumes[0].git.repository", |s| s.volumes = vec![volume("g", repository("file:///etc"))]),
        ("volumes[0].git", |s| {
            s.volumes = vec![volume("g", repository("https://a.example/b"))];
            s.isolation = Isolation::Sandboxed;
        }),
        ("volumes[0].git.repository", |s| s.volumes = vec![volume("g", repository("http://-a/b"))]),
        ("volumes[0].git.repository", |s| s.volumes = vec![volume("g", repository("http://a b/c"))]),
        ("volumes[0].git.revision", |s| {
            let (repository, directory) = ("https://a.example/b".into(), None);
            let revision = Some("--upload-pack=x".into());
            s.volumes = vec![volume("g", VolumeSource::Git { repository, revision, directory })];
        }),
        ("volumes[0].git.directory", |s| {
            let (repository, revision) = ("https://a.example/b".into(), None);
            let directory = Some("../x".into());
            s.volumes = vec![volume("g", VolumeSource::Git { repository, revision, directory })];
        }),
        ("containers[0].volume_mounts[0].sub_path", |s| {
            s.volumes = vec![volume("data", VolumeSource::EmptyDir { medium: Medium::Disk, size: None })];
            s.containers[0].mounts = vec![VolumeMount { sub_path: Some("../x".into()), ..mount("data", "/data") }];
        }),
        ("volumes[1].name", |s| {
            let source = VolumeSource::EmptyDir { medium: Medium::Memory, size: None };
            s.volumes = vec![volume("data", source.clone()), volume("data", source)];
        }),
        ("volumes[0].empty_dir.size", |s| {
            let source = VolumeSource::EmptyDir { medium: Medium::Disk, size: Some(MemoryMib::new(0)) };
            s.volumes = vec![volume("data", source)];
        }),
        ("volumes[1].empty_dir.size", |s| {
            let size = Some(MemoryMib::new(s.containers[0].most_memory().get() / 2 + 1));
            let source = VolumeSource::EmptyDir { medium: Medium::Memory, size };
            s.volumes = vec![volume("one", source.clone()), volume("two", source)];
        }),
        ("volumes[0].empty_dir.size", |s| {
            let memory = |size| VolumeSource::EmptyDir { medium: Medium::Memory, size };
            s.volumes = vec![volume("rest", memory(None)), volume("all", memory(Some(s.containers[0].most_memory())))];
        }),
        ("volumes[0].config.files", |s| s.volumes = vec![volume("c", VolumeSource::Config { files: BTreeMap::new() })]),
        ("volumes[0].config.files", |s| {
            let files = [("../x".to_owned(), String::new())].into();
            s.volumes = vec![volume("c", VolumeSource::Config { files })];
        }),
        ("volumes[0].empty_dir.size", |s| {
            let source = VolumeSource::EmptyDir { medium: Medium::Disk, size: Some(MemoryMib::new(8)) };
            s.ephemeral_disk = Some(MemoryMib::new(7));
            s.volumes = vec![volume("data", source)];
        }),
        ("volumes[0].empty_dir.size", |s| {
            let size = Some(MemoryMib::new(s.containers[0].memory.get() + 1));
            s.volumes = vec![volume("data", VolumeSource::EmptyDir { medium: Medium::Memory, size })];
        }),
        ("containers[0].volume_mounts[0].sub_path", |s| {
            let files = [("a".to_owned(), String::new())].into();
            s.volumes = vec![volume("c", VolumeSource::Config { files })];
            s.containers[0].mounts = vec![VolumeMount { sub_path: Some("b".into()), ..mount("c", "/c") }];
        }),
        ("containers[0].depends_on[0].container", |s| {
            s.containers[0].depends_on = vec![waits_for("nobody", Condition::Started)];
        }),
        ("containers[0].depends_on", |s| {
            s.containers[0].depends_on = vec![waits_for("main", Condition::Started)];
        }),
        ("containers[0].liveness_probe.period_seconds", |s| {
            s.containers[0].probes.liveness = Some(Probe { period: Seconds(0), ..probe() });
        }),
        ("containers[0].liveness_probe.success_threshold", |s| {
            s.containers[0].probes.liveness = Some(Probe { success_threshold: 2, ..probe() });
        }),
        ("containers[0].readiness_probe.exec.command", |s| {
            s.containers[0].probes.readiness = Some(Probe { check: Check::Exec { command: vec![] }, ..probe() });
        }),
        ("containers[0].startup_probe.http.path", |s| {
            let check = Check::Http { port: 80, path: "x".into(), tls: false, headers: vec![] };
            s.containers[0].probes.startup = Some(Probe { check, ..probe() });
        }),
        ("containers[0].pre_stop.tcp.port", |s| s.containers[0].hooks.pre_stop = Some(Check::Tcp { port: 0 })),
        ("max_restarts", |s| s.max_restarts = Some(1_000_001)),
        ("deadline_seconds", |s| s.deadline_seconds = Some(0)),
        ("schedule.cron", |s| s.schedule = Some(Schedule::new("", "UTC"))),
        ("schedule.cron", |s| s.schedule = Some(Schedule::new("* * * *", "UTC"))),
        ("schedule.time_zone", |s| s.schedule = Some(Schedule::new("@daily", "Europe/Atlantis"))),
        ("schedule.starting_deadline_seconds", |s| {
            s.schedule = Some(Schedule { starting_deadline_seconds: 9, ..Schedule::new("@daily", "UTC") });
        }),
        ("restart_policy", |s| {
            s.schedule = Some(Schedule::new("@daily", "UTC"));
            s.restart_policy = RestartPolicy::Always;
        }),
        ("ttl_seconds", |s| {
            s.schedule = Some(Schedule::new("@daily", "UTC"));
            s.ttl_seconds = Some(60);
        }),
        ("dns.searches[0]", |s| s.dns.searches = vec!["a b".into()]),
        ("host_aliases[0].names", |s| {
            s.host_aliases = vec![HostAlias { address: [10, 0, 0, 1].into(), names: vec![] }];
        }),
        ("stop_grace_seconds", |s| s.stop_grace_seconds = 601),
        ("labels.a", |s| {
            s.labels.insert("a".into(), "\n".into());
        }),
    ];
    for (field, break_it) in cases {
        let mut spec = good();
        break_it(&mut spec);
        assert_eq!(spec.check().unwrap_err().field, field);
    }
}
