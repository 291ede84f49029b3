//! Refuses what breaks a bound or contradicts itself, and names the first field at fault, as it is called on the wire.

mod container;
mod probe;
mod volume;

use std::collections::{BTreeMap, BTreeSet};

use crate::name::ContainerName;
use crate::quantity::MemoryMib;
use crate::terms::{GpuAmount, Gpus};

use super::{
    Condition, ContainerKind, ContainerSpec, InstanceSpec, Limits, RestartPolicy, SpecError, Volume, VolumeSource,
};

type Checked = Result<(), SpecError>;

fn wrong<T>(field: impl Into<String>, message: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError::new(field, message))
}

fn at_most(field: &str, count: usize, most: usize) -> Checked {
    if count > most { wrong(field, format!("{count} were given, the most is {most}")) } else { Ok(()) }
}

fn within(field: impl Into<String>, value: u32, least: u32, most: u32) -> Checked {
    if (least..=most).contains(&value) { Ok(()) } else { wrong(field, format!("{value} is outside {least} to {most}")) }
}

impl InstanceSpec {
    /// Refuses what breaks a bound or contradicts itself; names the first field at fault.
    pub fn check(&self) -> Checked {
        if self.containers.iter().all(|container| container.kind == ContainerKind::Init) {
            return wrong("containers", "give at least one container");
        }
        at_most("containers", self.containers.len(), Limits::MAX_CONTAINERS)?;
        at_most("volumes", self.volumes.len(), Limits::MAX_VOLUMES)?;
        let volumes = self.check_volumes()?;
        let fields = self.container_fields();
        let mut names = BTreeSet::new();
        for (container, field) in self.containers.iter().zip(&fields) {
            container.check(field, &volumes)?;
            if !names.insert(&container.name) {
                return wrong(format!("{field}.name"), format!("{} is used twice", container.name));
            }
        }
        self.check_ports(&fields)?;
        self.check_dependencies(&fields)?;
        self.check_life()?;
        self.check_names()?;
        self.check_labels()?;
        self.check_placement()
    }

    /// Refuses limits above what is reserved, for who does not allow them; names the first field at fault.
    pub fn check_limits_are_reserved(&self) -> Checked {
        for (container, field) in self.containers.iter().zip(self.container_fields()) {
            if container.cpu_limit.is_some() || container.memory_limit.is_some() {
                let message =
                    "this service gives no more than what is reserved: leave it out, or ask for more cpu or memory";
                return wrong(format!("{field}.limits"), message);
            }
        }
        Ok(())
    }

    /// The path of each container on the wire, where those of the beginning have a list of their own.
    pub(crate) fn container_fields(&self) -> Vec<String> {
        let (mut init, mut main) = (0_usize, 0_usize);
        let field = |container: &ContainerSpec| {
            let (list, count) = match container.kind {
                ContainerKind::Init => ("init_containers", &mut init),
                ContainerKind::Main => ("containers", &mut main),
            };
            *count += 1;
            format!("{list}[{}]", *count - 1)
        };
        self.containers.iter().map(field).collect()
    }

    fn check_volumes(&self) -> Result<BTreeMap<&str, &Volume>, SpecError> {
        let mut known = BTreeMap::new();
        let mut bytes = 0_usize;
        let memory = self.most_memory();
        for (index, volume) in self.volumes.iter().enumerate() {
            let field = format!("volumes[{index}]");
            if known.insert(volume.name.as_str(), volume).is_some() {
                return wrong(format!("{field}.name"), format!("{} is used twice", volume.name));
            }
            volume.check(&field, memory, self.ephemeral_disk)?;
            if matches!(volume.source, VolumeSource::Git { .. }) && !self.isolation.is_shared() {
                let message = "a repository is unpacked by the machine's own kernel, which an instance with another isolation \
                               than shared keeps away from: fetch it in an init container instead";
                return wrong(format!("{field}.git"), message);
            }
            bytes = bytes.saturating_add(match &volume.source {
                VolumeSource::Secret { files, .. } => files.values().map(|content| content.as_str().len()).sum(),
                VolumeSource::Config { files } => files.values().map(String::len).sum(),
                VolumeSource::EmptyDir { .. } | VolumeSource::Git { .. } => 0,
            });
            // What is sealed is longer by a third and some bytes; it is counted as it is kept.
            if bytes > Limits::MAX_VOLUME_FILE_BYTES * 2 {
                let most = Limits::MAX_VOLUME_FILE_BYTES;
                return wrong(field, format!("all files together have more than {most} bytes"));
            }
        }
        volume::check_memory_together(&self.volumes, memory)?;
        Ok(known)
    }

    /// The containers share one network: no port is listened on twice, no public port means two things.
    fn check_ports(&self, fields: &[String]) -> Checked {
        let (mut listening, mut public, mut names) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for (container, field) in self.containers.iter().zip(fields) {
            for (index, port) in container.ports.iter().enumerate() {
                let at = format!("{field}.ports[{index}]");
                let owner = listening.entry((port.port, port.protocol)).or_insert(&container.name);
                if *owner != &container.name {
                    return wrong(at, format!("port {} is {owner}'s already: containers share one network", port.port));
                }
                if public.insert((port.public(), port.protocol), port.port).is_some() {
                    return wrong(at, format!("port {} is given twice", port.public()));
                }
                if let Some(name) = &port.name
                    && !names.insert(name)
                {
                    return wrong(format!("{at}.name"), format!("{name} is used twice"));
                }
            }
        }
        // A port that leads elsewhere must not hide one that somebody listens on.
        for ((number, protocol), target) in &public {
            if number != target && listening.contains_key(&(*number, *protocol)) {
                return wrong("containers", format!("public port {number} hides a container that listens on {number}"));
            }
        }
        Ok(())
    }

    fn check_dependencies(&self, fields: &[String]) -> Checked {
        for (container, field) in self.containers.iter().zip(fields) {
            at_most(&format!("{field}.depends_on"), container.depends_on.len(), Limits::MAX_DEPENDENCIES)?;
            let mut seen = BTreeSet::new();
            for (index, dependency) in container.depends_on.iter().enumerate() {
                let at = format!("{field}.depends_on[{index}].container");
                if container.kind == ContainerKind::Init {
                    return wrong(at, "containers of the beginning run in their order and depend on nothing else");
                }
                let Some(other) = self.container(&dependency.container) else {
                    return wrong(at, format!("there is no container {}", dependency.container));
                };
                if other.kind == ContainerKind::Init {
                    return wrong(at, "it has run to its success by then anyway: leave this out");
                }
                if !seen.insert(&dependency.container) {
                    return wrong(at, format!("{} is given twice", dependency.container));
                }
                if dependency.condition == Condition::Completed && !other.probes.is_empty() {
                    return wrong(at, format!("{} has probes, so it is not there to complete", other.name));
                }
            }
        }
        self.check_circles(fields)
    }

    fn check_circles(&self, fields: &[String]) -> Checked {
        let mut settled: BTreeSet<&ContainerName> = BTreeSet::new();
        loop {
            let free = self.containers.iter().find(|container| {
                !settled.contains(&container.name)
                    && container.depends_on.iter().all(|dependency| settled.contains(&dependency.container))
            });
            match free {
                Some(container) => settled.insert(&container.name),
                None => break,
            };
        }
        match self.containers.iter().zip(fields).find(|(container, _)| !settled.contains(&container.name)) {
            Some((container, field)) => {
                wrong(format!("{field}.depends_on"), format!("{} would wait for itself, in a circle", container.name))
            }
            None => Ok(()),
        }
    }

    fn check_life(&self) -> Checked {
        within("stop_grace_seconds", self.stop_grace_seconds, 0, Limits::MAX_STOP_GRACE_SECONDS)?;
        if let Some(pids) = self.pids {
            within("pids", pids, Limits::PIDS.0, Limits::PIDS.1)?;
        }
        if let Some(disk) = self.ephemeral_disk.filter(|disk| !(MemoryMib::MIN..=MemoryMib::MAX).contains(disk)) {
            return wrong("ephemeral_disk", format!("{disk} is outside 4Mi to 16Ti"));
        }
        self.check_gpu()?;
        if let Some(restarts) = self.max_restarts {
            within("max_restarts", restarts, 0, Limits::MAX_RESTARTS)?;
        }
        if let Some(seconds) = self.deadline_seconds {
            within("deadline_seconds", seconds, 1, Limits::MAX_LONG_SECONDS)?;
        }
        if let Some(seconds) = self.ttl_seconds {
            within("ttl_seconds", seconds, 0, Limits::MAX_LONG_SECONDS)?;
        }
        let Some(schedule) = &self.schedule else { return Ok(()) };
        schedule.check()?;
        if self.ttl_seconds.is_some() {
            return wrong("ttl_seconds", "what has a schedule runs again: leave one of the two out");
        }
        if self.restart_policy == RestartPolicy::Always {
            let message = "what has a schedule comes to its end by itself: give on_failure or never";
            return wrong("restart_policy", message);
        }
        Ok(())
    }

    fn check_gpu(&self) -> Checked {
        let Some(gpu) = &self.gpu else { return Ok(()) };
        match gpu.amount {
            GpuAmount::Whole(count) => within("gpu.count", u32::from(count), 1, u32::from(Gpus::MOST_COUNT))?,
            GpuAmount::Share(share) if (1..=Gpus::WHOLE).contains(&share) => {}
            GpuAmount::Share(_) => return wrong("gpu.share_percent", "give 1 to 100"),
        }
        if !gpu.devices.is_empty() {
            return wrong("gpu", "which ones it gets is decided when it is placed");
        }
        if !self.isolation.is_shared() {
            let message = "a GPU is driven by the machine's own kernel, which an instance with another isolation than shared keeps \
                           away from: leave one of the two out";
            return wrong("gpu", message);
        }
        Ok(())
    }

    fn check_names(&self) -> Checked {
        at_most("dns.servers", self.dns.servers.len(), Limits::MAX_DNS_ENTRIES)?;
        at_most("dns.searches", self.dns.searches.len(), Limits::MAX_DNS_ENTRIES)?;
        at_most("dns.options", self.dns.options.len(), Limits::MAX_DNS_ENTRIES)?;
        let lists = [("searches", &self.dns.searches), ("options", &self.dns.options)];
        for (list, index, text) in
            lists.into_iter().flat_map(|(l, v)| v.iter().enumerate().map(move |(i, t)| (l, i, t)))
        {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
            if text.is_empty() || text.len() > 253 || !text.bytes().all(plain) {
                return wrong(format!("dns.{list}[{index}]"), "give 1 to 253 letters, digits, '.', '-', '_' or ':'");
            }
        }
        at_most("host_aliases", self.host_aliases.len(), Limits::MAX_HOST_ALIASES)?;
        for (index, alias) in self.host_aliases.iter().enumerate() {
            let field = format!("host_aliases[{index}].names");
            if alias.names.is_empty() {
                return wrong(field, "give at least one name");
            }
            at_most(&field, alias.names.len(), Limits::MAX_HOST_ALIASES)?;
            for name in &alias.names {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
                    return wrong(field, format!("{name:?} is not a host name"));
                }
            }
        }
        at_most("registry_credentials", self.registry_credentials.len(), Limits::MAX_REGISTRIES)?;
        let mut registries = BTreeSet::new();
        for (index, credential) in self.registry_credentials.iter().enumerate() {
            let field = format!("registry_credentials[{index}]");
            if credential.registry.len() > 255 || !is_host_with_port(&credential.registry) {
                return wrong(
                    format!("{field}.registry"),
                    "give host and port as in an image, for example registry.example:5000",
                );
            }
            if !(1..=Limits::MAX_USER_NAME_CHARACTERS).contains(&credential.username.chars().count())
                || credential.username.chars().any(char::is_control)
            {
                return wrong(
                    format!("{field}.username"),
                    "give 1 to 255 characters, none of them a control character",
                );
            }
            if credential.password.as_str().len() > Limits::MAX_SEALED_PASSWORD_BYTES {
                return wrong(format!("{field}.password"), "it is too long");
            }
            if !registries.insert(&credential.registry) {
                return wrong(format!("{field}.registry"), format!("{} is given twice", credential.registry));
            }
        }
        Ok(())
    }

    fn check_placement(&self) -> Checked {
        let placement = &self.placement;
        at_most("placement.spread", placement.spread.len(), Limits::MAX_SPREADS)?;
        for (index, rule) in placement.spread.iter().enumerate() {
            let field = format!("placement.spread[{index}]");
            within(format!("{field}.max_skew"), rule.max_skew, 1, Limits::MAX_SKEW)?;
            if !self.labels.contains_key(&rule.label) {
                let message = "it names no label of this instance: give the instance that label, its value says which others count";
                return wrong(format!("{field}.label"), message);
            }
            if placement.spread[..index].iter().any(|other| other.label == rule.label && other.over == rule.over) {
                return wrong(field, format!("{} is spread twice over the same", rule.label));
            }
        }
        for (list, labels) in [("near", &placement.near), ("apart", &placement.apart)] {
            at_most(&format!("placement.{list}"), labels.len(), Limits::MAX_NEIGHBOURS)?;
            for (index, label) in labels.iter().enumerate() {
                let field = format!("placement.{list}[{index}]");
                check_label(&field, &label.key, &label.value)?;
                if labels[..index].contains(label) {
                    return wrong(field, format!("{label} is given twice"));
                }
            }
        }
        match placement.near.iter().position(|label| placement.apart.contains(label)) {
            Some(index) => {
                let message = format!("{} cannot be both near and apart", placement.near[index]);
                wrong(format!("placement.near[{index}]"), message)
            }
            None => Ok(()),
        }
    }

    fn check_labels(&self) -> Checked {
        at_most("labels", self.labels.len(), Limits::MAX_LABELS)?;
        for (key, value) in &self.labels {
            check_label("labels", key, value)?;
        }
        Ok(())
    }
}

fn check_label(field: &str, key: &str, value: &str) -> Checked {
    let key_ok = !key.is_empty()
        && key.len() <= Limits::MAX_LABEL_BYTES
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    if !key_ok {
        return wrong(field, "a label's key has 1 to 255 letters, digits, '.', '_', '-' or '/'");
    }
    if value.len() > Limits::MAX_LABEL_BYTES || value.chars().any(char::is_control) {
        let message = "a label's value has at most 255 bytes and no control characters";
        return wrong(format!("{field}.{key}"), message);
    }
    Ok(())
}

/// Host or address in brackets, and perhaps a port, as image references begin.
fn is_host_with_port(text: &str) -> bool {
    let (host, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let plain = |byte: u8| {
        if text.starts_with('[') {
            byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
        } else {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
        }
    };
    let port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    !host.is_empty() && host.bytes().all(plain) && (rest.is_empty() || rest.strip_prefix(':').is_some_and(port))
}

fn check_absolute_path(field: String, path: &str) -> Checked {
    if !path.starts_with('/') || path.len() > Limits::MAX_PATH_BYTES || path.contains('\0') {
        return wrong(field, "give an absolute path of at most 4096 bytes, for example \"/srv\"");
    }
    Ok(())
}

/// Program and arguments.
fn check_words<'a>(field: &str, words: impl Iterator<Item = &'a String> + Clone) -> Checked {
    if words.clone().count() > Limits::MAX_COMMAND_WORDS {
        return wrong(field, format!("it has more than {} words", Limits::MAX_COMMAND_WORDS));
    }
    if words.clone().map(String::len).sum::<usize>() > Limits::MAX_COMMAND_BYTES {
        return wrong(field, format!("it has more than {} bytes", Limits::MAX_COMMAND_BYTES));
    }
    if words.into_iter().any(|word| word.contains('\0')) {
        return wrong(field, "a NUL character cannot be passed to a program");
    }
    Ok(())
}
