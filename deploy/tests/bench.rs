//! Measuring models.

use serde_json::Value;

use crate::fixture::Fixture;

fn rows(fixture: &Fixture, line: &str) -> Vec<Value> {
    serde_json::from_str(&fixture.run(line).done()).unwrap()
}

#[test]
fn every_combination_is_measured() {
    let fixture = Fixture::new();
    std::fs::copy(fixture.path("model.onnx"), fixture.path("other.onnx")).unwrap();
    let line = "bench @model.onnx @other.onnx --provider cpu,auto --batch 1,3 --threads 1 --seconds 0.001";
    let measured = rows(&fixture, &format!("{line} --format json"));
    let key = |row: &Value| {
        let file = row["model"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (file, row["provider"].as_str().unwrap().to_owned(), row["batch"].as_u64().unwrap())
    };
    let keys: Vec<_> = measured.iter().map(key).collect();
    let expected = ["model.onnx", "other.onnx"]
        .map(|file| ["cpu", "cpu"].map(|provider| [1, 3].map(|batch| (file.to_owned(), provider.to_owned(), batch))));
    // On a machine with a GPU, `auto` is not the processor.
    let auto = keys[2].1.clone();
    let expected: Vec<_> = expected
        .into_iter()
        .flat_map(|of| {
            let [cpu, mut other] = of;
            other.iter_mut().for_each(|key| key.1.clone_from(&auto));
            cpu.into_iter().chain(other)
        })
        .collect();
    assert_eq!(keys, expected);
    for row in &measured {
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert!(number("runs") >= 10.0 && number("p50_ms") > 0.0, "{row}");
        assert!(number("p50_ms") <= number("p95_ms") && number("p95_ms") <= number("p99_ms"), "{row}");
        assert!(
            number("first_ms") > number("p50_ms") / 2.0
                && number("pictures_per_second") > 0.0
                && number("peak_memory_bytes") > 1e6,
            "{row}"
        );
        // 8 channels of 16×8 values of 27 products each.
        let products = number("batch") * 8.0 * 128.0 * 27.0;
        assert!((number("multiply_adds_g") * 1e9 - products).abs() < 0.5, "{row}");
        assert!(number("least_ms") > 0.0 && number("roofline") > 0.0, "{row}");
        assert!((number("roofline") - number("least_ms") / number("p50_ms")).abs() < 1e-9, "{row}");
        assert!(
            row["machine"]["float32_g"].as_f64().unwrap() > 0.0 && row["machine"]["memory_gb"].as_f64().unwrap() > 0.0
        );
        assert_eq!((&row["precision"], &row["threads"]), (&"fp32".into(), &1.into()));
    }
    let table = fixture.run(&format!("{line} --picture @drawn.png")).done();
    assert!(table.contains("other.onnx") && table.contains("GB/s"), "{table}");
    assert!(image::open(fixture.path("drawn.png")).unwrap().width() > 1000);
}

#[test]
fn what_cannot_be_measured_is_an_error_that_says_which() {
    let fixture = Fixture::new();
    fixture.run("bench @nothing.onnx").error(&["nothing.onnx"]);
    let answer = fixture.run("bench @model.onnx @nothing.onnx --batch 1 --seconds 0.001");
    assert_eq!((answer.code, answer.stdout.as_str()), (2, ""));
    assert!(answer.stderr.contains("nothing.onnx") && answer.stderr.contains("batch 1"), "{}", answer.stderr);
    fixture.run("bench").error(&["<MODEL>"]);
}
