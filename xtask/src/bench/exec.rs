//! `cargo xtask bench exec`: from the order of `true` in a container to its exit code, beside `ctr task exec` in the same container.
//!
//! Wherry is asked over its public API, as any tenant would: one synchronous call, and a WebSocket (opened, the program run, closed)
//! by the client that the command line uses. Token check, the record of who entered, the way through agent and engine and back are in
//! the numbers. They take turns, one program each, so that what disturbs the machine disturbs them alike.
//!
//! In the numbers of `ctr` is its own start. How much that is, `ctr version` tells, which starts, asks the engine once and runs nothing.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::runtime::Runtime;
use wherry_api_client::{Client, Credentials, ExecOptions, Heard};
use wherry_api_types::{ContainerSpec, InstanceCreate, InstanceState};
use wherry_demo_images::recipes;

use super::samples::{Milliseconds, Samples};
use super::{document, machine};
use crate::command::capture;
use crate::interrupt::Interrupt;
use crate::local::rest::{ClientFile, Rest};
use crate::local::{self, LocalService, Profile};
use crate::setup;

const PROJECT: &str = "default";
const INSTANCE: &str = "bench";
const WARM_UP: usize = 5;
const PROGRAM: &str = "true";

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Programs of each subject that count
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Keep the result in docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// Measure a dev build, which is there sooner and slower in all it does; the document says so
    #[arg(long)]
    dev: bool,
    /// Measure this `wherry`, which is built already
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    binary: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root may start containers: run this as root (sudo)");
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    setup::install(setup::Purpose::Demo)?;
    let (binary, profile) = if let Some(binary) = &arguments.binary {
        (binary.clone(), "as it was given".to_owned())
    } else {
        let profile = if arguments.dev { Profile::Dev } else { Profile::Release };
        println!("building wherry ({profile} profile)");
        (local::build(profile)?, profile.to_string())
    };
    let mut lines: Vec<String> = machine::describe().into_iter().map(|line| format!("- {line}")).collect();
    lines.push(format!("- profile: {profile}"));
    lines.extend(
        ["", "| subject | programs | p50 ms | p99 ms | p50 ratio | p99 ratio |", "|---|---:|---:|---:|---:|---:|"]
            .map(str::to_owned),
    );
    for oci_runtime in ["crun", "runc"] {
        interrupt.check()?;
        let mut service = LocalService::prepare("wherry-bench-", binary.clone())?;
        service.configure(&format!(
            "[containerd]\nruntime = \"{oci_runtime}\"\n\n[fleet]\nentries_per_hour = 1000000\n"
        ))?;
        let measured = runtime.block_on(side_by_side(arguments.count, oci_runtime, &interrupt, &mut service));
        let ended = runtime.block_on(service.end());
        lines.extend(measured?);
        ended?;
    }
    lines.extend([String::new(), "- the API's numbers hold HTTP, the token check, two writes of the audit to disk, and agent and engine; ctr's hold the start of a process".to_owned()]);
    let report = lines.join("\n");
    println!("\n{report}");
    if arguments.write { document::replace_section("Exec", &report) } else { Ok(()) }
}

/// One Wherry with one container, and who enters it.
struct Entered {
    rest: Rest,
    client: Client,
    socket: PathBuf,
    fifos: PathBuf,
    container: String,
}

async fn side_by_side(
    count: usize,
    oci_runtime: &str,
    interrupt: &Interrupt,
    service: &mut LocalService,
) -> Result<Vec<String>> {
    let entered = Entered::prepare(service).await?;
    let mut samples = [(); 4].map(|()| Samples::default());
    for number in 0..WARM_UP + count {
        interrupt.check()?;
        let taken = [
            entered.by_ctr(number)?,
            entered.by_request().await?,
            entered.by_session().await?,
            entered.nothing_by_ctr()?,
        ];
        if number >= WARM_UP {
            for (samples, taken) in samples.iter_mut().zip(taken) {
                samples.add(taken);
            }
        }
    }
    let names = ["ctr task exec", "wherry, one request", "wherry, a WebSocket", "ctr version, which runs nothing"];
    Ok(rows(oci_runtime, &names, &samples))
}

/// Ratios are to the first subject.
fn rows(oci_runtime: &str, names: &[&str], samples: &[Samples]) -> Vec<String> {
    let Some(first) = samples.first() else { return Vec::new() };
    let row = |(name, samples): (&&str, &Samples)| {
        let [half, most] = [50, 99].map(|percent| samples.percentile(percent));
        let ratio = |value: Duration, percent| value.as_secs_f64() / first.percentile(percent).as_secs_f64();
        format!(
            "| {name}, {oci_runtime} | {} | {} | {} | {:.2} | {:.2} |",
            samples.count(),
            Milliseconds(half),
            Milliseconds(most),
            ratio(half, 50),
            ratio(most, 99),
        )
    };
    names.iter().zip(samples).map(row).collect()
}

impl Entered {
    async fn prepare(service: &mut LocalService) -> Result<Self> {
        let registry = service.start_registry().await?;
        let image = recipes::tool()?.push(&registry.address(), "bench/busybox", "1").await?;
        service.start().await?;
        let rest = service.connect().await?;
        let container = ContainerSpec {
            image,
            command: ["sh", "-c", "while :; do sleep 100 & wait; done"].map(str::to_owned).to_vec(),
            cpu: Some("1".to_owned()),
            memory: Some("64Mi".to_owned()),
            ..ContainerSpec::default()
        };
        let body = InstanceCreate {
            name: Some(INSTANCE.to_owned()),
            containers: vec![container],
            ..InstanceCreate::default()
        };
        let id = rest.create(&body).await?.id;
        let waited = rest.wait(INSTANCE, InstanceState::Running).await?;
        ensure!(waited.reached, "{INSTANCE} does not run but is {}", waited.instance.state);
        let ClientFile { key_id, key_secret } = service.key()?;
        let client = Client::new(&format!("http://{}", service.addresses().api), Credentials { key_id, key_secret })?;
        let socket = service.engine_socket();
        // The sandbox has the label too.
        let filter = format!("labels.\"{LABEL}\"=={id},labels.\"io.cri-containerd.kind\"==container");
        let listed = capture(ctr(&socket).args(["containers", "list", "--quiet", &filter]))?;
        let container = listed.lines().next().context("the engine does not know the container")?.to_owned();
        let fifos = service.data().join("bench-fifos");
        Ok(Self { rest, client, socket, fifos, container })
    }

    fn by_ctr(&self, number: usize) -> Result<Duration> {
        let mut command = ctr(&self.socket);
        command.args(["tasks", "exec", "--exec-id", &format!("ctr-{number}"), "--fifo-dir"]).arg(&self.fifos);
        command.args([self.container.as_str(), PROGRAM]).stdin(Stdio::null());
        let begun = Instant::now();
        capture(&mut command)?;
        Ok(begun.elapsed())
    }

    fn nothing_by_ctr(&self) -> Result<Duration> {
        let mut command = ctr(&self.socket);
        command.arg("version").stdin(Stdio::null());
        let begun = Instant::now();
        capture(&mut command)?;
        Ok(begun.elapsed())
    }

    async fn by_request(&self) -> Result<Duration> {
        let path = format!("/{INSTANCE}/containers/main/exec");
        let begun = Instant::now();
        let done: serde_json::Value = self.rest.post(&path, &json!({ "command": [PROGRAM] })).await?;
        let taken = begun.elapsed();
        ensure!(done.get("exit_code") == Some(&json!(0)), "`true` ended with {done}");
        Ok(taken)
    }

    async fn by_session(&self) -> Result<Duration> {
        let options = ExecOptions { command: vec![PROGRAM.to_owned()], ..ExecOptions::default() };
        let begun = Instant::now();
        let (_writer, mut reader) = self.client.exec_session(PROJECT, INSTANCE, "main", &options).await?;
        let heard = reader.next().await?;
        let taken = begun.elapsed();
        ensure!(heard == Heard::Ended(0), "`true` said {heard:?}");
        Ok(taken)
    }
}

/// By which the engine's containers name their instance.
const LABEL: &str = "wherry/instance";

/// The engine's own tool, for the containers of its Kubernetes plugin.
fn ctr(socket: &std::path::Path) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_first_subject() {
        let samples = [10, 15].map(|millis| {
            let mut samples = Samples::default();
            samples.add(Duration::from_millis(millis));
            samples
        });
        assert_eq!(rows("crun", &["a", "b"], &samples)[1], "| b, crun | 1 | 15.0 | 15.0 | 1.50 | 1.50 |");
    }
}
