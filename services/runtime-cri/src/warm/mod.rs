//! Sandboxes made in advance, so that a start does not wait for one.
//!
//! A sandbox costs more than half of a container's start (shim, network, first process) and nothing of it depends on the
//! instance except its names. So some are kept ready, and taking one means: its cgroup's limit set, host name and name
//! servers written, and the claim on disk that says who it is from now on ([`claim`]).
//!
//! Invariants:
//! - To the caller a claimed sandbox is what it asked for, in every listing, and an unclaimed one does not exist.
//! - Its network namespace is fresh: nothing has run in it. A sandbox is never used twice: one with a container, in whatever
//!   state, is removed, whatever the claims say.
//! - A claim outlives every listing that its sandbox is missing from: it goes when containerd has no files of it either.
//! - A crash at any point leaves it unclaimed or claimed, never half: what was written into an unclaimed one is written
//!   again by the next claim.
//! - Making them never competes with a start: it begins a moment after the last claim.
//!
//! Rejected: a pool in the agent (its identities would no longer be the engine's labels), and renaming sandboxes in
//! containerd's database (CRI reads it only when it starts).

pub(crate) mod claim;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::{Mutex, Notify};
use wherry_runtime::{Result, RuntimeError, SandboxConfig};

use self::claim::{Claim, Claims};
use crate::cri_sandboxes::CriSandboxes;
use crate::generated::runtime::v1;
use crate::sandbox;

/// Label of every sandbox that was made in advance; its value is the sysctls that it has.
const WARM_LABEL: &str = "wherry.runtime/warm";

/// A start that has just taken one is still busy for about this long.
const REFILL_PAUSE: Duration = Duration::from_millis(400);

/// How often the pool looks whether one of its sandboxes died.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Process limit of an unclaimed sandbox: its one process.
const IDLE_PIDS: u32 = 8;

/// Where containerd and we keep files about sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct WarmFolders {
    /// Our claims.
    pub(crate) claims: PathBuf,
    /// containerd's folder with one folder for each sandbox: its `resolv.conf` and `hostname`.
    pub(crate) sandbox_files: PathBuf,
}

/// A sandbox that waits.
#[derive(Debug)]
struct Ready {
    id: String,
    /// Its host name's namespace, held open so that it cannot become another process's.
    uts: File,
}

#[derive(Debug, Default)]
struct Shelf {
    ready: Vec<Ready>,
    sysctls: BTreeMap<String, String>,
}

/// The pool. With a target of 0 it only knows the claims that were made before.
#[derive(Debug)]
pub(crate) struct WarmPool {
    sandboxes: Arc<CriSandboxes>,
    sandbox_files: PathBuf,
    claims: Claims,
    /// Held for the length of a claim: two must not take the same name or sandbox.
    shelf: Mutex<Shelf>,
    target: AtomicU32,
    paused: AtomicBool,
    last_number: AtomicU32,
    wake: Notify,
}

impl WarmPool {
    pub(crate) fn new(sandboxes: Arc<CriSandboxes>, folders: WarmFolders) -> Result<Self> {
        let claims = Claims::load(folders.claims.clone()).map_err(|error| RuntimeError::Internal {
            message: format!("the claims in {} cannot be read: {error}", folders.claims.display()),
        })?;
        Ok(Self {
            sandboxes,
            sandbox_files: folders.sandbox_files,
            claims,
            shelf: Mutex::default(),
            target: AtomicU32::new(0),
            paused: AtomicBool::new(true),
            last_number: AtomicU32::new(0),
            wake: Notify::new(),
        })
    }

    pub(crate) fn set_target(&self, target: u32) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Lets the pool fill itself, or stops it.
    pub(crate) fn set_paused(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::Relaxed) && !paused {
            self.look_soon();
        }
    }

    /// The engine was started anew: what was ready may not be any more.
    pub(crate) fn look_soon(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn claimed_cgroups(&self) -> impl Iterator<Item = String> {
        self.claims.all().into_values().map(|claim| claim.cgroup_name)
    }

    /// What the caller sees of a sandbox: `None` of one that nobody asked for.
    pub(crate) fn dressed(&self, mut item: v1::PodSandbox) -> Option<v1::PodSandbox> {
        if item.labels.contains_key(WARM_LABEL) {
            self.claims.get(&item.id)?.dress(&mut item);
        }
        Some(item)
    }

    /// Takes a warm sandbox, or makes one.
    pub(crate) async fn run(&self, config: &SandboxConfig) -> Result<String> {
        // Those that wait were made by the usual runtime.
        if config.runtime_handler.is_empty()
            && let Some(id) = self.take(config).await?
        {
            self.wake.notify_one();
            return Ok(id);
        }
        if self.claims.holds(&Claim::of(config).metadata()) {
            return Err(taken(config));
        }
        self.sandboxes.run(config).await
    }

    async fn take(&self, config: &SandboxConfig) -> Result<Option<String>> {
        let mut shelf = self.shelf.lock().await;
        if shelf.sysctls != config.sysctls {
            shelf.sysctls.clone_from(&config.sysctls);
            // Those with the old settings go at the next look.
            shelf.ready.clear();
            self.wake.notify_one();
        }
        if shelf.ready.is_empty() {
            return Ok(None);
        }
        let claim = Claim::of(config);
        let metadata = claim.metadata();
        let (known, used) = tokio::try_join!(self.sandboxes.list(), self.sandboxes.used())?;
        if self.claims.holds(&metadata) || known.iter().any(|item| item.metadata.as_ref() == Some(&metadata)) {
            return Err(taken(config));
        }
        let is_ready = |id: &str| {
            let is_ready = |item: &v1::PodSandbox| item.state() == v1::PodSandboxState::SandboxReady;
            known.iter().any(|item| item.id == id && is_ready(item)) && !used.contains(id)
        };
        while let Some(ready) = shelf.ready.pop() {
            if !is_ready(&ready.id) {
                continue;
            }
            match self.hand_over(&ready, config, claim.clone()) {
                Ok(()) => return Ok(Some(ready.id)),
                // It stays unclaimed, and is dealt with at the next look.
                Err(error) => tracing::warn!(%error, sandbox = ready.id, "a warm sandbox could not be handed over"),
            }
        }
        Ok(None)
    }

    /// Gives it the instance's names and limit; the claim comes last.
    fn hand_over(&self, ready: &Ready, config: &SandboxConfig, claim: Claim) -> Result<(), String> {
        let cgroups = &self.sandboxes.cgroups;
        cgroups.prepare(&config.cgroup_name, config.into()).map_err(|error| error.to_string())?;
        let files = self.sandbox_files.join(&ready.id);
        let resolv_conf = resolv_conf(config);
        let written = if resolv_conf.is_empty() { Ok(()) } else { rewrite(&files.join("resolv.conf"), &resolv_conf) };
        written
            .and_then(|()| rewrite(&files.join("hostname"), &format!("{}\n", config.hostname)))
            .and_then(|()| set_hostname(&ready.uts, &config.hostname))
            .and_then(|()| self.claims.add(&ready.id, claim))
            .map_err(|error| error.to_string())
    }

    /// Removes a sandbox, claimed or not, with all that it owns.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let claim = self.claims.get(id);
        let cgroup = claim.as_ref().map(|claim| claim.cgroup_name.clone());
        self.sandboxes.remove(id, cgroup.as_slice()).await?;
        if claim.is_some() {
            self.claims.remove(id).map_err(|error| RuntimeError::Internal {
                message: format!("the claim on sandbox {id} cannot be removed: {error}"),
            })?;
        }
        Ok(())
    }

    /// Keeps the pool full for as long as the task lives.
    pub(crate) async fn tend(self: Arc<Self>) {
        loop {
            // Woken or not, the look is the same.
            drop(tokio::time::timeout(LOOK_EVERY, self.wake.notified()).await);
            tokio::time::sleep(REFILL_PAUSE).await;
            if self.paused.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(error) = self.refill().await {
                tracing::debug!(%error, "warm sandboxes cannot be made now");
            }
        }
    }

    async fn refill(&self) -> Result<()> {
        let target = usize::try_from(self.target.load(Ordering::Relaxed)).unwrap_or(0);
        let superfluous = self.look(target).await?;
        for id in superfluous {
            self.sandboxes.remove(&id, &[]).await?;
        }
        loop {
            let (count, sysctls) = {
                let shelf = self.shelf.lock().await;
                (shelf.ready.len(), shelf.sysctls.clone())
            };
            if count >= target || self.paused.load(Ordering::Relaxed) {
                return Ok(());
            }
            let id = self.sandboxes.run(&self.idle_config(&sysctls)).await?;
            let uts = self.uts(&id).await?;
            let mut shelf = self.shelf.lock().await;
            if shelf.sysctls == sysctls {
                shelf.ready.push(Ready { id, uts });
            }
        }
    }

    /// Puts what is usable on the shelf; returns what is not, or is too many.
    async fn look(&self, target: usize) -> Result<Vec<String>> {
        let mut shelf = self.shelf.lock().await;
        let (listed, used) = tokio::try_join!(self.sandboxes.list(), self.sandboxes.used())?;
        self.claims.forget_gone(&listed, &self.sandbox_files);
        let numbers = listed.iter().filter_map(|item| item.metadata.as_ref()?.name.strip_prefix("warm-")?.parse().ok());
        self.last_number.fetch_max(numbers.max().unwrap_or(0), Ordering::Relaxed);
        let wanted_label = label_of(&shelf.sysctls);
        let mut ready = std::mem::take(&mut shelf.ready);
        let mut superfluous = Vec::new();
        for item in listed {
            if !item.labels.contains_key(WARM_LABEL) || self.claims.get(&item.id).is_some() {
                continue;
            }
            let usable = item.state() == v1::PodSandboxState::SandboxReady
                && !used.contains(&item.id)
                && item.labels.get(WARM_LABEL) == Some(&wanted_label)
                && shelf.ready.len() < target;
            if !usable {
                superfluous.push(item.id);
                continue;
            }
            let known = ready.iter().position(|ready| ready.id == item.id).map(|at| ready.swap_remove(at));
            match known {
                Some(known) => shelf.ready.push(known),
                None => match self.uts(&item.id).await {
                    Ok(uts) => shelf.ready.push(Ready { id: item.id, uts }),
                    Err(_) => superfluous.push(item.id),
                },
            }
        }
        Ok(superfluous)
    }

    fn idle_config(&self, sysctls: &BTreeMap<String, String>) -> SandboxConfig {
        let name = format!("warm-{}", self.last_number.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        SandboxConfig {
            uid: name.clone(),
            namespace: "wherry".into(),
            labels: BTreeMap::from([(WARM_LABEL.to_owned(), label_of(sysctls))]),
            hostname: "wherry".into(),
            cgroup_name: name.clone(),
            pids_max: IDLE_PIDS,
            sysctls: sysctls.clone(),
            name,
            ..SandboxConfig::default()
        }
    }

    /// The namespace of the sandbox's host name.
    async fn uts(&self, id: &str) -> Result<File> {
        let information = self.sandboxes.information(id).await?;
        let failed = |message: String| RuntimeError::Internal { message };
        let pid = sandbox::pid(&information).ok_or_else(|| failed(format!("sandbox {id} has no process")))?;
        File::open(format!("/proc/{pid}/ns/uts")).map_err(|error| failed(format!("sandbox {id}: {error}")))
    }
}

fn taken(config: &SandboxConfig) -> RuntimeError {
    let message = format!("sandbox \"{}\" attempt {} exists", config.name, config.attempt);
    RuntimeError::AlreadyExists { message }
}

fn label_of(sysctls: &BTreeMap<String, String>) -> String {
    sysctls.iter().map(|(key, value)| [key.as_str(), value].join("=")).collect::<Vec<_>>().join(";")
}

/// As containerd writes it for a sandbox with this configuration.
fn resolv_conf(config: &SandboxConfig) -> String {
    let dns = &config.dns;
    let joined = |word: &str, values: &[String]| (!values.is_empty()).then(|| format!("{word} {}\n", values.join(" ")));
    let searches = joined("search", &dns.searches);
    let servers = dns.servers.iter().map(|server| format!("nameserver {server}\n"));
    searches.into_iter().chain(servers).chain(joined("options", &dns.options)).collect()
}

/// In place: the file is mounted into the sandbox.
fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    if !path.exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is missing", path.display())));
    }
    std::fs::write(path, text)
}

/// A thread of its own enters the namespace and ends there: no other code of this process is ever in it.
fn set_hostname(uts: &File, name: &str) -> io::Result<()> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(uts.as_fd(), Some(LinkNameSpaceType::HostNameAndNISDomainName))?;
            rustix::system::sethostname(name.as_bytes())?;
            Ok(())
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread that sets the host name panicked")))
    })
}

#[cfg(test)]
mod tests {
    use wherry_runtime::DnsConfig;

    use super::*;

    #[test]
    fn resolv_conf_is_what_containerd_writes() {
        let dns = DnsConfig {
            servers: vec![[10, 77, 0, 1].into(), [10, 77, 0, 2].into()],
            searches: vec!["a.test".into(), "b.test".into()],
            options: vec!["ndots:1".into()],
        };
        let config = SandboxConfig { dns, ..SandboxConfig::default() };
        let expected = "search a.test b.test\nnameserver 10.77.0.1\nnameserver 10.77.0.2\noptions ndots:1\n";
        assert_eq!(resolv_conf(&config), expected);
    }
}
