//! Plots as SVG, by hand: they are looked at in a document, so that each brings its own colours and its white ground.

#![expect(clippy::cast_precision_loss, reason = "counts and places in a picture")]

use std::fmt::Write as _;

use crate::density::{Density, SCENARIOS, SEEDS, SUBJECTS};
use crate::speed::Speed;

const WIDTH: f64 = 820.0;
const LEFT: f64 = 70.0;
/// Where names of lines stand.
const RIGHT: f64 = 170.0;
const COLOURS: [&str; 6] = ["#555555", "#c77d00", "#1668a8", "#1a8754", "#a3319f", "#c0392b"];

/// One line.
struct Line {
    name: String,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

/// A picture in the making.
struct Picture {
    svg: String,
}

/// Where a value stands in a picture: from the first number to the second, on a scale that is logarithmic or not.
#[derive(Clone, Copy)]
struct Scale {
    values: (f64, f64),
    places: (f64, f64),
    is_logarithmic: bool,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let of = |value: f64| if self.is_logarithmic { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let (from, to) = (of(self.values.0), of(self.values.1));
        self.places.0 + (self.places.1 - self.places.0) * (of(value) - from) / (to - from)
    }

    /// About five round values.
    fn marks(&self) -> Vec<f64> {
        let (from, to) = self.values;
        if self.is_logarithmic {
            let decades = (-3_i32..9).map(|power| 10.0_f64.powi(power));
            return decades.filter(|mark| (from..=to).contains(mark)).collect();
        }
        let rough = (to - from) / 5.0;
        let decade = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].into_iter().map(|step| step * decade).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * decade);
        let first = (from / step).ceil();
        (0..20).map(|mark| (first + f64::from(mark)) * step).take_while(|mark| *mark <= to + step * 1e-6).collect()
    }
}

impl Picture {
    fn new(height: f64, title: &str) -> Self {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" \
             fill=\"#222222\">\n<title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        let mut picture = Self { svg };
        picture.text((LEFT, 20.0), "start", "#222222", title, true);
        picture
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, colour: &str, text: &str, is_bold: bool) {
        let weight = if is_bold { " font-weight=\"bold\"" } else { "" };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.put(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\"{weight}>{text}</text>"
        ));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
        self.put(&format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"));
    }

    fn put(&mut self, element: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.svg, "{element}");
    }

    /// Lines of the grid and what they stand for.
    fn axes(&mut self, across: Scale, up: Scale, (across_name, up_name): (&str, &str)) {
        for mark in up.marks() {
            let y = up.at(mark);
            self.line((across.places.0, y), (across.places.1, y), "#dddddd");
            self.text((across.places.0 - 6.0, y + 4.0), "end", "#555555", &short(mark), false);
        }
        let base = up.places.0;
        for mark in across.marks() {
            let x = across.at(mark);
            self.line((x, base), (x, base + 4.0), "#999999");
            self.text((x, base + 17.0), "middle", "#555555", &short(mark), false);
        }
        self.line((across.places.0, base), (across.places.1, base), "#999999");
        self.text(
            (f64::midpoint(across.places.0, across.places.1), base + 33.0),
            "middle",
            "#555555",
            across_name,
            false,
        );
        self.text((across.places.0, up.places.1 - 8.0), "start", "#555555", up_name, false);
    }

    /// Lines with their names at their ends, each in the place that is nearest and free.
    fn lines(&mut self, across: Scale, up: Scale, lines: &[Line]) {
        let mut names: Vec<(f64, usize)> = Vec::new();
        for (number, Line { colour, points, .. }) in lines.iter().enumerate() {
            let places = points.iter().map(|(x, y)| format!("{:.1},{:.1}", across.at(*x), up.at(*y)));
            let places = places.collect::<Vec<_>>().join(" ");
            self.put(&format!(
                "<polyline points=\"{places}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"
            ));
            names.extend(points.last().map(|(_, y)| (up.at(*y) + 4.0, number)));
        }
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free_from = f64::MIN;
        for (y, number) in names {
            let y = y.max(free_from);
            free_from = y + 14.0;
            let Line { name, colour, .. } = &lines[number];
            self.text((across.places.1 + 8.0, y), "start", colour, name, false);
        }
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

fn short(value: f64) -> String {
    if value >= 1_000.0 {
        let thousands = value / 1_000.0;
        format!("{thousands}k")
    } else if value == 0.0 || value >= 10.0 {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The plots of density: (name of the file, SVG).
pub(crate) fn density(density: &Density) -> Vec<(&'static str, String)> {
    vec![("placement-density.svg", ratios(density)), ("placement-open.svg", open(density))]
}

fn ratios(density: &Density) -> String {
    let rows: Vec<_> = SUBJECTS
        .iter()
        .enumerate()
        .filter_map(|(at, subject)| Some((subject, density.outcome(at, 0, None)?.ratio, density.spread(at))))
        .collect();
    let most = rows.iter().flat_map(|(_, ratio, spread)| [*ratio, spread.map_or(0.0, |spread| spread[2])]);
    let most = most.fold(1.02, f64::max);
    let (top, step): (f64, f64) = (50.0, 26.0);
    let bottom = step.mul_add(rows.len() as f64, top);
    let across =
        Scale { values: (1.0, 1.0 + (most - 1.0) * 1.08), places: (250.0, WIDTH - 70.0), is_logarithmic: false };
    let mut picture = Picture::new(
        bottom + 46.0,
        &format!("Node-hours over the volume lower bound: {}, trace {}", SCENARIOS[0].name, density.trace),
    );
    for mark in across.marks() {
        let x = across.at(mark);
        picture.line((x, top - 8.0), (x, bottom), "#dddddd");
        picture.text((x, bottom + 16.0), "middle", "#555555", &short(mark), false);
    }
    let foot = format!("bar: the trace as it is; line: least, median and most of {} seeds of jitter", SEEDS.len());
    picture.text((across.places.0, bottom + 36.0), "start", "#555555", &foot, false);
    for (number, (subject, ratio, spread)) in rows.into_iter().enumerate() {
        let y = step.mul_add(number as f64, top);
        let colour = match subject.key {
            key if key.starts_with("oracle") => COLOURS[0],
            "engine" | "blind" => COLOURS[3],
            key if key.starts_with("labelled") => COLOURS[3],
            _ => COLOURS[2],
        };
        let (from, to) = (across.places.0, across.at(ratio));
        picture.text((from - 8.0, y + 10.0), "end", "#222222", subject.name, false);
        picture.put(&format!(
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\" fill-opacity=\"0.75\"/>",
            y - 1.0,
            to - from
        ));
        let mut end = to;
        if let Some([least, median, most]) = spread.map(|spread| spread.map(|ratio| across.at(ratio))) {
            let y = y + 6.0;
            picture.line((least, y), (most, y), "#111111");
            for x in [least, median, most] {
                picture.line((x, y - 4.0), (x, y + 4.0), "#111111");
            }
            end = end.max(most);
        }
        picture.text((end + 6.0, y + 10.0), "start", "#222222", &format!("{ratio:.3}"), false);
    }
    picture.end()
}

fn open(density: &Density) -> String {
    let of = |key: &str| {
        let at = SUBJECTS.iter().position(|subject| subject.key == key)?;
        density.outcome(at, 0, None).map(|outcome| (SUBJECTS[at].name, &outcome.curve))
    };
    let most = of("first_fit").into_iter().flat_map(|(_, curve)| curve).map(|point| point.2).fold(1.0, f64::max);
    let hours = of("best_fit").and_then(|(_, curve)| curve.last()).map_or(1.0, |point| point.0);
    let across = Scale { values: (0.0, hours), places: (LEFT, WIDTH - RIGHT), is_logarithmic: false };
    let mut picture =
        Picture::new(640.0, &format!("Machines in use over time: {}, trace {}", SCENARIOS[0].name, density.trace));
    let up = Scale { values: (0.0, most * 1.05), places: (300.0, 56.0), is_logarithmic: false };
    picture.axes(across, up, ("hours from the begin of the trace", "machines in use"));
    let mut lines = Vec::new();
    for (key, colour) in [("best_fit", COLOURS[2]), ("blind", COLOURS[3])] {
        let points = |curve: &[(f64, f64, f64)]| curve.iter().map(|point| (point.0, point.2)).collect();
        lines.extend(of(key).map(|(name, curve)| Line { name: name.to_owned(), colour, points: points(curve) }));
    }
    let bound = |curve: &[(f64, f64, f64)]| curve.iter().map(|point| (point.0, point.1)).collect();
    lines.extend(of("best_fit").map(|(_, curve)| Line {
        name: "lower bound".to_owned(),
        colour: COLOURS[0],
        points: bound(curve),
    }));
    picture.lines(across, up, &lines);
    let above = |curve: &[(f64, f64, f64)]| -> Vec<(f64, f64)> {
        curve
            .windows(WINDOW)
            .map(|points| {
                (points[WINDOW / 2].0, points.iter().map(|point| point.2 - point.1).sum::<f64>() / WINDOW as f64)
            })
            .collect()
    };
    let keys = [
        ("first_fit", COLOURS[5]),
        ("best_fit", COLOURS[2]),
        ("blind", COLOURS[3]),
        ("labelled", COLOURS[4]),
        ("oracle_thrifty", COLOURS[0]),
    ];
    let lines: Vec<_> = keys
        .into_iter()
        .filter_map(|(key, colour)| {
            of(key).map(|(name, curve)| Line { name: name.to_owned(), colour, points: above(curve) })
        })
        .collect();
    let most = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(1.0, f64::max);
    let up = Scale { values: (0.0, most * 1.05), places: (590.0, 390.0), is_logarithmic: false };
    picture.axes(
        across,
        up,
        ("hours from the begin of the trace", "machines in use beyond the lower bound, mean of about 3 hours"),
    );
    picture.lines(across, up, &lines);
    picture.end()
}

/// Points of a curve that are averaged where curves cross too often.
const WINDOW: usize = 9;

/// The plot of speed: (name of the file, SVG).
pub(crate) fn speed(speed: &Speed) -> (&'static str, String) {
    type Figure = fn(&crate::speed::Row) -> f64;
    let figures: [(&str, &str, Figure); 5] = [
        ("p50", COLOURS[3], |row| row.p50_us),
        ("mean", COLOURS[2], |row| row.mean_us),
        ("p99", COLOURS[1], |row| row.p99_us),
        ("p99.9", COLOURS[5], |row| row.p999_us),
        ("scan of all nodes, mean", COLOURS[0], |row| row.linear_mean_us),
    ];
    let values = || speed.rows.iter().flat_map(|row| figures.iter().map(|(_, _, figure)| figure(row)));
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.1, f64::max));
    let nodes = |row: Option<&crate::speed::Row>| row.map_or(1.0, |row| row.nodes as f64);
    let across = Scale {
        values: (nodes(speed.rows.first()), nodes(speed.rows.last())),
        places: (LEFT, WIDTH - RIGHT),
        is_logarithmic: true,
    };
    let up = Scale { values: (least * 0.8, most * 1.2), places: (330.0, 60.0), is_logarithmic: true };
    let mut picture = Picture::new(380.0, "Time of a constrained decision on one core, fleet 85 % full");
    picture.axes(across, up, ("nodes", "µs"));
    let line = |figure: Figure| speed.rows.iter().map(|row| (row.nodes as f64, figure(row))).collect();
    let lines = figures.map(|(name, colour, figure)| Line { name: name.to_owned(), colour, points: line(figure) });
    picture.lines(across, up, &lines);
    ("placement-speed.svg", picture.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_round_marks_within_its_ends() {
        let scale = Scale { values: (1.0, 1.13), places: (0.0, 100.0), is_logarithmic: false };
        let marks: Vec<String> = scale.marks().into_iter().map(short).collect();
        assert_eq!(marks, ["1", "1.05", "1.1"]);
        assert!((scale.at(1.065) - 50.0).abs() < 1e-6);
        let scale = Scale { values: (1_000.0, 100_000.0), places: (0.0, 100.0), is_logarithmic: true };
        assert_eq!(scale.marks().into_iter().map(short).collect::<Vec<_>>(), ["1k", "10k", "100k"]);
        assert!((scale.at(10_000.0) - 50.0).abs() < 1e-6);
    }
}
