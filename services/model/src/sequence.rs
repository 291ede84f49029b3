//! Which containers of an instance may be started now, for which others the rest wait, and what will never be.
//!
//! The beginning comes first: its containers one after the other, each to its success, and after the last of them all main
//! ones. Of a main container what it depends on must be true before its first start in a generation; a restart by policy
//! does not wait for it again, as the other may be restarted itself. The beginning is different: it prepares the sandbox, so
//! nothing starts in a sandbox before its beginning is over.
//!
//! Because no circle of dependencies passes the check of a spec, something can always be started, runs, or will never be.

use crate::name::ContainerName;
use crate::spec::{Condition, ContainerKind, ContainerSpec};

/// How a container stands, as far as others wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It does not run, and is to be started when its turn comes.
    #[default]
    Due,
    /// It runs.
    Running {
        /// Whether its probes find it ready.
        ready: bool,
    },
    /// It has ended and is not started again.
    Over {
        /// Whether with 0.
        success: bool,
    },
}

/// What is known of a container in this generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// How it stands.
    pub standing: Standing,
    /// Whether it was started before. Of a container of the beginning that is due again, because its sandbox was lost, this
    /// is false.
    pub began: bool,
}

/// For what a container waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obstacle<'a> {
    /// For which container.
    pub container: &'a ContainerName,
    /// Until what is true of it.
    pub condition: Condition,
}

/// What comes next for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn<'a> {
    /// Nothing: it runs or is over.
    Had,
    /// It may be started.
    Open,
    /// It waits for another.
    Waits(Obstacle<'a>),
    /// It waits for what will never be true.
    Never(Obstacle<'a>),
}

/// Whether the container is there to come to its end once: one of the beginning, and one whose completion another waits for.
/// After a success it is not started again, whatever the restart policy.
pub fn runs_once<'a>(containers: impl IntoIterator<Item = &'a ContainerSpec>, container: &ContainerSpec) -> bool {
    let is_it = |dependency: &crate::spec::Dependency| {
        dependency.container == container.name && dependency.condition == Condition::Completed
    };
    container.kind == ContainerKind::Init || containers.into_iter().any(|other| other.depends_on.iter().any(is_it))
}

/// What comes next for each container, in the order of `containers`; `progress` has an entry for each.
pub fn turns<'a>(containers: &[&'a ContainerSpec], progress: &[Progress]) -> Vec<Turn<'a>> {
    let mut turns = vec![Turn::Had; containers.len()];
    // That one will never be started can mean the same for another, so it is looked again until nothing changes.
    loop {
        let next: Vec<Turn<'a>> =
            (0..containers.len()).map(|index| turn(containers, progress, &turns, index)).collect();
        if next == turns {
            return turns;
        }
        turns = next;
    }
}

fn turn<'a>(containers: &[&'a ContainerSpec], progress: &[Progress], known: &[Turn<'a>], index: usize) -> Turn<'a> {
    let (Some(spec), Some(own)) = (containers.get(index), progress.get(index)) else { return Turn::Had };
    if own.standing != Standing::Due {
        return Turn::Had;
    }
    let beginning = containers
        .iter()
        .enumerate()
        .filter(|(other, before)| {
            before.kind == ContainerKind::Init && (spec.kind == ContainerKind::Main || *other < index)
        })
        .map(|(other, before)| (other, Obstacle { container: &before.name, condition: Condition::Completed }));
    let dependencies = spec.depends_on.iter().filter(|_| !own.began).filter_map(|dependency| {
        let other = containers.iter().position(|other| other.name == dependency.container)?;
        Some((other, Obstacle { container: &dependency.container, condition: dependency.condition }))
    });
    let mut waits = None;
    for (other, obstacle) in beginning.chain(dependencies) {
        let is_asked = containers.get(other).is_some_and(|other| other.probes.delay_readiness());
        let lost = matches!(known.get(other), Some(Turn::Never(_)));
        match hope(obstacle.condition, progress.get(other).copied().unwrap_or_default(), is_asked) {
            Hope::Holds => {}
            Hope::May if !lost => waits = waits.or(Some(obstacle)),
            Hope::May | Hope::Gone => return Turn::Never(obstacle),
        }
    }
    waits.map_or(Turn::Open, Turn::Waits)
}

enum Hope {
    Holds,
    May,
    Gone,
}

/// `is_asked`: whether probes decide when it is ready.
const fn hope(condition: Condition, of: Progress, is_asked: bool) -> Hope {
    match (condition, of.standing) {
        (Condition::Started, _) if of.began => Hope::Holds,
        (Condition::Healthy, _) if of.began && !is_asked => Hope::Holds,
        (Condition::Healthy, Standing::Running { ready: true })
        | (Condition::Completed, Standing::Over { success: true }) => Hope::Holds,
        (_, Standing::Over { .. }) => Hope::Gone,
        (_, Standing::Due | Standing::Running { .. }) => Hope::May,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantity::{CpuMillis, MemoryMib, Seconds};
    use crate::spec::{Check, Dependency, Probe};

    fn container(name: &str) -> ContainerSpec {
        let name = ContainerName::new(name).unwrap();
        ContainerSpec::new(name, "r.example/web:1".parse().unwrap(), CpuMillis::new(100), MemoryMib::new(64))
    }

    fn after(name: &str, other: &str, condition: Condition) -> ContainerSpec {
        let depends_on = vec![Dependency { container: ContainerName::new(other).unwrap(), condition }];
        ContainerSpec { depends_on, ..container(name) }
    }

    fn probed(spec: ContainerSpec) -> ContainerSpec {
        let check = Check::Tcp { port: 80 };
        let probe = Probe {
            check,
            initial_delay: Seconds(0),
            period: Seconds(1),
            timeout: Seconds(1),
            success_threshold: 1,
            failure_threshold: 1,
        };
        ContainerSpec { probes: crate::spec::Probes { readiness: Some(probe), ..spec.probes }, ..spec }
    }

    const DUE: Progress = Progress { standing: Standing::Due, began: false };
    const READY: Progress = Progress { standing: Standing::Running { ready: true }, began: true };
    const RUNS: Progress = Progress { standing: Standing::Running { ready: false }, began: true };
    const AGAIN: Progress = Progress { standing: Standing::Due, began: true };
    const DONE: Progress = Progress { standing: Standing::Over { success: true }, began: true };
    const FAILED: Progress = Progress { standing: Standing::Over { success: false }, began: true };

    fn words(containers: &[ContainerSpec], progress: &[Progress]) -> Vec<String> {
        let all: Vec<&ContainerSpec> = containers.iter().collect();
        let word = |turn| match turn {
            Turn::Had => "had".to_owned(),
            Turn::Open => "open".to_owned(),
            Turn::Waits(obstacle) => format!("waits for {}", obstacle.container),
            Turn::Never(obstacle) => format!("never: {}", obstacle.container),
        };
        turns(&all, progress).into_iter().map(word).collect()
    }

    #[test]
    fn the_beginning_goes_one_by_one_and_then_all_at_once() {
        let init = |name| ContainerSpec { kind: ContainerKind::Init, ..container(name) };
        let all = [init("a"), init("b"), container("web"), container("side")];
        assert_eq!(words(&all, &[DUE; 4]), ["open", "waits for a", "waits for a", "waits for a"]);
        assert_eq!(words(&all, &[RUNS, DUE, DUE, DUE]), ["had", "waits for a", "waits for a", "waits for a"]);
        assert_eq!(words(&all, &[AGAIN, DUE, DUE, DUE]), ["open", "waits for a", "waits for a", "waits for a"]);
        assert_eq!(words(&all, &[DONE, DUE, DUE, DUE]), ["had", "open", "waits for b", "waits for b"]);
        assert_eq!(words(&all, &[DONE, DONE, DUE, DUE]), ["had", "had", "open", "open"]);
        assert_eq!(words(&all, &[DONE, FAILED, DUE, DUE]), ["had", "had", "never: b", "never: b"]);
        assert_eq!(
            words(&all, &[DUE, DUE, AGAIN, AGAIN]),
            ["open", "waits for a", "waits for a", "waits for a"],
            "its sandbox was lost"
        );
    }

    #[test]
    fn each_condition_holds_when_it_says_so() {
        for (condition, asked, opens, never) in [
            (Condition::Started, true, vec![RUNS, READY, AGAIN, DONE, FAILED], vec![]),
            (Condition::Healthy, false, vec![RUNS, READY, AGAIN, DONE, FAILED], vec![]),
            (Condition::Healthy, true, vec![READY], vec![DONE, FAILED]),
            (Condition::Completed, true, vec![DONE], vec![FAILED]),
        ] {
            let db = if asked { probed(container("db")) } else { container("db") };
            let all = [db, after("web", "db", condition)];
            for state in [DUE, RUNS, READY, AGAIN, DONE, FAILED] {
                let expected = match state {
                    _ if opens.contains(&state) => "open",
                    _ if never.contains(&state) => "never: db",
                    _ => "waits for db",
                };
                assert_eq!(words(&all, &[state, DUE])[1], expected, "{condition:?} {state:?}");
                assert_eq!(words(&all, &[state, AGAIN])[1], "open", "a restart by policy waits for nobody");
            }
        }
    }

    #[test]
    fn what_waits_for_what_never_starts_never_starts() {
        let all = [
            container("db"),
            after("migrate", "db", Condition::Completed),
            after("web", "migrate", Condition::Started),
        ];
        assert_eq!(words(&all, &[FAILED, DUE, DUE]), ["had", "never: db", "never: migrate"]);
    }

    /// Containers of which each depends on some before it in a drawn order; those of the beginning depend on none.
    fn specs() -> impl Strategy<Value = Vec<ContainerSpec>> {
        let one =
            (any::<bool>(), any::<bool>(), proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8), 0..4));
        (0..4_usize, proptest::collection::vec(one, 1..9), any::<u64>()).prop_map(|(beginning, drawn, order)| {
            let mut specs: Vec<ContainerSpec> = (0..beginning)
                .map(|number| ContainerSpec { kind: ContainerKind::Init, ..container(&format!("i{number}")) })
                .collect();
            let mut main: Vec<ContainerSpec> = Vec::new();
            for (number, (asked, _, waits)) in drawn.into_iter().enumerate() {
                let mut spec = container(&format!("m{number}"));
                if asked {
                    spec = probed(spec);
                }
                for (whom, condition) in waits.into_iter().filter(|_| number > 0) {
                    let condition =
                        [Condition::Started, Condition::Healthy, Condition::Completed][usize::from(condition)];
                    let container = main[whom.index(number)].name.clone();
                    spec.depends_on.push(Dependency { container, condition });
                }
                main.push(spec);
            }
            let turn = usize::try_from(order % 7).unwrap() % main.len();
            main.rotate_left(turn);
            specs.extend(main);
            specs
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// A life in which chance decides who succeeds: nothing is started before what it waits for is true, and until all
        /// is over or nothing can be any more something always runs or may be started.
        #[test]
        fn nothing_starts_too_early_and_it_always_goes_on(specs in specs(), chances in proptest::collection::vec(0..6_u8, 64)) {
            let all: Vec<&ContainerSpec> = specs.iter().collect();
            let mut progress = vec![DUE; all.len()];
            for chance in chances {
                let now = turns(&all, &progress);
                let stands = |name: &ContainerName| {
                    let index = all.iter().position(|spec| &spec.name == name).unwrap();
                    (progress[index], all[index].probes.delay_readiness())
                };
                for ((spec, turn), own) in all.iter().zip(&now).zip(&progress) {
                    if *turn == Turn::Open && !own.began {
                        for dependency in &spec.depends_on {
                            let (other, asked) = stands(&dependency.container);
                            prop_assert!(other.began);
                            match dependency.condition {
                                Condition::Started => {}
                                Condition::Healthy => prop_assert!(!asked || other == READY),
                                Condition::Completed => prop_assert_eq!(other, DONE),
                            }
                        }
                        if spec.kind == ContainerKind::Main {
                            let over = |(i, p): (&&ContainerSpec, &Progress)| i.kind == ContainerKind::Main || *p == DONE;
                            prop_assert!(all.iter().zip(&progress).all(over));
                        }
                    }
                }
                let begins = all.iter().zip(&now).filter(|(s, t)| s.kind == ContainerKind::Init && **t == Turn::Open);
                prop_assert!(begins.count() <= 1);
                if now.iter().any(|turn| matches!(turn, Turn::Never(_))) || progress.iter().all(|p| matches!(p.standing, Standing::Over { .. })) {
                    break;
                }
                let open: Vec<usize> = (0..all.len()).filter(|index| now[*index] == Turn::Open).collect();
                let running: Vec<usize> =
                    (0..all.len()).filter(|index| matches!(progress[*index].standing, Standing::Running { .. })).collect();
                prop_assert!(!open.is_empty() || !running.is_empty(), "{:?}", now);
                if let Some(first) = open.first() {
                    progress[*first] = RUNS;
                } else {
                    let whom = running[usize::from(chance) % running.len()];
                    progress[whom] = match chance {
                        0 => FAILED,
                        1 => AGAIN,
                        2 | 3 => READY,
                        _ => DONE,
                    };
                }
            }
        }
    }
}
