//! Runs by the clock, with the clock turned by hand.

use wherry_control::{Error, NEXT_RUNS};
use wherry_model::{Clock, Instance, InstanceSpec, InstanceState, Isolation, RestartPolicy, Schedule};
use wherry_testkit::{Stack, sized, spec};

use crate::support::{state, work};

pub(crate) fn hourly() -> InstanceSpec {
    InstanceSpec { schedule: Some(Schedule::new("@hourly", "UTC")), restart_policy: RestartPolicy::Never, ..spec() }
}

/// Turns the clock to the next time of its schedule, and lets the service look.
pub(crate) async fn until_due(stack: &Stack, name: &str) {
    let next = stack.read(stack.acme(), name).await.instance.timetable.unwrap().next.unwrap();
    stack.clock().advance(next.since(stack.clock().now()));
    work(stack).await;
}

#[tokio::test]
async fn a_run_begins_at_its_time_and_holds_nothing_in_between() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    let told = stack.control().dry_run(&acme.principal, &acme.project, None, &hourly()).await.unwrap();
    assert_eq!((told.fits, told.next_runs.len()), (true, NEXT_RUNS));
    let made = stack.create(acme, "job", hourly()).await.instance;
    assert_eq!((made.state, made.node), (InstanceState::Stopped, None));
    work(&stack).await;
    assert_eq!(state(&stack, acme, "job").await, InstanceState::Stopped, "not before its time");
    for run in 2..4 {
        until_due(&stack, "job").await;
        assert_eq!(state(&stack, acme, "job").await, InstanceState::Scheduled);
        stack.agent().obey().await;
        assert_eq!(state(&stack, acme, "job").await, InstanceState::Running);
        stack.agent().exit(made.id, 0, None);
        stack.agent().obey().await;
        let ended = stack.read(acme, "job").await.instance;
        assert_eq!((ended.state, ended.generation.0, ended.holds_resources), (InstanceState::Succeeded, run, false));
        assert_eq!(wherry_model::lifecycle::last_run(&ended).unwrap().of, ended.timetable.unwrap().run_of);
    }
    // One that still goes on is not run beside itself.
    until_due(&stack, "job").await;
    stack.agent().obey().await;
    let running = stack.read(acme, "job").await.instance;
    until_due(&stack, "job").await;
    let still = stack.read(acme, "job").await.instance;
    assert_eq!((still.state, still.generation), (InstanceState::Running, running.generation));
    assert!(still.timetable.unwrap().next > running.timetable.unwrap().next);
}

#[tokio::test]
async fn a_change_of_what_waits_for_its_time_needs_no_room_and_a_class_that_is_offered() {
    let stack = Stack::start().await;
    let acme = stack.acme();
    stack.create(acme, "job", hourly()).await;
    stack.create(acme, "all", sized(4_000, 4_096)).await;
    let labelled = |instance: &Instance| -> Result<InstanceSpec, Error> {
        let labels = [("team".to_owned(), "net".to_owned())].into_iter().collect();
        Ok(InstanceSpec { labels, ..instance.spec.clone() })
    };
    let told = stack.control().preview_update(&acme.principal, &acme.project, "job", None, labelled).await.unwrap();
    assert_eq!((told.dry_run.fits, told.dry_run.why_not), (true, None));
    let apart = |instance: &Instance| -> Result<InstanceSpec, Error> {
        Ok(InstanceSpec { isolation: Isolation::Sandboxed, ..instance.spec.clone() })
    };
    let told = stack.control().preview_update(&acme.principal, &acme.project, "job", None, apart).await.unwrap();
    assert!(told.dry_run.why_not.is_some_and(|why| why.contains("no machine here offers sandboxed")));
    let refused = stack.control().update_instance(&acme.principal, &acme.project, "job", None, apart).await;
    assert_eq!(refused.unwrap_err().field(), Some("isolation"));
}
