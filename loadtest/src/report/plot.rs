//! Plots as SVG, by hand: a frame, a few lines, their scale. Nothing is fetched by who looks at them.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 30.0;
const STEPS: u32 = 4;
const COLOURS: [&str; 2] = ["#1668a8", "#c0392b"];

/// One line.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot with these lines, at most two; both axes begin at 0.
pub(super) fn plot(title: &str, across: &str, lines: &[Line<'_>]) -> String {
    let most = |pick: fn(&(f64, f64)) -> f64| {
        lines.iter().flat_map(|line| &line.points).map(pick).fold(0.0, f64::max).max(f64::MIN_POSITIVE)
    };
    let (most_x, most_y) = (most(|point| point.0), round_up(most(|point| point.1)));
    let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let place = |x: f64, y: f64| (LEFT + wide * x / most_x, TOP + high * (1.0 - y / most_y));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><text x=\"{LEFT}\" y=\"14\" class=\"title\">{title}</text>"
    );
    // Writing to a string cannot fail.
    for step in 0..=STEPS {
        let value = most_y * f64::from(step) / f64::from(STEPS);
        let (_, y) = place(0.0, value);
        let (end, label) = (WIDTH - RIGHT, LEFT - 6.0);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\
             <text x=\"{label}\" y=\"{:.1}\" class=\"scale\" text-anchor=\"end\">{}</text>",
            y + 4.0,
            short(value)
        );
        let across = most_x * f64::from(step) / f64::from(STEPS);
        let (x, _) = place(across, 0.0);
        let (base, anchor) = (HEIGHT - BOTTOM + 15.0, if step == STEPS { "end" } else { "middle" });
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{base}\" class=\"scale\" text-anchor=\"{anchor}\">{}</text>",
            short(across)
        );
    }
    let (middle, foot) = (LEFT + wide / 2.0, HEIGHT - 2.0);
    let _ = write!(svg, "<text x=\"{middle}\" y=\"{foot}\" class=\"scale\" text-anchor=\"middle\">{across}</text>");
    let mut key_x = WIDTH - RIGHT;
    for (line, colour) in lines.iter().zip(COLOURS).rev() {
        let points: Vec<String> =
            line.points.iter().map(|(x, y)| place(*x, *y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{key_x}\" y=\"14\" fill=\"{colour}\" class=\"key\" text-anchor=\"end\">{}</text>",
            points.join(" "),
            line.name
        );
        key_x -= 14.0 + 7.0 * f64::from(u32::try_from(line.name.chars().count()).unwrap_or_default());
    }
    svg.push_str("</svg>");
    svg
}

/// To a number with one digit that is not 0, 25 or 15 of it.
fn round_up(value: f64) -> f64 {
    let scale = 10.0_f64.powf(value.log10().floor());
    let step = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0].into_iter().find(|step| step * scale >= value);
    step.unwrap_or(10.0) * scale
}

fn short(value: f64) -> String {
    if value >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_holds_its_lines_within_its_frame() {
        let line = Line { name: "p99", points: vec![(0.0, 3.0), (1.0, 97.0), (2.0, 50.0)] };
        let svg = plot("Latency, ms", "seconds", &[line]);
        assert!(svg.contains("Latency, ms") && svg.contains("p99") && svg.contains(">100<"), "{svg}");
        assert!(svg.contains("748.0,") && !svg.contains("NaN"), "{svg}");
        let empty = plot("Nothing", "seconds", &[Line { name: "none", points: Vec::new() }]);
        assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    }
}
