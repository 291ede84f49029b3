//! A machine dies: what becomes of the instances on it, and when.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wherry_api_client::Client;
use wherry_api_types::{Instance, InstanceState, MeterKind, NodeState, OnNodeLoss};
use wherry_fleet_lab::{Fleet, dns};

use crate::ledger::{Between, Ledger};
use crate::tour::{DETECTION_SECONDS, FENCE_SECONDS, PROJECT};
use crate::{clock, sight};

const UNKNOWN_WITHIN: Duration = Duration::from_mins(1);
const REPLACED_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A machine that is off.
pub(crate) struct Dead {
    pub(crate) machine: String,
    at: Instant,
    /// Seconds of the wall clock between which it died.
    died: Between,
    /// What was on it: id and what is to become of it.
    pub(crate) instances: Vec<(String, OnNodeLoss)>,
    /// The second of its last proof of life.
    proof: i64,
}

impl Dead {
    fn since(&self) -> f64 {
        self.at.elapsed().as_secs_f64()
    }
}

/// Takes the power from a machine.
pub(crate) async fn power_off(fleet: &mut Fleet, client: &Client, ledger: &Ledger, machine: &str) -> Result<Dead> {
    let nodes = sight::nodes(client).await?;
    let mut instances = Vec::new();
    for record in &ledger.records {
        let instance = client.instance(PROJECT, &record.id).await?;
        if sight::machine_of(&instance, &nodes)? == machine {
            instances.push((record.id.clone(), record.on_node_loss));
        }
    }
    let lab = fleet.machine(machine)?;
    let count = lab.processes()?.len();
    let (began, at) = (clock::now(), Instant::now());
    lab.lose_power().await?;
    println!(
        "   {count} processes of {machine} killed at once: agent, containerd, shims and {} instances",
        instances.len()
    );
    Ok(Dead { machine: machine.to_owned(), at, died: Between(began, clock::now()), instances, proof: 0 })
}

/// Waits until everything on it is unknown, and holds meters and names against that.
pub(crate) async fn until_unknown(fleet: &Fleet, client: &Client, ledger: &mut Ledger, dead: &mut Dead) -> Result<()> {
    for (id, _) in &dead.instances {
        loop {
            let instance = client.instance(PROJECT, id).await?;
            if instance.state == InstanceState::Unknown {
                break;
            }
            ensure!(
                dead.at.elapsed() < UNKNOWN_WITHIN,
                "{} is still {} {:.0} s after its machine died",
                instance.name,
                instance.state,
                dead.since()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    println!("   {} instances unknown {:.1} s after the power failed", dead.instances.len(), dead.since());
    let nodes = sight::nodes(client).await?;
    let node = nodes.get(&dead.machine).context("the dead machine is not listed any more")?;
    ensure!(node.state == NodeState::Silent, "{} is not silent but {:?}", dead.machine, node.state);
    dead.proof = clock::seconds(&node.proof_at)?;
    let possible = Between(dead.died.0 - DETECTION_SECONDS, dead.died.1);
    ensure!(possible.holds(dead.proof), "the last proof of life, {}, is not between {possible:?}", node.proof_at);
    for (id, _) in &dead.instances {
        let usage = client.instance_usage(PROJECT, id).await?;
        let lines = usage.lines.iter().filter(|line| line.kind == MeterKind::Run);
        for line in lines {
            ensure!(!line.open, "the meter of {} runs on: {line:?}", line.instance);
            ensure!(clock::seconds(&line.to)? == dead.proof, "the meter ends at {}, not at {}", line.to, node.proof_at);
        }
        ledger.record(id)?.ended(Between(dead.proof, dead.proof))?;
        let instance = client.instance(PROJECT, id).await?;
        ensure!(addresses(fleet, &instance)?.is_empty(), "the name of {} still has an address", instance.name);
    }
    println!("   every meter closed at the last proof of life, {}; every name withdrawn", node.proof_at);
    Ok(())
}

/// Waits until what may be replaced runs elsewhere and holds the rest against staying where it was.
pub(crate) async fn until_replaced(fleet: &Fleet, client: &Client, ledger: &mut Ledger, dead: &Dead) -> Result<()> {
    let replaceable = dead.instances.iter().filter(|(_, policy)| *policy == OnNodeLoss::Replace);
    let mut waiting: Vec<String> = replaceable.map(|(id, _)| id.clone()).collect();
    let mut first = None;
    while !waiting.is_empty() {
        let mut still = Vec::new();
        for id in waiting {
            let instance = client.instance(PROJECT, &id).await?;
            if instance.state != InstanceState::Unknown && first.is_none() {
                first = Some(clock::now());
                println!("   fenced: the first leaves the dead machine after {:.1} s", dead.since());
            }
            if instance.state == InstanceState::Running {
                check_replaced(fleet, client, ledger, dead, &instance).await?;
            } else {
                let why = instance.message.as_deref().unwrap_or("no message");
                ensure!(
                    dead.at.elapsed() < REPLACED_WITHIN,
                    "{} is {} {:.0} s after its machine died: {why}",
                    instance.name,
                    instance.state,
                    dead.since()
                );
                still.push(id);
            }
        }
        waiting = still;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let first = first.context("there was nothing to replace: this says nothing about placing anew")?;
    ensure!(
        first >= dead.proof + FENCE_SECONDS,
        "taken from its machine {} s after the last proof of life: the old copy may have run {FENCE_SECONDS} s",
        first - dead.proof
    );
    for (id, _) in dead.instances.iter().filter(|(_, policy)| *policy == OnNodeLoss::Keep) {
        let instance = client.instance(PROJECT, id).await?;
        ensure!(instance.state == InstanceState::Unknown, "{} is to be kept, and is {}", instance.name, instance.state);
        let place = sight::machine_of(&instance, &sight::nodes(client).await?);
        println!("   {} (keep) waits for {}: unknown", instance.name, place.unwrap_or_else(|_| dead.machine.clone()));
    }
    Ok(())
}

async fn check_replaced(
    fleet: &Fleet,
    client: &Client,
    ledger: &mut Ledger,
    dead: &Dead,
    instance: &Instance,
) -> Result<()> {
    let place = sight::machine_of(instance, &sight::nodes(client).await?)?;
    ensure!(place != dead.machine, "{} runs on a machine that is off", instance.name);
    ledger.record(&instance.id)?.runs_since(dead.proof + FENCE_SECONDS);
    println!("   {} (replace) runs on {place} after {:.1} s", instance.name, dead.since());
    let begun = Instant::now();
    while addresses(fleet, instance)?.iter().map(ToString::to_string).ne(instance.address.clone()) {
        ensure!(begun.elapsed() < Duration::from_secs(5), "the name of {} does not follow it", instance.name);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What the last replica, which is the one that lives, answers for the name.
fn addresses(fleet: &Fleet, instance: &Instance) -> Result<Vec<std::net::Ipv4Addr>> {
    let replica = fleet.replicas.last().context("there is no replica")?;
    Ok(dns::ask_in(&replica.host.namespace, replica.dns(), &instance.fqdn)?.addresses)
}
