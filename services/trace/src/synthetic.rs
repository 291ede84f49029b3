//! A trace for those who have none: drawn so that it has the statistics of the real one that Wherry is tuned on (259,159 arrivals of
//! the Azure Public Dataset V1, Cortez et al., "Resource Central", SOSP 2017): its shapes, its batches and its lifetimes. It has no
//! tenants, no day and night, and a batch is of one shape; placement is not to be judged by it.

use std::fmt::Write as _;

use crate::{BIN_SECONDS, Row, Seeded};

/// (cores, MiB, of 10,000 arrivals)
const SHAPES: [(u64, u64, u64); 7] = [
    (1, 1_792, 6_036),
    (2, 3_584, 1_855),
    (4, 7_168, 994),
    (8, 14_336, 900),
    (1, 768, 159),
    (8, 57_344, 55),
    (16, 114_688, 1),
];

/// Sizes of batches: (of 10,000 batches, smallest, largest). Within a class evenly.
const BATCHES: [(u64, u64, u64); 8] = [
    (5_792, 1, 1),
    (1_850, 2, 2),
    (1_005, 3, 4),
    (560, 5, 8),
    (300, 9, 14),
    (390, 15, 55),
    (93, 56, 180),
    (10, 181, 587),
];

/// Lifetimes in seconds at quantiles: (permille of those that ended, at most so long). Linear in between.
const LIVES: [(u64, u64); 15] = [
    (0, 0),
    (29, 0),
    (100, 300),
    (200, 600),
    (300, 900),
    (400, 1_200),
    (500, 1_500),
    (600, 1_800),
    (700, 3_000),
    (800, 6_900),
    (900, 24_900),
    (950, 45_900),
    (990, 106_200),
    (999, 197_100),
    (1_000, 300_000),
];
/// Of a thousand arrivals so many outlive the trace.
const OUTLIVE: u64 = 55;
/// Of a thousand batches so many live alike.
const ALIKE: u64 = 445;

/// About `count` arrivals over `days`, in order of time.
pub fn draw(count: usize, days: u64, seed: u64) -> Vec<Row> {
    let mut random = Seeded::new(seed);
    let bins = (days * 86_400 / BIN_SECONDS).max(1);
    let mut rows = Vec::new();
    let mut batch = 0;
    while rows.len() < count {
        let arrive_s = random.below(bins) * BIN_SECONDS;
        let shape = weighted(&SHAPES.map(|(_, _, weight)| weight), &mut random);
        let (vcpu, mem_mib, _) = SHAPES[shape];
        let class = weighted(&BATCHES.map(|(weight, ..)| weight), &mut random);
        let (_, least, most) = BATCHES[class];
        let size = least + random.below(most - least + 1);
        let alike = random.chance(ALIKE).then(|| life(&mut random));
        for _ in 0..size {
            let life_s = alike.unwrap_or_else(|| life(&mut random));
            rows.push(Row { arrive_s, batch: Some(batch), cpu_millis: vcpu * 1_000, mem_mib, life_s });
        }
        batch += 1;
    }
    rows.truncate(count);
    rows.sort_by_key(|row| (row.arrive_s, row.batch));
    rows
}

/// The rows as a file that [`crate::read`] reads.
pub fn csv(rows: &[Row]) -> String {
    let mut text = "seg,arrive_s,batch,vcpu,mem_mib,life_s,bin,cens\n".to_owned();
    for row in rows {
        let life = row.life_s.unwrap_or(0);
        let (bin, outlives) = (life / BIN_SECONDS, u8::from(row.life_s.is_none()));
        let (batch, cores) = (row.batch.unwrap_or(0), row.cpu_millis / 1_000);
        let cores = if row.cpu_millis % 1_000 == 0 {
            cores.to_string()
        } else {
            format!("{cores}.{:03}", row.cpu_millis % 1_000)
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "synthetic,{},{batch},{cores},{},{life},{bin},{outlives}", row.arrive_s, row.mem_mib);
    }
    text
}

fn weighted(weights: &[u64], random: &mut Seeded) -> usize {
    let mut drawn = random.below(weights.iter().sum::<u64>().max(1));
    for (place, weight) in weights.iter().enumerate() {
        if drawn < *weight {
            return place;
        }
        drawn -= weight;
    }
    0
}

fn life(random: &mut Seeded) -> Option<u64> {
    if random.chance(OUTLIVE) {
        return None;
    }
    let drawn = random.below(1_000);
    let pair = LIVES.windows(2).find(|pair| drawn < pair[1].0)?;
    let ((from, least), (to, most)) = (pair[0], pair[1]);
    Some(least + (most - least) * (drawn - from) / (to - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The real trace's figures, from its own rows: shares of shapes, quantiles of lives, and batches.
    #[test]
    fn it_has_the_statistics_of_the_real_trace() {
        let rows = draw(100_000, 3, 1);
        let share = |vcpu: u64, mem_mib| {
            rows.iter().filter(|row| (row.cpu_millis, row.mem_mib) == (vcpu * 1_000, mem_mib)).count() / 1_000
        };
        assert!((55..=65).contains(&share(1, 1_792)), "{} %", share(1, 1_792));
        assert!((15..=22).contains(&share(2, 3_584)), "{} %", share(2, 3_584));
        let mut lives: Vec<u64> = rows.iter().filter_map(|row| row.life_s).collect();
        lives.sort_unstable();
        let quantile = |percent: usize| lives[lives.len() * percent / 100];
        assert!((1_300..=1_700).contains(&quantile(50)), "median life {} s", quantile(50));
        assert!((20_000..=30_000).contains(&quantile(90)), "p90 life {} s", quantile(90));
        assert!((93_000..=96_000).contains(&lives.len()), "{} ended", lives.len());
        let batches = rows.iter().map(|row| row.batch).collect::<std::collections::BTreeSet<_>>().len();
        let mean_tenths = rows.len() * 10 / batches;
        assert!((38..=60).contains(&mean_tenths), "batches of {mean_tenths} tenths on average");
        assert_eq!(rows, draw(100_000, 3, 1));
    }

    #[test]
    fn its_file_is_read_back() {
        let mut rows = draw(500, 1, 2);
        rows[0].cpu_millis = 250;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.csv");
        std::fs::write(&path, csv(&rows)).unwrap();
        assert_eq!(crate::read(&path).unwrap(), crate::Trace { segment: Some("synthetic".to_owned()), rows });
    }
}
