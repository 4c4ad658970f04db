//! Compares the public table of operations with the cases: each promise has a case, and each case a promise.

use std::collections::{BTreeMap, BTreeSet};

use export::{OPSETS, Support, operation_kinds};

use super::all;

/// Burn 0.22.1 records these as comparisons and as a matrix product; tests next to their lowering cover them.
const NEVER_RECORDED: [&str; 3] = ["Float::IsNan", "Float::IsInf", "Module::Linear"];

#[test]
fn the_table_tells_what_the_lowering_does() {
    // The operators that each kind became in any case and form, and the first and last operator set where it did.
    let mut seen: BTreeMap<String, (BTreeSet<String>, [u32; 2])> = BTreeMap::new();
    let cases = all();
    for opset in OPSETS {
        for case in &cases {
            let Ok(model) = (case.export)(opset, false) else { continue };
            for operation in model.operations() {
                let (onnx, [_, last]) = seen.entry(operation.kind()).or_insert((BTreeSet::new(), [opset; 2]));
                onnx.extend(operation.onnx.iter().filter(|name| *name != "Identity").cloned());
                *last = opset;
            }
        }
    }
    let mut wrong = vec![];
    for kind in operation_kinds() {
        let (name, found) = (kind.to_string(), seen.remove(&kind.to_string()));
        match (kind.support, found) {
            (Support::Lowered { .. }, None) if NEVER_RECORDED.contains(&name.as_str()) => {}
            (Support::Lowered { .. }, None) => wrong.push(format!("{name}: no row records it")),
            (Support::Lowered { onnx, since, until, .. }, Some((found, sets))) => {
                let told: BTreeSet<String> = onnx.iter().map(|&name| name.to_owned()).collect();
                if told != found {
                    let extra: Vec<_> = found.difference(&told).collect();
                    let absent: Vec<_> = told.difference(&found).collect();
                    wrong.push(format!("{name}: rows show {extra:?} too, and never {absent:?}"));
                }
                let promised = [since, until.unwrap_or(*OPSETS.end())];
                if sets != promised {
                    wrong.push(format!("{name}: the table says operator sets {promised:?}, rows show {sets:?}"));
                }
            }
            (_, Some(_)) => wrong.push(format!("{name}: the table refuses it, a row has it")),
            (_, None) => {}
        }
    }
    wrong.extend(seen.into_keys().map(|name| format!("{name}: not in the table")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
