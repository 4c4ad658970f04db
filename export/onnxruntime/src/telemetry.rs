//! ONNX Runtime's telemetry is off before the library is loaded.
//!
//! The wheels of 1.31 send a device id, the program's path, the system, CPU and memory to their maker at every start,
//! and leave two files in the home folder; `DisableTelemetryEvents` comes after that. The environment variable is
//! read when the library is loaded (microsoft/onnxruntime, pull request 27379). It is set for every program that this
//! crate is linked into, whatever the user's environment says: it handles faces.

/// Read by ONNX Runtime while it is loaded.
const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

// Attributes do not reach through the macro, so the line that needs one has a function of its own.
#[ctor::ctor(unsafe)]
fn before_main() {
    disable();
}

#[expect(unsafe_code, reason = "changing the environment is unsound only while another thread may read it")]
fn disable() {
    // SAFETY: called by `before_main` alone, when the process has one thread: nobody else can read the environment.
    unsafe { std::env::set_var(VARIABLE, "1") };
}

#[cfg(test)]
mod tests {
    #[test]
    fn telemetry_is_off_before_main() {
        assert_eq!(std::env::var(super::VARIABLE).as_deref(), Ok("1"));
    }
}
