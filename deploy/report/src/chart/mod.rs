//! Lines, dots and bars over two axes: laid out once, then drawn as SVG inside a page or as pixels for a PNG.

mod pixels;
mod scale;
mod svg;

pub use pixels::sheet;
pub use scale::{Scale, Unit};
pub(crate) use svg::style;

/// Colours of series on light paper, told apart also without red and green (Okabe and Ito, Color Universal Design,
/// 2008); the last one is ink. The style sheet of pages has those of dark paper.
const COLOURS: [[u8; 3]; 8] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [130, 100, 60],
    [40, 44, 52],
];

/// The colour of text, for the one line that stands out.
pub const INK: usize = COLOURS.len() - 1;

/// Height of letters, in pixels.
const LETTER: f64 = 12.0;

/// Height of letters of a title.
const TITLE: f64 = 15.0;

/// Space at the edges and between labels and what they belong to.
const GAP: f64 = 8.0;

/// Height of a row of the legend.
const ROW: f64 = 18.0;

/// Length of the line or box before a name in the legend.
const KEY: f64 = 18.0;

/// Most points of a line that are marked one by one.
const MARKED: usize = 40;

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit; empty where the title says it.
    pub name: String,
    /// How values are spread along it.
    pub scale: Scale,
    /// How they are written.
    pub unit: Unit,
}

impl Axis {
    /// An axis of that name.
    pub fn new(name: &str, scale: Scale, unit: Unit) -> Self {
        Self { name: name.to_owned(), scale, unit }
    }
}

/// What the points of a series become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A line from point to point; few points are marked.
    Line,
    /// A dot each.
    Dots,
    /// A bar from 0 to each point, which is at the middle of its bar; the bars touch.
    Bars,
}

/// Points of one colour, with a name in the legend.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// What is said of it after the name, such as its last value.
    pub note: String,
    /// Index of its colour, 0 to [`INK`]; larger ones start again.
    pub colour: usize,
    /// How it is drawn.
    pub shape: Shape,
    /// Whether it is read on the right axis.
    pub right: bool,
    /// Positions on the two axes; those that are not finite are left out.
    pub points: Vec<[f64; 2]>,
}

impl Series {
    /// A series on the left axis without a note.
    pub fn new(name: &str, colour: usize, shape: Shape, points: Vec<[f64; 2]>) -> Self {
        Self { name: name.to_owned(), note: String::new(), colour, shape, right: false, points }
    }
}

/// A dashed line across the plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guide {
    /// From bottom to top.
    At(f64),
    /// From left to right, on the left axis.
    Level(f64),
}

/// One pair of axes with everything between and around them.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above the plot; may be empty.
    pub title: String,
    /// Width of all and height of the plot between the axes, in pixels.
    pub size: [f64; 2],
    /// Below the plot.
    pub x: Axis,
    /// At its left.
    pub y: Axis,
    /// At its right, where a series is read there.
    pub right: Option<Axis>,
    /// What is drawn, in this order.
    pub series: Vec<Series>,
    /// Dashed lines, and what the legend calls them; no entry where that is empty.
    pub guides: Vec<(Guide, String)>,
}

/// What a mark is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grid,
    Frame,
    Guide,
    /// Of the series of that colour.
    Line(usize),
    Dot(usize),
    Bar(usize),
    Title,
    Label,
}

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    /// Share of the text that is before its position.
    fn before(self) -> f64 {
        match self {
            Self::Start => 0.0,
            Self::Middle => 0.5,
            Self::End => 1.0,
        }
    }
}

/// Something to draw, in pixels from the upper left corner of the chart.
#[derive(Debug, Clone, PartialEq)]
enum Mark {
    /// A line from point to point.
    Line { kind: Kind, points: Vec<[f64; 2]> },
    /// A filled rectangle between two corners, the upper left one first.
    Box { kind: Kind, corners: [[f64; 2]; 2] },
    /// A filled circle.
    Dot { kind: Kind, centre: [f64; 2], radius: f64 },
    /// A line of text on its baseline; `up` turns it by a quarter, to be read from below.
    Text { kind: Kind, at: [f64; 2], anchor: Anchor, up: bool, text: String },
}

/// A chart, laid out.
struct Drawn {
    size: [f64; 2],
    marks: Vec<Mark>,
}

/// How wide a text is at most, in pixels: by the advances of DejaVu Sans, the widest of the usual fonts.
fn width(text: &str) -> f64 {
    let advance = |letter: char| match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | '\'' | ':' | '|' | ' ' => 0.36,
        'm' | 'M' | 'w' | 'W' | '%' | '@' => 1.0,
        'A'..='Z' => 0.77,
        ' '..='~' => 0.64,
        _ => 1.0,
    };
    text.chars().map(advance).sum::<f64>() * LETTER
}

/// The plot's corners inside the chart.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plot {
    fn across(&self, position: f64) -> f64 {
        self.left + position * (self.right - self.left)
    }

    fn down(&self, position: f64) -> f64 {
        self.bottom - position * (self.bottom - self.top)
    }
}

/// Ticks of an axis with their labels.
struct Ticks(Vec<(f64, String)>);

impl Ticks {
    fn of(axis: &Axis, count: usize) -> Self {
        let mut ticks = axis.scale.ticks(axis.unit, count);
        let [low, high] = axis.scale.ends();
        let slack = 1e-9 * (high - low);
        ticks.retain(|tick| (low - slack..=high + slack).contains(tick));
        let labels = axis.unit.labels(&ticks);
        Self(ticks.iter().map(|tick| axis.scale.position(*tick)).zip(labels).collect())
    }

    fn width(&self) -> f64 {
        self.0.iter().map(|(_, label)| width(label)).fold(0.0, f64::max)
    }
}

/// Marks under construction.
#[derive(Default)]
struct Marks(Vec<Mark>);

impl Marks {
    fn line(&mut self, kind: Kind, points: &[[f64; 2]]) {
        self.0.push(Mark::Line { kind, points: points.to_vec() });
    }

    fn text(&mut self, at: [f64; 2], anchor: Anchor, text: &str) {
        self.0.push(Mark::Text { kind: Kind::Label, at, anchor, up: false, text: text.to_owned() });
    }

    /// The name of an axis at the side.
    fn upright(&mut self, at: [f64; 2], text: &str) {
        if !text.is_empty() {
            let kind = Kind::Label;
            self.0.push(Mark::Text { kind, at, anchor: Anchor::Middle, up: true, text: text.to_owned() });
        }
    }
}

impl Chart {
    /// Lays the chart out: every label gets the room it needs, the plot what is left of the width.
    fn draw(&self) -> Drawn {
        let y = Ticks::of(&self.y, (self.size[1] / 45.0).max(2.0) as usize);
        let second = self.right.as_ref().map(|axis| (axis, Ticks::of(axis, 5)));
        let named = |name: &str| if name.is_empty() { 0.0 } else { LETTER + GAP };
        let left = GAP + named(&self.y.name) + y.width() + GAP;
        let beside = second.as_ref().map_or(0.0, |(axis, ticks)| GAP + ticks.width() + named(&axis.name));
        let mut right = GAP + beside;
        // As many ticks below as their labels have room for; half of the last label may stick out at the right.
        let mut x = Ticks(Vec::new());
        for count in (2..=10).rev() {
            x = Ticks::of(&self.x, count);
            if x.0.len() as f64 * (x.width() + 2.0 * GAP) <= self.size[0] - left - right {
                break;
            }
        }
        right = right.max(GAP + x.0.last().map_or(0.0, |(_, label)| width(label) / 2.0));
        let top = if self.title.is_empty() { GAP + LETTER / 2.0 } else { 2.0 * GAP + 1.5 * LETTER };
        let plot = Plot { left, right: self.size[0] - right, top, bottom: top + self.size[1] };
        let middle = [(plot.left + plot.right) / 2.0, (plot.top + plot.bottom) / 2.0];

        let mut marks = Marks::default();
        if !self.title.is_empty() {
            let (at, text) = ([plot.left, GAP + 1.2 * LETTER], self.title.clone());
            marks.0.push(Mark::Text { kind: Kind::Title, at, anchor: Anchor::Start, up: false, text });
        }
        let labels = plot.bottom + GAP + LETTER;
        for (position, label) in &x.0 {
            let at = plot.across(*position);
            marks.line(Kind::Grid, &[[at, plot.top], [at, plot.bottom]]);
            marks.text([at, labels], Anchor::Middle, label);
        }
        for (position, label) in &y.0 {
            let at = plot.down(*position);
            marks.line(Kind::Grid, &[[plot.left, at], [plot.right, at]]);
            marks.text([plot.left - GAP, at + LETTER / 3.0], Anchor::End, label);
        }
        marks.upright([GAP + 0.8 * LETTER, middle[1]], &self.y.name);
        if let Some((axis, ticks)) = &second {
            for (position, label) in &ticks.0 {
                marks.text([plot.right + GAP, plot.down(*position) + LETTER / 3.0], Anchor::Start, label);
            }
            marks.upright([self.size[0] - GAP, middle[1]], &axis.name);
        }
        let [low, high] = [[plot.left, plot.top], [plot.right, plot.bottom]];
        marks.line(Kind::Frame, &[low, [high[0], low[1]], high, [low[0], high[1]], low]);
        let mut below = labels;
        if !self.x.name.is_empty() {
            below += LETTER + GAP / 2.0;
            marks.text([middle[0], below], Anchor::Middle, &self.x.name);
        }
        for series in &self.series {
            self.series(series, &plot, &mut marks);
        }
        for (guide, _) in &self.guides {
            let ends = match guide {
                Guide::At(value) => {
                    let at = plot.across(self.x.scale.position(*value));
                    [[at, plot.top], [at, plot.bottom]]
                }
                Guide::Level(value) => {
                    let at = plot.down(self.y.scale.position(*value));
                    [[plot.left, at], [plot.right, at]]
                }
            };
            marks.line(Kind::Guide, &ends);
        }
        if self.series.iter().all(|series| series.points.is_empty()) {
            marks.text(middle, Anchor::Middle, "no values yet");
        }
        let rows = self.legend([plot.left, below + GAP], &mut marks);
        Drawn { size: [self.size[0], below + rows as f64 * ROW + 1.5 * GAP], marks: marks.0 }
    }

    fn series(&self, series: &Series, plot: &Plot, marks: &mut Marks) {
        let y = self.right.as_ref().filter(|_| series.right).unwrap_or(&self.y);
        let finite = series.points.iter().filter(|point| point.iter().all(|value| value.is_finite()));
        let mut places: Vec<[f64; 2]> = finite
            .map(|[at, value]| [plot.across(self.x.scale.position(*at)), plot.down(y.scale.position(*value))])
            .collect();
        let dots = |radius: f64, marks: &mut Marks| {
            let dot = |centre: &[f64; 2]| Mark::Dot { kind: Kind::Dot(series.colour), centre: *centre, radius };
            marks.0.extend(places.iter().map(dot));
        };
        match series.shape {
            Shape::Dots => dots(4.5, marks),
            Shape::Bars => {
                let half = match places.as_slice() {
                    [first, second, ..] => (second[0] - first[0]) / 2.0,
                    _ => (plot.right - plot.left) / 2.0,
                };
                for [x, y] in places.iter().filter(|[_, y]| *y < plot.bottom) {
                    let corners = [[x - half, *y], [x + half, plot.bottom]];
                    marks.0.push(Mark::Box { kind: Kind::Bar(series.colour), corners });
                }
            }
            Shape::Line => {
                if places.len() <= MARKED {
                    dots(2.8, marks);
                }
                // Thousands of neighbours may fall on one place.
                places.dedup_by(|a, b| (a[0] - b[0]).abs() < 0.05 && (a[1] - b[1]).abs() < 0.05);
                marks.0.push(Mark::Line { kind: Kind::Line(series.colour), points: places });
            }
        }
    }

    /// Names of series and guides in rows below the plot; returns how many rows they take.
    fn legend(&self, [left, top]: [f64; 2], marks: &mut Marks) -> usize {
        let of_series = |series: &Series| {
            let text = format!("{} {}", series.name, series.note);
            let kind = match series.shape {
                Shape::Line => Kind::Line(series.colour),
                Shape::Dots => Kind::Dot(series.colour),
                Shape::Bars => Kind::Bar(series.colour),
            };
            (text.trim().to_owned(), kind)
        };
        let guides = self.guides.iter().map(|(_, name)| (name.clone(), Kind::Guide));
        let (mut at, mut rows) = (left, 0);
        for (text, kind) in self.series.iter().map(of_series).chain(guides).filter(|(text, _)| !text.is_empty()) {
            let needed = KEY + GAP + width(&text);
            if rows == 0 || at + needed > self.size[0] {
                (at, rows) = (left, rows + 1);
            }
            let middle = top + (rows as f64 - 0.5) * ROW;
            marks.0.push(match kind {
                Kind::Dot(_) => Mark::Dot { kind, centre: [at + KEY / 2.0, middle], radius: 4.5 },
                Kind::Bar(_) => Mark::Box { kind, corners: [[at, middle - 5.0], [at + KEY, middle + 5.0]] },
                _ => Mark::Line { kind, points: vec![[at, middle], [at + KEY, middle]] },
            });
            marks.text([at + KEY + GAP, middle + LETTER / 3.0], Anchor::Start, &text);
            at += needed + 2.0 * GAP;
        }
        rows
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::chart) fn chart() -> Chart {
        let percent = Axis::new("false accept rate", Scale::Log { low: 1e-5, high: 1.0 }, Unit::Percent);
        let values = Axis::new("loss", Scale::Linear { low: 0.0, high: 12_345.0 }, Unit::Number);
        let line = Series::new("a < b", 0, Shape::Line, vec![[1e-4, 10.0], [1e-2, f64::NAN], [1.0, 12_345.0]]);
        let bars = Series::new("bars", 1, Shape::Bars, vec![[1e-3, 100.0], [1e-2, 2000.0]]);
        let share = Axis::new("share", Scale::Linear { low: 0.0, high: 1.0 }, Unit::Number);
        let dots = Series::new("right", 10, Shape::Dots, vec![[0.1, 0.5]]);
        Chart {
            title: "Title".into(),
            size: [420.0, 260.0],
            x: percent,
            y: values,
            right: Some(share),
            series: vec![line, bars, Series { right: true, note: "best 0.5".into(), ..dots }],
            guides: vec![(Guide::At(0.01), "threshold".into()), (Guide::Level(500.0), String::new())],
        }
    }

    /// Case 51: every label is inside the picture, however long the numbers are, and none covers another.
    #[test]
    fn no_label_is_cut_off_or_covered() {
        let Drawn { size, marks } = chart().draw();
        let boxes: Vec<(String, [f64; 4])> = marks
            .iter()
            .filter_map(|mark| {
                let Mark::Text { kind, at: [x, y], anchor, up, text } = mark else { return None };
                let tall = if *kind == Kind::Title { TITLE } else { LETTER };
                let wide = width(text) * tall / LETTER;
                let before = anchor.before() * wide;
                // Left, top, right, bottom.
                let area = match up {
                    false => [x - before, y - 0.8 * tall, x - before + wide, y + 0.25 * tall],
                    true => [x - 0.8 * tall, y - wide + before, x + 0.25 * tall, y + before],
                };
                Some((text.clone(), area))
            })
            .collect();
        for (index, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
            assert!(*left >= 0.0 && *top >= 0.0 && *right <= size[0] && *bottom <= size[1], "`{text}` in {size:?}");
            for (other, area) in &boxes[..index] {
                let apart = *left >= area[2] || *right <= area[0] || *top >= area[3] || *bottom <= area[1];
                assert!(apart, "`{text}` over `{other}`");
            }
        }
        for label in ["0.001 %", "100 %", "10000", "Title", "a < b", "right best 0.5", "threshold", "loss", "share"] {
            assert!(boxes.iter().any(|(text, _)| text == label), "{label} in {boxes:?}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let Drawn { marks, .. } = chart().draw();
        let line = marks.iter().find_map(|mark| match mark {
            Mark::Line { kind: Kind::Line(0), points } => Some(points.clone()),
            _ => None,
        });
        assert_eq!(line.unwrap().len(), 2);
    }

    #[test]
    fn a_chart_without_values_says_so() {
        let says = |chart: Chart| {
            let said = |mark: &Mark| matches!(mark, Mark::Text { text, .. } if text == "no values yet");
            chart.draw().marks.iter().any(said)
        };
        assert!(says(Chart { series: vec![], ..chart() }) && !says(chart()));
    }
}
