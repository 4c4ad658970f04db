//! Parallel work with results in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::DeployError;

/// Results of a lane that may wait in its channel; with the one it is sending, a lane is at most three ahead.
const WAITING: usize = 2;

/// Does `work` for 0 to `count` on `lanes` threads and hands the results to `sink` in that order. Each lane has a
/// `state` of its own.
///
/// The order is by construction: lane `i` does `i`, `i + lanes`, and so on, and sends its results to a channel of its
/// own, which blocks when the lane is far enough ahead.
///
/// # Errors
/// The first error of `work` or `sink`, in order; the lanes then stop. A panic in `work` is an error.
pub(super) fn in_order<S, T: Send>(
    count: usize,
    lanes: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T, DeployError> + Sync,
    mut sink: impl FnMut(usize, T) -> Result<(), DeployError>,
) -> Result<(), DeployError> {
    let lanes = lanes.min(count).max(1);
    std::thread::scope(|scope| {
        let (state, work) = (&state, &work);
        let start = |lane: usize| -> Receiver<Result<T, DeployError>> {
            let (results, waiting) = sync_channel(WAITING);
            scope.spawn(move || {
                let mut state = state();
                for at in (lane..count).step_by(lanes) {
                    let done = catch_unwind(AssertUnwindSafe(|| work(&mut state, at)));
                    let done = done.unwrap_or_else(|panic| Err(DeployError::Panicked { message: message(&*panic) }));
                    let failed = done.is_err();
                    // After an error nobody receives results.
                    if results.send(done).is_err() || failed {
                        return;
                    }
                }
            });
            waiting
        };
        let waiting: Vec<_> = (0..lanes).map(start).collect();
        for at in 0..count {
            let done = waiting[at % lanes]
                .recv()
                .unwrap_or_else(|_| Err(DeployError::Panicked { message: "a thread ended without a result".into() }));
            sink(at, done?)?;
        }
        Ok(())
    })
}

/// Message of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_whichever_lane_is_slow() {
        for (count, lanes) in [(0, 3), (1, 8), (50, 1), (50, 4), (50, 64)] {
            let slow =
                |at: usize| std::thread::sleep(Duration::from_micros(if at.is_multiple_of(3) { 300 } else { 0 }));
            let mut found = Vec::new();
            let work = |own: &mut usize, at: usize| {
                slow(at);
                *own += 1;
                Ok((at * at, *own))
            };
            let sink = |at, (square, own)| {
                assert_eq!((square, own), (at * at, at / lanes.min(count) + 1), "each lane keeps its own state");
                found.push(at);
                Ok(())
            };
            in_order(count, lanes, || 0, work, sink).unwrap();
            assert!(found.into_iter().eq(0..count));
        }
    }

    #[test]
    fn no_lane_runs_far_ahead() {
        let (begun, lanes) = (AtomicUsize::new(0), 3);
        let work = |(): &mut (), _: usize| Ok(begun.fetch_add(1, Ordering::SeqCst));
        let sink = |at: usize, _| {
            std::thread::sleep(Duration::from_micros(500));
            // What waits, what a lane holds and cannot send, and what is taken.
            let most = at + 1 + lanes * (WAITING + 1);
            assert!(begun.load(Ordering::SeqCst) <= most, "{} begun at {at}", begun.load(Ordering::SeqCst));
            Ok(())
        };
        in_order(40, lanes, || (), work, sink).unwrap();
    }

    #[test]
    fn errors_and_panics_end_all_lanes() {
        let error = || DeployError::NoPictures;
        for lanes in [1, 3, 8] {
            let begun = AtomicUsize::new(0);
            let run = |fails: &(dyn Fn(usize) -> Result<(), DeployError> + Sync), sink_fails: usize| {
                begun.store(0, Ordering::SeqCst);
                let work = |(): &mut (), at: usize| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    fails(at)
                };
                let mut taken = Vec::new();
                let sink = |at: usize, ()| {
                    taken.push(at);
                    if at == sink_fails { Err(error()) } else { Ok(()) }
                };
                let ended = in_order(1000, lanes, || (), work, sink).unwrap_err();
                assert!(begun.load(Ordering::SeqCst) < 1000);
                (ended, taken)
            };
            let (ended, taken) = run(&|at| if at == 20 { Err(error()) } else { Ok(()) }, 1000);
            assert!(matches!(ended, DeployError::NoPictures) && taken.into_iter().eq(0..20));
            let (ended, taken) = run(&|at| if at == 20 { panic!("picture {at}") } else { Ok(()) }, 1000);
            assert!(ended.to_string().contains("picture 20") && taken.into_iter().eq(0..20), "{ended}");
            let (ended, taken) = run(&|_| Ok(()), 7);
            assert!(matches!(ended, DeployError::NoPictures) && taken.into_iter().eq(0..=7));
        }
    }
}
