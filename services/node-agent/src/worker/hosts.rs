//! `/etc/hosts` of an instance: itself and what its spec adds, nothing else. Without one of ours the engine copies the machine's, which tells
//! tenants about the operator's network. Read-only, so that nobody fills the machine's disk through it.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use wherry_agent_api::DesiredInstance;
use wherry_runtime::Mount;

use crate::blocking::blocking;

/// Writes the file into the instance's folder; it goes with the instance's logs.
pub(super) async fn write(folder: &Path, desired: &DesiredInstance, address: Ipv4Addr) -> io::Result<Mount> {
    let path = folder.join("hosts");
    let (folder, file, text) = (folder.to_owned(), path.clone(), render(desired, address));
    blocking(move || {
        std::fs::create_dir_all(folder)?;
        put(&file, &text)
    })
    .await?;
    Ok(Mount { host_path: path, container_path: "/etc/hosts".into(), read_only: true, ..Mount::default() })
}

/// Other containers of the sandbox read the file while this one begins, and see this inode whatever is renamed over it: it is
/// never empty for a moment, and what is right is left alone.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut present = Vec::new();
    file.read_to_end(&mut present)?;
    if present == text.as_bytes() {
        return Ok(());
    }
    // Empty lines hide the end of a longer one until it is cut off.
    let mut padded = text.as_bytes().to_vec();
    padded.resize(padded.len().max(present.len()), b'\n');
    file.write_all_at(&padded, 0)?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

fn render(desired: &DesiredInstance, address: Ipv4Addr) -> String {
    let DesiredInstance { name, search_domain, .. } = desired;
    let mut text = format!("127.0.0.1\tlocalhost\n{address}\t{name}.{search_domain}\t{name}\n");
    for alias in &desired.more.host_aliases {
        let _infallible = writeln!(text, "{}\t{}", alias.address, alias.names.join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_file_that_containers_see_is_changed_and_not_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let about = || std::fs::metadata(&path).unwrap();
        put(&path, "one\ntwo\n").unwrap();
        let (inode, changed) = (about().ino(), (about().ctime(), about().ctime_nsec()));
        put(&path, "one\ntwo\n").unwrap();
        assert_eq!((about().ctime(), about().ctime_nsec()), changed, "it was right");
        for text in ["1\n", "1\n2\n3\n4\n5\n"] {
            put(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(about().ino(), inode);
    }
}
