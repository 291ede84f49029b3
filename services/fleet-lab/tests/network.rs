//! The lab's own network: what it connects, what it cuts, what it leaves. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use wherry_fleet_lab::{Direction, Gate, Host, Network};

const WITHIN: Duration = Duration::from_secs(20);

fn network(name: &str) -> Network {
    assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
    Network::create(&format!("wl{}{name}", std::process::id())).unwrap()
}

/// Whether one datagram of many gets from one host to the other.
fn hears(listener: &Host, speaker: &Host) -> bool {
    let ear = listener.namespace.within(|| UdpSocket::bind((listener.address, 0)).unwrap()).unwrap();
    let mouth = speaker.namespace.within(|| UdpSocket::bind((speaker.address, 0)).unwrap()).unwrap();
    ear.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let to = ear.local_addr().unwrap();
    let begun = Instant::now();
    // Long enough for a loaded machine when something comes, and not long when nothing does.
    while begun.elapsed() < Duration::from_secs(2) {
        mouth.send_to(b"hello", to).unwrap();
        if ear.recv(&mut [0; 16]).is_ok() {
            return true;
        }
    }
    false
}

#[test]
fn lines_are_cut_in_the_direction_that_was_asked_for_and_mended() {
    let network = network("cut");
    let (left, right) = (network.attach("left", 1).unwrap(), network.attach("right", 2).unwrap());
    let third = network.attach("third", 3).unwrap();
    assert!(hears(&left, &right) && hears(&right, &left));
    network.cut(&left, Direction::Outgoing).unwrap();
    assert!(!hears(&right, &left) && hears(&left, &right));
    network.mend(&left).unwrap();
    network.cut(&left, Direction::Both).unwrap();
    assert!(!hears(&right, &left) && !hears(&left, &right) && hears(&right, &third));
    network.mend(&left).unwrap();
    network.cut_between(&left, &right, Direction::Both).unwrap();
    assert!(!hears(&right, &left) && !hears(&left, &right) && hears(&left, &third));
    network.mend(&left).unwrap();
    network.lose(&left, 30).unwrap();
    assert!(hears(&left, &right) && hears(&right, &left));
}

#[test]
fn a_gate_leads_in_and_out_and_can_be_shut() {
    let network = network("gate");
    let host = network.attach("host", 1).unwrap();
    let server = host.namespace.within(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
    let address = server.local_addr().unwrap();
    let inside = std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut word = [0; 4];
            if stream.read_exact(&mut word).is_ok() {
                if &word == b"over" {
                    return;
                }
                stream.write_all(&word).unwrap();
            }
        }
    });
    let gate = Gate::into(&host.namespace, address).unwrap();
    assert!(echoes(gate.address()));
    gate.shut();
    let begun = Instant::now();
    while echoes(gate.address()) {
        assert!(begun.elapsed() < WITHIN, "a gate that is shut lets through");
    }
    gate.reopen();
    let begun = Instant::now();
    while !echoes(gate.address()) {
        assert!(begun.elapsed() < WITHIN, "a gate that is open lets nothing through");
    }
    // From the machine into the host, and from the host out to the machine again.
    let out = Gate::out_of(&host.namespace, 0, gate.address()).unwrap();
    assert!(host.namespace.within(|| echoes(out.address())).unwrap());
    TcpStream::connect(gate.address()).unwrap().write_all(b"over").unwrap();
    inside.join().unwrap();
}

fn echoes(address: SocketAddr) -> bool {
    let exchange = || -> std::io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(WITHIN))?;
        stream.write_all(b"word")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    exchange().is_ok_and(|answer| &answer == b"word")
}

#[test]
fn nothing_is_left_of_a_network() {
    let network = network("gone");
    let host = network.attach("host", 1).unwrap();
    let name = host.namespace.name().to_owned();
    let shown = || String::from_utf8(Command::new("ip").args(["netns", "list"]).output().unwrap().stdout).unwrap();
    assert!(shown().contains(&name));
    drop((host, network));
    assert!(!shown().contains(&format!("wl{}gone", std::process::id())), "{}", shown());
}
