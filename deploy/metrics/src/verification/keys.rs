//! Similarities as integers in the same order, and sorted lists of them with fast search.

/// Number of low bits of a key that its coarse bin ignores; a bin is 1/2048 of an octave wide.
pub(super) const FINE_BITS: u32 = 12;

/// Number of coarse bins.
pub(super) const BINS: usize = 1 << (32 - FINE_BITS);

/// An integer in the order of similarities; 0 and -0 have the same key.
pub(super) fn key(similarity: f32) -> u32 {
    let bits = (similarity + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The similarity of a key.
pub(super) fn similarity(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// The coarse bin of a key.
pub(super) fn bin(key: u32) -> usize {
    (key >> FINE_BITS) as usize
}

/// Keys in ascending order, with the index where each coarse bin starts.
pub(super) struct Sorted {
    keys: Vec<u32>,
    starts: Vec<usize>,
}

impl Sorted {
    /// Takes keys in ascending order.
    pub(super) fn new(keys: Vec<u32>) -> Self {
        let mut starts = Vec::with_capacity(BINS + 1);
        let mut at = 0;
        for first in 0..=BINS {
            at += keys[at..].iter().take_while(|key| bin(**key) < first).count();
            starts.push(at);
        }
        Self { keys, starts }
    }

    /// All keys, ascending.
    pub(super) fn keys(&self) -> &[u32] {
        &self.keys
    }

    /// The keys of a coarse bin.
    pub(super) fn in_bin(&self, bin: usize) -> &[u32] {
        &self.keys[self.starts[bin]..self.starts[bin + 1]]
    }

    /// The number of keys below `key`, and of keys not above it.
    pub(super) fn rank(&self, key: u32) -> [usize; 2] {
        let start = self.starts[bin(key)];
        let near = self.in_bin(bin(key));
        let below = near.partition_point(|other| *other < key);
        let equal = near[below..].partition_point(|other| *other == key);
        [start + below, start + below + equal]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_similarities_do_and_come_back() {
        let values = [-2.0, -1.0, -0.5, -1e-30, 0.0, 1e-30, 0.25, 0.5, 0.500_000_06, 1.0, 3.0];
        for pair in values.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
        for value in values {
            assert_eq!(similarity(key(value)).to_bits(), value.to_bits());
        }
        assert_eq!(key(-0.0), key(0.0));
    }

    #[test]
    fn ranks_are_those_of_a_plain_count() {
        let mut keys: Vec<u32> = [0.5, 0.5, -0.25, 0.500_01, 1.0, 1.0, 1.0, 0.0].map(key).to_vec();
        keys.sort_unstable();
        let sorted = Sorted::new(keys.clone());
        for value in [-1.0, -0.25, 0.0, 0.4, 0.5, 0.500_005, 1.0, 1.5] {
            let below = keys.iter().filter(|other| **other < key(value)).count();
            let upto = keys.iter().filter(|other| **other <= key(value)).count();
            assert_eq!(sorted.rank(key(value)), [below, upto], "{value}");
        }
    }
}
