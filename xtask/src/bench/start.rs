//! `cargo xtask bench start`: from the order to the first byte, side by side.
//!
//! The subjects take turns, one start each, so that what disturbs the machine disturbs them alike.

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use wherry_demo_images::recipes;

use super::containerd::{Containerd, CtrRun};
use super::document;
use super::first_byte::{Subject, WARM_UP};
use super::machine;
use super::runc::Runc;
use super::samples::{Milliseconds, Samples};
use super::wherry::Wherry;
use crate::interrupt::Interrupt;
use crate::local::{self, LocalService, Profile};
use crate::setup;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Starts of each subject that count
    #[arg(long, default_value_t = 50)]
    count: usize,
    /// Keep the result in docs/benchmarks.md
    #[arg(long, conflicts_with = "dev")]
    write: bool,
    /// Measure a dev build, which is there sooner and slower in all it does
    #[arg(long)]
    dev: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root may start containers: run this as root (sudo)");
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    setup::install(setup::Purpose::Demo)?;
    let profile = if arguments.dev { Profile::Dev } else { Profile::Release };
    println!("building wherry ({profile} profile)");
    let binary = local::build(profile)?;
    interrupt.check()?;
    let mut service = LocalService::prepare("wherry-bench-", binary)?;
    let outcome = side_by_side(arguments.count, &runtime, &interrupt, &mut service);
    let ended = runtime.block_on(service.end());
    let report = outcome?;
    ended?;
    println!("\n{report}");
    if arguments.write { document::replace_section("Start", &report) } else { Ok(()) }
}

fn side_by_side(count: usize, runtime: &Runtime, interrupt: &Interrupt, service: &mut LocalService) -> Result<String> {
    let mut lines: Vec<String> = machine::describe().into_iter().map(|line| format!("- {line}")).collect();
    let scratch =
        tempfile::Builder::new().prefix("wherry-bench-").tempdir().context("cannot create a scratch folder")?;
    let image = recipes::first_byte()?;
    let containerd = Containerd::start(&scratch.path().join("containerd"), &image)?;
    let mut wherry = Wherry::start(runtime, service, &image)?;
    let idle = wherry.resident_mib()?;
    let mut runc = Runc::prepare(scratch.path(), &recipes::first_byte_tree()?)?;
    let mut ctr = CtrRun { containerd: &containerd, runtime: "runc", name: "ctr run -d" };
    let mut ctr_crun = CtrRun { containerd: &containerd, runtime: "crun", name: "ctr run -d, crun" };
    let mut subjects: [&mut dyn Subject; 4] = [&mut ctr, &mut ctr_crun, &mut runc, &mut wherry];
    let samples = measure(&mut subjects, count, interrupt)?;
    let names: Vec<String> = subjects.iter().map(|subject| subject.name().to_owned()).collect();
    lines.push(String::new());
    lines.extend(table(&names, &samples));
    lines.push(String::new());
    lines.extend(wherry.extras());
    lines.push(format!("- `wherry up` idle, before the first instance: {idle} MiB resident (target: below 60)"));
    Ok(lines.join("\n"))
}

fn measure(subjects: &mut [&mut dyn Subject], count: usize, interrupt: &Interrupt) -> Result<Vec<Samples>> {
    let mut samples: Vec<Samples> = subjects.iter().map(|_| Samples::default()).collect();
    for number in 0..WARM_UP + count {
        for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
            interrupt.check()?;
            let taken = subject.start_once(number).with_context(|| format!("{}, start {number}", subject.name()))?;
            if number >= WARM_UP {
                samples.add(taken);
            }
        }
    }
    Ok(samples)
}

/// Ratios are to the first subject.
fn table(names: &[String], samples: &[Samples]) -> Vec<String> {
    let mut lines = vec![
        "| subject | starts | p50 ms | p99 ms | p50 ratio | p99 ratio |".to_owned(),
        "|---|---:|---:|---:|---:|---:|".to_owned(),
    ];
    let Some(first) = samples.first() else { return lines };
    for (name, samples) in names.iter().zip(samples) {
        let [half, most] = [50, 99].map(|percent| samples.percentile(percent));
        let [half_ratio, most_ratio] = [(half, 50), (most, 99)]
            .map(|(value, percent)| value.as_secs_f64() / first.percentile(percent).as_secs_f64());
        lines.push(format!(
            "| {name} | {} | {} | {} | {half_ratio:.2} | {most_ratio:.2} |",
            samples.count(),
            Milliseconds(half),
            Milliseconds(most),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ratios_are_to_the_first_subject() {
        let samples = [10, 15].map(|millis| {
            let mut samples = Samples::default();
            samples.add(Duration::from_millis(millis));
            samples
        });
        let lines = table(&["a".to_owned(), "b".to_owned()], &samples);
        assert_eq!(lines[3], "| b | 1 | 15.0 | 15.0 | 1.50 | 1.50 |");
    }
}
