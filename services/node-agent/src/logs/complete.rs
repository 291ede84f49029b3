//! Names a file that was put aside complete: counts its lines, and cuts what was printed too fast.

use std::fs;
use std::io;

use super::cut::{self, Cut};
use super::files::{Lines, Place, RunFiles, remove_file};

/// Nothing when the file is not there, or complete already.
pub(super) fn complete(files: &RunFiles, number: u32, wanted: Option<Cut>) -> io::Result<()> {
    let path = files.aside(number, None);
    let mut before = files.list()?.into_iter().filter_map(|file| match file.place {
        Place::Aside { number: other, lines: Some(lines) } if other < number => Some((lines.through, lines.ends)),
        _ => None,
    });
    // They are in the order of numbers.
    let (before, begins) = before.next_back().unwrap_or_default();
    let name = |(lines, ends)| files.aside(number, Some(Lines { before, through: before + lines, begins, ends }));
    let counted = match wanted {
        None => cut::count_lines(&path, begins).and_then(|lines| fs::rename(&path, name(lines))),
        Some(wanted) => {
            let made = path.with_extension("cut");
            let cut = cut::cut(&path, &made, begins, wanted).and_then(|lines| fs::rename(&made, name(lines)));
            if cut.is_err() {
                remove_file(&made)?;
            }
            // Whoever reads it keeps it open and reads all of it.
            cut.and_then(|()| remove_file(&path))
        }
    };
    match counted {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        counted => counted,
    }
}
