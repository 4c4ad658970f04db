use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::Rows;
use rayon::prelude::*;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::moment::Moment;
use super::{Exclusive, SEGMENTS, Store};
use crate::catalogue::Extent;
use crate::segment::{Graph, Kind, NONE, Segment, path_of};
use crate::template::check_rows;
use crate::{
    Ask, Columns, Engine, Filter, GalleryError, Hit, Info, NewTemplate, Selection, Snapshot, Template, TemplateId,
};

/// Neighbours of a row.
const WIDTH: usize = 32;

/// Rows that are looked at for the neighbours of a new one.
const CARE: usize = 128;

/// A [`Store`] that is searched approximately: a few of the nearest templates may be missing from an answer, none is
/// wrong, and every similarity is exact. Worth it from about a million templates on.
///
/// What is enrolled after [`Approximate::index`] is searched exactly until that is called again; removed templates are
/// never found. A filter that few templates pass, and a gallery without an index, are searched exactly.
#[derive(Debug)]
pub struct Approximate {
    store: Store,
    effort: usize,
    graphs: Mutex<BTreeMap<u64, Arc<Graph>>>,
}

impl Approximate {
    /// Searches `store` with an effort: the rows that are kept while a probe looks for its nearest, in each segment.
    /// More are slower and find more; 128 is a start.
    pub fn new(store: Store, effort: usize) -> Self {
        Self { store, effort, graphs: Mutex::default() }
    }

    /// The store, for what only it can do.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the index, or makes it anew where there are rows without, and the reduced copy that it is walked on with
    /// ([`Store::reduce`]). Returns the number of rows that are now in it.
    ///
    /// The files (`segments/N.graph`) may be deleted at any time.
    ///
    /// # Errors
    /// If rows are damaged, or what the disk refuses; the gallery is as it was.
    pub fn index(&self) -> Result<u64, GalleryError> {
        self.store.index(&|_| {})
    }

    /// The graph of a segment as it is now.
    fn graph(&self, segment: &Segment) -> Option<Arc<Graph>> {
        let all = || self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all().get(&segment.number()).filter(|known| known.rows() == segment.rows()) {
            return Some(Arc::clone(known));
        }
        let folder = self.store.folder.join(SEGMENTS);
        let found = Graph::open(&folder, self.store.header(segment.number())).map(Arc::new)?;
        all().insert(segment.number(), Arc::clone(&found));
        Some(found)
    }
}

impl Store {
    /// Makes the graph of approximate searches, or makes it anew for segments that have rows without, and the reduced
    /// copy that it is walked on ([`Store::reduce`]). Returns the number of rows that are now in it; `done` is called
    /// with numbers of rows, all rows in the end.
    ///
    /// The files (`segments/N.graph`) may be deleted at any time.
    ///
    /// # Errors
    /// If rows are damaged, or what the disk refuses; the gallery is as it was.
    pub fn index(&self, done: &(dyn Fn(u64) + Sync)) -> Result<u64, GalleryError> {
        self.plain_on_disk()?;
        self.reduce()?;
        let writer = self.writer()?;
        let mut rows = 0;
        for extent in writer.catalogue.segments()? {
            let known = Graph::open(&self.folder.join(SEGMENTS), self.header(extent.segment));
            // A search does not look whether a graph is whole; who makes it does.
            match known.filter(|known| known.rows() == extent.rows && known.is_whole()) {
                Some(_) => done(extent.rows as u64),
                None => self.index_segment(&writer, extent, done)?,
            }
            rows += extent.rows as u64;
        }
        Ok(rows)
    }

    /// The same gallery, searched approximately; see [`Approximate`].
    ///
    /// # Errors
    /// Never, in programs that have approximate search.
    pub fn approximate(self, effort: usize) -> Result<Box<dyn Engine>, GalleryError> {
        Ok(Box::new(Approximate::new(self, effort)))
    }

    fn index_segment(
        &self,
        writer: &Exclusive,
        extent: Extent,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<(), GalleryError> {
        let header = self.header(extent.segment);
        let segment = self.map(extent)?;
        let path = path_of(&self.folder.join(SEGMENTS), extent.segment, Kind::Graph);
        let failed = |error: &dyn std::fmt::Display| GalleryError::Io {
            what: "make",
            path: path.clone(),
            source: std::io::Error::other(error.to_string()),
        };
        let none = || GalleryError::damaged(&path, "its reduced copy cannot be relied on");
        let reduced = self.reduced(&segment).ok_or_else(none)?;
        let options = IndexOptions {
            dimensions: header.dim,
            metric: MetricKind::Cos,
            quantization: ScalarKind::I8,
            connectivity: WIDTH / 2,
            expansion_add: CARE,
            expansion_search: CARE,
            multi: false,
        };
        let index = Index::new(&options).map_err(|error| failed(&error))?;
        let threads = rayon::current_num_threads();
        index.reserve_capacity_and_threads(extent.rows, threads).map_err(|error| failed(&error))?;
        let add = |row: usize| -> Result<(), GalleryError> {
            done(1);
            let record = segment.record(row).map_err(|bad| bad.error)?;
            let codes = reduced.trusted(&segment, row..row + 1).ok_or_else(none)?;
            if record.erased || codes.scale(0) == 0.0 {
                return Ok(());
            }
            index.add(row as u64, codes.row(0)).map_err(|error| failed(&error))
        };
        (0..extent.rows).into_par_iter().try_for_each(add)?;
        let mut neighbours = vec![NONE; extent.rows * WIDTH];
        neighbours.par_chunks_exact_mut(WIDTH).enumerate().for_each(|(row, neighbours)| {
            if index.contains(row as u64) {
                let near = index.neighbors(row as u64, 0).take(WIDTH);
                neighbours.iter_mut().zip(near).for_each(|(place, near)| *place = near as u32);
            }
        });
        writer.segments.write_graph(header, &Graph::header(header, extent.rows, WIDTH, &neighbours), &neighbours)
    }
}

impl Engine for Approximate {
    fn enrol(&self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError> {
        self.store.enrol(templates, values)
    }

    fn remove(&self, what: &Selection) -> Result<u64, GalleryError> {
        self.store.remove(what)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, GalleryError> {
        let moment = self.store.moment()?;
        let graphs = moment.segments().map(|(segment, reduced)| {
            // Rows of the graph that have no copy yet, or are not in this snapshot, are no way to go.
            let fits = |graph: &Arc<Graph>| {
                graph.rows() <= segment.rows() && reduced.is_some_and(|reduced| graph.rows() <= reduced.rows())
            };
            self.graph(segment).filter(fits)
        });
        let graphs = graphs.collect();
        Ok(Box::new(Walked { moment, graphs, effort: self.effort }))
    }

    fn info(&self) -> Result<Info, GalleryError> {
        self.store.info()
    }
}

/// A store at one moment, with the graphs of its segments.
struct Walked {
    moment: Moment,
    graphs: Vec<Option<Arc<Graph>>>,
    effort: usize,
}

impl Snapshot for Walked {
    fn search(&self, probes: Rows<'_>, ask: &Ask) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_rows(probes, self.moment.dim())?;
        if ask.k == 0 {
            return Ok(vec![Vec::new(); probes.rows()]);
        }
        // Where few rows pass, most of a walk would be for nothing.
        let (all, passing) = (self.moment.count(&Filter::default())?, self.moment.count(&ask.filter)?);
        let indexed: usize = self.graphs.iter().flatten().map(|graph| graph.rows()).sum();
        let enough = (ask.k.max(self.effort) * 8) as u64;
        if indexed == 0 || passing < all.div_ceil(2) || passing < enough {
            return self.moment.search(probes, ask);
        }
        self.moment.approximate(&self.graphs, probes, ask, ask.k.max(self.effort))
    }

    fn read_once(&self) {
        self.moment.read_once();
    }

    fn count(&self, filter: &Filter) -> Result<u64, GalleryError> {
        self.moment.count(filter)
    }

    fn select(&self, filter: &Filter) -> Result<Vec<TemplateId>, GalleryError> {
        self.moment.select(filter)
    }

    fn sample(&self, filter: &Filter, count: usize) -> Result<Vec<TemplateId>, GalleryError> {
        self.moment.sample(filter, count)
    }

    fn nearer(
        &self,
        probes: Rows<'_>,
        marks: &[Vec<Hit>],
        counted: &(dyn Fn(usize, TemplateId) -> bool + Sync),
    ) -> Result<Vec<Vec<u64>>, GalleryError> {
        self.moment.nearer(probes, marks, counted)
    }

    fn subjects(&self) -> Result<u64, GalleryError> {
        self.moment.subjects()
    }

    fn numbers(&self, names: &[String]) -> Result<Vec<Option<u32>>, GalleryError> {
        self.moment.numbers(names)
    }

    fn columns(&self, filter: &Filter, each: &mut dyn FnMut(Columns)) -> Result<(), GalleryError> {
        self.moment.columns(filter, each)
    }

    fn templates(&self, ids: &[TemplateId]) -> Result<Vec<Template>, GalleryError> {
        self.moment.templates(ids)
    }

    fn vectors(&self, ids: &[TemplateId]) -> Result<Option<Vec<f32>>, GalleryError> {
        self.moment.vectors(ids)
    }
}
