//! Reading palm-vein weights: stage-1 files of one backbone, whole networks, and files of other designs, which are
//! named.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::TensorData;

use crate::weights::{LoadReport, StateDict, WeightsError};

use super::{
    BackboneConfig, Branch, ConvNextConfig, EfficientVitConfig, Mixer, PalmVeinNet, PalmVeinNetConfig, Parts,
    Stage1Net, Stage1NetConfig, computed, is_computed,
};

/// Heads of the reference's EfficientViT: a file does not tell heads and width of a query apart.
const HEADS: usize = 4;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Unreadable, or of another shape.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Another network of the same name.
    #[error("`{}` holds another design: {found}", path.display())]
    Design {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Neither a backbone nor a whole network.
    #[error("`{}` holds no palm-vein network: {reason}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
}

/// Other designs that use the same names.
fn refuse_other_designs(path: &Path, tensors: &StateDict) -> Result<(), LoadError> {
    let has = |part: &str| tensors.iter().any(|(key, _)| key.contains(part));
    let found = if has("g_cross_attn.") || has("l_cross_attn.") {
        "a Stage2FusionCA with cross-attention before the channel fusion (a later commit of the reference)"
    } else if has("global_blocks.") || has("local_blocks.") {
        "a Stage2Fusion of bidirectional cross-attention (an earlier commit of the reference)"
    } else {
        return Ok(());
    };
    Err(LoadError::Design { path: path.to_owned(), found })
}

/// Reads one backbone's tensors: a bare state dictionary, `model` and `criterion` side by side, or `branch` out of a
/// whole network.
///
/// # Errors
/// If the file cannot be read, or is of another design.
pub fn read_backbone(path: &Path, branch: Branch) -> Result<StateDict, LoadError> {
    let file = StateDict::read(path)?;
    refuse_other_designs(path, &file)?;
    let below = |name: &str| -> StateDict {
        let inside = |(key, data): (&str, &TensorData)| {
            let rest = key.strip_prefix(name)?.strip_prefix('.')?;
            Some((rest.to_owned(), data.clone()))
        };
        file.iter().filter_map(inside).collect()
    };
    let inner = [branch.name(), "model"].into_iter().map(below).find(|inner| inner.iter().next().is_some());
    Ok(inner.unwrap_or(file))
}

/// Sizes of a backbone from its tensors.
///
/// # Errors
/// If they are no backbone's.
pub(crate) fn backbone_config(path: &Path, tensors: &StateDict, img_size: usize) -> Result<BackboneConfig, LoadError> {
    let shape = |key: &str| tensors.get(key).map(|data| data.shape().to_vec());
    let count = |prefix: &str| {
        let index = |key: &str| key.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        tensors.iter().filter_map(|(key, _)| index(key)).max().map_or(0, |last| last + 1)
    };
    let unknown = |reason: &str| LoadError::Unknown { path: path.to_owned(), reason: reason.to_owned() };
    if let Some(stem) = shape("downsample_layers.0.0.weight") {
        let mut config = ConvNextConfig { in_chans: stem[1], ..ConvNextConfig::default() };
        for stage in 0..4 {
            let width = shape(&format!("stages.{stage}.0.dwconv.weight"));
            config.dims[stage] = width.ok_or_else(|| unknown("a ConvNeXt with a missing stage"))?[0];
            config.depths[stage] = count(&format!("stages.{stage}."));
        }
        if shape("stages.0.0.gamma").is_none() {
            config.layer_scale_init_value = 0.0;
        }
        return Ok(BackboneConfig::Cnn(config));
    }
    let Some(stem) = shape("patch_embed.0.c.weight") else {
        return Err(unknown(
            "neither `patch_embed.0.c.weight` (EfficientViT) nor `downsample_layers.0.0.weight` (ConvNeXt)",
        ));
    };
    let mut config = EfficientVitConfig { in_chans: stem[1], img_size, ..EfficientVitConfig::default() };
    if shape("blocks1.0.dw0.m.c.weight").is_some() {
        config.mixer = Mixer::Cascaded;
    }
    for stage in 0..3 {
        let before = if stage == 0 { 0 } else { 3 };
        let block = format!("blocks{}.{before}", stage + 1);
        let broken = || unknown("an EfficientViT with a missing stage");
        config.embed_dim[stage] = shape(&format!("{block}.ffn0.m.pw1.c.weight")).ok_or_else(broken)?[1];
        config.depth[stage] = count(&format!("blocks{}.", stage + 1)).saturating_sub(before);
        match config.mixer {
            Mixer::Global => {
                let wide = shape(&format!("{block}.mixer.m.qkv.c.weight")).ok_or_else(broken)?[0];
                config.num_heads[stage] = HEADS;
                config.key_dim[stage] = wide.saturating_sub(config.embed_dim[stage]) / (2 * HEADS);
            }
            Mixer::Cascaded => {
                let biases = shape(&format!("{block}.mixer.m.attn.attention_biases")).ok_or_else(broken)?;
                let query = shape(&format!("{block}.mixer.m.attn.dws.0.c.weight")).ok_or_else(broken)?;
                (config.num_heads[stage], config.key_dim[stage]) = (biases[0], query[0]);
                config.window_size[stage] = (1..).find(|side| side * side >= biases[1]).unwrap_or(1);
            }
        }
    }
    Ok(BackboneConfig::Vit(config))
}

/// Fills a backbone from the tensors of [`read_backbone`].
///
/// # Errors
/// If they are another network's; the backbone then is unchanged.
pub fn load_backbone<M: Module>(
    path: &Path,
    tensors: StateDict,
    name: &str,
    backbone: &mut M,
) -> Result<LoadReport, LoadError> {
    let own = StateDict::of(backbone);
    let cascaded = |state: &StateDict| state.get("blocks1.0.dw0.m.c.weight").is_some();
    if own.get("patch_embed.0.c.weight").is_some() && cascaded(&tensors) != cascaded(&own) {
        let found = match cascaded(&tensors) {
            true => "an EfficientViT of cascaded attention, where global attention is wanted (`--mixer cascaded`)",
            false => "not an EfficientViT of cascaded attention, which is wanted (`--mixer global`)",
        };
        if tensors.get("patch_embed.0.c.weight").is_some() {
            return Err(LoadError::Design { path: path.to_owned(), found });
        }
    }
    fill(path, tensors, name, &own, backbone)
}

/// Loads what fits exactly.
fn fill<M: Module>(
    path: &Path,
    tensors: StateDict,
    name: &str,
    own: &StateDict,
    network: &mut M,
) -> Result<LoadReport, LoadError> {
    let kept = tensors.iter().filter(|(key, _)| !is_computed(key)).map(|(key, data)| (key.to_owned(), data.clone()));
    let tensors: StateDict = kept.chain(computed(own)).collect();
    let report = tensors.compare(own);
    if !report.is_complete() {
        let report = Box::new(report);
        return Err(WeightsError::Mismatch { path: path.to_owned(), network: name.to_owned(), report }.into());
    }
    Ok(tensors.load_into(network))
}

/// Reads a checkpoint of this very network, what its loss learns included.
///
/// # Errors
/// If the file cannot be read, or is another network's.
pub fn load_whole<M: Module>(path: &Path, name: &str, network: &mut M) -> Result<LoadReport, LoadError> {
    let own = StateDict::of(network);
    fill(path, StateDict::read(path)?, name, &own, network)
}

/// Reads one backbone with the sizes its tensors have.
///
/// # Errors
/// If the file cannot be read, is of another design, or of a backbone of the other kind.
pub fn load_single(
    path: &Path,
    branch: Branch,
    img_size: usize,
    device: &burn::tensor::Device,
) -> Result<(Stage1Net, Stage1NetConfig, LoadReport), LoadError> {
    let tensors = read_backbone(path, branch)?;
    let unknown = |reason: String| LoadError::Unknown { path: path.to_owned(), reason };
    let backbone = backbone_config(path, &tensors, img_size)?;
    if matches!(backbone, BackboneConfig::Vit(_)) != branch.is_vit() {
        return Err(unknown(format!("its backbone is of the other kind than {}", branch.name())));
    }
    let config = Stage1NetConfig { branch, backbone, classes: 0, identity: None };
    let mut net = Stage1Net::new(&config, 0, device).map_err(|error| unknown(error.to_string()))?;
    let report = load_backbone(path, tensors, branch.name(), &mut net.model)?;
    Ok((net, config, report))
}

impl PalmVeinNet {
    /// Fills one backbone from a stage-1 file, or from a whole network's.
    ///
    /// # Errors
    /// If the file cannot be read, or is another network's; the backbone then is unchanged.
    pub fn load_branch(&mut self, path: &Path, branch: Branch) -> Result<LoadReport, LoadError> {
        let tensors = read_backbone(path, branch)?;
        let absent =
            || LoadError::Unknown { path: path.to_owned(), reason: format!("this network has no {}", branch.name()) };
        let name = branch.name();
        match branch {
            Branch::VitPalm => load_backbone(path, tensors, name, self.vit_palm.as_mut().ok_or_else(absent)?),
            Branch::VitVein => load_backbone(path, tensors, name, self.vit_vein.as_mut().ok_or_else(absent)?),
            Branch::CnnPalm => load_backbone(path, tensors, name, self.cnn_palm.as_mut().ok_or_else(absent)?),
            Branch::CnnVein => load_backbone(path, tensors, name, self.cnn_vein.as_mut().ok_or_else(absent)?),
        }
    }
}

/// Sizes of a whole network from its tensors, `img_size` and what no tensor tells from `like`.
///
/// # Errors
/// If they are no whole network's.
fn network_config(path: &Path, tensors: &StateDict, like: &PalmVeinNetConfig) -> Result<PalmVeinNetConfig, LoadError> {
    let shape = |key: &str| tensors.get(key).map(|data| data.shape().to_vec());
    let has = |name: &str| tensors.iter().any(|(key, _)| key.starts_with(name));
    let unknown = |reason: &str| LoadError::Unknown { path: path.to_owned(), reason: reason.to_owned() };
    let mut config = like.clone();
    for branch in Branch::ALL {
        let prefix = format!("{}.", branch.name());
        let inside = |(key, data): (&str, &TensorData)| Some((key.strip_prefix(&prefix)?.to_owned(), data.clone()));
        let part: StateDict = tensors.iter().filter_map(inside).collect();
        if part.iter().next().is_none() {
            continue;
        }
        match (branch.is_vit(), backbone_config(path, &part, like.vit.img_size)?) {
            (true, BackboneConfig::Vit(vit)) => config.vit = vit,
            (false, BackboneConfig::Cnn(cnn)) => config.cnn = cnn,
            _ => return Err(unknown(&format!("{} is a network of the other kind", branch.name()))),
        }
    }
    let fusion = &mut config.fusion;
    fusion.use_spatial_fusion = has("fusion.l_align_palm.proj.") || has("fusion.l_align_vein.proj.");
    let (global, local) = (has("fusion.g_align_"), has("fusion.l_align_"));
    let (palm, vein) = (
        has("fusion.g_align_palm.") || has("fusion.l_align_palm."),
        has("fusion.g_align_vein.") || has("fusion.l_align_vein."),
    );
    let attention = has("fusion.g_fuse.") || has("fusion.l_fuse.");
    fusion.parts = match (global, local, palm, vein, attention) {
        (true, true, true, true, true) => Parts::Attention,
        (true, false, true, true, true) => Parts::GlobalOnly,
        (false, true, true, true, true) => Parts::LocalOnly,
        (true, true, true, false, false) => Parts::PalmOnly,
        (true, true, false, true, false) => Parts::VeinOnly,
        (true, true, true, true, false) if fusion.parts == Parts::Mean => Parts::Mean,
        (true, true, true, true, false) => Parts::Concat,
        _ => return Err(unknown("no fusion head (`fusion.g_align_palm.fc.weight` and the like)")),
    };
    let width = |names: [&str; 2]| names.iter().find_map(|name| shape(name)).map(|shape| shape[0]);
    let g = width(["fusion.g_align_palm.fc.weight", "fusion.g_align_vein.fc.weight"]);
    fusion.out_dim_global = g.unwrap_or(fusion.out_dim_global);
    let vector = width(["fusion.l_align_palm.fc.weight", "fusion.l_align_vein.fc.weight"]);
    let map = width(["fusion.l_align_palm.proj.0.weight", "fusion.l_align_vein.proj.0.weight"]);
    fusion.out_dim_local = vector.or(map).unwrap_or(fusion.out_dim_local);
    fusion.classes = shape("fusion.arcface.weight").map_or(0, |shape| shape[0]);
    config.share_backbones = palm && vein && !has("vit_vein.") && !has("cnn_vein.");
    config.centers = shape("criterion.center_loss.centers").is_some();
    Ok(config)
}

/// Reads a whole network, such as the reference's `stage2_best.pth`, with the sizes its tensors have; `like` says
/// what they do not tell: picture size, ArcFace's scale and margin, whether embeddings are normalised.
///
/// # Errors
/// If the file cannot be read, is of another design, or lacks a part.
pub fn load_network(
    path: &Path,
    like: &PalmVeinNetConfig,
    device: &burn::tensor::Device,
) -> Result<(PalmVeinNet, PalmVeinNetConfig, LoadReport), LoadError> {
    let file = StateDict::read(path)?;
    refuse_other_designs(path, &file)?;
    // The file also says how good the network was, beside the five dictionaries.
    let tensors: StateDict = file
        .iter()
        .filter(|(key, _)| !matches!(*key, "best_acc" | "epoch"))
        .map(|(key, data)| (key.to_owned(), data.clone()))
        .collect();
    let config = network_config(path, &tensors, like)?;
    let unknown = |error: super::PalmVeinError| LoadError::Unknown { path: path.to_owned(), reason: error.to_string() };
    let mut net = PalmVeinNet::new(&config, 0, device).map_err(unknown)?;
    let own = StateDict::of(&net);
    let report = fill(path, tensors, &config.to_string(), &own, &mut net)?;
    Ok((net, config, report))
}
