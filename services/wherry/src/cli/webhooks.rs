//! Who is told of events.

use clap::{Args, Subcommand};

use super::ConnectionArgs;
use super::tenancy::ConnectionOnly;

/// `wherry webhook …`.
#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Have events sent to a URL; the secret that signs them is shown this once
    #[command(after_help = "\
Examples:
  wherry webhook create pager https://hooks.example/wherry
  wherry webhook create pager https://hooks.example/wherry --event failed --instance web")]
    Create(WebhookCreateArgs),
    /// List the project's webhooks
    #[command(visible_alias = "ls", after_help = "Example:\n  wherry webhook list")]
    List(ConnectionOnly),
    /// Show one as JSON
    #[command(after_help = "Example:\n  wherry webhook get pager")]
    Get(WebhookArgs),
    /// Send nothing until it is enabled again
    #[command(after_help = "Example:\n  wherry webhook disable pager")]
    Disable(WebhookArgs),
    /// Send what happens from now on
    #[command(after_help = "Example:\n  wherry webhook enable pager")]
    Enable(WebhookArgs),
    /// Give it another secret; the one before signs too for a day
    #[command(after_help = "Example:\n  wherry webhook rotate-secret pager")]
    RotateSecret(WebhookArgs),
    /// Delete it with its log
    #[command(visible_alias = "rm", after_help = "Example:\n  wherry webhook delete pager")]
    Delete(WebhookArgs),
    /// List what was sent, what waits and what was given up
    #[command(after_help = "Example:\n  wherry webhook deliveries pager")]
    Deliveries(WebhookArgs),
    /// Send a ping and say what the receiver answered
    #[command(after_help = "Example:\n  wherry webhook test pager")]
    Test(WebhookArgs),
    /// Send one delivery again
    #[command(after_help = "Example:\n  wherry webhook redeliver pager 0190f1c2-6f0e-7cc3-98c4-dc0c0c07398f")]
    Redeliver(RedeliverArgs),
}

/// `wherry webhook create`.
#[derive(Debug, Args)]
pub(crate) struct WebhookCreateArgs {
    /// Name of the webhook
    pub(crate) name: String,
    /// Where events are sent, https://…
    pub(crate) url: String,
    /// Only events of this kind; may be repeated [default: all]
    #[arg(long = "event", value_name = "KIND")]
    pub(crate) events: Vec<String>,
    /// Only events of this instance
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A command about one webhook.
#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    /// Name of the webhook
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry webhook redeliver`.
#[derive(Debug, Args)]
pub(crate) struct RedeliverArgs {
    /// Name of the webhook
    pub(crate) name: String,
    /// Id of the delivery
    pub(crate) delivery: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl WebhookCommand {
    pub(super) const fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::Create(args) => &args.connection,
            Self::List(args) => &args.connection,
            Self::Get(args)
            | Self::Disable(args)
            | Self::Enable(args)
            | Self::RotateSecret(args)
            | Self::Delete(args)
            | Self::Deliveries(args)
            | Self::Test(args) => &args.connection,
            Self::Redeliver(args) => &args.connection,
        }
    }
}
