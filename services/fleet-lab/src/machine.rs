//! One machine that runs containers: an agent, a containerd of its own, and what both have started.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};

use crate::engine::EngineThing;
use crate::gate::Gate;
use crate::network::Host;
use crate::program::Program;
use crate::replica::write_settings;

const STOP_WITHIN: Duration = Duration::from_secs(40);
const DOWN_WITHIN: Duration = Duration::from_mins(2);
const DEAD_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a machine joins for the first time.
#[derive(Clone)]
pub struct Invitation {
    /// Where, `https://172.30.0.10:7443`.
    pub url: String,
    /// One-time token.
    pub token: String,
    /// `sha256:…` of the control plane's authority.
    pub fingerprint: String,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One machine that runs containers.
#[derive(Debug)]
pub struct Machine {
    /// Where it is on the network.
    pub host: Host,
    /// Its agent's process.
    pub program: Program,
    data: PathBuf,
    /// The registry, at the address that it has on the machine of the lab.
    _registry: Gate,
    was_started: bool,
    /// Boots that were pretended.
    boots: u32,
}

impl Machine {
    /// Makes its data folder and settings; starts nothing.
    pub(crate) fn prepare(
        host: Host,
        folder: &Path,
        binary: &Path,
        registry: SocketAddr,
        settings: &str,
    ) -> Result<Self> {
        let data = folder.join(&host.name);
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let operator = SocketAddr::from((Ipv4Addr::LOCALHOST, 7071));
        let name = &host.name;
        let text = format!("[listen]\noperator = \"{operator}\"\n[node]\nname = \"{name}\"\n{settings}");
        write_settings(&data, &text)?;
        let program = Program::new(&host.namespace, binary, folder.join(format!("{name}.log")));
        let registry = Gate::out_of(&host.namespace, registry.port(), registry)?;
        Ok(Self { host, program, data, _registry: registry, was_started: false, boots: 0 })
    }

    /// Starts the agent for the first time.
    pub fn join(&mut self, invitation: &Invitation) -> Result<()> {
        let Invitation { url, token, fingerprint } = invitation;
        self.was_started = true;
        let data = self.data.to_string_lossy().into_owned();
        self.program.set_environment("WHERRY_JOIN_TOKEN", token);
        let words = ["--data", &data, "node", "--join", url, "--ca-fingerprint", fingerprint];
        let underlay = self.host.address.to_string();
        self.program.start(words.into_iter().chain(["--underlay", &underlay]))
    }

    /// Starts the agent again, which remembers where it belongs.
    pub fn begin(&mut self) -> Result<()> {
        let data = self.data.to_string_lossy().into_owned();
        self.program.start(["--data", &data, "node"])
    }

    /// SIGTERM to the agent, and waits for its end. Containers run on.
    pub async fn stop(&mut self) -> Result<()> {
        self.program.stop(STOP_WITHIN).await
    }

    /// Ends the agent and starts this binary in its place. Answers before it has found the control plane.
    pub async fn upgrade(&mut self, binary: &Path) -> Result<()> {
        self.stop().await?;
        self.program.set_binary(binary);
        self.begin()
    }

    /// Waits until the agent ends by itself, as one does that refuses to start. An error when it does not within `patience`.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.program.ended(patience).await
    }

    /// SIGKILL to the agent alone. Containers and containerd run on.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Kills everything on it at once, containers included, as if its power had failed. What is on its disk stays.
    pub async fn lose_power(&mut self) -> Result<()> {
        // Whoever could start something again first.
        self.program.kill();
        let begun = Instant::now();
        loop {
            let pids = self.processes()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                // One that has ended meanwhile is what is wanted.
                let _ = Pid::from_raw(i32::try_from(*pid).unwrap_or(0)).map(|pid| kill_process(pid, Signal::KILL));
            }
            ensure!(begun.elapsed() < DEAD_WITHIN, "{} does not die: {pids:?}", self.host.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// After [`Machine::lose_power`]: the next start is one of another boot. What no machine keeps over a boot goes, sockets,
    /// packet filters and cgroups, and the agent finds another boot id than the kernel's.
    pub fn forget_boot(&mut self) -> Result<()> {
        let run = self.run_folder();
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))?;
        }
        let status =
            self.host.namespace.command("nft").args(["flush", "ruleset"]).status().context("cannot run nft")?;
        ensure!(status.success(), "the packet filter of {} cannot be emptied", self.host.name);
        for hierarchy in crate::engine::cgroup_mounts() {
            remove_cgroup(&hierarchy.join(format!("wherry-{}", self.short_id())));
        }
        self.boots += 1;
        // Beside the data folder, whose content is its own.
        let boot = self.data.with_extension(format!("boot-{}", self.boots));
        let id = format!("b0070000-0000-4000-8000-{:012x}\n", self.boots);
        fs::write(&boot, id).with_context(|| format!("cannot write {}", boot.display()))?;
        self.program.set_boot(boot);
        Ok(())
    }

    /// Freezes everything on it, containers included, as a machine that is suspended. [`Machine::thaw`] undoes it.
    pub fn freeze(&self) -> Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// Lets everything on it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal_all(Signal::CONT)
    }

    /// Ids of all its processes: those with its network, and those in its cgroups.
    pub fn processes(&self) -> Result<BTreeSet<u32>> {
        let mut pids: BTreeSet<u32> = self.host.namespace.processes()?.into_iter().collect();
        // Threads of ours are in its namespace too: those of the gates.
        pids.remove(&std::process::id());
        pids.extend(self.container_processes());
        Ok(pids)
    }

    /// Ids of what runs in its containers.
    pub fn container_processes(&self) -> BTreeSet<u32> {
        let mark = format!("/wherry-{}/", self.short_id());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let cgroups = fs::read_to_string(entry.path().join("cgroup")).ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            (cgroups.contains(&mark) && !status.contains("\nState:\tZ")).then_some(pid)
        });
        pids.collect()
    }

    /// Everything that its containerd has, as that says itself.
    pub fn engine(&self) -> Result<Vec<EngineThing>> {
        crate::engine::things(&self.run_folder())
    }

    /// Process id of its containerd, while that runs.
    pub fn containerd_pid(&self) -> Option<u32> {
        crate::engine::containerd(&self.run_folder())
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its folder of sockets: containerd's is `containerd.sock` in it.
    pub fn run_folder(&self) -> PathBuf {
        Path::new("/run/wherry").join(self.short_id())
    }

    /// What Wherry calls its sockets, cgroups and nft tables by: the first four bytes of its data folder's hash.
    pub fn short_id(&self) -> String {
        let digest = Sha256::digest(self.data.as_os_str().as_encoded_bytes());
        format!("{:08x}", u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }

    /// Adds lines to its settings, from the next start on.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let path = self.data.join("wherry.toml");
        let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        write_settings(&self.data, &format!("{old}\n{lines}"))
    }

    /// The end of the logs of agent and containerd.
    pub fn last_lines(&self) -> String {
        let engine = fs::read_to_string(self.data.join("containerd/containerd.log")).unwrap_or_default();
        let lines: Vec<&str> = engine.lines().collect();
        format!(
            "{}\n-- its containerd:\n{}",
            self.program.last_lines(),
            lines[lines.len().saturating_sub(5)..].join("\n")
        )
    }

    /// Ends everything on it and removes every trace: kills the agent, then `wherry down --purge`.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.program.kill();
        if !self.was_started {
            return Ok(());
        }
        // What is frozen ends only once it goes on.
        self.thaw()?;
        let mut command = self.host.namespace.command(self.program.binary());
        command.arg("--data").arg(&self.data).args(["down", "--purge"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run `wherry down`")?;
        let begun = Instant::now();
        while child.try_wait().context("cannot watch `wherry down`")?.is_none() {
            if begun.elapsed() > DOWN_WITHIN {
                let _ = child.kill();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let output = child.wait_with_output().context("cannot wait for `wherry down`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`wherry down` of {} failed: {}", self.host.name, said.trim());
        self.was_started = false;
        Ok(())
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        for pid in self.processes()? {
            let _ = Pid::from_raw(i32::try_from(pid).unwrap_or(0)).map(|pid| kill_process(pid, signal));
        }
        Ok(())
    }
}

/// The folders of a cgroup, deepest first; one that is busy stays and is found by who looks for leaks.
fn remove_cgroup(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
