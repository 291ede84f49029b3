//! Commands that run or look after a role on this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use wherry_model::{NodeId, ZoneName};

use super::value;
use crate::settings::Settings;
use crate::telemetry::LogFormat;

/// Where a control plane answers.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Where the public API answers [default: 127.0.0.1:7070]
    #[arg(long = "listen-api", value_name = "ADDRESS:PORT")]
    pub(crate) api: Option<SocketAddr>,
    /// Where metrics and health are [default: 127.0.0.1:7071]
    #[arg(long = "listen-operator", value_name = "ADDRESS:PORT")]
    pub(crate) operator: Option<SocketAddr>,
    /// Where instance names are answered, UDP and TCP [default: 127.0.0.1:7053]
    #[arg(long = "listen-dns", value_name = "ADDRESS:PORT")]
    pub(crate) dns: Option<SocketAddr>,
}

impl ListenArgs {
    /// Flags win over the file.
    pub(crate) fn apply(&self, settings: &mut Settings) {
        let listen = &mut settings.listen;
        listen.api = self.api.unwrap_or(listen.api);
        listen.operator = self.operator.unwrap_or(listen.operator);
        listen.dns = self.dns.unwrap_or(listen.dns);
    }
}

/// `wherry up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Settings, in place of `wherry.toml` in the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Let other machines join, at this address [default: none can join]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen_agents: Option<SocketAddr>,
    /// Addresses that instances get [default: 10.77.0.0/16]
    #[arg(long, value_name = "ADDRESS/BITS", value_parser = value::range)]
    pub(crate) range: Option<String>,
    /// The part of the fleet in which this machine stands [default: node.zone]
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<ZoneName>,
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) log_format: Option<LogFormat>,
}

/// `wherry control`.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// Settings, in place of `wherry.toml` in the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Where machines join and their agents call [default: 0.0.0.0:7443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen_agents: Option<SocketAddr>,
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) log_format: Option<LogFormat>,
}

/// How a machine joins: all of it at its first start, none of it later.
#[derive(Debug, Args)]
#[command(next_help_heading = "First start")]
pub(crate) struct JoinArgs {
    /// Where a replica of the control plane takes agents' calls
    #[arg(long, value_name = "URL", requires = "ca_fingerprint")]
    pub(crate) join: Option<String>,
    /// Everybody on the machine sees it there.
    #[arg(long, value_name = "wjt_...", env = "WHERRY_JOIN_TOKEN", hide = true, hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File with the token for one machine, - for standard input [default: the environment variable WHERRY_JOIN_TOKEN]
    #[arg(long, value_name = "FILE", requires = "join")]
    pub(crate) token_file: Option<PathBuf>,
    /// Fingerprint by which this machine knows the control plane
    #[arg(long, value_name = "sha256:...", requires = "join")]
    pub(crate) ca_fingerprint: Option<String>,
    /// What operators will call this machine [default: node.name, else its host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Address at which the other machines reach this one; remembered
    /// [default: network.underlay, else the one that leads to the control plane]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) underlay: Option<Ipv4Addr>,
}

/// `wherry node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Settings, in place of `wherry.toml` in the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where metrics and health are [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen_operator: Option<SocketAddr>,
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) log_format: Option<LogFormat>,
    /// The part of the fleet in which this machine stands [default: node.zone]
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<ZoneName>,
    // The last, because its heading counts for what follows.
    #[command(flatten)]
    pub(crate) join: JoinArgs,
}

/// `wherry node-guard`.
#[derive(Debug, Args)]
pub(crate) struct NodeGuardArgs {
    /// The id of this machine
    #[arg(long, value_name = "ID")]
    pub(crate) node: NodeId,
    /// The range of its instances
    #[arg(long, value_name = "ADDRESS/BITS", value_parser = value::range)]
    pub(crate) range: String,
}

/// `wherry migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The database; keep a password out of it: WHERRY_DATABASE_PASSWORD, or store.password_file
    /// [default: store.url of the settings]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Settings, in place of `wherry.toml` in the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `wherry backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not be there
    pub(crate) file: PathBuf,
    /// Also the keys of the installation: whoever has the file can then sign tokens and certify nodes
    #[arg(long)]
    pub(crate) with_keys: bool,
}

/// `wherry restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A file that `wherry backup` has written
    pub(crate) file: PathBuf,
}

/// `wherry down`.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Also delete the data folder: records, bills, logs, images, keys
    #[arg(long)]
    pub(crate) purge: bool,
}

/// What a machine does in an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// `wherry up`
    Up,
    /// `wherry control`
    Control,
    /// `wherry node`
    Node,
}

impl Role {
    /// What starts it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::Up => "wherry up",
            Self::Control => "wherry control",
            Self::Node => "wherry node",
        }
    }
}

/// `wherry doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// For which role [default: the one that the data folder shows, else up]
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) role: Option<Role>,
    /// Settings, in place of `wherry.toml` in the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
