//! Scans of sequential pictures: coefficients are read and become samples block by block.

use std::rc::Rc;

use super::bits::{Bits, Huffman};
use super::markers::{Component, Frame, Reader, Scan, ZIGZAG};
use super::{BLOCK, JpegError, idct};

/// What the kinds of scans share: where their blocks are, and when their data begin anew.
pub(super) struct Walk {
    /// Units across and down.
    units: [usize; 2],
    /// Units from one beginning to the next; 0 if there is only one.
    restart: usize,
}

impl Walk {
    /// The units of a scan. Where it has one component, a unit is one block, and blocks outside of the picture are left
    /// out.
    pub(super) fn new(reader: &mut Reader, scan: &Scan) -> Result<Self, JpegError> {
        let restart = reader.restart;
        let frame = reader.frame()?;
        let units = match scan.components.as_slice() {
            [(only, _)] => frame.components[*only].blocks,
            _ => frame.units,
        };
        Ok(Self { units, restart })
    }

    /// Blocks of a component in a unit, across and down.
    pub(super) fn blocks(scan: &Scan, component: &Component) -> [usize; 2] {
        if scan.components.len() == 1 { [1, 1] } else { component.sampling }
    }

    /// Calls `unit` with the place of each unit, across and down, and whether the data begin anew with it. It ends
    /// early where there are no more data, which [`Bits::overrun`] tells.
    pub(super) fn each(
        &self,
        bits: &mut Bits,
        mut unit: impl FnMut(&mut Bits, [usize; 2], bool) -> Result<(), JpegError>,
    ) -> Result<(), JpegError> {
        let (mut left, mut next) = (self.restart, 0);
        for down in 0..self.units[1] {
            for across in 0..self.units[0] {
                let begin = self.restart > 0 && left == 0;
                if begin {
                    bits.restart(next)?;
                    next = (next + 1) % 8;
                    left = self.restart;
                }
                left = left.saturating_sub(1);
                unit(bits, [across, down], begin)?;
            }
            if bits.overrun() {
                break;
            }
        }
        Ok(())
    }
}

/// A component's part of a scan.
struct Part {
    place: usize,
    blocks: [usize; 2],
    dc: Rc<Huffman>,
    ac: Rc<Huffman>,
    /// First coefficient of the last block.
    last: i32,
}

/// Reads a scan's data, and returns where they end.
pub(super) fn scan(reader: &mut Reader, file: &[u8], scan: Scan) -> Result<usize, JpegError> {
    let walk = Walk::new(reader, &scan)?;
    let mut parts = Vec::with_capacity(scan.components.len());
    for (place, [dc, ac]) in &scan.components {
        let (dc, ac) = (reader.table(0, *dc)?, reader.table(1, *ac)?);
        let component = &mut reader.frame()?.components[*place];
        if component.begun {
            return Err(JpegError::Damaged("a colour comes twice"));
        }
        component.begun = true;
        parts.push(Part { place: *place, blocks: Walk::blocks(&scan, component), dc, ac, last: 0 });
    }
    let frame = reader.frame()?;
    if frame.samples.is_empty() {
        frame.samples = vec![0; frame.stored()];
    }
    let Frame { components, samples, .. } = frame;
    let mut bits = Bits::new(file, scan.data);
    let read = walk.each(&mut bits, |bits, [across, down], begin| {
        for part in &mut parts {
            if begin {
                part.last = 0;
            }
            let component = &components[part.place];
            let stride = component.stride();
            let [wide, high] = part.blocks;
            for y in 0..high {
                for x in 0..wide {
                    let at = component.begin + (down * high + y) * 8 * stride + (across * wide + x) * 8;
                    decode(bits, part, &component.quantisation, &mut samples[at..], stride)?;
                }
            }
        }
        Ok(())
    });
    if bits.overrun() {
        return Err(bits.early());
    }
    read?;
    Ok(bits.next_marker())
}

/// Reads a block and writes its samples.
#[inline]
fn decode(
    bits: &mut Bits,
    part: &mut Part,
    quantisation: &[u16; BLOCK],
    out: &mut [u8],
    stride: usize,
) -> Result<(), JpegError> {
    let mut coefficients = [0_i16; BLOCK];
    let size = part.dc.symbol(bits)?;
    part.last = part.last.wrapping_add(bits.number(u32::from(size)));
    coefficients[0] = part.last as i16;
    let (mut at, mut flat) = (1, true);
    while at < BLOCK {
        let symbol = part.ac.symbol(bits)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run != 15 {
                break;
            }
            at += 16;
            continue;
        }
        at += run;
        let place = *ZIGZAG.get(at).ok_or(JpegError::Damaged("a block has too many coefficients"))?;
        coefficients[usize::from(place)] = bits.number(size) as i16;
        flat = false;
        at += 1;
    }
    if flat {
        idct::flat(coefficients[0], quantisation[0], out, stride);
    } else {
        idct::block(&coefficients, quantisation, out, stride);
    }
    Ok(())
}
