//! Numbered steps with their time.

use std::time::Instant;

use anyhow::{Context, Result};

/// Counts the steps.
#[derive(Default)]
pub(crate) struct Steps {
    count: usize,
}

impl Steps {
    /// How many there were.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Runs a step that blocks.
    pub(crate) fn run<T>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = self.begin(title);
        let outcome = work();
        Self::finish(title, begun, outcome)
    }

    /// Awaits a step.
    pub(crate) async fn step<T>(&mut self, title: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = self.begin(title);
        let outcome = work.await;
        Self::finish(title, begun, outcome)
    }

    fn begin(&mut self, title: &str) -> Instant {
        self.count += 1;
        println!("\n{}. {title}", self.count);
        Instant::now()
    }

    fn finish<T>(title: &str, begun: Instant, outcome: Result<T>) -> Result<T> {
        let took = begun.elapsed();
        let word = if outcome.is_ok() { "done in" } else { "failed after" };
        println!("   {word} {:.3} s", took.as_secs_f64());
        outcome.with_context(|| format!("step \"{title}\""))
    }
}
