//! Bits in bytes, from the lowest up.

/// Writes bits, lowest first.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// A writer that goes on after these bytes.
    pub fn after(bytes: Vec<u8>) -> BitWriter {
        BitWriter {
            bytes,
            pending: 0,
            count: 0,
        }
    }

    /// Writes the `count` lowest bits of `bits`; at most 32, and none above them may be set.
    pub fn write(&mut self, bits: u64, count: u32) {
        debug_assert!(count <= 32 && bits >> count == 0);
        self.pending |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// The bytes; what is left of the last one is filled with this bit.
    pub fn finish(mut self, fill: bool) -> Vec<u8> {
        if self.count > 0 {
            let unused = if fill { 0xff << self.count } else { 0 };
            self.bytes.push(self.pending as u8 | unused as u8);
        }
        self.bytes
    }
}

/// Reads bits, lowest first.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits that have been read.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, position: 0 }
    }

    /// Bits that have not been read.
    pub fn left(&self) -> usize {
        8 * self.bytes.len() - self.position
    }

    /// The next bits, at least 57 of them if as many are left, and zeros above.
    fn window(&self) -> u64 {
        let rest = &self.bytes[self.position / 8..];
        let word = match rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => (rest.iter().rev()).fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        word >> (self.position % 8)
    }

    /// The next `count` bits, at most 32; `None` if so many are not left.
    pub fn read(&mut self, count: u32) -> Option<u64> {
        debug_assert!(count <= 32);
        if self.left() < count as usize {
            return None;
        }
        let bits = self.window() & ((1 << count) - 1);
        self.position += count as usize;
        Some(bits)
    }

    /// The number of ones before the next zero, which is read too; `None` if there is no zero left.
    pub fn ones(&mut self) -> Option<u64> {
        let mut ones = 0;
        loop {
            let run = (self.window().trailing_ones() as usize).min(56);
            if run >= self.left() {
                self.position = 8 * self.bytes.len();
                return None;
            }
            ones += run as u64;
            self.position += run;
            if run < 56 {
                self.position += 1;
                return Some(ones);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back() {
        let mut writer = BitWriter::default();
        let pieces = [(1, 1), (5, 3), (0, 0), (0xffff_ffff, 32), (0, 7), (77, 8)];
        for (bits, count) in pieces {
            writer.write(bits, count);
        }
        let bytes = writer.finish(false);
        let mut reader = BitReader::new(&bytes);
        for (bits, count) in pieces {
            assert_eq!(reader.read(count), Some(bits));
        }
        assert_eq!(reader.left(), 5);
        assert_eq!(reader.read(6), None);
        assert_eq!(reader.read(5), Some(0));
        assert_eq!(reader.read(0), Some(0));
    }

    #[test]
    fn runs_of_ones_of_any_length_come_back() {
        let mut writer = BitWriter::default();
        for length in 0..200u64 {
            for _ in 0..length {
                writer.write(1, 1);
            }
            writer.write(0, 1);
            writer.write(length & 3, 2);
        }
        writer.write(1, 1);
        let bytes = writer.finish(true);
        let mut reader = BitReader::new(&bytes);
        for length in 0..200 {
            assert_eq!(reader.ones(), Some(length));
            assert_eq!(reader.read(2), Some(length & 3));
        }
        assert!((1..=8).contains(&reader.left()));
        assert_eq!(reader.ones(), None);
        assert_eq!(reader.left(), 0);
        assert_eq!(BitReader::new(&[0xff; 50]).ones(), None);
    }
}
