//! `wherry top`: what instances use now.

use std::time::Duration;

use wherry_api_types::{ContainerStats, InstanceStats};

use super::failure::Failure;
use super::output::{self, column, whole};
use super::session::Session;
use super::text::{bytes, clean};
use crate::cli::{TopArgs, TopFormat};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Takes the cursor to the corner and what is below it away: the screen does not flicker as when it is cleared first.
const TO_THE_TOP: &str = "\u{1b}[H";
const CLEAR_BELOW: &str = "\u{1b}[J";
const CLEAR: &str = "\u{1b}[2J";
const CLEAR_LINE: &str = "\u{1b}[K\n";

pub(super) async fn run(session: &Session, args: &TopArgs) -> Result<(), Failure> {
    if !args.watch {
        return show(&look(session, args).await?, args, false);
    }
    let screen = args.output == TopFormat::Table && output::terminal_width().is_some();
    if screen {
        output::raw(CLEAR.as_bytes())?;
    }
    let watching = async {
        loop {
            show(&look(session, args).await?, args, screen)?;
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        biased;
        ended = watching => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Those that were asked for; whether there are more of them.
async fn look(session: &Session, args: &TopArgs) -> Result<(Vec<InstanceStats>, bool), Failure> {
    match &args.name {
        Some(name) => Ok((vec![session.instance_stats(name).await?], false)),
        None => session.project_stats().await.map(|all| (all.items, all.more)),
    }
}

fn show((all, more): &(Vec<InstanceStats>, bool), args: &TopArgs, screen: bool) -> Result<(), Failure> {
    if args.output == TopFormat::Json {
        // One document a line while it is watched, so that a program can read them.
        return if args.watch {
            let text = serde_json::to_string(all).map_err(|error| Failure::failed(error.to_string()))?;
            output::line(&text)
        } else {
            output::json(all)
        };
    }
    let mut text = render(all, output::terminal_width());
    if *more {
        text.push_str("more instances run than are shown: name one\n");
    }
    if screen {
        text = format!("{TO_THE_TOP}{}{CLEAR_BELOW}", text.replace('\n', CLEAR_LINE));
    }
    output::raw(text.as_bytes())
}

fn render(all: &[InstanceStats], width: Option<u16>) -> String {
    let columns = [
        whole("NAME"),
        column("CONTAINER"),
        column("CPU"),
        column("OF"),
        column("MEMORY"),
        column("OF"),
        column("HELD BACK"),
        column("NET IN"),
        column("NET OUT"),
    ];
    let rows = all.iter().flat_map(rows).collect();
    output::table(&columns, rows, width)
}

/// A line for each container; the network, which they share, in the first.
fn rows(used: &InstanceStats) -> Vec<Vec<String>> {
    let name = clean(&used.instance);
    let nothing = |what: &str| {
        let mut row = vec![name.clone(), what.to_owned()];
        row.resize(9, "-".to_owned());
        vec![row]
    };
    if used.stale {
        return nothing("no answer");
    }
    if used.containers.is_empty() {
        return nothing("nothing runs");
    }
    let rate = |each: Option<u64>, all: u64| each.map_or_else(|| bytes(all), |each| format!("{}/s", bytes(each)));
    let network = used.network.map(|network| {
        let received = rate(network.received_bytes_per_second, network.received_bytes);
        [received, rate(network.sent_bytes_per_second, network.sent_bytes)]
    });
    let network = network.unwrap_or_else(|| ["-".to_owned(), "-".to_owned()]);
    let row = |(index, container): (usize, &ContainerStats)| {
        let mut row = vec![
            name.clone(),
            clean(&container.name),
            container.cpu_nanocores.map_or_else(|| "-".to_owned(), millicores),
            millicores(container.cpu_limit_nanocores),
            bytes(container.memory_bytes),
            bytes(container.memory_limit_bytes),
            container.throttled_nanos.map_or_else(|| "-".to_owned(), seconds),
        ];
        row.extend(if index == 0 { network.clone() } else { [String::new(), String::new()] });
        row
    };
    used.containers.iter().enumerate().map(row).collect()
}

/// `250m`, as amounts of processor are asked for.
fn millicores(nanocores: u64) -> String {
    format!("{}m", nanocores.div_ceil(1_000_000))
}

fn seconds(nanos: u64) -> String {
    format!("{}.{}s", nanos / 1_000_000_000, nanos / 100_000_000 % 10)
}

#[cfg(test)]
mod tests {
    use wherry_api_types::NetworkStats;

    use super::*;

    fn container(name: &str) -> ContainerStats {
        ContainerStats {
            name: name.into(),
            run: 1,
            cpu_nanos: 2_000_000_000,
            cpu_nanocores: Some(31_400_000),
            cpu_limit_nanocores: 250_000_000,
            throttled_nanos: Some(1_250_000_000),
            memory_bytes: 3 << 20,
            memory_limit_bytes: 64 << 20,
        }
    }

    fn used(name: &str, containers: Vec<ContainerStats>) -> InstanceStats {
        let network = NetworkStats {
            received_bytes: 4096,
            sent_bytes: 512,
            received_bytes_per_second: Some(2048),
            sent_bytes_per_second: Some(0),
        };
        InstanceStats {
            instance: name.into(),
            id: "1".into(),
            stale: false,
            at: None,
            window_ms: Some(1000),
            network: Some(network),
            containers,
        }
    }

    #[test]
    fn a_line_for_each_container() {
        let mut silent = used("silent", Vec::new());
        silent.stale = true;
        let all = [used("web", vec![container("main"), container("proxy")]), silent, used("idle", Vec::new())];
        let expected = "\
NAME    CONTAINER     CPU  OF    MEMORY   OF        HELD BACK  NET IN     NET OUT
web     main          32m  250m  3.0 MiB  64.0 MiB  1.2s       2.0 KiB/s  0 B/s
web     proxy         32m  250m  3.0 MiB  64.0 MiB  1.2s
silent  no answer     -    -     -        -         -          -          -
idle    nothing runs  -    -     -        -         -          -          -
";
        assert_eq!(render(&all, None), expected);
    }

    #[test]
    fn it_fits_the_terminal() {
        let all = [used("an-instance-with-a-long-name", vec![container("main")])];
        for width in [80, 120] {
            let text = render(&all, Some(width));
            assert!(text.contains("an-instance-with-a-long-name"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{width}:\n{text}");
        }
    }
}
