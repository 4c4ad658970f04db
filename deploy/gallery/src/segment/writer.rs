use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::HEADER;
use super::{Disk, Header, Kind, Record, path_of, sealed};
use crate::GalleryError;
use crate::vault::Vault;

/// Writes the files of segments. What is written behind the rows that the catalogue knows does not exist for anybody.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Seals rows, in an encrypted gallery.
    vault: Option<Arc<Vault>>,
}

const KINDS: [Kind; 2] = [Kind::Values, Kind::Rows];

/// The same and what is derived from them.
const ALL: [Kind; 4] = [Kind::Values, Kind::Rows, Kind::Reduced, Kind::Graph];

/// The files of a segment.
pub(crate) fn paths_of(folder: &Path, segment: u64) -> [PathBuf; 2] {
    KINDS.map(|kind| path_of(folder, segment, kind))
}

impl Writer {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: PathBuf, vault: Option<Arc<Vault>>) -> Self {
        Self { disk, folder, vault }
    }

    /// The same for rows that are sealed.
    pub(crate) fn sealing(&self, vault: Arc<Vault>) -> Self {
        Self { vault: Some(vault), ..self.clone() }
    }

    /// Makes an empty segment.
    pub(crate) fn create(&self, header: Header) -> Result<(), GalleryError> {
        KINDS.into_iter().try_for_each(|kind| self.create_file(header, kind))?;
        self.disk.sync_folder(&self.folder).map_err(GalleryError::io("sync", &self.folder))
    }

    fn create_file(&self, header: Header, kind: Kind) -> Result<(), GalleryError> {
        let path = path_of(&self.folder, header.segment, kind);
        let file = self.disk.create(&path).map_err(GalleryError::io("create", &path))?;
        self.disk.write(&file, 0, &header.encode(kind)).map_err(GalleryError::io("write", &path))?;
        self.disk.sync(&file).map_err(GalleryError::io("sync", &path))
    }

    /// Makes an empty reduced copy of a segment. One that is there and does not fit is removed, and not emptied: others
    /// may have it mapped.
    pub(crate) fn create_reduced(&self, header: Header) -> Result<(), GalleryError> {
        self.remove_derived(header.segment, Kind::Reduced)?;
        self.create_file(header, Kind::Reduced)?;
        self.disk.sync_folder(&self.folder).map_err(GalleryError::io("sync", &self.folder))
    }

    /// Removes a file that is derived from a segment, if there is one, and returns whether there was.
    pub(crate) fn remove_derived(&self, segment: u64, kind: Kind) -> Result<bool, GalleryError> {
        let path = path_of(&self.folder, segment, kind);
        match self.disk.remove(&path) {
            Ok(()) => {
                self.disk.sync_folder(&self.folder).map_err(GalleryError::io("sync", &self.folder)).map(|()| true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(GalleryError::Io { what: "remove", path, source }),
        }
    }

    /// Writes the graph of a segment: its header last, so that a part of one fits nothing.
    #[cfg(feature = "ann")]
    pub(crate) fn write_graph(&self, header: Header, start: &[u8], neighbours: &[u32]) -> Result<(), GalleryError> {
        // Others may have an older one mapped.
        self.remove_derived(header.segment, Kind::Graph)?;
        let path = path_of(&self.folder, header.segment, Kind::Graph);
        let file = self.disk.create(&path).map_err(GalleryError::io("create", &path))?;
        let neighbours = bytemuck::cast_slice(neighbours);
        self.disk.write(&file, start.len() as u64, neighbours).map_err(GalleryError::io("write", &path))?;
        self.disk.sync(&file).map_err(GalleryError::io("sync", &path))?;
        self.disk.write(&file, 0, start).map_err(GalleryError::io("write", &path))?;
        self.disk.sync(&file).map_err(GalleryError::io("sync", &path))?;
        self.disk.sync_folder(&self.folder).map_err(GalleryError::io("sync", &self.folder))
    }

    /// Writes the reduced copies of the rows from `at` on.
    pub(crate) fn write_reduced(&self, header: Header, at: usize, bytes: &[u8]) -> Result<(), GalleryError> {
        self.overwrite(header, Kind::Reduced, |write| write(at, bytes))
    }

    /// Overwrites the reduced copies of rows with zeros.
    pub(crate) fn erase_reduced(&self, header: Header, rows: &[usize]) -> Result<(), GalleryError> {
        let zeros = vec![0; Kind::Reduced.stride(header.dim)];
        self.overwrite(header, Kind::Reduced, |write| rows.iter().try_for_each(|row| write(*row, &zeros)))
    }

    /// Writes rows behind the first `at` rows.
    pub(crate) fn append(
        &self,
        header: Header,
        at: usize,
        values: &[f32],
        records: &[Record],
    ) -> Result<(), GalleryError> {
        if let Some(vault) = self.vault.as_ref().filter(|_| header.sealed) {
            let sealed = sealed::seal(vault, &header, at, values, records)?;
            for (kind, bytes) in KINDS.into_iter().zip(&sealed) {
                self.overwrite(header, kind, |write| write(at, bytes))?;
            }
            return Ok(());
        }
        let records: Vec<u8> = records.iter().flat_map(|record| record.encode(&header)).collect();
        for (kind, bytes) in [(Kind::Values, bytemuck::cast_slice(values)), (Kind::Rows, &records)] {
            self.overwrite(header, kind, |write| write(at, bytes))?;
        }
        Ok(())
    }

    /// Overwrites rows with zeros, and their records with what is left of them.
    pub(crate) fn erase(&self, header: Header, rows: &[(usize, Record)]) -> Result<(), GalleryError> {
        let zeros = vec![0; header.stride(Kind::Values)];
        self.overwrite(header, Kind::Values, |write| rows.iter().try_for_each(|(row, _)| write(*row, &zeros)))?;
        self.overwrite(header, Kind::Rows, |write| {
            rows.iter().try_for_each(|(row, record)| match header.sealed {
                true => write(*row, &sealed::erased(&header, *row, record.id)),
                false => write(*row, &record.encode(&header)),
            })
        })
    }

    /// Lets `work` write whole rows of a file, then waits for the disk.
    fn overwrite(
        &self,
        header: Header,
        kind: Kind,
        work: impl FnOnce(&dyn Fn(usize, &[u8]) -> Result<(), GalleryError>) -> Result<(), GalleryError>,
    ) -> Result<(), GalleryError> {
        let path = path_of(&self.folder, header.segment, kind);
        let file = open(&path)?;
        work(&|row, bytes| {
            let offset = (HEADER + row * header.stride(kind)) as u64;
            self.disk.write(&file, offset, bytes).map_err(GalleryError::io("write", &path))
        })?;
        self.disk.sync(&file).map_err(GalleryError::io("sync", &path))
    }

    /// Removes what an interrupted enrolment wrote behind the first `rows` rows: overwrites it, then shortens the file.
    pub(crate) fn cut(&self, header: Header, rows: usize) -> Result<(), GalleryError> {
        for kind in KINDS {
            let path = path_of(&self.folder, header.segment, kind);
            let file = open(&path)?;
            let keep = (HEADER + rows * header.stride(kind)) as u64;
            let length = file.metadata().map_err(GalleryError::io("read", &path))?.len();
            let zeros = vec![0; 1 << 20];
            let mut at = keep;
            while at < length {
                let some = zeros.len().min((length - at) as usize);
                self.disk.write(&file, at, &zeros[..some]).map_err(GalleryError::io("write", &path))?;
                at += some as u64;
            }
            if length > keep {
                self.disk.sync(&file).map_err(GalleryError::io("sync", &path))?;
                self.disk.cut(&file, keep).map_err(GalleryError::io("shorten", &path))?;
                self.disk.sync(&file).map_err(GalleryError::io("sync", &path))?;
            }
        }
        Ok(())
    }

    /// Removes every file of the folder that has the name of a segment and is of none of `segments`, and returns how
    /// many there were. What else somebody put there is theirs.
    pub(crate) fn sweep(&self, segments: &[u64]) -> Result<usize, GalleryError> {
        let files = |number: &u64| ALL.map(|kind| path_of(&self.folder, *number, kind));
        let known: Vec<PathBuf> = segments.iter().flat_map(files).collect();
        let mut swept = 0;
        for entry in std::fs::read_dir(&self.folder).map_err(GalleryError::io("read", &self.folder))? {
            let path = entry.map_err(GalleryError::io("read", &self.folder))?.path();
            let ours = path.extension().is_some_and(|ending| ALL.iter().any(|kind| ending == kind.ending()));
            if ours && !known.contains(&path) && path.is_file() {
                self.disk.remove(&path).map_err(GalleryError::io("remove", &path))?;
                swept += 1;
            }
        }
        if swept > 0 {
            self.disk.sync_folder(&self.folder).map_err(GalleryError::io("sync", &self.folder))?;
        }
        Ok(swept)
    }
}

fn open(path: &Path) -> Result<File, GalleryError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(GalleryError::io("open", path))
}
