//! What operator and tenant see: machines, and which instance is on which.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use wherry_api_client::Client;
use wherry_api_types::{ExecRequest, Instance, InstanceState, Node};

use crate::ledger::{Between, Ledger};
use crate::{clock, tour::PROJECT};

const RUNNING_WITHIN: Duration = Duration::from_secs(90);
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const PROGRAM_SECONDS: u32 = 20;

/// The machines by name.
pub(crate) async fn nodes(client: &Client) -> Result<BTreeMap<String, Node>> {
    let nodes = client.nodes().await.context("the machines cannot be listed")?.items;
    Ok(nodes.into_iter().map(|node| (node.name.clone(), node)).collect())
}

/// The machine in whose range the address of the instance is. Tenants are not told; whoever knows the ranges can tell.
pub(crate) fn machine_of(instance: &Instance, nodes: &BTreeMap<String, Node>) -> Result<String> {
    let address = instance.address.as_deref().with_context(|| format!("{} has no address", instance.name))?;
    let address: Ipv4Addr = address.parse().with_context(|| format!("{address} is no address"))?;
    for (name, node) in nodes {
        if is_in(address, &node.address_range)? {
            return Ok(name.clone());
        }
    }
    bail!("{} has the address {address}, which is in no machine's range", instance.name)
}

fn is_in(address: Ipv4Addr, range: &str) -> Result<bool> {
    let (first, bits) = range.split_once('/').with_context(|| format!("{range} is no range"))?;
    let first: Ipv4Addr = first.parse().with_context(|| format!("{range} is no range"))?;
    let bits: u32 = bits.parse().with_context(|| format!("{range} is no range"))?;
    let shift = 32_u32.saturating_sub(bits);
    let network = |address: Ipv4Addr| u32::from(address).checked_shr(shift).unwrap_or(0);
    Ok(network(address) == network(first))
}

/// Waits until all of these run, and writes down since when. In order of `ids`.
pub(crate) async fn until_running(client: &Client, ledger: &mut Ledger, ids: &[String]) -> Result<Vec<Instance>> {
    let begun = Instant::now();
    let mut running = Vec::new();
    for id in ids {
        loop {
            let instance = client.instance(PROJECT, id).await?;
            let why = instance.message.as_deref().unwrap_or("no message");
            if instance.state == InstanceState::Running {
                let record = ledger.record(id)?;
                record.runs_since(record.asked_at);
                running.push(instance);
                break;
            }
            ensure!(
                !instance.state.is_settled() && begun.elapsed() < RUNNING_WITHIN,
                "{} does not run but is {} after {:.0} s: {why}",
                instance.name,
                instance.state,
                begun.elapsed().as_secs_f64()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(running)
}

/// Stops all of these and writes down when they ended.
pub(crate) async fn stop(client: &Client, ledger: &mut Ledger, ids: &[String]) -> Result<()> {
    let asked = clock::now();
    for id in ids {
        client.stop_instance(PROJECT, id).await?;
    }
    let begun = Instant::now();
    for id in ids {
        loop {
            let instance = client.instance(PROJECT, id).await?;
            if instance.state == InstanceState::Stopped {
                ledger.record(id)?.ended(Between(asked, clock::now()))?;
                break;
            }
            ensure!(
                begun.elapsed() < STOPPED_WITHIN,
                "{} is still {} after {STOPPED_WITHIN:?}",
                instance.name,
                instance.state
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Runs a program in the instance and answers what it printed; an exit code other than 0 is an error.
pub(crate) async fn run_in(client: &Client, instance: &str, command: &[&str]) -> Result<String> {
    let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    let line = command.join(" ");
    let request = ExecRequest { command, stdin: None, stdin_encoding: None, timeout_seconds: Some(PROGRAM_SECONDS) };
    let output = client
        .exec(PROJECT, instance, "main", &request)
        .await
        .with_context(|| format!("`{line}` could not be run in {instance}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let trouble = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.exit_code == 0, "`{line}` in {instance} ended with {}: {trouble}", output.exit_code);
    Ok(said)
}
