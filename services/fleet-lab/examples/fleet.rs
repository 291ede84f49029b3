//! Starts a fleet and leaves it running until Ctrl-C: `cargo run -p wherry-fleet-lab --example fleet -- BINARY REPLICAS MACHINES`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use wherry_fleet_lab::{Fleet, FleetOptions};

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let binary =
        PathBuf::from(words.next().context("give the binary, the number of replicas, the number of machines")?);
    let mut number = || words.next().context("a number is missing")?.parse().context("this is no number");
    let options = FleetOptions { replicas: number()?, machines: number()?, ..FleetOptions::new(binary) };
    let fleet = Fleet::start(options).await?;
    for replica in &fleet.replicas {
        println!("{}: {} {}", replica.host.name, replica.url("/docs"), replica.data().display());
    }
    for machine in &fleet.machines {
        println!("{}: {} {}", machine.host.name, machine.host.address, machine.data().display());
    }
    println!("registry: {}\nCtrl-C ends it", fleet.registry.address());
    tokio::signal::ctrl_c().await?;
    fleet.end().await
}
