//! The mutation check: a simulation that finds nothing proves something only if it finds what is there.
//!
//! Each patch in `services/testkit/mutations` plants one bug of a kind that this system must never have. It is applied to a copy
//! of the sources, built, and played until a world shows a violation. Rejected: switches for bugs in the product (a
//! product does not carry its own faults), and decorators around its traits (they would test the decorator: most of these
//! bugs are in the middle of a transaction or of a pure function).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{build, play};
use crate::command::{capture, run as run_command};
use crate::repository;

const PATCHES: &str = "services/testkit/mutations";

/// Worlds that are played between two looks.
const STRIDE: u64 = 100;

/// Plants each bug and plays up to `most` worlds until one finds it.
pub(super) fn run(most: u64, jobs: u64) -> Result<()> {
    let folder = repository::target().join("simulation/mutations");
    let copy = folder.join("sources");
    let mut unfound = Vec::new();
    for patch in patches()? {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        copy_sources(&copy)?;
        run_command(Command::new("git").current_dir(&copy).args(["apply", "--whitespace=nowarn"]).arg(&patch))
            .with_context(|| format!("{name} does not fit the sources any more: renew it"))?;
        let player = build(&copy, &folder.join("target"))?;
        if let Some((seed, sentence)) = first_found(&player, most, jobs)? {
            println!("{name}: found by seed {seed}: {sentence}");
        } else {
            println!("{name}: NOT found by {most} worlds");
            unfound.push(name);
        }
    }
    ensure!(unfound.is_empty(), "the simulation does not find {}", unfound.join(", "));
    Ok(())
}

fn first_found(player: &Path, most: u64, jobs: u64) -> Result<Option<(u64, String)>> {
    let mut from = 0;
    while from < most {
        let found = play(player, from, STRIDE.min(most - from), jobs)?;
        if let Some(first) = found.into_iter().next() {
            return Ok(Some((first.seed, first.sentence)));
        }
        from += STRIDE;
    }
    Ok(None)
}

fn patches() -> Result<Vec<PathBuf>> {
    let folder = repository::root().join(PATCHES);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut patches = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            patches.push(path);
        }
    }
    patches.sort();
    if patches.is_empty() {
        bail!("there are no patches in {PATCHES}");
    }
    Ok(patches)
}

/// Makes the copy what the working folder is now. Files that are the same keep their time, so that little is built again.
fn copy_sources(copy: &Path) -> Result<()> {
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
    // `git apply` works on the repository around it, unless the copy is one of its own.
    if !copy.join(".git").exists() {
        run_command(Command::new("git").current_dir(copy).args(["init", "--quiet"]))?;
    }
    Ok(())
}
