//! Routes between machines in a real kernel: network namespaces of the test's own stand for two machines and the network
//! between them.
//!
//! Needs root and iproute2; touches nothing outside its own namespaces.

#![expect(clippy::unwrap_used, reason = "all of it is a test; clippy knows only the test functions for one")]

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use uuid::Uuid;
use wherry_agent_api::Peer;
use wherry_model::NodeId;
use wherry_node_agent::{KernelRoutes, RouteError, RouteMode, RouteTable as _, Vxlan};

fn output(words: &str) -> String {
    let mut words_of = words.split_whitespace();
    let output = Command::new(words_of.next().unwrap()).args(words_of).output();
    let output = output.unwrap_or_else(|error| panic!("`{words}`: {error}; this test needs root and iproute2"));
    assert!(output.status.success(), "`{words}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn run(words: &str) {
    output(words);
}

/// Two machines on one network, or with a router between them; each has an address of an instance.
struct Lab {
    tag: String,
    hosts: Vec<String>,
}

impl Lab {
    fn new(flat: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("wr{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut lab = Self { tag, hosts: Vec::new() };
        for host in ["one", "two", "net"] {
            run(&format!("ip netns add {}", lab.name(host)));
            lab.hosts.push(lab.name(host));
            run(&format!("ip -n {} link set lo up", lab.name(host)));
            run(&format!("ip netns exec {} sysctl -qw net.ipv4.ip_forward=1", lab.name(host)));
        }
        let net = lab.name("net");
        if flat {
            run(&format!("ip -n {net} link add br0 type bridge"));
            run(&format!("ip -n {net} link set br0 up"));
        }
        for (number, host) in [(1, "one"), (2, "two")] {
            let name = lab.name(host);
            run(&format!("ip -n {net} link add to{number} type veth peer name eth0 netns {name}"));
            run(&format!("ip -n {net} link set to{number} up"));
            run(&format!("ip -n {name} link set eth0 up"));
            if flat {
                run(&format!("ip -n {net} link set to{number} master br0"));
                run(&format!("ip -n {name} addr add 192.0.2.{number}/24 dev eth0"));
            } else {
                run(&format!("ip -n {net} addr add 198.51.{number}.254/24 dev to{number}"));
                run(&format!("ip -n {name} addr add 198.51.{number}.{number}/24 dev eth0"));
                run(&format!("ip -n {name} route add default via 198.51.{number}.254"));
            }
            // An instance's address, reached by way of its machine.
            run(&format!("ip -n {name} addr add 10.128.{number}.5/32 dev lo"));
        }
        lab.serve();
        lab
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }

    fn routes(&self, host: &str, number: u8, mode: RouteMode) -> KernelRoutes {
        let prefix = ["ip", "netns", "exec", &self.name(host)].map(str::to_owned).to_vec();
        KernelRoutes::new(mode, (Ipv4Addr::new(10, 128, number, 0), 24)).through(prefix)
    }

    /// Runs on a thread that lives in the host's network.
    fn on<T: Send + 'static>(&self, host: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name(host));
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
            work()
        })
    }

    /// An instance of the second machine that answers every packet.
    fn serve(&self) {
        let (bound, ready) = std::sync::mpsc::channel();
        drop(self.on("two", move || {
            let socket = UdpSocket::bind("10.128.2.5:7").unwrap();
            bound.send(()).unwrap();
            let mut packet = [0; 16];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                drop(socket.send_to(&packet[..length], from));
            }
        }));
        ready.recv().unwrap();
    }

    /// Whether an instance of the first machine gets an answer from the one of the second.
    fn reaches(&self) -> bool {
        let asking = self.on("one", || {
            let socket = UdpSocket::bind("10.128.1.5:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            // The first packets may be lost while the machines look for each other.
            (0..20).any(|_| {
                let sent = socket.send_to(b"hello", "10.128.2.5:7");
                if sent.is_err() {
                    std::thread::sleep(Duration::from_millis(200));
                    return false;
                }
                let mut answer = [0; 16];
                socket.recv_from(&mut answer).is_ok_and(|(length, _)| &answer[..length] == b"hello")
            })
        });
        asking.join().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            drop(Command::new("ip").args(["netns", "del", host]).output());
        }
    }
}

fn peer(number: u8, underlay: Ipv4Addr) -> Peer {
    let node = NodeId::from_uuid(Uuid::from_u128(u128::from(number)));
    Peer { node, range: (Ipv4Addr::new(10, 128, number, 0), 24), underlay }
}

#[tokio::test]
async fn host_routes_on_a_flat_network() {
    let lab = Lab::new(true);
    let one = lab.routes("one", 1, RouteMode::HostRoutes);
    let two = lab.routes("two", 2, RouteMode::HostRoutes);
    let (first, second) = (peer(1, Ipv4Addr::new(192, 0, 2, 1)), peer(2, Ipv4Addr::new(192, 0, 2, 2)));
    run(&format!("ip -n {} route add 203.0.113.0/24 via 192.0.2.77", lab.name("one")));
    one.keep(std::slice::from_ref(&second)).await.unwrap();
    two.keep(std::slice::from_ref(&first)).await.unwrap();
    assert!(lab.reaches());
    // One that no machine of this network has does not keep the others from being served.
    let far = peer(3, Ipv4Addr::new(198, 51, 100, 3));
    assert!(matches!(one.keep(&[far, second.clone()]).await, Err(RouteError::Refused(_))));
    assert!(lab.reaches());
    // A machine that moved is followed, one that is gone is forgotten, what is not ours stays.
    one.keep(&[peer(2, Ipv4Addr::new(192, 0, 2, 9))]).await.unwrap();
    assert!(output(&format!("ip -n {} route show 10.128.2.0/24", lab.name("one"))).contains("192.0.2.9"));
    one.remove().await.unwrap();
    let left = output(&format!("ip -n {} route show", lab.name("one")));
    assert!(!left.contains("10.128.2.0") && left.contains("203.0.113.0/24"), "{left}");
}

#[tokio::test]
async fn a_vxlan_over_a_router() {
    let lab = Lab::new(false);
    let vxlan = |local| RouteMode::Vxlan(Vxlan { device: "wherry-vx".to_owned(), id: 119, port: 4789, local });
    let (at_one, at_two) = (Ipv4Addr::new(198, 51, 1, 1), Ipv4Addr::new(198, 51, 2, 2));
    let one = lab.routes("one", 1, vxlan(at_one));
    let two = lab.routes("two", 2, vxlan(at_two));
    for _ in 0..2 {
        // The second time nothing has to be changed.
        one.keep(&[peer(2, at_two)]).await.unwrap();
        two.keep(&[peer(1, at_one)]).await.unwrap();
    }
    assert!(lab.reaches());
    let plain = lab.routes("one", 1, RouteMode::HostRoutes);
    assert!(plain.keep(&[peer(2, at_two)]).await.is_err(), "there is a router between: a plain route cannot do");
    one.keep(&[]).await.unwrap();
    let known = output(&format!("ip netns exec {} bridge fdb show dev wherry-vx", lab.name("one")));
    assert!(!known.contains("198.51.2.2"), "{known}");
    one.keep(&[peer(2, at_two)]).await.unwrap();
    assert!(lab.reaches(), "it is found again");
    one.remove().await.unwrap();
    one.remove().await.unwrap();
    assert!(!output(&format!("ip -n {} link show", lab.name("one"))).contains("wherry-vx"));
}
