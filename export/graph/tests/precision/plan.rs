//! Plans by measured time and loss.

use std::collections::BTreeSet;
use std::path::Path;

use graph::precision::range::Method;
use graph::precision::{Int8, Plan, Planner, Target, fixed, observe, prepare};

use crate::draft::Draft;
use crate::runtime;

fn draft() -> (Draft, String) {
    let mut draft = Draft::new(&[1, 8, 12, 6]);
    let a = draft.conv("x", [8, 8], 3, 1);
    let a = draft.node("Relu", &[&a], vec![]);
    let b = draft.conv(&a, [8, 8], 3, 8);
    let b = draft.node("Softplus", &[&b], vec![]);
    let y = draft.conv(&b, [8, 8], 3, 1);
    (draft, y)
}

fn planned(least_cosine: f64, timed: bool, target: Target) -> Plan {
    let runtime = runtime();
    let (draft, output) = draft();
    let model = prepare(draft.model(&output, 20), Path::new("")).unwrap();
    let batches = [draft.batch(1, 1), draft.batch(2, 4)];
    let ranges = observe(&model, &batches, Method::MinMax, &runtime).unwrap().ranges;
    let timed = if timed { batches.as_slice() } else { &[] };
    let how = Int8 { target, weight_bits: 8 };
    let progress = |_: &str, _: f64| ();
    let (model, ranges, compared) = (&model, &ranges, batches.as_slice());
    let planner = Planner {
        model,
        ranges,
        how,
        timed,
        compared,
        rounds: 2,
        least_cosine,
        runtime: &runtime,
        progress: &progress,
    };
    planner.plan().unwrap()
}

/// Every node has its decision; what is chosen has a measured loss, and all that could be has a measured gain.
#[test]
fn every_node_is_decided() {
    let plan = planned(0.9, true, Target::Cpu);
    let nodes: Vec<&str> = plan.nodes.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(nodes, ["conv0", "relu1", "conv2", "softplus3", "conv4"]);
    for node in &plan.nodes {
        assert_eq!(node.gain.is_some(), node.operator == "Conv", "{node:?}");
        assert!(!node.integers || node.loss.is_some(), "{node:?}");
    }
    // Two equal convolutions have one decision and one gain.
    assert_eq!(plan.nodes[0].gain, plan.nodes[4].gain);
    assert_eq!(plan.nodes[0].integers, plan.nodes[4].integers);
}

/// Where the target is not this machine nothing is timed; a cosine that cannot be reached leaves nothing.
#[test]
fn losses_send_nodes_back_to_float() {
    let plan = planned(0.0, false, Target::TensorRt);
    assert_eq!(plan.chosen(), BTreeSet::from(["conv0".to_owned(), "conv4".to_owned()]));
    assert!(plan.nodes.iter().all(|node| node.gain.is_none()));
    let plan = planned(1.1, false, Target::TensorRt);
    assert!(plan.chosen().is_empty());
    assert!(plan.nodes.iter().any(|node| node.reason.contains("costs too much")));
}

#[test]
fn a_plan_that_is_given_is_followed() {
    let (draft, output) = draft();
    let model = prepare(draft.model(&output, 20), Path::new("")).unwrap();
    let how = Int8 { target: Target::Cpu, weight_bits: 8 };
    let chosen = BTreeSet::from(["conv2".to_owned()]);
    assert_eq!(fixed(&model, &how, &chosen).unwrap().chosen(), chosen);
    for unknown in ["relu1", "other"] {
        assert_eq!(fixed(&model, &how, &BTreeSet::from([unknown.to_owned()])), Err(unknown.to_owned()));
    }
}
