//! Inputs to compare on: varied kinds, each reproducible from its name.

use burn::tensor::{BoolStore, DType as BurnType, TensorData};
use contract::fill;

use crate::io::Kind;

/// Kinds of float rows, in the order they are dealt. Blocks tell samples apart where noise pools to the same vector; the
/// others reach what pictures seldom do: no input, flat input, the ends of the normalised range, single pixels.
const KINDS: [&str; 9] =
    ["blocks16", "noise", "zeros", "blocks8", "constant", "ramp", "extremes", "sparse", "blocks32"];

/// Largest value of a normalised picture, rounded up: white, (1 - 0.406) / 0.225.
const EXTREME: f32 = 2.64;

/// What an input takes.
#[derive(Debug, Clone)]
pub(crate) struct SampleInput {
    pub kind: Kind,
    /// Values of integers: from the first to before the second.
    pub integers: [i64; 2],
}

/// Deals rows of varied kinds.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    dealt: usize,
}

impl Sampler {
    /// Names and rows: one array of shape `[rows, ..row]`, or of shape `row` when `rows` is `None`.
    pub(crate) fn draw(
        &mut self,
        input: &SampleInput,
        rows: Option<usize>,
        row: &[usize],
    ) -> (Vec<String>, TensorData) {
        let shape: Vec<usize> = rows.into_iter().chain(row.iter().copied()).collect();
        let mut names = vec![];
        let count: usize = row.iter().product();
        match input.kind {
            Kind::Float => {
                let mut values = vec![];
                for _ in 0..rows.unwrap_or(1) {
                    let (name, content) = float_row(self.dealt, row);
                    self.dealt += 1;
                    names.push(name);
                    values.extend(content);
                }
                (names, TensorData::new(values, shape))
            }
            Kind::Int | Kind::Bool => {
                let [low, high] = if input.kind == Kind::Bool { [0, 2] } else { input.integers };
                let mut values = vec![];
                for _ in 0..rows.unwrap_or(1) {
                    let name = format!("input.parity.{}.integers", self.dealt);
                    self.dealt += 1;
                    let span = (high - low).max(1) as f64;
                    values.extend(fill::unit(&name, count).map(|u| low + (u * span) as i64));
                    names.push(name);
                }
                let data = TensorData::new(values, shape);
                match input.kind {
                    Kind::Bool => (names, data.convert_dtype(BurnType::Bool(BoolStore::Native))),
                    _ => (names, data),
                }
            }
        }
    }
}

fn float_row(number: usize, row: &[usize]) -> (String, Vec<f32>) {
    let kind = KINDS[number % KINDS.len()];
    let name = format!("input.parity.{number}.{kind}");
    let count: usize = row.iter().product();
    let noise = || fill::fill(&name, &[count]);
    let values = match kind {
        "zeros" => vec![0.0; count],
        "constant" => vec![0.5; count],
        "ramp" => (0..count).map(|i| 2.0 * (i as f32 / count.max(2) as f32) - 1.0).collect(),
        "extremes" => noise().into_iter().map(|v| if v < 0.0 { -EXTREME } else { EXTREME }).collect(),
        "sparse" => noise().into_iter().map(|v| if v > 0.98 { EXTREME } else { 0.0 }).collect(),
        "noise" => noise(),
        blocks => match (row, blocks.trim_start_matches("blocks").parse::<usize>()) {
            (&[channels, height, width], Ok(block)) => {
                let block = (1..=block).rev().find(|b| height % b == 0 && width % b == 0).unwrap_or(1);
                fill::blocks(&name, [1, channels, height, width], block)
            }
            _ => noise(),
        },
    };
    (name, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_varied_and_reproducible() {
        let input = SampleInput { kind: Kind::Float, integers: [0, 2] };
        let draw = || Sampler::default().draw(&input, Some(9), &[3, 32, 32]);
        let ((names, data), (_, again)) = (draw(), draw());
        assert_eq!(names.len(), 9);
        assert_eq!(data, again);
        let values: Vec<f32> = data.iter().collect();
        let rows: Vec<_> = values.chunks_exact(3 * 32 * 32).collect();
        for (index, row) in rows.iter().enumerate() {
            assert!(row.iter().all(|value| value.is_finite()), "{}", names[index]);
            assert!(rows[..index].iter().all(|other| other != row), "{}", names[index]);
        }
    }
}
