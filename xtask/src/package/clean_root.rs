//! A Debian with nothing on it, in which the package has to install and run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{capture, on_path, run as run_command};
use crate::repository;

/// Runs inside: installs as a person would, then runs a control plane and asks it how it is. `set -e` makes every line count.
const TRIAL: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up 2>/dev/null || true
dpkg --install /wherry.deb
wherry --version
getent passwd wherry >/dev/null
test -f /lib/systemd/system/wherry-control.service
mkdir -p /var/lib/wherry-control
cat > /etc/wherry/trial.toml <<'EOF'
[listen]
api = "127.0.0.1:17070"
operator = "127.0.0.1:17071"
dns = "127.0.0.1:17053"
[agents]
listen = "127.0.0.1:17443"
EOF
wherry --data /var/lib/wherry-control doctor --role control --config /etc/wherry/trial.toml
wherry --data /var/lib/wherry-control control --config /etc/wherry/trial.toml &
server=$!
for attempt in $(seq 1 100); do
    if perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:17071", Timeout => 2) or exit 1;
        print $s "GET /readyz HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n";
        my $a = <$s>; exit($a =~ / 200 / ? 0 : 1);'; then ready=yes; break; fi
    sleep 0.2
done
test "${ready:-no}" = yes
wherry --data /var/lib/wherry-control admin node token | grep -q '^WHERRY_JOIN_TOKEN=wjt_[^ ]* wherry node --join https://127.0.0.1:17443 --ca-fingerprint sha256:'
kill -TERM "$server"
wait "$server"
# There is no container engine here: it must say so, and with which packages that is mended.
if wherry --data /var/lib/wherry-node doctor --role node --config /etc/wherry/node.toml > /doctor.txt; then exit 1; fi
grep -q 'apt-get install --yes .*containerd' /doctor.txt
dpkg --remove wherry
test ! -e /usr/bin/wherry
test -d /var/lib/wherry-control
dpkg --purge wherry
test ! -e /var/lib/wherry-control
echo "the package installs, runs, stops, is removed and is purged"
"#;

/// Makes a clean root, installs the package in it and runs it there, in namespaces of its own.
pub(super) fn check(package: &Path) -> Result<()> {
    ensure!(on_path("mmdebstrap"), "mmdebstrap is missing: run `cargo xtask setup --for ci`");
    let scratch = tempfile::tempdir_in(repository::target()).context("cannot make a scratch folder")?;
    let root = scratch.path().join("root");
    let suite = capture(Command::new("sh").args(["-c", ". /etc/os-release; printf %s \"$VERSION_CODENAME\""]))?;
    // `essential` is dpkg, a shell and perl-base; the repositories and keys are those of this machine.
    run_command(
        Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=essential", "--include=iproute2,passwd"])
            .args([suite.trim(), &root.display().to_string()]),
    )
    .context("cannot make a clean Debian")?;
    std::fs::copy(package, root.join("wherry.deb")).context("cannot copy the package into the clean Debian")?;
    let trial = run_command(
        Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--mount-proc"])
            .args(["--root", &root.display().to_string(), "/bin/sh", "-c", TRIAL]),
    );
    trial.context("the package does not work in a clean Debian")
}
