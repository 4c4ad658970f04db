//! One forward pass on Burn's capture device: the operations, the constants and the parameters' names.

mod linear;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use burn::backend::capture::CaptureBackend;
use burn::backend::ir::{OperationIr, TensorId};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::error::ExportError;
use crate::io::{AnyTensor, Inputs, Outputs};
use crate::panics::caught;

/// One recording: what was computed, at which sizes of the symbols.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// Sizes for people: `batch 2`.
    pub sizes: String,
    /// Computing operations in order; initialisation and lifetimes are left out.
    pub operations: Vec<OperationIr>,
    /// Tensors that had values before the pass: inputs, parameters and constants.
    pub values: BTreeMap<TensorId, Rc<TensorData>>,
    /// Names of the parameters among them.
    pub parameters: BTreeMap<TensorId, Parameter>,
    /// The inputs, in order.
    pub inputs: Vec<TensorId>,
    /// The outputs, in order; may repeat, may be inputs or constants.
    pub outputs: Vec<TensorId>,
}

/// Where a parameter lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Path of the module that owns it; empty for the root.
    pub module: String,
    /// Path of the parameter itself.
    pub path: String,
}

impl Trace {
    /// Holds parameters that `base` holds too in the same memory: a large network is there once, however often it is
    /// recorded.
    pub(crate) fn sharing(mut self, base: &Self) -> Self {
        let known = |(id, parameter): (&TensorId, &Parameter)| Some((parameter.path.clone(), base.values.get(id)?));
        let known: HashMap<String, &Rc<TensorData>> = base.parameters.iter().filter_map(known).collect();
        for (id, parameter) in &self.parameters {
            if let (Some(value), Some(known)) = (self.values.get_mut(id), known.get(&parameter.path))
                && equal(value, known)
            {
                *value = Rc::clone(known);
            }
        }
        self
    }
}

/// Whether two arrays are the same bit for bit.
pub(crate) fn equal(a: &Rc<TensorData>, b: &Rc<TensorData>) -> bool {
    Rc::ptr_eq(a, b) || (a.dtype() == b.dtype() && a.shape() == b.shape() && a.as_bytes() == b.as_bytes())
}

/// Records `forward` on `inputs`.
///
/// The module goes through `valid()`, which copies running statistics deeply: clones share them, and moving a clone to
/// the capture device would take the original's statistics along. It also leaves training behaviour and autodiff
/// behind.
pub(crate) fn record<M, I, O>(
    module: &M,
    inputs: &[TensorData],
    sizes: String,
    forward: &dyn Fn(&M, I) -> O,
) -> Result<Trace, ExportError>
where
    M: Module,
    I: Inputs,
    O: Outputs,
{
    let device = Device::capture();
    let mut names = Names::default();
    let (mut input_ids, mut output_ids) = (vec![], vec![]);
    let attempt = caught(|| {
        device.capture_scope(|scope| {
            let module = module.valid().to_device(&device);
            module.visit(&mut names);
            let inputs = I::take(&mut inputs.iter().cloned(), &device);
            input_ids = inputs.tensors().iter().filter_map(AnyTensor::recorded).collect();
            let outputs = forward(&module, inputs).tensors();
            output_ids = outputs.iter().filter_map(AnyTensor::recorded).collect();
            // Burn wants each output once and computed; repeated and trivial ones are put back when lowering.
            let mut unique: Vec<TensorId> = vec![];
            for &id in &output_ids {
                if !unique.contains(&id) && !input_ids.contains(&id) {
                    unique.push(id);
                }
            }
            scope.complete(input_ids.clone(), unique)
        })
    });
    let captured = attempt
        .map_err(|message| ExportError::Trace { sizes: sizes.clone(), message })?
        .map_err(|cause| ExportError::Capture { cause: cause.to_string() })?;
    let computes = |operation: &OperationIr| !matches!(operation, OperationIr::Init(_) | OperationIr::Drop(_));
    let operations = captured.graph.operations.into_iter().filter(computes).collect();
    Ok(Trace {
        sizes,
        operations: linear::join(operations, &output_ids),
        values: captured.values.into_iter().map(|(id, data)| (id, Rc::new(data))).collect(),
        parameters: names.found,
        inputs: captured.graph.inputs,
        outputs: output_ids,
    })
}

/// Collects parameter names. The variant of an enum is no part of the path: `Model::LmbnN` holds `backbone`, not
/// `LmbnN.backbone`, as people wrote it.
#[derive(Default)]
struct Names {
    path: Vec<Option<String>>,
    found: BTreeMap<TensorId, Parameter>,
}

impl Names {
    fn insert(&mut self, id: Option<TensorId>) {
        let Some(id) = id else { return };
        let parts: Vec<&str> = self.path.iter().flatten().map(String::as_str).collect();
        let module = parts[..parts.len().saturating_sub(1)].join(".");
        // A parameter that is shared keeps its first name.
        self.found.entry(id).or_insert(Parameter { module, path: parts.join(".") });
    }
}

impl ModuleVisitor for Names {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.insert(param.val().try_into_primitive::<CaptureBackend>().ok().map(|tensor| tensor.id()));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.insert(param.val().try_into_primitive::<CaptureBackend>().ok().map(|tensor| tensor.id()));
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.insert(param.val().try_into_primitive::<CaptureBackend>().ok().map(|tensor| tensor.id()));
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((!container_type.starts_with("Enum")).then(|| name.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}
