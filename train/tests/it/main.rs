//! Tests of the training half that need fixtures, whole networks or the program.

mod adam;
mod controlnet;
mod controlnet_runs;
mod face_sets;
mod lmbn_n;
mod palmvein;
mod palmvein_runs;
mod refusals;
mod reid_networks;
mod runs;
mod senet;
mod senet_runs;
mod support;
mod weights;
