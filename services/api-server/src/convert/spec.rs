//! What a tenant asks for: wire to model, defaults filled in, and back.

use std::fmt::Display;
use std::str::FromStr;

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::SpecError;

/// Checks what the wire could not, and fills in defaults. The whole is checked again by the model.
pub(crate) fn spec_to_model(spec: wire::InstanceSpec) -> Result<model::InstanceSpec, SpecError> {
    let containers = spec.containers.into_iter().enumerate();
    let containers = containers.map(|(index, container)| container_to_model(index, container));
    Ok(model::InstanceSpec {
        containers: containers.collect::<Result<_, _>>()?,
        restart_policy: match spec.restart_policy.unwrap_or_default() {
            wire::RestartPolicy::Always => model::RestartPolicy::Always,
            wire::RestartPolicy::OnFailure => model::RestartPolicy::OnFailure,
            wire::RestartPolicy::Never => model::RestartPolicy::Never,
        },
        architecture: spec.architecture.map(|architecture| match architecture {
            wire::Architecture::Amd64 => model::Architecture::Amd64,
            wire::Architecture::Arm64 => model::Architecture::Arm64,
        }),
        stop_grace_seconds: spec.stop_grace_seconds.unwrap_or(wire::DEFAULT_STOP_GRACE_SECONDS),
        on_node_loss: match spec.on_node_loss.unwrap_or_default() {
            wire::OnNodeLoss::Keep => model::OnNodeLoss::Keep,
            wire::OnNodeLoss::Replace => model::OnNodeLoss::Replace,
        },
        labels: spec.labels,
        ..model::InstanceSpec::new(Vec::new())
    })
}

fn container_to_model(index: usize, container: wire::ContainerSpec) -> Result<model::ContainerSpec, SpecError> {
    let at = |name: &str| format!("containers[{index}].{name}");
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
    Ok(model::ContainerSpec {
        command: container.command,
        args: container.args,
        env: environment(container.env),
        working_dir: container.working_dir,
        ports: ports(&container.ports),
        ..model::ContainerSpec::new(name, image, cpu, memory)
    })
}

/// Of two variables with one name the later wins, in the place of the former: what container people are used to.
fn environment(env: Vec<wire::EnvVar>) -> Vec<model::EnvVar> {
    let mut kept: Vec<model::EnvVar> = Vec::with_capacity(env.len());
    let mut places = std::collections::HashMap::new();
    for wire::EnvVar { name, value } in env {
        if let Some(former) = places.get(&name).and_then(|place: &usize| kept.get_mut(*place)) {
            former.value = value;
        } else {
            places.insert(name.clone(), kept.len());
            kept.push(model::EnvVar::plain(name, value));
        }
    }
    kept
}

/// Ports are a set.
fn ports(ports: &[wire::Port]) -> Vec<model::Port> {
    let mut kept: Vec<model::Port> = Vec::with_capacity(ports.len());
    for port in ports {
        let protocol = match port.protocol {
            wire::Protocol::Tcp => model::Protocol::Tcp,
            wire::Protocol::Udp => model::Protocol::Udp,
        };
        let port = model::Port::new(port.port, protocol);
        if !kept.contains(&port) {
            kept.push(port);
        }
    }
    kept
}

/// The spec as its tenant reads it back.
pub(super) fn spec_to_wire(spec: &model::InstanceSpec) -> wire::InstanceSpec {
    wire::InstanceSpec {
        containers: spec.containers.iter().map(container_to_wire).collect(),
        restart_policy: Some(match spec.restart_policy {
            model::RestartPolicy::Always => wire::RestartPolicy::Always,
            model::RestartPolicy::OnFailure => wire::RestartPolicy::OnFailure,
            model::RestartPolicy::Never => wire::RestartPolicy::Never,
        }),
        architecture: spec.architecture.map(super::account::architecture),
        stop_grace_seconds: Some(spec.stop_grace_seconds),
        on_node_loss: Some(match spec.on_node_loss {
            model::OnNodeLoss::Keep => wire::OnNodeLoss::Keep,
            model::OnNodeLoss::Replace => wire::OnNodeLoss::Replace,
        }),
        labels: spec.labels.clone(),
    }
}

fn container_to_wire(container: &model::ContainerSpec) -> wire::ContainerSpec {
    let env = container.env.iter().map(|v| wire::EnvVar { name: v.name.clone(), value: v.value.clone() });
    let ports = container.ports.iter().map(|port| wire::Port {
        port: port.port,
        protocol: match port.protocol {
            model::Protocol::Tcp => wire::Protocol::Tcp,
            model::Protocol::Udp => wire::Protocol::Udp,
        },
    });
    wire::ContainerSpec {
        name: Some(container.name.to_string()),
        image: container.image.to_string(),
        command: container.command.clone(),
        args: container.args.clone(),
        env: env.collect(),
        working_dir: container.working_dir.clone(),
        cpu: Some(container.cpu.to_string()),
        memory: Some(container.memory.to_string()),
        ports: ports.collect(),
    }
}

/// The name of an instance.
pub(crate) fn instance_name(text: &str) -> Result<model::InstanceName, SpecError> {
    parse("name", text)
}

/// The name of a project.
pub(crate) fn project_name(field: &str, text: &str) -> Result<model::ProjectName, SpecError> {
    parse(field, text)
}

/// The name of a tenant.
pub(crate) fn tenant_name(text: &str) -> Result<model::TenantName, SpecError> {
    parse("name", text)
}

fn parse<T>(field: impl Into<String>, text: &str) -> Result<T, SpecError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| SpecError::new(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal(image: &str) -> wire::InstanceSpec {
        let container = wire::ContainerSpec { image: image.to_owned(), ..Default::default() };
        wire::InstanceSpec { containers: vec![container], ..Default::default() }
    }

    #[test]
    fn defaults_are_filled_in_and_shown() {
        let spec = spec_to_model(minimal("r.example/web")).unwrap();
        assert_eq!(spec.check(), Ok(()));
        let shown = spec_to_wire(&spec);
        let container = &shown.containers[0];
        assert_eq!(container.image, "r.example/web:latest");
        assert_eq!((container.cpu.as_deref(), container.memory.as_deref()), (Some("250m"), Some("128Mi")));
        assert_eq!((container.name.as_deref(), shown.stop_grace_seconds), (Some("main"), Some(10)));
        assert_eq!(shown.on_node_loss, Some(wire::OnNodeLoss::Keep));
        assert_eq!(spec_to_model(shown).unwrap(), spec, "what is shown can be asked for again");
    }

    #[test]
    fn errors_name_the_field_on_the_wire() {
        type Break = fn(&mut wire::ContainerSpec);
        let cases: [(&str, Break); 4] = [
            ("containers[0].image", |c| c.image = "web".to_owned()),
            ("containers[0].cpu", |c| c.cpu = Some("1e3".to_owned())),
            ("containers[0].memory", |c| c.memory = Some("64mi".to_owned())),
            ("containers[0].name", |c| c.name = Some("Main".to_owned())),
        ];
        for (field, break_it) in cases {
            let mut spec = minimal("r.example/web");
            break_it(&mut spec.containers[0]);
            assert_eq!(spec_to_model(spec).unwrap_err().field, field);
        }
    }

    #[test]
    fn repeated_variables_and_ports_mean_one() {
        let mut spec = minimal("r.example/web");
        let variable = |value: &str| wire::EnvVar { name: "A".to_owned(), value: value.to_owned() };
        spec.containers[0].env = vec![variable("1"), variable("2")];
        spec.containers[0].ports = vec![wire::Port { port: 80, protocol: wire::Protocol::Tcp }; 2];
        let spec = spec_to_model(spec).unwrap();
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(spec.containers[0].env, [model::EnvVar::plain("A", "2")]);
        assert_eq!(spec.containers[0].ports.len(), 1);
        let mut many = minimal("r.example/web");
        many.containers[0].ports = vec![wire::Port { port: 80, protocol: wire::Protocol::Tcp }; 65];
        assert_eq!(spec_to_model(many).unwrap_err().field, "containers[0].ports");
    }
}
