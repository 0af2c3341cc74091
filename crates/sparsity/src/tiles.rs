//! Selection of whole tiles and of N of every M weights.

use crate::Mask;
use crate::select::{Candidates, Single, cut, highest, key};
use crate::structure::kept_of_group;

/// A weight tensor seen as a matrix, with the weights that may be kept.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub single: Single<'a>,
    pub rows: usize,
    pub columns: usize,
}

impl Matrix<'_> {
    fn ranked(&self, index: usize) -> bool {
        self.single.support.is_none_or(|s| s.get(index))
    }

    /// Calls `visit` with the row-major indices of the ranked weights of a tile, in order.
    fn each_of_tile(&self, grid: &Grid, tile: usize, mut visit: impl FnMut(usize)) {
        let (top, left) = (
            tile / grid.across * grid.rows,
            tile % grid.across * grid.columns,
        );
        for row in top..(top + grid.rows).min(self.rows) {
            for column in left..(left + grid.columns).min(self.columns) {
                let index = row * self.columns + column;
                if self.ranked(index) {
                    visit(index);
                }
            }
        }
    }
}

/// How a matrix is cut into tiles, numbered row by row.
struct Grid {
    rows: usize,
    columns: usize,
    across: usize,
    tiles: usize,
}

/// The score of each tile and how many ranked weights it has.
struct Tiles {
    score: Vec<f32>,
    weights: Vec<u32>,
}

impl Candidates for Tiles {
    fn each(&self, mut visit: impl FnMut(u32, usize)) {
        for (&score, &weights) in self.score.iter().zip(&self.weights) {
            visit(key(score), weights as usize);
        }
    }
}

/// The mask of the tiles with the highest sums of scores, ties to the lowest tile, the last one trimmed to reach exactly `k`.
///
/// There must be at least `k` ranked weights, all with finite scores.
pub(crate) fn highest_tiles(matrix: Matrix, tile: (usize, usize), k: usize) -> Mask {
    let across = matrix.columns.div_ceil(tile.1);
    let grid = Grid {
        rows: tile.0,
        columns: tile.1,
        across,
        tiles: matrix.rows.div_ceil(tile.0) * across,
    };
    let mut tiles = Tiles {
        score: Vec::with_capacity(grid.tiles),
        weights: Vec::with_capacity(grid.tiles),
    };
    for tile in 0..grid.tiles {
        let (mut sum, mut weights) = (0f64, 0);
        matrix.each_of_tile(&grid, tile, |index| {
            sum += f64::from(matrix.single.score[index].abs());
            weights += 1;
        });
        // A sum of finite scores may be beyond f32; as a rank the largest finite value does as well.
        tiles.score.push(sum.min(f64::from(f32::MAX)) as f32);
        tiles.weights.push(weights);
    }

    let pools = [tiles];
    let cut = cut(&pools, &[0], k);
    let [tiles] = pools;
    let mut mask = Mask::none(matrix.single.score.len());
    let mut left = k - cut.above[0];
    for tile in 0..grid.tiles {
        let weights = tiles.weights[tile] as usize;
        let rank = key(tiles.score[tile]);
        if rank > cut.key {
            matrix.each_of_tile(&grid, tile, |index| mask.set(index, true));
        } else if rank == cut.key && weights > 0 && left > 0 {
            let kept = weights.min(left);
            left -= kept;
            keep_highest_of_tile(matrix, &grid, tile, kept, &mut mask);
        }
    }
    mask
}

/// Keeps the `count` highest weights of a tile, ties to the lowest index.
fn keep_highest_of_tile(matrix: Matrix, grid: &Grid, tile: usize, count: usize, mask: &mut Mask) {
    let mut indices = Vec::new();
    matrix.each_of_tile(grid, tile, |index| indices.push(index));
    let score: Vec<f32> = indices.iter().map(|&i| matrix.single.score[i]).collect();
    let single = Single {
        score: &score,
        support: None,
    };
    for position in &highest(single, count) {
        mask.set(indices[position], true);
    }
}

/// Groups up to this size are ranked by comparing all pairs, which takes no unpredictable branch.
const COUNTED: usize = 16;

/// The mask of the `n` highest of every `m` consecutive columns of a row, ties to the lowest index.
///
/// # Errors
/// The index of the first weight of a group that has fewer ranked weights than it is to keep.
pub(crate) fn highest_of_groups(matrix: Matrix, n: usize, m: usize) -> Result<Mask, usize> {
    let mut mask = Mask::none(matrix.single.score.len());
    let mut group = Vec::with_capacity(m.min(matrix.columns));
    for row in 0..matrix.rows {
        for left in (0..matrix.columns).step_by(m.max(1)) {
            let start = row * matrix.columns + left;
            let len = m.max(1).min(matrix.columns - left);
            let kept = kept_of_group(len, n, m);
            // Rank and place in one number, all different, so that equal scores are ordered by index.
            group.clear();
            let entries = matrix.single.score[start..start + len].iter().zip(0u32..);
            let entries =
                entries.map(|(&score, place)| u64::from(key(score)) << 32 | u64::from(!place));
            match matrix.single.support {
                None => group.extend(entries),
                Some(support) => {
                    let ranked = entries.enumerate().filter(|(i, _)| support.get(start + i));
                    group.extend(ranked.map(|(_, entry)| entry));
                }
            }
            if group.len() < kept {
                return Err(start);
            }
            let place = |entry: u64| start + !(entry as u32) as usize;
            if group.len() <= COUNTED {
                for &entry in &group {
                    let above: usize = group.iter().map(|&other| usize::from(other > entry)).sum();
                    mask.merge(place(entry), above < kept);
                }
            } else {
                let rest = group.len() - kept;
                group.select_nth_unstable(rest);
                group[rest..]
                    .iter()
                    .for_each(|&entry| mask.merge(place(entry), true));
            }
        }
    }
    Ok(mask)
}
