//! The command line: every command with its arguments, help and examples. No behaviour.
//!
//! Secrets are never arguments, where every user of the machine could read them: a key comes from the environment or
//! from a file.

mod admin;
mod inside;
mod instances;
mod roles;
mod spec;
mod spec_value;
mod tenancy;
mod value;
mod webhooks;

use std::path::PathBuf;

pub(crate) use admin::{
    AdminCommand, DrainArgs, ExplainArgs, FleetArgs, LostArgs, NodeCommand, NodeLike, NodeTokenArgs, NodesArgs,
    ResealArgs, SecretsCommand, ViewArgs,
};
use clap::{Args, Parser, Subcommand};
pub(crate) use inside::{AttachArgs, CopyArgs, ExecArgs, Place, PortForwardArgs, PortPair};
pub(crate) use instances::{
    ApplyArgs, CompletionsArgs, CostArgs, EventsArgs, InspectArgs, InspectFormat, ListFormat, LogsArgs, NamesArgs,
    OneArgs, PsArgs, RestartArgs, RunArgs, Shell, StoryArgs, TopArgs, TopFormat, UpdateArgs, WaitArgs,
};
pub(crate) use roles::{
    BackupArgs, ControlArgs, DoctorArgs, DownArgs, JoinArgs, MigrateArgs, NodeArgs, NodeGuardArgs, RestoreArgs, Role,
    UpArgs,
};
pub(crate) use spec::SpecArgs;
pub(crate) use tenancy::{KeyCommand, KeyCreateArgs, TenantCommand};
pub(crate) use webhooks::WebhookCommand;

/// Where an installation keeps its data unless told otherwise.
pub(crate) const DEFAULT_DATA: &str = "/var/lib/wherry";

const ABOUT_EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line, or a file that it names, is wrong
  3  not found
  4  no capacity, or a quota is used up
  5  the server is away
  6  refused: a value is wrong, something else is under way, or the key may not do it
  7  the time to wait was over
`wherry exec` and `wherry attach` end as the program does; `exec` with 124 when its time was over, with 125 when it could not be run.";

/// Runs containers by the second on machines that nobody has to see.
#[derive(Debug, Parser)]
#[command(name = "wherry", version, after_help = ABOUT_EXIT_CODES, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Folder with everything that Wherry keeps on this machine, also where commands find its server and key
    #[arg(long, global = true, value_name = "DIR", env = "WHERRY_DATA", default_value = DEFAULT_DATA, display_order = 900)]
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
Examples, with store.url = \"postgres://wherry@db.example/wherry\" in wherry.toml of the data folder:
  wherry migrate       makes the schema, once
  wherry control

Any number of them answer for one PostgreSQL. All need the same keys: copy the folder `keys` from the data folder of the \
first one. Without store.url it keeps its records in a SQLite file, and is the only one.")]
    Control(ControlArgs),
    /// Run containers on this machine for a control plane elsewhere, until Ctrl-C
    #[command(after_help = "\
Examples:
  wherry admin node token    with the control plane: prints the first command
  WHERRY_JOIN_TOKEN=wjt_... wherry node --join https://control.example:7443 --ca-fingerprint sha256:...
  wherry node                every later start

It needs root and nothing connects to it. Stopping it leaves the instances running; so does losing the control plane.")]
    Node(NodeArgs),
    /// Watch over the lease of this machine when its agent is away; `wherry node` and `wherry up` start it themselves
    #[command(hide = true)]
    NodeGuard(NodeGuardArgs),
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
    /// Print what completes commands and their arguments in a shell
    #[command(after_help = "\
Examples:
  source <(wherry completions bash)
  wherry completions bash > /usr/share/bash-completion/completions/wherry
  wherry completions zsh > \"${fpath[1]}/_wherry\"
  wherry completions fish > ~/.config/fish/completions/wherry.fish")]
    Completions(CompletionsArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

/// The commands that talk to a running Wherry.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Start an instance and wait until it runs
    #[command(
        override_usage = "wherry run [OPTIONS] <IMAGE> [-- <COMMAND>...]\n       wherry run [OPTIONS] --file <FILE>",
        after_help = "\
Examples:
  wherry run registry.example/team/web:1 --name web --cpu 0.25 --memory 64Mi --port 80
  wherry run registry.example/team/job:7 --restart never -e MODE=full -- /bin/job --all
  wherry run registry.example/team/dns:2 --port 53/udp --port 53 --label team=net
  wherry run registry.example/team/api:3 --on-node-loss replace
  wherry run registry.example/team/db:5 -m data:/var/lib/db --readiness tcp:5432,every=5s --ttl 1h
  wherry run registry.example/team/web:1 --port 80:8080 --dns-label shop --isolation sandboxed
  wherry run registry.example/job:7 --name nightly --schedule '30 2 * * *' --time-zone Asia/Tokyo
  wherry run registry.example/web:1 --volume-git site=https://git.example/s.git#v1 -m site:/srv:ro
  wherry run registry.example/team/job:7 --pids 256 --ephemeral-disk 2Gi
  wherry run -f job.yaml           YAML or JSON with the API's fields; `-f -` is standard input

A file may hold several documents; each is an instance of its own."
    )]
    Run(Box<RunArgs>),
    /// Make sure that the instances of a file are there and are so: create what is missing, change what differs
    #[command(after_help = "\
Examples:
  wherry apply -f web.yaml
  wherry apply -f web.yaml --dry-run       what would change, and what that would restart
  cat *.yaml | wherry apply -f - --no-wait

YAML or JSON with the fields of the API, any number of documents, each with a name. Said twice it changes nothing; what is not \
in the file stays.")]
    Apply(ApplyArgs),
    /// List instances
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  wherry ps                      what is there and has not ended
  wherry ps -a -l team=net       ended ones too, with this label
  wherry ps --state failed
  wherry ps -o name | xargs wherry rm
  wherry ps -o wide              nothing cut short, and more columns"
    )]
    Ps(PsArgs),
    /// Show what a container has printed
    #[command(after_help = "\
Examples:
  wherry logs web
  wherry logs -f --tail 20 -t web
  wherry logs --previous web     the run before the latest; --run 3 is the third
  wherry logs --since 10m web    of all runs
  wherry logs -f -c proxy web    one container of several
  wherry logs 0197a1b2…          of an instance that was deleted, by its id, for a day")]
    Logs(LogsArgs),
    /// Run a program inside of a container that runs, and end as it ends
    #[command(after_help = "\
Examples:
  wherry exec web -- cat /etc/hostname
  wherry exec -it web sh                          a shell in this terminal
  tar c . | wherry exec -i web -- tar x -C /srv
  wherry exec --timeout 5m -c main db -- /bin/backup --all

Without -i it has no input. Its output and its errors come as it prints them, apart unless it has a terminal (-t). The exit \
code is the program's own, 124 when its time was over; 125 means that it could not be run. It ends when this command does.")]
    Exec(ExecArgs),
    /// Watch the main program of a container, and talk to it where it has an input
    #[command(after_help = "\
Examples:
  wherry attach web               what it prints from now on, until Ctrl-C
  wherry attach -it console       Ctrl-P Ctrl-Q leaves it

It ends as the program does. Leaving it leaves the program as it is.")]
    Attach(AttachArgs),
    /// Reach ports inside of an instance at ports of this machine, until Ctrl-C
    #[command(after_help = "\
Examples:
  wherry port-forward web 8080:80
  wherry port-forward db 5432 :9187       the same port here; any free one here

Listens on 127.0.0.1 only. Also what listens on loopback inside is reached, declared or not.")]
    PortForward(PortForwardArgs),
    /// Copy files and folders between this machine and a container
    #[command(after_help = "\
Examples:
  wherry cp web:/var/log/app.log .
  wherry cp ./site web:/srv/              keeps its name
  wherry cp -c main db:/dump dump-today

It runs `tar` in the container, which the image must have.")]
    Cp(CopyArgs),
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
    /// End what runs in instances and start it again, where it is
    #[command(after_help = "\
Examples:
  wherry restart web worker
  wherry restart web --container proxy    the other containers run on
  wherry restart web --pull               with what its image reference means now

Name, address and volumes stay. An instance that has ended is started.")]
    Restart(RestartArgs),
    /// Change an instance where it is
    #[command(after_help = "\
Examples:
  wherry update web --image registry.example/team/web:2
  wherry update web --env MODE=fast --unset-env OLD --label team=net
  wherry update web --cpu 0.5 --memory 256Mi --dry-run
  wherry update nightly --suspend         no run by the clock for now; --resume

Name and address stay. Only containers whose change they cannot take while they run are started again; a dry run says which.")]
    Update(Box<UpdateArgs>),
    /// Delete instances
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  wherry rm web
  wherry rm --no-wait web worker"
    )]
    Rm(NamesArgs),
    /// Show what instances use: processor, memory, network
    #[command(after_help = "\
Examples:
  wherry top                     all that run
  wherry top web --watch         until Ctrl-C
  wherry top -o json | jq '.[].containers[].memory_bytes'

CPU is in thousandths of a core, next to what it may use; HELD BACK is how long it wanted more than that. NET is what its \
containers, which share one network, take in and give out.")]
    Top(TopArgs),
    /// Show an instance as people ask about it: state and why, containers, addresses, volumes, cost, what happened
    #[command(after_help = "Example:\n  wherry describe web")]
    Describe(OneArgs),
    /// Show all that is known about an instance, as JSON or YAML
    #[command(after_help = "\
Examples:
  wherry inspect web | jq .containers[0].runs
  wherry inspect web -o yaml
  wherry inspect web -o spec > web.yaml    what was asked for, for `wherry apply`")]
    Inspect(InspectArgs),
    /// Show what happened
    #[command(after_help = "\
Examples:
  wherry events                  of the whole project
  wherry events -f web           of one instance, until Ctrl-C")]
    Events(EventsArgs),
    /// Wait until an instance is in a state
    #[command(after_help = "\
Examples:
  wherry wait web --for ready --timeout 30s
  wherry wait job --for ended --timeout 1h
  wherry wait old --for deleted
  wherry wait job --for succeeded --for failed --timeout 1h")]
    Wait(WaitArgs),
    /// Have events sent to a URL, signed, and see what became of them
    Webhook {
        #[command(subcommand)]
        command: WebhookCommand,
    },
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

/// How to find the service. Without any of it: what `wherry up` or `wherry control` on this machine left in the data folder.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Base URL of the service
    #[arg(long, value_name = "URL", env = "WHERRY_SERVER")]
    pub(crate) server: Option<String>,
    /// File with server and key, as `wherry key create --save` writes it; the environment variables `WHERRY_KEY_ID` and
    /// `WHERRY_KEY_SECRET` do the same [default: what `wherry up` or `wherry control` left in the data folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Project [default: the one that belongs to the key, else `default`]
    #[arg(long, value_name = "NAME", env = "WHERRY_PROJECT")]
    pub(crate) project: Option<String>,
}

impl ClientCommand {
    /// How this command is to find the service.
    pub(crate) const fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::Run(args) => &args.connection,
            Self::Apply(args) => &args.connection,
            Self::Ps(args) => &args.connection,
            Self::Logs(args) => &args.connection,
            Self::Exec(args) => &args.connection,
            Self::Attach(args) => &args.connection,
            Self::PortForward(args) => &args.connection,
            Self::Cp(args) => &args.connection,
            Self::Cost(args) => &args.connection,
            Self::Stop(args) | Self::Start(args) | Self::Rm(args) => &args.connection,
            Self::Restart(args) => &args.connection,
            Self::Update(args) => &args.connection,
            Self::Top(args) => &args.connection,
            Self::Inspect(args) => &args.connection,
            Self::Describe(args) => &args.connection,
            Self::Events(args) => &args.story.connection,
            Self::Wait(args) => &args.connection,
            Self::Webhook { command } => command.connection(),
            Self::Key { command } => command.connection(),
            Self::Admin { command } => command.connection(),
        }
    }
}

#[cfg(test)]
mod tests;
