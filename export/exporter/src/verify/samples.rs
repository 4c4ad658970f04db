//! Inputs for comparisons: varied kinds, each reproducible from its name.

use burn::tensor::{BoolStore, DType as BurnType, TensorData};
use contract::fill;
use graph::DType;
use serde::{Deserialize, Serialize};

use crate::coverage::Assignment;
use crate::io::Values;
use crate::model::ExportedModel;

/// Kinds of float rows, in the order they are used. Blocks give different embeddings where noise averages out; the
/// others cover what pictures seldom hold: zeros, flat input, the ends of the range, single pixels.
const ROW_KINDS: [&str; 9] =
    ["blocks16", "noise", "zeros", "blocks8", "constant", "ramp", "extremes", "sparse", "blocks32"];

/// Largest value of a normalised picture, rounded up: white, (1 - 0.406) / 0.225.
const EXTREME: f32 = 2.64;

/// Element type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Element {
    Float32,
    Float64,
    Int32,
    Int64,
    Bool,
}

/// An input that is computed from names, so that it need not be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seeded {
    /// Name of the input.
    pub input: String,
    /// Element type.
    pub element: Element,
    /// Shape.
    pub shape: Vec<usize>,
    /// The name of each row along the first axis, or one name for the whole tensor.
    pub seeds: Vec<String>,
    /// Range of integers, the second excluded.
    pub integers: [i64; 2],
    /// Range of floats, both included; absent for the range of normalised pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floats: Option<[f32; 2]>,
}

/// Why a stored run cannot be repeated or compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// An input is larger than any that we certify.
    #[error("shape {shape:?} of input `{input}` is too large")]
    InputTooLarge {
        /// The input.
        input: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The inputs of a run are larger together than any that we certify.
    #[error("a run of it declares more than {MOST_ELEMENTS} elements, the most that are allowed")]
    RunTooLarge,
    /// All runs together are larger than any that we certify.
    #[error("its runs declare {found} elements; {MOST_IN_ALL} are allowed")]
    RunsTooLarge {
        /// Elements of all inputs.
        found: usize,
    },
    /// Neither one seed nor one for each row.
    #[error("{found} seeds for shape {shape:?} of input `{input}`")]
    Seeds {
        /// Number of seeds.
        found: usize,
        /// The input.
        input: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A seed whose kind this program does not know.
    #[error("seed `{seed}` is of an unknown kind")]
    Kind {
        /// The seed.
        seed: String,
    },
    /// The model gives an output of another shape.
    #[error("`{output}` has shape {found:?}, but the stored shape is {stored:?}")]
    Shape {
        /// The output.
        output: String,
        /// What the model gives.
        found: Vec<usize>,
        /// What is stored.
        stored: Vec<usize>,
    },
    /// Too few or too many stored values.
    #[error("the stored values of `{output}` do not fit its shape {shape:?}")]
    Values {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A number where NaN or an infinity is stored.
    #[error("`{output}` is finite at element {index}, but the stored value is not")]
    Finite {
        /// The output.
        output: String,
        /// Row-major index of the element.
        index: usize,
    },
}

/// Most elements of the inputs of one run that a certificate may declare.
const MOST_ELEMENTS: usize = 1 << 28;

/// Most elements of the inputs of all runs together.
const MOST_IN_ALL: usize = 1 << 31;

/// Refuses runs whose inputs would need more memory or time than any that we certify, before any is created.
pub(crate) fn bounded<'a>(runs: impl IntoIterator<Item = &'a [Seeded]>) -> Result<(), StoredError> {
    let mut all = 0usize;
    for inputs in runs {
        let run = inputs.iter().try_fold(0usize, |sum, input| {
            sum.checked_add(input.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?)
        });
        let run = run.filter(|&run| run <= MOST_ELEMENTS).ok_or(StoredError::RunTooLarge)?;
        all = all.saturating_add(run);
    }
    if all <= MOST_IN_ALL { Ok(()) } else { Err(StoredError::RunsTooLarge { found: all }) }
}

impl Seeded {
    /// The values.
    ///
    /// # Errors
    /// If shape and names, which may come from a file, do not fit.
    pub fn data(&self) -> Result<TensorData, StoredError> {
        let (input, shape) = (&self.input, &self.shape);
        let count = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let count = count.filter(|&count| count <= MOST_ELEMENTS);
        let too_large = || StoredError::InputTooLarge { input: input.clone(), shape: shape.clone() };
        let count = count.ok_or_else(too_large)?;
        let row = match self.shape.first() {
            Some(&rows) if rows == self.seeds.len() => &self.shape[1..],
            _ if self.seeds.len() == 1 => self.shape.as_slice(),
            _ => {
                let found = self.seeds.len();
                return Err(StoredError::Seeds { found, input: input.clone(), shape: shape.clone() });
            }
        };
        let float = matches!(self.element, Element::Float32 | Element::Float64);
        let data = if float {
            let mut values = Vec::with_capacity(count);
            for seed in &self.seeds {
                let unknown = || StoredError::Kind { seed: seed.clone() };
                values.extend(float_row(seed, row, self.floats).ok_or_else(unknown)?);
            }
            TensorData::new(values, self.shape.clone())
        } else {
            let [low, high] = if self.element == Element::Bool { [0, 2] } else { self.integers };
            let span = high.saturating_sub(low).max(1) as f64;
            let in_row = row.iter().product();
            let values = self.seeds.iter().flat_map(|seed| fill::unit(seed, in_row));
            TensorData::new(values.map(|u| low + (u * span) as i64).collect(), self.shape.clone())
        };
        Ok(data.convert_dtype(match self.element {
            Element::Float32 => BurnType::F32,
            Element::Float64 => BurnType::F64,
            Element::Int32 => BurnType::I32,
            Element::Int64 => BurnType::I64,
            Element::Bool => BurnType::Bool(BoolStore::Native),
        }))
    }
}

/// Draws rows of varied kinds in turn.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    dealt: usize,
}

impl Sampler {
    /// An input of `shape` whose first axis has `rows` different rows, or which is one row.
    pub(crate) fn draw(&mut self, name: &str, values: Values, dtype: DType, rows: usize, shape: Vec<usize>) -> Seeded {
        let seeds = (0..rows).map(|_| {
            let number = self.dealt;
            self.dealt += 1;
            let kind =
                if matches!(values, Values::Floats(_)) { ROW_KINDS[number % ROW_KINDS.len()] } else { "integers" };
            format!("input.parity.{number}.{kind}")
        });
        let seeds = seeds.collect();
        let element = match (values, dtype) {
            (Values::Booleans, _) => Element::Bool,
            (Values::Floats(_), DType::Double) => Element::Float64,
            (Values::Floats(_), _) => Element::Float32,
            (Values::Integers(_), DType::Int32) => Element::Int32,
            (Values::Integers(_), _) => Element::Int64,
        };
        let (integers, floats) = match values {
            Values::Integers(range) => (range, None),
            Values::Floats(range) => ([0, 2], range),
            Values::Booleans => ([0, 2], None),
        };
        Seeded { input: name.into(), element, shape, seeds, integers, floats }
    }
}

/// The row called `name`, whose kind follows the last dot. Without a range, values are those of normalised pictures.
fn float_row(name: &str, row: &[usize], range: Option<[f32; 2]>) -> Option<Vec<f32>> {
    let (_, kind) = name.rsplit_once('.')?;
    let count: usize = row.iter().product();
    let [low, high] = range.unwrap_or([-EXTREME, EXTREME]);
    // Maps -1 to 1 onto the range.
    let placed = |share: f32| match range {
        // In f64: the difference of the ends of a wide range overflows f32.
        Some([low, high]) => {
            let (low, high) = (f64::from(low), f64::from(high));
            (low + (high - low) * (f64::from(share) + 1.0) / 2.0).clamp(low, high) as f32
        }
        None => share,
    };
    let noise = || fill::fill(name, &[count]);
    let all = |values: Vec<f32>| values.into_iter().map(placed).collect();
    let zero = 0.0f32.max(low).min(high);
    Some(match kind {
        "zeros" => vec![zero; count],
        "constant" => vec![placed(0.5); count],
        "ramp" => all((0..count).map(|i| 2.0 * (i as f32 / count.max(2) as f32) - 1.0).collect()),
        "extremes" => noise().into_iter().map(|v| if v < 0.0 { low } else { high }).collect(),
        "sparse" => noise().into_iter().map(|v| if v > 0.98 { high } else { zero }).collect(),
        "noise" => all(noise()),
        blocks => {
            let block = blocks.strip_prefix("blocks")?.parse::<usize>().ok()?.min(1024);
            all(match row {
                &[channels, height, width] => {
                    let block = (1..=block).rev().find(|b| height % b == 0 && width % b == 0).unwrap_or(1);
                    fill::blocks(name, [1, channels, height, width], block)
                }
                _ => noise(),
            })
        }
    })
}

/// Names and values of the drawn inputs.
pub(crate) fn arrays(drawn: &[Seeded]) -> Vec<(String, TensorData)> {
    let data = |input: &Seeded| input.data().expect("what was drawn here can be made");
    drawn.iter().map(|input| (input.input.clone(), data(input))).collect()
}

impl ExportedModel {
    /// Names and values of a small input, the same in every run: two rows, or as many as the model accepts.
    pub fn two_rows(&self) -> Vec<(String, TensorData)> {
        arrays(&self.sample(&mut Sampler::default(), &self.provenance().coverage.recorded()[0]))
    }

    /// Inputs for one comparison at these sizes of the symbols.
    pub(crate) fn sample(&self, sampler: &mut Sampler, sizes: &Assignment) -> Vec<Seeded> {
        let batch = self.provenance().inputs.first().and_then(|input| input.axes.first());
        let drawn = self.provenance().inputs.iter().map(|input| {
            let dims = self.provenance().coverage.shape(&input.axes, sizes);
            let rows = if batch.is_some() && input.axes.first() == batch { dims[0] } else { 1 };
            sampler.draw(&input.name, input.values, input.dtype, rows, dims)
        });
        drawn.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures() -> Seeded {
        Sampler::default().draw("x", Values::Floats(None), DType::Float, 9, vec![9, 3, 32, 32])
    }

    #[test]
    fn rows_are_varied_and_reproducible() {
        let drawn = pictures();
        assert_eq!(drawn.seeds.len(), 9);
        let data = drawn.data().unwrap();
        assert_eq!(data, pictures().data().unwrap());
        let values: Vec<f32> = data.iter().collect();
        let rows: Vec<_> = values.chunks_exact(3 * 32 * 32).collect();
        for (index, row) in rows.iter().enumerate() {
            assert!(row.iter().all(|value| value.is_finite()), "{}", drawn.seeds[index]);
            assert!(rows[..index].iter().all(|other| other != row), "{}", drawn.seeds[index]);
        }
    }

    #[test]
    fn a_declared_range_is_filled_to_both_ends() {
        for range in [[-90.0, 90.0], [0.0, 255.0], [5.0, 6.0], [f32::MIN, f32::MAX]] {
            let drawn = Sampler::default().draw("pose", Values::Floats(Some(range)), DType::Float, 18, vec![18, 3]);
            let values: Vec<f32> = drawn.data().unwrap().iter().collect();
            assert!(values.iter().all(|value| (range[0]..=range[1]).contains(value)), "{range:?}: {values:?}");
            assert!(range.iter().all(|end| values.contains(end)), "{range:?}: {values:?}");
        }
    }

    #[test]
    fn what_a_file_asks_for_is_checked() {
        let refused = |edit: &dyn Fn(&mut Seeded)| {
            let mut seeded = pictures();
            edit(&mut seeded);
            seeded.data().unwrap_err()
        };
        for shape in [vec![usize::MAX, 2], vec![9, 1 << 20, 1 << 20]] {
            let error = refused(&|s| s.shape = shape.clone());
            assert_eq!(error, StoredError::InputTooLarge { input: "x".into(), shape });
        }
        let seeds = StoredError::Seeds { found: 9, input: "x".into(), shape: vec![4, 3] };
        assert_eq!(refused(&|s| s.shape = vec![4, 3]), seeds);
        let poem = "input.parity.3.poem";
        assert_eq!(refused(&|s| s.seeds[3] = poem.into()), StoredError::Kind { seed: poem.into() });
        let mut reversed = pictures();
        (reversed.element, reversed.integers) = (Element::Int64, [i64::MAX, i64::MIN]);
        assert_eq!(reversed.data().unwrap().iter::<i64>().next(), Some(i64::MAX));
    }
}
