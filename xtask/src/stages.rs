//! A run of several stages that ends at the first failure and tells how long each took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The stages that have run so far.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<(String, Duration, bool)>,
}

impl Stages {
    /// Runs one stage under a heading. After a failure the caller is expected to end, by `?`.
    pub(crate) fn run(&mut self, name: &str, stage: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n=== {name}");
        let started = Instant::now();
        let outcome = stage();
        self.done.push((name.to_owned(), started.elapsed(), outcome.is_ok()));
        outcome.with_context(|| format!("stage `{name}`"))
    }
}

/// The table is printed however the run ends.
impl Drop for Stages {
    fn drop(&mut self) {
        println!();
        for (name, took, passed) in &self.done {
            println!("{:>8.1} s  {}  {name}", took.as_secs_f64(), if *passed { "ok    " } else { "FAILED" });
        }
    }
}
