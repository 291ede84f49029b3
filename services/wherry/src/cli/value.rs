//! Values of arguments, checked before anything is asked of a server. An error says what would be right.

use std::time::Duration;

use super::{NodeLike, Place, PortPair};
use serde::de::DeserializeOwned;
use wherry_api_types::{
    Architecture, DrainThen, EnvVar, InstanceState, OnNodeLoss, Port, Protocol, RestartPolicy, Scope, SecretText,
    WaitState,
};
use wherry_model::{CpuMillis, MemoryMib, Timestamp};

pub(super) fn range(text: &str) -> Result<String, String> {
    crate::settings::parse_range(text).map(|_| text.to_owned()).map_err(|error| format!("{error:#}"))
}

/// The text is sent as it was written; the server reads it the same way.
pub(super) fn cpu(text: &str) -> Result<String, String> {
    text.parse::<CpuMillis>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn memory(text: &str) -> Result<String, String> {
    text.parse::<MemoryMib>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn port(text: &str) -> Result<Port, String> {
    let (name, rest) = match text.split_once('=') {
        Some(("", _)) => return Err("a port with a name is written NAME=PORT".to_owned()),
        Some((name, rest)) => (Some(name.to_owned()), rest),
        None => (None, text),
    };
    let (numbers, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(format!("{protocol:?} is no protocol: write 80, 80/tcp or 53/udp")),
    };
    let number = |number: &str| match number.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{number:?} is no port: a port is a number from 1 to 65535")),
    };
    let (public_port, port) = match numbers.split_once(':') {
        Some((public, inside)) => (Some(number(public)?), number(inside)?),
        None => (None, number(numbers)?),
    };
    Ok(Port { port, protocol, name, public_port })
}

pub(super) fn port_pair(text: &str) -> Result<PortPair, String> {
    let wrong =
        || format!("{text:?} is no pair of ports: write 8080:80, 80 for the same port here, or :80 for any free one");
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (here, inside) = match text.split_once(':') {
        Some(("", inside)) => (Some(0), number(inside)),
        Some((here, inside)) => (number(here), number(inside)),
        None => (number(text), number(text)),
    };
    Ok(PortPair { here: here.ok_or_else(wrong)?, inside: inside.ok_or_else(wrong)? })
}

/// A size, or the name of a machine.
pub(super) fn node_like(text: &str) -> Result<NodeLike, String> {
    if !text.contains('=') {
        return Ok(NodeLike::Node(text.to_owned()));
    }
    let wrong = || format!("{text:?} is no size: write cpu=8,memory=32Gi");
    let (mut cores, mut room) = (None, None);
    for part in text.split(',') {
        match part.split_once('=').ok_or_else(wrong)? {
            ("cpu", amount) if cores.is_none() => cores = Some(cpu(amount)?),
            ("memory", amount) if room.is_none() => room = Some(memory(amount)?),
            _ => return Err(wrong()),
        }
    }
    let (cpu, memory) = (cores.ok_or_else(wrong)?, room.ok_or_else(wrong)?);
    Ok(NodeLike::Size { cpu, memory })
}

/// `INSTANCE:PATH` is inside; a path with a slash before its first colon, or without a colon, is here.
pub(super) fn place(text: &str) -> Result<Place, String> {
    match text.split_once(':') {
        Some((instance, path)) if !instance.contains('/') && instance != "." && instance != ".." => {
            if instance.is_empty() || path.is_empty() {
                return Err(format!("{text:?} is half a place: write INSTANCE:PATH, or a path here"));
            }
            Ok(Place::Inside { instance: instance.to_owned(), path: path.to_owned() })
        }
        _ if text.is_empty() => Err("write INSTANCE:PATH, or a path here".to_owned()),
        _ => Ok(Place::Here(text.into())),
    }
}

pub(super) fn environment(text: &str) -> Result<EnvVar, String> {
    let entry = |name: &str, value: String| EnvVar::plain(name, value);
    match text.split_once('=') {
        Some(("", _)) => Err("a variable is written NAME=VALUE".to_owned()),
        Some((name, value)) => Ok(entry(name, value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok(entry(text, value)),
            Err(_) => Err(format!("{text} is not set in this shell: write {text}=VALUE, or export it first")),
        },
    }
}

/// A secret never stands on the command line, which everybody on the machine can read.
pub(super) fn secret_environment(text: &str) -> Result<EnvVar, String> {
    match text.split_once('=') {
        Some(("", _)) => Err("a secret variable is written NAME or NAME=@FILE".to_owned()),
        Some((name, place)) => match place.strip_prefix('@') {
            Some(path) => Ok(EnvVar::secret(name, secret_file(path)?)),
            None => Err(format!(
                "others on this machine could read it here: write {name} to take it from this shell, or {name}=@FILE"
            )),
        },
        None => match std::env::var(text) {
            Ok(value) => Ok(EnvVar::secret(text, SecretText::new(value))),
            Err(_) => Err(format!("{text} is not set in this shell: write {text}=@FILE, or export it first")),
        },
    }
}

/// What a file holds, without the end of its last line; `-` is standard input.
pub(super) fn secret_file(path: &str) -> Result<SecretText, String> {
    let read = if path == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = read.map_err(|error| format!("cannot read {path}: {error}"))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(SecretText::new(text.to_owned()))
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is written KEY=VALUE".to_owned()),
    }
}

/// A member of one of the API's closed sets, written as on the wire; hyphens may stand for underscores.
pub(super) fn word<T: DeserializeOwned>(text: &str, what: &str, choices: &[&str]) -> Result<T, String> {
    serde_json::from_value(text.replace('-', "_").into())
        .map_err(|_| format!("{text:?} is no {what}: choose one of {}", choices.join(", ")))
}

pub(super) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    word(text, "restart policy", &["always", "on-failure", "never"])
}

pub(super) fn on_node_loss(text: &str) -> Result<OnNodeLoss, String> {
    word(text, "way to go on after the loss of a machine", &["keep", "replace"])
}

pub(super) fn drain_then(text: &str) -> Result<DrainThen, String> {
    word(text, "end of a drain", &["move", "stop"])
}

/// A range for instances' addresses: the server says whether the fleet has it.
pub(super) fn node_range(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no range: write for example 10.128.7.0/24");
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address: std::net::Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let length: u32 = length.parse().ok().filter(|length| *length <= 32).ok_or_else(wrong)?;
    let host_bits = u32::MAX.checked_shr(length).unwrap_or(0);
    if u32::from(address) & host_bits != 0 {
        return Err(format!("{text:?} is no range: {address} is an address inside of one"));
    }
    Ok(text.to_owned())
}

pub(super) fn architecture(text: &str) -> Result<Architecture, String> {
    word(text, "kind of machine", &["amd64", "arm64"])
}

pub(super) fn state(text: &str) -> Result<InstanceState, String> {
    word(text, "state", &InstanceState::ALL.map(InstanceState::as_str))
}

pub(super) fn wait_state(text: &str) -> Result<WaitState, String> {
    word(text, "state", &WaitState::ALL.map(WaitState::as_str))
}

pub(super) fn scope(text: &str) -> Result<Scope, String> {
    let scopes =
        ["instances:read", "instances:write", "instances:exec", "logs:read", "usage:read", "keys:write", "admin"];
    word(text, "scope", &scopes)
}

pub(super) fn moment(text: &str) -> Result<String, String> {
    match text.parse::<Timestamp>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a time is written as in RFC 3339, for example 2026-03-01T00:00:00Z".to_owned()),
    }
}

/// `30s`, `5m`, `1h30m`. A bare number is refused: it would be seconds to one and minutes to another.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write for example 30s, 5m or 1h30m");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let part = match &rest[..letters] {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => None,
        };
        total = total.checked_add(part.ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(port("80"), Ok(Port::new(80, Protocol::Tcp)));
        assert_eq!(port("53/udp"), Ok(Port::new(53, Protocol::Udp)));
        assert_eq!(port("80:8080"), Ok(Port { public_port: Some(80), ..Port::new(8080, Protocol::Tcp) }));
        assert_eq!(port("dns=53/udp"), Ok(Port { name: Some("dns".to_owned()), ..Port::new(53, Protocol::Udp) }));
        for wrong in ["", "0", "65536", "-1", "80/", "80/icmp", "80:", ":80", "80:81:82", "=80", "/udp"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn environment_variables_keep_everything_behind_the_first_sign() {
        assert_eq!(environment("A=b=c"), Ok(EnvVar::plain("A", "b=c")));
        assert_eq!(environment("A="), Ok(EnvVar::plain("A", "")));
        assert!(environment("=b").is_err());
        assert_eq!(environment("PATH").unwrap().value, std::env::var("PATH").unwrap());
        assert!(environment("WHERRY_TEST_IS_NOT_SET").unwrap_err().contains("not set"));
    }

    #[test]
    fn labels() {
        assert_eq!(label("team=net"), Ok(("team".into(), "net".into())));
        assert_eq!(label("flag="), Ok(("flag".into(), String::new())));
        assert!(label("team").is_err() && label("=net").is_err());
    }

    #[test]
    fn words_of_the_wire() {
        assert_eq!(restart_policy("on-failure"), Ok(RestartPolicy::OnFailure));
        assert_eq!(restart_policy("on_failure"), Ok(RestartPolicy::OnFailure));
        assert_eq!(scope("instances:read"), Ok(Scope::InstancesRead));
        for state_of_a_life in InstanceState::ALL {
            assert_eq!(state(state_of_a_life.as_str()), Ok(state_of_a_life));
        }
        assert_eq!(on_node_loss("replace"), Ok(OnNodeLoss::Replace));
        assert_eq!(drain_then("move"), Ok(DrainThen::Move));
        assert!(drain_then("wait").unwrap_err().contains("stop"));
        assert!(architecture("sparc").unwrap_err().contains("arm64"));
    }

    #[test]
    fn ranges_of_nodes() {
        for right in ["10.128.7.0/24", "10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0"] {
            assert_eq!(node_range(right), Ok(right.to_owned()));
        }
        for wrong in ["", "10.128.7.0", "10.128.7.1/24", "10.128.7.0/33", "10.128.7/24", "::/0", "10.128.7.0/-1"] {
            assert!(node_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in [("30s", 30_000), ("1h30m", 5_400_000), ("250ms", 250), ("0s", 0), ("1m1s", 61_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "5", "s", "5 s", "5d", "-5s", "1.5h", "99999999999999999999s", "18446744073709551615h", "5s3"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_taken_from_the_command_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hush\n").unwrap();
        let read = secret_environment(&format!("TOKEN=@{}", file.path().display())).unwrap();
        assert_eq!(read, EnvVar::secret("TOKEN", SecretText::new("hush".to_owned())));
        assert!(!format!("{read:?}").contains("hush"));
        for wrong in ["TOKEN=hush", "=@x", "TOKEN=@/not/there", "NOT_SET_IN_ANY_SHELL_OF_OURS"] {
            let refused = secret_environment(wrong).unwrap_err();
            assert!(!refused.contains("hush"), "{refused}");
        }
    }
}
