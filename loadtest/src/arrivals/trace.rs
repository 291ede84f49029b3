//! Arrivals of a recorded trace: a CSV with the columns `arrive_s`, `vcpu`, `mem_mib` and `life_s`, and if it has it `cens`, plain or
//! gzipped. A life of 0 counts as 150 s, and arrivals of one bin of 300 s are spread over it in their order, as the placement bench
//! does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;

use super::Arrival;

/// Arrivals are known to so many seconds.
const BIN_SECONDS: u64 = 300;
/// The life of what ended within its bin.
const SHORTEST_SECONDS: u64 = 150;
const DAY_SECONDS: u64 = 86_400;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Rows of a trace.
const MAX_ROWS: usize = 50_000_000;

/// How a trace is played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Play {
    /// So many times faster, lives too.
    pub(crate) speed_up: u32,
    /// So many copies on top of each other, each a day later than the one before, round the end of the trace.
    pub(crate) copies: u32,
    /// Only arrivals of so much time of the run.
    pub(crate) time: Option<Duration>,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) arrive_s: u64,
    pub(crate) vcpu: u64,
    pub(crate) mem_mib: u64,
    /// Absent when it outlived the trace.
    pub(crate) life_s: Option<u64>,
}

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>> {
    let file = File::open(path).with_context(|| format!("the trace {} cannot be read", path.display()))?;
    let mut file = BufReader::new(file);
    let is_gzip = file.fill_buf().is_ok_and(|bytes| bytes.starts_with(&GZIP_MAGIC));
    let text: Box<dyn Read> = if is_gzip { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    rows(text).with_context(|| format!("the trace {}", path.display()))
}

fn rows(text: impl Read) -> Result<Vec<Row>> {
    let mut lines = BufReader::new(text).lines();
    let head = lines.next().context("it is empty")??;
    let columns: BTreeMap<&str, usize> =
        head.trim().split(',').enumerate().map(|(place, name)| (name, place)).collect();
    let column = |name: &str| columns.get(name).copied().with_context(|| format!("it has no column {name}"));
    let wanted = [column("arrive_s")?, column("vcpu")?, column("mem_mib")?, column("life_s")?];
    let censored = columns.get("cens").copied();
    let mut rows = Vec::new();
    for (number, line) in lines.enumerate() {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.trim().split(',').collect();
        let field = |place: usize| {
            let text = fields.get(place).with_context(|| format!("line {}: a field is missing", number + 2))?;
            // Lives may have a fraction; whole seconds are enough.
            let whole = text.split('.').next().unwrap_or_default();
            whole.parse::<u64>().with_context(|| format!("line {}: {text:?} is no number", number + 2))
        };
        let [arrive_s, vcpu, mem_mib, life_s] =
            [field(wanted[0])?, field(wanted[1])?, field(wanted[2])?, field(wanted[3])?];
        let outlives = censored.and_then(|place| fields.get(place)).is_some_and(|text| *text == "1");
        ensure!(rows.len() < MAX_ROWS, "it has more than {MAX_ROWS} rows: give a part of it");
        rows.push(Row { arrive_s, vcpu, mem_mib, life_s: (!outlives).then_some(life_s) });
    }
    ensure!(!rows.is_empty(), "it has no rows");
    Ok(rows)
}

/// The arrivals of `rows` as they are to be played.
pub(crate) fn play(rows: &[Row], play: Play) -> Vec<Arrival> {
    let first = rows.iter().map(|row| row.arrive_s).min().unwrap_or_default();
    let mut bins: BTreeMap<u64, u64> = BTreeMap::new();
    for row in rows {
        *bins.entry(row.arrive_s).or_default() += 1;
    }
    let last = bins.last_key_value().map_or(first, |(at, _)| *at);
    let span_ms = (last - first + BIN_SECONDS) * 1_000;
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut arrivals = Vec::new();
    for row in rows {
        let of_bin = bins.get(&row.arrive_s).copied().unwrap_or(1);
        let place = seen.entry(row.arrive_s).or_default();
        let at_ms = (row.arrive_s - first) * 1_000 + BIN_SECONDS * 1_000 * *place / of_bin;
        *place += 1;
        for copy in 0..u64::from(play.copies.max(1)) {
            let at_ms = (at_ms + copy * DAY_SECONDS * 1_000) % span_ms;
            let at = Duration::from_millis(at_ms) / play.speed_up.max(1);
            let life = row.life_s.map(|life| if life == 0 { SHORTEST_SECONDS } else { life });
            let life = life.map(|life| Duration::from_secs(life) / play.speed_up.max(1));
            arrivals.push(Arrival { at, cpu_millis: row.vcpu * 1_000, memory_mib: row.mem_mib, life });
        }
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    if let Some(time) = play.time {
        arrivals.retain(|arrival| arrival.at < time);
    }
    arrivals
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const TEXT: &str = "seg,arrive_s,batch,vcpu,mem_mib,life_s,bin,cens\n\
                        dev,600,0,8,14336,300,1,0\ndev,600,1,1,768,0,0,0\ndev,900,2,2,3584,900,3,1\n";
    const AS_IT_IS: Play = Play { speed_up: 1, copies: 1, time: None };

    fn at(arrivals: &[Arrival]) -> Vec<u64> {
        arrivals.iter().map(|arrival| arrival.at.as_secs()).collect()
    }

    #[test]
    fn arrivals_are_spread_over_their_bin_and_short_lives_count() {
        let arrivals = play(&rows(TEXT.as_bytes()).unwrap(), AS_IT_IS);
        assert_eq!(at(&arrivals), [0, 150, 300]);
        let lives: Vec<_> = arrivals.iter().map(|arrival| arrival.life.map(|life| life.as_secs())).collect();
        assert_eq!(lives, [Some(300), Some(150), None]);
        assert_eq!((arrivals[0].cpu_millis, arrivals[0].memory_mib), (8_000, 14_336));
    }

    #[test]
    fn time_is_compressed_and_copies_come_a_day_later_round_the_end() {
        let rows = rows(TEXT.as_bytes()).unwrap();
        let fast = play(&rows, Play { speed_up: 60, ..AS_IT_IS });
        assert_eq!(at(&fast), [0, 2, 5]);
        assert_eq!(fast[0].life, Some(Duration::from_secs(5)));
        // A day is 144 spans of 600 s: each copy falls on the first.
        let copies = play(&rows, Play { copies: 2, ..AS_IT_IS });
        assert_eq!(at(&copies), [0, 0, 150, 150, 300, 300]);
        let cut = play(&rows, Play { time: Some(Duration::from_secs(200)), ..AS_IT_IS });
        assert_eq!(at(&cut), [0, 150]);
    }

    #[test]
    fn a_gzipped_trace_is_read_and_a_wrong_one_is_refused_with_its_line() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(TEXT.as_bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        std::fs::write(&path, packed.finish().unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), rows(TEXT.as_bytes()).unwrap());
        let wrong = format!("{:#}", rows("arrive_s,vcpu,mem_mib,life_s\n1,2,x,4\n".as_bytes()).unwrap_err());
        assert!(wrong.contains("line 2") && wrong.contains("\"x\""), "{wrong}");
        let missing = format!("{:#}", rows("arrive_s,vcpu\n1,2\n".as_bytes()).unwrap_err());
        assert!(missing.contains("mem_mib"), "{missing}");
    }
}
