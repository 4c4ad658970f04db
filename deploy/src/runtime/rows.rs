//! Whether the rows of a batch see each other. In a network exported in training mode, each picture's embedding depends
//! on the pictures beside it, and a gallery embedded in batches of 16 does not fit a probe embedded alone.

use std::fmt;

use contract::Golden;

use super::session::Model;
use crate::DeployError;

/// Differences up to this share of an output's largest value are rounding: another batch may take another kernel.
const ROUNDING: f32 = 1e-3;

/// An output that depends on the other rows of the batch, or on chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// The output.
    pub output: String,
    /// Largest difference between a row alone and beside another.
    pub difference: f32,
    /// Largest value of the output.
    pub largest: f32,
}

impl fmt::Display for Mixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "output `{}` of a row differs by up to {:.1e} (of {:.1e}) with the row beside it: the network may be in \
             training mode; export it for inference, or run it with `--batch-size 1`",
            self.output, self.difference, self.largest
        )
    }
}

/// Runs two rows together and each alone; the output that differs most, if one differs by more than rounding.
///
/// # Errors
/// As [`Model::run`].
pub fn mixed(model: &Model) -> Result<Option<Mixed>, DeployError> {
    let golden = Golden {
        seed: "input.rows".into(),
        batch: 2,
        block: 1,
        pixels: true,
        tolerance: ROUNDING,
        every: 1,
        output: Default::default(),
    };
    // What has no input of two rows is refused when it is run.
    let pair: Vec<Vec<f32>> = model
        .contract
        .input
        .iter()
        .map(|input| golden.input(input).map_or_else(Vec::new, |(_, values)| values))
        .collect();
    let both: Vec<&[f32]> = pair.iter().map(Vec::as_slice).collect();
    let together = model.run(&both, 2, None)?;
    let mut worst: Option<Mixed> = None;
    for row in 0..2 {
        let alone: Vec<&[f32]> =
            pair.iter().map(|values| &values[row * values.len() / 2..][..values.len() / 2]).collect();
        for (output, (_, alone)) in model.run(&alone, 1, None)? {
            let Some((_, beside)) = together.get(&output) else { continue };
            // An output that has no row for each row says nothing about them.
            let Some(beside) =
                beside.chunks_exact(alone.len().max(1)).nth(row).filter(|_| beside.len() == 2 * alone.len())
            else {
                continue;
            };
            let largest = alone.iter().chain(beside).fold(0.0, |largest: f32, value| largest.max(value.abs()));
            let differences =
                alone.iter().zip(beside).filter(|(a, b)| !(a.is_nan() && b.is_nan())).map(|(a, b)| (a - b).abs());
            let difference =
                differences.fold(0.0, |worst: f32, diff| if diff.is_nan() { f32::INFINITY } else { worst.max(diff) });
            let share = |of: &Mixed| of.difference / of.largest;
            let found = Mixed { output, difference, largest };
            if difference > ROUNDING * largest && worst.as_ref().is_none_or(|worst| share(&found) > share(worst)) {
                worst = Some(found);
            }
        }
    }
    Ok(worst)
}
