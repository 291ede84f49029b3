//! The guard beside the agent (`wherry_node_agent::Guard`): a process of its own, begun when something runs here that the
//! control plane may run elsewhere. It outlives an agent that is killed, and ends by itself when nothing is left to guard.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wherry_model::NodeId;
use wherry_node_agent::{AgentStatus, Guard, KernelBootClock, read_boot_id};

use super::engine_of;
use crate::cli::NodeGuardArgs;
use crate::data::DataFolder;
use crate::settings::{Settings, parse_range};

/// A guard that ended is begun anew after this long, if it is needed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A log that is larger begins anew.
const LOG_MOST_BYTES: u64 = 1024 * 1024;

/// Keeps a guard beside the agent, until `stop`. It goes on by itself after that.
pub(super) async fn keep(
    data: DataFolder,
    node: NodeId,
    range: (Ipv4Addr, u8),
    mut status: watch::Receiver<AgentStatus>,
    stop: CancellationToken,
) {
    let (mut guard, mut failing) = (None::<Child>, false);
    loop {
        let is_needed = status.borrow_and_update().replaceable > 0;
        let is_there = guard.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if is_needed && !is_there {
            match begin(&data, node, range) {
                Ok(child) => (guard, failing) = (Some(child), false),
                Err(error) => {
                    if !failing {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "nobody guards the lease while the agent is away"
                        );
                    }
                    failing = true;
                }
            }
        }
        let needed = status.wait_for(|status| status.replaceable > 0);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
            found = needed, if !is_there && !is_needed => if found.is_err() { return },
        }
    }
}

/// Its standard input is the pipe by whose end it learns that this process is gone.
fn begin(data: &DataFolder, node: NodeId, range: (Ipv4Addr, u8)) -> anyhow::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--data").arg(data.root()).arg("node-guard");
    command.args(["--node", &node.to_string(), "--range", &format!("{}/{}", range.0, range.1)]);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    // Of a group of its own, so a Ctrl-C at the terminal is not for it.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log(data)?).process_group(0);
    command.spawn().context("the guard cannot be started")
}

fn log(data: &DataFolder) -> anyhow::Result<File> {
    let path = data.node().join("guard.log");
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
    if file.metadata().is_ok_and(|metadata| metadata.len() > LOG_MOST_BYTES) {
        file.set_len(0).with_context(|| format!("{} cannot be cut", path.display()))?;
    }
    Ok(file)
}

/// `wherry node-guard`.
pub(crate) async fn run(data: DataFolder, args: &NodeGuardArgs) -> anyhow::Result<()> {
    // Nothing of the settings matters to who only stops containers.
    let engine = engine_of(&data, &Settings::default(), parse_range(&args.range)?)?;
    let boot = read_boot_id().context("cannot read the kernel's boot id")?;
    let guard = Guard::new(data.node(), args.node, boot, Arc::new(KernelBootClock), engine.runtime());
    let is_gone = CancellationToken::new();
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().context("there is no standard input")?;
    let mut agent = pipe::Receiver::from_owned_fd(pipe).context("the standard input is not a pipe of the agent")?;
    let gone = is_gone.clone();
    tokio::spawn(async move {
        let mut nothing = [0; 16];
        while matches!(agent.read(&mut nothing).await, Ok(count) if count > 0) {}
        gone.cancel();
    });
    guard.keep(is_gone, || engine.socket().exists()).await;
    Ok(())
}
