//! Pictures of what a network does: where it looks, and what it ranks first.
//!
//! An activation map is the sum over channels of the squares of a map of features, from its least to its greatest
//! value, as LightMBN and torchreid draw it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use contract::{PictureSpec, preprocess};
use datasets::Sample;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use maud::{Markup, html};
use report::{data_uri, heat};

use crate::data::loader::{Loader, Pictures};
use crate::data::sheet;
use crate::families::reid::evaluate::{RankedList, Reading};
use crate::families::reid::net::ReidNet;
use crate::run::engine::TaskError;

/// Pictures whose activation is drawn.
pub const LOOKED_AT: usize = 16;

/// Frame of an entry that shows the query's person.
const RIGHT: Rgb<u8> = Rgb([46, 160, 67]);

/// Frame of one that shows another.
const WRONG: Rgb<u8> = Rgb([218, 54, 51]);

/// Stands for a picture that cannot be read.
const UNREADABLE: Rgb<u8> = Rgb([96; 3]);

/// JPEG quality of pictures on a page, 1 to 100.
const QUALITY: u8 = 80;

/// Where a network looks on a picture.
pub struct Look {
    /// The file.
    pub file: PathBuf,
    /// The picture at the network's size.
    pub picture: RgbImage,
    /// The same under each of the network's maps, by the map's name.
    pub maps: Vec<(&'static str, RgbImage)>,
}

/// Where a network on a device without autodiff looks on these pictures; without those that cannot be read.
///
/// # Errors
/// If a picture cannot be read and `reading.strict`.
pub fn activation(
    net: &ReidNet,
    samples: &[Sample],
    input: &PictureSpec,
    reading: Reading,
) -> Result<Vec<Look>, TaskError> {
    let device = net.devices().swap_remove(0);
    let pictures = Arc::new(Pictures::evaluation(samples, input.clone(), 0));
    let mut looks = Vec::new();
    for batch in Loader::evaluation(pictures, reading.batch, reading.threads, reading.strict)? {
        let batch = batch?;
        let images = Tensor::from_data(TensorData::new(batch.pixels.clone(), batch.shape), &device);
        let mut maps = Vec::new();
        for (name, map) in net.feature_maps(images) {
            let [_, _, height, width] = map.dims();
            let values = map.square().sum_dim(1).into_data().convert::<f32>().try_to_vec::<f32>()?;
            maps.push((name, height * width, width, values));
        }
        let size = batch.shape[1..].iter().product();
        for (at, (index, pixels)) in batch.indices.iter().zip(batch.pixels.chunks_exact(size)).enumerate() {
            let picture = sheet::picture(pixels, input);
            let drawn = |(name, places, columns, values): &(&'static str, usize, usize, Vec<f32>)| {
                (*name, heat::overlay(&picture, &values[at * places..][..*places], *columns))
            };
            let maps = maps.iter().map(drawn).collect();
            looks.push(Look { file: samples[*index].path.clone(), picture, maps });
        }
    }
    Ok(looks)
}

/// A row for each picture, with its maps behind it.
pub fn activation_sheet(looks: Vec<Look>, size: [usize; 2]) -> RgbImage {
    let row = |look: Look| std::iter::once(look.picture).chain(look.maps.into_iter().map(|(_, map)| map)).collect();
    sheet::sheet(&looks.into_iter().map(row).collect::<Vec<_>>(), size)
}

/// A row for each query, with the entries that it ranks first behind it: in green frames those of its person, in red
/// frames others.
pub fn ranked_sheet(lists: &[RankedList], input: &PictureSpec) -> RgbImage {
    let [height, width] = input.size;
    let read = |path: &Path| {
        let mut pixels = vec![0.0; 3 * height * width];
        match preprocess::load(path, input, &mut pixels) {
            Ok(()) => sheet::picture(&pixels, input),
            Err(_) => RgbImage::from_pixel(width as u32, height as u32, UNREADABLE),
        }
    };
    let row = |list: &RankedList| {
        let entries = list.entries.iter();
        let entries = entries.map(|(path, right)| sheet::framed(read(path), if *right { RIGHT } else { WRONG }));
        std::iter::once(read(&list.query)).chain(entries).collect()
    };
    sheet::sheet(&lists.iter().map(row).collect::<Vec<Vec<_>>>(), input.size)
}

/// The part of a page that shows where the network looks.
///
/// # Errors
/// If a picture cannot be compressed.
pub fn section(looks: &[Look]) -> Result<Markup, image::ImageError> {
    let uri = |picture: &RgbImage| {
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(picture)?;
        Ok::<_, image::ImageError>(data_uri("jpeg", &jpeg))
    };
    let mut shown = Vec::new();
    for Look { file, picture, maps } in looks {
        let mut pictures = vec![("picture", uri(picture)?)];
        for (name, map) in maps {
            pictures.push((name, uri(map)?));
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        shown.push((terminal::printable(&name).into_owned(), pictures));
    }
    Ok(html! {
        @if !shown.is_empty() {
            h2 { "Where the network looks" }
            p.note {
                "The first of the queries above under the maps that the parts of an embedding are read from: squares \
                 of the features summed over channels, from violet (least) to yellow (greatest)."
            }
            div.instances {
                @for (name, pictures) in &shown {
                    figure.instance {
                        div { @for (map, uri) in pictures { img src=(uri) alt=(map) title=(map); } }
                        figcaption {
                            (name) ": " (pictures.iter().map(|(map, _)| *map).collect::<Vec<_>>().join(", "))
                        }
                    }
                }
            }
        }
    })
}
