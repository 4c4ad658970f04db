//! Sets with planted faults.

use std::sync::atomic::{AtomicUsize, Ordering};

use image::{RgbImage, imageops};

use super::*;
use crate::Options;

/// A picture that no other seed gives: 4×8 blots of any colour, as smooth as a photograph.
fn draw(seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    let blots = RgbImage::from_fn(4, 8, |_, _| image::Rgb([next(), next(), next()]));
    imageops::resize(&blots, 48, 96, imageops::FilterType::CatmullRom)
}

fn save(root: &Path, name: &str, picture: &RgbImage) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

fn audited(root: &Path, names: &str) -> Audit {
    let sets = Dataset::list_each(names, root, &Options::default()).unwrap();
    let (read, compared) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let tick = |tick: Tick| match tick {
        Tick::Read => read.fetch_add(1, Ordering::Relaxed),
        Tick::Compared => compared.fetch_add(1, Ordering::Relaxed),
    };
    let audit = audit(&sets, AuditOptions::default(), &|step| {
        tick(step);
    });
    assert_eq!(read.into_inner(), audit.files, "a step for each file");
    audit
}

/// Kind, count and names of files of every finding.
fn found(audit: &Audit) -> Vec<(FindingKind, usize, Vec<String>)> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let names = |finding: &Finding| finding.examples.iter().flat_map(|one| &one.pictures).map(name).collect();
    audit.findings.iter().map(|one| (one.kind, one.count, names(one))).collect()
}

/// A sound set: three people train, two are tested, all by two cameras.
fn sound(root: &Path) {
    for person in 1..=5 {
        for camera in 1..=2 {
            let name = format!("{person:04}_c{camera}s1_01.png");
            let set = match (person, camera) {
                (1..=3, _) => "bounding_box_train",
                (_, 1) => "query",
                _ => "bounding_box_test",
            };
            save(root, &format!("{set}/{name}"), &draw(person * 10 + camera));
        }
    }
}

#[test]
fn a_sound_set_has_no_findings() {
    let folder = tempfile::tempdir().unwrap();
    sound(folder.path());
    save(folder.path(), "bounding_box_test/0000_c1s1_01.png", &draw(900));
    save(folder.path(), "bounding_box_test/0000_c1s1_02.png", &draw(901));
    let audit = audited(folder.path(), "market1501");
    assert_eq!(found(&audit), []);
    let [set] = &audit.datasets[..] else { panic!("{audit:?}") };
    let of = |pictures, identities, cameras| SetFacts { pictures, identities, cameras };
    assert_eq!([set.train, set.query, set.gallery], [of(6, 3, 2), of(2, 2, 1), of(4, 2, 2)], "a distractor is nobody");
    assert_eq!(set.scorable, Scorable { queries: 2, scored: 2, ..Scorable::default() });
    assert_eq!(set.pictures_of_identities, [[2, 3]]);
    let camera = |camera, train, query, gallery| CameraFacts { camera, train, query, gallery };
    assert_eq!(set.cameras, [camera(0, 3, 2, 2), camera(1, 3, 0, 2)]);
}

#[test]
fn each_planted_fault_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    sound(root);
    let train = |name: &str, picture: &RgbImage| save(root, &format!("bounding_box_train/{name}"), picture);
    // Person 4 is tested, and trains; with the very picture of the query, and smaller and compressed.
    train("0004_c1s1_08.png", &draw(41));
    train("0004_c2s1_09.jpg", &imageops::resize(&draw(42), 36, 72, imageops::FilterType::Triangle));
    // One picture under two names, by two cameras, and twice by one.
    train("0002_c2s1_08.png", &draw(12));
    train("0003_c1s1_08.png", &draw(32));
    train("0003_c2s1_08.png", &draw(32));
    let mut lighter = draw(31);
    lighter.iter_mut().for_each(|level| *level = (u32::from(*level) * 9 / 10 + 20) as u8);
    train("0003_c1s1_09.jpg", &lighter);
    // Of another file, so that it is no copy of the file.
    std::fs::write(root.join("bounding_box_train/0003_c1s1_07.png"), "no picture").unwrap();
    train("0009_c1s1_01.png", &imageops::resize(&draw(91), 12, 24, imageops::FilterType::Triangle));
    train("0008_c1s1_01.png", &RgbImage::from_pixel(48, 96, image::Rgb([7, 9, 8])));
    train("0008_c1s1_02.png", &draw(82));
    save(root, "query/0006_c1s1_01.png", &draw(61));
    save(root, "query/0007_c1s1_01.png", &draw(71));
    save(root, "bounding_box_test/0007_c1s1_02.png", &draw(72));
    let audit = audited(root, "market1501");
    use FindingKind::*;
    let expected: [(FindingKind, &[&str]); 13] = [
        (SharedIdentities, &["0004_c1s1_08.png", "0004_c1s1_01.png"]),
        (EqualAcrossSplits, &["0004_c1s1_08.png", "0004_c1s1_01.png"]),
        (NearAcrossSplits, &["0004_c2s1_09.jpg", "0004_c2s1_01.png"]),
        (EqualAcrossIdentities, &["0001_c2s1_01.png", "0002_c2s1_08.png"]),
        (EqualAcrossCameras, &["0003_c1s1_08.png", "0003_c2s1_01.png"]),
        (Near, &["0003_c1s1_01.png", "0003_c1s1_09.jpg"]),
        (QueryAbsent, &["0006_c1s1_01.png"]),
        (QueryOwnCamera, &["0007_c1s1_01.png"]),
        (Unreadable, &["0003_c1s1_07.png"]),
        (Tiny, &["0009_c1s1_01.png"]),
        (Blank, &["0008_c1s1_01.png"]),
        (OnePicture, &["0009_c1s1_01.png"]),
        (OneCamera, &["0008_c1s1_01.png"]),
    ];
    let all = found(&audit);
    let kinds: Vec<_> = all.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, expected.map(|(kind, _)| kind), "{all:#?}");
    for ((kind, count, names), (_, wanted)) in all.iter().zip(expected) {
        // The copies by two cameras are two: both equal the first.
        assert_eq!(*count, if *kind == EqualAcrossCameras { 2 } else { 1 }, "{kind:?}");
        assert_eq!(names[..wanted.len()], *wanted, "{kind:?}");
    }
    assert!(audit.findings[0].examples[0].what.contains("`0004`"));
    assert!(audit.findings[2].examples[0].what.contains("levels apart"), "{:?}", audit.findings[2]);
    let json = serde_json::to_value(&audit).unwrap();
    assert_eq!(json["findings"][0]["kind"], "shared-identities");
}

#[test]
fn cameras_that_see_little_are_said_and_files_in_two_sets_are_no_copies() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut table = "path,identity,camera,split\n".to_owned();
    for picture in 0..24 {
        save(root, &format!("{picture}.png"), &draw(picture + 1));
        let (camera, person) = (usize::from(picture == 0), picture % 2);
        table.push_str(&format!("{picture}.png,{person},{camera},train\n"));
    }
    save(root, "q.png", &draw(100));
    save(root, "g.png", &draw(101));
    table.push_str("q.png,x,0,query\nq.png,x,0,gallery\ng.png,x,1,gallery\n");
    std::fs::write(root.join("own.csv"), &table).unwrap();
    let audit = audited(root, "own.csv");
    let kinds: Vec<_> = found(&audit).into_iter().map(|(kind, count, _)| (kind, count)).collect();
    assert_eq!(kinds, [(FindingKind::OneCamera, 1), (FindingKind::RareCamera, 1)], "{audit:#?}");
    assert!(audit.findings[1].examples[0].what.contains("camera 1 has 1 training pictures, the largest 23"));
    // In a second set it trains under another name.
    std::fs::write(root.join("two.csv"), "path,identity,camera,split\nq.png,y,0,train\n").unwrap();
    let both = audited(root, "own.csv+two.csv");
    assert_eq!((both.files, both.findings[0].kind, both.findings[0].count), (26, FindingKind::EqualAcrossSplits, 1));
}

/// Folders do not say which camera took a picture: neighbouring frames are no pictures of different cameras.
#[test]
fn cameras_that_nobody_knows_are_not_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for person in 1..=4 {
        for picture in 1..=4 {
            save(root, &format!("p{person}/{picture}.png"), &draw(10 * person + picture));
        }
    }
    // Of somebody who is tested: the query and the entry beside it.
    save(root, "p4/2.png", &draw(41));
    let audit = audited(root, "folders");
    assert_eq!(found(&audit), [(FindingKind::Equal, 1, vec!["1.png".to_owned(), "2.png".to_owned()])]);
    assert_eq!(audit.findings[0].examples[0].what, "`p4` (query) and `p4` (gallery)");
    let [set] = &audit.datasets[..] else { panic!("{audit:?}") };
    assert_eq!((set.train.cameras, set.cameras.len(), set.scorable.scored), (0, 0, set.scorable.queries));
}
