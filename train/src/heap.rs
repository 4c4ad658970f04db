//! Memory that a step has freed stays with the program for the next one.
//!
//! glibc maps each large block from the system and gives it back when it is freed, so that every step touches its
//! gigabytes as new pages: a fifth of the processor time of an OSNet step (docs/benchmarks.md). Its own settings end
//! that, at the same peak of memory; they are read from the environment when a program starts.

/// Starts the program again with those settings, in the same process, unless one of them is given already. Where that
/// cannot be done the program goes on as it is, only slower.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep() {
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// Never map a block by itself, never give the end of the heap back, and let it grow in steps of 256 MiB. The
    /// number of mapped blocks, not their threshold: glibc before 2.35 refuses a threshold above 32 MiB, and the
    /// other two settings would then only switch off its own adaptive one.
    const SETTINGS: [(&str, &str); 3] =
        [("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "1099511627776"), ("MALLOC_TOP_PAD_", "268435456")];
    let given = SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some());
    let mut arguments = env::args_os();
    if let (false, Ok(program), Some(name)) = (given, env::current_exe(), arguments.next()) {
        // Returns only if it failed.
        let _ = Command::new(program).arg0(name).args(arguments).envs(SETTINGS).exec();
    }
}

/// Other systems keep freed memory by themselves, or cannot be told to.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep() {}
