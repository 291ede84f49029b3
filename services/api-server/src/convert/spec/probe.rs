//! Probes and hooks: on the wire a check is one of three fields, in the model one of three kinds.

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::{Seconds, SpecError};

/// The defaults of Kubernetes.
const PERIOD: u32 = 10;
const TIMEOUT: u32 = 1;
const SUCCESSES: u32 = 1;
const FAILURES: u32 = 3;

pub(super) fn to_model(field: &str, probe: wire::Probe) -> Result<model::Probe, SpecError> {
    let wire::Probe { exec, http, tcp, .. } = probe;
    Ok(model::Probe {
        check: check(field, exec, http, tcp)?,
        initial_delay: Seconds(probe.initial_delay_seconds.unwrap_or(0)),
        period: Seconds(probe.period_seconds.unwrap_or(PERIOD)),
        timeout: Seconds(probe.timeout_seconds.unwrap_or(TIMEOUT)),
        success_threshold: probe.success_threshold.unwrap_or(SUCCESSES),
        failure_threshold: probe.failure_threshold.unwrap_or(FAILURES),
    })
}

pub(super) fn hook_to_model(field: &str, hook: wire::Hook) -> Result<model::Check, SpecError> {
    check(field, hook.exec, hook.http, hook.tcp)
}

fn check(
    field: &str,
    exec: Option<wire::ExecCheck>,
    http: Option<wire::HttpCheck>,
    tcp: Option<wire::TcpCheck>,
) -> Result<model::Check, SpecError> {
    match (exec, http, tcp) {
        (Some(exec), None, None) => Ok(model::Check::Exec { command: exec.command }),
        (None, Some(http), None) => Ok(model::Check::Http {
            port: http.port,
            path: http.path.unwrap_or_else(|| "/".to_owned()),
            tls: http.scheme == Some(wire::HttpScheme::Https),
            headers: http.headers.into_iter().map(|h| model::Header { name: h.name, value: h.value }).collect(),
        }),
        (None, None, Some(tcp)) => Ok(model::Check::Tcp { port: tcp.port }),
        _ => Err(SpecError::new(field, "give exactly one of exec, http and tcp")),
    }
}

type Checks = (Option<wire::ExecCheck>, Option<wire::HttpCheck>, Option<wire::TcpCheck>);

fn check_to_wire(check: &model::Check) -> Checks {
    match check {
        model::Check::Exec { command } => (Some(wire::ExecCheck { command: command.clone() }), None, None),
        model::Check::Tcp { port } => (None, None, Some(wire::TcpCheck { port: *port })),
        model::Check::Http { port, path, tls, headers } => {
            let headers = headers.iter().map(|h| wire::HttpHeader { name: h.name.clone(), value: h.value.clone() });
            let http = wire::HttpCheck {
                port: *port,
                path: Some(path.clone()),
                scheme: Some(if *tls { wire::HttpScheme::Https } else { wire::HttpScheme::Http }),
                headers: headers.collect(),
            };
            (None, Some(http), None)
        }
    }
}

pub(super) fn to_wire(probe: &model::Probe) -> wire::Probe {
    let (exec, http, tcp) = check_to_wire(&probe.check);
    wire::Probe {
        exec,
        http,
        tcp,
        initial_delay_seconds: Some(probe.initial_delay.0),
        period_seconds: Some(probe.period.0),
        timeout_seconds: Some(probe.timeout.0),
        success_threshold: Some(probe.success_threshold),
        failure_threshold: Some(probe.failure_threshold),
    }
}

pub(super) fn hook_to_wire(check: &model::Check) -> wire::Hook {
    let (exec, http, tcp) = check_to_wire(check);
    wire::Hook { exec, http, tcp }
}
