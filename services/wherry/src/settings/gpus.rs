//! `[node.gpus]`: which GPUs the machine hands out, and what they are.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use wherry_model::{GpuModel, Gpus as Counted};
use wherry_node_agent::MachineGpus;
use wherry_runtime::Device;

/// The table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gpus {
    /// Their kind, which instances may ask for, for example `nvidia-a100`.
    pub(crate) model: Option<GpuModel>,
    /// For each GPU its device file, or all of them: `["/dev/nvidia0", "/dev/nvidia1"]`. `HOST:CONTAINER` shows it under another name.
    pub(crate) devices: Vec<Files>,
    /// Device files that everybody with a GPU sees, for example `["/dev/nvidiactl", "/dev/nvidia-uvm"]`.
    pub(crate) common: Vec<String>,
}

/// The files of one GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Files {
    One(String),
    Several(Vec<String>),
}

impl Files {
    fn all(&self) -> &[String] {
        match self {
            Self::One(file) => std::slice::from_ref(file),
            Self::Several(files) => files,
        }
    }
}

impl Gpus {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let most = Counted::MOST;
        anyhow::ensure!(self.devices.len() <= most, "gpus.devices: at most {most} GPUs of a machine are handed out");
        anyhow::ensure!(
            !self.devices.is_empty() || (self.common.is_empty() && self.model.is_none()),
            "gpus.devices: give the device file of each GPU, or leave gpus out"
        );
        let (mut of_gpus, mut inside) = (BTreeSet::new(), BTreeSet::new());
        for files in &self.devices {
            anyhow::ensure!(!files.all().is_empty(), "gpus.devices: every GPU has a file");
            for file in files.all() {
                let device = device(file);
                check(&device, file)?;
                // Of two GPUs with one file neither would be for one instance alone.
                anyhow::ensure!(of_gpus.insert(device.host_path), "gpus.devices: {file} is given twice");
                anyhow::ensure!(inside.insert(device.container_path), "gpus.devices: {file} is shown where another is");
            }
        }
        for file in &self.common {
            let device = device(file);
            check(&device, file)?;
            anyhow::ensure!(!of_gpus.contains(&device.host_path), "gpus.common: {file} is a GPU's own");
            anyhow::ensure!(inside.insert(device.container_path), "gpus.common: {file} is shown where another is");
        }
        Ok(())
    }

    pub(super) fn of_machine(&self) -> MachineGpus {
        let devices = |files: &[String]| files.iter().map(|file| device(file)).collect();
        MachineGpus {
            model: self.model,
            devices: self.devices.iter().map(|files| devices(files.all())).collect(),
            common: devices(&self.common),
        }
    }

    /// The files that are not there, or no devices: what they are is known on the machine only.
    pub(crate) fn missing(&self) -> Vec<String> {
        use std::os::unix::fs::FileTypeExt as _;
        let files = self.devices.iter().flat_map(Files::all).chain(&self.common);
        let is_device = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device());
        files
            .map(|file| device(file).host_path)
            .filter(|path| !is_device(path))
            .map(|path| path.display().to_string())
            .collect()
    }
}

fn device(file: &str) -> Device {
    let (host, inside) = file.split_once(':').unwrap_or((file, file));
    Device { host_path: host.into(), container_path: inside.into() }
}

fn check(device: &Device, file: &str) -> anyhow::Result<()> {
    let is_absolute = device.host_path.is_absolute() && device.container_path.is_absolute();
    anyhow::ensure!(is_absolute, "gpus: {file:?} is no absolute path, or two with a colon between");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Gpus {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn each_gpu_has_files_of_its_own() {
        let text = r#"model = "nvidia-a100"
            devices = ["/dev/nvidia0", ["/dev/nvidia1", "/tmp/x:/dev/x"]]
            common = ["/dev/nvidiactl"]"#;
        let gpus = read(text);
        gpus.check().unwrap();
        let machine = gpus.of_machine();
        assert_eq!((machine.devices.len(), machine.devices[1].len(), machine.common.len()), (2, 2, 1));
        assert_eq!(machine.devices[1][1], Device { host_path: "/tmp/x".into(), container_path: "/dev/x".into() });
        assert_eq!(read(r#"devices = ["/dev/zero", "/dev/no-such-gpu"]"#).missing(), ["/dev/no-such-gpu"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            (r#"devices = ["nvidia0"]"#, "nvidia0"),
            (r#"devices = ["/dev/a", "/dev/a"]"#, "/dev/a"),
            (r#"devices = ["/dev/a:/dev/x", "/dev/b:/dev/x"]"#, "/dev/b:/dev/x"),
            ("devices = [[]]", "every GPU"),
            (r#"common = ["/dev/a"]"#, "gpus.devices"),
            (
                r#"devices = ["/dev/a"]
                common = ["/dev/a"]"#,
                "gpus.common",
            ),
        ] {
            let error = read(text).check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let many: Vec<String> = (0..17).map(|number| format!("\"/dev/g{number}\"")).collect();
        assert!(read(&format!("devices = [{}]", many.join(","))).check().is_err());
    }
}
