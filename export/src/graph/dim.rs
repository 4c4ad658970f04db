//! Sizes of axes: numbers, or what they are in terms of the inputs' symbols.

use std::fmt;

/// The size of one axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A fixed size.
    Size(usize),
    /// `(numerator * symbol + offset) / denominator`, exact, in lowest terms.
    Linear {
        /// Symbol of an input's axis.
        symbol: String,
        /// Factor above the line, not 0.
        numerator: i64,
        /// Added before the division.
        offset: i64,
        /// Divisor, positive.
        denominator: i64,
    },
    /// `factor * symbols.0 * symbols.1`.
    Product {
        /// Factor.
        factor: i64,
        /// Two different symbols, in order.
        symbols: [String; 2],
    },
    /// Follows the inputs' sizes in a way that is not understood; harmless unless an operator needs the number.
    Unknown,
}

impl Dim {
    /// A bare symbol.
    pub fn symbol(name: impl Into<String>) -> Self {
        Dim::Linear { symbol: name.into(), numerator: 1, offset: 0, denominator: 1 }
    }

    /// The number, if it is one.
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

    /// Whether `self` and `other` are surely equal: [`Dim::Unknown`] equals nothing.
    pub fn same(&self, other: &Dim) -> bool {
        *self != Dim::Unknown && self == other
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Size(size) => write!(f, "{size}"),
            Dim::Linear { symbol, numerator, offset, denominator } => {
                let grouped = *offset != 0 && *denominator != 1;
                if grouped {
                    f.write_str("(")?;
                }
                if *numerator != 1 {
                    write!(f, "{numerator}*")?;
                }
                f.write_str(symbol)?;
                match offset {
                    0 => {}
                    1.. => write!(f, " + {offset}")?,
                    _ => write!(f, " - {}", offset.unsigned_abs())?,
                }
                if grouped {
                    f.write_str(")")?;
                }
                if *denominator != 1 {
                    write!(f, "/{denominator}")?;
                }
                Ok(())
            }
            Dim::Product { factor: 1, symbols: [a, b] } => write!(f, "{a}*{b}"),
            Dim::Product { factor, symbols: [a, b] } => write!(f, "{factor}*{a}*{b}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_read_like_arithmetic() {
        let linear =
            |numerator, offset, denominator| Dim::Linear { symbol: "h".into(), numerator, offset, denominator };
        let table = [
            (Dim::Size(3), "3"),
            (Dim::symbol("batch"), "batch"),
            (linear(2, 0, 1), "2*h"),
            (linear(1, -1, 2), "(h - 1)/2"),
            (linear(1, 0, 4), "h/4"),
            (linear(3, 1, 1), "3*h + 1"),
            (Dim::Product { factor: 2, symbols: ["a".into(), "b".into()] }, "2*a*b"),
        ];
        for (dim, text) in table {
            assert_eq!(dim.to_string(), text);
        }
        assert!(!Dim::Unknown.same(&Dim::Unknown));
    }
}
