//! What is dropped of an instance's logs, oldest first, so that each container and the whole stay within their bounds.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use wherry_model::ContainerName;

use super::files::{LogFile, Place, list, remove_file};
use crate::config::LogLimits;

/// Runs that go on: container and number.
pub(crate) type Running = BTreeSet<(ContainerName, u32)>;

/// Removes what is too much in an instance's folder.
pub(super) fn hold(folder: &Path, running: &Running, limits: &LogLimits) -> io::Result<()> {
    let files = list(folder)?;
    for file in too_much(&files, running, limits) {
        remove_file(&file.path)?;
    }
    Ok(())
}

/// Removes the files of all but the latest `keep` runs of a container.
pub(crate) fn prune_runs(folder: &Path, container: &ContainerName, keep: u32) -> io::Result<()> {
    let runs = super::files::runs(folder, container)?;
    let superfluous = runs.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    let old: BTreeSet<u32> = runs.into_iter().take(superfluous).collect();
    let files = list(folder)?;
    let mut gone = files.iter().filter(|file| file.container == container.as_str() && old.contains(&file.run));
    gone.try_for_each(|file| remove_file(&file.path))
}

/// While more of a run may come, or is yet to be counted, its files may be dropped up to the last that was counted: what comes
/// counts on from there.
fn may_go(file: &LogFile, of_run: &[LogFile], running: &Running) -> bool {
    let is_running = running.iter().any(|(name, run)| name.as_str() == file.container && *run == file.run);
    let is_counted = |place: Place| matches!(place, Place::Former(_) | Place::Aside { lines: Some(_), .. });
    if !is_running && of_run.iter().all(|file| is_counted(file.place)) {
        return true;
    }
    is_counted(file.place) && of_run.iter().any(|later| later.place > file.place && is_counted(later.place))
}

fn too_much<'a>(files: &'a [LogFile], running: &Running, limits: &LogLimits) -> Vec<&'a LogFile> {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for of_container in files.chunk_by(|a, b| a.container == b.container) {
        let runs: Vec<&[LogFile]> = of_container.chunk_by(|a, b| a.run == b.run).collect();
        let most_runs = usize::try_from(limits.runs.max(1)).unwrap_or(usize::MAX);
        let superfluous = runs.len().saturating_sub(most_runs);
        let mut bytes: u64 = of_container.iter().map(|file| file.bytes).sum();
        for (index, of_run) in runs.iter().enumerate() {
            for file in *of_run {
                let goes = may_go(file, of_run, running);
                if goes && (index < superfluous || bytes > limits.container_bytes) {
                    bytes = bytes.saturating_sub(file.bytes);
                    dropped.push(file);
                } else {
                    kept.push((file, goes));
                }
            }
        }
    }
    let mut bytes: u64 = kept.iter().map(|(file, _)| file.bytes).sum();
    let mut candidates: Vec<&LogFile> = kept.iter().filter(|(_, goes)| *goes).map(|(file, _)| *file).collect();
    candidates.sort_by_key(|file| file.written_at);
    for file in candidates {
        if bytes <= limits.instance_bytes {
            break;
        }
        bytes = bytes.saturating_sub(file.bytes);
        dropped.push(file);
    }
    dropped
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::files::{Inside, Lines};
    use super::*;

    fn file(container: &str, run: u32, place: Place, bytes: u64, age: u64) -> LogFile {
        let (container, path) = (container.to_owned(), format!("{container}.{run}.{place:?}").into());
        let written_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        LogFile { container, run, place, path, bytes, written_at }
    }

    const fn aside(number: u32) -> Place {
        Place::Aside {
            number,
            lines: Some(Lines { before: 0, through: 0, begins: Inside([false; 2]), ends: Inside([false; 2]) }),
        }
    }

    fn dropped(files: &[LogFile], limits: LogLimits) -> Vec<(&str, u32, Place)> {
        let running = Running::from([(ContainerName::new("a").unwrap(), 3)]);
        too_much(files, &running, &limits)
            .into_iter()
            .map(|file| (file.container.as_str(), file.run, file.place))
            .collect()
    }

    #[test]
    fn the_oldest_of_a_container_go_first_and_what_is_written_never() {
        let files = [
            file("a", 1, aside(1), 5, 90),
            file("a", 2, aside(1), 10, 80),
            file("a", 2, aside(2), 5, 70),
            file("a", 3, aside(1), 10, 60),
            file("a", 3, aside(2), 10, 50),
            file("a", 3, Place::Aside { number: 3, lines: None }, 25, 40),
            file("a", 3, Place::Written, 25, 0),
            file("b", 7, aside(1), 5, 100),
            file("b", 8, Place::Written, 0, 100),
        ];
        let limits = |container_bytes, instance_bytes, runs| LogLimits {
            container_bytes,
            instance_bytes,
            runs,
            ..LogLimits::default()
        };
        assert!(dropped(&files, limits(90, 95, 3)).is_empty());
        assert_eq!(dropped(&files, limits(90, 95, 2)), [("a", 1, aside(1))]);
        assert_eq!(dropped(&files, limits(80, 95, 3)), [("a", 1, aside(1)), ("a", 2, aside(1))]);
        let all = [("a", 1, aside(1)), ("a", 2, aside(1)), ("a", 2, aside(2)), ("a", 3, aside(1))];
        assert_eq!(dropped(&files, limits(0, 95, 3)), [&all[..], &[("b", 7, aside(1))]].concat());
        assert_eq!(dropped(&files, limits(90, 90, 3)), [("b", 7, aside(1))]);
        assert_eq!(dropped(&files, limits(90, 88, 3)), [("b", 7, aside(1)), ("a", 1, aside(1))]);
    }
}
