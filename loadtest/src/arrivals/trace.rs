//! Arrivals of a recorded trace, as they are to be played: by the rules of `wherry-trace`, in compressed time.

use std::collections::BTreeMap;
use std::time::Duration;

use wherry_trace::{BIN_SECONDS, Row, SHORTEST_SECONDS};

use super::Arrival;

const DAY_SECONDS: u64 = 86_400;

/// How a trace is played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Play {
    /// So many times faster, lives too.
    pub(crate) speed_up: u32,
    /// So many copies on top of each other, each a day later than the one before, round the end of the trace.
    pub(crate) copies: u32,
    /// Only arrivals of so much time of the run.
    pub(crate) time: Option<Duration>,
}

/// The arrivals of `rows` as they are to be played.
pub(crate) fn play(rows: &[Row], play: Play) -> Vec<Arrival> {
    let first = rows.iter().map(|row| row.arrive_s).min().unwrap_or_default();
    let mut bins: BTreeMap<u64, u64> = BTreeMap::new();
    for row in rows {
        *bins.entry(row.arrive_s).or_default() += 1;
    }
    let last = bins.last_key_value().map_or(first, |(at, _)| *at);
    let span_ms = (last - first + BIN_SECONDS) * 1_000;
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut arrivals = Vec::new();
    for row in rows {
        let of_bin = bins.get(&row.arrive_s).copied().unwrap_or(1);
        let place = seen.entry(row.arrive_s).or_default();
        let at_ms = (row.arrive_s - first) * 1_000 + BIN_SECONDS * 1_000 * *place / of_bin;
        *place += 1;
        for copy in 0..u64::from(play.copies.max(1)) {
            let at_ms = (at_ms + copy * DAY_SECONDS * 1_000) % span_ms;
            let at = Duration::from_millis(at_ms) / play.speed_up.max(1);
            let life = row.life_s.map(|life| if life == 0 { SHORTEST_SECONDS } else { life });
            let life = life.map(|life| Duration::from_secs(life) / play.speed_up.max(1));
            arrivals.push(Arrival { at, cpu_millis: row.cpu_millis, memory_mib: row.mem_mib, life });
        }
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    if let Some(time) = play.time {
        arrivals.retain(|arrival| arrival.at < time);
    }
    arrivals
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_IT_IS: Play = Play { speed_up: 1, copies: 1, time: None };

    fn rows() -> Vec<Row> {
        let row = |arrive_s, cpu_millis, mem_mib, life_s| Row { arrive_s, batch: None, cpu_millis, mem_mib, life_s };
        vec![row(600, 8_000, 14_336, Some(300)), row(600, 1_000, 768, Some(0)), row(900, 2_000, 3_584, None)]
    }

    fn at(arrivals: &[Arrival]) -> Vec<u64> {
        arrivals.iter().map(|arrival| arrival.at.as_secs()).collect()
    }

    #[test]
    fn arrivals_are_spread_over_their_bin_and_short_lives_count() {
        let arrivals = play(&rows(), AS_IT_IS);
        assert_eq!(at(&arrivals), [0, 150, 300]);
        let lives: Vec<_> = arrivals.iter().map(|arrival| arrival.life.map(|life| life.as_secs())).collect();
        assert_eq!(lives, [Some(300), Some(150), None]);
        assert_eq!((arrivals[0].cpu_millis, arrivals[0].memory_mib), (8_000, 14_336));
    }

    #[test]
    fn time_is_compressed_and_copies_come_a_day_later_round_the_end() {
        let fast = play(&rows(), Play { speed_up: 60, ..AS_IT_IS });
        assert_eq!(at(&fast), [0, 2, 5]);
        assert_eq!(fast[0].life, Some(Duration::from_secs(5)));
        // A day is 144 spans of 600 s: each copy falls on the first.
        let copies = play(&rows(), Play { copies: 2, ..AS_IT_IS });
        assert_eq!(at(&copies), [0, 0, 150, 150, 300, 300]);
        let cut = play(&rows(), Play { time: Some(Duration::from_secs(200)), ..AS_IT_IS });
        assert_eq!(at(&cut), [0, 150]);
    }
}
