//! What containers print: all of it, in order, for as long as it is kept, and a line wherever something is missing.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use wherry_api_client::{LogOptions, LogStream};
use wherry_api_types::{InstanceState, RestartPolicy};

use crate::support::{PROJECT, World, eventually};

/// Lines that are printed in all, over all runs; `WHERRY_E2E_LOG_LINES` says otherwise.
const LINES: u64 = 200_000;
/// Runs that print them: three restarts.
const RUNS: u64 = 4;

/// Bounds that nothing here comes near to.
const UNBOUNDED: &str = "[logs]\ncontainer_mib = 65536\ninstance_mib = 65536\nrate_kib = 1073741824\n";

#[tokio::test]
async fn a_follower_sees_each_line_once_and_in_order_through_restarts() {
    let lines = std::env::var("WHERRY_E2E_LOG_LINES").map_or(LINES, |text| text.parse().unwrap());
    let of_run = lines / RUNS;
    let world = World::start_with(UNBOUNDED).await;
    let idle = memory_of(world.wherry.pid(), "VmRSS");
    // Debian's containerd 1.6.20 closes a container's output when it ends, with up to 64 KiB in its pipe: a moment for these.
    let mut printer = world.script("printer", &format!("seq 1 {of_run}; sleep 1"));
    printer.containers[0].cpu = Some("1".to_owned());
    printer.restart_policy = Some(RestartPolicy::Always);
    world.create(&printer).await;
    world.reach("printer", InstanceState::Running).await;
    // From the first run on, which may be over by now.
    let options = LogOptions { follow: true, since: Some("1h".to_owned()), ..LogOptions::default() };
    let begun = Instant::now();
    let mut seen = Reader::new(world.client.logs(PROJECT, "printer", "main", &options).await.unwrap());
    for run in 1..=RUNS {
        for number in 1..=of_run {
            assert_eq!(seen.line().await.as_deref(), Some(number.to_string().as_str()), "in run {run}");
        }
    }
    let took = begun.elapsed();
    let most = memory_of(world.wherry.pid(), "VmHWM");
    eprintln!(
        "{lines} lines, {} bytes, {RUNS} runs: {:.1} s, of these {:.1} s with nothing to read; memory of everything in one process: {idle} KiB idle, {most} KiB at most",
        seen.bytes,
        took.as_secs_f64(),
        seen.waited.as_secs_f64(),
    );
    assert!(most < idle + 128 * 1024, "{most} KiB are not flat beside {idle} KiB");
    world.client.stop_instance(PROJECT, "printer").await.unwrap();
    world.reach("printer", InstanceState::Stopped).await;
    let latest = world.logs("printer", None).await;
    assert!(latest.is_empty() || latest.starts_with("1\n"), "{}", latest.len());
    world.finish().await;
}

#[tokio::test]
async fn logs_survive_restarts_stops_and_deletion() {
    let world = World::start_with("[logs]\nkeep_deleted_seconds = 20\n").await;
    let mut web = world.script("web", "echo begun at $(cat /proc/uptime); sleep 1; exit 1");
    web.restart_policy = Some(RestartPolicy::OnFailure);
    let made = world.create(&web).await;
    eventually("three runs", Duration::from_secs(30), async || {
        (world.get("web").await.containers[0].runs.len() >= 3).then_some(())
    })
    .await;
    world.client.stop_instance(PROJECT, "web").await.unwrap();
    world.reach("web", InstanceState::Stopped).await;
    let runs = i64::try_from(world.get("web").await.containers[0].runs.len()).unwrap();
    let [first, before, latest] =
        [world.logs("web", Some(1)).await, world.logs("web", Some(-1)).await, world.logs("web", None).await];
    assert!(first.starts_with("begun at ") && before.starts_with("begun at ") && first != before, "{first} {before}");
    assert_eq!(before, world.logs("web", Some(runs - 1)).await);
    let cli = async |arguments: &[&str]| world.wherry.cli(&[&["logs"], arguments].concat()).await;
    assert_eq!(cli(&["--previous", "web"]).await.well(), before);
    assert_eq!(cli(&["-p", "web"]).await.well(), before);
    // All runs, and each line with its time, which leads to the lines after it.
    let all = cli(&["--since", "1h", "-t", "web"]).await.well();
    let times: Vec<&str> = all.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert!(times.len() >= 3 && times.iter().all(|time| time.parse::<jiff::Timestamp>().is_ok()), "{all}");
    assert_eq!(cli(&["--since", times[1], "web"]).await.well().lines().count(), times.len() - 1, "{all}");
    assert_eq!(cli(&["--since", "0s", "web"]).await.well(), "");
    cli(&["--since", "yesterday", "web"]).await.badly(6, &["since", "10m"]);
    assert_eq!(cli(&["-f", "web"]).await.well(), latest, "what has ended is read to its end");

    world.delete("web").await;
    cli(&["web"]).await.badly(3, &["web"]);
    assert_eq!(world.logs(&made.id, Some(1)).await, first);
    assert_eq!(cli(&["--previous", &made.id]).await.well(), before);
    assert_eq!(cli(&["-f", "--since", "1h", "-t", &made.id]).await.well(), all, "also to whoever follows");
    // Another of the same name is another.
    world.run(&world.script("web", "echo another; sleep 999 & wait")).await;
    assert_eq!(world.logged("web", "another").await, "another\n");
    assert_eq!(world.logs(&made.id, Some(1)).await, first);
    eventually("its logs are forgotten", Duration::from_mins(1), async || {
        let said = cli(&["--run", "1", &made.id]).await;
        (said.code == Some(3)).then(|| said.badly(3, &["kept"]))
    })
    .await;
    assert_eq!(world.logs("web", None).await, "another\n");
    world.finish().await;
}

#[tokio::test]
async fn what_is_printed_too_fast_is_counted() {
    const PRINTED: u64 = 300_000;
    let world = World::start_with("[logs]\nrate_kib = 128\nburst_kib = 512\n").await;
    let mut flood = world.script("flood", &format!("seq 1 {PRINTED}; echo the end; sleep 999 & wait"));
    flood.containers[0].cpu = Some("1".to_owned());
    world.run(&flood).await;
    let text = eventually("all was counted", Duration::from_mins(1), async || {
        let text = world.logs("flood", None).await;
        let numbers = text.lines().filter(|line| line.parse::<u64>().is_ok()).count();
        let dropped: u64 = marks(&text, " lines (").iter().sum();
        (text.ends_with("the end\n") && dropped > 0 && u64::try_from(numbers).unwrap() + dropped == PRINTED)
            .then_some(text)
    })
    .await;
    assert!(
        !marks(&text, " lines (").is_empty() && text.contains("more than 131072 bytes a second"),
        "nothing was dropped"
    );
    in_order(&text, " lines (", PRINTED);
    assert!(text.starts_with("1\n2\n"), "{}", text.len());
    world.finish().await;
}

#[tokio::test]
async fn lines_are_never_cut_silently() {
    let world = World::start().await;
    let long = |bytes: u64| format!("head -c {bytes} /dev/zero | tr '\\0' x; echo");
    let script = format!("{}; {}; echo short; sleep 999 & wait", long(500_000), long(2_500_000));
    world.run(&world.script("long", &script)).await;
    let text = world.logged("long", "short").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0].len(), 500_000);
    let pieces = &lines[1..lines.len() - 1];
    let mark = " [wherry: this line is longer than 1 MiB and goes on in the next]";
    let (last, others) = pieces.split_last().unwrap();
    assert!(others.len() == 2 && others.iter().all(|piece| piece.ends_with(mark)), "{}", pieces.len());
    let bytes: usize = others.iter().map(|piece| piece.len() - mark.len()).sum();
    assert_eq!(bytes + last.len(), 2_500_000);
    assert_eq!(world.wherry.cli(&["logs", "--tail", "1", "long"]).await.well(), "short\n");
    world.finish().await;
}

/// It holds up nobody, costs no memory, and is told what it missed.
#[tokio::test]
async fn a_slow_reader_costs_a_bounded_buffer() {
    const PRINTED: u64 = 1_000_000;
    let world = World::start_with("[logs]\nrate_kib = 1073741824\ncontainer_mib = 8\n").await;
    // More than all buffers on the way hold.
    let script = format!("seq 1 {PRINTED} | sed 's/$/ {}/'; echo the end; sleep 999 & wait", "x".repeat(200));
    let mut flood = world.script("flood", &script);
    flood.containers[0].cpu = Some("1".to_owned());
    world.run(&flood).await;
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut slow = Reader::new(world.client.logs(PROJECT, "flood", "main", &options).await.unwrap());
    let mut text = format!("{}\n", slow.line().await.unwrap());
    let before = memory_of(world.wherry.pid(), "VmRSS");
    eventually("it has printed everything", Duration::from_secs(100), async || {
        world.wherry.cli(&["logs", "--tail", "1", "flood"]).await.out.contains("the end").then_some(())
    })
    .await;
    let after = memory_of(world.wherry.pid(), "VmRSS");
    assert!(after < before + 64 * 1024, "{before} KiB became {after} KiB");
    while !text.ends_with("the end\n") {
        text.push_str(&slow.line().await.expect("it follows"));
        text.push('\n');
    }
    assert!(!marks(&text, " lines are missing").is_empty(), "it missed nothing");
    in_order(&text, " lines are missing", PRINTED);
    world.finish().await;
}

/// The numbers in Wherry's own lines that go on with `words`.
fn marks(text: &str, words: &str) -> Vec<u64> {
    let own = text.lines().filter_map(|line| line.strip_prefix("[wherry] "));
    own.filter_map(|line| line.split_once(words)?.0.parse().ok()).collect()
}

/// Each number up to `last` is there once, in order, or counted as missing where it should be.
fn in_order(text: &str, words: &str, last: u64) {
    let mut expected = 1;
    for line in text.lines() {
        if let [missing] = marks(line, words)[..] {
            expected += missing;
        } else if let Ok(number) = line.split(' ').next().unwrap_or_default().parse::<u64>() {
            assert_eq!(number, expected);
            expected += 1;
        } else {
            assert_eq!(line, "the end");
        }
    }
    assert_eq!(expected, last + 1);
}

/// A line of `/proc/PID/status`, in KiB.
fn memory_of(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

/// Reads a stream line by line.
struct Reader {
    pieces: LogStream,
    buffer: Vec<u8>,
    at: usize,
    bytes: usize,
    waited: Duration,
}

impl Reader {
    fn new(pieces: LogStream) -> Self {
        Self { pieces, buffer: Vec::new(), at: 0, bytes: 0, waited: Duration::ZERO }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(rest[..end].to_vec()).unwrap();
                self.at += end + 1;
                return Some(line);
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let asked = Instant::now();
            let piece = tokio::time::timeout(Duration::from_mins(2), self.pieces.next()).await;
            let waited = asked.elapsed();
            if waited > Duration::from_millis(200) {
                self.waited += waited;
            }
            let piece = piece.expect("nothing is printed any more")?.unwrap();
            self.bytes += piece.len();
            self.buffer.extend_from_slice(&piece);
        }
    }
}
