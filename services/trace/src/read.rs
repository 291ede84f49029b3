//! Recorded traces.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

use crate::Row;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Rows of a trace.
const MAX_ROWS: usize = 50_000_000;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its segment, if it names one.
    pub segment: Option<String>,
    /// In the order of the file.
    pub rows: Vec<Row>,
}

/// Reads the file: one segment, at most 50 million rows.
pub fn read(path: &Path) -> Result<Trace> {
    let file = File::open(path).with_context(|| format!("the trace {} cannot be read", path.display()))?;
    let mut file = BufReader::new(file);
    let is_gzip = file.fill_buf().is_ok_and(|bytes| bytes.starts_with(&GZIP_MAGIC));
    let text: Box<dyn Read> = if is_gzip { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    parse(text).with_context(|| format!("the trace {}", path.display()))
}

fn parse(text: impl Read) -> Result<Trace> {
    let mut lines = BufReader::new(text).lines();
    let head = lines.next().context("it is empty")??;
    let columns: BTreeMap<&str, usize> =
        head.trim().split(',').enumerate().map(|(place, name)| (name.trim(), place)).collect();
    let column = |name: &str| columns.get(name).copied().with_context(|| format!("it has no column {name}"));
    let wanted = [column("arrive_s")?, column("vcpu")?, column("mem_mib")?, column("life_s")?];
    let [segments, batches, censored] = ["seg", "batch", "cens"].map(|name| columns.get(name).copied());
    let mut segment: Option<String> = None;
    let mut rows = Vec::new();
    for (number, line) in lines.enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |place: usize| {
            let text = *fields.get(place).with_context(|| format!("line {}: a field is missing", number + 2))?;
            thousandths(text).with_context(|| format!("line {}: {text:?} is no number", number + 2))
        };
        // Lives and moments may have a fraction; whole seconds are enough.
        let whole = |place: usize| field(place).map(|thousandths| thousandths / 1_000);
        if let Some(name) = segments.and_then(|place| fields.get(place)) {
            match &segment {
                None => segment = Some((*name).to_owned()),
                Some(known) if known == name => {}
                Some(known) => bail!("it has the segments {known} and {name}: give a file of one"),
            }
        }
        ensure!(rows.len() < MAX_ROWS, "it has more than {MAX_ROWS} rows: give a part of it");
        let outlives = censored.and_then(|place| fields.get(place)).is_some_and(|text| *text == "1");
        let life_s = whole(wanted[3])?;
        rows.push(Row {
            arrive_s: whole(wanted[0])?,
            batch: batches.map(whole).transpose()?,
            cpu_millis: field(wanted[1])?,
            mem_mib: whole(wanted[2])?,
            life_s: (!outlives).then_some(life_s),
        });
    }
    ensure!(!rows.is_empty(), "it has no rows");
    Ok(Trace { segment, rows })
}

/// A decimal number without sign, digits beyond the third after the point cut off.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || whole.starts_with('+') {
        return None;
    }
    let digits = fraction.chars().chain("000".chars()).take(3).collect::<String>();
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const TEXT: &str = "seg,arrive_s,batch,vcpu,mem_mib,life_s,bin,cens\n\
                        dev,600,0,8,14336,300,1,0\ndev,600,1,0.25,768,0,0,0\ndev,900,2,2,3584,900.7,3,1\n";

    fn refused(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn rows_are_read_with_fractions_of_cores_and_lives_that_have_no_end() {
        let trace = parse(TEXT.as_bytes()).unwrap();
        let row = |arrive_s, batch, cpu_millis, mem_mib, life_s| Row {
            arrive_s,
            batch: Some(batch),
            cpu_millis,
            mem_mib,
            life_s,
        };
        let rows =
            [row(600, 0, 8_000, 14_336, Some(300)), row(600, 1, 250, 768, Some(0)), row(900, 2, 2_000, 3_584, None)];
        assert_eq!(trace, Trace { segment: Some("dev".to_owned()), rows: rows.to_vec() });
    }

    #[test]
    fn a_gzipped_trace_says_the_same() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(TEXT.as_bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        std::fs::write(&path, packed.finish().unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), parse(TEXT.as_bytes()).unwrap());
    }

    #[test]
    fn a_wrong_one_is_refused_with_its_column_or_line() {
        let wrong = refused("arrive_s,vcpu,mem_mib,life_s\n1,2,x,4\n");
        assert!(wrong.contains("line 2") && wrong.contains("\"x\""), "{wrong}");
        assert!(refused("arrive_s,vcpu\n1,2\n").contains("mem_mib"));
        assert!(refused("arrive_s,vcpu,mem_mib\n1,2,3\n").contains("life_s"));
        assert!(refused("arrive_s,vcpu,mem_mib,life_s\n1,2,3\n").contains("line 2: a field is missing"));
        assert!(refused("arrive_s,vcpu,mem_mib,life_s\n1,-2,3,4\n").contains("\"-2\""));
        assert!(refused("arrive_s,vcpu,mem_mib,life_s\n").contains("no rows"));
        let two = refused("seg,arrive_s,vcpu,mem_mib,life_s\na,1,1,1,1\nb,1,1,1,1\n");
        assert!(two.contains("segments a and b"), "{two}");
    }

    #[test]
    fn columns_that_nobody_needs_may_be_absent() {
        let trace = parse("life_s,mem_mib,vcpu,arrive_s\n5,64,1,0\n".as_bytes()).unwrap();
        assert_eq!((trace.segment, trace.rows[0].batch, trace.rows[0].life_s), (None, None, Some(5)));
    }
}
