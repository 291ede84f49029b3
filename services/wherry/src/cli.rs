//! The command line: every command with its arguments, help and examples. No behaviour.
//!
//! Secrets are never arguments, where every user of the machine could read them: a key comes from the environment or
//! from a file.

mod admin;
mod roles;
mod tenancy;
mod value;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use admin::{
    AdminCommand, DrainArgs, FleetEventsArgs, LostArgs, NodeCommand, NodeTokenArgs, NodesArgs, ViewArgs,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use roles::{BackupArgs, ControlArgs, DoctorArgs, DownArgs, MigrateArgs, RestoreArgs, UpArgs};
pub(crate) use tenancy::{KeyCommand, KeyCreateArgs, TenantCommand};
use wherry_api_types::{Architecture, EnvVar, InstanceState, OnNodeLoss, Port, RestartPolicy};

/// Where an installation keeps its data unless told otherwise.
pub(crate) const DEFAULT_DATA: &str = "/var/lib/wherry";

const ABOUT_EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  not found
  4  no capacity, or a quota is used up
  5  the server is away
`wherry exec` ends as the program does, or with 125 when it could not be run.";

/// Runs containers by the second on machines that nobody has to see.
#[derive(Debug, Parser)]
#[command(name = "wherry", version, after_help = ABOUT_EXIT_CODES, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Folder with everything that Wherry keeps
    #[arg(long, global = true, value_name = "DIR", env = "WHERRY_DATA", default_value = DEFAULT_DATA)]
    pub(crate) data: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service on this machine until Ctrl-C
    #[command(after_help = "\
Examples:
  wherry up
  wherry up --data /srv/wherry --listen-api 0.0.0.0:7070
  wherry up --listen-agents 0.0.0.0:7443     other machines may join

Stopping it leaves the instances running; the next `wherry up` finds them again.")]
    Up(UpArgs),
    /// Run a replica of the control plane until Ctrl-C: API, names, the agents' port; no containers
    #[command(after_help = "\
Examples:
  wherry migrate --url postgres://wherry@db.example/wherry
  wherry control

Any number of them answer for one PostgreSQL (store.url). All need the same keys: copy the folder `keys`.")]
    Control(ControlArgs),
    /// Bring the schema of a PostgreSQL database up to date
    #[command(after_help = "\
Examples:
  wherry migrate
  wherry migrate --url postgres://wherry@db.example/wherry

Safe while replicas run. A SQLite file is brought up to date when it is opened.")]
    Migrate(MigrateArgs),
    /// Write a copy of the SQLite store to a file, also while Wherry runs
    #[command(after_help = "\
Examples:
  wherry backup /backup/wherry-$(date +%F)
  wherry backup --with-keys /safe/wherry

PostgreSQL has its own tools for that: pg_dump, pg_basebackup.")]
    Backup(BackupArgs),
    /// Put a backup into an empty data folder
    #[command(after_help = "\
Example:
  wherry --data /srv/wherry restore /backup/wherry-2026-11-23")]
    Restore(RestoreArgs),
    /// Stop and remove everything that `wherry up` or `wherry node` left running on this machine
    #[command(after_help = "\
Examples:
  wherry down            instances end, their records, logs and images stay
  wherry down --purge    nothing of it stays")]
    Down(DownArgs),
    /// Check whether this machine can run Wherry, and say how to mend what cannot work
    #[command(after_help = "\
Examples:
  wherry doctor
  wherry doctor --data /srv/wherry
  wherry doctor --role control

Ends with 1 when something would keep the role from working.")]
    Doctor(DoctorArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

/// The commands that talk to a running Wherry.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Start an instance and wait until it runs
    #[command(after_help = "\
Examples:
  wherry run registry.example/team/web:1 --name web --cpu 0.25 --memory 64Mi --port 80
  wherry run registry.example/team/job:7 --restart never -e MODE=full -- /bin/job --all
  wherry run registry.example/team/dns:2 --port 53/udp --port 53 --label team=net
  wherry run registry.example/team/api:3 --on-node-loss replace")]
    Run(Box<RunArgs>),
    /// List instances
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  wherry ps                      what is there and has not ended
  wherry ps -a -l team=net       ended ones too, with this label
  wherry ps --state failed
  wherry ps -o name | xargs wherry rm"
    )]
    Ps(PsArgs),
    /// Show what a container has printed
    #[command(after_help = "\
Examples:
  wherry logs web
  wherry logs -f --tail 20 -t web
  wherry logs --run -1 web       the run before the latest")]
    Logs(LogsArgs),
    /// Run a program inside of a container that runs, and end as it ends
    #[command(after_help = "\
Examples:
  wherry exec web -- cat /etc/hostname
  wherry exec web -- sh -c 'ps | wc -l'
  wherry exec --timeout 5m db -c main -- /bin/backup --all

It has no terminal and no input. What it prints comes when it has ended, at most 1 MiB of each stream. The exit code is
the program's own; 125 means that it could not be run.")]
    Exec(ExecArgs),
    /// Show what instances cost
    #[command(after_help = "\
Examples:
  wherry cost                    every instance of the project, and the total
  wherry cost web                line by line
  wherry cost --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z")]
    Cost(CostArgs),
    /// Stop instances; they keep name and logs and cost nothing
    #[command(after_help = "Example:\n  wherry stop web worker")]
    Stop(NamesArgs),
    /// Start stopped or ended instances again
    #[command(after_help = "Example:\n  wherry start web")]
    Start(NamesArgs),
    /// Delete instances
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  wherry rm web
  wherry rm --no-wait web worker"
    )]
    Rm(NamesArgs),
    /// Show all that is known about an instance, as JSON
    #[command(after_help = "Example:\n  wherry inspect web | jq .containers[0].runs")]
    Inspect(OneArgs),
    /// Show what happened
    #[command(after_help = "\
Examples:
  wherry events                  of the whole project
  wherry events -f web           of one instance, until Ctrl-C")]
    Events(EventsArgs),
    /// Wait until an instance is in a state
    #[command(after_help = "\
Examples:
  wherry wait web --for running --timeout 30s
  wherry wait job --for succeeded --for failed --timeout 1h")]
    Wait(WaitArgs),
    /// Make, list and revoke API keys
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Operate the service: tenants, machines, the fleet
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
}

/// How to find the service. Without any of it: what `wherry up` on this machine left in the data folder.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Base URL of the service
    #[arg(long, value_name = "URL", env = "WHERRY_SERVER")]
    pub(crate) server: Option<String>,
    /// File with server and key, as `wherry key create --save` writes it. The environment variables `WHERRY_KEY_ID`
    /// and `WHERRY_KEY_SECRET` do the same
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Project [default: the one that belongs to the key, else `default`]
    #[arg(long, value_name = "NAME", env = "WHERRY_PROJECT")]
    pub(crate) project: Option<String>,
}

/// `wherry run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What to run: REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY@DIGEST, or both
    pub(crate) image: String,
    /// Name in the project; made up when absent
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Cores: `0.25` or `250m` [default: 250m]
    #[arg(long, value_name = "CORES", value_parser = value::cpu)]
    pub(crate) cpu: Option<String>,
    /// Memory: `64Mi`, `1Gi` [default: 128Mi]
    #[arg(long, value_name = "BYTES", value_parser = value::memory)]
    pub(crate) memory: Option<String>,
    /// Port that everybody may reach, `80` or `53/udp`; may be repeated
    #[arg(long = "port", short = 'p', value_name = "PORT[/udp]", value_parser = value::port)]
    pub(crate) ports: Vec<Port>,
    /// Environment variable; may be repeated. `NAME` alone takes the value from this shell
    #[arg(long = "env", short = 'e', value_name = "NAME=VALUE", value_parser = value::environment)]
    pub(crate) env: Vec<EnvVar>,
    /// Label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = value::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// What happens when the program ends by itself [default: on-failure]
    #[arg(long, value_name = "WHEN", value_parser = value::restart_policy)]
    pub(crate) restart: Option<RestartPolicy>,
    /// What happens when its machine is lost: `keep` waits for the machine and never runs it twice, `replace` runs it
    /// elsewhere once it is certain that it has ended there [default: keep]
    #[arg(long, value_name = "HOW", value_parser = value::on_node_loss)]
    pub(crate) on_node_loss: Option<OnNodeLoss>,
    /// Only on machines of this kind: amd64, arm64
    #[arg(long, value_name = "ARCH", value_parser = value::architecture)]
    pub(crate) arch: Option<Architecture>,
    /// Folder that the program starts in
    #[arg(long, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
    /// Time between SIGTERM and SIGKILL at a stop, such as `10s`
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub(crate) stop_grace: Option<Duration>,
    /// Two runs with the same key make one instance
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Say what it would cost and whether there is room, and start nothing
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) dry_run: bool,
    /// Return once the service has accepted it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for it
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    /// Program and arguments in place of the image's own, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// In which form a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    #[default]
    Table,
    /// As the API answers
    Json,
    /// One name a line
    Name,
}

/// `wherry ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also those that have ended or are stopped
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Only with this label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = value::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Only in this state; may be repeated
    #[arg(long = "state", short = 's', value_name = "STATE", value_parser = value::state)]
    pub(crate) states: Vec<InstanceState>,
    /// Form of the list
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub(crate) output: ListFormat,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    /// Go on with what it prints, through restarts, until it ends
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// Only this many of the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// The time before each line
    #[arg(long, short = 't')]
    pub(crate) timestamps: bool,
    /// Which run: 1 is the first one, 0 the latest, -1 the one before it
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) run: Option<i64>,
    /// Which container, when the instance has several
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    /// Which container, when the instance has several
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// After this time the program is killed, at most 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    /// Program and arguments, after `--`; no shell is added
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry cost`.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// Name or id of an instance; the whole project when absent
    pub(crate) name: Option<String>,
    /// First moment, RFC 3339 [default: 30 days ago]
    #[arg(long, value_name = "TIME", value_parser = value::moment, conflicts_with = "name")]
    pub(crate) from: Option<String>,
    /// First moment that does not count any more, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = value::moment, conflicts_with = "name")]
    pub(crate) to: Option<String>,
    /// As the API answers
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry stop`, `start` and `rm`.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// Names or ids of instances
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Return once the service has accepted it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for each
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A command about one instance.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Name or id of an instance; the whole project when absent
    pub(crate) name: Option<String>,
    /// Go on with what happens, until Ctrl-C
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// Only what came after the event with this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: u64,
    /// One JSON document a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    /// State to wait for; may be repeated, any of them will do
    #[arg(long = "for", value_name = "STATE", value_parser = value::state, default_value = "running")]
    pub(crate) states: Vec<InstanceState>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl ClientCommand {
    /// How this command is to find the service.
    pub(crate) const fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::Run(args) => &args.connection,
            Self::Ps(args) => &args.connection,
            Self::Logs(args) => &args.connection,
            Self::Exec(args) => &args.connection,
            Self::Cost(args) => &args.connection,
            Self::Stop(args) | Self::Start(args) | Self::Rm(args) => &args.connection,
            Self::Inspect(args) => &args.connection,
            Self::Events(args) => &args.connection,
            Self::Wait(args) => &args.connection,
            Self::Key { command } => command.connection(),
            Self::Admin { command } => command.connection(),
        }
    }
}

#[cfg(test)]
mod tests;
