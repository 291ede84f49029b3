//! A machine without its connection, told what to do at given moments.

use wherry_agent_api::{DesiredContainer, DesiredMore};
use wherry_model::{ContainerSpec, CpuMillis, InstanceName, MemoryMib, ProjectId, RestartPolicy, TenantId};

use super::*;
use crate::system::{KernelEntropy, WallClock};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

fn instance(generation: u64, action: Action, life: Option<Duration>) -> DesiredInstance {
    let (image, name) = ("registry.invalid/none:1".parse().unwrap(), ContainerName::new("main").unwrap());
    let mut spec = ContainerSpec::new(name, image, CpuMillis::new(250), MemoryMib::new(64));
    spec.command = command(life);
    DesiredInstance {
        id: InstanceId::generate(&WallClock, &KernelEntropy),
        generation: Generation(generation),
        action,
        tenant: TenantId::generate(&WallClock, &KernelEntropy),
        project: ProjectId::generate(&WallClock, &KernelEntropy),
        name: InstanceName::new("web").unwrap(),
        search_domain: "x".to_owned(),
        containers: vec![DesiredContainer::new(spec, None)],
        restart_policy: RestartPolicy::Never,
        stop_grace_seconds: 10,
        first_run: 1,
        fence_after_seconds: None,
        more: DesiredMore::default(),
    }
}

fn machine() -> Machine {
    Machine::new(1, Ipv4Addr::new(10, 1, 2, 0), true)
}

fn desired(revision: u64, instances: &[DesiredInstance]) -> Desired {
    // As it comes over the wire, whatever else may be in it.
    serde_json::from_value(serde_json::json!({ "revision": revision, "epoch": 3, "instances": instances })).unwrap()
}

fn facts(machine: &Machine) -> Vec<&'static str> {
    let name = |observation: &Observation| match observation.fact {
        Fact::Pulled { .. } => "pulled",
        Fact::SandboxReady { .. } => "sandbox",
        Fact::ContainerStarted { .. } => "started",
        Fact::ContainerExited { .. } => "exited",
        Fact::SandboxStopped => "stopped",
        Fact::Removed => "removed",
        _ => "other",
    };
    machine.unacknowledged.iter().map(name).collect()
}

#[test]
fn a_program_starts_after_its_delay_ends_after_its_life_and_its_facts_wait_for_their_acknowledgement() {
    let (mut machine, wanted) = (machine(), instance(1, Action::Run, Some(Duration::from_secs(5))));
    machine.obey(&desired(1, std::slice::from_ref(&wanted)), at(0));
    machine.advance(at(10));
    assert!(facts(&machine).is_empty(), "no start is as quick as that");
    let due = machine.next_due().unwrap();
    machine.advance(due);
    assert_eq!(facts(&machine), ["pulled", "sandbox", "started"]);
    assert_eq!(machine.running().len(), 1);
    let end = machine.next_due().unwrap();
    assert_eq!(end, due.plus(Duration::from_secs(5)));
    assert_eq!(machine.proved_until(end), end);
    machine.advance(end);
    assert_eq!(facts(&machine), ["pulled", "sandbox", "started", "exited"]);
    assert_eq!(machine.proved_until(at(60_000)), end, "not beyond an end that nobody has acknowledged");
    machine.acknowledge(3);
    assert_eq!(facts(&machine), ["exited"]);
    machine.acknowledge(4);
    assert_eq!(machine.proved_until(at(60_000)), at(60_000));
    assert_eq!((machine.runs[0].from, machine.runs[0].to), (due, Some(end)));
    assert_eq!((machine.runs[0].cpu_millis, machine.runs[0].memory_mib, machine.epoch), (250, 64, 3));
}

#[test]
fn what_is_removed_or_not_listed_any_more_ends_and_its_address_is_free_again() {
    let (mut machine, mut one) = (machine(), instance(1, Action::Run, None));
    let other = instance(1, Action::Run, None);
    machine.obey(&desired(1, &[one.clone(), other]), at(0));
    machine.advance(at(2_000));
    assert_eq!(machine.running().len(), 2);
    machine.acknowledge(u64::MAX);
    one.action = Action::Remove;
    machine.obey(&desired(2, &[one]), at(3_000));
    assert_eq!(facts(&machine), ["exited", "exited", "stopped", "removed"]);
    assert!(machine.running().is_empty() && machine.runs.iter().all(|run| run.to == Some(at(3_000))));
    assert_eq!(machine.free_addresses.len(), 2);
}

#[test]
fn an_older_generation_ends_before_a_newer_begins_and_a_stop_before_the_start_starts_nothing() {
    let (mut machine, mut wanted) = (machine(), instance(1, Action::Run, None));
    machine.obey(&desired(1, &[wanted.clone()]), at(0));
    machine.advance(at(2_000));
    wanted.generation = Generation(2);
    machine.obey(&desired(2, &[wanted.clone()]), at(3_000));
    assert_eq!(machine.runs[0].to, Some(at(3_000)));
    wanted.action = Action::Stop;
    machine.obey(&desired(3, &[wanted]), at(3_001));
    machine.advance(at(60_000));
    assert_eq!(machine.runs.len(), 1);
    assert_eq!(facts(&machine), ["pulled", "sandbox", "started", "exited", "stopped"]);
}
