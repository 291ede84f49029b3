//! `/etc/hosts` of an instance: itself and what its spec adds, nothing else. Without one of ours the engine copies the machine's, which tells
//! tenants about the operator's network. Read-only, so that nobody fills the machine's disk through it.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
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
        std::fs::write(file, text)
    })
    .await?;
    Ok(Mount { host_path: path, container_path: "/etc/hosts".into(), read_only: true, ..Mount::default() })
}

fn render(desired: &DesiredInstance, address: Ipv4Addr) -> String {
    let DesiredInstance { name, search_domain, .. } = desired;
    let mut text = format!("127.0.0.1\tlocalhost\n{address}\t{name}.{search_domain}\t{name}\n");
    for alias in &desired.more.host_aliases {
        let _infallible = writeln!(text, "{}\t{}", alias.address, alias.names.join("\t"));
    }
    text
}
