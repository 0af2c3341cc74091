//! The wire format of protocol buffers, as far as ONNX needs it: fields one after the other, without schemas.

use std::ops::Range;

/// A field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// An integer or a boolean.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Text, bytes, a message, or packed numbers: where they are in the file.
    Bytes(Range<usize>),
    /// Four bytes.
    Fixed32(u32),
}

/// The fields of the message in a part of a file, in their order: number and value.
///
/// Nothing is kept of what was read, so that any message costs nothing; after an error nothing follows.
pub(crate) struct Fields<'a> {
    file: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// `part` must lie in the file.
    pub fn new(file: &'a [u8], part: Range<usize>) -> Self {
        Self {
            file,
            at: part.start,
            end: part.end,
        }
    }

    fn read(&mut self) -> Option<(u64, Field)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let start = self.at;
                self.take(length)?;
                Field::Bytes(start..self.at)
            }
            5 => Field::Fixed32(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            // Groups ended with version 1; others do not exist.
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.file[self.at..self.end].get(..length)?;
        self.at += length;
        Some(bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let (value, length) = varint(&self.file[self.at..self.end])?;
        self.at += length;
        Some(value)
    }
}

impl Iterator for Fields<'_> {
    /// `Err` where the message is damaged.
    type Item = Result<(u64, Field), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.end {
            return None;
        }
        let at = self.at;
        let field = self
            .read()
            .ok_or_else(|| format!("it is damaged at byte {at}; fetch or export it again"));
        if field.is_err() {
            self.at = self.end;
        }
        Some(field)
    }
}

/// A number of seven bits in each byte, lowest first, and its length in bytes.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if index == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// A message that is being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(pub Vec<u8>);

impl Message {
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer; negative ones take ten bytes, as the format has it.
    pub fn int(&mut self, field: u64, value: i64) -> &mut Self {
        self.put_varint(field << 3);
        self.put_varint(value as u64);
        self
    }

    pub fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.put_varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.length(field, bytes.len());
        self.0.extend(bytes);
        self
    }

    pub fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(&mut self, field: u64, message: &Message) -> &mut Self {
        self.bytes(field, &message.0)
    }

    /// What comes before the bytes of a field whose bytes are written otherwise.
    pub fn length(&mut self, field: u64, length: usize) -> &mut Self {
        self.put_varint(field << 3 | 2);
        self.put_varint(length as u64);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Field)>, String> {
        Fields::new(bytes, 0..bytes.len()).collect()
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        // From the format's documentation: field 1 = 150, field 2 = "testing".
        assert_eq!(
            fields(&[0x08, 0x96, 0x01]).unwrap(),
            [(1, Field::Varint(150))]
        );
        let bytes = b"\x12\x07testing";
        assert_eq!(fields(bytes).unwrap(), [(2, Field::Bytes(2..9))]);
    }

    #[test]
    fn damage_is_an_error_and_ends_the_message() {
        for bytes in [
            &[0x08][..],
            &[0x80; 11],
            &[0x12, 0x07, b't'],
            &[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x0b],
            &[0x0f],
            &[0x0d, 1, 2, 3],
            &[0x09, 1, 2, 3],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ],
        ] {
            assert!(fields(bytes).unwrap_err().contains("at byte 0"));
            let mut fields = Fields::new(bytes, 0..bytes.len());
            assert!(fields.next().unwrap().is_err() && fields.next().is_none());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ints in prop::collection::vec((1u64..1 << 29, any::<i64>()), 0..9), text in ".*", float: f32) {
            let mut message = Message::default();
            for (field, value) in &ints {
                message.int(*field, *value);
            }
            message.text(3, &text).float(4, float);
            let read = fields(&message.0).unwrap();
            for ((field, value), found) in ints.iter().zip(&read) {
                prop_assert_eq!(found, &(*field, Field::Varint(*value as u64)));
            }
            prop_assert_eq!(&read[ints.len() + 1], &(4, Field::Fixed32(float.to_bits())));
            let Field::Bytes(range) = &read[ints.len()].1 else { panic!() };
            prop_assert_eq!(&message.0[range.clone()], text.as_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for (_, field) in Fields::new(&bytes, 0..bytes.len()).flatten() {
                if let Field::Bytes(range) = field {
                    prop_assert!(range.end <= bytes.len());
                }
            }
        }
    }
}
