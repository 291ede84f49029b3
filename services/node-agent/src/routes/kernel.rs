//! The kernel's routes through iproute2's own programs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use wherry_agent_api::Peer;

use super::plan::{self, PROTOCOL, Route};
use super::{RouteError, RouteMode, RouteTable, Vxlan};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The routes of one machine (of its network namespace).
#[derive(Debug, Clone)]
pub struct KernelRoutes {
    mode: RouteMode,
    /// First address and prefix length of this node's own range.
    own: (Ipv4Addr, u8),
    /// What the programs are started with, for example `ip netns exec NAME`; nothing on a real machine.
    prefix: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Link {
    #[serde(default)]
    address: String,
    #[serde(default)]
    linkinfo: LinkInfo,
}

#[derive(Debug, Default, Deserialize)]
struct LinkInfo {
    #[serde(default)]
    info_kind: String,
    #[serde(default)]
    info_data: VxlanData,
}

#[derive(Debug, Default, Deserialize)]
struct VxlanData {
    id: Option<u32>,
    local: Option<Ipv4Addr>,
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct Neighbour {
    dst: Ipv4Addr,
}

#[derive(Debug, Deserialize)]
struct Forward {
    mac: String,
    dst: Option<Ipv4Addr>,
}

impl KernelRoutes {
    /// Touches nothing yet.
    pub const fn new(mode: RouteMode, own: (Ipv4Addr, u8)) -> Self {
        Self { mode, own, prefix: Vec::new() }
    }

    /// The same in another network namespace, through a program that enters it.
    #[must_use]
    pub fn through(mut self, prefix: Vec<String>) -> Self {
        self.prefix = prefix;
        self
    }

    async fn make_device(&self, vxlan: &Vxlan) -> Result<(), RouteError> {
        let device = vxlan.device.as_str();
        let link = plan::link_address(vxlan.local);
        let present: Vec<Link> = match self.query("ip", &["-json", "-details", "link", "show", "dev", device]).await {
            Err(RouteError::Refused(_)) => Vec::new(),
            answer => answer?,
        };
        let is_right = |found: &Link| {
            let data = &found.linkinfo.info_data;
            found.linkinfo.info_kind == "vxlan"
                && found.address == link
                && (data.id, data.local, data.port) == (Some(vxlan.id), Some(vxlan.local), Some(vxlan.port))
        };
        let mut lines = Vec::new();
        if !present.iter().any(is_right) {
            if !present.is_empty() {
                lines.push(format!("link del {device}"));
            }
            let Vxlan { id, port, local, .. } = vxlan;
            lines.push(format!(
                "link add {device} address {link} type vxlan id {id} local {local} dstport {port} nolearning"
            ));
        }
        lines.push(format!("addr replace {}/32 dev {device}", self.own.0));
        lines.push(format!("link set {device} up"));
        self.batch("ip", &lines).await
    }

    async fn make_far_ends_known(&self, vxlan: &Vxlan, peers: &[Peer]) -> Result<(), RouteError> {
        let device = vxlan.device.as_str();
        let shown: Vec<Neighbour> =
            self.query("ip", &["-json", "-4", "neigh", "show", "dev", device, "nud", "permanent"]).await?;
        let gateways: Vec<Ipv4Addr> = shown.iter().map(|neighbour| neighbour.dst).collect();
        let shown: Vec<Forward> = self.query("bridge", &["-json", "fdb", "show", "dev", device]).await?;
        let machines: BTreeMap<String, Ipv4Addr> =
            shown.into_iter().filter_map(|forward| Some((forward.mac, forward.dst?))).collect();
        let (neighbours, forwards) = plan::far_end_lines(&gateways, &machines, peers, vxlan);
        self.batch("bridge", &forwards).await?;
        self.batch("ip", &neighbours).await
    }

    async fn make_routes(&self, peers: &[Peer], vxlan: Option<&Vxlan>) -> Result<(), RouteError> {
        let (ways, refused) = plan::ways(peers, self.own, vxlan);
        let protocol = PROTOCOL.to_string();
        let present: Vec<Route> = self.query("ip", &["-json", "-4", "route", "show", "proto", &protocol]).await?;
        self.batch("ip", &plan::route_lines(&present, &ways)).await?;
        refused.map_or(Ok(()), Err)
    }

    /// What the program shows as JSON; nothing shown is an empty list.
    async fn query<T: DeserializeOwned>(&self, program: &str, arguments: &[&str]) -> Result<Vec<T>, RouteError> {
        let shown = self.run(program, arguments, "").await?;
        if shown.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&shown)
            .map_err(|error| RouteError::Refused(format!("`{program}` said {shown:?}: {error}")))
    }

    /// Runs all lines; one that fails does not keep the others from being tried.
    async fn batch(&self, program: &str, lines: &[String]) -> Result<(), RouteError> {
        if lines.is_empty() {
            return Ok(());
        }
        tracing::debug!(program, ?lines, "changing routes");
        self.run(program, &["-force", "-batch", "-"], &(lines.join("\n") + "\n")).await.map(drop)
    }

    async fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, RouteError> {
        match tokio::time::timeout(TIMEOUT, self.run_to_end(program, arguments, input)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RouteError::Timeout(TIMEOUT.as_secs())),
        }
    }

    async fn run_to_end(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, RouteError> {
        let cannot_run =
            |error: std::io::Error| RouteError::CannotRun { program: program.to_owned(), message: error.to_string() };
        let mut words = self.prefix.iter().map(String::as_str).chain([program]).chain(arguments.iter().copied());
        let mut child = Command::new(words.next().unwrap_or(program))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot_run)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends early says why on its standard error.
            drop(stdin.write_all(input.as_bytes()).await);
        }
        let output = child.wait_with_output().await.map_err(cannot_run)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let first_lines = words.lines().take(3).collect::<Vec<_>>().join(" ");
        Err(RouteError::Refused(if first_lines.is_empty() { output.status.to_string() } else { first_lines }))
    }
}

#[async_trait]
impl RouteTable for KernelRoutes {
    async fn keep(&self, peers: &[Peer]) -> Result<(), RouteError> {
        match &self.mode {
            RouteMode::Unmanaged => Ok(()),
            RouteMode::HostRoutes => self.make_routes(peers, None).await,
            RouteMode::Vxlan(vxlan) => {
                self.make_device(vxlan).await?;
                self.make_far_ends_known(vxlan, peers).await?;
                self.make_routes(peers, Some(vxlan)).await
            }
        }
    }

    async fn remove(&self) -> Result<(), RouteError> {
        match &self.mode {
            RouteMode::Unmanaged => Ok(()),
            RouteMode::HostRoutes => self.make_routes(&[], None).await,
            RouteMode::Vxlan(vxlan) => {
                self.make_routes(&[], Some(vxlan)).await?;
                match self.batch("ip", &[format!("link del {}", vxlan.device)]).await {
                    // It was not there.
                    Err(RouteError::Refused(_)) => Ok(()),
                    outcome => outcome,
                }
            }
        }
    }
}
