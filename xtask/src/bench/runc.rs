//! `runc run`: the floor below which no engine on top of runc can go.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use wherry_demo_images::FileTree;

use super::first_byte::{self, Subject};
use crate::command::capture;

pub(super) struct Runc {
    bundle: PathBuf,
    state: PathBuf,
}

impl Runc {
    /// Makes a bundle of the program below `scratch`.
    pub(super) fn prepare(scratch: &Path, program: &FileTree) -> Result<Self> {
        let bundle = scratch.join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).context("cannot create a bundle")?;
        program.unpack(&bundle.join("rootfs"))?;
        capture(Command::new("runc").arg("spec").current_dir(&bundle)).context("runc cannot write a specification")?;
        let path = bundle.join("config.json");
        let mut spec: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["/first-byte"]);
        fs::write(&path, spec.to_string())?;
        Ok(Self { bundle, state: scratch.join("runc") })
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state);
        command
    }
}

impl Subject for Runc {
    fn name(&self) -> &'static str {
        "runc run"
    }

    fn start_once(&mut self, number: usize) -> Result<Duration> {
        let id = format!("bench-{number}");
        let mut run = self.runc();
        run.args(["run", "--bundle"]).arg(&self.bundle).arg(&id).stdin(Stdio::null()).stdout(Stdio::piped());
        let ordered = first_byte::now();
        let mut child = run.spawn().context("cannot start runc")?;
        let line = first_line(&mut child);
        let ended = capture(self.runc().args(["kill", &id, "KILL"]));
        // runc forwards the end of the container as its own exit code, which is of no interest here.
        child.wait().context("cannot wait for runc")?;
        let taken = first_byte::since(ordered, &line?)?;
        ended.context("runc cannot kill the container")?;
        Ok(taken)
    }
}

fn first_line(child: &mut Child) -> Result<String> {
    let output = child.stdout.take().context("runc has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("cannot read what the program wrote")?;
    Ok(line)
}
