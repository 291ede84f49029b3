//! How long a zone takes to build and swap, and how fast one thread answers without the network.
//!
//! `cargo run --release -p wherry-dns-server --example zone_speed`

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use wherry_dns_server::{Zone, ZoneBuilder, ZoneHandle, answer_packet};

const APEX: &str = "local.wherry.internal";
const ROUNDS: u32 = 20;
const ANSWERS: u32 = 500_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    for count in [10_000, 50_000] {
        build_and_swap(count)?;
    }
    answer(10_000)
}

/// Names as the control plane makes them: an instance's label under a hash of its tenant.
fn names(count: u32) -> Vec<(String, IpAddr)> {
    (0..count)
        .map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            (format!("instance-{number}.{:016x}.{APEX}", number / 10), Ipv4Addr::new(10, a, b, c).into())
        })
        .collect()
}

fn build(names: &[(String, IpAddr)], serial: u32) -> Result<Zone, Failure> {
    let mut builder = ZoneBuilder::new(APEX, serial, names.len())?;
    for (name, address) in names {
        builder.address(name, *address)?;
    }
    Ok(builder.build()?)
}

fn build_and_swap(count: u32) -> Result<(), Failure> {
    let names = names(count);
    let zones = ZoneHandle::new(APEX)?;
    let (mut building, mut swapping) = (Duration::ZERO, Duration::ZERO);
    for serial in 1..=ROUNDS {
        let begun = Instant::now();
        let zone = build(&names, serial)?;
        building += begun.elapsed();
        let begun = Instant::now();
        zones.store(zone)?;
        swapping += begun.elapsed();
    }
    println!(
        "{count} names: build {:.2?}, swap and free the old zone {:.2?} (mean of {ROUNDS})",
        building / ROUNDS,
        swapping / ROUNDS
    );
    Ok(())
}

fn answer(count: u32) -> Result<(), Failure> {
    let names = names(count);
    let zones = ZoneHandle::new(APEX)?;
    zones.store(build(&names, 1)?)?;
    let found = names.iter().map(|(name, _)| packet(name)).collect::<Result<Vec<_>, _>>()?;
    let missing = names.iter().map(|(name, _)| packet(&format!("x{name}"))).collect::<Result<Vec<_>, _>>()?;
    for (what, packets) in [("found", found), ("missing", missing)] {
        let begun = Instant::now();
        for packet in packets.iter().cycle().take(usize::try_from(ANSWERS)?) {
            black_box(answer_packet(&zones, black_box(packet)));
        }
        let each = begun.elapsed() / ANSWERS;
        println!("one thread, {what}: {:.2?} an answer, {:.0} answers/s", each, 1.0 / each.as_secs_f64());
    }
    Ok(())
}

fn packet(name: &str) -> Result<Vec<u8>, Failure> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(format!("{name}."))?, RecordType::A));
    Ok(message.to_vec()?)
}
