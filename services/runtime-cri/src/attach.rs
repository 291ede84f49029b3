//! Main programs that have an input or a terminal, by the engine's own attach.
//!
//! Only the engine holds the streams of a main program, and gives them over WebSockets on the machine's loopback address, each for
//! one use of a token. What it does with the input of a connection that ends is the container's: nothing, or, with `stdin_once`,
//! it closes the program's input. In the latter case input has a connection of its own, so that its end is not that of the output.
//!
//! The engine makes the program wait for whoever attached and does not take its output. So what comes is always taken from it,
//! and whoever does not take it from here for [`AttachRequest::PATIENCE`] is cut off.
//!
//! Every connection asks for input, whether any is given or not: of one that does not the engine reads an end at once, and then
//! takes the output away or closes the program's input.
//!
//! Rejected: the named pipe of the input, written past the engine (the engine keeps a writer of its own, so the program would
//! never read an end), and the log as the output (it has a line when that is ended, which a prompt never is).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::{CancellationToken, DropGuard};
use wherry_runtime::{
    AttachRequest, ContainerId, ContainerState, Conversation, Reading, Result, RuntimeError, TalkingProgram,
    TerminalSize, Writing,
};

use crate::connection::{Connection, READ_LIMIT, answered, request};
use crate::container;
use crate::exec::{Process, Program};
use crate::failure::About;
use crate::generated::runtime::v1;

/// Kubernetes' subprotocol with a status at the end.
const PROTOCOL: &str = "v4.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;

/// What a pipe of the kernel holds.
const PIPE_BYTES: usize = 64 * 1024;
const PIECE_BYTES: usize = 16 * 1024;
/// The engine closes a connection on which nobody says anything for ten minutes.
const KEEP_ALIVE: Duration = Duration::from_mins(1);
/// How long the engine may take to open a connection.
const OPENS: Duration = Duration::from_secs(15);
/// How long what was given may still be carried to the program when its giver is gone.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the engine may take to say of a program that ended how it did.
const SETTLES: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

type Socket = WebSocketStream<TcpStream>;

/// What the engine says of a container when it is asked for more than its status.
#[derive(Debug, Default, Deserialize)]
struct Information {
    #[serde(default)]
    config: Streams,
}

#[derive(Debug, Default, Deserialize)]
struct Streams {
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    stdin_once: bool,
    #[serde(default)]
    tty: bool,
}

async fn status(connection: &Connection, id: &ContainerId, verbose: bool) -> Result<v1::ContainerStatusResponse> {
    let message = v1::ContainerStatusRequest { container_id: id.to_string(), verbose };
    let mut client = connection.runtime();
    let answer = client.container_status(request(message, READ_LIMIT));
    answered("ContainerStatus", About::Container(id.as_str()), READ_LIMIT, answer).await
}

/// See [`wherry_runtime::ContainerRuntime::attach`].
pub(crate) async fn begin(connection: &Connection, id: &ContainerId, asked: &AttachRequest) -> Result<Conversation> {
    let known = status(connection, id, true).await?;
    let streams = known.info.get("info").and_then(|text| serde_json::from_str::<Information>(text).ok());
    let Streams { stdin, stdin_once, tty } = streams.unwrap_or_default().config;
    let now = container::status(known.status.unwrap_or_default(), &BTreeMap::new());
    if now.state != ContainerState::Running {
        return Err(RuntimeError::NotRunning { id: id.to_string() });
    }
    asked.check(stdin, stdin_once, tty)?;
    let attach = |output: bool| v1::AttachRequest {
        container_id: id.to_string(),
        stdin: true,
        tty,
        stdout: output,
        stderr: output && !tty,
    };
    let (to, from) = open(connection, attach(true)).await?.split();
    let own = if asked.stdin && stdin_once { Some(open(connection, attach(false)).await?.split()) } else { None };
    let process = Process { container: id.to_string(), exec: String::new() };
    let program = Program::new(connection.clone(), process, tty);
    if let Some(size) = asked.tty {
        program.resize(size).await?;
    }
    let (stdout, our_stdout) = duplex(PIPE_BYTES);
    let (stderr, our_stderr) = (!tty).then(|| duplex(PIPE_BYTES)).unzip();
    let (input, our_input) = asked.stdin.then(|| duplex(PIPE_BYTES)).unzip();
    let (cutting, cut) = watch::channel(false);
    let hearing = tokio::spawn(hear(from, our_stdout, our_stderr, cutting)).abort_handle();
    let over = CancellationToken::new();
    match own {
        None => drop(tokio::spawn(say(to, our_input, None, over.clone()))),
        Some((own_to, own_from)) => {
            tokio::spawn(say(to, None, None, over.clone()));
            tokio::spawn(say(own_to, our_input, Some(own_from), over.clone()));
        }
    }
    let reading = |end: DuplexStream| -> Reading { Box::new(end) };
    let over = over.drop_guard();
    let attached = Attached { connection: connection.clone(), id: id.clone(), program, cut, hearing, _over: over };
    Ok(Conversation {
        input: input.map(|end| -> Writing { Box::new(end) }),
        stdout: reading(stdout),
        stderr: stderr.map(reading),
        program: Box::new(attached),
    })
}

/// A connection on which the engine has said that it is open.
async fn open(connection: &Connection, message: v1::AttachRequest) -> Result<Socket> {
    let id = message.container_id.clone();
    let mut client = connection.runtime();
    let answer = client.attach(request(message, READ_LIMIT));
    let url = answered("Attach", About::Container(&id), READ_LIMIT, answer).await?.url;
    let failed = |why: String| RuntimeError::Internal { message: format!("the streams of a program: {why}") };
    let opened = async {
        let url = url.replacen("http://", "ws://", 1);
        let mut request = url.into_client_request().map_err(|error| failed(error.to_string()))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
        let address = request.uri().authority().and_then(|authority| authority.as_str().parse::<SocketAddr>().ok());
        let address = address.ok_or_else(|| failed(format!("{} names no address", request.uri())))?;
        let stream = TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let (mut socket, _) = client_async(request, stream).await.map_err(|error| failed(error.to_string()))?;
        // Its first message is empty, and says that it listens.
        match socket.next().await {
            Some(Ok(Message::Binary(first))) if first.len() <= 1 => Ok(socket),
            other => Err(failed(format!("the engine greets with {other:?}"))),
        }
    };
    timeout(OPENS, opened).await.map_err(|_| RuntimeError::Timeout { call: "Attach", after: OPENS })?
}

/// Takes what the engine gives, and gives it to who is attached. Whatever ends that but the program's own end cuts that one off.
async fn hear(
    mut from: SplitStream<Socket>,
    mut stdout: DuplexStream,
    mut stderr: Option<DuplexStream>,
    cut: watch::Sender<bool>,
) {
    while let Some(Ok(message)) = from.next().await {
        let Message::Binary(message) = message else { continue };
        let Some((channel, carried)) = message.split_first() else { continue };
        let stream = match *channel {
            STDOUT => &mut stdout,
            STDERR => match stderr.as_mut() {
                Some(stderr) => stderr,
                None => continue,
            },
            STATUS if is_success(carried) => return,
            STATUS if !carried.is_empty() => break,
            _ => continue,
        };
        if !given(stream, carried).await {
            break;
        }
    }
    cut.send_replace(true);
}

fn is_success(status: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    serde_json::from_slice::<Status>(status).is_ok_and(|status| status.status == "Success")
}

/// Whether it was taken; each piece of it may take its time.
async fn given(stream: &mut DuplexStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match timeout(AttachRequest::PATIENCE, stream.write(bytes)).await {
            Ok(Ok(count @ 1..)) => bytes = bytes.get(count..).unwrap_or_default(),
            _ => return false,
        }
    }
    true
}

/// Carries input to the engine as long as somebody is attached, and a little longer what was given before. Where the connection is
/// for input alone it is closed at the end of that.
async fn say(
    mut to: SplitSink<Socket, Message>,
    input: Option<DuplexStream>,
    own: Option<SplitStream<Socket>>,
    over: CancellationToken,
) {
    let too_late = async {
        over.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let said = async {
        if carry(&mut to, input, own.is_some(), &over).await
            && let Some(mut from) = own
            && to.send(Message::Close(None)).await.is_ok()
        {
            // The engine has read all before it closes its side.
            while let Some(Ok(_)) = from.next().await {}
        }
    };
    tokio::select! {
        biased;
        () = said => {}
        () = too_late => tracing::debug!("input was not taken before its giver was gone"),
    }
}

/// Whether it came to its end.
async fn carry(
    to: &mut SplitSink<Socket, Message>,
    mut input: Option<DuplexStream>,
    until_end: bool,
    over: &CancellationToken,
) -> bool {
    let mut piece = vec![STDIN; PIECE_BYTES];
    let mut alive = interval(KEEP_ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_silent = input.is_none();
        let read = async {
            match &mut input {
                Some(input) => input.read(piece.get_mut(1..).unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            biased;
            count = read => match count {
                Ok(count @ 1..) => piece.get(..=count).unwrap_or_default().to_vec(),
                _ if until_end => return true,
                _ => {
                    input = None;
                    continue;
                }
            },
            () = over.cancelled(), if is_silent => return true,
            _ = alive.tick() => Vec::new(),
        };
        if to.send(Message::Binary(message.into())).await.is_err() {
            return false;
        }
    }
}

/// A main program as one who is attached holds it.
struct Attached {
    connection: Connection,
    id: ContainerId,
    program: Program,
    cut: watch::Receiver<bool>,
    hearing: AbortHandle,
    _over: DropGuard,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

impl Attached {
    /// What the engine says of its end, which it may know a moment later than containerd.
    async fn exit_code(&self) -> Result<Option<i32>> {
        let since = Instant::now();
        loop {
            let known = match status(&self.connection, &self.id, false).await {
                Ok(known) => container::status(known.status.unwrap_or_default(), &BTreeMap::new()),
                Err(RuntimeError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            if known.state != ContainerState::Running || since.elapsed() > SETTLES {
                return Ok(known.exit_code);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl TalkingProgram for Attached {
    async fn resize(&self, size: TerminalSize) -> Result<()> {
        self.program.resize(size).await
    }

    async fn ended(&self) -> Result<i32> {
        let mut cut = self.cut.clone();
        let cut_off = async {
            if cut.wait_for(|cut| *cut).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = self.program.wait() => ended?,
            () = cut_off => return Err(RuntimeError::Detached { after: AttachRequest::PATIENCE }),
        };
        Ok(self.exit_code().await.ok().flatten().unwrap_or(ended))
    }

    async fn kill(&self) -> Result<()> {
        Ok(())
    }
}
