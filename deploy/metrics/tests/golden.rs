//! Golden: `fixtures/reid_evaluation/README.md` names the generator and its versions.

use fixtures::Golden;
use metrics::{Distances, Label, Matrix, RankingReport, Rerank, cosine_distance, rank, rerank};

/// A few roundings of f32 near 1: sums of 64 products in another order.
const F32_SUM: f32 = 5e-7;
/// The reference's own noise is 1.3e-7; `exp` and two normalisations add a few roundings.
const F32_RERANK: f32 = 1e-6;
/// Rates are counts over 39 queries in f64; the stored curve is f32.
const COUNTED: f64 = 1e-7;

struct Evaluation {
    golden: Golden,
    query: Matrix,
    gallery: Matrix,
    query_labels: Vec<Label>,
    gallery_labels: Vec<Label>,
}

fn matrix(golden: &Golden, name: &str) -> Matrix {
    let (shape, data) = golden.tensor_f32(name).unwrap();
    Matrix::new(data, shape[0], shape[1]).unwrap()
}

impl Evaluation {
    fn load() -> Self {
        let golden = Golden::load("reid_evaluation").unwrap();
        let labels = |side: &str| {
            let (_, identities) = golden.tensor_i64(&format!("eval.{side}_pids")).unwrap();
            let (_, cameras) = golden.tensor_i64(&format!("eval.{side}_camids")).unwrap();
            identities.into_iter().zip(cameras).map(|(identity, camera)| Label { identity, camera }).collect()
        };
        Self {
            query: matrix(&golden, "eval.query"),
            gallery: matrix(&golden, "eval.gallery"),
            query_labels: labels("query"),
            gallery_labels: labels("gallery"),
            golden,
        }
    }

    fn number(&self, path: &str) -> f64 {
        let value = self.golden.json().pointer(&format!("/evaluation/{path}"));
        value.and_then(serde_json::Value::as_f64).unwrap_or_else(|| panic!("golden.json lacks evaluation/{path}"))
    }

    fn rank(&self, distance: &impl Distances) -> RankingReport {
        rank(distance, &self.query_labels, &self.gallery_labels).unwrap()
    }

    fn assert_cmc(&self, report: &RankingReport, tensor: &str) {
        let (_, curve) = self.golden.tensor_f32(tensor).unwrap();
        assert_eq!(report.cmc.len(), curve.len());
        for (k, (got, want)) in report.cmc.iter().zip(curve).enumerate() {
            assert!((got - f64::from(want)).abs() < COUNTED, "{tensor} rank {}: {got}, {want} wanted", k + 1);
        }
    }
}

fn assert_close(got: &Matrix, want: &Matrix, tolerance: f32) {
    assert_eq!((got.rows(), got.cols()), (want.rows(), want.cols()));
    let pairs = got.data().iter().zip(want.data());
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference {worst:.1e}, {tolerance:.1e} allowed");
    assert!(worst <= tolerance, "differs by {worst:.1e}, {tolerance:.1e} allowed");
}

#[test]
fn distance_cmc_and_map_match_the_reference() {
    let evaluation = Evaluation::load();
    let distance = cosine_distance(&evaluation.query, &evaluation.gallery).unwrap();
    assert_close(&distance.matrix(), &matrix(&evaluation.golden, "eval.distance"), F32_SUM);
    let report = evaluation.rank(&distance);
    evaluation.assert_cmc(&report, "eval.cmc");
    assert!((report.map - evaluation.number("mAP")).abs() < COUNTED, "{}", report.map);
    for k in [1, 3, 5, 10] {
        assert!((report.rank(k) - evaluation.number(&format!("rank{k}"))).abs() < COUNTED);
    }
    assert_eq!(report.valid_queries as f64, evaluation.number("valid_queries"));
    assert_eq!((report.queries, report.gallery), (40, 200));
}

/// The original code keeps same-camera entries. With all cameras different we reproduce its numbers, so the mistake is
/// identified.
#[test]
fn the_camera_rule_is_what_parts_us_from_the_naive_numbers() {
    let mut evaluation = Evaluation::load();
    let distance = matrix(&evaluation.golden, "eval.distance");
    let ours = evaluation.rank(&distance);
    let naive = evaluation.number("without_same_camera_removal/rank1");
    assert!((ours.rank(1) - naive).abs() > 0.1);
    evaluation.query_labels.iter_mut().for_each(|label| label.camera = 99);
    let without = evaluation.rank(&distance);
    assert!((without.rank(1) - naive).abs() < COUNTED);
    assert!((without.map - evaluation.number("without_same_camera_removal/mAP")).abs() < COUNTED);
}

#[test]
fn reranked_matrix_matches_the_reference() {
    let evaluation = Evaluation::load();
    let reranked = rerank(&evaluation.query, &evaluation.gallery, &Rerank::default()).unwrap();
    assert_close(&reranked.matrix(), &matrix(&evaluation.golden, "eval.rerank"), F32_RERANK);
    let report = evaluation.rank(&reranked);
    evaluation.assert_cmc(&report, "eval.rerank_cmc");
    assert!((report.map - evaluation.number("rerank/mAP")).abs() < COUNTED, "{}", report.map);
    for k in [1, 5, 10] {
        assert!((report.rank(k) - evaluation.number(&format!("rerank/rank{k}"))).abs() < COUNTED);
    }
}

#[test]
fn reranking_with_lambda_1_keeps_the_order() {
    let evaluation = Evaluation::load();
    let plain = evaluation.rank(&cosine_distance(&evaluation.query, &evaluation.gallery).unwrap());
    let params = Rerank { lambda: 1.0, ..Rerank::default() };
    let same = evaluation.rank(&rerank(&evaluation.query, &evaluation.gallery, &params).unwrap());
    assert_eq!(plain, same);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let evaluation = Evaluation::load();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| rerank(&evaluation.query, &evaluation.gallery, &Rerank::default()).unwrap().matrix())
    };
    assert_eq!(with(1), with(5));
}

/// Rates are counts; interpolation between two of them loses a few roundings of f64.
const RATE: f64 = 1e-9;
/// Similarities are f32.
const THRESHOLD: f64 = 1e-6;

mod palmvein {
    use metrics::verification::{Impostors, Roc, VerificationOptions, evaluate};
    use serde_json::Value;

    use super::{Golden, Matrix, RATE, THRESHOLD};

    fn assert_curve(name: &str, roc: &Roc, expected: &Value) {
        let number = |path: &str| expected.pointer(path).and_then(Value::as_f64).unwrap();
        let close = |what: &str, found: f64, wanted: f64, tolerance: f64| {
            assert!((found - wanted).abs() <= tolerance, "{name} {what}: {found}, {wanted} wanted");
        };
        let (eer, dropped) = (roc.eer(), roc.dropped());
        close("EER", eer.rate, number("/eer"), RATE);
        close("threshold", eer.threshold.into(), number("/eer_threshold"), THRESHOLD);
        close("AUC", roc.auc(), number("/auc"), RATE);
        close("AUC of the dropped curve", dropped.auc(), number("/auc"), RATE);
        assert_eq!(dropped.points().len(), number("/roc_points") as usize, "{name}");
        assert_eq!(roc.points().len(), number("/undropped/points") as usize, "{name}");
        let at = roc.at(eer.threshold);
        close("FAR", at.far, number("/at_eer_threshold/FAR"), RATE);
        close("FRR", at.frr, number("/at_eer_threshold/FRR"), RATE);
        close("ACC", at.accuracy, number("/at_eer_threshold/ACC"), RATE);
        for (roc, list) in [(&dropped, "/tar_at_far"), (roc, "/undropped/tar_at_far")] {
            let list = expected.pointer(list).unwrap().as_array().unwrap();
            assert_eq!(list.len(), 5);
            for wanted in list {
                let point = roc.tar_at_far(wanted["target"].as_f64().unwrap()).unwrap();
                close("TAR", point.tar, wanted["TAR"].as_f64().unwrap(), RATE);
                close("FAR", point.far, wanted["FAR"].as_f64().unwrap(), RATE);
                let threshold = &wanted["threshold"];
                let threshold = threshold.as_f64().or_else(|| threshold.as_str()?.parse().ok()).unwrap();
                let same = point.threshold.is_infinite() && threshold.is_infinite();
                assert!(same || (f64::from(point.threshold) - threshold).abs() < THRESHOLD, "{name} {wanted}");
            }
        }
    }

    #[test]
    fn curves_match_the_reference() {
        let golden = Golden::load("palmvein_metrics").unwrap();
        let scores = |name: &str| golden.tensor_f32(name).unwrap().1;
        let cases = [
            ("continuous", scores("scores.genuine"), scores("scores.impostor")),
            ("ties", scores("scores.genuine_ties"), scores("scores.impostor_ties")),
            ("separable", vec![0.9, 0.8, 0.7], vec![0.4, 0.3, 0.2, 0.1]),
            ("reversed", vec![0.1, 0.2, 0.3], vec![0.5, 0.6, 0.7, 0.8]),
        ];
        for (name, genuine, impostor) in cases {
            assert_curve(name, &Roc::new(&genuine, &impostor).unwrap(), &golden.json()["metrics"][name]);
        }
        // Distances are negated similarities: the same curve.
        let distance = &golden.json()["metrics"]["continuous_as_distance"];
        assert_eq!(distance["eer"], golden.json()["metrics"]["continuous"]["eer"]);
    }

    #[test]
    fn pair_protocols_and_identification_match_the_reference() {
        let golden = Golden::load("palmvein_metrics").unwrap();
        let (shape, features) = golden.tensor_f32("pairs.features").unwrap();
        let (_, labels) = golden.tensor_i64("pairs.labels").unwrap();
        let unit: Vec<f32> = features
            .chunks(shape[1])
            .flat_map(|row| {
                let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                row.iter().map(move |value| value / length)
            })
            .collect();
        let embeddings = Matrix::new(unit, shape[0], shape[1]).unwrap();
        let metrics = &golden.json()["metrics"];
        for (name, impostors) in [
            ("pairs_train_protocol", Impostors::Neighbours { identities: 5, samples: 2 }),
            ("pairs_test_protocol", Impostors::Neighbours { identities: 10, samples: 3 }),
            ("pairs_exhaustive", Impostors::Exhaustive),
        ] {
            let expected = &metrics[name];
            let options = VerificationOptions { impostors, ..VerificationOptions::default() };
            let report = evaluate(&embeddings, &labels, &options).unwrap();
            let number = |key: &str| expected[key].as_f64().unwrap();
            assert_eq!(report.genuine as f64, number("genuine_count"), "{name}");
            assert_eq!(report.impostor as f64, number("impostor_count"), "{name}");
            assert!((report.genuine_mean - number("genuine_mean")).abs() < 1e-6, "{name}");
            assert!((report.impostor_mean - number("impostor_mean")).abs() < 1e-6, "{name}");
            assert!((report.eer.rate - number("eer")).abs() < RATE, "{name}: {:?}", report.eer);
            assert!((f64::from(report.eer.threshold) - number("eer_threshold")).abs() < THRESHOLD, "{name}");
            assert!((report.auc - number("auc")).abs() < RATE, "{name}");
            let interval = report.eer_interval.unwrap();
            assert!(interval.low <= report.eer.rate && report.eer.rate <= interval.high, "{name}: {interval:?}");
            assert!(interval.high - interval.low > 0.01, "{name}: 40 rows are not that sure");
            assert_eq!(report, evaluate(&embeddings, &labels, &options).unwrap(), "the same intervals every time");
            let identification = report.identification.unwrap();
            let first = &metrics["identification_first_sample_gallery"];
            assert_eq!(identification.probes as f64, first["probes"].as_f64().unwrap());
            for (found, wanted) in identification.cmc.iter().zip(first["cmc"].as_array().unwrap()) {
                assert!((found - wanted.as_f64().unwrap()).abs() < RATE);
            }
            assert_eq!(identification.cmc.len(), 12);
            let alone = metrics["identification_leave_one_out"]["rank1"].as_f64().unwrap();
            assert!((identification.leave_one_out_rank1 - alone).abs() < RATE);
        }
    }
}

/// The interval covers a known error rate about as often as it claims; resampling pairs instead would not.
#[test]
fn intervals_by_identity_cover() {
    use metrics::verification::{VerificationOptions, evaluate};
    let of = |seed: u64| {
        // 12 identities of four rows: a common direction per identity, plus noise.
        let mut rows = Vec::new();
        for identity in 0..12 {
            let unit = |name: String| contract::fill::unit(&name, 8).map(|u| 2.0 * u as f32 - 1.0).collect::<Vec<_>>();
            let own = unit(format!("{seed}/{identity}"));
            for row in 0..4 {
                let noise = unit(format!("{seed}/{identity}/{row}"));
                let mixed: Vec<f32> = own.iter().zip(noise).map(|(a, b)| a + 1.1 * b).collect();
                let length = mixed.iter().map(|value| value * value).sum::<f32>().sqrt();
                rows.extend(mixed.into_iter().map(|value| value / length));
            }
        }
        let labels: Vec<i64> = (0..48).map(|row| 100 - 3 * (row / 4)).collect();
        let options = VerificationOptions { resamples: 100, ..VerificationOptions::default() };
        evaluate(&Matrix::new(rows, 48, 8).unwrap(), &labels, &options).unwrap()
    };
    let reports: Vec<_> = (0..40).map(of).collect();
    let truth = reports.iter().map(|report| report.eer.rate).sum::<f64>() / 40.0;
    let covered = reports.iter().filter(|report| {
        let interval = report.eer_interval.unwrap();
        (interval.low..=interval.high).contains(&truth)
    });
    let covered = covered.count();
    println!("EER {truth:.3}; {covered} of 40 intervals cover it");
    assert!(covered >= 34, "{covered} of 40");
}
