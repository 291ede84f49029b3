//! The command line on a terminal and in a pipe: colours, widths, bars; what its arguments become inside; a server that is away.

use std::process::Command;

use wherry_api_types::InstanceState;
use wherry_demo_images::{FileTree, OciImage, SlowPath};

use crate::support::{Said, World, binary, said};

/// Runs a command on a terminal of its own, 80 columns wide.
async fn on_terminal(world: &World, environment: &str, arguments: &str) -> Said {
    let (program, data) = (binary(), world.wherry.data());
    let line =
        format!("stty cols 80 rows 24; {environment} '{}' --data '{}' {arguments}", program.display(), data.display());
    let mut command = Command::new("script");
    command
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    said(command).await
}

/// The text without what only sets colours.
fn plain(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().unwrap().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, rest)| rest));
    }
    plain
}

#[tokio::test]
async fn tables_fit_a_terminal_and_colours_are_for_terminals_only() {
    let world = World::start().await;
    let name = "an-instance-with-a-rather-long-name";
    world.run(&world.script(name, "echo hello; sleep 999 & wait")).await;
    let failed = world.run_to_end(&world.script("job", "exit 3")).await;
    assert_eq!(failed.state, InstanceState::Failed);

    let shown = on_terminal(&world, "", "ps -a").await.well();
    assert!(shown.contains("\u{1b}[32mrunning\u{1b}[0m") && shown.contains("\u{1b}[31mfailed"), "{shown:?}");
    let without = on_terminal(&world, "NO_COLOR=1", "ps -a").await.well();
    assert!(!without.contains('\u{1b}') && without.contains(" running"), "{without:?}");
    let piped = world.wherry.cli(&["ps", "-a"]).await.well();
    assert!(!piped.contains('\u{1b}') && piped.contains(&world.tool), "a pipe gets all of it, and no colours: {piped}");
    for arguments in ["ps -a", "top", &format!("describe {name}"), "describe job", &format!("cost {name}"), "key list"]
    {
        let shown = plain(&on_terminal(&world, "", arguments).await.well());
        for line in shown.lines() {
            assert!(line.trim_end().chars().count() <= 80, "wherry {arguments} is wider than the terminal:\n{shown}");
        }
    }

    // Without a server each command ends with its own code and says what to do.
    let mut world = world;
    world.wherry.kill();
    for command in [&["ps"][..], &["logs", "job"], &["describe", "job"]] {
        world.wherry.cli(command).await.badly(5, &["does not answer", "wherry up"]);
    }
    world.wherry.start().await;
    world.finish().await;
}

#[tokio::test]
async fn a_pull_is_a_bar_on_a_terminal_and_arguments_arrive_as_they_are() {
    let world = World::start().await;
    let line = SlowPath::start(&world.registry.address(), 1024 * 1024).await.unwrap();
    // Bytes that do not compress.
    let noise: Vec<u8> =
        (0..750_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect();
    let layer = |path: &str, data: Vec<u8>| FileTree::new().file(path, 0o644, data);
    let image = OciImage::builder().layer(layer("/one", vec![1])).layer(layer("/two", vec![2]));
    let image = image.layer(layer("/noise", noise)).command(&["/noise"]).build().unwrap();
    image.push(&world.registry.address(), "demo/slow", "1").await.unwrap();
    let shown =
        on_terminal(&world, "", &format!("run {}/demo/slow:1 --name slow --restart never", line.address())).await;
    assert_eq!(shown.code, Some(1), "noise is no program: {shown:#?}");
    for words in ["pulling the image", "of 3 layers", "MiB/", "\u{1b}["] {
        assert!(shown.out.contains(words), "no {words:?}: {shown:#?}");
    }
    assert!(shown.out.contains("cannot be started"), "why it failed: {shown:#?}");

    // In a pipe each step is a line, and there is no bar.
    let words = ["--workdir", "/etc", "--env", "COLOUR=blue", "-l", "app=shop", "--cpu", "50m", "--memory", "32Mi"];
    let program =
        ["--restart", "never", "--", "/bin/sh", "-c", "pwd; echo \"$COLOUR|$0|$1\"; sleep 5; exit 4", "a b", "$HOME"];
    let run = [&["run", &world.tool, "--name", "job"][..], &words, &program].concat();
    let asked = world.wherry.cli(&[&run[..4], &["--dry-run"], &words].concat()).await.well();
    assert!(asked.contains("USD"), "what it would cost: {asked}");
    world.wherry.cli(&["inspect", "job"]).await.badly(3, &["job"]);
    let told = world.wherry.cli(&run).await;
    assert!(told.err.contains("job: accepted\n") && told.err.ends_with("job: running\n"), "{told:#?}");
    assert!(!told.err.contains('\u{1b}'), "{told:#?}");
    assert!(!told.well().contains('\u{1b}'));
    let ended = world.reach("job", InstanceState::Failed).await;
    assert_eq!(ended.containers[0].runs[0].exit_code, Some(4), "{ended:#?}");
    assert_eq!(world.logs("job", None).await, "/etc\nblue|a b|$HOME\n");
    let made = world.get("job").await;
    assert_eq!(made.spec.labels.get("app").map(String::as_str), Some("shop"), "{made:#?}");
    world.finish().await;
}
