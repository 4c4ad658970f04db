//! Networks, losses and steps against their references, on any device: `fixtures/*/README.md` name the generators.

mod adam;
mod controlnet;
mod lmbn_n;
mod palmvein;
mod reid_attention;
mod reid_networks;
mod senet;

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use contract::fill::fill;
use fixtures::Golden;
use safetensors::SafeTensors;
use serde_json::Value;
use train::weights::StateDict;

/// Where networks are compared with their references: on the CPU, or where `VITRINE_TEST_DEVICE` says, as `--device`
/// takes it. `ci/bench gpu --golden` is who asks for another.
fn device() -> Device {
    let name = std::env::var("VITRINE_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    train::device::open(name.parse().unwrap()).unwrap()
}

/// How many times farther from the reference than on the CPU a network may be: a GPU sums in other orders and has
/// coarser elementary functions.
fn slack() -> f32 {
    if train::device::is_cpu(&device()) { 1.0 } else { 20.0 }
}

fn numbers(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Numbers of a tensor, row after row.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Values by the rule under the network's own keys, which the rule knows behind `prefix`; integers stay.
fn filled_state<M: Module>(net: &M, prefix: &str) -> StateDict {
    let filled = |(key, data): (&str, &TensorData)| match data.as_slice::<f32>() {
        Ok(_) => {
            (key.to_owned(), TensorData::new(fill(&format!("{prefix}{key}"), data.shape()), data.shape().to_vec()))
        }
        Err(_) => (key.to_owned(), data.clone()),
    };
    StateDict::of(net).iter().map(filled).collect()
}

/// Puts [`filled_state`] into a network.
fn fill_by_name<M: Module>(net: &mut M, prefix: &str) {
    let report = filled_state(net, prefix).load_into(net);
    assert!(report.is_complete(), "{report}");
}

/// Keys and shapes of a network as a file holds them, against those that the reference lists.
fn same_state(state: &StateDict, listed: &Value, name: &str) {
    let bytes = state.to_safetensors(0, BTreeMap::new());
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ours: BTreeSet<_> = file.tensors().iter().map(|(key, view)| (key.clone(), view.shape().to_vec())).collect();
    let row = |row: &Value| (row[0].as_str().unwrap().to_owned(), numbers(&row[1]));
    let theirs: BTreeSet<_> = match listed {
        Value::Object(shapes) => shapes.iter().map(|(key, shape)| (key.clone(), numbers(shape))).collect(),
        rows => rows.as_array().unwrap().iter().map(row).collect(),
    };
    assert_eq!(ours.symmetric_difference(&theirs).collect::<Vec<_>>(), Vec::<&(_, _)>::new(), "{name}");
}

/// Largest difference to the golden tensor `key`, which holds every so many values, or the first of these, as its
/// `entry` says, and its largest value.
#[track_caller]
fn difference(golden: &Golden, key: &str, entry: &Value, ours: &[f32]) -> (f32, f32) {
    let shape = numbers(entry.get("full_shape").unwrap_or(&entry["shape"]));
    assert_eq!(ours.len(), shape.iter().product::<usize>(), "{key} {shape:?}");
    let every = entry.get("every").unwrap_or(&entry["step"]).as_u64().unwrap_or(1) as usize;
    let most = entry["sampled"].as_u64().map_or(usize::MAX, |most| most as usize);
    let (_, stored) = golden.tensor_f32(key).unwrap();
    let ours = ours.iter().step_by(every).take(most);
    assert_eq!(ours.len(), stored.len(), "{key}");
    let pairs = ours.zip(&stored);
    let off = pairs.map(|(a, b)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY }).fold(0.0, f32::max);
    (off, stored.iter().fold(0.0, |largest, value| largest.max(value.abs())))
}

/// A case of the faces' golden vectors.
fn case<'a>(golden: &'a Golden, name: &str) -> &'a Value {
    golden.json()["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap()
}

/// What its `entry` says of an input of a case.
fn drawn<const D: usize>(entry: &Value, device: &Device) -> Tensor<D> {
    let (shape, scale) = (numbers(&entry["shape"]), entry["scale"].as_f64().unwrap() as f32);
    let values: Vec<f32> = fill(entry["name"].as_str().unwrap(), &shape).iter().map(|value| value * scale).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The outputs of a case that begin with `prefix`: what follows it.
fn outputs<'a>(case: &'a Value, prefix: &str) -> Vec<&'a str> {
    let keys = case["outputs"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap());
    keys.filter_map(|key| key.split_once('/').unwrap().1.strip_prefix(prefix)).collect()
}

/// [`difference`] to an output of a case.
#[track_caller]
fn output_difference(golden: &Golden, case: &Value, output: &str, ours: &[f32]) -> (f32, f32) {
    let key = format!("{}/{output}", case["name"].as_str().unwrap());
    let entry = case["outputs"].as_array().unwrap().iter().find(|entry| entry["key"] == key.as_str());
    difference(golden, &key, entry.unwrap_or_else(|| panic!("{key}")), ours)
}

/// Compares with an output of a case; panics where they are farther apart than `tolerance`.
#[track_caller]
fn compare(golden: &Golden, case: &Value, output: &str, ours: &[f32], tolerance: f32) {
    let (off, _) = output_difference(golden, case, output, ours);
    println!("{} {output}: off by {off:.1e}", case["name"]);
    assert!(off < slack() * tolerance, "{} {output}: off by {off:.1e}", case["name"]);
}

/// Gradients under the keys of a file: written into a copy of the network, read back out of it; 0 where a parameter
/// has none.
fn gradients_by_key<M: Module>(net: &M, gradients: &GradientsParams) -> BTreeMap<String, Vec<f32>> {
    struct Put<'a>(&'a GradientsParams);
    impl ModuleMapper for Put<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let gradient = self.0.get::<D>(id).unwrap_or_else(|| value.clone().zeros_like());
            Param::from_mapped_value(id, gradient, mapper)
        }
    }
    let state = StateDict::of(&net.valid().map(&mut Put(gradients)));
    let parameters = state.iter().filter(|(key, _)| !key.contains("running_"));
    parameters.filter_map(|(key, data)| Some((key.to_owned(), data.try_to_vec::<f32>().ok()?))).collect()
}

/// Global norm of gradients.
fn norm(gradients: &BTreeMap<String, Vec<f32>>) -> f64 {
    gradients.values().flatten().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Multiplies every gradient of a network.
fn scale<M: Module>(net: &M, gradients: &mut GradientsParams, factor: f64) {
    struct Scale<'a>(&'a mut GradientsParams, f64);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, gradient.mul_scalar(self.1));
            }
        }
    }
    net.visit(&mut Scale(gradients, factor));
}
