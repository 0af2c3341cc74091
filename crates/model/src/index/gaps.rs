//! The distance from each kept weight to the one before it in its row, a byte or two for each.
//!
//! An entry `g` below the largest passes over `g` dropped weights and stands for the one after them. The largest entry, 255
//! or 65,535, passes over as many dropped weights and stands for none of them; its value is a zero that is not kept,
//! so that entries and values correspond one to one. Rows begin anew: the entries before each row are counted beside.

use skinny_sparsity::Mask;

use super::{Matrix, Refusal, offsets};

/// Entries of one or two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    U8,
    U16,
}

impl Width {
    pub fn bytes(self) -> usize {
        match self {
            Width::U8 => 1,
            Width::U16 => 2,
        }
    }

    /// The entry that keeps nothing.
    pub fn pad(self) -> usize {
        match self {
            Width::U8 => u8::MAX.into(),
            Width::U16 => u16::MAX.into(),
        }
    }
}

/// Calls `entry` with every entry, and `row` before the first entry of each row.
fn walk(
    mask: &Mask,
    matrix: Matrix,
    width: Width,
    mut row: impl FnMut(),
    mut entry: impl FnMut(usize),
) {
    let pad = width.pad();
    let (mut rows, mut next) = (0, 0);
    for index in mask.iter() {
        while index >= rows * matrix.columns {
            next = rows * matrix.columns;
            rows += 1;
            row();
        }
        while index - next >= pad {
            entry(pad);
            next += pad;
        }
        entry(index - next);
        next = index + 1;
    }
    for _ in rows..matrix.rows {
        row();
    }
}

/// Number of entries, those that keep nothing included.
pub(crate) fn count(mask: &Mask, matrix: Matrix, width: Width) -> usize {
    let mut entries = 0;
    walk(mask, matrix, width, || (), |_| entries += 1);
    entries
}

/// The entries, and the number of entries before each row.
pub(crate) fn encode(mask: &Mask, matrix: Matrix, width: Width) -> (Vec<u8>, Vec<usize>) {
    let entries = std::cell::RefCell::new(Vec::<u8>::new());
    let mut offsets = Vec::with_capacity(matrix.rows);
    walk(
        mask,
        matrix,
        width,
        || offsets.push(entries.borrow().len() / width.bytes()),
        |gap| {
            let bytes = (gap as u16).to_le_bytes();
            entries
                .borrow_mut()
                .extend_from_slice(&bytes[..width.bytes()]);
        },
    );
    (entries.into_inner(), offsets)
}

/// The entries of a file, one by one.
pub(crate) fn entries(bytes: &[u8], width: Width) -> impl Iterator<Item = usize> {
    let size = width.bytes();
    bytes.chunks_exact(size).map(move |entry| match width {
        Width::U8 => usize::from(entry[0]),
        Width::U16 => usize::from(u16::from_le_bytes([entry[0], entry[1]])),
    })
}

/// Checks entries against offsets (one for each row) and gives the number of kept weights.
pub(crate) fn check(
    bytes: &[u8],
    row_offsets: &[u8],
    matrix: Matrix,
    width: Width,
) -> Result<usize, Refusal> {
    let pad = width.pad();
    let total = bytes.len() / width.bytes();
    let mut starts = offsets(row_offsets).skip(1);
    let mut from = 0;
    let mut kept = 0;
    if offsets(row_offsets).next() != Some(0) {
        return Err("the first row offset is not 0".into());
    }
    for row in 0..matrix.rows {
        let to = match row + 1 < matrix.rows {
            true => starts
                .next()
                .and_then(|to| usize::try_from(to).ok())
                .filter(|to| (from..=total).contains(to))
                .ok_or("the row offsets do not ascend within the gaps")?,
            false => total,
        };
        let mut end = 0usize;
        let row_bytes = &bytes[from * width.bytes()..to * width.bytes()];
        for entry in entries(row_bytes, width) {
            let keeps = usize::from(entry != pad);
            end += entry + keeps;
            kept += keeps;
        }
        if end > matrix.columns {
            return Err(format!("the gaps of row {row} reach beyond its end"));
        }
        from = to;
    }
    Ok(kept)
}

/// The mask of checked entries.
pub(crate) fn decode(bytes: &[u8], row_offsets: &[u8], matrix: Matrix, width: Width) -> Mask {
    let mut words = vec![0u64; matrix.len().div_ceil(64)];
    let mut starts = offsets(row_offsets)
        .map(|offset| offset as usize)
        .enumerate()
        .peekable();
    let mut position = 0;
    for (number, entry) in entries(bytes, width).enumerate() {
        while let Some((row, _)) = starts.next_if(|(_, start)| *start <= number) {
            position = row * matrix.columns;
        }
        position += entry;
        if entry != width.pad() {
            words[position / 64] |= 1 << (position % 64);
            position += 1;
        }
    }
    Mask::from_words(matrix.len(), words).expect("checked entries lie within the matrix")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{
        offsets_to_bytes,
        tests::{mask, masks},
    };

    proptest! {
        #[test]
        fn masks_come_back((matrix, mask) in masks()) {
            for width in [Width::U8, Width::U16] {
                let (bytes, offsets) = encode(&mask, matrix, width);
                prop_assert_eq!(bytes.len(), width.bytes() * count(&mask, matrix, width));
                let offsets = offsets_to_bytes(&offsets);
                prop_assert_eq!(check(&bytes, &offsets, matrix, width), Ok(mask.count()));
                prop_assert_eq!(decode(&bytes, &offsets, matrix, width), mask.clone());
            }
        }

        #[test]
        fn any_bytes_are_refused_or_a_mask(bytes: Vec<u8>, offsets: [i64; 3], columns in 1usize..300) {
            let matrix = Matrix { rows: 3, columns };
            let offsets: Vec<u8> = offsets.iter().flat_map(|o| (o % 9).to_le_bytes()).collect();
            if let Ok(kept) = check(&bytes, &offsets, matrix, Width::U8) {
                prop_assert_eq!(decode(&bytes, &offsets, matrix, Width::U8).count(), kept);
            }
        }
    }

    #[test]
    fn wide_gaps_take_an_entry_that_keeps_nothing() {
        let matrix = Matrix {
            rows: 2,
            columns: 1000,
        };
        let kept = [254, 510, 1999];
        let mask = Mask::from_fn(2000, |i| kept.contains(&i));
        let (bytes, offsets) = encode(&mask, matrix, Width::U8);
        assert_eq!(bytes, [254, 255, 0, 255, 255, 255, 234]);
        assert_eq!(offsets, [0, 3]);
        let (bytes, _) = encode(&mask, matrix, Width::U16);
        assert_eq!(bytes, [254, 0, 255, 0, 231, 3]);
    }

    #[test]
    fn gaps_beyond_a_row_and_wrong_offsets_are_refused() {
        let matrix = Matrix {
            rows: 2,
            columns: 10,
        };
        let (bytes, right) = encode(&mask(matrix, 0.5, 7), matrix, Width::U8);
        let ok = |bytes: &[u8], offsets: &[usize]| {
            check(bytes, &offsets_to_bytes(offsets), matrix, Width::U8).is_ok()
        };
        assert!(ok(&bytes, &right));
        assert!(!ok(&[10], &[0, 1]));
        assert!(ok(&[9], &[0, 1]));
        assert!(!ok(&[9], &[1, 1]));
        assert!(!ok(&[9], &[0, 2]));
        assert!(!ok(&[9], &[0, usize::MAX]));
    }
}
