//! `train import` of re-identification networks, and which network foreign weights are of.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use burn::tensor::Device;

use crate::families::reid::net::{Network, ReidNet, ReidNetConfig};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task as reid;
use crate::families::{Guess, Near};
use crate::run::checkpoint;
use crate::run::directory::record;
use crate::run::flags::ImportArgs;
use crate::weights::{Copies, LoadReport, Partial, StateDict, WeightsError};

/// How foreign weights stand to a network of the sizes that their classifiers show.
struct Fit {
    config: ReidNetConfig,
    report: LoadReport,
    /// Shapes of the network's tensors by their keys.
    own: BTreeMap<String, Vec<usize>>,
}

impl Fit {
    /// Whether nothing but classifiers is open.
    fn is_whole(&self) -> bool {
        self.report.is_acceptable(Partial::Classifiers)
    }

    /// Whether most of the network's tensors are there.
    fn is_near(&self) -> bool {
        2 * self.report.applied > self.own.len()
    }

    /// Whether `weights` are those of a classifier on the network's backbone.
    fn is_backbone(&self, weights: &StateDict) -> bool {
        let source = self.config.backbone_key();
        let wanted: BTreeMap<_, _> = self.own.iter().filter_map(|(key, shape)| Some((source(key)?, shape))).collect();
        let weights = weights.clone().fitted_to(&wanted.keys().cloned().collect());
        // The classifier may be of another data set.
        let mut needed = wanted.iter().filter(|(key, _)| !key.starts_with("fc.")).peekable();
        let has = |(key, shape): (&String, &&Vec<usize>)| {
            weights.get(key).is_some_and(|data| data.shape().to_vec() == **shape)
        };
        needed.peek().is_some() && needed.all(has)
    }
}

/// The settings of `net` that the shapes of `weights` show, and the number of training identities.
fn sized_like(weights: &StateDict, net: &Network) -> ReidNetConfig {
    let Some([classes, features]) = weights.classifiers().next() else {
        return ReidNetConfig { classes: 1, net: net.clone() };
    };
    // Two copies of the weights have twice as many classifiers.
    let parts = net.with("parts", 1).ok().map(|_| {
        let own = ReidNetConfig { classes, net: net.clone() }.shapes();
        weights.clone().fitted_to(&own.keys()).classifiers().count()
    });
    let sizes = [("feats", features)].into_iter().chain(parts.map(|parts| ("parts", parts)));
    // A network that has no such setting, or not with this value, is compared as it is.
    let sized = sizes.fold(net.clone(), |net, (key, value)| net.with(key, value).unwrap_or(net));
    let net = if sized.check().is_ok() { sized } else { net.clone() };
    ReidNetConfig { classes, net }
}

/// Networks, or forms of the one called `name`, each with how `weights` stand to it. The options of a network are tried
/// where most of it is there; if `name` is none, the first network that fits is the last that is tried.
fn fits(weights: &StateDict, name: Option<&str>) -> Vec<Fit> {
    let mut fits = Vec::new();
    for (plain, options) in Network::forms() {
        if name.is_some_and(|name| plain.name() != name) {
            continue;
        }
        let plain = fit(weights, &plain);
        let near = plain.is_near();
        fits.push(plain);
        if near {
            fits.extend(options.iter().map(|option| fit(weights, option)));
        }
        if name.is_none() && fits.iter().any(Fit::is_whole) {
            break;
        }
    }
    fits
}

/// How `weights` stand to a form of a network.
fn fit(weights: &StateDict, net: &Network) -> Fit {
    let compared = |config: ReidNetConfig| {
        let own = config.shapes();
        let report = weights.clone().fitted_to(&own.keys()).compare(&own);
        let own = own.iter().map(|(key, data)| (key.to_owned(), data.shape().to_vec())).collect();
        Fit { config, report, own }
    };
    let fit = compared(sized_like(weights, net));
    // Without a classifier, what has another shape shows the number of features.
    let features = fit.config.net.features();
    let shown = |(_, found, wanted): &(String, Vec<usize>, Vec<usize>)| {
        let mut sides = found.iter().zip(wanted);
        sides.find(|(found, wanted)| found != wanted && **wanted == features).map(|(found, _)| *found)
    };
    let headless = weights.classes().is_none();
    let shown = fit.report.mismatched.iter().find_map(shown).filter(|_| headless);
    let resized = shown.and_then(|features| net.with("feats", features).ok()).filter(|net| net.check().is_ok());
    match resized {
        Some(net) => compared(ReidNetConfig { net, ..fit.config }),
        None => fit,
    }
}

/// The form of the network called `name` that `weights` fit best; the plain one, where its options change no tensor.
fn best_fit(weights: &StateDict, name: &str) -> Fit {
    let fits = fits(weights, Some(name)).into_iter().rev();
    fits.max_by_key(|fit| (fit.is_whole(), fit.report.applied)).expect("a network has a plain form")
}

/// Which re-identification network `weights` are of.
pub fn guess(weights: &StateDict) -> Guess {
    let fits = fits(weights, None);
    if let Some(whole) = fits.iter().find(|fit| fit.is_whole()) {
        return Guess::Is(whole.config.net.name());
    }
    let backbones = fits.iter().filter(|fit| fit.is_backbone(weights));
    let mut backbones: Vec<_> = backbones.map(|fit| fit.config.net.name()).collect();
    backbones.dedup();
    if !backbones.is_empty() {
        return Guess::Backbone(backbones);
    }
    let near = |fit: &Fit| Near { name: fit.config.net.to_string(), found: fit.report.applied, of: fit.own.len() };
    Guess::None(fits.iter().map(near).collect())
}

/// What `--model` should be instead, where weights that do not fit are another network's.
pub fn other_network(weights: &StateDict, asked: &Network) -> Option<String> {
    match guess(weights) {
        Guess::Is(name) if name != asked.name() => Some(format!("the weights are those of {name} (--model {name})")),
        _ => None,
    }
}

/// A checkpoint of foreign weights; the sizes of the network are read from them.
pub fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let copies = if args.no_ema { Copies::Raw } else { Copies::Average };
    let path = args.weights.as_path();
    let weights = StateDict::read_copy(path, copies)?;
    let ReidNetConfig { mut net, classes } = best_fit(&weights, Network::named(&args.model)?.name()).config;
    if let Some(feats) = args.feats {
        net = net.with("feats", feats)?;
    }
    let classes = match args.num_classes {
        Some(classes) => classes,
        None if weights.classes().is_some() => classes,
        None => bail!("`{}` has no classifier to count the classes from; give --num-classes", path.display()),
    };
    let defaults = ReidConfig::default();
    let config = ReidConfig {
        net,
        height: args.height.unwrap_or(defaults.height),
        width: args.width.unwrap_or(defaults.width),
        num_classes: classes,
        ..defaults
    };
    config.check()?;
    let network = reid::network(&config);
    let mut net = ReidNet::new(&network, config.seed, &Device::flex());
    let partial = if args.partial { Partial::Classifiers } else { Partial::Nothing };
    let report = load(&mut net, path, weights, partial, &network.net, "--partial")?;
    if !report.origin.is_empty() {
        terminal::note(&format!("{}: {}", path.display(), report.origin));
    }
    check_copies(path, copies, &report, "--no-ema")?;
    if !report.is_acceptable(Partial::Classifiers) {
        terminal::warn(&format!(
            "{} tensors are not in `{}` and have start values: this network has to be trained before it is used",
            report.missing.len(),
            path.display()
        ));
    }
    let record = record(reid::FAMILY, &network, &config)?;
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    terminal::show!("{}: {}, {report}", args.output.display(), network.net)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a choice between two copies of the weights where the file at `path` holds one.
///
/// # Errors
/// If there was nothing to choose.
pub fn check_copies(path: &Path, copies: Copies, report: &LoadReport, flag: &str) -> anyhow::Result<()> {
    if copies == Copies::Raw && report.origin.other_copy.is_none() {
        bail!("{flag} chooses between two copies of the weights, and `{}` holds one", path.display());
    }
    Ok(())
}

/// Fills `net` from `weights`, which were read from `path`. Where they do not fit, the error says what would help;
/// `flag` leaves classifiers of another number of classes at their start.
///
/// # Errors
/// If the weights do not fit.
pub fn load(
    net: &mut ReidNet,
    path: &Path,
    weights: StateDict,
    partial: Partial,
    asked: &Network,
    flag: &str,
) -> anyhow::Result<LoadReport> {
    let error = match net.load_weights(path, weights.clone(), partial) {
        Ok(report) => return Ok(report),
        Err(error) => error,
    };
    let hint = match net.load_weights(path, weights.clone(), Partial::Classifiers) {
        Ok(_) => Some(format!("only the classifiers do not fit: {flag} leaves them at their start")),
        Err(_) => other_network(&weights, asked),
    };
    Err(explained(error, hint))
}

/// An error behind what would help, if anything.
pub fn explained(error: WeightsError, hint: Option<String>) -> anyhow::Error {
    match hint {
        Some(hint) => anyhow::Error::new(error).context(hint),
        None => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The network called `name` with small features, where they can be chosen, and four identities.
    fn weights(name: &str) -> StateDict {
        let net = Network::named(name).unwrap();
        ReidNetConfig { classes: 4, net: net.with("feats", 16).unwrap_or(net) }.shapes()
    }

    #[test]
    fn sizes_and_network_are_told_by_the_tensors() {
        for name in ["LMBN_n", "OSNet_x0_25", "OSNet_AIN"] {
            let weights = weights(name);
            assert_eq!(guess(&weights), Guess::Is(name));
            let found = sized_like(&weights, &Network::named(name).unwrap());
            assert_eq!((found.classes, found.net.features()), (4, 16), "{name}");
            // Without classifiers, too.
            let headless: StateDict = weights
                .iter()
                .filter(|(key, _)| !key.contains("classifier"))
                .map(|(key, data)| (key.to_owned(), data.clone()))
                .collect();
            assert_eq!(guess(&headless), Guess::Is(name));
        }
    }

    /// The form of a network with a neck has other keys, and the one with a drop block has the same.
    #[test]
    fn the_form_of_a_network_is_told_by_the_tensors() {
        for (net, wanted) in [
            (Network::named("ResNet50").unwrap().with("bnneck", true).unwrap(), "ResNet50 with --bnneck"),
            (Network::named("ResNet50").unwrap().with("drop_block", true).unwrap(), "ResNet50"),
        ] {
            let weights = ReidNetConfig { classes: 4, net }.shapes();
            assert_eq!(best_fit(&weights, "ResNet50").config.net.to_string(), wanted);
        }
    }

    #[test]
    fn a_backbone_is_told_from_a_network_and_both_from_something_else() {
        let backbone = |name: &str| -> StateDict {
            let config = ReidNetConfig { classes: 4, net: Network::named(name).unwrap() };
            let (shapes, source) = (config.shapes(), config.backbone_key());
            shapes.iter().filter_map(|(key, data)| Some((source(key)?, data.clone()))).collect()
        };
        let Guess::Backbone(names) = guess(&backbone("ResNet50")) else { panic!("it is a backbone") };
        assert!(names.contains(&"ResNet50") && !names.contains(&"LMBN_n"), "{names:?}");
        let Guess::Backbone(names) = guess(&backbone("LMBN_n")) else { panic!("it is a backbone") };
        assert!(names.contains(&"LMBN_n") && !names.contains(&"ResNet50"), "{names:?}");
        let cut: StateDict = weights("OSNet_x0_25")
            .iter()
            .filter(|(key, _)| !key.starts_with("conv5."))
            .map(|(key, data)| (key.to_owned(), data.clone()))
            .collect();
        let Guess::None(near) = guess(&cut) else { panic!("it lacks a layer") };
        let nearest = near.iter().max_by_key(|near| near.found * 1000 / near.of).unwrap();
        assert_eq!((nearest.name.as_str(), nearest.of - nearest.found), ("OSNet_x0_25", 5));
    }
}
