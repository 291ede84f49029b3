//! Writes `src/gen` of wherry-runtime-cri from its `proto` folder; `--check` only compares and fails on a difference.
//!
//! The compiler is protox, so nobody needs protoc. Only the calls in [`CALLS`] and the messages that they reach are
//! generated: the whole of CRI would double the crate's build time. To use another call, add its name and run this.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Calls that Wherry makes.
const CALLS: &[&str] = &[
    "runtime.v1.RuntimeService.Version",
    "runtime.v1.RuntimeService.RunPodSandbox",
    "runtime.v1.RuntimeService.StopPodSandbox",
    "runtime.v1.RuntimeService.RemovePodSandbox",
    "runtime.v1.RuntimeService.PodSandboxStatus",
    "runtime.v1.RuntimeService.ListPodSandbox",
    "runtime.v1.RuntimeService.CreateContainer",
    "runtime.v1.RuntimeService.StartContainer",
    "runtime.v1.RuntimeService.StopContainer",
    "runtime.v1.RuntimeService.RemoveContainer",
    "runtime.v1.RuntimeService.ListContainers",
    "runtime.v1.RuntimeService.ContainerStatus",
    "runtime.v1.RuntimeService.ListContainerStats",
    "runtime.v1.RuntimeService.ReopenContainerLog",
    "runtime.v1.RuntimeService.Attach",
    "runtime.v1.RuntimeService.Status",
    "runtime.v1.ImageService.ListImages",
    "runtime.v1.ImageService.ImageStatus",
    "runtime.v1.ImageService.PullImage",
    "runtime.v1.ImageService.RemoveImage",
    "containerd.services.events.v1.Events.Subscribe",
    "containerd.services.content.v1.Content.List",
    "containerd.services.content.v1.Content.ListStatuses",
    "containerd.services.content.v1.Content.Read",
    "containerd.services.containers.v1.Containers.Get",
    "containerd.services.tasks.v1.Tasks.Exec",
    "containerd.services.tasks.v1.Tasks.Start",
    "containerd.services.tasks.v1.Tasks.Wait",
    "containerd.services.tasks.v1.Tasks.Kill",
    "containerd.services.tasks.v1.Tasks.CloseIO",
    "containerd.services.tasks.v1.Tasks.ResizePty",
    "containerd.services.tasks.v1.Tasks.DeleteProcess",
];

/// Messages that no call names because they travel inside `google.protobuf.Any`.
const CARRIED: &[&str] = &["containerd.events.TaskExit", "containerd.events.TaskOOM"];

const FILES: &[&str] = &[
    "runtime/v1/api.proto",
    "github.com/containerd/containerd/api/services/events/v1/events.proto",
    "github.com/containerd/containerd/api/services/content/v1/content.proto",
    "github.com/containerd/containerd/api/services/containers/v1/containers.proto",
    "github.com/containerd/containerd/api/services/tasks/v1/tasks.proto",
    "github.com/containerd/containerd/api/events/task.proto",
];

fn main() -> Result<()> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("unknown argument {other}: run without one to write, with --check to compare"),
    };
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the codegen folder has no parent")?;
    let fresh = tempfile::tempdir()?;
    generate(&home.join("proto"), fresh.path())?;
    let destination = home.join("src/gen");
    if check { compare(fresh.path(), &destination) } else { replace(fresh.path(), &destination) }
}

fn generate(protos: &Path, out: &Path) -> Result<()> {
    let mut set = protox::compile(FILES, [protos]).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    trim(&mut set)?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .disable_comments(["."])
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(set)?;
    Ok(())
}

/// Leaves the wanted calls, and the messages that can be reached from them.
fn trim(set: &mut FileDescriptorSet) -> Result<()> {
    let mut wanted: BTreeSet<String> = CALLS.iter().map(|call| format!(".{call}")).collect();
    let mut roots: Vec<String> = CARRIED.iter().map(|name| format!(".{name}")).collect();
    for file in &mut set.file {
        // It counts the elements of the file as it was; comments are not generated anyway.
        file.source_code_info = None;
        let package = file.package().to_owned();
        for service in &mut file.service {
            let prefix = format!(".{package}.{}", service.name());
            service.method.retain(|method| wanted.remove(&format!("{prefix}.{}", method.name())));
            for method in &service.method {
                roots.extend([method.input_type().to_owned(), method.output_type().to_owned()]);
            }
        }
        file.service.retain(|service| !service.method.is_empty());
    }
    if !wanted.is_empty() {
        bail!("no such call: {}", wanted.into_iter().collect::<Vec<_>>().join(", "));
    }
    let mut edges = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            edges.insert(format!(".{}.{}", file.package(), message.name()), references(message));
        }
    }
    let mut kept = BTreeSet::new();
    while let Some(name) = roots.pop() {
        if kept.insert(name.clone()) {
            roots.extend(edges.get(&name).into_iter().flatten().cloned());
        }
    }
    // A kept nested type keeps the message around it.
    let is_kept = |full: String| kept.iter().any(|name| *name == full || name.starts_with(&format!("{full}.")));
    for file in &mut set.file {
        let package = file.package().to_owned();
        file.message_type.retain(|message| is_kept(format!(".{package}.{}", message.name())));
        file.enum_type.retain(|one| is_kept(format!(".{package}.{}", one.name())));
    }
    set.file.retain(|file| !(file.message_type.is_empty() && file.enum_type.is_empty() && file.service.is_empty()));
    Ok(())
}

fn references(message: &DescriptorProto) -> Vec<String> {
    let mut names: Vec<String> = message.field.iter().filter_map(|field| field.type_name.clone()).collect();
    for nested in &message.nested_type {
        names.extend(references(nested));
    }
    names
}

fn contents(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.insert(name, std::fs::read_to_string(entry.path())?);
    }
    Ok(found)
}

fn compare(fresh: &Path, destination: &Path) -> Result<()> {
    if contents(fresh)? != contents(destination)? {
        bail!("src/gen is not what the .proto files say: run `cargo xtask gen-cri` and commit the result");
    }
    println!("src/gen is up to date");
    Ok(())
}

fn replace(fresh: &Path, destination: &Path) -> Result<()> {
    if destination.exists() {
        std::fs::remove_dir_all(destination)?;
    }
    std::fs::create_dir_all(destination)?;
    for (name, text) in contents(fresh)? {
        println!("{name}: {} lines", text.lines().count());
        std::fs::write(destination.join(name), text)?;
    }
    Ok(())
}
