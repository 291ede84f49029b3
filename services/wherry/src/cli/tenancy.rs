//! Keys of a tenant, and tenants themselves.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use wherry_api_types::Scope;

use super::{ConnectionArgs, value};

/// `wherry key …`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key; its secret is shown this once
    #[command(after_help = "\
Examples:
  wherry key create ci --scope instances:read --scope instances:write
  wherry key create laptop --save laptop.json
  wherry ps --key laptop.json")]
    Create(KeyCreateArgs),
    /// List the tenant's keys
    #[command(after_help = "Example:\n  wherry key list")]
    List(ConnectionOnly),
    /// Make a key stop working within seconds
    #[command(after_help = "Example:\n  wherry key revoke 0190f1c2-6f0e-7cc3-98c4-dc0c0c07398f")]
    Revoke(KeyRevokeArgs),
}

/// `wherry key create`.
#[derive(Debug, Args)]
pub(crate) struct KeyCreateArgs {
    /// What you call it
    pub(crate) name: String,
    /// What it may do: instances:read, instances:write, instances:exec, logs:read, usage:read, keys:write, or admin; may be
    /// repeated [default: everything that a tenant may do, which is all but admin]
    #[arg(long = "scope", value_name = "SCOPE", value_parser = value::scope)]
    pub(crate) scopes: Vec<Scope>,
    /// When it stops working, RFC 3339 [default: never]
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    pub(crate) expires_at: Option<String>,
    /// Write it to this file, which only you can read, in place of showing the secret
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Make it for this tenant (operators only)
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry key revoke`.
#[derive(Debug, Args)]
pub(crate) struct KeyRevokeArgs {
    /// Id of the key
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A command without arguments of its own.
#[derive(Debug, Args)]
pub(crate) struct ConnectionOnly {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry admin tenant …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant
    #[command(after_help = "\
Examples:
  wherry admin tenant create acme
  wherry key create acme-first --tenant ID --save acme.json")]
    Create(TenantCreateArgs),
    /// List the tenants
    #[command(after_help = "Example:\n  wherry admin tenant list")]
    List(ConnectionOnly),
}

/// `wherry admin tenant create`.
#[derive(Debug, Args)]
pub(crate) struct TenantCreateArgs {
    /// Name of the tenant
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl KeyCommand {
    pub(super) const fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::Create(args) => &args.connection,
            Self::List(args) => &args.connection,
            Self::Revoke(args) => &args.connection,
        }
    }
}

impl TenantCommand {
    pub(super) const fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::Create(args) => &args.connection,
            Self::List(args) => &args.connection,
        }
    }
}
