//! Splits pairs into training, validation and test.

use std::path::Path;

use super::{Pair, PairOptions, PairedDataset, SplitRule};
use crate::DatasetError;
use contract::fill::splitmix64;

/// Keeps the split's random numbers apart from those of other code with the same seed.
const STREAM: u64 = 0x7061_6972_7370_6c74;

/// Distributes pairs, whose classes are indices into `names`, and renumbers the classes: those that train come first.
pub(super) fn split(
    root: &Path,
    name: &str,
    names: Vec<String>,
    pairs: Vec<Pair>,
    options: &PairOptions,
) -> Result<PairedDataset, DatasetError> {
    let [train, val, test] = options.shares;
    let valid =
        options.shares.iter().all(|share| (0.0..=1.0).contains(share)) && (train + val + test - 1.0).abs() < 1e-6;
    if !valid || train <= 0.0 {
        return Err(DatasetError::Shares { found: options.shares });
    }
    let mut of_class: Vec<Vec<Pair>> = vec![Vec::new(); names.len()];
    for pair in pairs {
        let class = pair.class;
        of_class[class].push(pair);
    }
    // Whole people are drawn, so that nobody is in two sets.
    let mut order: Vec<usize> = (0..names.len()).collect();
    let unseen = match options.split {
        SplitRule::People => {
            shuffle(&mut order, &[STREAM, options.seed]);
            // At least two, for impostors; and two must be left to train on.
            let wanted = ((names.len() as f64 * test).round() as usize).clamp(2, names.len().saturating_sub(2).max(2));
            if test == 0.0 { 0 } else { wanted }
        }
        SplitRule::Pairs | SplitRule::Session => 0,
    };
    if names.len() < unseen + 2 {
        return Err(DatasetError::Identities {
            folder: root.to_owned(),
            found: format!("{} with two pairs or more", super::list::identities(names.len())),
            allowed: match options.split {
                SplitRule::People => "at least 4 are needed, two to train on and two others to test".into(),
                _ => "at least 2 are needed".into(),
            },
        });
    }
    let known = names.len() - unseen;
    order[..known].sort_unstable();
    order[known..].sort_unstable();
    let mut data = PairedDataset { name: name.to_owned(), num_classes: known, ..PairedDataset::default() };
    for (class, old) in order.into_iter().enumerate() {
        data.classes.push(names[old].clone());
        let mut pairs = std::mem::take(&mut of_class[old]);
        pairs.iter_mut().for_each(|pair| pair.class = class);
        if class >= known {
            data.test.extend(pairs);
            continue;
        }
        match options.split {
            SplitRule::People => {
                let share = train / (train + val);
                deal(pairs, [share, 1.0 - share, 0.0], options.seed, &names[old], &mut data);
            }
            SplitRule::Pairs => deal(pairs, options.shares, options.seed, &names[old], &mut data),
            SplitRule::Session => {
                let last = pairs.iter().map(|pair| pair.session).max().unwrap_or(1);
                let (test, rest): (Vec<_>, Vec<_>) =
                    pairs.into_iter().partition(|pair| pair.session == last && last > 1);
                data.test.extend(test);
                let share = train / (train + val);
                deal(rest, [share, 1.0 - share, 0.0], options.seed, &names[old], &mut data);
            }
        }
    }
    if options.split == SplitRule::Session && data.test.is_empty() {
        return Err(DatasetError::Sessions { name: name.to_owned() });
    }
    Ok(data)
}

/// Distributes one identity's pairs: at least one trains, and each other set with a share above 0 gets at least one
/// while any are left.
fn deal(mut pairs: Vec<Pair>, [_, val, test]: [f64; 3], seed: u64, name: &str, data: &mut PairedDataset) {
    let keys: Vec<u64> = [STREAM, seed].into_iter().chain(name.bytes().map(u64::from)).collect();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    shuffle(&mut order, &keys);
    let count = pairs.len();
    let part = |share: f64| ((count as f64 * share).round() as usize).max(usize::from(share > 0.0));
    let tests = part(test).min(count.saturating_sub(1));
    let vals = part(val).min((count - tests).saturating_sub(1));
    let mut set = vec![0_u8; count];
    order[..tests].iter().for_each(|at| set[*at] = 2);
    order[tests..tests + vals].iter().for_each(|at| set[*at] = 1);
    for (pair, set) in pairs.drain(..).zip(set) {
        [&mut data.train, &mut data.val, &mut data.test][usize::from(set)].push(pair);
    }
}

/// Shuffles uniformly; the order depends on the keys alone.
fn shuffle(items: &mut [usize], keys: &[u64]) {
    let mut state = keys.iter().fold(0, |state: u64, key| splitmix64(state.wrapping_add(*key)));
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The bias of the upper bits is below one in 2⁵⁰ for any number of pairs that fits a disk.
        let other = (u128::from(splitmix64(state)) * (last as u128 + 1)) >> 64;
        items.swap(last, other as usize);
    }
}
