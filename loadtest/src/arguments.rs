//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Load on a running Wherry, with simulated nodes and an auditor
#[derive(Debug, Parser)]
#[command(name = "wherry-loadtest", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Asks for instances and says how that went; fails when the auditor finds something
    Run(Box<Run>),
    /// Writes a synthetic trace with the statistics of a real one
    Trace(Trace),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Start this `wherry` as a control plane on SQLite for the run, and end it afterwards
    #[arg(long, value_name = "BINARY", required_unless_present = "client")]
    pub(crate) start: Option<PathBuf>,
    /// Use the Wherry that runs: `client.json` in its data folder. The key must have all scopes
    #[arg(long, value_name = "FILE", conflicts_with = "start")]
    pub(crate) client: Option<PathBuf>,
    /// The process id of that Wherry, to say what it uses
    #[arg(long, conflicts_with = "start")]
    pub(crate) pid: Option<u32>,
    /// Keep data and identities of nodes here and use them again; else they are removed at the end
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Simulated nodes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) nodes: u32,
    /// Cores of each simulated node
    #[arg(long, default_value_t = 96)]
    pub(crate) node_cores: u64,
    /// Memory of each simulated node, in GiB
    #[arg(long, default_value_t = 256)]
    pub(crate) node_gib: u64,
    /// Instances that each simulated node takes at most
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub(crate) node_instances: u32,
    /// Creates each second, on average
    #[arg(long, default_value_t = 50, conflicts_with = "trace")]
    pub(crate) rate: u32,
    /// Time of the run, in seconds; with a trace, of so much of it
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// How long an instance runs on average, in seconds; to the end of the test when absent
    #[arg(long, conflicts_with = "trace")]
    pub(crate) life: Option<u64>,
    /// Play this trace (CSV with arrive_s, vcpu, mem_mib, life_s; plain or gzipped) instead of a rate
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// So many times faster than it was recorded
    #[arg(long, default_value_t = 60, requires = "trace")]
    pub(crate) speed_up: u32,
    /// So many copies of the trace on top of each other, each shifted by a day
    #[arg(long, default_value_t = 1, requires = "trace")]
    pub(crate) copies: u32,
    /// Of a thousand instances that have an end so many are deleted by their tenant; the others end by themselves
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    pub(crate) deleted_permille: u64,
    /// Simulated nodes that die in the middle
    #[arg(long, default_value_t = 0)]
    pub(crate) deaths: u32,
    /// Simulated nodes that are not heard for a while
    #[arg(long, default_value_t = 0)]
    pub(crate) silences: u32,
    /// For how many seconds
    #[arg(long, default_value_t = 8)]
    pub(crate) silence_seconds: u64,
    /// Simulated nodes take what is placed and start none of it: creates alone are measured
    #[arg(long)]
    pub(crate) no_starts: bool,
    /// Simulated nodes follow names, ways and neighbours too, as real agents do: each is told the whole zone at each change
    #[arg(long)]
    pub(crate) surroundings: bool,
    /// The same seed asks for the same at the same times
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the result here as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the result here as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The CSV file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Arrivals
    #[arg(long, default_value_t = 50_000)]
    pub(crate) count: usize,
    /// Over so many days
    #[arg(long, default_value_t = 3)]
    pub(crate) days: u64,
    /// The same seed draws the same trace
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}
