//! Computes a trace operation by operation on the CPU, to obtain Burn's intermediate values.

use std::rc::Rc;

use burn::backend::flex::{Flex, FlexDevice};
use burn::backend::ir::{OperationIr, TensorStatus};
use burn::tensor::{TensorData, read_sync};
use burn_router::TensorInterpreter;

use crate::capture::Trace;

/// A trace while it is computed.
pub(crate) struct Replay {
    interpreter: TensorInterpreter<Flex>,
    operations: Vec<OperationIr>,
    done: usize,
}

impl Replay {
    /// Starts from the tensors that had values before the pass: inputs, parameters and constants.
    pub(crate) fn new(trace: Trace) -> Self {
        let mut interpreter = TensorInterpreter::new(FlexDevice);
        for (id, data) in trace.values {
            interpreter.register_tensor_data_id(id, Rc::unwrap_or_clone(data));
        }
        Self { interpreter, operations: trace.operations, done: 0 }
    }

    /// Computes up to operation `index` and returns its output number `output`. `None` if there is no such output,
    /// or a later operation was computed already.
    pub(crate) fn output(&mut self, index: usize, output: usize) -> Option<TensorData> {
        while self.done <= index {
            self.interpreter.register_op(self.operations.get(self.done)?.clone());
            self.done += 1;
        }
        if self.done != index + 1 {
            return None;
        }
        let mut tensor = self.operations[index].outputs().nth(output)?.clone();
        // Operations that follow must still find the tensor.
        tensor.status = TensorStatus::ReadOnly;
        read_sync(self.interpreter.read_tensor_async(tensor)).ok()
    }
}
