//! `cargo xtask previous-release`: the `wherry` that fleets run now, built from git, for the tests that upgrade a fleet of it.
//!
//! `.config/previous-release` names the commit. The program is kept under its commit's name, so it is built once.
//!
//! Invariants: what is built from third parties is shared with this workspace, and nothing of this workspace is built again because of it. Both
//! have crates of the same names and versions, at the same places within their workspaces, so cargo would not tell their artifacts apart. Two
//! things keep them apart: other debug information for the workspace's own crates, which is part of an artifact's name (the table for
//! third parties, `package."*"`, has its own value and stays as it is), and a folder of its own for what cargo hands out at the end
//! (`target/debug/wherry` stays ours).
//!
//! Rejected: a target folder of its own (all third parties once more: minutes and a gigabyte), a work tree of git (an entry in the clone that
//! outlives an interruption), a binary from a registry of packages (there is none, and it would be of another machine's making).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, run as run_command, succeeds};
use crate::repository;

/// Tells the tests where it is.
pub(crate) const VARIABLE: &str = "WHERRY_PREVIOUS_BINARY";
/// The profile of nextest that leaves those tests out.
pub(crate) const WITHOUT: &str = "without-previous-release";

const NAMED_IN: &str = ".config/previous-release";

pub(crate) fn run() -> Result<()> {
    println!("{}", binary()?.display());
    Ok(())
}

/// Where it is; built unless it is there already.
pub(crate) fn binary() -> Result<PathBuf> {
    let text =
        fs::read_to_string(repository::root().join(NAMED_IN)).with_context(|| format!("cannot read {NAMED_IN}"))?;
    let commit = named(&text)?;
    let folder = repository::target().join("previous-release");
    // The tests look for it under this name, too.
    let kept = folder.join(format!("wherry-{commit}"));
    if !kept.exists() {
        let is_here = succeeds(git().args(["cat-file", "-e", &format!("{commit}^{{commit}}")]));
        ensure!(
            is_here,
            "the previous release, commit {commit} of {NAMED_IN}, is not in this clone, so no upgrade can be tested: get the whole history \
             (`git fetch --unshallow`), or run `cargo xtask test --{WITHOUT}`, which leaves the tests of upgrades out"
        );
        // Also programs of the releases before, and what an interrupted build has left.
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        build(commit, &folder, &kept)?;
    }
    Ok(kept)
}

fn build(commit: &str, folder: &Path, kept: &Path) -> Result<()> {
    let (sources, archive, out) = (folder.join("sources"), folder.join("sources.tar"), folder.join("out"));
    fs::create_dir_all(&sources).with_context(|| format!("cannot make {}", sources.display()))?;
    run_command(git().args(["archive", "--format=tar", "--output"]).arg(&archive).arg(commit))?;
    // Not with the commit's times: cargo compares them with those of what the release before this one has left.
    run_command(
        Command::new("tar").args(["--extract", "--touch", "--file"]).arg(&archive).arg("--directory").arg(&sources),
    )?;
    let mut build = cargo();
    build
        .current_dir(&sources)
        // Of the whole workspace, for the same features of third parties as everywhere else.
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", "wherry", "--config", "profile.dev.debug=0"])
        .env("CARGO_TARGET_DIR", &out);
    if std::env::var_os("CARGO_BUILD_BUILD_DIR").is_none() {
        build.env("CARGO_BUILD_BUILD_DIR", repository::target());
    }
    run_command(&mut build)?;
    let fresh = folder.join("fresh");
    fs::copy(out.join("debug/wherry"), &fresh).context("cannot keep the previous release's program")?;
    for used in [&sources, &out] {
        fs::remove_dir_all(used).with_context(|| format!("cannot remove {}", used.display()))?;
    }
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    // Whole or not at all.
    fs::rename(&fresh, kept).context("cannot keep the previous release's program")
}

/// The commit in the text of the file.
fn named(text: &str) -> Result<&str> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let commit = lines.next().with_context(|| format!("{NAMED_IN} names no commit"))?;
    ensure!(lines.next().is_none(), "{NAMED_IN} names more than one commit");
    let is_whole = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_whole, "{NAMED_IN} has to name a commit by its 40 digits, not by {commit:?}");
    Ok(commit)
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(repository::root());
    command
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn one_whole_commit_is_named() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(named(&format!("# why\n\n{commit}\n")).unwrap(), commit);
        for wrong in ["# nothing\n", "v1.0\n", &commit[..12], &format!("{commit}\n{commit}\n")] {
            assert!(named(wrong).is_err(), "{wrong:?}");
        }
        named(include_str!("../../.config/previous-release")).unwrap();
    }
}
