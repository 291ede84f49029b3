//! Bills: model to wire.

use wherry_api_types as wire;
use wherry_control::{Line, Resource, Usage};
use wherry_model::lifecycle::MeterKind;
use wherry_model::{PicoAmount, Timestamp};

/// A bill for a window, in `default_currency` while it has no lines.
pub(crate) fn usage(usage: Usage, default_currency: &str) -> wire::Usage {
    wire::Usage {
        from: Timestamp::from_seconds(usage.from_second).to_string(),
        to: Timestamp::from_seconds(usage.to_second).to_string(),
        total: usage.bill.total.to_string(),
        currency: usage.bill.currency.unwrap_or_else(|| default_currency.to_owned()),
        lines: usage.bill.lines.into_iter().map(line).collect(),
    }
}

fn line(line: Line) -> wire::UsageLine {
    let (resource, unit) = match line.resource {
        Resource::Cpu => (wire::Resource::Cpu, wire::UsageUnit::MilliCoreSecond),
        Resource::Memory => (wire::Resource::Memory, wire::UsageUnit::MibSecond),
    };
    wire::UsageLine {
        instance_id: line.instance.to_string(),
        instance: line.name.to_string(),
        kind: match line.kind {
            MeterKind::Run => wire::MeterKind::Run,
            MeterKind::Pull => wire::MeterKind::Pull,
        },
        resource,
        from: Timestamp::from_seconds(line.from_second).to_string(),
        to: Timestamp::from_seconds(line.to_second).to_string(),
        seconds: line.seconds,
        quantity: line.quantity.to_string(),
        unit,
        unit_price: PicoAmount(i128::from(line.unit_price_pico)).to_string(),
        amount: line.amount.to_string(),
        open: line.open,
        late: line.late,
    }
}
