//! One container.

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::SpecError;

use super::{Seal, parse, probe, volume};

pub(super) fn to_model(
    seal: &Seal<'_>,
    field: &str,
    container: wire::ContainerSpec,
) -> Result<model::ContainerSpec, SpecError> {
    let at = |name: &str| format!("{field}.{name}");
    // Counted as they were given, before repetitions fold into one.
    for (name, count, most) in [
        ("env", container.env.len(), model::Limits::MAX_ENV_VARS),
        ("ports", container.ports.len(), model::Limits::MAX_PORTS),
    ] {
        if count > most {
            return Err(SpecError::new(at(name), format!("{count} were given, the most is {most}")));
        }
    }
    let name = parse(at("name"), container.name.as_deref().unwrap_or(wire::DEFAULT_CONTAINER_NAME))?;
    let image = parse(at("image"), &container.image)?;
    let cpu = parse(at("cpu"), container.cpu.as_deref().unwrap_or(wire::DEFAULT_CPU))?;
    let memory = parse(at("memory"), container.memory.as_deref().unwrap_or(wire::DEFAULT_MEMORY))?;
    let limits = container.limits.unwrap_or_default();
    let mounts = container.volume_mounts.into_iter().enumerate();
    let mounts = mounts.map(|(index, mount)| volume::mount_to_model(&at(&format!("volume_mounts[{index}]")), mount));
    let probe =
        |name: &str, given: Option<wire::Probe>| given.map(|probe| probe::to_model(&at(name), probe)).transpose();
    let hook =
        |name: &str, given: Option<wire::Hook>| given.map(|hook| probe::hook_to_model(&at(name), hook)).transpose();
    Ok(model::ContainerSpec {
        pull: match container.pull_policy.unwrap_or_default() {
            wire::PullPolicy::Once => model::PullPolicy::Once,
            wire::PullPolicy::Always => model::PullPolicy::Always,
            wire::PullPolicy::IfNotPresent => model::PullPolicy::IfNotPresent,
        },
        command: container.command,
        args: container.args,
        env: environment(seal, &at("env"), container.env)?,
        working_dir: container.working_dir,
        user: container.user,
        cpu_limit: limits.cpu.map(|cpu| parse(at("limits.cpu"), &cpu)).transpose()?,
        memory_limit: limits.memory.map(|memory| parse(at("limits.memory"), &memory)).transpose()?,
        ports: ports(&at("ports"), container.ports)?,
        mounts: mounts.collect::<Result<_, _>>()?,
        depends_on: dependencies(&at("depends_on"), container.depends_on)?,
        probes: model::Probes {
            startup: probe("startup_probe", container.startup_probe)?,
            liveness: probe("liveness_probe", container.liveness_probe)?,
            readiness: probe("readiness_probe", container.readiness_probe)?,
        },
        hooks: model::Hooks {
            post_start: hook("post_start", container.post_start)?,
            pre_stop: hook("pre_stop", container.pre_stop)?,
        },
        stop_signal: container.stop_signal,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        ..model::ContainerSpec::new(name, image, cpu, memory)
    })
}

/// Of two variables with one name the later wins, in the place of the former: what container people are used to.
fn environment(seal: &Seal<'_>, field: &str, env: Vec<wire::EnvVar>) -> Result<Vec<model::EnvVar>, SpecError> {
    let mut kept: Vec<model::EnvVar> = Vec::with_capacity(env.len());
    let mut places = std::collections::HashMap::new();
    for (index, wire::EnvVar { name, value, secret, secret_set }) in env.into_iter().enumerate() {
        let secret = seal.secret(&format!("{field}[{index}].secret"), secret, secret_set)?;
        if secret.is_some() && !value.is_empty() {
            let message = "its value is secret or it is not: give one of value and secret";
            return Err(SpecError::new(format!("{field}[{index}].value"), message));
        }
        let variable = model::EnvVar { name, value, secret };
        if let Some(former) = places.get(&variable.name).and_then(|place: &usize| kept.get_mut(*place)) {
            *former = variable;
        } else {
            places.insert(variable.name.clone(), kept.len());
            kept.push(variable);
        }
    }
    Ok(kept)
}

fn dependencies(field: &str, given: Vec<wire::Dependency>) -> Result<Vec<model::Dependency>, SpecError> {
    let dependencies = given.into_iter().enumerate().map(|(index, dependency)| {
        Ok(model::Dependency {
            container: parse(format!("{field}[{index}].container"), &dependency.container)?,
            condition: match dependency.condition {
                wire::Condition::Started => model::Condition::Started,
                wire::Condition::Healthy => model::Condition::Healthy,
                wire::Condition::Completed => model::Condition::Completed,
            },
        })
    });
    dependencies.collect()
}

/// Ports are a set.
fn ports(field: &str, ports: Vec<wire::Port>) -> Result<Vec<model::Port>, SpecError> {
    let mut kept: Vec<model::Port> = Vec::with_capacity(ports.len());
    for (index, wire::Port { port, protocol, name, public_port }) in ports.into_iter().enumerate() {
        let protocol = match protocol {
            wire::Protocol::Tcp => model::Protocol::Tcp,
            wire::Protocol::Udp => model::Protocol::Udp,
        };
        let name = name.map(|name| parse(format!("{field}[{index}].name"), &name)).transpose()?;
        let port = model::Port { port, protocol, name, public_port };
        if !kept.contains(&port) {
            kept.push(port);
        }
    }
    Ok(kept)
}

pub(super) fn to_wire(container: &model::ContainerSpec) -> wire::ContainerSpec {
    let env = container.env.iter().map(|v| wire::EnvVar {
        name: v.name.clone(),
        value: v.value.clone(),
        secret: None,
        secret_set: v.secret.is_some(),
    });
    let ports = container.ports.iter().map(|port| wire::Port {
        port: port.port,
        protocol: match port.protocol {
            model::Protocol::Tcp => wire::Protocol::Tcp,
            model::Protocol::Udp => wire::Protocol::Udp,
        },
        name: port.name.as_ref().map(ToString::to_string),
        public_port: port.public_port,
    });
    let depends_on = container.depends_on.iter().map(|dependency| wire::Dependency {
        container: dependency.container.to_string(),
        condition: match dependency.condition {
            model::Condition::Started => wire::Condition::Started,
            model::Condition::Healthy => wire::Condition::Healthy,
            model::Condition::Completed => wire::Condition::Completed,
        },
    });
    let limits = wire::ResourceLimits {
        cpu: container.cpu_limit.map(|cpu| cpu.to_string()),
        memory: container.memory_limit.map(|memory| memory.to_string()),
    };
    wire::ContainerSpec {
        name: Some(container.name.to_string()),
        image: container.image.to_string(),
        pull_policy: Some(match container.pull {
            model::PullPolicy::Once => wire::PullPolicy::Once,
            model::PullPolicy::Always => wire::PullPolicy::Always,
            model::PullPolicy::IfNotPresent => wire::PullPolicy::IfNotPresent,
        }),
        command: container.command.clone(),
        args: container.args.clone(),
        env: env.collect(),
        working_dir: container.working_dir.clone(),
        user: container.user.clone(),
        cpu: Some(container.cpu.to_string()),
        memory: Some(container.memory.to_string()),
        limits: (limits != wire::ResourceLimits::default()).then_some(limits),
        ports: ports.collect(),
        volume_mounts: container.mounts.iter().map(volume::mount_to_wire).collect(),
        depends_on: depends_on.collect(),
        startup_probe: container.probes.startup.as_ref().map(probe::to_wire),
        liveness_probe: container.probes.liveness.as_ref().map(probe::to_wire),
        readiness_probe: container.probes.readiness.as_ref().map(probe::to_wire),
        post_start: container.hooks.post_start.as_ref().map(probe::hook_to_wire),
        pre_stop: container.hooks.pre_stop.as_ref().map(probe::hook_to_wire),
        stop_signal: container.stop_signal.clone(),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
    }
}
