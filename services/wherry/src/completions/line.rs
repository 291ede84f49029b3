//! A command line that is not finished: whether the name of an instance comes next, and of which Wherry.
//!
//! The shells only hand over their words; what they mean is looked up in the definition of the commands, so a new command about
//! an instance is completed without a word about it here.

use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory as _};

use crate::cli::{Cli, ConnectionArgs, DEFAULT_DATA};

/// What a name is asked for with.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) data: PathBuf,
    pub(super) connection: ConnectionArgs,
    /// Names that stand there already.
    pub(super) given: Vec<String>,
    /// What the name begins with.
    pub(super) beginning: String,
}

/// What the words after `wherry`, the last of them the one under the cursor, ask for; none when that is no name of an instance.
pub(super) fn read(words: &[String]) -> Option<Unfinished> {
    let (beginning, before) = words.split_last()?;
    let mut root = Cli::command();
    root.build();
    let mut line = Line { command: &root, is_sub: false, positionals: Vec::new(), values: Vec::new() };
    let mut words = before.iter().map(String::as_str);
    let mut options_end = false;
    while let Some(word) = words.next() {
        if word == "--" && !options_end {
            options_end = true;
        } else if let Some(option) = word.strip_prefix("--").filter(|_| !options_end) {
            line.long(option, &mut words)?;
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !options_end && !letters.is_empty()) {
            line.short(letters, &mut words)?;
        } else {
            line.word(word)?;
        }
    }
    if !line.expects_a_name() || (beginning.starts_with('-') && !options_end) {
        return None;
    }
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let value = |id: &str| line.values.iter().rev().find(|(of, _)| of == id).map(|(_, value)| value.clone());
    Some(Unfinished {
        data: value("data").or_else(|| set("WHERRY_DATA")).unwrap_or_else(|| DEFAULT_DATA.to_owned()).into(),
        connection: ConnectionArgs {
            server: value("server").or_else(|| set("WHERRY_SERVER")),
            key: value("key").map(PathBuf::from),
            project: value("project").or_else(|| set("WHERRY_PROJECT")),
        },
        given: line.positionals,
        beginning: beginning.clone(),
    })
}

/// What was read of it.
struct Line<'a> {
    command: &'a Command,
    is_sub: bool,
    positionals: Vec<String>,
    /// Values of options, by their ids.
    values: Vec<(String, String)>,
}

impl Line<'_> {
    /// None where nothing can be said any more: an option that is not known, or a value that is still to come.
    fn long<'b>(&mut self, option: &str, more: &mut impl Iterator<Item = &'b str>) -> Option<()> {
        let (name, attached) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let found = self.command.get_arguments().find(|one| one.get_long() == Some(name))?;
        self.option(found, attached, more)
    }

    fn short<'b>(&mut self, letters: &str, more: &mut impl Iterator<Item = &'b str>) -> Option<()> {
        for (at, letter) in letters.char_indices() {
            let found = self.command.get_arguments().find(|one| one.get_short() == Some(letter))?;
            if found.get_action().takes_values() {
                let attached = letters.get(at + letter.len_utf8()..).filter(|rest| !rest.is_empty());
                return self.option(found, attached, more);
            }
        }
        Some(())
    }

    fn option<'b>(&mut self, of: &Arg, attached: Option<&str>, more: &mut impl Iterator<Item = &'b str>) -> Option<()> {
        if of.get_action().takes_values() {
            let value = attached.or_else(|| more.next())?;
            self.values.push((of.get_id().to_string(), value.to_owned()));
        }
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        if self.is_sub {
            self.positionals.push(word.to_owned());
        } else {
            self.command = self.command.find_subcommand(word)?;
            self.is_sub = true;
        }
        Some(())
    }

    /// Commands about instances, those without commands of their own, call them `name` and `names`.
    fn expects_a_name(&self) -> bool {
        let mut positionals = self.command.get_positionals();
        let next = positionals.nth(self.positionals.len());
        let next = next.or_else(|| self.command.get_positionals().last().filter(|last| last.get_id() == "names"));
        self.is_sub && next.is_some_and(|next| next.get_id() == "name" || next.get_id() == "names")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Option<Unfinished> {
        read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_is_asked_for_where_a_command_takes_one() {
        for line in [
            "logs ",
            "logs w",
            "logs -f --tail 20 w",
            "logs -fc side w",
            "logs -cside w",
            "logs --container=side w",
            "exec -it w",
            "attach -it w",
            "port-forward w",
            "stop ",
            "stop one w",
            "delete one two ",
            "rm -- w",
            "describe w",
            "inspect -o yaml w",
            "events w",
            "wait --for ended w",
            "top w",
            "cost w",
            "update w",
            "restart --pull w",
            "--data /srv/wherry start w",
        ] {
            assert!(read_line(line).is_some(), "{line}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        for line in [
            "",
            "l",
            "logs -",
            "logs --ta",
            "logs --tail ",
            "logs -c ",
            "logs web ",
            "exec web ",
            "exec web -- ",
            "port-forward web ",
            "run ",
            "ps ",
            "webhook show ",
            "key revoke ",
            "admin drain ",
            "nonsense ",
            "logs --nonsense w",
            "completions ",
        ] {
            assert!(read_line(line).is_none(), "{line}");
        }
    }

    #[test]
    fn what_says_where_to_ask_is_understood() {
        let line = "--data /srv/wherry stop --server https://there.example --project=team --key k.json one tw";
        let asked = read_line(line).unwrap();
        assert_eq!(asked.data, PathBuf::from("/srv/wherry"));
        let ConnectionArgs { server, key, project } = asked.connection;
        assert_eq!((server.as_deref(), project.as_deref()), (Some("https://there.example"), Some("team")));
        assert_eq!((key, asked.given, asked.beginning.as_str()), (Some("k.json".into()), vec!["one".to_owned()], "tw"));
    }
}
