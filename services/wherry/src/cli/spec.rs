//! What `wherry run` can say of an instance beside the most usual: every field of the API that fits into an argument. The rest
//! (several containers, files of a volume) stands in a file, `-f`.

use std::time::Duration;

use clap::Args;
use wherry_api_types::{
    DnsReuseScope, Gpu, Hook, HostAlias, Isolation, Priority, Probe, PullPolicy, Spread, Volume, VolumeMount,
};

use super::{spec_value, value};

/// Fields of the spec.
#[derive(Debug, Args)]
#[command(next_help_heading = "More of the instance")]
pub(crate) struct SpecArgs {
    /// As whom the program runs: `1000`, `1000:33` or a name that the image knows
    #[arg(long, short = 'u', value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The most CPU that it may take while the machine has it [default: what is reserved]
    #[arg(long, value_name = "CORES", value_parser = value::cpu)]
    pub(crate) cpu_limit: Option<String>,
    /// The most memory that it may take [default: what is reserved]
    #[arg(long, value_name = "BYTES", value_parser = value::memory)]
    pub(crate) memory_limit: Option<String>,
    /// The most that it may write to the disk, volumes on disk included: `512Mi`, `2Gi` [default: 20Gi, or what the operator set]
    #[arg(long, value_name = "BYTES", value_parser = value::memory)]
    pub(crate) ephemeral_disk: Option<String>,
    /// GPUs: so many whole ones, `--gpu 1`, or a share of one, `--gpu 50%` [default: none]
    #[arg(long, value_name = "COUNT|PERCENT%", value_parser = spec_value::gpu)]
    pub(crate) gpu: Option<Gpu>,
    /// Only GPUs of this kind, as the operator calls it: `nvidia-a100`
    #[arg(long, value_name = "NAME", requires = "gpu")]
    pub(crate) gpu_model: Option<String>,
    /// The most processes and threads that it may have [default: 1024, or what the operator set]
    #[arg(long, value_name = "COUNT")]
    pub(crate) pids: Option<u32>,
    /// When the registry is asked what the image means: `once`, `always` or `if-not-present` [default: once]
    #[arg(long, value_name = "WHEN", value_parser = spec_value::pull_policy)]
    pub(crate) pull: Option<PullPolicy>,
    /// Empty folder that lives through restarts: `NAME`, `NAME:SIZE`, or `NAME:memory` and `NAME:memory:SIZE` in memory; may be
    /// repeated
    #[arg(long = "volume", value_name = "NAME[:memory][:SIZE]", value_parser = spec_value::volume)]
    pub(crate) volumes: Vec<Volume>,
    /// Volume with what a git repository holds at its start: `NAME=URL`, at a branch, tag or commit `NAME=URL#REVISION`, in a
    /// folder of the volume `NAME=URL#REVISION:FOLDER`; may be repeated
    #[arg(long = "volume-git", value_name = "NAME=URL[#REVISION[:FOLDER]]", value_parser = spec_value::git_volume)]
    pub(crate) git_volumes: Vec<Volume>,
    /// Where it sees a volume, or a folder of it: `NAME:/PATH`, `NAME/FOLDER:/PATH`, and `:ro` at the end to only read it; may be
    /// repeated. A volume that nothing else names is made
    #[arg(long = "mount", short = 'm', value_name = "NAME[/FOLDER]:PATH[:ro]", value_parser = spec_value::mount)]
    pub(crate) mounts: Vec<VolumeMount>,
    /// What must succeed before the other probes are asked: `http:8080/healthz`, `https:…`, `tcp:5432` or `exec:PROGRAM ARGS`, then
    /// `,every=5s,timeout=1s,failures=3,successes=1,delay=0s` as needed
    #[arg(long, value_name = "PROBE", value_parser = spec_value::probe)]
    pub(crate) startup: Option<Probe>,
    /// What ends the container when it fails; written as --startup
    #[arg(long, value_name = "PROBE", value_parser = spec_value::probe)]
    pub(crate) liveness: Option<Probe>,
    /// What takes its name out of DNS while it fails; written as --startup
    #[arg(long, value_name = "PROBE", value_parser = spec_value::probe)]
    pub(crate) readiness: Option<Probe>,
    /// What is done right after a start: `exec:PROGRAM ARGS`, `http:8080/warm`, `tcp:5432`
    #[arg(long, value_name = "HOOK", value_parser = spec_value::hook)]
    pub(crate) post_start: Option<Hook>,
    /// What is done before the stop signal, within --stop-grace; written as --post-start
    #[arg(long, value_name = "HOOK", value_parser = spec_value::hook)]
    pub(crate) pre_stop: Option<Hook>,
    /// Signal that asks the program to end, such as `SIGINT` [default: the image's, or SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Keep its input open for who attaches (`wherry attach -i`)
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Close that input for good when the first who attached with one ends it
    #[arg(long, requires = "stdin", conflicts_with = "tty")]
    pub(crate) stdin_once: bool,
    /// Run it on a terminal; with --stdin a shell to attach to (`wherry attach -it`)
    #[arg(long)]
    pub(crate) tty: bool,
    /// How often a program that ended is started again before it stays ended [default: without a bound]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_restarts: Option<u32>,
    /// Time after which it is ended, such as `2h` [default: never]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub(crate) deadline: Option<Duration>,
    /// Time that it is kept after its end, such as `10m`; then it is deleted [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub(crate) ttl: Option<Duration>,
    /// Start it by the clock, each time anew: minute, hour, day of month, month, day of week as in crontab(5), such as
    /// `*/5 * * * *`, or `@hourly`, `@daily` … [default: once, now]
    #[arg(long, value_name = "CRON")]
    pub(crate) schedule: Option<String>,
    /// Whose clock that is, such as `Europe/Berlin` [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    pub(crate) time_zone: Option<String>,
    /// How far it is kept apart from what else runs on its machine: `shared`, `sandboxed` or `virtual-machine`, where a machine
    /// offers it [default: shared]
    #[arg(long, value_name = "CLASS", value_parser = spec_value::isolation)]
    pub(crate) isolation: Option<Isolation>,
    /// Only on machines of this zone [default: any]
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Only on a machine that no other tenant shares
    #[arg(long)]
    pub(crate) dedicated: bool,
    /// Whether it makes room for others, and costs less: `regular` or `spot` [default: regular]
    #[arg(long, value_name = "CLASS", value_parser = spec_value::priority)]
    pub(crate) priority: Option<Priority>,
    /// Distribute those that carry the same value of this label evenly: LABEL, LABEL=SKEW, LABEL=SKEW/zone; may be repeated
    #[arg(long, value_name = "LABEL[=SKEW][/zone]", value_parser = spec_value::spread)]
    pub(crate) spread: Vec<Spread>,
    /// Only on a machine with an instance that carries this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) near: Vec<String>,
    /// Only on a machine without an instance that carries this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) apart: Vec<String>,
    /// First label of its DNS name [default: its name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) dns_label: Option<String>,
    /// Who may have its DNS name after it: `project`, `tenant` or `none` [default: project]
    #[arg(long, value_name = "SCOPE", value_parser = spec_value::dns_reuse_scope)]
    pub(crate) dns_reuse_scope: Option<DnsReuseScope>,
    /// Answer its DNS name also while its probes do not find it ready
    #[arg(long)]
    pub(crate) publish_unready: bool,
    /// Name server in place of the service's; may be repeated
    #[arg(long = "dns-server", value_name = "ADDRESS", value_parser = spec_value::address)]
    pub(crate) dns_servers: Vec<String>,
    /// Search domain behind the project's; may be repeated
    #[arg(long = "dns-search", value_name = "DOMAIN")]
    pub(crate) dns_searches: Vec<String>,
    /// Option of resolv.conf(5), such as `ndots:2`; may be repeated
    #[arg(long = "dns-option", value_name = "OPTION")]
    pub(crate) dns_options: Vec<String>,
    /// Line of its /etc/hosts: `NAME=ADDRESS`; may be repeated
    #[arg(long = "add-host", value_name = "NAME=ADDRESS", value_parser = spec_value::host)]
    pub(crate) hosts: Vec<HostAlias>,
}
