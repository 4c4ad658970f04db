//! Batches from pictures on disk.

use std::time::{Duration, Instant};

use crate::data::sampler::PkSampler;
use crate::rng::Rng;

use super::*;

fn input(height: usize, width: usize) -> PictureSpec {
    PictureSpec::imagenet([height, width])
}

/// Pictures of blurred noise, `each` of every class, `class_number.ending`.
fn draw(folder: &Path, classes: usize, each: usize, size: (u32, u32), ending: &str) -> (Vec<PathBuf>, Vec<i64>) {
    let (mut paths, mut numbers) = (vec![], vec![]);
    for class in 0..classes {
        for number in 0..each {
            let mut rng = Rng::new(&[class as u64, number as u64]);
            let mut small = RgbImage::new(16, 32);
            small.iter_mut().for_each(|value| *value = rng.below(256) as u8);
            let picture = image::imageops::resize(&small, size.0, size.1, image::imageops::FilterType::Triangle);
            let path = folder.join(format!("{class}_{number}.{ending}"));
            picture.save(&path).unwrap();
            paths.push(path);
            numbers.push(class as i64);
        }
    }
    (paths, numbers)
}

fn training(workers: usize, start_batch: usize) -> LoaderOptions {
    let transforms = Transforms { erasing: 0.5, ..Transforms::new(3) };
    LoaderOptions { transforms: Some((transforms, 2)), workers, start_batch, strict: false }
}

/// Number, values bit by bit, classes and pictures of a batch.
type Facts = (usize, Vec<u32>, Vec<i64>, Vec<usize>);

/// Everything about the batches that training sees.
fn facts(loader: Loader) -> Vec<Facts> {
    let fact = |batch: PictureBatch| {
        assert_eq!(batch.shape, [batch.indices.len(), 3, 32, 16]);
        assert_eq!(batch.pixels.len(), batch.shape.iter().product::<usize>());
        (batch.number, batch.pixels.iter().map(|value| value.to_bits()).collect(), batch.classes, batch.indices)
    };
    loader.map(|batch| fact(batch.unwrap())).collect()
}

#[test]
fn threads_cache_and_resuming_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, classes) = draw(folder.path(), 6, 5, (20, 40), "png");
    // This one can never be read: its replacement must not depend on threads either.
    std::fs::write(&paths[7], "no picture").unwrap();
    let batches = PkSampler::new(&classes, 3, 2, 1).unwrap().epoch(0);
    let pictures = |cache| Arc::new(Pictures::new(paths.clone(), classes.clone(), input(32, 16), cache));
    let shared = pictures(1);
    let expected = facts(Loader::new(shared.clone(), batches.clone(), training(1, 0)).unwrap());
    assert_eq!(expected.len(), batches.len());
    for workers in [1, 2, 5, 100] {
        for pictures in [pictures(0), pictures(1), shared.clone()] {
            let again = facts(Loader::new(pictures, batches.clone(), training(workers, 0)).unwrap());
            assert!(again == expected, "{workers} threads");
        }
    }
    let rest = facts(Loader::new(pictures(0), batches.clone(), training(2, 2)).unwrap());
    assert!(rest[..] == expected[2..], "resumed at batch 2");
    assert!(facts(Loader::new(pictures(0), batches.clone(), training(2, batches.len())).unwrap()).is_empty());
}

#[test]
fn evaluation_is_the_preprocessing_of_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, classes) = draw(folder.path(), 5, 1, (64, 128), "jpg");
    let pictures = Arc::new(Pictures::new(paths.clone(), classes, input(32, 16), 1));
    let mut loader = Loader::evaluation(pictures, 2, 2, true).unwrap();
    assert_eq!(loader.remaining(), 3);
    let batches: Vec<_> = loader.by_ref().map(Result::unwrap).collect();
    assert_eq!(loader.remaining(), 0);
    assert_eq!(batches.iter().map(|batch| batch.indices.len()).collect::<Vec<_>>(), [2, 2, 1]);
    let pixels = batches.iter().flat_map(|batch| batch.pixels.chunks(3 * 32 * 16));
    for (path, pixels) in paths.iter().zip(pixels) {
        let mut expected = vec![0.0; 3 * 32 * 16];
        contract::preprocess::load(path, &input(32, 16), &mut expected).unwrap();
        assert_eq!(pixels, expected);
    }
}

#[test]
fn unreadable_pictures_are_replaced_counted_or_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, classes) = draw(folder.path(), 3, 3, (20, 40), "png");
    // Class 0 loses one picture, class 1 all.
    for broken in [1, 3, 4, 5] {
        std::fs::write(&paths[broken], "no picture").unwrap();
    }
    let pictures = Arc::new(Pictures::new(paths.clone(), classes.clone(), input(32, 16), 1));
    let batches = vec![vec![3, 4], vec![0, 1, 3, 4, 6, 7], vec![1, 2], vec![0, 1, 2]];
    let made: Vec<_> =
        Loader::new(pictures.clone(), batches.clone(), training(2, 0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(made.len(), 3, "a batch of nothing is passed over");
    assert_eq!(made.iter().map(|batch| batch.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(made[0].indices, [0, 2, 6, 7], "the next of the class, none of class 1");
    assert_eq!(made[0].classes, [0, 0, 2, 2]);
    assert_eq!(made[0].skipped.len(), 5, "two of the batch passed over");
    assert_eq!(made[1].indices, [0, 2], "in order, round the end, none twice");
    assert_eq!(made[2].indices, [0, 2, 2], "twice rather than a smaller batch");
    assert_eq!(made[2].skipped[0].replaced_by, Some(2));
    let numbers = |plan: &[Vec<usize>], from| -> Vec<usize> {
        let loader = Loader::new(pictures.clone(), plan.to_vec(), training(2, from)).unwrap();
        loader.numbered().map(|batch| batch.unwrap().0).collect()
    };
    assert_eq!((numbers(&batches, 0), numbers(&batches, 2)), (vec![1, 2, 3], vec![2, 3]));
    assert_eq!(numbers(&[vec![0], vec![3]], 1), [0; 0], "what was before it could be read");
    let names: Vec<_> = pictures.unreadable().into_iter().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(names, [&paths[1], &paths[3], &paths[4], &paths[5]].map(PathBuf::clone));

    let strict = LoaderOptions { strict: true, ..training(3, 1) };
    let made: Vec<_> = Loader::new(pictures.clone(), batches, strict).unwrap().collect();
    assert_eq!(made.len(), 1, "the error ends it");
    let error = made[0].as_ref().unwrap_err();
    let cause = std::error::Error::source(error).unwrap().to_string();
    assert!(cause.contains("0_1.png"), "{error}: {cause}");

    let seen: Vec<usize> =
        Loader::evaluation(pictures.clone(), 2, 2, false).unwrap().flat_map(|batch| batch.unwrap().indices).collect();
    assert_eq!(seen, [0, 2, 6, 7, 8], "evaluation replaces nothing");
    let none = Loader::new(pictures, vec![vec![3], vec![4, 5]], training(2, 0)).unwrap().collect::<Vec<_>>();
    assert_eq!(none.len(), 1);
    assert!(matches!(none[0], Err(LoaderError::AllUnreadable { count: 3, .. })), "{none:?}");
}

#[test]
fn a_dropped_loader_stops_its_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, classes) = draw(folder.path(), 4, 4, (64, 128), "jpg");
    let pictures = Arc::new(Pictures::new(paths, classes, input(384, 128), 0));
    let batches = vec![(0..16).collect::<Vec<_>>(); 1_000];
    let start = Instant::now();
    let mut loader = Loader::new(pictures.clone(), batches, training(3, 0)).unwrap();
    loader.next().unwrap().unwrap();
    drop(loader);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(Arc::strong_count(&pictures), 1, "no thread is left");
}

#[test]
fn a_panic_of_a_thread_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, classes) = draw(folder.path(), 1, 1, (8, 8), "png");
    let mut wrong = input(32, 16);
    wrong.mean.clear();
    let pictures = Arc::new(Pictures::new(paths, classes, wrong, 0));
    let mut loader = Loader::new(pictures, vec![vec![0]; 5], training(2, 0)).unwrap();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loader.next())).is_err());
}
