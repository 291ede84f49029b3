//! `wherry events`.

use futures_util::StreamExt as _;
use wherry_api_types::Event;

use super::failure::Failure;
use super::output;
use super::session::Session;
use super::text::{clean, short_time};
use crate::cli::EventsArgs;

pub(super) async fn run(session: &Session, args: &EventsArgs) -> Result<(), Failure> {
    let mut events = session.events(args.name.as_deref(), args.story.after, args.story.follow).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        if args.story.json {
            let text = serde_json::to_string(&event).map_err(|error| Failure::failed(error.to_string()))?;
            output::line(&text)?;
        } else {
            output::line(&render(&event))?;
        }
    }
    Ok(())
}

/// One line of fixed columns: a stream has no widths to look ahead to.
fn render(event: &Event) -> String {
    let line = format!(
        "{:>6}  {}  {:<20}  {:<18}  {}{}",
        event.seq,
        short_time(&event.at),
        clean(&event.instance),
        event.kind.as_str(),
        clean(&event.message),
        by(event)
    );
    line.trim_end().to_owned()
}

/// Who asked for it, behind its sentence.
pub(super) fn by(event: &Event) -> String {
    event.actor.as_deref().map(|actor| format!(" (by {})", clean(actor))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wherry_api_types::{EventKind, InstanceState};

    use super::*;

    #[test]
    fn a_line() {
        let mut event = Event {
            seq: 42,
            instance_id: "x".into(),
            instance: "web".into(),
            kind: EventKind::ContainerStarted,
            at: "2026-03-01T12:00:00.5Z".into(),
            state: InstanceState::Running,
            generation: 1,
            message: "container main started, run 1\nand more".into(),
            actor: None,
        };
        assert_eq!(
            render(&event),
            "    42  2026-03-01 12:00:00  web                   container_started   container main started, run 1 and more"
        );
        event.actor = Some("key:1".into());
        assert!(render(&event).ends_with("run 1 and more (by key:1)"));
    }
}
