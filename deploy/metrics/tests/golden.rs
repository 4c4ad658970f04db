//! Golden: `fixtures/reid_evaluation/README.md` names the generator and its versions.

use fixtures::Golden;
use metrics::{Label, Matrix, RankingReport, Rerank, cosine_distance, rank, rerank};

/// One rounding of f32 near 1, a few times: sums of 64 products in another order.
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

    fn rank(&self, distance: &Matrix) -> RankingReport {
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
    assert_close(&distance, &matrix(&evaluation.golden, "eval.distance"), F32_SUM);
    let report = evaluation.rank(&distance);
    evaluation.assert_cmc(&report, "eval.cmc");
    assert!((report.map - evaluation.number("mAP")).abs() < COUNTED, "{}", report.map);
    for k in [1, 3, 5, 10] {
        assert!((report.rank(k) - evaluation.number(&format!("rank{k}"))).abs() < COUNTED);
    }
    assert_eq!(report.valid_queries as f64, evaluation.number("valid_queries"));
    assert_eq!((report.queries, report.gallery), (40, 200));
}

/// The seed keeps same-camera entries; cameras that all differ reproduce its numbers, so the mistake is recognisable.
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
    assert_close(&reranked, &matrix(&evaluation.golden, "eval.rerank"), F32_RERANK);
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
        pool.install(|| rerank(&evaluation.query, &evaluation.gallery, &Rerank::default()).unwrap())
    };
    assert_eq!(with(1), with(5));
}
