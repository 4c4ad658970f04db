//! What can be wrong with a dataset on disk.

use std::path::PathBuf;

/// Why a dataset cannot be used. Messages name the folder or file, what was found and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// No such dataset.
    #[error("unknown dataset `{name}`; known are {}; several are joined by `+`", known.join(", "))]
    UnknownName {
        /// The name as typed.
        name: String,
        /// Every name we know.
        known: Vec<&'static str>,
    },
    /// One dataset twice would train its identities as two.
    #[error("dataset `{name}` is named twice")]
    Repeated {
        /// The name.
        name: String,
    },
    /// The root is no folder.
    #[error("dataset folder `{}` does not exist or is no folder", root.display())]
    NoFolder {
        /// What was given.
        root: PathBuf,
    },
    /// The root has none of the folders the dataset lives in.
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
    /// No name was given and the folders fit several datasets.
    #[error("`{}` holds several datasets: name one of {}", root.display(), found.join(", "))]
    Ambiguous {
        /// Where was looked.
        root: PathBuf,
        /// The datasets that are there.
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
        source: crate::NameError,
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
    /// A picture's name does not say who and where.
    #[error("picture `{}` has no identity and camera in its name; names such as `{example}` are needed", path.display())]
    Name {
        /// The picture.
        path: PathBuf,
        /// A name of the right form.
        example: &'static str,
    },
    /// A number in a name is outside of what the dataset has.
    #[error("picture `{}` has {what} {found}; {allowed} are allowed{way_out}", path.display())]
    Range {
        /// The picture.
        path: PathBuf,
        /// `identity` or `camera`.
        what: &'static str,
        /// The number.
        found: i64,
        /// The range.
        allowed: String,
        /// What to do where the numbers are right; may be empty.
        way_out: &'static str,
    },
    /// A table cannot be read.
    #[error("cannot read table `{}`", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: files::table::TableError,
    },
    /// A line of a list file is not understood.
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
    /// A split file is no JSON of the right form.
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
    /// Only palm or only vein pictures are there.
    #[error(
        "`{}` has {count} {there} {} by the layout `{layout}` and no {missing} picture; bands there are {bands}",
        root.display(), if *count == 1 { "picture" } else { "pictures" }
    )]
    OneModality {
        /// The folder.
        root: PathBuf,
        /// The layout.
        layout: &'static str,
        /// The modality that is there.
        there: &'static str,
        /// Its pictures.
        count: usize,
        /// The modality that is not.
        missing: &'static str,
        /// Folders or spectra that are there.
        bands: String,
    },
    /// A name pattern is no regular expression of the right groups.
    #[error("pattern `{pattern}`: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// Shares of training, validation and test that are none.
    #[error("shares of training, validation and test are {}, {} and {}; each is 0 to 1, the first above 0, and together they are 1", found[0], found[1], found[2])]
    Shares {
        /// The shares.
        found: [f64; 3],
    },
    /// A split by session of pictures of one session.
    #[error("the {name} pictures are all of one session; split by `pairs` or `people`")]
    Sessions {
        /// The layout.
        name: String,
    },
    /// The file system refuses.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}
