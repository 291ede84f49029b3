//! What is asked for. `cargo xtask bench placement` checks and words it; here is only what it hands on.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// See the fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Without one, a synthetic trace is drawn.
    pub(crate) trace: Option<PathBuf>,
    /// Measure the density.
    pub(crate) density: bool,
    /// Measure the speed. Neither is both.
    pub(crate) speed: bool,
    /// The result for programs.
    pub(crate) json: Option<PathBuf>,
    /// The result for the document.
    pub(crate) markdown: Option<PathBuf>,
    /// The folder of the plots.
    pub(crate) plots: Option<PathBuf>,
    /// Lines about the machine and the day.
    pub(crate) about: Vec<String>,
}

impl Arguments {
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut words = words.into_iter();
        let mut read = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value after it"));
            match word.as_str() {
                "--trace" => read.trace = Some(value()?.into()),
                "--json" => read.json = Some(value()?.into()),
                "--markdown" => read.markdown = Some(value()?.into()),
                "--plots" => read.plots = Some(value()?.into()),
                "--about" => read.about.push(value()?),
                "--density" => read.density = true,
                "--speed" => read.speed = true,
                other => bail!("{other} is not known here: see `cargo xtask bench placement --help`"),
            }
        }
        if !read.density && !read.speed {
            (read.density, read.speed) = (true, true);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Arguments> {
        Arguments::read(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn neither_part_is_both_and_wrong_words_are_named() {
        assert_eq!(
            read(&["--about", "a"]).unwrap(),
            Arguments { density: true, speed: true, about: vec!["a".to_owned()], ..Arguments::default() }
        );
        let one = read(&["--density", "--trace", "t"]).unwrap();
        assert_eq!((one.density, one.speed, one.trace), (true, false, Some("t".into())));
        assert!(read(&["--json"]).unwrap_err().to_string().contains("--json wants"));
        assert!(read(&["--fast"]).unwrap_err().to_string().contains("--fast"));
    }
}
