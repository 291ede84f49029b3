//! Conversations, played: a few programs whose end tests can choose, and a port that says what it hears.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{StreamExt, sink, stream};
use tokio::sync::mpsc;
use wherry_agent_api::{
    NodeError, Session, SessionInput, SessionKind, SessionOutput, SessionQuery, SessionSink, SessionStream,
};

use super::ScriptedAgent;

/// Messages that wait on their way to a played program.
const QUEUE: usize = 4;

/// What comes after a program's first words.
enum Then {
    /// It says what it hears, and ends with 0 at the end of its input.
    Echo,
    /// It never ends.
    Silence,
    /// Nothing.
    End,
}

impl ScriptedAgent {
    /// Plays these programs, and knows no other:
    /// - `cat`: says what it hears, and ends with 0 at the end of its input;
    /// - `exit N`: complains its own words and ends with N;
    /// - `size`: says the size of its terminal, then each that it is told, then as `cat`;
    /// - `sleep`: never ends;
    /// - `break`: its connection breaks off.
    ///
    /// A port echoes, 81 is closed. Who attaches is told `attached`, then hears itself.
    pub(super) fn converse(&self, query: SessionQuery) -> Result<Session, NodeError> {
        self.require_running(query.instance, query.generation)?;
        let (first, then) = script(query.kind)?;
        let (input, heard) = mpsc::channel(QUEUE);
        let held = Arc::new(());
        self.machine().sessions.push(Arc::downgrade(&held));
        let rest: SessionStream = match then {
            Then::Echo => echo(heard),
            Then::Silence => stream::once(deaf(heard)).boxed(),
            Then::End => stream::empty().boxed(),
        };
        let output = stream::iter(first).chain(rest).map(move |message| {
            let _: &Arc<()> = &held;
            message
        });
        Ok(Session { input: ear(input), output: output.boxed() })
    }

    /// Conversations that nobody has left yet.
    pub fn conversations(&self) -> usize {
        let mut machine = self.machine();
        machine.sessions.retain(|session| session.strong_count() > 0);
        machine.sessions.len()
    }
}

type Words = Vec<Result<SessionOutput, NodeError>>;

fn script(kind: SessionKind) -> Result<(Words, Then), NodeError> {
    let says = |text: &str| Ok(SessionOutput::Stdout(text.as_bytes().to_vec()));
    let (command, stdin, tty) = match kind {
        SessionKind::Port { port: 81 } => {
            return Err(NodeError::Refused("nothing listens on port 81 in there".to_owned()));
        }
        SessionKind::Port { .. } => return Ok((Vec::new(), Then::Echo)),
        SessionKind::Attach { .. } => return Ok((vec![says("attached\n")], Then::Echo)),
        SessionKind::Exec { command, stdin, tty, .. } => (command, stdin, tty),
    };
    Ok(match command.first().map(String::as_str) {
        Some("cat") if stdin => (Vec::new(), Then::Echo),
        Some("cat") => (vec![Ok(SessionOutput::Exited(0))], Then::End),
        Some("exit") => {
            let code = command.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
            let complaint = SessionOutput::Stderr(command.join(" ").into_bytes());
            (vec![Ok(complaint), Ok(SessionOutput::Exited(code))], Then::End)
        }
        Some("size") => {
            let size = tty.map_or("none\n".to_owned(), |size| format!("{}x{}\n", size.columns, size.rows));
            (vec![says(&size)], Then::Echo)
        }
        Some("sleep") => (Vec::new(), Then::Silence),
        Some("break") => (vec![Err(NodeError::Unavailable("the link to 10.9.8.7 broke".to_owned()))], Then::End),
        _ => return Err(NodeError::Refused("there is no such program in the container".to_owned())),
    })
}

/// A full queue holds the speaker back.
fn ear(input: mpsc::Sender<SessionInput>) -> SessionSink {
    let sink = sink::unfold(input, |input, message| async move {
        input.send(message).await.map_err(|_| NodeError::Unavailable("the program has ended".to_owned()))?;
        Ok(input)
    });
    Pin::from(Box::new(sink) as Box<_>)
}

fn echo(heard: mpsc::Receiver<SessionInput>) -> SessionStream {
    let said = stream::unfold(Some(heard), |heard| async move {
        let mut heard = heard?;
        Some(match heard.recv().await {
            Some(SessionInput::Data(bytes)) => (Ok(SessionOutput::Stdout(bytes)), Some(heard)),
            Some(SessionInput::Resize(size)) => {
                let text = format!("{}x{}\n", size.columns, size.rows);
                (Ok(SessionOutput::Stdout(text.into_bytes())), Some(heard))
            }
            Some(SessionInput::End) | None => (Ok(SessionOutput::Exited(0)), None),
        })
    });
    said.boxed()
}

async fn deaf(mut heard: mpsc::Receiver<SessionInput>) -> Result<SessionOutput, NodeError> {
    while heard.recv().await.is_some() {}
    std::future::pending().await
}
