//! What rten says of a model.

use std::panic::catch_unwind;
use std::path::Path;

use rten::{Model, Value, ValueOrView};
use rten_tensor::prelude::*;

use crate::case::{self, Array, Set};

/// Largest difference, absolute or as a share of the output's largest value: what `export` allows ONNX Runtime.
const TOLERANCE: f64 = 1e-4;

/// The outcome for one model.
pub enum Opinion {
    /// All outputs are as they should be.
    Agrees {
        /// Largest difference, in units of the larger of 1 and the output's largest value.
        worst: f64,
        /// Nodes of the graph.
        nodes: usize,
    },
    /// rten does not load or run it.
    Refuses(String),
    /// rten computes something else.
    Differs(String),
}

/// Runs the model of a folder.
///
/// # Errors
/// If the folder does not hold a readable model with data.
pub fn of(folder: &Path) -> Result<Opinion, String> {
    let path = folder.join("model.onnx");
    let limits = onnx::Limits::default();
    let (proto, _) = onnx::read(&path, &limits).map_err(|error| error.to_string())?;
    let nodes = proto.graph.map_or(0, |graph| graph.node.len());
    let sets = case::data(folder)?;
    if sets.is_empty() || sets.iter().any(|set| set.outputs.is_empty()) {
        return Err(format!("`{}` has no data to compare", folder.display()));
    }
    let ran = catch_unwind(|| run(&path, &sets));
    let answers = match ran.unwrap_or_else(|panic| Err(format!("panic: {}", words(panic.as_ref())))) {
        Ok(answers) => answers,
        Err(reason) => return Ok(Opinion::Refuses(reason)),
    };
    let mut worst = 0.0f64;
    for (answers, set) in answers.iter().zip(&sets) {
        for (found, expected) in answers.iter().zip(&set.outputs) {
            match difference(found, expected) {
                Ok(difference) if difference <= TOLERANCE => worst = worst.max(difference),
                Ok(difference) => return Ok(Opinion::Differs(format!("`{}` by {difference:.1e}", expected.name))),
                Err(how) => return Ok(Opinion::Differs(format!("`{}` {how}", expected.name))),
            }
        }
    }
    Ok(Opinion::Agrees { worst, nodes })
}

/// rten's answers, in the order of the outputs.
fn run(path: &Path, sets: &[Set]) -> Result<Vec<Vec<Array>>, String> {
    let model = Model::load_file(path).map_err(|error| reason(&error.to_string()))?;
    let id = |name: &str| model.node_id(name).map_err(|error| error.to_string());
    sets.iter()
        .map(|Set { inputs, outputs }| {
            let feeds = inputs.iter().map(|input| Ok((id(&input.name)?, feed(input)?)));
            let feeds = feeds.collect::<Result<Vec<_>, String>>()?;
            let asked = outputs.iter().map(|output| id(&output.name)).collect::<Result<Vec<_>, String>>()?;
            let values = model.run(feeds, &asked, None).map_err(|error| reason(&error.to_string()))?;
            outputs.iter().zip(values).map(|(output, value)| array(&output.name, value)).collect()
        })
        .collect()
}

/// rten has numbers of 32 bits only; whole numbers of tests are small.
fn feed(input: &Array) -> Result<ValueOrView<'static>, String> {
    let values = input.values.iter();
    let value = if input.float {
        Value::from_shape(&input.shape, values.map(|&value| value as f32).collect()).map_err(|error| error.to_string())
    } else {
        Value::from_shape(&input.shape, values.map(|&value| value as i32).collect()).map_err(|error| error.to_string())
    };
    value.map(Into::into)
}

fn array(name: &str, value: Value) -> Result<Array, String> {
    let (float, shape, values) = match value {
        Value::FloatTensor(tensor) => {
            (true, tensor.shape().to_vec(), tensor.to_vec().into_iter().map(f64::from).collect())
        }
        Value::Int32Tensor(tensor) => {
            (false, tensor.shape().to_vec(), tensor.to_vec().into_iter().map(f64::from).collect())
        }
        other => return Err(format!("`{name}` is of type {}", other.dtype())),
    };
    Ok(Array { name: name.into(), shape, values, float })
}

/// Largest difference, in units of the larger of 1 and the largest expected value; NaN equals NaN, infinities
/// themselves.
fn difference(found: &Array, expected: &Array) -> Result<f64, String> {
    if found.shape != expected.shape || found.float != expected.float {
        return Err(format!("is of shape {:?}, {:?} is right", found.shape, expected.shape));
    }
    let finite = expected.values.iter().filter(|value| value.is_finite());
    let scale = finite.fold(1.0f64, |scale, value| scale.max(value.abs()));
    let pairs = found.values.iter().zip(&expected.values);
    Ok(pairs.fold(0.0f64, |worst, (found, expected)| {
        let same = found == expected || (found.is_nan() && expected.is_nan());
        let apart = if same { 0.0 } else { (found - expected).abs() };
        worst.max(if apart.is_nan() { f64::INFINITY } else { apart })
    }) / scale)
}

/// A message without the name of the node and the shapes of its inputs, which change more often than the reason.
fn reason(message: &str) -> String {
    let after = message.split_once("\": ").map_or(message, |(_, rest)| rest);
    let before = after.split_once(". Inputs were").map_or(after, |(before, _)| before);
    before.lines().next().unwrap_or_default().trim().to_owned()
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied()).unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Array {
        Array { name: "x".into(), shape: vec![values.len()], values: values.to_vec(), float: true }
    }

    #[test]
    fn what_is_the_same_and_what_is_not() {
        let expected = row(&[1.0, f64::NAN, f64::INFINITY, -100.0]);
        assert_eq!(difference(&row(&[1.0, f64::NAN, f64::INFINITY, -100.0]), &expected), Ok(0.0));
        assert!((difference(&row(&[1.5, f64::NAN, f64::INFINITY, -100.0]), &expected).unwrap() - 0.005).abs() < 1e-12);
        for wrong in [[f64::NAN, f64::NAN, f64::INFINITY, -100.0], [1.0, 0.0, f64::INFINITY, -100.0]] {
            assert_eq!(difference(&row(&wrong), &expected), Ok(f64::INFINITY), "{wrong:?}");
        }
        assert!(difference(&row(&[1.0, f64::NAN, f64::NEG_INFINITY, -100.0]), &expected).unwrap().is_infinite());
        assert!(difference(&row(&[1.0]), &expected).is_err());
        assert!(difference(&Array { float: false, ..row(&[1.0]) }, &row(&[1.0])).is_err());
    }

    #[test]
    fn reasons_are_without_names_of_nodes() {
        assert_eq!(
            reason("in node \"a.b\": operator error: Foo operator not supported"),
            "operator error: Foo operator not supported"
        );
        let refused = "operator \"Foo\" failed: unsupported output: Bar. Inputs were (tensor(f32) [2, 3])";
        assert_eq!(reason(refused), "operator \"Foo\" failed: unsupported output: Bar");
        assert_eq!(reason("no node"), "no node");
    }
}
