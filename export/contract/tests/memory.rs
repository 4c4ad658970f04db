//! Threads that decode large pictures at the same time stay within one bound. This test is a program of its own,
//! because it measures the peak of the process.

#![cfg(target_os = "linux")]

use std::path::Path;

use contract::PictureSpec;
use contract::preprocess::{MEMORY, load};
use image::{ImageBuffer, Luma, Rgb, RgbImage, Rgba};

/// Width and height: 12 million pixels.
const SIZE: [u32; 2] = [4000, 3000];

/// What the process has besides pictures: code, stacks, and parts of blocks that are not given back at once.
const ROOM: u64 = 96 << 20;

/// Starts counting the largest resident size anew.
fn reset() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Largest resident size since then, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// An EXIF block that turns the picture, behind the start of a JPEG.
fn turned(path: &Path) {
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut segment = vec![0xff, 0xe1, 0, (2 + 6 + tiff.len()) as u8];
    segment.extend(b"Exif\0\0");
    segment.extend(tiff);
    let mut bytes = std::fs::read(path).unwrap();
    bytes.splice(2..2, segment);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn many_large_pictures_at_a_time_stay_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [width, height] = SIZE;
    // Bytes that a thread would need by itself, at least: they must be many times the bound together.
    let pictures =
        [("deep.png", 11), ("plain.ppm", 9), ("deep.pgm", 9), ("turned.jpg", 6), ("plain.webp", 7), ("deep.tif", 7)];
    ImageBuffer::from_fn(width, height, |x, y| Rgba([x as u16, y as u16, 9, 60_000])).save(path("deep.png")).unwrap();
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 9])).save(path("plain.ppm")).unwrap();
    ImageBuffer::from_fn(width, height, |x, y| Luma([(x + y) as u16])).save(path("deep.pgm")).unwrap();
    let flat = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 9]));
    flat.save(path("turned.jpg")).unwrap();
    flat.save(path("plain.webp")).unwrap();
    turned(&path("turned.jpg"));
    let deep = fixtures::Tiff::new(SIZE, 16, 1).bytes(|x, y, _| (x + y) * 8);
    std::fs::write(path("deep.tif"), deep).unwrap();
    let spec = PictureSpec::imagenet([64, 32]);
    for (name, bytes) in pictures {
        let threads = (2 * MEMORY).div_ceil(u64::from(width) * u64::from(height) * bytes);
        reset();
        let before = peak();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut values = vec![0.0; 3 * 64 * 32];
                    load(&path(name), &spec, &mut values).unwrap();
                });
            }
        });
        let more = peak().saturating_sub(before);
        println!("{name}: {threads} threads, {} MiB", more >> 20);
        assert!(more <= MEMORY + ROOM, "{name}: {} MiB more with {threads} threads", more >> 20);
    }
}
