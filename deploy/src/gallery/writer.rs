//! Changes a gallery.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use files::lock::Lock;
use files::npy;

use super::{Checksums, FACTS, Facts, ROWS, Template, VALUES, VERSION, parse_facts, pending};
use crate::DeployError;

/// The exclusive right to change a gallery, held from reading the old state until the new one is written.
#[derive(Debug)]
pub struct Exclusive(Lock);

impl Exclusive {
    /// Locks the gallery at `folder`, which is created if needed, and cleans up after a writer that crashed. With
    /// `wait`, waits for another process that holds the lock.
    ///
    /// # Errors
    /// If another process changes the gallery and `wait` is not set, or the folder cannot be written to.
    pub fn take(folder: &Path, wait: bool) -> Result<Self, DeployError> {
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let lock = if wait { Lock::wait(folder)? } else { Lock::take(folder)? };
        clear_up(folder).map_err(failed(folder))?;
        Ok(Self(lock))
    }

    /// The gallery's folder.
    pub fn folder(&self) -> &Path {
        self.0.folder()
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> DeployError {
    |source| DeployError::Write { path: path.to_owned(), source }
}

/// Completes a change that crashed after its rename, and removes the files of one that crashed before.
fn clear_up(folder: &Path) -> std::io::Result<()> {
    let facts = std::fs::read(folder.join(FACTS)).ok().and_then(|bytes| parse_facts(folder, &bytes).ok());
    let sums = facts.and_then(|facts| facts.sha256);
    for (name, sum) in
        [(VALUES, sums.as_ref().map(|sums| &sums.values)), (ROWS, sums.as_ref().map(|sums| &sums.rows)), (FACTS, None)]
    {
        let waiting = pending(folder, name);
        if !waiting.exists() {
            continue;
        }
        if sum.is_some_and(|sum| files::sha256(&waiting).is_ok_and(|(found, _)| found == *sum)) {
            std::fs::rename(&waiting, folder.join(name))?;
        } else {
            std::fs::remove_file(&waiting)?;
        }
    }
    Ok(())
}

/// Writes the new state of a gallery row by row; nothing changes before [`Writer::finish`].
pub struct Writer {
    gallery: Exclusive,
    values: Option<npy::Writer<BufWriter<File>>>,
    rows: BufWriter<File>,
    count: usize,
    dim: usize,
}

impl Writer {
    /// Starts a new state with `dim` values per row.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn create(gallery: Exclusive, dim: usize) -> Result<Self, DeployError> {
        let folder = gallery.folder();
        let values = create(folder, VALUES).and_then(|file| npy::Writer::new(BufWriter::new(file), dim));
        let values = values.map_err(failed(folder))?;
        let rows = BufWriter::new(create(folder, ROWS).map_err(failed(folder))?);
        Ok(Self { gallery, values: Some(values), rows, count: 0, dim })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn row(&mut self, template: &Template, values: &[f32]) -> Result<(), DeployError> {
        let line = serde_json::to_string(template).map_err(std::io::Error::from);
        let written = line.and_then(|line| writeln!(self.rows, "{line}"));
        let out = self.values.as_mut().expect("present until finished");
        written.and_then(|()| out.row(values)).map_err(failed(self.gallery.folder()))?;
        self.count += 1;
        Ok(())
    }

    /// Replaces the gallery by the new state. Version, rows, dim, generation and checksums of `facts` are filled in
    /// here.
    ///
    /// # Errors
    /// If a file cannot be written; the gallery is then as it was.
    pub fn finish(mut self, facts: Facts) -> Result<Facts, DeployError> {
        let folder = self.gallery.folder().to_owned();
        let values = self.values.take().expect("present until finished");
        let old = std::fs::read(folder.join(FACTS)).ok().and_then(|bytes| parse_facts(&folder, &bytes).ok());
        let generation = old.map_or(0, |old| old.generation) + 1;
        let facts = Facts { version: VERSION, rows: self.count, dim: self.dim, generation, ..facts };
        let change = || -> std::io::Result<Facts> {
            values.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            step();
            self.rows.flush()?;
            self.rows.get_ref().sync_all()?;
            step();
            let sum = |name| files::sha256(&pending(&folder, name)).map(|(sum, _)| sum);
            let facts = Facts { sha256: Some(Checksums { values: sum(VALUES)?, rows: sum(ROWS)? }), ..facts };
            let mut file = create(&folder, FACTS)?;
            file.write_all((serde_json::to_string_pretty(&facts)? + "\n").as_bytes())?;
            step();
            file.sync_all()?;
            sync_folder(&folder)?;
            step();
            std::fs::rename(pending(&folder, FACTS), folder.join(FACTS))?;
            step();
            Ok(facts)
        };
        let facts = change().map_err(failed(&folder))?;
        // The gallery has changed. If one of the next steps fails, the next writer completes it, and readers find the
        // files under either name.
        let _ = sync_folder(&folder);
        for name in [VALUES, ROWS] {
            let _ = std::fs::rename(pending(&folder, name), folder.join(name));
            step();
        }
        let _ = sync_folder(&folder);
        Ok(facts)
    }
}

impl Drop for Writer {
    /// Removes the files of an unfinished state. After a failed [`Writer::finish`] that is up to the next writer, who
    /// knows whether the gallery changed.
    fn drop(&mut self) {
        if self.values.is_some() {
            for name in [VALUES, ROWS] {
                let _ = std::fs::remove_file(pending(self.gallery.folder(), name));
            }
        }
    }
}

/// A new file under its [`pending`] name. It is private, as templates must be, or has the mode of the file that it
/// replaces.
fn create(folder: &Path, name: &str) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(pending(folder, name))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let old = std::fs::metadata(folder.join(name));
        let mode = old.map_or(0o600, |old| old.permissions().mode() & 0o777);
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    step();
    Ok(file)
}

/// Syncs the folder, which makes a rename durable.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The tests end the process here, as a crash would.
fn step() {
    #[cfg(test)]
    tests::crash_here();
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::gallery::{Embeddings, read};
    use crate::identity::Identity;

    const STEP: &str = "VITRINE_TEST_CRASH_AT";
    const FOLDER: &str = "VITRINE_TEST_GALLERY";

    static STEPS: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn crash_here() {
        if let Ok(step) = std::env::var(STEP)
            && STEPS.fetch_add(1, Ordering::SeqCst) == step.parse::<usize>().unwrap()
        {
            std::process::abort();
        }
    }

    fn facts() -> Facts {
        Facts {
            version: 0,
            contract_id: "0123456789abcdef".into(),
            architecture: "Tiny".into(),
            model_sha256: String::new(),
            dim: 0,
            rows: 0,
            generation: 0,
            sha256: None,
            skipped: 0,
            folder: std::path::PathBuf::new(),
            made_by: "test".into(),
        }
    }

    fn template(name: &str) -> Template {
        Template { path: name.into(), identity: Identity::given(name), ..Template::default() }
    }

    /// Replaces the gallery by people `names`; the values of a row say which.
    fn write(folder: &Path, names: &[&str]) -> Result<Facts, DeployError> {
        // A process that another test starts holds copies of all locks for a moment, until it becomes the program.
        let mut writer = Writer::create(Exclusive::take(folder, true)?, 2)?;
        for name in names {
            writer.row(&template(name), &values(name))?;
        }
        writer.finish(facts())
    }

    fn values(name: &str) -> [f32; 2] {
        let angle = f32::from(name.as_bytes()[0]);
        [angle.cos(), angle.sin()]
    }

    /// The people of the gallery, each beside their own values.
    fn people(folder: &Path) -> Vec<String> {
        let (Embeddings { values: found, templates, .. }, facts) = read(folder).unwrap();
        assert_eq!(facts.rows, templates.len());
        let names: Vec<String> = templates.iter().map(|template| template.identity.text().to_owned()).collect();
        assert_eq!(found, names.iter().flat_map(|name| values(name)).collect::<Vec<_>>(), "{names:?}");
        names
    }

    fn visible(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The process that crashes in the test below; alone it does nothing.
    #[test]
    fn crashing_writer() {
        if let Ok(folder) = std::env::var(FOLDER) {
            write(Path::new(&folder), &["c", "d", "e"]).unwrap();
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_gallery_or_the_new_one() {
        let mut outcomes = Vec::new();
        for step in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            write(folder, &["a", "b"]).unwrap();
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "gallery::writer::tests::crashing_writer"])
                .env(STEP, step.to_string())
                .env(FOLDER, folder)
                .output()
                .unwrap();
            let left = people(folder);
            assert!(left == ["a", "b"] || left == ["c", "d", "e"], "step {step}: {left:?}");
            outcomes.push(left.len());
            // The next one who writes needs no repair and leaves nothing behind.
            write(folder, &["f"]).unwrap();
            assert_eq!(people(folder), ["f"]);
            assert_eq!(visible(folder), [".lock", FACTS, VALUES, ROWS], "step {step}");
            if child.status.success() {
                break;
            }
        }
        assert!(outcomes.is_sorted() && outcomes.len() > 9, "{outcomes:?}");
        assert_eq!((outcomes[0], outcomes[outcomes.len() - 2]), (2, 3), "a crash after the rename is a new gallery");
    }

    #[test]
    fn an_interrupted_change_is_finished_and_not_undone_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &["a"]).unwrap();
        // As if the process had died right after the rename.
        std::fs::rename(folder.join(VALUES), pending(folder, VALUES)).unwrap();
        std::fs::write(folder.join(VALUES), "the values before").unwrap();
        assert_eq!(people(folder), ["a"]);
        drop(Exclusive::take(folder, false).unwrap());
        assert_eq!((people(folder).len(), pending(folder, VALUES).exists()), (1, false));
    }

    /// The states alternate, so that a reader meets again what it saw before.
    #[test]
    fn readers_beside_a_writer_see_one_state() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &["a", "b"]).unwrap();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let written = (0..10).try_for_each(|_| {
                    write(folder, &["c", "d", "e"])?;
                    write(folder, &["a", "b"]).map(drop)
                });
                done.store(1, Ordering::SeqCst);
                written
            });
            while done.load(Ordering::SeqCst) == 0 {
                let found = people(folder);
                assert!(found == ["a", "b"] || found == ["c", "d", "e"], "{found:?}");
            }
            writer.join().unwrap().unwrap();
        });
    }

    #[test]
    fn two_writers_are_one_and_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &["a"]).unwrap();
        // As in `write`: what is free may look taken for a moment.
        let first = Exclusive::take(folder.path(), true).unwrap();
        let error = Exclusive::take(folder.path(), false).unwrap_err();
        assert!(matches!(error, DeployError::Locked(files::lock::LockError::Held { holder: Some(_), .. })), "{error}");
        drop(first);
        assert_eq!(people(folder.path()), ["a"]);
    }

    #[test]
    fn values_and_rows_that_facts_do_not_describe_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for name in [VALUES, ROWS] {
            write(folder, &["a", "b"]).unwrap();
            let mut bytes = std::fs::read(folder.join(name)).unwrap();
            let last = bytes.len() - 2;
            // The last value changes its sign: the row keeps its length.
            bytes[last + 1] ^= 0x80;
            std::fs::write(folder.join(name), bytes).unwrap();
            let error = read(folder).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("SHA-256"), "{error}");
        }
    }

    #[test]
    fn galleries_without_checksums_still_open() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let facts = write(folder, &["a", "b"]).unwrap();
        let old = Facts { sha256: None, ..facts };
        std::fs::write(folder.join(FACTS), serde_json::to_string(&old).unwrap()).unwrap();
        assert_eq!(people(folder), ["a", "b"]);
        write(folder, &["c"]).unwrap();
        assert_eq!(people(folder), ["c"]);
    }

    #[cfg(unix)]
    #[test]
    fn templates_are_private_and_a_mode_that_was_chosen_stays() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let modes = || {
            [VALUES, ROWS, FACTS].map(|name| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777)
        };
        write(folder, &["a"]).unwrap();
        assert_eq!(modes(), [0o600; 3]);
        for name in [VALUES, ROWS, FACTS] {
            std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o640)).unwrap();
        }
        write(folder, &["b"]).unwrap();
        assert_eq!(modes(), [0o640; 3]);
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(Exclusive::take(folder.path(), false).unwrap(), 2).unwrap();
        writer.row(&template("a"), &[1.0, 0.0]).unwrap();
        drop(writer);
        assert_eq!(visible(folder.path()), [".lock"]);
    }
}
