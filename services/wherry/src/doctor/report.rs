//! Findings for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::judge::{Finding, Verdict};

const TOPIC_WIDTH: usize = 20;

/// One line per finding, its remedy below it, a sum at the end. Colours only when asked for.
pub(super) fn render(findings: &[Finding], colours: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let (word, colour) = match finding.verdict {
            Verdict::Ok => ("ok", "32"),
            Verdict::Note => ("note", "36"),
            Verdict::Warning => ("warning", "33"),
            Verdict::Failure => ("failure", "31"),
        };
        let padding = " ".repeat("failure".len() - word.len());
        let word = if colours { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() };
        let _ = writeln!(text, "{word}{padding}  {:TOPIC_WIDTH$} {}", finding.topic, finding.says);
        if let Some(remedy) = remedy(finding) {
            let _ = writeln!(text, "{:9}{:TOPIC_WIDTH$} → {remedy}", "", "");
        }
    }
    if let Some(command) = install(findings) {
        let _ = writeln!(text, "\nInstall what is missing:\n  {command}");
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (failures, warnings) = (count(Verdict::Failure), count(Verdict::Warning));
    let sum = match (failures, warnings) {
        (0, 0) => "This machine can run Wherry.".to_owned(),
        (0, _) => format!("This machine can run Wherry; warnings: {warnings}."),
        _ => format!("This machine cannot run Wherry yet; failures: {failures}, warnings: {warnings}."),
    };
    let _ = writeln!(text, "\n{sum}");
    text
}

/// Why `wherry up` cannot start, or nothing.
pub(super) fn refusal(findings: &[Finding]) -> Option<String> {
    let failures: Vec<&Finding> = findings.iter().filter(|finding| finding.is_failure()).collect();
    if failures.is_empty() {
        return None;
    }
    let mut text = "this machine cannot run Wherry yet:".to_owned();
    for finding in failures {
        let _ = write!(text, "\n  - {}", finding.says);
        if let Some(mend) = &finding.mend {
            let _ = write!(text, ": {mend}");
        }
    }
    if let Some(command) = install(findings) {
        let _ = write!(text, "\ninstall what is missing: {command}");
    }
    text.push_str("\n`wherry doctor` checks everything and says more");
    Some(text)
}

fn remedy(finding: &Finding) -> Option<String> {
    match (&finding.mend, finding.packages.as_slice()) {
        (Some(mend), _) => Some(mend.clone()),
        (None, []) => None,
        (None, packages) => Some(format!("apt-get install {}", packages.join(" "))),
    }
}

/// One command for all packages that are missing.
fn install(findings: &[Finding]) -> Option<String> {
    let failures = findings.iter().filter(|finding| finding.is_failure());
    let packages: BTreeSet<&str> = failures.flat_map(|finding| finding.packages.iter().copied()).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    (!packages.is_empty()).then(|| format!("apt-get install --yes {}", packages.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict, says: &str, mend: Option<&str>, packages: &[&'static str]) -> Finding {
        let (says, mend) = (says.to_owned(), mend.map(str::to_owned));
        Finding { verdict, topic: "thing", says, mend, packages: packages.to_vec() }
    }

    #[test]
    fn a_report() {
        let findings = [
            finding(Verdict::Ok, "fine", None, &[]),
            finding(Verdict::Warning, "old", Some("renew it"), &[]),
            finding(Verdict::Failure, "ctr is not installed", None, &["containerd"]),
            finding(Verdict::Failure, "containerd is not installed", None, &["containerd"]),
        ];
        let expected = "\
ok       thing                fine
warning  thing                old
                              → renew it
failure  thing                ctr is not installed
                              → apt-get install containerd
failure  thing                containerd is not installed
                              → apt-get install containerd

Install what is missing:
  apt-get install --yes containerd

This machine cannot run Wherry yet; failures: 2, warnings: 1.
";
        assert_eq!(render(&findings, false), expected);
        assert!(render(&findings, true).contains("\u{1b}[33mwarning\u{1b}[0m"));
        assert!(render(&findings[..1], false).ends_with("\nThis machine can run Wherry.\n"));
    }

    #[test]
    fn a_refusal_names_every_failure_and_one_command() {
        let findings = [
            finding(Verdict::Warning, "old", Some("renew it"), &[]),
            finding(Verdict::Failure, "the range is in use", Some("choose another"), &[]),
            finding(Verdict::Failure, "nft is not installed", None, &["nftables"]),
            finding(Verdict::Failure, "ctr is not installed", None, &["containerd"]),
        ];
        let text = refusal(&findings).unwrap();
        assert!(text.contains("- the range is in use: choose another\n"), "{text}");
        assert!(text.contains("apt-get install --yes containerd nftables\n") && !text.contains("old"), "{text}");
        assert_eq!(refusal(&findings[..1]), None);
    }
}
