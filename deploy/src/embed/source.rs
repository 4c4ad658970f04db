//! Where pictures come from.

use std::borrow::Cow;
use std::path::PathBuf;

use image::RgbImage;

use crate::DeployError;
use crate::identity::Identity;
use crate::pictures::Input;
use crate::video::{Frames, Video};

/// Most bytes of pixels in a batch; a larger picture is a batch of its own.
const PIXELS: usize = 32 << 20;

/// A picture to embed: files, or pixels that are in memory.
#[derive(Debug, Clone)]
pub struct Picture<'a> {
    /// Its files, and who is on it. Of a frame the file is named `VIDEO#NUMBER@SECONDS`, and there is none.
    pub input: Cow<'a, Input>,
    /// Pixels in place of each of the files, such as those of a frame, until they are embedded; none to read the files.
    pub pixels: Vec<RgbImage>,
    /// Its place among the pictures of the source, from 0; [`super::stream_from`] counts.
    pub number: usize,
}

impl<'a> From<&'a Input> for Picture<'a> {
    fn from(input: &'a Input) -> Self {
        Self::new(Cow::Borrowed(input), Vec::new())
    }
}

impl<'a> Picture<'a> {
    /// A picture of files, or of pixels that stand for them.
    pub fn new(input: Cow<'a, Input>, pixels: Vec<RgbImage>) -> Self {
        Self { input, pixels, number: 0 }
    }

    fn bytes(&self) -> usize {
        self.pixels.iter().map(|pixels| pixels.as_raw().len()).sum()
    }
}

/// The pictures of files, and then the frames of videos, one video after the other.
pub struct Source<'a> {
    inputs: std::slice::Iter<'a, Input>,
    videos: std::slice::Iter<'a, (Video, Identity)>,
    open: Option<(&'a Video, &'a Identity, Frames)>,
}

impl<'a> Source<'a> {
    /// A source of pictures and videos, and who is on each of these.
    pub fn new(inputs: &'a [Input], videos: &'a [(Video, Identity)]) -> Self {
        Self { inputs: inputs.iter(), videos: videos.iter(), open: None }
    }
}

impl<'a> Iterator for Source<'a> {
    type Item = Result<Picture<'a>, DeployError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(input) = self.inputs.next() {
            return Some(Ok(Picture::from(input)));
        }
        loop {
            if let Some((video, identity, frames)) = &mut self.open {
                match frames.next() {
                    None => self.open = None,
                    Some(Err(error)) => return Some(Err(error)),
                    Some(Ok(frame)) => {
                        let mut name = video.place.clone().into_os_string();
                        name.push(format!("#{}@{:.3}", frame.number, frame.seconds));
                        let input = Input::new(PathBuf::from(name), identity.clone(), None);
                        return Some(Ok(Picture::new(Cow::Owned(input), vec![frame.pixels])));
                    }
                }
            }
            let (video, identity) = self.videos.next()?;
            match video.frames() {
                Ok(frames) => self.open = Some((video, identity, frames)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Batches of up to `size` pictures and [`PIXELS`] bytes. An error comes behind the pictures before it.
pub(super) fn batches<'a>(
    mut source: impl Iterator<Item = Result<Picture<'a>, DeployError>>,
    size: usize,
) -> impl Iterator<Item = Result<Vec<Picture<'a>>, DeployError>> {
    let mut failed = None;
    std::iter::from_fn(move || {
        if let Some(error) = failed.take() {
            return Some(Err(error));
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < size && bytes < PIXELS {
            match source.next() {
                None => break,
                Some(Ok(picture)) => {
                    bytes += Picture::bytes(&picture);
                    batch.push(picture);
                }
                Some(Err(error)) if batch.is_empty() => return Some(Err(error)),
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_a_bound_of_pictures_and_of_bytes() {
        let input = Input::new("a.jpg".into(), Identity::Unnamed, None);
        let file = || Ok(Picture::from(&input));
        let frame = |edge: u32| Ok(Picture::new(Cow::Borrowed(&input), vec![RgbImage::new(edge, edge)]));
        let sizes = |pictures: Vec<Result<Picture<'_>, DeployError>>| -> Vec<Option<usize>> {
            batches(pictures.into_iter(), 4).map(|batch| batch.ok().map(|batch| batch.len())).collect()
        };
        assert_eq!(sizes((0..9).map(|_| file()).collect()), [Some(4), Some(4), Some(1)]);
        // 12 MB each.
        assert_eq!(sizes((0..5).map(|_| frame(2000)).collect()), [Some(3), Some(2)]);
        assert_eq!(sizes((0..2).map(|_| frame(4000)).collect()), [Some(1), Some(1)]);
        let failing = vec![file(), file(), Err(DeployError::NoPictures)];
        assert_eq!(sizes(failing), [Some(2), None]);
        assert_eq!(sizes(vec![]), []);
    }
}
