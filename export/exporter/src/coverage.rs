//! The sizes of dynamic axes at which a module is recorded, and those at which the model is compared.

use std::collections::BTreeSet;

use contract::Axis;

use crate::error::ExportError;

/// The sizes that a dynamic axis may take: the multiples of a number between a least and a largest size.
///
/// Recording and comparison use only these sizes, and both include the least and the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    least: usize,
    most: Option<usize>,
    multiple: usize,
}

impl Sizes {
    /// `least` and all larger sizes.
    pub fn at_least(least: usize) -> Self {
        Self { least, most: None, multiple: 1 }
    }

    /// `least` to `most`, both included.
    pub fn between(least: usize, most: usize) -> Self {
        Self { least, most: Some(most), multiple: 1 }
    }

    /// Keeps only the multiples of `number`.
    pub fn multiple_of(mut self, number: usize) -> Self {
        self.multiple = number;
        self
    }

    fn first(&self) -> usize {
        self.least.max(1).next_multiple_of(self.multiple.max(1))
    }

    fn last(&self) -> Option<usize> {
        self.most.map(|most| most / self.multiple.max(1) * self.multiple.max(1))
    }

    pub(crate) fn contains(&self, size: usize) -> bool {
        size >= self.first() && self.most.is_none_or(|most| size <= most) && size.is_multiple_of(self.multiple.max(1))
    }

    /// For each size in `wanted`, the nearest allowed size that is neither chosen yet nor in `taken`. Returns fewer
    /// if the allowed sizes run out.
    fn near(&self, wanted: impl IntoIterator<Item = usize>, taken: &[usize]) -> Vec<usize> {
        let mut chosen: Vec<usize> = vec![];
        for wanted in wanted {
            let middle =
                wanted.max(self.first()).min(self.last().unwrap_or(usize::MAX)) / self.multiple * self.multiple;
            // Sizes in the way number `taken` plus `chosen`, so one of this many steps up or down is free.
            let steps = 0..=(taken.len() + chosen.len() + 1);
            let below = |step: usize| middle.checked_sub(step * self.multiple);
            let above = |step: usize| middle.checked_add(step * self.multiple);
            let free = |size: &usize| self.contains(*size) && !taken.contains(size) && !chosen.contains(size);
            let found = steps.flat_map(|step| [below(step), above(step)]).flatten().find(free);
            chosen.extend(found);
        }
        chosen
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.most {
            Some(most) => write!(f, "{} to {most}", self.least)?,
            None => write!(f, "{} or more", self.least)?,
        }
        if self.multiple > 1 { write!(f, ", multiples of {}", self.multiple) } else { Ok(()) }
    }
}

/// The size of every symbol in one trace or run, in the order of the symbols.
pub(crate) type Assignment = Vec<usize>;

/// A symbol before anything is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub name: String,
    /// Three different sizes to record at. The first is used while other symbols change.
    pub recorded: [usize; 3],
    /// The declared sizes, if any.
    declared: Option<Sizes>,
    /// Whether the user chose [`Self::recorded`]. Undeclared sizes then stay within its range.
    given: bool,
    /// Whether it is the first axis of an input.
    batch: bool,
}

/// Sizes at which a symbol on the first axis of an input is recorded.
const BATCH_SIZES: [usize; 3] = [2, 3, 5];

/// Sizes at which other symbolic axes are recorded: multiples of 32, for networks that halve their input five
/// times.
const OTHER_SIZES: [usize; 3] = [64, 96, 160];

/// Sizes with different remainders. Their sums differ too: of any two of the first three symbols, the sum is odd in one
/// of the two joint rounds.
const ODD_SIZES: [usize; 4] = [77, 118, 93, 123];

/// As [`ODD_SIZES`], for small ranges and as factors when sizes must be multiples of a number.
const ODD_FACTORS: [usize; 4] = [7, 12, 9, 11];

/// Size to compare at where a module accepts any size; larger than every recorded size.
const LARGE_SIZE: usize = 307;

/// As [`LARGE_SIZE`], for modules that accept only multiples of 32.
const LARGE_MULTIPLE: usize = 288;

/// Batch sizes to compare at.
const COMPARED_BATCHES: [usize; 4] = [1, 2, 7, 32];

/// Fewest rows compared at every batch size.
const ROWS: usize = 8;

impl Symbol {
    /// The symbol `name`. `batch` says whether it is the first axis of an input; `declared` and `recorded` are the
    /// user's sizes, if given.
    ///
    /// # Errors
    /// [`ExportError::Sizes`] if `recorded` is not three different sizes, or `declared` allows fewer than three.
    pub(crate) fn new(
        name: &str,
        batch: bool,
        declared: Option<Sizes>,
        recorded: Option<[usize; 3]>,
    ) -> Result<Self, ExportError> {
        let refuse = |found: String, allowed: &str| {
            Err(ExportError::Sizes { symbol: name.to_owned(), found, allowed: allowed.to_owned() })
        };
        if let Some(sizes) = declared
            && (sizes.least == 0 || sizes.multiple == 0)
        {
            return refuse(sizes.to_string(), "sizes above 0, multiples of a number above 0");
        }
        let symbol = |recorded| Self { name: name.to_owned(), recorded, declared, given: false, batch };
        if let Some(recorded) = recorded {
            let different: BTreeSet<usize> = recorded.into_iter().collect();
            if different.len() < 3 || different.contains(&0) {
                return refuse(format!("{recorded:?}"), "three different sizes above 0 to record at");
            }
            if let Some(sizes) = declared
                && let Some(outside) = recorded.iter().find(|size| !sizes.contains(**size))
            {
                return refuse(format!("recorded at {outside}"), &format!("the declared sizes, {sizes}"));
            }
            return Ok(Self { given: true, ..symbol(recorded) });
        }
        let usual = if batch { BATCH_SIZES } else { OTHER_SIZES };
        let Some(sizes) = declared.filter(|sizes| !usual.iter().all(|size| sizes.contains(*size))) else {
            return Ok(symbol(usual));
        };
        let chosen = sizes.near([1, 2, 4].map(|step| sizes.first().saturating_add(step * sizes.multiple)), &[]);
        match <[usize; 3]>::try_from(chosen) {
            Ok(recorded) => Ok(symbol(recorded)),
            Err(_) => refuse(sizes.to_string(), "three sizes or more; give the axis a fixed size instead"),
        }
    }

    /// Whether any size may be asked for, because none were declared.
    fn open(&self) -> bool {
        !self.batch && self.declared.is_none() && !self.given
    }

    /// The sizes that may be asked for. An open symbol is assumed to accept any.
    fn domain(&self) -> Sizes {
        self.declared.unwrap_or_else(|| match self.given {
            true => {
                let [least, most] = [self.recorded.iter().min(), self.recorded.iter().max()].map(|size| size.copied());
                let common = self.recorded.iter().fold(0, |common, &size| gcd(common, size));
                Sizes { least: least.unwrap_or(1), most, multiple: common.max(1) }
            }
            false => Sizes::at_least(1),
        })
    }

    /// Odd sizes, which tell rounding rules apart.
    fn odd(&self) -> Vec<usize> {
        if self.open() {
            return ODD_SIZES.to_vec();
        }
        let (Some(sizes), false) = (self.declared, self.given) else { return self.recorded[1..].to_vec() };
        if ODD_SIZES.iter().all(|size| sizes.contains(*size)) && sizes.multiple == 1 && !self.batch {
            return ODD_SIZES.to_vec();
        }
        // An even number of steps keeps odd multiples odd.
        let start = (sizes.first() / sizes.multiple).saturating_sub(1) & !1;
        let found =
            sizes.near(ODD_FACTORS.map(|factor| (start + factor).saturating_mul(sizes.multiple)), &self.recorded);
        if found.is_empty() { self.recorded[1..].to_vec() } else { found }
    }

    /// Sizes to compare at, in ascending order. `seen` are the recorded ones.
    fn compared(&self, seen: &[usize]) -> Vec<usize> {
        let domain = self.domain();
        let mut sizes: BTreeSet<usize> = self.recorded.into_iter().collect();
        if self.batch && !self.given {
            sizes = domain.near(COMPARED_BATCHES, &[]).into_iter().collect();
        }
        if self.open() {
            let any = seen.iter().any(|size| ODD_SIZES.contains(size));
            sizes.insert(if any { LARGE_SIZE } else { LARGE_MULTIPLE });
            sizes.extend(unseen(if any { 1 } else { 32 }, &self.recorded, seen));
        } else if !self.batch || self.given {
            sizes.extend(unseen(domain.multiple, &self.recorded, seen));
        }
        if self.declared.is_some() {
            sizes.insert(domain.first());
            sizes.extend(domain.last());
        }
        sizes.into_iter().collect()
    }
}

/// A size in the range of `recorded` that was not `seen`: a prime multiple of `multiple` if there is one, else any.
fn unseen(multiple: usize, recorded: &[usize], seen: &[usize]) -> Option<usize> {
    let least = recorded.iter().min().copied().unwrap_or(0) / multiple;
    let most = recorded.iter().max().copied().unwrap_or(0) / multiple;
    let free = |factor: &usize| !recorded.contains(&(factor * multiple)) && !seen.contains(&(factor * multiple));
    let prime = |factor: &usize| {
        *factor > 1 && (2..*factor).take_while(|d| d * d <= *factor).all(|d| !factor.is_multiple_of(d))
    };
    let between = || (least + 1..most).rev().filter(free);
    between().find(prime).or_else(|| between().next()).map(|factor| factor * multiple)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The symbols of a model and the sizes at which it is recorded and compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    /// Symbols of all inputs, in order of appearance.
    pub symbols: Vec<Symbol>,
    /// Additional traces, in which several symbols change or one is at its least or largest size.
    pub more: Vec<Assignment>,
}

/// Runs at one batch size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The batch size, where the first axis of the first input is a symbol.
    pub batch: Option<usize>,
    /// Sizes of all symbols, run by run.
    pub runs: Vec<Assignment>,
}

impl Coverage {
    /// Coverage with no additional traces in [`Self::more`].
    pub(crate) fn new(symbols: Vec<Symbol>) -> Self {
        Self { symbols, more: vec![] }
    }

    /// Traces that are always recorded: a base, and two more for each symbol with only that symbol changed.
    pub(crate) fn single(&self) -> Vec<Assignment> {
        let base: Assignment = self.symbols.iter().map(|symbol| symbol.recorded[0]).collect();
        let mut runs = vec![base.clone()];
        for (index, symbol) in self.symbols.iter().enumerate() {
            runs.extend(symbol.recorded[1..].iter().map(|&size| with(&base, index, size)));
        }
        runs
    }

    /// All traces, the base first.
    pub(crate) fn recorded(&self) -> Vec<Assignment> {
        [self.single(), self.more.clone()].concat()
    }

    /// Traces in which all symbols change. They tell sums from products and, at odd sizes, rounding rules apart.
    /// Where any symbol is open, try the first list before the second.
    pub(crate) fn joint(&self) -> [Vec<Assignment>; 2] {
        let pick = |odd: bool, round: usize| -> Assignment {
            let sizes = self.symbols.iter().enumerate().map(|(index, symbol)| {
                let sizes = if odd || !symbol.open() { symbol.odd() } else { symbol.recorded[1..].to_vec() };
                sizes[(index + round) % sizes.len()]
            });
            sizes.collect()
        };
        let fixed = !self.symbols.iter().any(Symbol::open);
        let odd = || vec![pick(true, 0), pick(true, 1)];
        // A lone symbol with chosen sizes has been recorded at all of them already.
        let nothing_new = |run: &Assignment| self.single().contains(run);
        let even = [pick(false, 0), pick(false, 1)].into_iter().filter(|run| !nothing_new(run)).collect();
        [if fixed { vec![] } else { odd() }, even]
    }

    /// Traces at the least and largest size of each symbol with declared sizes.
    pub(crate) fn extremes(&self) -> Vec<Assignment> {
        let base = &self.single()[0];
        let of = |(index, symbol): (usize, &Symbol)| {
            let sizes =
                symbol.declared.map(|sizes| [Some(sizes.first()), sizes.last()]).into_iter().flatten().flatten();
            let new = sizes.filter(|size| !symbol.recorded.contains(size));
            new.map(|size| with(base, index, size)).collect::<Vec<_>>()
        };
        self.symbols.iter().enumerate().flat_map(of).collect()
    }

    /// The runs to compare. At the smallest batch, every size of every symbol occurs. Of any two symbols other than
    /// the batch, each is once the smaller and once the larger, where their sizes allow that. `batch` is the symbol of
    /// the first axis.
    pub(crate) fn compared(&self, batch: Option<&str>) -> Vec<Group> {
        let recorded = self.recorded();
        let sizes = |index: usize| {
            let seen: Vec<usize> = recorded.iter().map(|run| run[index]).collect();
            self.symbols[index].compared(&seen)
        };
        let all: Vec<Vec<usize>> = (0..self.symbols.len()).map(sizes).collect();
        let rows = batch.and_then(|name| self.symbols.iter().position(|symbol| symbol.name == name));
        let others: Vec<usize> = (0..self.symbols.len()).filter(|index| Some(*index) != rows).collect();
        // In each round through its sizes, a symbol moves one step further ahead of the symbol before it.
        let at = |lists: &[Vec<usize>], run: usize, index: usize, step: usize| {
            let list = &lists[index];
            list[(run + step * (1 + run / list.len())) % list.len()]
        };
        let assignment = |lists: &[Vec<usize>], run: usize, batch: Option<usize>| -> Assignment {
            let mut sizes: Assignment = self.symbols.iter().map(|symbol| symbol.recorded[0]).collect();
            for (step, &index) in others.iter().enumerate() {
                sizes[index] = at(lists, run, index, step);
            }
            if let (Some(index), Some(batch)) = (rows, batch) {
                sizes[index] = batch;
            }
            sizes
        };
        let recorded: Vec<Vec<usize>> = self.symbols.iter().map(|symbol| symbol.recorded.to_vec()).collect();
        let longest = others.iter().map(|&index| all[index].len()).max().unwrap_or(0);
        let batches: Vec<Option<usize>> = match rows {
            Some(index) => all[index].iter().copied().map(Some).collect(),
            None => vec![None],
        };
        let mut groups: Vec<Group> = vec![];
        for batch in batches {
            let enough = ROWS.div_ceil(batch.unwrap_or(1));
            // Large sizes only at the smallest batch: a large batch of large inputs may not fit into memory.
            let (lists, runs) = if groups.is_empty() { (&all, enough.max(longest)) } else { (&recorded, enough) };
            let runs = (0..runs).map(|run| assignment(lists, run, batch)).collect();
            groups.push(Group { batch, runs });
        }
        let first = &mut groups[0];
        for (a, b) in others.iter().flat_map(|&a| others.iter().map(move |&b| (a, b))).filter(|(a, b)| a != b) {
            let [least, most] = [all[a].iter().min(), all[b].iter().max()].map(|size| size.copied().unwrap_or(0));
            if least < most && !first.runs.iter().any(|run| run[a] < run[b]) {
                let base = first.runs[0].clone();
                first.runs.push(with(&with(&base, a, least), b, most));
            }
        }
        groups
    }

    /// The base sizes, with `size` for the symbol `batch` if it allows that size.
    pub(crate) fn at_batch(&self, batch: Option<&str>, size: usize) -> Assignment {
        let base = &self.single()[0];
        let index = self.symbols.iter().position(|symbol| Some(symbol.name.as_str()) == batch);
        let index = index.filter(|&index| self.symbols[index].domain().contains(size));
        index.map_or_else(|| base.clone(), |index| with(base, index, size))
    }

    /// The shape of an input when the symbols have `sizes`.
    pub(crate) fn shape(&self, axes: &[Axis], sizes: &[usize]) -> Vec<usize> {
        let index = |name: &String| self.symbols.iter().position(|symbol| symbol.name == *name);
        let size = |axis: &Axis| match axis {
            Axis::Size(size) => *size,
            Axis::Symbol(name) => index(name).and_then(|index| sizes.get(index)).copied().unwrap_or(1),
        };
        axes.iter().map(size).collect()
    }

    /// Sizes as text for messages: `batch 2, height 64`.
    pub(crate) fn text(&self, sizes: &[usize]) -> String {
        let named = self.symbols.iter().zip(sizes).map(|(symbol, size)| format!("{} {size}", symbol.name));
        let text = named.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "the declared sizes".into() } else { text }
    }
}

fn with(sizes: &[usize], index: usize, size: usize) -> Assignment {
    let mut changed = sizes.to_vec();
    changed[index] = size;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, declared: Option<Sizes>, recorded: Option<[usize; 3]>) -> Symbol {
        Symbol::new(name, name == "batch", declared, recorded).unwrap()
    }

    fn open(names: &[&str]) -> Coverage {
        let mut coverage = Coverage::new(names.iter().map(|name| symbol(name, None, None)).collect());
        let [odd, even] = coverage.joint();
        coverage.more = if odd.is_empty() { even } else { odd };
        coverage
    }

    /// All sizes at which a symbol is compared.
    fn compared(coverage: &Coverage, index: usize) -> Vec<usize> {
        let runs = coverage.compared(Some("batch")).into_iter().flat_map(|group| group.runs);
        runs.map(|run| run[index]).collect::<BTreeSet<_>>().into_iter().collect()
    }

    #[test]
    fn height_and_width_differ_both_ways() {
        let lists = [[16, 24, 40], [8, 12, 20]];
        let given = lists.map(|sizes| symbol("side", None, Some(sizes))).to_vec();
        let batch = symbol("batch", None, None);
        let apart = Coverage::new(vec![batch, given[0].clone(), given[1].clone()]);
        for coverage in [open(&["batch", "height", "width"]), open(&["height", "width", "batch"]), apart] {
            let groups = coverage.compared(Some("batch"));
            let pairs: Vec<usize> =
                (0..coverage.symbols.len()).filter(|&index| !coverage.symbols[index].batch).collect();
            let runs: Vec<_> = groups.iter().flat_map(|group| &group.runs).collect();
            assert!(runs.iter().any(|run| run[pairs[0]] < run[pairs[1]]), "{groups:?}");
            assert!(runs.iter().any(|run| run[pairs[0]] > run[pairs[1]]), "{groups:?}");
            // Both orders must also occur at batch sizes above 1.
            let others = groups[1..].iter().flat_map(|group| &group.runs);
            assert!(others.filter(|run| run[pairs[0]] != run[pairs[1]]).count() > 2, "{groups:?}");
        }
    }

    #[test]
    fn what_is_compared_was_not_all_recorded() {
        let mut coverage = open(&["batch", "height"]);
        assert_eq!(compared(&coverage, 0), COMPARED_BATCHES);
        assert_eq!(compared(&coverage, 1), [64, 96, 157, 160, LARGE_SIZE]);
        coverage.more = coverage.joint()[1].clone();
        assert_eq!(compared(&coverage, 1), [64, 96, 128, 160, LARGE_MULTIPLE]);
        let given = Coverage::new(vec![symbol("length", None, Some([4, 7, 24]))]);
        assert_eq!(compared(&given, 0), [4, 7, 23, 24]);
    }

    #[test]
    fn declared_sizes_are_kept_to_and_reached() {
        let height = Sizes::between(32, 1024).multiple_of(32);
        let mut coverage = Coverage::new(vec![
            symbol("batch", Some(Sizes::between(1, 8)), None),
            symbol("height", Some(height), None),
            symbol("length", Some(Sizes::between(1, 24)), None),
        ]);
        let [_, even] = coverage.joint();
        coverage.more = [even, coverage.extremes()].concat();
        let recorded = coverage.recorded();
        for (index, sizes) in [Sizes::between(1, 8), height, Sizes::between(1, 24)].into_iter().enumerate() {
            let compared = compared(&coverage, index);
            assert!(compared.iter().all(|size| sizes.contains(*size)), "{compared:?}");
            assert!(recorded.iter().all(|run| sizes.contains(run[index])), "{recorded:?}");
            for extreme in [sizes.first(), sizes.last().unwrap()] {
                assert!(compared.contains(&extreme), "{compared:?}");
                assert!(recorded.iter().any(|run| run[index] == extreme), "{recorded:?}");
            }
        }
        assert_eq!(coverage.symbols[1].recorded, OTHER_SIZES);
        assert_eq!(coverage.symbols[2].recorded, [2, 3, 5]);
        // Large inputs are compared one at a time.
        let groups = coverage.compared(Some("batch"));
        assert!(groups[1..].iter().flat_map(|group| &group.runs).all(|run| run[1] <= 160), "{groups:?}");
    }

    #[test]
    fn a_batch_that_comes_in_pairs_is_compared_in_pairs() {
        let given = Coverage::new(vec![symbol("batch", None, Some([2, 4, 6]))]);
        let batches: Vec<_> = given.compared(Some("batch")).into_iter().map(|group| group.batch).collect();
        assert_eq!(batches, [Some(2), Some(4), Some(6)]);
        let declared = Coverage::new(vec![symbol("batch", Some(Sizes::at_least(2).multiple_of(2)), None)]);
        assert_eq!(compared(&declared, 0), [2, 4, 6, 32]);
    }

    #[test]
    fn sizes_that_tell_nothing_are_refused() {
        let refused = |declared: Option<Sizes>, recorded| match Symbol::new("height", false, declared, recorded) {
            Err(ExportError::Sizes { symbol, found, .. }) if symbol == "height" => found,
            other => panic!("{other:?}"),
        };
        for recorded in [[64, 64, 64], [64, 64, 96], [0, 1, 2]] {
            assert_eq!(refused(None, Some(recorded)), format!("{recorded:?}"));
        }
        let none = [
            Sizes::between(32, 64).multiple_of(32),
            Sizes::between(9, 1),
            Sizes::at_least(0),
            Sizes::at_least(1).multiple_of(0),
        ];
        for sizes in none {
            assert_eq!(refused(Some(sizes), None), sizes.to_string());
        }
        assert_eq!(refused(Some(Sizes::between(1, 64)), Some([2, 3, 65])), "recorded at 65");
        let error = Symbol::new("height", false, None, Some([64, 64, 96])).unwrap_err().to_string();
        assert!(error.contains("`height`") && error.contains("three different sizes"), "{error}");
    }

    #[test]
    fn without_symbols_there_is_one_shape() {
        let coverage = Coverage::default();
        assert_eq!(coverage.recorded(), [Assignment::new()]);
        assert_eq!(coverage.compared(None), [Group { batch: None, runs: vec![vec![]; ROWS] }]);
    }
}
