//! What a container sees of its confinement, and what it reaches.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use wherry_api_client::{Client, Credentials};
use wherry_api_types::{InstanceCreate, InstanceState, KeyCreate, Port, Protocol, Scope};

use crate::support::{PROJECT, World, dns, eventually};

/// CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE (linux/capability.h).
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10;

#[tokio::test]
async fn the_profile_as_seen_from_inside() {
    let world = World::start().await;
    let script = "
        echo HOST $(hostname)
        grep -E '^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status
        echo KCORE $(cat /proc/kcore | wc -c)
        echo IPV6 $(wc -l < /proc/net/if_inet6)
        echo PROCESSES $(ls -d /proc/[0-9]* | wc -l)
        echo x > /proc/sysrq-trigger && echo BAD sysrq
        echo 1 > /proc/sys/kernel/panic && echo BAD sysctl
        mount -t tmpfs none /tmp && echo BAD mount
        for controller in pids memory cpu unified; do mkdir /sys/fs/cgroup/$controller/x && echo BAD cgroup $controller; done
        grep cgroup /proc/mounts
        unshare -r true && echo BAD user namespace
        dmesg > /dev/null && echo BAD kernel log
        ls /dev/mem /dev/vda && echo BAD devices
        echo DONE; sleep 999 & wait";
    let inside = world.run(&world.script("inside", script)).await;
    let text = world.logged("inside", "DONE").await;
    assert!(!text.contains("BAD"), "{text}");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is missing: {text}")).trim().to_owned()
    };
    for set in ["CapEff:", "CapBnd:", "CapPrm:"] {
        assert_eq!(u64::from_str_radix(&value(set), 16).unwrap(), CAPABILITIES, "{set} {text}");
    }
    assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    assert_eq!((value("HOST"), value("KCORE"), value("IPV6")), ("inside".to_owned(), "0".to_owned(), "0".to_owned()));
    assert!(value("PROCESSES").parse::<u32>().unwrap() < 6, "it sees other processes: {text}");

    let engine = world.wherry.engine();
    let main = engine.iter().find(|thing| thing.is_container() && thing.instance() == Some(&inside.id)).unwrap();
    let pid = main.pid.unwrap();
    let memory = cgroup_file(pid, "memory", &["memory.limit_in_bytes", "memory.max"]).unwrap();
    assert_eq!(memory.parse::<u64>().unwrap(), 32 << 20);
    if let Some(swap) = cgroup_file(pid, "memory", &["memory.memsw.limit_in_bytes"]) {
        assert_eq!(swap, memory, "it may swap");
    }
    if let Some(swap) = cgroup_file(pid, "memory", &["memory.swap.max"]) {
        assert_eq!(swap, "0");
    }
    for namespace in ["net", "pid", "mnt", "ipc", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "it shares the machine's {namespace} namespace");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_fork_bomb_stops_at_its_limit_and_the_neighbour_lives() {
    let world = World::start().await;
    let neighbour = world.run(&world.script("neighbour", "while :; do echo alive; sleep 0.2; done")).await;
    // Its first process forks no more once both are lit: else it would end as soon as it may not.
    let script = "(f() { sleep 60 & f; }; f) & (while :; do sleep 60 & done) & exec sleep 99";
    let mut bomb = world.script("bomb", script);
    bomb.stop_grace_seconds = Some(1);
    // A thousand processes need processor time even to die, and get no more of it than this.
    bomb.containers[0].cpu = Some("500m".to_owned());
    let bomb = world.run(&bomb).await;
    let main = eventually("the bomb has a process", Duration::from_secs(30), async || {
        let engine = world.wherry.engine();
        engine.iter().find(|thing| thing.is_container() && thing.instance() == Some(&bomb.id))?.pid
    })
    .await;
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let Some(folder) = cgroup_folder(main, "pids") else { break };
        let now = fs::read_to_string(folder.parent().unwrap().join("pids.current")).unwrap_or_default();
        most = most.max(now.trim().parse().unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((2..=1_100).contains(&most), "the bomb had {most} processes");
    let before = world.logs("neighbour", None).await.lines().count();
    eventually("the neighbour goes on", Duration::from_secs(5), async || {
        (world.logs("neighbour", None).await.lines().count() > before + 3).then_some(())
    })
    .await;
    assert_eq!(world.get(&neighbour.id).await.containers[0].runs.len(), 1);
    world.delete("bomb").await;
    world.finish().await;
}

/// A file of the process's cgroup, by the first of its names that is there.
fn cgroup_file(pid: u32, controller: &str, names: &[&str]) -> Option<String> {
    let folder = cgroup_folder(pid, controller)?;
    let text = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok())?;
    Some(text.trim().to_owned())
}

fn cgroup_folder(pid: u32, controller: &str) -> Option<std::path::PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|one| one == wanted).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    match of(controller) {
        Some(path) => Some(Path::new("/sys/fs/cgroup").join(controller).join(path)),
        None => of("").map(|path| Path::new("/sys/fs/cgroup").join(path)),
    }
}

/// A listener of the machine itself, on every address, that answers as a web server.
fn host_service() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhost");
        }
    });
    port
}

/// A script that asks each service for its page and prints whether it came. By `nc`, because the `wget` of Debian's static
/// busybox crashes.
fn probing(services: &[(&str, String, u16)]) -> String {
    let probes = services.iter().map(|(name, host, port)| {
        let fetch = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} {port} | grep -q 'HTTP/1'");
        format!("if {fetch}; then echo {name} yes; else echo {name} no; fi")
    });
    format!("{}; echo DONE; sleep 999 & wait", probes.collect::<Vec<_>>().join("; "))
}

#[tokio::test]
async fn who_reaches_whom() {
    let world = World::start().await;
    let everything: Vec<Scope> = world.client.keys().await.unwrap().items[0].scopes.clone();
    let tenant = world.client.create_tenant("other").await.unwrap();
    let scopes = everything.into_iter().filter(|scope| *scope != Scope::Admin).collect();
    let key = KeyCreate { name: "e2e".to_owned(), scopes, expires_at: None };
    let key = world.client.create_tenant_key(&tenant.id, &key).await.unwrap();
    let other = world.wherry.client_with(Credentials { key_id: key.key.id, key_secret: key.secret });

    let mut serve = world.script("web", "echo hello > /tmp/index.html; httpd -p 80 -h /tmp; httpd -p 8080 -h /tmp; trap 'exit 0' TERM; while :; do sleep 1; done");
    serve.containers[0].ports = vec![Port::new(80, Protocol::Tcp)];
    let web = world.run(&serve).await;
    let address = web.address.clone().unwrap();
    let port = host_service();
    let gateway = world.wherry.gateway();
    assert!(TcpStream::connect((gateway, port)).is_ok(), "the machine's own service does not answer");
    let machine = gateway.to_string();
    let services = [
        ("bare-name", "web".to_owned(), 80),
        ("full-name", web.fqdn.clone(), 80),
        ("declared", address.clone(), 80),
        ("undeclared", address.clone(), 8080),
        ("machine", machine.clone(), port),
        ("machine-api", machine.clone(), world.wherry.api.port()),
        ("machine-operator", machine, world.wherry.operator.port()),
        ("metadata", "169.254.169.254".to_owned(), 80),
    ];
    let reached = async |client: &Client, create: &InstanceCreate| -> Vec<String> {
        let made = client.create_instance(PROJECT, create, None).await.unwrap();
        let text = eventually("the probe is done", Duration::from_secs(25), async || {
            let text = logs_of(client, &made.id).await;
            text.contains("DONE").then_some(text)
        })
        .await;
        text.lines().filter_map(|line| line.strip_suffix(" yes")).map(str::to_owned).collect()
    };
    let probe = world.script("probe", &probing(&services));
    let (own, foreign) = tokio::join!(reached(&world.client, &probe), reached(&other, &probe));
    assert_eq!(own, ["bare-name", "full-name", "declared", "undeclared"], "from the same project");
    assert_eq!(foreign, ["full-name", "declared"], "from another tenant");

    // The packet filter pins each address to its line.
    assert!(world.wherry.nft_table().contains("fib saddr . iif oif missing drop"), "{}", world.wherry.nft_table());

    // A name goes with its program.
    world.client.stop_instance(PROJECT, "web").await.unwrap();
    let name_gone = eventually("the name is gone", Duration::from_secs(10), async || {
        dns::over_udp(world.wherry.dns, &web.fqdn).addresses.is_empty().then(Instant::now)
    });
    let stopped = async {
        world.reach("web", InstanceState::Stopped).await;
        Instant::now()
    };
    let (name_gone, stopped) = tokio::join!(name_gone, stopped);
    assert!(name_gone <= stopped + Duration::from_secs(1), "the name outlived its program");
    let answer = dns::over_udp(world.wherry.dns, &format!("absent.{}", web.fqdn.split_once('.').unwrap().1));
    assert_eq!(answer.code, dns::NAME_ERROR);
    assert!(answer.negative_ttl.unwrap() <= 1, "{answer:?}");
    world.finish().await;
}

pub(crate) async fn logs_of(client: &Client, id: &str) -> String {
    use futures_util::StreamExt as _;
    let Ok(mut pieces) = client.logs(PROJECT, id, "main", &wherry_api_client::LogOptions::default()).await else {
        return String::new();
    };
    let mut bytes = Vec::new();
    while let Some(Ok(piece)) = pieces.next().await {
        bytes.extend(piece);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
