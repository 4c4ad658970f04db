//! Which pictures make up the batches of an epoch.

use std::collections::BTreeMap;

use datasets::paired::Modality;

use crate::data::sampler::SamplerError;
use crate::rng::Rng;

/// Keeps these random numbers apart from those of other parts with the same seed.
const STREAM: u64 = 0x7061_6c6d_6f72_6465;

/// One picture of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Which of the two.
    pub modality: Modality,
    /// Number of the pair.
    pub index: usize,
}

/// An anchor, a picture of the same hand and one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Triplet {
    /// What the others are compared with.
    pub anchor: View,
    /// Another picture of the same class; the anchor itself where there is none.
    pub positive: View,
    /// A picture of another class.
    pub negative: View,
}

/// `count` pairs in a random order, `batch` at a time. Nothing is dropped but a last batch of a single pair, which
/// batch normalisation cannot use; unless it is the only one.
///
/// # Panics
/// If `batch` is 0.
pub fn shuffled(count: usize, batch: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    Rng::new(&[STREAM, seed, epoch as u64]).shuffle(&mut order);
    let mut batches: Vec<Vec<usize>> = order.chunks(batch).map(<[usize]>::to_vec).collect();
    if batches.len() > 1 && batch > 1 && batches.last().is_some_and(|last| last.len() == 1) {
        batches.pop();
    }
    batches
}

/// Triplets of one modality in a random order of their anchors, one for each picture, `batch` at a time; the incomplete
/// last batch is dropped. With `cross_modal` both modalities are drawn from: an anchor for each picture of either,
/// positive and negative whichever comes.
///
/// # Errors
/// Fewer than two classes, or pictures for less than one batch.
///
/// # Panics
/// If `batch` is 0.
pub fn triplets(
    classes: &[i64],
    modality: Modality,
    cross_modal: bool,
    batch: usize,
    seed: u64,
    epoch: usize,
) -> Result<Vec<Vec<Triplet>>, SamplerError> {
    let modalities = if cross_modal { Modality::BOTH.to_vec() } else { vec![modality] };
    let mut of_class = BTreeMap::<i64, Vec<View>>::new();
    let mut anchors = Vec::new();
    for modality in modalities {
        for (index, class) in classes.iter().enumerate() {
            let view = View { modality, index };
            anchors.push(view);
            of_class.entry(*class).or_default().push(view);
        }
    }
    if of_class.len() < 2 {
        return Err(SamplerError::OneIdentity { found: of_class.len() });
    }
    if anchors.len() < batch {
        return Err(SamplerError::TooFewPictures { batch, found: anchors.len() });
    }
    let numbers: BTreeMap<i64, usize> = of_class.keys().copied().zip(0..).collect();
    let views: Vec<Vec<View>> = of_class.into_values().collect();
    let mut rng = Rng::new(&[STREAM, seed, epoch as u64, 3]);
    rng.shuffle(&mut anchors);
    let mut triplet = |anchor: View| {
        let own = numbers[&classes[anchor.index]];
        let others: Vec<View> = views[own].iter().copied().filter(|view| *view != anchor).collect();
        let positive = if others.is_empty() { anchor } else { others[rng.below(others.len())] };
        let stranger = rng.below(views.len() - 1);
        let strangers = &views[stranger + usize::from(stranger >= own)];
        Triplet { anchor, positive, negative: strangers[rng.below(strangers.len())] }
    };
    let all: Vec<Triplet> = anchors.into_iter().map(&mut triplet).collect();
    Ok(all.chunks_exact(batch).map(<[Triplet]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_once_but_no_batch_of_one() {
        let batches = shuffled(9, 4, 1, 1);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        let batches = shuffled(10, 4, 1, 1);
        let mut all: Vec<usize> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(batches, shuffled(10, 4, 1, 1));
        assert_ne!(batches, shuffled(10, 4, 1, 2));
        assert_eq!((shuffled(1, 4, 1, 1).len(), shuffled(0, 4, 1, 1).len()), (1, 0));
    }

    #[test]
    fn triplets_say_same_same_other() {
        // Labels need not be contiguous; 9 has one picture only.
        let classes = [5, 5, 5, 2, 2, 2, 9];
        for (cross_modal, count) in [(false, 7), (true, 14)] {
            let mut seen = [false; 2];
            for epoch in 0..20 {
                let batches = triplets(&classes, Modality::Vein, cross_modal, 7, 1, epoch).unwrap();
                assert_eq!(batches.concat().len(), count);
                for Triplet { anchor, positive, negative } in batches.concat() {
                    assert_eq!(classes[anchor.index], classes[positive.index]);
                    assert_ne!(classes[anchor.index], classes[negative.index]);
                    assert_eq!(anchor == positive, !cross_modal && classes[anchor.index] == 9);
                    for view in [anchor, positive, negative] {
                        seen[usize::from(view.modality == Modality::Vein)] = true;
                    }
                }
            }
            assert_eq!(seen, [cross_modal, true]);
        }
        let refused = |classes: &[i64], batch| triplets(classes, Modality::Palm, false, batch, 1, 1).unwrap_err();
        assert_eq!(refused(&[1, 1], 1), SamplerError::OneIdentity { found: 1 });
        assert_eq!(refused(&[1, 2], 3), SamplerError::TooFewPictures { batch: 3, found: 2 });
    }
}
