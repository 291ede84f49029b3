//! What arrives, and apart from it what only the future knows.
//!
//! An [`Arrival`] is all that a policy is ever given; how long it runs stands in [`Lives`], which the replay holds. A policy that is
//! not handed the lives when it is made (only the oracle is) has no way to them. What an arrival's image tells of its life is
//! drawn by [`Hint`] and blanked for the policies that are to be blind.

use anyhow::{Context, Result, ensure};
use wherry_model::{CpuMillis, Demand, MemoryMib};
use wherry_trace::{BIN_SECONDS, Row, SHORTEST_SECONDS, Seeded};

const BIN_MS: u64 = BIN_SECONDS * 1_000;

/// What a policy knows of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Its place in the order of arrival.
    pub(crate) number: usize,
    pub(crate) at_ms: u64,
    pub(crate) cpu_millis: u32,
    pub(crate) memory_mib: u32,
    /// What one tenant started in one bin. Never 0.
    pub(crate) batch: u64,
    /// Its image, if the policy may see it. Never 0.
    pub(crate) image: Option<u64>,
}

impl Arrival {
    pub(crate) fn demand(&self) -> Demand {
        Demand::new(CpuMillis::new(self.cpu_millis), MemoryMib::new(self.memory_mib))
    }
}

/// When each ends, in the order of arrival. `None`: not before the replay does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lives(Vec<Option<u64>>);

impl Lives {
    pub(crate) fn end_ms(&self, number: usize) -> Option<u64> {
        self.0.get(number).copied().flatten()
    }
}

/// What image an arrival has, if images are to say something of lives: one for each lifetime class, and `RIGHT_PERMILLE` of all
/// carry that of their own class, the others one of another class, each as likely. Drawn for each arrival by itself.
///
/// Published predictors of lifetime classes are right that often: Resource Central, SOSP 2017, section 6.1, is for 79 % of the
/// VMs, with the first of [`Hint::ALL`] as classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) name: &'static str,
    /// Where one lifetime class ends and the next begins, in minutes.
    pub(crate) borders_minutes: &'static [u64],
}

/// So many of a thousand images tell the class right.
pub(crate) const RIGHT_PERMILLE: u64 = 800;

impl Hint {
    pub(crate) const ALL: [Self; 3] = [
        Self { name: "15 min, 1 h, 24 h", borders_minutes: &[15, 60, 1_440] },
        Self { name: "1 h, 10 h", borders_minutes: &[60, 600] },
        Self { name: "1 h, 4 h, 12 h, 24 h", borders_minutes: &[60, 240, 720, 1_440] },
    ];
}

/// What is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workload {
    /// In order of time.
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) lives: Lives,
    pub(crate) ends_ms: u64,
}

/// How sizes are taken from the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// As they are: virtual machines.
    Machines,
    /// 0.1 to 4 cores: a quarter of the trace's cores, of which a batch takes 40, 60, 80 or 100 %; a quarter of its memory, of which it
    /// takes a half, the whole or the double. Drawn for each batch.
    Containers,
}

impl Workload {
    /// By the rules of the trace: arrival i of the n of a bin comes i n-ths of the bin after its begin, a life of 0 counts as
    /// 150 s. With `jitter`, a seed, every arrival comes up to a bin later than that, which also changes the order.
    pub(crate) fn of(rows: &[Row], sizes: Sizes, jitter: Option<u64>) -> Result<Self> {
        ensure!(
            rows.iter().all(|row| row.batch.is_some()),
            "the trace has no column batch: the placement bench needs it"
        );
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| row.arrive_s);
        let mut timed = Vec::with_capacity(rows.len());
        let mut random = jitter.map(Seeded::new);
        for bin in rows.chunk_by(|a, b| a.arrive_s == b.arrive_s) {
            for (place, row) in (0..).zip(bin) {
                let later_ms = random.as_mut().map_or(0, |random| random.below(BIN_MS));
                timed.push((row.arrive_s * 1_000 + BIN_MS * place / bin.len() as u64 + later_ms, *row));
            }
        }
        timed.sort_by_key(|(at_ms, _)| *at_ms);
        let last_ms = timed.last().context("the trace has no rows")?.0;
        let ends_ms = (last_ms / BIN_MS + 1) * BIN_MS;
        let mut ends = Vec::with_capacity(timed.len());
        let mut arrivals = Vec::with_capacity(timed.len());
        for (number, (at_ms, row)) in timed.into_iter().enumerate() {
            let lives_s = row.life_s.map(|life_s| if life_s == 0 { SHORTEST_SECONDS } else { life_s });
            ends.push(lives_s.map(|lives_s| at_ms + lives_s * 1_000).filter(|end_ms| *end_ms < ends_ms));
            let batch = row.batch.unwrap_or_default() + 1;
            let (cpu, memory) = sizes.of(&row, batch);
            arrivals.push(Arrival {
                number,
                at_ms,
                cpu_millis: u32::try_from(cpu).context("an arrival asks for more CPU than there is")?,
                memory_mib: u32::try_from(memory).context("an arrival asks for more memory than there is")?,
                batch,
                image: None,
            });
        }
        Ok(Self { arrivals, lives: Lives(ends), ends_ms })
    }

    /// The same arrivals with images, or without.
    pub(crate) fn arrivals_with(&self, hint: Option<Hint>, seed: u64) -> Vec<Arrival> {
        let Some(hint) = hint else { return self.arrivals.clone() };
        let mut random = Seeded::new(seed);
        let classes = hint.borders_minutes.len() as u64 + 1;
        let with_image = |arrival: &Arrival| {
            // One that outlives the replay counts as ending with it, for the oracle too.
            let end_ms = self.lives.end_ms(arrival.number).unwrap_or(self.ends_ms);
            let minutes = (end_ms - arrival.at_ms) / 60_000;
            let class = hint.borders_minutes.iter().filter(|border| minutes >= **border).count() as u64;
            let told =
                if random.chance(RIGHT_PERMILLE) { class } else { (class + 1 + random.below(classes - 1)) % classes };
            Arrival { image: Some(told + 1), ..*arrival }
        };
        self.arrivals.iter().map(with_image).collect()
    }
}

impl Sizes {
    fn of(self, row: &Row, batch: u64) -> (u64, u64) {
        match self {
            Self::Machines => (row.cpu_millis, row.mem_mib),
            Self::Containers => {
                let mut random = Seeded::new(batch);
                let cpu = row.cpu_millis / 4 * (40 + 20 * random.below(4)) / 100;
                let memory = row.mem_mib / 4 * [50, 100, 200][usize::try_from(random.below(3)).unwrap_or(0)] / 100;
                (cpu.max(1), memory.max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wherry_trace::synthetic;

    use super::*;

    fn row(arrive_s: u64, life_s: Option<u64>) -> Row {
        Row { arrive_s, batch: Some(7), cpu_millis: 1_000, mem_mib: 1_792, life_s }
    }

    #[test]
    fn arrivals_are_spread_over_their_bin_and_lives_stand_apart() {
        let rows = [row(600, Some(0)), row(600, None), row(900, Some(60)), row(900, Some(900))];
        let workload = Workload::of(&rows, Sizes::Machines, None).unwrap();
        let at: Vec<_> = workload.arrivals.iter().map(|arrival| arrival.at_ms).collect();
        assert_eq!(at, [600_000, 750_000, 900_000, 1_050_000]);
        assert_eq!(workload.ends_ms, 1_200_000);
        let ends: Vec<_> = (0..4).map(|number| workload.lives.end_ms(number)).collect();
        assert_eq!(ends, [Some(750_000), None, Some(960_000), None]);
        assert!(workload.arrivals.iter().all(|arrival| arrival.image.is_none() && arrival.batch == 8));
    }

    #[test]
    fn a_seed_moves_arrivals_by_less_than_a_bin_and_nobody_out_of_order() {
        let rows = synthetic::draw(2_000, 1, 3);
        let (plain, moved) = (
            Workload::of(&rows, Sizes::Machines, None).unwrap(),
            Workload::of(&rows, Sizes::Machines, Some(1)).unwrap(),
        );
        assert_ne!(plain, moved);
        assert_eq!(moved, Workload::of(&rows, Sizes::Machines, Some(1)).unwrap());
        assert!(moved.arrivals.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
        let sum = |workload: &Workload| workload.arrivals.iter().map(|arrival| arrival.at_ms).sum::<u64>();
        assert!((1..BIN_MS * 2_000).contains(&(sum(&moved) - sum(&plain))));
    }

    #[test]
    fn a_batch_that_the_trace_does_not_tell_is_asked_for() {
        let rows = [Row { batch: None, ..row(0, None) }];
        assert!(Workload::of(&rows, Sizes::Machines, None).unwrap_err().to_string().contains("no column batch"));
    }

    #[test]
    fn containers_are_of_container_size() {
        let rows = synthetic::draw(5_000, 1, 3);
        let workload = Workload::of(&rows, Sizes::Containers, None).unwrap();
        assert!(workload.arrivals.iter().all(|arrival| (100..=4_000).contains(&arrival.cpu_millis)));
        assert!(workload.arrivals.iter().any(|arrival| arrival.cpu_millis == 100));
    }

    #[test]
    fn images_tell_the_class_right_four_times_in_five() {
        let rows = synthetic::draw(20_000, 2, 3);
        let workload = Workload::of(&rows, Sizes::Machines, None).unwrap();
        for hint in Hint::ALL {
            let told = workload.arrivals_with(Some(hint), 1);
            let right = told.iter().filter(|arrival| {
                let end_ms = workload.lives.end_ms(arrival.number).unwrap_or(workload.ends_ms);
                let minutes = (end_ms - arrival.at_ms) / 60_000;
                let class = hint.borders_minutes.iter().filter(|border| minutes >= **border).count();
                arrival.image == Some(class as u64 + 1)
            });
            let permille = right.count() * 1_000 / told.len();
            assert!((790..=810).contains(&permille), "{}: {permille}", hint.name);
        }
        assert_eq!(workload.arrivals_with(None, 1), workload.arrivals);
    }
}
