//! Checking the parts of a parameter against each other and against the network.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use skinny_network::{Parameter, shape_text};
use skinny_sparsity::Mask;

use crate::container::Part;
use crate::error::ModelError;
use crate::index::gaps::Width;
use crate::index::{Matrix, bitmask, coded, gaps, rice};
use crate::suffix;
use crate::values;

/// A parameter whose parts have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub index: StoredIndex,
    pub values: StoredValues,
    /// Kept values.
    pub kept: usize,
    /// Stored values: of gaps, there are some that are not kept.
    pub entries: usize,
    /// Bytes of the index in the file.
    pub index_bytes: usize,
    /// Bytes of values with their scales or codebook in the file.
    pub value_bytes: usize,
    /// Whether the values are entropy-coded in the file.
    pub coded: bool,
}

/// Which values are kept.
#[derive(Clone, Debug)]
pub(crate) enum StoredIndex {
    /// One tensor in the weight's own shape, which does not say what is kept.
    Plain,
    /// Parts without an index.
    All,
    Bitmask {
        bits: Range<usize>,
        offsets: Range<usize>,
    },
    Gaps {
        width: Width,
        gaps: Range<usize>,
        offsets: Range<usize>,
    },
    Rice(Mask),
    Coded(Mask),
}

/// The values, in the file or decoded from it.
#[derive(Clone, Debug)]
pub(crate) enum StoredValues {
    F32(Data),
    F16(Data),
    Int8 {
        codes: Data,
        scale: Range<usize>,
    },
    Codebook {
        codes: Data,
        halves: bool,
        codebook: Range<usize>,
    },
}

/// Bytes that lie in the file or that were decoded from it.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    File(Range<usize>),
    Decoded(Vec<u8>),
}

/// The parts of all parameters that have not been read yet.
pub(crate) struct Parts<'a> {
    pub bytes: &'a [u8],
    pub left: BTreeMap<String, Part>,
    /// Stored values that the file may still have.
    pub most_entries: usize,
}

type Checked<T> = Result<T, String>;

impl Parts<'_> {
    /// Takes the parts of one parameter.
    pub fn parameter(&mut self, parameter: &Parameter) -> Result<Stored, ModelError> {
        let read = match parameter.role.thresholded() {
            true => self.weight(parameter),
            false => self.plain(parameter).and_then(|plain| {
                plain
                    .filter(|stored| !matches!(stored.values, StoredValues::Int8 { .. }))
                    .ok_or_else(|| format!("there is no tensor `{}` of f32 or f16", parameter.name))
            }),
        };
        read.map_err(|reason| ModelError::Parameter {
            name: parameter.name.clone(),
            reason,
        })
    }

    fn take(&mut self, name: &str, suffix: &str) -> Option<Part> {
        self.left.remove(&format!("{name}.{suffix}"))
    }

    /// A parameter that is stored without an index, in its own shape.
    fn plain(&mut self, parameter: &Parameter) -> Checked<Option<Stored>> {
        let Some(part) = self.left.remove(&parameter.name) else {
            return Ok(None);
        };
        if part.shape != parameter.shape {
            return Err(format!(
                "its shape is {}, but the network needs {}",
                shape_text(&part.shape),
                shape_text(&parameter.shape)
            ));
        }
        let matrix = Matrix::of(&parameter.shape);
        let mut value_bytes = part.range.len();
        let values = self.numbers(&parameter.name, part, matrix, &mut value_bytes)?;
        Ok(Some(Stored {
            index: StoredIndex::Plain,
            values,
            kept: matrix.len(),
            entries: matrix.len(),
            index_bytes: 0,
            value_bytes,
            coded: false,
        }))
    }

    /// Values that are numbers and not codes.
    fn numbers(
        &mut self,
        name: &str,
        part: Part,
        matrix: Matrix,
        value_bytes: &mut usize,
    ) -> Checked<StoredValues> {
        let data = Data::File(part.range);
        match part.dtype {
            Dtype::F32 => Ok(StoredValues::F32(data)),
            Dtype::F16 => Ok(StoredValues::F16(data)),
            Dtype::I8 => Ok(StoredValues::Int8 {
                codes: data,
                scale: self.scale(name, matrix, value_bytes)?,
            }),
            other => Err(format!("it has values of type {other}")),
        }
    }

    fn scale(
        &mut self,
        name: &str,
        matrix: Matrix,
        value_bytes: &mut usize,
    ) -> Checked<Range<usize>> {
        let scale = self
            .take(name, suffix::SCALE)
            .ok_or("int8 values have no scale")?;
        expect(&scale, suffix::SCALE, Dtype::F32, &[matrix.rows])?;
        *value_bytes += scale.range.len();
        Ok(scale.range)
    }

    fn weight(&mut self, parameter: &Parameter) -> Checked<Stored> {
        if let Some(stored) = self.plain(parameter)? {
            return Ok(stored);
        }
        let name = &parameter.name;
        let matrix = Matrix::of(&parameter.shape);
        let (index, kept, entries, index_bytes) = self.index(name, matrix)?;
        self.most_entries = (self.most_entries.checked_sub(entries))
            .ok_or_else(|| format!("{entries} stored values cannot be in a file of this size"))?;
        let (values, value_bytes, coded) = self.values(name, matrix, entries)?;
        Ok(Stored {
            index,
            values,
            kept,
            entries,
            index_bytes,
            value_bytes,
            coded,
        })
    }

    /// The index with its kept weights, its entries and its bytes.
    fn index(&mut self, name: &str, matrix: Matrix) -> Checked<(StoredIndex, usize, usize, usize)> {
        if let Some(bits) = self.take(name, suffix::BITMASK) {
            let row_bytes = matrix.columns.div_ceil(8);
            expect(&bits, suffix::BITMASK, Dtype::U8, &[matrix.rows, row_bytes])?;
            let offsets = self.offsets(name, matrix)?;
            let shape = self
                .take(name, suffix::SHAPE)
                .ok_or("the bitmask has no shape")?;
            expect(&shape, suffix::SHAPE, Dtype::I64, &[2])?;
            let extents = crate::index::offsets_to_bytes(&[matrix.rows, matrix.columns]);
            if self.bytes[shape.range.clone()] != extents {
                return Err("the shape of the bitmask is not the network's".into());
            }
            let kept = bitmask::check(
                &self.bytes[bits.range.clone()],
                &self.bytes[offsets.clone()],
                matrix,
            )?;
            let size = bits.range.len() + offsets.len() + shape.range.len();
            let bits = bits.range;
            return Ok((StoredIndex::Bitmask { bits, offsets }, kept, kept, size));
        }
        if let Some(part) = self.take(name, suffix::GAPS) {
            let width = match part.dtype {
                Dtype::U8 => Width::U8,
                Dtype::U16 => Width::U16,
                other => return Err(format!("its gaps have type {other}")),
            };
            let gaps = part.range;
            let offsets = self.offsets(name, matrix)?;
            let bytes = (&self.bytes[gaps.clone()], &self.bytes[offsets.clone()]);
            let kept = gaps::check(bytes.0, bytes.1, matrix, width)?;
            let entries = gaps.len() / width.bytes();
            let size = gaps.len() + offsets.len();
            let index = StoredIndex::Gaps {
                width,
                gaps,
                offsets,
            };
            return Ok((index, kept, entries, size));
        }
        if let Some(part) = self.take(name, suffix::RICE) {
            expect(&part, suffix::RICE, Dtype::U8, &[part.range.len()])?;
            let mask = rice::decode(&self.bytes[part.range.clone()], matrix.len())?;
            let kept = mask.count();
            return Ok((StoredIndex::Rice(mask), kept, kept, part.range.len()));
        }
        if let Some(part) = self.take(name, suffix::MASK) {
            expect(&part, suffix::MASK, Dtype::U8, &[part.range.len()])?;
            let mask = coded::decode(&self.bytes[part.range.clone()], matrix)?;
            let kept = mask.count();
            return Ok((StoredIndex::Coded(mask), kept, kept, part.range.len()));
        }
        Ok((StoredIndex::All, matrix.len(), matrix.len(), 0))
    }

    fn offsets(&mut self, name: &str, matrix: Matrix) -> Checked<Range<usize>> {
        let part = (self.take(name, suffix::ROW_OFFSETS)).ok_or("it has no row offsets")?;
        expect(&part, suffix::ROW_OFFSETS, Dtype::I64, &[matrix.rows])?;
        Ok(part.range)
    }

    /// The values of so many entries, their bytes, and whether they were entropy-coded.
    fn values(
        &mut self,
        name: &str,
        matrix: Matrix,
        entries: usize,
    ) -> Checked<(StoredValues, usize, bool)> {
        if let Some(part) = self.take(name, suffix::COMPRESSED) {
            expect(&part, suffix::COMPRESSED, part.dtype, &[entries])?;
            let mut value_bytes = part.range.len();
            let values = self.numbers(name, part, matrix, &mut value_bytes)?;
            return Ok((values, value_bytes, false));
        }
        let codebook = self.take(name, suffix::CODEBOOK);
        if let Some(book) = &codebook {
            expect(book, suffix::CODEBOOK, Dtype::F32, &book.shape)?;
            if !matches!(book.shape[..], [1..=256]) {
                return Err("its codebook is not a list of 1 to 256 values".into());
            }
        }
        if let (Some(part), Some(book)) = (self.take(name, suffix::CODES), &codebook) {
            let size = book.shape[0];
            let halves = size <= 16;
            let length = if halves { entries.div_ceil(2) } else { entries };
            expect(&part, suffix::CODES, Dtype::U8, &[length])?;
            let codes = &self.bytes[part.range.clone()];
            let fits = |code: u8| usize::from(code) < size;
            let right = match halves {
                true => codes.iter().all(|byte| fits(byte & 15) && fits(byte >> 4)),
                false => codes.iter().all(|code| fits(*code)),
            };
            if !right {
                return Err("a code is beyond the codebook".into());
            }
            let value_bytes = part.range.len() + book.range.len();
            let values = StoredValues::Codebook {
                codes: Data::File(part.range),
                halves,
                codebook: book.range.clone(),
            };
            return Ok((values, value_bytes, false));
        }
        let part = (self.take(name, suffix::CODED)).ok_or("it has no values")?;
        expect(&part, suffix::CODED, Dtype::U8, &[part.range.len()])?;
        let mut value_bytes = part.range.len();
        let bytes = &self.bytes[part.range];
        let values = if let Some(book) = codebook {
            value_bytes += book.range.len();
            let size = book.shape[0];
            let bits = if size <= 16 { 4 } else { 8 };
            let (_, codes) = values::decode(bytes, entries, &[bits])?;
            if codes.iter().any(|code| usize::from(*code) >= size) {
                return Err("a code is beyond the codebook".into());
            }
            StoredValues::Codebook {
                codes: Data::Decoded(codes),
                halves: false,
                codebook: book.range,
            }
        } else if self.left.contains_key(&format!("{name}.{}", suffix::SCALE)) {
            let (_, codes) = values::decode(bytes, entries, &[8])?;
            StoredValues::Int8 {
                codes: Data::Decoded(codes),
                scale: self.scale(name, matrix, &mut value_bytes)?,
            }
        } else {
            match values::decode(bytes, entries, &[16, 32])? {
                (16, bytes) => StoredValues::F16(Data::Decoded(bytes)),
                (_, bytes) => StoredValues::F32(Data::Decoded(bytes)),
            }
        };
        Ok((values, value_bytes, true))
    }
}

/// Checks type and shape of a part.
fn expect(part: &Part, what: &str, dtype: Dtype, shape: &[usize]) -> Checked<()> {
    if part.dtype == dtype && part.shape == shape {
        return Ok(());
    }
    Err(format!(
        "its {what} has type {} and shape {}, where {dtype} and {} are needed",
        part.dtype,
        shape_text(&part.shape),
        shape_text(shape)
    ))
}
