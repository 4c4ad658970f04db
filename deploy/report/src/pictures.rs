//! Small pictures inside a page.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use maud::{Markup, html};
use rayon::prelude::*;

use crate::page::data_uri;

/// Height and width of the box that a picture on a page fits into, in pixels: twice what is shown, for sharp screens.
pub const THUMBNAIL: [u32; 2] = [288, 216];

/// JPEG quality, 1 to 100.
const QUALITY: u8 = 78;

struct Thumbnail {
    uri: String,
    size: [u32; 2],
}

/// Every picture of a page once, however often it is shown.
pub struct Pictures {
    thumbnails: Vec<Thumbnail>,
    /// Places of those that can be read.
    places: HashMap<PathBuf, usize>,
}

impl Pictures {
    /// The pictures in these files, which may repeat. `open` reads one, scaled down to fit [`THUMBNAIL`]; `None` if it
    /// cannot be read.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>, open: impl Fn(&Path) -> Option<RgbImage> + Sync) -> Self {
        let mut files: Vec<&Path> = files.into_iter().collect();
        files.sort();
        files.dedup();
        let load = |file: &&Path| {
            let (small, mut jpeg) = (open(file)?, Vec::new());
            JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small).ok()?;
            let (width, height) = small.dimensions();
            Some((file.to_path_buf(), Thumbnail { uri: data_uri("jpeg", &jpeg), size: [width, height] }))
        };
        let (files, thumbnails): (Vec<PathBuf>, _) = files.par_iter().filter_map(load).collect();
        Self { thumbnails, places: files.into_iter().enumerate().map(|(at, file)| (file, at)).collect() }
    }

    /// What [`image`](Self::image) refers to; once on the page, and before all of them.
    pub fn symbols(&self) -> Markup {
        html! {
            svg.symbols width="0" height="0" aria-hidden="true" {
                @for (at, Thumbnail { uri, size: [width, height] }) in self.thumbnails.iter().enumerate() {
                    symbol id={ "p" (at) } viewBox={ "0 0 " (width) " " (height) } {
                        image width=(width) height=(height) href=(uri) {}
                    }
                }
            }
        }
    }

    /// The picture in a file, or that it is missing; `name` is what it is called.
    pub fn image(&self, file: &Path, name: &str) -> Markup {
        html! {
            @match self.places.get(file) {
                Some(at) => { svg.picture role="img" aria-label=(name) { title { (name) } use href={ "#p" (at) } {} } }
                None => { div.missing title=(name) { "picture not found" } }
            }
        }
    }
}
