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
    assert_eq!(doctor.code, if deploy::runtime::RTEN.is_some() { 0 } else { 1 });
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
            let advice = match name {
                "cuda" | "tensorrt" => "`ci/onnxruntime gpu`",
                "coreml" => "macOS",
                _ => "ORT_DYLIB_PATH",
            };
            answer.error(&[name, advice]);
        }
    }
    let names: Vec<_> = providers.iter().map(|provider| provider["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpu", "cuda", "tensorrt", "openvino", "coreml", "xnnpack"]);
    fixture.run("inspect @model.onnx --provider gpu").error(&["cuda[:DEVICE]"]);
}

#[test]
fn doctor_tells_of_the_machine_and_what_is_on_it() {
    let fixture = Fixture::new();
    let json: serde_json::Value = serde_json::from_str(&fixture.run("doctor --format json").done()).unwrap();
    let machine = &json["machine"];
    assert_eq!(machine["architecture"], std::env::consts::ARCH);
    assert_eq!(machine["cores"], std::thread::available_parallelism().unwrap().get());
    if cfg!(target_os = "linux") {
        assert!(machine["memory_bytes"].as_u64().unwrap() > 1 << 20, "{machine}");
    }
    let instructions = machine["instructions"].as_object().unwrap();
    let expected = if cfg!(target_arch = "x86_64") { "AVX2" } else { "NEON" };
    assert!(instructions.get(expected).is_some_and(|here| here.is_boolean()), "{instructions:?}");
    let libraries: Vec<_> =
        json["libraries"].as_array().unwrap().iter().map(|found| found["name"].as_str().unwrap()).collect();
    assert!(libraries.contains(&"TensorRT") && libraries.contains(&"ffmpeg"), "{libraries:?}");
    assert!(json["gpus"].is_array() && json["advice"].is_array());
    let table = fixture.run("doctor").done();
    for part in ["processor", "memory", "threads", expected, "GPU", "TensorRT", "unless told", "to do"] {
        assert!(table.lines().any(|line| line.starts_with(part)), "{part}: {table}");
    }
}

/// A library is found where the loader would find it, with its release.
#[cfg(target_os = "linux")]
#[test]
fn doctor_finds_libraries() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("libs")).unwrap();
    std::fs::write(fixture.path("libs/libnvinfer.so.10.3.0"), "").unwrap();
    std::os::unix::fs::symlink("libnvinfer.so.10.3.0", fixture.path("libs/libnvinfer.so.10")).unwrap();
    let folder = fixture.path("libs");
    let answer = fixture.run_with("doctor --format json", &[("LD_LIBRARY_PATH", folder.to_str().unwrap())]);
    let json: serde_json::Value = serde_json::from_str(&answer.done()).unwrap();
    let found = json["libraries"].as_array().unwrap().iter().find(|found| found["name"] == "TensorRT").unwrap();
    assert_eq!((&found["version"], &found["found_by"]), (&"10.3.0".into(), &"LD_LIBRARY_PATH".into()));
    assert!(found["place"].as_str().unwrap().ends_with("libnvinfer.so.10.3.0"), "{found}");
}

#[test]
fn how_a_model_runs_is_told_and_answers_stay() {
    let fixture = Fixture::new();
    let inspect = |more: &str| -> serde_json::Value {
        let line = format!("inspect @model.onnx --provider cpu --format json {more}");
        serde_json::from_str(&fixture.run(&line).done()).unwrap()
    };
    let usual = inspect("");
    assert_eq!(usual["runtime"]["optimisation"], "all");
    let set = inspect("--optimisation off --spinning off --arena off --threads 1");
    let runtime = &set["runtime"];
    let told = ["optimisation", "spinning", "arena", "threads"].map(|name| runtime[name].clone());
    assert_eq!(told, ["off".into(), false.into(), false.into(), serde_json::Value::from(1)]);
    // Its four operators as they are in the file.
    assert_eq!(runtime["nodes"]["cpu"], 4);
    // The convolution and what cuts off its negative values become one.
    assert!(inspect("--optimisation extended")["runtime"]["nodes"]["cpu"].as_u64().unwrap() < 4);
    assert_eq!(inspect("--spinning on --arena on")["runtime"]["spinning"], true);

    fixture.picture("set/one.png", "ada", 0.0);
    let rows = |more: &str, out: &str| {
        fixture.run(&format!("embed @set -m @model.onnx -o @{out} {more}")).done();
        fixture.rows(out).0
    };
    let usual = rows("", "usual");
    for (at, flags) in
        ["--optimisation off", "--optimization basic", "--spinning off", "--arena off"].iter().enumerate()
    {
        let other = rows(flags, &format!("other{at}"));
        let apart = usual.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 1e-6, "{flags}: {apart}");
    }
    fixture.run("inspect @model.onnx --spinning maybe").error(&["--spinning", "on", "off"]);
    fixture.run("inspect @model.onnx --optimisation 3").error(&["--optimisation", "extended"]);
}

/// Who may run on one core only has one thread.
#[cfg(target_os = "linux")]
#[test]
fn threads_follow_affinity() {
    let program = std::process::Command::new("taskset")
        .args(["-c", "0", env!("CARGO_BIN_EXE_deploy"), "doctor", "--format", "json"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&program.stdout).unwrap();
    assert_eq!(json["machine"]["cores"], 1);
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

#[cfg(not(feature = "rten"))]
#[test]
fn a_runtime_that_is_not_built_in_is_refused() {
    let fixture = Fixture::new();
    fixture.run("inspect @model.onnx --runtime rten").error(&["--runtime", "--features"]);
    assert!(fixture.run("doctor").done().contains("--features rten"));
}
