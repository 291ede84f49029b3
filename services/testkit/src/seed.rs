//! Random tests that can be run again.

/// The environment variable that replays one seed.
const REPLAY: &str = "WHERRY_SEED";

/// The environment variable that asks for another number of seeds, to search longer than every test run can.
const COUNT: &str = "WHERRY_SEEDS";

/// The seeds of a random test: `count` of them, or the one to be replayed. Each is printed before it is used.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |variable| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a seed is a number"));
    let range = number(REPLAY).map_or(0..number(COUNT).unwrap_or(count), |seed| seed..seed + 1);
    range.inspect(|seed| println!("replay this one with {REPLAY}={seed}"))
}
