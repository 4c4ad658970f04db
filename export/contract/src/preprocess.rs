//! Pictures to normalised NCHW values: the one copy, for evaluation while training, for verification and for the
//! device. Most wrong embeddings in the field are a double normalisation, swapped colours or another resizer.

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::error::{DecodingError, ImageError, ImageFormatHint};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::Orientation as Upright;
use crate::budget::{Budget, Held};
use crate::jpeg::{self, JpegError};
use crate::picture::{MAX_BYTES, TWELVE_BITS, content, open};
pub use crate::picture::{MAX_EDGE, MAX_FILE, MAX_PIXELS, PictureError};
pub use crate::resize::resize;
use crate::tiff::{self, TiffError};
use crate::{Colour, Filter, PictureSpec, Resize};

/// Memory for all pictures that are decoded at a time, in bytes, whatever the number of threads: who would take more
/// waits. A picture that needs more by itself is decoded alone.
pub const MEMORY: u64 = 1 << 30;

static DECODING: Budget = Budget::new(MEMORY);

/// Endings of the files we read, lower case. The content tells the format, the ending only that the file is a picture.
pub const EXTENSIONS: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "pgm", "ppm", "pnm", "pbm", "bmp", "webp", "gif", "tif", "tiff"];

/// Endings of picture files that we do not read, lower case: their owner should be told.
pub const UNREAD_EXTENSIONS: [&str; 16] =
    ["avif", "heic", "heif", "jp2", "j2k", "jxl", "tga", "dng", "cr2", "nef", "arw", "raw", "svg", "psd", "exr", "ico"];

fn ends_with_one_of(path: &Path, endings: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
    extension.is_some_and(|extension| endings.contains(&extension.as_str()))
}

/// Whether the file name ends like a picture we read.
pub fn is_picture(path: &Path) -> bool {
    ends_with_one_of(path, &EXTENSIONS)
}

/// Whether the file name ends like a picture of a format that we do not read.
pub fn is_unread_picture(path: &Path) -> bool {
    ends_with_one_of(path, &UNREAD_EXTENSIONS)
}

/// The decoder of a file's content, which tells the format, of all formats but JPEG and TIFF. Nothing is decoded yet.
fn decoder<'a, R: BufRead + Seek + 'a>(
    path: &Path,
    source: R,
) -> Result<(Option<ImageFormat>, impl ImageDecoder + use<'a, R>), PictureError> {
    let mut reader = ImageReader::new(source)
        .with_guessed_format()
        .map_err(|source| PictureError::Read { path: path.to_owned(), source })?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let format = reader.format();
    let decoder = reader.into_decoder().map_err(|source| PictureError::Decode { path: path.to_owned(), source })?;
    Ok((format, decoder))
}

/// What is wrong with a JPEG.
fn jpeg_error(path: &Path) -> impl Fn(JpegError) -> PictureError {
    move |error| match error {
        JpegError::CutOff => PictureError::CutOff { path: path.to_owned() },
        other => {
            let hint = ImageFormatHint::Exact(ImageFormat::Jpeg);
            let source = ImageError::Decoding(DecodingError::new(hint, other));
            PictureError::Decode { path: path.to_owned(), source }
        }
    }
}

/// What is wrong with a TIFF.
fn tiff_error(path: &Path) -> impl Fn(TiffError) -> PictureError {
    move |error| match error {
        TiffError::Shallow(most) => PictureError::Shallow { path: path.to_owned(), most },
        other => {
            let hint = ImageFormatHint::Exact(ImageFormat::Tiff);
            let source = ImageError::Decoding(DecodingError::new(hint, other));
            PictureError::Decode { path: path.to_owned(), source }
        }
    }
}

/// Width and height of the picture that [`decode`] would give, by its header.
///
/// # Errors
/// If the file cannot be read or is no picture.
pub fn dimensions(path: &Path) -> Result<(u32, u32), PictureError> {
    let mut file = BufReader::new(open(path)?.0);
    let begin = file.fill_buf().map_err(|source| PictureError::Read { path: path.to_owned(), source })?;
    let ((width, height), orientation) = if begin.starts_with(&jpeg::MAGIC) {
        let jpeg::Header { size, orientation, .. } = jpeg::header(&content(path)?).map_err(jpeg_error(path))?;
        (size.into(), orientation)
    } else if tiff::is_tiff(begin) {
        let tiff::Header { size, orientation, .. } = tiff::header(&content(path)?).map_err(tiff_error(path))?;
        (size.into(), orientation)
    } else {
        let (_, mut decoder) = decoder(path, file)?;
        (decoder.dimensions(), decoder.orientation().unwrap_or(Orientation::NoTransforms))
    };
    let turned =
        [Orientation::Rotate90, Orientation::Rotate270, Orientation::Rotate90FlipH, Orientation::Rotate270FlipH];
    Ok(if turned.contains(&orientation) { (height, width) } else { (width, height) })
}

/// Decodes a picture to 8-bit RGB, turned and mirrored as its EXIF orientation says. The file is read once, its format
/// told by the content, and its size checked before anything is decoded. Where many threads decode large pictures, it
/// waits until there is memory for this one; see [`MEMORY`].
///
/// Pixels are those of Pillow's `convert("RGB")`: JPEG as libjpeg-turbo decodes it, CMYK without a colour profile, of
/// 16 bits the upper eight, and a pixel that is transparent as if it were not. Other than in Pillow, which makes them
/// white, so are grey pictures of 16 bits. Of an animated GIF or WebP, or of several in a TIFF, it is the first
/// picture.
///
/// Every reader of pictures goes through here, so that training, evaluation, thumbnails and regions of interest see the
/// same picture.
///
/// # Errors
/// See [`PictureError`]. A JPEG without its end marker is damaged, as for Pillow and OpenCV; bytes behind the marker
/// are ignored, as there. One whose data stop early or are no codes is damaged, where they warn and fill in grey.
pub fn decode(path: &Path) -> Result<RgbImage, PictureError> {
    decode_as(path, Upright::Exif)
}

/// As [`decode`], turned as a model's contract says.
///
/// # Errors
/// As [`decode`].
pub fn decode_as(path: &Path, upright: Upright) -> Result<RgbImage, PictureError> {
    decode_held(path, upright).map(|(picture, _)| picture)
}

/// The picture in a file, scaled down to fit a box of `[height, width]`; as it is if it fits.
///
/// # Errors
/// As [`decode`].
pub fn reduced(path: &Path, size: [u32; 2]) -> Result<RgbImage, PictureError> {
    reduced_as(path, size, Upright::Exif)
}

/// As [`reduced`], turned as a model's contract says.
///
/// # Errors
/// As [`decode`].
pub fn reduced_as(path: &Path, [height, width]: [u32; 2], upright: Upright) -> Result<RgbImage, PictureError> {
    let picture = decode_as(path, upright)?;
    let (wide, high) = picture.dimensions();
    let scale = (f64::from(height) / f64::from(high)).min(f64::from(width) / f64::from(wide));
    if scale >= 1.0 {
        return Ok(picture);
    }
    let scaled = |size: u32| ((f64::from(size) * scale).round() as usize).max(1);
    Ok(resize(&picture, [scaled(high), scaled(wide)], Filter::Bilinear))
}

/// As [`decode_as`], with the memory it has taken.
fn decode_held(path: &Path, upright: Upright) -> Result<(RgbImage, Held<'static>), PictureError> {
    let mut held = DECODING.take(open(path)?.1);
    let bytes = content(path)?;
    let coded = header(path, &bytes, upright)?;
    if held.grow(coded.memory) {
        return Ok((pixels(path, coded)?, held));
    }
    let needed = coded.memory;
    drop(coded);
    // Waiting with the file in memory, several could wait for each other.
    drop((bytes, held));
    let held = DECODING.take(needed);
    let bytes = content(path)?;
    let coded = header(path, &bytes, upright)?;
    if coded.memory > needed {
        let source = std::io::Error::other("the file was replaced while it was read");
        return Err(PictureError::Read { path: path.to_owned(), source });
    }
    Ok((pixels(path, coded)?, held))
}

/// A picture of which the header was read.
struct Coded<'a, D> {
    /// Width and height as they are stored.
    size: [u32; 2],
    /// Bytes of memory that decoding takes with the file's content.
    memory: u64,
    turn: Orientation,
    from: Source<'a, D>,
}

/// What decodes it.
enum Source<'a, D> {
    /// The file, if it is a JPEG.
    Jpeg(&'a [u8]),
    /// The file, if it is a TIFF.
    Tiff(&'a [u8]),
    Other(D),
}

/// Reads the header of a file.
fn header<'a>(
    path: &Path,
    bytes: &'a [u8],
    upright: Upright,
) -> Result<Coded<'a, impl ImageDecoder + use<'a>>, PictureError> {
    let file = bytes.len() as u64;
    let turn = |orientation: Orientation| match upright {
        Upright::Exif => orientation,
        Upright::Stored => Orientation::NoTransforms,
    };
    // What is decoded, and then the RGB picture beside its turned copy.
    let memory = |decoded: u64, rgb: u64, turn: Orientation| {
        file + decoded.max(if turn == Orientation::NoTransforms { 0 } else { 2 * rgb })
    };
    if bytes.starts_with(&jpeg::MAGIC) {
        let jpeg::Header { size, orientation, memory: inside, whole } =
            jpeg::header(bytes).map_err(jpeg_error(path))?;
        let (rgb, turn) = (rgb_bytes(path, size)?, turn(orientation));
        if !whole {
            return Err(PictureError::CutOff { path: path.to_owned() });
        }
        return Ok(Coded { size, memory: memory(inside + rgb, rgb, turn), turn, from: Source::Jpeg(bytes) });
    }
    if tiff::is_tiff(bytes) {
        let tiff::Header { size, orientation, memory: inside } = tiff::header(bytes).map_err(tiff_error(path))?;
        let (rgb, turn) = (rgb_bytes(path, size)?, turn(orientation));
        return Ok(Coded { size, memory: memory(inside + rgb, rgb, turn), turn, from: Source::Tiff(bytes) });
    }
    let (format, mut decoder) = decoder(path, Cursor::new(bytes))?;
    let size = decoder.dimensions().into();
    let rgb = rgb_bytes(path, size)?;
    let mut inside = 0;
    match format {
        // It is read into a buffer of its own first.
        Some(ImageFormat::Pnm) => inside = decoder.total_bytes(),
        // The decoder has a copy of a frame, or of planes and of the file's part that has them.
        Some(ImageFormat::WebP) => inside = file + 3 * rgb,
        Some(ImageFormat::Gif) => {
            // A frame may be smaller than the picture and is then read into a buffer of its own, but is never larger.
            inside = decoder.total_bytes();
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(inside);
            let decode = |source| PictureError::Decode { path: path.to_owned(), source };
            decoder.set_limits(limits).map_err(decode)?;
        }
        _ => {}
    }
    // Where the orientation cannot be told, the picture is taken to be upright.
    let turn = turn(decoder.orientation().unwrap_or(Orientation::NoTransforms));
    // Other kinds of pixels are there beside the RGB.
    let plain = decoder.color_type() == ColorType::Rgb8;
    let decoded = decoder.total_bytes() + inside + if plain { 0 } else { rgb };
    Ok(Coded { size, memory: memory(decoded, rgb, turn), turn, from: Source::Other(decoder) })
}

/// Bytes of the picture in RGB, if it has pixels, and not too many.
fn rgb_bytes(path: &Path, [width, height]: [u32; 2]) -> Result<u64, PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(PictureError::Empty { path: path.to_owned(), width, height });
    }
    if width > MAX_EDGE || height > MAX_EDGE || pixels > MAX_PIXELS {
        return Err(PictureError::TooLarge { path: path.to_owned(), width, height });
    }
    Ok(pixels * 3)
}

fn pixels(path: &Path, coded: Coded<impl ImageDecoder>) -> Result<RgbImage, PictureError> {
    let picture = match coded.from {
        Source::Jpeg(bytes) => jpeg::decode(bytes).map_err(jpeg_error(path))?,
        Source::Tiff(bytes) => tiff::decode(bytes).map_err(tiff_error(path))?,
        Source::Other(decoder) => {
            let decode = |source| PictureError::Decode { path: path.to_owned(), source };
            eight_bits(path, DynamicImage::from_decoder(decoder).map_err(decode)?)?
        }
    };
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(coded.turn);
    Ok(picture.into_rgb8())
}

/// The picture in RGB: of 16 bits the upper eight, as Pillow and OpenCV take them, without transparency.
///
/// Cameras of 10 and 12 bits write their values into the lower bits of 16, and nobody can tell what is white in them:
/// read as 16 bits they are all but black, and are refused.
fn eight_bits(path: &Path, picture: DynamicImage) -> Result<RgbImage, PictureError> {
    let (width, height) = (picture.width(), picture.height());
    let shallow = |values: &[u16]| {
        let most = values.iter().copied().max().unwrap_or(0);
        if (1..=TWELVE_BITS).contains(&most) {
            return Err(PictureError::Shallow { path: path.to_owned(), most });
        }
        Ok(())
    };
    let upper = |value: u16| (value >> 8) as u8;
    let colours: Vec<u8> = match picture {
        DynamicImage::ImageLuma16(grey) => {
            shallow(&grey)?;
            grey.pixels().flat_map(|pixel| [upper(pixel[0]); 3]).collect()
        }
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|pixel| [upper(pixel[0]); 3]).collect(),
        DynamicImage::ImageRgb16(colour) => {
            shallow(&colour)?;
            colour.iter().copied().map(upper).collect()
        }
        DynamicImage::ImageRgba16(colour) => {
            colour.pixels().flat_map(|pixel| [0, 1, 2].map(|at| upper(pixel[at]))).collect()
        }
        other => return Ok(other.into_rgb8()),
    };
    Ok(RgbImage::from_raw(width, height, colours).expect("three bytes a pixel"))
}

/// Writes a picture of the right size as `[channels, height, width]` normalised values into `out`.
///
/// # Panics
/// If the picture does not have the input's size, or `out` does not have its length.
pub fn normalise(picture: &RgbImage, input: &PictureSpec, out: &mut [f32]) {
    let [height, width] = input.size;
    assert_eq!(picture.dimensions(), (width as u32, height as u32), "resize first");
    let plane = height * width;
    assert_eq!(out.len(), input.colour.channels() * plane, "one value per channel and pixel");
    match input.colour {
        Colour::Rgb | Colour::Bgr => {
            for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
                let source = if input.colour == Colour::Bgr { 2 - channel } else { channel };
                let table = input.levels(channel);
                for (out, pixel) in out.iter_mut().zip(picture.as_raw().chunks_exact(3)) {
                    *out = table[usize::from(pixel[source])];
                }
            }
        }
        Colour::Grey => normalise_grey(&grey(picture), input, out),
    }
}

/// A picture's luma: ITU-R 601 in 16-bit fixed point, as Pillow converts to "L".
pub fn grey(picture: &RgbImage) -> GrayImage {
    let luma = |pixel: &[u8]| {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
        ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
    };
    let (width, height) = picture.dimensions();
    let values = picture.as_raw().chunks_exact(3).map(luma).collect();
    GrayImage::from_raw(width, height, values).expect("one value a pixel")
}

/// Writes a grey picture of the right size as `[1, height, width]` normalised values into `out`.
///
/// # Panics
/// If the input is not grey, the picture does not have its size, or `out` does not have its length.
pub fn normalise_grey(picture: &GrayImage, input: &PictureSpec, out: &mut [f32]) {
    assert_eq!(input.colour, Colour::Grey, "an input of one channel");
    let [height, width] = input.size;
    assert_eq!(picture.dimensions(), (width as u32, height as u32), "resize first");
    assert_eq!(out.len(), height * width, "one value per pixel");
    let table = input.levels(0);
    for (out, pixel) in out.iter_mut().zip(picture.as_raw()) {
        *out = table[usize::from(*pixel)];
    }
}

/// Decodes, resizes and normalises the picture at `path` into `out`, `[channels, height, width]`.
///
/// # Errors
/// See [`PictureError`].
pub fn load(path: &Path, input: &PictureSpec, out: &mut [f32]) -> Result<(), PictureError> {
    let (picture, held) = decode_held(path, input.orientation)?;
    prepare(&picture, input, out);
    drop(picture);
    drop(held);
    Ok(())
}

/// Resizes and normalises a picture into `out`, `[channels, height, width]`.
///
/// # Panics
/// If the picture has no pixels, or `out` does not have its length.
pub fn prepare(picture: &RgbImage, input: &PictureSpec, out: &mut [f32]) {
    if picture.dimensions() == (input.size[1] as u32, input.size[0] as u32) {
        return normalise(picture, input, out);
    }
    normalise(&fitted(picture, input), input, out);
}

/// A decoded picture in the size of the input, as [`normalise`] takes it.
///
/// # Panics
/// If the picture has no pixels.
pub fn fitted(picture: &RgbImage, input: &PictureSpec) -> RgbImage {
    let Resize::Stretch = input.resize;
    resize(picture, input.size, input.filter)
}

/// What the header of a picture says that is in memory already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Width and height as they are stored, in pixels; both above 0.
    pub size: [u32; 2],
    /// Bytes of memory that [`Header::decode`] takes beside the file's content.
    pub memory: u64,
}

impl Header {
    /// Reads it; nothing is decoded. `name` stands for the picture in messages.
    ///
    /// # Errors
    /// If it is no picture, or one that is not decoded.
    pub fn of(name: &Path, bytes: &[u8]) -> Result<Self, PictureError> {
        // A turned picture takes the most.
        let Coded { size, memory, .. } = header(name, bytes, Upright::Exif)?;
        Ok(Self { size, memory: memory.saturating_sub(bytes.len() as u64) })
    }

    /// Decodes the picture that [`Header::of`] has read, as [`decode_as`] does with a file. It waits for no memory:
    /// that is the caller's, who knows how much it takes.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(name: &Path, bytes: &[u8], upright: Upright) -> Result<RgbImage, PictureError> {
        pixels(name, header(name, bytes, upright)?)
    }
}

/// Mirrors a batch `[.., width]` left to right, into `out`.
///
/// # Panics
/// If the lengths differ or are no multiple of `width`.
pub fn mirror(batch: &[f32], width: usize, out: &mut [f32]) {
    assert!(batch.len() == out.len() && batch.len().is_multiple_of(width), "whole rows of {width}");
    for (from, to) in batch.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs::File;
    use std::path::PathBuf;

    use super::*;

    fn input(colour: Colour, size: [usize; 2]) -> PictureSpec {
        let mut spec = PictureSpec { colour, ..PictureSpec::imagenet(size) };
        spec.mean.truncate(colour.channels());
        spec.std.truncate(colour.channels());
        spec
    }

    #[test]
    fn channels_and_normalisation() {
        let picture = RgbImage::from_pixel(2, 1, image::Rgb([255, 0, 51]));
        let mut rgb = [0.0; 6];
        normalise(&picture, &input(Colour::Rgb, [1, 2]), &mut rgb);
        let expected = [(1.0 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225];
        for channel in 0..3 {
            assert!((rgb[channel * 2] - expected[channel]).abs() < 1e-6, "{rgb:?}");
        }
        let mut bgr = [0.0; 6];
        normalise(&picture, &input(Colour::Bgr, [1, 2]), &mut bgr);
        assert!((bgr[0] - (0.2 - 0.485) / 0.229).abs() < 1e-6, "blue first: {bgr:?}");
        let mut grey = [0.0; 2];
        normalise(&picture, &input(Colour::Grey, [1, 2]), &mut grey);
        // Pillow: Image.new("RGB", (1, 1), (255, 0, 51)).convert("L") is 82.
        assert!((grey[0] - (82.0 / 255.0 - 0.485) / 0.229).abs() < 1e-6, "{grey:?}");
    }

    #[test]
    fn the_range_is_honoured() {
        let picture = RgbImage::from_pixel(1, 1, image::Rgb([255, 0, 51]));
        let values = |range: [f32; 2], mean: f32, std: f32| {
            let (mean, std) = (vec![mean; 3], vec![std; 3]);
            let mut out = [0.0; 3];
            normalise(&picture, &PictureSpec { range, mean, std, ..PictureSpec::imagenet([1, 1]) }, &mut out);
            out
        };
        let ours = values([0.0, 1.0], 0.5, 0.5);
        assert_eq!(values([0.0, 255.0], 127.5, 127.5), ours, "InsightFace's constants");
        assert_eq!(values([-1.0, 1.0], 0.0, 1.0), ours, "TensorFlow's range");
        assert_eq!(values([0.0, 255.0], 0.0, 1.0), [255.0, 0.0, 51.0], "raw pixels");
    }

    /// A picture of some detail, so that its JPEG is longer than its headers.
    fn jpeg(folder: &Path, orientation: Option<u8>) -> (PathBuf, Vec<u8>) {
        let picture = RgbImage::from_fn(48, 32, |x, y| image::Rgb([(x * 5) as u8, (y * 7) as u8, (x * y % 251) as u8]));
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        if let Some(orientation) = orientation {
            image::ImageEncoder::set_exif_metadata(&mut encoder, exif(orientation)).unwrap();
        }
        encoder.encode_image(&picture).unwrap();
        let path = folder.join("picture.jpg");
        std::fs::write(&path, &bytes).unwrap();
        (path, bytes)
    }

    /// EXIF data of one entry, the orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        exif
    }

    #[test]
    fn a_picture_in_memory_is_that_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        for orientation in [None, Some(6)] {
            let (path, bytes) = jpeg(folder.path(), orientation);
            let name = Path::new("picture 1");
            let header = Header::of(name, &bytes).unwrap();
            assert_eq!(header.size, [48, 32]);
            assert!(header.memory >= 48 * 32 * 3, "{}", header.memory);
            for upright in [Upright::Exif, Upright::Stored] {
                let picture = Header::decode(name, &bytes, upright).unwrap();
                assert_eq!(picture, decode_as(&path, upright).unwrap());
            }
            for end in [0, 20, bytes.len() - 2] {
                let error = Header::of(name, &bytes[..end]).unwrap_err().to_string();
                assert!(error.contains("`picture 1`"), "{error}");
            }
        }
    }

    /// Pillow 13.0 (libjpeg-turbo 3.2.0) and OpenCV 5.0 refuse a JPEG that lacks its last byte and any more, and read
    /// one with bytes behind the end marker.
    #[test]
    fn a_jpeg_without_its_end_is_damaged_wherever_it_stops() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = jpeg(folder.path(), None);
        let whole = decode(&path).unwrap();
        for end in (0..bytes.len()).rev().step_by(7).chain([bytes.len() - 2, bytes.len() / 2, 700, 20, 2, 0]) {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let error = decode(&path).expect_err("cut off");
            assert!(matches!(error, PictureError::CutOff { .. } | PictureError::Decode { .. }), "at {end}: {error}");
        }
        std::fs::write(&path, [&bytes[..], b"\xff\xd8 a second picture"].concat()).unwrap();
        assert_eq!(decode(&path).unwrap(), whole, "bytes behind the end");
        // A thumbnail in the metadata brings an end marker, which is not the picture's.
        let thumbnail = [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xd9][..], &bytes[2..]].concat();
        std::fs::write(&path, &thumbnail).unwrap();
        assert_eq!(decode(&path).unwrap(), whole);
        std::fs::write(&path, &thumbnail[..thumbnail.len() / 2]).unwrap();
        assert!(matches!(decode(&path), Err(PictureError::CutOff { .. })));
    }

    /// As the ending says.
    fn save(picture: &RgbImage, path: &Path) {
        if !path.ends_with("picture.tif") {
            return picture.save(path).unwrap();
        }
        let kind = fixtures::Tiff::new(picture.dimensions().into(), 8, 2);
        let bytes = kind.bytes(|x, y, sample| picture.get_pixel(x, y)[usize::from(sample)].into());
        std::fs::write(path, bytes).unwrap();
    }

    /// Bytes that this thread has read so far, as Linux counts them.
    #[cfg(target_os = "linux")]
    fn read_by_this_thread() -> u64 {
        let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// A JPEG is looked through for its end, its orientation and its pixels: all in the bytes of one reading.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let noise = crate::fill::fill("input.noise", &[3 * 200 * 200]);
        let picture = RgbImage::from_fn(200, 200, |x, y| {
            image::Rgb([0, 1, 2].map(|at| (127.0 * (noise[(200 * y as usize + x as usize) * 3 + at] + 1.0)) as u8))
        });
        let input = PictureSpec::imagenet([32, 16]);
        let mut out = vec![0.0; 3 * 32 * 16];
        for ending in ["jpg", "png", "bmp", "ppm", "webp", "gif", "tif"] {
            let path = folder.path().join(format!("picture.{ending}"));
            save(&picture, &path);
            let size = std::fs::metadata(&path).unwrap().len();
            assert!(size > 10_000, "{ending}: too small to tell one reading from two");
            let before = read_by_this_thread();
            load(&path, &input, &mut out).unwrap();
            let read = read_by_this_thread() - before;
            // The counts are read from a file of some hundred bytes.
            assert!((size..size + 1_000).contains(&read), "{ending}: {read} bytes read of a file of {size}");
        }
    }

    #[test]
    fn pictures_of_other_formats_that_stop_early_are_damaged_too() {
        let folder = tempfile::tempdir().unwrap();
        let many = RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, (x * y % 250) as u8]));
        // A GIF has 256 colours.
        let few = RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x / 5 * 30) as u8, (y * 8) as u8, 9]));
        let formats = [("png", &many), ("bmp", &many), ("ppm", &many), ("webp", &many), ("gif", &few), ("tif", &many)];
        for (ending, picture) in formats {
            let path = folder.path().join(format!("picture.{ending}"));
            save(picture, &path);
            assert!(is_picture(&path) && !is_unread_picture(&path), "{ending}");
            assert_eq!(decode(&path).unwrap(), *picture, "{ending}");
            assert_eq!(dimensions(&path).unwrap(), (40, 30), "{ending}");
            let bytes = std::fs::read(&path).unwrap();
            for end in [0, 2, 20, bytes.len() / 2, bytes.len() - 40] {
                std::fs::write(&path, &bytes[..end]).unwrap();
                assert!(decode(&path).is_err(), "{ending} of {end} bytes");
            }
        }
    }

    #[test]
    fn pictures_without_pixels_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for header in ["P6\n0 10\n255\n", "P5\n10 0\n255\n", "P6\n0 0\n255\n", "P4\n0 3\n"] {
            let path = folder.path().join("z.ppm");
            std::fs::write(&path, header).unwrap();
            assert!(matches!(decode(&path), Err(PictureError::Empty { .. } | PictureError::Decode { .. })), "{header}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_folders_are_no_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let zero = folder.path().join("zero.jpg");
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        let pipe = folder.path().join("pipe.jpg");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [zero.as_path(), &pipe, folder.path()] {
            let error = decode(path).unwrap_err();
            assert!(matches!(error, PictureError::NotAFile { .. }), "{error}");
            assert!(matches!(dimensions(path), Err(PictureError::NotAFile { .. })));
        }
        // As long as a picture can be, and a byte more; nothing of it is on the disk.
        let sparse = folder.path().join("sparse.ppm");
        File::create(&sparse).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(decode(&sparse), Err(PictureError::LargeFile { .. })));
    }

    #[test]
    fn every_picture_is_turned_as_its_exif_orientation_says() {
        let folder = tempfile::tempdir().unwrap();
        let upright = decode(&jpeg(folder.path(), None).0).unwrap();
        type Turn = fn(&RgbImage) -> RgbImage;
        let cases: [(u8, Turn); 4] = [
            (1, RgbImage::clone),
            (3, image::imageops::rotate180),
            (6, image::imageops::rotate90),
            (2, image::imageops::flip_horizontal),
        ];
        for (orientation, turn) in cases {
            let (path, _) = jpeg(folder.path(), Some(orientation));
            assert_eq!(decode(&path).unwrap(), turn(&upright), "orientation {orientation}");
            assert_eq!(dimensions(&path).unwrap(), turn(&upright).dimensions());
            for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Opencv] {
                let input = PictureSpec { filter, ..PictureSpec::imagenet([8, 8]) };
                let (mut found, mut expected) = ([0.0; 3 * 64], [0.0; 3 * 64]);
                load(&path, &input, &mut found).unwrap();
                normalise(&resize(&turn(&upright), input.size, filter), &input, &mut expected);
                assert_eq!(found, expected, "{filter:?}, orientation {orientation}");
            }
        }
    }

    /// A contract of a network that was trained without `ImageOps.exif_transpose`.
    #[test]
    fn a_picture_is_not_turned_where_the_contract_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let upright = decode(&jpeg(folder.path(), None).0).unwrap();
        let (path, _) = jpeg(folder.path(), Some(6));
        assert_eq!(decode_as(&path, Upright::Stored).unwrap(), upright);
        assert_eq!(decode_as(&path, Upright::Exif).unwrap(), image::imageops::rotate90(&upright));
        assert_eq!(reduced_as(&path, [12, 12], Upright::Stored).unwrap().dimensions(), (12, 8));
        assert_eq!(reduced(&path, [12, 12]).unwrap().dimensions(), (8, 12));
        let input = PictureSpec { orientation: Upright::Stored, ..PictureSpec::imagenet([8, 8]) };
        let (mut found, mut expected) = ([0.0; 3 * 64], [0.0; 3 * 64]);
        load(&path, &input, &mut found).unwrap();
        normalise(&resize(&upright, input.size, input.filter), &input, &mut expected);
        assert_eq!(found, expected);
    }

    /// Of 16 bits Pillow and OpenCV take the upper eight of colours; of grey OpenCV does.
    #[test]
    fn of_sixteen_bits_the_upper_ones_are_taken_and_files_that_use_the_lower_ones_refused() {
        use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep.png");
        let value = |x: u32, most: u32| (x * most / 15) as u16;
        let read = |most: u32, kind: usize| {
            match kind {
                0 => ImageBuffer::from_fn(16, 2, |x, _| Luma([value(x, most)])).save(&path),
                1 => ImageBuffer::from_fn(16, 2, |x, _| LumaA([value(x, most), 9])).save(&path),
                2 => ImageBuffer::from_fn(16, 2, |x, _| Rgb([value(x, most); 3])).save(&path),
                _ => ImageBuffer::from_fn(16, 2, |x, _| Rgba([value(x, most), value(x, most), value(x, most), 9]))
                    .save(&path),
            }
            .unwrap();
            decode(&path)
        };
        for kind in 0..4 {
            let picture = read(65_535, kind).unwrap();
            assert!(picture.enumerate_pixels().all(|(x, _, pixel)| pixel.0 == [(value(x, 65_535) >> 8) as u8; 3]));
        }
        for (most, bits) in [(1023, "uses 10"), (4095, "uses 12"), (255, "uses 8")] {
            for kind in [0, 2] {
                let error = read(most, kind).unwrap_err();
                assert!(matches!(error, PictureError::Shallow { .. }) && error.to_string().contains(bits), "{error}");
            }
        }
        assert!(read(4096, 0).is_ok());
        assert!(read(0, 0).unwrap().pixels().all(|pixel| pixel.0 == [0; 3]), "black is black");
    }

    #[test]
    fn a_webp_is_turned_as_its_exif_orientation_says() {
        let folder = tempfile::tempdir().unwrap();
        let picture = RgbImage::from_fn(48, 32, |x, y| image::Rgb([(x * 5) as u8, (y * 7) as u8, 9]));
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut bytes);
        image::ImageEncoder::set_exif_metadata(&mut encoder, exif(6)).unwrap();
        encoder.encode(picture.as_raw(), 48, 32, image::ExtendedColorType::Rgb8).unwrap();
        let path = folder.path().join("side.webp");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(decode(&path).unwrap(), image::imageops::rotate90(&picture));
        assert_eq!(dimensions(&path).unwrap(), (32, 48));
    }

    /// Of several pictures the first; one that is smaller than the whole is in its place; one that claims to be larger
    /// is refused before memory is taken for it.
    #[test]
    fn the_first_picture_of_a_gif_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("several.gif");
        let red = image::RgbaImage::from_pixel(8, 6, image::Rgba([200, 10, 20, 255]));
        let blue = image::RgbaImage::from_pixel(8, 6, image::Rgba([10, 20, 200, 255]));
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        encoder.encode_frames([red, blue].map(image::Frame::new)).unwrap();
        drop(encoder);
        std::fs::write(&path, &bytes).unwrap();
        let first = decode(&path).unwrap();
        assert_eq!((first.dimensions(), *first.get_pixel(7, 5)), ((8, 6), image::Rgb([200, 10, 20])));
        // The descriptor of the first frame: a comma, left, top, width and height.
        let descriptor = [0x2c, 0, 0, 0, 0, 8, 0, 6, 0];
        let at = bytes.windows(9).position(|part| part == descriptor).unwrap();
        let screen = |width: u16, height: u16| {
            let mut bytes = bytes.clone();
            bytes[6..8].copy_from_slice(&width.to_le_bytes());
            bytes[8..10].copy_from_slice(&height.to_le_bytes());
            bytes
        };
        let mut inside = screen(10, 10);
        inside[at + 1] = 2;
        std::fs::write(&path, inside).unwrap();
        let placed = decode(&path).unwrap();
        assert_eq!([(1, 0), (2, 0)].map(|(x, y)| placed.get_pixel(x, y).0), [[0; 3], [200, 10, 20]]);
        let mut bomb = screen(10, 10);
        bomb[at + 5..at + 9].copy_from_slice(&[0xff; 4]);
        std::fs::write(&path, bomb).unwrap();
        let error = decode(&path).unwrap_err();
        assert!(matches!(&error, PictureError::Decode { .. }), "{error}");
        std::fs::write(&path, screen(u16::MAX, 6)).unwrap();
        assert!(matches!(decode(&path), Err(PictureError::TooLarge { width: 65535, height: 6, .. })));
    }

    /// The orientation is a field of the picture, and turns it where the contract says that EXIF's does. Of several
    /// pictures the first is read.
    #[test]
    fn the_first_picture_of_a_tiff_is_read_and_turned() {
        use ::tiff::encoder::{TiffEncoder, colortype::RGB8};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("several.tiff");
        let picture = RgbImage::from_fn(6, 4, |x, y| image::Rgb([(x * 40) as u8, (y * 60) as u8, 9]));
        type Turn = fn(&RgbImage) -> RgbImage;
        let cases: [(u16, Turn); 5] = [
            (0, RgbImage::clone),
            (1, RgbImage::clone),
            (2, image::imageops::flip_horizontal),
            (3, image::imageops::rotate180),
            (6, image::imageops::rotate90),
        ];
        for (orientation, turn) in cases {
            let mut file = Cursor::new(Vec::new());
            let mut encoder = TiffEncoder::new(&mut file).unwrap();
            let mut first = encoder.new_image::<RGB8>(6, 4).unwrap();
            first.encoder().write_tag(::tiff::tags::Tag::Orientation, orientation).unwrap();
            first.write_data(picture.as_raw()).unwrap();
            encoder.write_image::<RGB8>(3, 3, &[200; 27]).unwrap();
            std::fs::write(&path, file.into_inner()).unwrap();
            assert!(is_picture(&path) && !is_unread_picture(&path));
            assert_eq!(decode(&path).unwrap(), turn(&picture), "{orientation}");
            assert_eq!(dimensions(&path).unwrap(), turn(&picture).dimensions());
            assert_eq!(decode_as(&path, Upright::Stored).unwrap(), picture);
        }
    }

    #[test]
    fn what_a_tiff_is_refused_for_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        let refused = |bytes: Vec<u8>| {
            std::fs::write(&path, bytes).unwrap();
            assert!(!matches!(decode(&path), Err(PictureError::Read { .. })));
            decode(&path).unwrap_err()
        };
        let palette = refused(fixtures::Tiff::new([4, 4], 8, 3).bytes(|_, _, _| 0));
        let said = palette.source().and_then(Error::source).unwrap().to_string();
        assert!(matches!(palette, PictureError::Decode { .. }) && said.contains("RGBPalette of 8 bits"), "{said}");
        let shallow = refused(fixtures::Tiff::new([4, 4], 16, 1).bytes(|_, _, _| 1023));
        assert!(matches!(shallow, PictureError::Shallow { most: 1023, .. }), "{shallow}");
        let mut bytes = fixtures::Tiff::new([4, 4], 8, 2).bytes(|_, _, _| 0);
        // The width, the first field.
        bytes[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
        assert!(matches!(refused(bytes), PictureError::TooLarge { width: 60_000, height: 4, .. }));
    }

    #[test]
    fn a_picture_of_claimed_billions_of_pixels_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.ppm");
        std::fs::write(&path, "P6 60000 60000 255\n").unwrap();
        let error = decode(&path).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { width: 60000, height: 60000, .. }), "{error}");
        std::fs::write(&path, "not a picture").unwrap();
        assert!(matches!(decode(&path), Err(PictureError::Decode { .. })));
        std::fs::write(&path, "P6 4 4 255\n123").unwrap();
        assert!(matches!(decode(&path), Err(PictureError::Decode { .. })), "truncated");
    }

    /// Golden: `fixtures/resize/README.md` names Pillow's version.
    #[test]
    fn resizing_is_pillows() {
        let golden = fixtures::Golden::load("resize").unwrap();
        let picture = |name: &str| {
            let (shape, bytes) = golden.tensor_u8(name).unwrap();
            RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).unwrap()
        };
        let image = picture("resize.image");
        let filled: Vec<u8> = crate::fill::unit("input.image", 16 * 8 * 3).map(|u| (256.0 * u) as u8).collect();
        assert_eq!(image.as_raw(), &filled, "the committed picture is the fill rule's");
        let cases = golden.json()["resize"]["cases"].as_object().unwrap();
        assert_eq!(cases.len(), 4);
        for (name, case) in cases {
            let size = [0, 1].map(|axis| case["size"][axis].as_u64().unwrap() as usize);
            let expected = picture(case["tensor"].as_str().unwrap());
            assert!(resize(&image, size, Filter::Bilinear) == expected, "{name}");
        }
        let (shape, expected) = golden.tensor_f32("resize.normalised").unwrap();
        let mut ours = vec![0.0; expected.len()];
        let input = input(Colour::Rgb, [shape[1], shape[2]]);
        normalise(&resize(&image, input.size, Filter::Bilinear), &input, &mut ours);
        assert!(ours.iter().zip(&expected).all(|(ours, expected)| (ours - expected).abs() <= 1e-6));
    }

    #[test]
    fn mirror_is_its_own_inverse() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let (mut once, mut twice) = ([0.0; 6], [0.0; 6]);
        mirror(&rows, 3, &mut once);
        assert_eq!(once, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        mirror(&once, 3, &mut twice);
        assert_eq!(twice, rows);
    }

    /// `fixtures/controlnet/README.md` names the generator.
    #[test]
    fn opencvs_resize_is_bit_identical() {
        let golden = fixtures::Golden::load("controlnet").unwrap();
        let cases = golden.json()["cases"].as_array().unwrap();
        let cases: Vec<_> = cases.iter().filter(|case| case["name"].as_str().unwrap().starts_with("load_")).collect();
        assert_eq!(cases.len(), 3);
        for case in cases {
            let number = |key: &str| case["config"][key].as_u64().unwrap() as u32;
            let (width, height, size) = (number("width"), number("height"), number("image_size") as usize);
            let name = case["inputs"][0]["name"].as_str().unwrap();
            let values = crate::fill::unit(name, (width * height * 3) as usize);
            let picture = RgbImage::from_raw(width, height, values.map(|u| (256.0 * u) as u8).collect()).unwrap();
            let ours = resize(&picture, [size, size], Filter::Opencv);
            let planes: Vec<u8> = (0..3).flat_map(|c| ours.pixels().map(move |pixel| pixel[c])).collect();
            let (_, theirs) = golden.tensor_u8(case["outputs"][0]["key"].as_str().unwrap()).unwrap();
            assert!(planes == theirs, "{}", case["name"]);
        }
    }
}
