//! nftables through its own program, `nft -f -`: one transaction, all or nothing.
//!
//! Rejected: netlink from Rust (no maintained crate speaks sets, maps and fib; the program costs a few milliseconds beside
//! the hundred that a sandbox takes, and `nft list ruleset` shows the operator the very text that was given).

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{Firewall, FirewallError, Ruleset, ruleset};

const TIMEOUT: Duration = Duration::from_secs(10);

/// What the rules of one installation have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftConfig {
    /// Name of its table: letters, digits and underscores.
    pub table: String,
    /// First address and prefix length of the instances' range.
    pub range: (Ipv4Addr, u8),
    /// The only place of the machine that instances reach, at port 53.
    pub resolver: Ipv4Addr,
    /// Private networks that instances may reach all the same, as address and prefix length.
    pub egress_allow: Vec<(Ipv4Addr, u8)>,
    /// Whether the kernel speaks IPv6: instances never do.
    pub ipv6: bool,
    /// What the names of the machine's ends of instance links begin with.
    pub link_prefix: String,
    /// The program and its first arguments.
    pub program: Vec<String>,
}

impl NftConfig {
    /// With nothing private allowed, and `nft` from the path.
    pub fn new(table: String, range: (Ipv4Addr, u8), resolver: Ipv4Addr) -> Self {
        let (link_prefix, program) = ("veth".to_owned(), vec!["nft".to_owned()]);
        let ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
        Self { table, range, resolver, egress_allow: Vec::new(), ipv6, link_prefix, program }
    }
}

/// The kernel's packet filter.
#[derive(Debug, Clone)]
pub struct NftFirewall {
    config: NftConfig,
}

impl NftFirewall {
    /// One installation's rules; touches nothing yet.
    pub fn new(config: NftConfig) -> Self {
        Self { config }
    }

    async fn load(&self, script: &str) -> Result<(), FirewallError> {
        self.run(&["-f", "-"], script).await.map(drop)
    }

    /// Returns what the program printed.
    async fn run(&self, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
        match tokio::time::timeout(TIMEOUT, self.run_to_end(arguments, input)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FirewallError::Timeout(TIMEOUT.as_secs())),
        }
    }

    async fn run_to_end(&self, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
        let program = self.config.program.first().map_or("nft", String::as_str);
        let cannot_run = |error: std::io::Error| FirewallError::CannotRun {
            program: program.to_owned(),
            message: error.to_string(),
        };
        let mut child = Command::new(program)
            .args(self.config.program.iter().skip(1))
            .args(arguments)
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
        Err(FirewallError::Refused(if first_lines.is_empty() { output.status.to_string() } else { first_lines }))
    }
}

#[async_trait]
impl Firewall for NftFirewall {
    async fn apply(&self, rules: &Ruleset) -> Result<(), FirewallError> {
        self.load(&ruleset::render(&self.config, rules)).await
    }

    async fn stands(&self) -> Result<bool, FirewallError> {
        for (family, chains) in ruleset::passed(&self.config) {
            match self.run(&["--terse", "list", "table", family, &self.config.table], "").await {
                Ok(listed) if ruleset::has_rules(&listed, chains) => {}
                // What does not exist cannot be listed.
                Ok(_) | Err(FirewallError::Refused(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    async fn remove(&self) -> Result<(), FirewallError> {
        self.load(&ruleset::render_removal(&self.config)).await
    }
}
