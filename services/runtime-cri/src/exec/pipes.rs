//! The named pipes of programs, and the folders that they are in.
//!
//! A folder is named after its container and a number, which is all that is needed to end the program when it is all that is left of
//! it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::{AsyncReadExt as _, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use wherry_runtime::{ContainerId, Result, RuntimeError};

use super::program::{Exit, Process, Program};

const STDIN: &str = "in";
const STDOUT: &str = "out";
const STDERR: &str = "err";

/// Ctrl-D, which ends the input of a terminal.
const END_OF_TRANSMISSION: u8 = 4;
/// How long the shim may take to open its end of the input.
const SHIM_OPENS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(1);

/// The folder of the folders.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    next: AtomicU64,
    /// Names of the folders that this process looks after.
    claimed: Arc<Mutex<BTreeSet<String>>>,
}

/// A folder that is looked after; left to the sweep when it is dropped without being removed.
#[derive(Debug)]
pub(super) struct Claimed {
    path: PathBuf,
    name: String,
    process: Process,
    names: Arc<Mutex<BTreeSet<String>>>,
}

impl Room {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, next: AtomicU64::new(1), claimed: Arc::default() }
    }

    fn claimed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A folder that is new.
    pub(super) fn claim(&self, container: &ContainerId) -> Result<Claimed> {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&self.folder).map_err(|error| failed(&self.folder, error))?;
        builder.recursive(false);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("{container}.{number}");
            // Before it is there, or a sweep would take it for left over.
            let claimed = self.take(name, Process { container: container.to_string(), exec: exec_id(number) });
            match builder.create(&claimed.path) {
                Ok(()) => return Ok(claimed),
                // An earlier Wherry's that has not been swept yet.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&claimed.path, error)),
            }
        }
    }

    fn take(&self, name: String, process: Process) -> Claimed {
        self.claimed().insert(name.clone());
        Claimed { path: self.folder.join(&name), name, process, names: Arc::clone(&self.claimed) }
    }

    /// Folders that nobody looks after, which are looked after from now on.
    pub(super) fn left_over(&self) -> Vec<Claimed> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let left = names.filter(|name| !self.claimed().contains(name)).collect::<Vec<_>>();
        let process = |name: String| {
            let (container, number) = name.rsplit_once('.')?;
            let process = Process { container: container.to_owned(), exec: exec_id(number.parse().ok()?) };
            Some(self.take(name, process))
        };
        left.into_iter().filter_map(process).collect()
    }
}

fn exec_id(number: u64) -> String {
    format!("wherry-{number}")
}

fn failed(path: &Path, error: io::Error) -> RuntimeError {
    let message = format!("{}: {error}", path.display());
    if error.kind() == io::ErrorKind::StorageFull {
        return RuntimeError::DiskFull { message };
    }
    RuntimeError::Internal { message }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Claimed {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn process(&self) -> Process {
        self.process.clone()
    }

    /// A number that no other program of the container has, whichever Wherry began it: when its folder was made, in microseconds,
    /// or one more than the mark before, as the clock of a file system stands still for milliseconds.
    pub(super) fn mark(&self) -> Result<u64> {
        static LATEST: AtomicU64 = AtomicU64::new(0);
        let made = std::fs::metadata(&self.path).map_err(|error| failed(&self.path, error))?;
        let micros = made.ctime().saturating_mul(1_000_000).saturating_add(made.ctime_nsec() / 1_000);
        let micros = u64::try_from(micros).unwrap_or_default();
        let before = LATEST.fetch_max(micros, Ordering::Relaxed);
        Ok(if before < micros { micros } else { LATEST.fetch_add(1, Ordering::Relaxed).saturating_add(1) })
    }

    /// Makes the pipes and opens our ends of the outputs.
    pub(super) fn pipes(&self, stdin: bool, terminal: bool) -> Result<Pipes> {
        let made = |name: &str| -> Result<PathBuf> {
            let path = self.path.join(name);
            let made = mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
            made.map_err(|error| failed(&path, error.into()))?;
            Ok(path)
        };
        let mut writers = Vec::new();
        let mut readable = |name: &str| -> Result<pipe::Receiver> {
            let path = made(name)?;
            let receiver = pipe::OpenOptions::new().open_receiver(&path).map_err(|error| failed(&path, error))?;
            // Without a writer it would be at its end before the program begins.
            writers.push(pipe::OpenOptions::new().open_sender(&path).map_err(|error| failed(&path, error))?);
            Ok(receiver)
        };
        let stdout = readable(STDOUT)?;
        let stderr = if terminal { None } else { Some(readable(STDERR)?) };
        let stdin = if stdin { Some(made(STDIN)?) } else { None };
        Ok(Pipes { folder: self.path.clone(), stdin, stdout, stderr, writers })
    }

    /// Does the work, and meanwhile throws away what comes out of the pipes: a shim that cannot get rid of it would wait.
    pub(super) async fn draining<T>(&self, work: impl Future<Output = T>) -> T {
        let drained = async |name: &str| {
            if let Ok(mut receiver) = pipe::OpenOptions::new().open_receiver(self.path.join(name)) {
                let mut buffer = vec![0; 64 * 1024];
                while receiver.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            done = work => done,
            never = drained(STDOUT) => match never {},
            never = drained(STDERR) => match never {},
        }
    }

    /// Nothing is left of the program.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the pipes of a program cannot be removed");
        }
    }
}

/// The pipes of one program.
pub(super) struct Pipes {
    folder: PathBuf,
    /// Where the input goes, if there is any.
    pub(super) stdin: Option<PathBuf>,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: Option<pipe::Receiver>,
    writers: Vec<pipe::Sender>,
}

impl Pipes {
    /// Input, output and complaints as the shim takes them: empty for what there is not.
    pub(super) fn paths(&self) -> [String; 3] {
        let path = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        let only_if = |is_there: bool, name| if is_there { path(name) } else { String::new() };
        [only_if(self.stdin.is_some(), STDIN), path(STDOUT), only_if(self.stderr.is_some(), STDERR)]
    }

    /// From now on an output ends when the shim closes it.
    pub(super) fn let_go(&mut self) {
        self.writers.clear();
    }
}

/// The input of a program.
pub(super) struct Input {
    /// None once it is at its end.
    pipe: Option<pipe::Sender>,
    /// A terminal that was told the end of its input keeps the pipe: without it the shim would hang up.
    kept: Option<pipe::Sender>,
    /// The shim holds the other end of the input open until the program is forgotten, so its end does not show at the pipe.
    exited: BoxFuture<'static, ()>,
    program: Arc<Program>,
}

impl Input {
    /// Opens it when the shim has opened its end.
    pub(super) async fn open(
        path: &Path,
        program: &Arc<Program>,
        exited: watch::Receiver<Option<Exit>>,
    ) -> Result<Self> {
        let since = tokio::time::Instant::now();
        let pipe = loop {
            let no_reader = rustix::io::Errno::NXIO.raw_os_error();
            match pipe::OpenOptions::new().open_sender(path) {
                Ok(pipe) => break Some(pipe),
                Err(_) if exited.borrow().is_some() => break None,
                Err(error) if error.raw_os_error() == Some(no_reader) && since.elapsed() < SHIM_OPENS => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Err(failed(path, error)),
            }
        };
        let mut exited = exited;
        let exited = async move { drop(exited.wait_for(Option::is_some).await) }.boxed();
        Ok(Self { pipe, kept: None, exited, program: Arc::clone(program) })
    }

    fn poll_pipe(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.pipe.is_some() && self.exited.poll_unpin(context).is_ready() {
            self.pipe = None;
        }
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn close(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        if self.program.has_terminal() {
            self.kept = Some(pipe);
            return;
        }
        drop(pipe);
        let program = Arc::clone(&self.program);
        if let Ok(here) = tokio::runtime::Handle::try_current() {
            here.spawn(async move { program.close_input().await });
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_pipe(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.program.has_terminal() {
            // One that does not read any more need not be told.
            let _ = ready!(self.poll_pipe(context, &[END_OF_TRANSMISSION]));
        }
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.program.has_terminal()
            && let Some(pipe) = &self.pipe
        {
            let _ = pipe.try_write(&[END_OF_TRANSMISSION]);
        }
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_begin_together_have_marks_of_their_own() {
        const ALL: usize = 50;
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path().join("exec"));
        let id = ContainerId::new("c");
        let begin = || {
            let claimed = room.claim(&id).unwrap();
            (claimed.mark().unwrap(), claimed.process().exec)
        };
        let begun: Vec<(u64, String)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..ALL).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let marks: BTreeSet<u64> = begun.iter().map(|(mark, _)| *mark).collect();
        let names: BTreeSet<&String> = begun.iter().map(|(_, name)| name).collect();
        assert_eq!((marks.len(), names.len()), (ALL, ALL), "{begun:?}");
    }
}
