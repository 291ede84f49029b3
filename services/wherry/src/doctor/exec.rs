//! Runs a program for a moment: bounded in time and output, nothing inherited but the path.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);
const OUTPUT_MOST_BYTES: u64 = 64 << 10;

/// The same places in the same order as the container runtime looks at: `PATH`, then where root's programs usually are.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// What it printed to its standard output, or one line about why it failed.
pub(super) fn run(program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    // Less than a pipe holds, so this cannot block; a program that reads nothing may close it.
    if let Some(mut stdin) = child.stdin.take() {
        drop(stdin.write_all(input.as_bytes()));
    }
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < LIMIT => std::thread::sleep(POLL),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                return Err(format!("{} did not end within {} s", program.display(), LIMIT.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    let (output, errors) = outputs(&mut child);
    if status.success() {
        return Ok(output);
    }
    let said = errors.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned();
    Err(format!("{} ended with {status}: {said}", program.display()))
}

fn outputs(child: &mut Child) -> (String, String) {
    let mut output = Vec::new();
    let mut errors = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        drop(pipe.take(OUTPUT_MOST_BYTES).read_to_end(&mut output));
    }
    if let Some(pipe) = child.stderr.take() {
        drop(pipe.take(OUTPUT_MOST_BYTES).read_to_end(&mut errors));
    }
    (String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&errors).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_first_error_line() {
        let shell = find("sh").unwrap();
        assert_eq!(run(&shell, &["-c", "cat; echo more"], "given\n").unwrap(), "given\nmore\n");
        let error = run(&shell, &["-c", "echo; echo why >&2; echo later >&2; exit 3"], "").unwrap_err();
        assert!(error.contains("why") && error.contains('3') && !error.contains("later"), "{error}");
        assert!(run(Path::new("/nonexistent"), &[], "").unwrap_err().contains("cannot be started"));
    }
}
