//! The copy of the sources that players are built from.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{capture, run as run_command};
use crate::repository;

/// Makes the copy what the working folder is now. Files that are the same keep their time, so that little is
/// built again; what is not there any more is removed; a patch is taken back by the next renewal. The working folder itself is
/// never changed.
pub(super) fn renew(copy: &Path, patch: Option<&Path>) -> Result<()> {
    let root = repository::root();
    let listed = capture(Command::new("git").current_dir(&root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    for file in listed.lines() {
        let (from, to) = (root.join(file), copy.join(file));
        // Listed and deleted: it is not in the copy either.
        let Ok(wanted) = fs::read(&from) else {
            drop(fs::remove_file(&to));
            continue;
        };
        if fs::read(&to).is_ok_and(|there| there == wanted) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(&to, wanted).with_context(|| format!("cannot write {}", to.display()))?;
    }
    remove_others(copy, copy, &listed.lines().collect())?;
    // `git apply` works on the repository around it, unless the copy is one of its own.
    if !copy.join(".git").exists() {
        run_command(Command::new("git").current_dir(copy).args(["init", "--quiet"]))?;
    }
    let Some(patch) = patch else { return Ok(()) };
    run_command(Command::new("git").current_dir(copy).args(["apply", "--whitespace=nowarn"]).arg(patch))
        .with_context(|| format!("{} does not fit the sources any more: renew it", patch.display()))
}

/// Removes what is not listed: a module that became a folder must not be found twice.
fn remove_others(copy: &Path, folder: &Path, listed: &BTreeSet<&str>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let Ok(name) = path.strip_prefix(copy) else { continue };
        if name.as_os_str() == ".git" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            remove_others(copy, &path, listed)?;
        } else if !name.to_str().is_some_and(|name| listed.contains(name)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
