//! Curves and bars as SVG, for pages that load nothing.

use std::fmt::Write;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 320.0;
/// Room for labels: left, right, top, bottom.
const ROOM: [f64; 4] = [52.0, 12.0, 12.0, 40.0];

/// How values of an axis lie along it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// Evenly.
    Linear { low: f64, high: f64 },
    /// By their logarithm.
    Log { low: f64, high: f64 },
    /// By the normal deviate, as detection error trade-offs are drawn.
    Probit { low: f64, high: f64 },
}

impl Scale {
    fn warp(self, value: f64) -> f64 {
        match self {
            Self::Linear { .. } => value,
            Self::Log { .. } => value.log10(),
            Self::Probit { .. } => probit(value),
        }
    }

    fn ends(self) -> [f64; 2] {
        let (Self::Linear { low, high } | Self::Log { low, high } | Self::Probit { low, high }) = self;
        [low, high]
    }

    /// 0 at the low end, 1 at the high; what lies beyond is drawn at the end.
    fn share(self, value: f64) -> f64 {
        let [low, high] = self.ends();
        let [from, to] = [low, high].map(|end| self.warp(end));
        (self.warp(value.clamp(low, high)) - from) / (to - from)
    }

    /// Values with a line and a label.
    fn ticks(self) -> Vec<f64> {
        let [low, high] = self.ends();
        let inside = |value: &f64| (low..=high).contains(value);
        match self {
            Self::Linear { .. } => (0..=5).map(|at| low + (high - low) * f64::from(at) / 5.0).collect(),
            Self::Log { .. } => {
                let first = low.log10().round() as i32;
                (first..=high.log10().round() as i32).map(|power| 10_f64.powi(power)).collect()
            }
            Self::Probit { .. } => [1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6].into_iter().filter(inside).collect(),
        }
    }
}

/// Inverse of the normal distribution (Acklam's rational approximation, relative error below 1.2e-9).
fn probit(share: f64) -> f64 {
    const A: [f64; 6] = [
        -39.69683028665376,
        220.9460984245205,
        -275.9285104469687,
        138.357751867269,
        -30.66479806614716,
        2.506628277459239,
    ];
    const B: [f64; 5] =
        [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572];
    const C: [f64; 6] = [
        -0.007784894002430293,
        -0.3223964580411365,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416];
    let polynomial = |of: &[f64], at: f64| of.iter().fold(0.0, |sum, coefficient| sum * at + coefficient);
    let share = share.clamp(1e-12, 1.0 - 1e-12);
    let tail = |share: f64| {
        let at = (-2.0 * share.ln()).sqrt();
        polynomial(&C, at) / (polynomial(&D, at) * at + 1.0)
    };
    if share < 0.02425 {
        tail(share)
    } else if share > 1.0 - 0.02425 {
        -tail(1.0 - share)
    } else {
        let at = share - 0.5;
        let square = at * at;
        polynomial(&A, square) * at / (polynomial(&B, square) * square + 1.0)
    }
}

/// A curve and a point on it that is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve<'a> {
    pub(super) points: &'a [[f64; 2]],
    pub(super) mark: Option<[f64; 2]>,
}

/// A curve over two axes of shares.
pub(super) fn curve([x_name, y_name]: [&str; 2], [x, y]: [Scale; 2], curve: &Curve) -> String {
    let mut svg = frame(x_name, y_name, x, y, percent, percent);
    let place = |point: &[f64; 2]| [across(x.share(point[0])), down(y.share(point[1]))];
    let path = curve.points.iter().map(place).map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
    let _ = write!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"2\"/>");
    if let Some(mark) = curve.mark {
        let [cx, cy] = place(&mark);
        let _ =
            write!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill=\"#d9730d\"><title>EER</title></circle>");
    }
    svg + "</svg>"
}

/// Two histograms over each other, and a value marked on their axis.
pub(super) fn bars(x_name: &str, [low, high]: [f64; 2], kinds: [&[f64]; 2], mark: f64) -> String {
    let most = kinds.iter().flat_map(|bars| bars.iter()).copied().fold(1e-9, f64::max);
    let x = Scale::Linear { low, high: high.max(low + 1e-6) };
    let y = Scale::Linear { low: 0.0, high: most };
    let mut svg = frame(x_name, "share of pairs", x, y, |value| format!("{value:.2}"), percent);
    for (bars, colour) in kinds.into_iter().zip(["#1f6fb4", "#d9730d"]) {
        let step = 1.0 / bars.len().max(1) as f64;
        for (at, share) in bars.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let (left, right) = (across(at as f64 * step), across((at + 1) as f64 * step));
            let (top, bottom) = (down(y.share(*share)), down(0.0));
            let _ = write!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" fill-opacity=\"0.55\"/>",
                right - left,
                bottom - top
            );
        }
    }
    let at = across(x.share(mark));
    let (top, bottom) = (down(1.0), down(0.0));
    let _ = write!(svg, "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#1c2430\" stroke-dasharray=\"4 3\"/>");
    svg + "</svg>"
}

fn across(share: f64) -> f64 {
    ROOM[0] + share * (WIDTH - ROOM[0] - ROOM[1])
}

fn down(share: f64) -> f64 {
    HEIGHT - ROOM[3] - share * (HEIGHT - ROOM[2] - ROOM[3])
}

fn percent(share: f64) -> String {
    let text = format!("{:.4}", 100.0 * share);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Grid and labels; the picture is left open.
fn frame(
    x_name: &str,
    y_name: &str,
    x: Scale,
    y: Scale,
    x_text: fn(f64) -> String,
    y_text: fn(f64) -> String,
) -> String {
    let mut svg = format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    let (left, right, top, bottom) = (across(0.0), across(1.0), down(1.0), down(0.0));
    for tick in x.ticks() {
        let at = across(x.share(tick));
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#e4e9ef\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            x_text(tick)
        );
    }
    for tick in y.ticks() {
        let at = down(y.share(tick));
        let _ = write!(
            svg,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#e4e9ef\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 4.0,
            at + 4.0,
            y_text(tick)
        );
    }
    let _ = write!(
        svg,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#9aa7b5\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>\
         <text transform=\"translate(11 {:.1}) rotate(-90)\" text-anchor=\"middle\">{y_name}</text>",
        right - left,
        bottom - top,
        (left + right) / 2.0,
        HEIGHT - 8.0,
        (top + bottom) / 2.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probit_is_the_normal_deviate() {
        for (share, deviate) in [(0.5, 0.0), (0.975, 1.959_964), (0.01, -2.326_348), (1e-4, -3.719_016)] {
            assert!((probit(share) - deviate).abs() < 1e-5, "{share}: {}", probit(share));
        }
    }

    #[test]
    fn scales_run_from_end_to_end() {
        for scale in [
            Scale::Linear { low: -1.0, high: 3.0 },
            Scale::Log { low: 1e-4, high: 1.0 },
            Scale::Probit { low: 1e-3, high: 0.6 },
        ] {
            let [low, high] = scale.ends();
            assert_eq!((scale.share(low), scale.share(high)), (0.0, 1.0));
            assert!(scale.share(low - 1.0) == 0.0 && scale.share(high + 1.0) == 1.0);
            assert!(scale.ticks().windows(2).all(|pair| scale.share(pair[0]) < scale.share(pair[1])));
        }
        assert_eq!(Scale::Log { low: 1e-3, high: 1.0 }.ticks().len(), 4);
        assert_eq!((percent(0.05), percent(1e-4), percent(1.0)), ("5 %".into(), "0.01 %".into(), "100 %".into()));
    }
}
