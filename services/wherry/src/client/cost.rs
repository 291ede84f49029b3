//! `wherry cost`.

use std::collections::BTreeMap;

use wherry_api_types::{MeterKind, Resource, Usage, UsageLine, UsageUnit};
use wherry_model::PicoAmount;

use super::failure::Failure;
use super::output::{self, Column, column, whole};
use super::session::Session;
use super::text::{clean, short_time};
use crate::cli::CostArgs;

pub(super) async fn run(session: &Session, args: &CostArgs) -> Result<(), Failure> {
    let usage = match &args.name {
        Some(name) => session.instance_usage(name).await?,
        None => session.usage(args.from.as_deref(), args.to.as_deref()).await?,
    };
    if args.json {
        return output::json(&usage);
    }
    let width = output::terminal_width();
    let text = if args.name.is_some() { lines(&usage, width) } else { by_instance(&usage, width) };
    output::raw(text.as_bytes())
}

fn total(usage: &Usage) -> String {
    format!(
        "\ntotal {} {}, {} to {}\n",
        clean(&usage.total),
        clean(&usage.currency),
        short_time(&usage.from),
        short_time(&usage.to)
    )
}

fn lines(usage: &Usage, width: Option<u16>) -> String {
    let columns = [
        column("METER"),
        column("RESOURCE"),
        column("FROM"),
        column("SECONDS"),
        column("QUANTITY"),
        column("UNIT PRICE"),
        whole("AMOUNT"),
        column("NOTE"),
    ];
    let row = |line: &UsageLine| {
        let unit = match line.unit {
            UsageUnit::MilliCoreSecond => "millicore-seconds",
            UsageUnit::MibSecond => "MiB-seconds",
        };
        let resource = match line.resource {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
        };
        vec![
            meter(line.kind).to_owned(),
            resource.to_owned(),
            short_time(&line.from),
            line.seconds.to_string(),
            format!("{} {unit}", clean(&line.quantity)),
            clean(&line.unit_price),
            clean(&line.amount),
            note(line).to_owned(),
        ]
    };
    rows(&columns, usage.lines.iter().map(row).collect(), width) + &total(usage)
}

/// No table where there is nothing to show.
fn rows(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    if rows.is_empty() { "no second is billed\n".to_owned() } else { output::table(columns, rows, width) }
}

const fn meter(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::Run => "run",
        MeterKind::Pull => "pull",
    }
}

const fn note(line: &UsageLine) -> &'static str {
    match (line.open, line.late) {
        (true, _) => "goes on",
        (false, true) => "booked late: its machine was silent",
        (false, false) => "",
    }
}

#[derive(Default)]
struct Sum {
    name: String,
    run_seconds: i64,
    pull_seconds: i64,
    amount: PicoAmount,
}

/// One row per instance, dearest first. Ids keep instances apart that had the same name one after the other.
fn by_instance(usage: &Usage, width: Option<u16>) -> String {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for line in &usage.lines {
        let sum = sums.entry(&line.instance_id).or_default();
        sum.name.clone_from(&line.instance);
        sum.amount = sum.amount + parse_amount(&line.amount).unwrap_or_default();
        // Each interval has a line per resource; its seconds count once.
        if line.resource == Resource::Cpu {
            match line.kind {
                MeterKind::Run => sum.run_seconds += line.seconds,
                MeterKind::Pull => sum.pull_seconds += line.seconds,
            }
        }
    }
    let mut sums: Vec<(&str, Sum)> = sums.into_iter().collect();
    sums.sort_by(|left, right| right.1.amount.cmp(&left.1.amount).then(left.0.cmp(right.0)));
    let columns = [whole("NAME"), column("ID"), column("RUN SECONDS"), column("PULL SECONDS"), whole("AMOUNT")];
    let row = |(id, sum): (&str, Sum)| {
        let amount = format!("{} {}", sum.amount, clean(&usage.currency));
        vec![clean(&sum.name), clean(id), sum.run_seconds.to_string(), sum.pull_seconds.to_string(), amount]
    };
    rows(&columns, sums.into_iter().map(row).collect(), width) + &total(usage)
}

/// Reads a decimal amount exactly; the API's amounts have at most twelve decimals.
fn parse_amount(text: &str) -> Option<PicoAmount> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() > 12 || whole.is_empty() {
        return None;
    }
    let pico: i128 = format!("{whole}{fraction:0<12}").parse().ok()?;
    Some(PicoAmount(sign * pico))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, name: &str, kind: MeterKind, resource: Resource, amount: &str) -> UsageLine {
        let unit = if resource == Resource::Cpu { UsageUnit::MilliCoreSecond } else { UsageUnit::MibSecond };
        UsageLine {
            instance_id: id.into(),
            instance: name.into(),
            kind,
            resource,
            from: "2026-03-01T00:00:00Z".into(),
            to: "2026-03-01T00:01:40Z".into(),
            seconds: 100,
            quantity: "25000".into(),
            unit,
            unit_price: "0.00000001".into(),
            amount: amount.into(),
            open: kind == MeterKind::Run && resource == Resource::Cpu,
            late: false,
        }
    }

    fn usage() -> Usage {
        Usage {
            from: "2026-03-01T00:00:00Z".into(),
            to: "2026-03-02T00:00:00Z".into(),
            total: "0.000576".into(),
            currency: "USD".into(),
            lines: vec![
                line("1", "web", MeterKind::Run, Resource::Cpu, "0.00025"),
                line("1", "web", MeterKind::Run, Resource::Memory, "0.000026"),
                line("2", "web", MeterKind::Pull, Resource::Cpu, "0.00"),
                line("2", "web", MeterKind::Pull, Resource::Memory, "0.00"),
                line("2", "web", MeterKind::Run, Resource::Cpu, "0.0003"),
                line("2", "web", MeterKind::Run, Resource::Memory, "0.000000000001"),
            ],
        }
    }

    #[test]
    fn a_project() {
        let expected = "\
NAME  ID  RUN SECONDS  PULL SECONDS  AMOUNT
web   2   100          100           0.000300000001 USD
web   1   100          0             0.000276 USD

total 0.000576 USD, 2026-03-01 00:00:00 to 2026-03-02 00:00:00
";
        assert_eq!(by_instance(&usage(), None), expected);
    }

    #[test]
    fn an_instance() {
        let usage = Usage { lines: usage().lines.split_off(4), ..usage() };
        let expected = "\
METER  RESOURCE  FROM                 SECONDS  QUANTITY                 UNIT PRICE  AMOUNT          NOTE
run    cpu       2026-03-01 00:00:00  100      25000 millicore-seconds  0.00000001  0.0003          goes on
run    memory    2026-03-01 00:00:00  100      25000 MiB-seconds        0.00000001  0.000000000001

total 0.000576 USD, 2026-03-01 00:00:00 to 2026-03-02 00:00:00
";
        assert_eq!(lines(&usage, None), expected);
    }

    #[test]
    fn nothing_is_said_in_words() {
        let usage = Usage { lines: Vec::new(), ..usage() };
        let expected = "no second is billed\n\ntotal 0.000576 USD, 2026-03-01 00:00:00 to 2026-03-02 00:00:00\n";
        assert_eq!((lines(&usage, None), by_instance(&usage, None)), (expected.to_owned(), expected.to_owned()));
    }

    #[test]
    fn amounts_are_read_exactly() {
        for pico in [0, 1, 12, 1_000_000_000_000, 1_234_567_890_123_456, -5_000_000] {
            assert_eq!(parse_amount(&PicoAmount(pico).to_string()), Some(PicoAmount(pico)));
        }
        for wrong in ["", ".5", "1.0000000000001", "1e5", "a"] {
            assert_eq!(parse_amount(wrong), None, "{wrong}");
        }
    }
}
