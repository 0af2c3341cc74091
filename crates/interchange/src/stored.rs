//! Tensors as they lie in a file: found and checked first, turned into f32 only when they are used.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use skinny_network::Tensor;
use skinny_network::half::{bf16_to_f32, f16_to_f32};

use crate::error::{InterchangeError, quote};

/// The most dimensions that a tensor of weights may have.
pub(crate) const MOST_DIMENSIONS: usize = 8;

/// What the numbers of a tensor are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Numbers {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// A type by its name that is recognized and not read, such as `I64`.
    Other(&'static str),
}

impl Numbers {
    /// Bytes of one number; `None` for a type that is not read.
    pub(crate) fn bytes(self) -> Option<usize> {
        match self {
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Other(name) => name,
        })
    }
}

/// Where the bytes of a tensor are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In the file.
    File(Range<usize>),
    /// Gathered from pieces of the file; tensors of several names share it.
    Own(Arc<[u8]>),
}

impl Place {
    fn len(&self) -> usize {
        match self {
            Self::File(range) => range.len(),
            Self::Own(bytes) => bytes.len(),
        }
    }
}

/// One tensor in a file: name, shape and where its numbers are.
#[derive(Debug, Clone)]
pub struct Entry {
    name: String,
    /// Extents, and the distance between neighbours along each in numbers.
    extents: Box<[(usize, usize)]>,
    numbers: Numbers,
    place: Place,
    /// The first number, counted from the start of the place.
    first: usize,
}

impl Entry {
    /// A tensor whose numbers lie side by side in row-major order and fill the place exactly.
    ///
    /// The range of a place in the file must lie in it.
    pub(crate) fn contiguous(
        name: String,
        shape: &[usize],
        numbers: Numbers,
        place: Place,
    ) -> Result<Self, String> {
        let count = values(shape)?;
        if let Some(bytes) = numbers.bytes()
            && count.checked_mul(bytes) != Some(place.len())
        {
            return Err(format!(
                "tensor {} of {count} values has {} bytes where {numbers} needs {bytes} for each",
                quote(&name),
                place.len()
            ));
        }
        let mut stride = 1;
        let mut extents: Box<[_]> = shape.iter().map(|extent| (*extent, 0)).collect();
        for (extent, distance) in extents.iter_mut().rev() {
            *distance = stride;
            stride *= (*extent).max(1);
        }
        Ok(Self {
            name,
            extents,
            numbers,
            place,
            first: 0,
        })
    }

    /// A view into a place: `strides` are distances in numbers, `first` is where it starts.
    ///
    /// The range of a place in the file must lie in it.
    pub(crate) fn view(
        name: String,
        shape: &[usize],
        strides: &[usize],
        first: usize,
        numbers: Numbers,
        place: Place,
    ) -> Result<Self, String> {
        let count = values(shape)?;
        if shape.len() != strides.len() {
            return Err(format!(
                "tensor {} has {} extents and {} strides",
                quote(&name),
                shape.len(),
                strides.len()
            ));
        }
        let extents: Box<[_]> = shape.iter().copied().zip(strides.iter().copied()).collect();
        // The place of the last number.
        let last = extents.iter().try_fold(first, |at, (extent, stride)| {
            extent
                .saturating_sub(1)
                .checked_mul(*stride)?
                .checked_add(at)
        });
        if let Some(bytes) = numbers.bytes()
            && count > 0
            && last.is_none_or(|last| last >= place.len() / bytes)
        {
            return Err(format!(
                "tensor {} reaches beyond its storage",
                quote(&name)
            ));
        }
        Ok(Self {
            name,
            extents,
            numbers,
            place,
            first,
        })
    }

    /// The same numbers with rows and columns exchanged; the tensor must have two dimensions.
    pub(crate) fn transposed(mut self) -> Self {
        assert_eq!(self.extents.len(), 2, "only a matrix is transposed");
        self.extents.swap(0, 1);
        self
    }

    /// Name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn set_name(&mut self, name: String) {
        self.name = name;
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> Vec<usize> {
        self.extents.iter().map(|(extent, _)| *extent).collect()
    }

    /// What its numbers are stored as.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Number of values; it fits, because the shape was checked.
    pub(crate) fn count(&self) -> usize {
        self.extents.iter().map(|(extent, _)| extent).product()
    }

    /// The values as f32 in row-major order; `file` holds the bytes that the entry was found in.
    pub(crate) fn tensor(&self, file: &[u8]) -> Result<Tensor, InterchangeError> {
        let bytes = match &self.place {
            Place::File(range) => &file[range.clone()],
            Place::Own(bytes) => bytes,
        };
        let data = match self.numbers {
            Numbers::F32 => self.gather(bytes, f32::from_le_bytes),
            Numbers::F16 => self.gather(bytes, |word| f16_to_f32(u16::from_le_bytes(word))),
            Numbers::Bf16 => self.gather(bytes, |word| bf16_to_f32(u16::from_le_bytes(word))),
            Numbers::Other(_) => {
                return Err(InterchangeError::Numbers {
                    name: quote(&self.name),
                    numbers: self.numbers.to_string(),
                });
            }
        };
        Ok(Tensor {
            shape: self.shape(),
            data,
        })
    }

    fn gather<const BYTES: usize>(
        &self,
        bytes: &[u8],
        read: impl Fn([u8; BYTES]) -> f32,
    ) -> Vec<f32> {
        let words = bytes.as_chunks::<BYTES>().0;
        let count = self.count();
        if count == 0 {
            return Vec::new();
        }
        let mut stride = 1;
        let dense = self.extents.iter().rev().all(|(extent, distance)| {
            let follows = *extent == 1 || *distance == stride;
            stride *= extent;
            follows
        });
        if dense {
            let words = &words[self.first..self.first + count];
            return words.iter().map(|word| read(*word)).collect();
        }
        let mut data = Vec::with_capacity(count);
        let mut position = [0; MOST_DIMENSIONS];
        let mut at = self.first;
        for _ in 0..count {
            data.push(read(words[at]));
            for (index, (extent, stride)) in position.iter_mut().zip(&self.extents).rev() {
                *index += 1;
                if *index < *extent {
                    at += stride;
                    break;
                }
                at -= (*extent - 1) * stride;
                *index = 0;
            }
        }
        data
    }
}

/// The number of values of a shape that a tensor of weights can have.
fn values(shape: &[usize]) -> Result<usize, String> {
    if shape.len() > MOST_DIMENSIONS {
        return Err(format!(
            "a tensor has {} dimensions; at most {MOST_DIMENSIONS} are read",
            shape.len()
        ));
    }
    // An extent of zero must not hide others that overflow.
    shape
        .iter()
        .try_fold(1usize, |product, extent| {
            product.checked_mul((*extent).max(1))
        })
        .filter(|values| isize::try_from(*values).is_ok())
        .map(|values| if shape.contains(&0) { 0 } else { values })
        .ok_or_else(|| "the extents of a tensor are too large".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn floats(count: usize) -> Arc<[u8]> {
        (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect()
    }

    #[test]
    fn halves_are_widened_and_bits_are_kept() {
        let f32s = [0x8000_0000u32, 0x7fc0_1234, 1];
        let bytes: Vec<u8> = f32s.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let entry = Entry::contiguous("a".into(), &[3], Numbers::F32, Place::File(4..16)).unwrap();
        let file = [&[9; 4], bytes.as_slice()].concat();
        let read = entry.tensor(&file).unwrap();
        assert_eq!(read.shape, [3]);
        let bits: Vec<u32> = read.data.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, f32s);

        let half = |numbers, bits: [u16; 2]| {
            let bytes: Arc<[u8]> = bits.iter().flat_map(|word| word.to_le_bytes()).collect();
            let entry = Entry::contiguous("h".into(), &[1, 2], numbers, Place::Own(bytes));
            entry.unwrap().tensor(&[]).unwrap().data
        };
        assert_eq!(half(Numbers::F16, [0x3c00, 0xc000]), [1.0, -2.0]);
        assert_eq!(half(Numbers::Bf16, [0x3f80, 0xbfc0]), [1.0, -1.5]);
    }

    #[test]
    fn what_is_not_read_says_so_when_it_is_used() {
        let place = Place::File(0..8);
        let entry = Entry::contiguous("n".into(), &[], Numbers::Other("I64"), place).unwrap();
        assert_eq!(
            entry.tensor(&[0; 8]).unwrap_err().to_string(),
            "tensor `n` has values of type I64; convert it to F32, F16 or BF16"
        );
    }

    #[test]
    fn views_outside_their_storage_are_refused() {
        let view = |shape: &[usize], strides: &[usize], first| {
            let place = Place::Own(floats(6));
            Entry::view("v".into(), shape, strides, first, Numbers::F32, place)
        };
        view(&[2, 3], &[3, 1], 0).unwrap();
        view(&[0, 3], &[3, 1], 99).unwrap();
        for (shape, strides, first, reason) in [
            (&[2, 3][..], &[3, 1][..], 1, "beyond"),
            (&[2, 3], &[4, 1], 0, "beyond"),
            (&[1], &[1], 6, "beyond"),
            (&[2], &[usize::MAX], 1, "beyond"),
            (&[2, 3], &[3], 0, "strides"),
            (&[usize::MAX, 2], &[0, 0], 0, "too large"),
            (&[0, usize::MAX, 2], &[0, 0, 0], 0, "too large"),
            (&[1; 9], &[1; 9], 0, "dimensions"),
        ] {
            let message = view(shape, strides, first).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
        let short = Entry::contiguous("c".into(), &[2], Numbers::F32, Place::Own(floats(3)));
        assert!(short.unwrap_err().contains("12 bytes"));
    }

    proptest! {
        #[test]
        fn a_view_reads_what_its_strides_say(
            extents in prop::collection::vec((1usize..4, 0usize..5), 0..5), first in 0usize..7,
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = extents.iter().copied().unzip();
            let last = first + extents.iter().map(|(extent, stride)| (extent - 1) * stride).sum::<usize>();
            let place = Place::Own(floats(last + 1));
            let entry = Entry::view("v".into(), &shape, &strides, first, Numbers::F32, place).unwrap();
            let read = entry.tensor(&[]).unwrap();
            for (index, value) in read.data.iter().enumerate() {
                let (mut rest, mut at) = (index, first);
                for (extent, stride) in extents.iter().rev() {
                    at += rest % extent * stride;
                    rest /= extent;
                }
                prop_assert_eq!(*value, at as f32);
            }
            prop_assert_eq!(read.data.len(), shape.iter().product::<usize>());
        }

        #[test]
        fn transposing_exchanges_rows_and_columns(rows in 1usize..6, columns in 1usize..6) {
            let place = Place::Own(floats(rows * columns));
            let entry = Entry::contiguous("m".into(), &[rows, columns], Numbers::F32, place).unwrap();
            let read = entry.transposed().tensor(&[]).unwrap();
            prop_assert_eq!(&read.shape, &[columns, rows]);
            for row in 0..rows {
                for column in 0..columns {
                    prop_assert_eq!(read.data[column * rows + row], (row * columns + column) as f32);
                }
            }
        }
    }
}
