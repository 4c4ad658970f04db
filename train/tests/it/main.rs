//! Tests of the training half that need fixtures, whole networks or the program.

mod bad_input;
mod controlnet_runs;
mod face_sets;
mod golden;
mod initial_weights;
mod networks;
mod own_data;
mod palmvein_runs;
mod preview;
mod recipes;
mod reference_lines;
mod refusals;
mod resume;
mod runs;
mod senet_runs;
mod starts;
mod support;
mod weights;
