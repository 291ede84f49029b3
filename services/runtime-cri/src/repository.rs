//! Git repositories, fetched by the machine's `git` from within the network of a sandbox.
//!
//! The tenant chooses the address and whoever is there answers what it likes, so the program gets nothing of the machine that
//! it does not need. Its network is the sandbox's, and so is its name resolution: it reaches what the containers reach, and
//! `localhost` is theirs. It runs as nobody without any capability, in process and mount namespaces of its own in which `/run`
//! with the sockets of the machine's services is empty, in the instance's cgroup, under its limits, and after everybody else
//! when processors are short. It reads no configuration and no names of the machine, runs no hook, asks nobody for a password,
//! and knows three protocols. What it says is kept in a file, under the limit of files, and only its end is ever read.
//!
//! Ending it takes everything along: the first process of its namespace goes with whoever started it. That one stays the shell
//! and root, because the kernel forgets whose end a process wanted to hear of when it changes its user. What an agent that was
//! killed left running is ended by the next fetch of the same instance.
//!
//! Done by a shell, because a thread can only change its namespaces by calls that this workspace forbids as unsafe.
//! Rejected: a library that speaks git (it would have to be as hardened, in our own process).

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsRawFd as _;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use wherry_runtime::{DnsConfig, Fetched, RepositoryRequest, Result, RuntimeError, SandboxId};

use crate::cri_sandboxes::CriSandboxes;
use crate::port::network_of;

/// The cgroup below the instance's.
const CGROUP: &str = "fetch";
/// The repository did not give it.
const REFUSED: i32 = 40;
/// The most that is passed on of what git said.
const SAID_MOST: usize = 500;
/// Bytes that are held of each stream of the programs.
const KEPT: usize = 4096;

/// `$1` how many cgroup folders follow; then the network namespace, and what [`INSIDE`] takes.
const OUTSIDE: &str = r#"set -eu
count=$1; shift
while [ "$count" -gt 0 ]; do echo $$ > "$1/cgroup.procs"; shift; count=$((count - 1)); done
network=$1; inside=$2; shift 2
exec nsenter --net="$network" -- \
  unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- sh -c "$inside" sh "$@""#;

/// `$1` where to, `$2` resolv.conf, `$3` bytes of a file, `$4` what to run, and what that takes.
const INSIDE: &str = r#"set -eu
into=$1; names=$2; bytes=$3; fetch=$4; shift 4
chown 65534:65534 -- "$into"
cd -- "$into"
mount -t tmpfs -o size=1m,nosuid,nodev wherry /run
mkdir /run/work
mount --bind . /run/work
printf %s "$names" > /run/resolv.conf
printf 'hosts: files dns\n' > /run/nsswitch.conf
printf '127.0.0.1 localhost\n::1 localhost\n' > /run/hosts
for file in resolv.conf nsswitch.conf hosts; do
  real=$(readlink -m "/etc/$file")
  case $real in /run/*) mkdir -p -- "${real%/*}"; [ -e "$real" ] || : > "$real" ;; esac
  if [ -e "$real" ]; then mount --bind "/run/$file" "$real"; fi
done
cd /run/work
nice -n 19 prlimit --fsize="$bytes" --core=0 -- setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all -- env -i "PATH=$PATH" HOME=/nonexistent LC_ALL=C \
  GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=/bin/false \
  GIT_ALLOW_PROTOCOL=https:http:git GIT_HTTP_LOW_SPEED_LIMIT=100 GIT_HTTP_LOW_SPEED_TIME=30 \
  sh -c "$fetch" sh "$@" || exit $?"#;

/// `$1` the URL, `$2` the revision or nothing. Says the commit.
///
/// Whoever writes more than a file may have dies of it, so git is heard in a shell of its own, which tells of its end there.
///
/// What cannot give a single commit (plain files over HTTP; servers that give no commit by its name) is asked for the history.
const FETCH: &str = r#"set -eu
umask 000
ask() { git -c core.hooksPath=/dev/null -c gc.auto=0 -c maintenance.auto=false -c core.fsmonitor=false \
  -c submodule.recurse=false -c advice.detachedHead=false -c pack.threads=1 "$@"; }
heard() { ( ask "$@" ) > .git/said 2>&1; }
refuse() { tail -c 4000 .git/said >&2; exit 40; }
ask init -q --template= .
ask remote add origin "$1"
want=${2:-HEAD}
commit=FETCH_HEAD
if ! heard fetch -q --no-tags --depth 1 origin "$want"; then
  case $(tail -c 4000 .git/said) in
    *shallow*|*unadvertised*|*"not our ref"*|*"couldn't find remote ref"*) ;;
    *) refuse ;;
  esac
  case $want in
    *[!0-9a-f]*) heard fetch -q --no-tags origin "$want" || refuse ;;
    *) heard fetch -q --tags origin '+refs/heads/*:refs/remotes/origin/*' || refuse
       if heard rev-parse -q --verify "origin/$want^{commit}"; then commit="origin/$want"; else commit=$want; fi ;;
  esac
fi
heard checkout -q --detach "$commit^{commit}" -- || refuse
rm -f .git/said
ask rev-parse --verify HEAD"#;

pub(crate) async fn fetch(
    sandboxes: &CriSandboxes,
    sandbox: &SandboxId,
    request: &RepositoryRequest,
) -> Result<Fetched> {
    let network = network_of(sandboxes, sandbox).await?;
    let cgroups = sandboxes.cgroups.below(&request.cgroup_name, CGROUP)?;
    sandboxes.cgroups.kill_in(&cgroups).await;
    let mut command = Command::new("sh");
    command.args(["-c", OUTSIDE, "sh", &cgroups.len().to_string()]).args(&cgroups);
    // Held open here until the end: no process id that could mean another by then.
    let held = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
    command.args([&held, INSIDE]).arg(&request.into);
    command.args([&resolv_conf(&request.dns), &request.file_bytes.to_string(), FETCH, &request.repository]);
    command.arg(request.revision.as_deref().unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = tokio::time::timeout(request.timeout, run(&mut command)).await;
    drop(network);
    for folder in &cgroups {
        // What was killed is a member for a moment; it goes with the instance's cgroup at the latest.
        drop(std::fs::remove_dir(folder));
    }
    let Ok(ended) = ended else {
        let seconds = request.timeout.as_secs();
        return Ok(Fetched::Refused(format!("it did not come to its end within {seconds} s")));
    };
    let internal = |message: String| RuntimeError::Internal { message };
    let (status, stdout, stderr) = ended.map_err(|error| internal(format!("a shell cannot be run: {error}")))?;
    match status.code() {
        Some(0) => Ok(Fetched::Commit(String::from_utf8_lossy(&stdout).trim().to_owned())),
        Some(REFUSED) => Ok(Fetched::Refused(said(&stderr))),
        Some(127) => Err(internal(format!(
            "a repository cannot be fetched, a program is missing on the machine (install git and util-linux): {}",
            said(&stderr)
        ))),
        _ => Err(internal(format!("a repository cannot be fetched: {}", said(&stderr)))),
    }
}

/// How it ended, and the last that it wrote to its standard output and to its standard error.
async fn run(command: &mut Command) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    tokio::try_join!(child.wait(), end_of(stdout), end_of(stderr))
}

/// The last [`KEPT`] bytes.
async fn end_of(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let (mut kept, mut piece) = (Vec::new(), vec![0; KEPT]);
    let Some(mut stream) = stream else { return Ok(kept) };
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Ok(kept);
        }
        kept.extend(piece.iter().take(count));
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (word, list) in [("search", &dns.searches), ("options", &dns.options)] {
        if !list.is_empty() {
            let _ = writeln!(text, "{word} {}", list.join(" "));
        }
    }
    text
}

/// The end of what was said, where git says what went wrong, in one line without control characters.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split(|character: char| character.is_control() || character == ' ').collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(SAID_MOST);
    line.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_one_short_line() {
        assert_eq!(said(b"fatal: no\n\x1b[31m such  ref\r\n"), "fatal: no [31m such ref");
        assert_eq!(said(&[b'x'; 2000]).len(), SAID_MOST);
    }

    #[tokio::test]
    async fn only_the_end_of_a_stream_is_held() {
        let stream = tokio::io::repeat(b'x').take(10_000_000).chain(&b"the end"[..]);
        let kept = end_of(Some(stream)).await.unwrap();
        assert!(kept.len() == KEPT && kept.ends_with(b"xthe end"), "{} bytes", kept.len());
    }

    #[test]
    fn names_are_resolved_as_in_the_containers() {
        let dns = DnsConfig {
            servers: vec![[10, 0, 0, 53].into()],
            searches: vec!["a.example".into(), "b.example".into()],
            options: Vec::new(),
        };
        assert_eq!(resolv_conf(&dns), "nameserver 10.0.0.53\nsearch a.example b.example\n");
    }
}
