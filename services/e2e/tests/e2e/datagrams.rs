//! Ports for datagrams (UDP): who reaches them, and where they lead.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use wherry_api_types::{KeyCreate, Port, Protocol, Scope};
use wherry_demo_images::recipes;

use crate::support::{PROJECT, World, eventually, shell};

/// Asks a port from this machine; whoever answers must do it from where it was asked.
fn asked_from_here(address: Ipv4Addr, port: u16, words: &str) -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((address, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    socket.send(words.as_bytes()).ok()?;
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[tokio::test]
async fn datagrams_reach_the_ports_that_are_theirs() {
    let world = World::start().await;
    let image = recipes::datagram().unwrap().push(&world.registry.address(), "demo/datagram", "1").await.unwrap();
    let mut echo = shell("echo", &image, "datagram serve 9000 9001 9002 & wait");
    let mapped = Port { public_port: Some(5300), ..Port::new(9001, Protocol::Udp) };
    // A number is another's with another protocol.
    echo.containers[0].ports = vec![Port::new(9000, Protocol::Udp), mapped, Port::new(9002, Protocol::Tcp)];
    let echo = world.run(&echo).await;
    world.logged("echo", "READY").await;
    let address: Ipv4Addr = echo.address.as_deref().unwrap().parse().unwrap();

    for port in [9000, 5300] {
        let answer = eventually("a datagram of this machine is answered", Duration::from_secs(20), async || {
            asked_from_here(address, port, "hello")
        })
        .await;
        assert!(answer.starts_with("hello from "), "{answer}");
    }
    let longest = "x".repeat(1_000);
    let answer =
        eventually("a long one too", Duration::from_secs(20), async || asked_from_here(address, 9000, &longest));
    assert!(answer.await.starts_with(&longest));

    // From the same project all ports are reached, by who one is; from another tenant those that are declared.
    let ask = |port: u16| format!("echo {port} $(datagram ask {address} {port} hi)");
    let script = format!("{}; {}; {}; echo DONE; sleep 999 & wait", ask(9000), ask(5300), ask(9002));
    let asking = shell("asking", &image, &script);
    let neighbour = world.run(&asking).await;
    let text = world.logged("asking", "DONE").await;
    let own = neighbour.address.unwrap();
    assert_eq!(text, format!("9000 hi from {own}\n5300 hi from {own}\n9002 hi from {own}\nDONE\n"));

    let tenant = world.client.create_tenant("other").await.unwrap();
    let scopes = vec![Scope::InstancesRead, Scope::InstancesWrite, Scope::LogsRead];
    let key = KeyCreate { name: "e2e".to_owned(), scopes, expires_at: None };
    let key = world.client.create_tenant_key(&tenant.id, &key).await.unwrap();
    let credentials = wherry_api_client::Credentials { key_id: key.key.id, key_secret: key.secret };
    let other = world.wherry.client_with(credentials);
    let foreign = other.create_instance(PROJECT, &asking, None).await.unwrap();
    let text = eventually("the stranger has asked", Duration::from_mins(1), async || {
        let text = crate::confinement::logs_of(&other, &foreign.id).await;
        text.contains("DONE").then_some(text)
    })
    .await;
    let stranger = other.instance(PROJECT, &foreign.id).await.unwrap().address.unwrap();
    assert_eq!(text, format!("9000 hi from {stranger}\n5300 hi from {stranger}\n9002\nDONE\n"));
    world.finish().await;
}
