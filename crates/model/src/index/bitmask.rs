//! A bit for every weight, each row in whole bytes, lowest bit first; beside it the number of kept weights before each row.
//!
//! Names and layout are those of compressed-tensors' format `sparse-bitmask`.

use skinny_sparsity::Mask;

use super::{Matrix, Refusal, offsets};

/// The bits, and the number of kept weights before each row.
pub(crate) fn encode(mask: &Mask, matrix: Matrix) -> (Vec<u8>, Vec<usize>) {
    let row_bytes = matrix.columns.div_ceil(8);
    let mut bytes = vec![0; matrix.rows * row_bytes];
    let mut counts = vec![0; matrix.rows];
    for index in mask.iter() {
        let (row, column) = (index / matrix.columns, index % matrix.columns);
        bytes[row * row_bytes + column / 8] |= 1 << (column % 8);
        counts[row] += 1;
    }
    let mut before = 0;
    let offsets = counts.into_iter().map(|count| {
        before += count;
        before - count
    });
    (bytes, offsets.collect())
}

/// Checks bits and offsets of the right lengths against each other and gives the number of kept weights.
pub(crate) fn check(bytes: &[u8], row_offsets: &[u8], matrix: Matrix) -> Result<usize, Refusal> {
    let row_bytes = matrix.columns.div_ceil(8);
    let mut kept = 0;
    for (row, offset) in bytes.chunks_exact(row_bytes).zip(offsets(row_offsets)) {
        if offset != kept as i64 {
            return Err(format!(
                "a row offset is {offset} where the bitmask has {kept} weights before"
            ));
        }
        if row[row_bytes - 1] >> ((matrix.columns - 1) % 8) > 1 {
            return Err("the bitmask has bits set beyond the end of a row".into());
        }
        let (words, rest) = row.as_chunks::<8>();
        let words = words
            .iter()
            .map(|word| u64::from_le_bytes(*word).count_ones());
        let rest = rest.iter().map(|byte| byte.count_ones());
        kept += words.chain(rest).sum::<u32>() as usize;
    }
    Ok(kept)
}

/// The mask of checked bits.
pub(crate) fn decode(bytes: &[u8], matrix: Matrix) -> Mask {
    let row_bytes = matrix.columns.div_ceil(8);
    let mut words = vec![0u64; matrix.len().div_ceil(64)];
    for (number, row) in bytes.chunks_exact(row_bytes).enumerate() {
        let start = number * matrix.columns;
        for (place, chunk) in row.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u64::from_le_bytes(word);
            let at = start + 64 * place;
            words[at / 64] |= word << (at % 64);
            // What is shifted out belongs to the next word, if there is anything.
            let over = word.checked_shr(64 - (at % 64) as u32).unwrap_or(0);
            if over != 0 {
                words[at / 64 + 1] |= over;
            }
        }
    }
    Mask::from_words(matrix.len(), words).expect("rows end where their bits end")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{offsets_to_bytes, tests::masks};

    proptest! {
        #[test]
        fn masks_come_back((matrix, mask) in masks()) {
            let (bytes, offsets) = encode(&mask, matrix);
            let offsets = offsets_to_bytes(&offsets);
            prop_assert_eq!(check(&bytes, &offsets, matrix), Ok(mask.count()));
            prop_assert_eq!(decode(&bytes, matrix), mask);
        }
    }

    #[test]
    fn the_layout_is_that_of_compressed_tensors() {
        // pack_bitmasks([[1,0,0,0,0,0,0,0,1],[0,1,1,0,0,0,0,1,0]]) of compressed-tensors.
        let matrix = Matrix {
            rows: 2,
            columns: 9,
        };
        let kept = [0, 8, 10, 11, 16];
        let mask = Mask::from_fn(18, |i| kept.contains(&i));
        assert_eq!(encode(&mask, matrix), (vec![1, 1, 134, 0], vec![0, 2]));
    }

    #[test]
    fn bits_beyond_a_row_and_wrong_offsets_are_refused() {
        let matrix = Matrix {
            rows: 2,
            columns: 9,
        };
        let right = offsets_to_bytes(&[0, 2]);
        assert_eq!(check(&[1, 1, 134, 0], &right, matrix), Ok(5));
        assert!(check(&[1, 3, 134, 0], &right, matrix).is_err());
        assert!(check(&[1, 1, 134, 0], &offsets_to_bytes(&[0, 3]), matrix).is_err());
        assert!(check(&[1, 1, 134, 0], &offsets_to_bytes(&[1, 2]), matrix).is_err());
    }
}
