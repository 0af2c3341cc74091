//! Bits and small numbers in bytes: bits from the lowest up, numbers seven bits at a time.

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

    /// The bytes; the bits after the last one written are zero.
    pub fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// Reads bits, lowest first; beyond the end there are zeros.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    rest: &'a [u8],
    pending: u64,
    count: u32,
    /// Zeros handed out beyond the end.
    beyond: u32,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader {
            rest: bytes,
            pending: 0,
            count: 0,
            beyond: 0,
        }
    }

    fn fill(&mut self) {
        if let Some((word, rest)) = self.rest.split_first_chunk::<4>()
            && self.count <= 32
        {
            self.pending |= u64::from(u32::from_le_bytes(*word)) << self.count;
            self.count += 32;
            self.rest = rest;
            return;
        }
        while self.count <= 56 {
            let byte = match self.rest.split_first() {
                Some((byte, rest)) => {
                    self.rest = rest;
                    *byte
                }
                None => {
                    self.beyond = self.beyond.saturating_add(8);
                    0
                }
            };
            self.pending |= u64::from(byte) << self.count;
            self.count += 8;
        }
    }

    /// The next `count` bits, at most 32.
    pub fn read(&mut self, count: u32) -> u64 {
        debug_assert!(count <= 32);
        if self.count < count {
            self.fill();
        }
        let bits = self.pending & ((1 << count) - 1);
        self.pending >>= count;
        self.count -= count;
        bits
    }

    /// The number of ones before the next zero, which is read too; `None` if there are more than `most`.
    pub fn ones(&mut self, most: u64) -> Option<u64> {
        let mut ones = 0;
        loop {
            if self.count < 32 {
                self.fill();
            }
            let run = self.pending.trailing_ones().min(self.count);
            ones += u64::from(run);
            if ones > most {
                return None;
            }
            if run < self.count {
                self.pending = self.pending >> run >> 1;
                self.count -= run + 1;
                return Some(ones);
            }
            self.pending = 0;
            self.count = 0;
        }
    }

    /// Whether all bytes have been read, and nothing but zeros of the last one is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
            && self.pending == 0
            && self.count >= self.beyond
            && self.count - self.beyond < 8
    }
}

/// Appends a number, seven bits to a byte, lowest first; the highest bit of a byte says that more follow.
pub(crate) fn write_number(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front; `None` if it is cut off or beyond 63 bits.
pub(crate) fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
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
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        for (bits, count) in pieces {
            assert!(!reader.is_at_end());
            assert_eq!(reader.read(count), bits);
        }
        assert!(reader.is_at_end());
        reader.read(8);
        assert!(!reader.is_at_end());
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
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        for length in 0..200 {
            assert_eq!(reader.ones(length), Some(length));
            assert_eq!(reader.read(2), length & 3);
        }
        assert!(reader.is_at_end());
        assert_eq!(BitReader::new(&[0xff; 50]).ones(1000), Some(400));
        assert_eq!(BitReader::new(&[0xff; 50]).ones(399), None);
    }

    #[test]
    fn numbers_come_back_and_endless_ones_are_refused() {
        for number in [0, 1, 127, 128, 300, u64::MAX >> 1] {
            let mut bytes = Vec::new();
            write_number(number, &mut bytes);
            bytes.push(9);
            let mut rest = &bytes[..];
            assert_eq!(read_number(&mut rest), Some(number));
            assert_eq!(rest, [9]);
        }
        assert_eq!(read_number(&mut &[0x80; 20][..]), None);
        assert_eq!(read_number(&mut &[0x80][..]), None);
    }
}
