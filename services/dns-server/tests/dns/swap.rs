//! A zone is swapped whole: under load every answer comes from one zone, and time never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use wherry_dns_server::{Zone, ZoneBuilder};

use crate::support::{APEX, addresses, client_udp, question, serve_sample};

const NAMES: u32 = 200;

/// Every name has two addresses, both telling the serial; odd serials lack the name `even`.
fn zone(serial: u32) -> Zone {
    let mut builder = ZoneBuilder::new(APEX, serial, 200).unwrap();
    let [_, _, high, low] = serial.to_be_bytes();
    for number in 0..NAMES {
        let name = format!("n{number}.h.{APEX}");
        builder.address(&name, [10, 1, high, low].into()).unwrap();
        builder.address(&name, [10, 2, high, low].into()).unwrap();
    }
    if serial.is_multiple_of(2) {
        builder.address(&format!("even.{APEX}"), [10, 1, high, low].into()).unwrap();
    }
    builder.build().unwrap()
}

fn serial_of(reply: &Message) -> u32 {
    let told: Vec<(u8, u32)> = addresses(reply)
        .iter()
        .map(|text| {
            let [_, family, high, low] = text.parse::<std::net::Ipv4Addr>().unwrap().octets();
            (family, u32::from(high) << 8 | u32::from(low))
        })
        .collect();
    let [(1, first), (2, second)] = told[..] else { panic!("half an answer: {reply}") };
    assert_eq!(first, second, "two zones in one answer");
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_under_load_come_from_one_zone_each_and_never_from_an_older_one() {
    let server = serve_sample();
    server.zones.store(zone(10)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let (address, stop) = (server.address, Arc::clone(&stop));
            std::thread::spawn(move || {
                let socket = client_udp(address);
                let mut buffer = [0; 1232];
                let (mut last, mut answers) = (0, 0_u32);
                while !stop.load(Ordering::Relaxed) {
                    let name = format!("n{}.h.{APEX}", (answers * 7 + client) % NAMES);
                    socket.send(&question(&name, RecordType::A).to_vec().unwrap()).unwrap();
                    let length = socket.recv(&mut buffer).unwrap();
                    let serial = serial_of(&Message::from_vec(&buffer[..length]).unwrap());
                    assert!(serial >= last, "serial {serial} after {last}");
                    last = serial;
                    answers += 1;
                }
                (last, answers)
            })
        })
        .collect();
    let begun = Instant::now();
    let mut serial = 10;
    while begun.elapsed() < Duration::from_secs(1) {
        serial += 1;
        server.zones.store(zone(serial)).unwrap();
        assert!(server.zones.store(zone(serial - 1)).is_err());
    }
    // Every client must get to see the last zone before it stops.
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (last, answers) = client.join().unwrap();
        assert_eq!(last, serial);
        assert!(answers > 100, "only {answers} answers");
    }
    assert!(serial > 20, "only {serial} swaps");
}

/// The SOA beside "no such name" and the name itself must belong to the same zone.
#[tokio::test(flavor = "multi_thread")]
async fn missing_names_and_serial_agree() {
    let server = serve_sample();
    server.zones.store(zone(10)).unwrap();
    let zones = Arc::clone(&server.zones);
    let writer = std::thread::spawn(move || (11..200).for_each(|serial| zones.store(zone(serial)).unwrap()));
    let socket = client_udp(server.address);
    let packet = question(&format!("even.{APEX}"), RecordType::A).to_vec().unwrap();
    let mut buffer = [0; 1232];
    let (mut found, mut missing) = (0, 0);
    while !writer.is_finished() {
        socket.send(&packet).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        let reply = Message::from_vec(&buffer[..length]).unwrap();
        if let [record] = &reply.authorities[..] {
            let RData::SOA(soa) = &record.data else { panic!("{reply}") };
            assert!(!soa.serial.is_multiple_of(2), "missing in a zone that has it: {reply}");
            missing += 1;
        } else {
            let [_, _, high, low] = addresses(&reply)[0].parse::<std::net::Ipv4Addr>().unwrap().octets();
            assert!((u32::from(high) << 8 | u32::from(low)).is_multiple_of(2));
            found += 1;
        }
    }
    writer.join().unwrap();
    assert!(found > 0 && missing > 0, "{found} found, {missing} missing");
}
