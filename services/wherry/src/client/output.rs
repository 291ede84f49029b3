//! Standard output: tables that fit the terminal, nothing but text into a pipe, silence when the reader has left.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ContentArrangement, Row, Table};
use serde::Serialize;

use super::failure::Failure;

/// Writes a line.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    raw(format!("{text}\n").as_bytes())
}

/// Writes bytes as they are, at once.
pub(super) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Writes a JSON document, indented.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| Failure::failed(error.to_string()))?;
    line(&text)
}

/// Writes a YAML document.
pub(super) fn yaml(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_saphyr::to_string(document).map_err(|error| Failure::failed(error.to_string()))?;
    raw(text.as_bytes())
}

/// Columns of the terminal; `None` when the output goes elsewhere.
pub(super) fn terminal_width() -> Option<u16> {
    if std::io::stdout().is_terminal() { Table::new().width() } else { None }
}

/// A column of a table.
pub(super) struct Column {
    title: &'static str,
    is_whole: bool,
}

/// A column that may be cut short, or left out, when the terminal is narrow.
pub(super) const fn column(title: &'static str) -> Column {
    Column { title, is_whole: false }
}

/// A column that people copy from: never cut, never left out.
pub(super) const fn whole(title: &'static str) -> Column {
    Column { title, is_whole: true }
}

/// Of a column that is cut short so much is left: of less nobody reads anything.
const LEAST: usize = 12;
/// Between two columns.
const GAP: usize = 2;
/// Stands for what is not shown: the rest of a cell, or behind the titles further columns.
const MORE: char = '…';

/// Renders a table. Without `width` nothing is cut. With it the widest columns are cut short, and when that is not enough the last
/// ones are left out; columns that are never cut can make it wider all the same.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let widest = |index: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        cells.map(|cell| cell.chars().count()).chain([title.chars().count()]).max().unwrap_or(0)
    };
    let wanted: Vec<usize> = columns.iter().enumerate().map(|(index, column)| widest(index, column.title)).collect();
    let (shown, is_all) = width.map_or_else(
        || (wanted.iter().copied().enumerate().collect(), true),
        |width| fitting(columns, &wanted, usize::from(width)),
    );
    let one_line = |cells: Vec<String>| {
        let cell = |&(index, width): &(usize, usize)| cells.get(index).map(|cell| Cell::new(cut(cell, width)));
        Row::from(shown.iter().filter_map(cell).collect::<Vec<_>>())
    };
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(one_line(columns.iter().map(|column| column.title.to_owned()).collect()));
    table.add_rows(rows.iter().cloned().map(one_line));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for (number, line) in table.lines().enumerate() {
        text.push_str(line.trim_end());
        if number == 0 && !is_all {
            text.extend([' ', ' ', MORE]);
        }
        text.push('\n');
    }
    text
}

/// Which columns are shown and how wide, and whether that is all of them.
fn fitting(columns: &[Column], wanted: &[usize], width: usize) -> (Vec<(usize, usize)>, bool) {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let is_whole = |index: usize| columns.get(index).is_none_or(|column| column.is_whole);
    let wants = |index: usize| wanted.get(index).copied().unwrap_or(0);
    let least = |index: usize| if is_whole(index) { wants(index) } else { wants(index).min(LEAST) };
    let around = |count: usize| GAP * count.saturating_sub(1) + if count < columns.len() { GAP + 1 } else { 0 };
    while shown.iter().map(|&index| least(index)).sum::<usize>() + around(shown.len()) > width {
        let Some(last) = shown.iter().rposition(|&index| !is_whole(index)) else { break };
        shown.remove(last);
    }
    let room = width.saturating_sub(around(shown.len()));
    let mut widths: Vec<(usize, usize)> = shown.iter().map(|&index| (index, wants(index))).collect();
    let mut over = widths.iter().map(|(_, width)| width).sum::<usize>().saturating_sub(room);
    while over > 0 {
        let cuttable = widths.iter_mut().filter(|(index, width)| *width > least(*index));
        let Some((_, widest)) = cuttable.max_by_key(|(_, width)| *width) else { break };
        *widest -= 1;
        over -= 1;
    }
    (widths, shown.len() == columns.len())
}

/// The cell, in so many characters.
fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain([MORE]).collect()
}

/// A colour of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
}

/// The table with one of its columns in colours, on a terminal that wants them.
pub(super) fn painted(table: &str, title: &str, colour: impl Fn(&str) -> Option<Colour>) -> String {
    let set = |name| std::env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if set("NO_COLOR") || is_dumb || !std::io::stdout().is_terminal() {
        table.to_owned()
    } else {
        paint(table, title, colour)
    }
}

/// Text of one column ends at two spaces.
fn paint(table: &str, title: &str, colour: impl Fn(&str) -> Option<Colour>) -> String {
    let mut lines = table.split_inclusive('\n');
    let Some(header) = lines.next() else { return String::new() };
    let Some(column) = header.find(title).map(|at| header[..at].chars().count()) else { return table.to_owned() };
    let mut painted = header.to_owned();
    for line in lines {
        let start = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
        let (before, rest) = line.split_at(start);
        let end = rest.find("  ").unwrap_or_else(|| rest.trim_end().len());
        let (cell, after) = rest.split_at(end);
        let code = match colour(cell) {
            Some(Colour::Red) => "31",
            Some(Colour::Green) => "32",
            Some(Colour::Yellow) => "33",
            None => {
                painted.push_str(line);
                continue;
            }
        };
        for part in [before, "\u{1b}[", code, "m", cell, "\u{1b}[0m", after] {
            painted.push_str(part);
        }
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["web", "running", "registry.example/a/rather/long/name/of/an/image:1"]),
            row(["a-name-that-is-long", "starting", "registry.example/b:2"]),
        ]
    }

    const COLUMNS: [Column; 3] = [whole("NAME"), column("STATE"), column("IMAGE")];

    #[test]
    fn nothing_is_cut_in_a_pipe() {
        let expected = "\
NAME                 STATE     IMAGE
web                  running   registry.example/a/rather/long/name/of/an/image:1
a-name-that-is-long  starting  registry.example/b:2
";
        assert_eq!(table(&COLUMNS, rows(), None), expected);
        assert_eq!(table(&COLUMNS, Vec::new(), None), "NAME  STATE  IMAGE\n");
    }

    #[test]
    fn one_column_is_painted_and_nothing_else() {
        let colour = |state: &str| (state == "running").then_some(Colour::Green);
        let plain = table(&COLUMNS, rows(), None);
        let painted = paint(&plain, "STATE", colour);
        assert!(painted.contains("web                  \u{1b}[32mrunning\u{1b}[0m   registry.example/a/"), "{painted}");
        assert_eq!(painted.matches('\u{1b}').count(), 2);
        assert_eq!(painted.replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""), plain);
        // Tests have no terminal.
        assert_eq!(super::painted(&plain, "STATE", colour), plain);
    }

    #[test]
    fn a_narrow_terminal_gets_one_line_per_row_and_whole_names() {
        for width in [40, 50, 60] {
            let text = table(&COLUMNS, rows(), Some(width));
            assert_eq!(text.lines().count(), 3, "{width}:\n{text}");
            assert!(text.contains("a-name-that-is-long") && text.contains('…'), "{width}:\n{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}:\n{text}");
            }
        }
    }

    #[test]
    fn what_is_short_is_never_cut_and_what_would_say_nothing_is_left_out() {
        let expected = "\
NAME                 STATE     IMAGE
web                  running   registry.example/…
a-name-that-is-long  starting  registry.example/…
";
        assert_eq!(table(&COLUMNS, rows(), Some(49)), expected);
        let expected = "\
NAME                 STATE  …
web                  running
a-name-that-is-long  starting
";
        assert_eq!(table(&COLUMNS, rows(), Some(40)), expected);
        let expected = "\
NAME  …
web
a-name-that-is-long
";
        assert_eq!(table(&COLUMNS, rows(), Some(5)), expected);
    }
}
