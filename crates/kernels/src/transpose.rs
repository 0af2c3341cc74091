//! Transposing matrices, in squares of eight by eight that fit the vector registers.

/// `to[column, row] = from[row, column]` for a row-major `from` of `rows` × `columns`.
pub fn transpose(rows: usize, columns: usize, from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), rows * columns);
    assert_eq!(to.len(), rows * columns);
    strided([rows, columns], from, columns, to, rows);
}

/// Side of a square.
const SIDE: usize = 8;

multiversion! {
    /// [`transpose`] for rows that begin `from_stride` and `to_stride` values apart.
    pub(crate) fn strided(shape: [usize; 2], from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
        let [rows, columns] = shape;
        for top in (0..rows).step_by(SIDE) {
            for left in (0..columns).step_by(SIDE) {
                let from = &from[top * from_stride + left..];
                let to = &mut to[left * to_stride + top..];
                if top + SIDE <= rows && left + SIDE <= columns {
                    square(from, from_stride, to, to_stride);
                    continue;
                }
                for row in 0..SIDE.min(rows - top) {
                    for column in 0..SIDE.min(columns - left) {
                        to[column * to_stride + row] = from[row * from_stride + column];
                    }
                }
            }
        }
    }
}

/// One square, by exchanging ever smaller quarters of it: three rounds of shuffles instead of 64 moves.
#[inline(always)]
fn square(from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
    let mut rows = [[0.0f32; SIDE]; SIDE];
    for (number, row) in rows.iter_mut().enumerate() {
        row.copy_from_slice(&from[number * from_stride..][..SIDE]);
    }
    let pairs = |rows: [[f32; SIDE]; SIDE]| {
        // Interleaves row i with row i + 4; three times makes row i of the result column i of the input.
        let mut next = [[0.0f32; SIDE]; SIDE];
        for i in 0..4 {
            let (a, b) = (rows[i], rows[i + 4]);
            next[2 * i] = [a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]];
            next[2 * i + 1] = [a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]];
        }
        next
    };
    let columns = pairs(pairs(pairs(rows)));
    for (number, column) in columns.iter().enumerate() {
        to[number * to_stride..][..SIDE].copy_from_slice(column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn every_element_goes_to_its_place() {
        for (rows, columns) in [
            (1, 1),
            (1, 40),
            (8, 8),
            (16, 24),
            (17, 33),
            (64, 500),
            (7, 9),
        ] {
            let matrix = numbers(rows * columns, 7);
            let mut transposed = vec![f32::NAN; matrix.len()];
            transpose(rows, columns, &matrix, &mut transposed);
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(
                        transposed[column * rows + row],
                        matrix[row * columns + column]
                    );
                }
            }
        }
    }
}
