//! The loop on a task of three numbers a batch.

use std::sync::Arc;

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};

use crate::rng::Rng;
use crate::run::log::{Line, Panel, Summary, named};
use crate::run::optim::{OptimizerConfig, OptimizerKind};
use crate::run::schedule::Schedule;
use crate::weights::Partial;

use super::*;

const STEPS: usize = 3;

/// Fits a line; what is special about a test is in its fields.
struct Toy {
    /// Sets the flag in this call of `loss`, counted from 0.
    stops_at: Option<usize>,
    stop: Arc<AtomicBool>,
    /// Gives a loss that is no number in this call; `usize::MAX`: in all.
    breaks_at: Option<usize>,
    /// One value is left of this batch of every epoch.
    single: Option<usize>,
    /// Batches of every epoch that are left out, as if none of their pictures could be read.
    missing: &'static [usize],
    metric: &'static str,
    better: Better,
    /// Factor of the learning rate.
    rate: f64,
    log: Log,
    calls: usize,
    /// Moves with every batch, as class centres do.
    center: u8,
    score: fn(f32) -> Result<f64, TaskError>,
}

impl Default for Toy {
    fn default() -> Self {
        let score = |weight: f32| Ok(f64::from(weight));
        Self {
            stops_at: None,
            stop: Arc::default(),
            breaks_at: None,
            single: None,
            missing: &[],
            metric: "score",
            better: Better::Higher,
            rate: 1.0,
            log: Log::default(),
            calls: 0,
            center: 0,
            score,
        }
    }
}

impl Task for Toy {
    type Net = Linear;
    type Batch = (usize, Vec<f32>);

    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<Self::Batch>, TaskError> {
        let (single, missing) = (self.single, self.missing);
        let batch = move |step: usize| {
            let mut rng = Rng::new(&[epoch as u64, step as u64]);
            let rows = if single == Some(step) { 1 } else { 3 };
            Ok((step, (step, (0..rows).map(|_| rng.uniform(-1.0, 1.0) as f32).collect())))
        };
        let read = (done..STEPS).filter(|step| !missing.contains(step));
        Ok(Epoch { steps: STEPS, batches: Box::new(read.map(batch)) })
    }

    fn pictures(&self, batch: &Self::Batch) -> usize {
        batch.1.len()
    }

    fn describe(&self, batch: &Self::Batch) -> String {
        format!("a{}.png", batch.0)
    }

    fn loss(&mut self, net: &Linear, (_, values): &Self::Batch, step: Step) -> LossTerms {
        let first = Rng::new(&[step.epoch as u64, step.batch as u64]).uniform(-1.0, 1.0) as f32;
        assert_eq!(values[0], first, "the step is the one that made this batch");
        let call = self.calls;
        self.calls += 1;
        self.center = self.center.wrapping_mul(3).wrapping_add(1);
        if self.stops_at == Some(call) {
            self.stop.store(true, Ordering::SeqCst);
        }
        let shift =
            if [Some(call), Some(usize::MAX)].contains(&self.breaks_at) { f64::NAN } else { f64::from(self.center) };
        let input = Tensor::<2>::from_data(TensorData::new(values.clone(), [3, 1]), &Device::flex().autodiff());
        let total = (net.forward(input.clone()) - input.mul_scalar(2.0)).square().mean() + shift;
        LossTerms { terms: vec![("line".into(), total.clone())], total }
    }

    fn evaluate(&self, net: &Linear) -> Result<BTreeMap<String, f64>, TaskError> {
        Ok([("score".to_owned(), (self.score)(net.weight.val().into_scalar())?)].into())
    }

    fn decisive(&self) -> Decisive {
        Decisive { metric: self.metric, better: self.better }
    }

    fn figures(&self) -> Vec<(String, f64)> {
        vec![("center".into(), f64::from(self.center))]
    }

    fn rate(&self, path: &str) -> f64 {
        assert_eq!(path, "weight");
        self.rate
    }

    fn log(&self) -> Log {
        self.log.clone()
    }

    fn report(&self, net: &Linear, epoch: usize, out: &mut Reporter) -> Result<(), TaskError> {
        assert!(!net.weight.val().device().is_autodiff());
        if !self.log.epoch.is_empty() {
            out.histogram("Weights", &[net.weight.val().into_scalar::<f32>(), epoch as f32]);
        }
        Ok(())
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
    Settings { test_every: 2, ..Settings::new(epochs, Schedule::cosine(0.1, 0.0, 4), OptimizerConfig::default()) }
}

fn run(toy: &mut Toy, settings: &Settings, dir: &Path, resume: Option<&Checkpoint>) -> Result<Outcome, TrainError> {
    let mut net = fresh();
    if let Some(checkpoint) = resume {
        StateDict::load_file(&checkpoint.path, &mut net, "the line", Partial::Nothing).unwrap();
    }
    let mut resume = resume.map(|checkpoint| Resume::read(checkpoint, toy, &net, settings)).transpose()?;
    if let Some(resume) = &mut resume {
        resume.best = Checkpoint::best(dir)?.and_then(|best| best.record.best);
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
    let history = History::open(dir, Log::default(), None).unwrap();
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
    // One batch a step; and two, so that each epoch ends with a step of one, with everything else that the loop
    // carries along.
    let patience = Some(Patience { evaluations: 9, min_delta: 0.0 });
    for settings in [
        settings(4),
        Settings {
            accumulation: 2,
            clip_norm: Some(0.5),
            patience,
            save_interval: 3,
            keep: 1,
            ema: Some(0.6),
            ..settings(4)
        },
    ] {
        let straight = tempfile::tempdir().unwrap();
        let outcome = run(&mut Toy::default(), &settings, straight.path(), None).unwrap();
        let Outcome::Finished { best: Some((_, best)) } = outcome else { panic!("{outcome:?}") };
        for call in 0..4 * STEPS {
            let dir = tempfile::tempdir().unwrap();
            let mut toy = Toy { stops_at: Some(call), ..Toy::default() };
            let outcome = run(&mut toy, &settings, dir.path(), None).unwrap();
            let Outcome::Interrupted { checkpoint } = outcome else { panic!("call {call}: {outcome:?}") };
            // At the end of the step that the batch belongs to.
            let within = (call % STEPS / settings.accumulation + 1) * settings.accumulation;
            assert_eq!(toy.calls, call / STEPS * STEPS + within.min(STEPS));
            assert!(!dir.path().join(checkpoint::FINAL).exists());
            let newest = Checkpoint::newest(dir.path()).unwrap().unwrap();
            assert_eq!(newest.path, checkpoint);
            let outcome = run(&mut Toy::default(), &settings, dir.path(), Some(&newest)).unwrap();
            assert!(matches!(outcome, Outcome::Finished { best: Some((_, epoch)) } if epoch == best), "{outcome:?}");
            for file in [checkpoint::FINAL, checkpoint::BEST] {
                assert_eq!(weight(dir.path(), file), weight(straight.path(), file), "call {call}, {file}");
            }
            assert_eq!(log(dir.path()), log(straight.path()), "call {call}");
            assert_eq!(checkpoints(dir.path()), checkpoints(straight.path()), "call {call}");
            let record = |dir: &Path| Checkpoint::newest(dir).unwrap().unwrap().record;
            assert_eq!(record(dir.path()).patience, record(straight.path()).patience, "call {call}");
        }
        // With `keep: 1` epoch 3 stays because of its number.
        let names = ["checkpoint_epoch_3.safetensors", "checkpoint_epoch_3.state"];
        assert_eq!(checkpoints(straight.path())[..2], names);
        assert_eq!(checkpoints(straight.path()).len(), 4);
    }
}

/// Worked out here in double precision.
#[test]
fn the_average_is_evaluated_and_kept_and_the_last_step_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let plain = settings(2);
    let end = |settings: &Settings, dir: &Path, file: &str| {
        run(&mut Toy::default(), settings, dir, None).unwrap();
        f64::from(f32::from_le_bytes(weight(dir, file).try_into().unwrap()))
    };
    // The network after each step: of a run that ends with it.
    let mut weights = vec![0.25];
    for call in 0..2 * STEPS {
        let dir = tempfile::tempdir().unwrap();
        let mut toy = Toy { stops_at: Some(call), ..Toy::default() };
        let outcome = run(&mut toy, &plain, dir.path(), None).unwrap();
        let Outcome::Interrupted { checkpoint } = outcome else { panic!("{outcome:?}") };
        let state = StateDict::read(&checkpoint).unwrap();
        weights.push(f64::from(state.get("weight").unwrap().as_slice::<f32>().unwrap()[0]));
    }
    let averaged = weights[1..].iter().zip(1..).fold(weights[0], |mean, (weight, step)| {
        let kept = f64::min(0.3, f64::from(1 + step) / f64::from(10 + step));
        kept * mean + (1.0 - kept) * weight
    });
    let ema = Settings { ema: Some(0.3), ..plain.clone() };
    let found = end(&ema, dir.path(), checkpoint::FINAL);
    assert!((found - averaged).abs() < 1e-6, "{found} for {averaged}");
    assert!((averaged - weights[2 * STEPS]).abs() > 1e-3, "{averaged} is that of the last step");
    // It is what was scored, and the last step is what the next one starts from.
    assert_eq!(log(dir.path())[1].2["score"] as f32, found as f32);
    let last = weight(dir.path(), "checkpoint_epoch_2.safetensors");
    assert_eq!(f64::from(f32::from_le_bytes(last.try_into().unwrap())), weights[2 * STEPS]);
    // The best network of a future that is given up.
    let newest = Checkpoint::newest(dir.path()).unwrap().unwrap();
    let kept = averaged_weight(&newest);
    assert_eq!(kept, weight(dir.path(), checkpoint::FINAL));
    for (settings, saved) in [(&plain, true), (&ema, false)] {
        let other = tempfile::tempdir().unwrap();
        run(&mut Toy::default(), if saved { &ema } else { &plain }, other.path(), None).unwrap();
        let newest = Checkpoint::newest(other.path()).unwrap().unwrap();
        let longer = Settings { epochs: 3, ..settings.clone() };
        let error = run(&mut Toy::default(), &longer, other.path(), Some(&newest)).unwrap_err();
        assert!(matches!(&error, TrainError::Average { saved: found, .. } if *found == saved), "{error}");
        assert!(error.to_string().contains("--ema"), "{error}");
    }
}

fn averaged_weight(checkpoint: &Checkpoint) -> Vec<u8> {
    averaged(checkpoint).unwrap().unwrap().get("weight").unwrap().as_bytes().to_vec()
}

/// A batch that nothing is left of has a number like any other: a run that goes on behind it repeats nothing.
#[test]
fn a_run_goes_on_behind_a_batch_that_was_left_out() {
    const EPOCHS: usize = 2;
    for missing in [&[0][..], &[1], &[2], &[0, 1], &[1, 2]] {
        for accumulation in [1, 2] {
            let settings = Settings { accumulation, ..settings(EPOCHS) };
            let toy = || Toy { missing, ..Toy::default() };
            let (straight, mut whole) = (tempfile::tempdir().unwrap(), toy());
            run(&mut whole, &settings, straight.path(), None).unwrap();
            assert_eq!(whole.calls, EPOCHS * (STEPS - missing.len()), "without {missing:?}");
            for call in 0..whole.calls {
                let (dir, mut first, mut second) = (tempfile::tempdir().unwrap(), toy(), toy());
                first.stops_at = Some(call);
                let outcome = run(&mut first, &settings, dir.path(), None).unwrap();
                assert!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome:?}");
                let newest = Checkpoint::newest(dir.path()).unwrap().unwrap();
                run(&mut second, &settings, dir.path(), Some(&newest)).unwrap();
                let what = format!("without {missing:?}, {accumulation} a step, stopped in call {call}");
                assert_eq!(first.calls + second.calls, whole.calls, "{what}");
                let end = |dir: &Path| weight(dir, checkpoint::FINAL);
                assert_eq!(end(dir.path()), end(straight.path()), "{what}");
                assert_eq!(log(dir.path()), log(straight.path()), "{what}");
            }
        }
    }
}

/// The loss is the square of (weight - 2) times a batch's mean square; worked out here in double precision.
#[test]
fn a_step_takes_the_mean_of_its_batches() {
    let squares: Vec<f64> = Toy::default()
        .epoch(1, 0)
        .unwrap()
        .batches
        .map(|batch| batch.unwrap().1.1.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 3.0)
        .collect();
    let slope = |weight: f64, batches: &[usize]| {
        let gradient = |batch: &usize| 2.0 * (weight - 2.0) * squares[*batch];
        batches.iter().map(gradient).sum::<f64>() / batches.len() as f64
    };
    let descent =
        OptimizerConfig { kind: OptimizerKind::Sgd, momentum: 0.0, weight_decay: 0.0, ..OptimizerConfig::default() };
    let plain = Settings { optimizer: descent, accumulation: 2, ..settings(1) };
    let end = |settings: &Settings, toy: &mut Toy| {
        let dir = tempfile::tempdir().unwrap();
        run(toy, settings, dir.path(), None).unwrap();
        f64::from(f32::from_le_bytes(weight(dir.path(), checkpoint::FINAL).try_into().unwrap()))
    };
    let follow = |groups: &[&[usize]], clip: f64| {
        groups.iter().fold(0.25, |weight, batches| {
            let slope = slope(weight, batches);
            weight - 0.1 * slope * (clip / (slope.abs() + 1e-6)).min(1.0)
        })
    };
    let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found} for {wanted}");
    // Two batches, then the one that is left.
    close(end(&plain, &mut Toy::default()), follow(&[&[0, 1], &[2]], f64::MAX));
    close(end(&Settings { clip_norm: Some(0.3), ..plain.clone() }, &mut Toy::default()), follow(&[&[0, 1], &[2]], 0.3));
    // A batch that is left out does not take its step along.
    let skip = Settings { on_bad_loss: BadLoss::Skip, ..plain.clone() };
    close(end(&skip, &mut Toy { breaks_at: Some(1), ..Toy::default() }), follow(&[&[0], &[2]], f64::MAX));
    // Nor does one that nothing is left of, whether it would have ended the step or the epoch.
    let without = |missing| Toy { missing, ..Toy::default() };
    close(end(&plain, &mut without(&[1])), follow(&[&[0], &[2]], f64::MAX));
    close(end(&plain, &mut without(&[2])), follow(&[&[0, 1]], f64::MAX));
    close(end(&Settings { accumulation: 3, ..plain.clone() }, &mut without(&[2])), follow(&[&[0, 1]], f64::MAX));
    // A tenth of the rate; and none, which leaves neither a step nor a state.
    let tenth = end(&plain, &mut Toy { rate: 0.1, ..Toy::default() });
    let first = 0.25 - 0.01 * slope(0.25, &[0, 1]);
    close(tenth, first - 0.01 * slope(first, &[2]));
    assert_eq!(end(&plain, &mut Toy { rate: 0.0, ..Toy::default() }), 0.25);
}

#[test]
fn an_epoch_without_one_finite_loss_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { better: Better::Lower, breaks_at: Some(0), ..Toy::default() };
    let settings = Settings { on_bad_loss: BadLoss::Skip, ..settings(2) };
    run(&mut toy, &settings, dir.path(), None).unwrap();
    assert_eq!(log(dir.path()).len(), 2, "one batch of three is not all");

    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { breaks_at: Some(usize::MAX), ..Toy::default() };
    let error = run(&mut toy, &settings, dir.path(), None).unwrap_err().to_string();
    assert_eq!(error, "no batch of epoch 1 had a finite loss");
}

#[test]
fn a_batch_of_one_row_is_refused_before_its_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { single: Some(2), ..Toy::default() };
    let error = run(&mut toy, &settings(2), dir.path(), None).unwrap_err();
    assert!(!error.is_divergence());
    assert_eq!(
        error.to_string(),
        "batch 3 of 3 of epoch 1 has one row left (a2.png), and batch normalisation needs two: too many of its \
         pictures cannot be read"
    );
    assert_eq!(toy.calls, 2);
}

#[test]
fn a_metric_may_be_better_when_smaller_and_patience_ends() {
    // 0.9, 0.8, …: each evaluation is better when smaller is.
    fn falling(_: f32) -> Result<f64, TaskError> {
        thread_local!(static CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
        CALLS.set(CALLS.get() + 1);
        Ok(1.0 - 0.1 * f64::from(CALLS.get()))
    }
    let every = |epochs, patience| Settings { test_every: 1, patience, ..settings(epochs) };
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { better: Better::Lower, score: falling, ..Toy::default() };
    let outcome = run(&mut toy, &every(3, None), dir.path(), None).unwrap();
    let Outcome::Finished { best: Some((best, 3)) } = outcome else { panic!("{outcome:?}") };
    assert!((best - 0.7).abs() < 1e-12);

    // Steps of 0.1 are no improvement by more than 0.15: the first evaluation stays the mark, every second one is
    // better.
    let patient = |evaluations, min_delta| Some(Patience { evaluations, min_delta });
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { better: Better::Lower, score: falling, ..Toy::default() };
    let settings = every(6, patient(2, 0.15));
    run(&mut toy, &settings, dir.path(), None).unwrap();
    assert_eq!(log(dir.path()).len(), 6, "every second evaluation is better by 0.2");

    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { score: |_| Ok(0.5), ..Toy::default() };
    let outcome = run(&mut toy, &every(9, patient(3, 0.0)), dir.path(), None).unwrap();
    assert_eq!(outcome, Outcome::Finished { best: Some((0.5, 1)) });
    assert_eq!(log(dir.path()).len(), 4, "one evaluation, and three that are no better");
    assert!(dir.path().join(checkpoint::FINAL).exists());
    // Resumed, it has nothing left to do; with more patience it has.
    let newest = || Checkpoint::newest(dir.path()).unwrap();
    run(&mut toy, &every(9, patient(3, 0.0)), dir.path(), newest().as_ref()).unwrap();
    assert_eq!(log(dir.path()).len(), 4);
    run(&mut toy, &every(9, patient(5, 0.0)), dir.path(), newest().as_ref()).unwrap();
    assert_eq!(log(dir.path()).len(), 6);
}

#[test]
fn an_evaluation_without_the_metric_that_decides_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy { metric: "mAP", ..Toy::default() };
    let error = run(&mut toy, &settings(2), dir.path(), None).unwrap_err().to_string();
    assert_eq!(error, "the evaluation gave no `mAP`, by which the best network is chosen; it gave `score`");
}

#[test]
fn a_familys_log_is_the_same_after_an_interruption() {
    let family = || Log {
        batch: named([("loss/total", "Train/Loss"), ("train/center", "Train/Center"), ("lr", "Train/LearningRate")]),
        epoch: named([("loss/total", "Epoch/TrainLoss"), ("metrics/score", "Epoch/Score")]),
        first_epoch: 0,
        panels: vec![Panel::new("loss", [Line::new("train", "loss/total")])],
        figures: true,
        summary: Some(Summary {
            train: named([("loss/total", "total_loss"), ("train/center", "center")]),
            validation: named([("metrics/score", "score")]),
            args: serde_json::json!({}),
        }),
    };
    let [straight, resumed, logs] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let settings = Settings { save_interval: 2, log_dir: Some(logs.path().to_owned()), ..settings(4) };
    run(&mut Toy { log: family(), ..Toy::default() }, &settings, straight.path(), None).unwrap();
    let mut toy = Toy { log: family(), stops_at: Some(STEPS + 1), ..Toy::default() };
    run(&mut toy, &settings, resumed.path(), None).unwrap();
    let newest = Checkpoint::newest(resumed.path()).unwrap();
    run(&mut Toy { log: family(), ..Toy::default() }, &settings, resumed.path(), newest.as_ref()).unwrap();

    let names = |dir: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(straight.path()), names(resumed.path()));
    for name in ["training_curves_epoch_2.png", "training_curves_epoch_4.png", "final_training_curves.png"] {
        assert!(straight.path().join(name).exists(), "{name}");
    }
    let history = |dir: &Path| std::fs::read_to_string(dir.join(History::FILE)).unwrap();
    assert_eq!(history(straight.path()), history(resumed.path()));
    assert_eq!(history(straight.path()).matches("center").count(), 4);
    assert_eq!(history(straight.path()).matches("\"score\"").count(), 2);
    // A file each, equal but for the clock: tags and their steps.
    let events = |dir: &Path| {
        let run = dir.file_name().unwrap().to_str().unwrap();
        crate::run::tensorboard::tests::steps(logs.path(), run)
    };
    assert_eq!(names(logs.path()).len(), 2);
    let found = events(straight.path());
    assert_eq!(found, events(resumed.path()));
    let of = |tag: &str| found.iter().filter(|(name, _)| name == tag).map(|(_, step)| *step).collect::<Vec<_>>();
    assert_eq!(of("Train/Loss"), (0..12).collect::<Vec<_>>());
    assert_eq!(of("Epoch/TrainLoss"), [0, 1, 2, 3]);
    assert_eq!((of("Epoch/Score"), of("Weights")), (vec![1, 3], vec![1, 3]));
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
    mad.optimizer = OptimizerConfig { kind: OptimizerKind::Sgd, momentum: 0.0, ..OptimizerConfig::default() };
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
    let values =
        Values { total: 0.1 + 0.2, terms: vec![("a".into(), 1.0 / 3.0)], figures: vec![("b".into(), 2.0 / 3.0)] };
    sums.add(&values, 4, [1e-3 / 7.0, 1e-4 / 7.0]);
    let text = serde_json::to_string(&sums).unwrap();
    assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), sums);
}
