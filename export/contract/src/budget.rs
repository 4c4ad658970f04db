//! Memory that several threads share: who would take more than is left waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A number of bytes, given out in parts.
pub(crate) struct Budget {
    state: Mutex<State>,
    changed: Condvar,
    bytes: u64,
}

struct State {
    left: u64,
    /// Numbers of those who wait, in the order they came: small parts do not overtake a large one for ever.
    next: u64,
    turn: u64,
}

/// A part of a [`Budget`]; goes back when dropped.
pub(crate) struct Held<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(crate) const fn new(bytes: u64) -> Self {
        let state = State { left: bytes, next: 0, turn: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part, once it is left. What is larger than the whole takes the whole, and so is alone.
    ///
    /// Who holds a part must not take another: two could wait for each other. See [`Held::grow`].
    pub(crate) fn take(&self, bytes: u64) -> Held<'_> {
        let bytes = bytes.min(self.bytes);
        let mut state = self.lock();
        let mine = state.next;
        state.next += 1;
        while state.turn != mine || state.left < bytes {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.turn += 1;
        state.left -= bytes;
        drop(state);
        self.changed.notify_all();
        Held { budget: self, bytes }
    }
}

impl Held<'_> {
    /// Makes the part at least as large as `bytes`, if that much is left now; it never waits.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.min(self.budget.bytes).saturating_sub(self.bytes);
        let mut state = self.budget.lock();
        let fits = more <= state.left;
        if fits {
            state.left -= more;
            self.bytes += more;
        }
        fits
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.lock().left += self.bytes;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn no_more_than_the_whole_is_out_whoever_asks() {
        let (budget, out, most) = (Budget::new(100), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (budget, out, most) = (&budget, &out, &most);
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = (thread * 37 + round * 11) % 130;
                        let mut held = budget.take(bytes / 2);
                        if !held.grow(bytes) {
                            drop(held);
                            held = budget.take(bytes);
                        }
                        assert_eq!(held.bytes, bytes.min(100));
                        most.fetch_max(out.fetch_add(held.bytes, Ordering::SeqCst) + held.bytes, Ordering::SeqCst);
                        std::thread::yield_now();
                        out.fetch_sub(held.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=100).contains(&most.into_inner()));
        assert_eq!(budget.lock().left, 100);
    }

    #[test]
    fn a_part_grows_only_into_what_is_left() {
        let budget = Budget::new(100);
        let (mut one, other) = (budget.take(30), budget.take(50));
        assert!(one.grow(50) && !one.grow(51) && one.grow(10));
        drop(other);
        assert!(one.grow(u64::MAX));
        assert_eq!((one.bytes, budget.lock().left), (100, 0));
    }

    /// Whoever comes later, however small, does not overtake.
    #[test]
    fn a_large_part_gets_its_turn() {
        let budget = Budget::new(100);
        let order = Mutex::new(Vec::new());
        let first = budget.take(60);
        std::thread::scope(|scope| {
            let wait = |number: u64| {
                while budget.lock().next < number {
                    std::thread::yield_now()
                }
            };
            for (number, bytes) in [(1, 90), (2, 20), (3, 20)] {
                wait(number);
                let (budget, order) = (&budget, &order);
                scope.spawn(move || {
                    let held = budget.take(bytes);
                    order.lock().unwrap().push(bytes);
                    drop(held);
                });
            }
            wait(4);
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap()[0], 90);
    }
}
