//! A decision for every weight, kept or dropped, entropy-coded with what its row and its column have been like so far.
//!
//! Training leaves rows and columns of very different density, so this takes less than the entropy of a mask that is only
//! known to be of some density; where rows and columns are alike, it takes about as much.
//!
//! Bytes: one for the form (0: all weights are coded alike, 1: rows and columns are told apart), the share of kept weights
//! in units of 2⁻¹⁶ (two bytes, lowest first), then the coder's stream of decisions in row-major order.

use skinny_sparsity::Mask;

use super::{Matrix, Refusal};
use crate::rans::{Chance, Decoder, Encoder};

/// Bits that a chance counts at most.
const LIMIT: u16 = 1023;
/// How sure a chance starts out.
const START: u16 = 16;
/// A row's chance counts this many at most.
const ROW_LIMIT: u16 = 62;
/// A column's chance counts this many at most.
const COLUMN_LIMIT: u16 = 254;
/// Levels of a density.
const LEVELS: usize = 12;

/// The state that decides how the next weight is coded.
struct Context {
    form: Form,
    all: Chance,
    /// For a level of the row and one of the column.
    levels: Vec<Chance>,
    row: Chance,
    columns: Vec<Chance>,
    share: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Alike,
    Apart,
}

impl Context {
    fn new(form: Form, share: u16, matrix: Matrix) -> Context {
        let one = u32::from(share) << 16 | 0x8000;
        let start = Chance::new(one, START);
        Context {
            form,
            all: Chance::new(one, START),
            levels: vec![start; LEVELS * LEVELS],
            row: start,
            columns: match form {
                Form::Alike => Vec::new(),
                Form::Apart => vec![Chance::new(one, 2); matrix.columns],
            },
            share: one,
        }
    }

    fn start_row(&mut self) {
        self.row = Chance::new(self.share, 2);
    }

    fn chance(&mut self, column: usize) -> &mut Chance {
        match self.form {
            Form::Alike => &mut self.all,
            Form::Apart => {
                let level = |chance: Chance| {
                    // Two levels for every factor of two.
                    let p = chance.coded() as u32;
                    let log = p.ilog2();
                    let half = (p >> (log.max(1) - 1)) & 1;
                    (2 * log + half) as usize
                };
                let row = (level(self.row).max(8) - 8) / 2;
                let column = (level(self.columns[column]).max(8) - 8) / 2;
                &mut self.levels[row.min(LEVELS - 1) * LEVELS + column.min(LEVELS - 1)]
            }
        }
    }

    fn learn(&mut self, column: usize, kept: bool) {
        if self.form == Form::Apart {
            self.row.learn(kept, ROW_LIMIT);
            self.columns[column].learn(kept, COLUMN_LIMIT);
        }
    }
}

/// The mask in the form that takes fewer bytes.
pub(crate) fn encode(mask: &Mask, matrix: Matrix) -> Vec<u8> {
    let apart = encode_as(mask, matrix, Form::Apart);
    let alike = encode_as(mask, matrix, Form::Alike);
    if apart.len() < alike.len() {
        apart
    } else {
        alike
    }
}

fn encode_as(mask: &Mask, matrix: Matrix, form: Form) -> Vec<u8> {
    let share = (mask.density() * 65_536.0).min(65_535.0) as u16;
    let mut bytes = vec![form as u8];
    bytes.extend(share.to_le_bytes());
    let mut context = Context::new(form, share, matrix);
    let mut encoder = Encoder::default();
    for row in 0..matrix.rows {
        context.start_row();
        for column in 0..matrix.columns {
            let kept = mask.get(row * matrix.columns + column);
            encoder.learn(context.chance(column), LIMIT, kept);
            context.learn(column, kept);
        }
    }
    encoder.finish(&mut bytes);
    bytes
}

/// The mask of a matrix.
pub(crate) fn decode(bytes: &[u8], matrix: Matrix) -> Result<Mask, Refusal> {
    let damaged = "the coded mask is cut off or damaged";
    let ([form, low, high], stream) = bytes.split_first_chunk().ok_or(damaged)?;
    let form = match form {
        0 => Form::Alike,
        1 => Form::Apart,
        _ => {
            return Err(format!(
                "the coded mask has form {form}, which is not known"
            ));
        }
    };
    let mut context = Context::new(form, u16::from_le_bytes([*low, *high]), matrix);
    let mut decoder = Decoder::new(stream).ok_or(damaged)?;
    let mut words = vec![0u64; matrix.len().div_ceil(64)];
    let mut position = 0;
    for _ in 0..matrix.rows {
        context.start_row();
        for column in 0..matrix.columns {
            let kept = decoder.learn(context.chance(column), LIMIT);
            context.learn(column, kept);
            words[position / 64] |= u64::from(kept) << (position % 64);
            position += 1;
        }
    }
    if !decoder.is_at_end() {
        return Err(damaged.into());
    }
    Ok(Mask::from_words(matrix.len(), words).expect("as many decisions as weights"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::tests::masks;

    proptest! {
        #[test]
        fn masks_come_back((matrix, mask) in masks()) {
            for form in [Form::Alike, Form::Apart] {
                let bytes = encode_as(&mask, matrix, form);
                prop_assert_eq!(decode(&bytes, matrix), Ok(mask.clone()));
                for cut in 0..bytes.len().min(20) {
                    prop_assert!(decode(&bytes[..cut], matrix).is_err());
                }
                let mut longer = bytes;
                longer.push(0);
                prop_assert!(decode(&longer, matrix).is_err());
            }
        }

        #[test]
        fn any_bytes_are_refused_or_a_mask(bytes: Vec<u8>, columns in 1usize..50) {
            let _ = decode(&bytes, Matrix { rows: 5, columns });
        }
    }
}
