use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::{SEGMENTS, Store, files_of};
use crate::catalogue::{self, Catalogue, Numbers};
use crate::segment::{Graph, HEADER, Kind, Record, Reduced, path_of, paths_of};
use crate::{GalleryError, TemplateId};

/// Something wrong with a gallery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The template that is lost by it, where it is one.
    pub template: Option<TemplateId>,
    /// What is wrong.
    pub problem: String,
}

impl Store {
    /// Reads everything and compares it: checksums of all rows, catalogue against rows, SQLite's own check. Empty if
    /// all is well. Bytes that an interrupted enrolment left behind the committed rows are no problem: they are
    /// nobody's.
    ///
    /// # Errors
    /// If something cannot be read at all.
    pub fn check(&self) -> Result<Vec<Problem>, GalleryError> {
        let catalogue = self.catalogue()?;
        let file = self.folder.join(catalogue::FILE);
        let mut problems: Vec<Problem> = Vec::new();
        for problem in catalogue.problems()?.into_iter().chain(catalogue.log(|_| ())?) {
            problems.push(Problem { file: file.clone(), template: None, problem });
        }
        let mut expected: BTreeMap<TemplateId, Option<Numbers>> = BTreeMap::new();
        catalogue.numbers(|numbers| {
            expected.insert(numbers.id, Some(numbers));
        })?;
        let removed: BTreeMap<TemplateId, bool> = catalogue.removed()?.into_iter().collect();
        expected.extend(removed.keys().map(|id| (*id, None)));
        let extents = catalogue.segments()?;
        let mut known = self.check_staged(&catalogue, &expected, &mut problems)?;
        let mut before = None;
        for extent in &extents {
            let paths = paths_of(&self.folder.join(SEGMENTS), extent.segment);
            let copy = Reduced::path(&self.folder.join(SEGMENTS), extent.segment);
            let graph = path_of(&self.folder.join(SEGMENTS), extent.segment, Kind::Graph);
            known.extend(paths.iter().chain([&copy, &graph]).cloned());
            let segment = match self.segment(self.header(extent.segment), extent.rows, None) {
                Ok(segment) => segment,
                Err(error) => {
                    problems.push(Problem { file: paths[0].clone(), template: None, problem: chain(&error) });
                    continue;
                }
            };
            let reduced = Reduced::open(&self.folder.join(SEGMENTS), self.header(extent.segment), extent.rows);
            // One that was only begun has no rows.
            if reduced.is_none() && copy.metadata().is_ok_and(|facts| facts.len() >= HEADER as u64) {
                let problem = "it is no copy of this segment and is not used".into();
                problems.push(Problem { file: copy.clone(), template: None, problem });
            }
            let found = Graph::open(&self.folder.join(SEGMENTS), self.header(extent.segment));
            if found.map_or_else(|| Graph::has_header(&graph), |found| !found.is_whole()) {
                let problem = "it is no graph of this segment; searches may miss more than they should until \
                               `gallery index` makes it anew";
                problems.push(Problem { file: graph.clone(), template: None, problem: problem.into() });
            }
            for row in 0..extent.rows {
                let record = match segment.check_row(row) {
                    Ok(record) => record,
                    Err(bad) => {
                        // Its own id may be wrong. What the catalogue has lost by it is told below.
                        let template = expected.remove(&bad.id).map(|_| bad.id);
                        let file = match bad.error {
                            GalleryError::Damaged { ref path, .. } => path.clone(),
                            _ => paths[1].clone(),
                        };
                        problems.push(Problem { file, template, problem: chain(&bad.error) });
                        continue;
                    }
                };
                let reduced = reduced.as_ref().filter(|reduced| !record.erased && row < reduced.rows());
                if reduced.is_some_and(|reduced| !reduced.fits(row, &record)) {
                    let problem = format!("row {row} is no copy of its template and is not used");
                    problems.push(Problem { file: copy.clone(), template: None, problem });
                }
                let mut tell = |template, problem: String| {
                    problems.push(Problem { file: paths[1].clone(), template, problem });
                };
                let (id, row) = (record.id, format!("row {row}, template {}", record.id.0));
                if before.is_some_and(|before| before >= id) || id < extent.first {
                    tell(Some(id), format!("{row}, is out of order"));
                }
                before = Some(id);
                match expected.remove(&id) {
                    None => tell(None, format!("{row}, is not in the catalogue")),
                    Some(Some(numbers)) if !same(&record, &numbers) || !self.told(&catalogue, &record) => {
                        tell(Some(id), format!("{row}, is not what the catalogue says"));
                    }
                    Some(None) if removed.get(&id) == Some(&true) && !record.erased => {
                        tell(None, format!("{row}, was removed and is not overwritten"));
                    }
                    Some(_) => {}
                }
            }
        }
        for (id, numbers) in expected {
            let template = numbers.is_some().then_some(id);
            problems.push(Problem { file: file.clone(), template, problem: format!("template {} has no row", id.0) });
        }
        let folder = self.folder.join(SEGMENTS);
        for file in files_of(&folder).map_err(GalleryError::io("read", &folder))? {
            // A writer at work may have begun a segment that is not committed; without one it is what a crash left.
            if !known.contains(&file) && self.writer.is_some() {
                problems.push(Problem { file, template: None, problem: "no segment of the catalogue".into() });
            }
        }
        Ok(problems)
    }
}

impl Store {
    /// Looks at the rows of the model that the gallery migrates to, and returns their files.
    fn check_staged(
        &self,
        catalogue: &Catalogue,
        enrolled: &BTreeMap<TemplateId, Option<Numbers>>,
        problems: &mut Vec<Problem>,
    ) -> Result<Vec<PathBuf>, GalleryError> {
        let mut files = Vec::new();
        let Some(next) = catalogue.next()? else { return Ok(files) };
        for extent in catalogue.staged()? {
            let paths = paths_of(&self.folder.join(SEGMENTS), extent.segment);
            let mut tell = |problem| problems.push(Problem { file: paths[1].clone(), template: None, problem });
            match self.map_staged(&next, extent) {
                Err(error) => tell(chain(&error)),
                Ok(segment) => {
                    for row in 0..extent.rows {
                        match segment.check_row(row) {
                            Err(bad) => tell(chain(&bad.error)),
                            Ok(record) if record.erased => {}
                            Ok(record) => match enrolled.get(&record.id) {
                                Some(Some(numbers)) if same(&record, numbers) && self.told(catalogue, &record) => {}
                                Some(Some(_)) => {
                                    tell(format!(
                                        "row {row}, template {}, is not what the catalogue says",
                                        record.id.0
                                    ));
                                }
                                _ => tell(format!("row {row}, template {}, is not enrolled", record.id.0)),
                            },
                        }
                    }
                }
            }
            files.extend(paths);
        }
        Ok(files)
    }

    /// Whether names, tags and source are those that were enrolled.
    fn told(&self, catalogue: &Catalogue, record: &Record) -> bool {
        let found = catalogue.templates(&[record.id]);
        found.is_ok_and(|found| found[0].about.checksum(&self.facts.gallery, record.id) == record.about)
    }
}

fn same(record: &Record, numbers: &Numbers) -> bool {
    let camera = (record.camera != Record::NO_CAMERA).then_some(record.camera);
    let taken = (record.taken != Record::NO_TIME).then_some(record.taken);
    let subject = (record.subject != 0).then_some(record.subject);
    let found = Numbers { id: record.id, subject, camera, taken, tags: record.tags };
    !record.erased && found == *numbers
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
