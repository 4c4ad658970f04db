//! Parts of a face set by person, the same as Python's: names shuffled by `random.Random(seed).shuffle`.

use std::fmt;

/// Python's `random.Random`: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded by `init_by_array`.
#[derive(Debug, Clone)]
pub struct PythonRandom {
    state: [u32; WORDS],
    /// Words of the state given out since it was last renewed.
    used: usize,
}

const WORDS: usize = 624;

impl PythonRandom {
    /// As `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        // Python takes the seed's 32-bit words, lowest first, and at least one of them.
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key = if high == 0 { vec![low] } else { vec![low, high] };
        let mut state = [0_u32; WORDS];
        state[0] = 19_650_218;
        let mixed = |state: &[u32; WORDS], at: usize, factor: u32| {
            let before = state[at - 1];
            state[at] ^ (before ^ before >> 30).wrapping_mul(factor)
        };
        for at in 1..WORDS {
            let before = state[at - 1];
            state[at] = (before ^ before >> 30).wrapping_mul(1_812_433_253).wrapping_add(at as u32);
        }
        let next = |state: &mut [u32; WORDS], at: &mut usize| {
            *at += 1;
            if *at >= WORDS {
                state[0] = state[WORDS - 1];
                *at = 1;
            }
        };
        let mut at = 1;
        for round in 0..WORDS.max(key.len()) {
            let word = round % key.len();
            state[at] = mixed(&state, at, 1_664_525).wrapping_add(key[word]).wrapping_add(word as u32);
            next(&mut state, &mut at);
        }
        for _ in 1..WORDS {
            state[at] = mixed(&state, at, 1_566_083_941).wrapping_sub(at as u32);
            next(&mut state, &mut at);
        }
        state[0] = 0x8000_0000;
        Self { state, used: WORDS }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == WORDS {
            for at in 0..WORDS {
                let joined = self.state[at] & 0x8000_0000 | self.state[(at + 1) % WORDS] & 0x7fff_ffff;
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[at] = self.state[(at + 397) % WORDS] ^ joined >> 1 ^ twist;
            }
            self.used = 0;
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// Uniform in `0..count`: the top bits of a word, drawn again until they are below `count`.
    ///
    /// # Panics
    /// If `count` is 0 or does not fit 32 bits.
    pub fn below(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).expect("as many things as 32 bits count");
        assert!(count > 0, "nothing to choose from");
        loop {
            let drawn = self.bits() >> count.leading_zeros();
            if drawn < count {
                return drawn as usize;
            }
        }
    }

    /// As Python's `shuffle`: from the last place down, each changes places with one not after it.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Which people and which samples train, validate and test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// People of each part, in shuffled order.
    pub people: [Vec<usize>; 3],
    /// Samples of each part.
    pub samples: [Vec<usize>; 3],
}

/// A part of a split has no sample.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "nobody is left to {part}: of {people} people {train} train and {validation} validate, rounded down; more people \
     are needed, or other --train-ratio and --val-ratio"
)]
pub struct EmptyPart {
    /// What they would do.
    pub part: &'static str,
    /// Everybody.
    pub people: usize,
    /// Share that trains.
    pub train: f64,
    /// Share that validates.
    pub validation: f64,
}

impl Split {
    /// Whether every part has a sample; `train` and `validation` are the shares it was made with.
    ///
    /// # Errors
    /// The first part that has none.
    pub fn check(&self, [train, validation]: [f64; 2]) -> Result<(), EmptyPart> {
        let people = self.people.iter().map(Vec::len).sum();
        let parts = ["train", "validate", "test"].into_iter().zip(&self.samples);
        match parts.into_iter().find(|(_, samples)| samples.is_empty()) {
            Some((part, _)) => Err(EmptyPart { part, people, train, validation }),
            None => Ok(()),
        }
    }
}

/// The sizes of the parts, for people.
impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, validation, test] = self.samples.each_ref().map(Vec::len);
        let people = self.people.each_ref().map(Vec::len);
        let [learn, choose, rest] = people;
        write!(f, "{} people, {train} train, {validation} validate, {test} test", people.iter().sum::<usize>())?;
        write!(f, " ({learn} / {choose} / {rest} people)")
    }
}

/// The order of a part's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Shuffled, part after part, by the generator that shuffled the people.
    Shuffled,
    /// As in the data set.
    Dataset,
}

/// Splits by person: `of_person` holds the samples of each. The first ⌊`train`·P⌋ of the shuffled people train, the
/// next ⌊`validation`·P⌋ validate, the rest test. A part may be empty.
pub fn by_person(of_person: &[Vec<usize>], [train, validation]: [f64; 2], seed: u64, order: Order) -> Split {
    let mut random = PythonRandom::new(seed);
    let mut people: Vec<usize> = (0..of_person.len()).collect();
    random.shuffle(&mut people);
    let share = |ratio: f64| (ratio * people.len() as f64).floor() as usize;
    let first = share(train).min(people.len());
    let second = (first + share(validation)).min(people.len());
    let people = [people[..first].to_vec(), people[first..second].to_vec(), people[second..].to_vec()];
    let samples = people.clone().map(|people| {
        let mut samples: Vec<usize> = people.iter().flat_map(|person| of_person[*person].iter().copied()).collect();
        match order {
            Order::Shuffled => random.shuffle(&mut samples),
            Order::Dataset => samples.sort_unstable(),
        }
        samples
    });
    Split { people, samples }
}

#[cfg(test)]
mod tests {
    use fixtures::Golden;
    use serde_json::Value;

    use super::*;

    fn numbers(value: &Value) -> Vec<usize> {
        value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
    }

    #[test]
    fn generator_and_splits_are_pythons() {
        let golden = Golden::load("senet").unwrap();
        let json = golden.json();
        let mut random = PythonRandom::new(42);
        let words: Vec<usize> = (0..4).map(|_| random.bits() as usize).collect();
        assert_eq!(words, numbers(&json["mt19937_seed_42_first_32_bit_words"]));
        for case in json["split_60_30_10"].as_array().unwrap() {
            let number = |key: &str| case[key].as_u64().unwrap() as usize;
            let each = number("samples_each");
            let of_person: Vec<Vec<usize>> =
                (0..number("persons")).map(|p| (p * each..(p + 1) * each).collect()).collect();
            let split = by_person(&of_person, [0.6, 0.3], 42, Order::Shuffled);
            assert_eq!(split.people.concat(), numbers(&case["order"]));
            for (part, name) in ["train", "val", "test"].iter().enumerate() {
                assert_eq!(split.people[part], numbers(&case[format!("{name}_persons")]));
                assert_eq!(split.samples[part], numbers(&case[format!("{name}_indices")]));
            }
            let ordered = by_person(&of_person, [0.6, 0.3], 42, Order::Dataset);
            assert_eq!(ordered.people, split.people);
            assert!(ordered.samples.iter().all(|samples| samples.is_sorted()));
        }
    }

    /// `random.Random(2**40 + 3).getrandbits(32)` in Python 3: a seed of two words.
    #[test]
    fn wide_seeds_are_pythons() {
        assert_eq!(PythonRandom::new((1 << 40) + 3).bits(), WIDE);
    }

    #[test]
    fn parts_may_be_empty_and_never_overlap() {
        let of_person = vec![vec![0], vec![1]];
        let split = by_person(&of_person, [0.6, 0.3], 42, Order::Shuffled);
        assert_eq!(split.people.each_ref().map(Vec::len), [1, 0, 1]);
        assert_eq!(split.to_string(), "2 people, 1 train, 0 validate, 1 test (1 / 0 / 1 people)");
        let empty = split.check([0.6, 0.3]).unwrap_err();
        assert!(empty.to_string().starts_with("nobody is left to validate: of 2 people 0.6 train"), "{empty}");
        let all = by_person(&of_person, [1.0, 1.0], 42, Order::Shuffled);
        assert_eq!(all.people.each_ref().map(Vec::len), [2, 0, 0]);
    }

    const WIDE: u32 = 943_978_446;
}
