//! The segments between the markers of a JPEG: tables, the frame, and the headers of scans.

use std::rc::Rc;

use super::bits::Huffman;
use super::{BLOCK, JpegError};

/// How a JPEG begins.
pub(crate) const MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

/// Place of the coefficients, in the order in which they are coded.
pub(super) const ZIGZAG: [u8; BLOCK] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// One channel of the picture as it is stored, often smaller than the picture.
pub(super) struct Component {
    id: u8,
    /// Horizontal and vertical sampling, 1 to 4.
    pub(super) sampling: [usize; 2],
    /// Width and height in samples.
    pub(super) size: [usize; 2],
    /// Blocks across and down that have a sample of the picture.
    pub(super) blocks: [usize; 2],
    /// Blocks across and down that are stored: whole units of all components.
    pub(super) stored: [usize; 2],
    table: usize,
    /// Steps of its coefficients, in their place; as they were when its first scan began.
    pub(super) quantisation: [u16; BLOCK],
    /// Whether a scan of it has begun.
    pub(super) begun: bool,
    /// Where its samples, and its coefficients, begin among those of the frame.
    pub(super) begin: usize,
    /// Of each coefficient, in the order of the file, how many of its low bits have not been read: 255 if none has.
    pub(super) unknown: [u8; BLOCK],
}

impl Component {
    /// Bytes of a row of samples.
    pub(super) fn stride(&self) -> usize {
        self.stored[0] * 8
    }
}

/// What the channels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// The picture.
pub(super) struct Frame {
    /// Width and height in pixels.
    pub(super) size: [usize; 2],
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// Largest sampling, horizontal and vertical.
    pub(super) most: [usize; 2],
    /// Units of blocks of all components, across and down.
    pub(super) units: [usize; 2],
    pub(super) colours: Colours,
    /// Samples of all stored blocks, component by component and row by row. One piece of memory: the system gets back
    /// a large one as soon as it is not needed.
    pub(super) samples: Vec<u8>,
    /// Coefficients of all stored blocks, each in its place; only of progressive pictures.
    pub(super) coefficients: Vec<i16>,
}

impl Frame {
    /// Samples of all stored blocks.
    pub(super) fn stored(&self) -> usize {
        self.components.iter().map(|component| component.stored[0] * component.stored[1] * BLOCK).sum()
    }

    /// Bytes of memory for samples and coefficients.
    pub(super) fn memory(&self) -> u64 {
        (self.stored() * if self.progressive { 3 } else { 1 }) as u64
    }
}

/// A scan's header.
pub(super) struct Scan {
    /// Components, by their place in the frame, and numbers of their Huffman tables for DC and AC.
    pub(super) components: Vec<(usize, [usize; 2])>,
    /// First and last coefficient.
    pub(super) band: [usize; 2],
    /// Bits that were left out before, and are left out now.
    pub(super) bits: [u32; 2],
    /// Where its data begin.
    pub(super) data: usize,
}

/// What a reader of segments stops at; it takes in all others itself.
pub(super) enum Segment<'a> {
    /// EXIF data.
    Exif(&'a [u8]),
    /// Compressed data follow.
    Scan(Scan),
    /// The end marker.
    End,
}

/// Reads segments.
pub(super) struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    frame: Option<Frame>,
    quantisation: [Option<[u16; BLOCK]>; 4],
    /// Tables for DC, and for AC.
    pub(super) huffman: [[Option<Rc<Huffman>>; 4]; 2],
    /// Units between two restart markers; 0 if there are none.
    pub(super) restart: usize,
    jfif: bool,
    /// The transform that Adobe's marker names.
    adobe: Option<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a [u8]) -> Result<Self, JpegError> {
        if !file.starts_with(&MAGIC[..2]) {
            return Err(if MAGIC.starts_with(file) { JpegError::CutOff } else { JpegError::Damaged("it is no JPEG") });
        }
        let huffman = Default::default();
        let quantisation = [None; 4];
        Ok(Self { file, at: 2, frame: None, quantisation, huffman, restart: 0, jfif: false, adobe: None })
    }

    /// The frame, which must have been read.
    pub(super) fn frame(&mut self) -> Result<&mut Frame, JpegError> {
        self.frame.as_mut().ok_or(JpegError::Damaged("its data begin before its size is known"))
    }

    pub(super) fn into_frame(self) -> Result<Frame, JpegError> {
        self.frame.ok_or(JpegError::Damaged("it has no picture"))
    }

    /// Reads on from there.
    pub(super) fn go_on(&mut self, at: usize) {
        self.at = at;
    }

    /// The segment's content; the next segment is behind it.
    fn content(&mut self) -> Result<&'a [u8], JpegError> {
        let rest = &self.file[self.at..];
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk().ok_or(JpegError::CutOff)?));
        if length < 2 {
            return Err(JpegError::Damaged("a segment has no length"));
        }
        let content = rest.get(2..length).ok_or(JpegError::CutOff)?;
        self.at += length;
        Ok(content)
    }

    /// The next segment that matters to the caller.
    pub(super) fn next(&mut self) -> Result<Segment<'a>, JpegError> {
        loop {
            // To the next marker, over whatever else lies between segments, as libjpeg-turbo does.
            let rest = &self.file[self.at..];
            let marker = rest.windows(2).position(|pair| pair[0] == 0xff && pair[1] != 0 && pair[1] != 0xff);
            let marker = marker.ok_or(JpegError::CutOff)?;
            let kind = rest[marker + 1];
            self.at += marker + 2;
            match kind {
                0xd9 => return Ok(Segment::End),
                0xd8 => return Err(JpegError::Damaged("it begins twice")),
                // Markers without a segment.
                0x01 | 0xd0..=0xd7 => {}
                0xc0..=0xc2 => {
                    let content = self.content()?;
                    self.read_frame(content, kind == 0xc2)?;
                }
                0xc4 => {
                    let content = self.content()?;
                    self.read_huffman(content)?;
                }
                0xc9 | 0xca | 0xcd | 0xce => return Err(JpegError::Unread("coded arithmetically")),
                0xc3 | 0xc7 | 0xcb | 0xcf | 0xf7 => return Err(JpegError::Unread("lossless")),
                0xc5 | 0xc6 => return Err(JpegError::Unread("hierarchical")),
                0xdb => {
                    let content = self.content()?;
                    self.read_quantisation(content)?;
                }
                0xdd => {
                    let content = self.content()?;
                    let restart = content.try_into().map_err(|_| JpegError::Damaged("an interval has two bytes"))?;
                    self.restart = usize::from(u16::from_be_bytes(restart));
                }
                0xda => {
                    let content = self.content()?;
                    return self.read_scan(content).map(Segment::Scan);
                }
                0xe0 => self.jfif |= self.content()?.starts_with(b"JFIF\0"),
                0xe1 => {
                    if let Some(exif) = self.content()?.strip_prefix(b"Exif\0\0") {
                        return Ok(Segment::Exif(exif));
                    }
                }
                0xee => {
                    if let [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..] = self.content()? {
                        self.adobe = Some(*transform);
                    }
                }
                _ => {
                    self.content()?;
                }
            }
        }
    }

    fn read_quantisation(&mut self, mut content: &[u8]) -> Result<(), JpegError> {
        let wrong = JpegError::Damaged("a quantisation table is wrong");
        while let [kind, rest @ ..] = content {
            let (wide, number) = (kind >> 4, usize::from(kind & 15));
            let size = if wide == 0 { BLOCK } else { 2 * BLOCK };
            let values = rest.get(..size).filter(|_| wide <= 1 && number < 4).ok_or(wrong)?;
            let mut table = [0; BLOCK];
            for (at, place) in ZIGZAG.into_iter().enumerate() {
                table[usize::from(place)] = match wide {
                    0 => u16::from(values[at]),
                    _ => u16::from_be_bytes([values[2 * at], values[2 * at + 1]]),
                };
            }
            self.quantisation[number] = Some(table);
            content = &rest[size..];
        }
        Ok(())
    }

    fn read_huffman(&mut self, mut content: &[u8]) -> Result<(), JpegError> {
        let wrong = JpegError::Damaged("a Huffman table is wrong");
        while let [kind, rest @ ..] = content {
            let (class, number) = (usize::from(kind >> 4), usize::from(kind & 15));
            let counts: &[u8; 16] = rest.first_chunk().filter(|_| class < 2 && number < 4).ok_or(wrong)?;
            let all: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = rest.get(16..16 + all).filter(|_| all <= 256).ok_or(wrong)?;
            let table = Huffman::new(counts, symbols)?;
            if class == 0 && !table.is_of_sizes() {
                return Err(wrong);
            }
            self.huffman[class][number] = Some(Rc::new(table));
            content = &rest[16 + all..];
        }
        Ok(())
    }

    fn read_frame(&mut self, content: &[u8], progressive: bool) -> Result<(), JpegError> {
        if self.frame.is_some() {
            return Err(JpegError::Damaged("it has two sizes"));
        }
        let [bits, high, tall, broad, wide, count, rest @ ..] = content else {
            return Err(JpegError::Damaged("its size is missing"));
        };
        if *bits != 8 {
            return Err(JpegError::Unread("of another number of bits than 8"));
        }
        let size = [[*broad, *wide], [*high, *tall]].map(|size| usize::from(u16::from_be_bytes(size)));
        if ![1, 3, 4].contains(count) {
            return Err(JpegError::Unread("of a number of colours other than 1, 3 and 4"));
        }
        if rest.len() != 3 * usize::from(*count) {
            return Err(JpegError::Damaged("it does not say what each of its colours is"));
        }
        let mut components: Vec<Component> = Vec::with_capacity(3);
        for one in rest.chunks_exact(3) {
            let (id, sampling, table) = (one[0], [one[1] >> 4, one[1] & 15].map(usize::from), usize::from(one[2]));
            if !sampling.iter().all(|sampling| (1..=4).contains(sampling)) || table > 3 {
                return Err(JpegError::Damaged("the sampling of a colour is impossible"));
            }
            components.push(Component {
                id,
                sampling,
                size: [0; 2],
                blocks: [0; 2],
                stored: [0; 2],
                table,
                quantisation: [0; BLOCK],
                begun: false,
                begin: 0,
                unknown: [0; BLOCK],
            });
        }
        let most = [0, 1].map(|axis| components.iter().map(|one| one.sampling[axis]).max().unwrap_or(1));
        let units = [0, 1].map(|axis| size[axis].div_ceil(8 * most[axis]));
        let mut begin = 0;
        for component in &mut components {
            if most.iter().zip(component.sampling).any(|(most, own)| most % own != 0) {
                return Err(JpegError::Unread("of colours whose sizes do not divide each other"));
            }
            for axis in 0..2 {
                component.size[axis] = (size[axis] * component.sampling[axis]).div_ceil(most[axis]);
                component.blocks[axis] = component.size[axis].div_ceil(8);
                component.stored[axis] = units[axis] * component.sampling[axis];
            }
            component.begin = begin;
            begin += component.stored[0] * component.stored[1] * BLOCK;
        }
        let ids: Vec<u8> = components.iter().map(|component| component.id).collect();
        let colours = match (components.len(), self.adobe) {
            (1, _) => Colours::Grey,
            (3, _) if self.jfif => Colours::YCbCr,
            (3, Some(0)) => Colours::Rgb,
            (3, None) if ids == *b"RGB" => Colours::Rgb,
            (3, _) => Colours::YCbCr,
            (_, None | Some(0)) => Colours::Cmyk,
            _ => Colours::Ycck,
        };
        let (samples, coefficients) = (Vec::new(), Vec::new());
        self.frame = Some(Frame { size, progressive, components, most, units, colours, samples, coefficients });
        Ok(())
    }

    fn read_scan(&mut self, content: &[u8]) -> Result<Scan, JpegError> {
        let wrong = JpegError::Damaged("the header of a scan is wrong");
        let data = self.at;
        let tables = self.quantisation;
        let frame = self.frame()?;
        let [count, rest @ ..] = content else { return Err(wrong) };
        let count = usize::from(*count);
        if !(1..=4).contains(&count) || rest.len() != 2 * count + 3 {
            return Err(wrong);
        }
        let (named, last) = rest.split_at(2 * count);
        let mut components = Vec::with_capacity(count);
        for one in named.chunks_exact(2) {
            let place = frame.components.iter().position(|component| component.id == one[0]).ok_or(wrong)?;
            let numbers = [one[1] >> 4, one[1] & 15].map(usize::from);
            if numbers.iter().any(|number| *number > 3) || components.iter().any(|(other, _)| *other == place) {
                return Err(wrong);
            }
            let component = &mut frame.components[place];
            if !component.begun {
                component.quantisation =
                    tables[component.table].ok_or(JpegError::Damaged("a quantisation table is missing"))?;
            }
            components.push((place, numbers));
        }
        let band = [last[0], last[1]].map(usize::from);
        let bits = [last[2] >> 4, last[2] & 15].map(u32::from);
        Ok(Scan { components, band, bits, data })
    }

    /// A Huffman table that a scan names.
    pub(super) fn table(&self, class: usize, number: usize) -> Result<Rc<Huffman>, JpegError> {
        self.huffman[class][number].clone().ok_or(JpegError::Damaged("a Huffman table is missing"))
    }
}
