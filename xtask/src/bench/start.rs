//! `cargo xtask bench start`: from the order to the first byte, side by side.
//!
//! The subjects take turns, one start each, so that what disturbs the machine disturbs them alike.

use anyhow::{Context, Result, ensure};
use wherry_demo_images::recipes;

use super::containerd::{Containerd, CtrRun};
use super::first_byte::Subject;
use super::machine;
use super::runc::Runc;
use super::samples::{Milliseconds, Samples};
use crate::interrupt::Interrupt;
use crate::setup;

/// The first starts fill caches and are not counted.
const WARM_UP: usize = 3;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Starts of each subject that count
    #[arg(long, default_value_t = 50)]
    count: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root may start containers: run this as root (sudo)");
    setup::install(setup::Purpose::Demo)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let scratch =
        tempfile::Builder::new().prefix("wherry-bench-").tempdir().context("cannot create a scratch folder")?;
    let head = machine::describe();
    let program = recipes::first_byte_tree()?;
    let containerd = Containerd::start(&scratch.path().join("containerd"), &recipes::first_byte()?)?;
    let mut subjects: Vec<Box<dyn Subject + '_>> = vec![
        Box::new(CtrRun { containerd: &containerd, runtime: "runc", name: "ctr run -d" }),
        Box::new(CtrRun { containerd: &containerd, runtime: "crun", name: "ctr run -d, crun" }),
        Box::new(Runc::prepare(scratch.path(), &program)?),
    ];
    let samples = measure(&mut subjects, arguments.count, &interrupt)?;
    let names: Vec<String> = subjects.iter().map(|subject| subject.name().to_owned()).collect();
    for line in head {
        println!("- {line}");
    }
    println!("\n{}", table(&names, &samples).join("\n"));
    Ok(())
}

fn measure(subjects: &mut [Box<dyn Subject + '_>], count: usize, interrupt: &Interrupt) -> Result<Vec<Samples>> {
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
