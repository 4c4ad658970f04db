//! Bits of compressed data, and Huffman codes.

use super::JpegError;

/// Codes of up to so many bits are looked up at once.
const QUICK: u32 = 10;

/// Reads the bits of a scan up to the next marker. Behind it come zeros, and [`Bits::overrun`] tells that they were
/// taken.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The first byte of which no bit counts as read into `buffer`.
    at: usize,
    /// The next bits, the first of them the highest. Below the `count` there may be some of the byte `at` already.
    buffer: u64,
    count: u32,
    /// How many of the bits at the end of `buffer`, or already taken, are not in the data.
    invented: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self { data, at, buffer: 0, count: 0, invented: 0 }
    }

    /// Makes 32 bits available, or more.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.data.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let next = u64::from_be_bytes(*next);
            // Whether no byte is 0xff, which would stand for something else: no byte of the complement is 0.
            let inverse = !next;
            if inverse.wrapping_sub(0x0101_0101_0101_0101) & !inverse & 0x8080_8080_8080_8080 == 0 {
                self.buffer |= next >> self.count;
                self.at += (63 - self.count as usize) >> 3;
                self.count |= 56;
                return;
            }
        }
        self.fill_bytes();
    }

    /// Byte by byte: here is a 0xff, or the end.
    #[cold]
    fn fill_bytes(&mut self) {
        while self.count <= 56 {
            let byte = match self.data.get(self.at) {
                Some(0xff) => {
                    // Any number of 0xff, and a 0, are one 0xff.
                    let rest = &self.data[self.at..];
                    let length = rest.iter().position(|byte| *byte != 0xff).unwrap_or(rest.len());
                    if rest.get(length) == Some(&0) {
                        self.at += length + 1;
                        0xff
                    } else {
                        self.invented += 8;
                        0
                    }
                }
                Some(byte) => {
                    self.at += 1;
                    *byte
                }
                None => {
                    self.invented += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next `count` bits, 1 to 16, of those that [`Bits::fill`] made available.
    #[inline(always)]
    fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// Takes up to 16 of the bits that [`Bits::fill`] made available.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Takes a bit.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        self.fill();
        self.take(1) == 1
    }

    /// Takes a signed number of `size` bits: one that begins with 0 is negative.
    #[inline(always)]
    pub(super) fn number(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let bits = self.take(size) as i32;
        if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
    }

    /// Whether bits were taken that are not in the data.
    pub(super) fn overrun(&self) -> bool {
        self.count < self.invented
    }

    /// What is wrong where bits were taken that are not in the data.
    pub(super) fn early(&self) -> JpegError {
        if self.next_marker() < self.data.len() {
            return JpegError::Damaged("its compressed data stop early");
        }
        JpegError::CutOff
    }

    /// Where the next marker is, or the end of the data.
    pub(super) fn next_marker(&self) -> usize {
        let rest = &self.data[self.at..];
        let marker = rest.windows(2).position(|pair| pair[0] == 0xff && pair[1] != 0 && pair[1] != 0xff);
        self.at + marker.unwrap_or(rest.len())
    }

    /// Goes on behind the restart marker of a number, 0 to 7, which must be the next one.
    pub(super) fn restart(&mut self, number: u8) -> Result<(), JpegError> {
        if self.overrun() {
            return Err(self.early());
        }
        let marker = self.next_marker();
        if self.data.get(marker + 1) != Some(&(0xd0 + number)) {
            return Err(JpegError::Damaged("a restart marker is missing"));
        }
        *self = Self::new(self.data, marker + 2);
        Ok(())
    }
}

/// A table of Huffman codes.
pub(super) struct Huffman {
    /// For each value of the next [`QUICK`] bits the length of their code and its symbol, `length << 8 | symbol`; 0 if
    /// the code is longer, or there is none.
    quick: Box<[u16; 1 << QUICK]>,
    /// For each length the first number that is no code of it, or of a shorter one.
    end: [u32; 17],
    /// For each length what leads from a code to the place of its symbol.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// The table of a DHT segment: how many codes there are of 1 to 16 bits, and their symbols.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, JpegError> {
        let wrong = JpegError::Damaged("a Huffman table is wrong");
        let mut table =
            Self { quick: Box::new([0; 1 << QUICK]), end: [0; 17], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut at) = (0_u32, 0);
        for length in 1..=16_u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offset[length as usize] = at as i32 - code as i32;
            for symbol in symbols.get(at..at + count).ok_or(wrong)? {
                if length <= QUICK {
                    let first = (code as usize) << (QUICK - length);
                    let all = table.quick.get_mut(first..first + (1 << (QUICK - length))).ok_or(wrong)?;
                    all.fill((length as u16) << 8 | u16::from(*symbol));
                }
                code += 1;
            }
            at += count;
            if code > 1 << length {
                return Err(wrong);
            }
            table.end[length as usize] = code;
            code <<= 1;
        }
        Ok(table)
    }

    /// Whether all symbols are sizes that a DC coefficient can have.
    pub(super) fn is_of_sizes(&self) -> bool {
        self.symbols.iter().all(|symbol| *symbol <= 15)
    }

    /// Takes a code of up to 16 bits and returns its symbol; 16 bits remain available.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits) -> Result<u8, JpegError> {
        bits.fill();
        let quick = self.quick[bits.peek(QUICK) as usize];
        if quick != 0 {
            bits.skip(u32::from(quick >> 8));
            return Ok(quick as u8);
        }
        self.long(bits)
    }

    #[cold]
    fn long(&self, bits: &mut Bits) -> Result<u8, JpegError> {
        for length in QUICK + 1..=16 {
            let code = bits.peek(length);
            if code < self.end[length as usize] {
                bits.skip(length);
                let place = code as i32 + self.offset[length as usize];
                return self.symbols.get(place as usize).copied().ok_or(JpegError::Damaged("a code is unknown"));
            }
        }
        Err(JpegError::Damaged("a code is unknown"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_end_at_a_marker_and_stuffing_is_left_out() {
        // 0xff 0x00 is 0xff; so is 0xff 0xff 0x00; then a marker.
        let data = [0b1010_0101, 0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xff, 0, 9, 0xff, 0xd9, 0x77];
        let expected = [0b1010_0101, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 0xff, 9];
        for width in [1, 4, 8] {
            let mut bits = Bits::new(&data, 0);
            let mut read = vec![0_u8; expected.len()];
            for step in 0..expected.len() * 8 / width {
                bits.fill();
                read[step * width / 8] = read[step * width / 8] << (width % 8) | bits.take(width as u32) as u8;
            }
            assert_eq!((read.as_slice(), bits.overrun()), (&expected[..], false), "{width} bits at a time");
            assert_eq!(bits.next_marker(), data.len() - 3);
            assert!(!bits.bit() && bits.overrun());
        }
    }

    #[test]
    fn numbers_that_begin_with_zero_are_negative() {
        // 0, 10, 01, 1110, 000.
        let data = [0b0100_1111, 0];
        let mut bits = Bits::new(&data, 0);
        bits.fill();
        assert_eq!([1, 2, 2, 4, 3].map(|size| bits.number(size)), [-1, 2, -2, 14, -7]);
        assert_eq!(bits.number(0), 0);
    }

    #[test]
    fn codes_of_all_lengths_are_read_and_impossible_tables_refused() {
        // One code of each length: 0, 10, 110, … and the last of 16 bits.
        let symbols: Vec<u8> = (1..=16).collect();
        let table = Huffman::new(&[1; 16], &symbols).unwrap();
        for length in [1_u32, 2, 9, 10, 11, 15, 16] {
            let code = ((1_u32 << length) - 2) << (16 - length);
            let data = [(code >> 8) as u8, 0, code as u8, 0, 0];
            // Where the first byte is not 0xff there is no stuffing.
            let data = if data[0] == 0xff { data.to_vec() } else { vec![data[0], data[2], 0, 0] };
            assert_eq!(table.symbol(&mut Bits::new(&data, 0)).unwrap(), length as u8);
        }
        let none = [0xff, 0, 0xff, 0, 0];
        assert!(table.symbol(&mut Bits::new(&none, 0)).is_err());
        assert!(!table.is_of_sizes());
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Huffman::new(&counts, &[1, 2, 3]).is_err(), "three codes of one bit");
        counts[0] = 2;
        assert!(Huffman::new(&counts, &[1]).is_err(), "a symbol is missing");
        counts[15] = 1;
        assert!(Huffman::new(&counts, &[1, 2, 3]).is_err(), "no code is left");
        assert!(Huffman::new(&[0; 16], &[]).unwrap().is_of_sizes());
    }
}
