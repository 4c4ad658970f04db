//! Files to pairs: the layout is told, each picture read by its name, palm and vein joined.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::names::{Named, Scheme};
use super::{Pair, PairLayout, PairList, PairOptions};
use crate::listing::Listing;
use crate::{DatasetError, natural};

/// File of the manifest layout.
const MANIFEST: &str = "manifest.csv";

/// Names listed in a warning before it only counts.
const NAMED: usize = 5;

/// The pairs below `root` of identities that have at least `least`.
pub(super) fn list(root: &Path, options: &PairOptions, least: usize) -> Result<PairList, DatasetError> {
    if !root.is_dir() {
        return Err(DatasetError::NoFolder { root: root.to_owned() });
    }
    let manifest = root.join(MANIFEST);
    if options.layout == PairLayout::Manifest || (options.layout == PairLayout::Auto && manifest.is_file()) {
        return number("manifest", from_manifest(root, &manifest)?, least, Vec::new(), root);
    }
    let files = Listing::recursive(root)?;
    let layouts = match options.layout {
        // A pattern of one's own decides alone.
        PairLayout::Auto if options.pattern.is_some() => vec![PairLayout::Plain],
        PairLayout::Auto => vec![PairLayout::Casia, PairLayout::PolyU, PairLayout::Tongji, PairLayout::Plain],
        layout => vec![layout],
    };
    let mut nearest: Option<(PairLayout, Bands)> = None;
    for layout in layouts {
        let scheme = Scheme::of(layout, options)?;
        let bands = Bands::of(root, &files.pictures, &scheme);
        if bands.palm.is_empty() || bands.vein.is_empty() {
            if nearest.is_none() && bands.read > 0 && !(bands.palm.is_empty() && bands.vein.is_empty()) {
                nearest = Some((layout, bands));
            }
            continue;
        }
        let (pairs, warnings) = bands.join();
        return number(layout.name(), pairs, least, warnings, root);
    }
    let allowed = "palm/<identity>/<n>.png and vein/<identity>/<n>.png, names such as 001_l_940_01.jpg (CASIA), \
                   Red/<palm>/<n> and NIR/<palm>/<n> (PolyU), palmprint/session1/<n> and palmvein/session1/<n> \
                   (Tongji), or manifest.csv";
    if let Some((layout, bands)) = nearest {
        let (there, missing) = match bands.palm.is_empty() {
            true => ("vein", "palm"),
            false => ("palm", "vein"),
        };
        let count = bands.palm.len().max(bands.vein.len());
        return Err(DatasetError::OneModality {
            root: root.to_owned(),
            layout: layout.name(),
            there,
            count,
            missing,
            bands: bands.names.into_iter().collect::<Vec<_>>().join(", "),
        });
    }
    Err(DatasetError::NotFound {
        name: options.layout.name().into(),
        root: root.to_owned(),
        found: files.found(),
        allowed: match options.layout {
            PairLayout::Auto => allowed.to_owned(),
            layout => format!("names such as `{}`", Scheme::of(layout, options)?.example),
        },
    })
}

/// The pictures of one layout, by modality.
#[derive(Debug, Default)]
struct Bands {
    palm: Vec<(Named, PathBuf)>,
    vein: Vec<(Named, PathBuf)>,
    /// Every band there is.
    names: BTreeSet<String>,
    /// Pictures whose names are understood.
    read: usize,
    /// Those whose names are not.
    strange: Vec<PathBuf>,
}

impl Bands {
    fn of(root: &Path, pictures: &[PathBuf], scheme: &Scheme) -> Self {
        let mut bands = Self::default();
        let mut named = Vec::new();
        for path in pictures {
            match scheme.read(path.strip_prefix(root).unwrap_or(path)) {
                Some(facts) => {
                    bands.names.insert(facts.band.clone());
                    named.push((facts, path.clone()));
                }
                None => bands.strange.push(path.clone()),
            }
        }
        bands.read = named.len();
        let chosen = |wanted: &[String]| wanted.iter().find(|band| bands.names.contains(*band)).cloned();
        let (palm, vein) = (chosen(&scheme.palm), chosen(&scheme.vein));
        for (facts, path) in named {
            if Some(&facts.band) == palm.as_ref() {
                bands.palm.push((facts, path));
            } else if Some(&facts.band) == vein.as_ref() {
                bands.vein.push((facts, path));
            }
        }
        bands
    }

    /// Joins by identity and name. An identity whose two sides have not one name in common is joined by position, which
    /// is said.
    fn join(self) -> (Vec<(String, Pair)>, Vec<String>) {
        let mut warnings = Vec::new();
        warn(&mut warnings, "whose names are not understood are left out", &self.strange);
        let by_identity = |side: Vec<(Named, PathBuf)>| {
            let mut sorted = BTreeMap::<String, BTreeMap<String, (Named, PathBuf)>>::new();
            let mut doubled = Vec::new();
            for (facts, path) in side {
                let of = sorted.entry(facts.identity.clone()).or_default();
                if let Some((_, other)) = of.insert(facts.key.clone(), (facts, path)) {
                    doubled.push(other);
                }
            }
            (sorted, doubled)
        };
        let (palms, doubled_palms) = by_identity(self.palm);
        let (mut veins, doubled_veins) = by_identity(self.vein);
        warn(&mut warnings, "that share a name with another of their kind are left out", &doubled_palms);
        warn(&mut warnings, "that share a name with another of their kind are left out", &doubled_veins);
        let (mut pairs, mut alone) = (Vec::new(), Vec::new());
        for (identity, palms) in palms {
            let mut veins = veins.remove(&identity).unwrap_or_default();
            let common = palms.keys().any(|key| veins.contains_key(key));
            if !common && !veins.is_empty() {
                warnings.push(format!(
                    "`{identity}`: palm and vein pictures have no name in common and are paired by position"
                ));
                let sorted = |side: BTreeMap<String, (Named, PathBuf)>| {
                    let mut side: Vec<_> = side.into_values().collect();
                    side.sort_by(|a, b| natural(&a.1, &b.1));
                    side
                };
                let (palms, veins) = (sorted(palms), sorted(veins));
                let both = palms.len().min(veins.len());
                alone.extend(palms[both..].iter().chain(&veins[both..]).map(|(_, path)| path.clone()));
                for (palm, vein) in palms.into_iter().zip(veins) {
                    pairs.push((identity.clone(), pair(palm, vein.1)));
                }
                continue;
            }
            for (key, palm) in palms {
                match veins.remove(&key) {
                    Some(vein) => pairs.push((identity.clone(), pair(palm, vein.1))),
                    None => alone.push(palm.1),
                }
            }
            alone.extend(veins.into_values().map(|(_, path)| path));
        }
        alone.extend(veins.into_values().flat_map(BTreeMap::into_values).map(|(_, path)| path));
        warn(&mut warnings, "without a counterpart in the other modality are left out", &alone);
        (pairs, warnings)
    }
}

fn pair((facts, palm): (Named, PathBuf), vein: PathBuf) -> Pair {
    Pair { palm, vein, class: 0, session: facts.session, name: facts.key }
}

fn warn(warnings: &mut Vec<String>, what: &str, paths: &[PathBuf]) {
    if !paths.is_empty() {
        let count = if paths.len() == 1 { "1 picture".to_owned() } else { format!("{} pictures", paths.len()) };
        warnings.push(format!("{count} {what}: {}", first(paths.iter().map(PathBuf::as_path))));
    }
}

/// The first few files, in backticks.
fn first<'a>(paths: impl ExactSizeIterator<Item = &'a Path>) -> String {
    let more = if paths.len() > NAMED { ", …" } else { "" };
    let named: Vec<_> = paths.take(NAMED).map(|path| format!("`{}`", path.display())).collect();
    named.join(", ") + more
}

/// A warning about pairs whose two pictures are of different sizes, told by the heads of the files; files that cannot be read
/// are told when they are used.
pub(super) fn of_two_sizes<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Option<String> {
    let size = |path: &Path| image::ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_dimensions().ok();
    let differ = |pair: &&Pair| matches!((size(&pair.palm), size(&pair.vein)), (Some(a), Some(b)) if a != b);
    let found: Vec<&Path> = pairs.filter(differ).map(|pair| pair.palm.as_path()).collect();
    let count = if found.len() == 1 { "1 pair".to_owned() } else { format!("{} pairs", found.len()) };
    (!found.is_empty()).then(|| {
        format!(
            "{count} of pictures of two sizes: both are stretched to the network's, so that a place on one may be another \
             on the other: {}",
            first(found.into_iter())
        )
    })
}

/// Numbers the identities in natural order, those with fewer than `least` pairs left out.
fn number(
    layout: &'static str,
    pairs: Vec<(String, Pair)>,
    least: usize,
    mut warnings: Vec<String>,
    root: &Path,
) -> Result<PairList, DatasetError> {
    let mut of = BTreeMap::<String, Vec<Pair>>::new();
    for (identity, pair) in pairs {
        of.entry(identity).or_default().push(pair);
    }
    let dropped: Vec<String> =
        of.iter().filter(|(_, pairs)| pairs.len() < least).map(|(name, _)| format!("`{name}`")).collect();
    if !dropped.is_empty() {
        let more = if dropped.len() > NAMED { ", …" } else { "" };
        let named = dropped.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        warnings
            .push(format!("{} with fewer than {least} pairs are left out: {named}{more}", identities(dropped.len())));
    }
    of.retain(|_, pairs| pairs.len() >= least);
    let mut classes: Vec<String> = of.keys().cloned().collect();
    classes.sort_by(|left, right| natural(Path::new(left), Path::new(right)));
    if classes.is_empty() {
        return Err(DatasetError::Identities {
            folder: root.to_owned(),
            found: format!("no identity with {least} pairs"),
            allowed: "palm and vein pictures are paired by identity and name".into(),
        });
    }
    let mut all = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        let mut pairs = of.remove(name).unwrap_or_default();
        pairs.sort_by(|left, right| natural(&left.palm, &right.palm));
        pairs.iter_mut().for_each(|pair| pair.class = class);
        all.extend(pairs);
    }
    Ok(PairList { layout, classes, pairs: all, warnings })
}

pub(super) fn identities(count: usize) -> String {
    if count == 1 { "1 identity".into() } else { format!("{count} identities") }
}

/// Lines of `palm,vein,identity[,session]`, in the order the header names; paths relative to `root`.
fn from_manifest(root: &Path, path: &Path) -> Result<Vec<(String, Pair)>, DatasetError> {
    let text = std::fs::read_to_string(path).map_err(|source| DatasetError::Read { path: path.to_owned(), source })?;
    let malformed = |line: usize, found: &str, allowed: &'static str| DatasetError::List {
        path: path.to_owned(),
        line,
        found: found.chars().take(120).collect(),
        allowed,
    };
    let mut lines = text.lines().enumerate();
    let header = lines.next().map_or("", |(_, line)| line.trim_start_matches('\u{feff}'));
    let columns: Vec<String> = header.split(',').map(|name| name.trim().to_lowercase()).collect();
    let column = |name: &str| columns.iter().position(|column| column == name);
    let (Some(palm), Some(vein), Some(identity)) = (column("palm"), column("vein"), column("identity")) else {
        return Err(malformed(1, header, "a header with the columns palm, vein and identity"));
    };
    let session = column("session");
    let mut pairs = Vec::new();
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |column: usize| fields.get(column).copied().filter(|field| !field.is_empty());
        let (Some(palm), Some(vein), Some(identity)) = (field(palm), field(vein), field(identity)) else {
            return Err(malformed(at + 1, line, "a palm picture, a vein picture and an identity, separated by commas"));
        };
        let session = match session.and_then(field) {
            None => 1,
            Some(text) => text.parse().map_err(|_| malformed(at + 1, line, "a session that is a number"))?,
        };
        let name = Path::new(palm).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let pair = Pair { palm: root.join(palm), vein: root.join(vein), class: 0, session, name };
        pairs.push((identity.to_owned(), pair));
    }
    Ok(pairs)
}
