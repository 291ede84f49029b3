//! Bills against what really ran, second by second, and recomputed from their own lines.
//!
//! Three links of one chain, each held exactly: kernel and engine (the times in the record lie within what the witness saw),
//! engine and meter (both ends of an interval are those times, floored to seconds), meter and bill (lines are the stored
//! intervals, amounts are their products).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wherry_api_client::Client;
use wherry_api_types::{EndReason, MeterKind, Resource, Usage, UsageLine};

use crate::witness::{Run, now};

use super::placed::{IntervalRow, Rows};
use super::{Doubt, Entry, Findings, PROJECT};

/// How much later than the kernel a busy engine may note a start or an end.
const ENGINE_LAG: Duration = Duration::from_secs(3);
/// An open interval ends at the last proof of life, which is never older than this on a machine that is heard.
const PROOF_LAG: Duration = Duration::from_secs(30);
/// A program that lived no longer than this may end between two looks of the witness on a machine that is busy.
const MISSED_AT_MOST: Duration = Duration::from_millis(500);
/// Digits after the point of an amount: prices are pico-currency.
const SCALE: usize = 12;

pub(super) async fn check(
    client: &Client,
    entries: &BTreeMap<String, Entry>,
    rows: &Rows,
    runs: &BTreeMap<String, Vec<Run>>,
    doubts: &[Doubt],
    found: &mut Findings,
) {
    for (tag, entry) in entries {
        let Some((id, _)) = &entry.acknowledged else { continue };
        let seen = runs.get(tag).map(Vec::as_slice).unwrap_or_default();
        let stored: Vec<&IntervalRow> = rows.intervals.iter().filter(|row| row.instance == *id).collect();
        // A program that ended at once may have been missed. Then its record alone can speak for its second.
        let (unseen, rest): (Vec<_>, Vec<_>) =
            stored.iter().copied().partition(|interval| seen.is_empty() && interval.end == Some(interval.start + 1));
        if let Err(error) = ran_as_stored(&rest, seen, &doubts_of(doubts, tag)) {
            found.not_yet.push(format!("{tag}: {error:#}; ran {seen:?}, stored {stored:?}"));
        }
        if let Err(error) = unseen_is_told(client, id, &unseen).await {
            found.not_yet.push(format!("{tag}: {error:#}; stored {stored:?}"));
        }
        if let Err(error) = told_as_stored(client, id, &stored, rows, seen).await {
            found.not_yet.push(format!("{tag}: {error:#}; stored {stored:?}"));
        }
    }
}

fn doubts_of<'a>(doubts: &'a [Doubt], tag: &str) -> Vec<&'a Doubt> {
    doubts.iter().filter(|doubt| doubt.tag.as_ref().is_none_or(|of| of == tag)).collect()
}

/// A single second that nobody saw belongs to a run that the engine saw begin in it and end within [`MISSED_AT_MOST`].
async fn unseen_is_told(client: &Client, id: &str, unseen: &[&IntervalRow]) -> Result<()> {
    if unseen.is_empty() {
        return Ok(());
    }
    let instance = client.instance(PROJECT, id).await.context("no instance")?;
    let told = instance.containers.first().map(|container| container.runs.as_slice()).unwrap_or_default();
    for interval in unseen {
        let mut is_short = false;
        for run in told {
            let Some(finished) = &run.finished_at else { continue };
            let (started, finished) = (moment(&run.started_at)?, moment(finished)?);
            is_short |= started.as_secs() == interval.start && finished.saturating_sub(started) <= MISSED_AT_MOST;
        }
        ensure!(is_short, "metered without having run: seen {told:?}, {interval:?}");
    }
    Ok(())
}

/// Every stored second ran, and every second that ran is stored, except where nobody could prove it.
fn ran_as_stored(stored: &[&IntervalRow], seen: &[Run], doubts: &[&Doubt]) -> Result<()> {
    for pair in stored.windows(2) {
        let earlier = pair[0].end.context("two intervals, and the earlier one is open")?;
        ensure!(earlier <= pair[1].start, "seconds are metered twice");
    }
    for interval in stored {
        let from = Duration::from_secs(interval.start);
        let to = interval.end.map_or_else(now, Duration::from_secs);
        let at = uncovered(
            from,
            to,
            seen.iter().map(|run| {
                // Its second began before it did.
                let begun = run.made.saturating_sub(Duration::from_secs(1));
                (begun, run.missed.unwrap_or_else(|| now() + PROOF_LAG) + ENGINE_LAG)
            }),
        );
        ensure!(at.is_none(), "metered from {at:?} on without having run");
    }
    for run in seen {
        let from = run.first_seen + ENGINE_LAG;
        let to = run.last_seen.saturating_sub(Duration::from_secs(1));
        let metered = stored.iter().map(|interval| {
            let to = interval.end.map_or_else(|| now() + PROOF_LAG, Duration::from_secs);
            (Duration::from_secs(interval.start), to)
        });
        let doubted = doubts.iter().filter(|doubt| doubt.machine == run.machine);
        let doubted = doubted.map(|doubt| (doubt.from, doubt.to.unwrap_or_else(now) + PROOF_LAG));
        let at = uncovered(from, to, metered.chain(doubted));
        ensure!(at.is_none(), "ran unmetered from {at:?} on: {run:?}");
    }
    Ok(())
}

/// The first moment of `[from, to)` that is in none of the intervals.
fn uncovered(from: Duration, to: Duration, by: impl Iterator<Item = (Duration, Duration)>) -> Option<Duration> {
    let mut by: Vec<_> = by.collect();
    by.sort_unstable();
    let mut at = from;
    for (begin, end) in by {
        if begin <= at {
            at = at.max(end);
        }
    }
    (at < to).then_some(at)
}

/// What the API tells is what is stored, and its record's runs are what the meter and the witness have.
async fn told_as_stored(client: &Client, id: &str, stored: &[&IntervalRow], rows: &Rows, seen: &[Run]) -> Result<()> {
    let usage = client.instance_usage(PROJECT, id).await.context("no usage")?;
    let row = rows.instance(id).context("no record")?;
    for (resource, amount) in [(Resource::Cpu, row.cpu_millis), (Resource::Memory, row.memory_mib)] {
        let lines: Vec<&UsageLine> =
            usage.lines.iter().filter(|line| line.kind == MeterKind::Run && line.resource == resource).collect();
        // An interval that covers no second needs no line.
        let expected: Vec<&&IntervalRow> =
            stored.iter().filter(|interval| interval.end != Some(interval.start)).collect();
        for interval in &expected {
            let metered = if resource == Resource::Cpu { interval.cpu_millis } else { interval.memory_mib };
            ensure!(metered == amount, "asked for {amount}, metered {metered}");
            let line = lines.iter().find(|line| second(&line.from).ok() == Some(interval.start));
            match (line, interval.end) {
                (Some(line), Some(end)) => {
                    ensure!(second(&line.to)? == end && !line.open, "{line:?} is not {interval:?}");
                }
                (Some(line), None) => ensure!(line.open, "{line:?} is not open"),
                // One that was opened just now.
                (None, None) => {}
                (None, Some(_)) => anyhow::bail!("no line for {interval:?}"),
            }
        }
        let known = |line: &&&UsageLine| {
            let from = second(&line.from).unwrap_or_default();
            expected.iter().any(|interval| interval.start == from)
        };
        let unknown = lines.iter().find(|line| !known(line));
        ensure!(unknown.is_none(), "a line without an interval: {unknown:?}");
        for line in lines {
            let seconds = second(&line.to)? - second(&line.from)?;
            let quantity: u64 = line.quantity.parse().context("a quantity is no number")?;
            ensure!(quantity == amount * seconds, "{quantity} is not {amount} × {seconds}");
        }
    }
    recompute(&usage)?;
    runs_as_stored(client, id, stored, seen).await
}

/// Amounts are products, the total is their sum.
fn recompute(usage: &Usage) -> Result<()> {
    let mut sum = 0;
    for line in &usage.lines {
        let quantity: i128 = line.quantity.parse().context("a quantity is no number")?;
        let amount = decimal(&line.amount)?;
        ensure!(quantity * decimal(&line.unit_price)? == amount, "the amount of {line:?} is wrong");
        sum += amount;
    }
    ensure!(sum == decimal(&usage.total)?, "{} is not the sum of its lines", usage.total);
    Ok(())
}

/// A run that the record tells of has both its ends on the meter and in what the witness saw.
async fn runs_as_stored(client: &Client, id: &str, stored: &[&IntervalRow], seen: &[Run]) -> Result<()> {
    let instance = client.instance(PROJECT, id).await.context("no instance")?;
    let told = instance.containers.first().map(|container| container.runs.as_slice()).unwrap_or_default();
    for pair in told.windows(2) {
        let ended = pair[0].finished_at.as_deref().context("two runs, and the earlier one has no end")?;
        ensure!(moment(ended)? <= moment(&pair[1].started_at)?, "two runs at once: {pair:?}");
    }
    for run in told {
        let started = moment(&run.started_at)?;
        let is_metered = stored.iter().any(|interval| interval.start == started.as_secs());
        // A restart within the second in which the run before it ended begins with the next one.
        let is_joined = stored.iter().any(|interval| interval.end == Some(started.as_secs() + 1));
        ensure!(is_metered || is_joined, "the meter does not begin with {run:?}");
        let witnessed = seen.iter().min_by_key(|seen| seen.first_seen.abs_diff(started));
        let witnessed =
            witnessed.filter(|seen| seen.made <= started + ENGINE_LAG && started <= seen.first_seen + ENGINE_LAG);
        // A program that ended at once may have been missed.
        let Some(finished) = &run.finished_at else {
            ensure!(witnessed.is_some(), "nobody has seen {run:?}");
            continue;
        };
        let finished = moment(finished)?;
        let is_metered = stored.iter().any(|interval| interval.end == Some(finished.as_secs()));
        ensure!(is_metered, "the meter does not end with {run:?}");
        if let (Some(witnessed), false) = (witnessed, run.reason == Some(EndReason::NodeLost)) {
            let missed = witnessed.missed.with_context(|| format!("it runs on and has ended: {run:?}"))?;
            let is_seen = witnessed.last_seen <= finished + ENGINE_LAG && finished <= missed + ENGINE_LAG;
            ensure!(is_seen, "{run:?} did not end when {witnessed:?} did");
        }
    }
    Ok(())
}

fn moment(time: &str) -> Result<Duration> {
    let time: jiff::Timestamp = time.parse().with_context(|| format!("{time} is no time"))?;
    Ok(Duration::from_millis(u64::try_from(time.as_millisecond()).context("a time before 1970")?))
}

fn second(time: &str) -> Result<u64> {
    Ok(moment(time)?.as_secs())
}

/// In 10^-12 of the currency.
fn decimal(text: &str) -> Result<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    ensure!(part.len() <= SCALE, "{text} has more than {SCALE} digits after the point");
    format!("{whole}{part:0<SCALE$}").parse().with_context(|| format!("{text} is no amount"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn run(made: u64, first: u64, last: u64, missed: Option<u64>) -> Run {
        let machine = "node-0".to_owned();
        let (made, first_seen, last_seen) = (seconds(made), seconds(first), seconds(last));
        Run { machine, pid: 1, made, first_seen, last_seen, missed: missed.map(seconds) }
    }

    fn interval(start: u64, end: u64) -> IntervalRow {
        IntervalRow { instance: String::new(), cpu_millis: 1, memory_mib: 1, start, end: Some(end) }
    }

    #[test]
    fn an_exact_bill_holds_and_each_kind_of_wrong_one_does_not() {
        let seen = [run(100, 100, 150, Some(151)), run(160, 160, 200, Some(201))];
        let holds = |stored: &[IntervalRow], doubts: &[&Doubt]| {
            ran_as_stored(&stored.iter().collect::<Vec<_>>(), &seen, doubts).is_ok()
        };
        assert!(holds(&[interval(100, 150), interval(160, 200)], &[]));
        // In two pieces that tile, as after a silence.
        assert!(holds(&[interval(100, 120), interval(120, 150), interval(160, 200)], &[]));
        assert!(!holds(&[interval(100, 150)], &[]), "a run is not billed");
        assert!(!holds(&[interval(100, 120), interval(130, 150), interval(160, 200)], &[]), "a hole");
        assert!(!holds(&[interval(100, 200)], &[]), "a pause is billed");
        assert!(!holds(&[interval(90, 150), interval(160, 200)], &[]), "billed before it ran");
        assert!(!holds(&[interval(100, 140), interval(130, 150), interval(160, 200)], &[]), "billed twice");
        let doubt = Doubt { machine: "node-0".into(), tag: None, from: seconds(110), to: Some(seconds(150)) };
        assert!(holds(&[interval(100, 112), interval(160, 200)], &[&doubt]));
        let elsewhere = Doubt { machine: "node-1".into(), ..doubt.clone() };
        assert!(!holds(&[interval(100, 112), interval(160, 200)], &[&elsewhere]));
    }

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(decimal("0.00001").unwrap(), 10_000_000);
        assert_eq!(decimal("12").unwrap(), 12_000_000_000_000);
        assert_eq!(decimal("1.000000000001").unwrap(), 1_000_000_000_001);
        assert!(decimal("1.0000000000001").is_err() && decimal("x").is_err());
    }
}
