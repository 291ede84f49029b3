//! Volumes of instances on this machine: `volumes/INSTANCE/VOLUME` in the data folder.
//!
//! Invariants: a folder belongs to one instance, which is in its path; it is there from the first start of a container until
//! nothing is left of the instance on this machine, through restarts of containers, of the agent and of the machine, save
//! what is in memory; making ready again what is ready changes nothing that a container wrote. Only root of the machine can
//! enter `volumes`, so that below it everything can be open to every user of the containers, as in Kubernetes.
//!
//! Nothing here follows what a container wrote: paths inside of a volume are resolved by the engine ([`MountPart`]).

mod files;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wherry_agent_api::DesiredInstance;
use wherry_model::{ContainerSpec, Medium, MemoryMib, Volume, VolumeMount, VolumeSource};
use wherry_runtime::{Mount, MountPart};

/// Where folders inside of volumes are held; no volume has such a name.
const PARTS: &str = ".parts";

/// Makes every volume of the instance ready that is not.
pub(crate) fn prepare(folder: &Path, desired: &DesiredInstance) -> io::Result<()> {
    if desired.more.volumes.is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if let Some(all) = folder.parent() {
        fs::set_permissions(all, fs::Permissions::from_mode(0o700))?;
    }
    for volume in &desired.more.volumes {
        let path = folder.join(volume.name.as_str());
        match &volume.source {
            VolumeSource::EmptyDir { .. } => open_folder(&path)?,
            VolumeSource::Config { files } => files::write(&path, files)?,
            VolumeSource::Secret { .. } => {
                let message = format!("this version of the agent cannot make the secret volume {}", volume.name);
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        }
    }
    Ok(())
}

/// An empty folder for everybody, whole from its first moment, so that one that is there needs no look.
fn open_folder(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    // No volume has a name with a dot.
    let fresh = path.with_extension("new");
    match fs::create_dir(&fresh) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o777))?;
    fs::rename(&fresh, path)
}

/// What the container sees of them.
pub(crate) fn mounts(folder: &Path, desired: &DesiredInstance, container: &ContainerSpec) -> Vec<Mount> {
    let mounts = container.mounts.iter().enumerate().filter_map(|(index, mount)| {
        let volume = desired.more.volumes.iter().find(|volume| volume.name == mount.volume)?;
        let stage = folder.join(PARTS).join(format!("{}.{index}", container.name));
        Some(one_mount(folder, desired, volume, mount, stage))
    });
    mounts.collect()
}

fn one_mount(folder: &Path, desired: &DesiredInstance, volume: &Volume, mount: &VolumeMount, stage: PathBuf) -> Mount {
    let host_path = folder.join(volume.name.as_str());
    let plain =
        Mount { host_path, container_path: (&mount.path).into(), read_only: mount.read_only, ..Mount::default() };
    let VolumeSource::EmptyDir { medium, size } = &volume.source else {
        // Written by nobody but the agent, and the name of a file leads nowhere else.
        let host_path = mount.sub_path.iter().fold(plain.host_path.clone(), |path, file| path.join(file));
        return Mount { host_path, read_only: true, ..plain };
    };
    let memory_bytes = match medium {
        Medium::Disk => None,
        Medium::Memory => Some(size.map_or_else(|| memory_of(desired), MemoryMib::bytes)),
    };
    let part = mount.sub_path.as_ref().map(|path| MountPart { path: path.into(), stage });
    Mount { memory_bytes, part, ..plain }
}

/// All memory that the containers of the instance may take.
fn memory_of(desired: &DesiredInstance) -> u64 {
    desired.specs().map(|spec| spec.most_memory().bytes()).fold(0, u64::saturating_add)
}

/// Removes all volumes of an instance, however much is in them.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
