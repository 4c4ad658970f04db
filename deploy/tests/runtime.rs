//! Finding ONNX Runtime, and asking for what it cannot do.

use crate::fixture::Fixture;

#[test]
fn a_missing_library_is_an_error_with_the_command_that_installs_it() {
    let fixture = Fixture::new();
    let nowhere = fixture.path("nowhere.so");
    let environment = [("ORT_DYLIB_PATH", nowhere.to_str().unwrap())];
    let answer = fixture.run_with("inspect @model.onnx", &environment);
    answer.error(&["nowhere.so", "`ci/onnxruntime cpu`", "ORT_DYLIB_PATH"]);
    let doctor = fixture.run_with("doctor", &environment);
    assert_eq!(doctor.code, 1);
    assert!(doctor.stderr.contains("ci/onnxruntime cpu"), "{}", doctor.stderr);
    std::fs::write(&nowhere, "no library").unwrap();
    fixture.run_with("inspect @model.onnx", &environment).error(&["nowhere.so", "`ci/onnxruntime cpu`"]);
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
            answer.error(&[name, "`ci/onnxruntime gpu`"]);
        }
    }
    fixture.run("inspect @model.onnx --provider gpu").error(&["cuda[:DEVICE]"]);
}

/// Pooling and what ONNX Runtime puts around it for speed is its own; that all of it is the CPU's is ours.
#[test]
fn nodes_are_counted_by_provider() {
    let fixture = Fixture::new();
    let count = |value: &serde_json::Value| value["cpu"].as_u64().unwrap();
    let read = |line: &str| -> serde_json::Value { serde_json::from_str(&fixture.run(line).done()).unwrap() };
    let inspected = read("inspect @model.onnx --provider cpu --format json");
    let nodes = count(&inspected["runtime"]["nodes"]);
    assert!(nodes >= 3, "{inspected}");
    assert_eq!(inspected["runtime"]["nodes_of_shapes"], 0);
    assert_eq!(inspected["runtime"]["nodes"].as_object().unwrap().len(), 1);
    assert!(fixture.run("inspect @model.onnx --provider cpu").done().contains(&format!("cpu runs {nodes} nodes")));
    let told = read("doctor --model @model.onnx --format json");
    assert_eq!(count(&told["providers"][0]["nodes"]), nodes);
    let table = fixture.run("doctor -m @model.onnx").done();
    assert!(table.contains(&format!("runs; of the model, cpu runs {nodes} nodes")), "{table}");
    fixture.run("doctor -m @nothing.onnx").error(&["nothing.onnx"]);
    fixture.picture("one.png", "ada", 0.0);
    let answer = fixture.run("embed @one.png -m @model.onnx -o @out");
    assert!(
        answer.stderr.contains("cpu (auto), which runs all nodes") || answer.stderr.contains("cuda runs"),
        "{}",
        answer.stderr
    );
    answer.done();
}

/// ONNX Runtime's wheels leave a device id in the home folder as long as their telemetry is on. `ci/private` looks at
/// sockets as well.
#[test]
fn nothing_is_left_in_an_empty_home() {
    let fixture = Fixture::new();
    let home = fixture.path("home");
    std::fs::create_dir(&home).unwrap();
    // On, as far as the caller is concerned.
    let environment = [("HOME", home.to_str().unwrap()), ("ORT_DISABLE_TELEMETRY", "0")];
    fixture.run_with("doctor", &environment).done();
    fixture.run_with("inspect @model.onnx", &environment).done();
    let left: Vec<_> = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A library in the working folder, or above it, is not for us to run.
#[test]
fn no_library_of_the_working_folder_is_loaded() {
    let fixture = Fixture::new();
    let planted = fixture.path(&format!("planted/.cache/onnxruntime/current/{}", onnxruntime::LIBRARY));
    std::fs::create_dir_all(planted.parent().unwrap()).unwrap();
    std::fs::write(&planted, "no library").unwrap();
    let inside = fixture.path("planted/deeper");
    std::fs::create_dir(&inside).unwrap();
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_deploy")).arg("doctor").current_dir(&inside).output();
    let (code, told) = doctor.map(|done| (done.status.code(), String::from_utf8(done.stdout).unwrap())).unwrap();
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("planted"), "{told}");
}
