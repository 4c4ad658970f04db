//! Parallel work with results in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::DeployError;

/// Results of a lane that may wait in its channel; with the one it is sending, a lane is at most three ahead.
const WAITING: usize = 2;

/// Does `work` for what comes from `source` on `lanes` threads, and hands the results to `sink` in the source's order.
/// Each lane has a `state` of its own. The source is asked on a thread of its own, at most one piece a lane ahead.
///
/// The order is by construction: lane `i` does the pieces `i`, `i + lanes`, and so on. It gets them from a channel of
/// its own and sends its results to another, and both block where one is far enough ahead.
///
/// # Errors
/// The first error of `source`, `work` or `sink`, in order; the lanes then stop. A panic in the first two is an error.
pub(super) fn in_order<S, I: Send, T: Send>(
    source: impl Iterator<Item = Result<I, DeployError>> + Send,
    lanes: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, I) -> Result<T, DeployError> + Sync,
    mut sink: impl FnMut(T) -> Result<(), DeployError>,
) -> Result<(), DeployError> {
    std::thread::scope(|scope| {
        let (state, work) = (&state, &work);
        type Lane<I, T> = (SyncSender<Result<I, DeployError>>, Receiver<Result<T, DeployError>>);
        let start = |_| -> Lane<I, T> {
            let (give, given) = sync_channel::<Result<I, DeployError>>(1);
            let (results, waiting) = sync_channel(WAITING);
            scope.spawn(move || {
                let mut state = state();
                for piece in given {
                    let done = piece.and_then(|piece| caught(|| work(&mut state, piece)));
                    let failed = done.is_err();
                    // After an error nobody receives results.
                    if results.send(done).is_err() || failed {
                        return;
                    }
                }
            });
            (give, waiting)
        };
        let (give, waiting): (Vec<_>, Vec<_>) = (0..lanes.max(1)).map(start).unzip();
        scope.spawn(move || {
            let mut source = source;
            for lane in give.iter().cycle() {
                let Some(piece) = caught(|| source.next().transpose()).transpose() else { return };
                let failed = piece.is_err();
                // After an error nobody wants more.
                if lane.send(piece).is_err() || failed {
                    return;
                }
            }
        });
        for lane in waiting.iter().cycle() {
            match lane.recv() {
                Ok(done) => sink(done?)?,
                // The lane has nothing more to do, and so has none.
                Err(_) => break,
            }
        }
        Ok(())
    })
}

/// The result of a call; an error if it panics.
fn caught<T>(call: impl FnOnce() -> Result<T, DeployError>) -> Result<T, DeployError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(DeployError::Panicked { message: message(&*panic) }))
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

    /// Numbers from 0.
    fn numbers(count: usize) -> impl Iterator<Item = Result<usize, DeployError>> {
        (0..count).map(Ok)
    }

    #[test]
    fn results_come_in_order_whichever_lane_is_slow() {
        for (count, lanes) in [(0, 3), (1, 8), (50, 1), (50, 4), (50, 64)] {
            let slow =
                |at: usize| std::thread::sleep(Duration::from_micros(if at.is_multiple_of(3) { 300 } else { 0 }));
            let mut found = Vec::new();
            let work = |own: &mut usize, at: usize| {
                slow(at);
                *own += 1;
                Ok((at, *own))
            };
            let sink = |(at, own)| {
                assert_eq!(own, at / lanes + 1, "each lane keeps its own state");
                found.push(at);
                Ok(())
            };
            in_order(numbers(count), lanes, || 0, work, sink).unwrap();
            assert!(found.into_iter().eq(0..count));
        }
    }

    #[test]
    fn neither_lanes_nor_source_run_far_ahead() {
        let (asked, begun, lanes) = (AtomicUsize::new(0), AtomicUsize::new(0), 3);
        let source = numbers(40).inspect(|_| _ = asked.fetch_add(1, Ordering::SeqCst));
        let work = |(): &mut (), at: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            Ok(at)
        };
        let sink = |at: usize| {
            std::thread::sleep(Duration::from_micros(500));
            // What waits, what a lane holds and cannot send, and what is taken.
            let most = at + 1 + lanes * (WAITING + 1);
            assert!(begun.load(Ordering::SeqCst) <= most, "{} begun at {at}", begun.load(Ordering::SeqCst));
            // And one that waits for each lane, and one that is being sent.
            assert!(asked.load(Ordering::SeqCst) <= most + lanes + 1, "{} at {at}", asked.load(Ordering::SeqCst));
            Ok(())
        };
        in_order(source, lanes, || (), work, sink).unwrap();
    }

    #[test]
    fn errors_and_panics_end_all_lanes() {
        let error = || DeployError::NoPictures;
        for lanes in [1, 3, 8] {
            let begun = AtomicUsize::new(0);
            type Fails<'a> = &'a (dyn Fn(usize) -> Result<(), DeployError> + Sync);
            let run = |source: Fails, fails: Fails, sink_fails: usize| {
                begun.store(0, Ordering::SeqCst);
                let work = |(): &mut (), at: usize| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    fails(at).map(|()| at)
                };
                let mut taken = Vec::new();
                let sink = |at: usize| {
                    taken.push(at);
                    if at == sink_fails { Err(error()) } else { Ok(()) }
                };
                let source = (0..1000).map(|at| source(at).map(|()| at));
                let ended = in_order(source, lanes, || (), work, sink).unwrap_err();
                assert!(begun.load(Ordering::SeqCst) < 1000);
                (ended, taken)
            };
            let at_20: Fails = &|at| if at == 20 { Err(error()) } else { Ok(()) };
            let panics: Fails = &|at| if at == 20 { panic!("picture {at}") } else { Ok(()) };
            let never: Fails = &|_| Ok(());
            for (source, work) in [(at_20, never), (never, at_20)] {
                let (ended, taken) = run(source, work, 1000);
                assert!(matches!(ended, DeployError::NoPictures) && taken.into_iter().eq(0..20));
            }
            for (source, work) in [(panics, never), (never, panics)] {
                let (ended, taken) = run(source, work, 1000);
                assert!(ended.to_string().contains("picture 20") && taken.into_iter().eq(0..20), "{ended}");
            }
            let (ended, taken) = run(never, never, 7);
            assert!(matches!(ended, DeployError::NoPictures) && taken.into_iter().eq(0..=7));
        }
    }
}
