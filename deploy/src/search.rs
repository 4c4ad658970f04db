//! Probes and a gallery to ranked matches and the numbers of the Market-1501 protocol.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;

use ::gallery::Near;
use metrics::open_set::Fusion;
use metrics::{Distances, JUNK, Label, Matrix, RankingReport, Ranks, Rerank, Rows, nearer, rerank};
use rayon::prelude::*;

use crate::DeployError;
use crate::gallery::{Embeddings, Gallery, Persons, Template};
use crate::identity::People;
use crate::twins;

/// Most entries of a probe that are re-ranked; each is compared with each.
pub const MOST_RERANKED: usize = 4096;

/// Most probes and entries that are re-ranked all together; each is compared with each.
pub const MOST_RERANKED_TOGETHER: usize = 1 << 17;

/// Most hits, or right entries, of the probes that are looked at together; they take 64 MiB.
const TOGETHER: usize = 1 << 22;

/// Most probes that are looked at together.
const PROBES: usize = 1024;

/// Entries with at least this similarity may be the probe itself. Other batch sizes change a similarity by less.
const TWIN: f32 = 1.0 - 1e-4;

/// Most entries of a probe that are checked for being the probe itself.
const TWINS: usize = 64;

/// A gallery entry found for a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Row of the gallery.
    pub row: usize,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
    /// Distance after re-ranking, which then is the order; smaller is closer.
    pub reranked: Option<f32>,
    /// Templates whose similarities were fused into this one; `None` for the similarity of one template, and for the
    /// largest of a person's where they are not [`listed`](Ask::listed).
    pub templates: Option<usize>,
}

/// What a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// An entry.
    #[default]
    Template,
    /// A person, with the similarities of all templates fused into one, and the nearest template to show. Entries of
    /// nobody who has a name are each by themselves.
    Subject(Fusion),
}

/// What is re-ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The nearest entries of each probe, with that probe alone, so that its answer does not depend on other probes.
    /// The remaining entries keep their order. At most [`MOST_RERANKED`].
    Nearest(NonZeroUsize),
    /// All probes and entries together, as published. At most [`MOST_RERANKED_TOGETHER`].
    Everyone,
}

/// What to search for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Matches per probe.
    pub k: usize,
    /// Lowest similarity of a match.
    pub min_similarity: Option<f32>,
    /// Order by k-reciprocal re-ranking instead of by cosine.
    pub rerank: Option<Scope>,
    /// Whether entries that the protocol excludes (junk, and the same person in the same camera) are no matches.
    pub counted_only: bool,
    /// What a match is. People are not re-ranked.
    pub by: By,
    /// Each probe becomes its mean with so many of the nearest entries before it is searched for (average query
    /// expansion, Chum et al. 2007); 0 leaves it as it is.
    pub expand: usize,
    /// Templates that are listed of each person found, the most similar ones; 0 lists none.
    pub listed: usize,
}

impl Ask {
    /// Number of pairs of rows that are compared.
    pub fn comparisons(&self, probes: usize, rows: usize) -> u64 {
        let square = |rows: usize| (rows as u64).saturating_mul(rows as u64);
        let all = (probes as u64).saturating_mul(rows as u64);
        match self.rerank {
            None => all,
            Some(Scope::Nearest(n)) => all.saturating_add((probes as u64).saturating_mul(square(n.get().min(rows)))),
            Some(Scope::Everyone) => square(probes.saturating_add(rows)),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Ranked {
    /// Matches of each probe, best first.
    pub matches: Vec<Vec<Match>>,
    /// The [`listed`](Ask::listed) templates of each of the matches, best first.
    pub templates: Vec<Vec<Vec<Near>>>,
    /// CMC, mAP and mINP over the probes that can be scored, without the entries that are the probe itself.
    pub report: RankingReport,
    /// Ranks of the right entries of each probe, from 1; none if it cannot be scored.
    pub ranks: Vec<Vec<usize>>,
    /// Probes that are in the gallery themselves.
    pub themselves: usize,
    /// Who counts as a person.
    pub people: People,
    /// Labels that CMC and mAP are computed with.
    pub labels: Labels,
}

/// Finds the best entries of each probe, and computes CMC and mAP where it is known who is on the probes. With `twins`,
/// entries that are the probe itself are looked for: these are matches, but do not count in CMC and mAP. `compared` is
/// called with numbers of compared pairs.
///
/// # Errors
/// If the gallery cannot be read, its rows have another length, or more is to be re-ranked than is allowed.
pub fn rank(
    probes: &Embeddings,
    gallery: &Gallery,
    ask: &Ask,
    twins: bool,
    compared: impl Fn(usize),
) -> Result<Ranked, DeployError> {
    let count = gallery.count()?;
    match ask.rerank {
        Some(Scope::Nearest(n)) if n.get() > MOST_RERANKED => {
            return Err(DeployError::RerankTop { n: n.get(), most: MOST_RERANKED });
        }
        Some(Scope::Everyone) if probes.templates.len() + count > MOST_RERANKED_TOGETHER => {
            let (probes, rows) = (probes.templates.len(), count);
            return Err(DeployError::RerankAll { probes, rows, most: MOST_RERANKED_TOGETHER });
        }
        _ => {}
    }
    let expanded;
    let probes = match ask.expand {
        0 => probes,
        k => {
            expanded = Embeddings { values: expanded_by(k, probes, gallery)?, ..probes.clone() };
            &expanded
        }
    };
    let people = gallery.people(&probes.templates)?;
    let labels = Labels::of(probes, gallery, &people, ask.counted_only)?;
    let persons = match ask.by {
        By::Template => Persons::default(),
        By::Subject(_) => gallery.persons()?,
    };
    let search = Search { probes, rows: probes.view()?, gallery, count, labels, ask, twins, persons };
    let found = match ask.rerank {
        Some(Scope::Everyone) => search.reranked_together(&compared)?,
        _ => search.by_cosine(&compared)?,
    };
    let (mut matches, mut templates, mut ranks, mut themselves) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for one in found {
        matches.push(one.matches);
        templates.push(one.templates);
        ranks.push(one.ranks);
        themselves += usize::from(one.is_there);
    }
    let labels = search.labels;
    let report = RankingReport::of(&labels.probes, &ranks, count);
    Ok(Ranked { matches, templates, report, ranks, themselves, people, labels })
}

/// The probes, each with the `k` nearest entries added, of unit length.
fn expanded_by(k: usize, probes: &Embeddings, gallery: &Gallery) -> Result<Vec<f32>, DeployError> {
    let rows = probes.view()?;
    let mut values = Vec::with_capacity(probes.values.len());
    for start in (0..rows.rows()).step_by(PROBES) {
        let chunk = rows.slice(start..rows.rows().min(start + PROBES));
        for (probe, hits) in gallery.nearest(chunk, k, None)?.into_iter().enumerate() {
            let near: Vec<usize> = hits.iter().map(|hit| hit.row).collect();
            let entries = gallery.vectors(&near)?;
            values.extend(metrics::expanded(chunk.row(probe), entries.chunks_exact(rows.cols().max(1))));
        }
    }
    Ok(values)
}

/// Labels of probes and entries for the Market-1501 protocol; [`metrics::JUNK`] for those that do not count.
#[derive(Debug)]
pub struct Labels {
    /// Of each probe.
    pub probes: Vec<Label>,
    /// Of each row of the gallery; none where they decide nothing.
    pub entries: Vec<Label>,
    /// Those rows, in order.
    rows: Vec<usize>,
    /// Rows of each identity that counts and is on a probe.
    rows_of: HashMap<i64, Vec<usize>>,
}

impl Labels {
    /// Those of the entries are only looked at if a probe has an entry that may be right, or if they are `needed`.
    fn of(probes: &Embeddings, gallery: &Gallery, people: &People, needed: bool) -> Result<Self, DeployError> {
        let label = |of: &Template| people.probe_label(&of.identity, of.camera);
        let own: Vec<Label> = probes.templates.iter().map(label).collect();
        let (mut rows, mut entries, mut rows_of) = (Vec::new(), Vec::new(), HashMap::<i64, Vec<usize>>::new());
        if needed || probes.templates.iter().any(|probe| people.has(&probe.identity)) {
            (rows, entries) = gallery.labels(people)?.into_iter().unzip();
            // Of a large gallery's people only a few are asked for.
            rows_of.extend(own.iter().filter(|own| own.identity != JUNK).map(|own| (own.identity, Vec::new())));
            for (row, label) in rows.iter().zip(&entries) {
                if let Some(rows) = rows_of.get_mut(&label.identity) {
                    rows.push(*row);
                }
            }
        }
        Ok(Self { probes: own, rows, entries, rows_of })
    }

    /// Whether an entry is right for a probe; `None` if it does not count.
    fn judge(&self, probe: usize, row: usize) -> Option<bool> {
        // Places of rows are mostly their numbers.
        let at = match self.rows.get(row) {
            Some(own) if *own == row => row,
            _ => self.rows.binary_search(&row).ok()?,
        };
        self.probes[probe].judge(self.entries[at])
    }

    /// Rows that may be right for a probe.
    fn rows_of(&self, probe: usize) -> &[usize] {
        self.rows_of.get(&self.probes[probe].identity).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What was found for a probe.
struct Found {
    matches: Vec<Match>,
    /// Of each match, those that are listed.
    templates: Vec<Vec<Near>>,
    /// Ranks of its right entries, from 1; none if it is not scored.
    ranks: Vec<usize>,
    /// Whether it is in the gallery itself.
    is_there: bool,
}

/// A probe whose hits are known.
struct Look {
    hits: Vec<Near>,
    /// Rows that are the probe itself.
    own: Vec<usize>,
    /// Its right entries by cosine, best first.
    right: Vec<Near>,
}

struct Search<'a> {
    probes: &'a Embeddings,
    rows: Rows<'a>,
    gallery: &'a Gallery,
    /// Rows of the gallery.
    count: usize,
    labels: Labels,
    ask: &'a Ask,
    twins: bool,
    /// Where matches are people.
    persons: Persons,
}

impl Search<'_> {
    /// Hits of each probe that are looked at.
    fn hits(&self) -> usize {
        let wanted = match self.ask.rerank {
            Some(Scope::Nearest(n)) => n.get(),
            _ => self.ask.k,
        };
        wanted.max(if self.twins { TWINS } else { 0 }).min(self.count)
    }

    /// Groups of probes that are looked at together.
    fn chunks(&self) -> Vec<Range<usize>> {
        let (mut chunks, mut held) = (Vec::<Range<usize>>::new(), 0);
        for probe in 0..self.rows.rows() {
            let more = self.labels.rows_of(probe).len() + self.hits();
            match chunks.last_mut() {
                Some(chunk) if held + more <= TOGETHER && chunk.len() < PROBES => {
                    chunk.end = probe + 1;
                    held += more;
                }
                _ => {
                    chunks.push(probe..probe + 1);
                    held = more;
                }
            }
        }
        chunks
    }

    /// By cosine, then the nearest entries by re-ranking if asked for.
    fn by_cosine(&self, compared: &impl Fn(usize)) -> Result<Vec<Found>, DeployError> {
        let mut found = Vec::with_capacity(self.rows.rows());
        for chunk in self.chunks() {
            let probes = self.rows.slice(chunk.clone());
            // Who may be the probe itself, and what is re-ranked, is looked at whatever is asked for.
            let min = self.ask.min_similarity.filter(|_| self.ask.rerank.is_none() && !self.twins);
            let hits = self.gallery.nearest(probes, self.hits(), min)?;
            compared(probes.rows() * self.count);
            let look = |(at, hits)| self.look(chunk.start + at, hits);
            let looks = hits.into_par_iter().enumerate().map(look).collect::<Result<Vec<Look>, _>>()?;
            let ranks = self.ranks(&chunk, probes, &looks)?;
            let finish = |(at, (look, ranks))| self.finish(chunk.start + at, look, ranks);
            let done = looks.into_par_iter().zip(ranks).enumerate().map(finish);
            found.extend(done.collect::<Result<Vec<Found>, _>>()?);
        }
        Ok(found)
    }

    fn look(&self, probe: usize, hits: Vec<Near>) -> Result<Look, DeployError> {
        let own = self.own(probe, &hits)?;
        let is_right = |row: &usize| self.labels.judge(probe, *row) == Some(true) && !own.contains(row);
        let right: Vec<usize> = self.labels.rows_of(probe).iter().copied().filter(is_right).collect();
        let similarities = self.similarities(probe, &right)?;
        let mut right: Vec<Near> =
            right.into_iter().zip(similarities).map(|(row, similarity)| Near { row, similarity }).collect();
        right.sort_unstable_by(|a, b| nearer((-a.similarity, a.row), (-b.similarity, b.row)));
        Ok(Look { hits, own, right })
    }

    fn similarities(&self, probe: usize, rows: &[usize]) -> Result<Vec<f32>, DeployError> {
        let values = self.gallery.vectors(rows)?;
        let dim = self.rows.cols().max(1);
        Ok(values.chunks_exact(dim).map(|row| metrics::dot(self.rows.row(probe), row)).collect())
    }

    /// Ranks of the right entries of each probe by cosine, from 1. They are among the hits, or all entries are compared
    /// once more with the probes for which they are not.
    fn ranks(&self, chunk: &Range<usize>, probes: Rows<'_>, looks: &[Look]) -> Result<Vec<Vec<usize>>, DeployError> {
        let mut marks: Vec<Vec<Near>> = vec![Vec::new(); looks.len()];
        let mut ranks: Vec<Vec<usize>> = Vec::with_capacity(looks.len());
        for (at, look) in looks.iter().enumerate() {
            let counts =
                |near: &&Near| self.labels.judge(chunk.start + at, near.row).is_some() && !look.own.contains(&near.row);
            let rows: BTreeSet<usize> = look.right.iter().map(|right| right.row).collect();
            let counted = look.hits.iter().filter(counts).enumerate();
            let found: Vec<usize> =
                counted.filter(|(_, near)| rows.contains(&near.row)).map(|(before, _)| before + 1).collect();
            if found.len() < look.right.len() {
                marks[at].clone_from(&look.right);
            }
            ranks.push(found);
        }
        if marks.iter().all(Vec::is_empty) {
            return Ok(ranks);
        }
        let wrong = |probe: usize, row: usize| {
            self.labels.judge(chunk.start + probe, row) == Some(false) && !looks[probe].own.contains(&row)
        };
        let counts = self.gallery.nearer(probes, &marks, wrong)?;
        for ((ranks, counts), _) in ranks.iter_mut().zip(counts).zip(&marks).filter(|(_, marks)| !marks.is_empty()) {
            let mut wrong = 0;
            let rank = |(right, before): (usize, u64)| {
                wrong += before as usize;
                right + 1 + wrong
            };
            *ranks = counts.into_iter().enumerate().map(rank).collect();
        }
        Ok(ranks)
    }

    fn finish(&self, probe: usize, look: Look, ranks: Vec<usize>) -> Result<Found, DeployError> {
        let Look { hits, own, right } = look;
        let is_there = !own.is_empty();
        if let By::Subject(fusion) = self.ask.by {
            let mut matches = self.subjects(probe, hits, fusion)?;
            let templates = match self.ask.listed {
                0 => Vec::new(),
                _ => matches.iter_mut().map(|found| self.listed(probe, found)).collect::<Result<_, _>>()?,
            };
            return Ok(Found { matches, templates, ranks, is_there });
        }
        let Some(Scope::Nearest(n)) = self.ask.rerank else {
            let matches = self.shown(probe, hits)?;
            return Ok(Found { matches, templates: Vec::new(), ranks, is_there });
        };
        let hits = &hits[..hits.len().min(n.get())];
        let reranked = self.reranked(probe, hits)?;
        let counts = |row: usize| self.labels.judge(probe, row).filter(|_| !own.contains(&row));
        let counted = reranked.iter().filter_map(|found| counts(found.row));
        let mut all: Vec<usize> =
            counted.enumerate().filter(|(_, right)| *right).map(|(before, _)| before + 1).collect();
        // Right entries beyond the re-ranked ones keep their ranks.
        let beyond = right.iter().zip(ranks).filter(|(right, _)| !hits.iter().any(|hit| hit.row == right.row));
        all.extend(beyond.map(|(_, rank)| rank));
        let matches = self.wanted(probe, reranked.into_iter());
        Ok(Found { matches, templates: Vec::new(), ranks: all, is_there })
    }

    /// The first `k` hits that pass the filters. If too many hits do not count, more are looked for.
    fn shown(&self, probe: usize, mut hits: Vec<Near>) -> Result<Vec<Match>, DeployError> {
        let mut looked_at = self.hits();
        loop {
            let found =
                |hit: &Near| Match { row: hit.row, similarity: hit.similarity, reranked: None, templates: None };
            let shown = self.wanted(probe, hits.iter().map(found));
            if shown.len() >= self.ask.k || !self.ask.counted_only || hits.len() < looked_at || looked_at >= self.count
            {
                return Ok(shown);
            }
            looked_at = looked_at.saturating_mul(4).max(TWINS).min(self.count);
            let probe = self.rows.slice(probe..probe + 1);
            hits = self.gallery.nearest(probe, looked_at, self.ask.min_similarity)?.swap_remove(0);
        }
    }

    /// The nearest people. If the hits are of too few of them, more are looked for.
    fn subjects(&self, probe: usize, mut hits: Vec<Near>, fusion: Fusion) -> Result<Vec<Match>, DeployError> {
        let mut looked_at = self.hits();
        let mut known = HashMap::new();
        loop {
            let (found, complete) = self.fused(probe, &hits, fusion, &mut known)?;
            if complete || hits.len() < looked_at || looked_at >= self.count {
                return Ok(found);
            }
            looked_at = looked_at.saturating_mul(4).max(TWINS).min(self.count);
            let probe = self.rows.slice(probe..probe + 1);
            hits = self.gallery.nearest(probe, looked_at, self.ask.min_similarity)?.swap_remove(0);
        }
    }

    /// The nearest people among those of the hits, and whether nobody else can be among them. `known` has similarities
    /// of people from one call to the next.
    fn fused(
        &self,
        probe: usize,
        hits: &[Near],
        fusion: Fusion,
        known: &mut HashMap<i64, (f32, usize)>,
    ) -> Result<(Vec<Match>, bool), DeployError> {
        let (mut seen, mut found, mut complete) = (BTreeSet::new(), Vec::<Match>::new(), false);
        for hit in hits {
            // A person's mean is not above the largest: who comes later is at most as similar as this hit.
            complete = found.get(self.ask.k.wrapping_sub(1)).is_some_and(|last| last.similarity > hit.similarity);
            if complete {
                break;
            }
            let person = self.persons.of(hit.row);
            let (similarity, templates) = match (person, fusion) {
                (Some(person), _) if !seen.insert(person) => continue,
                (Some(person), Fusion::Mean) => match known.get(&person) {
                    Some(known) => *known,
                    None => {
                        let all = self.similarities(probe, &self.persons.rows(person))?;
                        let sum: f64 = all.iter().map(|one| f64::from(*one)).sum();
                        let mean = ((sum / all.len().max(1) as f64) as f32, all.len());
                        known.insert(person, mean);
                        mean
                    }
                },
                _ => (hit.similarity, 1),
            };
            let templates = (fusion == Fusion::Mean).then_some(templates);
            let before = |other: &Match| nearer((-other.similarity, other.row), (-similarity, hit.row)).is_lt();
            let at = found.partition_point(before);
            found.insert(at, Match { row: hit.row, similarity, reranked: None, templates });
        }
        Ok((self.wanted(probe, found.into_iter()), complete))
    }

    /// The most similar templates of a person that was found, whose number is noted.
    fn listed(&self, probe: usize, found: &mut Match) -> Result<Vec<Near>, DeployError> {
        let rows = self.persons.of(found.row).map_or_else(|| vec![found.row], |person| self.persons.rows(person));
        found.templates = Some(rows.len());
        let mut best = Vec::new();
        // Some at a time: one person may have as many templates as a gallery.
        for some in rows.chunks(PROBES) {
            let near = some.iter().zip(self.similarities(probe, some)?);
            best.extend(near.map(|(row, similarity)| Near { row: *row, similarity }));
            best.sort_unstable_by(|a, b| nearer((-a.similarity, a.row), (-b.similarity, b.row)));
            best.truncate(self.ask.listed);
        }
        Ok(best)
    }

    /// The nearest entries of a probe, re-ranked with it alone.
    fn reranked(&self, probe: usize, hits: &[Near]) -> Result<Vec<Match>, DeployError> {
        let rows: Vec<usize> = hits.iter().map(|hit| hit.row).collect();
        let entries = Matrix::new(self.gallery.vectors(&rows)?, hits.len(), self.rows.cols())?;
        let reranking = rerank(self.rows.slice(probe..probe + 1), &entries, &Rerank::default())?;
        let distances = reranking.each(|_, row| row.to_vec()).concat();
        let found = |(hit, distance): (&Near, &f32)| Match {
            row: hit.row,
            similarity: hit.similarity,
            reranked: Some(*distance),
            templates: None,
        };
        let mut found: Vec<Match> = hits.iter().zip(&distances).map(found).collect();
        // Stable: entries of equal distance stay in the order of their similarity.
        found.sort_by(|a, b| a.reranked.partial_cmp(&b.reranked).unwrap_or(std::cmp::Ordering::Equal));
        Ok(found)
    }

    /// The first `k` matches that pass the filters.
    fn wanted(&self, probe: usize, matches: impl Iterator<Item = Match>) -> Vec<Match> {
        let similar = |found: &Match| self.ask.min_similarity.is_none_or(|min| found.similarity >= min);
        let shown = |found: &Match| !self.ask.counted_only || self.labels.judge(probe, found.row).is_some();
        matches.filter(|found| similar(found) && shown(found)).take(self.ask.k).collect()
    }

    /// Rows that are the probe itself, in order: of those among `hits` that are shown, the same file, and of those that
    /// are very near, files of the same content.
    fn own(&self, probe: usize, hits: &[Near]) -> Result<Vec<usize>, DeployError> {
        if !self.twins {
            return Ok(Vec::new());
        }
        let near = hits.iter().take_while(|hit| hit.similarity >= TWIN).take(TWINS).count();
        let looked_at: Vec<usize> =
            hits[..near.max(self.ask.k.min(TWINS).min(hits.len()))].iter().map(|hit| hit.row).collect();
        let ours = &self.probes.templates[probe];
        let our_files = |path: &std::path::Path| self.probes.file(path);
        let mut own = Vec::new();
        for (at, theirs) in self.gallery.templates(&looked_at)?.iter().enumerate() {
            let their_files = |path: &std::path::Path| self.gallery.file(path);
            if twins::same_file(&our_files(&ours.path), &their_files(&theirs.path))
                || (at < near && twins::same_content((ours, our_files), (theirs, their_files)))
            {
                own.push(looked_at[at]);
            }
        }
        own.sort_unstable();
        Ok(own)
    }

    /// By re-ranking everyone.
    fn reranked_together(&self, compared: &impl Fn(usize)) -> Result<Vec<Found>, DeployError> {
        let rows = self.gallery.rows()?;
        let values = self.gallery.values(&rows)?;
        let entries = Rows::new(&values, rows.len(), self.rows.cols())?;
        let reranking = rerank(self.rows, entries, &Rerank::default())?;
        let all = self.rows.rows() + rows.len();
        compared(all.saturating_mul(all));
        let one = |probe: usize, distances: &[f32]| {
            let near =
                |at: usize| Near { row: rows[at], similarity: metrics::dot(self.rows.row(probe), entries.row(at)) };
            let mut hits: Vec<Near> = if self.twins { (0..rows.len()).map(near).collect() } else { Vec::new() };
            hits.sort_unstable_by(|a, b| nearer((-a.similarity, a.row), (-b.similarity, b.row)));
            let own = self.own(probe, &hits)?;
            let judge = |at: usize| self.labels.judge(probe, rows[at]).filter(|_| !own.contains(&rows[at]));
            let right = (0..rows.len()).filter(|at| judge(*at) == Some(true));
            let mut right: Vec<(f32, usize)> = right.map(|at| (distances[at], at)).collect();
            right.sort_unstable_by(|a, b| nearer(*a, *b));
            let mut among = Ranks::of(&right);
            for (at, distance) in distances.iter().enumerate().filter(|(at, _)| judge(*at) == Some(false)) {
                among.wrong(*distance, at);
            }
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_unstable_by(|a, b| nearer((distances[*a], *a), (distances[*b], *b)));
            let found = |at: usize| {
                let Near { row, similarity } = near(at);
                Match { row, similarity, reranked: Some(distances[at]), templates: None }
            };
            let matches = self.wanted(probe, order.into_iter().map(found));
            Ok(Found { matches, templates: Vec::new(), ranks: among.right_ranks(), is_there: !own.is_empty() })
        };
        reranking.each(one).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use metrics::cosine_distance;

    use super::*;
    use crate::identity::Identity;

    /// Rows of people on a coarse grid, so that some are equal; every fourth entry is nobody's.
    fn crowd(name: &str, rows: usize) -> Embeddings {
        let values = contract::fill::fill(&format!("input.{name}"), &[rows, 6]);
        let values: Vec<f32> = values.iter().map(|value| (value * 2.0).round() + 0.1).collect();
        let template = |row: usize| Template {
            path: format!("{name}/{row}").into(),
            identity: match row % 4 {
                0 => [Identity::Junk, Identity::Distractor][row / 4 % 2].clone(),
                _ => Identity::by_file(format!("{}", row % 5)),
            },
            camera: Some(row as u32 % 3),
            ..Template::default()
        };
        Embeddings {
            values: contract::embedding::embed(&values, &[], 6, 1),
            dim: 6,
            templates: (0..rows).map(template).collect(),
            folder: Default::default(),
        }
    }

    fn labels(probes: &Embeddings, gallery: &Gallery) -> Labels {
        Labels::of(probes, gallery, &gallery.people(&probes.templates).unwrap(), true).unwrap()
    }

    fn ask(k: usize) -> Ask {
        Ask { k, ..Ask::default() }
    }

    fn rows(matches: &[Vec<Match>]) -> Vec<Vec<usize>> {
        matches.iter().map(|matches| matches.iter().map(|found| found.row).collect()).collect()
    }

    /// The entries of a probe in the order of `distance`, by a full sort.
    fn sorted(distance: &Matrix) -> Vec<Vec<usize>> {
        let one = |probe: usize| {
            let mut order: Vec<usize> = (0..distance.cols()).collect();
            order.sort_by(|a, b| distance.row(probe)[*a].partial_cmp(&distance.row(probe)[*b]).unwrap());
            order
        };
        (0..distance.rows()).map(one).collect()
    }

    #[test]
    fn matches_and_numbers_are_those_of_a_full_sort() {
        let (probes, rows_there) = (crowd("probes", 23), crowd("gallery", 200));
        let gallery = Gallery::of(rows_there.clone());
        let labels = labels(&probes, &gallery);
        let found = rank(&probes, &gallery, &ask(9), false, |_| ()).unwrap();
        let similarity = |probe: usize, row: usize| metrics::dot(probes.row(probe), rows_there.row(row));
        for (probe, found) in rows(&found.matches).into_iter().enumerate() {
            let mut wanted: Vec<usize> = (0..200).collect();
            wanted.sort_by(|a, b| nearer((-similarity(probe, *a), *a), (-similarity(probe, *b), *b)));
            assert_eq!(found, wanted[..9]);
        }
        // Exact in the similarities, which `1 - similarity` rounds.
        let cosine = cosine_distance(probes.view().unwrap(), rows_there.view().unwrap()).unwrap();
        let report = metrics::rank(&cosine, &labels.probes, &labels.entries).unwrap();
        assert!(report.valid_queries > 9 && (found.report.map - report.map).abs() < 1e-3, "{report:?}");
        assert_eq!(found.report.valid_queries, report.valid_queries);

        let least = Ask { min_similarity: Some(0.7), ..ask(200) };
        let found = rank(&probes, &gallery, &least, false, |_| ()).unwrap();
        assert!(found.matches.iter().flatten().all(|found| found.similarity >= 0.7));
        let counted = Ask { counted_only: true, ..ask(200) };
        let found = rank(&probes, &gallery, &counted, false, |_| ()).unwrap();
        for (probe, matches) in found.matches.iter().enumerate() {
            let counts = |row: &usize| labels.judge(probe, *row).is_some();
            assert_eq!(matches.len(), (0..200).filter(counts).count());
        }
    }

    #[test]
    fn everyone_is_re_ranked_as_published() {
        let (probes, rows_there) = (crowd("probes", 23), crowd("gallery", 200));
        let gallery = Gallery::of(rows_there.clone());
        let labels = labels(&probes, &gallery);
        let everyone = Ask { rerank: Some(Scope::Everyone), ..ask(200) };
        let found = rank(&probes, &gallery, &everyone, false, |_| ()).unwrap();
        let distance = rerank(probes.view().unwrap(), rows_there.view().unwrap(), &Rerank::default()).unwrap();
        assert_eq!(found.report, metrics::rank(&distance, &labels.probes, &labels.entries).unwrap());
        assert_eq!(rows(&found.matches), sorted(&distance.matrix()));
        let plain = rank(&probes, &gallery, &ask(200), false, |_| ()).unwrap();
        assert_ne!(rows(&plain.matches), rows(&found.matches));
        assert_ne!(plain.report.map, found.report.map);
    }

    /// The nearest entries of each probe are those of a plain search, in the order that re-ranking this probe with them
    /// alone gives; those behind stay. Numbers follow the whole order.
    #[test]
    fn the_nearest_are_re_ranked_and_the_others_stay() {
        let (probes, rows_there) = (crowd("probes", 23), crowd("gallery", 200));
        let gallery = Gallery::of(rows_there.clone());
        let labels = labels(&probes, &gallery);
        let plain = rows(&rank(&probes, &gallery, &ask(200), false, |_| ()).unwrap().matches);
        for n in [1, 2, 30, 200, 500] {
            let nearest = Ask { rerank: Some(Scope::Nearest(NonZeroUsize::new(n).unwrap())), ..ask(500) };
            let found = rank(&probes, &gallery, &nearest, false, |_| ()).unwrap();
            let mut ranks = Vec::new();
            for (probe, plain) in plain.iter().enumerate() {
                let n = n.min(200);
                let values: Vec<f32> = plain[..n].iter().flat_map(|row| rows_there.row(*row)).copied().collect();
                let one = Matrix::new(probes.row(probe).to_vec(), 1, 6).unwrap();
                let distance = rerank(&one, &Matrix::new(values, n, 6).unwrap(), &Rerank::default()).unwrap().matrix();
                let mut order: Vec<usize> = sorted(&distance)[0].iter().map(|at| plain[*at]).collect();
                assert_eq!(rows(&found.matches)[probe], order, "{n} nearest of probe {probe}");
                order.extend(&plain[n..]);
                let counts = |row: &usize| labels.judge(probe, *row);
                let counted = order.iter().filter_map(counts).enumerate();
                let right = counted.filter(|(_, right)| *right && labels.probes[probe].identity != JUNK);
                ranks.push(right.map(|(before, _)| before + 1).collect());
            }
            assert_eq!(found.report, RankingReport::of(&labels.probes, &ranks, 200), "{n}");
            assert_eq!(found.ranks, ranks);
            let moved = rows(&found.matches).iter().zip(&plain).any(|(found, plain)| found[..] != plain[..found.len()]);
            assert_eq!(moved, n > 2, "re-ranking changes the order");
        }
    }

    #[test]
    fn the_least_similarity_comes_before_the_cut() {
        let (probes, rows_there) = (crowd("probes", 23), crowd("gallery", 200));
        let gallery = Gallery::of(rows_there.clone());
        for rerank in [None, Some(Scope::Everyone), Some(Scope::Nearest(NonZeroUsize::new(200).unwrap()))] {
            let all = rank(&probes, &gallery, &Ask { rerank, ..ask(200) }, false, |_| ()).unwrap().matches;
            let few = Ask { rerank, min_similarity: Some(0.5), ..ask(3) };
            let few = rank(&probes, &gallery, &few, false, |_| ()).unwrap().matches;
            for (all, few) in all.iter().zip(&few) {
                let wanted: Vec<Match> = all.iter().filter(|found| found.similarity >= 0.5).take(3).copied().collect();
                assert_eq!(*few, wanted, "{rerank:?}");
            }
        }
    }

    #[test]
    fn too_much_is_refused_with_numbers() {
        let (probes, gallery) = (crowd("probes", 3), Gallery::of(crowd("gallery", 9)));
        let nearest = Ask { rerank: Some(Scope::Nearest(NonZeroUsize::new(MOST_RERANKED + 1).unwrap())), ..ask(1) };
        let error = rank(&probes, &gallery, &nearest, false, |_| ()).unwrap_err().to_string();
        assert!(error.contains("4097") && error.contains("1 to 4096"), "{error}");
        let (dim, templates, folder) = (0, vec![Template::default(); MOST_RERANKED_TOGETHER], Default::default());
        let many = Embeddings { values: vec![], dim, templates, folder };
        let one = Embeddings { templates: vec![Template::default()], ..many.clone() };
        let everyone = Ask { rerank: Some(Scope::Everyone), ..ask(1) };
        let error = rank(&one, &Gallery::of(many), &everyone, false, |_| ()).unwrap_err().to_string();
        assert!(error.contains("131072 entries") && error.contains("--rerank-top N"), "{error}");
    }

    /// People in the order of their largest or mean similarity, each once, however many templates come first.
    #[test]
    fn people_are_found_once_by_their_fused_similarity() {
        let (probes, here) = (crowd("probes", 23), crowd("gallery", 200));
        let gallery = Gallery::of(here.clone());
        for fusion in [Fusion::Max, Fusion::Mean] {
            for (k, min_similarity) in [(1, None), (3, None), (300, None), (300, Some(0.4)), (2, Some(0.4))] {
                let ask = Ask { k, min_similarity, by: By::Subject(fusion), ..Ask::default() };
                let found = rank(&probes, &gallery, &ask, false, |_| ()).unwrap();
                assert!(found.templates.iter().all(Vec::is_empty), "none are asked for");
                let with = rank(&probes, &gallery, &Ask { listed: 3, ..ask.clone() }, false, |_| ()).unwrap();
                for (probe, found) in found.matches.iter().enumerate() {
                    let mut people: HashMap<String, Vec<(f32, usize)>> = HashMap::new();
                    for (row, template) in here.templates.iter().enumerate() {
                        let name = match &template.identity {
                            Identity::Person(name) => name.text.clone(),
                            _ => format!("row {row}"),
                        };
                        people.entry(name).or_default().push((metrics::dot(probes.row(probe), here.row(row)), row));
                    }
                    let fused = |rows: &Vec<(f32, usize)>| {
                        let best = *rows.iter().min_by(|a, b| nearer((-a.0, a.1), (-b.0, b.1))).unwrap();
                        let sum: f64 = rows.iter().map(|(one, _)| f64::from(*one)).sum();
                        let mean = (sum / rows.len() as f64) as f32;
                        (if fusion == Fusion::Max { best.0 } else { mean }, best.1)
                    };
                    assert_eq!(with.matches[probe].len(), found.len());
                    for (at, listed) in with.templates[probe].iter().enumerate() {
                        let one = with.matches[probe][at];
                        assert_eq!((one.row, one.similarity), (found[at].row, found[at].similarity));
                        let is_own = |rows: &&Vec<(f32, usize)>| rows.iter().any(|(_, row)| *row == one.row);
                        let mut own = people.values().find(is_own).unwrap().clone();
                        own.sort_by(|a, b| nearer((-a.0, a.1), (-b.0, b.1)));
                        assert_eq!(one.templates, Some(own.len()));
                        let listed: Vec<(f32, usize)> = listed.iter().map(|one| (one.similarity, one.row)).collect();
                        assert_eq!(listed, own[..own.len().min(3)], "{fusion:?}");
                    }
                    let mut wanted: Vec<(f32, usize)> = people.values().map(fused).collect();
                    wanted.sort_by(|a, b| nearer((-a.0, a.1), (-b.0, b.1)));
                    wanted.retain(|(one, _)| min_similarity.is_none_or(|min| *one >= min));
                    wanted.truncate(k);
                    let found: Vec<(f32, usize)> = found.iter().map(|one| (one.similarity, one.row)).collect();
                    assert_eq!(found, wanted, "{fusion:?}, k {k}, at least {min_similarity:?}");
                }
            }
        }
    }

    #[test]
    fn an_expanded_probe_is_the_mean_with_its_nearest_entries() {
        let (probes, here) = (crowd("probes", 3), crowd("gallery", 50));
        let gallery = Gallery::of(here.clone());
        let plain = rank(&probes, &gallery, &ask(2), false, |_| ()).unwrap();
        let wanted: Vec<f32> = (0..3)
            .flat_map(|probe| {
                let rows = plain.matches[probe].iter().map(|found| here.row(found.row));
                let sum: Vec<f32> = rows.fold(probes.row(probe).to_vec(), |sum, row| {
                    sum.iter().zip(row).map(|(sum, value)| sum + value).collect()
                });
                contract::embedding::embed(&sum, &[], 6, 1)
            })
            .collect();
        let expanded = expanded_by(2, &probes, &gallery).unwrap();
        assert!(expanded.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-6));
        let probes_then = Embeddings { values: expanded, ..probes.clone() };
        let then = rank(&probes_then, &gallery, &ask(9), false, |_| ()).unwrap();
        let at_once = rank(&probes, &gallery, &Ask { expand: 2, ..ask(9) }, false, |_| ()).unwrap();
        assert_eq!(then.matches, at_once.matches);
    }

    /// A gallery on disk answers as one in memory does, with every kind of ask.
    #[test]
    fn a_stored_gallery_answers_as_one_in_memory() {
        let (probes, here) = (crowd("probes", 23), crowd("gallery", 200));
        let folder = tempfile::tempdir().unwrap();
        let model = ::gallery::Model { contract_id: "tiny".into(), dim: 6, ..Default::default() };
        let store = ::gallery::Store::create(folder.path(), &model).unwrap();
        store.change(|changes| crate::gallery::enrol(changes, &here)).unwrap();
        let stored = Gallery::open(folder.path()).unwrap();
        assert_eq!(stored.load().unwrap().values, here.values);
        assert_eq!(stored.load().unwrap().templates, here.templates);
        let here = Gallery::of(here);
        let n = NonZeroUsize::new(30).unwrap();
        for rerank in [None, Some(Scope::Nearest(n)), Some(Scope::Everyone)] {
            for (k, min_similarity, counted_only) in [(9, None, false), (200, Some(0.6), true), (3, None, true)] {
                let ask = Ask { k, min_similarity, rerank, counted_only, ..Ask::default() };
                let [stored, here] = [&stored, &here].map(|one| rank(&probes, one, &ask, false, |_| ()).unwrap());
                // Ids begin at 1.
                let places = |matches: &Vec<Vec<Match>>| -> Vec<Vec<Match>> {
                    let place = |found: &Match| Match { row: found.row - 1, ..*found };
                    matches.iter().map(|matches| matches.iter().map(place).collect()).collect()
                };
                assert_eq!(places(&stored.matches), here.matches, "{ask:?}");
                assert_eq!(stored.report, here.report, "{ask:?}");
            }
        }
    }
}
