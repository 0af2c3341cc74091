//! A decision for every weight, kept or dropped, entropy-coded with what its row and its column have been like so far.
//!
//! Training leaves rows and columns of very different density, so this takes less than the entropy of a mask that is only
//! known to be of some density; where rows and columns are alike, it takes about as much.
//!
//! Bytes: one for the form (0: all weights are coded alike, 1: rows and columns are told apart), the share of kept weights
//! in units of 2⁻¹⁶ (two bytes, lowest first), then the coder's stream of decisions in row-major order.

use skinny_sparsity::Mask;

use super::{Matrix, Refusal};
use crate::rans::{Chance, Decoder, Encoder, MOST_SEEN};

/// Bits that the chance of a row counts at most, and how sure it starts out in each row.
const ROW: (u16, u16) = (60, 8);
/// Bits that the chance of a column counts at most, and how sure it starts out.
const COLUMN: (u16, u16) = (254, 4);
/// How sure the chances by which weights are coded start out.
const START: u16 = 16;
/// Levels of the density of a row or column, beside that of the layer: below a half, below, above, above twice that.
const LEVELS: usize = 4;
/// Columns that the form [`Form::Apart`] may have, which bounds what a decoder allocates.
const MOST_COLUMNS: usize = 1 << 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Alike,
    Apart,
}

/// What decides how the next weight is coded.
struct Context {
    form: Form,
    /// The share of kept weights in units of 2⁻³².
    share: u32,
    /// For each level of the row and each of the column, the chance that codes a weight.
    chances: [Chance; LEVELS * LEVELS],
    row: Chance,
    columns: Vec<Chance>,
}

impl Context {
    fn new(form: Form, share: u16, matrix: Matrix) -> Context {
        let share = u32::from(share) << 16 | 1 << 15;
        Context {
            form,
            share,
            chances: [Chance::new(share, START); LEVELS * LEVELS],
            row: Chance::new(share, ROW.1),
            columns: match form {
                Form::Alike => Vec::new(),
                Form::Apart => vec![Chance::new(share, COLUMN.1); matrix.columns],
            },
        }
    }

    fn start_row(&mut self) {
        self.row = Chance::new(self.share, ROW.1);
    }

    /// Codes a weight by `code`, which gives whether it is kept, and learns that.
    #[inline]
    fn weight(&mut self, column: usize, code: impl FnOnce(&mut Chance) -> bool) -> bool {
        if self.form == Form::Alike {
            return code(&mut self.chances[0]);
        }
        let level = |chance: Chance| {
            let (one, share) = (chance.one(), self.share);
            usize::from(one > share / 2) + usize::from(one > share) + usize::from(one / 2 > share)
        };
        let place = LEVELS * level(self.row) + level(self.columns[column]);
        let kept = code(&mut self.chances[place]);
        self.row.learn(kept, ROW.0);
        self.columns[column].learn(kept, COLUMN.0);
        kept
    }
}

/// The mask in the form that takes fewer bytes.
pub(crate) fn encode(mask: &Mask, matrix: Matrix) -> Vec<u8> {
    let alike = encode_as(mask, matrix, Form::Alike);
    if matrix.columns > MOST_COLUMNS {
        return alike;
    }
    let apart = encode_as(mask, matrix, Form::Apart);
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
            context.weight(column, |chance| {
                let kept = mask.get(row * matrix.columns + column);
                encoder.learn(chance, MOST_SEEN, kept);
                kept
            });
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
        1 if matrix.columns <= MOST_COLUMNS => Form::Apart,
        _ => {
            return Err(format!(
                "the coded mask has form {form}, which {} columns cannot have",
                matrix.columns
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
            let kept = context.weight(column, |chance| decoder.learn(chance, MOST_SEEN));
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
