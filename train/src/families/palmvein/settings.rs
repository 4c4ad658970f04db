//! Settings of both stages of palm-vein training; every default once.

use datasets::paired::{PairLayout, PairOptions, SplitRule};
use serde::{Deserialize, Serialize};

use crate::families::palmvein::data::PairTransforms;
use crate::families::palmvein::net::{
    ArcFaceConfig, BackboneConfig, Branch, ConvNext, ConvNextConfig, EfficientVitConfig, FusionConfig, IdentityKind,
    Mixer, PalmVeinNetConfig, Parts, Stage1NetConfig,
};
use crate::loss::{FusionMode, Mining};
use crate::run::checks::ConfigError;
use crate::run::checks::{below_one, between, counts, not_negative, positive, range, shares};
use crate::run::engine::{Patience, Settings};
use crate::run::optim::OptimizerConfig;
use crate::run::recipe::Recipe;
use crate::run::schedule::Schedule;
use crate::run::settings::{self, idle};
use crate::words::words;

/// What both stages share: data, augmentation, sizes of the backbones, the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    /// Folder of the pairs.
    pub datadir: String,
    /// Its layout.
    pub layout: PairLayout,
    /// Folder or spectrum of the palm pictures; empty: the layout's.
    pub palm: String,
    /// Folder or spectrum of the vein pictures; empty: the layout's.
    pub vein: String,
    /// Regular expression over relative paths, instead of the layout's.
    pub pattern: String,
    /// What parts the test pairs from the others.
    pub split: SplitRule,
    /// Share of training pairs, before those of validation and test.
    pub train_share: f64,
    /// Share of validation pairs.
    pub val_share: f64,
    /// Side of the network's input in pixels.
    pub img_size: usize,
    /// Channels of the EfficientViT's stages.
    pub vit_dims: [usize; 3],
    /// Blocks of the EfficientViT's stages.
    pub vit_depths: [usize; 3],
    /// Heads of the EfficientViT's stages.
    pub vit_heads: [usize; 3],
    /// Width of queries and keys of the EfficientViT's stages.
    pub vit_key_dims: [usize; 3],
    /// Mixer of the EfficientViT.
    pub mixer: Mixer,
    /// Channels of the ConvNeXt's stages.
    pub cnn_dims: [usize; 4],
    /// Blocks of the ConvNeXt's stages.
    pub cnn_depths: [usize; 4],
    /// Share of samples that skip the ConvNeXt's last block.
    pub drop_path: f64,
    /// Start of the ConvNeXt's scale per channel.
    pub layer_scale: f64,
    /// Largest rotation, in degrees, either way.
    pub rotation: f64,
    /// Largest translation, as a share of a side, either way.
    pub translation: f64,
    /// Largest change of brightness, as a share, either way.
    pub brightness: f64,
    /// Largest change of contrast, as a share, either way.
    pub contrast: f64,
    /// Whether both pictures of a pair are moved alike.
    pub shared_geometry: bool,
    /// Epochs between evaluations; 0: only after the last.
    pub test_every: usize,
    /// Pairs in a batch of evaluation.
    pub batchtest: usize,
    /// Decay of a moving average of the weights, which is evaluated and kept; 0: none.
    pub ema: f64,
    /// Largest global norm of a step's gradients.
    pub clip: f64,
    /// Seed of split, sampler, transforms and initial weights.
    pub seed: u64,
    /// Threads that decode pictures.
    pub n_thread: usize,
    /// Whether an unreadable picture is an error.
    pub strict: bool,
    /// Memory for decoded pictures, in MB.
    pub cache_mb: usize,
    /// Name of the run.
    pub save: String,
}

impl Default for Common {
    fn default() -> Self {
        let (vit, cnn) = (EfficientVitConfig::default(), ConvNextConfig::default());
        Self {
            datadir: ".".into(),
            layout: PairLayout::Auto,
            palm: String::new(),
            vein: String::new(),
            pattern: String::new(),
            split: SplitRule::People,
            train_share: 0.6,
            val_share: 0.2,
            img_size: vit.img_size,
            vit_dims: vit.embed_dim,
            vit_depths: vit.depth,
            vit_heads: vit.num_heads,
            vit_key_dims: vit.key_dim,
            mixer: vit.mixer,
            cnn_dims: cnn.dims,
            cnn_depths: cnn.depths,
            drop_path: cnn.drop_path_rate,
            layer_scale: cnn.layer_scale_init_value,
            rotation: 15.0,
            translation: 0.1,
            brightness: 0.3,
            contrast: 0.3,
            shared_geometry: true,
            test_every: 1,
            batchtest: 16,
            ema: 0.0,
            clip: 1.0,
            seed: 42,
            n_thread: 2,
            strict: false,
            cache_mb: 1024,
            save: "test".into(),
        }
    }
}

impl Common {
    fn check(&self) -> Result<(), ConfigError> {
        shares([("train-share", self.train_share), ("val-share", self.val_share)])?;
        if self.train_share + self.val_share >= 1.0 {
            let sum = self.train_share + self.val_share;
            return Err(range("val-share", format!("{sum} with --train-share"), "shares that leave something to test"));
        }
        let amounts = [
            ("rotation", self.rotation, 180.0),
            ("translation", self.translation, 1.0),
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
        ];
        for (flag, value, most) in amounts {
            between(flag, value, [0.0, most])?;
        }
        positive([("clip", self.clip)])?;
        below_one([("ema", self.ema)])?;
        counts([
            ("img-size", self.img_size, ConvNext::SMALLEST, 4_096),
            ("batchtest", self.batchtest, 1, 65_536),
            ("n-thread", self.n_thread, 1, terminal::most_threads()),
            ("cache-mb", self.cache_mb, 0, usize::MAX >> 20),
        ])?;
        let vit = self.vit().check();
        vit.and_then(|()| self.cnn().check())
            .map_err(|error| range("vit-… or cnn-…", error, "sizes that make a network"))
    }

    /// The EfficientViT's sizes.
    pub fn vit(&self) -> EfficientVitConfig {
        EfficientVitConfig {
            embed_dim: self.vit_dims,
            depth: self.vit_depths,
            num_heads: self.vit_heads,
            key_dim: self.vit_key_dims,
            mixer: self.mixer,
            img_size: self.img_size,
            ..EfficientVitConfig::default()
        }
    }

    /// The ConvNeXt's sizes.
    pub fn cnn(&self) -> ConvNextConfig {
        ConvNextConfig {
            dims: self.cnn_dims,
            depths: self.cnn_depths,
            drop_path_rate: self.drop_path,
            layer_scale_init_value: self.layer_scale,
            ..ConvNextConfig::default()
        }
    }

    /// The same settings for backbones of these sizes.
    pub fn sized(self, vit: &EfficientVitConfig, cnn: &ConvNextConfig) -> Self {
        Self {
            vit_dims: vit.embed_dim,
            vit_depths: vit.depth,
            vit_heads: vit.num_heads,
            vit_key_dims: vit.key_dim,
            mixer: vit.mixer,
            cnn_dims: cnn.dims,
            cnn_depths: cnn.depths,
            layer_scale: cnn.layer_scale_init_value,
            ..self
        }
    }

    /// How the pairs are listed and shared out.
    pub fn pairs(&self) -> PairOptions {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        PairOptions {
            layout: self.layout,
            palm: given(&self.palm),
            vein: given(&self.vein),
            pattern: given(&self.pattern),
            split: self.split,
            shares: [self.train_share, self.val_share, 1.0 - self.train_share - self.val_share],
            seed: self.seed,
        }
    }

    /// Augmentation.
    pub fn transforms(&self) -> PairTransforms {
        PairTransforms {
            rotation: self.rotation,
            translation: self.translation,
            brightness: self.brightness,
            contrast: self.contrast,
            shared_geometry: self.shared_geometry,
            seed: self.seed,
        }
    }

    /// Height and width of the network's input.
    pub fn size(&self) -> [usize; 2] {
        [self.img_size; 2]
    }

    fn settings(&self, lr: f64, epochs: usize, weight_decay: f64, patience: Patience, keep: usize) -> Settings {
        let optimizer = OptimizerConfig { weight_decay, ..OptimizerConfig::default() };
        Settings {
            test_every: self.test_every,
            keep,
            clip_norm: Some(self.clip),
            patience: (patience.evaluations > 0).then_some(patience),
            ..Settings::new(epochs, Schedule::cosine(lr, 0.0, epochs), optimizer).averaged(self.ema)
        }
    }
}

words! {
    /// What stage 1 learns from.
    Stage1Loss (Triplet) {
        /// Anchor, positive, negative.
        Triplet = "triplet",
        /// Cross entropy of a linear classifier, which is thrown away afterwards.
        Softmax = "softmax",
        /// Both, the classifier on scaled cosines.
        TripletIdentity = "triplet+identity",
    }
}

/// Settings of `train palmvein stage1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage1Config {
    /// What both stages share.
    #[serde(flatten)]
    pub common: Common,
    /// The branch that trains.
    pub branch: Branch,
    /// What it learns from.
    pub loss: Stage1Loss,
    /// Margin of the triplets, in cosine distance.
    pub margin: f64,
    /// Which triplets count.
    pub mining: Mining,
    /// Weight of the identity term in `triplet+identity`.
    pub identity_weight: f64,
    /// Whether positives and negatives come from either modality.
    pub cross_modal: bool,
    /// Epochs.
    pub epochs: usize,
    /// Anchors in a batch.
    pub batch: usize,
    /// Learning rate at the start.
    pub lr: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Evaluations without a better EER, at which the run ends; 0: it does not.
    pub patience: usize,
    /// What counts as better, in EER.
    pub min_delta: f64,
    /// Weights to start from.
    pub pre_train: String,
}

impl Default for Stage1Config {
    fn default() -> Self {
        Self {
            common: Common::default(),
            branch: Branch::VitPalm,
            // The reference's own, triplets drawn at random, collapses on small data: all pictures become one.
            loss: Stage1Loss::TripletIdentity,
            margin: 0.5,
            mining: Mining::BatchHard,
            identity_weight: 0.5,
            cross_modal: false,
            epochs: 30,
            batch: 8,
            lr: 1e-4,
            weight_decay: 1e-3,
            patience: 8,
            min_delta: 0.001,
            pre_train: String::new(),
        }
    }
}

impl Stage1Config {
    /// # Errors
    /// The first value out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.common.check()?;
        counts([("batch", self.batch, 2, 65_536)])?;
        // The largest cosine distance is 2.
        between("margin", self.margin, [0.0, 2.0])?;
        positive([("lr", self.lr)])?;
        not_negative([
            ("weight-decay", self.weight_decay),
            ("min-delta", self.min_delta),
            ("identity-weight", self.identity_weight),
        ])
    }

    /// The network, for `classes` identities.
    pub fn network(&self, classes: usize) -> Stage1NetConfig {
        Stage1NetConfig {
            branch: self.branch,
            backbone: match self.branch.is_vit() {
                true => BackboneConfig::Vit(self.common.vit()),
                false => BackboneConfig::Cnn(self.common.cnn()),
            },
            classes,
            identity: match self.loss {
                Stage1Loss::Triplet => None,
                Stage1Loss::Softmax => Some(IdentityKind::Linear),
                Stage1Loss::TripletIdentity => Some(IdentityKind::Cosine),
            },
        }
    }

    /// What the training loop needs.
    pub fn settings(&self, keep: usize) -> Settings {
        let patience = Patience { evaluations: self.patience, min_delta: self.min_delta };
        self.common.settings(self.lr, self.epochs, self.weight_decay, patience, keep)
    }
}

words! {
    /// How the local branch weighs palm against vein.
    FusionKind (Spatial) {
        /// Per channel of the pooled vectors: for up to about 5,000 pictures.
        Vector = "vector",
        /// Per place of the maps.
        Spatial = "spatial",
    }
}

/// Settings of `train palmvein stage2`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage2Config {
    /// What both stages share.
    #[serde(flatten)]
    pub common: Common,
    /// Folder of stage 1's runs or of its `<branch>_phase1_best.pth`.
    pub stage1: String,
    /// Stage-1 weights of the global palm branch, instead of those in `stage1`.
    pub vit_palm: String,
    /// Of the global vein branch.
    pub vit_vein: String,
    /// Of the local palm branch.
    pub cnn_palm: String,
    /// Of the local vein branch.
    pub cnn_vein: String,
    /// Whether the backbones may start from random weights.
    pub from_scratch: bool,
    /// Whether the backbones stay as stage 1 left them.
    pub freeze_stage1: bool,
    /// Epoch from which frozen backbones train too; 0: none.
    pub unfreeze_epoch: usize,
    /// How the local branch fuses.
    pub mode: FusionKind,
    /// What the head is made of.
    pub parts: Parts,
    /// Which terms the loss has.
    pub loss_mode: FusionMode,
    /// Whether palm and vein go through the same backbones.
    pub share_backbones: bool,
    /// Probability that a training pair loses one of its pictures.
    pub modality_dropout: f64,
    /// Width of the embedding's global half.
    pub out_dim_global: usize,
    /// Width of the embedding's local half.
    pub out_dim_local: usize,
    /// ArcFace's scale.
    pub arcface_s: f64,
    /// ArcFace's margin, in radians.
    pub arcface_m: f64,
    /// Margin only below 90°.
    pub easy_margin: bool,
    /// Label smoothing of the classification.
    pub label_smoothing: f64,
    /// Epochs.
    pub epochs: usize,
    /// Pairs in a batch.
    pub batch: usize,
    /// Learning rate of the head at the start.
    pub lr: f64,
    /// Learning rate of the backbones at the start, where they train.
    pub backbone_lr: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Evaluations without a better EER, at which the run ends; 0: it does not.
    pub patience: usize,
    /// What counts as better, in EER.
    pub min_delta: f64,
}

impl Default for Stage2Config {
    fn default() -> Self {
        let (fusion, arcface) = (FusionConfig::default(), ArcFaceConfig::default());
        Self {
            common: Common::default(),
            stage1: String::new(),
            vit_palm: String::new(),
            vit_vein: String::new(),
            cnn_palm: String::new(),
            cnn_vein: String::new(),
            from_scratch: false,
            freeze_stage1: true,
            unfreeze_epoch: 0,
            mode: FusionKind::Spatial,
            parts: Parts::Attention,
            loss_mode: FusionMode::Standard,
            share_backbones: false,
            modality_dropout: 0.0,
            out_dim_global: fusion.out_dim_global,
            out_dim_local: fusion.out_dim_local,
            arcface_s: arcface.scale,
            arcface_m: arcface.margin,
            easy_margin: arcface.easy_margin,
            label_smoothing: 0.1,
            epochs: 50,
            batch: 8,
            lr: 1e-3,
            backbone_lr: 1e-5,
            weight_decay: 1e-2,
            patience: 15,
            min_delta: 0.001,
        }
    }
}

impl Stage2Config {
    /// # Errors
    /// The first value out of range, or two that exclude each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.common.check()?;
        counts([
            ("batch", self.batch, 2, 65_536),
            ("out-dim-global", self.out_dim_global, 1, usize::MAX),
            ("out-dim-local", self.out_dim_local, 1, usize::MAX),
        ])?;
        below_one([("modality-dropout", self.modality_dropout), ("label-smoothing", self.label_smoothing)])?;
        positive([("lr", self.lr), ("backbone-lr", self.backbone_lr), ("arcface-s", self.arcface_s)])?;
        between("arcface-m", self.arcface_m, [0.0, std::f64::consts::PI])?;
        not_negative([("weight-decay", self.weight_decay), ("min-delta", self.min_delta)])?;
        let conflict = |flag, other, why| Err(ConfigError::Conflict { flag, other, why });
        let consistency = self.loss_mode != FusionMode::Simple && self.parts.global() && self.parts.local();
        if consistency && self.out_dim_global != self.out_dim_local {
            return conflict("out-dim-global", "out-dim-local", "the consistency term compares halves of one width");
        }
        if self.modality_dropout > 0.0 && !(self.parts.palm() && self.parts.vein()) {
            return conflict("modality-dropout", "parts", "one modality alone cannot be missing");
        }
        if self.from_scratch && !self.stage1.is_empty() {
            return conflict("from-scratch", "stage1", "it starts from random weights");
        }
        if self.from_scratch && self.freeze_stage1 {
            return conflict("from-scratch", "freeze-stage1", "random backbones must train; add --freeze-stage1 false");
        }
        Ok(())
    }

    /// The network, for `classes` identities.
    pub fn network(&self, classes: usize) -> PalmVeinNetConfig {
        PalmVeinNetConfig {
            vit: self.common.vit(),
            cnn: self.common.cnn(),
            fusion: FusionConfig {
                out_dim_global: self.out_dim_global,
                out_dim_local: self.out_dim_local,
                use_spatial_fusion: self.mode == FusionKind::Spatial,
                parts: self.parts,
                classes,
                arcface: ArcFaceConfig { scale: self.arcface_s, margin: self.arcface_m, easy_margin: self.easy_margin },
                ..FusionConfig::default()
            },
            share_backbones: self.share_backbones,
            centers: self.loss_mode == FusionMode::Advanced,
        }
    }

    /// The file given for a branch.
    pub fn weights(&self, branch: Branch) -> &str {
        match branch {
            Branch::VitPalm => &self.vit_palm,
            Branch::VitVein => &self.vit_vein,
            Branch::CnnPalm => &self.cnn_palm,
            Branch::CnnVein => &self.cnn_vein,
        }
    }

    /// What the training loop needs.
    pub fn settings(&self, keep: usize) -> Settings {
        let patience = Patience { evaluations: self.patience, min_delta: self.min_delta };
        self.common.settings(self.lr, self.epochs, self.weight_decay, patience, keep)
    }
}

/// Settings of the EfficientViT and of the ConvNeXt.
pub(super) const BACKBONES: [&[&str]; 2] = [
    &["vit_dims", "vit_depths", "vit_heads", "vit_key_dims", "mixer"],
    &["cnn_dims", "cnn_depths", "drop_path", "layer_scale"],
];

/// What patience is for: without evaluations on the way nothing can end a run early.
const WITHIN: &str = "runs with --test-every above 0";

impl settings::Settings for Stage1Config {
    fn check(&self) -> Result<(), ConfigError> {
        Self::check(self)
    }

    const RECIPES: &'static [Recipe] = &[Recipe {
        name: "hands",
        about: "A few hands of 48 pixels (`fixtures palms`), a ConvNeXt; --branch cnn-palm, then --branch cnn-vein \
                (docs/palms.md has the numbers)",
        text: include_str!("../../../recipes/hands_stage1.toml"),
    }];

    fn unused(&self) -> Vec<(String, String)> {
        let (vit, softmax) = (self.branch.is_vit(), self.loss == Stage1Loss::Softmax);
        let triplets = "the losses triplet and triplet+identity";
        idle(&[
            (vit, BACKBONES[0], "the branches vit-palm and vit-vein"),
            (!vit, BACKBONES[1], "the branches cnn-palm and cnn-vein"),
            (!softmax, &["margin", "mining", "cross_modal"], triplets),
            (self.loss == Stage1Loss::TripletIdentity, &["identity_weight"], "the loss triplet+identity"),
            (self.patience > 0, &["min_delta"], "runs with --patience"),
            (self.patience == 0 || self.common.test_every > 0, &["patience"], WITHIN),
        ])
    }
}

impl settings::Settings for Stage2Config {
    fn check(&self) -> Result<(), ConfigError> {
        Self::check(self)
    }

    const RECIPES: &'static [Recipe] = &[Recipe {
        name: "hands",
        about: "The head on both ConvNeXts of the stage-1 recipe of this name, which --stage1 names (docs/palms.md has \
                the numbers)",
        text: include_str!("../../../recipes/hands_stage2.toml"),
    }];

    fn unused(&self) -> Vec<(String, String)> {
        let (global, local) = (self.parts.global(), self.parts.local());
        let own: Vec<Branch> = self.network(1).branches().collect();
        let thaws = !self.freeze_stage1 || self.unfreeze_epoch > 0;
        let (with_global, with_local) = ("--parts with a global branch", "--parts with a local branch");
        let weights = |branch: Branch| !self.from_scratch && own.contains(&branch);
        let files = "branches that this network has and that start from stage 1";
        idle(&[
            (global, BACKBONES[0], with_global),
            (local, BACKBONES[1], with_local),
            (global, &["out_dim_global"], with_global),
            (local, &["out_dim_local", "mode"], with_local),
            (thaws, &["drop_path"], "backbones that train: --freeze-stage1 false or --unfreeze-epoch"),
            (thaws, &["backbone_lr"], "backbones that train: --freeze-stage1 false or --unfreeze-epoch"),
            (self.freeze_stage1, &["unfreeze_epoch"], "frozen backbones"),
            (weights(Branch::VitPalm), &["vit_palm"], files),
            (weights(Branch::VitVein), &["vit_vein"], files),
            (weights(Branch::CnnPalm), &["cnn_palm"], files),
            (weights(Branch::CnnVein), &["cnn_vein"], files),
            (self.patience > 0, &["min_delta"], "runs with --patience"),
            (self.patience == 0 || self.common.test_every > 0, &["patience"], WITHIN),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::settings::Settings as _;

    fn keys(unused: Vec<(String, String)>) -> Vec<String> {
        unused.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_a_branch_or_loss_does_not_use_is_known() {
        let stage1 = |branch, loss| keys(Stage1Config { branch, loss, ..Stage1Config::default() }.unused());
        assert_eq!(stage1(Branch::VitPalm, Stage1Loss::TripletIdentity), BACKBONES[1]);
        assert_eq!(stage1(Branch::CnnVein, Stage1Loss::TripletIdentity), BACKBONES[0]);
        let softmax = stage1(Branch::CnnVein, Stage1Loss::Softmax);
        assert_eq!(softmax, [BACKBONES[0], &["margin", "mining", "cross_modal", "identity_weight"]].concat());
        assert!(stage1(Branch::VitPalm, Stage1Loss::Triplet).contains(&"identity_weight".into()));
        let seldom = Common { test_every: 0, ..Common::default() };
        let patient = |patience| Stage1Config { common: seldom.clone(), patience, ..Stage1Config::default() };
        assert_eq!(keys(patient(5).unused())[BACKBONES[1].len()..], ["patience"]);
        assert_eq!(keys(patient(0).unused())[BACKBONES[1].len()..], ["min_delta"]);

        let stage2 = |change: fn(&mut Stage2Config)| {
            let mut config = Stage2Config::default();
            change(&mut config);
            keys(config.unused())
        };
        assert_eq!(stage2(|_| {}), ["drop_path", "backbone_lr"]);
        assert_eq!(stage2(|config| config.unfreeze_epoch = 3), [""; 0]);
        assert_eq!(stage2(|config| config.freeze_stage1 = false), ["unfreeze_epoch"]);
        let local = stage2(|config| (config.parts, config.unfreeze_epoch) = (Parts::LocalOnly, 3));
        assert_eq!(local, [BACKBONES[0], &["out_dim_global", "vit_palm", "vit_vein"]].concat());
        let palm = stage2(|config| (config.parts, config.unfreeze_epoch) = (Parts::PalmOnly, 3));
        assert_eq!(palm, ["vit_vein", "cnn_vein"]);
        let seldom = stage2(|config| (config.common.test_every, config.unfreeze_epoch) = (0, 3));
        assert_eq!(seldom, ["patience"]);
    }
}
