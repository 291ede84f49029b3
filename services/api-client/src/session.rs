//! Conversations with the inside of an instance, over a WebSocket of the subprotocol `wherry.v1`.
//!
//! Nothing piles up here: the service is held back while nobody reads, and a writer waits while the inside does not take more.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use wherry_api_types::{
    Channel, MAX_SESSION_MESSAGE_BYTES, SESSION_PROTOCOL, SessionCommand, SessionEnd, TerminalSize,
};

use crate::error::ClientError;
use crate::instances::instance;
use crate::transport::{Call, Client, segment};

/// The longest message that is read; the last one may carry a long problem.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// How a program is run.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether it gets input.
    pub stdin: bool,
    /// The size of its terminal, if it gets one.
    pub tty: Option<TerminalSize>,
}

/// What is heard from the inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Output; of a terminal or a port, all there is.
    Stdout(Vec<u8>),
    /// Errors.
    Stderr(Vec<u8>),
    /// The end, with the exit code. Nothing follows.
    Ended(i32),
}

/// To the inside. Dropping it ends nothing; dropping both halves does.
#[derive(Debug)]
pub struct SessionWriter {
    sink: SplitSink<WebSocketStream<Upgraded>, Message>,
    server: String,
}

/// From the inside.
#[derive(Debug)]
pub struct SessionReader {
    stream: SplitStream<WebSocketStream<Upgraded>>,
    server: String,
}

impl SessionWriter {
    /// Sends input, in pieces where it is long.
    pub async fn data(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for piece in bytes.chunks(MAX_SESSION_MESSAGE_BYTES) {
            self.send(Message::Binary(Channel::Stdin.message(piece).into())).await?;
        }
        Ok(())
    }

    /// Says that there is no more input.
    pub async fn end_of_input(&mut self) -> Result<(), ClientError> {
        self.command(SessionCommand::EndOfInput(true)).await
    }

    /// Says that the terminal has another size now.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        self.command(SessionCommand::Resize(size)).await
    }

    /// Leaves.
    pub async fn close(&mut self) {
        self.sink.send(Message::Close(None)).await.ok();
    }

    async fn command(&mut self, command: SessionCommand) -> Result<(), ClientError> {
        // Numbers and a flag: writing them as JSON cannot fail.
        let json = serde_json::to_vec(&command).unwrap_or_default();
        self.send(Message::Binary(Channel::Control.message(&json).into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), ClientError> {
        self.sink.send(message).await.map_err(|_| ClientError::BrokenOff { server: self.server.clone() })
    }
}

impl SessionReader {
    /// The next message. After [`Heard::Ended`] and after an error there is none.
    pub async fn next(&mut self) -> Result<Heard, ClientError> {
        let broken = || ClientError::BrokenOff { server: self.server.clone() };
        loop {
            let message = match self.stream.next().await {
                Some(Ok(Message::Binary(message))) => message,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Text(_) | Message::Close(_)) | Err(_)) | None => return Err(broken()),
            };
            return match Channel::split(&message) {
                Some((Channel::Stdout, bytes)) => Ok(Heard::Stdout(bytes.to_vec())),
                Some((Channel::Stderr, bytes)) => Ok(Heard::Stderr(bytes.to_vec())),
                Some((Channel::Control, json)) => match serde_json::from_slice(json) {
                    Ok(SessionEnd::ExitCode(code)) => Ok(Heard::Ended(code)),
                    Ok(SessionEnd::Error(problem)) => Err(ClientError::Problem(Box::new(problem))),
                    Err(_) => Err(broken()),
                },
                Some((Channel::Stdin, _)) | None => Err(broken()),
            };
        }
    }
}

impl Client {
    /// Runs a program and talks to it. Asked for once: a program may do something that is not to be done twice.
    pub async fn exec_session(
        &self,
        project: &str,
        name: &str,
        container: &str,
        options: &ExecOptions,
    ) -> Result<(SessionWriter, SessionReader), ClientError> {
        let path = format!("{}/containers/{}/exec", instance(project, name), segment(container));
        let call = Call::new(Method::GET, path, false).query("stdin", options.stdin);
        let call = options.command.iter().fold(call, |call, word| call.query("command", word));
        self.session(sized(call, options.tty)).await
    }

    /// Watches the main program of a container from now on, and talks to it where it has an input.
    pub async fn attach(
        &self,
        project: &str,
        name: &str,
        container: &str,
        stdin: bool,
        tty: Option<TerminalSize>,
    ) -> Result<(SessionWriter, SessionReader), ClientError> {
        let path = format!("{}/containers/{}/attach", instance(project, name), segment(container));
        self.session(sized(Call::new(Method::GET, path, false).query("stdin", stdin), tty)).await
    }

    /// Connects to a TCP port inside of an instance.
    pub async fn port_forward(
        &self,
        project: &str,
        name: &str,
        port: u16,
    ) -> Result<(SessionWriter, SessionReader), ClientError> {
        let path = format!("{}/port-forward", instance(project, name));
        self.session(Call::new(Method::GET, path, false).query("port", port)).await
    }

    async fn session(&self, mut call: Call<'_>) -> Result<(SessionWriter, SessionReader), ClientError> {
        call.may_be_silent = true;
        let key = generate_key();
        let call = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", SESSION_PROTOCOL),
            ("sec-websocket-key", key.as_str()),
        ]
        .into_iter()
        .fold(call, |call, (name, value)| call.header(name, value));
        let answer = self.send_for_upgrade(&call).await?;
        let accepted = answer.headers().get("sec-websocket-accept").map(|value| value.as_bytes().to_vec());
        if accepted != Some(derive_accept_key(key.as_bytes()).into_bytes()) {
            return Err(self.understand_failure(101, b"an upgrade to something that is not a WebSocket"));
        }
        let socket = answer.upgrade().await.map_err(|source| self.away(source))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .write_buffer_size(0);
        let socket = WebSocketStream::from_raw_socket(socket, Role::Client, Some(config)).await;
        let (sink, stream) = socket.split();
        let server = self.server().to_owned();
        Ok((SessionWriter { sink, server: server.clone() }, SessionReader { stream, server }))
    }
}

fn sized(call: Call<'_>, tty: Option<TerminalSize>) -> Call<'_> {
    match tty {
        Some(size) => call.query("tty", true).query("columns", size.columns).query("rows", size.rows),
        None => call,
    }
}
