//! The arguments that say what an instance is, as its spec.

use std::time::Duration;

use wherry_api_types::{
    ContainerSpec, DnsSettings, EmptyDirVolume, Gpu, HostAlias, InstanceSpec, Placement, ResourceLimits, Schedule,
    Volume, VolumeMount,
};

use super::failure::{Exit, Failure};
use crate::cli::SpecArgs;

/// Adds what `args` say to an instance of one container.
pub(super) fn complete(spec: InstanceSpec, args: &SpecArgs) -> Result<InstanceSpec, Failure> {
    let containers = spec.containers.into_iter().map(|container| complete_container(container, args)).collect();
    let dns = DnsSettings {
        servers: args.dns_servers.clone(),
        searches: args.dns_searches.clone(),
        options: args.dns_options.clone(),
    };
    let placement = Placement { spread: args.spread.clone(), near: args.near.clone(), apart: args.apart.clone() };
    Ok(InstanceSpec {
        containers,
        volumes: spec.volumes.into_iter().chain(volumes(args)).collect(),
        ephemeral_disk: args.ephemeral_disk.clone().or(spec.ephemeral_disk),
        gpu: args.gpu.clone().map(|gpu| Gpu { model: args.gpu_model.clone(), ..gpu }).or(spec.gpu),
        pids: args.pids.or(spec.pids),
        max_restarts: args.max_restarts.or(spec.max_restarts),
        deadline_seconds: seconds("--deadline", args.deadline)?.or(spec.deadline_seconds),
        ttl_seconds: seconds("--ttl", args.ttl)?.or(spec.ttl_seconds),
        schedule: schedule(args).or(spec.schedule),
        isolation: args.isolation,
        zone: args.zone.clone(),
        dedicated: args.dedicated,
        priority: args.priority,
        placement: (placement != Placement::default()).then_some(placement),
        dns_label: args.dns_label.clone(),
        dns_reuse_scope: args.dns_reuse_scope,
        publish_unready: args.publish_unready,
        dns: (dns != DnsSettings::default()).then_some(dns),
        host_aliases: hosts(&args.hosts),
        ..spec
    })
}

fn complete_container(container: ContainerSpec, args: &SpecArgs) -> ContainerSpec {
    let limits = ResourceLimits { cpu: args.cpu_limit.clone(), memory: args.memory_limit.clone() };
    ContainerSpec {
        user: args.user.clone(),
        limits: (limits != ResourceLimits::default()).then_some(limits),
        pull_policy: args.pull,
        volume_mounts: container.volume_mounts.into_iter().chain(args.mounts.iter().cloned()).collect(),
        startup_probe: args.startup.clone(),
        liveness_probe: args.liveness.clone(),
        readiness_probe: args.readiness.clone(),
        post_start: args.post_start.clone(),
        pre_stop: args.pre_stop.clone(),
        stop_signal: args.stop_signal.clone(),
        stdin: args.stdin,
        stdin_once: args.stdin_once,
        tty: args.tty,
        ..container
    }
}

fn schedule(args: &SpecArgs) -> Option<Schedule> {
    let cron = args.schedule.clone()?;
    Some(Schedule { cron, time_zone: args.time_zone.clone(), ..Schedule::default() })
}

/// Those that are named, and those that only a mount names.
fn volumes(args: &SpecArgs) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = args.volumes.iter().chain(&args.git_volumes).cloned().collect();
    for VolumeMount { volume, .. } in &args.mounts {
        if volumes.iter().all(|known| known.name != *volume) {
            let empty_dir = Some(EmptyDirVolume::default());
            volumes.push(Volume { name: volume.clone(), empty_dir, ..Volume::default() });
        }
    }
    volumes
}

/// Names of one address stand in one line.
fn hosts(given: &[HostAlias]) -> Vec<HostAlias> {
    let mut lines: Vec<HostAlias> = Vec::new();
    for alias in given {
        match lines.iter_mut().find(|line| line.address == alias.address) {
            Some(line) => line.names.extend(alias.names.iter().cloned()),
            None => lines.push(alias.clone()),
        }
    }
    lines
}

/// What the API counts in whole seconds.
pub(super) fn seconds(argument: &str, time: Option<Duration>) -> Result<Option<u32>, Failure> {
    match time {
        None => Ok(None),
        Some(time) if time.subsec_nanos() == 0 => Ok(Some(u32::try_from(time.as_secs()).unwrap_or(u32::MAX))),
        Some(_) => Err(Failure::new(Exit::Usage, format!("{argument} counts whole seconds"))),
    }
}
