//! The rules as tables, and that they always come to rest.

use wherry_agent_api::{DesiredContainer, DesiredInstance, DesiredMore};
use wherry_model::{ContainerExit, ContainerSpec, CpuMillis, EndReason, Fact, InstanceName, MemoryMib, RestartPolicy};

use super::*;

fn name() -> ContainerName {
    ContainerName::new("main").unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn desired(action: Action, generation: u64) -> DesiredInstance {
    let image = "r.example/web:1".parse().unwrap();
    let spec = ContainerSpec::new(name(), image, CpuMillis::new(100), MemoryMib::new(64));
    DesiredInstance {
        id: "01".repeat(16).parse().unwrap(),
        generation: Generation(generation),
        action,
        tenant: "02".repeat(16).parse().unwrap(),
        project: "03".repeat(16).parse().unwrap(),
        name: InstanceName::new("web").unwrap(),
        search_domain: "x.example".to_owned(),
        containers: vec![DesiredContainer::new(spec, None)],
        restart_policy: RestartPolicy::Always,
        stop_grace_seconds: 10,
        first_run: 1,
        fence_after_seconds: None,
        more: DesiredMore::default(),
    }
}

fn memory(generation: u64, facts: &[Fact]) -> Memory {
    let mut memory = Memory::new(Generation(generation));
    for fact in facts {
        memory.fold(Generation(generation), 0, fact);
    }
    memory
}

fn started(run: u32) -> Fact {
    Fact::ContainerStarted { container: name(), run, started_at: at(1) }
}

fn exited(run: u32, restart_at: Option<Timestamp>) -> Fact {
    let exit =
        ContainerExit { finished_at: at(2), exit_code: 1, signal: None, reason: EndReason::Exited, message: None };
    Fact::ContainerExited { container: name(), run, started_at: at(1), exit, restart_at }
}

fn sandbox(generation: u64, ready: bool) -> SeenSandbox {
    SeenSandbox { id: SandboxId::new(format!("s{generation}")), generation: Generation(generation), ready }
}

fn container(generation: u64, run: u32, state: ContainerState) -> SeenContainer {
    let sandbox = SandboxId::new(format!("s{generation}"));
    SeenContainer {
        id: ContainerId::new(format!("c{run}")),
        sandbox,
        generation: Generation(generation),
        name: name(),
        run,
        revision: 0,
        state,
    }
}

fn seen(sandboxes: Vec<SeenSandbox>, containers: Vec<SeenContainer>) -> Seen {
    Seen { sandboxes, containers }
}

fn step(desired: &DesiredInstance, facts: &[Fact], seen: &Seen) -> Step {
    next_step(Target::Listed(desired), &memory(desired.generation.0, facts), seen, &AtWork::default(), at(100))
}

fn bring() -> Step {
    Step::Bring { start: vec![name()], fetch: vec![] }
}

#[test]
fn running_is_brought_about_said_and_kept() {
    use ContainerState as S;
    let run = desired(Action::Run, 1);
    let (ready, running) = (sandbox(1, true), container(1, 1, S::Running));
    let case = |facts: &[Fact], seen: &Seen| step(&run, facts, seen);
    assert_eq!(case(&[], &seen(vec![], vec![])), bring());
    assert_eq!(case(&[], &seen(vec![ready.clone()], vec![])), bring());
    assert_eq!(case(&[], &seen(vec![ready.clone()], vec![container(1, 1, S::Created)])), bring());
    assert_eq!(case(&[], &seen(vec![ready.clone()], vec![running.clone()])), Step::TellStart(running.clone()));
    assert_eq!(
        case(&[started(1)], &seen(vec![ready.clone()], vec![running.clone()])),
        Step::Admit(ready.id.clone()),
        "nobody was told its address"
    );
    let admitted = Fact::SandboxReady { address: [10, 77, 0, 2].into() };
    assert_eq!(
        case(&[admitted, started(1)], &seen(vec![ready.clone()], vec![running])),
        Step::Rest { phase: Phase::Running, until: None }
    );
    let over = container(1, 1, S::Exited);
    assert_eq!(case(&[started(1)], &seen(vec![ready.clone()], vec![over.clone()])), Step::TellEnd(over.clone()));
    assert_eq!(
        case(&[], &seen(vec![ready.clone()], vec![over.clone()])),
        Step::TellEnd(over.clone()),
        "never said to start"
    );
    let said = [started(1), exited(1, Some(at(110)))];
    assert_eq!(case(&said, &seen(vec![ready.clone()], vec![over.clone()])), Step::RemoveContainer(over.id));
    assert_eq!(
        case(&said, &seen(vec![ready.clone()], vec![])),
        Step::Rest { phase: Phase::WaitingToRestart, until: Some(at(110)) }
    );
    assert_eq!(case(&[started(1), exited(1, Some(at(99)))], &seen(vec![ready.clone()], vec![])), bring());
    assert_eq!(
        case(&[started(1), exited(1, Some(at(99_999)))], &seen(vec![ready], vec![])),
        bring(),
        "no wait is that long: the clock was set back"
    );
}

#[test]
fn what_vanished_is_said_and_a_broken_sandbox_is_replaced() {
    let run = desired(Action::Run, 1);
    assert_eq!(
        step(&run, &[started(1)], &seen(vec![], vec![])),
        Step::TellLost { name: name(), run: 1, started_at: at(1) }
    );
    let broken = sandbox(1, false);
    let waiting = [started(1), exited(1, Some(at(110)))];
    assert_eq!(step(&run, &waiting, &seen(vec![broken.clone()], vec![])), Step::RemoveSandbox(broken.id.clone()));
    let alive = container(1, 1, ContainerState::Running);
    assert_eq!(step(&run, &[started(1)], &seen(vec![broken.clone()], vec![alive])), Step::StopSandbox(broken.id));
}

#[test]
fn an_end_takes_the_sandbox_down_and_says_so_once() {
    for (action, end) in [
        (Action::Run, exited(1, None)),
        (Action::Run, Fact::Failed { reason: EndReason::StartFailed, message: String::new() }),
        (Action::Stop, exited(1, Some(at(1)))),
        (Action::Remove, exited(1, None)),
    ] {
        let desired = desired(action, 1);
        let facts = [started(1), exited(1, Some(at(1))), end.clone()];
        // A fact about a run that is over changes nothing, so the second end needs its own order.
        let facts = if matches!(end, Fact::Failed { .. }) { facts.to_vec() } else { vec![started(1), end] };
        let ready = sandbox(1, true);
        assert_eq!(step(&desired, &facts, &seen(vec![ready.clone()], vec![])), Step::RemoveSandbox(ready.id));
        assert_eq!(step(&desired, &facts, &Seen::default()), Step::TellSandboxStopped);
        let all = [facts, vec![Fact::SandboxStopped]].concat();
        let last = step(&desired, &all, &Seen::default());
        match action {
            Action::Remove => assert_eq!(last, Step::RemoveTraces),
            Action::Run | Action::Stop => assert!(matches!(last, Step::Rest { until: None, .. }), "{last:?}"),
        }
    }
    assert_eq!(step(&desired(Action::Stop, 1), &[], &Seen::default()), Step::TellSandboxStopped, "never begun");
    let gone = [Fact::SandboxStopped, Fact::Removed];
    assert!(matches!(step(&desired(Action::Remove, 1), &gone, &Seen::default()), Step::Rest { .. }));
}

#[test]
fn stopping_asks_containers_first() {
    let ready = sandbox(1, true);
    let running = container(1, 1, ContainerState::Running);
    let shown = seen(vec![ready.clone()], vec![running.clone()]);
    for action in [Action::Stop, Action::Remove] {
        assert_eq!(
            step(&desired(action, 1), &[], &shown),
            Step::TellStart(running.clone()),
            "what is metered is said, even now"
        );
        assert_eq!(step(&desired(action, 1), &[started(1)], &shown), Step::StopContainers(vec![running.id.clone()]));
    }
    let made = seen(vec![ready.clone()], vec![container(1, 1, ContainerState::Created)]);
    assert_eq!(step(&desired(Action::Stop, 1), &[], &made), Step::RemoveSandbox(ready.id));
}

#[test]
fn older_generations_go_first_and_newer_ones_are_left_alone() {
    let old = seen(vec![sandbox(1, true)], vec![container(1, 1, ContainerState::Running)]);
    let discard = Step::Discard { sandbox: SandboxId::new("s1"), running: vec![ContainerId::new("c1")] };
    assert_eq!(step(&desired(Action::Run, 2), &[], &old), discard);
    let newer = seen(vec![sandbox(3, true)], vec![]);
    assert_eq!(step(&desired(Action::Run, 2), &[], &newer), Step::Rest { phase: Phase::Unconfirmed, until: None });
    let unlisted = |confirmed| {
        next_step(Target::Unlisted { confirmed }, &Memory::new(Generation(1)), &old, &AtWork::default(), at(1))
    };
    assert_eq!(unlisted(false), Step::Rest { phase: Phase::Unconfirmed, until: None });
    assert_eq!(unlisted(true), discard);
}

#[test]
fn what_the_lease_does_not_cover_is_ended_first_told_and_not_started() {
    let desired = DesiredInstance { fence_after_seconds: Some(60), ..desired(Action::Run, 1) };
    let next = |facts: &[Fact], seen: &Seen| {
        next_step(Target::Forbidden(&desired), &memory(1, facts), seen, &AtWork::default(), at(100))
    };
    let (ready, running) = (sandbox(1, true), container(1, 1, ContainerState::Running));
    let fence = Step::Fence(vec![running.id.clone()]);
    assert_eq!(next(&[], &seen(vec![ready.clone()], vec![running.clone()])), fence, "before its start is told");
    assert_eq!(next(&[started(1)], &seen(vec![sandbox(1, false)], vec![running])), fence);
    let over = container(1, 1, ContainerState::Exited);
    assert_eq!(next(&[started(1)], &seen(vec![ready.clone()], vec![over.clone()])), Step::TellEnd(over));
    let wait = Step::Rest { phase: Phase::WaitingToRestart, until: Some(at(101)) };
    assert_eq!(next(&[started(1), exited(1, Some(at(50)))], &seen(vec![ready.clone()], vec![])), wait);
    assert_eq!(next(&[], &Seen::default()), wait, "nor for the first time");
    assert_eq!(step(&desired, &[started(1), exited(1, Some(at(50)))], &seen(vec![ready], vec![])), bring());
}
