//! An LSTM and a GRU as `burn-nn` composes them: unrolled, gate by gate.

use burn::module::Module;
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::{BiLstm, BiLstmConfig, Linear, LinearConfig, Lstm, LstmConfig};
use burn::tensor::{Device, Tensor};

use crate::filled;

#[derive(Module, Debug)]
pub struct Recurrent {
    lstm: Lstm,
    both: BiLstm,
    gru: Gru,
    head: Linear,
}

impl Recurrent {
    pub fn new() -> Self {
        let device = Device::flex();
        filled(Self {
            lstm: LstmConfig::new(6, 8, true).init(&device),
            both: BiLstmConfig::new(8, 5, true).init(&device),
            gru: GruConfig::new(10, 7, true).init(&device),
            head: LinearConfig::new(7, 3).init(&device),
        })
    }

    pub fn lstm(&self, sequence: Tensor<3>) -> (Tensor<3>, Tensor<2>, Tensor<2>) {
        let (hidden, state) = self.lstm.forward(sequence, None);
        (hidden, state.cell, state.hidden)
    }

    pub fn all(&self, sequence: Tensor<3>) -> Tensor<3> {
        let (hidden, _) = self.lstm.forward(sequence, None);
        let (hidden, _) = self.both.forward(hidden, None);
        self.head.forward(self.gru.forward(hidden, None))
    }
}

#[cfg(test)]
mod tests {
    use contract::Axis;
    use export::{ExportError, Exporter};

    use super::Recurrent;
    use crate::batch_of;
    use crate::networks::agrees::agrees;

    #[test]
    fn lstm() {
        let exporter = Exporter::new("lstm").input("sequence", batch_of(&[5, 6]));
        agrees(&exporter.output("hidden").output("cell").output("last"), &Recurrent::new(), Recurrent::lstm);
    }

    #[test]
    fn lstm_both_ways_and_gru() {
        let exporter = Exporter::new("recurrent").input("sequence", batch_of(&[4, 6])).output("answer");
        agrees(&exporter, &Recurrent::new(), Recurrent::all);
    }

    /// An unrolled network has as many operations as the sequence has steps.
    #[test]
    fn a_length_that_was_unrolled_is_not_baked() {
        let error = Exporter::new("recurrent")
            .input("sequence", [Axis::Symbol("batch".into()), Axis::Symbol("length".into()), Axis::Size(6)])
            .recorded_at("length", [3, 4, 6])
            .export(&Recurrent::new(), Recurrent::all)
            .unwrap_err();
        assert!(matches!(error, ExportError::Diverged { .. }), "{error}");
        assert!(error.to_string().contains("length 4"), "{error}");
    }
}
