//! Tables that say who is on pictures, or whose embeddings rows are: CSV with a header.
//!
//! | column | what | needed |
//! |---|---|---|
//! | `path`, `picture` or `palm` | the picture, relative to the table | yes, but for rows of embeddings |
//! | `vein` | the second picture of a pair | |
//! | `subject` or `identity` | who it is; empty for nobody known | |
//! | `camera` | its number, from 0 | |
//! | `taken` | the time in UTC, as 2026-11-28T14:03 | |
//! | `tags` | words between spaces | |

use std::path::{Component, Path, PathBuf};

use files::table::Table;

use crate::DeployError;
use crate::gallery::OWN;
use crate::identity::Identity;
use crate::pictures::Input;
use crate::time;

/// Columns that are read, each with its names.
const COLUMNS: [&[&str]; 6] =
    [&["path", "picture", "palm"], &["vein"], &["subject", "identity"], &["camera"], &["taken"], &["tags"]];

/// The rows of the table at `path`. Rows without a picture have no files.
///
/// # Errors
/// If it cannot be read, has a column that is not known, or a cell that is not what its column is for.
pub fn read(path: &Path) -> Result<Vec<Input>, DeployError> {
    let bytes = files::read_limited(path, files::LARGEST_TABLE);
    let bytes = bytes.map_err(|source| DeployError::Read { path: path.to_owned(), source })?;
    let wrong = |problem: String| DeployError::Manifest { path: path.to_owned(), problem };
    let table = Table::read(&bytes).map_err(|error| wrong(error.to_string()))?;
    let known: Vec<&str> = COLUMNS.iter().flat_map(|names| names.iter().copied()).collect();
    if let Some(column) = table.header().iter().find(|column| !known.contains(&&column[..])) {
        return Err(wrong(format!("column `{column}` is none of {}", known.join(", "))));
    }
    let column = |names: &[&str]| names.iter().find_map(|name| table.column(name));
    let [file, vein, subject, camera, taken, tags] = COLUMNS.map(column);
    let folder = path.parent().unwrap_or(Path::new(""));
    let row = |row: &files::table::Row| {
        let cell =
            |column: Option<usize>| column.map(|column| row.cells[column].as_str()).filter(|text| !text.is_empty());
        let wrong = |problem: String| wrong(format!("line {}: {problem}", row.line));
        let mut paths = Vec::new();
        for text in [cell(file), cell(vein)].into_iter().flatten() {
            let own = Path::new(text);
            if !own.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
                return Err(wrong(format!("`{text}` leads out of the table's folder; a path below it is allowed")));
            }
            paths.push(folder.join(own));
        }
        let identity = match cell(subject) {
            None => Identity::Unnamed,
            Some(name) => Identity::given(datasets::identity_name(name).map_err(|error| wrong(error.to_string()))?),
        };
        let camera = cell(camera).map(|text| match text.parse() {
            Ok(camera) if camera < ::gallery::MAX_CAMERA => Ok(camera),
            _ => Err(wrong(format!("camera `{text}`; a number from 0 is allowed"))),
        });
        let taken = cell(taken).map(|text| time::read(text).map_err(&wrong)).transpose()?;
        let tags: Vec<String> = cell(tags).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if let Some(tag) = tags.iter().find(|tag| tag.starts_with(OWN)) {
            return Err(wrong(format!("tag `{tag}`; a word is allowed that does not begin with {OWN}")));
        }
        Ok(Input { files: paths, missing: Vec::new(), identity, camera: camera.transpose()?, taken, tags })
    };
    table.rows().iter().map(row).collect()
}

/// The same, of a table in which every row has a picture.
///
/// # Errors
/// As [`read`], and if a row has none.
pub fn read_pictures(path: &Path) -> Result<Vec<Input>, DeployError> {
    let rows = read(path)?;
    match rows.iter().position(|row| row.files.is_empty()) {
        None => Ok(rows),
        Some(at) => {
            let problem = format!("row {} names no picture; a column `path` is needed", at + 1);
            Err(DeployError::Manifest { path: path.to_owned(), problem })
        }
    }
}

/// The paths of a list, one a line; `-` is standard input.
///
/// # Errors
/// If it cannot be read, or a line names nothing that is there.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, DeployError> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
            .map_err(|source| DeployError::Read { path: "standard input".into(), source })
    } else {
        let text = files::read_text_limited(path, files::LARGEST_TABLE);
        text.map_err(|source| DeployError::Read { path: path.to_owned(), source })
    };
    let text = text?;
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty());
    let there = |(line, number): (&str, usize)| match Path::new(line).try_exists() {
        Ok(false) => {
            let problem = format!(
                "line {number}: there is no `{line}`; a line of a list is the path of a picture or folder, from the \
                 working folder"
            );
            Err(DeployError::Manifest { path: path.to_owned(), problem })
        }
        _ => Ok(PathBuf::from(line)),
    };
    lines.map(there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_their_columns_say_and_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        let rows = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        let found =
            rows("path;subject;camera;taken;tags\na/1.png;\"Smith; Anna\";3;2026-11-28T14:03;gate day\nb.png;;;;\n");
        let [anna, nobody] = &found.unwrap()[..] else { panic!("two rows") };
        assert_eq!(anna.files, [folder.path().join("a/1.png")]);
        assert_eq!((&anna.identity, anna.camera), (&Identity::given("Smith; Anna"), Some(3)));
        assert_eq!((anna.taken, &anna.tags[..]), (Some(1_795_874_580_000), &["gate".to_owned(), "day".to_owned()][..]));
        assert_eq!(*nobody, Input::new(folder.path().join("b.png"), Identity::Unnamed, None));
        for (text, words) in [
            ("path,who\na,b\n", "`who` is none of path"),
            ("path\n../a.png\n", "line 2: `../a.png` leads out"),
            ("path\n/etc/passwd\n", "line 2: `/etc/passwd` leads out"),
            ("path,camera\na,-1\n", "line 2: camera `-1`"),
            ("path,taken\na,\nb,yesterday\n", "line 3: `yesterday` is no time"),
            ("path,tags\na,~junk\n", "line 2: tag `~junk`"),
            ("path,subject\na,\u{1b}[31m\n", "line 2: "),
        ] {
            let error = rows(text).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("people.csv"), "{error}");
        }
        std::fs::write(&path, "subject\nanna\n").unwrap();
        assert!(read_pictures(&path).unwrap_err().to_string().contains("row 1 names no picture"));
    }
}
