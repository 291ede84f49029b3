//! The bill against what ran: every line recomputed, every interval between the moments that were seen from outside.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use wherry_api_types::{MeterKind, Resource, Usage, UsageLine, UsageUnit};

use crate::clock;
use crate::ledger::{Ledger, Record};

/// Digits behind the point that amounts are added with: picos.
const DIGITS: usize = 12;

/// Prints what each instance is billed and fails unless all of it is right.
pub(crate) fn check(usage: &Usage, ledger: &Ledger) -> Result<()> {
    let mut sum = 0;
    let mut by_instance: BTreeMap<&str, Vec<&UsageLine>> = BTreeMap::new();
    for line in &usage.lines {
        sum += check_line(line)?;
        by_instance.entry(&line.instance_id).or_default().push(line);
    }
    ensure!(sum == picos(&usage.total)?, "the lines sum to {sum} picos, not to the total of {}", usage.total);
    for record in &ledger.records {
        let lines = by_instance.remove(record.id.as_str()).unwrap_or_default();
        check_instance(record, &lines).with_context(|| format!("the bill of {} is wrong", record.name))?;
    }
    ensure!(by_instance.is_empty(), "billed and never acknowledged: {:?}", by_instance.keys());
    println!(
        "   {} lines of {} instances, each recomputed; total {} {}",
        usage.lines.len(),
        ledger.records.len(),
        usage.total,
        usage.currency
    );
    Ok(())
}

/// Seconds and amount of one line; the amount in picos.
fn check_line(line: &UsageLine) -> Result<i128> {
    let (from, to) = (clock::seconds(&line.from)?, clock::seconds(&line.to)?);
    ensure!(line.seconds == to - from, "{} s from {} to {}: {line:?}", line.seconds, line.from, line.to);
    let quantity: i128 = line.quantity.parse().with_context(|| format!("{} is no number", line.quantity))?;
    let amount = picos(&line.amount)?;
    ensure!(quantity * picos(&line.unit_price)? == amount, "quantity × price is not the amount: {line:?}");
    Ok(amount)
}

fn check_instance(record: &Record, lines: &[&UsageLine]) -> Result<()> {
    let mut runs: BTreeMap<(i64, i64), Vec<&UsageLine>> = BTreeMap::new();
    for line in lines {
        ensure!(!line.open, "a meter is still open: {line:?}");
        if line.kind == MeterKind::Pull {
            ensure!(picos(&line.amount)? == 0, "a pull is free here: {line:?}");
            continue;
        }
        runs.entry((clock::seconds(&line.from)?, clock::seconds(&line.to)?)).or_default().push(line);
    }
    let mut seen = record.spans.iter();
    let mut end_before = i64::MIN;
    let mut words = Vec::new();
    for ((from, to), lines) in &runs {
        ensure!(*from >= end_before, "two intervals overlap");
        end_before = *to;
        let span = seen.find(|span| span.began.holds(*from) || !span.may_be_empty());
        let span = span.with_context(|| format!("billed more often than it ran: {from} to {to}"))?;
        ensure!(span.began.holds(*from), "billed from {from}, seen to begin between {:?}", span.began);
        let ended = span.ended.context("billed to an end, and it is not known to have ended")?;
        ensure!(ended.holds(*to), "billed up to {to}, seen to end between {ended:?}");
        check_quantities(record, to - from, lines)?;
        words.push(format!("{} s", to - from));
    }
    let unbilled = seen.any(|span| !span.may_be_empty());
    ensure!(!unbilled, "it ran {} times and is billed for {}", record.spans.len(), runs.len());
    println!(
        "   {:<8} {:>4}m {:>4} MiB  {}",
        record.name,
        record.size.cpu_millis,
        record.size.memory_mib,
        words.join(" + ")
    );
    Ok(())
}

/// Exactly one line of each resource, for what was asked.
fn check_quantities(record: &Record, seconds: i64, lines: &[&UsageLine]) -> Result<()> {
    for (resource, unit, asked) in [
        (Resource::Cpu, UsageUnit::MilliCoreSecond, record.size.cpu_millis),
        (Resource::Memory, UsageUnit::MibSecond, record.size.memory_mib),
    ] {
        let of_it: Vec<_> = lines.iter().filter(|line| line.resource == resource).collect();
        let [line] = of_it.as_slice() else { anyhow::bail!("{} lines for {resource:?}", of_it.len()) };
        let expected = (asked * seconds).to_string();
        ensure!(line.unit == unit && line.quantity == expected, "{expected} were used of it: {line:?}");
    }
    Ok(())
}

/// A decimal amount in picos, exactly.
fn picos(amount: &str) -> Result<i128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    ensure!(fraction.len() <= DIGITS, "{amount} is finer than picos");
    format!("{whole}{fraction:0<DIGITS$}").parse().with_context(|| format!("{amount} is no decimal amount"))
}
