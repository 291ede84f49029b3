//! `wherry completions`: what bash, zsh and fish need to complete commands and their arguments.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::{Shell as Kind, generate};

use crate::cli::{Cli, Shell};

/// Prints it.
pub(crate) fn print(shell: Shell) -> ExitCode {
    match std::io::stdout().lock().write_all(&script(shell)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wherry: {error}");
            ExitCode::FAILURE
        }
    }
}

fn script(shell: Shell) -> Vec<u8> {
    let kind = match shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let mut script = Vec::new();
    generate(kind, &mut Cli::command(), "wherry", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_knows_commands_arguments_and_their_values() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            for word in ["wherry", "apply", "port-forward", "dns-reuse-scope", "wide"] {
                assert!(script.contains(word), "{shell:?} does not know {word}");
            }
        }
    }

    /// The script is one that bash understands, and it completes.
    #[test]
    fn bash_completes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wherry.bash");
        std::fs::write(&file, script(Shell::Bash)).unwrap();
        let ask =
            "source \"$0\"; COMP_WORDS=(wherry app); COMP_CWORD=1; _wherry wherry app wherry; echo \"${COMPREPLY[@]}\"";
        let output = std::process::Command::new("bash").args(["-c", ask]).arg(&file).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(told.trim(), "apply", "{}", String::from_utf8_lossy(&output.stderr));
    }
}
