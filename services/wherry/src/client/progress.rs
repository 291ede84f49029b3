//! How an instance gets there: a bar on a terminal, a line per step elsewhere, always on standard error.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wherry_api_types::{Instance, InstanceState};

use super::text::{bytes, clean};

const WITH_BYTES: &str = "{prefix} {msg} {wide_bar} {bytes}/{total_bytes} {elapsed}";
const WITHOUT: &str = "{prefix} {spinner} {msg} {elapsed}";

const TICK: Duration = Duration::from_millis(100);

/// Shows one instance.
pub(super) struct Progress {
    name: String,
    bar: Option<ProgressBar>,
    has_total: bool,
    said: String,
}

impl Progress {
    pub(super) fn start(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { name: name.to_owned(), bar, has_total: false, said: String::new() }
    }

    pub(super) fn show(&mut self, instance: &Instance) {
        let step = step(instance);
        let Some(bar) = &self.bar else {
            if step != self.said {
                eprintln!("{}: {step}", self.name);
                self.said = step;
            }
            return;
        };
        match &instance.progress {
            Some(progress) if progress.total_bytes > 0 => {
                if !self.has_total {
                    set_style(bar, WITH_BYTES);
                    self.has_total = true;
                }
                bar.set_length(progress.total_bytes);
                bar.set_position(progress.done_bytes.min(progress.total_bytes));
            }
            _ => {
                set_style(bar, WITHOUT);
                self.has_total = false;
            }
        }
        bar.set_prefix(self.name.clone());
        bar.set_message(match layers(instance) {
            Some(layers) => format!("{step}, {layers}"),
            None => step,
        });
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A template that does not parse would be a bug that the test below finds; the bar then keeps its look.
fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// The present step in words. Bytes are left out: without a bar each of them would be a line.
fn step(instance: &Instance) -> String {
    let restarts: u32 = instance.containers.iter().map(|container| container.restart_count).sum();
    let mut step = match instance.state {
        InstanceState::Scheduled => "accepted".to_owned(),
        InstanceState::Pulling => "pulling the image".to_owned(),
        InstanceState::Starting if restarts > 0 => format!("ended, restart {restarts}"),
        state => state.to_string(),
    };
    if let (InstanceState::Pulling | InstanceState::Starting, Some(message)) = (instance.state, &instance.message) {
        step = format!("{step}: {}", clean(message));
    }
    let pulled =
        instance.progress.filter(|progress| progress.total_bytes > 0 && progress.done_bytes >= progress.total_bytes);
    if let (InstanceState::Pulling, Some(progress)) = (instance.state, pulled) {
        step = format!("unpacking {}", bytes(progress.total_bytes));
    }
    step
}

/// How many layers are here, while some are not. Left out of the step: without a bar each of them would be a line.
fn layers(instance: &Instance) -> Option<String> {
    let progress = instance.progress.filter(|_| instance.state == InstanceState::Pulling)?;
    let is_at_it = progress.done_layers < progress.total_layers;
    is_at_it.then(|| format!("{} of {} layers", progress.done_layers, progress.total_layers))
}

#[cfg(test)]
mod tests {
    use wherry_api_types::Progress as Pull;

    use super::*;
    use crate::client::testing::instance;

    #[test]
    fn steps() {
        let mut web = instance("web");
        assert_eq!(step(&web), "running");
        web.state = InstanceState::Starting;
        assert_eq!(step(&web), "starting");
        web.containers[0].restart_count = 2;
        web.message = Some("exit code 1".into());
        assert_eq!(step(&web), "ended, restart 2: exit code 1");
        web.state = InstanceState::Pulling;
        web.message = None;
        web.progress = Some(Pull { done_bytes: 10, total_bytes: 2048, done_layers: 1, total_layers: 3 });
        assert_eq!(step(&web), "pulling the image");
        assert_eq!(layers(&web).as_deref(), Some("1 of 3 layers"));
        web.progress = Some(Pull { done_bytes: 2048, total_bytes: 2048, done_layers: 3, total_layers: 3 });
        assert_eq!(layers(&web), None);
        assert_eq!(step(&web), "unpacking 2.0 KiB");
    }

    #[test]
    fn the_templates_parse() {
        for template in [WITH_BYTES, WITHOUT] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
