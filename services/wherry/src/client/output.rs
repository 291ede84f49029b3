//! Standard output: tables that fit the terminal, nothing but text into a pipe, silence when the reader has left.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, Width};
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

/// A column that may be cut short when the terminal is narrow.
pub(super) const fn column(title: &'static str) -> Column {
    Column { title, is_whole: false }
}

/// A column that people copy from: never cut.
pub(super) const fn whole(title: &'static str) -> Column {
    Column { title, is_whole: true }
}

/// Renders a table. Without `width` nothing is cut.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    let widest = |index: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        cells.map(|cell| cell.chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(index, column)| widest(index, column.title)).collect();
    let one_line = |cells: Vec<String>| {
        let mut row = Row::from(cells.into_iter().map(Cell::new).collect::<Vec<_>>());
        row.max_height(1);
        row
    };
    table.set_header(one_line(columns.iter().map(|column| column.title.to_owned()).collect()));
    table.add_rows(rows.into_iter().map(one_line));
    for (index, column) in columns.iter().enumerate() {
        let Some(target) = table.column_mut(index) else { continue };
        target.set_padding((0, 2));
        if column.is_whole {
            // The constraint counts the padding.
            let least = u16::try_from(widths[index] + 2).unwrap_or(u16::MAX);
            target.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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
}
