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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

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
