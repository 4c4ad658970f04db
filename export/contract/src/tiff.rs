//! TIFF as Pillow reads it: the first picture of a file, in strips or tiles, plain or compressed without loss.
//!
//! The crate `tiff` finds and unpacks the samples. What it would read otherwise than Pillow does, or not at all, is
//! told from the header and refused there; colours become RGB here, as those of other formats do.

use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::{CompressionMethod, ExtraSamples, Predictor, SampleFormat, Tag};
use tiff::{ColorType, TiffUnsupportedError};

use crate::jpeg::share;
use crate::picture::TWELVE_BITS;

/// How a file begins, of either order of bytes, and with the longer offsets of BigTIFF.
const MAGIC: [&[u8; 4]; 4] = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];

/// Whether a file that begins like this is a TIFF.
pub(crate) fn is_tiff(begin: &[u8]) -> bool {
    MAGIC.iter().any(|magic| begin.starts_with(*magic))
}

/// Most values of a field that is read: where the tiles of the largest picture lie, of 16×16 pixels each.
const MAX_VALUES: u32 = 1 << 18;

/// Fields that are read, in the numbers of the specification: those of sizes, kinds of samples, strips and tiles.
const READ: [u16; 21] =
    [254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 530];

/// Most samples of a pixel: five of colour and transparency, and some that nobody has said the meaning of.
const MAX_SAMPLES: u16 = 8;

/// Why a TIFF is not decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TiffError {
    /// The file contradicts itself, or stops early.
    #[error("{0}")]
    Damaged(#[source] tiff::TiffError),
    /// A kind of TIFF that we do not read.
    #[error(
        "it has {0}, which is not read; grey of 1 to 16 bits, RGB, RGBA and CMYK of 8 or 16 bits are, plain or packed \
         by LZW, deflate or PackBits"
    )]
    Unread(String),
    /// Samples of 16 bits of which only the lower bits are used; the largest.
    #[error("its largest value is {0} of 65535")]
    Shallow(u16),
}

impl From<tiff::TiffError> for TiffError {
    fn from(error: tiff::TiffError) -> Self {
        match error {
            tiff::TiffError::UnsupportedError(unsupported) => Self::Unread(match unsupported {
                TiffUnsupportedError::InterpretationWithBits(how, bits) => {
                    format!("{how:?} of {} bits", bits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                }
                other => format!("something unknown ({other})"),
            }),
            other => Self::Damaged(other),
        }
    }
}

/// What the header says.
pub(crate) struct Header {
    /// Width, height.
    pub(crate) size: [u32; 2],
    /// Which way up it is.
    pub(crate) orientation: Orientation,
    /// Bytes of memory that [`decode`] takes, besides the file and the RGB picture.
    pub(crate) memory: u64,
}

/// What the samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    Grey,
    /// RGB, and transparency that is dropped.
    Rgb,
    /// RGB that was multiplied by the opacity, which follows.
    Associated,
    /// How much ink there is.
    Cmyk,
}

/// A file of which the header was read, and found to be of a kind that is decoded.
struct Opened<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    size: [u32; 2],
    colours: Colours,
    /// Samples of a pixel that come out of the decoder.
    samples: usize,
    /// Bits of a sample.
    bits: u8,
    /// The decoder has turned the values over.
    white_is_zero: bool,
    /// Bytes of the samples of all pixels.
    bytes: usize,
}

/// Reads the header.
pub(crate) fn header(file: &[u8]) -> Result<Header, TiffError> {
    let mut opened = open(file)?;
    // Where it cannot be told, the picture is taken to be upright.
    let orientation = opened.decoder.find_tag(Tag::Orientation).ok().flatten();
    let orientation = orientation.and_then(|value| Orientation::from_exif(value.into_u16().ok()?.try_into().ok()?));
    let plain = opened.samples == 3 && opened.bits == 8 && opened.colours == Colours::Rgb;
    // The samples of RGB are the picture. The crate reads a strip into memory of its own: at most the whole file.
    let memory = file.len() as u64 + if plain { 0 } else { opened.bytes as u64 };
    Ok(Header { size: opened.size, orientation: orientation.unwrap_or(Orientation::NoTransforms), memory })
}

/// Decodes the first picture to RGB. What is CMYK becomes RGB as in Pillow. Its caller has looked at the size.
pub(crate) fn decode(file: &[u8]) -> Result<RgbImage, TiffError> {
    let mut opened = open(file)?;
    let [width, height] = opened.size;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = opened.bytes;
    // What a strip takes in the file.
    limits.intermediate_buffer_size = file.len();
    opened.decoder = opened.decoder.with_limits(limits);
    let mut values = DecodingResult::U8(vec![]);
    let layout = opened.decoder.read_image_to_buffer(&mut values)?;
    let Opened { colours, samples, bits, .. } = opened;
    // Where the samples of a colour lie by themselves, they are a picture's apart.
    let (across, along) = if layout.planes > 1 { (width as usize * height as usize, 1) } else { (1, samples) };
    let at = |pixel: usize, sample: usize| pixel * along + sample * across;
    let pixels = width as usize * height as usize;
    let rgb = match values {
        DecodingResult::U8(values) if bits < 8 => grey(&values, width as usize, bits),
        DecodingResult::U8(values) if colours == Colours::Rgb && samples == 3 && layout.planes == 1 => values,
        DecodingResult::U8(values) => rgb(colours, pixels, |pixel, sample| values[at(pixel, sample)]),
        DecodingResult::U16(values) => {
            shallow(&values, &opened)?;
            rgb(colours, pixels, |pixel, sample| (values[at(pixel, sample)] >> 8) as u8)
        }
        _ => return Err(TiffError::Unread("numbers that are no levels".to_owned())),
    };
    Ok(RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel"))
}

/// Reads the header of a file, and refuses what is not decoded.
fn open(file: &[u8]) -> Result<Opened<'_>, TiffError> {
    let unread = |what: &str| Err(TiffError::Unread(what.to_owned()));
    if file.get(2..4).is_some_and(|version| version.contains(&b'+')) {
        return unread("the offsets of BigTIFF");
    }
    look_through(file)?;
    let mut decoder = Decoder::new(Cursor::new(file))?;
    let (width, height) = decoder.dimensions()?;
    // As raw files of cameras have, where the picture itself follows in their own way.
    if decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType)?.is_some_and(|kind| kind & 1 == 1) {
        return unread("a reduced copy of another picture in the first place");
    }
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression)?.unwrap_or(1);
    let compression = CompressionMethod::from_u16_exhaustive(compression);
    match compression {
        CompressionMethod::None
        | CompressionMethod::LZW
        | CompressionMethod::Deflate
        | CompressionMethod::OldDeflate
        | CompressionMethod::PackBits => {}
        other => return Err(TiffError::Unread(format!("the compression {other:?}"))),
    }
    if decoder.find_tag_unsigned::<u16>(Tag::FillOrder)?.is_some_and(|order| order != 1) {
        return unread("bits in the reverse order");
    }
    let formats = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat)?.unwrap_or_default();
    if formats.iter().any(|format| SampleFormat::from_u16(*format) != Some(SampleFormat::Uint)) {
        return unread("samples that are no whole numbers from 0");
    }
    let stored = decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel)?.unwrap_or(1);
    if stored > MAX_SAMPLES {
        return Err(TiffError::Unread(format!("{stored} samples a pixel")));
    }
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)?.unwrap_or_default();
    let associated = extra.first() == Some(&ExtraSamples::AssociatedAlpha.to_u16());
    let white_is_zero = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation)? == Some(0);
    let kind = decoder.colortype()?;
    let (colours, bits) = match kind {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8 | 16)) => (Colours::Grey, bits),
        ColorType::Multiband { bit_depth: bits @ (8 | 16), num_samples: 2 } if !associated && !white_is_zero => {
            (Colours::Grey, bits)
        }
        ColorType::RGB(bits @ (8 | 16)) => (Colours::Rgb, bits),
        ColorType::RGBA(bits @ (8 | 16)) if associated => (Colours::Associated, bits),
        ColorType::RGBA(bits @ (8 | 16)) => (Colours::Rgb, bits),
        ColorType::CMYK(bits @ (8 | 16)) => (Colours::Cmyk, bits),
        other => return Err(TiffError::Unread(format!("{other:?}"))),
    };
    let layout = decoder.image_buffer_layout()?;
    let predicted = decoder.find_tag_unsigned::<u16>(Tag::Predictor)?.unwrap_or(1) != Predictor::None.to_u16();
    let tiled = decoder.get_chunk_type() == ChunkType::Tile;
    // The crate writes rows of tiles into the next ones there, and takes the tiles of all planes but the first for
    // whole ones.
    if layout.planes == 1 && stored > kind.num_samples() && (tiled || predicted) {
        return unread("samples of no meaning in tiles or with a predictor");
    }
    if layout.planes > 1 && tiled {
        return unread("tiles of one colour each");
    }
    if tiled {
        let (wide, high) = decoder.chunk_dimensions();
        let padded = |size: u32, tile: u32| u64::from(size.div_ceil(tile)) * u64::from(tile);
        let (all, pixels) =
            (padded(width, wide).saturating_mul(padded(height, high)), u64::from(width) * u64::from(height));
        // Else a few bytes, the same for each tile, are unpacked to many that are in no picture.
        if all > pixels.saturating_mul(4).saturating_add(1 << 20) {
            return Err(TiffError::Unread(format!("tiles of {wide}×{high} pixels in {width}×{height}")));
        }
    }
    let samples = usize::from(kind.num_samples());
    Ok(Opened { decoder, size: [width, height], colours, samples, bits, white_is_zero, bytes: layout.complete_len })
}

/// Refuses a field that would take much memory to read, which the crate takes before anything can be said.
fn look_through(file: &[u8]) -> Result<(), TiffError> {
    let little = file.starts_with(b"II");
    let number = |bytes: &[u8]| {
        let digit = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        if little { bytes.iter().rev().fold(0, digit) } else { bytes.iter().fold(0, digit) }
    };
    let directory = file.get(4..8).and_then(|offset| file.get(number(offset) as usize..)).unwrap_or_default();
    let Some((count, entries)) = directory.split_first_chunk::<2>() else { return Ok(()) };
    for entry in entries.chunks_exact(12).take(number(count) as usize) {
        let (field, values) = (number(&entry[..2]) as u16, number(&entry[4..8]));
        if READ.contains(&field) && values > MAX_VALUES {
            return Err(TiffError::Unread(format!("{values} values of field {field}")));
        }
    }
    Ok(())
}

/// Files of 10 or 12 bits in 16 are refused, as those of other formats are.
fn shallow(values: &[u16], opened: &Opened) -> Result<(), TiffError> {
    // A transparency of 16 bits says nothing about the colours.
    if opened.samples > 3 && opened.colours != Colours::Cmyk || opened.samples == 2 {
        return Ok(());
    }
    let most = if opened.white_is_zero {
        values.iter().min().map(|least| u16::MAX - least)
    } else {
        values.iter().max().copied()
    };
    match most {
        Some(most @ 1..=TWELVE_BITS) => Err(TiffError::Shallow(most)),
        _ => Ok(()),
    }
}

/// Grey of fewer than eight bits: rows begin with a byte.
fn grey(rows: &[u8], width: usize, bits: u8) -> Vec<u8> {
    let bits = usize::from(bits);
    let most = (1_u8 << bits) - 1;
    let level = |row: &[u8], x: usize| {
        let shift = 8 - bits - x * bits % 8;
        (row[x * bits / 8] >> shift & most) * (255 / most)
    };
    rows.chunks_exact((width * bits).div_ceil(8))
        .flat_map(|row| (0..width).flat_map(move |x| [level(row, x); 3]))
        .collect()
}

/// RGB of eight bits, of samples by the number of the pixel and of the colour.
fn rgb(colours: Colours, pixels: usize, at: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    let mut rgb = vec![0; 3 * pixels];
    let out = rgb.as_chunks_mut::<3>().0.iter_mut().enumerate();
    match colours {
        Colours::Grey => out.for_each(|(pixel, out)| *out = [at(pixel, 0); 3]),
        Colours::Rgb => out.for_each(|(pixel, out)| *out = [0, 1, 2].map(|sample| at(pixel, sample))),
        Colours::Associated => out.for_each(|(pixel, out)| {
            let opacity = u16::from(at(pixel, 3));
            let divided = |level: u8| (u16::from(level) * 255).checked_div(opacity).unwrap_or(0).min(255) as u8;
            *out = [0, 1, 2].map(|sample| divided(at(pixel, sample)));
        }),
        Colours::Cmyk => out.for_each(|(pixel, out)| {
            let light = 255 - at(pixel, 3);
            *out = [0, 1, 2].map(|sample| light.saturating_sub(share(at(pixel, sample), light)));
        }),
    }
    rgb
}

#[cfg(test)]
mod tests {
    use fixtures::Tiff;
    use tiff::encoder::{Compression, TiffEncoder, colortype};

    use super::*;

    /// Some level of a sample, in `bits` bits.
    fn level(x: u32, y: u32, sample: u16, bits: u16) -> u32 {
        let mixed = x * 2_654_435 + y * 40_503 + u32::from(sample) * 97_777 + 12_345;
        (mixed ^ (mixed >> 7)) & (u32::MAX >> (32 - bits))
    }

    fn write(kind: &Tiff) -> Vec<u8> {
        kind.bytes(|x, y, sample| level(x, y, sample, kind.bits))
    }

    /// Checks every pixel of a file of this kind, of the upper eight bits of its samples.
    fn holds(kind: &Tiff, expected: impl Fn(&[u8]) -> [u8; 3]) {
        let picture = decode(&write(kind)).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!([picture.width(), picture.height()], kind.size);
        for (x, y, pixel) in picture.enumerate_pixels() {
            let upper = |sample| {
                let level = level(x, y, sample, kind.bits);
                if kind.bits > 8 { (level >> (kind.bits - 8)) as u8 } else { level as u8 }
            };
            let samples: Vec<u8> = (0..kind.samples).map(upper).collect();
            assert_eq!(pixel.0, expected(&samples), "{kind:?} at {x}, {y}: {samples:?}");
        }
    }

    /// In strips of three rows, in tiles that go beyond the picture, and with a plane for each colour.
    fn arrangements(kind: Tiff) -> Vec<Tiff> {
        let kind = Tiff { rows: 3, ..kind };
        let big = Tiff { big: true, ..kind.clone() };
        let tiles = Tiff { tile: Some(16), ..kind.clone() };
        let planar = Tiff { planar: true, ..kind.clone() };
        vec![kind, big, tiles, planar]
    }

    const SIZE: [u32; 2] = [37, 21];

    #[test]
    fn all_kinds_of_samples_become_rgb() {
        for bits in [1, 2, 4, 8] {
            let scale = (255 / ((1_u32 << bits) - 1)) as u8;
            for kind in arrangements(Tiff::new(SIZE, bits, 1)) {
                holds(&kind, |samples| [samples[0] * scale; 3]);
            }
            for kind in arrangements(Tiff::new(SIZE, bits, 0)) {
                holds(&kind, |samples| [255 - samples[0] * scale; 3]);
            }
        }
        for kind in arrangements(Tiff::new(SIZE, 16, 1)) {
            holds(&kind, |samples| [samples[0]; 3]);
        }
        for kind in arrangements(Tiff::new(SIZE, 16, 0)) {
            holds(&kind, |samples| [255 - samples[0]; 3]);
        }
        for bits in [8, 16] {
            for kind in arrangements(Tiff::new(SIZE, bits, 2)) {
                holds(&kind, |samples| [samples[0], samples[1], samples[2]]);
            }
            for kind in arrangements(Tiff::new(SIZE, bits, 5)) {
                // As Pillow does it, in whole numbers.
                let share = |one: u8, other: u8| (f64::from(one) * f64::from(other) / 255.0).round() as u8;
                holds(&kind, |samples| {
                    let light = 255 - samples[3];
                    [0, 1, 2].map(|sample| light - share(samples[sample], light))
                });
            }
        }
    }

    /// Pillow: `Image.new("CMYK", (1, 1), (10, 200, 30, 40)).convert("RGB")` is (207, 46, 190).
    #[test]
    fn ink_becomes_light_as_in_pillow() {
        let file = Tiff::new([1, 1], 8, 5).bytes(|_, _, sample| [10, 200, 30, 40][usize::from(sample)]);
        assert_eq!(decode(&file).unwrap().get_pixel(0, 0).0, [207, 46, 190]);
    }

    #[test]
    fn transparency_is_dropped_and_opacity_divided_out() {
        for bits in [8, 16] {
            let colour = Tiff::new(SIZE, bits, 2);
            for meanings in [&[2][..], &[2, 0]] {
                holds(&colour.clone().extra(meanings), |samples| [samples[0], samples[1], samples[2]]);
            }
            holds(&colour.clone().extra(&[0]), |samples| [samples[0], samples[1], samples[2]]);
            holds(&Tiff { samples: 4, ..colour.clone() }, |samples| [samples[0], samples[1], samples[2]]);
            holds(&colour.extra(&[1]), |samples| {
                let opacity = u32::from(samples[3]);
                let divided = |level: u8| (u32::from(level) * 255).checked_div(opacity).unwrap_or(0).min(255) as u8;
                [divided(samples[0]), divided(samples[1]), divided(samples[2])]
            });
            for meaning in [0, 2] {
                holds(&Tiff::new(SIZE, bits, 1).extra(&[meaning]), |samples| [samples[0]; 3]);
            }
        }
    }

    #[test]
    fn packed_samples_are_those_that_were_packed() {
        let values: Vec<u8> =
            (0..37 * 21 * 3).map(|at| level(at / 111, at / 3 % 37, (at % 3) as u16, 8) as u8).collect();
        let deep: Vec<u16> = values.iter().map(|value| u16::from(*value) << 8 | 77).collect();
        let packings = [
            ("LZW", Compression::Lzw),
            ("deflate", Compression::Deflate(Default::default())),
            ("PackBits", Compression::Packbits),
        ];
        for (name, compression) in packings {
            for predictor in [Predictor::None, Predictor::Horizontal] {
                let file = |deep_too: bool| {
                    let mut file = Cursor::new(Vec::new());
                    let encoder = TiffEncoder::new(&mut file).unwrap();
                    let mut encoder = encoder.with_compression(compression).with_predictor(predictor);
                    if deep_too {
                        encoder.write_image::<colortype::RGB16>(37, 21, &deep).unwrap();
                    } else {
                        encoder.write_image::<colortype::RGB8>(37, 21, &values).unwrap();
                    }
                    file.into_inner()
                };
                for deep in [false, true] {
                    let file = file(deep);
                    assert!(decode(&file).unwrap().as_raw() == &values, "{name}, {predictor:?}, {deep}");
                    // The directory is behind the samples.
                    for end in (0..file.len()).step_by(7) {
                        assert!(decode(&file[..end]).is_err(), "{end} of {} bytes", file.len());
                    }
                }
            }
        }
    }

    /// What is not read is named.
    #[test]
    fn other_kinds_are_refused_with_what_they_are() {
        let grey = || Tiff::new(SIZE, 8, 1);
        let colour = || Tiff::new(SIZE, 8, 2);
        let mut big = write(&grey());
        big[2] = b'+';
        let field = |number, value| write(&grey().field(number, &[value]));
        let mut packed = write(&grey());
        let at = packed.windows(4).position(|field| field == [3, 1, 3, 0]).unwrap();
        let mut compressed = |how: u16| {
            packed[at + 8..at + 10].copy_from_slice(&how.to_le_bytes());
            packed.clone()
        };
        let cases = [
            (write(&Tiff::new(SIZE, 8, 3)), "RGBPalette of 8 bits"),
            (write(&Tiff::new(SIZE, 32, 1)), "Gray(32)"),
            (write(&Tiff { bits: 32, ..grey() }.field(339, &[3])), "no whole numbers"),
            (field(339, 2), "no whole numbers"),
            (write(&Tiff { samples: 3, ..Tiff::new(SIZE, 8, 6) }.field(530, &[1, 1])), "YCbCr(8)"),
            (write(&Tiff { samples: 3, ..Tiff::new(SIZE, 8, 8) }), "CIELab of 8, 8, 8 bits"),
            (write(&grey().extra(&[1])), "Multiband"),
            (write(&colour().extra(&[0; 6])), "9 samples a pixel"),
            (write(&Tiff { tile: Some(16), planar: true, ..colour() }), "tiles of one colour each"),
            (write(&Tiff { tile: Some(16), ..colour().extra(&[0]) }), "samples of no meaning"),
            (write(&colour().extra(&[0]).field(317, &[2])), "samples of no meaning"),
            (field(254, 1), "reduced copy"),
            (field(266, 2), "reverse order"),
            (compressed(7), "ModernJPEG"),
            (compressed(4), "Fax4"),
            (compressed(34_925), "34925"),
            (big, "BigTIFF"),
        ];
        for (file, name) in cases {
            for error in [header(&file).err(), decode(&file).err()] {
                let error = error.unwrap_or_else(|| panic!("{name} is read"));
                assert!(matches!(error, TiffError::Unread(_)) && error.to_string().contains(name), "{name}: {error}");
                assert!(error.to_string().contains("LZW"), "{error}");
            }
        }
    }

    #[test]
    fn values_in_the_lower_bits_of_sixteen_are_refused_with_the_largest() {
        for (photometric, samples) in [(0, 1), (1, 1), (2, 3), (5, 4)] {
            let kind = Tiff::new([4, 4], 16, photometric);
            assert_eq!(kind.samples, samples);
            for (most, refused) in [(1023, true), (4095, true), (4096, false), (0, false)] {
                let file = kind.bytes(|x, y, _| if (x, y) == (2, 1) { most } else { 0 });
                match decode(&file) {
                    Err(TiffError::Shallow(found)) => assert!(refused && u32::from(found) == most),
                    other => assert!(!refused && other.is_ok(), "{photometric}: {most}"),
                }
            }
        }
    }

    /// What a file claims takes neither memory nor time before it is refused or the caller has seen its size.
    #[test]
    fn claims_are_refused_before_memory_is_taken() {
        let file = write(&Tiff::new(SIZE, 8, 2));
        let change = |number: u16, at: usize, value: u32| {
            let mut file = file.clone();
            let place = file.windows(2).position(|field| field == number.to_le_bytes()).unwrap();
            file[place + at..place + at + 4].copy_from_slice(&value.to_le_bytes());
            file
        };
        // So many bits of a sample, strips, and lengths of strips.
        for field in [258, 273, 279] {
            let error = decode(&change(field, 4, u32::MAX)).unwrap_err().to_string();
            assert!(error.contains(&format!("4294967295 values of field {field}")), "{error}");
        }
        let wide = header(&change(256, 8, 60_000)).unwrap();
        assert_eq!(wide.size, [60_000, 21]);
        let tiles = Tiff { tile: Some(2048), ..Tiff::new(SIZE, 8, 2) };
        let error = header(&write(&tiles)).err().unwrap().to_string();
        assert!(error.contains("tiles of 2048×2048 pixels in 37×21"), "{error}");
        assert!(header(&write(&Tiff { tile: Some(512), ..tiles })).is_ok());
    }

    /// Whatever is cut off or changed, there is an answer.
    #[test]
    fn damaged_files_are_told() {
        let kinds = [
            Tiff::new(SIZE, 4, 0),
            Tiff::new(SIZE, 16, 1),
            Tiff { rows: 5, ..Tiff::new(SIZE, 8, 2).extra(&[1]) },
            Tiff { tile: Some(16), ..Tiff::new(SIZE, 8, 5) },
            Tiff { planar: true, rows: 4, ..Tiff::new(SIZE, 8, 2) },
        ];
        for kind in kinds {
            let file = write(&kind);
            // The rest of the last tile is not in the picture.
            let beyond = if kind.tile.is_some() { 16 * 16 * 4 } else { 0 };
            for end in 0..file.len() - beyond {
                assert!(decode(&file[..end]).is_err(), "{kind:?}: {end} of {} bytes", file.len());
            }
            // The directory and what is behind it.
            for at in 4..400 {
                for bit in 0..8 {
                    let mut changed = file.clone();
                    changed[at] ^= 1 << bit;
                    let pixels = |size: [u32; 2]| u64::from(size[0]) * u64::from(size[1]);
                    if header(&changed).is_ok_and(|header| pixels(header.size) < 1 << 20) {
                        let _ = decode(&changed);
                    }
                }
            }
        }
    }
}
