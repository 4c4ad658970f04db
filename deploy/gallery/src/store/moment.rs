use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Rows;
use rayon::prelude::*;

use crate::catalogue::{Catalogue, Facts};
#[cfg(feature = "ann")]
use crate::engine::best_first;
use crate::engine::evenly;
use crate::scan::{self, Source};
#[cfg(feature = "ann")]
use crate::segment::Graph;
use crate::segment::{BadRow, Codes, Record, Reduced, Segment};
use crate::template::check_rows;
use crate::turn::Turn;
use crate::{Ask, Columns, Filter, GalleryError, Hit, Snapshot, Template, TemplateId};

/// A store at one moment: a read transaction of the catalogue and the rows that it names.
#[derive(Debug)]
pub(super) struct Moment {
    folder: PathBuf,
    facts: Facts,
    /// What renewable templates are turned by.
    turn: Option<Arc<Turn>>,
    /// In its transaction.
    catalogue: Mutex<Catalogue>,
    parts: Vec<Part>,
    /// Rows that were removed since, as (part, row).
    gone: Mutex<BTreeSet<(usize, usize)>>,
    /// What passed the last filter.
    passed: Mutex<Option<Passed>>,
    /// Rows do not stay in memory when they were compared.
    once: AtomicBool,
}

/// Rows of each part, as runs.
type Runs = Vec<Vec<Range<usize>>>;

/// The rows that pass a filter, but for those that are gone by a number of rows.
#[derive(Debug)]
struct Passed {
    filter: Filter,
    gone: usize,
    runs: Arc<Runs>,
}

/// What a segment has for a snapshot.
pub(super) struct RowsOf<'a> {
    pub(super) segment: Arc<Segment>,
    pub(super) reduced: Option<Arc<Reduced>>,
    /// Templates of it that are removed, in order.
    pub(super) dead: &'a [TemplateId],
}

#[derive(Debug)]
struct Part {
    segment: Arc<Segment>,
    /// Its copy in eight bits, which may be shorter.
    reduced: Option<Arc<Reduced>>,
    /// Rows of templates that were removed before, in order.
    dead: Vec<usize>,
}

/// A filter in the numbers of the catalogue.
struct Numbers {
    subjects: Option<Vec<u32>>,
    cameras: Option<Vec<u32>>,
    from: Option<i64>,
    until: Option<i64>,
    tags: u64,
}

impl Numbers {
    fn passes(&self, record: &Record) -> bool {
        let one_of =
            |list: &Option<Vec<u32>>, own: u32| list.as_ref().is_none_or(|list| list.binary_search(&own).is_ok());
        let no_time = record.taken == Record::NO_TIME;
        one_of(&self.subjects, record.subject)
            && one_of(&self.cameras, record.camera)
            && self.from.is_none_or(|from| !no_time && record.taken >= from)
            && self.until.is_none_or(|until| !no_time && record.taken < until)
            && record.tags & self.tags == self.tags
    }
}

/// A row of a part that is not what was written.
pub(super) struct Bad {
    part: usize,
    row: BadRow,
}

impl Moment {
    pub(super) fn new(
        folder: PathBuf,
        (facts, turn): (Facts, Option<Arc<Turn>>),
        catalogue: Catalogue,
        rows: &[RowsOf<'_>],
    ) -> Result<Self, GalleryError> {
        let part = |RowsOf { segment, reduced, dead }: &RowsOf<'_>| {
            let find = |id: &TemplateId| {
                let lost =
                    || GalleryError::damaged(&folder, format!("removed template {} is in none of its rows", id.0));
                segment.find(*id).ok_or_else(lost)
            };
            let dead = dead.iter().map(find).collect::<Result<_, _>>()?;
            Ok(Part { segment: Arc::clone(segment), reduced: reduced.clone(), dead })
        };
        let parts = rows.iter().map(part).collect::<Result<_, GalleryError>>()?;
        Ok(Self {
            folder,
            facts,
            turn,
            catalogue: Mutex::new(catalogue),
            parts,
            gone: Mutex::default(),
            passed: Mutex::default(),
            once: AtomicBool::new(false),
        })
    }

    /// Probes as rows are stored.
    fn stored<'a>(&self, probes: Rows<'a>, turned: &'a mut Vec<f32>) -> Rows<'a> {
        let Some(turn) = &self.turn else { return probes };
        *turned = turn.turned(probes);
        Rows::new(turned, probes.rows(), probes.cols()).expect("as many values")
    }

    fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<(usize, usize)>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` until no row turns out to have been removed meanwhile.
    fn steady<T>(&self, mut work: impl FnMut() -> Result<T, Bad>) -> Result<T, GalleryError> {
        loop {
            match work() {
                Ok(done) => return Ok(done),
                Err(bad) => self.note(bad)?,
            }
        }
    }

    /// Leaves out a row that is not what was written, if that is because it was removed since; otherwise it is damaged.
    fn note(&self, bad: Bad) -> Result<(), GalleryError> {
        let Bad { part, row: BadRow { row, id, error } } = bad;
        // A damaged record may have any id: it must be one of this place.
        let own = self.parts[part].segment.find(id) == Some(row) && self.catalogue().has(id)?;
        let removed = own && !Catalogue::open(&self.folder, false)?.has(id)?;
        if removed && self.gone().insert((part, row)) { Ok(()) } else { Err(error) }
    }

    /// The rows that pass, by part. Searches often follow each other with one filter, which is then looked at once.
    fn runs(&self, filter: &Filter) -> Result<Arc<Runs>, GalleryError> {
        let passed = || self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = self.gone().len();
        if let Some(known) = passed().as_ref().filter(|known| known.gone == gone && known.filter == *filter) {
            return Ok(Arc::clone(&known.runs));
        }
        let numbers = self.numbers(filter)?;
        let (runs, gone) = self.steady(|| {
            let gone = self.gone().clone();
            let runs = |(at, part): (usize, &Part)| {
                let mut left_out = part.dead.clone();
                left_out.extend(gone.range((at, 0)..(at + 1, 0)).map(|(_, row)| *row));
                left_out.sort_unstable();
                let whole = spaces(&left_out, part.segment.rows());
                match &numbers {
                    None => Ok(Vec::new()),
                    Some(None) => Ok(whole),
                    Some(Some(numbers)) => part.passing(&whole, numbers).map_err(|row| Bad { part: at, row }),
                }
            };
            Ok((self.parts.iter().enumerate().map(runs).collect::<Result<Runs, Bad>>()?, gone.len()))
        })?;
        let runs = Arc::new(runs);
        // All rows are found as fast again.
        if *filter != Filter::default() {
            *passed() = Some(Passed { filter: filter.clone(), gone, runs: Arc::clone(&runs) });
        }
        Ok(runs)
    }

    /// The rows that are searched. One that others removed since has values of no meaning until its checksum says so.
    fn scanned<'a>(&'a self, runs: &'a [Vec<Range<usize>>]) -> Vec<scan::Part<'a>> {
        let parts = self.parts.iter().zip(runs);
        parts.map(|(part, runs)| scan::Part { values: part.segment.values(), runs: runs.into() }).collect()
    }

    /// The template of a row.
    fn id(&self, part: usize, row: usize) -> Result<TemplateId, Bad> {
        self.parts[part].segment.record(row).map(|record| record.id).map_err(|row| Bad { part, row })
    }

    /// The filter in numbers: none if nobody can pass, none inside if everybody does.
    fn numbers(&self, filter: &Filter) -> Result<Option<Option<Numbers>>, GalleryError> {
        if *filter == Filter::default() {
            return Ok(Some(None));
        }
        let catalogue = self.catalogue();
        let sorted = |mut list: Vec<u32>| {
            list.sort_unstable();
            list
        };
        let numbers = |names: &Vec<String>| catalogue.subject_numbers(names);
        let subjects = filter.subjects.as_ref().map(numbers).transpose()?;
        let subjects = subjects.map(|numbers| numbers.into_iter().flatten().collect());
        let known = catalogue.tags()?;
        let mut tags = 0;
        for tag in &filter.tags {
            let Some((bit, _)) = known.iter().find(|(_, name)| name == tag) else { return Ok(None) };
            tags |= 1 << bit;
        }
        // The number that stands for no camera is none.
        let cameras = filter
            .cameras
            .clone()
            .map(|cameras| sorted(cameras.into_iter().filter(|camera| *camera != Record::NO_CAMERA).collect()));
        let (from, until) = (filter.from, filter.until);
        Ok(Some(Some(Numbers { subjects: subjects.map(sorted), cameras, from, until, tags })))
    }

    /// The nearest of some rows of each part.
    fn nearest(&self, runs: &[Vec<Range<usize>>], probes: Rows<'_>, ask: &Ask) -> Result<Vec<Vec<Hit>>, Bad> {
        let found = scan::nearest(self, &self.scanned(runs), probes, ask.k, ask.min_similarity)?;
        let hit = |found: &scan::Found| Ok(Hit { id: self.id(found.part, found.row)?, similarity: found.similarity });
        found.iter().map(|found| found.iter().map(hit).collect()).collect()
    }

    /// Part and row of a template.
    fn find(&self, id: TemplateId) -> Option<(usize, usize)> {
        let found = |(at, part): (usize, &Part)| part.segment.find(id).map(|row| (at, row));
        let (at, row) = self.parts.iter().enumerate().find_map(found)?;
        self.parts[at].dead.binary_search(&row).is_err().then_some((at, row))
    }

    /// The values of a row. One that was removed since is a bad row, which [`Moment::note`] leaves out.
    fn row(&self, part: usize, row: usize) -> Result<Vec<f32>, Bad> {
        let (record, values) = self.parts[part].segment.checked_row(row).map_err(|row| Bad { part, row })?;
        if record.erased {
            let id = record.id;
            let problem = format!("segment {}: template {} is overwritten", self.parts[part].segment.number(), id.0);
            let error = GalleryError::damaged(&self.folder, problem);
            return Err(Bad { part, row: BadRow { row, id, error } });
        }
        Ok(values)
    }
}

/// What an approximate search needs.
#[cfg(feature = "ann")]
impl Moment {
    pub(super) fn dim(&self) -> usize {
        self.facts.model.dim
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = (&Segment, Option<&Reduced>)> {
        self.parts.iter().map(|part| (&*part.segment, part.reduced.as_deref()))
    }

    /// Hits along the graphs of the parts, and exact ones among the rows that are in none.
    pub(super) fn approximate(
        &self,
        graphs: &[Option<Arc<Graph>>],
        probes: Rows<'_>,
        ask: &Ask,
        effort: usize,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let mut turned = Vec::new();
        let probes = self.stored(probes, &mut turned);
        loop {
            let runs = self.runs(&ask.filter)?;
            match self.walk(graphs, &runs, probes, ask, effort) {
                Ok(hits) => return Ok(hits),
                Err(bad) => self.note(bad)?,
            }
        }
    }

    fn walk(
        &self,
        graphs: &[Option<Arc<Graph>>],
        runs: &[Vec<Range<usize>>],
        probes: Rows<'_>,
        ask: &Ask,
        effort: usize,
    ) -> Result<Vec<Vec<Hit>>, Bad> {
        let rest = |(graph, runs): (&Option<Arc<Graph>>, &Vec<Range<usize>>)| {
            let start = graph.as_ref().map_or(0, |graph| graph.rows());
            let rest = runs.iter().map(|run| run.start.max(start)..run.end);
            rest.filter(|run| !run.is_empty()).collect::<Vec<_>>()
        };
        let rest: Vec<Vec<Range<usize>>> = graphs.iter().zip(runs).map(rest).collect();
        let mut found = self.nearest(&rest, probes, ask)?;
        let walk = |(probe, found): (usize, &mut Vec<Hit>)| -> Result<(), Bad> {
            let probe = probes.slice(probe..probe + 1);
            for (at, (part, graph)) in self.parts.iter().zip(graphs).enumerate() {
                let Some(graph) = graph else { continue };
                let codes = |row| part.reduced.as_ref()?.trusted(&part.segment, row..row + 1);
                let passes = |row: u32| {
                    let run = runs[at].partition_point(|run| run.end <= row as usize);
                    runs[at].get(run).is_some_and(|run| run.contains(&(row as usize)))
                };
                let steps = scan::walk(graph, probe, effort, codes, passes);
                let passing: usize =
                    runs[at].iter().map(|run| run.end.min(graph.rows()).saturating_sub(run.start)).sum();
                // A copy that cannot be relied on, or a graph that does not lead anywhere.
                let Some(steps) = steps.filter(|steps| steps.len() >= ask.k.min(passing)) else {
                    *found = self.nearest(runs, probe, ask)?.pop().unwrap_or_default();
                    return Ok(());
                };
                // A few more than are asked for: the order is about right.
                for step in steps.iter().take(ask.k * 2 + 16) {
                    let row = step.row as usize;
                    let similarity = self.similarity(probe.row(0), at, row)?;
                    if ask.min_similarity.is_none_or(|min| similarity >= min) {
                        found.push(Hit { id: self.id(at, row)?, similarity });
                    }
                }
            }
            found.sort_unstable_by(best_first);
            found.truncate(ask.k);
            Ok(())
        };
        found.par_iter_mut().enumerate().try_for_each(walk)?;
        Ok(found)
    }
}

/// What lies between the numbers of an ordered list below `end`.
fn spaces(left_out: &[usize], end: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(left_out.iter().map(|at| at + 1));
    let ends = left_out.iter().copied().chain([end]);
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end).collect()
}

impl Part {
    /// Rows that a thread filters at a time.
    const CHUNK: usize = 1 << 14;

    fn chunks(runs: &[Range<usize>]) -> Vec<Range<usize>> {
        let chunk =
            |range: Range<usize>| range.clone().step_by(Self::CHUNK).map(move |at| at..range.end.min(at + Self::CHUNK));
        runs.iter().cloned().flat_map(chunk).collect()
    }

    /// Looks at the checksums of records with all threads, before one thread looks at the records. One that is wrong is
    /// found by that thread, too.
    fn check_records(&self, runs: &[Range<usize>]) {
        Self::chunks(runs).into_par_iter().for_each(|chunk| drop(self.segment.check_records(chunk)));
    }

    /// The rows of `runs` that pass, as runs.
    fn passing(&self, runs: &[Range<usize>], numbers: &Numbers) -> Result<Vec<Range<usize>>, BadRow> {
        let passing = Self::chunks(runs).into_par_iter().map(|chunk| {
            let mut passing: Vec<Range<usize>> = Vec::new();
            self.segment.check_records(chunk.clone())?;
            for row in chunk {
                // One that is erased, but was not when this snapshot was taken, passes nothing.
                let record = self.segment.glance(row)?;
                if record.erased || !numbers.passes(&record) {
                    continue;
                }
                match passing.last_mut().filter(|last| last.end == row) {
                    Some(last) => last.end += 1,
                    None => passing.push(row..row + 1),
                }
            }
            Ok(passing)
        });
        let mut all: Vec<Range<usize>> = Vec::new();
        for run in passing.collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            match all.last_mut().filter(|last| last.end == run.start) {
                Some(last) => last.end = run.end,
                None => all.push(run),
            }
        }
        Ok(all)
    }
}

impl Source for Moment {
    type Error = Bad;

    fn touch(&self, part: usize, rows: Range<usize>) -> Result<(), Bad> {
        self.parts[part].segment.check(rows).map_err(|row| Bad { part, row })
    }

    fn done(&self, part: usize, rows: Range<usize>) {
        if self.once.load(Ordering::Relaxed) {
            self.parts[part].segment.release(rows);
        }
    }

    fn codes(&self, part: usize, rows: Range<usize>) -> Option<Codes<'_>> {
        let Part { segment, reduced, .. } = &self.parts[part];
        reduced.as_ref()?.trusted(segment, rows)
    }

    fn similarity(&self, probe: &[f32], part: usize, row: usize) -> Result<f32, Bad> {
        Ok(metrics::dot(probe, &self.row(part, row)?))
    }
}

impl Snapshot for Moment {
    fn search(&self, probes: Rows<'_>, ask: &Ask) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_rows(probes, self.facts.model.dim)?;
        let mut turned = Vec::new();
        let probes = self.stored(probes, &mut turned);
        loop {
            let runs = self.runs(&ask.filter)?;
            match self.nearest(&runs, probes, ask) {
                Ok(hits) => return Ok(hits),
                Err(bad) => self.note(bad)?,
            }
        }
    }

    fn read_once(&self) {
        self.once.store(true, Ordering::Relaxed);
    }

    fn sample(&self, filter: &Filter, count: usize) -> Result<Vec<TemplateId>, GalleryError> {
        let runs = self.runs(filter)?;
        let places = runs.iter().enumerate().flat_map(|(part, runs)| runs.iter().map(move |run| (part, run)));
        let all = runs.iter().flatten().map(Range::len).sum();
        let (mut places, mut before) = (places, 0);
        let mut here = places.next();
        let mut ids = Vec::new();
        for at in evenly(all, count) {
            while let Some((_, run)) = here.filter(|(_, run)| at >= before + run.len()) {
                before += run.len();
                here = places.next();
            }
            let Some((part, run)) = here else { break };
            match self.id(part, run.start + at - before) {
                Ok(id) => ids.push(id),
                // One that was removed since.
                Err(bad) => self.note(bad)?,
            }
        }
        Ok(ids)
    }

    fn nearer(
        &self,
        probes: Rows<'_>,
        marks: &[Vec<Hit>],
        counted: &(dyn Fn(usize, TemplateId) -> bool + Sync),
    ) -> Result<Vec<Vec<u64>>, GalleryError> {
        check_rows(probes, self.facts.model.dim)?;
        assert!(marks.len() == probes.rows(), "{} lists of marks for {} probes", marks.len(), probes.rows());
        let mut turned = Vec::new();
        let probes = self.stored(probes, &mut turned);
        let mark = |hit: &Hit| (hit.similarity, hit.id.0);
        let marks: Vec<Vec<(f32, u64)>> = marks.iter().map(|marks| marks.iter().map(mark).collect()).collect();
        loop {
            let runs = self.runs(&Filter::default())?;
            let parts = self.scanned(&runs);
            let key = |probe: usize, part: usize, row: usize| {
                let id = self.id(part, row)?;
                Ok(counted(probe, id).then_some(id.0))
            };
            match scan::nearer(self, &parts, probes, &marks, key) {
                Ok(counts) => return Ok(counts),
                Err(bad) => self.note(bad)?,
            }
        }
    }

    fn subjects(&self) -> Result<u64, GalleryError> {
        self.catalogue().subjects()
    }

    fn numbers(&self, names: &[String]) -> Result<Vec<Option<u32>>, GalleryError> {
        self.catalogue().subject_numbers(names)
    }

    fn columns(&self, filter: &Filter, each: &mut dyn FnMut(Columns)) -> Result<(), GalleryError> {
        for (at, (part, runs)) in self.parts.iter().zip(&*self.runs(filter)?).enumerate() {
            part.check_records(runs);
            for row in runs.iter().cloned().flatten() {
                let record = match part.segment.glance(row) {
                    Ok(record) => record,
                    Err(row) => {
                        self.note(Bad { part: at, row })?;
                        continue;
                    }
                };
                // One that was removed since.
                if record.erased {
                    continue;
                }
                each(Columns {
                    id: record.id,
                    subject: (record.subject != 0).then_some(record.subject),
                    camera: (record.camera != Record::NO_CAMERA).then_some(record.camera),
                    taken: (record.taken != Record::NO_TIME).then_some(record.taken),
                });
            }
        }
        Ok(())
    }

    fn count(&self, filter: &Filter) -> Result<u64, GalleryError> {
        Ok(self.runs(filter)?.iter().flatten().map(|run| run.len() as u64).sum())
    }

    fn select(&self, filter: &Filter) -> Result<Vec<TemplateId>, GalleryError> {
        let mut ids = Vec::new();
        for (part, runs) in self.parts.iter().zip(&*self.runs(filter)?) {
            part.check_records(runs);
            for row in runs.iter().cloned().flatten() {
                ids.push(part.segment.glance(row).map_err(|bad| bad.error)?.id);
            }
        }
        Ok(ids)
    }

    fn templates(&self, ids: &[TemplateId]) -> Result<Vec<Template>, GalleryError> {
        let templates = self.catalogue().templates(ids)?;
        for template in &templates {
            let id = template.id;
            let Some((part, row)) = self.find(id) else { return Err(GalleryError::NoTemplate { id }) };
            let record = match self.parts[part].segment.record(row) {
                Ok(record) => record,
                Err(row) => {
                    self.note(Bad { part, row })?;
                    continue;
                }
            };
            // One that was removed since: what it was is not known any more.
            if !record.erased && record.about != template.about.checksum(&self.facts.gallery, id) {
                let problem = format!("template {} is not what was enrolled", id.0);
                return Err(GalleryError::damaged(&self.folder.join(crate::catalogue::FILE), problem));
            }
        }
        Ok(templates)
    }

    fn vectors(&self, ids: &[TemplateId]) -> Result<Option<Vec<f32>>, GalleryError> {
        let mut all = Vec::with_capacity(ids.len() * self.facts.model.dim);
        for id in ids {
            let none = || GalleryError::NoTemplate { id: *id };
            let (part, row) = self.find(*id).ok_or_else(none)?;
            match self.row(part, row) {
                Ok(values) => all.extend(values),
                Err(bad) => {
                    self.note(bad)?;
                    return Err(none());
                }
            }
        }
        Ok(Some(match &self.turn {
            Some(turn) => turn.back(&all),
            None => all,
        }))
    }
}
