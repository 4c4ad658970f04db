//! Panics of modules while they are recorded or computed: caught with their message, and kept silent where
//! expected.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// What `work` returns, or the message of its panic.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "it panicked without a message".into())
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that the exporter expects and catches off stderr, from now on and for the whole process.
///
/// The exporter tries whether a module accepts odd sizes; one that does not panics. Rust's panic hook, which
/// belongs to the program and not to a library, prints the panic before it can be caught. This function wraps the
/// installed hook once; all other panics reach it as before.
pub fn hide_expected_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
}

/// Runs `work`, whose panics on this thread are expected and not printed.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            QUIET.set(self.0);
        }
    }
    let _before = Before(QUIET.replace(true));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_escapes_leaves_nothing_quiet() {
        let escaped = caught(|| quietly(|| panic!("{} is refused", 7)));
        assert_eq!(escaped, Err::<(), _>("7 is refused".into()));
        assert!(!QUIET.get());
        quietly(|| {
            quietly(|| ());
            assert!(QUIET.get(), "the outer call still holds");
        });
        assert!(!QUIET.get());
    }

    #[test]
    fn messages_of_every_kind_are_kept() {
        assert_eq!(caught(|| quietly(|| panic!("plain"))), Err::<(), _>("plain".into()));
        let odd = caught(|| quietly(|| std::panic::panic_any(3)));
        assert!(odd.unwrap_err().contains("without a message"));
        assert_eq!(caught(|| 3), Ok(3));
    }
}
