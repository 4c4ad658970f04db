//! A model's golden vectors, run when it is opened.

use std::fmt;
use std::path::Path;

use contract::ModelContract;

use super::pool::Outputs;
use crate::DeployError;

/// What the self-test said.
#[derive(Debug, Clone, PartialEq)]
pub enum SelfTest {
    /// Every output is within the tolerance.
    Passed {
        /// Largest difference.
        max_diff: f32,
        /// Allowed difference.
        tolerance: f32,
        /// Compared values.
        values: usize,
    },
    /// The model has no golden vectors.
    NoGolden,
    /// It was not asked for.
    Skipped,
}

impl fmt::Display for SelfTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelfTest::Passed { max_diff, tolerance, values } => {
                write!(f, "passed: {values} golden values within {max_diff:.1e} ({tolerance:.1e} allowed)")
            }
            SelfTest::NoGolden => f.write_str("not possible: the model carries no golden vectors"),
            SelfTest::Skipped => f.write_str("skipped"),
        }
    }
}

/// Runs the golden input with `run`, which takes a slice for each input and the number of rows, and compares the
/// outputs.
pub(super) fn self_test(
    path: &Path,
    contract: &ModelContract,
    run: impl FnOnce(&[&[f32]], usize) -> Result<Outputs, DeployError>,
) -> Result<SelfTest, DeployError> {
    let Some(golden) = &contract.golden else { return Ok(SelfTest::NoGolden) };
    let wrong = |problem: String| DeployError::Golden { path: path.to_owned(), problem };
    if golden.output.is_empty() || !golden.tolerance.is_finite() || golden.tolerance <= 0.0 {
        return Err(wrong("have no output or no tolerance above 0".into()));
    }
    let mut inputs = Vec::new();
    for spec in &contract.input {
        let Some((_, values)) = golden.input(spec) else {
            let size = spec.row().unwrap_or_default();
            return Err(wrong(format!(
                "use blocks of {}, which do not tile input `{}` {size:?}",
                golden.block, spec.name
            )));
        };
        inputs.push(values);
    }
    let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
    let outputs = run(&inputs, golden.batch)?;
    let (mut worst, mut values) = (0.0f32, 0);
    for (name, expected) in &golden.output {
        let Some((shape, found)) = outputs.get(name) else {
            return Err(wrong(format!("name output `{name}`, which the contract does not have")));
        };
        if expected.len() != found.len().div_ceil(golden.every) {
            let (stored, every) = (expected.len(), golden.every);
            return Err(wrong(format!("have {stored} values of output `{name}` {shape:?}, every {every} is stored")));
        }
        let compared = expected.iter().zip(found.iter().step_by(golden.every));
        let differences: Vec<f32> = compared.map(|(expected, found)| (expected - found).abs()).collect();
        let max_diff = largest(differences.iter().copied());
        let wrong = |diff: &f32| diff.is_nan() || *diff > golden.tolerance;
        if let Some(at) = differences.iter().position(wrong) {
            return Err(DeployError::SelfTest {
                path: path.to_owned(),
                output: name.clone(),
                max_diff,
                at: at * golden.every,
                tolerance: golden.tolerance,
            });
        }
        worst = worst.max(max_diff);
        values += expected.len();
    }
    Ok(SelfTest::Passed { max_diff: worst, tolerance: golden.tolerance, values })
}

/// The largest difference; NaN if any is.
fn largest(differences: impl Iterator<Item = f32>) -> f32 {
    differences.fold(0.0, |worst, diff| if diff.is_nan() || worst.is_nan() { f32::NAN } else { worst.max(diff) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_largest_difference() {
        assert_eq!(largest([0.5, 0.25].into_iter()), 0.5);
        assert!(largest([0.5, f32::NAN, 1.0].into_iter()).is_nan());
    }
}
