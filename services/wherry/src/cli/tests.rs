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
            }
        }
    }
    walk(&Cli::command(), "wherry");
}

#[test]
fn a_whole_run() {
    let words = "wherry run r.example/a:1 --name web --cpu 0.25 --memory 64Mi --port 80 -p 53/udp -e A=b=c -l team=net \
                 --restart on-failure --arch amd64 --data /d --no-wait -- /bin/sh -c --name";
    let ClientCommand::Run(run) = client(words) else { panic!("another command") };
    assert_eq!((run.image.as_str(), run.name.as_deref()), ("r.example/a:1", Some("web")));
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
