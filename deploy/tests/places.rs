//! What is in the way where files and folders are read or written: each verb says what it found and what it needs.

use crate::fixture::Fixture;

/// A fixture with a gallery, and what is in the way.
fn world() -> Fixture {
    let fixture = Fixture::new();
    for person in ["anna", "ben"] {
        fixture.picture(&format!("people/{person}/1.png"), person, 0.1);
    }
    fixture.run("enroll @people --model @model.onnx --gallery @gallery").done();
    std::fs::write(fixture.path("text.txt"), "some text").unwrap();
    std::fs::write(fixture.path("nothing.bin"), "").unwrap();
    std::fs::create_dir(fixture.path("folder")).unwrap();
    fixture
}

/// A file of the fixture as errors name it.
fn named(fixture: &Fixture, name: &str) -> String {
    format!("`{}`", fixture.path(name).display())
}

#[test]
fn what_is_read_says_what_it_is_instead() {
    let fixture = world();
    let named = |name: &str| named(&fixture, name);
    for verb in [
        "gallery info @PLACE",
        "gallery check @PLACE",
        "gallery log @PLACE",
        "gallery compact @PLACE",
        "gallery export @PLACE --out @new",
        "audit list @PLACE",
        "remove --gallery @PLACE --identity anna",
        "verify --model @model.onnx --gallery @PLACE --identity anna --palm @people/anna/1.png --threshold 0.5",
    ] {
        for (place, found) in [
            ("missing", "there is no such folder"),
            ("text.txt", "it is a file"),
            ("folder", "it has no gallery.db"),
            ("text.txt/x", "there is no such folder"),
        ] {
            let said = fixture.run(&verb.replace("PLACE", place)).error(&[&named(place), "`deploy enroll`"]);
            assert!(said.contains(found), "{verb}, {place}: {said}");
        }
    }
    for verb in ["inspect @PLACE", "embed @people --out @new --model @PLACE", "doctor --model @PLACE"] {
        fixture.run(&verb.replace("PLACE", "missing")).error(&[&named("missing")]);
        fixture.run(&verb.replace("PLACE", "folder")).error(&[&named("folder"), "model.onnx"]);
        fixture.run(&verb.replace("PLACE", "text.txt")).error(&[&named("text.txt"), "9"]);
        let said = fixture.run(&verb.replace("PLACE", "nothing.bin")).error(&[&named("nothing.bin"), "0", "ONNX"]);
        assert!(said.contains("is empty"), "{said}");
    }
    for (place, found) in [("missing", "does not exist"), ("text.txt", "is a file")] {
        let said = fixture.run(&format!("evaluate --model @model.onnx --datadir @{place}")).error(&[&named(place)]);
        assert!(said.contains(found), "{said}");
    }
    fixture
        .run("serve @model.onnx --keys @text.txt --listen 127.0.0.1:0")
        .error(&[&named("text.txt"), "`deploy keys add`"]);
}

#[test]
fn what_is_written_names_the_file_in_the_way_and_not_a_temporary_one() {
    let fixture = world();
    let named = |name: &str| named(&fixture, name);
    for verb in [
        "embed @people --model @model.onnx --out @PLACE",
        "enroll @people --model @model.onnx --gallery @PLACE",
        "gallery export @gallery --out @PLACE",
    ] {
        for place in ["text.txt", "text.txt/x"] {
            let said = fixture.run(&verb.replace("PLACE", place)).error(&[&named(place), &named("text.txt")]);
            assert!(said.contains("is a file"), "{said}");
        }
    }
    let search = "search --model @model.onnx --gallery @gallery --query @people/anna/1.png --report";
    let said =
        fixture.run(&format!("{search} @text.txt/x.html")).error(&[&named("text.txt/x.html"), &named("text.txt")]);
    assert!(said.contains("is a file"), "{said}");
    let said = fixture.run(&format!("{search} @folder")).error(&[&named("folder")]);
    assert!(said.contains("it is a folder"), "{said}");
    // A folder in which nobody can make a file.
    #[cfg(target_os = "linux")]
    {
        let said =
            fixture.run(&format!("{search} /proc/self/task/report.html")).error(&["`/proc/self/task/report.html`"]);
        assert!(!said.contains(".vitrine-"), "{said}");
    }
    assert_eq!(std::fs::read(fixture.path("text.txt")).unwrap(), b"some text");
}
