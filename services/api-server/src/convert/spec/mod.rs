//! What a tenant asks for: wire to model, defaults filled in, and back.

mod container;
mod gpu;
mod merge;
mod place;
mod probe;
mod schedule;
mod volume;

pub(crate) use merge::{merge, merged_spec};

use std::fmt::Display;
use std::str::FromStr;

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::SpecError;

use super::Seal;

/// Checks what the wire could not, and fills in defaults. The whole is checked again by the model.
pub(crate) fn spec_to_model(seal: &Seal<'_>, spec: wire::InstanceSpec) -> Result<model::InstanceSpec, SpecError> {
    let kinds = [
        ("init_containers", model::ContainerKind::Init, spec.init_containers),
        ("containers", model::ContainerKind::Main, spec.containers),
    ];
    let mut containers = Vec::new();
    for (list, kind, given) in kinds {
        for (index, container) in given.into_iter().enumerate() {
            let container = container::to_model(seal, &format!("{list}[{index}]"), container)?;
            containers.push(model::ContainerSpec { kind, ..container });
        }
    }
    let volumes = spec.volumes.into_iter().enumerate();
    let volumes = volumes.map(|(index, volume)| volume::to_model(seal, &format!("volumes[{index}]"), volume));
    Ok(model::InstanceSpec {
        volumes: volumes.collect::<Result<_, _>>()?,
        ephemeral_disk: spec.ephemeral_disk.map(|size| parse("ephemeral_disk", &size)).transpose()?,
        gpu: spec.gpu.map(gpu::to_model).transpose()?,
        pids: spec.pids,
        restart_policy: match spec.restart_policy.unwrap_or_default() {
            wire::RestartPolicy::Always => model::RestartPolicy::Always,
            wire::RestartPolicy::OnFailure => model::RestartPolicy::OnFailure,
            wire::RestartPolicy::Never => model::RestartPolicy::Never,
        },
        max_restarts: spec.max_restarts,
        architecture: spec.architecture.map(|architecture| match architecture {
            wire::Architecture::Amd64 => model::Architecture::Amd64,
            wire::Architecture::Arm64 => model::Architecture::Arm64,
        }),
        stop_grace_seconds: spec.stop_grace_seconds.unwrap_or(wire::DEFAULT_STOP_GRACE_SECONDS),
        deadline_seconds: spec.deadline_seconds,
        ttl_seconds: spec.ttl_seconds,
        schedule: spec.schedule.map(schedule::to_model),
        on_node_loss: match spec.on_node_loss.unwrap_or_default() {
            wire::OnNodeLoss::Keep => model::OnNodeLoss::Keep,
            wire::OnNodeLoss::Replace => model::OnNodeLoss::Replace,
        },
        isolation: match spec.isolation.unwrap_or_default() {
            wire::Isolation::Shared => model::Isolation::Shared,
            wire::Isolation::Sandboxed => model::Isolation::Sandboxed,
            wire::Isolation::VirtualMachine => model::Isolation::VirtualMachine,
        },
        dns_label: spec.dns_label.map(|label| parse("dns_label", &label)).transpose()?,
        dns_reuse_scope: match spec.dns_reuse_scope.unwrap_or_default() {
            wire::DnsReuseScope::Project => model::DnsReuseScope::Project,
            wire::DnsReuseScope::Tenant => model::DnsReuseScope::Tenant,
            wire::DnsReuseScope::None => model::DnsReuseScope::None,
        },
        dns: dns_to_model(spec.dns.unwrap_or_default())?,
        host_aliases: host_aliases_to_model(spec.host_aliases)?,
        publish_unready: spec.publish_unready,
        registry_credentials: credentials_to_model(seal, spec.registry_credentials)?,
        zone: spec.zone.map(|zone| parse("zone", &zone)).transpose()?,
        dedicated: spec.dedicated,
        priority: place::priority_to_model(spec.priority.unwrap_or_default()),
        placement: place::placement_to_model(spec.placement.unwrap_or_default())?,
        labels: spec.labels,
        ..model::InstanceSpec::new(containers)
    })
}

fn credentials_to_model(
    seal: &Seal<'_>,
    given: Vec<wire::RegistryCredential>,
) -> Result<Vec<model::RegistryCredential>, SpecError> {
    let credentials = given.into_iter().enumerate().map(|(index, credential)| {
        let wire::RegistryCredential { registry, username, password, password_set } = credential;
        let field = format!("registry_credentials[{index}].password");
        let password = seal.secret(&field, password, password_set)?;
        let password = password.ok_or_else(|| SpecError::new(field, "give the password or token of the user"))?;
        Ok(model::RegistryCredential { registry, username, password })
    });
    credentials.collect()
}

fn credential_to_wire(credential: &model::RegistryCredential) -> wire::RegistryCredential {
    let (registry, username) = (credential.registry.clone(), credential.username.clone());
    wire::RegistryCredential { registry, username, password: None, password_set: true }
}

fn dns_to_model(dns: wire::DnsSettings) -> Result<model::DnsSettings, SpecError> {
    let servers = dns.servers.iter().enumerate();
    let servers = servers.map(|(index, server)| address(&format!("dns.servers[{index}]"), server));
    Ok(model::DnsSettings { servers: servers.collect::<Result<_, _>>()?, searches: dns.searches, options: dns.options })
}

fn host_aliases_to_model(aliases: Vec<wire::HostAlias>) -> Result<Vec<model::HostAlias>, SpecError> {
    let aliases = aliases.into_iter().enumerate().map(|(index, alias)| {
        let address = address(&format!("host_aliases[{index}].address"), &alias.address)?;
        Ok(model::HostAlias { address, names: alias.names })
    });
    aliases.collect()
}

fn address(field: &str, text: &str) -> Result<std::net::IpAddr, SpecError> {
    text.parse().map_err(|_| SpecError::new(field, format!("{text:?} is not an IPv4 or IPv6 address")))
}

/// The spec as its tenant reads it back.
pub(super) fn spec_to_wire(spec: &model::InstanceSpec) -> wire::InstanceSpec {
    let of = |kind: model::ContainerKind| {
        spec.containers.iter().filter(|container| container.kind == kind).map(container::to_wire).collect()
    };
    let dns = &spec.dns;
    wire::InstanceSpec {
        name: None,
        containers: of(model::ContainerKind::Main),
        init_containers: of(model::ContainerKind::Init),
        volumes: spec.volumes.iter().map(volume::to_wire).collect(),
        ephemeral_disk: spec.ephemeral_disk.map(|size| size.to_string()),
        gpu: spec.gpu.as_ref().map(gpu::to_wire),
        pids: spec.pids,
        restart_policy: Some(match spec.restart_policy {
            model::RestartPolicy::Always => wire::RestartPolicy::Always,
            model::RestartPolicy::OnFailure => wire::RestartPolicy::OnFailure,
            model::RestartPolicy::Never => wire::RestartPolicy::Never,
        }),
        max_restarts: spec.max_restarts,
        architecture: spec.architecture.map(super::account::architecture),
        stop_grace_seconds: Some(spec.stop_grace_seconds),
        deadline_seconds: spec.deadline_seconds,
        ttl_seconds: spec.ttl_seconds,
        schedule: spec.schedule.as_ref().map(schedule::to_wire),
        on_node_loss: Some(match spec.on_node_loss {
            model::OnNodeLoss::Keep => wire::OnNodeLoss::Keep,
            model::OnNodeLoss::Replace => wire::OnNodeLoss::Replace,
        }),
        isolation: Some(super::account::isolation(spec.isolation)),
        dns_label: spec.dns_label.as_ref().map(ToString::to_string),
        dns_reuse_scope: Some(match spec.dns_reuse_scope {
            model::DnsReuseScope::Project => wire::DnsReuseScope::Project,
            model::DnsReuseScope::Tenant => wire::DnsReuseScope::Tenant,
            model::DnsReuseScope::None => wire::DnsReuseScope::None,
        }),
        dns: (!dns.is_empty()).then(|| wire::DnsSettings {
            servers: dns.servers.iter().map(ToString::to_string).collect(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        host_aliases: spec
            .host_aliases
            .iter()
            .map(|alias| wire::HostAlias { address: alias.address.to_string(), names: alias.names.clone() })
            .collect(),
        publish_unready: spec.publish_unready,
        registry_credentials: spec.registry_credentials.iter().map(credential_to_wire).collect(),
        zone: spec.zone.map(|zone| zone.to_string()),
        dedicated: spec.dedicated,
        priority: Some(place::priority_to_wire(spec.priority)),
        placement: place::placement_to_wire(&spec.placement),
        labels: spec.labels.clone(),
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

pub(super) fn parse<T>(field: impl Into<String>, text: &str) -> Result<T, SpecError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| SpecError::new(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use wherry_model::{Entropy, ProjectName, TenantId};
    use wherry_sealing::{Keyring, SealingKey};

    use super::*;

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn spec_to_model(spec: wire::InstanceSpec) -> Result<model::InstanceSpec, SpecError> {
        let keys = Keyring::of(SealingKey::generate("1", &Sevens));
        let tenant: TenantId = "0193573e-7a00-7000-8000-0000000000a1".parse().unwrap();
        super::spec_to_model(&Seal::new(&keys, tenant, &ProjectName::default_project()), spec)
    }

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
        let variable = |value: &str| wire::EnvVar::plain("A", value);
        spec.containers[0].env = vec![variable("1"), variable("2")];
        spec.containers[0].ports = vec![wire::Port::new(80, wire::Protocol::Tcp); 2];
        let spec = spec_to_model(spec).unwrap();
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(spec.containers[0].env, [model::EnvVar::plain("A", "2")]);
        assert_eq!(spec.containers[0].ports.len(), 1);
        let mut many = minimal("r.example/web");
        many.containers[0].ports = vec![wire::Port::new(80, wire::Protocol::Tcp); 65];
        assert_eq!(spec_to_model(many).unwrap_err().field, "containers[0].ports");
    }

    #[test]
    fn a_secret_is_sealed_and_what_is_shown_of_it_keeps_it() {
        let mut spec = minimal("r.example/web");
        spec.containers[0].env = vec![wire::EnvVar::secret("TOKEN", wire::SecretText::new("hush".to_owned()))];
        let files = [("pass".to_owned(), wire::SecretText::new("hush".to_owned()))].into();
        let secret = wire::SecretVolume { files, mode: Some("444".to_owned()), ..wire::SecretVolume::default() };
        spec.volumes = vec![wire::Volume { name: "v".to_owned(), secret: Some(secret), ..wire::Volume::default() }];
        spec.registry_credentials = vec![wire::RegistryCredential {
            registry: "r.example".to_owned(),
            username: "me".to_owned(),
            password: Some(wire::SecretText::new("hush".to_owned())),
            password_set: false,
        }];
        assert!(!format!("{spec:?}").contains("hush"));
        let sealed = spec_to_model(spec).unwrap();
        assert_eq!((sealed.check(), sealed.secrets().len()), (Ok(()), 3));
        assert!(sealed.secrets().iter().all(|(_, secret)| !secret.is_kept() && !secret.as_str().contains("hush")));
        let shown = spec_to_wire(&sealed);
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("hush") && !text.contains("w1."), "{text}");
        assert!(text.contains(r#""secret":{"files_set":["pass"],"mode":"0444"}"#), "{text}");
        assert_eq!(spec_to_model(shown).unwrap().keeping_secrets_of(&sealed, |_, _| false), sealed);
    }

    #[test]
    fn secrets_that_are_wrong_are_named() {
        type Break = fn(&mut wire::InstanceSpec);
        let cases: [(&str, Break); 4] = [
            ("containers[0].env[0].value", |s| {
                s.containers[0].env = vec![wire::EnvVar { secret_set: true, ..wire::EnvVar::plain("A", "x") }];
            }),
            ("containers[0].env[0].secret", |s| {
                s.containers[0].env = vec![wire::EnvVar::secret("A", wire::SecretText::new("a\0b".to_owned()))];
            }),
            ("volumes[0].secret.mode", |s| {
                let secret = wire::SecretVolume { mode: Some("0999".to_owned()), ..wire::SecretVolume::default() };
                s.volumes = vec![wire::Volume { secret: Some(secret), ..wire::Volume::default() }];
            }),
            ("registry_credentials[0].password", |s| {
                s.registry_credentials = vec![wire::RegistryCredential::default()];
            }),
        ];
        for (field, break_it) in cases {
            let mut spec = minimal("r.example/web");
            break_it(&mut spec);
            assert_eq!(spec_to_model(spec).unwrap_err().field, field);
        }
    }
}
