//! Instances and their events: model to wire. The node an instance runs on is not among what is told.

use wherry_api_types as wire;
use wherry_control::{Awaited, DryRun, InstanceView, StoredEvent, UpdatePreview};
use wherry_model as model;

use super::spec::spec_to_wire;

/// What a create would do.
pub(crate) fn dry_run(found: DryRun) -> wire::DryRun {
    wire::DryRun {
        fits: found.fits,
        why_not: found.why_not,
        price_per_hour: found.price_per_hour.to_string(),
        currency: found.currency,
        changes: Vec::new(),
        restarts: Vec::new(),
        next_runs: found.next_runs.iter().map(ToString::to_string).collect(),
    }
}

/// What an update would do.
pub(crate) fn preview(found: UpdatePreview) -> wire::DryRun {
    let restarts = found.plan.restarts.into_iter();
    let restarts = restarts
        .map(|restart| wire::ContainerRestart { container: restart.container.to_string(), because: restart.because });
    wire::DryRun { changes: found.plan.changes, restarts: restarts.collect(), ..dry_run(found.dry_run) }
}

/// An instance as its tenant sees it.
pub(crate) fn instance(view: InstanceView) -> wire::Instance {
    let InstanceView { instance, fqdn, cost, progress } = view;
    let of = |kind: model::ContainerKind| {
        let containers = instance.spec.containers.iter().zip(&instance.containers);
        let containers = containers.filter(|(spec, _)| spec.kind == kind);
        containers.map(|(spec, status)| container(spec, status, instance.first_run)).collect()
    };
    wire::Instance {
        id: instance.id.to_string(),
        name: instance.name.to_string(),
        project: instance.project_name.to_string(),
        generation: instance.version().0,
        state: state(instance.state),
        reason: instance.reason.map(reason),
        message: instance.message.clone(),
        asked_by: instance.asked_by.clone(),
        fqdn,
        address: instance.address.map(|address| address.to_string()),
        progress: progress.filter(|_| instance.state == model::InstanceState::Pulling).map(|known| wire::Progress {
            done_bytes: known.done_bytes,
            total_bytes: known.total_bytes,
            done_layers: known.done_layers,
            total_layers: known.total_layers,
        }),
        ready: instance.is_ready(),
        containers: of(model::ContainerKind::Main),
        init_containers: of(model::ContainerKind::Init),
        cost: wire::Cost {
            so_far: cost.so_far.to_string(),
            per_hour: cost.per_hour.to_string(),
            currency: cost.currency,
        },
        spec: spec_to_wire(&instance.spec),
        created_at: instance.created_at.to_string(),
        updated_at: instance.updated_at.to_string(),
        started_at: instance.started_at.map(|at| at.to_string()),
        finished_at: instance.finished_at.map(|at| at.to_string()),
        expires_at: instance.expires_at.map(|at| at.to_string()),
        next_runs: next_runs(&instance),
        waiting_run: instance.timetable.as_ref().and_then(waiting_run),
        last_run: model::lifecycle::last_run(&instance).map(finished_run),
        deleted_at: instance.deleted_at.map(|at| at.to_string()),
    }
}

fn next_runs(instance: &model::Instance) -> Vec<String> {
    let next = instance.timetable.as_ref().and_then(|table| table.next);
    let Some((schedule, next)) = instance.spec.schedule.as_ref().zip(next) else { return Vec::new() };
    let later = schedule.times_after(next).take(wherry_control::NEXT_RUNS - 1);
    std::iter::once(next).chain(later).map(|at| at.to_string()).collect()
}

fn waiting_run(table: &model::Timetable) -> Option<wire::WaitingRun> {
    Some(wire::WaitingRun {
        due: table.next?.to_string(),
        retry_at: table.due_at?.to_string(),
        message: table.waits_for.clone()?,
    })
}

fn finished_run(run: model::FinishedRun) -> wire::FinishedRun {
    wire::FinishedRun {
        due: run.of.map(|at| at.to_string()),
        state: state(run.state),
        reason: run.reason.map(reason),
        message: run.message,
        started_at: run.started_at.map(|at| at.to_string()),
        finished_at: run.finished_at.to_string(),
    }
}

fn container(spec: &model::ContainerSpec, status: &model::ContainerStatus, first_run: u32) -> wire::Container {
    let ended_in_this_generation = status.latest_run().is_some_and(|run| run.number >= first_run);
    wire::Container {
        name: status.name.to_string(),
        image: spec.image.to_string(),
        image_digest: status.image_digest.as_ref().map(ToString::to_string),
        state: if status.is_running() {
            wire::ContainerState::Running
        } else if ended_in_this_generation && status.restart_at.is_none() && !status.is_due {
            wire::ContainerState::Ended
        } else {
            wire::ContainerState::Waiting
        },
        ready: status.is_ready(),
        restart_count: status.restart_count,
        asked_restart_count: status.asked_restart_count,
        restart_at: status.restart_at.map(|at| at.to_string()),
        runs: status.runs.iter().map(run).collect(),
    }
}

fn run(run: &model::ContainerRun) -> wire::ContainerRun {
    let end = run.end.as_ref();
    wire::ContainerRun {
        number: run.number,
        started_at: run.started_at.to_string(),
        finished_at: end.map(|end| end.finished_at.to_string()),
        exit_code: end.map(|end| end.exit_code),
        signal: end.and_then(|end| end.signal),
        reason: end.map(|end| reason(end.reason)),
        message: end.and_then(|end| end.message.clone()),
    }
}

/// One event.
pub(crate) fn event(stored: StoredEvent) -> wire::Event {
    let StoredEvent { seq, instance, name, event } = stored;
    wire::Event {
        seq,
        instance_id: instance.to_string(),
        instance: name.to_string(),
        kind: kind(event.kind),
        at: event.at.to_string(),
        state: state(event.state),
        generation: event.generation.0,
        message: event.message,
        actor: event.actor,
    }
}

pub(super) const fn state(state: model::InstanceState) -> wire::InstanceState {
    match state {
        model::InstanceState::Pending => wire::InstanceState::Pending,
        model::InstanceState::Scheduled => wire::InstanceState::Scheduled,
        model::InstanceState::Pulling => wire::InstanceState::Pulling,
        model::InstanceState::Starting => wire::InstanceState::Starting,
        model::InstanceState::Running => wire::InstanceState::Running,
        model::InstanceState::Stopping => wire::InstanceState::Stopping,
        model::InstanceState::Stopped => wire::InstanceState::Stopped,
        model::InstanceState::Succeeded => wire::InstanceState::Succeeded,
        model::InstanceState::Failed => wire::InstanceState::Failed,
        model::InstanceState::Deleting => wire::InstanceState::Deleting,
        model::InstanceState::Deleted => wire::InstanceState::Deleted,
        model::InstanceState::Unknown => wire::InstanceState::Unknown,
    }
}

/// What a request waits for.
pub(crate) const fn wait_to_model(wanted: wire::WaitState) -> Awaited {
    match (wanted, wanted.state()) {
        (_, Some(state)) => Awaited::State(state_to_model(state)),
        (wire::WaitState::Ready, None) => Awaited::Ready,
        (_, None) => Awaited::Ended,
    }
}

/// A state that a request names.
pub(crate) const fn state_to_model(state: wire::InstanceState) -> model::InstanceState {
    match state {
        wire::InstanceState::Pending => model::InstanceState::Pending,
        wire::InstanceState::Scheduled => model::InstanceState::Scheduled,
        wire::InstanceState::Pulling => model::InstanceState::Pulling,
        wire::InstanceState::Starting => model::InstanceState::Starting,
        wire::InstanceState::Running => model::InstanceState::Running,
        wire::InstanceState::Stopping => model::InstanceState::Stopping,
        wire::InstanceState::Stopped => model::InstanceState::Stopped,
        wire::InstanceState::Succeeded => model::InstanceState::Succeeded,
        wire::InstanceState::Failed => model::InstanceState::Failed,
        wire::InstanceState::Deleting => model::InstanceState::Deleting,
        wire::InstanceState::Deleted => model::InstanceState::Deleted,
        wire::InstanceState::Unknown => model::InstanceState::Unknown,
    }
}

const fn reason(reason: model::EndReason) -> wire::EndReason {
    match reason {
        model::EndReason::Exited => wire::EndReason::Exited,
        model::EndReason::OomKilled => wire::EndReason::OomKilled,
        model::EndReason::StoppedByUser => wire::EndReason::StoppedByUser,
        model::EndReason::ImagePullFailed => wire::EndReason::ImagePullFailed,
        model::EndReason::ImageRefused => wire::EndReason::ImageRefused,
        model::EndReason::StartFailed => wire::EndReason::StartFailed,
        model::EndReason::NodeLost => wire::EndReason::NodeLost,
        model::EndReason::Evicted => wire::EndReason::Evicted,
        model::EndReason::ProbeFailed => wire::EndReason::ProbeFailed,
        model::EndReason::HookFailed => wire::EndReason::HookFailed,
        model::EndReason::DependencyFailed => wire::EndReason::DependencyFailed,
        model::EndReason::DeadlineExceeded => wire::EndReason::DeadlineExceeded,
        model::EndReason::Restarted => wire::EndReason::Restarted,
        model::EndReason::VolumeFailed => wire::EndReason::VolumeFailed,
        model::EndReason::DiskExceeded => wire::EndReason::DiskExceeded,
        model::EndReason::Other => wire::EndReason::Other,
    }
}

const fn kind(kind: model::EventKind) -> wire::EventKind {
    match kind {
        model::EventKind::Created => wire::EventKind::Created,
        model::EventKind::PullStarted => wire::EventKind::PullStarted,
        model::EventKind::PullRetrying => wire::EventKind::PullRetrying,
        model::EventKind::Pulled => wire::EventKind::Pulled,
        model::EventKind::VolumeRetrying => wire::EventKind::VolumeRetrying,
        model::EventKind::VolumeReady => wire::EventKind::VolumeReady,
        model::EventKind::ContainerStarted => wire::EventKind::ContainerStarted,
        model::EventKind::ContainerReady => wire::EventKind::ContainerReady,
        model::EventKind::ContainerUnready => wire::EventKind::ContainerUnready,
        model::EventKind::ContainerExited => wire::EventKind::ContainerExited,
        model::EventKind::StopRequested => wire::EventKind::StopRequested,
        model::EventKind::StartRequested => wire::EventKind::StartRequested,
        model::EventKind::RestartRequested => wire::EventKind::RestartRequested,
        model::EventKind::Updated => wire::EventKind::Updated,
        model::EventKind::Stopped => wire::EventKind::Stopped,
        model::EventKind::Succeeded => wire::EventKind::Succeeded,
        model::EventKind::Failed => wire::EventKind::Failed,
        model::EventKind::DeleteRequested => wire::EventKind::DeleteRequested,
        model::EventKind::Deleted => wire::EventKind::Deleted,
        model::EventKind::Unknown => wire::EventKind::Unknown,
        model::EventKind::Recovered => wire::EventKind::Recovered,
        model::EventKind::Leaving => wire::EventKind::Leaving,
        model::EventKind::Displaced => wire::EventKind::Displaced,
        model::EventKind::Scheduled => wire::EventKind::Scheduled,
        model::EventKind::RunSkipped => wire::EventKind::RunSkipped,
        model::EventKind::RunMissed => wire::EventKind::RunMissed,
        model::EventKind::RunPostponed => wire::EventKind::RunPostponed,
        model::EventKind::Other => wire::EventKind::Other,
    }
}
