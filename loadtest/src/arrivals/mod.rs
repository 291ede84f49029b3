//! What arrives when: open loop, decided before the run begins, so that a slow service changes nothing about what is asked of it.

pub(crate) mod trace;

use std::time::Duration;

use crate::system::Seeded;

/// Wanted from a service at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arrival {
    /// From the begin of the run.
    pub(crate) at: Duration,
    pub(crate) cpu_millis: u64,
    pub(crate) memory_mib: u64,
    /// How long it runs; to the end of the test and beyond when absent.
    pub(crate) life: Option<Duration>,
}

/// Small instances at a steady mean rate: times between arrivals are exponential (a Poisson process), which is burstier than a
/// clock and is what many independent callers look like.
pub(crate) fn at_rate(per_second: u32, time: Duration, life: Option<Duration>, seed: u64) -> Vec<Arrival> {
    let mut random = Seeded::new(seed);
    let mean = Duration::from_secs(1) / per_second.max(1);
    let mut arrivals = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += exponential(mean, &mut random);
        if at >= time {
            return arrivals;
        }
        let life = life.map(|life| exponential(life, &mut random));
        arrivals.push(Arrival { at, cpu_millis: 100, memory_mib: 64, life });
    }
}

fn exponential(mean: Duration, random: &mut Seeded) -> Duration {
    mean.mul_f64(-(1.0 - random.fraction()).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_repeats_with_its_seed() {
        let arrivals = at_rate(100, Duration::from_secs(50), Some(Duration::from_secs(10)), 1);
        assert!((4_700..5_300).contains(&arrivals.len()), "{} arrivals", arrivals.len());
        assert!(arrivals.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!(arrivals, at_rate(100, Duration::from_secs(50), Some(Duration::from_secs(10)), 1));
        let lives: Duration = arrivals.iter().filter_map(|arrival| arrival.life).sum();
        let mean = lives / u32::try_from(arrivals.len()).unwrap();
        assert!((9..=11).contains(&mean.as_secs()), "lives of {mean:?} on average");
    }
}
