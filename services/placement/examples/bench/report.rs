//! What came out, as JSON for programs and as text for people.

use serde_json::{Map, Value, json};

use crate::density::{Density, SCENARIOS, SEEDS, SUBJECTS};
use crate::speed::Speed;
use crate::table::Table;

/// What the figures are not.
const CAVEATS: [&str; 4] = [
    "the segment starts from an empty fleet; arrivals are known to 300 s, lifetimes over 1 h to 1 h or 1 day; these are sizes of virtual \
     machines; what ran on at the end of the segment never departs",
    "a machine counts while it has an instance; the lower bound is the volume of what runs, which no placement of whole instances reaches",
    "labelled: each arrival has an image that tells its lifetime class right in 80 of 100 cases and else another class, each as likely, \
     drawn for each arrival by itself; classes end at the times that are named; the trace has no images",
    "the trace has no tenants but batches: what one tenant started within five minutes is known to belong together, nothing else is",
];

/// What the constants of the learner were chosen by.
const TUNED: &str = "the constants in services/placement/src/lifetime were chosen on the whole dev segment: no part of it is held out, \
    and other segments and traces are needed to judge them";

/// The text and the JSON of a part.
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) markdown: String,
    pub(crate) json: Value,
}

/// A list in Markdown.
pub(crate) fn bullets(lines: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut list = String::new();
    for line in lines {
        for part in ["- ", line.as_ref(), "\n"] {
            list.push_str(part);
        }
    }
    list
}

/// To four places, which is as far as anybody compares.
fn places(value: f64) -> Value {
    json!((value * 10_000.0).round() / 10_000.0)
}

pub(crate) fn density(density: &Density) -> Part {
    let mut json = Map::new();
    let subjects = || SUBJECTS.iter().enumerate();
    let main = |subject: usize| density.outcome(subject, 0, None);
    let each = |value: &dyn Fn(usize) -> Option<Value>| -> Value {
        subjects().filter_map(|(at, subject)| Some((subject.key.to_owned(), value(at)?))).collect::<Map<_, _>>().into()
    };
    for (at, subject) in subjects() {
        json.extend(main(at).map(|outcome| (subject.key.to_owned(), places(outcome.ratio))));
    }
    let labels = subjects().filter_map(|(at, subject)| Some((subject.hint?.name.to_owned(), places(main(at)?.ratio))));
    json.insert("labelled_by_class_borders".to_owned(), labels.collect::<Map<_, _>>().into());
    json.insert("smallest_fleet".to_owned(), each(&|at| main(at).map(|outcome| json!(outcome.most_open))));
    let halves = each(&|at| main(at).map(|outcome| outcome.ratio_of_halves.map(places).to_vec().into()));
    json.insert("halves".to_owned(), halves);
    let spread = each(&|at| {
        let [least, median, most] = density.spread(at)?.map(places);
        let seeds = SEEDS.iter().filter_map(|seed| density.outcome(at, 0, Some(*seed)));
        let seeds = seeds.map(|outcome| places(outcome.ratio)).collect::<Vec<_>>();
        Some(json!({ "min": least, "median": median, "max": most, "seeds": seeds }))
    });
    json.insert("jitter".to_owned(), spread);
    for (scenario, of) in SCENARIOS.iter().enumerate().skip(1) {
        let value = each(&|at| density.outcome(at, scenario, None).map(|outcome| places(outcome.ratio)));
        json.insert(of.key.to_owned(), value);
    }
    let hours = density.outcome(0, 0, None).map(|outcome| places(outcome.bound_hours));
    json.insert("lower_bound_node_hours".to_owned(), json!(hours));
    let trace = json!({
        "name": density.trace, "synthetic": density.synthetic, "arrivals": density.arrivals, "hours": places(density.hours),
        "larger_than_a_node": density.outcome(0, 0, None).map(|outcome| outcome.rejected),
    });
    json.insert("trace".to_owned(), trace);
    json.insert("tuned_on".to_owned(), json!(TUNED));
    json.insert("read_with".to_owned(), json!(CAVEATS));

    let head = ["policy", "ratio", "smallest fleet", "first half", "second half", "min", "median", "max"];
    let main_table = Table {
        head: head.into_iter().map(str::to_owned).collect(),
        rows: subjects()
            .filter_map(|(at, subject)| {
                let outcome = main(at)?;
                let figure = |value: f64| format!("{value:.4}");
                let spread =
                    density.spread(at).map_or_else(|| [const { String::new() }; 3], |spread| spread.map(figure));
                let [first, second] = outcome.ratio_of_halves.map(figure);
                let cells =
                    [subject.name.to_owned(), figure(outcome.ratio), outcome.most_open.to_string(), first, second];
                Some(cells.into_iter().chain(spread).collect())
            })
            .collect(),
    };
    let others = Table {
        head: std::iter::once("policy").chain(SCENARIOS[1..].iter().map(|of| of.name)).map(str::to_owned).collect(),
        rows: subjects()
            .filter_map(|(at, subject)| {
                let ratios = (1..SCENARIOS.len()).map(|scenario| Some(density.outcome(at, scenario, None)?.ratio));
                let ratios =
                    ratios.map(|ratio| ratio.map(|ratio| format!("{ratio:.4}"))).collect::<Option<Vec<_>>>()?;
                Some(std::iter::once(subject.name.to_owned()).chain(ratios).collect())
            })
            .collect(),
    };
    let synthetic = if density.synthetic { "; **drawn, not recorded: not to be judged by**" } else { "" };
    let what = format!(
        "trace {}, {} arrivals over {:.0} h{synthetic}; {}; node-hours over the volume lower bound, less is better; min, median and max of \
         5 seeds of jitter up to 300 s",
        density.trace, density.arrivals, density.hours, SCENARIOS[0].name
    );
    let text = format!("{}\n\n{}\n{}", what.replace("**", ""), main_table.text(), others.text());
    let notes = bullets(CAVEATS.iter().chain([&TUNED]));
    let markdown =
        format!("{what}\n\n{}\nOther machines and sizes:\n\n{}\n{notes}", main_table.markdown(), others.markdown());
    Part { text, markdown, json: json.into() }
}

pub(crate) fn speed(speed: &Speed) -> Part {
    let head = [
        "nodes",
        "instances",
        "decisions/s",
        "pairs/s",
        "mean µs",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "linear mean µs",
        "linear p99 µs",
        "bytes/node",
        "bytes/instance",
        "had a core, %",
    ];
    let row = |row: &crate::speed::Row| {
        let (whole, short) = (|value: f64| format!("{value:.0}"), |value: f64| format!("{value:.2}"));
        vec![
            row.nodes.to_string(),
            row.instances.to_string(),
            whole(row.decisions_per_s),
            whole(row.pairs_per_s),
            short(row.mean_us),
            short(row.p50_us),
            short(row.p99_us),
            short(row.p999_us),
            short(row.linear_mean_us),
            short(row.linear_p99_us),
            row.bytes_per_node.to_string(),
            row.bytes_per_instance.to_string(),
            whole(row.had_core_percent),
        ]
    };
    let table =
        Table { head: head.into_iter().map(str::to_owned).collect(), rows: speed.rows.iter().map(row).collect() };
    let markdown = format!(
        "{}\n- one core, fleet 85 % full, explain off; {}\n- a decision takes {:.2} times as long in the largest fleet as in the smallest\n",
        table.markdown(),
        speed.mix,
        speed.growth
    );
    // Its figures are floats that were measured: a value that JSON cannot have does not come up.
    Part { text: speed.to_string(), markdown, json: serde_json::to_value(speed).unwrap_or(Value::Null) }
}
