//! GPUs.

use wherry_api_types as wire;
use wherry_model as model;
use wherry_model::{GpuAmount, GpuDemand, SpecError};

use super::parse;

const PERMILLE_OF_PERCENT: u16 = 10;

pub(super) fn to_model(gpu: wire::Gpu) -> Result<GpuDemand, SpecError> {
    let wire::Gpu { count, share_percent, model } = gpu;
    let amount = match (count, share_percent) {
        (Some(_), Some(_)) => {
            return Err(SpecError::new("gpu.share_percent", "give whole ones by count, or a share of one: not both"));
        }
        (None, Some(percent)) => {
            // Whatever does not fit is wrong, as the model says.
            let percent = u16::try_from(percent).ok().and_then(|percent| percent.checked_mul(PERMILLE_OF_PERCENT));
            GpuAmount::Share(percent.unwrap_or(u16::MAX))
        }
        (count, None) => GpuAmount::Whole(u8::try_from(count.unwrap_or(1)).unwrap_or(u8::MAX)),
    };
    let model = model.map(|model| parse("gpu.model", &model)).transpose()?;
    Ok(GpuDemand { model, ..GpuDemand::new(amount) })
}

pub(super) fn to_wire(gpu: &model::GpuDemand) -> wire::Gpu {
    let (count, share_percent) = match gpu.amount {
        GpuAmount::Whole(count) => (Some(u32::from(count)), None),
        GpuAmount::Share(share) => (None, Some(u32::from(share / PERMILLE_OF_PERCENT))),
    };
    wire::Gpu { count, share_percent, model: gpu.model.map(|model| model.to_string()) }
}
