//! Plots as SVG. Their colours are of the page's style sheet, so that they fit a dark screen, a light one, and paper.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 32.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// How a value becomes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Log,
    /// The same, of microseconds.
    Time,
    /// Quantiles from 0 on: the distance between 90 % and 99 % is that between 99 % and 99.9 %.
    Nines,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Log | Self::Time => value.max(1e-9).log10(),
            Self::Nines => -(1.0 - value).max(1e-9).log10(),
        }
    }

    /// Values to be marked between two others.
    fn marks(self, from: f64, to: f64) -> Vec<f64> {
        match self {
            Self::Log | Self::Time => {
                let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
                let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|part| part * 10_f64.powi(power)));
                let inside: Vec<f64> = all.filter(|value| (from..=to).contains(value)).collect();
                let powers_only = inside.len() > 8;
                let is_power = |value: &f64| (value.log10() - value.log10().round()).abs() < 1e-6;
                inside.into_iter().filter(|value| !powers_only || is_power(value)).collect()
            }
            Self::Nines => [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999].into_iter().filter(|mark| *mark <= to).collect(),
        }
    }

    fn name(self, value: f64) -> String {
        match self {
            Self::Nines => format!("p{}", trimmed(100.0 * value)),
            Self::Time if value >= 1e6 => format!("{} s", trimmed(value / 1e6)),
            Self::Time if value >= 1e3 => format!("{} ms", trimmed(value / 1e3)),
            Self::Time => format!("{} &#181;s", trimmed(value)),
            _ if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
            _ if value >= 1e3 => format!("{}k", trimmed(value / 1e3)),
            _ => trimmed(value),
        }
    }
}

/// A number without needless digits.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One line of a plot.
pub(super) struct Line {
    pub(super) label: String,
    /// The number of its colour.
    pub(super) colour: usize,
    pub(super) is_dashed: bool,
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Drawn hollow: the server did not keep up here.
    pub(super) is_beyond: bool,
}

/// An axis.
#[derive(Clone, Copy)]
pub(super) struct Axis<'a> {
    pub(super) title: &'a str,
    pub(super) scale: Scale,
}

impl Axis<'_> {
    /// The ends of what is drawn: all values, and some room.
    fn ends(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let greatest = values.fold(f64::NEG_INFINITY, f64::max);
        match self.scale {
            _ if !least.is_finite() || !greatest.is_finite() => (0.5, 2.0),
            Scale::Log | Scale::Time => (least.max(0.1) / 1.3, greatest.max(0.2) * 1.3),
            Scale::Nines => (0.0, greatest.max(0.5)),
        }
    }
}

/// Lines in one field with a legend below it.
pub(super) fn lines(title: &str, x: Axis<'_>, y: Axis<'_>, all: &[Line]) -> String {
    let points = || all.iter().flat_map(|line| line.points.iter());
    let (x_ends, y_ends) = (x.ends(points().map(|point| point.x)), y.ends(points().map(|point| point.y)));
    let share = |axis: Axis<'_>, ends: (f64, f64), value: f64| {
        let (from, to) = (axis.scale.place(ends.0), axis.scale.place(ends.1));
        ((axis.scale.place(value) - from) / (to - from).max(1e-9)).clamp(0.0, 1.0)
    };
    let across = |value: f64| LEFT + share(x, x_ends, value) * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| HEIGHT - BOTTOM - share(y, y_ends, value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<figure><figcaption>{}</figcaption>\n", escaped(title));
    let _ = writeln!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(title));
    for mark in y.scale.marks(y_ends.0, y_ends.1) {
        let (at, name) = (up(mark), y.scale.name(mark));
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/>", WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<text class=\"mark\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for mark in x.scale.marks(x_ends.0, x_ends.1) {
        let (at, name) = (across(mark), x.scale.name(mark));
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{:.1}\"/>", HEIGHT - BOTTOM);
        let _ = writeln!(
            svg,
            "<text class=\"mark\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{name}</text>",
            HEIGHT - BOTTOM + 16.0
        );
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let _ = writeln!(
        svg,
        "<text class=\"axis\" text-anchor=\"middle\" x=\"{middle}\" y=\"{}\">{}</text>",
        HEIGHT - 8.0,
        x.title
    );
    let height = f64::midpoint(TOP, HEIGHT - BOTTOM);
    let _ = writeln!(
        svg,
        "<text class=\"axis\" text-anchor=\"middle\" transform=\"translate(14 {height}) rotate(-90)\">{}</text>",
        y.title
    );
    for line in all {
        svg += &drawn(line, &across, &up, x, y);
    }
    svg += "</svg>\n<p class=\"legend\">";
    for line in all {
        let style = if line.is_dashed { " dashed" } else { "" };
        let _ = write!(svg, "<span class=\"c{}{style}\">{}</span> ", line.colour, escaped(&line.label));
    }
    svg + "</p></figure>\n"
}

fn drawn(line: &Line, across: &dyn Fn(f64) -> f64, up: &dyn Fn(f64) -> f64, x: Axis<'_>, y: Axis<'_>) -> String {
    let style = if line.is_dashed { " dashed" } else { "" };
    let mut path = String::new();
    for (at, point) in line.points.iter().enumerate() {
        let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, across(point.x), up(point.y));
    }
    let mut svg = format!("<g class=\"c{}{style}\"><path class=\"line\" d=\"{path}\"/>\n", line.colour);
    for point in &line.points {
        let (at_x, at_y) = (across(point.x), up(point.y));
        let (name_x, name_y) = (x.scale.name(point.x), y.scale.name(point.y));
        let class = if point.is_beyond { "beyond" } else { "point" };
        let note = if point.is_beyond { ", not kept up with" } else { "" };
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3.5\"><title>{}: {name_x}, {name_y}{note}</title></circle>",
            escaped(&line.label)
        );
    }
    svg + "</g>\n"
}

/// Text of a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_not_too_many() {
        assert_eq!(Scale::Log.marks(90.0, 1100.0), [100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(Scale::Log.marks(9.0, 11e6), [10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7]);
        assert_eq!(Scale::Nines.marks(0.0, 0.995), [0.0, 0.5, 0.9, 0.99]);
        assert_eq!((Scale::Log.name(2500.0), Scale::Nines.name(0.999)), ("2.5k".to_owned(), "p99.9".to_owned()));
        assert_eq!([5.0, 2500.0, 1e6].map(|us| Scale::Time.name(us)), ["5 &#181;s", "2.5 ms", "1 s"]);
    }

    #[test]
    fn every_point_is_drawn_inside() {
        let point = |x, y| Point { x, y, is_beyond: x > 50.0 };
        let line = |colour, points: &[(f64, f64)]| Line {
            label: "a <b>".to_owned(),
            colour,
            is_dashed: false,
            points: points.iter().map(|(x, y)| point(*x, *y)).collect(),
        };
        let axis = |scale| Axis { title: "x", scale };
        let all = [line(0, &[(1.0, 10.0), (100.0, 1e6)]), line(1, &[]), line(2, &[(0.0, 0.0)])];
        let svg = lines("t", axis(Scale::Log), axis(Scale::Log), &all);
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"beyond\"").count()), (3, 1));
        assert!(
            svg.contains("a &lt;b&gt;") && !svg.contains("<b>") && !svg.contains("NaN") && !svg.contains("inf"),
            "{svg}"
        );
        assert!(!lines("t", axis(Scale::Log), axis(Scale::Log), &[]).contains("NaN"));
    }
}
