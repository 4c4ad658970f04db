//! `deploy verify`, and `deploy calibrate` on pictures, whose thresholds it takes.

use contract::{Fusion, Measured, ModelContract, Rate, Threshold};
use serde_json::Value;

use crate::fixture::{Fixture, contract, graph, model, with_contract};

/// A fixture whose model is calibrated at two rates.
fn calibrated() -> Fixture {
    let fixture = Fixture::new();
    let one = |similarity, far| Threshold { similarity, far, tar: 0.9, measured: None };
    let threshold = Some(vec![one(0.5, 0.1), one(0.75, 0.01)]);
    fixture.write_model("calibrated.onnx", &with_contract(graph(), &ModelContract { threshold, ..contract() }));
    fixture
}

#[test]
fn more_templates_need_a_lower_rate() {
    let fixture = calibrated();
    let claim = "verify -m @calibrated.onnx --gallery @people --identity ada --picture @ada.png --format json";
    let taken = |more: &str| -> (Value, Value, Value) {
        let answer: Value = serde_json::from_str(&fixture.run(&format!("{claim} {more}")).done()).unwrap();
        (answer["threshold"].clone(), answer["enrolled_rows"].clone(), answer["far"].clone())
    };
    for count in 1..=11 {
        let picture = fixture.picture("ada.png", "ada", 0.02 * count as f32);
        let enroll = "enroll -m @calibrated.onnx --gallery @people --identity ada --picture";
        fixture.run(&format!("{enroll} {}", picture.display())).done();
        match count {
            1 => assert_eq!(taken("--far 0.1"), (0.5.into(), 1.into(), 0.1.into())),
            2..=10 => assert_eq!(taken("--far 0.1"), (0.75.into(), count.into(), 0.1.into())),
            _ => {
                let calibrate = "`deploy calibrate --far 0.00909`";
                fixture.run(&format!("{claim} --far 0.1")).error(&["0.1", "11", calibrate, "`--threshold`"]);
            }
        }
    }
    assert_eq!(taken("--far 0.11").0, 0.75);
    assert_eq!(taken("--threshold 0.3"), (0.3_f32.into(), 11.into(), Value::Null));
    for far in ["0", "1", "5", "-0.1", "NaN"] {
        fixture.run(&format!("{claim} --far={far}")).error(&["--far", &format!("'{far}'"), "0", "1"]);
    }
    fixture.run(&format!("{claim} --far 0.1 --threshold 0.3")).error(&["--far", "--threshold"]);
}

/// A record says for which decision a threshold was measured; those of models from before have none.
#[test]
fn thresholds_of_another_decision_do_not_count() {
    let fixture = Fixture::new();
    let write = |rate, fusion, templates| {
        let (identities, pairs, far_interval, tar_interval) = (100, 4950, [0.005, 0.02], [0.8, 1.0]);
        let measured = Measured { rate, fusion, templates, identities, pairs, far_interval, tar_interval };
        let one = Threshold { similarity: 0.5, far: 0.01, tar: 0.9, measured: Some(measured) };
        let contract = ModelContract { threshold: Some(vec![one]), ..contract() };
        fixture.write_model("calibrated.onnx", &with_contract(graph(), &contract));
    };
    write(Rate::Fmr, Fusion::Max, 3);
    for count in 1..=4 {
        let picture = fixture.picture("ada.png", "ada", 0.02 * count as f32);
        let enroll = "enroll -m @calibrated.onnx --gallery @people --identity ada --picture";
        fixture.run(&format!("{enroll} {}", picture.display())).done();
    }
    let claim = "verify -m @calibrated.onnx --gallery @people --identity ada --picture @ada.png";
    fixture.run(&format!("{claim} --far 0.01")).error(&["0.0025", "0.01", "4"]);
    fixture.run(&format!("{claim} --far 0.02")).done();
    let told = fixture.run("inspect @calibrated.onnx").done();
    assert!(told.contains("largest similarity to 3 templates") && told.contains("4950 pairs"), "{told}");
    for (rate, fusion) in [(Rate::Fmr, Fusion::Mean), (Rate::Fpir { gallery: 1000 }, Fusion::Max)] {
        write(rate, fusion, 3);
        fixture.run("inspect @calibrated.onnx").done();
        fixture.run(&format!("{claim} --far 0.9")).error(&["0.9", "4", "1", "`--threshold`"]);
    }
}

/// Junk is left out, and a distractor is nobody's partner, although all of either have one number.
#[test]
fn junk_and_distractors_are_nobody() {
    let fixture = Fixture::new();
    let people = ["ada", "ben", "cleo"];
    for (number, person) in people.iter().enumerate() {
        for camera in 1..=2 {
            let name = format!("set/000{}_c{camera}s1_000001_00.png", number + 1);
            fixture.picture(&name, person, 0.1 * camera as f32);
        }
    }
    let calibrate = |more: &str| -> Value {
        let line = format!("calibrate -m @model.onnx --datadir @set --far 0.4 --format json {more}");
        serde_json::from_str(&fixture.run(&line).done()).unwrap()
    };
    let before = calibrate("");
    assert_eq!((&before["identities"], &before["genuine"], &before["impostor"]), (&3.into(), &3.into(), &12.into()));
    // Junk shows the people who are there; it would be an impostor to them, as near as they are to themselves.
    for (number, person) in people.iter().enumerate() {
        fixture.picture(&format!("set/-1_c3s1_00000{number}_00.png"), person, 0.0);
    }
    let answer = fixture.run("calibrate -m @model.onnx --datadir @set --far 0.4 --format json");
    assert!(answer.stderr.contains("3 of 9 pictures are junk"), "{}", answer.stderr);
    assert_eq!(serde_json::from_str::<Value>(&answer.done()).unwrap(), before);
    for (number, person) in ["zoe", "yan"].iter().enumerate() {
        fixture.picture(&format!("set/0000_c3s1_00000{number}_00.png"), person, 0.0);
    }
    let after = calibrate("");
    assert_eq!((&after["identities"], &after["distractors"]), (&3.into(), &2.into()));
    assert_eq!((&after["genuine"], &after["impostor"]), (&3.into(), &(12 + 2 * 6).into()));
}

#[test]
fn the_file_that_is_written_is_named() {
    let fixture = Fixture::new();
    for person in ["ada", "ben", "cleo"] {
        (0..2).for_each(|at| drop(fixture.picture(&format!("set/{person}/{at}.png"), person, 0.1 * at as f32)));
    }
    fixture.write_model("foreign.onnx", &graph());
    let by_hand = ModelContract { golden: None, ..contract() };
    std::fs::write(fixture.path("by_hand.json"), serde_json::to_string(&by_hand).unwrap()).unwrap();
    let before = std::fs::read(fixture.path("foreign.onnx")).unwrap();
    let line = "calibrate -m @foreign.onnx --contract @by_hand.json --datadir @set --far 0.4";
    let told = fixture.run(line).done();
    assert!(told.contains("by_hand.json") && !told.contains("foreign.onnx"), "{told}");
    assert_eq!(std::fs::read(fixture.path("foreign.onnx")).unwrap(), before);
    let written = ModelContract::from_json(&std::fs::read_to_string(fixture.path("by_hand.json")).unwrap()).unwrap();
    let [threshold] = written.threshold.as_deref().unwrap() else { panic!("{:?}", written.threshold) };
    let measured = threshold.measured.as_ref().unwrap();
    assert_eq!((measured.rate, measured.fusion, measured.templates), (Rate::Fmr, Fusion::Max, 1));
    assert_eq!((measured.identities, measured.pairs), (3, 3), "by identities, not by pictures");
    let [low, high] = measured.far_interval;
    assert!(low <= threshold.far && high >= 0.7, "3 pairs of people bound no rate below 0.7: {measured:?}");
    fixture.write_model("alone.onnx", &model());
    let told = fixture.run("calibrate -m @alone.onnx --datadir @set --far 0.4").done();
    assert!(told.trim_end().ends_with("alone.onnx"), "{told}");
    assert!(fixture.run("inspect @alone.onnx").done().contains("threshold  "));
}
