//! Folders of empty files: nothing here opens a picture.

use std::collections::BTreeSet;

use super::*;

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    folder
}

fn casia(subjects: usize, spectra: &[&str]) -> tempfile::TempDir {
    let mut files = Vec::new();
    for subject in 1..=subjects {
        for hand in ['l', 'r'] {
            for spectrum in spectra {
                files.extend((1..=6).map(|n| format!("{subject:03}_{hand}_{spectrum}_{n:02}.jpg")));
            }
        }
    }
    folder(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

fn names(pairs: &[Pair], root: &Path) -> Vec<[String; 2]> {
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    pairs.iter().map(|pair| [relative(&pair.palm), relative(&pair.vein)]).collect()
}

/// The reference's own worked example (`pair_dataset` of the golden file): there `002` pairs by position, `f` is left
/// over, and `003` takes a class in one split only.
#[test]
fn pairs_are_joined_by_name_and_the_rest_is_said() {
    let mut files = Vec::new();
    for (identity, palms, veins) in [
        ("001", "1 10 2 3 4", "1 10 2 3 4"),
        ("002", "a b c d e f", "a b c d e"),
        ("003", "x", "x"),
        ("004", "p1 p2", "v1 v2"),
        ("005", "", "z"),
        ("006", "q1 q2 q3 q4 q5", "q1 q2 q3 q4 q5"),
    ] {
        for (side, names) in [("palm", palms), ("vein", veins)] {
            files.extend(names.split_whitespace().map(|name| format!("{side}/{identity}/{name}.jpg")));
        }
    }
    files.push("palm/001/notes.txt".into());
    let folder = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let list = list::list(folder.path(), &PairOptions::default(), 2).unwrap();
    assert_eq!((list.layout, list.classes.join(" ").as_str()), ("plain", "001 002 004 006"));
    let named = names(&list.pairs, folder.path());
    assert_eq!(named.len(), 5 + 5 + 2 + 5);
    assert_eq!(named[1], ["palm/001/2.jpg", "vein/001/2.jpg"], "natural order, joined by name");
    assert_eq!(named[10], ["palm/004/p1.jpg", "vein/004/v1.jpg"], "by position");
    let said = list.warnings.join("\n");
    for part in
        ["`004`: palm and vein", "palm/002/f.jpg", "vein/005/z.jpg", "1 identity with fewer than 2 pairs", "`003`"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(
        list_pairs(folder.path(), &PairOptions::default()).unwrap().classes.len(),
        5,
        "single pairs are listed too"
    );
}

#[test]
fn casia_hands_are_two_identities_and_spectra_are_chosen_by_name() {
    let folder = casia(4, &["460", "850", "940", "WHT"]);
    let data = PairedDataset::open(folder.path(), &PairOptions::default()).unwrap();
    assert_eq!((data.name.as_str(), data.classes.len(), data.all().count()), ("casia", 8, 48));
    let pair = &data.train[0];
    let stem = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(stem(&pair.palm).replace("WHT", "940"), stem(&pair.vein));
    let options = PairOptions { palm: Some("460".into()), vein: Some("850".into()), ..PairOptions::default() };
    let data = PairedDataset::open(folder.path(), &options).unwrap();
    assert!(stem(&data.train[0].palm).contains("_460_") && stem(&data.train[0].vein).contains("_850_"));
}

#[test]
fn other_people_test_and_the_trained_come_first() {
    let folder = casia(10, &["940", "WHT"]);
    let options = PairOptions::default();
    let data = PairedDataset::open(folder.path(), &options).unwrap();
    assert_eq!((data.num_classes, data.classes.len()), (16, 20));
    assert_eq!((data.train.len(), data.val.len(), data.test.len()), (16 * 4, 16 * 2, 4 * 6));
    let classes = |pairs: &[Pair]| pairs.iter().map(|pair| pair.class).collect::<BTreeSet<_>>();
    assert_eq!(classes(&data.train), (0..16).collect());
    assert_eq!(classes(&data.val), (0..16).collect(), "one class map for both");
    assert_eq!(classes(&data.test), (16..20).collect());
    for pair in data.all() {
        let file = pair.palm.file_name().unwrap().to_string_lossy().into_owned();
        assert!(file.starts_with(&data.classes[pair.class]), "{file} is {}", data.classes[pair.class]);
    }
    assert_eq!(data, PairedDataset::open(folder.path(), &options).unwrap());
    let other = PairedDataset::open(folder.path(), &PairOptions { seed: 7, ..options }).unwrap();
    assert_ne!(data.classes[16..], other.classes[16..]);
    assert_ne!(data.fingerprint(), other.fingerprint());
}

#[test]
fn sessions_and_pairs_split_a_closed_set() {
    let folder = casia(3, &["940", "WHT"]);
    let open = |split| PairedDataset::open(folder.path(), &PairOptions { split, ..PairOptions::default() }).unwrap();
    let sessions = open(SplitRule::Session);
    assert_eq!((sessions.num_classes, sessions.train.len(), sessions.val.len(), sessions.test.len()), (6, 12, 6, 18));
    assert!(sessions.test.iter().all(|pair| pair.session == 2) && sessions.train.iter().all(|pair| pair.session == 1));
    let pairs = open(SplitRule::Pairs);
    assert_eq!((pairs.train.len(), pairs.val.len(), pairs.test.len()), (24, 6, 6));
    let mut all: Vec<&Path> = pairs.all().map(|pair| pair.palm.as_path()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 36, "no pair is in two sets");
}

#[test]
fn manifests_and_their_mistakes() {
    let folder = folder(&[]);
    let write = |text: &str| std::fs::write(folder.path().join("manifest.csv"), text).unwrap();
    let message = || list_pairs(folder.path(), &PairOptions::default()).unwrap_err().to_string();
    write("identity,vein,palm,session\n7,a/v.png,b/p.png,2\n7,a/w.png,b/q.png,\n");
    let list = list_pairs(folder.path(), &PairOptions::default()).unwrap();
    assert_eq!(names(&list.pairs, folder.path())[0], ["b/p.png", "a/v.png"]);
    assert_eq!(list.pairs.iter().map(|pair| pair.session).collect::<Vec<_>>(), [2, 1]);
    write("palm,vein\n");
    assert!(message().contains("line 1") && message().contains("the columns palm, vein and identity"), "{}", message());
    write("palm,vein,identity\na.png,,7\n");
    assert!(message().contains("line 2") && message().contains("`a.png,,7`"), "{}", message());
    write("palm,vein,identity\n");
    assert!(message().contains("no identity"), "{}", message());
    for outside in ["/etc/passwd.png", "../x.png", "a/../../x.png", "C:\\x.png", "..\\x.png"] {
        write(&format!("palm,vein,identity\na.png,{outside},7\n"));
        assert!(message().contains("line 2") && message().contains("inside the manifest's folder"), "{}", message());
    }
    write("palm,vein,identity\na.png,b.png,7,left\n");
    assert!(source(folder.path()).contains("line 2 has 4 cells, the header 3"), "{}", source(folder.path()));
    write("palm,vein,identity\na.png,b.png,7\nc.png,b.png,8\n");
    assert!(message().contains("line 3") && message().contains("under one identity"), "{}", message());
    write("palm,vein,identity\na.png,b.png,7\n./a.png,b.png,7\n");
    assert!(message().contains("line 3") && message().contains("each pair once"), "{}", message());
    write("palm,vein,identity\na.png,b.png,\u{1b}[31m\n");
    assert!(message().contains("cannot name an identity"), "{}", message());
}

/// What is wrong with the manifest.
fn source(root: &Path) -> String {
    let error = list_pairs(root, &PairOptions::default()).unwrap_err();
    std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn manifests_are_what_spreadsheets_save() {
    let folder = folder(&["p1/1.png", "p2/odd\\name.png"]);
    let root = folder.path();
    for separator in [",", ";"] {
        let line = |palm: &str, identity: &str| {
            format!("\"Smith, {identity}\"{separator}{palm}{separator}v{palm}{separator}x\r\n")
        };
        let header = ["\u{feff}Identity", "Palm", "vein", "extra"].join(separator) + "\r\n";
        let text = header
            + &line("p1\\1.png", "Anna")
            + &line("p2/odd\\name.png", "Bob \"\"B.\"\"")
            + &line("u.png", "Mu\u{308}");
        std::fs::write(root.join("manifest.csv"), text).unwrap();
        let list = list_pairs(root, &PairOptions::default()).unwrap();
        assert_eq!(list.classes, ["Smith, Anna", "Smith, Bob \"B.\"", "Smith, M\u{fc}"]);
        let palms: Vec<_> = list.pairs.iter().map(|pair| pair.palm.strip_prefix(root).unwrap().to_owned()).collect();
        assert_eq!(
            palms,
            ["p1/1.png", "p2/odd\\name.png", "u.png"].map(PathBuf::from),
            "a name with a backslash stays"
        );
    }
}

#[test]
fn what_lies_among_pairs_is_said() {
    let files = ["palm/1/a.png", "vein/1/a.png", "palm/1/b.avif", "palm/@eaDir/a.png/T.jpg", "vein/.hidden/1.png"];
    let folder = folder(&files);
    let list = list_pairs(folder.path(), &PairOptions::default()).unwrap();
    assert_eq!((list.pairs.len(), list.classes.len()), (1, 1));
    assert!(list.left_out.is_loss());
    let said = list.warnings.join("\n");
    assert!(said.contains(".avif") && said.contains("@eaDir") && said.contains(".hidden"), "{said}");
    // Of a manifest, too.
    let table = "palm,vein,identity\npalm/1/a.png,vein/1/a.png,1\npalm/1/b.avif,vein/1/a.png,1\n";
    std::fs::write(folder.path().join("manifest.csv"), table).unwrap();
    let list = list_pairs(folder.path(), &PairOptions::default()).unwrap();
    assert_eq!((list.pairs.len(), list.left_out.unread.len()), (1, 1));
    assert!(list.warnings[0].contains("1 .avif"), "{:?}", list.warnings);
}

#[test]
fn what_cannot_be_used_is_named() {
    let message = |files: &[&str], options: &PairOptions| {
        let folder = folder(files);
        PairedDataset::open(folder.path(), options).unwrap_err().to_string()
    };
    let auto = PairOptions::default();
    let empty = message(&["palm/1/a.png", "palm/2/a.png"], &auto);
    assert!(empty.contains("2 palm pictures") && empty.contains("no vein picture"), "{empty}");
    assert!(empty.contains("`--vein-band`") && empty.contains("manifest.csv"), "{empty}");
    let half = message(&["palm/1/a.png", "palm/2/a.png", "vein/1/a.jp2", "vein/2/a.jp2"], &auto);
    assert!(half.contains("2 pictures of formats that are not read (2 .jp2)"), "{half}");
    let nothing = message(&["readme.txt"], &auto);
    assert!(nothing.contains("1 other file") && nothing.contains("jpg"), "{nothing}");
    let unread = message(&["palm/1/a.jxl", "vein/1/a.jxl"], &auto);
    assert!(unread.contains("2 pictures of formats that are not read") && unread.contains("png"), "{unread}");
    for files in [["PolyU_Red/0001_1.jpg", "PolyU_NIR/0001_1.jpg"], ["palm_1_1.jpg", "vein_1_1.jpg"]] {
        let other = message(&files, &auto);
        assert!(!other.contains("auto") && other.contains("such as `p") || other.contains("such as `P"), "{other}");
        for way_out in ["CASIA", "--palm-band", "--pattern", "manifest.csv with the columns palm, vein and identity"] {
            assert!(other.contains(way_out), "{other}");
        }
    }
    let casia = message(&["palm_1_1.jpg"], &PairOptions { layout: PairLayout::Casia, ..auto.clone() });
    assert!(casia.contains("001_l_940_01.jpg") && casia.contains("`casia`") && !casia.contains("Tongji"), "{casia}");
    let pair = ["palm/1/a.png", "palm/1/b.png", "vein/1/a.png", "vein/1/b.png"];
    let one = message(&pair, &auto);
    assert!(one.contains("1 identity with two") && one.contains("at least 4") && !one.contains("`plain`"), "{one}");
    let closed = message(&pair, &PairOptions { split: SplitRule::Pairs, ..auto.clone() });
    assert!(closed.contains("at least 2"), "{closed}");
    let shares = message(&pair, &PairOptions { shares: [0.5, 0.1, 0.1], ..auto.clone() });
    assert!(shares.contains("0.5, 0.1 and 0.1"), "{shares}");
    let band = message(&["001_l_460_01.jpg", "001_l_940_01.jpg"], &PairOptions { vein: Some("950".into()), ..auto });
    assert!(band.contains("460, 940"), "{band}");
    let missing = PairedDataset::open(Path::new("/nowhere"), &PairOptions::default()).unwrap_err();
    assert!(matches!(missing, DatasetError::NoFolder { .. }));
}

/// A grey PGM.
fn pgm(path: &Path, width: u32, height: u32) {
    let pixels = vec![b'x'; (width * height) as usize];
    std::fs::write(path, [format!("P5 {width} {height} 255\n").as_bytes(), &pixels].concat()).unwrap();
}

#[cfg(unix)]
#[test]
fn pairs_of_two_sizes_are_told_by_their_headers_and_pipes_are_not_opened() {
    let folder = folder(&[]);
    let at = |name: &str| folder.path().join(name);
    pgm(&at("a.pgm"), 4, 3);
    pgm(&at("b.pgm"), 4, 3);
    pgm(&at("c.pgm"), 3, 4);
    assert!(std::process::Command::new("mkfifo").arg(at("pipe.pgm")).status().unwrap().success());
    let pair =
        |palm: &str, vein: &str| Pair { palm: at(palm), vein: at(vein), class: 0, session: 1, name: palm.into() };
    assert_eq!(of_two_sizes([pair("a.pgm", "b.pgm"), pair("a.pgm", "pipe.pgm")].iter()), None);
    let warning = of_two_sizes([pair("a.pgm", "b.pgm"), pair("a.pgm", "c.pgm")].iter()).unwrap();
    assert!(warning.starts_with("1 pair of pictures of two sizes") && warning.contains("a.pgm"), "{warning}");
}

/// Whatever the split and the seed, a person is remembered by the first pair, and nobody who is not trained on is.
#[test]
fn people_who_train_are_remembered_by_their_first_pair() {
    let folder = tempfile::tempdir().unwrap();
    for hand in 0..10 {
        for n in 0..5 {
            for side in ["palm", "vein"] {
                let path = folder.path().join(format!("{side}/{hand:03}_l/{n}.png"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("{side} {hand} {n}")).unwrap();
            }
        }
    }
    for split in [SplitRule::People, SplitRule::Pairs] {
        for seed in [1, 2, 3] {
            let options = PairOptions { split, seed, ..PairOptions::default() };
            let data = PairedDataset::open(folder.path(), &options).unwrap();
            let trained = data.trained_on(&options);
            assert!(trained.split.contains(&format!("seed {seed}")), "{}", trained.split);
            assert_eq!((trained.people, trained.problem()), (data.num_classes, None));
            for (class, name) in data.classes.iter().enumerate() {
                let first = folder.path().join(format!("palm/{name}/0.png"));
                let held = trained.holds(&data.fingerprint(), &first).unwrap();
                assert_eq!(held, Some(class < data.num_classes), "{split:?} {seed} {name}");
            }
        }
    }
}
