use datasets::paired::{PairOptions, PairedDataset, SplitRule};
use fixtures::{PalmConfig, palms};

use crate::families::palmvein::data::{shuffled, triplets};

use super::*;

fn set() -> (tempfile::TempDir, PairedDataset) {
    let folder = tempfile::tempdir().unwrap();
    palms(&PalmConfig { people: 2, samples: 3, size: 40, ..PalmConfig::default() }, folder.path()).unwrap();
    let options = PairOptions { split: SplitRule::Pairs, shares: [1.0, 0.0, 0.0], ..PairOptions::default() };
    let data = PairedDataset::open(folder.path(), &options).unwrap();
    (folder, data)
}

fn options(epoch: Option<usize>, workers: usize) -> PairLoaderOptions {
    let transforms = epoch.map(|epoch| (PairTransforms::strong(1), epoch));
    PairLoaderOptions { transforms, workers, start_batch: 0, strict: false }
}

#[test]
fn batches_are_the_same_whatever_the_threads_and_from_wherever_they_resume() {
    let (_folder, data) = set();
    let pictures = Arc::new(PairPictures::new(&data.train, [32, 24], 1));
    let batches = |workers, start_batch| -> Vec<PairBatch> {
        let plan = shuffled(pictures.len(), 5, 1, 2);
        let options = PairLoaderOptions { start_batch, ..options(Some(2), workers) };
        pair_batches(&pictures, plan, options).unwrap().map(Result::unwrap).collect()
    };
    let one = batches(1, 0);
    assert_eq!(
        one.iter().map(|batch| batch.shape).collect::<Vec<_>>(),
        [[5, 1, 32, 24], [5, 1, 32, 24], [2, 1, 32, 24]]
    );
    for (a, b) in one.iter().zip(batches(3, 0)) {
        assert!(a.palm == b.palm && a.vein == b.vein && a.indices == b.indices && a.classes == b.classes);
    }
    let resumed = batches(2, 2);
    assert!(resumed.len() == 1 && resumed[0].palm == one[2].palm && resumed[0].number == 2);
    let all = one.iter().flat_map(|batch| &batch.palm);
    assert!(all.clone().all(|value| (-1.0..=1.0).contains(value)) && all.clone().any(|value| *value > 0.0));
    assert_ne!(one[0].palm, one[0].vein);
    for (index, class) in one.iter().flat_map(|batch| batch.indices.iter().zip(&batch.classes)) {
        assert_eq!(data.train[*index].class as i64, *class);
    }
}

/// The picture as the device sees it: the contract's own preprocessing.
#[test]
fn evaluation_is_the_contracts_preprocessing() {
    let (_folder, data) = set();
    let pictures = Arc::new(PairPictures::new(&data.train, [32, 32], 0));
    let batch = evaluation_batches(&pictures, 4, 1, true).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.indices, [0, 1, 2, 3]);
    let mut expected = vec![0.0; 32 * 32];
    for (values, path) in [(&batch.palm, &data.train[1].palm), (&batch.vein, &data.train[1].vein)] {
        contract::preprocess::load(path, &picture_spec([32, 32]), &mut expected).unwrap();
        assert_eq!(values[32 * 32..2 * 32 * 32], expected);
    }
}

#[test]
fn colour_and_16_bit_pictures_are_read_as_grey() {
    let (folder, data) = set();
    let grey = image::open(&data.train[0].palm).unwrap().to_luma8();
    image::DynamicImage::ImageLuma8(grey.clone()).to_rgb8().save(&data.train[0].vein).unwrap();
    let deep = image::ImageBuffer::from_fn(40, 40, |x, y| image::Luma([u16::from(grey.get_pixel(x, y).0[0]) * 257]));
    deep.save(&data.train[1].palm).unwrap();
    let pictures = Arc::new(PairPictures::new(&data.train, [40, 40], 0));
    let batch = evaluation_batches(&pictures, 2, 1, true).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.palm[..1600], batch.vein[..1600], "three equal channels");
    assert_eq!(batch.palm[1600..], batch.palm[..1600], "16 bits");
    drop(folder);
}

#[test]
fn an_unreadable_picture_takes_its_pair_with_it() {
    let (_folder, data) = set();
    std::fs::write(&data.train[4].vein, "no picture").unwrap();
    let pictures = Arc::new(PairPictures::new(&data.train, [16, 16], 1));
    let plan = || vec![(0..12).collect::<Vec<usize>>()];
    let trained = pair_batches(&pictures, plan(), options(Some(1), 2)).unwrap().next().unwrap().unwrap();
    assert_eq!((trained.indices.len(), trained.skipped.len()), (12, 1));
    let other = trained.indices[4];
    assert_eq!(trained.skipped[0].replaced_by, Some(other));
    assert!(other != 4 && trained.classes[4] == pictures.classes()[4]);
    let evaluated = evaluation_batches(&pictures, 12, 2, false).unwrap().next().unwrap().unwrap();
    assert_eq!((evaluated.indices.len(), evaluated.shape), (11, [11, 1, 16, 16]));
    assert!(!evaluated.indices.contains(&4));
    let strict = evaluation_batches(&pictures, 12, 2, true).unwrap().next().unwrap();
    assert!(matches!(strict, Err(LoaderError::Unreadable { .. })));
    assert_eq!(pictures.unreadable().len(), 1);
}

#[test]
fn triplets_are_three_views() {
    let (_folder, data) = set();
    let pictures = Arc::new(PairPictures::new(&data.train, [16, 16], 1));
    let plan = triplets(pictures.classes(), Modality::Vein, false, 4, 1, 1).unwrap();
    let batches: Vec<TripletBatch> =
        triplet_batches(&pictures, plan.clone(), Reads::All, options(None, 2)).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 3);
    let batch = &batches[0];
    assert_eq!(batch.shape, [4, 1, 16, 16]);
    let all = evaluation_batches(&pictures, 12, 1, true).unwrap().next().unwrap().unwrap();
    for (row, triplet) in plan[0].iter().enumerate() {
        for (part, view) in [triplet.anchor, triplet.positive, triplet.negative].into_iter().enumerate() {
            let expected = &all.vein[view.index * 256..][..256];
            assert_eq!(batch.pixels[part][row * 256..][..256], *expected);
        }
        assert_ne!(batch.classes[row], batch.negatives[row]);
    }
}

/// The same anchors and labels as with all three views, and no other picture is opened.
#[test]
fn anchors_alone_are_read_where_nothing_else_is_asked_for() {
    let (_folder, data) = set();
    let plan = |pictures: &PairPictures| triplets(pictures.classes(), Modality::Vein, false, 4, 1, 1).unwrap();
    let batches = |reads| -> Vec<TripletBatch> {
        let pictures = Arc::new(PairPictures::new(&data.train, [16, 16], 1));
        let batches = triplet_batches(&pictures, plan(&pictures), reads, options(Some(3), 2)).unwrap();
        batches.map(Result::unwrap).collect()
    };
    let (all, anchors) = (batches(Reads::All), batches(Reads::Anchors));
    assert_eq!(all.len(), anchors.len());
    for (all, anchors) in all.iter().zip(&anchors) {
        assert_eq!(anchors.pixels[0], all.pixels[0]);
        assert!(anchors.pixels[1].is_empty() && anchors.pixels[2].is_empty());
        assert_eq!(anchors.shape, all.shape);
        assert_eq!((&anchors.classes, &anchors.negatives), (&all.classes, &all.negatives));
        assert_eq!(anchors.indices, all.indices);
    }
    // Every picture but the anchors of the first batch is broken: it goes through all the same.
    let pictures = Arc::new(PairPictures::new(&data.train, [16, 16], 1));
    let first = plan(&pictures).swap_remove(0);
    let anchors: Vec<usize> = first.iter().map(|triplet| triplet.anchor.index).collect();
    for (index, pair) in data.train.iter().enumerate() {
        if !anchors.contains(&index) {
            std::fs::write(&pair.vein, "no picture").unwrap();
        }
    }
    let strict = PairLoaderOptions { strict: true, ..options(Some(3), 1) };
    let batch = triplet_batches(&pictures, vec![first], Reads::Anchors, strict).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.indices.len(), 4);
    assert!(pictures.unreadable().is_empty());
}
