//! Settings of a re-identification run: every default once.
//!
//! ```
//! use train::families::reid::settings::ReidConfig;
//!
//! let mut config = ReidConfig { lr: 3.5e-4, ..ReidConfig::default() };
//! config.check()?;
//! config.probability = 1.5;
//! let error = config.check().unwrap_err();
//! assert_eq!(error.to_string(), "--probability is 1.5; 0 to 1 are allowed");
//! # Ok::<(), train::run::checks::ConfigError>(())
//! ```

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::data::augment::Transforms;
use crate::data::policy::{self, RandAugment};
use crate::data::sampler::{PkSampler, Sampler, SamplerError};
use crate::families::reid::net::Network;
use crate::loss::{self, CenterRule};
use crate::run::checks::{ConfigError, Effect, below_one, between, counts, not_negative, positive, range};
use crate::run::optim::OptimizerKind;
use crate::run::recipe::Recipe;
use crate::run::schedule::Warmup;
use crate::run::settings::{Settings, idle};

/// Settings of person re-identification. The field `data_train` is the flag `--data-train`, and so on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct ReidConfig {
    /// The network. In files its name is `model`, and its settings lie beside the others.
    #[serde(skip)]
    pub net: Network,
    /// Folder of the datasets, or of the one dataset.
    pub datadir: String,
    /// Datasets to train on, joined by `+`, or tables of pictures; empty: told from the folders.
    pub data_train: String,
    /// Datasets to evaluate on, joined by `+`; empty: those of `data_train`; `none`: no evaluation.
    pub data_test: String,
    /// `cuhk03` means the hand-drawn boxes, not the detected ones.
    pub cuhk03_labeled: bool,
    /// Dataset `folders`: identities that train; half of them without.
    pub train_identities: Option<usize>,

    /// Epochs to train; 0: the untrained network is evaluated and saved.
    pub epochs: usize,
    /// Epochs between evaluations; 0: only after the last.
    pub test_every: usize,
    /// Identities in a batch (P).
    pub batchid: usize,
    /// Pictures of each identity in a batch (K).
    pub batchimage: usize,
    /// Pictures in a batch of evaluation.
    pub batchtest: usize,
    /// Batches of P identities × K pictures; otherwise pictures in any order, P·K in a batch.
    pub sampler: bool,

    /// Batches of P × K have as many cameras of each identity as it allows.
    pub balance_cameras: bool,

    /// Loss expression, `weight*name+weight*name`.
    pub loss: String,
    /// Label smoothing in the cross entropy.
    pub if_labelsmooth: bool,
    /// Margin of Triplet, TripletSemihard, MSLoss and RankedList.
    pub margin: f64,
    /// How the class centres of CenterLoss follow the features.
    pub center_rule: CenterRule,

    /// Height of the network's input in pixels.
    pub height: usize,
    /// Width of the network's input in pixels.
    pub width: usize,
    /// Training identities. Counted from the data, whatever is set here.
    pub num_classes: usize,

    /// Optimiser.
    pub optimizer: OptimizerKind,
    /// Learning rate.
    pub lr: f64,
    /// Momentum (SGD, RMSprop).
    pub momentum: f64,
    /// Dampening of the momentum (SGD).
    pub dampening: f64,
    /// Nesterov momentum (SGD).
    pub nesterov: bool,
    /// Decay of the first moment (ADAM, NADAM).
    pub beta1: f64,
    /// Decay of the second moment (ADAM, NADAM).
    pub beta2: f64,
    /// Largest second moment so far instead of the last (ADAM).
    pub amsgrad: bool,
    /// Floor under the second moment's root.
    pub epsilon: f64,
    /// Factor of the learning rate at each milestone.
    pub gamma: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Milestones: `step_40_70` has two, `step` has none.
    pub decay_type: String,
    /// Start of the learning rate, where no cosine says.
    pub warmup: Warmup,
    /// Epochs of warm-up.
    pub warmup_epochs: usize,
    /// Learning rate follows half a cosine.
    pub cosine_annealing: bool,
    /// Learning rate warms up, then follows half a cosine.
    pub w_cosine_annealing: bool,

    /// Random erasing.
    pub random_erasing: bool,
    /// Probability of random erasing.
    pub probability: f64,
    /// A random square blanked out.
    pub cutout: bool,
    /// Probability of a change of brightness, contrast, saturation and hue.
    pub colour_jitter: f64,
    /// Operations of RandAugment on each picture; 0: none.
    pub rand_augment: usize,
    /// Their strength.
    pub rand_magnitude: usize,

    /// Decay of a moving average of the weights, which is evaluated and kept; 0: none.
    pub ema: f64,
    /// Epochs at the start in which the backbone is frozen.
    pub freeze_epochs: usize,

    /// Mixed precision where the device gains by it; see [`crate::run::amp`].
    pub use_amp: bool,
    /// Re-ranking by k-reciprocal neighbours at evaluation.
    pub re_rank: bool,
    /// Whether TensorBoard gets activation maps of the first queries.
    pub activation_map: bool,
    /// Queries whose ranked lists TensorBoard gets.
    pub ranked_lists: usize,
    /// Name of the run.
    pub save: String,
    /// Weights to start from; empty: none.
    pub pre_train: String,
    /// Seed of sampler, transforms and initialisation.
    pub seed: u64,
    /// Threads that decode pictures.
    #[serde(alias = "nThread")]
    pub n_thread: usize,
    /// An unreadable picture is an error; otherwise it is replaced and counted.
    pub strict: bool,
    /// Memory for decoded training pictures in MB (2²⁰ bytes); 0: none are kept.
    pub cache_mb: usize,
}

impl Default for ReidConfig {
    fn default() -> Self {
        Self {
            net: Network::default(),
            datadir: "Market-1501-v15.09.15".into(),
            data_train: String::new(),
            data_test: String::new(),
            cuhk03_labeled: false,
            train_identities: None,
            epochs: 80,
            test_every: 20,
            batchid: 16,
            batchimage: 4,
            batchtest: 32,
            sampler: true,
            balance_cameras: false,
            loss: "1*CrossEntropy+1*Triplet".into(),
            if_labelsmooth: false,
            margin: 1.2,
            center_rule: CenterRule::default(),
            height: 384,
            width: 128,
            num_classes: 751,
            optimizer: OptimizerKind::Adam,
            lr: 6e-4,
            momentum: 0.9,
            dampening: 0.0,
            nesterov: false,
            beta1: 0.9,
            beta2: 0.999,
            amsgrad: false,
            epsilon: 1e-8,
            gamma: 0.1,
            weight_decay: 5e-4,
            decay_type: "step".into(),
            warmup: Warmup::Constant,
            warmup_epochs: 10,
            cosine_annealing: false,
            w_cosine_annealing: false,
            random_erasing: false,
            probability: 0.5,
            cutout: false,
            colour_jitter: 0.0,
            rand_augment: 0,
            rand_magnitude: 9,
            ema: 0.0,
            freeze_epochs: 0,
            use_amp: false,
            re_rank: false,
            activation_map: false,
            ranked_lists: 0,
            save: "test".into(),
            pre_train: String::new(),
            seed: 1,
            n_thread: 4,
            strict: false,
            cache_mb: 512,
        }
    }
}

/// Most queries whose ranked lists are drawn.
pub const MOST_LISTS: usize = 1_000;

/// The word of `--data-test` that asks for no evaluation.
pub const NO_TEST: &str = "none";

impl ReidConfig {
    /// Whether there is an evaluation.
    pub fn is_tested(&self) -> bool {
        !self.data_test.trim().eq_ignore_ascii_case(NO_TEST)
    }

    /// Pictures in a training batch.
    pub fn batch(&self) -> usize {
        self.batchid.saturating_mul(self.batchimage)
    }

    /// The random part of preprocessing.
    pub fn transforms(&self) -> Transforms {
        Transforms {
            erasing: if self.random_erasing { self.probability } else { 0.0 },
            cutout: if self.cutout { 0.5 } else { 0.0 },
            jitter: self.colour_jitter,
            policy: (self.rand_augment > 0)
                .then_some(RandAugment { operations: self.rand_augment, magnitude: self.rand_magnitude }),
            ..Transforms::new(self.seed)
        }
    }

    /// The sampler over training pictures of these identities and cameras.
    ///
    /// # Errors
    /// See [`SamplerError`].
    pub fn sampler_of(&self, of_picture: &[i64], cameras: &[i64]) -> Result<Sampler, SamplerError> {
        if self.sampler {
            let sampler = PkSampler::new(of_picture, self.batchid, self.batchimage, self.seed)?;
            let sampler = if self.balance_cameras { sampler.balanced(cameras)? } else { sampler };
            Ok(Sampler::Pk(sampler))
        } else {
            Sampler::uniform(of_picture, self.batch(), self.seed)
        }
    }

    /// Epochs after which the learning rate falls, from `decay_type`.
    ///
    /// # Errors
    /// If it is not `step` followed by ascending numbers, each after a `_`.
    pub fn milestones(&self) -> Result<Vec<usize>, ConfigError> {
        let wrong = || {
            let allowed = "`step`, or `step` and ascending epochs such as `step_40_70`,";
            range("decay-type", format!("`{}`", self.decay_type), allowed)
        };
        let mut fields = self.decay_type.split('_');
        if fields.next() != Some("step") {
            return Err(wrong());
        }
        let epochs = fields.map(|field| field.parse().ok().filter(|epoch| *epoch > 0));
        let epochs = epochs.collect::<Option<Vec<usize>>>().ok_or_else(wrong)?;
        if epochs.is_sorted_by(|a, b| a < b) { Ok(epochs) } else { Err(wrong()) }
    }

    /// Whether every value is in range and none excludes another.
    ///
    /// # Errors
    /// The first that is not, with its flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (flag, value) in [("datadir", &self.datadir), ("loss", &self.loss)] {
            if value.trim().is_empty() {
                return Err(range(flag, "empty", "names"));
            }
        }
        const ANY: usize = usize::MAX;
        // A batch of one identity has no negatives, and a picture without a partner is its own positive.
        let least = if self.sampler { 2 } else { 1 };
        counts([
            ("train-identities", self.train_identities.unwrap_or(1), 1, ANY),
            ("batchid", self.batchid, least, 65_536),
            ("batchimage", self.batchimage, least, 65_536),
        ])?;
        if self.batch() < 2 {
            let why = "batch norm needs a batch of at least 2 pictures";
            return Err(ConfigError::Conflict { flag: "batchid", other: "batchimage", why });
        }
        counts([
            ("batchtest", self.batchtest, 1, 65_536),
            ("height", self.height, 16, 8_192),
            ("width", self.width, 16, 8_192),
            ("num-classes", self.num_classes, 1, ANY),
            ("n-thread", self.n_thread, 1, terminal::most_threads()),
            ("cache-mb", self.cache_mb, 0, ANY >> 20),
            ("rand-augment", self.rand_augment, 0, policy::OPERATIONS),
            ("rand-magnitude", self.rand_magnitude, 0, policy::MOST),
            ("ranked-lists", self.ranked_lists, 0, MOST_LISTS),
        ])?;
        self.net.check()?;
        if !(self.gamma > 0.0 && self.gamma <= 1.0) {
            return Err(range("gamma", self.gamma, "numbers above 0 up to 1"));
        }
        positive([("lr", self.lr), ("epsilon", self.epsilon)])?;
        not_negative([("margin", self.margin), ("weight-decay", self.weight_decay)])?;
        below_one([("momentum", self.momentum), ("beta1", self.beta1), ("beta2", self.beta2), ("ema", self.ema)])?;
        between("dampening", self.dampening, [0.0, 1.0])?;
        between("probability", self.probability, [0.0, 1.0])?;
        between("colour-jitter", self.colour_jitter, [0.0, 1.0])?;
        if self.nesterov && self.optimizer == OptimizerKind::Sgd && (self.momentum == 0.0 || self.dampening != 0.0) {
            let why = "Nesterov momentum needs a momentum above 0 and no dampening";
            return Err(ConfigError::Conflict { flag: "nesterov", other: "dampening", why });
        }
        self.milestones()?;
        if self.cosine_annealing && self.w_cosine_annealing {
            let why = "one schedule is followed; the second is the first with a warm-up";
            return Err(ConfigError::Conflict { flag: "cosine-annealing", other: "w-cosine-annealing", why });
        }
        Ok(())
    }
}

impl Serialize for ReidConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rest = Self::serialize(self, serde_json::value::Serializer).map_err(serde::ser::Error::custom)?;
        let Value::Object(mut flat) = rest else { unreachable!("a struct serialises to an object") };
        flat.extend(self.net.flat());
        flat.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ReidConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = <Map<String, Value> as Deserialize>::deserialize(deserializer)?;
        let net = Network::take(&mut flat).map_err(D::Error::custom)?;
        let rest = Self::deserialize(Value::Object(flat)).map_err(D::Error::custom)?;
        Ok(Self { net, ..rest })
    }
}

impl Settings for ReidConfig {
    fn check(&self) -> Result<(), ConfigError> {
        Self::check(self)
    }

    fn defaults() -> Map<String, Value> {
        let mut all = crate::run::settings::fields(&Self::default());
        all.extend(Network::defaults());
        all
    }

    fn unused(&self) -> Vec<(String, String)> {
        let mut unused = self.net.unused();
        let counted = "nothing: identities are counted from the training set";
        let adam = matches!(self.optimizer, OptimizerKind::Adam | OptimizerKind::AdamW);
        let moments = adam || self.optimizer == OptimizerKind::Nadam;
        let momentum = matches!(self.optimizer, OptimizerKind::Sgd | OptimizerKind::RmsProp);
        let sgd = self.optimizer == OptimizerKind::Sgd;
        let cosine = self.cosine_annealing || self.w_cosine_annealing;
        let falls = !cosine && self.milestones().is_ok_and(|epochs| !epochs.is_empty());
        let rises = self.w_cosine_annealing || (!cosine && self.warmup == Warmup::Linear);
        // One that cannot be read is refused, and its place shown, when the loss is built.
        let losses = loss::parse(&self.loss).ok();
        let has =
            |names: &[&str]| losses.as_ref().is_none_or(|losses| losses.iter().any(|(loss, _)| names.contains(loss)));
        unused.extend(idle(&[
            (has(&["CrossEntropy"]), &["if_labelsmooth"], "the loss CrossEntropy"),
            (has(&loss::WITH_MARGIN), &["margin"], "the losses Triplet, TripletSemihard, MSLoss and RankedList"),
            (has(&["CenterLoss"]), &["center_rule"], "the loss CenterLoss"),
            (false, &["num_classes"], counted),
            (sgd, &["dampening", "nesterov"], "the optimiser SGD"),
            (momentum, &["momentum"], "the optimisers SGD and RMSprop"),
            (moments, &["beta1", "beta2"], "the optimisers ADAM, ADAMW and NADAM"),
            (adam, &["amsgrad"], "the optimisers ADAM and ADAMW"),
            (!sgd, &["epsilon"], "optimisers other than SGD"),
            (self.random_erasing, &["probability"], "--random-erasing"),
            (self.rand_augment > 0, &["rand_magnitude"], "--rand-augment"),
            (self.sampler, &["balance_cameras"], "batches of identities (--sampler True)"),
            (!self.pre_train.is_empty(), &["freeze_epochs"], "runs that start from --pre-train"),
            (!cosine, &["decay_type", "warmup"], "schedules without a cosine"),
            (self.is_tested(), &["activation_map", "ranked_lists"], "runs with a test set (--data-test)"),
            (falls, &["gamma"], "schedules with milestones (--decay-type step_40_70) and without a cosine"),
            (rises, &["warmup_epochs"], "--warmup linear and --w-cosine-annealing"),
        ]));
        unused
    }

    const REFERENCE_ONLY: &'static [(&'static str, Effect)] = REFERENCE_ONLY;

    const RECIPES: &'static [Recipe] = &[
        Recipe {
            name: "lmbn_n",
            about: "LMBN_n. Target on Market-1501: Rank-1 96.3 %, mAP 91.5 %, as published in the README of LightMBN \
                    (from ImageNet weights, --pre-train; not measured here)",
            text: include_str!("../../../recipes/lmbn_n.toml"),
        },
        Recipe {
            name: "bot",
            about: "Bag of tricks, ResNet50. Target on Market-1501: Rank-1 94.2 %, mAP 85.4 %, as published in the \
                    README of LightMBN (from ImageNet weights; not measured here)",
            text: include_str!("../../../recipes/bot.toml"),
        },
        Recipe {
            name: "pcb",
            about: "PCB. Target on Market-1501: Rank-1 95.1 %, mAP 86.3 %, as published in the README of LightMBN \
                    (from ImageNet weights; not measured here)",
            text: include_str!("../../../recipes/pcb.toml"),
        },
        Recipe {
            name: "mgn",
            about: "MGN. Target on Market-1501: Rank-1 94.7 %, mAP 87.5 %, as published in the README of LightMBN \
                    (from ImageNet weights; not measured here)",
            text: include_str!("../../../recipes/mgn.toml"),
        },
    ];
}

/// Settings of the reference's files and command lines that have no counterpart here.
const REFERENCE_ONLY: &[(&str, Effect)] = {
    const DEVICE: &str = "--device says where to compute, which is one device";
    const GROUP: &str = "it is for GroupLoss, which is not built in";
    const NOTHING: &str = "the reference does not use it either";
    const TRACKER: &str = "no tracker is called; history, metrics.csv and TensorBoard's file are in the run directory";
    &[
        ("nThread", Effect::Renamed("n_thread")),
        ("nGPU", Effect::IgnoredIf(&["0", "1"], DEVICE)),
        ("cpu", Effect::Ignored(DEVICE)),
        ("T", Effect::Ignored(GROUP)),
        ("num_anchors", Effect::Ignored(GROUP)),
        ("act", Effect::Ignored(NOTHING)),
        ("lr_decay", Effect::Ignored(NOTHING)),
        ("reset", Effect::Ignored(NOTHING)),
        ("nep_token", Effect::IgnoredIf(&[""], TRACKER)),
        ("nep_id", Effect::IgnoredIf(&[""], TRACKER)),
        ("nep_name", Effect::Ignored(TRACKER)),
        ("wandb", Effect::IgnoredIf(&["false"], TRACKER)),
        ("wandb_name", Effect::Ignored(TRACKER)),
        ("config", Effect::Only(&[""], "a settings file names no other; give --config")),
        ("load", Effect::Only(&[""], "give --resume")),
        ("test_only", Effect::Only(&["false"], "give --test-only")),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::reid::net::ResNet50Settings;
    use crate::run::checks::tests::{Wrong, refused};

    #[test]
    fn defaults_are_those_of_the_specification_and_pass() {
        let config = ReidConfig::default();
        config.check().unwrap();
        assert_eq!((config.batch(), config.height, config.width), (64, 384, 128));
        assert_eq!((config.data_train.as_str(), config.data_test.as_str()), ("", ""), "the folders tell");
        assert_eq!(config.optimizer.to_string(), "ADAM");
        let json = serde_json::to_string(&config).unwrap();
        assert!(json.contains(r#""optimizer":"ADAM""#), "{json}");
        assert_eq!(serde_json::from_str::<ReidConfig>(&json).unwrap(), config);
        assert_eq!(serde_json::from_str::<ReidConfig>("{}").unwrap(), config, "what is absent has its default");
    }

    #[test]
    fn unknown_keys_and_words_are_errors_that_name_them() {
        let error = serde_json::from_str::<ReidConfig>(r#"{"epoch": 2}"#).unwrap_err().to_string();
        assert!(error.contains("`epoch`"), "{error}");
        let error = serde_json::from_str::<ReidConfig>(r#"{"optimizer": "LAMB"}"#).unwrap_err().to_string();
        assert!(error.contains("`LAMB`") && error.contains("NADAM"), "{error}");
        assert_eq!("rmsprop".parse(), Ok(OptimizerKind::RmsProp));
    }

    #[test]
    fn transforms_follow_the_settings() {
        let off = ReidConfig { probability: 0.9, ..Default::default() }.transforms();
        assert_eq!((off.flip, off.translation, off.erasing, off.cutout), (0.5, 0.5, 0.0, 0.0));
        let on = ReidConfig { probability: 0.9, random_erasing: true, cutout: true, ..Default::default() }.transforms();
        assert_eq!((on.erasing, on.cutout), (0.9, 0.5));
    }

    #[test]
    fn milestones() {
        let of = |text: &str| ReidConfig { decay_type: text.into(), ..Default::default() }.milestones();
        assert_eq!(of("step"), Ok(vec![]));
        assert_eq!(of("step_40_70"), Ok(vec![40, 70]));
        for wrong in ["", "40_70", "step_", "step_70_40", "step_0", "step_4.5", "step40"] {
            assert!(of(wrong).unwrap_err().to_string().contains("--decay-type"), "{wrong}");
        }
    }

    fn dropping(shares: [f64; 2]) -> Network {
        Network::ResNet50(ResNet50Settings { drop_block: Some(shares), ..ResNet50Settings::default() })
    }

    #[test]
    fn every_check_names_its_flag_and_value() {
        let good = ReidConfig::default();
        let wrong: &[Wrong<'_, ReidConfig>] = &[
            ("--loss", "empty", |c| c.loss = String::new()),
            ("--train-identities", "0", |c| c.train_identities = Some(0)),
            ("--batchid", "1", |c| c.batchid = 1),
            ("--batchimage", "1", |c| c.batchimage = 1),
            ("--batchid", "batchimage", |c| (c.sampler, c.batchid, c.batchimage) = (false, 1, 1)),
            ("--batchtest", "0", |c| c.batchtest = 0),
            ("--feats", "0", |c| c.net = c.net.with("feats", 0).unwrap()),
            ("--parts", "0", |c| c.net = Network::named("PCB").unwrap().with("parts", 0).unwrap()),
            ("--height", "8", |c| c.height = 8),
            ("--width", "9000", |c| c.width = 9_000),
            ("--num-classes", "0", |c| c.num_classes = 0),
            ("--n-thread", "0", |c| c.n_thread = 0),
            ("--margin", "-1", |c| c.margin = -1.0),
            ("--h-ratio", "0", |c| c.net = dropping([0.0, 1.0])),
            ("--w-ratio", "1.1", |c| c.net = dropping([0.3, 1.1])),
            ("--lr", "0", |c| c.lr = 0.0),
            ("--lr", "NaN", |c| c.lr = f64::NAN),
            ("--lr", "inf", |c| c.lr = f64::INFINITY),
            ("--momentum", "1", |c| c.momentum = 1.0),
            ("--dampening", "2", |c| c.dampening = 2.0),
            ("--beta1", "1", |c| c.beta1 = 1.0),
            ("--beta2", "-0.1", |c| c.beta2 = -0.1),
            ("--epsilon", "0", |c| c.epsilon = 0.0),
            ("--gamma", "0", |c| c.gamma = 0.0),
            ("--weight-decay", "-1", |c| c.weight_decay = -1.0),
            ("--decay-type", "linear", |c| c.decay_type = "linear".into()),
            ("--cosine-annealing", "w-cosine", |c| (c.cosine_annealing, c.w_cosine_annealing) = (true, true)),
            ("--probability", "-0.5", |c| c.probability = -0.5),
            ("--datadir", "empty", |c| c.datadir = String::new()),
            ("--nesterov", "dampening", |c| {
                (c.optimizer, c.nesterov, c.dampening) = (OptimizerKind::Sgd, true, 0.5);
            }),
        ];
        refused(&good, ReidConfig::check, wrong);
    }
}
