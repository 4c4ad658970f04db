//! Files to pairs: detect the layout, read each picture's name, join palm and vein.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::names::{Named, Scheme};
use super::{Pair, PairLayout, PairList, PairOptions};
use crate::identity::identity_name;
use crate::listing::{LeftOut, Listing, first, unread};
use crate::manifest::below;
use crate::{DatasetError, natural};
use contract::preprocess::is_unread_picture;
use files::table::Table;

/// File of the manifest layout.
const MANIFEST: &str = "manifest.csv";

/// Names listed in a warning before it only counts.
const NAMED: usize = 5;

/// The pairs below `root`, of identities with at least `least` pairs.
pub(super) fn list(root: &Path, options: &PairOptions, least: usize) -> Result<PairList, DatasetError> {
    if !root.is_dir() {
        return Err(DatasetError::NoFolder { root: root.to_owned() });
    }
    let manifest = root.join(MANIFEST);
    if options.layout == PairLayout::Manifest || (options.layout == PairLayout::Auto && manifest.is_file()) {
        let (pairs, left_out) = from_manifest(root, &manifest)?;
        let warnings = left_out.warnings();
        return number("manifest", pairs, least, (left_out, warnings), root);
    }
    let files = Listing::recursive(root)?;
    let layouts = match options.layout {
        // The caller's own pattern decides alone.
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
        let (pairs, mut warnings) = bands.join();
        warnings.extend(files.left_out.warnings());
        return number(layout.name(), pairs, least, (files.left_out, warnings), root);
    }
    let layouts = "palm/<identity>/<n>.png and vein/<identity>/<n>.png, names such as 001_l_940_01.jpg (CASIA), \
                   Red/<palm>/<n> and NIR/<palm>/<n> (PolyU), palmprint/session1/<n> and palmvein/session1/<n> \
                   (Tongji)";
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
            bands: [bands.names.into_iter().collect::<Vec<_>>().join(", "), unread(&files.left_out.unread)]
                .into_iter()
                .filter(|words| !words.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
        });
    }
    let (root, found) = (root.to_owned(), files.found());
    let Some(example) = files.pictures.first() else {
        let allowed = format!("at least one file that ends in {}", contract::preprocess::EXTENSIONS.join(", "));
        return Err(DatasetError::Empty { folder: root, found, allowed });
    };
    let example = example.strip_prefix(&root).unwrap_or(example).to_owned();
    let layouts = match options.layout {
        PairLayout::Auto => layouts.to_owned(),
        layout => format!("names such as `{}` (layout `{}`)", Scheme::of(layout, options)?.example, layout.name()),
    };
    Err(DatasetError::NoPairs { root, found, example, layouts })
}

/// The pictures of one layout, by modality.
#[derive(Debug, Default)]
struct Bands {
    palm: Vec<(Named, PathBuf)>,
    vein: Vec<(Named, PathBuf)>,
    /// All bands that were found.
    names: BTreeSet<String>,
    /// Number of pictures whose names match.
    read: usize,
    /// Pictures whose names do not match.
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

    /// Joins by identity and name. An identity whose two sides share no name is joined by position, with a warning.
    fn join(self) -> (Vec<(String, Pair)>, Vec<String>) {
        let mut warnings = Vec::new();
        warn(&mut warnings, "whose names do not match the layout are left out", &self.strange);
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

/// A warning about pairs whose two pictures differ in size, by their headers. Files that cannot be read are reported
/// when they are used.
pub(super) fn of_two_sizes<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Option<String> {
    let size = |path: &Path| contract::preprocess::dimensions(path).ok();
    let differ = |pair: &&Pair| matches!((size(&pair.palm), size(&pair.vein)), (Some(a), Some(b)) if a != b);
    let found: Vec<&Path> = pairs.filter(differ).map(|pair| pair.palm.as_path()).collect();
    let count = if found.len() == 1 { "1 pair".to_owned() } else { format!("{} pairs", found.len()) };
    (!found.is_empty()).then(|| {
        format!(
            "{count} of pictures of two sizes: both are stretched to the network's size, so that a position on one \
             may be a different one on the other: {}",
            first(found.into_iter())
        )
    })
}

/// Numbers the identities in natural order, those with fewer than `least` pairs left out.
fn number(
    layout: &'static str,
    pairs: Vec<(String, Pair)>,
    least: usize,
    (left_out, mut warnings): (LeftOut, Vec<String>),
    root: &Path,
) -> Result<PairList, DatasetError> {
    let mut of = BTreeMap::<String, Vec<Pair>>::new();
    for (identity, pair) in pairs {
        let named = identity_name(&identity);
        let identity = named.map_err(|source| DatasetError::IdentityName { path: pair.palm.clone(), source })?;
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
            allowed: match unread(&left_out.unread) {
                unread if unread.is_empty() => "palm and vein pictures are paired by identity and name".into(),
                unread => format!("palm and vein pictures are paired by identity and name; {unread}"),
            },
        });
    }
    let mut all = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        let mut pairs = of.remove(name).unwrap_or_default();
        pairs.sort_by(|left, right| natural(&left.palm, &right.palm));
        pairs.iter_mut().for_each(|pair| pair.class = class);
        all.extend(pairs);
    }
    Ok(PairList { layout, classes, pairs: all, left_out, warnings })
}

pub(super) fn identities(count: usize) -> String {
    if count == 1 { "1 identity".into() } else { format!("{count} identities") }
}

/// Rows of palm, vein, identity and, if there, session, in columns of these names; paths relative to `root`.
fn from_manifest(root: &Path, path: &Path) -> Result<(Vec<(String, Pair)>, LeftOut), DatasetError> {
    let bytes = files::read_limited(path, files::LARGEST_TABLE);
    let bytes = bytes.map_err(|source| DatasetError::Read { path: path.to_owned(), source })?;
    let table = Table::read(&bytes).map_err(|source| DatasetError::Table { path: path.to_owned(), source })?;
    let malformed = |line: u64, found: &str, allowed: &'static str| DatasetError::List {
        path: path.to_owned(),
        line: line as usize,
        found: found.chars().take(120).collect(),
        allowed,
    };
    let (Some(palm), Some(vein), Some(identity)) =
        (table.column("palm"), table.column("vein"), table.column("identity"))
    else {
        return Err(malformed(1, &table.header().join(","), "a header with the columns palm, vein and identity"));
    };
    let session = table.column("session");
    let mut pairs = Vec::with_capacity(table.rows().len());
    let (mut people, mut seen, mut left_out) = (BTreeMap::new(), BTreeSet::new(), LeftOut::default());
    for row in table.rows() {
        let wrong = |allowed| malformed(row.line, &row.cells.join(","), allowed);
        let [palm, vein, identity] = [palm, vein, identity].map(|column| row.cells[column].as_str());
        if palm.is_empty() || vein.is_empty() || identity.is_empty() {
            return Err(wrong("a palm picture, a vein picture and an identity"));
        }
        let inside = || wrong("paths inside the manifest's folder, without `..`,");
        let (palm, vein) = (below(root, palm).ok_or_else(inside)?, below(root, vein).ok_or_else(inside)?);
        let session = match session.map(|column| row.cells[column].as_str()).filter(|text| !text.is_empty()) {
            None => 1,
            Some(text) => text.parse().map_err(|_| wrong("a session that is a number"))?,
        };
        for picture in [&palm, &vein] {
            if *people.entry(picture.clone()).or_insert_with(|| identity.to_owned()) != identity {
                return Err(wrong("each picture under one identity"));
            }
        }
        if !seen.insert((palm.clone(), vein.clone())) {
            return Err(wrong("each pair once"));
        }
        let lost: Vec<_> = [&palm, &vein].into_iter().filter(|picture| is_unread_picture(picture)).cloned().collect();
        if !lost.is_empty() {
            left_out.unread.extend(lost);
            continue;
        }
        let name = palm.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        pairs.push((identity.to_owned(), Pair { palm, vein, class: 0, session, name }));
    }
    Ok((pairs, left_out))
}
