//! The projection Θ_k: which weights of a layer are kept.

use crate::select::{Single, highest};
use crate::structure::matrix;
use crate::tiles::{Matrix, highest_of_groups, highest_tiles};
use crate::{Mask, Structure};
use thiserror::Error;

/// Why scores cannot be projected.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ProjectError {
    /// A score is NaN or infinite.
    #[error(
        "the score of weight {index} is {value}: training has diverged, lower the learning rate or clip the gradient"
    )]
    NotFinite {
        /// Row-major index of the first such weight.
        index: usize,
        /// Its score.
        value: f32,
    },
    /// `k` is 0 or more than there are weights.
    #[error("cannot keep {k} of {weights} weights: choose a density that keeps between 1 and all")]
    Count {
        /// Weights to keep.
        k: usize,
        /// Weights there are.
        weights: usize,
    },
    /// `k` is more than the support holds.
    #[error(
        "cannot keep {k} of a support of {support} weights: density may only fall within a sparse phase, put a dense phase before"
    )]
    Support {
        /// Weights to keep.
        k: usize,
        /// Weights of the support.
        support: usize,
    },
    /// The structure does not allow this `k`.
    #[error(
        "structure {structure} keeps {expected} weights of this layer, not {k}: take k from Structure::nearest"
    )]
    Structure {
        /// Structure asked for.
        structure: Structure,
        /// Weights to keep.
        k: usize,
        /// Weights that the structure keeps.
        expected: usize,
    },
    /// A group of an N:M structure has fewer weights in the support than it keeps.
    #[error(
        "the group at weight {index} has too few weights in the support for structure {structure}: change structure only at the start of a sparse phase"
    )]
    Group {
        /// Structure asked for.
        structure: Structure,
        /// Row-major index of the first weight of the group.
        index: usize,
    },
    /// Scores, shape and support are not of the same layer.
    #[error(
        "{what} is for {given} weights, but shape {shape:?} has {weights}: pass scores, shape and support of one layer"
    )]
    Length {
        /// "score" or "support".
        what: &'static str,
        /// Its length.
        given: usize,
        /// Shape of the layer.
        shape: Vec<usize>,
        /// Weights of that shape.
        weights: usize,
    },
}

/// The mask that keeps **exactly** the `k` highest scores that the structure allows, ties to the lowest index.
///
/// `score` holds one finite value per weight, row-major in `shape`, ranked by absolute value: the weights are their own magnitude
/// scores, and no copy is needed. If there is a `support`, only its weights are ranked (and checked) and the result is a subset of it.
/// What `k` may be for each structure is told at [`Structure`].
///
/// Takes linear time, a few kilobytes beside the mask (for tiles 8 bytes each), no randomness and no threads.
///
/// # Errors
/// [`ProjectError`] if a ranked score is NaN or infinite, `k` is 0, more than the weights or the support, or not possible in this
/// structure, or lengths do not fit the shape.
pub fn project(
    score: &[f32],
    shape: &[usize],
    structure: Structure,
    k: usize,
    support: Option<&Mask>,
) -> Result<Mask, ProjectError> {
    let weights: usize = shape.iter().product();
    let length = |what, given| match given == weights {
        true => Ok(()),
        false => Err(ProjectError::Length {
            what,
            given,
            shape: shape.to_vec(),
            weights,
        }),
    };
    length("score", score.len())?;
    if k == 0 || k > weights {
        return Err(ProjectError::Count { k, weights });
    }
    if let Some(support) = support {
        length("support", support.len())?;
        if k > support.count() {
            return Err(ProjectError::Support {
                k,
                support: support.count(),
            });
        }
    }
    if let Some(index) = first_not_finite(score, support) {
        return Err(ProjectError::NotFinite {
            index,
            value: score[index],
        });
    }

    let single = Single { score, support };
    if k == weights {
        return Ok(Mask::all(weights));
    }
    let (rows, columns) = matrix(shape);
    let matrix = Matrix {
        single,
        rows,
        columns,
    };
    match (structure, structure.tile(rows, columns)) {
        (Structure::NOfM { n, m }, _) => {
            let expected = structure.nearest(shape, k);
            if k != expected {
                return Err(ProjectError::Structure {
                    structure,
                    k,
                    expected,
                });
            }
            highest_of_groups(matrix, n, m)
                .map_err(|index| ProjectError::Group { structure, index })
        }
        (_, (1, 1)) => Ok(highest(single, k)),
        (_, tile) => Ok(highest_tiles(matrix, tile, k)),
    }
}

/// Index of the first ranked score that is NaN or infinite.
pub(crate) fn first_not_finite(score: &[f32], support: Option<&Mask>) -> Option<usize> {
    match support {
        Some(support) => support.iter().find(|&i| !score[i].is_finite()),
        // By blocks without an early exit inside, which the compiler vectorizes.
        None => {
            const BLOCK: usize = 1024;
            let bad = |block: &[f32]| block.iter().fold(false, |bad, s| bad | !s.is_finite());
            let block = score.chunks(BLOCK).position(bad)? * BLOCK;
            let within = score[block..].iter().position(|s| !s.is_finite())?;
            Some(block + within)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRUCTURES: [Structure; 7] = [
        Structure::Unstructured,
        Structure::NOfM { n: 2, m: 4 },
        Structure::NOfM { n: 1, m: 3 },
        Structure::Block {
            rows: 4,
            columns: 1,
        },
        Structure::Block {
            rows: 2,
            columns: 3,
        },
        Structure::Block {
            rows: 1,
            columns: 1,
        },
        Structure::Filter,
    ];

    /// A mask drawn by hand: `#` is kept.
    fn drawn(rows: &[&str]) -> Mask {
        let cells: Vec<bool> = rows.concat().chars().map(|c| c == '#').collect();
        Mask::from_fn(cells.len(), |i| cells[i])
    }

    fn golden(structure: &str, shape: &[usize], k: usize, score: &[f32], expected: &[&str]) {
        let structure: Structure = structure.parse().unwrap();
        let mask = project(score, shape, structure, k, None).unwrap();
        let expected = drawn(expected);
        assert_eq!(
            mask.iter().collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>(),
            "{structure}"
        );
        assert_eq!(mask.count(), k);
    }

    #[rustfmt::skip]
    const SCORE: [f32; 20] = [
        1.0, -9.0, 2.0, 2.0,  0.0,
        2.0,  3.0, 2.0, 2.0, -4.0,
        0.0,  0.0, 0.0, 0.0,  0.0,
        5.0,  1.0, 6.0, 1.0, -1.0,
    ];

    #[test]
    fn unstructured_by_hand() {
        let shape = [4, 5];
        golden(
            "unstructured",
            &shape,
            5,
            &SCORE,
            &[".#...", ".#..#", ".....", "#.#.."],
        );
        // Five scores of 2 tie for two places.
        golden(
            "unstructured",
            &shape,
            7,
            &SCORE,
            &[".###.", ".#..#", ".....", "#.#.."],
        );
        golden(
            "unstructured",
            &shape,
            15,
            &SCORE,
            &["#####", "#####", ".....", "#####"],
        );
        golden(
            "unstructured",
            &shape,
            17,
            &SCORE,
            &["#####", "#####", "##...", "#####"],
        );
        golden(
            "unstructured",
            &shape,
            20,
            &SCORE,
            &["#####", "#####", "#####", "#####"],
        );
    }

    #[test]
    fn n_of_m_by_hand() {
        // Groups of 4 and a ragged group of 1, which keeps ceil(2/4) = 1.
        golden(
            "2:4",
            &[4, 5],
            12,
            &SCORE,
            &[".##.#", "##..#", "##..#", "#.#.#"],
        );
        // Groups of 3 and a ragged group of 2, which keeps ceil(2/3) = 1.
        golden(
            "1:3",
            &[4, 5],
            8,
            &SCORE,
            &[".#.#.", ".#..#", "#..#.", "..##."],
        );
        // The same matrix as a convolution.
        golden(
            "2:4",
            &[4, 5, 1, 1],
            12,
            &SCORE,
            &[".##.#", "##..#", "##..#", "#.#.#"],
        );
        golden(
            "2:4",
            &[4, 5],
            20,
            &SCORE,
            &["#####", "#####", "#####", "#####"],
        );
    }

    #[test]
    fn blocks_by_hand() {
        // Sums of the 2 x 2 tiles: 15 8 4 | 6 7 1, the last of each row 2 x 1.
        golden(
            "block:2x2",
            &[4, 5],
            8,
            &SCORE,
            &["####.", "####.", ".....", "....."],
        );
        golden(
            "block:2x2",
            &[4, 5],
            12,
            &SCORE,
            &["####.", "####.", "..##.", "..##."],
        );
        // One more weight than three tiles: the fourth is trimmed to its highest.
        golden(
            "block:2x2",
            &[4, 5],
            13,
            &SCORE,
            &["####.", "####.", "..##.", "#.##."],
        );
        golden(
            "block:2x2",
            &[4, 5],
            17,
            &SCORE,
            &["####.", "#####", "####.", "####."],
        );
        // Columns of 3 rows and a ragged last row; sums 3 12 4 4 4 | 5 1 6 1 1.
        golden(
            "block:3x1",
            &[4, 5],
            5,
            &SCORE,
            &[".#...", ".#...", ".#...", "#.#.."],
        );
    }

    #[test]
    fn filters_by_hand() {
        // Sums 14 13 0 14: the tie goes to the first.
        golden(
            "filter",
            &[4, 5],
            5,
            &SCORE,
            &["#####", ".....", ".....", "....."],
        );
        golden(
            "filter",
            &[4, 5],
            10,
            &SCORE,
            &["#####", ".....", ".....", "#####"],
        );
        golden(
            "filter",
            &[4, 5],
            7,
            &SCORE,
            &["#####", ".....", ".....", "#.#.."],
        );
    }

    #[test]
    fn only_the_support_is_ranked() {
        let support = drawn(&["..#..", ".....", "#.#..", "....#"]);
        let kept = |structure: &str, k| {
            let structure = structure.parse().unwrap();
            let mask = project(&SCORE, &[4, 5], structure, k, Some(&support)).unwrap();
            mask.iter().collect::<Vec<_>>()
        };
        assert_eq!(kept("unstructured", 2), [2, 19]);
        // A kept 0.0 cannot tie with a dropped weight.
        assert_eq!(kept("unstructured", 3), [2, 10, 19]);
        assert_eq!(kept("filter", 3), [2, 10, 19]);
        assert_eq!(kept("block:2x2", 2), [2, 19]);
        assert_eq!(kept("unstructured", 4), [2, 10, 12, 19]);
    }

    #[test]
    fn errors_name_the_place() {
        let all = |score: &[f32], k| project(score, &[2, 2], Structure::Unstructured, k, None);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for structure in STRUCTURES {
                let k = structure.resolve_k(&[2, 2], 0.5);
                let error =
                    project(&[0.0, 1.0, bad, bad], &[2, 2], structure, k, None).unwrap_err();
                assert!(
                    matches!(error, ProjectError::NotFinite { index: 2, value } if value.to_bits() == bad.to_bits()),
                    "{error}"
                );
            }
        }
        assert_eq!(
            all(&[1.0; 4], 0),
            Err(ProjectError::Count { k: 0, weights: 4 })
        );
        assert_eq!(
            all(&[1.0; 4], 5),
            Err(ProjectError::Count { k: 5, weights: 4 })
        );
        assert!(matches!(
            all(&[1.0; 3], 1),
            Err(ProjectError::Length {
                what: "score",
                given: 3,
                weights: 4,
                ..
            })
        ));
        let long = Mask::all(5);
        assert!(matches!(
            project(&[1.0; 4], &[4], Structure::Unstructured, 1, Some(&long)),
            Err(ProjectError::Length {
                what: "support",
                given: 5,
                ..
            })
        ));
        let half = Mask::from_words(4, vec![0b0011]).unwrap();
        assert_eq!(
            project(&[1.0; 4], &[4], Structure::Unstructured, 3, Some(&half)),
            Err(ProjectError::Support { k: 3, support: 2 })
        );
        // What the support excludes is not looked at.
        let bad = [1.0, 1.0, f32::NAN, 1.0];
        assert!(project(&bad, &[4], Structure::Unstructured, 1, Some(&half)).is_ok());

        let structure = Structure::NOfM { n: 1, m: 2 };
        assert_eq!(
            project(&[1.0; 4], &[1, 4], structure, 1, None),
            Err(ProjectError::Structure {
                structure,
                k: 1,
                expected: 2
            })
        );
        assert_eq!(
            project(&[1.0; 4], &[1, 4], structure, 2, Some(&half)),
            Err(ProjectError::Group {
                structure,
                index: 2
            })
        );
    }

    #[test]
    fn a_bad_score_is_found_in_any_block() {
        for index in [0, 1023, 1024, 5000] {
            let mut score = vec![0.5; 5001];
            score[index] = f32::NAN;
            assert_eq!(first_not_finite(&score, None), Some(index));
        }
    }

    #[test]
    fn sums_beyond_f32_still_rank() {
        let score = [f32::MAX, f32::MAX, 1.0, 1.0];
        let mask = project(&score, &[2, 2], Structure::Filter, 2, None).unwrap();
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 1]);
    }
}
