//! Git repositories, fetched by the machine's `git` from within the network of a sandbox.
//!
//! The tenant chooses the address and whoever is there answers what it likes, so the program gets nothing of the machine that
//! it does not need. Its network is the sandbox's, and so is its name resolution: it reaches what the containers reach, and
//! `localhost` is theirs. It runs as nobody without any capability, in process and mount namespaces of its own in which `/run`
//! with the sockets of the machine's services is empty, in the instance's cgroup, under its limits. It reads no configuration of the machine, runs no
//! hook, asks nobody for a password, and knows three protocols. Ending it takes everything along: the first process of its
//! namespace goes with whoever started it.
//!
//! Done by a shell, because a thread can only change its namespaces by calls that this workspace forbids as unsafe.
//! Rejected: a library that speaks git (it would have to be as hardened, in our own process).

use std::fmt::Write as _;
use std::process::Stdio;

use tokio::process::Command;
use wherry_runtime::{DnsConfig, Fetched, RepositoryRequest, Result, RuntimeError, SandboxId};

use crate::cri_sandboxes::CriSandboxes;
use crate::port::ready_pid;

/// The cgroup below the instance's.
const CGROUP: &str = "fetch";
/// The repository did not give it.
const REFUSED: i32 = 40;
/// The most that is passed on of what git said.
const SAID_MOST: usize = 500;

/// `$1` how many cgroup folders follow; then the process id of the sandbox, and what [`INSIDE`] takes.
const OUTSIDE: &str = r#"set -eu
count=$1; shift
while [ "$count" -gt 0 ]; do echo $$ > "$1/cgroup.procs"; shift; count=$((count - 1)); done
pid=$1; inside=$2; shift 2
exec nsenter --net="/proc/$pid/ns/net" -- \
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
for file in resolv.conf nsswitch.conf; do
  real=$(readlink -m "/etc/$file")
  case $real in /run/*) mkdir -p -- "${real%/*}"; [ -e "$real" ] || : > "$real" ;; esac
  if [ -e "$real" ]; then mount --bind "/run/$file" "$real"; fi
done
cd /run/work
exec prlimit --fsize="$bytes" -- setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all -- env -i "PATH=$PATH" HOME=/nonexistent LC_ALL=C \
  GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=/bin/false \
  GIT_ALLOW_PROTOCOL=https:http:git GIT_HTTP_LOW_SPEED_LIMIT=100 GIT_HTTP_LOW_SPEED_TIME=30 \
  sh -c "$fetch" sh "$@""#;

/// `$1` the URL, `$2` the revision or nothing. Says the commit.
///
/// What cannot give a single commit (plain files over HTTP; servers that give no commit by its name) is asked for the history.
const FETCH: &str = r#"set -eu
umask 000
ask() { git -c core.hooksPath=/dev/null -c gc.auto=0 -c maintenance.auto=false -c core.fsmonitor=false \
  -c submodule.recurse=false -c advice.detachedHead=false "$@"; }
ask init -q --template= .
ask remote add origin "$1"
want=${2:-HEAD}
commit=FETCH_HEAD
if ! ask fetch -q --no-tags --depth 1 origin "$want" 2>.git/said; then
  case $(cat .git/said) in
    *shallow*|*unadvertised*|*"not our ref"*|*"couldn't find remote ref"*) ;;
    *) cat .git/said >&2; exit 40 ;;
  esac
  case $want in
    *[!0-9a-f]*) ask fetch -q --no-tags origin "$want" >&2 || exit 40 ;;
    *) ask fetch -q --tags origin '+refs/heads/*:refs/remotes/origin/*' >&2 || exit 40
       if ask rev-parse -q --verify "origin/$want^{commit}" > /dev/null; then commit="origin/$want"; else commit=$want; fi ;;
  esac
fi
rm -f .git/said
ask checkout -q --detach "$commit^{commit}" -- >&2 || exit 40
ask rev-parse --verify HEAD"#;

pub(crate) async fn fetch(
    sandboxes: &CriSandboxes,
    sandbox: &SandboxId,
    request: &RepositoryRequest,
) -> Result<Fetched> {
    let gone = || RuntimeError::NotFound { what: "sandbox", id: sandbox.to_string() };
    let pid = ready_pid(sandboxes, sandbox).await?.ok_or_else(gone)?;
    let cgroups = sandboxes.cgroups.below(&request.cgroup_name, CGROUP)?;
    let mut command = Command::new("sh");
    command.args(["-c", OUTSIDE, "sh", &cgroups.len().to_string()]).args(&cgroups);
    command.args([&pid.to_string(), INSIDE]).arg(&request.into);
    command.args([&resolv_conf(&request.dns), &request.file_bytes.to_string(), FETCH, &request.repository]);
    command.arg(request.revision.as_deref().unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = tokio::time::timeout(request.timeout, command.output()).await;
    for folder in &cgroups {
        // What was killed is a member for a moment; it goes with the instance's cgroup at the latest.
        drop(std::fs::remove_dir(folder));
    }
    let Ok(ended) = ended else {
        let seconds = request.timeout.as_secs();
        return Ok(Fetched::Refused(format!("it did not come to its end within {seconds} s")));
    };
    let internal = |message: String| RuntimeError::Internal { message };
    let output = ended.map_err(|error| internal(format!("a shell cannot be started: {error}")))?;
    match output.status.code() {
        Some(0) => Ok(Fetched::Commit(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
        Some(REFUSED) => Ok(Fetched::Refused(said(&output.stderr))),
        Some(127) => Err(internal(format!(
            "a repository cannot be fetched, a program is missing on the machine (install git and util-linux): {}",
            said(&output.stderr)
        ))),
        _ => Err(internal(format!("a repository cannot be fetched: {}", said(&output.stderr)))),
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
