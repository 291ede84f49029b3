//! Commands about instances.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wherry_api_types::{Architecture, EnvVar, InstanceState, OnNodeLoss, Port, RestartPolicy, SecretText, WaitState};

use super::{ConnectionArgs, SpecArgs, value};

/// `wherry run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What to run: REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY@DIGEST, or both
    #[arg(required_unless_present = "file")]
    pub(crate) image: Option<String>,
    /// What to run stands in this file, YAML or JSON with the fields of the API; `-` is standard input
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "image")]
    pub(crate) file: Option<PathBuf>,
    /// Name in the project; made up when absent
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Cores: `0.25` or `250m` [default: 250m]
    #[arg(long, value_name = "CORES", value_parser = value::cpu)]
    pub(crate) cpu: Option<String>,
    /// Memory: `64Mi`, `1Gi` [default: 128Mi]
    #[arg(long, value_name = "BYTES", value_parser = value::memory)]
    pub(crate) memory: Option<String>,
    /// Port that everybody may reach: `80`, `53/udp`, `80:8080` for port 8080 of the container at 80, `web=80` with a name; may be
    /// repeated
    #[arg(long = "port", short = 'p', value_name = "[NAME=][PUBLIC:]PORT[/udp]", value_parser = value::port)]
    pub(crate) ports: Vec<Port>,
    /// Environment variable; may be repeated. `NAME` alone takes the value from this shell
    #[arg(long = "env", short = 'e', value_name = "NAME=VALUE", value_parser = value::environment)]
    pub(crate) env: Vec<EnvVar>,
    /// Secret environment variable, which nobody can read back; may be repeated. `NAME` takes it from this shell, `NAME=@FILE`
    /// from a file, `NAME=@-` from standard input
    #[arg(long = "secret-env", value_name = "NAME[=@FILE]", value_parser = value::secret_environment)]
    pub(crate) secret_env: Vec<EnvVar>,
    /// User of the image's registry
    #[arg(long, value_name = "USER", requires = "registry_password")]
    pub(crate) registry_user: Option<String>,
    /// File with the password or token of that user, `-` for standard input
    #[arg(long = "registry-password-file", value_name = "FILE", requires = "registry_user", value_parser = value::secret_file)]
    pub(crate) registry_password: Option<SecretText>,
    /// Label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = value::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Whether a program that has ended by itself is started again: `always`, `on-failure` or `never`
    /// [default: on-failure]
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
    /// How long to wait for it, such as `90s` or `5m`
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    /// Program and arguments in place of the image's own, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) more: SpecArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// File with instances, YAML or JSON with the fields of the API; `-` is standard input; may be repeated
    #[arg(long = "file", short = 'f', value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Say what would change, and change nothing
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) dry_run: bool,
    /// Return once the service has accepted it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for each new one, such as `90s` or `5m`
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Shells that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// In which form a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    #[default]
    Table,
    /// The same with more columns, none cut short
    Wide,
    /// As the API answers
    Json,
    /// The same as YAML
    Yaml,
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
    /// Only in this state, such as `running` or `failed`; may be repeated
    #[arg(long = "state", short = 's', value_name = "STATE", value_parser = value::state)]
    pub(crate) states: Vec<InstanceState>,
    /// Form of the list
    #[arg(long, short = 'o', value_name = "FORM", value_enum, default_value_t)]
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
    /// The run before the latest, as --run -1
    #[arg(long, short = 'p', conflicts_with_all = ["run", "follow"])]
    pub(crate) previous: bool,
    /// Only from then on, of all runs that are kept: how long ago (90s, 10m, 2h, 1d) or a time (2026-11-23T06:30:00Z)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Only this container; all of them, each line with its name, when the instance has several
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
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
    /// How long to wait for each, such as `90s` or `5m`
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Names or ids of instances
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Only this container of each
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Ask the registry what the image reference means now
    #[arg(long)]
    pub(crate) pull: bool,
    /// Return once the service has accepted it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for each, such as `90s` or `5m`
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    /// Which container, when the instance has several
    #[arg(long, short = 'c', value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Image to run
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Environment variable to set; may be repeated. `NAME` alone takes the value from this shell
    #[arg(long = "env", short = 'e', value_name = "NAME=VALUE", value_parser = value::environment)]
    pub(crate) env: Vec<EnvVar>,
    /// Secret environment variable, which nobody can read back; may be repeated. `NAME` takes it from this shell, `NAME=@FILE`
    /// from a file, `NAME=@-` from standard input
    #[arg(long = "secret-env", value_name = "NAME[=@FILE]", value_parser = value::secret_environment)]
    pub(crate) secret_env: Vec<EnvVar>,
    /// Environment variable to take away; may be repeated
    #[arg(long = "unset-env", value_name = "NAME")]
    pub(crate) unset_env: Vec<String>,
    /// Cores: `0.25` or `250m`
    #[arg(long, value_name = "CORES", value_parser = value::cpu)]
    pub(crate) cpu: Option<String>,
    /// Memory: `64Mi`, `1Gi`
    #[arg(long, value_name = "BYTES", value_parser = value::memory)]
    pub(crate) memory: Option<String>,
    /// Label to set; may be repeated
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = value::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Label to take away; may be repeated
    #[arg(long = "unset-label", value_name = "KEY")]
    pub(crate) unset_labels: Vec<String>,
    /// Whether a program that has ended by itself is started again: `always`, `on-failure` or `never`
    #[arg(long, value_name = "WHEN", value_parser = value::restart_policy)]
    pub(crate) restart: Option<RestartPolicy>,
    /// Time that it is kept after its end, such as `10m`; then it is deleted
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub(crate) ttl: Option<Duration>,
    /// Start it by the clock: see `wherry run --help`
    #[arg(long, value_name = "CRON")]
    pub(crate) schedule: Option<String>,
    /// Whose clock that is, such as `Europe/Berlin`
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// Begin no run by its schedule for now
    #[arg(long)]
    pub(crate) suspend: bool,
    /// Begin runs by its schedule again
    #[arg(long, conflicts_with = "suspend")]
    pub(crate) resume: bool,
    /// Say what would change and what that would restart, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
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

/// In which form one thing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum InspectFormat {
    /// As the API answers
    #[default]
    Json,
    /// The same as YAML
    Yaml,
    /// What was asked for, as a file that `wherry apply` takes; secrets are not in it
    Spec,
    /// Its name
    Name,
}

/// `wherry inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Name or id of the instance
    pub(crate) name: String,
    /// Form
    #[arg(long, short = 'o', value_name = "FORM", value_enum, default_value_t)]
    pub(crate) output: InspectFormat,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// How `wherry top` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TopFormat {
    /// For people
    #[default]
    Table,
    /// As the API answers
    Json,
}

/// `wherry top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Name or id of an instance; all of the project that run when absent
    pub(crate) name: Option<String>,
    /// Look again every two seconds, until Ctrl-C
    #[arg(long, short = 'w')]
    pub(crate) watch: bool,
    /// How to write it
    #[arg(long, short = 'o', value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: TopFormat,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// `wherry events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Name or id of an instance; the whole project when absent
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) story: StoryArgs,
}

/// Which part of a story of events is told, and how.
#[derive(Debug, Args)]
pub(crate) struct StoryArgs {
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
    /// State to wait for, such as `running`, `succeeded` or `stopped`, or `ready` (its probes are content) or `ended` (nothing of
    /// it goes on); may be repeated, any of them will do
    #[arg(long = "for", value_name = "STATE", value_parser = value::wait_state, default_value = "running")]
    pub(crate) states: Vec<WaitState>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
