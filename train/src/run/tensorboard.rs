//! TensorBoard event files: scalars, pictures and histograms, protobuf messages in the record framing of TensorFlow.

use std::io::Write;
use std::path::{Path, PathBuf};

use files::{self, WriteError};
use image::{ImageError, ImageFormat, RgbImage};
use prost::Message;

/// `tensorflow.Event`, the fields in use.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Unix seconds.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// Only in the first event of a file.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`, the fields in use.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Picture>,
    #[prost(message, optional, tag = "5")]
    histo: Option<Histogram>,
}

/// `tensorflow.Summary.Image`.
#[derive(Clone, PartialEq, Message)]
struct Picture {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 3: RGB.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

/// `tensorflow.HistogramProto`.
#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    num: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_squares: f64,
    /// Right end of each bucket.
    #[prost(double, repeated, tag = "6")]
    bucket_limit: Vec<f64>,
    /// Values in each bucket.
    #[prost(double, repeated, tag = "7")]
    bucket: Vec<f64>,
}

/// Pictures and histograms of an epoch, for TensorBoard.
#[derive(Debug, Default)]
pub struct Reporter {
    values: Vec<Value>,
}

impl Reporter {
    /// A picture under `tag`.
    ///
    /// # Errors
    /// If it cannot be compressed.
    pub fn picture(&mut self, tag: &str, picture: &RgbImage) -> Result<(), ImageError> {
        let mut png = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png)?;
        let [height, width] = [picture.height(), picture.width()].map(|side| side as i32);
        let image = Picture { height, width, colorspace: 3, encoded_image_string: png.into_inner() };
        self.values.push(Value { tag: tag.to_owned(), image: Some(image), ..Value::default() });
        Ok(())
    }

    /// How `values` are spread, in [`BUCKETS`] buckets of equal width; none of no values. Values that are not finite
    /// are left out.
    pub fn histogram(&mut self, tag: &str, values: &[f32]) {
        let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).filter(|value| value.is_finite()).collect();
        let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        if values.is_empty() {
            return;
        }
        // A bucket has a width, also when all values are one.
        let width = ((max - min) / BUCKETS as f64).max(f64::from(f32::EPSILON) * min.abs().max(1e-6));
        let mut bucket = vec![0.0; BUCKETS];
        for value in &values {
            bucket[(((value - min) / width) as usize).min(BUCKETS - 1)] += 1.0;
        }
        let histo = Histogram {
            min,
            max,
            num: values.len() as f64,
            sum: values.iter().sum(),
            sum_squares: values.iter().map(|value| value * value).sum(),
            bucket_limit: (1..=BUCKETS).map(|k| min + k as f64 * width).collect(),
            bucket,
        };
        self.values.push(Value { tag: tag.to_owned(), histo: Some(histo), ..Value::default() });
    }
}

/// Buckets of a histogram.
pub const BUCKETS: usize = 30;

/// Where in a run an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// A batch, by its number since the start of the run, from 0.
    Batch(u64),
    /// An epoch, from 1.
    Epoch(usize),
}

/// The event file of a run. It only grows, as TensorBoard follows a growing file but not one that is replaced; the
/// exception is a run that resumes from before the end of its file.
#[derive(Debug, Clone)]
pub(crate) struct EventFile {
    folder: PathBuf,
    /// End of the file's name, which tells runs in one folder apart.
    suffix: String,
    path: Option<PathBuf>,
    /// What is in the file, then what is still to be written: where each event belongs, and its end.
    index: Vec<(Stamp, usize)>,
    /// Length of the file; unlike what is in it where its end is torn.
    written: usize,
    torn: bool,
    pending: Vec<u8>,
    /// TensorBoard's step of the first epoch.
    first_epoch: usize,
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    files::read_limited(path, files::LARGEST_ARRAY)
}

impl EventFile {
    /// The file of a run in `folder`: the run directory's own, or that of `run` in a folder for several. `batch_tags`
    /// are those that only batches have.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn open(folder: &Path, run: &str, batch_tags: &[&str], first_epoch: usize) -> std::io::Result<Self> {
        let suffix = if run.is_empty() { SUFFIX.to_owned() } else { format!(".{run}{SUFFIX}") };
        let path = find(folder, &suffix);
        let bytes = path.as_deref().map(read).transpose()?.unwrap_or_default();
        let mut file = Self {
            folder: folder.to_owned(),
            suffix,
            path,
            index: Vec::new(),
            written: bytes.len(),
            torn: false,
            pending: Vec::new(),
            first_epoch,
        };
        let mut at = 0;
        while let Some((event, size)) = decode(&bytes[at..]) {
            at += size;
            let mut values = event.summary.iter().flat_map(|summary| &summary.value);
            let stamp = match values.next() {
                // The head goes with whatever comes first.
                None => continue,
                Some(value) if batch_tags.contains(&value.tag.as_str()) => Stamp::Batch(event.step as u64),
                Some(_) => Stamp::Epoch((event.step as usize + 1).saturating_sub(first_epoch)),
            };
            file.index.push((stamp, at));
        }
        file.torn = file.index.last().map_or(0, |(_, end)| *end) != bytes.len();
        Ok(file)
    }

    /// Takes out what `stays` does not want.
    ///
    /// # Errors
    /// If the file cannot be rewritten.
    pub fn retain(&mut self, stays: impl Fn(Stamp) -> bool) -> Result<(), WriteError> {
        if !self.torn && self.index.iter().all(|(stamp, _)| stays(*stamp)) {
            return Ok(());
        }
        let Some(path) = self.path.clone() else {
            return Ok(());
        };
        let failed = |source| WriteError { path: path.clone(), source };
        self.flush()?;
        let old = read(&path).map_err(failed)?;
        let (mut bytes, mut index, mut at) = (Vec::new(), Vec::new(), 0);
        for (stamp, end) in std::mem::take(&mut self.index) {
            if stays(stamp) {
                bytes.extend_from_slice(&old[at..end]);
                index.push((stamp, bytes.len()));
            }
            at = end;
        }
        if index.is_empty() {
            std::fs::remove_file(&path).map_err(failed)?;
            self.path = None;
        } else {
            files::write(&path, &bytes)?;
        }
        (self.index, self.written, self.torn) = (index, bytes.len(), false);
        Ok(())
    }

    /// Adds numbers by tag; `began` is the time of the file's head, should this be the first event.
    pub fn scalars(&mut self, stamp: Stamp, [began, now]: [f64; 2], numbers: impl IntoIterator<Item = (String, f64)>) {
        let value = |(tag, value)| Value { tag, simple_value: Some(value as f32), ..Value::default() };
        self.push(stamp, [began, now], numbers.into_iter().map(value).collect());
    }

    /// Adds an epoch's record.
    pub fn report(&mut self, stamp: Stamp, now: f64, reporter: Reporter) {
        self.push(stamp, [now, now], reporter.values);
    }

    fn push(&mut self, stamp: Stamp, [began, now]: [f64; 2], value: Vec<Value>) {
        if value.is_empty() {
            return;
        }
        if self.index.is_empty() {
            let version = Some("brain.Event:2".to_owned());
            frame(&Event { wall_time: began, file_version: version, ..Event::default() }, &mut self.pending);
            let name = format!("{PREFIX}{:010}{}", now as u64, self.suffix);
            self.path = Some(self.folder.join(name));
        }
        let step = match stamp {
            Stamp::Batch(batch) => batch as i64,
            Stamp::Epoch(epoch) => (epoch + self.first_epoch) as i64 - 1,
        };
        let event = Event { wall_time: now, step, summary: Some(Summary { value }), ..Event::default() };
        frame(&event, &mut self.pending);
        self.index.push((stamp, self.written + self.pending.len()));
    }

    /// Writes the added events to the end of the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let Some(path) = self.path.as_ref().filter(|_| !self.pending.is_empty()) else { return Ok(()) };
        if self.written == 0 {
            files::write(path, &self.pending)?;
        } else {
            let append = || std::fs::OpenOptions::new().append(true).open(path)?.write_all(&self.pending);
            append().map_err(|source| WriteError { path: path.clone(), source })?;
        }
        self.written += self.pending.len();
        self.pending.clear();
        Ok(())
    }
}

/// How the names of event files begin; what follows is the time of the first event.
const PREFIX: &str = "events.out.tfevents.";

/// How the names of ours end.
const SUFFIX: &str = ".vitrine";

/// The event file of a run directory.
pub(crate) fn existing(folder: &Path) -> Option<PathBuf> {
    find(folder, SUFFIX)
}

/// The event file whose name is a time between the prefix and `suffix`.
fn find(folder: &Path, suffix: &str) -> Option<PathBuf> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let time = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(suffix));
        time.is_some_and(|time| !time.is_empty() && time.bytes().all(|digit| digit.is_ascii_digit()))
    };
    std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(ours).min()
}

/// Adds an event with its length and checksums.
fn frame(event: &Event, bytes: &mut Vec<u8>) {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
    bytes.extend_from_slice(&data);
    bytes.extend_from_slice(&masked(crc32c(&data)).to_le_bytes());
}

/// The first event of `bytes` and its length in them; `None` at their end, or where a length or a checksum is wrong.
fn decode(bytes: &[u8]) -> Option<(Event, usize)> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (data, rest) = rest.split_at_checked(size)?;
    let (data_crc, rest) = rest.split_first_chunk::<4>()?;
    let sound =
        masked(crc32c(length)) == u32::from_le_bytes(*crc) && masked(crc32c(data)) == u32::from_le_bytes(*data_crc);
    let event = sound.then(|| Event::decode(data).ok()).flatten()?;
    Some((event, bytes.len() - rest.len()))
}

/// TensorFlow's mask, against checksums of data that contains checksums.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Tags and steps of a run's file in `folder`.
    pub(crate) fn steps(folder: &Path, run: &str) -> Vec<(String, i64)> {
        let path = find(folder, &format!(".{run}{SUFFIX}")).unwrap();
        let events = all(&std::fs::read(path).unwrap()).unwrap();
        let tags = |event: &Event| {
            let values = event.summary.iter().flat_map(|summary| &summary.value);
            values.map(|value| (value.tag.clone(), event.step)).collect::<Vec<_>>()
        };
        events.iter().flat_map(tags).collect()
    }

    /// Every event of a file, when it is whole.
    fn all(bytes: &[u8]) -> Option<Vec<Event>> {
        let (mut events, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let (event, size) = decode(&bytes[at..])?;
            events.push(event);
            at += size;
        }
        Some(events)
    }

    fn read(folder: &Path) -> Vec<u8> {
        std::fs::read(existing(folder).unwrap()).unwrap()
    }

    /// A run of two batches an epoch, from `epochs.start` on.
    fn log(folder: &Path, epochs: std::ops::Range<usize>, offset: f64) {
        let mut file = EventFile::open(folder, "", &["Train/Loss"], 0).unwrap();
        file.retain(|stamp| match stamp {
            Stamp::Batch(batch) => batch < 2 * (epochs.start as u64 - 1),
            Stamp::Epoch(epoch) => epoch < epochs.start,
        })
        .unwrap();
        for epoch in epochs {
            for batch in 0..2 {
                let number = 2 * (epoch as u64 - 1) + batch;
                let time = 100.0 + number as f64;
                file.scalars(Stamp::Batch(number), [time; 2], [("Train/Loss".to_owned(), number as f64 + offset)]);
            }
            let time = 101.5 + 2.0 * (epoch - 1) as f64;
            file.scalars(Stamp::Epoch(epoch), [time; 2], [("Epoch/Loss".to_owned(), epoch as f64)]);
            file.flush().unwrap();
        }
    }

    /// Test vectors of RFC 3720, section B.4.
    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn batches_and_epochs_have_their_own_steps() {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), 1..3, 0.0);
        let bytes = read(folder.path());
        let events = all(&bytes).unwrap();
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let found: Vec<_> = events[1..]
            .iter()
            .map(|event| {
                let value = &event.summary.as_ref().unwrap().value[0];
                (value.tag.as_str(), event.step, value.simple_value.unwrap())
            })
            .collect();
        let (batch, epoch) = ("Train/Loss", "Epoch/Loss");
        assert_eq!(
            found,
            [(batch, 0, 0.0), (batch, 1, 1.0), (epoch, 0, 1.0), (batch, 2, 2.0), (batch, 3, 3.0), (epoch, 1, 2.0)]
        );
        let mut damaged = bytes.clone();
        for at in [0, 9, 40, bytes.len() - 1] {
            damaged[at] ^= 1;
            assert!(all(&damaged).is_none(), "byte {at}");
            damaged[at] ^= 1;
        }
    }

    #[test]
    fn a_resumed_run_continues_the_file_where_it_does() {
        let [straight, resumed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        log(straight.path(), 1..5, 0.0);
        let expected = read(straight.path());
        // Two epochs and the beginning of a third, which is torn.
        log(resumed.path(), 1..3, 0.0);
        let whole = read(resumed.path()).len();
        log(resumed.path(), 3..4, 7.0);
        let path = existing(resumed.path()).unwrap();
        let torn = std::fs::read(&path).unwrap();
        std::fs::write(&path, &torn[..whole + 100]).unwrap();
        log(resumed.path(), 3..5, 0.0);
        assert!(read(resumed.path()) == expected);
        // From the very start: nothing of the old run stays.
        log(resumed.path(), 1..5, 0.0);
        assert!(read(resumed.path()) == expected);
        assert_eq!(std::fs::read_dir(resumed.path()).unwrap().count(), 1);
    }

    #[test]
    fn runs_in_one_folder_have_a_file_each() {
        let folder = tempfile::tempdir().unwrap();
        for run in ["", "a", "b.a"] {
            let mut file = EventFile::open(folder.path(), run, &[], 1).unwrap();
            file.scalars(Stamp::Epoch(1), [5.0; 2], [("loss".to_owned(), 1.0)]);
            file.flush().unwrap();
        }
        let mut file = EventFile::open(folder.path(), "a", &[], 1).unwrap();
        file.retain(|_| false).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["events.out.tfevents.0000000005.b.a.vitrine", "events.out.tfevents.0000000005.vitrine"]);
    }

    #[test]
    fn pictures_and_histograms_are_what_tensorboard_reads() {
        let mut reporter = Reporter::default();
        let picture = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 9]));
        reporter.picture("Images/Sample_0", &picture).unwrap();
        reporter.histogram("Pose/Target", &[0.0, 1.0, 1.0, 30.0, f32::NAN]);
        reporter.histogram("constant", &[2.5, 2.5]);
        reporter.histogram("none", &[]);
        let [image, pose, constant] = &reporter.values[..] else { panic!("{:?}", reporter.values) };
        let image = image.image.as_ref().unwrap();
        assert_eq!((image.height, image.width, image.colorspace), (2, 3, 3));
        assert_eq!(image::load_from_memory(&image.encoded_image_string).unwrap().to_rgb8(), picture);
        let pose = pose.histo.as_ref().unwrap();
        assert_eq!((pose.min, pose.max, pose.num, pose.sum, pose.sum_squares), (0.0, 30.0, 4.0, 32.0, 902.0));
        assert_eq!((pose.bucket[0], pose.bucket[1], pose.bucket[29]), (1.0, 2.0, 1.0));
        assert_eq!((pose.bucket_limit[0], pose.bucket_limit[29]), (1.0, 30.0));
        let constant = constant.histo.as_ref().unwrap();
        assert_eq!(constant.bucket.iter().sum::<f64>(), 2.0);
        assert!(constant.bucket_limit[0] > 2.5);
    }
}
