//! Sizes of axes: numbers, or formulas of the inputs' symbols.

use std::collections::BTreeMap;
use std::fmt;

/// The size of one axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A fixed size.
    Size(usize),
    /// A formula of the symbols; never a constant.
    Formula(Formula),
    /// Depends on the inputs' sizes in an unknown way. Harmless unless an operator needs the number.
    Unknown,
}

impl Dim {
    /// A bare symbol.
    pub fn symbol(name: impl Into<String>) -> Self {
        Dim::Formula(Formula::symbol(name))
    }

    /// The size, if it is fixed.
    pub fn size(&self) -> Option<usize> {
        match self {
            Dim::Size(size) => Some(*size),
            _ => None,
        }
    }

    /// Whether it is the same in every run.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Dim::Size(_))
    }

    /// Whether `self` and `other` are certainly equal; [`Dim::Unknown`] equals nothing.
    pub fn same(&self, other: &Dim) -> bool {
        *self != Dim::Unknown && self == other
    }

    /// The size as a formula, constant or not; `None` if unknown.
    pub fn formula(&self) -> Option<Formula> {
        match self {
            Dim::Size(size) => i64::try_from(*size).ok().map(Formula::constant),
            Dim::Formula(formula) => Some(formula.clone()),
            Dim::Unknown => None,
        }
    }
}

impl From<Formula> for Dim {
    fn from(formula: Formula) -> Self {
        match formula.number().map(usize::try_from) {
            Some(Ok(size)) => Dim::Size(size),
            Some(Err(_)) => Dim::Unknown,
            None => Dim::Formula(formula),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Size(size) => write!(f, "{size}"),
            Dim::Formula(formula) => write!(f, "{formula}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// An integer polynomial of symbols and of quotients rounded down, in a normal form that makes most equal formulas
/// compare equal: products are multiplied out, and quotients are in lowest terms without a whole part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Formula {
    /// The coefficient of each term, never 0, by its sorted factors. The constant has no factors.
    terms: BTreeMap<Vec<Factor>, i64>,
}

/// A factor in a term of a [`Formula`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Factor {
    /// The size of an input's axis.
    Symbol(String),
    /// `floor(formula / divisor)`. The divisor is above 1, the coefficients are between 0 and the divisor.
    Quotient(Formula, i64),
}

impl Formula {
    /// A number.
    pub fn constant(number: i64) -> Self {
        let terms = (number != 0).then(|| (vec![], number)).into_iter().collect();
        Self { terms }
    }

    /// A bare symbol.
    pub fn symbol(name: impl Into<String>) -> Self {
        Self { terms: [(vec![Factor::Symbol(name.into())], 1)].into() }
    }

    /// The value, if it is a constant.
    pub fn number(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get([].as_slice()).copied(),
            _ => None,
        }
    }

    /// The factors and coefficient of each term, the constant first.
    pub fn terms(&self) -> impl Iterator<Item = (&[Factor], i64)> {
        self.terms.iter().map(|(factors, &coefficient)| (factors.as_slice(), coefficient))
    }

    /// The sum; `None` on overflow.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        let mut sum = self.clone();
        for (factors, &coefficient) in &other.terms {
            sum.add_term(factors.clone(), coefficient)?;
        }
        Some(sum)
    }

    /// The product; `None` on overflow.
    pub fn times(&self, other: &Self) -> Option<Self> {
        let mut product = Self::default();
        for (left, a) in &self.terms {
            for (right, b) in &other.terms {
                let mut factors = [left.as_slice(), right].concat();
                factors.sort();
                product.add_term(factors, a.checked_mul(*b)?)?;
            }
        }
        Some(product)
    }

    /// The quotient by a positive number, rounded down; `None` on overflow.
    pub fn over(&self, divisor: i64) -> Option<Self> {
        if divisor < 1 {
            return None;
        }
        // floor((d·w + r)/d) = w + floor(r/d)
        let (mut whole, mut rest) = (Self::default(), Self::default());
        for (factors, coefficient) in &self.terms {
            whole.add_term(factors.clone(), coefficient.div_euclid(divisor))?;
            rest.add_term(factors.clone(), coefficient.rem_euclid(divisor))?;
        }
        if rest.number().is_some() {
            // The rest is between 0 and the divisor.
            return Some(whole);
        }
        // floor((floor(x/e) + c)/d) = floor((x + c·e)/(d·e))
        let factors: Vec<_> = rest.terms().filter(|(factors, _)| !factors.is_empty()).collect();
        if let [(&[Factor::Quotient(ref inner, inner_divisor)], 1)] = factors[..] {
            let constant = rest.terms.get([].as_slice()).copied().unwrap_or(0);
            let inner = inner.plus(&Self::constant(constant.checked_mul(inner_divisor)?))?;
            return whole.plus(&inner.over(divisor.checked_mul(inner_divisor)?)?);
        }
        // floor((g·x + c)/(g·d)) = floor((x + floor(c/g))/d)
        let common = factors.iter().fold(divisor, |common, &(_, coefficient)| gcd(common, coefficient));
        for coefficient in rest.terms.values_mut() {
            *coefficient /= common;
        }
        rest.terms.retain(|_, coefficient| *coefficient != 0);
        let quotient = Self { terms: [(vec![Factor::Quotient(rest, divisor / common)], 1)].into() };
        whole.plus(&quotient)
    }

    /// The value when symbols have these sizes; `None` on overflow or if a symbol has no size.
    pub fn evaluate(&self, size: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        let mut sum = 0i64;
        for (factors, coefficient) in &self.terms {
            let mut product = *coefficient;
            for factor in factors {
                let value = match factor {
                    Factor::Symbol(symbol) => size(symbol)?,
                    Factor::Quotient(inner, divisor) => inner.evaluate(size)?.div_euclid(*divisor),
                };
                product = product.checked_mul(value)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    fn add_term(&mut self, factors: Vec<Factor>, coefficient: i64) -> Option<()> {
        let old = self.terms.get(&factors).copied().unwrap_or(0);
        match old.checked_add(coefficient)? {
            0 => self.terms.remove(&factors),
            sum => self.terms.insert(factors, sum),
        };
        Some(())
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Readers expect the constant last.
        let ordered = self.terms.iter().skip_while(|(factors, _)| factors.is_empty());
        let constant = self.terms.get_key_value([].as_slice());
        for (index, (factors, coefficient)) in ordered.chain(constant).enumerate() {
            match (index, *coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let size = coefficient.unsigned_abs();
            if size != 1 || factors.is_empty() {
                write!(f, "{size}")?;
            }
            for (place, factor) in factors.iter().enumerate() {
                if place > 0 || size != 1 {
                    f.write_str("*")?;
                }
                match factor {
                    Factor::Symbol(symbol) => f.write_str(symbol)?,
                    Factor::Quotient(inner, divisor) if inner.terms.len() == 1 => {
                        write!(f, "floor({inner}/{divisor})")?;
                    }
                    Factor::Quotient(inner, divisor) => write!(f, "floor(({inner})/{divisor})")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h() -> Formula {
        Formula::symbol("h")
    }

    fn n(number: i64) -> Formula {
        Formula::constant(number)
    }

    #[test]
    fn formulas_read_like_arithmetic() {
        let table = [
            (n(0), "0"),
            (n(-3), "-3"),
            (h(), "h"),
            (h().times(&n(2)).unwrap(), "2*h"),
            (h().times(&n(3)).unwrap().plus(&n(1)).unwrap(), "3*h + 1"),
            (h().plus(&n(-1)).unwrap(), "h - 1"),
            (h().times(&n(-1)).unwrap().plus(&n(5)).unwrap(), "-h + 5"),
            (h().over(4).unwrap(), "floor(h/4)"),
            (h().plus(&n(1)).unwrap().over(2).unwrap(), "floor((h + 1)/2)"),
            (h().times(&Formula::symbol("b")).unwrap().times(&n(2)).unwrap(), "2*b*h"),
            (h().plus(&Formula::symbol("b")).unwrap(), "b + h"),
        ];
        for (formula, text) in table {
            assert_eq!(formula.to_string(), text);
        }
        assert!(!Dim::Unknown.same(&Dim::Unknown));
        assert_eq!(Dim::from(n(7)), Dim::Size(7));
    }

    #[test]
    fn one_size_has_one_form() {
        // Two convolutions with kernel 3, stride 2 and padding 1: (h - 1)/2 + 1 each.
        let halve = |x: &Formula| x.plus(&n(-1)).unwrap().over(2).unwrap().plus(&n(1)).unwrap();
        let twice = halve(&halve(&h()));
        assert_eq!(twice.to_string(), "floor((h + 3)/4)");
        assert_eq!(h().times(&n(6)).unwrap().over(3).unwrap().to_string(), "2*h");
        assert_eq!(h().times(&n(6)).unwrap().plus(&n(2)).unwrap().over(4).unwrap().to_string(), "h + floor((h + 1)/2)");
        // Only the remainder of the constant takes part in rounding.
        let sum = h().plus(&Formula::symbol("w")).unwrap().times(&n(4)).unwrap();
        assert_eq!(sum.plus(&n(7)).unwrap().over(8).unwrap().to_string(), "floor((h + w + 1)/2)");
        assert_eq!(sum.plus(&n(3)).unwrap().over(8).unwrap().to_string(), "floor((h + w)/2)");
        for (size, constant) in (0..20).flat_map(|size| (-9..9).map(move |constant| (size, constant))) {
            let quotient = h().times(&n(6)).unwrap().plus(&n(constant)).unwrap().over(9).unwrap();
            assert_eq!(quotient.evaluate(&|_| Some(size)), Some((6 * size + constant).div_euclid(9)));
        }
        assert_eq!(h().plus(&n(1)).unwrap().times(&h()).unwrap(), h().times(&h()).unwrap().plus(&h()).unwrap());
        for size in 1..40 {
            let halved = (size - 1i64).div_euclid(2) + 1;
            let expected = (halved - 1).div_euclid(2) + 1;
            assert_eq!(twice.evaluate(&|_| Some(size)), Some(expected));
        }
    }

    #[test]
    fn overflow_is_no_size() {
        let huge = n(i64::MAX);
        assert_eq!(huge.plus(&n(1)), None);
        assert_eq!(huge.times(&n(2)), None);
        assert_eq!(h().over(0), None);
        assert_eq!(h().times(&huge).unwrap().evaluate(&|_| Some(2)), None);
        assert_eq!(h().evaluate(&|_| None), None);
    }
}
