use metrics::Rows;
use serde::{Deserialize, Serialize};

use crate::{GalleryError, NewTemplate, Template, TemplateId};

/// What holds templates and finds the nearest. Every engine passes the same tests.
pub trait Engine: Send + Sync {
    /// Enrols one template for each row of `values`, `[templates, dim]` of unit length, and returns their ids. All are
    /// durable when it returns; after an error, or a crash before it returns, either all are there or none.
    ///
    /// # Errors
    /// Rows that are no embeddings of this gallery, names that cannot be stored, and what the disk refuses.
    ///
    /// # Panics
    /// If there are not as many templates as rows.
    fn enrol(&self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError>;

    /// Removes templates and returns their number. When it returns no snapshot taken from now on finds them, now or
    /// after a crash, and their stored values are overwritten (where the engine has [`Ability::Erase`]).
    ///
    /// # Errors
    /// If one of them is not there, nothing is removed. See [`GalleryError::NotErased`] for the one error after which
    /// they are gone all the same.
    fn remove(&self, what: &Selection) -> Result<u64, GalleryError>;

    /// The gallery as it is now.
    ///
    /// # Errors
    /// If it cannot be read.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, GalleryError>;

    /// What the gallery says about itself.
    ///
    /// # Errors
    /// If it cannot be read.
    fn info(&self) -> Result<Info, GalleryError>;

    /// What this engine cannot do although others can.
    fn lacks(&self) -> &'static [Lack] {
        &[]
    }

    /// Fails unless the engine can do this.
    ///
    /// # Errors
    /// [`GalleryError::Unsupported`], which says why not.
    fn require(&self, ability: Ability) -> Result<(), GalleryError> {
        self.lacks().iter().find(|lack| lack.ability == ability).map_or(Ok(()), |lack| Err(lack.error()))
    }
}

/// What not every engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// Overwrite the stored values of removed templates before a removal returns, so that it can be proved.
    Erase,
    /// Remove all that a removal is to remove, or nothing.
    RemoveWhole,
    /// Return as many hits as are asked for.
    AnyHits,
}

/// Something an engine cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// What.
    pub ability: Ability,
    /// Why not, and what can be done.
    pub why: &'static str,
}

impl Lack {
    /// The error of whoever needs it.
    pub fn error(&self) -> GalleryError {
        let what = match self.ability {
            Ability::Erase => "overwrite removed values, or prove that they are gone",
            Ability::RemoveWhole => "remove all or nothing",
            Ability::AnyHits => "return any number of hits",
        };
        GalleryError::Unsupported { what, why: self.why }
    }
}

/// A gallery at one moment: what is enrolled later is not in it. What is removed later may be missing from it, since
/// removal overwrites the values, but never turns up as something else.
pub trait Snapshot: Send + Sync {
    /// The templates nearest to each probe: best first, templates of equal similarity by their ids.
    ///
    /// # Shapes
    /// - `probes`: `[probes, dim]`, of unit length
    /// - returns: for each probe at most `ask.k` hits
    ///
    /// # Errors
    /// Probes that are no embeddings of this gallery, and stored values that are damaged: there is no answer from a
    /// part of a gallery.
    fn search(&self, probes: Rows<'_>, ask: &Ask) -> Result<Vec<Vec<Hit>>, GalleryError>;

    /// From now on rows do not stay in this process's memory when they were compared, as far as they are in files (and
    /// the system is Linux): the memory of a search does not grow with the gallery then. For programs that search once;
    /// each further search has to map all rows again. Answers are the same. Engines without files do nothing.
    fn read_once(&self) {}

    /// How many templates pass the filter.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    fn count(&self, filter: &Filter) -> Result<u64, GalleryError>;

    /// The templates that pass the filter, in order of their ids.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    fn select(&self, filter: &Filter) -> Result<Vec<TemplateId>, GalleryError>;

    /// At most `count` of the templates that pass the filter, evenly spread over their ids: what a look at a few is
    /// taken from.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    fn sample(&self, filter: &Filter, count: usize) -> Result<Vec<TemplateId>, GalleryError> {
        let all = self.select(filter)?;
        Ok(evenly(all.len(), count).map(|at| all[at]).collect())
    }

    /// For each probe and each of its `marks`, which are templates with their similarities, best first: how many of the
    /// templates that are `counted` for the probe come before it and after the mark before. What CMC and average
    /// precision are made of.
    ///
    /// # Errors
    /// As [`Snapshot::search`].
    ///
    /// # Panics
    /// If there are not as many lists of marks as probes.
    fn nearer(
        &self,
        probes: Rows<'_>,
        marks: &[Vec<Hit>],
        counted: &(dyn Fn(usize, TemplateId) -> bool + Sync),
    ) -> Result<Vec<Vec<u64>>, GalleryError> {
        assert!(marks.len() == probes.rows(), "{} lists of marks for {} probes", marks.len(), probes.rows());
        let k = usize::try_from(self.count(&Filter::default())?).unwrap_or(usize::MAX);
        let mut counts: Vec<Vec<u64>> = marks.iter().map(|marks| vec![0; marks.len()]).collect();
        for (probe, marks) in marks.iter().enumerate() {
            let Some(last) = marks.last() else { continue };
            let ask = Ask { min_similarity: Some(last.similarity), ..Ask::nearest(k) };
            for hit in self.search(probes.slice(probe..probe + 1), &ask)?.iter().flatten() {
                let at = marks.partition_point(|mark| best_first(mark, hit).is_lt());
                if at < marks.len() && counted(probe, hit.id) {
                    counts[probe][at] += 1;
                }
            }
        }
        Ok(counts)
    }

    /// Number of subjects that have a template.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    fn subjects(&self) -> Result<u64, GalleryError>;

    /// The numbers that stand for subjects in [`Columns`], in the order asked for; none for names not enrolled.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    fn numbers(&self, names: &[String]) -> Result<Vec<Option<u32>>, GalleryError>;

    /// Hands out what is said in numbers about each template that passes the filter, in order of their ids.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    fn columns(&self, filter: &Filter, each: &mut dyn FnMut(Columns)) -> Result<(), GalleryError>;

    /// Templates by their ids, in the order asked for.
    ///
    /// # Errors
    /// If one is not there.
    fn templates(&self, ids: &[TemplateId]) -> Result<Vec<Template>, GalleryError>;

    /// Values by ids, `[ids, dim]`, for what looks further than one template: fusion, query expansion, re-ranking.
    /// None where the engine keeps them to itself.
    ///
    /// # Errors
    /// If one is not there, or is damaged.
    fn vectors(&self, ids: &[TemplateId]) -> Result<Option<Vec<f32>>, GalleryError>;
}

/// What a search is to return.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// Hits for each probe.
    pub k: usize,
    /// Hits below this cosine similarity are left out.
    pub min_similarity: Option<f32>,
    /// Only templates that pass are searched: with a filter there are still `k` hits where `k` templates pass.
    pub filter: Filter,
}

impl Ask {
    /// The `k` nearest, whoever they are.
    pub fn nearest(k: usize) -> Self {
        Self { k, ..Self::default() }
    }
}

/// Which templates are wanted: those that pass every part. The default passes all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// One of these subjects. Names that are not enrolled pass nobody.
    pub subjects: Option<Vec<String>>,
    /// One of these cameras.
    pub cameras: Option<Vec<u32>>,
    /// Taken at this time or later, in milliseconds since 1970.
    pub from: Option<i64>,
    /// Taken before this time.
    pub until: Option<i64>,
    /// Has all of these tags.
    pub tags: Vec<String>,
}

impl Filter {
    /// Whether the template passes.
    pub fn passes(&self, template: &NewTemplate) -> bool {
        let one_of_subjects = |names: &Vec<String>| template.subject.as_ref().is_some_and(|name| names.contains(name));
        self.subjects.as_ref().is_none_or(one_of_subjects)
            && self.cameras.as_ref().is_none_or(|cameras| template.camera.is_some_and(|own| cameras.contains(&own)))
            && self.from.is_none_or(|from| template.taken.is_some_and(|taken| taken >= from))
            && self.until.is_none_or(|until| template.taken.is_some_and(|taken| taken < until))
            && self.tags.iter().all(|tag| template.tags.contains(tag))
    }
}

/// What is said in numbers about a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Which.
    pub id: TemplateId,
    /// Number of the subject; see [`Snapshot::numbers`].
    pub subject: Option<u32>,
    /// Which camera saw it.
    pub camera: Option<u32>,
    /// When, in milliseconds since 1970.
    pub taken: Option<i64>,
}

/// A template that was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Which.
    pub id: TemplateId,
    /// Cosine similarity to the probe, -1 to 1: the bits of [`metrics::dot`], whatever engine found it.
    pub similarity: f32,
}

/// What is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These templates.
    Templates(Vec<TemplateId>),
    /// Every template of this subject.
    Subject(String),
}

/// The model whose embeddings a gallery holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Contract id: embeddings of another are refused by whoever opens the gallery for a model.
    pub contract_id: String,
    /// Values per row.
    pub dim: usize,
    /// Network.
    #[serde(default)]
    pub architecture: String,
    /// SHA-256 of the model's file.
    #[serde(default)]
    pub sha256: String,
}

/// What a gallery says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Whose embeddings it holds.
    pub model: Model,
    /// Templates that are enrolled.
    pub templates: u64,
    /// Subjects with a template.
    pub subjects: u64,
    /// Rows of removed templates, overwritten, whose space is used until it is compacted.
    pub removed: u64,
    /// Bytes of its files; 0 where it has none.
    pub bytes: u64,
    /// Grows with every change.
    pub generation: u64,
}

/// At most `count` numbers below `of`, evenly spread.
pub(crate) fn evenly(of: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(of);
    (0..count).map(move |at| (at as u128 * of as u128 / count as u128) as usize)
}

/// Order of hits: best first, equal ones by id. Similarities are finite.
pub(crate) fn best_first(a: &Hit, b: &Hit) -> std::cmp::Ordering {
    // `+ 0.0` makes one zero of two, which `total_cmp` tells apart.
    (b.similarity + 0.0).total_cmp(&(a.similarity + 0.0)).then(a.id.cmp(&b.id))
}
