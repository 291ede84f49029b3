//! `wherry admin drain`: ask, then show how the machine empties until it is empty.
//!
//! Ending the command does not end the drain. A service that is away for a moment, as while it is upgraded, does not end the
//! command either.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wherry_api_types::{Node, NodeDrain, NodeDrainRequest};

use super::admin::render_open;
use super::failure::{Exit, Failure};
use super::output;
use super::session::Session;
use super::text::clean;
use crate::cli::DrainArgs;

/// How often the machine is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A service that is away for longer is given up.
const AWAY_MOST: Duration = Duration::from_mins(1);

const TICK: Duration = Duration::from_millis(100);
const TEMPLATE: &str = "{prefix} {bar:30} {pos}/{len} {msg} {elapsed}";

pub(super) async fn run(session: &Session, args: &DrainArgs) -> Result<(), Failure> {
    let client = session.client();
    if args.cancel {
        return output::line(&render_open(&client.cancel_drain(&args.node).await?));
    }
    let request = NodeDrainRequest { grace_seconds: Some(grace_seconds(args.grace)?), then: Some(args.then) };
    let node = client.drain_node(&args.node, &request).await?;
    let name = clean(&node.name);
    if args.no_wait {
        return output::line(&format!("{name} is being emptied: see it with `wherry admin nodes`"));
    }
    let mut progress = Progress::start(&name);
    let emptied = tokio::select! {
        emptied = follow(session, node, &mut progress) => emptied,
        _ = tokio::signal::ctrl_c() => Err(Failure::failed(format!(
            "not waiting any more; the drain of {name} goes on: end it with `wherry admin drain {name} --cancel`"
        ))),
    };
    progress.end();
    emptied?;
    output::line(&format!("{name} is empty; it takes new instances again after `wherry admin drain {name} --cancel`"))
}

fn grace_seconds(grace: Duration) -> Result<u32, Failure> {
    let seconds = u32::try_from(grace.as_secs()).ok().filter(|_| grace.subsec_nanos() == 0);
    seconds.ok_or_else(|| Failure::new(Exit::Usage, "--grace counts whole seconds, up to 168h"))
}

/// Looks until nothing is left.
async fn follow(session: &Session, mut node: Node, progress: &mut Progress) -> Result<(), Failure> {
    let mut heard_of = Instant::now();
    // By its id: the name may go to another machine.
    let id = node.id.clone();
    loop {
        let Some(drain) = &node.drain else {
            return Err(Failure::failed(format!("the drain of {} was cancelled by somebody", clean(&node.name))));
        };
        progress.show(drain);
        if drain.left == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        match session.client().node(&id).await.map_err(Failure::from) {
            Ok(seen) => {
                node = seen;
                heard_of = Instant::now();
            }
            Err(failure) if failure.is_server_away() && heard_of.elapsed() < AWAY_MOST => {}
            // Only an empty machine can be removed.
            Err(Failure::Told { exit: Exit::NotFound, .. }) => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}

/// A bar on a terminal, a line per change elsewhere, on standard error.
struct Progress {
    name: String,
    bar: Option<ProgressBar>,
    said: String,
    /// The most instances that were known to be there: a service that was restarted counts anew who has left.
    most: u32,
}

impl Progress {
    fn start(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            // A template that does not parse would be a bug that the test below finds; the bar then keeps its look.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { name: name.to_owned(), bar, said: String::new(), most: 0 }
    }

    fn show(&mut self, drain: &NodeDrain) {
        self.most = self.most.max(drain.left.saturating_add(drain.gone));
        let step = step(drain);
        match &self.bar {
            Some(bar) => {
                bar.set_length(self.most.into());
                bar.set_position(self.most.saturating_sub(drain.left).into());
                bar.set_message(step);
            }
            None if step != self.said => {
                eprintln!("{}: {step}", self.name);
                self.said = step;
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Where the drain is, in words.
fn step(drain: &NodeDrain) -> String {
    let counts = [(drain.moving, "moving"), (drain.stopping, "stopping"), (drain.staying, "staying")];
    let parts: Vec<String> =
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let what = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let waits = if drain.waits_for_node { "; the machine is silent, waiting for it" } else { "" };
    format!("{} left{what}{waits}", drain.left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::drain;

    #[test]
    fn steps() {
        let mut drain = drain();
        assert_eq!(step(&drain), "0 left");
        (drain.left, drain.moving, drain.staying) = (5, 3, 2);
        assert_eq!(step(&drain), "5 left: 3 moving, 2 staying");
        (drain.moving, drain.stopping, drain.waits_for_node) = (0, 3, true);
        assert_eq!(step(&drain), "5 left: 3 stopping, 2 staying; the machine is silent, waiting for it");
    }

    #[test]
    fn graces_are_whole_seconds() {
        assert_eq!(grace_seconds(Duration::ZERO), Ok(0));
        assert!(grace_seconds(Duration::from_millis(500)).is_err());
    }

    #[test]
    fn the_template_parses() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
