//! `deploy embed`.

use contract::{ModelContract, PictureSpec};

use crate::fixture::{DIM, Fixture, SIZE, TOLERANCE, contract, graph, node, reference_embedding, with_contract};

/// Pictures a to j of people named by folder.
fn people(fixture: &Fixture) -> Vec<std::path::PathBuf> {
    let names = ["ada/1", "ada/2", "ben/1", "ben/2", "cleo/1", "cleo/2", "cleo/10", "dan/1", "dan/2", "eve/1"];
    let picture = |(index, name): (usize, &&str)| {
        let person = name.split('/').next().unwrap();
        fixture.picture(&format!("people/{name}.png"), person, 0.02 * index as f32)
    };
    names.iter().enumerate().map(picture).collect()
}

#[test]
fn rows_are_the_references_in_natural_order() {
    let fixture = Fixture::new();
    let pictures = people(&fixture);
    let said = fixture.run("embed @people -m @model.onnx -o @out --batch_size 4").done();
    assert!(said.contains(&format!("10 embeddings of {DIM} values")), "{said}");
    let (values, rows) = fixture.rows("out");
    assert_eq!(values.dim(), (10, DIM));
    for (index, picture) in pictures.iter().enumerate() {
        assert_eq!(rows[index]["path"], picture.to_str().unwrap());
        let expected = reference_embedding(picture);
        let found = values.row(index);
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "row {index} differs by {worst}");
    }
    assert_eq!((&rows[0]["identity_name"], &rows[0]["camera"]), (&"ada".into(), &0.into()));
    let gallery = deploy::gallery::Gallery::open(&fixture.path("out")).unwrap();
    assert_eq!((gallery.model().dim, gallery.about().skipped), (DIM, 0));
    assert_eq!(gallery.model().contract_id, crate::fixture::contract().embedding.unwrap().contract_id);
    assert_eq!(fixture.gallery_files("out"), [".lock", "gallery.db", "segments"]);
}

#[test]
fn the_same_bits_twice_and_the_same_rows_in_any_batch() {
    let fixture = Fixture::new();
    people(&fixture);
    let embed = |flags: &str| {
        fixture.run(&format!("embed @people -m @model.onnx -o @out --replace {flags}")).done();
        fixture.rows("out").0
    };
    let rows = embed("");
    assert_eq!(embed(""), rows, "the same command gives the same bits");
    for flags in ["--batch-size 1", "--batch-size 3 --threads 3", "--batch-size 64 --threads 1"] {
        let others = embed(flags);
        let worst = (&rows - &others).iter().fold(0.0f32, |worst, value| worst.max(value.abs()));
        assert!(worst <= TOLERANCE, "{flags}: {worst}");
    }
}

/// The same pixels in another format are the same picture; one of several in a file is the first.
#[test]
fn a_tiff_is_embedded_as_any_picture_is() {
    let fixture = Fixture::new();
    fixture.picture("people/ada/1.png", "ada", 0.1);
    let picture = crate::fixture::person_picture("ada", 0.1);
    let kind = fixtures::Tiff { tile: Some(16), ..fixtures::Tiff::new(picture.dimensions().into(), 8, 2) };
    let write = |path: &str, bytes: Vec<u8>| std::fs::write(fixture.path(path), bytes).unwrap();
    write("people/ada/2.tif", kind.bytes(|x, y, sample| picture.get_pixel(x, y)[usize::from(sample)].into()));
    write("people/ada/3.TIFF", fixtures::Tiff::new([4, 4], 8, 3).bytes(|_, _, _| 0));
    let said = fixture.run("embed @people -m @model.onnx -o @out");
    assert!(said.stderr.contains("3.TIFF") && said.stderr.contains("RGBPalette"), "{}", said.stderr);
    said.done();
    let (values, rows) = fixture.rows("out");
    assert_eq!((values.dim(), rows.len()), ((2, DIM), 2));
    assert_eq!(values.row(0), values.row(1));
    let found = fixture.run("search -m @model.onnx --gallery @out --query @people/ada/2.tif -k 2").done();
    assert!(found.contains("1.png"), "{found}");
}

#[test]
fn broken_pictures_are_skipped_counted_and_named() {
    let fixture = Fixture::new();
    let mut good = people(&fixture);
    std::fs::write(fixture.path("people/ben/3.png"), "not a picture").unwrap();
    std::fs::write(fixture.path("people/cleo/3.ppm"), "P6 60000 60000 255\n").unwrap();
    let whole = std::fs::read(&good[0]).unwrap();
    std::fs::write(fixture.path("people/ada/0.png"), &whole[..whole.len() / 2]).unwrap();
    let answer = fixture.run("embed @people -m @model.onnx -o @out --batch-size 2");
    fixtures::assert_names(&answer.stderr, &["3", "13", "ben/3.png", "60000×60000", "ada/0.png"]);
    answer.done();
    let (values, rows) = fixture.rows("out");
    let paths: Vec<_> = rows.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(values.nrows(), 10);
    good.sort_by(|a, b| datasets::natural(a, b));
    assert_eq!(paths, good.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>());
    for (row, path) in values.rows().into_iter().zip(&good) {
        let expected = reference_embedding(path);
        assert!(row.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= TOLERANCE), "{}", path.display());
    }
}

#[test]
fn what_lies_among_pictures_is_said_and_strict_makes_a_loss_an_error() {
    let fixture = Fixture::new();
    people(&fixture);
    let whole = std::fs::read(fixture.path("people/ada/1.png")).unwrap();
    std::fs::create_dir_all(fixture.path("people/ada/@eaDir")).unwrap();
    std::fs::write(fixture.path("people/ada/@eaDir/1.png"), &whole).unwrap();
    let embed = "embed @people -m @model.onnx -o";
    let answer = fixture.run(&format!("{embed} @junk --strict"));
    assert!(answer.stderr.contains("@eaDir"), "{}", answer.stderr);
    answer.done();
    assert_eq!(fixture.rows("junk").1.len(), 10);
    std::fs::write(fixture.path("people/ben/\u{1b}[2J.heic"), &whole).unwrap();
    let answer = fixture.run(&format!("{embed} @lost"));
    assert!(answer.stderr.contains("1 .heic") && answer.stderr.contains("\\u{1b}[2J.heic"), "{}", answer.stderr);
    answer.done();
    let said = fixture.run(&format!("{embed} @strict --strict")).error(&[".heic", "\\u{1b}[2J.heic"]);
    assert!(!said.contains("@eaDir"), "{said}");
    assert!(!said.contains('\u{1b}'), "an escape sequence reaches the terminal: {said:?}");
    assert!(!fixture.path("strict").exists());
}

#[cfg(unix)]
#[test]
fn pipes_named_like_pictures_are_left_out() {
    let fixture = Fixture::new();
    people(&fixture);
    let pipe = fixture.path("people/ada/pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let answer = fixture.run("embed @people -m @model.onnx -o @out");
    assert!(answer.stderr.contains("only regular files") && answer.stderr.contains("pipe.png"), "{}", answer.stderr);
    answer.done();
    fixture.run("embed @people/ada/pipe.png -m @model.onnx -o @out2").error(&["pipe.png", "pipe"]);
}

#[test]
fn strict_makes_a_broken_picture_an_error_and_keeps_the_old_rows() {
    let fixture = Fixture::new();
    people(&fixture);
    fixture.run("embed @people -m @model.onnx -o @out").done();
    std::fs::write(fixture.path("people/ben/3.png"), "not a picture").unwrap();
    fixture.run("embed @people -m @model.onnx -o @out --replace --strict").error(&["--strict", "ben/3.png"]);
    assert_eq!(fixture.rows("out").0.nrows(), 10);
    assert_eq!(fixture.gallery_files("out"), [".lock", "gallery.db", "segments"]);
    let none = fixture.run("embed @people/ben/3.png -m @model.onnx -o @none");
    none.error(&["1", "ben/3.png"]);
}

#[test]
fn embeddings_are_only_replaced_on_request() {
    let fixture = Fixture::new();
    let pictures = people(&fixture);
    let enrol = format!("enroll -m @model.onnx --gallery @out --identity zoe --picture {}", pictures[0].display());
    fixture.run(&enrol).done();
    fixture.run("embed @people -m @model.onnx -o @out").error(&["out", "1", "`--replace`", "`deploy enroll`"]);
    assert_eq!(fixture.rows("out").1[0]["identity_name"], "zoe");
    fixture.run("embed @people -m @model.onnx -o @out --replace").done();
    assert_eq!(fixture.rows("out").0.nrows(), 10);
}

#[test]
fn a_picture_of_claimed_billions_of_pixels_is_an_error_when_strict() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("bomb.ppm"), "P6 60000 60000 255\n").unwrap();
    fixture.run("embed @bomb.ppm -m @model.onnx -o @out --replace --strict").error(&["bomb.ppm", "60000×60000"]);
}

#[test]
fn empty_and_missing_folders_are_errors() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("empty")).unwrap();
    fixture.run("embed @empty -m @model.onnx -o @out").error(&["empty", "jpg"]);
    fixture.run("embed @missing -m @model.onnx -o @out").error(&["missing"]);
    fixture.picture("one.png", "ada", 0.0);
    fixture.run("embed @one.png -m @missing.onnx -o @out").error(&["missing.onnx"]);
}

/// A network that gives zeros for a black picture, or divides by them, and positive features for every other one.
fn blind_to_black(fixture: &Fixture, divides: bool) {
    let mut model = graph();
    let graph = model.graph.as_mut().unwrap();
    for (tensor, zero) in graph.initializer.iter_mut().zip([false, true]) {
        for bytes in tensor.raw_data.as_chunks_mut::<4>().0 {
            let value = if zero { 0.0 } else { f32::from_le_bytes(*bytes).abs() };
            *bytes = value.to_le_bytes();
        }
    }
    if divides {
        (graph.node[3].name, graph.node[3].output) = ("flat".into(), vec!["flat".into()]);
        graph.node.push(node("Div", &["flat", "flat"], "features", vec![]));
    }
    let mut contract = ModelContract { golden: None, ..contract() };
    contract.input[0].picture =
        Some(PictureSpec { mean: vec![0.0; 3], std: vec![1.0; 3], ..PictureSpec::imagenet(SIZE) });
    fixture.write_model("blind.onnx", &with_contract(model, &contract));
}

#[test]
fn pictures_whose_embedding_is_no_direction_are_left_out_and_counted() {
    for (divides, why) in [(false, "0"), (true, "finite")] {
        let fixture = Fixture::new();
        blind_to_black(&fixture, divides);
        fixture.picture("set/ada/1.png", "ada", 0.0);
        fixture.picture("set/ben/1.png", "ben", 0.0);
        image::RgbImage::new(16, 16).save(fixture.path("set/ben/black.png")).unwrap();
        let answer = fixture.run("embed @set -m @blind.onnx -o @out");
        fixtures::assert_names(&answer.stderr, &["1", "3", "black.png", why]);
        answer.done();
        assert_eq!(fixture.rows("out").1.len(), 2);
        fixture.run("embed @set -m @blind.onnx -o @strict --strict").error(&["black.png", why]);
        let enroll = "enroll -m @blind.onnx --gallery @gallery --identity ben --picture";
        fixture.run(&format!("{enroll} @set/ben/black.png")).error(&["black.png", why]);
        fixture.run(&format!("{enroll} @set/ben/1.png")).done();
    }
}

#[test]
fn identities_are_composed_and_have_no_unseen_characters() {
    let fixture = Fixture::new();
    fixture.picture("ada.png", "ada", 0.0);
    let at = "-m @model.onnx --gallery @gallery --picture @ada.png --identity";
    fixture.run(&format!("enroll {at} Mu\u{308}ller")).done();
    fixture.run(&format!("verify {at} M\u{fc}ller --threshold 0.9")).done();
    fixture.run(&format!("enroll {at} \u{1b}[31m")).error(&["--identity", "`\\u{1b}[31m`"]);
    fixture.run(&format!("enroll {at} ad\u{200b}a")).error(&["--identity", "`ad\\u{200b}a`"]);
    fixture.run(&format!("enroll {at}=")).error_saying("a name that is not empty");
}
