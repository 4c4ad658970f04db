//! Errors of datasets on disk.

use std::path::PathBuf;

/// The way out of every layout of pairs.
const MANIFEST: &str = "a manifest.csv with the columns palm, vein and identity";

/// Why a dataset cannot be used. Messages name the folder or file, what was found and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// No such dataset.
    #[error(
        "unknown dataset `{name}`; known are {}, and tables of pictures (.csv, .tsv, .jsonl, .ndjson, .parquet); \
         several are joined by `+`",
        known.join(", ")
    )]
    UnknownName {
        /// The name as typed.
        name: String,
        /// Every name we know.
        known: Vec<&'static str>,
    },
    /// A dataset named twice would train each of its identities as two.
    #[error("dataset `{name}` is named twice")]
    Repeated {
        /// The name.
        name: String,
    },
    /// There is no such table of pictures.
    #[error("there is no table `{name}`, neither in `{}` nor as a path of its own", root.display())]
    NoTable {
        /// The table as typed.
        name: String,
        /// The folder of the datasets.
        root: PathBuf,
    },
    /// A dataset has no pictures for what it is to be used for.
    #[error("dataset `{name}` has no pictures in its set `{set}`: found {found}; at least 1 {set} picture is needed")]
    NoSet {
        /// The dataset.
        name: String,
        /// What it has.
        found: String,
        /// `train`, `query` or `gallery`.
        set: &'static str,
    },
    /// The root is not a folder.
    #[error(
        "dataset folder `{}` {}; the folder of the pictures is needed",
        root.display(),
        if root.exists() { "is a file" } else { "does not exist" }
    )]
    NoFolder {
        /// What was given.
        root: PathBuf,
    },
    /// The root has none of the dataset's folders.
    #[error("dataset `{name}` is not in `{}`: found {found}; {allowed} is needed", root.display())]
    NotFound {
        /// The dataset.
        name: String,
        /// Where it was looked for.
        root: PathBuf,
        /// What is there.
        found: String,
        /// What would be taken.
        allowed: String,
    },
    /// Pictures, and none of palm and veins by any layout.
    #[error(
        "no layout of palm and vein pictures fits `{}`: found {found}, such as `{}`; {layouts} are read; \
         `--palm-band` and `--vein-band` name other folders, `--pattern` other file names, and {} lists pairs of any \
         names",
        root.display(), example.display(), MANIFEST
    )]
    NoPairs {
        /// The folder.
        root: PathBuf,
        /// What is there.
        found: String,
        /// A picture, relative to the folder.
        example: PathBuf,
        /// What would be taken.
        layouts: String,
    },
    /// No name was given, and the folders match several datasets.
    #[error("`{}` holds several datasets: name one of {}", root.display(), found.join(", "))]
    Ambiguous {
        /// The folder that was searched.
        root: PathBuf,
        /// The datasets that were found.
        found: Vec<&'static str>,
    },
    /// Something that is neither a folder nor a file.
    #[error("`{}` is a pipe, socket or device; a folder or a regular file is needed", path.display())]
    NotRegular {
        /// What was given.
        path: PathBuf,
    },
    /// A folder cannot be the name of an identity.
    #[error("folder `{}` cannot name an identity", path.display())]
    IdentityName {
        /// The folder.
        path: PathBuf,
        /// What is wrong with its name.
        source: NameError,
    },
    /// Folders that are named like sets, but are not the sets of a layout.
    #[error(
        "`{}` has folders that are named like sets ({}); `train` and `test`, or `train`, `query` and `gallery`, with a \
         folder per identity in each, are read; a folder of that name that is a person has to be renamed",
        root.display(), found.join(", ")
    )]
    Sets {
        /// The folder.
        root: PathBuf,
        /// The folders.
        found: Vec<String>,
    },
    /// Pictures are left out, and none may be.
    #[error("{warning}")]
    LeftOut {
        /// What is left out, and why.
        warning: String,
    },
    /// A folder has nothing to use.
    #[error("folder `{}` has no pictures to use: found {found}; {allowed} is needed", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// What is there.
        found: String,
        /// What would be taken.
        allowed: String,
    },
    /// A picture's name has no identity and camera.
    #[error(
        "picture `{}` has no identity and camera in its name; names such as `{example}` are needed", path.display()
    )]
    Name {
        /// The picture.
        path: PathBuf,
        /// A name of the right form.
        example: &'static str,
    },
    /// A number in a name is not one that a dataset may have.
    #[error("picture `{}` has {what} {found}; {allowed} are allowed", path.display())]
    Range {
        /// The picture.
        path: PathBuf,
        /// `identity` or `camera`.
        what: &'static str,
        /// The number.
        found: i64,
        /// The range.
        allowed: String,
    },
    /// A table cannot be read.
    #[error("cannot read table `{}`", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: files::table::TableError,
    },
    /// A Parquet file cannot be read as a table of pictures.
    #[error("cannot read table `{}`: {problem}", path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// What is wrong, and with which column.
        problem: String,
    },
    /// A line of a list file has another form.
    #[error("line {line} of `{}` is `{found}`; {allowed} is needed", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The line.
        found: String,
        /// Its form.
        allowed: &'static str,
    },
    /// A cell of a table is not what its column is for.
    #[error("line {line} of `{}`, column `{column}`: found {found}; {allowed}", path.display())]
    Cell {
        /// The table.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Name of the column.
        column: &'static str,
        /// What is in the cell.
        found: String,
        /// What may be there.
        allowed: &'static str,
    },
    /// A line of JSON Lines is something else.
    #[error("line {line} of `{}` is not one JSON object", path.display())]
    Json {
        /// The table.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// A split file is not JSON of the right form.
    #[error("split file `{}` is malformed", path.display())]
    Split {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// Too few identities to train on some and test on others.
    #[error("`{}` has {found}; {allowed}", folder.display())]
    Identities {
        /// The folder.
        folder: PathBuf,
        /// How many there are.
        found: String,
        /// How many are needed.
        allowed: String,
    },
    /// There are only palm pictures, or only vein pictures.
    #[error(
        "`{}` has {count} {there} {} by the layout `{layout}` and no {missing} picture; bands there are {bands}; \
         `--{missing}-band` names another, and {} lists pairs of any names",
        root.display(), if *count == 1 { "picture" } else { "pictures" }, MANIFEST
    )]
    OneModality {
        /// The folder.
        root: PathBuf,
        /// The layout.
        layout: &'static str,
        /// The modality that was found.
        there: &'static str,
        /// Its pictures.
        count: usize,
        /// The missing modality.
        missing: &'static str,
        /// Folders or spectra that were found, and pictures of formats that are not read.
        bands: String,
    },
    /// A name pattern is not a regular expression with the right groups.
    #[error("pattern `{pattern}`: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// Shares of training, validation and test that are out of range.
    #[error(
        "shares of training, validation and test are {}, {} and {}; each is 0 to 1, the first above 0, and their sum \
         is 1",
        found[0], found[1], found[2]
    )]
    Shares {
        /// The shares.
        found: [f64; 3],
    },
    /// All pictures are of one session, which cannot be split by session.
    #[error("all {name} pictures are of one session; split by `pairs` or `people`")]
    Sessions {
        /// The layout.
        name: String,
    },
    /// A file or folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Why a text cannot be the name of somebody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing, or only spaces.
    #[error("an identity needs a name that is not empty")]
    Empty,
    /// Line breaks, escape sequences, marks of direction and characters of no width would change what a terminal or a
    /// table shows, or make two names look like one.
    #[error("`{}` cannot be the name of an identity: it has characters that are not shown", name.escape_debug())]
    Control {
        /// The name.
        name: String,
    },
}
