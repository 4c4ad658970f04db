//! Lowers Burn's recorded operations to ONNX operators. There is one function per operation. The dispatch is exhaustive
//! over `burn_ir`, so a new kind of operation stops the build.

mod activation;
mod attention;
mod base;
mod builder;
mod conv;
mod dispatch;
mod function;
mod norm;
mod numeric;
mod pool;
mod random;
mod reduce;
mod sample;
mod scatter;
mod sizes;
mod table;
mod weighted;

use graph::Graph;

use crate::error::{ExportError, Refusal};
use crate::operations::{LoweredOperation, OperationKind};
use crate::resolve::{Resolved, name};

pub(crate) use builder::{Boundary, Origin};
use builder::{Lowering, Reason};

/// Every kind of operation of [`crate::BURN_VERSION`], in Burn's order.
pub fn operation_kinds() -> impl Iterator<Item = &'static OperationKind> {
    dispatch::KINDS.iter().copied().flatten()
}

/// Lowers a resolved trace for an operator set. Also returns what each operation became and where values come from,
/// both in the order of the trace.
///
/// # Errors
/// All operations without a lowering, at once; a constant that is not finite; a number that would be baked in.
pub(crate) fn lower(
    resolved: &Resolved,
    name_of_graph: &str,
    boundary: &Boundary,
    opset: u32,
) -> Result<(Graph, Vec<LoweredOperation>, Vec<Origin>), ExportError> {
    let mut lowering = Lowering::new(resolved, name_of_graph, boundary, opset)?;
    let mut refusals: Vec<Refusal> = vec![];
    let mut operations = vec![];
    for (index, operation) in resolved.base.operations.iter().enumerate() {
        lowering.enter(index, operation);
        let before = lowering.graph.nodes.len();
        let lowered = dispatch::operation(&mut lowering, operation).and_then(|()| lowering.runnable(before));
        let refusal = match lowered {
            Ok(()) => {
                let onnx = lowering.graph.nodes[before..].iter().map(|node| node.op.name()).collect();
                operations.push(LoweredOperation { operation: name(operation), module: lowering.module.clone(), onnx });
                continue;
            }
            Err(Reason::Fatal(error)) => return Err(error),
            Err(Reason::Baked(detail)) => {
                return Err(ExportError::Baked { operation: name(operation), module: lowering.module, detail });
            }
            Err(Reason::Unsupported(reason)) => {
                Refusal { operation: name(operation), module: lowering.module.clone(), reason }
            }
        };
        if !refusals.contains(&refusal) {
            refusals.push(refusal);
        }
        // Continue with placeholders to report all refusals at once. A graph with placeholders is never returned.
        for out in operation.outputs() {
            lowering.placeholder(out);
        }
    }
    if !refusals.is_empty() {
        return Err(ExportError::Unsupported(refusals));
    }
    let (graph, origins) = lowering.finish(boundary)?;
    Ok((graph, operations, origins))
}

#[cfg(test)]
mod tests {
    use burn::backend::ir::{
        CustomOpIr, DistributedOperationIr, FloatOperationIr, LinearOpIr, ModuleOperationIr, OperationIr, TensorId,
        TensorIr, UnaryOpIr,
    };
    use burn::tensor::{BoolStore, DType as BurnType, TensorData};
    use graph::{DType, Dim};

    use super::*;
    use crate::capture::Trace;
    use crate::coverage::Coverage;
    use crate::resolve::resolve;

    /// Lowers one operation from `x` to `y`, as if it had been recorded.
    fn lowered(
        to: BurnType,
        operation: impl Fn(TensorIr, TensorIr) -> OperationIr,
    ) -> Result<(Vec<String>, DType), ExportError> {
        let (x, y) = (TensorId::new(1), TensorId::new(2));
        let tensor = |id, dtype| TensorIr::uninit(id, [3, 3].into(), dtype);
        let trace = Trace {
            sizes: String::new(),
            operations: vec![operation(tensor(x, BurnType::F32), tensor(y, to))],
            values: [(x, TensorData::zeros::<f32, _>([3, 3]).into())].into(),
            parameters: std::collections::BTreeMap::new(),
            inputs: vec![x],
            outputs: vec![y],
        };
        let resolved = resolve(Coverage::default(), vec![trace])?;
        let dims = vec![Dim::Size(3), Dim::Size(3)];
        let boundary = Boundary { inputs: vec![("x".into(), dims)], outputs: vec!["y".into()] };
        let (graph, ..) = lower(&resolved, "test", &boundary, 20)?;
        graph::checker::check(&graph, 20)?;
        let names = graph.nodes.iter().map(|node| node.op.name()).collect();
        Ok((names, graph.value(graph.outputs[0]).dtype))
    }

    #[test]
    fn what_burn_never_records_is_lowered_all_the_same() {
        let truth = BurnType::Bool(BoolStore::Native);
        let function = |function: FloatOperationIr| OperationIr::Float(BurnType::F32, function);
        let nan = lowered(truth, |input, out| function(FloatOperationIr::IsNan(UnaryOpIr { input, out })));
        assert_eq!(nan.unwrap(), (vec!["IsNaN".to_owned()], DType::Bool));
        let infinite = lowered(truth, |input, out| function(FloatOperationIr::IsInf(UnaryOpIr { input, out })));
        assert_eq!(infinite.unwrap(), (vec!["IsInf".to_owned()], DType::Bool));
        let linear = lowered(BurnType::F32, |x, out| {
            let (weight, bias) = (x.clone(), Some(x.clone()));
            OperationIr::Module(ModuleOperationIr::Linear(LinearOpIr { x, weight, bias, out }))
        });
        assert_eq!(linear.unwrap(), (vec!["MatMul".to_owned(), "Add".to_owned()], DType::Float));
    }

    #[test]
    fn refusals_say_why_and_what_to_do() {
        let custom = lowered(BurnType::F32, |x, y| OperationIr::Custom(CustomOpIr::new("mine", &[x], &[y])))
            .unwrap_err()
            .to_string();
        assert!(custom.contains("`Custom::mine`") && custom.contains("with Burn's operations"), "{custom}");
        let collective =
            lowered(BurnType::F32, |_, _| OperationIr::Distributed(DistributedOperationIr::SyncCollective));
        let collective = collective.unwrap_err().to_string();
        assert!(collective.contains("export `module.valid()` of one device"), "{collective}");
        // Every refusal in the table has a reason and a way out.
        for kind in operation_kinds() {
            if let crate::operations::Support::Refused { reason, way_out } = kind.support {
                assert!(!reason.is_empty() && !way_out.is_empty(), "{kind}");
            }
        }
    }
}
