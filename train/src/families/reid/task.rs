//! Person re-identification, and any other matching of pictures by identity.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::PictureSpec;
use contract::trained::TrainedOn;
use datasets::{Dataset, DatasetError, Options, Sample, Scorable};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::data::augment::Transforms;
use crate::data::loader::{Loader, LoaderOptions, PictureBatch, Pictures};
use crate::data::sampler::Sampler;
use crate::data::sheet;
use crate::families::reid::evaluate::{self, Ask, Embedded, RankedList, Reading};
use crate::families::reid::look::{self, LOOKED_AT};
use crate::families::reid::net::{Draws, ReidNet, ReidNetConfig};
use crate::families::reid::settings::ReidConfig;
use crate::loss::{LossParams, LossSum, LossTerms};
use crate::nn::dropout::Masks;
use crate::rng::{Rng, Step};
use crate::run::amp;
use crate::run::checkpoint::Queries;
use crate::run::engine::{Better, Decisive, Epoch, Reporter, Settings, Task, TaskError};
use crate::run::optim::OptimizerConfig;
use crate::run::schedule::{Schedule, ScheduleFlags};
use crate::weights;

/// Family name in checkpoints and contracts.
pub const FAMILY: &str = "reid";

/// Key of the random places of drop blocks.
const BLOCKS: u64 = 0xd20b;

/// Key of what dropouts leave out.
const DROPOUT: u64 = 0xd20c;

/// Data, sampler and loss of a re-identification run.
pub struct ReidTask {
    config: ReidConfig,
    dataset: Dataset,
    test: Vec<Dataset>,
    pictures: Arc<Pictures>,
    sampler: Sampler,
    transforms: Transforms,
    loss: LossSum,
    device: Device,
    /// Keys of what is frozen in the first epochs.
    frozen: BTreeSet<String>,
    /// The epoch that is trained.
    epoch: Cell<usize>,
    /// What the last evaluation ranked first, of the first queries.
    lists: RefCell<Vec<RankedList>>,
    /// Unreadable pictures that a warning has named: each is named once, not in every epoch.
    warned: Rc<RefCell<BTreeSet<PathBuf>>>,
}

/// How pictures enter the network: ImageNet's mean and standard deviation, stretched to the run's size.
pub fn picture_spec(config: &ReidConfig) -> PictureSpec {
    PictureSpec::imagenet([config.height, config.width])
}

fn options(config: &ReidConfig) -> Options {
    Options { train_identities: config.train_identities, cuhk03_labeled: config.cuhk03_labeled }
}

/// The evaluation sets a run names; none if it asks for no evaluation.
///
/// # Errors
/// If one cannot be listed.
pub fn test_sets(config: &ReidConfig) -> Result<Vec<Dataset>, DatasetError> {
    if !config.is_tested() {
        return Ok(vec![]);
    }
    let names = match config.data_test.trim() {
        "" => &config.data_train,
        names => names,
    };
    Dataset::open_each(names, Path::new(&config.datadir), &options(config))
}

/// Warns of what a set leaves out. With `strict`, a lost picture is an error.
fn heed(set: &Dataset, strict: bool) -> Result<(), DatasetError> {
    if strict && set.left_out.is_loss() {
        return Err(DatasetError::LeftOut { warning: set.left_out.losses().join("; ") });
    }
    set.all_warnings().iter().for_each(|warning| terminal::warn(warning));
    Ok(())
}

/// The evaluation sets of `config`, after warnings of what they leave out.
///
/// # Errors
/// If there are none, one cannot be listed, or with `strict` has lost a picture.
pub fn heeded_test_sets(config: &ReidConfig, strict: bool) -> Result<Vec<Dataset>, TaskError> {
    let sets = test_sets(config)?;
    if sets.is_empty() {
        return Err(format!("there is nothing to evaluate: --data-test is `{}`", config.data_test).into());
    }
    sets.iter().try_for_each(|set| heed(set, strict))?;
    Ok(sets)
}

/// The network that settings ask for.
pub fn network(config: &ReidConfig) -> ReidNetConfig {
    ReidNetConfig { classes: config.num_classes, net: config.net.clone() }
}

/// What the training loop needs of the settings.
///
/// # Errors
/// If the settings make no schedule.
pub fn settings(config: &ReidConfig, keep: usize) -> Result<Settings, TaskError> {
    let schedule = Schedule::from_flags(&ScheduleFlags {
        lr: config.lr,
        epochs: config.epochs,
        cosine_annealing: config.cosine_annealing,
        w_cosine_annealing: config.w_cosine_annealing,
        milestones: config.milestones()?,
        gamma: config.gamma,
        warmup: config.warmup,
        warmup_epochs: config.warmup_epochs,
    })?;
    let optimizer = OptimizerConfig {
        kind: config.optimizer,
        weight_decay: config.weight_decay,
        beta1: config.beta1,
        beta2: config.beta2,
        epsilon: config.epsilon,
        amsgrad: config.amsgrad,
        momentum: config.momentum,
        dampening: config.dampening,
        nesterov: config.nesterov,
        ..OptimizerConfig::default()
    };
    Ok(Settings {
        test_every: config.test_every,
        keep,
        amp: config.use_amp,
        ..Settings::new(config.epochs, schedule, optimizer).averaged(config.ema)
    })
}

impl ReidTask {
    /// Lists the data and prepares sampler and loss. `device` is where the network trains.
    ///
    /// # Errors
    /// Data that cannot be listed or sampled, or a loss expression that cannot be read.
    pub fn open(config: &ReidConfig, device: &Device) -> Result<Self, TaskError> {
        let dataset = Dataset::open(&config.data_train, Path::new(&config.datadir), &options(config))?;
        heed(&dataset, config.strict)?;
        let test = test_sets(config).map_err(with_way_out)?;
        // What a set that also trains leaves out has been said.
        let said = |set: &&Dataset| format!("+{}+", dataset.name).contains(&format!("+{}+", set.name));
        test.iter().filter(|set| !said(set)).try_for_each(|set| heed(set, config.strict))?;
        test.iter().try_for_each(can_be_scored)?;
        // The query and ten entries.
        let lists = sheet::size([config.ranked_lists, 11], [config.height, config.width]);
        lists.map_err(|size| format!("--ranked-lists {} make a picture of {size}", config.ranked_lists))?;
        warn_of_test_sets(&dataset, &test);
        let classes = dataset.classes().len();
        let pictures = Arc::new(Pictures::training(&dataset, picture_spec(config), config.cache_mb));
        let cameras: Vec<i64> = dataset.train.iter().map(|sample| sample.camera).collect();
        let sampler = config.sampler_of(pictures.classes(), &cameras)?;
        let (root, options) = (Path::new(&config.datadir), options(config));
        let data_train = datasets::anchored(&config.data_train, root, &options)?;
        let data_test = match test.is_empty() {
            true => config.data_test.clone(),
            false => datasets::anchored(&config.data_test, root, &options)?,
        };
        let config = ReidConfig { num_classes: classes, data_train, data_test, ..config.clone() };
        note_single_pictures(pictures.classes(), &config);
        let frozen = if config.freeze_epochs > 0 { network(&config).backbone() } else { BTreeSet::new() };
        let loss = LossSum::new(
            &config.loss,
            &LossParams {
                num_classes: classes,
                label_smoothing: config.if_labelsmooth,
                margin: config.margin,
                feat_dim: config.net.features(),
                center_rule: config.center_rule,
                seed: config.seed,
            },
        )?;
        let transforms = config.transforms();
        Ok(Self {
            config,
            dataset,
            test,
            pictures,
            sampler,
            transforms,
            loss,
            device: device.clone(),
            frozen,
            epoch: Cell::new(0),
            lists: RefCell::default(),
            warned: Rc::default(),
        })
    }

    /// The settings, with the number of classes that the data has.
    pub fn config(&self) -> &ReidConfig {
        &self.config
    }

    /// The network these data and settings ask for.
    pub fn network(&self) -> ReidNetConfig {
        network(&self.config)
    }

    /// Name of the training set.
    pub fn dataset_name(&self) -> &str {
        &self.dataset.name
    }

    /// A training picture.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn sample(&self, index: usize) -> &Sample {
        &self.dataset.train[index]
    }

    /// How pictures enter the network.
    pub(super) fn input(&self) -> &PictureSpec {
        self.pictures.input()
    }

    /// Hash of the training set's file list.
    pub fn fingerprint(&self) -> String {
        self.dataset.fingerprint()
    }

    /// The people of the training set.
    pub fn trained_on(&self) -> TrainedOn {
        self.dataset.trained_on()
    }

    /// The metric that decides, of a network on a device without autodiff; none where there is no set to test on.
    ///
    /// # Errors
    /// If the set cannot be read.
    pub fn deciding(&self, net: &ReidNet) -> Result<Option<f64>, TaskError> {
        let Some(set) = self.test.first() else { return Ok(None) };
        let ReidConfig { batchtest, n_thread, strict, .. } = self.config;
        let reading = Reading { batch: batchtest, threads: n_thread, strict };
        Ok(Some(Embedded::of(net, set, self.pictures.input(), reading)?.report(Ask::default())?.ranking.map))
    }

    /// One line on the data, for people.
    pub fn describe_data(&self) -> String {
        let counts = self.dataset.counts();
        let batches = self.sampler.epoch(1).len();
        let tested =
            |set: &Dataset| format!("\ntest on {}: {}, {} in the gallery", set.name, set.scorable(), set.gallery.len());
        let test: String = match self.test.is_empty() {
            true => "\nno test: --data-test is none".to_owned(),
            false => self.test.iter().map(tested).collect(),
        };
        format!(
            "{}: {} pictures of {} identities, {batches} batches of {} in an epoch{test}",
            self.dataset.name,
            counts.train,
            counts.classes,
            self.config.batch(),
        )
    }
}

/// Queries, and those with a match: a gallery picture of the same identity from another camera.
fn queries(set: &Dataset) -> Queries {
    let Scorable { queries: all, scored, .. } = set.scorable();
    Queries { dataset: set.name.clone(), all, scored }
}

/// What to do without a test set.
const WAY_OUT: &str = "--data-test names another set, and `--data-test none` trains without a test";

/// Adds to the error of a test set without queries or gallery what can be done.
fn with_way_out(error: DatasetError) -> TaskError {
    match error {
        DatasetError::NoSet { .. } => format!("{error}; {WAY_OUT}").into(),
        other => other.into(),
    }
}

/// Refuses a test set that can score no network: hours later, every score would be 0.
fn can_be_scored(set: &Dataset) -> Result<(), TaskError> {
    match set.scorable() {
        Scorable { scored: 0, .. } => Err(format!(
            "dataset `{}` cannot be tested on: {}; 1 or more are needed; {WAY_OUT}",
            set.name,
            set.scorable()
        )
        .into()),
        _ => Ok(()),
    }
}

/// Tells of identities without a second picture, in batches that want several of each.
fn note_single_pictures(classes: &[i64], config: &ReidConfig) {
    let mut counts = BTreeMap::<i64, usize>::new();
    classes.iter().for_each(|class| *counts.entry(*class).or_default() += 1);
    let single = counts.values().filter(|count| **count == 1).count();
    if single > 0 && config.sampler {
        terminal::note(&format!(
            "{single} of {} identities have one training picture, which is in a batch {} times: metric losses have no \
             other to compare it with",
            counts.len(),
            config.batchimage
        ));
    }
}

/// Warns of test sets whose scores mean little, because people who are tested also train.
fn warn_of_test_sets(train: &Dataset, test: &[Dataset]) {
    for set in test {
        // Of joined sets, a name has its set's in front.
        let part = format!("{}/", set.name);
        let own = |name: &'_ str| {
            if set.name == train.name { Some(name.to_owned()) } else { name.strip_prefix(&part).map(str::to_owned) }
        };
        let trained: BTreeSet<String> = train.train.iter().filter_map(|one| own(&one.identity_name)).collect();
        let tested: BTreeSet<String> = set.query.iter().map(|one| one.identity_name.clone()).collect();
        if let Some(first) = tested.intersection(&trained).next() {
            terminal::warn(&format!(
                "{}: {} of {} people that are tested also train (`{first}`, …): scores will be too high",
                set.name,
                tested.intersection(&trained).count(),
                tested.len()
            ));
        }
    }
}

impl Task for ReidTask {
    type Net = ReidNet;
    type Batch = PictureBatch;

    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<PictureBatch>, TaskError> {
        self.epoch.set(epoch);
        let batches = self.sampler.epoch(epoch);
        let steps = batches.len();
        let options = LoaderOptions {
            transforms: Some((self.transforms.clone(), epoch)),
            workers: self.config.n_thread,
            start_batch: done,
            strict: self.config.strict,
        };
        let loader = Loader::new(self.pictures.clone(), batches, options)?;
        let warned = self.warned.clone();
        let report = move |batch: &PictureBatch| {
            let mut warned = warned.borrow_mut();
            for skipped in &batch.skipped {
                let place = if skipped.replaced_by.is_some() { "another of its identity taken" } else { "left out" };
                if warned.insert(skipped.path.clone()) {
                    terminal::tell!("warning: {}: {place}", skipped.error);
                }
            }
        };
        Ok(Epoch::new(steps, loader.numbered().map(move |batch| batch.inspect(|(_, batch)| report(batch)))))
    }

    fn pictures(&self, batch: &PictureBatch) -> usize {
        batch.indices.len()
    }

    fn describe(&self, batch: &PictureBatch) -> String {
        let name = |&index: &usize| self.dataset.train[index].path.display().to_string();
        batch.indices.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn loss(&mut self, net: &ReidNet, batch: &PictureBatch, step: Step) -> LossTerms {
        let images = Tensor::from_data(TensorData::new(batch.pixels.clone(), batch.shape), &self.device);
        let classes = TensorData::new(batch.classes.clone(), [batch.classes.len()]);
        let mut rng = Rng::new(&step.keys(BLOCKS, self.config.seed));
        let masks = Masks::of(&step.keys(DROPOUT, self.config.seed));
        let draws = Draws { place: [rng.unit(), rng.unit()], masks };
        let output = net.forward_with(amp::like(net, images), draws);
        let [scores, features] =
            [output.scores, output.features].map(|all| all.into_iter().map(amp::full).collect::<Vec<_>>());
        self.loss.forward(&scores, &features, Tensor::<1, Int>::from_data(classes, &self.device))
    }

    fn evaluate(&self, net: &ReidNet) -> Result<BTreeMap<String, f64>, TaskError> {
        let ReidConfig { batchtest, n_thread, strict, re_rank, .. } = self.config;
        let reading = Reading { batch: batchtest, threads: n_thread, strict };
        let mut all = BTreeMap::new();
        for (index, set) in self.test.iter().enumerate() {
            let ask = Ask { rerank: re_rank, ..Ask::default() };
            let embedded = Embedded::of(net, set, self.pictures.input(), reading)?;
            let report = embedded.report(ask)?;
            if index == 0 {
                self.lists.replace(embedded.lists(self.config.ranked_lists));
            }
            evaluate::warn_when_collapsed(&report.spread);
            // The first set decides; the others carry their name.
            let name = |metric| if index == 0 { metric } else { format!("{}_{metric}", set.name) };
            all.extend(report.metrics().into_iter().map(|(metric, value)| (name(metric), value)));
        }
        Ok(all)
    }

    fn rate(&self, path: &str) -> f64 {
        // Paths begin with the network's place in `ReidNet`.
        let key = || weights::key_of(path.split_once('.').map_or(path, |(_, key)| key));
        let frozen = self.epoch.get() <= self.config.freeze_epochs && self.frozen.contains(&key());
        if frozen { 0.0 } else { self.config.net.rate(path) }
    }

    fn decisive(&self) -> Decisive {
        // Without a query to score every network has mAP 0: then the newest is the best.
        let scored = self.queries().is_some_and(|queries| queries.scored > 0);
        Decisive { metric: "mAP", better: if scored { Better::Higher } else { Better::Latest } }
    }

    fn queries(&self) -> Option<Queries> {
        self.test.first().map(queries)
    }

    fn report(&self, net: &ReidNet, _: usize, out: &mut Reporter) -> Result<(), TaskError> {
        let (Some(set), input) = (self.test.first(), self.pictures.input()) else { return Ok(()) };
        let ReidConfig { batchtest, n_thread, strict, activation_map, .. } = self.config;
        if activation_map {
            let first = &set.query[..set.query.len().min(LOOKED_AT)];
            let looks = look::activation(net, first, input, Reading { batch: batchtest, threads: n_thread, strict })?;
            out.picture("queries/activation", &look::activation_sheet(looks, input.size))?;
        }
        let lists = self.lists.take();
        if !lists.is_empty() {
            out.picture("queries/ranked", &look::ranked_sheet(&lists, input))?;
        }
        Ok(())
    }

    fn unreadable(&self) -> usize {
        self.pictures.unreadable().len()
    }

    fn state(&self) -> Vec<u8> {
        let Some((centers, shape)) = self.loss.centers() else { return Vec::new() };
        let bytes = bytemuck::cast_slice(&centers);
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("four bytes a value");
        safetensors::serialize([("centers", view)], None).expect("one small tensor")
    }

    fn set_state(&mut self, state: &[u8]) -> Result<(), TaskError> {
        if state.is_empty() {
            return Ok(());
        }
        let parts = SafeTensors::deserialize(state)?;
        let centers = parts.tensor("centers")?;
        let [classes, features] = *centers.shape() else { return Err("class centres have two axes".into()) };
        let values = centers.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(self.loss.set_centers(values, [classes, features])?)
    }
}
