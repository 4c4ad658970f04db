//! A gallery whose model changes: the pictures of its templates are looked for and embedded again.

use std::path::{Path, PathBuf};

use ::gallery::{Engine, Filter, Rows, Store, TemplateId};
use serde::Serialize;

use crate::gallery::{About, Stamp, Template};
use crate::pictures::{Input, lossy, path_text};
use crate::runtime::Model;
use crate::{DeployError, embed};

/// Templates that are embedded and stored together: what is done again after a crash.
const TOGETHER: usize = 256;

/// Templates that are read at a time.
const READ: usize = 4096;

/// Why a template cannot be embedded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was enrolled from a file of rows.
    NoPicture,
    /// The picture does not exist.
    Missing,
    /// The picture has another size, or another time of modification, than when it was enrolled.
    Changed,
    /// The picture cannot be read, or the model has no embedding of it.
    Unusable,
}

/// A template that cannot be embedded again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Its number.
    pub template: u64,
    /// Who it is.
    pub identity: String,
    /// The file that was looked for.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Why it cannot.
    pub cause: Cause,
    /// The same in words.
    pub problem: String,
}

/// Where pictures are looked for.
#[derive(Debug, Clone)]
pub struct Look {
    /// Where relative paths of the templates start.
    folder: PathBuf,
    /// The folder that had all of the pictures, and the one that has them now.
    moved: Option<[PathBuf; 2]>,
    /// Whether pictures that changed are taken.
    changed: bool,
}

impl Look {
    /// Looks where the pictures of the gallery were; or, if they were `moved` to a folder, there, below which they have
    /// the names that they had below the innermost folder with all of them. Pictures that changed are taken if
    /// `changed` is set.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn new(store: &Store, moved: Option<&Path>, changed: bool) -> Result<Self, DeployError> {
        let mut look = Self { folder: About::of(&store.about()?).folder, moved: None, changed };
        let Some(to) = moved else { return Ok(look) };
        let now = store.snapshot()?;
        let mut root: Option<PathBuf> = None;
        for ids in now.select(&Filter::default())?.chunks(READ) {
            for template in now.templates(ids)? {
                let template = Template::from(template.about);
                let pictures = template.files().filter(|file| !is_row(file));
                root = pictures.fold(root, |root, file| Some(shared(root, look.folder.join(file))));
            }
        }
        // Paths that are stored begin elsewhere than those of this command.
        let unreadable = |source| DeployError::Read { path: to.to_owned(), source };
        let to = std::path::absolute(to).map_err(unreadable)?;
        look.moved = root.map(|root| [root, to]);
        Ok(look)
    }

    /// The folder that had all of the pictures, if they were moved.
    pub fn root(&self) -> Option<&Path> {
        self.moved.as_ref().map(|[root, _]| &**root)
    }

    /// Where the file of a template is now.
    pub fn file(&self, file: &Path) -> PathBuf {
        self.moved(file).unwrap_or_else(|| self.folder.join(file))
    }

    /// Where it is now, if it was moved.
    fn moved(&self, file: &Path) -> Option<PathBuf> {
        let [root, to] = self.moved.as_ref()?;
        let below = self.folder.join(file);
        let below = below.strip_prefix(root).ok()?;
        // Nothing is appended to the folder itself, not a slash either.
        Some(if below.as_os_str().is_empty() { to.clone() } else { to.join(below) })
    }

    /// The template with the files that were found for it, and their size and time.
    fn found(&self, template: &Template) -> Template {
        let now = |file: &PathBuf| self.moved(file).unwrap_or_else(|| file.clone());
        let stamp = Stamp::of(template.files().map(|file| self.file(file)));
        let others = template.others.iter().map(now).collect();
        Template { path: now(&template.path), others, stamp, ..template.clone() }
    }

    /// What is noted about the gallery with the places of its pictures as they are now; none if all of them stay.
    pub fn about(&self, mut about: About) -> Option<About> {
        let [root, to] = self.moved.as_ref()?;
        let now = |place: &PathBuf| {
            let full = self.folder.join(place);
            // A folder with more than these pictures has moved with them if it has them at the same place below it.
            let above = root.strip_prefix(&full).ok().filter(|below| to.ends_with(below));
            let above = above.and_then(|below| to.ancestors().nth(below.components().count()));
            self.moved(place).or_else(|| above.map(Path::to_owned)).unwrap_or_else(|| place.clone())
        };
        let places: Vec<PathBuf> = about.places.iter().map(now).collect();
        let changed = places != about.places;
        about.places = places;
        changed.then_some(about)
    }

    /// The pictures of a template as they are to be embedded; otherwise why not, and the file that it is about.
    pub fn find(&self, template: &Template) -> Result<Input, (Cause, PathBuf, String)> {
        let files: Vec<PathBuf> = template.files().map(|file| self.file(file)).collect();
        if let Some(row) = template.files().find(|file| is_row(file)) {
            return Err((Cause::NoPicture, row.clone(), "it was enrolled without a picture".to_owned()));
        }
        let Some(now) = Stamp::of(&files) else {
            let gone = files.iter().find(|file| !file.is_file()).unwrap_or(&files[0]).clone();
            return Err((Cause::Missing, gone, "the picture does not exist".to_owned()));
        };
        let same = |then: &Stamp| match self.moved {
            // Copies may be younger.
            Some(_) => then.size == now.size,
            None => *then == now,
        };
        if !self.changed && !template.stamp.as_ref().is_none_or(same) {
            let problem = "the picture changed since it was enrolled".to_owned();
            return Err((Cause::Changed, files[0].clone(), problem));
        }
        let Template { missing, identity, camera, taken, tags, .. } = template.clone();
        Ok(Input { files, missing, identity, camera, taken, tags })
    }
}

/// Whether the path of a template names no picture, but nothing or a row of a file: `rows.npy#7`.
fn is_row(path: &Path) -> bool {
    let text = path_text(path);
    text.is_empty()
        || text.rsplit_once('#').is_some_and(|(file, row)| {
            file.to_lowercase().ends_with(".npy") && !row.is_empty() && row.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// The innermost folder that has the file and all that `root` has.
fn shared(root: Option<PathBuf>, file: PathBuf) -> PathBuf {
    let folder = file.parent().unwrap_or(&file).to_owned();
    match root {
        None => folder,
        Some(root) => {
            let same = root.components().zip(folder.components()).take_while(|(one, other)| one == other);
            same.map(|(one, _)| one).collect()
        }
    }
}

/// Embeds the templates of a gallery that are not embedded by `model` yet, and stores the rows as they come; calls
/// `done` with numbers of templates. Returns those that cannot be embedded. A migration to the model has begun.
///
/// # Errors
/// As [`embed::stream`], but for pictures that cannot be used, unless `options.strict` is set; what the disk refuses.
pub fn embed(
    store: &Store,
    model: &Model,
    look: &Look,
    options: &embed::Options,
    mut done: impl FnMut(usize),
) -> Result<Vec<Lost>, DeployError> {
    let (_, spec) = model.embedding()?;
    let mut lost = Vec::new();
    for ids in store.to_migrate()?.chunks(TOGETHER) {
        // Not one for all: while it is open the log of the catalogue grows.
        let templates = store.snapshot()?.templates(ids)?;
        let (mut found, mut pictures): (Vec<(TemplateId, Template)>, Vec<Input>) = (Vec::new(), Vec::new());
        for ::gallery::Template { id, about } in templates {
            let template = Template::from(about);
            match look.find(&template) {
                Ok(picture) => {
                    found.push((id, template));
                    pictures.push(picture);
                }
                Err((cause, path, problem)) => {
                    let identity = template.identity.text().to_owned();
                    lost.push(Lost { template: id.0, identity, path, cause, problem });
                }
            }
        }
        done(ids.len() - pictures.len());
        let (mut rows, mut values) = (Vec::with_capacity(pictures.len()), Vec::new());
        if !pictures.is_empty() {
            let mut at = 0;
            let streamed = embed::stream(model, &pictures, options, &mut done, |picture, row| {
                // Rows come in the order of the pictures, without those that cannot be used.
                while !std::ptr::eq(picture, &pictures[at]) {
                    at += 1;
                }
                rows.push(at);
                values.extend_from_slice(row);
                at += 1;
                Ok(())
            });
            match streamed {
                Ok(_) | Err(DeployError::NoneReadable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let embedded: Vec<TemplateId> = rows.iter().map(|row| found[*row].0).collect();
        let values = Rows::new(&values, embedded.len(), spec.dim)?;
        match look.root() {
            None => store.stage(&embedded, values)?,
            Some(_) => {
                let source = |row: &usize| look.found(&found[*row].1).to_stored().source;
                store.stage_moved(&embedded, values, &rows.iter().map(source).collect::<Vec<_>>())?;
            }
        }
        for (row, picture) in pictures.iter().enumerate().filter(|(row, _)| rows.binary_search(row).is_err()) {
            let (id, template) = &found[row];
            let problem = match embed::inputs(model, picture) {
                Err(DeployError::NoneReadable { source, .. }) => terminal::sentence(&source),
                Err(error) => return Err(error),
                Ok(_) => "the model has no embedding of it".to_owned(),
            };
            let (path, identity) = (picture.path().to_owned(), template.identity.text().to_owned());
            lost.push(Lost { template: id.0, identity, path, cause: Cause::Unusable, problem });
        }
    }
    lost.sort_by_key(|lost| lost.template);
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_files_are_no_pictures() {
        for (path, row) in [
            ("", true),
            ("a/rows.npy#7", true),
            ("ROWS.NPY#12", true),
            ("a/rows.npy", false),
            ("a.npy#7/b.jpg", false),
            ("a.npy#", false),
            ("a.npy#b", false),
            ("b#7.jpg", false),
        ] {
            assert_eq!(is_row(Path::new(path)), row, "{path}");
        }
    }

    #[test]
    fn moved_pictures_keep_their_names_below_the_folder_that_had_them_all() {
        let root = |files: &[&str]| {
            let all = files.iter().map(|file| Path::new("/home/u").join(file));
            all.fold(None, |root, file| Some(shared(root, file))).unwrap()
        };
        assert_eq!(root(&["people/anna/1.jpg", "people/anna/2.jpg"]), Path::new("/home/u/people/anna"));
        let people = root(&["people/anna/1.jpg", "people/bob/deep/1.jpg", "people/c.jpg"]);
        assert_eq!(people, Path::new("/home/u/people"));
        assert_eq!(root(&["people/a.jpg", "people2/a.jpg"]), Path::new("/home/u"));
        assert_eq!(root(&["people/a.jpg", "/mnt/a.jpg"]), Path::new("/"));
        let look = Look { folder: "/home/u".into(), moved: Some([people, "/new".into()]), changed: false };
        assert_eq!(look.file(Path::new("people/bob/deep/1.jpg")), Path::new("/new/bob/deep/1.jpg"));
        assert_eq!(look.file(Path::new("/home/u/people/c.jpg")), Path::new("/new/c.jpg"));
    }
}
