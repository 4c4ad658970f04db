//! Random numbers that are the same on every platform and in every version: training resumes bit for bit, so the rule
//! is ours and written here, not a library's to change.

use contract::fill::splitmix64;

/// A generator made from keys: the same keys give the same numbers, other keys unrelated ones. Whatever is random while
/// training takes its own from `[seed, what for, epoch, …]`; there is then no state to save, and neither threads nor
/// what was drawn elsewhere matter.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator of these keys: from 0, each key is added to the state, which then goes through splitmix64.
    pub fn new(keys: &[u64]) -> Self {
        Self { state: keys.iter().fold(0, |state, key| splitmix64(state.wrapping_add(*key))) }
    }

    /// 64 random bits: splitmix64 of the state, which then advances by 2⁶⁴/φ.
    pub fn bits(&mut self) -> u64 {
        let bits = splitmix64(self.state);
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits
    }

    /// Uniform in `[0, 1)`: the upper 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform from `low` to `high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Whether an event of this probability happens: never at 0, always at 1.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `0..count`: the upper half of bits × count, drawn again where that would favour some (Lemire 2019,
    /// arXiv:1805.10941).
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "nothing to choose from");
        let count = count as u64;
        let unfair = count.wrapping_neg() % count;
        loop {
            let product = u128::from(self.bits()) * u128::from(count);
            if product as u64 >= unfair {
                return (product >> 64) as usize;
            }
        }
    }

    /// Puts the items in a uniformly random order: from the last place down, each changes places with one not after it
    /// (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A step of a training. With the run's seed it decides everything random in that step, so a resumed run draws what the
/// uninterrupted one would have drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Batch of the epoch, from 0.
    pub batch: usize,
}

impl Step {
    /// Keys of a generator for this step. `stream` keeps what draws apart from everything else with the same seed.
    pub fn keys(self, stream: u64, seed: u64) -> [u64; 4] {
        [stream, seed, self.epoch as u64, self.batch as u64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of these numbers would make every stored run end differently.
    #[test]
    fn the_rule_is_fixed() {
        // The published test vector of splitmix64 with seed 0.
        assert_eq!(Rng { state: 0 }.bits(), 0xe220_a839_7b1d_cdaf);
        let mut rng = Rng { state: 0 };
        assert_eq!([rng.bits(), rng.bits()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        assert_eq!(Rng::new(&[0]).bits(), splitmix64(splitmix64(0)));
    }

    #[test]
    fn keys_matter_in_number_and_order() {
        let first = |keys: &[u64]| Rng::new(keys).bits();
        let all = [first(&[]), first(&[0]), first(&[0, 0]), first(&[1]), first(&[0, 1]), first(&[1, 0])];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn draws_are_uniform() {
        let mut rng = Rng::new(&[7]);
        let mut counts = [0_usize; 6];
        (0..60_000).for_each(|_| counts[rng.below(6)] += 1);
        // Standard deviation 91; five of them.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 460), "{counts:?}");
        let mean = (0..60_000).map(|_| rng.uniform(-1.0, 3.0)).sum::<f64>() / 60_000.0;
        assert!((mean - 1.0).abs() < 0.025, "{mean}");
        assert!((0..1_000).all(|_| rng.happens(1.0) && !rng.happens(0.0)));
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for draw in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            Rng::new(&[3, draw]).shuffle(&mut items);
            *counts.entry(items).or_insert(0_usize) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| count.abs_diff(1_000) < 160), "{counts:?}");
    }
}
