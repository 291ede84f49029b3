//! `cargo xtask bench placement`: how densely Wherry's engine packs beside published policies, and how fast it decides.
//!
//! Progress and tables go to standard error, figures to the files that are asked for. The same inputs give the same figures of density;
//! those of speed are this machine's.

mod arguments;
mod bound;
mod density;
mod nodes;
mod plot;
mod policies;
mod replay;
mod report;
mod speed;
mod table;
#[cfg(test)]
mod tests;
mod workload;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, json};
use wherry_trace::{Trace, synthetic};

use arguments::Arguments;

/// Of the trace that is drawn when there is none: arrivals, days and seed.
const DRAWN: (usize, u64, u64) = (50_000, 2, 1);

fn main() -> ExitCode {
    match Arguments::read(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut json = Map::new();
    // Lines like "date: 2026-11-24".
    let about = arguments.about.iter().filter_map(|line| line.split_once(": "));
    json.extend(about.map(|(what, value)| (what.to_owned(), json!(value))));
    let mut markdown = report::bullets(&arguments.about);
    let mut wrong = Vec::new();
    // First, while nothing else runs in this process.
    if arguments.speed {
        eprintln!("speed: three fleets of 1,000 to 100,000 nodes, about a minute");
        let speed = speed::run();
        let part = report::speed(&speed);
        eprintln!("{}\n", part.text);
        markdown = format!("{markdown}\n### Speed of decisions\n\n{}", part.markdown);
        json.insert("speed".to_owned(), part.json);
        keep_plots(arguments, &mut markdown, [plot::speed(&speed)])?;
    }
    if arguments.density {
        let began = Instant::now();
        let (name, trace) = trace(arguments.trace.as_deref())?;
        let density = density::run(&name, arguments.trace.is_none(), &trace, &|line| eprintln!("{line}"))?;
        let part = report::density(&density);
        eprintln!("\n{}\ndensity took {:.0} s", part.text, began.elapsed().as_secs_f64());
        markdown = format!("{markdown}\n### Density\n\n{}", part.markdown);
        json.insert("density".to_owned(), part.json);
        keep_plots(arguments, &mut markdown, plot::density(&density))?;
        wrong = density.against_reference();
    }
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&json).context("the figures cannot be written as JSON")?;
        write(file, &format!("{text}\n"))?;
    }
    if let Some(file) = &arguments.markdown {
        write(file, &markdown)?;
    }
    ensure!(
        wrong.is_empty(),
        "the baselines are not what they are known to be on this trace, so that the harness is wrong:\n  {}",
        wrong.join("\n  ")
    );
    Ok(())
}

/// Writes the plots where they are asked for, and links them.
fn keep_plots(
    arguments: &Arguments,
    markdown: &mut String,
    plots: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<()> {
    let Some(folder) = &arguments.plots else { return Ok(()) };
    let name_of_folder = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for (name, svg) in plots {
        write(&folder.join(name), &svg)?;
        let title = svg.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).unwrap_or(name);
        *markdown = format!("{markdown}\n![{title}]({name_of_folder}/{name})\n");
    }
    Ok(())
}

fn trace(path: Option<&Path>) -> Result<(String, Trace)> {
    let Some(path) = path else {
        eprintln!(
            "NO TRACE: replaying one that is drawn, by which placement is not to be judged. Give a recorded one with --trace PATH"
        );
        let (count, days, seed) = DRAWN;
        let rows = synthetic::draw(count, days, seed);
        return Ok(("synthetic".to_owned(), Trace { segment: None, rows }));
    };
    let name = path.file_name().map_or_else(|| "trace".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok((name, wherry_trace::read(path)?))
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}
