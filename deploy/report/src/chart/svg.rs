//! A chart inside a page. Colours come from the page's style sheet, so that they follow light and dark.

use std::fmt::Write;

use maud::{Markup, Render, html};

use super::{COLOURS, Chart, Drawn, Kind, LETTER, Mark, TITLE};

/// Style of charts on light paper.
pub(crate) fn style() -> String {
    let mut style = format!(
        ".chart text {{ font: {LETTER}px \"DejaVu Sans\", Verdana, sans-serif; fill: #4a5566 }}\n\
         .chart .title {{ font-size: {TITLE}px; font-weight: 600; fill: #1c2430 }}\n\
         .chart path {{ fill: none }}\n\
         .chart .grid {{ stroke: #e4e9ef }}\n\
         .chart .frame {{ stroke: #9aa7b5 }}\n\
         .chart .guide {{ stroke: #4a5566; stroke-width: 1.3; stroke-dasharray: 6 4 }}\n\
         .chart .line {{ stroke-width: 1.8; stroke-linejoin: round }}\n\
         .chart .bar {{ fill-opacity: 0.55 }}\n"
    );
    for (index, [red, green, blue]) in COLOURS.into_iter().enumerate() {
        let colour = format!("#{red:02x}{green:02x}{blue:02x}");
        let _ = writeln!(style, ".chart .line.c{index} {{ stroke: {colour} }}\n.chart .c{index} {{ fill: {colour} }}");
    }
    style + ".chart .line { fill: none }\n"
}

impl Kind {
    fn class(self) -> String {
        let series = |name: &str, colour: usize| format!("{name} c{}", colour % COLOURS.len());
        match self {
            Self::Grid => "grid".into(),
            Self::Frame => "frame".into(),
            Self::Guide => "guide".into(),
            Self::Line(colour) => series("line", colour),
            Self::Dot(colour) => series("dot", colour),
            Self::Bar(colour) => series("bar", colour),
            Self::Title => "title".into(),
            Self::Label => "label".into(),
        }
    }
}

impl Render for Chart {
    fn render(&self) -> Markup {
        let Drawn { size: [width, height], marks } = self.draw();
        let (width, height) = (width.ceil(), height.ceil());
        let view = format!("0 0 {width} {height}");
        let name = format!("{}: {} over {}", self.title, self.y.name, self.x.name);
        html! {
            svg.chart role="img" aria-label=(name) width=(width) height=(height) viewBox=(view) {
                @for mark in &marks { (mark) }
            }
        }
    }
}

/// A coordinate: a tenth of a pixel is enough.
fn fine(value: f64) -> String {
    format!("{value:.1}")
}

impl Render for Mark {
    fn render(&self) -> Markup {
        match self {
            Self::Line { kind, points } => {
                let mut path = String::new();
                for (index, [x, y]) in points.iter().enumerate() {
                    let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
                }
                html! { path class=(kind.class()) d=(path) {} }
            }
            Self::Box { kind, corners: [[left, top], [right, bottom]] } => {
                let (width, height) = (fine(right - left), fine(bottom - top));
                html! { rect class=(kind.class()) x=(fine(*left)) y=(fine(*top)) width=(width) height=(height) {} }
            }
            Self::Dot { kind, centre: [x, y], radius } => {
                html! { circle class=(kind.class()) cx=(fine(*x)) cy=(fine(*y)) r=(fine(*radius)) {} }
            }
            Self::Text { kind, at: [x, y], anchor, up, text } => {
                let anchor = ["start", "middle", "end"][(2.0 * anchor.before()) as usize];
                let turn = format!("translate({x:.1} {y:.1}){}", if *up { " rotate(-90)" } else { "" });
                html! { text class=(kind.class()) transform=(turn) text-anchor=(anchor) { (text) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::chart;
    use super::*;

    #[test]
    fn names_are_text_and_every_class_has_a_style() {
        let svg = chart().render().into_string();
        assert!(svg.contains(">a &lt; b<") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let style = style();
        for class in svg.split(" class=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let styled =
                |name: &str| ["chart", "label", "dot"].contains(&name) || style.contains(&format!(".{name} {{"));
            assert!(class.split(' ').all(styled), "{class}");
        }
        // An eleventh series has the colour of the third.
        assert!(svg.contains("dot c2") && style.contains(".chart .c2 { fill: #009e73 }"), "{style}");
    }
}
