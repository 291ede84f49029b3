//! What the authoritative server says, question by question.

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use crate::support::{
    APEX, TestServer, addresses, ask_tcp, ask_udp, question, sample_zone, serve, serve_sample, with_edns,
};

/// Both transports must say the same.
fn ask(server: &TestServer, message: &Message) -> Message {
    let over_udp = ask_udp(server.address, message);
    assert_eq!(over_udp, ask_tcp(server.address, message));
    assert_eq!(over_udp.metadata.id, message.metadata.id);
    assert_eq!(over_udp.metadata.message_type, MessageType::Response);
    assert!(!over_udp.metadata.recursion_available);
    over_udp
}

#[tokio::test(flavor = "multi_thread")]
async fn table_of_answers() {
    use RecordType as T;
    use ResponseCode as C;
    let server = serve_sample();
    // name, type, code, authoritative, answers, authorities
    let table = [
        ("web.h1.local.wherry.internal", T::A, C::NoError, true, 1, 0),
        ("web.h1.local.wherry.internal", T::AAAA, C::NoError, true, 1, 0),
        ("web.h1.local.wherry.internal", T::TXT, C::NoError, true, 0, 1),
        ("web.h1.local.wherry.internal", T::SOA, C::NoError, true, 0, 1),
        ("h1.local.wherry.internal", T::A, C::NoError, true, 0, 1),
        ("h1.local.wherry.internal", T::ANY, C::NoError, true, 0, 1),
        ("_tcp.web.h1.local.wherry.internal", T::A, C::NoError, true, 0, 1),
        ("none.local.wherry.internal", T::A, C::NXDomain, true, 0, 1),
        ("x.web.h1.local.wherry.internal", T::A, C::NXDomain, true, 0, 1),
        ("none.local.wherry.internal", T::ANY, C::NXDomain, true, 0, 1),
        ("_http._tcp.web.h1.local.wherry.internal", T::SRV, C::NoError, true, 1, 0),
        (APEX, T::SOA, C::NoError, true, 1, 0),
        (APEX, T::NS, C::NoError, true, 1, 0),
        (APEX, T::A, C::NoError, true, 0, 1),
        ("ns.local.wherry.internal", T::A, C::NoError, true, 1, 0),
        ("wherry.internal", T::A, C::Refused, false, 0, 0),
        ("xlocal.wherry.internal", T::A, C::Refused, false, 0, 0),
        ("example.org", T::A, C::Refused, false, 0, 0),
        ("example.org", T::ANY, C::Refused, false, 0, 0),
        ("web.h1.local.wherry.internal", T::AXFR, C::Refused, false, 0, 0),
        (APEX, T::AXFR, C::Refused, false, 0, 0),
        (APEX, T::IXFR, C::Refused, false, 0, 0),
    ];
    for (name, kind, code, authoritative, answers, authorities) in table {
        for message in [question(name, kind), with_edns(question(name, kind), 1232)] {
            let reply = ask(&server, &message);
            let told = (reply.metadata.response_code, reply.metadata.authoritative);
            assert_eq!(told, (code, authoritative), "{name} {kind}");
            let counts = (reply.answers.len(), reply.authorities.len());
            assert_eq!(counts, (answers, authorities), "{name} {kind}");
            assert_eq!(reply.edns.is_some(), message.edns.is_some(), "{name} {kind}");
            assert_eq!(reply.queries, message.queries, "{name} {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_say_what_the_zone_holds() {
    let server = serve_sample();
    let reply = ask(&server, &question("web.h1.local.wherry.internal", RecordType::A));
    assert_eq!(addresses(&reply), ["10.0.0.1"]);
    assert_eq!(reply.answers[0].ttl, 5);

    let reply = ask(&server, &question("web.h1.local.wherry.internal", RecordType::AAAA));
    assert_eq!(addresses(&reply), ["fd00::1"]);

    let reply = ask(&server, &question("_http._tcp.web.h1.local.wherry.internal", RecordType::SRV));
    let RData::SRV(service) = &reply.answers[0].data else { panic!("{reply}") };
    assert_eq!((service.priority, service.weight, service.port), (1, 2, 8080));
    assert_eq!(service.target.to_string(), "web.h1.local.wherry.internal.");
    assert_eq!(reply.additionals.len(), 2, "both addresses of the target");

    let reply = ask(&server, &question(APEX, RecordType::NS));
    let RData::NS(name_server) = &reply.answers[0].data else { panic!("{reply}") };
    assert_eq!(name_server.0.to_string(), "ns.local.wherry.internal.");
    assert_eq!(reply.additionals.len(), 1, "the address of the name server");

    let reply = ask(&server, &question(APEX, RecordType::SOA));
    let RData::SOA(soa) = &reply.answers[0].data else { panic!("{reply}") };
    assert_eq!(soa.serial, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_name_is_remembered_for_a_second_at_most() {
    let server = serve_sample();
    for name in ["soon.h1.local.wherry.internal", "h1.local.wherry.internal"] {
        let reply = ask(&server, &question(name, RecordType::A));
        let record = &reply.authorities[0];
        let RData::SOA(soa) = &record.data else { panic!("{reply}") };
        assert!(record.ttl <= 1 && soa.minimum <= 1, "{reply}");
        assert_eq!(record.name.to_string(), "local.wherry.internal.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_match_in_any_case_and_come_back_as_asked() {
    let server = serve_sample();
    let asked = "wEb.H1.LoCaL.WHERRY.iNTERNAL";
    let reply = ask(&server, &question(asked, RecordType::A));
    assert_eq!(addresses(&reply), ["10.0.0.1"]);
    let name = Name::from_ascii(format!("{asked}.")).unwrap();
    assert!(reply.queries[0].name().eq_case(&name), "{reply}");
    assert!(reply.answers[0].name.eq_case(&name), "{reply}");

    let reply = ask(&server, &question("nOne.LoCaL.WHERRY.iNTERNAL", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities[0].name.to_string(), "LoCaL.WHERRY.iNTERNAL.");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_gets_one_small_record() {
    let server = serve_sample();
    let message = question("big.local.wherry.internal", RecordType::ANY);
    let reply = ask(&server, &message);
    assert_eq!(reply.answers.len(), 1);
    assert!(matches!(&reply.answers[0].data, RData::HINFO(_)), "{reply}");
    assert!(reply.to_vec().unwrap().len() < 2 * message.to_vec().unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_udp_comes_over_tcp() {
    let server = serve_sample();
    // name, type, bytes the client takes (0: no EDNS), fits
    let table = [
        ("big", RecordType::A, 0, false),
        ("big", RecordType::A, 512, false),
        ("big", RecordType::A, 1232, true),
        ("big", RecordType::A, 100, false),
        ("huge", RecordType::AAAA, 1232, false),
        ("huge", RecordType::AAAA, 65_535, false),
    ];
    for (label, kind, payload_bytes, fits) in table {
        let plain = question(&format!("{label}.{APEX}"), kind);
        let message = if payload_bytes == 0 { plain } else { with_edns(plain, payload_bytes) };
        let packet = crate::support::exchange_udp(server.address, &message.to_vec().unwrap()).unwrap();
        assert!(packet.len() <= usize::from(payload_bytes.clamp(512, 1232)), "{label} {payload_bytes}");
        let reply = Message::from_vec(&packet).unwrap();
        assert_eq!(reply.metadata.truncation, !fits, "{label} {payload_bytes}");
        assert_eq!(reply.answers.len(), if fits { 60 } else { 0 }, "{label} {payload_bytes}");
        assert_eq!(reply.edns.is_some(), message.edns.is_some());

        let reply = ask_tcp(server.address, &message);
        assert!(!reply.metadata.truncation);
        assert_eq!(reply.answers.len(), 60);
    }
    assert_eq!(server.server.counters().read().truncated, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_operations_classes_and_versions_are_turned_down() {
    let server = serve_sample();
    for (operation, code) in [
        (OpCode::Update, ResponseCode::Refused),
        (OpCode::Notify, ResponseCode::NotImp),
        (OpCode::Status, ResponseCode::NotImp),
    ] {
        let mut message = question(APEX, RecordType::SOA);
        message.metadata.op_code = operation;
        let reply = ask(&server, &message);
        assert_eq!((reply.metadata.response_code, reply.metadata.op_code), (code, operation));
    }

    let mut chaos = question("web.h1.local.wherry.internal", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask(&server, &chaos).metadata.response_code, ResponseCode::Refused);

    let mut future = with_edns(question(APEX, RecordType::SOA), 1232);
    future.edns.as_mut().unwrap().set_version(1);
    let reply = ask(&server, &future);
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS shares its number with BADSIG");
    assert_eq!(reply.edns.unwrap().version(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_zone_nothing_is_called_missing() {
    let server = serve(wherry_dns_server::Limits::default());
    let message = question("web.h1.local.wherry.internal", RecordType::A);
    assert_eq!(ask(&server, &message).metadata.response_code, ResponseCode::ServFail);
    let outside = question("example.org", RecordType::A);
    assert_eq!(ask(&server, &outside).metadata.response_code, ResponseCode::Refused);
    server.zones.store(sample_zone(1)).unwrap();
    assert_eq!(ask(&server, &message).metadata.response_code, ResponseCode::NoError);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_counted_by_transport_and_code() {
    let server = serve_sample();
    for name in ["web.h1.local.wherry.internal", "none.local.wherry.internal", "example.org"] {
        ask(&server, &question(name, RecordType::A));
    }
    ask_udp(server.address, &question("example.org", RecordType::A));
    let counts = server.server.counters().read();
    assert_eq!((counts.udp.no_error, counts.udp.name_error, counts.udp.refused), (1, 1, 2));
    assert_eq!((counts.tcp.no_error, counts.tcp.name_error, counts.tcp.refused), (1, 1, 1));
}
