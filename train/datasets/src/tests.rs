//! Whole trees of empty files, as the listing sees them.

use std::fs;

use super::*;

fn touch(root: &Path, files: impl IntoIterator<Item = String>) {
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap();
    }
}

fn open(names: &str, root: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(names, root, &Options::default())
}

fn error(names: &str, root: &Path) -> String {
    open(names, root).unwrap_err().to_string()
}

/// A small dataset of the three folders: identities 2 and 11 train, 7 tests, with a distractor and junk.
fn small(root: &Path, ending: &str) {
    let train = ["0011_c2", "0002_c1", "0002_c3"].map(|name| format!("bounding_box_train/{name}s1_01.{ending}"));
    let query = [format!("query/0007_c1s1_01.{ending}"), "query/readme.txt".into(), "query/Thumbs.db".into()];
    let gallery = ["0007_c2", "-1_c1", "0000_c4"].map(|name| format!("bounding_box_test/{name}s1_01.{ending}"));
    touch(root, train.into_iter().chain(query).chain(gallery));
}

#[test]
fn market1501_has_the_published_counts() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("Market-1501/Market-1501-v15.09.15");
    let names = |set: &'static str, count: usize, first: usize, identities: usize| {
        (0..count).map(move |n| format!("{set}/{:04}_c{}s1_{n:06}_01.jpg", first + n % identities, n % 6 + 1))
    };
    for set in ["bounding_box_train", "query", "bounding_box_test"] {
        fs::create_dir_all(base.join(set)).unwrap();
    }
    for name in names("bounding_box_train", 12_936, 1, 751)
        .chain(names("query", 3_368, 752, 750))
        .chain(names("bounding_box_test", 13_115, 752, 750))
        .chain((0..2_798).map(|n| format!("bounding_box_test/0000_c{}s1_{n:06}_02.jpg", n % 6 + 1)))
        .chain((0..3_819).map(|n| format!("bounding_box_test/-1_c{}s1_{n:06}_03.jpg", n % 6 + 1)))
    {
        fs::File::create(base.join(name)).unwrap();
    }
    for root in [folder.path(), &folder.path().join("Market-1501"), &base] {
        let market = open("Market1501", root).unwrap();
        assert_eq!(Some(market.counts()), official("market1501"));
        assert_eq!(market.name, "market1501");
        assert_eq!(market.classes(), (1..=751).collect::<Vec<_>>());
        assert_eq!(market.gallery.iter().filter(|sample| sample.identity == 0).count(), 2_798);
        assert!(market.query.iter().all(|sample| (0..6).contains(&sample.camera)));
    }
    assert_eq!(open("", folder.path()).unwrap().name, "market1501", "told from the folders");
}

#[test]
fn published_counts_of_the_lists_of_msmt17() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("MSMT17_V1");
    touch(&base, ["train/0000/x.jpg", "test/0000/x.jpg"].map(String::from));
    let list = |name: &str, count: usize, identities: usize| {
        let line = |n: usize| {
            let identity = n % identities;
            format!("{identity:04}/{identity:04}_{n:03}_{:02}_0303morning_0008_0.jpg {identity}\n", n % 15 + 1)
        };
        fs::write(base.join(name), (0..count).map(line).collect::<String>()).unwrap();
    };
    list("list_train.txt", 30_248, 1_041);
    list("list_val.txt", 2_373, 1_041);
    list("list_query.txt", 11_659, 3_060);
    list("list_gallery.txt", 82_161, 3_060);
    let msmt = open("msmt17", folder.path()).unwrap();
    assert_eq!(Some(msmt.counts()), official("msmt17"));
    assert_eq!(msmt.train[12].camera, 12, "camera 13 by name is neither 1 nor 3");
    assert_eq!(msmt.train[12].path, base.join("train/0012/0012_012_13_0303morning_0008_0.jpg"));
    fs::write(base.join("list_query.txt"), "0001/0001_000_01_a.jpg 1\n../../secret_0_1.jpg 2\n").unwrap();
    let message = error("msmt17", folder.path());
    assert!(message.contains("line 2") && message.contains("secret"), "{message}");
}

#[test]
fn cameras_of_two_digits_are_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let files =
        ["bounding_box_train/0001_c13_0001.jpg", "query/0002_c15_0001.jpg", "bounding_box_test/0002_c1_0003.jpg"];
    touch(&folder.path().join("msmt17/MSMT17"), files.map(String::from));
    let msmt = open("MSMT17", folder.path()).unwrap();
    assert_eq!([msmt.train[0].camera, msmt.query[0].camera, msmt.gallery[0].camera], [12, 14, 0]);
    touch(&folder.path().join("msmt17/MSMT17"), ["query/0002_c16_0001.jpg".to_owned()]);
    let message = error("msmt17", folder.path());
    assert!(message.contains("camera 16") && message.contains("1 to 15"), "{message}");
}

#[test]
fn junk_goes_and_distractors_stay() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path(), "jpg");
    let market = open("market1501", folder.path()).unwrap();
    assert_eq!(market.classes(), [2, 11]);
    assert_eq!(market.train_classes(), [0, 0, 1]);
    assert_eq!(market.train[0].identity_name, "0002");
    assert_eq!(market.gallery.iter().map(|sample| sample.identity).collect::<Vec<_>>(), [0, 7]);
    assert_eq!(market.camera_count(), 4);
    touch(folder.path(), ["bounding_box_test/1502_c1s1_01.jpg".to_owned()]);
    let message = error("market1501", folder.path());
    assert!(message.contains("identity 1502") && message.contains("0 to 1501"), "{message}");
}

#[test]
fn joined_datasets_do_not_share_identities_or_cameras() {
    let folder = tempfile::tempdir().unwrap();
    small(&folder.path().join("Market-1501"), "jpg");
    small(&folder.path().join("DukeMTMC-reID"), "png");
    small(&folder.path().join("cuhk03/CUHK03_detected"), "png");
    fs::remove_file(folder.path().join("cuhk03/CUHK03_detected/bounding_box_train/0002_c3s1_01.png")).unwrap();
    fs::remove_file(folder.path().join("cuhk03/CUHK03_detected/bounding_box_test/0000_c4s1_01.png")).unwrap();
    let all = open("DukeMTMC+market1501+cuhk03", folder.path()).unwrap();
    assert_eq!(all.name, "dukemtmc+market1501+cuhk03_detected");
    let train: Vec<_> = all.train.iter().map(|sample| (sample.identity, sample.camera)).collect();
    assert_eq!(train, [(0, 0), (0, 2), (1, 1), (2, 3), (2, 5), (3, 4), (4, 6), (5, 7)]);
    assert_eq!(all.train[3].identity_name, "market1501/0002");
    assert_eq!(all.query[0].identity, 7, "test identities stay raw");
    assert!(all.query[0].path.starts_with(folder.path().join("DukeMTMC-reID")));
    let options = Options::default();
    assert_eq!(Dataset::open_each("market1501+dukemtmc", folder.path(), &options).unwrap().len(), 2);
    assert!(error("market1501+Market1501", folder.path()).contains("twice"));
    let message = error("", folder.path());
    assert!(message.contains("market1501, dukemtmc, cuhk03_detected"), "{message}");
    let message = error("market1501+veri", folder.path());
    assert!(message.contains("`veri`") && message.contains("msmt17"), "{message}");
}

#[test]
fn cuhk03_labeled_or_detected_and_split_files() {
    let folder = tempfile::tempdir().unwrap();
    let split = r#"[{"train": [["/other/machine/1_001_1_01.png", 0, 0]], "query": [["x\\1_002_1_01.png", 1, 0]],
        "gallery": [["1_002_2_01.png", 1, 1]], "num_train_pids": 1}]"#;
    touch(folder.path(), ["cuhk03/images_labeled/1_001_1_01.png".to_owned()]);
    fs::write(folder.path().join("cuhk03/splits_new_labeled.json"), split).unwrap();
    let options = Options { cuhk03_labeled: true, ..Options::default() };
    let labeled = Dataset::open("cuhk03", folder.path(), &options).unwrap();
    assert_eq!(labeled.name, "cuhk03_labeled");
    assert_eq!(labeled.train[0].path, folder.path().join("cuhk03/images_labeled/1_001_1_01.png"));
    assert_eq!((labeled.gallery[0].identity, labeled.gallery[0].camera), (1, 1));
    assert!(error("cuhk03", folder.path()).contains("cuhk03_detected"));
    fs::write(folder.path().join("cuhk03/splits_new_labeled.json"), "[{}]").unwrap();
    assert!(matches!(open("cuhk03_labeled", folder.path()), Err(DatasetError::Split { .. })));
}

#[test]
fn a_folder_per_identity() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = |identity: usize| (1..=10).map(move |picture| format!("s{identity}/{picture}.pgm"));
    touch(folder.path(), (1..=20).flat_map(pictures).chain(["README.md".into(), "empty/notes.txt".into()]));
    let faces = open("folders", folder.path()).unwrap();
    assert_eq!(faces, open("", folder.path()).unwrap(), "told from the folders");
    assert_eq!(faces.classes(), (0..10).collect::<Vec<_>>());
    assert_eq!([faces.train.len(), faces.query.len(), faces.gallery.len()], [100, 50, 50]);
    assert_eq!((faces.train[10].identity_name.as_str(), faces.query[0].identity_name.as_str()), ("s2", "s11"));
    let relative = |sample: &Sample| sample.path.strip_prefix(folder.path()).unwrap().display().to_string();
    assert_eq!(faces.train[..10].iter().map(relative).next_back().unwrap(), "s1/10.pgm");
    assert_eq!(faces.query[..2].iter().map(relative).collect::<Vec<_>>(), ["s11/1.pgm", "s11/3.pgm"]);
    assert_eq!(faces.gallery[4..6].iter().map(relative).collect::<Vec<_>>(), ["s11/10.pgm", "s12/2.pgm"]);
    assert!(faces.query.iter().all(|sample| sample.camera == 0));
    assert!(faces.gallery.iter().all(|sample| sample.camera == 1));

    let options = Options { train_identities: Some(15), ..Options::default() };
    assert_eq!(Dataset::open("folders", folder.path(), &options).unwrap().classes().len(), 15);
    for count in [0, 20] {
        let options = Options { train_identities: Some(count), ..Options::default() };
        let message = Dataset::open("folders", folder.path(), &options).unwrap_err().to_string();
        assert!(message.contains("20 identities") && message.contains("1 to 19"), "{message}");
    }
    assert!(error("market1501", folder.path()).contains("looks like dataset `folders`"));
}

#[test]
fn a_folder_per_identity_split_by_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["train/bob/1.jpg", "train/amy/1.jpg", "test/cat/1.jpg", "test/cat/2.jpg", "test/amy/1.jpg"];
    touch(folder.path(), files.map(String::from));
    let own = open("", folder.path()).unwrap();
    assert_eq!(own.train.iter().map(|sample| sample.identity).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(own.query.iter().map(|sample| sample.identity).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(own.gallery.len(), 1);
}

#[test]
fn errors_name_the_folder_what_was_found_and_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let missing = error("market1501", &root.join("nowhere"));
    assert!(missing.contains("nowhere") && missing.contains("does not exist"), "{missing}");
    let empty = error("market1501", root);
    assert!(empty.contains("found nothing") && empty.contains("bounding_box_train"), "{empty}");
    assert!(error("", root).contains("folders"));
    assert!(error("folders", root).contains("a folder per identity"));
    touch(root, ["amy/1.jpg".to_owned()]);
    assert!(error("folders", root).contains("1 identity"), "{}", error("folders", root));
    touch(root, ["bob/1.jpg".to_owned()]);
    assert!(error("folders", root).contains("one picture each"), "{}", error("folders", root));

    let market = root.join("Market-1501");
    touch(&market, ["bounding_box_train/0001_c1.jpg".to_owned()]);
    assert!(error("market1501", root).contains("query"));
    fs::create_dir_all(market.join("query")).unwrap();
    touch(&market, ["bounding_box_test/-1_c1.jpg".to_owned()]);
    let message = error("market1501", root);
    assert!(message.contains("query") && message.contains("0002_c1s1_000451_03.jpg"), "{message}");
    touch(&market, ["query/0001_c1.jpg".to_owned()]);
    assert!(error("market1501", root).contains("all junk"));
    touch(&market, ["query/portrait.jpg".to_owned()]);
    assert!(error("market1501", root).contains("portrait.jpg"));
}

#[test]
fn the_fingerprint_follows_the_pictures_not_the_place() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small(here.path(), "jpg");
    small(&there.path().join("Market-1501"), "jpg");
    let print = |root: &Path| open("market1501", root).unwrap().fingerprint();
    let first = print(here.path());
    assert_eq!(first.len(), 64);
    assert_eq!(first, print(there.path()));
    fs::write(here.path().join("query/0007_c1s1_01.jpg"), "x").unwrap();
    assert_ne!(first, print(here.path()));
}

#[test]
fn pictures_of_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["b/amy/2.jpg", "b/amy/10.png", "a/amy/1.jpg", "a/0007_c2s1.jpg", "a/-1_c1s1.jpg", "a/notes.txt"];
    touch(folder.path(), files.map(String::from));
    touch(folder.path(), ["a/._0007_c2s1.jpg".to_owned(), ".cache/0001_c1.jpg".to_owned()]);
    let pictures = list_pictures(folder.path()).unwrap();
    let facts: Vec<_> = pictures.iter().map(|sample| (sample.identity_name.as_str(), sample.camera)).collect();
    assert_eq!(facts, [("-1", 0), ("0007", 1), ("amy", 0), ("amy", 0), ("amy", 0)]);
    assert_eq!([pictures[0].identity, pictures[1].identity], [JUNK, 7]);
    assert!(pictures[4].path.ends_with("b/amy/10.png"));
    let alone = list_pictures(&folder.path().join("b/amy/2.jpg")).unwrap();
    assert_eq!(alone[0].identity, pictures[2].identity, "one name, one number, whatever is listed");
    assert!((1 << 52..1 << 53).contains(&alone[0].identity));
    let message = list_pictures(&folder.path().join(".cache/none")).unwrap_err().to_string();
    assert!(message.contains("none"), "{message}");
    fs::create_dir(folder.path().join("c")).unwrap();
    let message = list_pictures(&folder.path().join("c")).unwrap_err().to_string();
    assert!(message.contains("found nothing") && message.contains("jpg"), "{message}");
}

#[cfg(unix)]
#[test]
fn links_in_circles_and_names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    touch(root, ["amy/1.jpg", "amy/2.jpg", "bob/1.jpg", "bob/2.jpg"].map(String::from));
    symlink(root, root.join("amy/up")).unwrap();
    symlink("self", root.join("bob/self")).unwrap();
    symlink("gone.jpg", root.join("bob/9.jpg")).unwrap();
    symlink(root.join("amy"), root.join("bob/friend")).unwrap();
    let odd = root.join(std::ffi::OsStr::from_bytes(b"c\xff\xfe"));
    // Some file systems refuse such names; then there is nothing to test.
    let odd_names = fs::create_dir(&odd).is_ok();
    if odd_names {
        fs::File::create(odd.join(std::ffi::OsStr::from_bytes(b"\xff_0003_c2.jpg"))).unwrap();
        fs::File::create(odd.join("2.jpg")).unwrap();
    }
    let pictures = list_pictures(root).unwrap();
    assert_eq!(pictures.len(), 5 + if odd_names { 2 } else { 0 }, "{pictures:?}");
    if odd_names {
        assert!(pictures.iter().any(|sample| sample.identity == 3 && sample.camera == 1));
    }
    let own = open("folders", root).unwrap();
    assert_eq!(own.train.len(), 2, "amy's link upwards brings no pictures of others");
    own.fingerprint();
}
