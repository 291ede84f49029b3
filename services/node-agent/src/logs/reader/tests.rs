use std::io::Write as _;
use std::path::Path;

use super::super::complete::complete;
use super::super::cut::Cut;
use super::*;
use wherry_model::ContainerName;

fn files(folder: &Path) -> RunFiles {
    RunFiles::new(folder, &ContainerName::new("main").unwrap(), 1)
}

fn write(files: &RunFiles, from: usize, to: usize) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(files.written()).unwrap();
    for line in from..to {
        writeln!(file, "2026-11-23T10:00:{:02}.5Z stdout F {line}", line % 60).unwrap();
    }
}

/// Puts aside and names complete.
fn rotate(files: &RunFiles) {
    let number = files.put_aside().unwrap().unwrap();
    complete(files, number, None).unwrap();
}

fn text(reader: &mut RunReader) -> String {
    let mut text = String::new();
    while let Piece::Lines(lines) = reader.read().unwrap() {
        text.push_str(&String::from_utf8(lines).unwrap());
    }
    text
}

fn all(reader: &mut RunReader) -> Vec<usize> {
    text(reader).lines().map(|line| line.parse().unwrap()).collect()
}

fn open(files: &RunFiles, start: Start) -> RunReader {
    RunReader::open(files.clone(), start, false).unwrap()
}

#[test]
fn no_line_is_lost_or_doubled_through_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, 0, 10);
    let mut reader = open(&files, Start::Oldest);
    assert_eq!(all(&mut reader), (0..10).collect::<Vec<_>>());
    write(&files, 10, 20);
    rotate(&files);
    assert_eq!(all(&mut reader), (10..20).collect::<Vec<_>>());
    write(&files, 20, 30);
    rotate(&files);
    write(&files, 30, 40);
    assert_eq!(all(&mut reader), (20..40).collect::<Vec<_>>());
    rotate(&files);
    assert_eq!(reader.read().unwrap(), Piece::End { complete: true });
    write(&files, 40, 41);
    assert_eq!(all(&mut reader), [40]);
}

#[test]
fn a_file_that_was_put_aside_is_left_only_when_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, 0, 3);
    let mut engine = std::fs::OpenOptions::new().append(true).open(files.written()).unwrap();
    let mut reader = open(&files, Start::Oldest);
    assert_eq!(all(&mut reader), [0, 1, 2]);
    let number = files.put_aside().unwrap().unwrap();
    write(&files, 4, 6);
    assert_eq!(reader.read().unwrap(), Piece::Waits);
    // What the engine writes late comes first.
    writeln!(engine, "2026-11-23T10:00:00Z stdout F 3").unwrap();
    complete(&files, number, None).unwrap();
    assert_eq!(all(&mut reader), [3, 4, 5]);
    files.put_aside().unwrap();
    assert_eq!(reader.read().unwrap(), Piece::Waits);
    reader.leave();
    assert_eq!(reader.read().unwrap(), Piece::End { complete: true });
}

#[test]
fn whoever_misses_files_is_told_how_many_lines() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, 0, 10);
    let mut reader = open(&files, Start::Oldest);
    assert_eq!(all(&mut reader).len(), 10);
    for round in 1..6 {
        rotate(&files);
        write(&files, round * 10, round * 10 + 10);
    }
    for file in files.list().unwrap().iter().take(3) {
        std::fs::remove_file(&file.path).unwrap();
    }
    let kept = (30..60).map(|line| format!("{line}\n")).collect::<Vec<_>>().concat();
    let missing = |lines| {
        format!("[wherry] {lines} lines are missing here: no more than a bound of a container's output is kept\n{kept}")
    };
    assert_eq!(text(&mut reader), missing(20));
    assert_eq!(text(&mut open(&files, Start::Oldest)), missing(30));
    assert_eq!(all(&mut open(&files, Start::Tail(100))).len(), 30);
}

#[test]
fn a_line_whose_beginning_is_missing_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(files.written()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("t stdout F 0\nt stdout P 1 beg");
    append("ins\n");
    rotate(&files);
    append("t stderr F 2\nt stdout P  goes on\nt stderr P \n");
    rotate(&files);
    append("t stderr F 3\nt stdout F  and ends\nt stdout F 5\n");
    let whole = "0\n2\n3\n1 begins goes on and ends\n5\n";
    assert_eq!(text(&mut open(&files, Start::Oldest)), whole);
    let kept = files.list().unwrap();
    std::fs::remove_file(&kept[0].path).unwrap();
    let note = |lines| {
        format!("[wherry] {lines} lines are missing here: no more than a bound of a container's output is kept\n")
    };
    assert_eq!(text(&mut open(&files, Start::Oldest)), format!("{}2\n3\n5\n", note(2)));
    assert_eq!(text(&mut open(&files, Start::Tail(9))), "2\n3\n5\n");
    assert_eq!(text(&mut open(&files, Start::Tail(1))), "5\n");
}

#[test]
fn a_reader_sees_all_of_the_file_it_is_in_and_others_what_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, 0, 2_000);
    let (mut early, mut tail) = (open(&files, Start::Oldest), open(&files, Start::Tail(3)));
    assert!(matches!(early.read().unwrap(), Piece::Lines(_)));
    assert_eq!(all(&mut tail), [1_997, 1_998, 1_999]);
    let number = files.put_aside().unwrap().unwrap();
    complete(&files, number, Some(Cut { keep_bytes: 8_000, rate_bytes: 1_000 })).unwrap();
    write(&files, 2_000, 2_010);
    let rest = all(&mut early);
    assert_eq!((rest.last(), rest.windows(2).all(|pair| pair[0] + 1 == pair[1])), (Some(&2_009), true));
    assert_eq!(all(&mut tail), (2_000..2_010).collect::<Vec<_>>());
    let late = text(&mut open(&files, Start::Oldest));
    let (marks, lines): (Vec<&str>, Vec<&str>) = late.lines().partition(|line| line.contains("[wherry]"));
    assert!(
        marks.len() == 1 && marks[0].starts_with(&format!("[wherry] {} lines (", 2_010 - lines.len())),
        "{marks:?}"
    );
    assert!(late.starts_with("0\n1\n") && late.ends_with("\n2008\n2009\n"), "{late}");
}

#[test]
fn the_tail_is_counted_in_lines_over_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, 0, 5_000);
    rotate(&files);
    write(&files, 5_000, 9_000);
    let mut file = std::fs::OpenOptions::new().append(true).open(files.written()).unwrap();
    write!(file, "t stdout P 90\nt stdout F 00\nt stdout F 90").unwrap();
    for (tail, expected) in [(0, vec![]), (3, vec![8_998, 8_999, 9_000]), (6_000, (3_001..9_001).collect())] {
        assert_eq!(all(&mut open(&files, Start::Tail(tail))), expected, "tail {tail}");
    }
    writeln!(file, "01").unwrap();
    assert_eq!(all(&mut open(&files, Start::Tail(1))), [9_001]);
}

#[test]
fn a_time_begins_in_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, 0, 20);
    rotate(&files);
    write(&files, 20, 60);
    for (second, first) in [(0, 0), (15, 15), (19, 19), (20, 20), (59, 59)] {
        let since = format!("2026-11-23T10:00:{second:02}.5Z").parse().unwrap();
        assert_eq!(all(&mut open(&files, Start::Since(since))), (first..60).collect::<Vec<_>>(), "{second}");
    }
    assert!(all(&mut open(&files, Start::Since("2026-11-23T10:01:00Z".parse().unwrap()))).is_empty());
}

#[test]
fn files_of_the_release_before_are_read_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    for (name, lines) in [("main.1.log.2", 0..5), ("main.1.log.1", 5..10), ("main.1.log", 10..15)] {
        let text = lines.map(|line| format!("t stdout F {line}\n")).collect::<Vec<_>>().concat();
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut reader = open(&files, Start::Oldest);
    assert_eq!(all(&mut reader), (0..15).collect::<Vec<_>>());
    rotate(&files);
    write(&files, 15, 20);
    assert_eq!(all(&mut reader), (15..20).collect::<Vec<_>>());
    assert_eq!(all(&mut open(&files, Start::Oldest)), (0..20).collect::<Vec<_>>());
}
