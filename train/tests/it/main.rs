//! Tests of the training half that need fixtures or whole networks.

mod lmbn_n;
mod weights;
