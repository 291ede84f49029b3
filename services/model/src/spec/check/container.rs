//! One container.

use std::collections::{BTreeMap, BTreeSet};

use crate::quantity::{CpuMillis, MemoryMib};

use super::super::{ContainerKind, ContainerSpec, EnvVar, Limits, Port, Volume};
use super::{Checked, at_most, check_absolute_path, check_words, wrong};

impl ContainerSpec {
    pub(super) fn check(&self, field: &str, volumes: &BTreeMap<&str, &Volume>) -> Checked {
        self.check_resources(field)?;
        // Said of `command`, whichever of the two is too long: they are one list to the program.
        check_words(&format!("{field}.command"), self.command.iter().chain(&self.args))?;
        self.check_env(field)?;
        if let Some(directory) = &self.working_dir {
            check_absolute_path(format!("{field}.working_dir"), directory)?;
        }
        if let Some(user) = &self.user {
            check_user(&format!("{field}.user"), user)?;
        }
        if let Some(signal) = &self.stop_signal
            && !SIGNALS.contains(&signal.as_str())
        {
            return wrong(
                format!("{field}.stop_signal"),
                format!("{signal:?} is not a signal: give one like SIGINT or SIGQUIT"),
            );
        }
        if self.stdin_once && !self.stdin {
            return wrong(format!("{field}.stdin_once"), "it has no input that could be closed: set stdin too");
        }
        if self.stdin_once && self.tty {
            let message = "the input of a terminal has no end, its Ctrl-D is a key: leave it out, or leave tty out";
            return wrong(format!("{field}.stdin_once"), message);
        }
        if self.stdin && self.kind == ContainerKind::Init {
            let message = "nobody can attach to a container of the beginning, which would wait for ever: leave it out";
            return wrong(format!("{field}.stdin"), message);
        }
        at_most(&format!("{field}.ports"), self.ports.len(), Limits::MAX_PORTS)?;
        for (index, port) in self.ports.iter().enumerate() {
            port.check(&format!("{field}.ports[{index}]"))?;
        }
        self.check_mounts(field, volumes)?;
        self.check_probes(field)?;
        if self.kind == ContainerKind::Init
            && let Some(name) = self.watched_by()
        {
            let message = "a container of the beginning is there to end: it has no probes and hooks";
            return wrong(format!("{field}.{name}"), message);
        }
        Ok(())
    }

    /// The first field by which it is probed or hooked, if there is one.
    fn watched_by(&self) -> Option<String> {
        let hooks = [("post_start", &self.hooks.post_start), ("pre_stop", &self.hooks.pre_stop)];
        let hooks = hooks.into_iter().filter_map(|(name, hook)| hook.as_ref().map(|_| name.to_owned()));
        self.probes.iter().map(|(name, _)| format!("{name}_probe")).chain(hooks).next()
    }

    fn check_resources(&self, field: &str) -> Checked {
        let cpu = |name: &str, cpu: CpuMillis| {
            let fits = (CpuMillis::MIN..=CpuMillis::MAX).contains(&cpu);
            if fits { Ok(()) } else { wrong(format!("{field}.{name}"), format!("{cpu} is outside 10m to 1024 cores")) }
        };
        let memory = |name: &str, memory: MemoryMib| {
            let fits = (MemoryMib::MIN..=MemoryMib::MAX).contains(&memory);
            if fits { Ok(()) } else { wrong(format!("{field}.{name}"), format!("{memory} is outside 4Mi to 16Ti")) }
        };
        cpu("cpu", self.cpu)?;
        memory("memory", self.memory)?;
        cpu("limits.cpu", self.most_cpu())?;
        memory("limits.memory", self.most_memory())?;
        if self.most_cpu() < self.cpu {
            return wrong(format!("{field}.limits.cpu"), format!("it is less than the {} that are reserved", self.cpu));
        }
        if self.most_memory() < self.memory {
            return wrong(
                format!("{field}.limits.memory"),
                format!("it is less than the {} that are reserved", self.memory),
            );
        }
        Ok(())
    }

    fn check_env(&self, field: &str) -> Checked {
        let field = format!("{field}.env");
        at_most(&field, self.env.len(), Limits::MAX_ENV_VARS)?;
        let bytes = |v: &EnvVar| v.name.len() + v.value.len() + v.secret.as_ref().map_or(0, |s| s.as_str().len());
        if self.env.iter().map(bytes).sum::<usize>() > Limits::MAX_ENV_BYTES {
            return wrong(field, format!("the variables have more than {} bytes", Limits::MAX_ENV_BYTES));
        }
        let mut names = BTreeSet::new();
        for (index, variable) in self.env.iter().enumerate() {
            if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
                return wrong(format!("{field}[{index}].name"), "a name is not empty and has no '=' and no NUL");
            }
            if variable.value.contains('\0') {
                return wrong(format!("{field}[{index}].value"), "a value has no NUL");
            }
            if !names.insert(&variable.name) {
                return wrong(format!("{field}[{index}].name"), format!("{} is given twice", variable.name));
            }
        }
        Ok(())
    }

    fn check_mounts(&self, field: &str, volumes: &BTreeMap<&str, &Volume>) -> Checked {
        at_most(&format!("{field}.volume_mounts"), self.mounts.len(), Limits::MAX_MOUNTS)?;
        let mut paths = BTreeSet::new();
        for (index, mount) in self.mounts.iter().enumerate() {
            let at = format!("{field}.volume_mounts[{index}]");
            let Some(volume) = volumes.get(mount.volume.as_str()) else {
                return wrong(format!("{at}.volume"), format!("there is no volume {}", mount.volume));
            };
            mount.check(&at, volume)?;
            if !paths.insert(mount.path_parts().collect::<Vec<_>>()) {
                return wrong(format!("{at}.path"), format!("{} is given twice", mount.path));
            }
        }
        Ok(())
    }

    fn check_probes(&self, field: &str) -> Checked {
        for (name, probe) in self.probes.iter() {
            probe.check(&format!("{field}.{name}_probe"), name == "readiness")?;
        }
        for (name, hook) in [("post_start", &self.hooks.post_start), ("pre_stop", &self.hooks.pre_stop)] {
            if let Some(hook) = hook {
                hook.check(&format!("{field}.{name}"))?;
            }
        }
        Ok(())
    }
}

impl ContainerSpec {
    /// The number of the signal that asks it to end, when another than the image's is asked for.
    pub fn stop_signal_number(&self) -> Option<u8> {
        let name = self.stop_signal.as_deref()?;
        let index = SIGNALS.iter().position(|known| *known == name)?;
        u8::try_from(index + 1).ok()
    }
}

impl Port {
    fn check(&self, field: &str) -> Checked {
        if self.port == 0 {
            return wrong(format!("{field}.port"), "0 is not a port, give 1 to 65535");
        }
        if self.public_port == Some(0) {
            return wrong(format!("{field}.public_port"), "0 is not a port, give 1 to 65535");
        }
        Ok(())
    }
}

fn check_user(field: &str, user: &str) -> Checked {
    let part_is = |part: &str| {
        let number = part.bytes().all(|byte| byte.is_ascii_digit());
        let name = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$'));
        !part.is_empty() && part.len() <= 255 && if number { part.parse::<i32>().is_ok() } else { name }
    };
    let right = match user.split_once(':') {
        Some((user, group)) => [user, group].iter().all(|part| part.parse::<i32>().is_ok_and(|id| id >= 0)),
        None => part_is(user),
    };
    if right { Ok(()) } else { wrong(field, "give a user id, \"uid:gid\", or a name that the image knows") }
}

/// Signals, as signal(7) names them, in the order of their numbers on x86-64 and arm64; the first has number 1.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];
