//! Values of the arguments that say what an instance is. What only the server can judge is left to it.

use std::net::IpAddr;

use wherry_api_types::{
    DnsReuseScope, EmptyDirVolume, ExecCheck, GitVolume, Gpu, Hook, HostAlias, HttpCheck, HttpScheme, Isolation,
    Medium, Priority, Probe, PullPolicy, Spread, SpreadOver, TcpCheck, Volume, VolumeMount,
};

use super::value::{duration, memory, word};

pub(super) fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    word(text, "pull policy", &["once", "always", "if_not_present"])
}

pub(super) fn isolation(text: &str) -> Result<Isolation, String> {
    word(text, "isolation class", &["shared", "sandboxed", "virtual_machine"])
}

pub(super) fn priority(text: &str) -> Result<Priority, String> {
    word(text, "priority", &["regular", "spot"])
}

/// So many whole ones, or so much of one.
pub(super) fn gpu(text: &str) -> Result<Gpu, String> {
    let (number, is_share) = text.strip_suffix('%').map_or((text, false), |number| (number, true));
    let wrong = || format!("{text:?} is no number of GPUs: write 1 for a whole one, 50% for half of one");
    let number = Some(number.parse().map_err(|_| wrong())?);
    Ok(if is_share { Gpu { share_percent: number, ..Gpu::default() } } else { Gpu { count: number, ..Gpu::default() } })
}

/// A label's key may have slashes in it, so what it is spread over is told by its last part.
pub(super) fn spread(text: &str) -> Result<Spread, String> {
    let (rest, over) = match text.strip_suffix("/zone") {
        Some(rest) => (rest, Some(SpreadOver::Zone)),
        None => (text.strip_suffix("/node").unwrap_or(text), None),
    };
    let (label, max_skew) = match rest.split_once('=') {
        Some((label, skew)) => {
            let skew =
                skew.parse().map_err(|_| format!("{skew:?} is no number: write LABEL, LABEL=SKEW or LABEL=SKEW/zone"));
            (label, Some(skew?))
        }
        None => (rest, None),
    };
    if label.is_empty() {
        return Err("it names no label: write LABEL, LABEL=SKEW or LABEL=SKEW/zone".to_owned());
    }
    Ok(Spread { label: label.to_owned(), max_skew, over })
}

pub(super) fn dns_reuse_scope(text: &str) -> Result<DnsReuseScope, String> {
    word(text, "reuse scope", &["project", "tenant", "none"])
}

pub(super) fn address(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no IPv4 or IPv6 address")),
    }
}

pub(super) fn host(text: &str) -> Result<HostAlias, String> {
    match text.split_once('=') {
        Some((name, place)) if !name.is_empty() => {
            Ok(HostAlias { address: address(place)?, names: vec![name.to_owned()] })
        }
        _ => Err("a line of /etc/hosts is written NAME=ADDRESS, for example db=10.0.0.9".to_owned()),
    }
}

pub(super) fn volume(text: &str) -> Result<Volume, String> {
    let mut parts = text.split(':');
    let name = parts.next().filter(|name| !name.is_empty());
    let name = name.ok_or("a volume is written NAME, NAME:SIZE, NAME:memory or NAME:memory:SIZE")?;
    let mut folder = EmptyDirVolume::default();
    for part in parts {
        match part {
            "memory" if folder.medium.is_none() && folder.size.is_none() => folder.medium = Some(Medium::Memory),
            "disk" if folder.medium.is_none() && folder.size.is_none() => folder.medium = Some(Medium::Disk),
            size if folder.size.is_none() => folder.size = Some(memory(size)?),
            other => return Err(format!("{other:?} is too much: a volume is written NAME[:memory][:SIZE]")),
        }
    }
    Ok(Volume { name: name.to_owned(), empty_dir: Some(folder), ..Volume::default() })
}

/// What stands behind `#` is written as for `docker build`. No revision has a colon.
pub(super) fn git_volume(text: &str) -> Result<Volume, String> {
    let wrong = || format!("{text:?} is no git volume: write NAME=URL, NAME=URL#REVISION or NAME=URL#REVISION:FOLDER");
    let (name, place) = text.split_once('=').ok_or_else(wrong)?;
    let (repository, at) = place.split_once('#').map_or((place, None), |(url, at)| (url, Some(at)));
    let (revision, directory) = match at.map(|at| at.split_once(':').unwrap_or((at, ""))) {
        Some(("", "")) => return Err(wrong()),
        Some(both) => both,
        None => ("", ""),
    };
    if name.is_empty() || repository.is_empty() {
        return Err(wrong());
    }
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let git = GitVolume { repository: repository.to_owned(), revision: given(revision), directory: given(directory) };
    Ok(Volume { name: name.to_owned(), git: Some(git), ..Volume::default() })
}

pub(super) fn mount(text: &str) -> Result<VolumeMount, String> {
    let wrong = || format!("{text:?} is no mount: write NAME:/PATH, NAME/FOLDER:/PATH or NAME:/PATH:ro");
    let (source, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (path, read_only) = match rest.rsplit_once(':') {
        Some((path, "ro")) => (path, true),
        Some((path, "rw")) => (path, false),
        Some(_) => return Err(wrong()),
        None => (rest, false),
    };
    let (volume, sub_path) = match source.split_once('/') {
        Some((volume, folder)) => (volume, Some(folder.to_owned())),
        None => (source, None),
    };
    if volume.is_empty() || !path.starts_with('/') || sub_path.as_ref().is_some_and(String::is_empty) {
        return Err(wrong());
    }
    Ok(VolumeMount { volume: volume.to_owned(), path: path.to_owned(), sub_path, read_only })
}

/// What is asked of a container, or done in it.
pub(super) fn hook(text: &str) -> Result<Hook, String> {
    let wrong = || {
        format!(
            "{text:?} is nothing that can be done: write exec:PROGRAM ARGS, http:PORT/PATH, https:PORT/PATH or tcp:PORT"
        )
    };
    let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let http = |scheme: Option<HttpScheme>| {
        let (port, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(rest[at..].to_owned())),
            None => (rest, None),
        };
        let check = HttpCheck { port: number(port)?, path, scheme, headers: Vec::new() };
        Ok(Hook { http: Some(check), ..Hook::default() })
    };
    match kind {
        "http" => http(None),
        "https" => http(Some(HttpScheme::Https)),
        "tcp" => Ok(Hook { tcp: Some(TcpCheck { port: number(rest)? }), ..Hook::default() }),
        "exec" => {
            let command: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
            if command.is_empty() {
                return Err(wrong());
            }
            Ok(Hook { exec: Some(ExecCheck { command }), ..Hook::default() })
        }
        _ => Err(wrong()),
    }
}

/// Settings stand at the end, each behind a comma; a comma before anything else is part of what is asked.
pub(super) fn probe(text: &str) -> Result<Probe, String> {
    let mut asked = text;
    let mut probe = Probe::default();
    while let Some((rest, setting)) = asked.rsplit_once(',') {
        let Some((key, value)) = setting.split_once('=') else { break };
        let seconds = |value: &str| match duration(value)? {
            whole if whole.subsec_nanos() == 0 => Ok(u32::try_from(whole.as_secs()).unwrap_or(u32::MAX)),
            _ => Err(format!("{key} counts whole seconds")),
        };
        let count = |value: &str| value.parse::<u32>().map_err(|_| format!("{key} is a whole number, not {value:?}"));
        let (field, amount) = match key {
            "delay" => (&mut probe.initial_delay_seconds, seconds(value)?),
            "every" => (&mut probe.period_seconds, seconds(value)?),
            "timeout" => (&mut probe.timeout_seconds, seconds(value)?),
            "successes" => (&mut probe.success_threshold, count(value)?),
            "failures" => (&mut probe.failure_threshold, count(value)?),
            _ => break,
        };
        if field.replace(amount).is_some() {
            return Err(format!("{key} is given twice"));
        }
        asked = rest;
    }
    let Hook { exec, http, tcp } = hook(asked)?;
    Ok(Probe { exec, http, tcp, ..probe })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn volumes_and_mounts() {
        for (text, wanted) in [
            ("data", r#"{"name":"data","empty_dir":{}}"#),
            ("data:1Gi", r#"{"name":"data","empty_dir":{"size":"1Gi"}}"#),
            ("tmp:memory:64Mi", r#"{"name":"tmp","empty_dir":{"medium":"memory","size":"64Mi"}}"#),
        ] {
            assert_eq!(json(&volume(text).unwrap()), wanted);
        }
        for wrong in ["", ":memory", "a:much", "a:1Mi:2Mi", "a:1Mi:memory"] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
        for (text, wanted) in [
            ("data:/var", r#"{"volume":"data","path":"/var"}"#),
            ("data/a/b:/var:ro", r#"{"volume":"data","path":"/var","sub_path":"a/b","read_only":true}"#),
        ] {
            assert_eq!(json(&mount(text).unwrap()), wanted);
        }
        for wrong in ["data", "data:var", ":/var", "data/:/var", "data:/var:rx", "/data:/var"] {
            assert!(mount(wrong).unwrap_err().contains("NAME:/PATH"), "{wrong}");
        }
    }

    #[test]
    fn git_volumes() {
        for (text, wanted) in [
            ("site=https://a.example/b?x=1", r#"{"name":"site","git":{"repository":"https://a.example/b?x=1"}}"#),
            ("s=git://a/b#v1", r#"{"name":"s","git":{"repository":"git://a/b","revision":"v1"}}"#),
            (
                "s=git://a/b#v1:w/x",
                r#"{"name":"s","git":{"repository":"git://a/b","revision":"v1","directory":"w/x"}}"#,
            ),
            ("s=git://a/b#:w", r#"{"name":"s","git":{"repository":"git://a/b","directory":"w"}}"#),
        ] {
            assert_eq!(json(&git_volume(text).unwrap()), wanted);
        }
        for wrong in ["", "site", "=https://a/b", "site=", "site=#v1", "site=https://a/b#", "site=https://a/b#:"] {
            assert!(git_volume(wrong).unwrap_err().contains("NAME=URL#REVISION"), "{wrong}");
        }
    }

    #[test]
    fn probes_have_their_settings_behind_them() {
        for (text, wanted) in [
            ("tcp:5432", r#"{"tcp":{"port":5432}}"#),
            (
                "http:8080/ok?a=1,b,every=5s,failures=2",
                r#"{"http":{"port":8080,"path":"/ok?a=1,b"},"period_seconds":5,"failure_threshold":2}"#,
            ),
            ("https:8443", r#"{"http":{"port":8443,"scheme":"https"}}"#),
            (
                "exec:test -f /x,y,delay=1m,timeout=3s,successes=2",
                r#"{"exec":{"command":["test","-f","/x,y"]},"initial_delay_seconds":60,"timeout_seconds":3,"success_threshold":2}"#,
            ),
        ] {
            assert_eq!(json(&probe(text).unwrap()), wanted);
        }
        for (wrong, named) in [
            ("", "tcp:PORT"),
            ("http", "tcp:PORT"),
            ("tcp:0", "tcp:PORT"),
            ("exec: ", "exec:PROGRAM"),
            ("tcp:1,every=1500ms", "whole seconds"),
            ("tcp:1,failures=few", "whole number"),
            ("tcp:1,every=1s,every=2s", "twice"),
        ] {
            assert!(probe(wrong).unwrap_err().contains(named), "{wrong}");
        }
    }

    #[test]
    fn names_and_words() {
        let line = host("db=10.0.0.9").unwrap();
        assert_eq!((line.address.as_str(), line.names), ("10.0.0.9", vec!["db".to_owned()]));
        assert!(host("db").is_err() && host("=10.0.0.9").is_err() && host("db=nine").is_err());
        assert_eq!(pull_policy("if-not-present"), Ok(PullPolicy::IfNotPresent));
        assert_eq!(isolation("virtual-machine"), Ok(Isolation::VirtualMachine));
        assert!(isolation("dedicated").unwrap_err().contains("sandboxed"));
        assert_eq!(priority("spot"), Ok(Priority::Spot));
        let one = spread("app=2/zone").unwrap();
        assert_eq!((one.label.as_str(), one.max_skew, one.over), ("app", Some(2), Some(SpreadOver::Zone)));
        assert_eq!(spread("a.b/app").unwrap().label, "a.b/app");
        assert!(spread("app=x").is_err() && spread("=1").is_err());
        assert_eq!(dns_reuse_scope("none"), Ok(DnsReuseScope::None));
        assert!(address("::1").is_ok() && address("a").is_err());
    }
}
