//! `train import` of re-identification networks, and which network foreign weights are of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use burn::tensor::Device;
use contract::PictureSpec;

use crate::families::reid::net::{Network, ReidNet, ReidNetConfig, Spelling};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task as reid;
use crate::families::{Guess, Near};
use crate::run::checkpoint;
use crate::run::directory::record;
use crate::run::flags::ImportArgs;
use crate::weights::{Copies, LoadReport, Partial, Shapes, StateDict, WeightsError, is_classifier};

/// How foreign weights stand to a network of the sizes that their classifiers show.
struct Fit {
    config: ReidNetConfig,
    report: LoadReport,
    /// Shapes of the network's tensors by their keys.
    own: Shapes,
    /// See [`ReidNetConfig::backbone_key`].
    source: fn(&str) -> Option<String>,
}

impl Fit {
    /// Whether nothing but classifiers is open. A backbone alone is no network, whatever its head.
    fn is_whole(&self) -> bool {
        let is_more = |key: &String| !is_classifier(key) && (self.source)(key).is_none();
        let more = self.report.missing.is_empty() || self.own.keys().any(is_more);
        more && self.report.is_acceptable(Partial::Classifiers)
    }

    /// Whether the file has a classifier.
    fn has_classifier(&self) -> bool {
        self.own.keys().any(|key| is_classifier(key) && !self.report.missing.contains(key))
    }

    /// Whether most of the network's tensors are there.
    fn is_near(&self) -> bool {
        2 * self.report.applied > self.own.len()
    }

    /// Whether `weights` are those of a classifier on the network's backbone.
    fn is_backbone(&self, weights: &StateDict) -> bool {
        let wanted = self.own.iter().filter_map(|(key, shape)| Some(((self.source)(key)?, shape)));
        let wanted: BTreeMap<_, _> = wanted.collect();
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
        weights.clone().fitted_to(&own.into_keys().collect()).classifiers().count()
    });
    let sizes = [("feats", features)].into_iter().chain(parts.map(|parts| ("parts", parts)));
    // A network that has no such setting, or not with this value, is compared as it is.
    let sized = sizes.fold(net.clone(), |net, (key, value)| net.with(key, value).unwrap_or(net));
    let net = if sized.check().is_ok() { sized } else { net.clone() };
    ReidNetConfig { classes, net }
}

/// Networks, or forms of the one called `name`, each with how `weights` stand to it. The options of a network are tried
/// where most of it is there, and the forms that other projects publish where most is there under their keys. The first
/// that fits is the last that is tried.
fn fits(weights: &StateDict, name: Option<&str>) -> Vec<Fit> {
    let mut fits = Vec::new();
    for plain in Network::all() {
        if name.is_some_and(|name| plain.name() != name) {
            continue;
        }
        let first = fit(weights, &plain, ANY);
        let options = if first.is_near() { plain.options() } else { Vec::new() };
        let options = options.into_iter().map(|option| (ANY, option));
        let published = published(weights, &plain, &first);
        fits.push(first);
        for (project, form) in options.chain(published) {
            if fits.iter().any(Fit::is_whole) {
                return fits;
            }
            fits.push(fit(weights, &form, project));
        }
        if fits.iter().any(Fit::is_whole) {
            break;
        }
    }
    fits
}

/// What the names of all projects begin with.
const ANY: &str = "";

/// The spellings of a form by projects whose names begin so: some project's form may have the tensors of another's.
fn of_project(form: &Network, project: &str) -> impl DoubleEndedIterator<Item = &'static Spelling> {
    form.spellings().iter().filter(move |spelling| spelling.project.starts_with(project))
}

/// How many of these keys `weights` have, perhaps behind a prefix.
fn found(weights: &StateDict, wanted: impl Iterator<Item = String>) -> usize {
    let keys: BTreeSet<&str> = weights.iter().map(|(key, _)| key).collect();
    let behind = |key: &&str, wanted: &str| key.strip_suffix(wanted).is_some_and(|prefix| prefix.ends_with('.'));
    wanted.filter(|wanted| keys.contains(wanted.as_str()) || keys.iter().any(|key| behind(key, wanted))).count()
}

/// The forms of `plain` that other projects publish and of whose backbone most is there under their keys.
fn published(weights: &StateDict, plain: &Network, fit: &Fit) -> Vec<(&'static str, Network)> {
    let forms = plain.published();
    if forms.is_empty() {
        return forms;
    }
    let backbone: Vec<&String> = fit.own.keys().filter(|key| (fit.source)(key).is_some()).collect();
    let is_near = |spelling: &Spelling| {
        2 * found(weights, backbone.iter().filter_map(|key| spelling.theirs(key))) > backbone.len()
    };
    forms.into_iter().filter(|(project, form)| of_project(form, project).any(is_near)).collect()
}

/// `weights` under the keys of `net`, whose own are `own`: as they are, or with the keys of one of the projects, if
/// more of the network is there by them.
fn respelled(weights: &StateDict, net: &Network, own: &BTreeSet<String>, project: &str) -> StateDict {
    let of = |spelling: &Spelling| found(weights, own.iter().filter_map(|key| spelling.theirs(key)));
    // Of equals, the first.
    let best = of_project(net, project).rev().max_by_key(|spelling| of(spelling));
    match best {
        Some(spelling) if of(spelling) > found(weights, own.iter().cloned()) => {
            let mut spelled = weights.clone().respelled(own, spelling.project, |key| spelling.theirs(key));
            set_pixels_aside(&mut spelled);
            spelled
        }
        _ => weights.clone().fitted_to(own),
    }
}

/// Takes the mean and the deviation of pixels out, which fast-reid stores, where they are those that pictures are
/// normalised with here; others stay and are named as left over.
fn set_pixels_aside(weights: &mut StateDict) {
    let picture = PictureSpec::imagenet([1, 1]);
    for (key, ours) in [("pixel_mean", picture.mean), ("pixel_std", picture.std)] {
        let same = weights.get(key).and_then(|data| data.as_slice::<f32>().ok()).is_some_and(|theirs| {
            theirs.len() == ours.len()
                && theirs.iter().zip(&ours).all(|(theirs, ours)| (theirs - 255.0 * ours).abs() < 1e-2)
        });
        if same {
            weights.set_aside(key);
        }
    }
}

/// How `weights`, with the keys of one of these projects, stand to a form of a network.
fn fit(weights: &StateDict, net: &Network, project: &str) -> Fit {
    let spelled = (!net.spellings().is_empty()).then(|| {
        let own = ReidNetConfig { classes: 1, net: net.clone() }.shapes().into_keys().collect();
        respelled(weights, net, &own, project)
    });
    let weights = spelled.as_ref().unwrap_or(weights);
    let compared = |config: ReidNetConfig| {
        let own = config.shapes();
        let report = match &spelled {
            Some(spelled) => spelled.compare_shapes(&own),
            None => weights.clone().fitted_to(&own.keys().cloned().collect()).compare_shapes(&own),
        };
        Fit { source: config.backbone_key(), config, report, own }
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
    let fit = best_fit(&weights, Network::named(&args.model)?.name());
    let has_classifier = fit.has_classifier() || weights.classes().is_some();
    let ReidNetConfig { mut net, classes } = fit.config;
    for setting in &args.with {
        net = net.with_text(setting).with_context(|| format!("--with {setting}"))?;
    }
    if let Some(feats) = args.feats {
        net = net.with("feats", feats)?;
    }
    let classes = match args.num_classes {
        Some(classes) => classes,
        None if has_classifier => classes,
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
    let spelled = respelled(&weights, asked, &StateDict::of(net).keys(), ANY);
    // Those of another project first; what is no such network may still be its backbone.
    let tries: Vec<StateDict> = match spelled.origin().project {
        Some(_) => vec![spelled, weights.clone()],
        None => vec![weights.clone()],
    };
    let mut first = None;
    for weights in &tries {
        match net.load_weights(path, weights.clone(), partial) {
            Ok(report) => return Ok(report),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let error = first.expect("there was a try");
    let hint = if tries.iter().any(|weights| net.load_weights(path, weights.clone(), Partial::Classifiers).is_ok()) {
        Some(format!("only the classifiers do not fit: {flag} leaves them at their start"))
    } else {
        other_network(&weights, asked)
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
    use burn::tensor::TensorData;

    use super::*;

    /// Zeros in the shapes of a network.
    fn zeros(config: &ReidNetConfig) -> StateDict {
        let zero = |shape: Vec<usize>| TensorData::new(vec![0.0f32; shape.iter().product()], shape);
        config.shapes().into_iter().map(|(key, shape)| (key, zero(shape))).collect()
    }

    /// The network called `name` with small features, where they can be chosen, and four identities.
    fn weights(name: &str) -> StateDict {
        let net = Network::named(name).unwrap();
        zeros(&ReidNetConfig { classes: 4, net: net.with("feats", 16).unwrap_or(net) })
    }

    /// What is compared with weights is what a network has, in every form, without a tensor of it.
    #[test]
    fn shapes_are_those_of_the_tensors() {
        for name in ["OSNet_x0_25", "OSNet_AIN", "PCB"] {
            let net = Network::named(name).unwrap();
            for net in [vec![net.clone()], net.options()].concat() {
                let config = ReidNetConfig { classes: 3, net };
                let made = StateDict::of(&ReidNet::new(&config, 1, &Device::flex()));
                assert_eq!(config.shapes(), made.shapes(), "{config}");
            }
        }
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
            let weights = zeros(&ReidNetConfig { classes: 4, net });
            assert_eq!(best_fit(&weights, "ResNet50").config.net.to_string(), wanted);
        }
    }

    /// Weights of a form under the keys of a project.
    fn written_by(net: &Network, project: &str) -> StateDict {
        let spelling = net.spellings().iter().find(|spelling| spelling.project.starts_with(project)).unwrap();
        let own = zeros(&ReidNetConfig { classes: 4, net: net.clone() });
        own.iter().filter_map(|(key, data)| Some((spelling.theirs(key)?, data.clone()))).collect()
    }

    /// Forms that other projects publish are told from one another by their keys, and every tensor is used.
    #[test]
    fn forms_of_other_projects_are_told_by_their_keys() {
        for (name, form, projects) in [
            ("ResNet50", 0, &["fast-reid", "fast-reid 1.0", "fast-reid 0.1"][..]),
            ("ResNet50_IBN", 1, &["fast-reid"]),
            ("ResNet50", 2, &["fast-reid 0.1"]),
            ("ResNet50", 4, &["reid-strong-baseline"]),
            ("ResNet50_IBN", 4, &["reid-strong-baseline"]),
            ("ResNet50", 5, &["torchreid"]),
            ("ResNet50_IBN", 6, &["torchreid", "torchvision"]),
        ] {
            let net = Network::named(name).unwrap().published()[form].1.clone();
            for project in projects {
                let fit = best_fit(&written_by(&net, project), name);
                assert_eq!(fit.config, ReidNetConfig { classes: 4, net: net.clone() }, "{project}");
                assert!(fit.report.origin.project.unwrap().starts_with(project), "{project}: {}", fit.report);
                assert!(fit.report.is_complete(), "{project}: {}", fit.report);
            }
        }
        let bag = Network::named("ResNet50").unwrap().published()[0].1.clone();
        assert_eq!(bag.to_string(), "ResNet50 with --bnneck and --stem unpadded");
        let mut weights = written_by(&bag, "fast-reid 0.1");
        assert_eq!(guess(&weights), Guess::Is("ResNet50"));
        // What is theirs alone is named.
        let gate = ("backbone.layer1.0.se.fc.0.weight".to_owned(), TensorData::new(vec![0.0f32], [1]));
        weights = weights.iter().map(|(key, data)| (key.to_owned(), data.clone())).chain([gate]).collect();
        assert_eq!(best_fit(&weights, "ResNet50").report.unused, ["backbone.layer1.0.se.fc.0.weight"]);
        let imagenet = Network::named("ResNet101_IBN").unwrap().published()[6].1.clone();
        assert_eq!(imagenet.to_string(), "ResNet101_IBN with --head none and --last-stride 2");
        assert_eq!(guess(&written_by(&imagenet, "torchvision")), Guess::Is("ResNet101_IBN"));
    }

    /// An ImageNet classifier is a network of its own, and the backbone of others, even of one with such a head.
    #[test]
    fn a_classifier_of_other_classes_is_a_backbone() {
        let net = Network::named("ResNet50").unwrap().published()[6].1.clone();
        let weights = written_by(&net, "torchvision");
        let config = ReidNetConfig { classes: 7, net: net.clone() };
        let mut network = ReidNet::new(&config, 1, &Device::flex());
        let path = Path::new("resnet50.pth");
        let report = load(&mut network, path, weights.clone(), Partial::Nothing, &net, "--partial").unwrap();
        assert_eq!(report.aside, ["fc.bias", "fc.weight"], "{report}");
        assert_eq!(report.missing, ["classifier.classifier.bias", "classifier.classifier.weight"]);
        let same = StateDict::of(&network).get("model.conv1.weight") == weights.get("conv1.weight");
        assert!(same, "the backbone is that of the file");
    }

    /// fast-reid stores the mean and deviation of pixels: those of ImageNet are ours, others would be another network.
    #[test]
    fn pixels_of_another_mean_are_left_over() {
        let bag = Network::named("ResNet50").unwrap().published()[0].1.clone();
        let with = |mean: [f32; 3]| {
            let own = written_by(&bag, "fast-reid");
            let pixels = [("pixel_mean", mean), ("pixel_std", [58.395, 57.12, 57.375])];
            let pixels = pixels.map(|(key, values)| (key.to_owned(), TensorData::new(values.to_vec(), [1, 3, 1, 1])));
            let weights = own.iter().map(|(key, data)| (key.to_owned(), data.clone())).chain(pixels).collect();
            best_fit(&weights, "ResNet50").report
        };
        let report = with([123.675, 116.28, 103.53]);
        assert!(report.is_complete() && report.aside == ["pixel_mean", "pixel_std"], "{report}");
        assert_eq!(with([127.5; 3]).unused, ["pixel_mean"]);
    }

    #[test]
    fn a_backbone_is_told_from_a_network_and_both_from_something_else() {
        let backbone = |name: &str| -> StateDict {
            let config = ReidNetConfig { classes: 4, net: Network::named(name).unwrap() };
            let (shapes, source) = (zeros(&config), config.backbone_key());
            let keys = shapes.iter().filter_map(|(key, data)| Some((source(key)?, data.clone())));
            // A whole ImageNet classifier is a network of its own.
            keys.filter(|(key, _)| !key.starts_with("fc.")).collect()
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
