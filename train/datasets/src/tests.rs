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
    let list = list_pictures(&[folder.path()], None).unwrap();
    let hidden = [folder.path().join(".cache"), folder.path().join("a/._0007_c2s1.jpg")];
    assert_eq!(list.left_out, LeftOut { hidden: hidden.into(), ..LeftOut::default() });
    let pictures = list_pictures(&[folder.path()], Some(Naming::File)).unwrap().samples;
    let facts: Vec<_> = pictures.iter().map(|sample| (sample.identity_name.as_str(), sample.camera)).collect();
    assert_eq!(facts, [("-1", 0), ("0007", 1), ("a", 0), ("b", 0), ("b", 0)]);
    assert_eq!([pictures[0].identity, pictures[1].identity], [JUNK, 7]);
    assert!(pictures[4].path.ends_with("b/amy/10.png"));
    let alone = list_pictures(&[folder.path().join("b/amy/2.jpg")], None).unwrap().samples;
    assert_eq!(alone[0].identity_name, "amy");
    let amy = list_pictures(&[folder.path().join("a")], None).unwrap().samples;
    assert_eq!(alone[0].identity, amy[2].identity, "one name, one number, whatever is listed");
    assert!((1 << 52..1 << 53).contains(&alone[0].identity));
    let message = list_pictures(&[folder.path().join(".cache/none")], None).unwrap_err().to_string();
    assert!(message.contains("none"), "{message}");
    fs::create_dir(folder.path().join("c")).unwrap();
    let message = list_pictures(&[folder.path().join("c")], None).unwrap_err().to_string();
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
    let pictures = list_pictures(&[root], None).unwrap().samples;
    assert_eq!(pictures.len(), 5 + if odd_names { 2 } else { 0 }, "{pictures:?}");
    if odd_names {
        assert_eq!(pictures.iter().filter(|sample| sample.identity_name == "c\\xff\\xfe").count(), 2);
    }
    let own = open("folders", root).unwrap();
    assert_eq!(own.train.len(), 2, "amy's link upwards brings no pictures of others");
    own.fingerprint();
}

fn relative<'a>(root: &Path, samples: impl IntoIterator<Item = &'a Sample>) -> Vec<(String, String, i64)> {
    let fact = |sample: &Sample| {
        let path = sample.path.strip_prefix(root).unwrap().display().to_string();
        (path, sample.identity_name.clone(), sample.camera)
    };
    samples.into_iter().map(fact).collect()
}

#[test]
fn the_folder_says_who_it_is_wherever_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let frames = ["anna", "bob"].into_iter().flat_map(|who| (1..=2).map(move |n| format!("{who}/{n:04}_c2.jpg")));
    touch(root, frames);
    let list = list_pictures(&[root], None).unwrap();
    let names: Vec<_> = list.samples.iter().map(|sample| sample.identity_name.as_str()).collect();
    assert_eq!(names, ["anna", "anna", "bob", "bob"]);
    let [note] = list.notes.as_slice() else { panic!("{:?}", list.notes) };
    assert!(note.text.contains("4 of 4") && note.text.contains("0001_c2.jpg"), "{note:?}");
    assert_eq!(note.other, Naming::File);
    // As `folders` does.
    assert_eq!(open("folders", root).unwrap().train[0].identity_name, "anna");
    let named = |place: &Path, naming| list_pictures(&[place], naming).unwrap().samples[0].identity_name.clone();
    assert_eq!(named(root, Some(Naming::File)), "0001");
    let alone = root.join("anna/0001_c2.jpg");
    assert_eq!([named(&alone, None), named(&alone, Some(Naming::Folder))], ["0001", "anna"]);
    assert_eq!(named(&root.join("anna"), Some(Naming::Folder)), "anna");

    let market = root.join("Market-1501-v15.09.15");
    small(&market, "jpg");
    for place in [&market, &market.join("bounding_box_test"), root] {
        let list = list_pictures(&[place], None).unwrap();
        let gallery = |sample: &&Sample| sample.path.ends_with("bounding_box_test/0007_c2s1_01.jpg");
        let found = list.samples.iter().find(gallery).unwrap();
        assert_eq!((found.identity, found.identity_name.as_str(), found.camera), (7, "0007", 1));
    }
}

/// `set/*` names whom `set` names, and what is taken where names contradict each other is said.
#[test]
fn listed_folders_are_people_if_they_are_several() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let frames = ["anna", "bob"].into_iter().flat_map(|who| (1..=2).map(move |n| format!("{who}/{n:04}_c2.jpg")));
    touch(root, frames.chain(["query/0007_c1.jpg", "gallery/0007_c2.jpg", "ada/1.jpg"].map(String::from)));
    let listed = |places: &[&str], naming| {
        let places: Vec<_> = places.iter().map(|place| root.join(place)).collect();
        let list = list_pictures(&places, naming).unwrap();
        let names = list.samples.iter().map(|sample| sample.identity_name.clone()).collect::<Vec<_>>().join(" ");
        (names, list.notes.iter().map(|note| note.other).collect::<Vec<_>>())
    };
    let several = [Naming::File];
    assert_eq!(listed(&["anna", "bob"], None), ("anna anna bob bob".into(), several.to_vec()));
    assert_eq!(listed(&["bob/0002_c2.jpg", "anna/0001_c2.jpg"], None), ("bob anna".into(), several.to_vec()));
    assert_eq!(listed(&["query", "anna", "bob"], None), ("0007 anna anna bob bob".into(), several.to_vec()));
    assert_eq!(listed(&["query", "gallery"], None), ("0007 0007".into(), vec![]), "sets are nobody");
    assert_eq!(listed(&["anna"], None), ("0001 0002".into(), vec![Naming::Folder]), "one folder may be of many");
    assert_eq!(listed(&["anna/0001_c2.jpg", "anna/0002_c2.jpg"], None), ("0001 0002".into(), vec![Naming::Folder]));
    assert_eq!(listed(&["anna", "bob"], Some(Naming::File)), ("0001 0002 0001 0002".into(), vec![]));
    assert_eq!(listed(&["anna"], Some(Naming::Folder)), ("anna anna".into(), vec![]));
    assert_eq!(listed(&["ada"], None), ("ada".into(), vec![]), "nothing contradicts the folder");
}

#[test]
fn one_name_is_one_identity_however_it_is_spelt_and_no_name_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    touch(root, ["Mu\u{308}ller/1.jpg", "M\u{fc}ller/2.jpg", "zoe/1.jpg", "zoe/2.jpg"].map(String::from));
    let list = list_pictures(&[root], None).unwrap().samples;
    let names: BTreeSet<_> = list.iter().map(|sample| (sample.identity, sample.identity_name.as_str())).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().any(|(_, name)| *name == "M\u{fc}ller"));
    assert_eq!(open("folders", root).unwrap().train.len(), 2, "both folders are one identity");
    touch(root, ["\u{1b}[2J/1.jpg".to_owned()]);
    for error in [list_pictures(&[root], None).unwrap_err(), open("folders", root).unwrap_err()] {
        assert!(matches!(&error, DatasetError::IdentityName { .. }), "{error}");
    }
}

#[test]
fn junk_folders_are_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let people = ["amy", "bob"].into_iter().flat_map(|who| (0..2).map(move |n| format!("{who}/{n}.jpg")));
    let junk = [
        "amy/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/amy/0.jpg",
        "$RECYCLE.BIN/S-1/1.jpg",
        "__MACOSX/amy/0.jpg",
        "lost+found/1.jpg",
        "System Volume Information/1.jpg",
        ".Trash-1000/files/1.jpg",
        ".@__thumb/1.jpg",
        "amy/._0.jpg",
    ];
    touch(root, people.chain(junk.map(String::from)));
    let list = list_pictures(&[root], None).unwrap();
    assert_eq!(list.samples.len(), 4, "{:?}", list.samples);
    assert_eq!([list.left_out.junk.len(), list.left_out.hidden.len()], [6, 3]);
    assert!(!list.left_out.is_loss());
    let said = list.left_out.warnings().join("\n");
    assert!(list.left_out.junk.contains(&root.join("amy/@eaDir")));
    for name in ["#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found", ".Trash-1000"] {
        assert!(said.contains(name), "{name} in {said}");
    }
    let own = open("folders", root).unwrap();
    assert_eq!((own.classes().len(), own.train.len() + own.query.len() + own.gallery.len()), (1, 4));
    assert_eq!([own.left_out.junk.len(), own.left_out.hidden.len()], [6, 3]);
    // Asked for by name, a folder is what it is.
    assert_eq!(list_pictures(&[root.join("lost+found")], None).unwrap().samples.len(), 1);
}

#[test]
fn formats_that_are_not_read_are_counted_by_ending() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let files = ["a/1.jpg", "a/2.JFIF", "a/3.avif", "a/4.AVIF", "a/5.jxl", "b/1.jpg", "b/6.heic", "b/notes.txt"];
    touch(root, files.map(String::from));
    let list = list_pictures(&[root], None).unwrap();
    assert_eq!(list.samples.len(), 3);
    assert!(list.left_out.is_loss());
    let said = list.left_out.warnings().join("\n");
    assert!(
        said.contains("2 .avif, 1 .heic, 1 .jxl") && said.contains("4 pictures") && said.contains("3.avif"),
        "{said}"
    );
    assert!(!said.contains("notes.txt"), "{said}");
    let own = open("folders", root).unwrap_err().to_string();
    assert!(own.contains("one picture each"), "{own}");
    touch(root, ["b/2.jpg".to_owned()]);
    assert_eq!(open("folders", root).unwrap().left_out, list.left_out);
    touch(&root.join("c"), ["1.avif".to_owned()]);
    let message = list_pictures(&[root.join("c")], None).unwrap_err().to_string();
    assert!(message.contains("1 picture of a format that is not read (1 .avif)"), "{message}");
    // Too few identities are left: that is why.
    fs::remove_file(root.join("b/1.jpg")).unwrap();
    fs::remove_file(root.join("b/2.jpg")).unwrap();
    let message = error("folders", root);
    assert!(message.contains("1 identity; 5 pictures of formats that are not read"), "{message}");
    // Nothing can be read at all, and no layout is found.
    for sets in [&["p/1.avif", "q/2.jp2"][..], &["train/p/1.avif", "test/q/2.jp2"]] {
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), sets.iter().map(|name| (*name).to_owned()));
        for name in ["", "market1501", "folders"] {
            let message = error(name, folder.path());
            assert!(message.contains("not read") && message.contains("1 .avif"), "{name}: {message}");
        }
    }
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    touch(root, ["a/1.jpg".to_owned()]);
    let pipe = root.join("a/pipe.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", root.join("a/zero.jpg")).unwrap();
    let list = list_pictures(&[root], None).unwrap();
    assert_eq!(list.samples.len(), 1);
    assert_eq!(list.left_out.special, [pipe.clone(), root.join("a/zero.jpg")]);
    assert!(list.left_out.is_loss());
    assert!(matches!(list_pictures(&[&pipe], None), Err(DatasetError::NotRegular { .. })));
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_read_is_left_out_and_said() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    touch(root, ["a/1.jpg", "a/locked/1.jpg", "b/1.jpg", "c/1.jpg", "c/2.jpg"].map(String::from));
    let lock = |mode| {
        for locked in ["a/locked", "b"] {
            fs::set_permissions(root.join(locked), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    lock(0);
    // Nothing is locked for root.
    if fs::read_dir(root.join("b")).is_err() {
        let list = list_pictures(&[root], None).unwrap();
        assert_eq!((list.samples.len(), list.left_out.unreadable.len()), (3, 2));
        assert!(list.left_out.is_loss());
        assert!(list.left_out.warnings().join("\n").contains("`"), "{:?}", list.left_out.warnings());
        assert_eq!(open("folders", root).unwrap().left_out.unreadable.len(), 2);
        assert!(matches!(list_pictures(&[root.join("b")], None), Err(DatasetError::Read { .. })));
    }
    lock(0o755);
}

#[test]
fn sets_with_a_folder_per_identity_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for set in ["train", "train_all", "val", "query", "gallery"] {
        touch(&root.join(set), ["p1/1.jpg", "p1/2.jpg", "p2/1.jpg"].map(String::from));
    }
    for name in ["", "folders"] {
        let own = open(name, root).unwrap();
        assert_eq!([own.train.len(), own.query.len(), own.gallery.len()], [3, 3, 3]);
        assert_eq!(own.classes().len(), 2, "people, not sets");
        assert!(own.train[0].path.starts_with(root.join("train_all")) && own.warnings.is_empty());
        assert_eq!((own.query[0].camera, own.gallery[0].camera), (0, 1));
        assert_eq!(own.query[2].identity, own.gallery[2].identity);
    }
    fs::remove_dir_all(root.join("train_all")).unwrap();
    let own = open("", root).unwrap();
    assert!(
        own.train[0].path.starts_with(root.join("train")) && own.warnings[0].contains("val` is not used"),
        "{:?}",
        own.warnings
    );
    let message = Dataset::open("", root, &Options { train_identities: Some(1), ..Options::default() }).unwrap_err();
    assert!(message.to_string().contains("where one folder holds all"), "{message}");
    fs::remove_dir_all(root.join("train")).unwrap();
    for name in ["", "folders"] {
        let message = error(name, root);
        assert!(message.contains("gallery, query, val") && message.contains("`train` and `test`, or"), "{message}");
    }
    let pictures = list_pictures(&[root], None).unwrap().samples;
    assert!(pictures.iter().all(|sample| sample.identity_name.starts_with('p')), "{pictures:?}");
}

/// As a well-known baseline sorts Market-1501: `gallery/0002/0002_c1s1_000451_03.jpg`, junk and distractors among them.
#[test]
fn sets_with_market_names_keep_cameras_and_junk() {
    for flat in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let place = |name: &str| match flat {
            true => name.to_owned(),
            false => format!("{}/{name}", name.split_once('_').unwrap().0),
        };
        touch(&root.join("train"), ["0002_c1s1_1.jpg", "0003_c2s1_1.jpg"].map(place));
        touch(&root.join("query"), ["0007_c1s1_1.jpg"].map(place));
        touch(&root.join("gallery"), ["0007_c3s1_1.jpg", "-1_c1s1_1.jpg", "0000_c2s1_1.jpg"].map(place));
        let own = open("folders", root).unwrap();
        let of_gallery = own.gallery.iter().map(|sample| (sample.identity, sample.camera)).collect::<BTreeSet<_>>();
        assert_eq!(of_gallery, BTreeSet::from([(0, 1), (7, 2)]), "flat: {flat}");
        assert_eq!(relative(&root.join("query"), &own.query), [(place("0007_c1s1_1.jpg"), "0007".into(), 0)]);
    }
}

/// Own pictures in a public layout: more cameras, larger numbers and other counts than the published set has.
#[test]
fn own_sets_have_any_cameras_and_identities() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    small(root, "jpg");
    touch(root, ["query/1702_c7s1_01.jpg", "bounding_box_test/1702_c12s1_01.jpg"].map(String::from));
    for name in ["market1501", "dukemtmc", "cuhk03", "msmt17", ""] {
        let own = open(name, root).unwrap();
        let of = |samples: &[Sample]| samples.iter().find(|one| one.identity == 1702).map(|one| one.camera);
        assert_eq!((of(&own.query), of(&own.gallery)), (Some(6), Some(11)), "{name}");
        assert!(own.warnings.is_empty(), "{:?}", own.warnings);
    }
    touch(root, ["query/0007_c0s1_01.jpg".to_owned()]);
    let own = open("market1501", root).unwrap();
    assert_eq!(own.query.iter().map(|one| one.camera).collect::<Vec<_>>(), [0, 1, 7], "as in the names");
    assert_eq!(own.gallery.iter().map(|one| one.camera).collect::<Vec<_>>(), [4, 2, 12]);
    for (name, facts) in
        [("-2_c1s1_01.jpg", ["identity -2", "-1 for junk"]), ("1_c4294967295.jpg", ["4294967295", "_c"])]
    {
        let path = root.join("query").join(name);
        fs::File::create(&path).unwrap();
        let message = error("market1501", root);
        assert!(facts.iter().all(|fact| message.contains(fact)), "{message}");
        fs::remove_file(path).unwrap();
    }
    // Under the published name, other counts are said, and stop nobody.
    let folder = tempfile::tempdir().unwrap();
    small(&folder.path().join("Market-1501-v15.09.15"), "jpg");
    let told = open("market1501", folder.path()).unwrap().warnings;
    assert!(told[0].contains("3 training pictures of 2 identities") && told[0].contains("12936 training"), "{told:?}");
}

#[test]
fn the_layouts_of_msmt17() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    touch(root, ["mask_train_v2/0000/0000_000_01_x.jpg".to_owned()]);
    let message = error("msmt17", root);
    assert!(message.contains("list_train.txt") && message.contains("mask_train_v2"), "{message}");
    for (list, line) in
        [("train", "0000/0000_000_01_x.jpg 0"), ("query", "1/1_0_2_x.jpg 1"), ("gallery", "1/1_1_3_x.jpg 1")]
    {
        fs::write(root.join(format!("list_{list}.txt")), line).unwrap();
    }
    // The folders of the second version, without a name as well, and those of the first.
    for (folders, name) in [(["mask_train_v2", "mask_test_v2"], ""), (["train", "test"], "msmt17")] {
        let msmt = open(name, root).unwrap();
        assert_eq!([msmt.train.len(), msmt.query.len(), msmt.gallery.len()], [1, 1, 1]);
        assert!(msmt.warnings[0].contains("list_val.txt"), "{:?}", msmt.warnings);
        assert_eq!(msmt.train[0].path, root.join(folders[0]).join("0000/0000_000_01_x.jpg"));
        assert_eq!(msmt.query[0].path, root.join(folders[1]).join("1/1_0_2_x.jpg"));
        fs::rename(root.join("mask_train_v2"), root.join("train")).ok();
    }
    // Pictures of a list that nobody can read are lost, as those of a folder are.
    fs::write(root.join("list_gallery.txt"), "1/1_1_3_x.jpg 1\n1/1_2_3_x.avif 1\n").unwrap();
    let msmt = open("msmt17", root).unwrap();
    assert_eq!((msmt.gallery.len(), msmt.left_out.unread.len()), (1, 1));
    fs::write(root.join("list_gallery.txt"), "1/1_2_3_x.avif 1\n").unwrap();
    let message = error("msmt17", root);
    assert!(message.contains("list_gallery.txt") && message.contains("1 .avif"), "{message}");
}

/// A person is remembered by the first of the training pictures by file name, and nobody who is tested is.
#[test]
fn people_who_train_are_remembered_by_their_first_picture() {
    let folder = tempfile::tempdir().unwrap();
    for person in 1..=6 {
        for frame in [2, 10] {
            let path = folder.path().join(format!("s{person}/{frame}.jpg"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{person} {frame}")).unwrap();
        }
    }
    let options = Options { train_identities: Some(4), ..Options::default() };
    let data = Dataset::open("folders", folder.path(), &options).unwrap();
    let trained = data.trained_on();
    assert_eq!((trained.people, trained.split.as_str()), (4, "folders: the 4 identities of its training set"));
    for person in 1..=6 {
        let held = |frame: usize| {
            let path = folder.path().join(format!("s{person}/{frame}.jpg"));
            trained.holds(&data.fingerprint(), &path).unwrap()
        };
        assert_eq!((held(2), held(10)), (Some(person <= 4), Some(false)), "{person}");
    }
}
