//! Environment variables that must be set before ONNX Runtime is loaded, for every program that this crate is linked
//! into and whatever the user's environment says.
//!
//! Telemetry is off. The wheels of 1.31 send a device id, the program's path, the system, CPU and memory to their maker
//! at every start, and leave two files in the home folder; `DisableTelemetryEvents` comes after that. The variable is
//! read when the library is loaded (microsoft/onnxruntime, pull request 27379). These programs handle faces.
//!
//! TensorFloat-32 is off. TensorRT uses it by default and ONNX Runtime has no option against it (its issue 26029);
//! embeddings would differ in the third digit from those of the same model on a CPU, under the same contract id.
//! NVIDIA's libraries read the variable when they are loaded.
//!
//! A library that is loaded into a running program, as the Python module is, comes too late to set them here if that
//! program has threads already: then the one who loads it sets them, by the means of its own language.

/// Variables and their values.
pub const VARIABLES: [(&str, &str); 2] = [("ORT_DISABLE_TELEMETRY", "1"), (TF32, "0")];

/// NVIDIA's switch for TensorFloat-32 in all its libraries.
pub(crate) const TF32: &str = "NVIDIA_TF32_OVERRIDE";

// Attributes do not reach through the macro, so the line that needs one has a function of its own.
#[ctor::ctor(unsafe)]
fn before_main() {
    if is_alone() {
        set();
    }
}

/// Whether the process has one thread: always in a program, which has not begun yet. Where the system does not tell
/// (another than Linux, or without /proc), this is taken to be a program.
fn is_alone() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |threads| threads.take(2).count() < 2)
}

#[expect(unsafe_code, reason = "changing the environment is unsound only while another thread may read it")]
fn set() {
    for (name, value) in VARIABLES {
        // SAFETY: called by `before_main` alone, when the process has one thread: nobody else can read the environment.
        unsafe { std::env::set_var(name, value) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn telemetry_and_tensor_float_32_are_off_before_main() {
        for (name, value) in super::VARIABLES {
            assert_eq!(std::env::var(name).as_deref(), Ok(value));
        }
        assert!(!crate::tf32());
    }
}
