//! The whole path on a real `wherry`: simulated nodes join, some hundred creates come, some end, some are deleted, one node dies, one is
//! not heard for a while, and the auditor finds nothing.

#![expect(clippy::unwrap_used, reason = "all of it is a test; clippy knows only the test functions for one")]

use std::path::PathBuf;
use std::process::Command;

/// The binary beside this test; it is built before the tests are run.
fn wherry() -> PathBuf {
    if let Some(path) = std::env::var_os("WHERRY_E2E_BINARY") {
        return PathBuf::from(path);
    }
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("wherry")
}

#[test]
fn a_small_fleet_takes_a_small_load_and_the_auditor_finds_nothing() {
    let wherry = wherry();
    assert!(wherry.exists(), "{} is not there: run `cargo build -p wherry` first", wherry.display());
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("result.json"), folder.path().join("result.html"));
    let output = Command::new(env!("CARGO_BIN_EXE_wherry-loadtest"))
        .args(["run", "--nodes", "8", "--rate", "40", "--seconds", "6", "--life", "2", "--surroundings"])
        .args(["--deaths", "1", "--silences", "1", "--silence-seconds", "3"])
        .arg("--start")
        .arg(&wherry)
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .output()
        .unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("8 simulated nodes"), "{said}");
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let count = |path: &str| result.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
    assert!(count("/creates/acknowledged") > 100, "{said}");
    assert_eq!(count("/creates/failed"), 0, "{said}");
    assert!(count("/audit/runs") > 100 && count("/audit/metered_seconds") > 100, "{said}");
    assert_eq!(result.pointer("/audit/passed"), Some(&serde_json::Value::Bool(true)), "{said}");
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("simulated nodes") && page.contains("<svg") && page.contains("polyline"), "{page}");
}
