//! The whole control plane is away: F31.

use std::process::Command;

use rustix::process::Signal;
use wherry_api_types::{InstanceCreate, InstanceState, RestartPolicy};

use crate::lab::{Lab, SHORT, STEADY, eventually, signal};

/// F31, shortened.
#[tokio::test(flavor = "multi_thread")]
async fn f31_machines_go_on_alone_over_restarts_and_a_power_failure_and_the_bill_is_exact() {
    let mut lab = Lab::start(1, SHORT).await;
    let always = |lab: &Lab, name: &str| InstanceCreate {
        restart_policy: Some(RestartPolicy::Always),
        ..lab.script(name, STEADY)
    };
    let steady = lab.run(always(&lab, "steady")).await;
    let shot = lab.run(always(&lab, "shot")).await;
    let once = lab.run(lab.script("once", STEADY)).await;
    let answer = lookup(&lab, &once.id, &steady.fqdn).expect("the name does not answer while all is well");
    assert_eq!(Some(answer), steady.address);
    for replica in &mut lab.fleet.replicas {
        replica.kill();
    }
    // The restart policy is kept.
    signal(&lab.run_number(&shot.id, 1).await, Signal::KILL);
    lab.run_number(&shot.id, 2).await;
    // Names answer, also after a restart of the agent, which touches nothing.
    let before = lab.run_number(&steady.id, 1).await;
    lab.machine("node-0").kill();
    lab.machine("node-0").begin().unwrap();
    let answer = eventually("the name answers again", async || lookup(&lab, &once.id, &steady.fqdn)).await;
    assert_eq!(Some(answer), steady.address);
    let after = lab.history.runs(&steady.id);
    assert!(after.len() == 1 && after[0].pid == before.pid && after[0].missed.is_none(), "{after:?}");
    // A power failure: all that may restart runs again, from what is on the disk alone.
    lab.history.doubt("node-0");
    lab.machine("node-0").lose_power().await.unwrap();
    lab.machine("node-0").forget_boot().unwrap();
    lab.machine("node-0").begin().unwrap();
    lab.run_number(&steady.id, 2).await;
    lab.run_number(&shot.id, 3).await;
    lab.history.doubt_ends("node-0");
    // One that is never restarted is not.
    assert_eq!(lab.history.runs(&once.id).len(), 1);

    for replica in &mut lab.fleet.replicas {
        replica.start().await.unwrap();
    }
    lab.client = lab.fleet.client().unwrap();
    for id in [&steady.id, &shot.id] {
        lab.reach(id, InstanceState::Running).await;
    }
    lab.reach(&once.id, InstanceState::Failed).await;
    let boot = lab.fleet.psql("SELECT boot FROM nodes").unwrap();
    assert!(boot.starts_with("b0070000"), "it was no other boot: {boot}");
    lab.finish().await;
}

/// Asks the machine's resolver from within an instance.
fn lookup(lab: &Lab, id: &str, name: &str) -> Option<String> {
    let pid = lab.history.runs(id).last()?.pid;
    let resolver = std::fs::read_to_string(format!("/proc/{pid}/root/etc/resolv.conf")).ok()?;
    let resolver = resolver.lines().find_map(|line| line.strip_prefix("nameserver "))?.trim().to_owned();
    let output = Command::new("nsenter")
        .args([&format!("--net=/proc/{pid}/ns/net"), "--", "/bin/busybox", "nslookup", "-type=a", name, &resolver])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The first address is the resolver's own.
    let answer = text.split_once("Name:")?.1.lines().find_map(|line| line.trim().strip_prefix("Address"))?.to_owned();
    let address = answer.rsplit(' ').next()?.trim().to_owned();
    address.parse::<std::net::Ipv4Addr>().is_ok().then_some(address)
}
