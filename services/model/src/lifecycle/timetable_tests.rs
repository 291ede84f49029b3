//! Runs by the clock, with the clock turned by hand.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::fact::{ContainerExit, Fact, Observation};
use crate::instance::{EndReason, Leaving};
use crate::name::ContainerName;
use crate::quantity::{CpuMillis, MemoryMib};
use crate::spec::{ContainerSpec, OnOverlap, RestartPolicy, Schedule};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn node() -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(9))
}

fn main_container() -> ContainerName {
    ContainerName::new("main").unwrap()
}

/// Due at each whole minute.
fn minutely() -> Schedule {
    Schedule { starting_deadline_seconds: 300, ..Schedule::new("* * * * *", "UTC") }
}

fn born(schedule: Schedule) -> Instance {
    let image = "r.example/job:1".parse().unwrap();
    let container = ContainerSpec::new(main_container(), image, CpuMillis::new(100), MemoryMib::new(64));
    let spec = InstanceSpec {
        restart_policy: RestartPolicy::Never,
        schedule: Some(schedule),
        ..InstanceSpec::new(vec![container])
    };
    assert_eq!(spec.check(), Ok(()));
    let birth = Birth {
        id: InstanceId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        project: ProjectId::from_uuid(Uuid::from_u128(3)),
        project_name: ProjectName::default_project(),
        name: InstanceName::new("job").unwrap(),
        spec,
        node: None,
        actor: "key:1".into(),
    };
    create(birth, at(5)).after
}

fn seen(instance: &Instance, seconds: i64, fact: Fact) -> Instance {
    let observation = Observation {
        seq: 1,
        instance: instance.id,
        generation: instance.generation,
        revision: 0,
        at: at(seconds),
        fact,
    };
    observe(instance, &observation, at(seconds)).unwrap().after
}

fn starts(instance: &Instance, seconds: i64) -> Instance {
    let run = instance.first_run;
    seen(instance, seconds, Fact::ContainerStarted { container: main_container(), run, started_at: at(seconds) })
}

fn ends(instance: &Instance, seconds: i64, exit_code: i32) -> Instance {
    let exit =
        ContainerExit { finished_at: at(seconds), exit_code, signal: None, reason: EndReason::Exited, message: None };
    let run = instance.first_run;
    let started_at = instance.started_at.unwrap();
    let fact = Fact::ContainerExited { container: main_container(), run, started_at, exit, restart_at: None };
    seen(instance, seconds, fact)
}

fn gone(instance: &Instance, seconds: i64) -> Instance {
    seen(instance, seconds, Fact::SandboxStopped)
}

fn step(instance: &Instance, seconds: i64) -> Change {
    match due(instance, at(seconds)) {
        Due::Step(change) => *change,
        other => panic!("{other:?}"),
    }
}

fn run_at(instance: &Instance, seconds: i64) -> Instance {
    run(instance, node(), at(seconds)).unwrap().after
}

fn next(instance: &Instance) -> Option<i64> {
    instance.timetable.as_ref()?.next.map(Timestamp::grid_second)
}

fn kinds(change: &Change) -> Vec<EventKind> {
    change.events.iter().map(|event| event.kind).collect()
}

#[test]
fn it_waits_nowhere_runs_at_its_time_and_waits_again() {
    let made = born(minutely());
    assert_eq!(
        (made.state, made.node, made.holds_resources, next(&made)),
        (InstanceState::Stopped, None, false, Some(60))
    );
    assert_eq!(due(&made, at(59)), Due::Nothing);
    assert_eq!(run(&made, node(), at(59)), None);
    assert_eq!(due(&made, at(60)), Due::Run);
    let change = run(&made, node(), at(61)).unwrap();
    assert_eq!((change.takes, change.releases), (Some(node()), None));
    assert_eq!(kinds(&change), [EventKind::StartRequested]);
    assert_eq!(change.events[0].actor.as_deref(), Some(SCHEDULE_ACTOR));
    let running = starts(&change.after, 62);
    assert_eq!((running.state, running.generation.0, next(&running)), (InstanceState::Running, 2, Some(120)));
    let ended = gone(&ends(&running, 70, 3), 71);
    assert_eq!((ended.state, ended.holds_resources, next(&ended)), (InstanceState::Failed, false, Some(120)));
    let last = last_run(&ended).unwrap();
    assert_eq!((last.of, last.state, last.finished_at), (Some(at(60)), InstanceState::Failed, at(70)));
    let again = run_at(&ended, 120);
    assert_eq!((again.state, again.generation.0, again.name.as_str()), (InstanceState::Scheduled, 3, "job"));
    assert_eq!(last_run(&again), Some(last), "told of while another goes on");
    // Somebody asks for one between the times.
    let ended = gone(&ends(&starts(&again, 121), 125, 0), 126);
    let asked = intend(&ended, Ask::Start(node()), "key:1", at(130)).unwrap().unwrap().after;
    assert_eq!(next(&asked), Some(180));
    let ended = gone(&ends(&starts(&asked, 131), 135, 0), 136);
    assert_eq!(last_run(&ended).unwrap().of, None);
}

#[test]
fn one_that_still_goes_on_is_not_run_twice() {
    let running = starts(&run_at(&born(minutely()), 60), 61);
    let change = step(&running, 120);
    assert_eq!(kinds(&change), [EventKind::RunSkipped]);
    assert!(change.events[0].message.contains("1970-01-01T00:02:00"), "{:?}", change.events);
    assert_eq!((change.after.state, next(&change.after)), (InstanceState::Running, Some(180)));
    assert_eq!(due(&change.after, at(120)), Due::Nothing, "told once");
    let unknown = silence(&running, at(70), at(90)).unwrap().after;
    let change = step(&unknown, 120);
    assert_eq!(kinds(&change), [EventKind::RunSkipped]);
    assert!(change.events[0].message.contains("its machine is silent"), "{:?}", change.events);
}

#[test]
fn or_it_is_replaced() {
    let schedule = Schedule { on_overlap: OnOverlap::Replace, ..minutely() };
    let running = starts(&run_at(&born(schedule), 60), 61);
    let change = step(&running, 120);
    assert_eq!(kinds(&change), [EventKind::StopRequested]);
    assert_eq!((change.after.state, next(&change.after)), (InstanceState::Stopping, Some(120)));
    let stopping = step(&change.after, 121).after;
    assert_eq!(stopping.state, InstanceState::Stopping, "nothing begins beside it");
    let stopped = gone(&stopping, 125);
    assert_eq!(due(&stopped, at(130)), Due::Run);
    let again = run_at(&stopped, 130);
    assert_eq!((again.generation.0, next(&again)), (3, Some(180)));
    assert_eq!(again.timetable.unwrap().run_of, Some(at(120)));
}

#[test]
fn of_missed_times_the_latest_is_caught_up_with_within_its_deadline() {
    let made = born(minutely());
    let change = run(&made, node(), at(200)).unwrap();
    assert_eq!(kinds(&change), [EventKind::RunMissed, EventKind::StartRequested]);
    assert_eq!(change.after.timetable.as_ref().unwrap().run_of, Some(at(180)));
    assert_eq!(next(&change.after), Some(240));
    let hourly = Schedule { starting_deadline_seconds: 300, ..Schedule::new("@hourly", "UTC") };
    let made = born(hourly);
    assert_eq!(next(&made), Some(3600));
    assert_eq!(due(&made, at(3899)), Due::Run);
    assert_eq!(run(&made, node(), at(3900)), None, "its deadline is over");
    let change = step(&made, 3900);
    assert_eq!((kinds(&change), next(&change.after)), (vec![EventKind::RunMissed], Some(7200)));
    assert_eq!(change.after.state, InstanceState::Stopped);
}

#[test]
fn without_room_it_is_tried_again_until_its_deadline_or_the_next_time() {
    let made = born(Schedule { starting_deadline_seconds: 300, ..Schedule::new("@hourly", "UTC") });
    let mut now = 3600;
    let mut waiting = made;
    let mut distances = Vec::new();
    let mut told = 0;
    while let Some(change) = postpone(&waiting, "all machines are full", at(now)) {
        told += change.events.iter().filter(|event| event.kind == EventKind::RunPostponed).count();
        waiting = change.after;
        let later = waiting.timetable.as_ref().unwrap().due_at.unwrap().grid_second();
        assert!(later > now);
        distances.push(later - now);
        now = later;
    }
    assert_eq!(distances, [1, 2, 4, 8, 16, 32, 60, 60, 60, 57]);
    assert_eq!(told, 1);
    let change = step(&waiting, now);
    assert_eq!(kinds(&change), [EventKind::RunMissed]);
    assert!(change.events[0].message.contains("all machines are full"));
    assert_eq!(next(&change.after), Some(7200));
    // The next time comes before the deadline.
    let waiting = postpone(&born(minutely()), "all machines are full", at(90)).unwrap().after;
    let change = run(&waiting, node(), at(125)).unwrap();
    assert_eq!(kinds(&change), [EventKind::RunMissed, EventKind::StartRequested]);
    assert!(change.events[0].message.contains("all machines are full"));
    assert_eq!(change.after.timetable.unwrap().run_of, Some(at(120)));
}

#[test]
fn it_is_suspended_resumed_changed_and_taken_away() {
    let made = born(minutely());
    let with = |instance: &Instance, edit: &dyn Fn(&mut InstanceSpec), now| {
        let mut spec = instance.spec.clone();
        edit(&mut spec);
        update(instance, &spec, "key:1", at(now)).unwrap().unwrap().after
    };
    let suspended = with(&made, &|spec| spec.schedule.as_mut().unwrap().suspended = true, 10);
    assert_eq!(next(&suspended), None);
    assert_eq!(due(&suspended, at(1000)), Due::Nothing);
    let resumed = with(&suspended, &|spec| spec.schedule.as_mut().unwrap().suspended = false, 1000);
    assert_eq!(next(&resumed), Some(1020), "what was suspended is not caught up with");
    let hourly = with(&resumed, &|spec| spec.schedule.as_mut().unwrap().cron = "@hourly".into(), 1001);
    assert_eq!(next(&hourly), Some(3600));
    let patient = with(&hourly, &|spec| spec.schedule.as_mut().unwrap().starting_deadline_seconds = 15, 1002);
    assert_eq!(next(&patient), Some(3600));
    // What runs is not touched.
    let running = starts(&run_at(&made, 60), 61);
    let suspended = with(&running, &|spec| spec.schedule.as_mut().unwrap().suspended = true, 62);
    assert_eq!((suspended.state, next(&suspended)), (InstanceState::Running, None));
    let taken = with(&running, &|spec| spec.schedule = None, 62);
    assert_eq!((taken.state, taken.timetable.clone()), (InstanceState::Running, None));
    assert_eq!(due(&taken, at(1000)), Due::Nothing);
    let deleted = intend(&made, Ask::Delete, "key:1", at(20)).unwrap().unwrap().after;
    assert_eq!((deleted.state, due(&deleted, at(1000))), (InstanceState::Deleted, Due::Nothing));
}

#[test]
fn a_stop_ends_the_run_and_says_that_there_is_a_next() {
    let running = starts(&run_at(&born(minutely()), 60), 61);
    let change = intend(&running, Ask::Stop, "key:1", at(70)).unwrap().unwrap();
    assert!(change.events[0].message.contains("starts it again at 1970-01-01T00:02:00"), "{:?}", change.events);
    let stopped = gone(&change.after, 75);
    assert_eq!(last_run(&stopped).unwrap().reason, Some(EndReason::StoppedByUser));
    assert_eq!(due(&stopped, at(120)), Due::Run);
}

#[test]
fn who_changes_something_of_what_is_being_stopped_has_not_stopped_it() {
    let running = starts(&run_at(&born(minutely()), 60), 61);
    let stopping = intend(&running, Ask::Stop, "key:1", at(70)).unwrap().unwrap().after;
    let mut spec = stopping.spec.clone();
    spec.labels.insert("team".to_owned(), "net".to_owned());
    let change = update(&stopping, &spec, "key:2", at(71)).unwrap().unwrap();
    assert_eq!(change.events[0].actor.as_deref(), Some("key:2"));
    let stopped = gone(&change.after, 75);
    assert_eq!(stopped.message.as_deref(), Some("the stop was asked for by key:1"));
    let deleted = intend(&stopped, Ask::Delete, "key:3", at(80)).unwrap().unwrap().after;
    assert_eq!(deleted.asked_by.as_deref(), Some("key:3"));
    // Of what is there to run it is whoever asked for something last.
    let changed = update(&running, &spec, "key:2", at(71)).unwrap().unwrap().after;
    assert_eq!(changed.asked_by.as_deref(), Some("key:2"));
}

/// What can happen to it in a second.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Look,
    Full,
    Begin,
    Progress,
    Stop,
    Start,
    Leave,
    Suspend,
    Resume,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However far one has to look back, the time that is acted upon is the latest.
    #[test]
    fn the_latest_time_is_found(
        cron in prop::sample::select(vec!["* * * * *", "*/7 * * * *", "0,30 1-3 * * *", "15 */2 * * *", "30 2 * * *"]),
        deadline in prop::sample::select(vec![10_u32, 60, 61, 3_600, 3_700, 86_400]),
        away in 0_i64..90_000,
    ) {
        let schedule = Schedule { starting_deadline_seconds: deadline, ..Schedule::new(cron, "Europe/Berlin") };
        let made = born(schedule.clone());
        let first = made.timetable.as_ref().unwrap().next.unwrap();
        let now = first.plus(Duration::from_secs(u64::try_from(away).unwrap()));
        let within = Duration::from_secs(u64::from(deadline));
        let all = schedule.times_after(first.minus(Duration::from_secs(1)));
        let latest = all.take_while(|time| *time <= now).last().filter(|time| time.plus(within) > now);
        let begun = run(&made, node(), now).map(|change| change.after.timetable.unwrap().run_of.unwrap());
        prop_assert_eq!(begun, latest);
    }
}

proptest! {
    /// Whatever happens in whichever order: no two runs for one time, none early, none beside another, and what is due is
    /// always looked at again later.
    #[test]
    fn runs_are_apart_and_in_their_time(
        turns in prop::collection::vec((1_i64..200, prop::sample::select(vec![
            Turn::Look, Turn::Look, Turn::Look, Turn::Full, Turn::Begin, Turn::Begin, Turn::Progress, Turn::Progress, Turn::Progress,
            Turn::Progress, Turn::Stop, Turn::Start, Turn::Leave, Turn::Suspend, Turn::Resume,
        ])), 1..120),
        replace in any::<bool>(),
    ) {
        let on_overlap = if replace { OnOverlap::Replace } else { OnOverlap::Skip };
        let mut instance = born(Schedule { on_overlap, starting_deadline_seconds: 90, ..Schedule::new("*/2 * * * *", "UTC") });
        let mut now = 5;
        let mut begun: Vec<i64> = Vec::new();
        for (seconds, turn) in turns {
            now += seconds;
            let before = instance.clone();
            let change = match turn {
                Turn::Look => match due(&instance, at(now)) {
                    Due::Step(change) => Some(*change),
                    Due::Run | Due::Nothing => None,
                },
                Turn::Full => postpone(&instance, "full", at(now)),
                Turn::Begin => run(&instance, node(), at(now)),
                Turn::Progress => {
                    let progressed = match instance.state {
                        InstanceState::Scheduled => Some(starts(&instance, now)),
                        InstanceState::Running => Some(ends(&instance, now, 0)),
                        InstanceState::Pending => place(&instance, node(), at(now)).map(|change| change.after),
                        _ if instance.holds_resources => Some(gone(&instance, now)),
                        _ => None,
                    };
                    instance = progressed.unwrap_or(instance);
                    None
                }
                Turn::Stop => intend(&instance, Ask::Stop, "key:1", at(now)).unwrap(),
                Turn::Start => intend(&instance, Ask::Start(node()), "key:1", at(now)).unwrap_or(None),
                Turn::Leave => leave(&instance, Leaving::Move, at(now)),
                Turn::Suspend | Turn::Resume => {
                    let mut spec = instance.spec.clone();
                    spec.schedule.as_mut().unwrap().suspended = matches!(turn, Turn::Suspend);
                    update(&instance, &spec, "key:1", at(now)).unwrap()
                }
            };
            let Some(change) = change else { continue };
            prop_assert_eq!(change.from, before.revision);
            instance = change.after;
            let table = instance.timetable.as_ref().unwrap();
            if matches!(turn, Turn::Begin) {
                prop_assert!(before.state.is_settled() && !before.holds_resources, "nothing of it runs");
                let of = table.run_of.unwrap().grid_second();
                prop_assert!(of <= now && now < of + 90 && of % 120 == 0, "{} at {}", of, now);
                prop_assert!(begun.last().is_none_or(|last| *last < of), "{:?} then {}", begun, of);
                begun.push(of);
            }
            if matches!(turn, Turn::Look | Turn::Full | Turn::Begin) {
                prop_assert!(table.due_at.is_some_and(|later| later > at(now)));
            }
            prop_assert_eq!(table.next.is_none(), instance.spec.schedule.as_ref().unwrap().suspended);
            prop_assert!(table.due_at >= table.next);
            prop_assert!(table.due_at.is_none_or(|later| later.since(at(now)) <= Duration::from_mins(2)));
        }
    }
}
