//! `wherry completions`: what bash, zsh and fish need to complete commands and their arguments, and names of instances.
//!
//! Commands and options are in the script; names are asked for when they are wanted, by `wherry complete-names`, which is
//! silent when there is nothing to say. Rejected: `unstable-dynamic` of clap_complete, which asks the program for every word: its
//! scripts are bound to the version that wrote them, and packages install them as files.

mod line;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::{Shell as Kind, generate};

use crate::cli::{Cli, Shell};
use crate::client;

/// What the shells ask with. No command of the command line: what is hidden there is completed all the same.
const ASK: &str = "complete-names";

/// Names in place of what the script has for an argument, where there are some.
const BASH: &str = r#"
_wherry_names() {
    _wherry "$@"
    local line="${COMP_LINE:0:COMP_POINT}"
    local -a words names
    read -ra words <<<"$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    mapfile -t names < <("$1" complete-names "${words[@]:1}" 2>/dev/null)
    ((${#names[@]})) && COMPREPLY=("${names[@]}")
    return 0
}
complete -F _wherry_names -o bashdefault -o default wherry
"#;

/// Before the script's function, which has `_wherry_names` for an action.
const ZSH: &str = r#"
_wherry_names() {
    local -a names
    names=(${(f)"$("$wherry_words[1]" complete-names "${(@)wherry_words[2,-1]}" 2>/dev/null)"})
    if ((${#names})); then compadd -a names; else _default; fi
}

_wherry() {
    local -a wherry_words=("${(@)words[1,CURRENT]}")
"#;

const FISH: &str = r#"
function __wherry_find_names
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    test -n "$current"; or set current ""
    set -g __wherry_names ($words[1] complete-names $words[2..-1] $current 2>/dev/null)
    set -q __wherry_names[1]
end
complete -c wherry -n __wherry_find_names -f -a '$__wherry_names'
"#;

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

/// `wherry complete-names WORD...`: the names that may come next on the line of these words, one a line. None when something else is asked
/// for.
pub(crate) fn names(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut words = arguments.skip(1).map(|word| word.to_string_lossy().into_owned());
    if words.next()? != ASK {
        return None;
    }
    if let Some(asked) = line::read(&words.collect::<Vec<_>>()) {
        let names = client::names(&asked.data, &asked.connection, &asked.beginning);
        let mut output = std::io::stdout().lock();
        for name in names.iter().filter(|name| !asked.given.contains(name)) {
            if writeln!(output, "{name}").is_err() {
                break;
            }
        }
    }
    Some(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Vec<u8> {
    let kind = match shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let mut script = Vec::new();
    generate(kind, &mut Cli::command(), "wherry", &mut script);
    match shell {
        Shell::Bash => script.extend_from_slice(BASH.as_bytes()),
        Shell::Zsh => script = with_names(&String::from_utf8_lossy(&script)).into_bytes(),
        Shell::Fish => script.extend_from_slice(FISH.as_bytes()),
    }
    script
}

/// The script for zsh, in which arguments of this name are completed by names, where there are some.
fn with_names(script: &str) -> String {
    let is_named = |line: &&str| ["':name ", "'::name ", "'*::names "].iter().any(|start| line.starts_with(start));
    let mut text = String::with_capacity(script.len() + ZSH.len());
    for line in script.lines() {
        match Some(line).filter(is_named).and_then(|line| line.strip_suffix(":_default' \\")) {
            Some(named) => text.extend([named, ":_wherry_names' \\"]),
            None if line == "_wherry() {" => text.push_str(ZSH.trim()),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
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

    #[test]
    fn each_shell_asks_for_names() {
        for (shell, times) in [(Shell::Bash, 1), (Shell::Zsh, 1), (Shell::Fish, 1)] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert_eq!(script.matches(&format!(" {ASK} ")).count(), times, "{shell:?}");
        }
        let zsh = String::from_utf8(script(Shell::Zsh)).unwrap();
        assert!(zsh.contains("Name or id of the instance:_wherry_names'"));
        assert!(zsh.contains("Names or ids of instances:_wherry_names'"));
        assert!(zsh.contains("wherry_words=("));
    }

    #[test]
    fn only_who_asks_for_names_gets_them() {
        let asked = |words: &[&str]| names(words.iter().map(OsString::from)).is_some();
        assert!(!asked(&["wherry"]) && !asked(&["wherry", "logs", "complete-names"]));
        assert!(asked(&["wherry", "complete-names"]) && asked(&["wherry", "complete-names", "ps", ""]));
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
