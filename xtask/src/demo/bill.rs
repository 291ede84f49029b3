//! Printing a bill, and adding it up again: anyone can.

use anyhow::{Context, Result, ensure};
use wherry_api_types::Usage;

/// Digits behind the point that amounts are added with: picos.
const DIGITS: usize = 12;

/// Prints every line and fails unless they sum to the total.
pub(super) fn show(usage: &Usage) -> Result<()> {
    ensure!(!usage.lines.is_empty(), "the bill is empty: the meter did not run");
    let mut sum = 0;
    for line in &usage.lines {
        sum += picos(&line.amount)?;
        println!(
            "   {:<6} {:<5} {:<7} {:>4} s  {:>8} {:<16} × {} = {} {}",
            line.instance,
            word(&line.kind)?,
            word(&line.resource)?,
            line.seconds,
            line.quantity,
            word(&line.unit)?,
            line.unit_price,
            line.amount,
            usage.currency,
        );
    }
    println!("   total {} {}", usage.total, usage.currency);
    ensure!(sum == picos(&usage.total)?, "the lines sum to {sum} picos, not to the total of {}", usage.total);
    Ok(())
}

/// A decimal amount in picos, exactly.
pub(super) fn picos(amount: &str) -> Result<i128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    ensure!(fraction.len() <= DIGITS, "{amount} is finer than picos");
    format!("{whole}{fraction:0<DIGITS$}").parse().with_context(|| format!("{amount} is no decimal amount"))
}

/// The name of a value on the wire.
fn word(value: &impl serde::Serialize) -> Result<String> {
    let value = serde_json::to_value(value).context("a name that is not text")?;
    value.as_str().map(str::to_owned).context("a name that is not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        assert_eq!(picos("0").unwrap(), 0);
        assert_eq!(picos("1.5").unwrap(), 1_500_000_000_000);
        assert_eq!(picos("0.000000000001").unwrap(), 1);
        assert_eq!(picos("-0.25").unwrap(), -250_000_000_000);
        assert!(picos("0.0000000000001").is_err());
        assert!(picos("free").is_err());
    }
}
