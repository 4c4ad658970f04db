//! A recording, computed operation by operation on the CPU: what Burn has between a network's inputs and its outputs.

use std::rc::Rc;

use burn::backend::flex::{Flex, FlexDevice};
use burn::backend::ir::{OperationIr, TensorStatus};
use burn::tensor::{TensorData, read_sync};
use burn_router::TensorInterpreter;

use crate::capture::Trace;

/// A recording being computed.
pub(crate) struct Replay {
    interpreter: TensorInterpreter<Flex>,
    operations: Vec<OperationIr>,
    done: usize,
}

impl Replay {
    /// Starts with what had values before the pass: inputs, parameters and constants.
    pub(crate) fn new(trace: Trace) -> Self {
        let mut interpreter = TensorInterpreter::new(FlexDevice);
        for (id, data) in trace.values {
            interpreter.register_tensor_data_id(id, Rc::unwrap_or_clone(data));
        }
        Self { interpreter, operations: trace.operations, done: 0 }
    }

    /// Computes up to operation `index` and gives its output number `output`; `None` if it has none, or if a later
    /// operation was computed already.
    pub(crate) fn output(&mut self, index: usize, output: usize) -> Option<TensorData> {
        while self.done <= index {
            self.interpreter.register_op(self.operations.get(self.done)?.clone());
            self.done += 1;
        }
        if self.done != index + 1 {
            return None;
        }
        let mut tensor = self.operations[index].outputs().nth(output)?.clone();
        // Reading must leave it to the operations that follow.
        tensor.status = TensorStatus::ReadOnly;
        read_sync(self.interpreter.read_tensor_async(tensor)).ok()
    }
}
