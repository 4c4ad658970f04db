//! Ground truth of multi-object tracking as MOTChallenge publishes it (MOT16, MOT17, MOT20): boxes of people in the
//! frames of videos, from which pictures of people can be cut.
//!
//! A video is a folder with `gt/gt.txt` and its frames in `img1` (or where its `seqinfo.ini` says). A line of `gt.txt`
//! is `frame,id,left,top,width,height,flag,class,visibility`: frames and pixels count from 1, a flag of 0 says that
//! the line is not to be considered, class 1 is a pedestrian, and visibility is the share of the box that nothing
//! covers. MOT17 has each video three times, for three detectors; one of them is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::listing::Listing;
use super::{DatasetError, name};

/// Which boxes are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct MotOptions {
    /// Classes, by MOTChallenge's numbers.
    pub classes: Vec<u32>,
    /// Least share of a box that is visible, 0 to 1.
    pub visibility: f64,
    /// Least height of a box in pixels.
    pub min_height: f64,
    /// Of a person's boxes every one that is at least so many frames behind the last one taken, from 1.
    pub every: u32,
}

impl Default for MotOptions {
    fn default() -> Self {
        Self { classes: vec![1], visibility: 0.3, min_height: 48.0, every: 5 }
    }
}

/// A box of somebody in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Crop {
    /// Number of the frame, from 1.
    pub frame: u32,
    /// The frame's picture.
    pub picture: PathBuf,
    /// Left, top, width and height in pixels, the first two from 0. It may reach out of the picture.
    pub area: [f64; 4],
}

/// Somebody in a video.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Name of the video, without its detector: `MOT17-02`.
    pub video: String,
    /// Number in the video.
    pub id: u32,
    /// Boxes, in the order of their frames.
    pub crops: Vec<Crop>,
}

/// Lines of ground truth that are not used, by the first reason that holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MotSkipped {
    /// Not to be considered.
    pub flagged: usize,
    /// Of another class.
    pub class: usize,
    /// Seen too little.
    pub hidden: usize,
    /// Too low.
    pub small: usize,
    /// Too few frames behind the last.
    pub near: usize,
    /// Without a picture of their frame.
    pub missing: usize,
}

/// The people of some videos.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tracks {
    /// Everybody, by video and number.
    pub tracks: Vec<Track>,
    /// What was left out.
    pub skipped: MotSkipped,
}

/// Detectors whose names end those of MOT17's videos; the first that is there is read.
const DETECTORS: [&str; 3] = ["-FRCNN", "-SDP", "-DPM"];

/// Form of a line.
const LINE: &str = "`frame,id,left,top,width,height,flag,class,visibility`, as in MOT16, MOT17 and MOT20,";

fn truth(video: &Path) -> PathBuf {
    video.join("gt").join("gt.txt")
}

/// The people in the videos of `root`: a video, a folder of videos, or a data set with its videos in `train`.
///
/// # Errors
/// If there is no video with ground truth, or a line of it is malformed.
pub fn tracks(root: &Path, options: &MotOptions) -> Result<Tracks, DatasetError> {
    let mut found = Tracks::default();
    for (name, folder) in videos(root)? {
        video(&name, &folder, options, &mut found)?;
    }
    Ok(found)
}

/// The videos by their names, each once.
fn videos(root: &Path) -> Result<Vec<(String, PathBuf)>, DatasetError> {
    let named = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if truth(root).is_file() {
        let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        return Ok(vec![(named(&whole), root.to_owned())]);
    }
    if !root.is_dir() {
        return Err(DatasetError::NoFolder { root: root.to_owned() });
    }
    let mut found = BTreeMap::<String, (usize, PathBuf)>::new();
    for place in [root.to_owned(), root.join("train")].into_iter().filter(|place| place.is_dir()) {
        for folder in Listing::of(&place)?.folders.into_iter().filter(|folder| truth(folder).is_file()) {
            let name = named(&folder);
            let detector = DETECTORS.iter().position(|end| name.ends_with(end));
            let plain = detector.map_or(name.as_str(), |at| name.trim_end_matches(DETECTORS[at])).to_owned();
            let rank = detector.unwrap_or(0);
            let other = found.entry(plain).or_insert_with(|| (rank, folder.clone()));
            if rank < other.0 {
                *other = (rank, folder);
            }
        }
    }
    if found.is_empty() {
        return Err(DatasetError::NotFound {
            name: "MOTChallenge".into(),
            root: root.to_owned(),
            found: Listing::found_below(root)?,
            allowed: "a folder with `gt/gt.txt` and `img1` for each video, there or in `train`,".into(),
        });
    }
    let mut videos: Vec<_> = found.into_iter().map(|(name, (_, folder))| (name, folder)).collect();
    videos.sort_by(|a, b| name::natural(Path::new(&a.0), Path::new(&b.0)));
    Ok(videos)
}

/// Where a video's frames are: folder and ending of the names, from its `seqinfo.ini`, where there is one.
fn frames(folder: &Path) -> (PathBuf, String) {
    /// Far more than the eight lines of such a file.
    const MOST: u64 = 1 << 16;
    let text = files::read_text_limited(&folder.join("seqinfo.ini"), MOST).unwrap_or_default();
    let value = |key: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .filter(|(found, _)| found.trim().eq_ignore_ascii_case(key))
            .map(|(_, value)| value.trim().to_owned())
            .next()
    };
    // It is data from elsewhere: it names a folder of its own only.
    let plain = |name: &String| !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    let place = value("imDir").filter(plain).unwrap_or_else(|| "img1".to_owned());
    let ending = value("imExt").filter(plain).unwrap_or_else(|| ".jpg".to_owned());
    (folder.join(place), ending)
}

fn video(name: &str, folder: &Path, options: &MotOptions, found: &mut Tracks) -> Result<(), DatasetError> {
    let path = truth(folder);
    let text = files::read_text_limited(&path, files::LARGEST_TABLE);
    let text = text.map_err(|source| DatasetError::Read { path: path.clone(), source })?;
    let (pictures, ending) = frames(folder);
    let mut people = BTreeMap::<u32, BTreeMap<u32, [f64; 4]>>::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || DatasetError::List {
            path: path.clone(),
            line: index + 1,
            found: line.chars().take(120).collect(),
            allowed: LINE,
        };
        let numbers: Option<Vec<f64>> = line.split(',').map(|field| field.trim().parse().ok()).collect();
        let numbers: Option<[f64; 9]> = numbers.and_then(|numbers| numbers.try_into().ok());
        let Some([frame, id, left, top, width, height, flag, class, visibility]) = numbers else { return Err(wrong()) };
        let whole =
            |value: f64| (value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value)).then_some(value as u32);
        let (Some(frame), Some(id), Some(class)) = (whole(frame), whole(id), whole(class)) else { return Err(wrong()) };
        let finite = [left, top, width, height, flag].iter().all(|value| value.is_finite());
        if frame == 0 || !finite || width <= 0.0 || height <= 0.0 || !(0.0..=1.0).contains(&visibility) {
            return Err(wrong());
        }
        let skipped = &mut found.skipped;
        if flag == 0.0 {
            skipped.flagged += 1;
        } else if !options.classes.contains(&class) {
            skipped.class += 1;
        } else if visibility < options.visibility {
            skipped.hidden += 1;
        } else if height < options.min_height {
            skipped.small += 1;
        } else if people.entry(id).or_default().insert(frame, [left - 1.0, top - 1.0, width, height]).is_some() {
            return Err(wrong());
        }
    }
    for (id, boxes) in people {
        let (mut crops, mut last) = (Vec::new(), None);
        for (frame, area) in boxes {
            if last.is_some_and(|last| frame - last < options.every) {
                found.skipped.near += 1;
                continue;
            }
            let picture = pictures.join(format!("{frame:06}{ending}"));
            if !picture.is_file() {
                found.skipped.missing += 1;
                continue;
            }
            last = Some(frame);
            crops.push(Crop { frame, picture, area });
        }
        if !crops.is_empty() {
            found.tracks.push(Track { video: name.to_owned(), id, crops });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A video with these lines and empty pictures of its frames.
    fn write(root: &Path, video: &str, lines: &str, frames: &[u32]) {
        let folder = root.join(video);
        std::fs::create_dir_all(folder.join("gt")).unwrap();
        std::fs::create_dir_all(folder.join("img1")).unwrap();
        std::fs::write(truth(&folder), lines).unwrap();
        for frame in frames {
            std::fs::write(folder.join(format!("img1/{frame:06}.jpg")), "").unwrap();
        }
    }

    /// Video, number, frames.
    fn facts(found: &Tracks) -> Vec<(&str, u32, Vec<u32>)> {
        let fact = |track: &Track| track.crops.iter().map(|crop| crop.frame).collect();
        found.tracks.iter().map(|track| (track.video.as_str(), track.id, fact(track))).collect()
    }

    #[test]
    fn boxes_are_chosen_by_flag_class_visibility_height_and_distance() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let lines = "1,1,912,484,97,109,0,7,1\n\
            1,2,1338,418,167,379,1,1,1\n\
            2,2,1342,417,168,380,1,1,0.98684\n\
            6,2,1346,417,170,380,1,1,0.98684\n\
            7,2,1346,417,170,380,1,1,0.9\n\
            6,3,100,100,40,90,1,2,0.8\n\
            6,4,100,100,40,90,1,1,0.25\n\
            6,5,100,100,20,47.5,1,1,0.75\n\
            11,5,-3,100,20,48,1,1,0.75\n\
            12,6,-3,100,20,48,1,1,0.75\n";
        for detector in ["DPM", "FRCNN", "SDP"] {
            write(root, &format!("MOT17/train/MOT17-02-{detector}"), lines, &[1, 2, 6, 7, 11]);
        }
        write(root, "MOT17/train/MOT17-10-SDP", "1,9,1,1,50,120,1,1,1\n", &[1]);
        let found = tracks(&root.join("MOT17"), &MotOptions::default()).unwrap();
        assert_eq!(facts(&found), [("MOT17-02", 2, vec![1, 6]), ("MOT17-02", 5, vec![11]), ("MOT17-10", 9, vec![1])]);
        let expected = MotSkipped { flagged: 1, class: 1, hidden: 1, small: 1, near: 2, missing: 1 };
        assert_eq!(found.skipped, expected);
        let crop = &found.tracks[0].crops[0];
        assert_eq!(crop.area, [1337.0, 417.0, 167.0, 379.0]);
        assert!(crop.picture.ends_with("MOT17-02-FRCNN/img1/000001.jpg"), "{crop:?}");
        let all = MotOptions { classes: vec![1, 2, 7], visibility: 0.0, min_height: 1.0, every: 1 };
        let found = tracks(&root.join("MOT17/train"), &all).unwrap();
        let frames = [(2, vec![1, 2, 6, 7]), (3, vec![6]), (4, vec![6]), (5, vec![6, 11])];
        assert_eq!(facts(&found)[..4], frames.map(|(id, frames)| ("MOT17-02", id, frames)));
        // One video, whose frames are elsewhere.
        let video = root.join("MOT17/train/MOT17-10-SDP");
        std::fs::rename(video.join("img1"), video.join("frames")).unwrap();
        assert_eq!(tracks(&video, &all).unwrap().skipped.missing, 1);
        std::fs::write(video.join("seqinfo.ini"), "[Sequence]\nname=MOT17-10\nimDir = frames\nimExt=.jpg\n").unwrap();
        assert_eq!(facts(&tracks(&video, &all).unwrap()), [("MOT17-10-SDP", 9, vec![1])]);
        std::fs::write(video.join("seqinfo.ini"), "imDir=../MOT17-02-DPM/img1\n").unwrap();
        assert_eq!(tracks(&video, &all).unwrap().skipped.missing, 1, "no folder of another");
    }

    #[test]
    fn lines_of_another_form_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let good = "1,2,1338,418,167,379,1,1,1\n";
        for wrong in [
            "1,2,3,4,5,6,1,1",
            "1,2,3,4,5,6,1,1,1,9",
            "0,2,3,4,5,6,1,1,1",
            "1.5,2,3,4,5,6,1,1,1",
            "1,-1,3,4,5,6,1,1,1",
            "1,2,nan,4,5,6,1,1,1",
            "1,2,3,4,0,6,1,1,1",
            "1,2,3,4,5,6,1,1,1.5",
            "1,2,1338,418,167,379,1,1,1",
            "one",
        ] {
            write(root, "video", &format!("{good}\n{wrong}\n"), &[1]);
            let error = tracks(root, &MotOptions::default()).unwrap_err().to_string();
            assert!(error.contains("line 3") && error.contains("gt.txt") && error.contains("visibility"), "{error}");
        }
        let error = tracks(&root.join("video/img1"), &MotOptions::default()).unwrap_err().to_string();
        assert!(error.contains("gt/gt.txt") && error.contains("000001.jpg") | error.contains("1 picture"), "{error}");
        assert!(tracks(&root.join("none"), &MotOptions::default()).is_err());
    }
}
