//! Which patterns of kept weights are allowed.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The pattern that the kept weights of a layer form.
///
/// A weight tensor of shape `[O, …]` is seen as the matrix `[O, columns]` with `columns` the product of the rest (`I·kh·kw`).
/// Sizes of 0, which the text form refuses, count as 1.
/// Written `"unstructured"`, `"2:4"`, `"block:4x1"` (rows × columns of the matrix) or `"filter"`.
///
/// What `k`, always counted in weights, means for each:
/// - **unstructured**: any `k` weights.
/// - **N:M**: in every group of `m` consecutive columns of a row, the `n` highest; the shape alone fixes `k`. The ragged last group of
///   `r < m` columns keeps `⌈r·n/m⌉`, so that no group is emptied by its place. Besides that `k`, only "all" is allowed.
/// - **block** and **filter**: whole tiles in order of the sum of their scores; a filter is a tile of one whole row. Tiles at the right
///   and lower edge may be ragged. Where the tiles do not add up to `k`, the last kept one is *trimmed*: only its highest weights are kept.
///   So exactly `k` weights are kept whatever the shape, and at most one tile is incomplete. [`Structure::nearest`] gives a `k` of whole
///   regular tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum Structure {
    /// Any weights.
    #[default]
    Unstructured,
    /// `n` of every `m` consecutive inputs of an output; `0 < n < m`.
    NOfM {
        /// Kept per group.
        n: usize,
        /// Weights per group.
        m: usize,
    },
    /// Whole tiles of `rows` outputs × `columns` inputs.
    Block {
        /// Outputs per tile, above 0.
        rows: usize,
        /// Inputs per tile, above 0.
        columns: usize,
    },
    /// Whole output rows.
    Filter,
}

/// Text that is no structure.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "structure \"{text}\" is not known: write \"unstructured\", \"filter\", \"2:4\" (kept:group, 0 < kept < group) or \"block:4x1\" (rows x columns, both above 0)"
)]
pub struct StructureError {
    /// What was written.
    pub text: String,
}

/// Rows and columns of the matrix as which a weight tensor is seen.
pub(crate) fn matrix(shape: &[usize]) -> (usize, usize) {
    let rows = shape.first().copied().unwrap_or(1);
    (rows, shape.iter().skip(1).product())
}

impl Structure {
    /// The number of weights nearest to `k` that a layer of this shape can keep in whole tiles of this structure: `k` itself if
    /// unstructured; the number fixed by the shape for N:M; for blocks and filters a multiple of the regular tile's size, at least one
    /// tile and at most all weights. If `k` is all weights, it is all weights for every structure.
    pub fn nearest(self, shape: &[usize], k: usize) -> usize {
        let (rows, columns) = matrix(shape);
        let weights = rows * columns;
        if k >= weights {
            return weights;
        }
        match self {
            Structure::Unstructured => k,
            Structure::NOfM { n, m } => {
                let (groups, ragged) = (columns / m.max(1), columns % m.max(1));
                rows * (groups * n.min(m.max(1)) + kept_of_group(ragged, n, m))
            }
            Structure::Block { .. } | Structure::Filter => {
                let (tile_rows, tile_columns) = self.tile(rows, columns);
                let size = tile_rows * tile_columns;
                let tiles = ((k as f64 / size as f64).round() as usize).max(1);
                (tiles * size).min(weights)
            }
        }
    }

    /// The number of weights that a layer of this shape keeps at a density of 0–1: `round(density · weights)`, brought to the
    /// [nearest](Structure::nearest) number that the structure can keep. 0 if unstructured and the layer is too small to keep any.
    pub fn resolve_k(self, shape: &[usize], density: f64) -> usize {
        let weights: usize = shape.iter().product();
        self.nearest(shape, (density * weights as f64).round() as usize)
    }

    /// The density that the structure itself fixes, if it does: `n / m` for N:M.
    pub fn fixed_density(self) -> Option<f64> {
        match self {
            Structure::NOfM { n, m } => Some(n as f64 / m as f64),
            _ => None,
        }
    }

    /// Rows and columns of a regular tile within a matrix; 1 × 1 for the structures that have none.
    pub(crate) fn tile(self, rows: usize, columns: usize) -> (usize, usize) {
        match self {
            Structure::Block {
                rows: r,
                columns: c,
            } => (r.min(rows).max(1), c.min(columns).max(1)),
            Structure::Filter => (1, columns),
            Structure::Unstructured | Structure::NOfM { .. } => (1, 1),
        }
    }
}

/// How many of a group of `len ≤ m` columns are kept under N:M.
pub(crate) fn kept_of_group(len: usize, n: usize, m: usize) -> usize {
    (len * n).div_ceil(m.max(1)).min(len)
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Structure::Unstructured => f.write_str("unstructured"),
            Structure::NOfM { n, m } => write!(f, "{n}:{m}"),
            Structure::Block { rows, columns } => write!(f, "block:{rows}x{columns}"),
            Structure::Filter => f.write_str("filter"),
        }
    }
}

impl FromStr for Structure {
    type Err = StructureError;

    fn from_str(text: &str) -> Result<Self, StructureError> {
        let pair = |text: &str, separator: char| -> Option<(usize, usize)> {
            let (a, b) = text.split_once(separator)?;
            // Group and tile sizes far beyond any layer would only invite overflow.
            let number = |s: &str| s.parse::<u32>().ok().map(|v| v as usize);
            Some((number(a)?, number(b)?))
        };
        let parsed = match text {
            "unstructured" => Some(Structure::Unstructured),
            "filter" => Some(Structure::Filter),
            _ => match text.strip_prefix("block:") {
                Some(size) => pair(size, 'x')
                    .filter(|&(rows, columns)| rows > 0 && columns > 0)
                    .map(|(rows, columns)| Structure::Block { rows, columns }),
                None => pair(text, ':')
                    .filter(|&(n, m)| 0 < n && n < m)
                    .map(|(n, m)| Structure::NOfM { n, m }),
            },
        };
        parsed.ok_or_else(|| StructureError {
            text: text.to_string(),
        })
    }
}

impl TryFrom<String> for Structure {
    type Error = StructureError;

    fn try_from(text: String) -> Result<Self, StructureError> {
        text.parse()
    }
}

impl From<Structure> for String {
    fn from(structure: Structure) -> String {
        structure.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        for text in ["unstructured", "2:4", "block:4x1", "filter"] {
            assert_eq!(text.parse::<Structure>().unwrap().to_string(), text);
        }
        let json = serde_json::to_string(&Structure::NOfM { n: 1, m: 8 }).unwrap();
        assert_eq!(json, "\"1:8\"");
        assert_eq!(
            serde_json::from_str::<Structure>(&json).unwrap(),
            Structure::NOfM { n: 1, m: 8 }
        );
    }

    #[test]
    fn nonsense_is_refused_with_the_cure() {
        for text in [
            "",
            "dense",
            "0:4",
            "4:4",
            "5:4",
            "2:",
            ":4",
            "-1:4",
            "block",
            "block:",
            "block:0x1",
            "block:4x0",
            "block:4",
            "Filter",
            "99999999999:999999999999",
        ] {
            let error = text.parse::<Structure>().unwrap_err();
            assert_eq!(error.text, text);
            assert!(error.to_string().contains("write \"unstructured\""));
        }
    }

    #[test]
    fn resolved_k_by_hand() {
        let k = |structure: &str, shape: &[usize], density| {
            structure
                .parse::<Structure>()
                .unwrap()
                .resolve_k(shape, density)
        };
        assert_eq!(k("unstructured", &[20, 1, 5, 5], 0.1), 50);
        assert_eq!(k("unstructured", &[1, 5], 0.05), 0);
        // 25 columns: six whole groups keep 2 each, the last column keeps ceil(1/2) = 1.
        assert_eq!(k("2:4", &[20, 1, 5, 5], 0.5), 20 * 13);
        assert_eq!(k("1:4", &[3, 8], 0.25), 6);
        assert_eq!(k("1:4", &[3, 2], 0.25), 3);
        assert_eq!(k("2:4", &[3, 8], 1.0), 24);
        assert_eq!(k("filter", &[20, 1, 5, 5], 0.33), 7 * 25);
        assert_eq!(k("filter", &[20, 1, 5, 5], 0.001), 25);
        assert_eq!(k("block:4x1", &[10, 7], 0.5), 9 * 4);
        assert_eq!(k("block:4x1", &[10, 7], 1.0), 70);
        // Two tiles of 4 x 4 are more than the 18 weights there are.
        assert_eq!(k("block:4x4", &[3, 6], 0.9), 12);
        assert_eq!(k("block:4x4", &[5, 5], 0.9), 16);
        assert_eq!(k("block:4x4", &[5, 5], 0.97), 25);
        assert_eq!(k("block:64x64", &[5, 5], 0.1), 25);
    }

    #[test]
    fn sizes_of_zero_count_as_one() {
        let (rows, columns) = (0, 0);
        assert_eq!(Structure::Block { rows, columns }.nearest(&[3, 4], 5), 5);
        assert_eq!(Structure::NOfM { n: 1, m: 0 }.nearest(&[3, 4], 5), 12);
        assert_eq!(Structure::NOfM { n: 0, m: 0 }.nearest(&[3, 4], 5), 0);
    }

    #[test]
    fn fixed_densities() {
        assert_eq!(Structure::NOfM { n: 2, m: 4 }.fixed_density(), Some(0.5));
        assert_eq!(Structure::Filter.fixed_density(), None);
    }
}
