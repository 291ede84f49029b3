//! What operators do with machines and with the whole fleet. A machine is named by its name or id.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use wherry_api_types::DrainThen;

use super::{ConnectionArgs, ListFormat, StoryArgs, TenantCommand, value};

/// `wherry admin …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Tenants: who is billed and isolated
    Tenant {
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// Let machines join
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// List the machines and how full they are
    #[command(after_help = "\
Examples:
  wherry admin nodes
  wherry admin nodes -o name")]
    Nodes(NodesArgs),
    /// Show how full the fleet is, what waits for room, and what is wrong
    #[command(after_help = "\
Examples:
  wherry admin fleet
  wherry admin fleet --drain lyon-3                              what would move, and whereto
  wherry admin fleet --add-nodes 3 --like cpu=8,memory=32Gi      what would fit then
  wherry admin fleet --drain lyon-3 --add-nodes 1 --like lyon-3")]
    Fleet(FleetArgs),
    /// Explain where an instance or a spec would be placed, and which rules refuse which machines
    #[command(after_help = "\
Examples:
  wherry admin explain web
  wherry admin explain acme/default/web
  wherry admin explain -f web.yaml --tenant acme")]
    Explain(ExplainArgs),
    /// Show what happened to the fleet
    #[command(after_help = "\
Examples:
  wherry admin events            what the replica that answers has seen since it started
  wherry admin events -f         and what happens, until Ctrl-C")]
    Events(StoryArgs),
    /// Close a machine for new instances; what it has stays
    #[command(after_help = "Example:\n  wherry admin cordon lyon-3")]
    Cordon(OneNodeArgs),
    /// Open a machine for new instances again
    #[command(after_help = "Example:\n  wherry admin uncordon lyon-3")]
    Uncordon(OneNodeArgs),
    /// Empty a machine and wait until it is
    #[command(after_help = "\
Examples:
  wherry admin drain lyon-3                          stop what runs there and run it elsewhere
  wherry admin drain lyon-3 --grace 10m --then stop  what has not ended in 10 minutes is stopped
  wherry admin drain lyon-3 --cancel                 keep it after all

Ends with 0 when the machine is empty. Ctrl-C ends the waiting, not the drain.")]
    Drain(DrainArgs),
    /// Give up what was placed on a machine that is off
    #[command(after_help = "\
Example:
  wherry admin lost lyon-3 --confirm-off

Instances of --on-node-loss replace are run elsewhere at once, the others end as failed. Say it only of a machine that is \
switched off or will never be heard again: what still runs there would run twice.")]
    Lost(LostArgs),
    /// Take an empty machine out of the fleet for good
    #[command(after_help = "Example:\n  wherry admin remove lyon-3")]
    Remove(OneNodeArgs),
    /// Secrets that instances and webhooks were given
    Secrets {
        #[command(subcommand)]
        command: SecretsCommand,
    },
    /// List the replicas of the control plane
    #[command(after_help = "Example:\n  wherry admin replicas")]
    Replicas(ViewArgs),
}

/// `wherry admin node …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Print the one command that makes another machine a node
    #[command(after_help = "\
Examples:
  wherry admin node token
  wherry admin node token --ttl 10m --range 10.128.7.0/24

The token in it works once.")]
    Token(NodeTokenArgs),
}

/// `wherry admin secrets …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Seal all stored secrets with the newest key
    #[command(after_help = "\
Examples:
  wherry admin secrets reseal
  wherry admin secrets reseal --after i0193573e7a0070008000000000000001   go on after a cut

After another key has come to all replicas as the last line of keys/sealing.keys. Nothing restarts. When it ends with 0, the keys \
before are not needed any more, but for backups that were made before.")]
    Reseal(ResealArgs),
}

/// `wherry admin secrets reseal`.
#[derive(Debug, Args)]
pub(crate) struct ResealArgs {
    /// Go on after this place, which an earlier one has said
    #[arg(long, value_name = "PLACE")]
    pub(crate) after: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry admin node token`.
#[derive(Debug, Args)]
pub(crate) struct NodeTokenArgs {
    /// How long the token works: 1m to 168h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = value::duration)]
    pub(crate) ttl: Duration,
    /// The range that the machine's instances get addresses from [default: the next free one]
    #[arg(long, value_name = "ADDRESS/BITS", value_parser = value::node_range)]
    pub(crate) range: Option<String>,
    /// As the API answers
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry admin nodes`.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Form of the list
    #[arg(long, short = 'o', value_name = "FORM", value_enum, default_value_t)]
    pub(crate) output: ListFormat,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry admin fleet`.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// Think through that this machine is emptied, by name or id; may be repeated
    #[arg(long, value_name = "NODE")]
    pub(crate) drain: Vec<String>,
    /// Think through that so many machines join
    #[arg(long, value_name = "COUNT", requires = "like", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) add_nodes: Option<u32>,
    /// What these are like: a machine that is there, or cpu=8,memory=32Gi
    #[arg(long, value_name = "NODE|SIZE", requires = "add_nodes", value_parser = value::node_like)]
    pub(crate) like: Option<NodeLike>,
    /// As the API answers
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// What machines that join are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeLike {
    /// As this one.
    Node(String),
    /// Of this size.
    Size { cpu: String, memory: String },
}

/// `wherry admin explain`.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["instance", "file"])]
pub(crate) struct ExplainArgs {
    /// Name or id of an instance; with a slash before it that of its project, and of its tenant
    #[arg(value_name = "[[TENANT/]PROJECT/]INSTANCE")]
    pub(crate) instance: Option<String>,
    /// File with specs, YAML or JSON, - for standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Whose it would be, by name or id [default: the tenant of the key]
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// As the API answers
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A view without arguments of its own.
#[derive(Debug, Args)]
pub(crate) struct ViewArgs {
    /// As the API answers
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A command about one machine.
#[derive(Debug, Args)]
pub(crate) struct OneNodeArgs {
    /// Name or id of the machine
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry admin drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// Name or id of the machine
    pub(crate) node: String,
    /// For how long instances may end by themselves
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = value::duration, conflicts_with = "cancel")]
    pub(crate) grace: Duration,
    /// What happens to those that have not: `move` stops them and runs them elsewhere, `stop` stops them for good
    #[arg(long, value_name = "HOW", default_value = "move", value_parser = value::drain_then, conflicts_with = "cancel")]
    pub(crate) then: DrainThen,
    /// Stop emptying it: it takes new instances again
    #[arg(long)]
    pub(crate) cancel: bool,
    /// Return once the service has accepted it
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry admin lost`.
#[derive(Debug, Args)]
pub(crate) struct LostArgs {
    /// Name or id of the machine
    pub(crate) node: String,
    /// The machine is off: you have made sure
    #[arg(long, required = true)]
    pub(crate) confirm_off: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl AdminCommand {
    pub(super) const fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::Tenant { command } => command.connection(),
            Self::Node { command: NodeCommand::Token(args) } => &args.connection,
            Self::Nodes(args) => &args.connection,
            Self::Fleet(args) => &args.connection,
            Self::Explain(args) => &args.connection,
            Self::Replicas(args) => &args.connection,
            Self::Events(args) => &args.connection,
            Self::Cordon(args) | Self::Uncordon(args) | Self::Remove(args) => &args.connection,
            Self::Drain(args) => &args.connection,
            Self::Lost(args) => &args.connection,
            Self::Secrets { command: SecretsCommand::Reseal(args) } => &args.connection,
        }
    }
}
