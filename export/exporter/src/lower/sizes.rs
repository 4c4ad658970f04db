//! Sizes in the graph: constants where they are fixed, else computed from the inputs' shapes.

use burn::backend::ir::OperationIr;
use graph::{DType, Dim, Factor, Formula, Op, Plain, ValueId};

use super::builder::{Lowering, Reason};
use crate::resolve::Fit;

impl Lowering<'_> {
    /// A shape as a vector: a constant where it is fixed, else computed from the inputs' shapes.
    pub(crate) fn shape(&mut self, role: &str, dims: &[Dim]) -> Result<ValueId, Reason> {
        let fixed: Option<Vec<i64>> = dims.iter().map(|dim| dim.size().map(|size| size as i64)).collect();
        if let Some(fixed) = fixed {
            return Ok(self.int64s(role, &fixed));
        }
        let parts = dims.iter().map(|dim| self.size(dim)).collect::<Result<Vec<_>, _>>()?;
        if let [only] = parts[..] {
            return Ok(only);
        }
        Ok(self.intermediate(Op::Concat { axis: 0 }, &parts, DType::Int64, vec![Dim::Size(dims.len())]))
    }

    /// One size as a vector of one 64-bit integer.
    pub(crate) fn size(&mut self, dim: &Dim) -> Result<ValueId, Reason> {
        if let Some(&value) = self.sizes.get(dim) {
            return Ok(value);
        }
        let value = match dim {
            Dim::Size(size) => self.int64s("size", &[*size as i64]),
            Dim::Unknown => {
                let problem = "the size depends on the inputs' sizes in a way we cannot express";
                return Err(Reason::Baked(problem.into()));
            }
            Dim::Formula(formula) => self.formula(formula)?,
        };
        self.sizes.insert(dim.clone(), value);
        Ok(value)
    }

    /// Computes a formula from the inputs' shapes. Dividends are never negative, so rounding towards 0 is rounding
    /// down.
    fn formula(&mut self, formula: &Formula) -> Result<ValueId, Reason> {
        let one = || vec![Dim::Size(1)];
        let mut sum: Option<ValueId> = None;
        // The constant comes last and is left out when it is 0.
        let terms = formula.terms().skip_while(|(factors, _)| factors.is_empty());
        let constant = formula.terms().find(|(factors, _)| factors.is_empty());
        for (factors, coefficient) in terms.chain(constant) {
            let mut product: Option<ValueId> = None;
            for factor in factors {
                let value = match factor {
                    Factor::Symbol(symbol) => self.symbol(symbol)?,
                    Factor::Quotient(inner, divisor) => {
                        let inner = self.size(&Dim::Formula(inner.clone()))?;
                        let divisor = self.int64s("divisor", &[*divisor]);
                        self.intermediate(Plain::Div, &[inner, divisor], DType::Int64, one())
                    }
                };
                product = Some(match product {
                    Some(product) => self.intermediate(Plain::Mul, &[product, value], DType::Int64, one()),
                    None => value,
                });
            }
            let term = match product {
                None => self.int64s("offset", &[coefficient]),
                Some(product) if coefficient == 1 => product,
                Some(product) => {
                    let coefficient = self.int64s("factor", &[coefficient]);
                    self.intermediate(Plain::Mul, &[product, coefficient], DType::Int64, one())
                }
            };
            sum = Some(match sum {
                Some(sum) => self.intermediate(Plain::Add, &[sum, term], DType::Int64, one()),
                None => term,
            });
        }
        Ok(sum.unwrap_or_else(|| self.int64s("size", &[0])))
    }

    /// The size of a symbol, from the shape of the first input that has it.
    fn symbol(&mut self, symbol: &str) -> Result<ValueId, Reason> {
        let bare = Dim::symbol(symbol);
        if let Some(&value) = self.sizes.get(&bare) {
            return Ok(value);
        }
        let found = self.graph.inputs.iter().find_map(|&input| {
            let value = self.graph.value(input);
            value.dims.iter().position(|dim| *dim == bare).map(|axis| (input, axis, value.dims.len()))
        });
        let (input, axis, rank) = found.ok_or_else(|| Reason::Baked(format!("no input has an axis `{symbol}`")))?;
        let shape = self.intermediate(Plain::Shape, &[input], DType::Int64, vec![Dim::Size(rank)]);
        let index = self.int64s("axis", &[axis as i64]);
        let value = self.intermediate(Op::Gather { axis: 0 }, &[shape, index], DType::Int64, vec![Dim::Size(1)]);
        self.sizes.insert(bare, value);
        Ok(value)
    }

    /// A number inside the current operation, fixed or dynamic.
    pub(crate) fn number(&self, field: &str, pick: impl Fn(&OperationIr) -> Option<i64>) -> Result<Fit, Reason> {
        let follows = || Reason::Baked(format!("`{field}` depends on the inputs' sizes in a way we cannot express"));
        self.resolved.number(self.index, pick).ok_or_else(follows)
    }

    /// Sizes of axes that must be fixed, or an error that names `what` needs them.
    pub(crate) fn fixed(&self, what: &str, dims: &[Dim]) -> Result<Vec<usize>, Reason> {
        let moving = |dim: &Dim| Reason::Baked(format!("{what} needs a fixed axis, but this one is `{dim}`"));
        dims.iter().map(|dim| dim.size().ok_or_else(|| moving(dim))).collect()
    }
}
