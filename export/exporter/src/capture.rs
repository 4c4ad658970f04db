//! One forward pass on Burn's capture device: its operations, constants and parameter names.

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

/// One recorded forward pass, at one size of every symbol.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// Sizes as text for messages: `batch 2`.
    pub sizes: String,
    /// Operations that compute something, in order. Initialisation and lifetimes are left out.
    pub operations: Vec<OperationIr>,
    /// Tensors that had values before the pass: inputs, parameters and constants.
    pub values: BTreeMap<TensorId, Rc<TensorData>>,
    /// Names of the parameters among `values`.
    pub parameters: BTreeMap<TensorId, Parameter>,
    /// The inputs, in order.
    pub inputs: Vec<TensorId>,
    /// The outputs, in order. One may repeat, or be an input or a constant.
    pub outputs: Vec<TensorId>,
}

/// Where a parameter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Path of the module that owns it; empty for the root.
    pub module: String,
    /// Path of the parameter itself.
    pub path: String,
}

impl Trace {
    /// Shares the memory of parameters that `base` holds too, so that recording a large network several times keeps
    /// one copy of its weights.
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
/// The module goes through `valid()`, which copies running statistics. Clones share them, so moving a mere clone to
/// the capture device would move the original's statistics too. `valid()` also leaves training behaviour and autodiff
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
            // Burn accepts each output once, and only computed ones. Repeated and trivial outputs come back when
            // lowering.
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

/// Collects parameter names. The variant of an enum is left out of the path, as in the source code: `Model::LmbnN`
/// holds `backbone`, not `LmbnN.backbone`.
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
        // A shared parameter keeps its first name.
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
