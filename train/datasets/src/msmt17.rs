//! MSMT17 as its authors publish it: `train` and `test`, and lists of `path identity` lines.

use std::path::Path;

use contract::preprocess::is_unread_picture;

use super::listing::unread;
use super::three_folders;
use super::{DatasetError, LeftOut, Parts, Sample};

/// What is needed, for messages.
pub(super) const ALLOWED: &str = "`train` and `test` (in MSMT17_V2 `mask_train_v2` and `mask_test_v2`), \
                                  list_train.txt, list_query.txt, list_gallery.txt, optionally list_val.txt";

const LISTS: [&str; 4] = ["list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt"];

/// Folders of the pictures that train and test, in the first version and in the second.
const FOLDERS: [[&str; 2]; 2] = [["train", "test"], ["mask_train_v2", "mask_test_v2"]];

fn folders(base: &Path) -> Option<[&'static str; 2]> {
    FOLDERS.into_iter().find(|[train, _]| base.join(train).is_dir())
}

/// Whether list and pictures are there.
pub(super) fn fits(base: &Path) -> bool {
    base.join(LISTS[0]).is_file() && folders(base).is_some()
}

/// Training (validation included, as in the published numbers), query and gallery pictures.
pub(super) fn open(base: &Path) -> Result<Parts, DatasetError> {
    let [training, testing] = folders(base).unwrap_or(FOLDERS[0]);
    let mut left_out = LeftOut::default();
    let mut read = |list: &str, folder: &str| read(&base.join(list), &base.join(folder), &mut left_out);
    let mut train = read(LISTS[0], training)?;
    let mut warnings = Vec::new();
    // Copies without a validation list, or with an empty one, go around; the published numbers include it.
    match std::fs::metadata(base.join(LISTS[1])) {
        Ok(list) if list.len() > 0 => train.extend(read(LISTS[1], training)?),
        _ => warnings.push(format!("`{}` is missing or empty: nothing is added to the training set", LISTS[1])),
    }
    let samples = three_folders::cameras_from_0([train, read(LISTS[2], testing)?, read(LISTS[3], testing)?]);
    Ok(Parts { samples, left_out, warnings, cameras_known: true })
}

/// One list, with the cameras of the names. They are the third field, and count from 1:
/// `0000_000_01_0303morning_0008_0.jpg`.
fn read(list: &Path, folder: &Path, left_out: &mut LeftOut) -> Result<Vec<Sample>, DatasetError> {
    let text = files::read_text_limited(list, files::LARGEST_TABLE);
    let text = text.map_err(|source| DatasetError::Read { path: list.to_owned(), source })?;
    let mut samples = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || DatasetError::List {
            path: list.to_owned(),
            line: index + 1,
            found: line.to_owned(),
            allowed: "`<path> <identity>` with the camera as third `_` field of the file name, inside the dataset,",
        };
        let (path, identity) = line.trim().rsplit_once(char::is_whitespace).ok_or_else(wrong)?;
        let path = Path::new(path.trim());
        // A list is data from elsewhere: it names pictures of its own folder only.
        if !path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            return Err(wrong());
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
        let camera: i64 = name.split('_').nth(2).and_then(|field| field.parse().ok()).ok_or_else(wrong)?;
        let sample = Sample {
            path: folder.join(path),
            identity: identity.parse().map_err(|_| wrong())?,
            identity_name: identity.to_owned(),
            camera,
        };
        three_folders::check(&sample)?;
        if is_unread_picture(&sample.path) { left_out.unread.push(sample.path) } else { samples.push(sample) }
    }
    if samples.is_empty() {
        let unread = unread(&left_out.unread);
        let found = if unread.is_empty() { "an empty list".into() } else { unread };
        let allowed = "at least one `<path> <identity>` line of a picture that is read".into();
        return Err(DatasetError::Empty { folder: list.to_owned(), found, allowed });
    }
    Ok(samples)
}
