//! How densely each policy packs, all of them on the same arrivals.
//!
//! The main figures are of the trace as it is, on machines of 96 cores and 256 GiB. Beside them: five seeds of jitter, other machines,
//! and demands of container size.

#![expect(clippy::cast_precision_loss, reason = "hours below 2^52")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use wherry_trace::{BIN_SECONDS, Row, Trace};

use crate::nodes::Shape;
use crate::policies::{Engine, Oracle, Policy, Rule, Scan};
use crate::replay::{Outcome, replay};
use crate::workload::{Hint, Lives, Sizes, Workload};

/// How a policy is made. Only those that are said to know the future are given it.
#[derive(Debug, Clone, Copy)]
enum Make {
    Seeing(fn(&[Shape], usize) -> Box<dyn Policy>),
    Foreseeing(fn(Lives, u64) -> Box<dyn Policy>),
}

/// A policy with what it may see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    /// Its name in the JSON.
    pub(crate) key: &'static str,
    /// Its name for people.
    pub(crate) name: &'static str,
    make: Make,
    /// What images tell it.
    pub(crate) hint: Option<Hint>,
    /// The figure of `shared/reference/placement.md` for the dev trace.
    pub(crate) reference: Option<f64>,
}

/// All of them, in the order of the tables.
pub(crate) const SUBJECTS: [Subject; 11] = [
    scan("first_fit", "first fit", |_, _| Box::new(Scan::new(Rule::FirstFit)), Some(1.114)),
    scan(
        "kube_most_allocated",
        "kube MostAllocated + Balanced",
        |_, _| Box::new(Scan::new(Rule::KubeMostAllocated)),
        None,
    ),
    scan("best_fit", "best fit", |_, _| Box::new(Scan::new(Rule::BestFit)), Some(1.105)),
    scan("best_fit_balanced", "best fit + balance", |_, _| Box::new(Scan::new(Rule::BestFitBalanced)), Some(1.103)),
    wherry("engine", "Wherry, nothing learnt", false, None),
    wherry("blind", "Wherry blind", true, None),
    wherry("labelled", "Wherry labelled, 15 min, 1 and 24 h", true, Some(Hint::ALL[0])),
    wherry("labelled_2", "Wherry labelled, 1 h and 10 h", true, Some(Hint::ALL[1])),
    wherry("labelled_3", "Wherry labelled, 1, 4, 12 and 24 h", true, Some(Hint::ALL[2])),
    oracle("oracle", "an oracle", |lives, ends_ms| Box::new(Oracle::new(lives, ends_ms, 0.0)), Some(1.076)),
    oracle("oracle_thrifty", "a thrifty oracle", |lives, ends_ms| Box::new(Oracle::new(lives, ends_ms, 0.03)), None),
];

/// How far a figure may be from its reference.
const TOLERANCE: f64 = 0.003;

/// The trace that the references are of: its segment and its arrivals.
const REFERENCE_TRACE: (&str, usize) = ("dev", 259_159);

const fn scan(
    key: &'static str,
    name: &'static str,
    make: fn(&[Shape], usize) -> Box<dyn Policy>,
    reference: Option<f64>,
) -> Subject {
    Subject { key, name, make: Make::Seeing(make), hint: None, reference }
}

const fn wherry(key: &'static str, name: &'static str, learns: bool, hint: Option<Hint>) -> Subject {
    let make: fn(&[Shape], usize) -> Box<dyn Policy> = if learns {
        |shapes, count| Box::new(Engine::new(shapes, count, true))
    } else {
        |shapes, count| Box::new(Engine::new(shapes, count, false))
    };
    Subject { key, name, make: Make::Seeing(make), hint, reference: None }
}

const fn oracle(
    key: &'static str,
    name: &'static str,
    make: fn(Lives, u64) -> Box<dyn Policy>,
    reference: Option<f64>,
) -> Subject {
    Subject { key, name, make: Make::Foreseeing(make), hint: None, reference }
}

/// On what is replayed, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name in the JSON.
    pub(crate) key: &'static str,
    /// Its name for people.
    pub(crate) name: &'static str,
    shapes: &'static [Shape],
    sizes: Sizes,
}

const NODE: Shape = Shape::new(96, 256);

/// All of them, the one of the main figures first.
pub(crate) const SCENARIOS: [Scenario; 4] = [
    Scenario { key: "96x256", name: "96 cores, 256 GiB", shapes: &[NODE], sizes: Sizes::Machines },
    Scenario { key: "64x256", name: "64 cores, 256 GiB", shapes: &[Shape::new(64, 256)], sizes: Sizes::Machines },
    Scenario {
        key: "mixed",
        name: "a third each of 96/256, 64/256, 32/128",
        shapes: &[NODE, Shape::new(64, 256), Shape::new(32, 128)],
        sizes: Sizes::Machines,
    },
    Scenario { key: "containers", name: "containers, on 96/256", shapes: &[NODE], sizes: Sizes::Containers },
];

/// Seeds of jitter, on the first scenario.
pub(crate) const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// Draws the images of a run without jitter; with it, its seed is added.
const IMAGE_SEED: u64 = 80;

/// One policy in one scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// Where in [`SUBJECTS`].
    pub(crate) subject: usize,
    /// Where in [`SCENARIOS`].
    pub(crate) scenario: usize,
    pub(crate) jitter: Option<u64>,
    pub(crate) outcome: Outcome,
}

/// All that came out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Density {
    /// The name of the trace.
    pub(crate) trace: String,
    /// Whether it is drawn: placement is not to be judged by it.
    pub(crate) synthetic: bool,
    pub(crate) arrivals: usize,
    pub(crate) hours: f64,
    pub(crate) runs: Vec<Run>,
}

impl Density {
    pub(crate) fn outcome(&self, subject: usize, scenario: usize, jitter: Option<u64>) -> Option<&Outcome> {
        let run = self.runs.iter().find(|run| (run.subject, run.scenario, run.jitter) == (subject, scenario, jitter));
        run.map(|run| &run.outcome)
    }

    /// Least, median and most over the seeds.
    pub(crate) fn spread(&self, subject: usize) -> Option<[f64; 3]> {
        let ratios = SEEDS.iter().map(|seed| Some(self.outcome(subject, 0, Some(*seed))?.ratio));
        let mut ratios = ratios.collect::<Option<Vec<f64>>>()?;
        ratios.sort_by(f64::total_cmp);
        Some([ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]])
    }

    /// What is not as `shared/reference/placement.md` has it, which is of one trace. A wrong harness shows here.
    pub(crate) fn against_reference(&self) -> Vec<String> {
        if (self.trace.as_str(), self.arrivals) != REFERENCE_TRACE {
            return Vec::new();
        }
        let differs = |(at, subject): (usize, &Subject)| {
            let (reference, ratio) = (subject.reference?, self.outcome(at, 0, None)?.ratio);
            ((ratio - reference).abs() > TOLERANCE)
                .then(|| format!("{}: {ratio:.4}, the reference is {reference:.3}", subject.name))
        };
        SUBJECTS.iter().enumerate().filter_map(differs).collect()
    }
}

/// Replays all of it, on as many threads as there are cores. `tell` hears of each run.
pub(crate) fn run(name: &str, synthetic: bool, trace: &Trace, tell: &(dyn Fn(String) + Sync)) -> Result<Density> {
    let mut jobs = Vec::new();
    for (subject, of) in SUBJECTS.iter().enumerate() {
        jobs.push((subject, 0, None));
        // One recipe of images is enough for the rest.
        if of.hint.is_none_or(|hint| hint == Hint::ALL[0]) {
            jobs.extend(SEEDS.map(|seed| (subject, 0, Some(seed))));
            jobs.extend((1..SCENARIOS.len()).map(|scenario| (subject, scenario, None)));
        }
    }
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs.len())));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // The slow ones, which stand last, begin first.
                    let Some((subject, scenario, jitter)) = jobs.iter().rev().nth(number).copied() else { return };
                    let began = Instant::now();
                    let outcome = one(&SUBJECTS[subject], &SCENARIOS[scenario], jitter, &trace.rows);
                    if let Ok(outcome) = &outcome {
                        let seed = jitter.map_or_else(String::new, |seed| format!(", seed {seed}"));
                        let (subject, scenario) = (SUBJECTS[subject].name, SCENARIOS[scenario].name);
                        let took = began.elapsed().as_secs_f64();
                        let place = number + 1;
                        let all = jobs.len();
                        tell(format!(
                            "[{place}/{all}] {subject}; {scenario}{seed}: {:.4} in {took:.1} s",
                            outcome.ratio
                        ));
                    }
                    let run = outcome.map(|outcome| Run { subject, scenario, jitter, outcome });
                    runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                }
            });
        }
    });
    let mut runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect::<Result<Vec<_>>>()?;
    runs.sort_by_key(|run| (run.scenario, run.jitter, run.subject));
    let (first, last) =
        trace.rows.iter().fold((u64::MAX, 0), |(first, last), row| (row.arrive_s.min(first), row.arrive_s.max(last)));
    Ok(Density {
        trace: trace.segment.clone().unwrap_or_else(|| name.to_owned()),
        synthetic,
        arrivals: trace.rows.len(),
        hours: (last - first + BIN_SECONDS) as f64 / 3_600.0,
        runs,
    })
}

fn one(subject: &Subject, scenario: &Scenario, jitter: Option<u64>, rows: &[Row]) -> Result<Outcome> {
    let workload = Workload::of(rows, scenario.sizes, jitter)?;
    let arrivals = workload.arrivals_with(subject.hint, IMAGE_SEED + jitter.unwrap_or(0));
    let count = enough(&workload, scenario.shapes);
    let mut policy = match subject.make {
        Make::Seeing(make) => make(scenario.shapes, count),
        Make::Foreseeing(make) => make(workload.lives.clone(), workload.ends_ms),
    };
    let outcome = replay((scenario.shapes, count), (&arrivals, &workload.lives, workload.ends_ms), policy.as_mut())?;
    let too_large = arrivals.iter().filter(|arrival| !scenario.shapes.iter().any(|shape| shape.holds(arrival))).count();
    ensure!(
        outcome.rejected == too_large as u64,
        "{}: {} arrivals found no room among {count} machines, of which {too_large} are larger than a machine",
        subject.name,
        outcome.rejected
    );
    Ok(outcome)
}

/// More machines than anybody needs: half again what the volume of the fullest moment takes of each shape, which is their number if
/// all were of the least.
fn enough(workload: &Workload, shapes: &[Shape]) -> usize {
    let mut changes = Vec::with_capacity(workload.arrivals.len() * 2);
    for arrival in &workload.arrivals {
        let (cpu, memory) = (i128::from(arrival.cpu_millis), i128::from(arrival.memory_mib));
        changes.push((arrival.at_ms, cpu, memory));
        changes.extend(workload.lives.end_ms(arrival.number).map(|end_ms| (end_ms, -cpu, -memory)));
    }
    changes.sort_unstable();
    let (mut cpu, mut memory, mut most) = (0, 0, 0);
    for (_, more_cpu, more_memory) in changes {
        (cpu, memory) = (cpu + more_cpu, memory + more_memory);
        let of = |shape: &Shape| (cpu / i128::from(shape.cpu_millis)).max(memory / i128::from(shape.memory_mib));
        most = shapes.iter().map(of).max().unwrap_or(0).max(most);
    }
    usize::try_from(most).unwrap_or(0) * 3 / 2 * shapes.len() + 16
}
