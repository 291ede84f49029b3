//! Plays worlds of the simulation: `simulate FIRST COUNT`, or `simulate SEED` to read the story of one.

use wherry_testkit::simulation::simulate;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    match numbers[..] {
        [seed] => {
            let outcome = simulate(seed);
            for line in &outcome.story {
                println!("{line}");
            }
            println!("trace {:016x}, violations: {:#?}", outcome.trace, outcome.violations);
            std::process::exit(i32::from(!outcome.violations.is_empty()));
        }
        [first, count] => {
            let mut failed = 0;
            for seed in first..first.saturating_add(count) {
                let outcome = simulate(seed);
                if !outcome.violations.is_empty() {
                    failed += 1;
                    println!("seed {seed}: {}", outcome.violations.join("; "));
                }
            }
            println!("{count} seeds from {first}: {failed} with violations");
            std::process::exit(i32::from(failed > 0));
        }
        _ => {
            eprintln!("usage: simulate SEED, or simulate FIRST COUNT");
            std::process::exit(2);
        }
    }
}
