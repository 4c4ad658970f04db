//! Finding ONNX Runtime, and asking for what it cannot do.

use crate::fixture::Fixture;

#[test]
fn a_missing_library_is_an_error_with_the_command_that_installs_it() {
    let fixture = Fixture::new();
    let nowhere = fixture.path("nowhere.so");
    let environment = [("ORT_DYLIB_PATH", nowhere.to_str().unwrap())];
    let answer = fixture.run_with("inspect @model.onnx", &environment);
    answer.error(&["ci/onnxruntime cpu", "nowhere.so"]);
    let doctor = fixture.run_with("doctor", &environment);
    assert_eq!(doctor.code, 1);
    assert!(doctor.stderr.contains("ci/onnxruntime cpu"), "{}", doctor.stderr);
    std::fs::write(&nowhere, "no library").unwrap();
    fixture.run_with("inspect @model.onnx", &environment).error(&["ci/onnxruntime cpu", "nowhere.so"]);
}

#[test]
fn doctor_says_what_runs_and_a_provider_that_does_not_is_an_error() {
    let fixture = Fixture::new();
    let table = fixture.run("doctor").done();
    assert!(table.contains("ONNX Runtime") && table.contains("cpu"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&fixture.run("doctor --format json").done()).unwrap();
    let providers = json["providers"].as_array().unwrap();
    assert_eq!((&providers[0]["name"], &providers[0]["runs"]), (&"cpu".into(), &true.into()));
    for provider in &providers[1..] {
        let name = provider["name"].as_str().unwrap();
        let answer = fixture.run(&format!("inspect @model.onnx --provider {name}"));
        if provider["runs"].as_bool().unwrap() {
            answer.done();
        } else {
            answer.error(&[name, "does not run", "ci/onnxruntime gpu"]);
        }
    }
    fixture.run("inspect @model.onnx --provider gpu").error(&["cuda[:DEVICE]"]);
}
