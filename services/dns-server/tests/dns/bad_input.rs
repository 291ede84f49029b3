//! Whatever bytes arrive, the server lives and answers the next question.

use std::sync::LazyLock;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::support::{
    APEX, TestServer, ask_tcp, ask_udp, client_udp, connect, exchange_udp, question, receive_tcp, send_tcp,
    serve_sample, with_edns,
};

/// One server for all cases; a panic in it would end its loops, and the next question would get no answer.
static SERVER: LazyLock<(Runtime, TestServer)> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(async { serve_sample() });
    (runtime, server)
});

fn still_answers() {
    let message = question("web.h1.local.wherry.internal", RecordType::A);
    assert_eq!(ask_udp(SERVER.1.address, &message).answers.len(), 1);
}

/// Bytes without any form, and good questions with some bytes changed, cut off or appended.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![Just("web.h1.local.wherry.internal"), Just(APEX), Just("a.b.c.example.org")];
    let good = (names, any::<u16>(), any::<bool>()).prop_map(|(name, kind, edns)| {
        let message = question(name, RecordType::from(kind));
        let message = if edns { with_edns(message, kind) } else { message };
        message.to_vec().unwrap()
    });
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let tail = proptest::collection::vec(any::<u8>(), 0..40);
    let bent = (good, changes, tail, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut packet, changes, tail, cut, shorten)| {
            for (place, byte) in changes {
                let place = place.index(packet.len());
                packet[place] = byte;
            }
            packet.extend(tail);
            if shorten {
                packet.truncate(cut.index(packet.len()));
            }
            packet
        },
    );
    prop_oneof![3 => bent, 1 => proptest::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_over_udp_stop_the_server(packets in proptest::collection::vec(soup(), 1..20)) {
        let client = client_udp(SERVER.1.address);
        for packet in packets {
            client.send(&packet).unwrap();
        }
        still_answers();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_over_tcp_stop_the_server(packet in soup()) {
        let mut stream = connect(SERVER.1.address);
        send_tcp(&mut stream, &packet);
        drop(stream);
        let message = question("web.h1.local.wherry.internal", RecordType::A);
        prop_assert_eq!(ask_tcp(SERVER.1.address, &message).answers.len(), 1);
    }
}

/// An answer to an answer could make two servers talk for ever.
#[test]
fn answers_and_fragments_get_silence() {
    let mut answer = question("web.h1.local.wherry.internal", RecordType::A);
    answer.metadata.message_type = hickory_proto::op::MessageType::Response;
    let ignored = SERVER.1.server.counters().read().ignored;
    let client = client_udp(SERVER.1.address);
    for packet in [&answer.to_vec().unwrap()[..], b"", b"\x00", &[0; 11]] {
        client.send(packet).unwrap();
    }
    // One socket and one loop keep the order: the first answer must be the one to the good question.
    client.send(&question("web.h1.local.wherry.internal", RecordType::A).to_vec().unwrap()).unwrap();
    let mut buffer = [0; 512];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().answers.len(), 1);
    assert!(SERVER.1.server.counters().read().ignored >= ignored + 4);
}

#[test]
fn malformed_questions_are_told_so() {
    let good = question("web.h1.local.wherry.internal", RecordType::A).to_vec().unwrap();
    let with_counts = |counts: [u8; 8]| {
        let mut packet = good.clone();
        packet[4..12].copy_from_slice(&counts);
        packet
    };
    let cases = [
        ("no question", with_counts([0, 0, 0, 0, 0, 0, 0, 0])),
        ("two questions", with_counts([0, 2, 0, 0, 0, 0, 0, 0])),
        ("65,535 questions", with_counts([255, 255, 0, 0, 0, 0, 0, 0])),
        ("an answer claimed", with_counts([0, 1, 0, 1, 0, 0, 0, 0])),
        ("an authority claimed", with_counts([0, 1, 0, 0, 0, 1, 0, 0])),
        ("65,535 additionals claimed", with_counts([0, 1, 0, 0, 0, 0, 255, 255])),
        ("name cut off", good[..20].to_vec()),
        ("name that points at itself", [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()),
        ("label of unknown kind", [&good[..12], &[0x80, 1, 0, 0, 1, 0, 1]].concat()),
    ];
    for (what, packet) in cases {
        let reply = exchange_udp(SERVER.1.address, &packet).expect(what);
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{what}");
        assert_eq!(reply.metadata.id, 0x4242, "{what}");
    }
    let mut stream = connect(SERVER.1.address);
    send_tcp(&mut stream, &with_counts([0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(receive_tcp(&mut stream).is_some());
}

/// Nobody may use the server to send others more than he sends himself: a question that can be forged gets at most twice its size.
#[test]
fn small_questions_get_small_answers() {
    for name in ["none.h1.local.wherry.internal", "example.org", "web.h1.local.wherry.internal", APEX] {
        for kind in [RecordType::A, RecordType::ANY, RecordType::TXT, RecordType::AXFR] {
            let packet = with_edns(question(name, kind), 4096).to_vec().unwrap();
            let reply = exchange_udp(SERVER.1.address, &packet).unwrap();
            assert!(reply.len() <= 2 * packet.len(), "{name} {kind}: {} for {}", reply.len(), packet.len());
        }
    }
}
