//! Scans of progressive pictures: each brings some coefficients of all blocks, or more bits of them.

use std::rc::Rc;

use super::bits::{Bits, Huffman};
use super::markers::{Frame, Reader, Scan, ZIGZAG};
use super::scan::Walk;
use super::{BLOCK, JpegError, idct};

/// Coefficients, in their order, without all bits of which libjpeg-turbo guesses at the picture.
const SMOOTHED: usize = 10;

/// Reads a scan's data into the coefficients, and returns where they end.
pub(super) fn scan(reader: &mut Reader, file: &[u8], scan: Scan) -> Result<usize, JpegError> {
    let wrong = JpegError::Damaged("the header of a scan is wrong");
    let ([first, last], [before, low]) = (scan.band, scan.bits);
    let of_dc = first == 0;
    let band = if of_dc { last == 0 } else { first <= last && last < BLOCK && scan.components.len() == 1 };
    if !band || low > 13 || (before != 0 && before != low + 1) {
        return Err(wrong);
    }
    let walk = Walk::new(reader, &scan)?;
    let mut tables: Vec<Option<Rc<Huffman>>> = Vec::new();
    for (_, [dc, ac]) in &scan.components {
        tables.push(match (of_dc, before) {
            (true, 0) => Some(reader.table(0, *dc)?),
            (true, _) => None,
            (false, _) => Some(reader.table(1, *ac)?),
        });
    }
    let frame = reader.frame()?;
    if frame.coefficients.is_empty() {
        frame.coefficients = vec![0; frame.stored()];
    }
    let Frame { components, coefficients, .. } = frame;
    for (place, _) in &scan.components {
        let component = &mut components[*place];
        if !component.begun {
            if !of_dc {
                return Err(JpegError::Damaged("the scans of a colour are out of order"));
            }
            component.begun = true;
            component.unknown = [u8::MAX; BLOCK];
        }
        component.unknown[first..=last].fill(low as u8);
    }
    let mut bits = Bits::new(file, scan.data);
    let mut lasts = vec![0_i32; scan.components.len()];
    // Blocks that have nothing more in this band.
    let mut ended = 0;
    let read = walk.each(&mut bits, |bits, [across, down], begin| {
        if begin {
            lasts.fill(0);
            ended = 0;
        }
        for (((place, _), table), dc) in scan.components.iter().zip(&tables).zip(&mut lasts) {
            let component = &components[*place];
            let [wide, high] = Walk::blocks(&scan, component);
            for y in 0..high {
                for x in 0..wide {
                    let number = (down * high + y) * component.stored[0] + across * wide + x;
                    let block = &mut coefficients[component.begin + number * BLOCK..][..BLOCK];
                    match (of_dc, before, table) {
                        (true, 0, Some(table)) => {
                            let size = u32::from(table.symbol(bits)?);
                            *dc = dc.wrapping_add(bits.number(size));
                            block[0] = dc.wrapping_shl(low) as i16;
                        }
                        (false, 0, Some(table)) => ac_first(bits, table, [first, last], low, &mut ended, block)?,
                        (false, _, Some(table)) => ac_more(bits, table, [first, last], low, &mut ended, block)?,
                        _ => block[0] |= i16::from(bits.bit()) << low,
                    }
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

/// Number of blocks that a code for the end of a band stands for.
#[inline(always)]
fn run_of_blocks(bits: &mut Bits, size: usize) -> u32 {
    (1 << size) + bits.take(size as u32)
}

/// The first scan of a band.
#[inline]
fn ac_first(
    bits: &mut Bits,
    table: &Huffman,
    [first, last]: [usize; 2],
    low: u32,
    ended: &mut u32,
    block: &mut [i16],
) -> Result<(), JpegError> {
    if *ended > 0 {
        *ended -= 1;
        return Ok(());
    }
    let mut at = first;
    while at <= last {
        let symbol = table.symbol(bits)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run != 15 {
                *ended = run_of_blocks(bits, run) - 1;
                break;
            }
            at += 16;
            continue;
        }
        at += run;
        let place = *ZIGZAG.get(at).ok_or(JpegError::Damaged("a block has too many coefficients"))?;
        block[usize::from(place)] = bits.number(size).wrapping_shl(low) as i16;
        at += 1;
    }
    Ok(())
}

/// A bit more of a coefficient that is not 0.
#[inline(always)]
fn refine(bits: &mut Bits, one: i16, value: &mut i16) {
    if bits.bit() && *value & one == 0 {
        *value = value.wrapping_add(if *value >= 0 { one } else { -one });
    }
}

/// A later scan of a band.
#[inline]
fn ac_more(
    bits: &mut Bits,
    table: &Huffman,
    [first, last]: [usize; 2],
    low: u32,
    ended: &mut u32,
    block: &mut [i16],
) -> Result<(), JpegError> {
    let one = 1_i16 << low;
    let mut at = first;
    if *ended == 0 {
        while at <= last {
            let symbol = table.symbol(bits)?;
            let (mut run, size) = (usize::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            match size {
                0 if run != 15 => {
                    *ended = run_of_blocks(bits, run);
                    break;
                }
                0 => {}
                1 => new = if bits.bit() { one } else { -one },
                _ => return Err(JpegError::Damaged("a coefficient of more than a bit comes late")),
            }
            // Over `run` coefficients that stay 0, and over all that are not 0.
            while at <= last {
                let value = &mut block[usize::from(ZIGZAG[at])];
                if *value != 0 {
                    refine(bits, one, value);
                } else if run == 0 {
                    *value = std::mem::take(&mut new);
                    at += 1;
                    break;
                } else {
                    run -= 1;
                }
                at += 1;
            }
            if new != 0 {
                return Err(JpegError::Damaged("a block has too many coefficients"));
            }
        }
    }
    if *ended > 0 {
        for place in ZIGZAG.get(at..=last).unwrap_or_default() {
            let value = &mut block[usize::from(*place)];
            if *value != 0 {
                refine(bits, one, value);
            }
        }
        *ended -= 1;
    }
    Ok(())
}

/// All coefficients to samples.
pub(super) fn finish(frame: &mut Frame) -> Result<(), JpegError> {
    let coefficients = std::mem::take(&mut frame.coefficients);
    frame.samples = vec![0; coefficients.len()];
    for component in &frame.components {
        if component.unknown[..SMOOTHED].iter().any(|unknown| *unknown > 0) {
            return Err(JpegError::Damaged("its last scans are missing"));
        }
        let (stride, [across, down]) = (component.stride(), component.stored);
        let own = &coefficients[component.begin..][..across * down * BLOCK];
        for (at, block) in own.as_chunks::<BLOCK>().0.iter().enumerate() {
            let out = &mut frame.samples[component.begin + at / across * 8 * stride + at % across * 8..];
            if block[1..].iter().all(|value| *value == 0) {
                idct::flat(block[0], component.quantisation[0], out, stride);
            } else {
                idct::block(block, &component.quantisation, out, stride);
            }
        }
    }
    Ok(())
}
