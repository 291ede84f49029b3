//! The GPUs of the machine: which files each of them is, and what an instance that has some of them sees.
//!
//! The control plane knows numbers only and says which an instance has; what they are is the machine's own matter. Files are shown
//! when a container is made, so a container that is made again, by a restart or a change, sees the same.
//!
//! Rejected: an engine's device plug-in (CDI), which the oldest containerd that is supported does not have.

use std::collections::BTreeMap;

use wherry_agent_api::DesiredInstance;
use wherry_model::{GpuAmount, GpuModel, GpuOffer, Gpus};
use wherry_runtime::{Device, RuntimeError};

/// The numbers of the GPUs that the instance has on its machine, apart by commas.
const NUMBERS: &str = "WHERRY_GPUS";

/// What it has of the one, in percent, if that is not all of it.
const SHARE: &str = "WHERRY_GPU_SHARE_PERCENT";

/// The GPUs of a machine, all of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineGpus {
    /// Their kind, as the operator calls it.
    pub model: Option<GpuModel>,
    /// The files of each; at most [`Gpus::MOST`] of them are handed out.
    pub devices: Vec<Vec<Device>>,
    /// Files that everybody sees who has a GPU, or a share of one.
    pub common: Vec<Device>,
}

impl MachineGpus {
    /// What the control plane is told.
    pub(crate) fn offer(&self) -> GpuOffer {
        let count = u8::try_from(self.devices.len().min(Gpus::MOST)).unwrap_or(Gpus::MOST_COUNT);
        GpuOffer { model: self.model.filter(|_| count > 0), count }
    }

    /// The files that a container of this instance sees.
    pub(crate) fn devices(&self, desired: &DesiredInstance) -> Result<Vec<Device>, RuntimeError> {
        let Some(gpu) = &desired.more.gpu else { return Ok(Vec::new()) };
        let mut files = self.common.clone();
        for number in gpu.devices.iter() {
            let Some(device) = self.devices.get(number) else {
                let message = format!("its machine has no GPU {number} any more");
                return Err(RuntimeError::InvalidArgument { message });
            };
            files.extend(device.iter().cloned());
        }
        Ok(files)
    }
}

/// What a container is told of its GPUs.
pub(crate) fn environment(desired: &DesiredInstance) -> BTreeMap<String, String> {
    let Some(gpu) = &desired.more.gpu else { return BTreeMap::new() };
    let numbers: Vec<String> = gpu.devices.iter().map(|number| number.to_string()).collect();
    let share = match gpu.amount {
        GpuAmount::Whole(_) => None,
        GpuAmount::Share(permille) => Some((SHARE.to_owned(), (permille / 10).to_string())),
    };
    [(NUMBERS.to_owned(), numbers.join(","))].into_iter().chain(share).collect()
}

#[cfg(test)]
mod tests {
    use wherry_model::{DeviceSet, GpuDemand};

    use super::*;
    use crate::secrets::tests::instance;

    fn device(path: &str) -> Device {
        Device { host_path: path.into(), container_path: path.into() }
    }

    #[test]
    fn an_instance_sees_its_own_and_what_all_see() {
        let devices = ["/dev/gpu0", "/dev/gpu1", "/dev/gpu2"].map(|path| vec![device(path)]).to_vec();
        let machine = MachineGpus { model: None, devices, common: vec![device("/dev/gpuctl")] };
        assert_eq!(machine.offer().count, 3);
        let mut instance = instance();
        assert_eq!((machine.devices(&instance).unwrap(), environment(&instance).len()), (Vec::new(), 0));
        let devices = DeviceSet::from_bits(0b101);
        instance.more.gpu = Some(GpuDemand { devices, ..GpuDemand::new(GpuAmount::Whole(2)) });
        let seen = machine.devices(&instance).unwrap();
        assert_eq!(seen, [device("/dev/gpuctl"), device("/dev/gpu0"), device("/dev/gpu2")]);
        assert_eq!(environment(&instance), BTreeMap::from([(NUMBERS.to_owned(), "0,2".to_owned())]));
        instance.more.gpu = Some(GpuDemand { devices, ..GpuDemand::new(GpuAmount::Share(250)) });
        assert_eq!(environment(&instance)[SHARE], "25");
        let fewer = MachineGpus { devices: vec![vec![device("/dev/gpu0")]], ..machine };
        assert!(fewer.devices(&instance).unwrap_err().to_string().contains("no GPU 2"));
    }
}
