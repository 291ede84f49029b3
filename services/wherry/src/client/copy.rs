//! `wherry cp`: files and folders between this machine and a container, as a tar stream through a program inside.
//!
//! The program is the image's own `tar`: an image without one is told so. What comes from inside is unpacked with nothing but
//! the names below the folder that it goes to: a stream that was forged in there reaches no other file here. Names that it
//! would climb out with, and links whose target is outside, are refused. No file gets the right to run as its owner: that
//! would be the caller.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use tokio::sync::mpsc;
use wherry_api_client::{ExecOptions, Heard, SessionReader, SessionWriter};

use super::failure::{Exit, Failure};
use super::logs::only_container;
use super::session::Session;
use crate::cli::{CopyArgs, Place};

/// Pieces that wait between the connection and the archive.
const QUEUE: usize = 4;

const PIECE_BYTES: usize = 32 * 1024;

/// Setuid, setgid and sticky: what comes from inside never gets them.
const NEVER_KEPT: u32 = 0o7000;

/// Of what `tar` complains, so much is shown.
const MAX_COMPLAINT_BYTES: usize = 4 * 1024;

pub(super) async fn run(session: &Session, args: &CopyArgs) -> Result<(), Failure> {
    let (name, copy) = match (&args.from, &args.to) {
        (Place::Inside { instance, path }, Place::Here(here)) => (instance, Copy::Out { inside: path, here }),
        (Place::Here(here), Place::Inside { instance, path }) => (instance, Copy::In { here, inside: path }),
        _ => {
            let message =
                "one of the two is INSTANCE:PATH and the other one a path here, ./a:b for a name with a colon";
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    let container = match &args.container {
        Some(container) => container.clone(),
        None => only_container(session, name).await?,
    };
    match copy {
        Copy::Out { inside, here } => {
            let (folder, last) = split(inside)?;
            let command = words(&["tar", "-c", "-f", "-", "-C", &folder, "--", &last]);
            let options = ExecOptions { command, ..ExecOptions::default() };
            let both = session.exec_session(name, &container, &options).await.map_err(no_tar)?;
            out(both, here, &last).await
        }
        Copy::In { here, inside } => {
            if here.symlink_metadata().is_err() {
                return Err(Failure::failed(format!("there is no {}", here.display())));
            }
            let (folder, last) = into(here, inside)?;
            let command = words(&["tar", "-x", "-f", "-", "-C", &folder]);
            let options = ExecOptions { command, stdin: true, ..ExecOptions::default() };
            let both = session.exec_session(name, &container, &options).await.map_err(no_tar)?;
            bring(both, here.clone(), last).await
        }
    }
}

enum Copy<'a> {
    Out { inside: &'a str, here: &'a PathBuf },
    In { here: &'a PathBuf, inside: &'a str },
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn no_tar(failure: Failure) -> Failure {
    match failure {
        Failure::Told { exit, message } => {
            Failure::Told { exit, message: format!("{message} (copying runs `tar` in the container)") }
        }
        other => other,
    }
}

/// A path inside, as the folder that it is in and its name there.
fn split(inside: &str) -> Result<(String, String), Failure> {
    let path = Path::new(inside);
    let wrong = || Failure::new(Exit::Usage, format!("{inside:?} names no file or folder that could be copied"));
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(last)) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            Ok((folder.to_string_lossy().into_owned(), last.to_string_lossy().into_owned()))
        }
        (None, None) if path.has_root() => Ok(("/".to_owned(), ".".to_owned())),
        _ => Err(wrong()),
    }
}

/// Where what is here goes: `dir/` keeps its name, anything else is its new name.
fn into(here: &Path, inside: &str) -> Result<(String, String), Failure> {
    if !inside.ends_with('/') {
        return split(inside);
    }
    let wrong = || Failure::new(Exit::Usage, format!("{} has no name to keep: name the copy", here.display()));
    let last = here.file_name().ok_or_else(wrong)?;
    Ok((inside.to_owned(), last.to_string_lossy().into_owned()))
}

async fn out((_writer, mut reader): (SessionWriter, SessionReader), here: &Path, last: &str) -> Result<(), Failure> {
    // As `cp` has it: into a folder that is there, else under the new name.
    let (folder, renamed) = if here.is_dir() {
        (here.to_owned(), None)
    } else {
        let folder = here.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = here.file_name().ok_or_else(|| Failure::new(Exit::Usage, "name the copy"))?;
        (folder.to_owned(), Some(PathBuf::from(name)))
    };
    let (pieces, queue) = mpsc::channel::<Vec<u8>>(QUEUE);
    let last = PathBuf::from(last);
    let unpacked = tokio::task::spawn_blocking(move || unpack(Pieces::new(queue), &folder, &last, renamed.as_deref()));
    let mut complaint = Vec::new();
    let ended = loop {
        match reader.next().await? {
            Heard::Stdout(bytes) => {
                // Whoever unpacks says why it went no further.
                if pieces.send(bytes).await.is_err() {
                    break None;
                }
            }
            Heard::Stderr(bytes) => note(&mut complaint, &bytes),
            Heard::Ended(code) => break Some(code),
        }
    };
    drop(pieces);
    let unpacked = unpacked.await.map_err(|error| Failure::failed(error.to_string()))?;
    tar_ended(ended.unwrap_or(0), &complaint)?;
    Ok(unpacked?)
}

async fn bring(
    (mut writer, mut reader): (SessionWriter, SessionReader),
    here: PathBuf,
    last: String,
) -> Result<(), Failure> {
    let (pieces, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE);
    let packed = tokio::task::spawn_blocking(move || pack(Packer { pieces, kept: Vec::new() }, &here, &last));
    let inward = async {
        while let Some(piece) = queue.recv().await {
            if writer.data(&piece).await.is_err() {
                break;
            }
        }
        writer.end_of_input().await.ok();
        drop(queue);
        std::future::pending::<()>().await;
    };
    let mut complaint = Vec::new();
    let outward = async {
        loop {
            match reader.next().await? {
                Heard::Stdout(_) => {}
                Heard::Stderr(bytes) => note(&mut complaint, &bytes),
                Heard::Ended(code) => return Ok::<_, Failure>(code),
            }
        }
    };
    let code = tokio::select! {
        biased;
        code = outward => code?,
        () = inward => 0,
    };
    tar_ended(code, &complaint)?;
    Ok(packed.await.map_err(|error| Failure::failed(error.to_string()))??)
}

fn note(complaint: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_COMPLAINT_BYTES.saturating_sub(complaint.len());
    complaint.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

fn tar_ended(code: i32, complaint: &[u8]) -> Result<(), Failure> {
    if code == 0 {
        return Ok(());
    }
    let said = super::text::clean(String::from_utf8_lossy(complaint).trim());
    Err(Failure::failed(format!("`tar` in the container ended with {code}: {said}")))
}

/// Unpacks what stands under `last` below the folder, under its own name or the new one.
fn unpack(stream: impl Read, folder: &Path, last: &Path, renamed: Option<&Path>) -> io::Result<()> {
    let mut archive = tar::Archive::new(stream);
    archive.set_preserve_permissions(true);
    archive.set_mask(NEVER_KEPT);
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let path: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
        let below = if last == Path::new(".") { Ok(path.as_path()) } else { path.strip_prefix(last) };
        let climbs = path.components().any(|part| !matches!(part, Component::Normal(_)));
        let Ok(below) =
            below.map(Path::to_owned).map_err(|_| ()).and_then(|below| if climbs { Err(()) } else { Ok(below) })
        else {
            return Err(io::Error::other(format!("{} was not asked for and is refused", path.display())));
        };
        let first = renamed.unwrap_or(last);
        let target = if below.as_os_str().is_empty() { first.to_owned() } else { first.join(below) };
        if let Some(link) = entry.link_name()?
            && entry.header().entry_type().is_hard_link()
            && link.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(io::Error::other(format!("{} is a link out of the copy and is refused", path.display())));
        }
        // No symbolic link that came along, or was there before, is followed out of the folder.
        safe_parents(folder, &target)?;
        let full = folder.join(&target);
        if entry.header().entry_type().is_hard_link() {
            let link = entry.link_name()?.unwrap_or_default();
            let original = link.strip_prefix(last).map_or_else(|_| link.to_path_buf(), |rest| first.join(rest));
            safe_parents(folder, &original)?;
            std::fs::remove_file(&full).ok();
            std::fs::hard_link(folder.join(original), &full)?;
        } else {
            entry.unpack(&full)?;
        }
    }
    Ok(())
}

/// Refuses a path whose folders, as far as they are there, are not folders themselves.
fn safe_parents(folder: &Path, target: &Path) -> io::Result<()> {
    let mut walked = folder.to_owned();
    let parents = target.parent().into_iter().flat_map(Path::components);
    for part in parents {
        walked.push(part);
        match walked.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("{} leads elsewhere and is not followed", walked.display()))),
            Err(_) => std::fs::create_dir(&walked)?,
        }
    }
    Ok(())
}

/// Packs what is here under the name `last`. Links are packed as links.
fn pack(stream: impl Write, here: &Path, last: &str) -> io::Result<()> {
    let mut archive = tar::Builder::new(stream);
    archive.follow_symlinks(false);
    if here.symlink_metadata()?.is_dir() {
        archive.append_dir_all(last, here)?;
    } else {
        archive.append_path_with_name(here, last)?;
    }
    archive.into_inner()?.flush()
}

/// Reads what comes through a queue.
struct Pieces {
    queue: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Pieces {
    const fn new(queue: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { queue, piece: Vec::new(), read: 0 }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read >= self.piece.len() {
            match self.queue.blocking_recv() {
                Some(piece) => (self.piece, self.read) = (piece, 0),
                None => return Ok(0),
            }
        }
        let rest = self.piece.get(self.read..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        let (Some(from), Some(to)) = (rest.get(..count), buffer.get_mut(..count)) else { return Ok(0) };
        to.copy_from_slice(from);
        self.read += count;
        Ok(count)
    }
}

/// Writes into a queue, in pieces of some size.
struct Packer {
    pieces: mpsc::Sender<Vec<u8>>,
    kept: Vec<u8>,
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.kept);
        if piece.is_empty() {
            return Ok(());
        }
        let gone = |_| io::Error::new(io::ErrorKind::ConnectionAborted, "`tar` in the container has ended");
        self.pieces.blocking_send(piece).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        archive_of_mode(0o640, entries)
    }

    fn archive_of_mode(mode: u32, entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, contents) in entries {
            let mut header = tar::Header::new_gnu();
            if name.ends_with('/') && contents.is_empty() {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
            } else if let Some(target) = contents.strip_prefix("->") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(target).unwrap();
                header.set_size(0);
            } else {
                header.set_size(contents.len() as u64);
            }
            header.set_mode(mode);
            // As a forger writes it: the crate's own writer would refuse.
            let bytes = name.as_bytes();
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            header.set_cksum();
            let data = if contents.starts_with("->") { &[][..] } else { contents.as_bytes() };
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked_under_its_name_or_a_new_one() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("site/sub")).unwrap();
        fs::write(from.path().join("site/sub/a"), "hello").unwrap();
        std::os::unix::fs::symlink("sub/a", from.path().join("site/link")).unwrap();
        let (pieces, mut queue) = mpsc::channel(1_000);
        pack(Packer { pieces, kept: Vec::new() }, &from.path().join("site"), "site").unwrap();
        let mut stream = Vec::new();
        while let Ok(piece) = queue.try_recv() {
            stream.extend(piece);
        }
        for renamed in [None, Some(Path::new("new"))] {
            let to = tempfile::tempdir().unwrap();
            unpack(stream.as_slice(), to.path(), Path::new("site"), renamed).unwrap();
            let site = to.path().join(renamed.unwrap_or(Path::new("site")));
            assert_eq!(fs::read_to_string(site.join("link")).unwrap(), "hello");
            assert!(site.join("link").symlink_metadata().unwrap().is_symlink());
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_folder() {
        for (forged, what) in [
            (archive(&[("../evil", "x")]), "a name that climbs"),
            (archive(&[("site/../../evil", "x")]), "a name that climbs later"),
            (archive(&[("other", "x")]), "what was not asked for"),
            (archive(&[("site/", "->.."), ("site/evil", "x")]), "a link and then a file behind it"),
            (archive(&[("site/out", "->/tmp"), ("site/out/wherry-evil", "x")]), "an absolute link"),
        ] {
            let outside = tempfile::tempdir().unwrap();
            let folder = outside.path().join("folder");
            fs::create_dir(&folder).unwrap();
            let refused = unpack(forged.as_slice(), &folder, Path::new("site"), None);
            assert!(refused.is_err(), "{what}");
            assert!(!outside.path().join("evil").exists(), "{what}");
            assert!(!Path::new("/tmp/wherry-evil").exists(), "{what}");
        }
    }

    #[test]
    fn nothing_from_inside_runs_as_the_caller() {
        let forged = archive_of_mode(0o7755, &[("site/", ""), ("site/root-shell", "x")]);
        let to = tempfile::tempdir().unwrap();
        unpack(forged.as_slice(), to.path(), Path::new("site"), None).unwrap();
        for path in ["site", "site/root-shell"] {
            let mode = to.path().join(path).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o755, "{path}");
        }
    }

    #[test]
    fn places_inside() {
        let pair = |folder: &str, last: &str| Ok((folder.to_owned(), last.to_owned()));
        assert_eq!(split("/etc/hosts"), pair("/etc", "hosts"));
        assert_eq!(split("/etc/"), pair("/", "etc"));
        assert_eq!(split("notes"), pair(".", "notes"));
        assert_eq!(split("/"), pair("/", "."));
        assert!(split("a/..").is_err() && split("").is_err());
        assert_eq!(into(Path::new("./site"), "/srv/"), pair("/srv/", "site"));
        assert_eq!(into(Path::new("./site"), "/srv/www"), pair("/srv", "www"));
    }
}
