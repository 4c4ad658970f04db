//! Which pictures make up the batches of an epoch. An epoch's batches follow from seed and epoch number alone.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// Keeps the sampler's random numbers apart from those of other parts with the same seed.
const STREAM: u64 = 0x7361_6d70_6c65_7200;

/// Why no batch can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// One identity, or none at all.
    #[error(
        "the training set has {}; telling identities apart needs at least 2",
        match found { 0 => "no identity", _ => "one identity only" }
    )]
    OneIdentity {
        /// How many there are.
        found: usize,
    },
    /// Fewer identities than a batch wants.
    #[error(
        "a batch of {identities} identities × {images} pictures needs {identities} different identities, the training \
         set has {found}; lower --batchid to at most {found}"
    )]
    TooFewIdentities {
        /// P.
        identities: usize,
        /// K.
        images: usize,
        /// How many there are.
        found: usize,
    },
    /// A batch without positives or negatives.
    #[error(
        "a batch of {identities} identities × {images} pictures has no pairs to learn from; at least 2 × 2 is needed"
    )]
    NoPairs {
        /// P.
        identities: usize,
        /// K.
        images: usize,
    },
    /// Pictures of one camera.
    #[error("--balance-cameras has nothing to balance: all {pictures} training pictures are of one camera")]
    OneCamera {
        /// How many there are.
        pictures: usize,
    },
    /// Fewer pictures than a batch wants.
    #[error(
        "a batch wants {batch} pictures, the training set has {found}: a smaller batch is needed (--batchid and \
         --batchimage, or --batch-size)"
    )]
    TooFewPictures {
        /// Pictures in a batch.
        batch: usize,
        /// How many there are.
        found: usize,
    },
}

/// P identities × K pictures of each.
///
/// Per epoch, each identity's pictures are shuffled and cut into groups of K, the incomplete last one dropped; of an
/// identity with fewer than K, one group is drawn with replacement. While at least P identities have groups, P of
/// them are chosen uniformly and each gives its next group. What fewer than P identities still have is dropped.
///
/// With balanced cameras ([`PkSampler::balanced`]) each group has as many cameras as its identity allows: the pictures
/// of each camera are shared out over the identity's groups, and a group takes them from its cameras in turn.
#[derive(Debug, Clone)]
pub struct PkSampler {
    /// Pictures of each identity, by ascending identity.
    pictures: Vec<Vec<usize>>,
    identities: usize,
    images: usize,
    /// Camera of each picture, where cameras are balanced.
    cameras: Option<Vec<i64>>,
    seed: u64,
}

impl PkSampler {
    /// For pictures whose identities are given (picture i has `of_picture[i]`): P = `identities`, K = `images`.
    ///
    /// # Errors
    /// If P or K is below 2, or there are fewer than P identities.
    pub fn new(of_picture: &[i64], identities: usize, images: usize, seed: u64) -> Result<Self, SamplerError> {
        let mut pictures = BTreeMap::<i64, Vec<usize>>::new();
        for (picture, identity) in of_picture.iter().enumerate() {
            pictures.entry(*identity).or_default().push(picture);
        }
        let found = pictures.len();
        if found < 2 {
            return Err(SamplerError::OneIdentity { found });
        }
        if identities < 2 || images < 2 {
            return Err(SamplerError::NoPairs { identities, images });
        }
        if found < identities {
            return Err(SamplerError::TooFewIdentities { identities, images, found });
        }
        Ok(Self { pictures: pictures.into_values().collect(), identities, images, cameras: None, seed })
    }

    /// The same with balanced cameras, of which each picture's is given.
    ///
    /// # Errors
    /// If there is one camera only.
    ///
    /// # Panics
    /// If there are not as many as pictures.
    pub fn balanced(self, of_picture: &[i64]) -> Result<Self, SamplerError> {
        let pictures = self.pictures.iter().map(Vec::len).sum::<usize>();
        assert_eq!(of_picture.len(), pictures, "a camera per picture");
        if of_picture.windows(2).all(|pair| pair[0] == pair[1]) {
            return Err(SamplerError::OneCamera { pictures });
        }
        Ok(Self { cameras: Some(of_picture.to_vec()), ..self })
    }

    /// Pictures of an epoch if no group had to be dropped: the most an epoch can have.
    pub fn announced(&self) -> usize {
        self.pictures.iter().map(|pictures| self.images * (pictures.len() / self.images).max(1)).sum()
    }

    /// The batches of an epoch, each P runs of K pictures of one identity.
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut rng = Rng::new(&[STREAM, self.seed, epoch as u64]);
        let images = self.images;
        let mut groups: Vec<std::vec::IntoIter<Vec<usize>>> = Vec::with_capacity(self.pictures.len());
        for pictures in &self.pictures {
            let of_identity: Vec<Vec<usize>> = if let Some(cameras) = &self.cameras {
                balanced_groups(pictures, cameras, images, &mut rng)
            } else if pictures.len() < images {
                vec![(0..images).map(|_| pictures[rng.below(pictures.len())]).collect()]
            } else {
                let mut pictures = pictures.clone();
                rng.shuffle(&mut pictures);
                pictures.chunks_exact(images).map(<[usize]>::to_vec).collect()
            };
            groups.push(of_identity.into_iter());
        }
        let mut pool: Vec<usize> = (0..groups.len()).collect();
        let mut batches = Vec::new();
        while pool.len() >= self.identities {
            // The first P places of a shuffle.
            for place in 0..self.identities {
                let other = place + rng.below(pool.len() - place);
                pool.swap(place, other);
            }
            let chosen = pool[..self.identities].iter();
            batches.push(chosen.flat_map(|identity| groups[*identity].next().unwrap_or_default()).collect());
            pool.retain(|identity| groups[*identity].len() > 0);
        }
        batches
    }
}

/// Groups of `images` pictures of one identity, each of as many cameras as can be.
fn balanced_groups(pictures: &[usize], cameras: &[i64], images: usize, rng: &mut Rng) -> Vec<Vec<usize>> {
    let mut of_camera = BTreeMap::<i64, Vec<usize>>::new();
    for picture in pictures {
        of_camera.entry(cameras[*picture]).or_default().push(*picture);
    }
    let mut piles: Vec<Vec<usize>> = of_camera.into_values().collect();
    rng.shuffle(&mut piles);
    if pictures.len() < images {
        let group = (0..images).map(|place| {
            let pile = &piles[place % piles.len()];
            pile[rng.below(pile.len())]
        });
        return vec![group.collect()];
    }
    let groups = pictures.len() / images;
    let mut dealt = vec![vec![Vec::new(); piles.len()]; groups];
    let mut next = 0;
    for (camera, pile) in piles.iter_mut().enumerate() {
        rng.shuffle(pile);
        for picture in pile.iter() {
            dealt[next % groups][camera].push(*picture);
            next += 1;
        }
    }
    let in_turn = |group: Vec<Vec<usize>>| {
        let longest = group.iter().map(Vec::len).max().unwrap_or(0);
        let turns = (0..longest).flat_map(|turn| group.iter().filter_map(move |pile| pile.get(turn)));
        turns.copied().take(images).collect()
    };
    dealt.into_iter().map(in_turn).collect()
}

/// All pictures in a uniformly random order; the incomplete last batch is dropped.
#[derive(Debug, Clone)]
pub struct UniformSampler {
    count: usize,
    batch: usize,
    seed: u64,
}

impl UniformSampler {
    /// For `count` pictures in batches of `batch`.
    ///
    /// # Errors
    /// If there is not one whole batch, or a batch is empty.
    pub fn new(count: usize, batch: usize, seed: u64) -> Result<Self, SamplerError> {
        if batch == 0 || count < batch {
            return Err(SamplerError::TooFewPictures { batch, found: count });
        }
        Ok(Self { count, batch, seed })
    }

    /// The batches of an epoch.
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.count).collect();
        Rng::new(&[STREAM, self.seed, epoch as u64]).shuffle(&mut order);
        order.chunks_exact(self.batch).map(<[usize]>::to_vec).collect()
    }
}

/// Either sampler.
#[derive(Debug, Clone)]
pub enum Sampler {
    /// P identities × K pictures.
    Pk(PkSampler),
    /// Any pictures.
    Uniform(UniformSampler),
}

impl Sampler {
    /// Batches of any pictures, whose identities are given: telling them apart needs two at least.
    ///
    /// # Errors
    /// See [`SamplerError`].
    pub fn uniform(of_picture: &[i64], batch: usize, seed: u64) -> Result<Self, SamplerError> {
        let found = of_picture.iter().collect::<std::collections::BTreeSet<_>>().len();
        if found < 2 {
            return Err(SamplerError::OneIdentity { found });
        }
        UniformSampler::new(of_picture.len(), batch, seed).map(Self::Uniform)
    }

    /// The batches of an epoch.
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        match self {
            Self::Pk(sampler) => sampler.epoch(epoch),
            Self::Uniform(sampler) => sampler.epoch(epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Identities of a set in which identity i has `counts[i]` pictures, interleaved.
    fn of_picture(counts: &[usize]) -> Vec<i64> {
        let most = counts.iter().copied().max().unwrap_or(0);
        let rounds = (0..most).flat_map(|n| counts.iter().enumerate().filter(move |(_, count)| n < **count));
        rounds.map(|(identity, _)| identity as i64 * 10).collect()
    }

    /// What holds of every epoch.
    fn check(identities: &[i64], p: usize, k: usize, batches: &[Vec<usize>]) {
        let count = |identity: i64| identities.iter().filter(|one| **one == identity).count();
        let mut groups = BTreeMap::<i64, Vec<&[usize]>>::new();
        for batch in batches {
            assert_eq!(batch.len(), p * k);
            let of_batch: BTreeSet<i64> = batch.iter().map(|picture| identities[*picture]).collect();
            assert_eq!(of_batch.len(), p, "{p} different identities");
            for group in batch.chunks(k) {
                let identity = identities[group[0]];
                assert!(group.iter().all(|picture| identities[*picture] == identity), "runs of {k}");
                groups.entry(identity).or_default().push(group);
            }
        }
        for (identity, groups) in &groups {
            assert!(groups.len() <= (count(*identity) / k).max(1));
            if count(*identity) >= k {
                let pictures: Vec<usize> = groups.concat();
                let different: BTreeSet<_> = pictures.iter().collect();
                assert_eq!(different.len(), pictures.len(), "no picture twice");
            }
        }
        // The epoch ends only when fewer than P identities have groups left.
        let all: BTreeSet<i64> = identities.iter().copied().collect();
        let left = all.iter().filter(|one| groups.get(one).map_or(0, Vec::len) < (count(**one) / k).max(1)).count();
        assert!(left < p, "{left} identities left with P = {p}");
    }

    #[test]
    fn the_example_of_the_specification() {
        let identities = of_picture(&[3, 4, 9, 1]);
        let sampler = PkSampler::new(&identities, 2, 4, 1).unwrap();
        assert_eq!(sampler.announced(), 20);
        for epoch in 0..50 {
            let batches = sampler.epoch(epoch);
            check(&identities, 2, 4, &batches);
            // Five groups of four identities: two batches, and one group remains.
            assert_eq!(batches.len(), 2);
        }
    }

    #[test]
    fn every_epoch_of_any_set() {
        let mut rng = Rng::new(&[11]);
        for case in 0..200 {
            let counts: Vec<usize> = (0..2 + rng.below(12)).map(|_| 1 + rng.below(20)).collect();
            let (p, k) = (2 + rng.below(counts.len() - 1), 2 + rng.below(6));
            let identities = of_picture(&counts);
            let sampler = PkSampler::new(&identities, p, k, case).unwrap();
            for epoch in 0..3 {
                let batches = sampler.epoch(epoch);
                check(&identities, p, k, &batches);
                assert!(batches.len() * p * k <= sampler.announced());
                assert_eq!(batches, sampler.epoch(epoch), "the same every time");
            }
        }
    }

    /// Of every identity of every set: no group has more pictures of a camera than the camera's even share, or than
    /// the other cameras leave free.
    #[test]
    fn balanced_groups_have_as_many_cameras_as_can_be() {
        let mut rng = Rng::new(&[12]);
        for case in 0..200 {
            let counts: Vec<usize> = (0..2 + rng.below(8)).map(|_| 1 + rng.below(20)).collect();
            let identities = of_picture(&counts);
            let most = 2 + rng.below(4);
            let mut cameras: Vec<i64> = identities.iter().map(|_| rng.below(most) as i64).collect();
            cameras[0] = most as i64;
            let (p, k) = (2 + rng.below(counts.len() - 1), 2 + rng.below(6));
            let sampler = PkSampler::new(&identities, p, k, case).unwrap().balanced(&cameras).unwrap();
            let batches = sampler.epoch(1);
            check(&identities, p, k, &batches);
            assert_eq!(batches, sampler.epoch(1), "the same every time");
            for group in batches.iter().flat_map(|batch| batch.chunks(k)) {
                let of_identity = |picture: &usize| identities[*picture] == identities[group[0]];
                let own: Vec<usize> = (0..identities.len()).filter(of_identity).collect();
                let count = |pictures: &[usize], camera: i64| {
                    pictures.iter().filter(|picture| cameras[**picture] == camera).count()
                };
                let groups = (own.len() / k).max(1);
                let all: BTreeSet<i64> = own.iter().map(|picture| cameras[*picture]).collect();
                let found: BTreeSet<i64> = group.iter().map(|picture| cameras[*picture]).collect();
                // Cameras with a picture for each group are in all of them, as far as there is room.
                let everywhere = all.iter().filter(|camera| count(&own, **camera) >= groups).count();
                assert!(found.len() >= everywhere.min(k), "{group:?}: cameras {found:?} of {all:?}");
                for camera in &found {
                    let share = count(&own, *camera).div_ceil(groups).max(k.div_ceil(all.len()));
                    assert!(count(group, *camera) <= share, "{group:?}: {share} of camera {camera}");
                }
            }
        }
        let sampler = PkSampler::new(&of_picture(&[4, 4]), 2, 2, 1).unwrap();
        assert_eq!(sampler.balanced(&[3; 8]).unwrap_err(), SamplerError::OneCamera { pictures: 8 });
    }

    #[test]
    fn epochs_and_seeds_differ_and_all_pictures_come_up() {
        let identities = of_picture(&[6; 8]);
        let sampler = PkSampler::new(&identities, 4, 4, 1).unwrap();
        assert_ne!(sampler.epoch(0), sampler.epoch(1));
        assert_ne!(sampler.epoch(0), PkSampler::new(&identities, 4, 4, 2).unwrap().epoch(0));
        let seen: BTreeSet<usize> = (0..20).flat_map(|epoch| sampler.epoch(epoch).concat()).collect();
        assert_eq!(seen.len(), identities.len());
    }

    #[test]
    fn identities_are_chosen_uniformly() {
        let identities = of_picture(&[4; 10]);
        let sampler = PkSampler::new(&identities, 2, 4, 5).unwrap();
        let mut first = [0_usize; 10];
        for epoch in 0..10_000 {
            first[identities[sampler.epoch(epoch)[0][0]] as usize / 10] += 1;
        }
        // Standard deviation 30; five of them.
        assert!(first.iter().all(|count| count.abs_diff(1_000) < 150), "{first:?}");
    }

    #[test]
    fn uniform_batches_have_each_picture_once() {
        let sampler = UniformSampler::new(23, 5, 1).unwrap();
        let pictures = sampler.epoch(3).concat();
        assert_eq!((sampler.epoch(3).len(), pictures.len()), (4, 20));
        assert_eq!(pictures.iter().collect::<BTreeSet<_>>().len(), 20);
        assert_ne!(sampler.epoch(3), sampler.epoch(4));
    }

    #[test]
    fn errors_say_what_is_missing() {
        let error = |counts: &[usize], p, k| PkSampler::new(&of_picture(counts), p, k, 1).unwrap_err().to_string();
        let few = error(&[4, 4, 4], 6, 8);
        assert!(few.contains("6 identities × 8 pictures") && few.contains("set has 3"), "{few}");
        assert!(error(&[9], 6, 8).contains("one identity only"));
        assert!(error(&[], 6, 8).contains("no identity"));
        assert!(error(&[4, 4], 2, 1).contains("2 identities × 1 pictures"));
        assert!(UniformSampler::new(3, 4, 1).unwrap_err().to_string().contains("4 pictures"));
        assert!(UniformSampler::new(3, 0, 1).is_err());
    }
}
