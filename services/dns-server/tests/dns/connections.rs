//! Listening, TCP connections, stopping.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use tokio_util::sync::CancellationToken;
use wherry_dns_server::{AuthoritativeConfig, AuthoritativeServer, BindError, Limits, ZoneHandle};

use crate::support::{
    APEX, ask_tcp, ask_udp, connect, loopback, question, receive_tcp, sample_zone, send_tcp, serve, serve_sample,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_questions_and_pieces() {
    let server = serve_sample();
    let mut stream = connect(server.address);
    let packet = question("web.h1.local.wherry.internal", RecordType::A).to_vec().unwrap();
    for _ in 0..20 {
        send_tcp(&mut stream, &packet);
    }
    for _ in 0..20 {
        let reply = Message::from_vec(&receive_tcp(&mut stream).unwrap()).unwrap();
        assert_eq!(reply.answers.len(), 1);
    }
    stream.set_nodelay(true).unwrap();
    let framed = [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], &packet].concat();
    for byte in framed {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(receive_tcp(&mut stream).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_talkative_connections_are_closed() {
    let idle = Duration::from_millis(200);
    let server = serve(Limits { tcp_idle_timeout: idle, ..Limits::default() });
    server.zones.store(sample_zone(1)).unwrap();
    let begun = Instant::now();
    let mut silent = connect(server.address);
    let mut slow = connect(server.address);
    slow.write_all(&[0, 100, 1, 2, 3]).unwrap();
    let mut talkative = connect(server.address);
    talkative.write_all(&60_000_u16.to_be_bytes()).unwrap();
    for stream in [&mut silent, &mut slow, &mut talkative] {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "closed without a word");
    }
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(ask_tcp(server.address, &question(APEX, RecordType::SOA)).answers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_its_share_of_connections_and_no_more() {
    let server = serve(Limits { tcp_connections_per_client: 3, ..Limits::default() });
    server.zones.store(sample_zone(1)).unwrap();
    let packet = question(APEX, RecordType::SOA).to_vec().unwrap();
    let mut held: Vec<_> = (0..3).map(|_| connect(server.address)).collect();
    for stream in &mut held {
        send_tcp(stream, &packet);
        assert!(receive_tcp(stream).is_some());
    }
    let mut fourth = connect(server.address);
    assert_eq!(fourth.read(&mut [0; 1]).unwrap_or(0), 0, "closed without a word");
    assert_eq!(server.server.counters().read().tcp_refused, 1);
    assert_eq!(ask_udp(server.address, &question(APEX, RecordType::SOA)).answers.len(), 1, "UDP is not concerned");

    drop(held);
    let begun = Instant::now();
    loop {
        let mut again = connect(server.address);
        send_tcp(&mut again, &packet);
        if receive_tcp(&mut again).is_some() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "closed connections give their place back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_everything_and_frees_the_port() {
    let server = serve_sample();
    let mut open = connect(server.address);
    send_tcp(&mut open, &question(APEX, RecordType::SOA).to_vec().unwrap());
    assert!(receive_tcp(&mut open).is_some());
    server.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), server.server.stopped()).await.expect("the server stops");
    assert_eq!(open.read(&mut [0; 1]).unwrap_or(0), 0);

    let config = AuthoritativeConfig { listen: vec![server.address], limits: Limits::default() };
    let zones = ZoneHandle::new(APEX).unwrap();
    AuthoritativeServer::bind(&config, zones, &CancellationToken::new()).expect("the port is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_stops() {
    let server = serve_sample();
    let (address, zones) = (server.address, Arc::downgrade(&server.zones));
    drop(server);
    let begun = Instant::now();
    while zones.upgrade().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(5), "tasks of {address} still run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named_with_the_way_out() {
    let taken = serve_sample();
    let bind = |listen| {
        let config = AuthoritativeConfig { listen, limits: Limits::default() };
        AuthoritativeServer::bind(&config, ZoneHandle::new(APEX).unwrap(), &CancellationToken::new())
    };
    let error = bind(vec![loopback(), taken.address]).err().expect("the address is taken");
    assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&taken.address.to_string()) && text.contains("choose another"), "{text}");

    let only_tcp = TcpListener::bind(loopback()).unwrap();
    let error = bind(vec![only_tcp.local_addr().unwrap()]).err().expect("TCP is taken");
    assert!(matches!(error, BindError::InUse { transport: "tcp", .. }), "{error:?}");

    let error = bind(vec!["192.0.2.1:0".parse().unwrap()]).err().expect("nobody has this address");
    assert!(matches!(error, BindError::NoSuchAddress { .. }), "{error:?}");
}
