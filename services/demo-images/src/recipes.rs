//! The demo's images. Their pages and configuration are files in the repository's `images/` folder.
//!
//! Every recipe works with the capabilities that Wherry leaves to a container (CHOWN, DAC_OVERRIDE, FOWNER, SETGID,
//! SETUID, NET_BIND_SERVICE, KILL) and `no_new_privs`, and ends at once when asked to: a shell as process 1 ignores
//! SIGTERM unless it traps it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{FileTree, OciImage};

const BUSYBOX: &str = "/bin/busybox";
const NGINX: &str = "/usr/sbin/nginx";
/// `www-data` of Debian's base-passwd.
const WEB_USER: u64 = 33;

/// A web server in less than 1.5 MB: static busybox, one page, a line on stdout at start and on stderr per request.
pub fn web() -> Result<OciImage> {
    let content = FileTree::new().file("/www/index.html", 0o644, include_str!("../../../images/web/index.html")).file(
        "/usr/local/bin/serve",
        0o755,
        include_str!("../../../images/web/serve"),
    );
    OciImage::builder()
        .layer(busybox()?)
        .layer(content)
        .env("PATH", "/usr/local/bin:/bin")
        .entrypoint(&["/usr/local/bin/serve"])
        .exposed_port(80)
        .label("org.opencontainers.image.title", "wherry demo web")
        .build()
}

/// The same busybox with a shell: `sh` when no command is given, any applet otherwise.
pub fn tool() -> Result<OciImage> {
    OciImage::builder()
        .layer(busybox()?)
        .env("PATH", "/bin")
        .command(&["sh"])
        .label("org.opencontainers.image.title", "wherry demo tool")
        .build()
}

/// Debian's nginx with the libraries it is linked to, in the foreground, logs to stdout and stderr.
pub fn nginx() -> Result<OciImage> {
    let mut program = FileTree::new().host_program(Path::new(NGINX))?;
    for library in shared_libraries(Path::new(NGINX))? {
        program = program.host_program(&library)?;
    }
    let content = FileTree::new()
        .file("/etc/nginx/nginx.conf", 0o644, include_str!("../../../images/nginx/nginx.conf"))
        .file("/etc/nginx/mime.types", 0o644, include_str!("../../../images/nginx/mime.types"))
        .file("/etc/passwd", 0o644, include_str!("../../../images/nginx/passwd"))
        .file("/etc/group", 0o644, include_str!("../../../images/nginx/group"))
        .file("/usr/share/nginx/html/index.html", 0o644, include_str!("../../../images/nginx/index.html"))
        .directory("/run", 0o755)
        .directory("/tmp", 0o1777)
        .directory("/var/log/nginx", 0o755)
        .directory("/var/lib/nginx", 0o755)
        .owned_by("/var/lib/nginx", WEB_USER, WEB_USER);
    OciImage::builder()
        .layer(program)
        .layer(content)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .entrypoint(&[NGINX])
        .command(&["-g", "daemon off;"])
        .exposed_port(80)
        .stop_signal("SIGQUIT")
        .label("org.opencontainers.image.title", "wherry demo nginx")
        .build()
}

/// One static program that writes the monotonic clock in nanoseconds as its first act, for benchmarks.
pub fn first_byte() -> Result<OciImage> {
    OciImage::builder().layer(first_byte_tree()?).entrypoint(&["/first-byte"]).build()
}

/// The content of [`first_byte`], for engines that take a folder in place of an image.
pub fn first_byte_tree() -> Result<FileTree> {
    let program = compiled("first-byte", include_str!("../../../images/first-byte/first-byte.c"))?;
    Ok(FileTree::new().file("/first-byte", 0o755, program))
}

/// [`tool`] with `datagram`, which answers datagrams (UDP) and asks who answers them: no applet of Debian's busybox does.
pub fn datagram() -> Result<OciImage> {
    let program = compiled("datagram", include_str!("../../../images/datagram/datagram.c"))?;
    OciImage::builder()
        .layer(busybox()?)
        .layer(FileTree::new().file("/bin/datagram", 0o755, program))
        .env("PATH", "/bin")
        .command(&["sh"])
        .build()
}

/// A static program of the source.
fn compiled(name: &str, source: &str) -> Result<Vec<u8>> {
    // The compiler takes the source from its input and must write to a file; /dev/stdout would be no ELF file to seek in.
    let output = std::env::temp_dir().join(format!("wherry-{name}-{}", std::process::id()));
    let compiled = compile(source, &output);
    let program = compiled.and_then(|()| std::fs::read(&output).context("the compiled program cannot be read"));
    let _ = std::fs::remove_file(&output);
    program
}

fn compile(source: &str, output: &Path) -> Result<()> {
    let mut compiler = Command::new("cc")
        .args(["-static", "-O2", "-x", "c", "-", "-o"])
        .arg(output)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start cc: run `cargo xtask setup`, which installs gcc")?;
    let mut input = compiler.stdin.take().context("cc has no input")?;
    input.write_all(source.as_bytes()).context("cc does not read its input")?;
    drop(input);
    let status = compiler.wait().context("cannot wait for cc")?;
    ensure!(status.success(), "cc failed ({status}): run `cargo xtask setup`, which installs libc6-dev");
    Ok(())
}

/// Busybox with a link for each of its applets, and the few files a shell session expects.
fn busybox() -> Result<FileTree> {
    let listing = Command::new(BUSYBOX).arg("--list").output().with_context(|| {
        format!("cannot run {BUSYBOX}: run `cargo xtask setup`, which installs the package busybox-static")
    })?;
    let listing = String::from_utf8(listing.stdout).context("busybox --list did not answer with text")?;
    ensure!(
        shared_libraries(Path::new(BUSYBOX))?.is_empty(),
        "{BUSYBOX} is not static: install the package busybox-static in place of busybox"
    );
    let mut tree = FileTree::new()
        .host_program(Path::new(BUSYBOX))?
        .directory("/tmp", 0o1777)
        .directory("/root", 0o700)
        .file("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        .file("/etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n");
    for applet in listing.lines().filter(|&applet| applet != "busybox") {
        tree = tree.symlink(&format!("/bin/{applet}"), "busybox");
    }
    Ok(tree)
}

/// What the dynamic loader would load for `program`, as `ldd` tells it; empty for a static program.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        if complaint.contains("not a dynamic executable") {
            return Ok(Vec::new());
        }
        bail!("ldd {}: {}: run `cargo xtask setup`", program.display(), complaint.trim());
    }
    parse_ldd(&text)
}

fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in text.lines().map(str::trim) {
        let target = line.split_once("=>").map_or(line, |(_, target)| target).trim();
        ensure!(target != "not found", "a library is missing: {line}: reinstall the package that the program is from");
        let path = target.split(" (0x").next().unwrap_or(target);
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_become_paths() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(text).unwrap(), expected);
        assert!(parse_ldd("\tstatically linked\n").unwrap().is_empty());
        assert!(parse_ldd("\tlibx.so => not found\n").unwrap_err().to_string().contains("missing"));
    }
}
