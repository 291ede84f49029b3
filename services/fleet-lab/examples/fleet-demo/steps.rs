//! Numbered steps with their time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Counts the steps.
pub(crate) struct Steps {
    next: usize,
    begun: Instant,
}

impl Steps {
    pub(crate) fn beginning_at(first: usize) -> Self {
        Self { next: first, begun: Instant::now() }
    }

    /// Awaits a step.
    pub(crate) async fn step<T>(&mut self, title: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        println!("\n{}. {title}", self.next);
        self.next += 1;
        let begun = Instant::now();
        let outcome = work.await;
        let word = if outcome.is_ok() { "done in" } else { "failed after" };
        println!("   {word} {:.3} s", begun.elapsed().as_secs_f64());
        outcome.with_context(|| format!("step \"{title}\""))
    }

    /// Since the first of them.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}
