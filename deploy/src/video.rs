//! Frames of video files and cameras, decoded by the program `ffmpeg`.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use contract::preprocess::{MAX_EDGE, MAX_PIXELS};
use image::RgbImage;

use crate::DeployError;

/// Endings of video files, lower case.
const EXTENSIONS: [&str; 13] =
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "wmv", "flv", "mjpeg"];

/// What addresses of streams begin with.
const ADDRESSES: [&str; 5] = ["rtsp://", "rtsps://", "rtmp://", "http://", "https://"];

/// Longest line of what ffmpeg says that is read whole.
const LINE: u64 = 1 << 16;

/// Lines of ffmpeg's words that an error repeats.
const SAID: usize = 4;

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// The file, device or address.
    pub place: PathBuf,
    /// Each how many frames one is taken, the first one first.
    pub every: u64,
    /// Most frames that are taken; `None` for all.
    pub most: Option<u64>,
}

/// A frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Its number in the video, from 0.
    pub number: u64,
    /// Seconds from the start of the video.
    pub seconds: f64,
    /// Its pixels.
    pub pixels: RgbImage,
}

impl Video {
    /// Whether a place is a video file by its name, a camera, or the address of a stream.
    pub fn is_one(place: &Path) -> bool {
        let ending = place.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        Self::is_live(place) || ending.is_some_and(|ending| EXTENSIONS.contains(&ending.as_str()))
    }

    /// Whether it may never end: a camera, or the address of a stream.
    pub fn is_live(place: &Path) -> bool {
        let text = place.to_string_lossy();
        text.starts_with("/dev/video") || ADDRESSES.iter().any(|begin| text.starts_with(begin))
    }

    /// Starts ffmpeg.
    ///
    /// # Errors
    /// If it is not there.
    pub fn frames(&self) -> Result<Frames, DeployError> {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-nostats", "-loglevel", "info"]);
        let text = self.place.as_os_str();
        if text.to_string_lossy().starts_with("/dev/video") {
            command.args(["-f", "v4l2", "-i"]).arg(text);
        } else if Self::is_live(&self.place) {
            command.arg("-i").arg(text);
        } else {
            // A name may begin with a dash, or look like an address.
            let mut file = std::ffi::OsString::from("file:");
            file.push(text);
            command.arg("-i").arg(file);
        }
        // `showinfo` tells the time of each frame before it comes. Then the frames are said to be a 25th of a second
        // apart, as the output is, so that none is doubled or left out; all versions of ffmpeg know how.
        let filter = format!("select=not(mod(n\\,{})),showinfo,settb=1/25,setpts=N", self.every);
        command.args(["-map", "0:v:0", "-vf", &filter, "-r", "25"]);
        if let Some(most) = self.most {
            command.args(["-frames:v", &most.to_string()]);
        }
        command.args(["-f", "image2pipe", "-c:v", "ppm", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|source| self.failed(format!("`ffmpeg` cannot be started: {source}")))?;
        let (pictures, words) = (child.stdout.take(), child.stderr.take());
        let (Some(pictures), Some(words)) = (pictures, words) else {
            return Err(self.failed("`ffmpeg` has no output".to_owned()));
        };
        // ffmpeg waits where nobody reads what it says.
        let (say, said) = sync_channel(1 << 12);
        std::thread::spawn(move || {
            let mut words = BufReader::new(words);
            loop {
                let mut line = Vec::new();
                match words.by_ref().take(LINE).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let word = match time(&line) {
                    Some(seconds) => Word::Time(seconds),
                    None => Word::Other(line),
                };
                // Where nobody listens any more ffmpeg is to go on until it is ended.
                let _ = say.send(word);
            }
        });
        Ok(Frames { video: self.clone(), child, pictures: BufReader::new(pictures), said, last: Vec::new(), next: 0 })
    }

    fn failed(&self, problem: String) -> DeployError {
        DeployError::Video { path: self.place.clone(), problem }
    }
}

/// What ffmpeg says.
enum Word {
    /// When the next frame is.
    Time(f64),
    Other(String),
}

/// The time in a line of `showinfo`, in seconds.
fn time(line: &str) -> Option<f64> {
    if !line.contains("showinfo") {
        return None;
    }
    line.split_once("pts_time:")?.1.split_whitespace().next()?.parse().ok()
}

/// The frames of a video, in order. ffmpeg is ended where they are not read to the end.
pub struct Frames {
    video: Video,
    child: Child,
    pictures: BufReader<ChildStdout>,
    said: Receiver<Word>,
    /// The last things that it said.
    last: Vec<String>,
    next: u64,
}

impl Frames {
    /// When the next frame is.
    fn time(&mut self) -> Result<f64, DeployError> {
        while let Ok(word) = self.said.recv() {
            match word {
                Word::Time(seconds) => return Ok(seconds),
                Word::Other(line) => self.remember(line),
            }
        }
        Err(self.video.failed("`ffmpeg` does not tell the time of its frames".to_owned()))
    }

    fn remember(&mut self, line: String) {
        if !line.is_empty() {
            self.last.push(line);
        }
        if self.last.len() > SAID {
            self.last.remove(0);
        }
    }

    /// The next frame, or none at the end.
    fn frame(&mut self) -> Result<Option<Frame>, DeployError> {
        let video = self.video.clone();
        let read = |source: std::io::Error| video.failed(format!("the frames of `ffmpeg` break off: {source}"));
        if self.pictures.fill_buf().map_err(read)?.is_empty() {
            return self.end().map(|()| None);
        }
        let mut words = Vec::with_capacity(4);
        while words.len() < 4 {
            let mut word = Vec::new();
            loop {
                let mut byte = [0];
                self.pictures.read_exact(&mut byte).map_err(read)?;
                if byte[0].is_ascii_whitespace() || word.len() > 8 {
                    break;
                }
                word.push(byte[0]);
            }
            words.push(String::from_utf8_lossy(&word).into_owned());
        }
        let number = |text: &str| text.parse::<u32>().ok();
        let (Some(width), Some(height)) = (number(&words[1]), number(&words[2])) else {
            return Err(video.failed(format!("`ffmpeg` gave no picture, but `{}`", words.join(" "))));
        };
        if words[0] != "P6" || words[3] != "255" {
            return Err(video.failed(format!("`ffmpeg` gave no picture of 8 bits, but `{}`", words.join(" "))));
        }
        let area = u64::from(width) * u64::from(height);
        if area == 0 || width > MAX_EDGE || height > MAX_EDGE || area > MAX_PIXELS {
            let problem = format!(
                "its frames have {width}×{height} pixels; 1 to {MAX_EDGE} an edge and {MAX_PIXELS} in all are allowed"
            );
            return Err(video.failed(problem));
        }
        let mut pixels = vec![0; area as usize * 3];
        self.pictures.read_exact(&mut pixels).map_err(read)?;
        let seconds = self.time()?;
        let number = self.next;
        self.next += video.every;
        let pixels = RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel");
        Ok(Some(Frame { number, seconds, pixels }))
    }

    /// What ffmpeg says at the end.
    fn end(&mut self) -> Result<(), DeployError> {
        let status = self.child.wait().map_err(|error| self.video.failed(error.to_string()))?;
        while let Ok(word) = self.said.recv() {
            if let Word::Other(line) = word {
                self.remember(line);
            }
        }
        if !status.success() {
            return Err(self.video.failed(format!("`ffmpeg` failed: {}", self.last.join("; "))));
        }
        if self.next == 0 {
            return Err(self.video.failed("it has no frames".to_owned()));
        }
        Ok(())
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, DeployError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frame().transpose()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_cameras_and_addresses_are_told_from_pictures() {
        for (place, video, live) in [
            ("a/b.mp4", true, false),
            ("a/B.MKV", true, false),
            ("/dev/video0", true, true),
            ("rtsp://user@host/stream", true, true),
            ("https://host/a.mp4", true, true),
            ("a/b.jpg", false, false),
            ("mp4", false, false),
            ("http", false, false),
        ] {
            assert_eq!((Video::is_one(Path::new(place)), Video::is_live(Path::new(place))), (video, live), "{place}");
        }
    }

    #[test]
    fn the_time_of_a_frame_is_read_from_showinfo() {
        let line = "[Parsed_showinfo_1 @ 0x5581] n:   3 pts:   1024 pts_time:0.08    duration:512 fmt:yuv420p";
        assert_eq!(time(line), Some(0.08));
        assert_eq!(time("[Parsed_showinfo_1 @ 0x5581] config in time_base: 1/12800, frame_rate: 25/1"), None);
        assert_eq!(time("pts_time:3"), None);
    }
}
