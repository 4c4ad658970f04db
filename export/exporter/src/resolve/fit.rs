//! Finds formulas of the symbols for numbers seen in the traces.

use graph::{Dim, Formula};

use crate::coverage::Coverage;

/// A number inside an operation, as far as the traces tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Equal in all traces.
    Fixed(i64),
    /// A function of the symbols.
    Dynamic(Dim),
}

impl From<Formula> for Fit {
    fn from(formula: Formula) -> Self {
        match formula.number() {
            Some(number) => Fit::Fixed(number),
            None => Fit::Dynamic(Dim::Formula(formula)),
        }
    }
}

impl Coverage {
    /// The value of a formula in each trace.
    pub(crate) fn evaluate(&self, formula: &Formula) -> Option<Vec<i64>> {
        self.recorded()
            .iter()
            .map(|sizes| {
                let size = |name: &str| {
                    let index = self.symbols.iter().position(|symbol| symbol.name == name)?;
                    i64::try_from(*sizes.get(index)?).ok()
                };
                formula.evaluate(&size)
            })
            .collect()
    }

    fn agrees(&self, formula: &Formula, numbers: &[i64]) -> bool {
        self.evaluate(formula).as_deref() == Some(numbers)
    }

    /// Finds a formula of the symbols for the values that one quantity had in the traces. `None` if no known rule fits
    /// all of them.
    pub(crate) fn fit(&self, numbers: &[i64]) -> Option<Formula> {
        let base = *numbers.first()?;
        if numbers.iter().all(|&number| number == base) {
            return Some(Formula::constant(base));
        }
        let moving: Vec<usize> = (0..self.symbols.len())
            .filter(|index| numbers.get(1 + 2 * index..3 + 2 * index).is_some_and(|pair| pair != [base, base]))
            .collect();
        let candidate = match moving.as_slice() {
            [only] => self.quotient(*only, numbers),
            [a, b] => self.bilinear([*a, *b], numbers),
            many => self.product(many, base),
        };
        candidate.filter(|formula| self.agrees(formula, numbers))
    }

    /// `floor((n·symbol + b) / d)` with the smallest divisor that fits.
    fn quotient(&self, symbol: usize, numbers: &[i64]) -> Option<Formula> {
        let runs = self.recorded();
        let points: Vec<(i64, i64)> = runs.iter().zip(numbers).map(|(run, &y)| (run[symbol] as i64, y)).collect();
        let x = Formula::symbol(&self.symbols[symbol].name);
        floor_line(&x, &points)
    }

    /// `α + β·a + γ·b + δ·a·b`, from the base, one step along each symbol, and one along both.
    fn bilinear(&self, [a, b]: [usize; 2], numbers: &[i64]) -> Option<Formula> {
        let runs = self.recorded();
        let base = numbers[0];
        let at = |run: usize, symbol: usize| runs[run][symbol] as i64;
        let slope = |symbol: usize| {
            let (rise, run) = (numbers[1 + 2 * symbol] - base, at(1 + 2 * symbol, symbol) - at(0, symbol));
            (rise % run == 0).then_some(rise / run)
        };
        let (slope_a, slope_b) = (slope(a)?, slope(b)?);
        let joint = 1 + 2 * self.symbols.len();
        let (da, db) = (at(joint.min(runs.len() - 1), a) - at(0, a), at(joint.min(runs.len() - 1), b) - at(0, b));
        let curved = numbers.get(joint)?.checked_sub(base + slope_a * da + slope_b * db)?;
        if da == 0 || db == 0 || curved % (da * db) != 0 {
            return None;
        }
        let delta = curved / (da * db);
        let (beta, gamma) = (slope_a - delta * at(0, b), slope_b - delta * at(0, a));
        let alpha = base - beta * at(0, a) - gamma * at(0, b) - delta * at(0, a) * at(0, b);
        let (a, b) = (Formula::symbol(&self.symbols[a].name), Formula::symbol(&self.symbols[b].name));
        let scaled = |formula: &Formula, factor: i64| formula.times(&Formula::constant(factor));
        let linear = scaled(&a, beta)?.plus(&scaled(&b, gamma)?)?.plus(&Formula::constant(alpha))?;
        linear.plus(&scaled(&a.times(&b)?, delta)?)
    }

    /// `c·a·b·…`.
    fn product(&self, symbols: &[usize], base: i64) -> Option<Formula> {
        let mut formula = Formula::constant(1);
        let mut size = 1i64;
        for &symbol in symbols {
            formula = formula.times(&Formula::symbol(&self.symbols[symbol].name))?;
            size = size.checked_mul(self.symbols[symbol].recorded[0] as i64)?;
        }
        if size == 0 || base % size != 0 {
            return None;
        }
        formula.times(&Formula::constant(base / size))
    }
}

/// Largest divisor that is tried.
const LARGEST_DIVISOR: i64 = 64;

/// Fewest distinct points that determine how a number is rounded; too many rules fit fewer points.
const ROUNDED_POINTS: usize = 5;

/// The rule through all points `(x, y)`: a line; a quotient `n·x / d` that is exact at every point; or, with enough
/// points, `n·x / d` rounded down or up. The first that fits, in this order.
pub(super) fn floor_line(x: &Formula, points: &[(i64, i64)]) -> Option<Formula> {
    let &(x0, y0) = points.first()?;
    let &(x1, y1) = points.iter().max_by_key(|(x, _)| x.abs_diff(x0)).filter(|(x, _)| *x != x0)?;
    let (rise, run) = (y1.checked_sub(y0)?, x1.checked_sub(x0)?);
    let build = |n: i64, b: i64, d: i64| x.times(&Formula::constant(n))?.plus(&Formula::constant(b))?.over(d);
    if rise % run == 0 {
        let (n, b) = (rise / run, y0.checked_sub((rise / run).checked_mul(x0)?)?);
        if points.iter().all(|&(x, y)| n.checked_mul(x).and_then(|nx| nx.checked_add(b)) == Some(y)) {
            return build(n, b, 1);
        }
    }
    let fits = |n: i64, d: i64, round: &dyn Fn(i64) -> Option<i64>| {
        points.iter().all(|&(x, y)| n.checked_mul(x).and_then(|nx| round(nx)?.checked_div_euclid(d)) == Some(y))
    };
    let mut different = points.to_vec();
    different.sort_unstable();
    different.dedup();
    for d in 2..=LARGEST_DIVISOR {
        // Rounding moves each end point by less than one, so this numerator is near the right one, not exact.
        let near = rise.checked_mul(d)?.div_euclid(run);
        for n in [near, near.checked_add(1)?] {
            if points.iter().all(|&(x, y)| y.checked_mul(d).is_some_and(|dy| n.checked_mul(x) == Some(dy))) {
                return build(n, 0, d);
            }
            if different.len() < ROUNDED_POINTS {
                continue;
            }
            for b in [0, d - 1] {
                if fits(n, d, &|nx: i64| nx.checked_add(b)) {
                    return build(n, b, d);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Symbol;

    fn plan(symbols: &[&str]) -> Coverage {
        let symbols = symbols.iter().map(|name| Symbol::new(name, *name == "batch", None, None).unwrap());
        let mut coverage = Coverage::new(symbols.collect());
        let [odd, even] = coverage.joint();
        coverage.more = if odd.is_empty() { even } else { odd };
        coverage
    }

    fn text(plan: &Coverage, f: &dyn Fn(&[usize]) -> usize) -> String {
        let numbers: Vec<i64> = plan.recorded().iter().map(|run| f(run) as i64).collect();
        plan.fit(&numbers).map_or_else(|| "none".into(), |formula| formula.to_string())
    }

    #[test]
    fn numbers_become_formulas() {
        let plan = plan(&["batch"]);
        assert_eq!(text(&plan, &|_| 7), "7");
        assert_eq!(text(&plan, &|s| s[0]), "batch");
        assert_eq!(text(&plan, &|s| 4 * s[0]), "4*batch");
        assert_eq!(text(&plan, &|s| s[0] + 1), "batch + 1");
        // Several ways to round fit three points.
        assert_eq!(text(&plan, &|s| s[0] / 2), "none");
        assert_eq!(text(&plan, &|s| s[0] * s[0]), "none");
        assert_eq!(text(&plan, &|s| s[0].max(4)), "none");
    }

    #[test]
    fn rounding_is_told_apart() {
        let plan = plan(&["batch", "height"]);
        assert_eq!(text(&plan, &|s| s[1] / 16), "floor(height/16)");
        assert_eq!(text(&plan, &|s| s[1].div_ceil(16)), "floor((height + 15)/16)");
        assert_eq!(text(&plan, &|s| 3 * s[1] / 4), "floor(3*height/4)");
        assert_eq!(text(&plan, &|s| s[1] - s[1] / 2), "floor((height + 1)/2)");
        assert_eq!(text(&plan, &|s| s[1].max(70)), "none");
        // If only multiples are valid sizes, a quotient is exact.
        let mut multiples = plan.clone();
        multiples.more = multiples.joint()[1].clone();
        assert_eq!(text(&multiples, &|s| s[1] / 32), "floor(height/32)");
        assert_eq!(text(&multiples, &|s| (s[1] + 32) / 64), "none");
    }

    #[test]
    fn several_symbols_may_meet() {
        let plan = plan(&["batch", "height", "width"]);
        assert_eq!(text(&plan, &|s| 3 * s[0] * s[1]), "3*batch*height");
        assert_eq!(text(&plan, &|s| s[0] + s[1]), "batch + height");
        assert_eq!(text(&plan, &|s| s[0] * (s[1] + 1)), "batch + batch*height");
        assert_eq!(text(&plan, &|s| 2 * s[0] * s[1] * s[2]), "2*batch*height*width");
        assert_eq!(text(&plan, &|s| s[1] * s[2] / 3), "none");
        // Whichever two sizes are added, the sum is odd in some trace, so that rounding up and down differ.
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            assert!(plan.recorded().iter().any(|run| (run[one] + run[other]) % 2 == 1));
        }
    }
}
