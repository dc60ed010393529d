//! A bar for each figure, as long as the figure is of its target.

use super::Figure;
use std::fmt::Write;

/// Height of a bar with its space, and of the title.
const ROW: usize = 34;
/// Where bars begin, and how long one at its target is.
const LEFT: f64 = 200.0;
/// See [`LEFT`].
const FULL: f64 = 360.0;
/// A bar ends here at the latest, whatever its figure.
const LONGEST: f64 = 560.0;

/// The plot of `figures`, each with its target, below `title`.
pub fn svg(title: &str, figures: &[(Figure, f64)]) -> String {
    let height = ROW * (figures.len() + 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"900\" height=\"{height}\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" font-size=\"16\">{}</text>\n",
        escape(title)
    );
    for (i, (figure, target)) in figures.iter().enumerate() {
        let y = ROW * (i + 1);
        let length = (figure.value / target * FULL).clamp(1.0, LONGEST);
        let colour = if figure.value <= *target { "#2a7f3f" } else { "#b3402a" };
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{}</text>", y + 20, escape(figure.metric));
        let _ =
            writeln!(svg, "<rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"20\" fill=\"{colour}\"/>", y + 5);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\">{} {}{}</text>",
            LEFT + length + 6.0,
            y + 20,
            figure.value,
            escape(figure.unit),
            if target.is_finite() { format!(" (target {target})") } else { String::new() }
        );
    }
    let bottom = ROW * (figures.len() + 1);
    let at = LEFT + FULL;
    let _ = writeln!(
        svg,
        "<line x1=\"{at}\" y1=\"{ROW}\" x2=\"{at}\" y2=\"{bottom}\" stroke=\"black\" stroke-dasharray=\"4\"/>"
    );
    let _ = writeln!(svg, "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">target</text>\n</svg>", bottom + 18);
    svg
}

/// One line of [`lines()`].
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its height at each place, from 0 to 1; `None` where there is none.
    pub heights: Vec<Option<f64>>,
}

/// Colours of lines, one after the other.
const COLOURS: [&str; 6] = ["#2a7f3f", "#1f5fa8", "#b3402a", "#7a4fa3", "#8a6d1a", "#333333"];
/// Where the lines' field lies: left, top, distance of two places, height.
const FIELD: (f64, f64, f64, f64) = (60.0, 50.0, 80.0, 320.0);

/// A plot of shares below `title`: a line for each of `lines`, with a height at each of `places`, which are named. The first `joined` places are joined.
pub fn lines(title: &str, places: &[String], joined: usize, lines: &[Line]) -> String {
    let (left, top, apart, high) = FIELD;
    // Few.
    let x = |place: usize| left + apart * (f64::from(u32::try_from(place).unwrap_or(0)) + 0.5);
    let y = |height: f64| top + high * (1.0 - height);
    let right = x(places.len());
    let (width, height) = (right + 180.0, top + high + 50.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" font-size=\"16\">{}</text>\n",
        escape(title)
    );
    // Writing to a string cannot fail.
    for quarter in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(quarter);
        let _ = writeln!(svg, "<line x1=\"{left}\" y1=\"{at}\" x2=\"{right}\" y2=\"{at}\" stroke=\"#cccccc\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{quarter}</text>", left - 8.0, at + 4.0);
    }
    for (at, place) in places.iter().enumerate() {
        let (x, y) = (x(at), top + high + 22.0);
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escape(place));
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<(f64, f64)> =
            line.heights.iter().enumerate().filter_map(|(at, height)| Some((x(at), y((*height)?)))).collect();
        let joined: Vec<String> = points.iter().take(joined).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>", joined.join(" "));
        for (x, y) in points {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
        }
        let at = top + 20.0 * f64::from(u32::try_from(number).unwrap_or(0));
        let name = escape(&line.name);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{at}\" fill=\"{colour}\">{name}</text>", right + 10.0);
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_through_their_heights() {
        let line = Line { name: "a<b".into(), heights: vec![Some(1.0), Some(0.5), None, Some(0.0)] };
        let places = ["p", "q", "r", "s"].map(str::to_owned);
        let plot = lines("t", &places, 2, &[line]);
        assert!(plot.contains("<polyline points=\"100.0,50.0 180.0,210.0\""), "{plot}");
        assert!(plot.contains("<circle cx=\"340.0\" cy=\"370.0\"") && plot.contains("a&lt;b"), "{plot}");
        assert_eq!(plot.matches("<circle").count(), 3);
    }

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let figure = |value| Figure { metric: "m<1>", value, unit: "lines", conditions: String::new() };
        let plot = svg("a & b", &[(figure(50.0), 100.0), (figure(1000.0), 100.0)]);
        assert!(plot.contains("a &amp; b") && plot.contains("m&lt;1&gt;"));
        assert!(plot.contains("width=\"180.0\" height=\"20\" fill=\"#2a7f3f\""));
        assert!(plot.contains("width=\"560.0\" height=\"20\" fill=\"#b3402a\""));
        assert!(plot.trim_end().ends_with("</svg>"));
    }
}
