//! Where the token of a machine that joins comes from.
//!
//! The arguments of a process can be read by everybody on its machine, its environment only by the same user: the command that
//! operators are given has the token in the environment.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::cli::JoinArgs;

/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 1_024;

/// The token, from the file if one is named. Waits for standard input if that is.
pub(super) fn given(args: &JoinArgs) -> anyhow::Result<String> {
    let token = match (&args.token_file, &args.token) {
        (Some(file), _) => read(file)?,
        (None, Some(token)) => token.trim().to_owned(),
        (None, None) => bail!("--join needs the token: in the environment as WHERRY_JOIN_TOKEN, or in a --token-file"),
    };
    if token.is_empty() {
        bail!("the join token is empty: it begins with wjt_, as `wherry admin node token` printed it");
    }
    Ok(token)
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file != Path::new("-") {
        let cannot = || format!("cannot read the join token from {}", file.display());
        return File::open(file).and_then(first_line).with_context(cannot);
    }
    if io::stdin().is_terminal() {
        eprintln!("Paste the join token and press Enter:");
    }
    first_line(io::stdin()).context("cannot read the join token from standard input")
}

fn first_line(from: impl Read) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(from.take(MAX_LINE_BYTES)).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(token: Option<&str>, file: Option<&Path>) -> JoinArgs {
        JoinArgs {
            join: None,
            token: token.map(str::to_owned),
            token_file: file.map(Path::to_owned),
            ca_fingerprint: None,
            name: None,
            underlay: None,
        }
    }

    #[test]
    fn the_token_comes_from_the_file_or_else_from_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "  wjt_of_the_file\r\nmore\n").unwrap();
        assert_eq!(given(&args(Some("wjt_a"), None)).unwrap(), "wjt_a");
        assert_eq!(given(&args(Some("wjt_a"), Some(&file))).unwrap(), "wjt_of_the_file");
        let refused = |args: JoinArgs| format!("{:#}", given(&args).unwrap_err());
        assert!(refused(args(None, None)).contains("WHERRY_JOIN_TOKEN"));
        assert!(refused(args(Some(" "), None)).contains("wherry admin node token"));
        assert!(refused(args(None, Some(&folder.path().join("none")))).contains("none"));
        std::fs::write(&file, "").unwrap();
        assert!(
            refused(args(Some("wjt_a"), Some(&file))).contains("empty"),
            "a file that is named is the one that counts"
        );
    }

    #[test]
    fn no_more_is_read_than_a_token_can_be() {
        assert_eq!(first_line(io::repeat(b'x')).unwrap().len(), 1_024);
    }
}
