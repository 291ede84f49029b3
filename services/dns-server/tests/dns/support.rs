//! A client that speaks DNS over real sockets, and servers to speak to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio_util::sync::CancellationToken;
use wherry_dns_server::{AuthoritativeConfig, AuthoritativeServer, Limits, Zone, ZoneBuilder, ZoneHandle};

pub(crate) const APEX: &str = "local.wherry.internal";
const PATIENCE: Duration = Duration::from_secs(5);

/// `web.h1` with both families and a service, `big` with more addresses than UDP carries.
pub(crate) fn sample_zone(serial: u32) -> Zone {
    let mut builder = ZoneBuilder::new(APEX, serial, 4).unwrap();
    builder.name_server_address([127, 0, 0, 1].into()).unwrap();
    builder.address("web.h1.local.wherry.internal", [10, 0, 0, 1].into()).unwrap();
    builder.address("web.h1.local.wherry.internal", "fd00::1".parse().unwrap()).unwrap();
    builder.service("_http._tcp.web.h1.local.wherry.internal", 1, 2, 8080, "web.h1.local.wherry.internal").unwrap();
    for last in 0..60 {
        builder.address("big.local.wherry.internal", [10, 0, 1, last].into()).unwrap();
    }
    for last in 0..60_u16 {
        builder.address("huge.local.wherry.internal", [0xfd00, 0, 0, 0, 0, 0, 0, last].into()).unwrap();
    }
    builder.build().unwrap()
}

pub(crate) struct TestServer {
    pub(crate) server: AuthoritativeServer,
    pub(crate) zones: Arc<ZoneHandle>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) address: SocketAddr,
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn serve(limits: Limits) -> TestServer {
    let zones = ZoneHandle::new(APEX).unwrap();
    let shutdown = CancellationToken::new();
    let config = AuthoritativeConfig { listen: vec![loopback()], limits };
    let server = AuthoritativeServer::bind(&config, Arc::clone(&zones), &shutdown).unwrap();
    let address = server.local_addresses()[0];
    TestServer { server, zones, shutdown, address }
}

pub(crate) fn serve_sample() -> TestServer {
    let server = serve(Limits::default());
    server.zones.store(sample_zone(7)).unwrap();
    server
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x4242, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message
}

pub(crate) fn with_edns(mut message: Message, payload_bytes: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload_bytes);
    message.set_edns(edns);
    message
}

pub(crate) fn ask_udp(server: SocketAddr, message: &Message) -> Message {
    let reply = exchange_udp(server, &message.to_vec().unwrap()).expect("an answer over UDP");
    Message::from_vec(&reply).unwrap()
}

pub(crate) fn ask_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = connect(server);
    send_tcp(&mut stream, &message.to_vec().unwrap());
    Message::from_vec(&receive_tcp(&mut stream).expect("an answer over TCP")).unwrap()
}

pub(crate) fn client_udp(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

pub(crate) fn exchange_udp(server: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let socket = client_udp(server);
    socket.send(packet).unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

pub(crate) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn send_tcp(stream: &mut TcpStream, packet: &[u8]) {
    stream.write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(packet).unwrap();
}

/// `None` when the server has closed the connection.
pub(crate) fn receive_tcp(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut packet).ok()?;
    Some(packet)
}

/// The addresses in an answer, as text.
pub(crate) fn addresses(message: &Message) -> Vec<String> {
    let data = message.answers.iter().map(|record| &record.data);
    data.filter_map(|data| match data {
        RData::A(address) => Some(address.to_string()),
        RData::AAAA(address) => Some(address.to_string()),
        _ => None,
    })
    .collect()
}
