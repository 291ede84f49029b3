//! Compiles the sandbox's first process with the C compiler that Rust links with anyway.

use std::path::PathBuf;
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=pause/pause.c");
    println!("cargo::rerun-if-env-changed=CC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("pause");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&compiler)
        .args(["-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-stack-protector", "-fno-pic"])
        .args(["-fno-asynchronous-unwind-tables", "-static", "-nostdlib", "-no-pie"])
        .args(["-s", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "pause/pause.c", "-o"])
        .arg(&out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            eprintln!("{compiler} could not compile pause/pause.c ({status}); its words are above");
            exit(1);
        }
        Err(error) => {
            eprintln!("cannot run the C compiler {compiler}: {error}; install gcc or set CC");
            exit(1);
        }
    }
}
