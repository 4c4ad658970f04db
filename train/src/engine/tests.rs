//! The loop on a task of three numbers a batch.

use std::sync::Arc;

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::model::Partial;
use crate::rng::Rng;
use crate::schedule::Decay;

const STEPS: usize = 3;

/// Fits a line; what is special about a test is in its fields.
struct Toy {
    /// Sets the flag in this call of `loss`, counted from 0.
    stops_at: Option<usize>,
    stop: Arc<AtomicBool>,
    /// Gives a loss that is no number in this call.
    breaks_at: Option<usize>,
    calls: usize,
    /// Moves with every batch, as class centres do.
    center: u8,
    score: fn(f32) -> Result<f64, TaskError>,
}

impl Default for Toy {
    fn default() -> Self {
        let score = |weight: f32| Ok(f64::from(weight));
        Self { stops_at: None, stop: Arc::default(), breaks_at: None, calls: 0, center: 0, score }
    }
}

impl Task for Toy {
    type Net = Linear;
    type Batch = (usize, Vec<f32>);

    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<Self::Batch>, TaskError> {
        let batch = move |step: usize| {
            let mut rng = Rng::new(&[epoch as u64, step as u64]);
            Ok((step, (0..3).map(|_| rng.uniform(-1.0, 1.0) as f32).collect()))
        };
        Ok(Epoch { steps: STEPS, batches: Box::new((done..STEPS).map(batch)) })
    }

    fn pictures(&self, batch: &Self::Batch) -> usize {
        batch.1.len()
    }

    fn describe(&self, batch: &Self::Batch) -> String {
        format!("a{}.png", batch.0)
    }

    fn loss(&mut self, net: &Linear, (_, values): &Self::Batch) -> LossTerms {
        let call = self.calls;
        self.calls += 1;
        self.center = self.center.wrapping_mul(3).wrapping_add(1);
        if self.stops_at == Some(call) {
            self.stop.store(true, Ordering::SeqCst);
        }
        let shift = if self.breaks_at == Some(call) { f64::NAN } else { f64::from(self.center) };
        let input = Tensor::<2>::from_data(TensorData::new(values.clone(), [3, 1]), &Device::flex().autodiff());
        let total = (net.forward(input.clone()) - input.mul_scalar(2.0)).square().mean() + shift;
        LossTerms { terms: vec![("line".into(), total.clone())], total }
    }

    fn evaluate(&self, net: &Linear) -> Result<BTreeMap<String, f64>, TaskError> {
        Ok([("score".to_owned(), (self.score)(net.weight.val().into_scalar())?)].into())
    }

    fn decisive(&self) -> &'static str {
        "score"
    }

    fn state(&self) -> Vec<u8> {
        vec![self.center]
    }

    fn set_state(&mut self, state: &[u8]) -> Result<(), TaskError> {
        self.center = *state.first().ok_or("no state")?;
        Ok(())
    }
}

fn fresh() -> Linear {
    let mut net = LinearConfig::new(1, 1).with_bias(false).init(&Device::flex().autodiff());
    let weight = StateDict::from_iter([("weight".to_owned(), TensorData::new(vec![0.25_f32], [1, 1]))]);
    assert!(weight.load_into(&mut net).is_complete());
    net
}

fn settings(epochs: usize) -> Settings {
    let schedule = Schedule { lr: 0.1, epochs: 4, decay: Decay::Cosine };
    Settings { epochs, test_every: 2, schedule, optimizer: OptimizerConfig::default(), keep: 2 }
}

fn run(toy: &mut Toy, settings: &Settings, dir: &Path, resume: Option<&Checkpoint>) -> Result<Outcome, TrainError> {
    let mut net = fresh();
    if let Some(checkpoint) = resume {
        StateDict::load_file(&checkpoint.path, &mut net, "the line", Partial::Nothing).unwrap();
    }
    let stop = toy.stop.clone();
    train(toy, net, settings, dir, Record::default(), resume, &stop).map(|(_, outcome)| outcome)
}

/// Bits of the weight in a run's file.
fn weight(dir: &Path, file: &str) -> Vec<u8> {
    StateDict::read(&dir.join(file)).unwrap().get("weight").unwrap().as_bytes().to_vec()
}

/// Totals and metrics of the epochs, to the last digit that is kept.
fn log(dir: &Path) -> Vec<(usize, f64, BTreeMap<String, f64>)> {
    let history = History::open(dir).unwrap();
    history.records().iter().map(|record| (record.epoch, record.total, record.metrics.clone())).collect()
}

fn checkpoints(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("checkpoint")).collect();
    names.sort();
    names
}

#[test]
fn a_run_may_be_stopped_at_any_step() {
    let straight = tempfile::tempdir().unwrap();
    let outcome = run(&mut Toy::default(), &settings(4), straight.path(), None).unwrap();
    let Outcome::Finished { best: Some((_, best)) } = outcome else { panic!("{outcome:?}") };
    for step in 0..4 * STEPS {
        let dir = tempfile::tempdir().unwrap();
        let mut toy = Toy { stops_at: Some(step), ..Toy::default() };
        let outcome = run(&mut toy, &settings(4), dir.path(), None).unwrap();
        let Outcome::Interrupted { checkpoint } = outcome else { panic!("step {step}: {outcome:?}") };
        assert_eq!(toy.calls, step + 1);
        assert!(!dir.path().join(checkpoint::FINAL).exists());
        let newest = Checkpoint::newest(dir.path()).unwrap().unwrap();
        assert_eq!(newest.path, checkpoint);
        let outcome = run(&mut Toy::default(), &settings(4), dir.path(), Some(&newest)).unwrap();
        assert!(matches!(outcome, Outcome::Finished { best: Some((_, epoch)) } if epoch == best), "{outcome:?}");
        for file in [checkpoint::FINAL, checkpoint::BEST] {
            assert_eq!(weight(dir.path(), file), weight(straight.path(), file), "step {step}, {file}");
        }
        assert_eq!(log(dir.path()), log(straight.path()), "step {step}");
        assert_eq!(checkpoints(dir.path()), checkpoints(straight.path()), "step {step}");
    }
    assert_eq!(
        checkpoints(straight.path()),
        [
            "checkpoint_epoch_3.safetensors",
            "checkpoint_epoch_3.state",
            "checkpoint_epoch_4.safetensors",
            "checkpoint_epoch_4.state"
        ]
    );
}

#[test]
fn a_failing_evaluation_does_not_cost_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { score: |_| Err("no pictures".into()), ..Toy::default() };
    let error = run(&mut toy, &settings(4), dir.path(), None).unwrap_err();
    assert_eq!(error.to_string(), "no pictures");
    let newest = Checkpoint::newest(dir.path()).unwrap().unwrap();
    assert!(newest.path.ends_with("checkpoint_epoch_1_step_3.safetensors"), "{}", newest.path.display());
    let mut toy = Toy::default();
    run(&mut toy, &settings(4), dir.path(), Some(&newest)).unwrap();
    assert_eq!(toy.calls, 2 * STEPS, "the two epochs that were missing");
    assert_eq!(log(dir.path()).len(), 4);
}

#[test]
fn the_earliest_of_equals_stays_the_best_and_the_better_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { score: |_| Ok(0.1 + 0.2), ..Toy::default() };
    let outcome = run(&mut toy, &settings(2), dir.path(), None).unwrap();
    assert_eq!(outcome, Outcome::Finished { best: Some((0.1 + 0.2, 2)) });
    let newest = Checkpoint::newest(dir.path()).unwrap().unwrap();
    run(&mut toy, &settings(4), dir.path(), Some(&newest)).unwrap();
    let best = || Checkpoint::open(dir.path()).unwrap().record;
    assert_eq!(best().epoch, 2);

    // From epoch 4 on; what was best before is in the file.
    let newest = Checkpoint::newest(dir.path()).unwrap().unwrap();
    let mut toy = Toy { score: |_| Ok(0.5), ..Toy::default() };
    run(&mut toy, &settings(6), dir.path(), Some(&newest)).unwrap();
    assert_eq!((best().epoch, best().best), (6, Some((0.5, 6))));
}

#[test]
fn resuming_from_an_earlier_checkpoint_drops_the_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let settings = |epochs| Settings { keep: 9, ..settings(epochs) };
    run(&mut Toy::default(), &settings(4), dir.path(), None).unwrap();
    let first = Checkpoint::open(&dir.path().join("checkpoint_epoch_1.safetensors")).unwrap();
    let mut toy = Toy { stops_at: Some(STEPS), ..Toy::default() };
    run(&mut toy, &settings(4), dir.path(), Some(&first)).unwrap();
    let names: Vec<_> = checkpoints(dir.path()).into_iter().filter(|name| name.ends_with("tensors")).collect();
    assert_eq!(
        names,
        ["checkpoint_epoch_1.safetensors", "checkpoint_epoch_2.safetensors", "checkpoint_epoch_2_step_1.safetensors"]
    );
    assert_eq!(log(dir.path()).len(), 2);
}

#[test]
fn a_loss_that_is_no_number_names_its_batch_and_saves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { breaks_at: Some(STEPS + 1), ..Toy::default() };
    let error = run(&mut toy, &settings(4), dir.path(), None).unwrap_err().to_string();
    assert_eq!(error, "the loss is NaN at epoch 2, batch 2 of 3 (line NaN); pictures: a1.png");
    assert_eq!(checkpoints(dir.path()).len(), 2, "that of the first epoch");
    assert!(!dir.path().join(checkpoint::FINAL).exists());

    let mut mad = settings(1);
    mad.schedule.lr = f64::from(f32::MAX);
    mad.optimizer =
        OptimizerConfig { kind: crate::optim::OptimizerKind::Sgd, momentum: 0.0, ..OptimizerConfig::default() };
    let dir = tempfile::tempdir().unwrap();
    let error = run(&mut Toy::default(), &mad, dir.path(), None).unwrap_err().to_string();
    assert!(error.starts_with("the loss is ") || error.contains("`weight` is not finite"), "{error}");
    assert!(checkpoints(dir.path()).is_empty());
}

#[test]
fn without_epochs_the_network_is_evaluated_and_saved_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = run(&mut Toy::default(), &settings(0), dir.path(), None).unwrap();
    assert_eq!(outcome, Outcome::Finished { best: Some((0.25, 0)) });
    for file in [checkpoint::FINAL, checkpoint::BEST] {
        assert_eq!(weight(dir.path(), file), 0.25_f32.to_le_bytes());
    }
    let record = Checkpoint::open(dir.path()).unwrap().record;
    assert_eq!((record.epoch, record.metrics["score"]), (0, 0.25));
}

#[test]
fn sums_survive_a_record_to_the_last_bit() {
    let mut sums = Sums::default();
    sums.add(0.1 + 0.2, vec![("a".into(), 1.0 / 3.0)], 4, 1e-3 / 7.0);
    let text = serde_json::to_string(&sums).unwrap();
    assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), sums);
}
