//! What an agent saw of an instance.

use std::net::Ipv4Addr;

use thiserror::Error;

use crate::fact::{ContainerExit, Fact, Observation};
use crate::instance::{ContainerRun, ContainerStatus, EndReason, EventKind, Instance, InstanceState, Intent, Leaving};
use crate::name::{ContainerName, VolumeName};
use crate::reference::Digest;
use crate::spec::{ContainerKind, ContainerSpec, RestartPolicy};
use crate::time::Timestamp;

use super::draft::Draft;
use super::{Change, MeterKind};

/// Why a fact changes nothing. It is acknowledged all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Ignored {
    /// It is about another generation than the present one.
    #[error("the fact is about another generation")]
    OtherGeneration,
    /// The instance is deleted.
    #[error("the instance is deleted")]
    Gone,
    /// It says what is known already, or what the present state has no use for.
    #[error("the fact changes nothing")]
    Nothing,
}

/// The change that the observation makes. `now` is the control plane's clock.
pub fn observe(instance: &Instance, observation: &Observation, now: Timestamp) -> Result<Change, Ignored> {
    if instance.state == InstanceState::Deleted {
        return Err(Ignored::Gone);
    }
    if observation.generation != instance.generation {
        return Err(Ignored::OtherGeneration);
    }
    // Nothing runs of an instance that has no node.
    if instance.state == InstanceState::Pending {
        return Err(Ignored::Nothing);
    }
    // Once an instance is settled, or its sandbox is gone, nothing of this generation can start or end any more.
    let about_a_run = matches!(
        observation.fact,
        Fact::ContainerStarted { .. } | Fact::Readiness { .. } | Fact::ContainerExited { .. }
    );
    if about_a_run && (!instance.holds_resources || instance.state.is_settled()) {
        return Err(Ignored::Nothing);
    }
    let at = observation.at.min(now);
    let mut draft = Draft::of(instance, now);
    let changed = match &observation.fact {
        Fact::PullStarted { container } => pull_started(&mut draft, container, at),
        Fact::PullRetrying { container, message, retry_at } => {
            pull_retrying(&mut draft, container, message, (observation.at, *retry_at), at)
        }
        Fact::Pulled { container, digest, cached } => {
            // Its image may have been changed since its node has let go of it.
            let is_of_now = instance.holds_resources
                && instance.container(container).is_none_or(|known| observation.revision >= known.revision);
            pulled(&mut draft, container, digest, *cached, at, is_of_now)
        }
        Fact::VolumeRetrying { volume, message, retry_at } => {
            volume_retrying(&mut draft, volume, message, *retry_at, at)
        }
        Fact::VolumeReady { volume, message } => {
            draft.event(EventKind::VolumeReady, at, format!("volume {volume} {message}"));
            true
        }
        Fact::SandboxReady { address } => sandbox_ready(&mut draft, *address),
        Fact::ContainerStarted { container, run, started_at } => {
            let run = (*run, observation.revision);
            let changed = container_started(&mut draft, container, run, (*started_at).min(now));
            if changed {
                note_revision(&mut draft, container, observation.revision);
            }
            changed
        }
        Fact::Readiness { container, run, ready, message } => {
            readiness(&mut draft, container, *run, *ready, message.as_deref(), at)
        }
        Fact::ContainerExited { container, run, started_at, exit, restart_at } => {
            let exit = ContainerExit { finished_at: exit.finished_at.min(now), ..exit.clone() };
            let run = (*run, observation.revision);
            container_exited(&mut draft, container, run, (*started_at).min(now), exit, *restart_at)
        }
        Fact::Failed { reason, message } => failed(&mut draft, *reason, message, at),
        Fact::SandboxStopped => sandbox_stopped(&mut draft, at),
        Fact::Removed => removed(&mut draft, at),
    };
    if changed { Ok(draft.finish()) } else { Err(Ignored::Nothing) }
}

/// The state of an instance that nothing is fetched for.
fn resting_state(instance: &Instance) -> InstanceState {
    match (instance.any_container_runs(), instance.run_meter.open_since) {
        (false, _) => InstanceState::Starting,
        (true, Some(_)) => InstanceState::Running,
        // It runs as far as anybody knows, and nobody knows.
        (true, None) => instance.state,
    }
}

/// Whether the instance is on its way to running, or does.
const fn is_under_way(state: InstanceState) -> bool {
    use InstanceState as S;
    matches!(state, S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown)
}

fn pull_started(draft: &mut Draft, container: &ContainerName, at: Timestamp) -> bool {
    if !is_under_way(draft.instance.state) {
        return false;
    }
    if !draft.instance.any_container_runs() {
        draft.instance.state = InstanceState::Pulling;
        draft.instance.message = None;
        // What runs is metered as that, whatever is fetched beside it.
        draft.open(MeterKind::Pull, at, false);
    }
    draft.event(EventKind::PullStarted, at, format!("pulling the image of {container}"));
    true
}

/// What follows on the last try for an image that something else runs without.
const GIVEN_UP: &str = "what ran before runs on, update or restart it to try again";

fn pull_retrying(
    draft: &mut Draft,
    container: &ContainerName,
    message: &str,
    (said_at, retry): (Timestamp, Timestamp),
    at: Timestamp,
) -> bool {
    if !is_under_way(draft.instance.state) {
        return false;
    }
    if !draft.instance.any_container_runs() {
        draft.instance.state = InstanceState::Pulling;
    }
    draft.close(MeterKind::Pull, at);
    let next = if draft.instance.any_container_runs() && retry <= said_at {
        GIVEN_UP.to_owned()
    } else {
        format!("next try at {retry}")
    };
    let message = format!("the image of {container} could not be pulled: {message}; {next}");
    draft.instance.message = Some(message.clone());
    draft.event(EventKind::PullRetrying, at, message);
    true
}

fn volume_retrying(draft: &mut Draft, volume: &VolumeName, message: &str, retry: Timestamp, at: Timestamp) -> bool {
    if !is_under_way(draft.instance.state) {
        return false;
    }
    let message = format!("volume {volume} could not be fetched: {message}; next try at {retry}");
    draft.instance.message = Some(message.clone());
    draft.event(EventKind::VolumeRetrying, at, message);
    true
}

/// `is_of_now`: whether it is what the container is to run now; its spec may have changed since the pull began.
fn pulled(
    draft: &mut Draft,
    container: &ContainerName,
    digest: &Digest,
    cached: bool,
    at: Timestamp,
    is_of_now: bool,
) -> bool {
    draft.close(MeterKind::Pull, at);
    let Some(status) = status_of(&mut draft.instance, container) else { return false };
    let first = status.image_digest.is_none();
    if is_of_now {
        status.image_digest.get_or_insert_with(|| digest.clone());
        status.asks_registry = false;
    }
    if is_under_way(draft.instance.state) {
        draft.instance.state = resting_state(&draft.instance);
        draft.instance.message = None;
    }
    if first || !cached {
        let how = if cached { "present" } else { "pulled" };
        draft.event(EventKind::Pulled, at, format!("the image of {container} is {how}: {digest}"));
    }
    true
}

fn sandbox_ready(draft: &mut Draft, address: Ipv4Addr) -> bool {
    let changed = draft.instance.address != Some(address);
    draft.instance.address = Some(address);
    changed
}

fn container_started(
    draft: &mut Draft,
    name: &ContainerName,
    (run, revision): (u32, u32),
    started_at: Timestamp,
) -> bool {
    let first_run = draft.instance.first_run;
    let others_run = others_run(&draft.instance, name);
    let is_probed = draft.instance.spec.container(name).is_some_and(|spec| spec.probes.delay_readiness());
    let Some(status) = status_of(&mut draft.instance, name) else { return false };
    if !record_start(status, (run, revision), first_run, started_at) {
        return false;
    }
    status.unready = is_probed;
    // It does not show that those which ran before the silence run still: their proof reopens the meter.
    let is_in_doubt = others_run && draft.instance.unknown_since.is_some();
    if is_under_way(draft.instance.state) && !is_in_doubt {
        draft.instance.state = InstanceState::Running;
        draft.instance.message = None;
        draft.instance.unknown_since = None;
    }
    draft.instance.started_at.get_or_insert(started_at);
    if !others_run {
        draft.open(MeterKind::Run, started_at, false);
    }
    draft.event(EventKind::ContainerStarted, started_at, format!("{name} started (run {run})"));
    true
}

fn readiness(
    draft: &mut Draft,
    name: &ContainerName,
    run: u32,
    ready: bool,
    message: Option<&str>,
    at: Timestamp,
) -> bool {
    let Some(status) = status_of(&mut draft.instance, name) else { return false };
    let is_present = status.is_running() && status.latest_run().is_some_and(|latest| latest.number == run);
    if !is_present || status.unready != ready {
        return false;
    }
    status.unready = !ready;
    let (kind, sentence) = match (ready, message) {
        (true, _) => (EventKind::ContainerReady, format!("{name} is ready")),
        (false, None) => (EventKind::ContainerUnready, format!("{name} is not ready")),
        (false, Some(message)) => (EventKind::ContainerUnready, format!("{name} is not ready: {message}")),
    };
    draft.event(kind, at, sentence);
    true
}

/// A run of this revision of the container has begun: no older request for one is open.
fn note_revision(draft: &mut Draft, name: &ContainerName, revision: u32) {
    if let Some(status) = status_of(&mut draft.instance, name).filter(|status| revision >= status.revision) {
        status.is_due = false;
    }
}

fn container_exited(
    draft: &mut Draft,
    name: &ContainerName,
    (run, revision): (u32, u32),
    started_at: Timestamp,
    exit: ContainerExit,
    restart_at: Option<Timestamp>,
) -> bool {
    let first_run = draft.instance.first_run;
    let others_run = others_run(&draft.instance, name);
    let Some(status) = status_of(&mut draft.instance, name) else { return false };
    let newly_learnt = record_start(status, (run, revision), first_run, started_at);
    let Some(record) = status.runs.iter_mut().find(|known| known.number == run && known.end.is_none()) else {
        return false;
    };
    let exit = ContainerExit { finished_at: exit.finished_at.max(record.started_at), ..exit };
    record.end = Some(exit.clone());
    // The end of an earlier run, told late, decides nothing while a later one runs.
    let later_run = status.is_running();
    let restart_at = restart_at.filter(|_| !later_run);
    status.restart_at = restart_at;
    status.unready &= later_run;
    status.is_due &= revision < status.revision;
    let others_run = others_run || later_run;
    draft.instance.started_at.get_or_insert(started_at);
    if others_run {
        draft.meter_gaps();
    } else {
        // Opened here when the start was never reported, or when silence closed the meter of a run that is known.
        draft.instance.unknown_since = None;
        draft.meter_runs(!newly_learnt);
        draft.close(MeterKind::Run, exit.finished_at);
    }
    let sentence = exit_sentence(name, &exit);
    // They came to their own ends before their node could end them: there is nothing left to move.
    if draft.instance.leaving.is_some() && !others_run && have_ended(&draft.instance, is_final) {
        settle_by_exits(draft, exit.finished_at);
    }
    if draft.instance.intent == Intent::Run && is_under_way(draft.instance.state) && !others_run {
        if have_ended(&draft.instance, is_not_restarted) {
            settle_by_exits(draft, exit.finished_at);
        } else {
            draft.instance.state = InstanceState::Starting;
        }
    }
    if let (Some(at), true) = (restart_at, draft.instance.intent == Intent::Run && is_under_way(draft.instance.state)) {
        draft.instance.message = Some(format!("{sentence}; it is restarted at {at}"));
    }
    draft.event(EventKind::ContainerExited, exit.finished_at, sentence.clone());
    let decisive = draft.instance.message.clone().unwrap_or(sentence);
    match draft.instance.state {
        InstanceState::Succeeded => draft.event(EventKind::Succeeded, exit.finished_at, decisive),
        InstanceState::Failed => draft.event(EventKind::Failed, exit.finished_at, decisive),
        _ => {}
    }
    true
}

/// Whether every container was started in this generation, nobody has asked for another run of it, and its latest has ended in
/// a way that `holds`.
fn have_ended(instance: &Instance, holds: impl Fn(&Instance, &ContainerSpec, &ContainerExit) -> bool) -> bool {
    instance.spec.containers.iter().all(|spec| {
        let status = instance.container(&spec.name).filter(|status| !status.is_due);
        let run = status.and_then(|status| status.run_since(instance.first_run));
        let ended = run.and_then(|run| run.end.as_ref());
        ended.is_some_and(|exit| holds(instance, spec, exit))
    })
}

/// Whether no restart of the container is announced.
fn is_not_restarted(instance: &Instance, container: &ContainerSpec, _: &ContainerExit) -> bool {
    instance.container(&container.name).is_some_and(|status| status.restart_at.is_none())
}

/// Whether the container ended by itself and its policy leaves it at that. `max_restarts` is not asked: a run's number does not
/// say how many before it somebody asked for, and the count begins anew elsewhere.
fn is_final(instance: &Instance, container: &ContainerSpec, exit: &ContainerExit) -> bool {
    use EndReason as R;
    if matches!(exit.reason, R::StoppedByUser | R::NodeLost | R::Restarted | R::Evicted) {
        return false;
    }
    let spec = &instance.spec;
    match spec.restart_policy {
        RestartPolicy::Never => true,
        RestartPolicy::OnFailure => !exit.is_failure(),
        RestartPolicy::Always => !exit.is_failure() && spec.runs_once(container),
    }
}

/// All have ended: it failed as the first of them did that failed, or succeeded.
fn settle_by_exits(draft: &mut Draft, at: Timestamp) {
    let first_run = draft.instance.first_run;
    let exits = draft
        .instance
        .containers
        .iter()
        .filter_map(|status| status.run_since(first_run)?.end.as_ref().map(|exit| (&status.name, exit)));
    let failed = exits.clone().filter(|(_, exit)| exit.is_failure()).min_by_key(|(_, exit)| exit.finished_at);
    let state = if failed.is_some() { InstanceState::Failed } else { InstanceState::Succeeded };
    let decisive = failed.or_else(|| exits.max_by_key(|(_, exit)| exit.finished_at));
    let Some((reason, sentence)) = decisive.map(|(name, exit)| (exit.reason, exit_sentence(name, exit))) else {
        return;
    };
    draft.settle(state, reason, Some(sentence), at);
}

fn failed(draft: &mut Draft, reason: EndReason, message: &str, at: Timestamp) -> bool {
    draft.close(MeterKind::Pull, at);
    if !is_under_way(draft.instance.state) {
        return false;
    }
    draft.end_open_runs(at, reason);
    draft.settle(InstanceState::Failed, reason, Some(message.to_owned()), at);
    draft.event(EventKind::Failed, at, message);
    true
}

fn sandbox_stopped(draft: &mut Draft, at: Timestamp) -> bool {
    use InstanceState as S;
    match draft.instance.state {
        S::Stopping if draft.instance.leaving == Some(Leaving::Move) => {
            draft.displace(at, EndReason::Evicted, "its machine was emptied; it waits for another place");
            return true;
        }
        S::Stopping if draft.instance.leaving == Some(Leaving::Evict) => {
            draft.end_open_runs(at, EndReason::Evicted);
            let message = "the service needed its machine; start it again to run it elsewhere";
            draft.settle(S::Stopped, EndReason::Evicted, Some(message.to_owned()), at);
            draft.event(EventKind::Stopped, at, message);
        }
        S::Stopping => {
            draft.end_open_runs(at, EndReason::StoppedByUser);
            draft.settle_stopped(at);
        }
        S::Deleting => draft.end_open_runs(at, EndReason::StoppedByUser),
        S::Stopped | S::Succeeded | S::Failed => {}
        _ if is_cut_short(&draft.instance) => {
            if begin_again(draft, at) {
                return true;
            }
            // What has come to its end beside them is not run twice.
            settle_by_exits(draft, at);
            let message = draft.instance.message.clone().unwrap_or_default();
            let has_failed = draft.instance.state == S::Failed;
            draft.event(if has_failed { EventKind::Failed } else { EventKind::Succeeded }, at, message);
        }
        S::Pending | S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown | S::Deleted => return false,
    }
    draft.instance.address = None;
    draft.instance.holds_resources = false;
    true
}

/// Whether its node had taken it down, because all had ended, before it heard that some are to run again.
fn is_cut_short(instance: &Instance) -> bool {
    is_under_way(instance.state)
        && instance.containers.iter().any(|status| status.is_due)
        && !instance.any_container_runs()
}

/// Everything that was there to run is to run again: it does, in another sandbox on the same node.
fn begin_again(draft: &mut Draft, at: Timestamp) -> bool {
    let instance = &draft.instance;
    let is_due = |spec: &ContainerSpec| instance.container(&spec.name).is_some_and(|status| status.is_due);
    if !instance.spec.containers.iter().filter(|spec| spec.kind == ContainerKind::Main).all(is_due) {
        return false;
    }
    draft.close(MeterKind::Pull, at);
    draft.begin_generation();
    draft.instance.state = InstanceState::Scheduled;
    draft.instance.address = None;
    draft.instance.unknown_since = None;
    true
}

fn removed(draft: &mut Draft, at: Timestamp) -> bool {
    if draft.instance.intent != Intent::Delete {
        return false;
    }
    delete_record(draft, at);
    true
}

/// Nothing of the instance is left anywhere.
pub(super) fn delete_record(draft: &mut Draft, at: Timestamp) {
    draft.end_open_runs(at, EndReason::StoppedByUser);
    draft.close(MeterKind::Pull, at);
    draft.instance.state = InstanceState::Deleted;
    draft.instance.address = None;
    draft.instance.holds_resources = false;
    draft.instance.unknown_since = None;
    draft.instance.leaving = None;
    draft.instance.message = None;
    draft.instance.finished_at.get_or_insert(at);
    draft.instance.deleted_at = Some(at);
    draft.event(EventKind::Deleted, at, "deleted");
}

fn status_of<'a>(instance: &'a mut Instance, name: &ContainerName) -> Option<&'a mut ContainerStatus> {
    instance.containers.iter_mut().find(|container| &container.name == name)
}

fn others_run(instance: &Instance, name: &ContainerName) -> bool {
    instance.containers.iter().any(|other| &other.name != name && other.is_running())
}

/// Adds the run unless it, or a later one, is known. Says whether it was added.
fn record_start(
    status: &mut ContainerStatus,
    (run, revision): (u32, u32),
    first_run: u32,
    started_at: Timestamp,
) -> bool {
    if run < first_run || status.latest_run().is_some_and(|latest| latest.number >= run) {
        return false;
    }
    if run > first_run {
        let was_asked_for = status.is_due && revision >= status.revision;
        let count = if was_asked_for { &mut status.asked_restart_count } else { &mut status.restart_count };
        *count = count.saturating_add(1);
    }
    status.restart_at = None;
    if status.runs.len() >= ContainerStatus::MAX_RUNS_KEPT {
        status.runs.remove(0);
    }
    status.runs.push(ContainerRun { number: run, started_at, end: None });
    true
}

fn exit_sentence(name: &ContainerName, exit: &ContainerExit) -> String {
    let how = match (exit.reason, exit.signal) {
        (EndReason::OomKilled, _) => "was killed because it wanted more memory than it asked for".to_owned(),
        (EndReason::ProbeFailed, _) => "was ended because its probe failed".to_owned(),
        (EndReason::HookFailed, _) => "was ended because what was to be done after its start failed".to_owned(),
        (EndReason::DiskExceeded, _) => "was ended because the instance wrote too much to the disk".to_owned(),
        (EndReason::Restarted, _) => "was ended to be started again".to_owned(),
        (EndReason::DeadlineExceeded, _) => "was ended because its time was over".to_owned(),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (_, None) => format!("exited with code {}", exit.exit_code),
    };
    match &exit.message {
        Some(message) => format!("{name} {how}: {message}"),
        None => format!("{name} {how}"),
    }
}
