use clap::CommandFactory as _;
use wherry_api_types::{Architecture, EnvVar, Port, Protocol, RestartPolicy};

use super::*;

fn client(words: &str) -> ClientCommand {
    match Cli::try_parse_from(words.split(' ')).unwrap().command {
        Command::Client(command) => command,
        other => panic!("{words} is {other:?}"),
    }
}

fn refused(words: &str) -> String {
    Cli::try_parse_from(words.split(' ')).unwrap_err().to_string()
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    fn walk(command: &clap::Command, path: &str) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            if sub.has_subcommands() {
                walk(sub, &path);
            } else {
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example") && help.contains(&path), "{path} shows no example: {help:?}");
                // A line that is broken cannot be copied.
                let long = help.lines().find(|line| line.starts_with("  wherry ") && line.chars().count() > 98);
                assert!(long.is_none(), "{path} has an example that does not fit: {long:?}");
                // What follows the arguments under a heading is shown under it.
                let named = sub.get_positionals().find(|argument| argument.get_help_heading().is_some());
                assert!(named.is_none(), "{path} shows an argument among the options: {named:?}");
            }
        }
    }
    walk(&Cli::command(), "wherry");
}

/// The table of the README is the one of the help.
#[test]
fn exit_codes_are_told_alike_everywhere() {
    const README: &str = include_str!("../../../../README.md");
    let codes: Vec<(&str, &str)> = ABOUT_EXIT_CODES
        .lines()
        .filter_map(|line| line.trim_start().split_once("  "))
        .filter(|(code, _)| code.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    assert_eq!(codes.len(), 8, "{codes:?}");
    for (code, meaning) in codes {
        assert!(README.contains(&format!("| {code} | {meaning} |")), "the README does not say {code}: {meaning}");
    }
    for line in ABOUT_EXIT_CODES.lines().skip_while(|line| !line.starts_with('`')) {
        assert!(README.replace('\n', " ").contains(line), "the README does not say: {line}");
    }
}

/// As people see it first. Changed deliberately, or not at all.
#[test]
fn the_help_of_apply() {
    let mut command = Cli::command();
    let help = command.find_subcommand_mut("apply").unwrap().render_help().to_string();
    let told = help.lines().filter(|line| line.trim_start().starts_with('-')).map(str::trim).collect::<Vec<_>>();
    let names: Vec<&str> = told.iter().map(|line| line.split("  ").next().unwrap_or_default()).collect();
    let wanted = [
        "-f, --file <FILE>",
        "--dry-run",
        "--no-wait",
        "--timeout <TIME>",
        "-h, --help",
        "--server <URL>",
        "--key <FILE>",
        "--project <NAME>",
    ];
    assert_eq!(names, wanted, "{help}");
}

#[test]
fn a_whole_run() {
    let words = "wherry run r.example/a:1 --name web --cpu 0.25 --memory 64Mi --port 80 -p 53/udp -e A=b=c -l team=net \
                 --restart on-failure --arch amd64 --data /d --no-wait -- /bin/sh -c --name";
    let ClientCommand::Run(run) = client(words) else { panic!("another command") };
    assert_eq!((run.image.as_deref(), run.name.as_deref()), (Some("r.example/a:1"), Some("web")));
    assert_eq!((run.cpu.as_deref(), run.memory.as_deref()), (Some("0.25"), Some("64Mi")));
    let ports = [Port::new(80, Protocol::Tcp), Port::new(53, Protocol::Udp)];
    assert_eq!(run.ports, ports);
    assert_eq!(run.env, [EnvVar::plain("A", "b=c")]);
    assert_eq!(run.labels, [("team".to_owned(), "net".to_owned())]);
    assert_eq!((run.restart, run.arch), (Some(RestartPolicy::OnFailure), Some(Architecture::Amd64)));
    assert_eq!(run.command, ["/bin/sh", "-c", "--name"]);
    assert!(run.no_wait);
}

#[test]
fn the_data_folder_stands_before_or_after_the_command() {
    for words in ["wherry --data /d up", "wherry up --data /d"] {
        assert_eq!(Cli::try_parse_from(words.split(' ')).unwrap().data, PathBuf::from("/d"));
    }
}

#[test]
fn earlier_runs_are_negative_numbers() {
    let ClientCommand::Logs(logs) = client("wherry logs --run -1 web") else { panic!("another command") };
    assert_eq!((logs.run, logs.name.as_str()), (Some(-1), "web"));
    let ClientCommand::Logs(logs) = client("wherry logs -p --since 10m web") else { panic!("another command") };
    assert_eq!((logs.previous, logs.since.as_deref()), (true, Some("10m")));
}

#[test]
fn wrong_values_name_the_argument_and_the_way_out() {
    for (words, named) in [
        ("wherry run r.example/a --port 0", "1 to 65535"),
        ("wherry run r.example/a --port 80/sctp", "udp"),
        ("wherry run r.example/a --cpu much", "--cpu"),
        ("wherry run r.example/a --restart sometimes", "always"),
        ("wherry run r.example/a --label team", "KEY=VALUE"),
        ("wherry wait web --for flying", "running"),
        ("wherry wait web --timeout 5", "30s"),
        ("wherry up --range 10.77.0.1/16", "--range"),
        ("wherry cost --from yesterday", "RFC 3339"),
        ("wherry stop", "NAME"),
        ("wherry run r.example/a --on-node-loss maybe", "replace"),
        ("wherry exec web", "COMMAND"),
        ("wherry admin drain n --then wait", "move"),
        ("wherry admin drain n --cancel --grace 5s", "--grace"),
        ("wherry admin lost n", "--confirm-off"),
        ("wherry admin node token --range 10.0.0.1/24", "--range"),
        ("wherry run r.example/a echo", "--"),
        ("wherry run", "--file"),
        ("wherry run r.example/a -f web.yaml", "--file"),
        ("wherry run r.example/a --liveness http:0", "tcp:PORT"),
        ("wherry run r.example/a --mount data", "NAME:/PATH"),
        ("wherry run r.example/a --volume data:much", "--volume"),
        ("wherry run r.example/a --volume-git site", "NAME=URL"),
        ("wherry run r.example/a --pids many", "--pids"),
        ("wherry run r.example/a --ephemeral-disk much", "--ephemeral-disk"),
        ("wherry run r.example/a --time-zone UTC", "--schedule"),
        ("wherry run r.example/a --isolation dedicated", "sandboxed"),
        ("wherry run r.example/a --dns-reuse-scope world", "tenant"),
        ("wherry run r.example/a --pull never", "if_not_present"),
        ("wherry run r.example/a --add-host db", "NAME=ADDRESS"),
        ("wherry apply", "--file"),
        ("wherry completions powershell", "fish"),
    ] {
        let message = refused(words);
        assert!(message.contains(named), "{words}: {message}");
    }
}

#[test]
fn joining_takes_address_token_and_fingerprint_together() {
    let node = |words: &str| Cli::try_parse_from(words.split(' ')).map(|cli| cli.command);
    for from in ["--token-file /run/token", "--token-file -", "--token wjt_a_b", ""] {
        let whole =
            format!("wherry node --join https://c.example:7443 --ca-fingerprint sha256:00 --underlay 192.0.2.1 {from}");
        let Ok(Command::Node(args)) = node(whole.trim()) else { panic!("{whole}") };
        assert_eq!(args.join.underlay, Some([192, 0, 2, 1].into()));
    }
    let Ok(Command::Node(later)) = node("wherry node") else { panic!("a later start needs nothing") };
    assert!(later.join.join.is_none());
    for lacking in [
        "wherry node --join https://c.example:7443",
        "wherry node --ca-fingerprint sha256:00",
        "wherry node --token-file x",
    ] {
        assert!(refused(lacking).contains("--"), "{lacking}");
    }
    let help = Cli::command().find_subcommand_mut("node").unwrap().render_long_help().to_string();
    assert!(help.contains("WHERRY_JOIN_TOKEN") && !help.contains("--token "), "{help}");
}
