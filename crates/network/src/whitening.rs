//! Normalization of a whole picture at once: its contrast, and its correlations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Global contrast normalization (pylearn2): subtract the mean of all values of a picture, divide
/// by their norm, multiply by `scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gcn {
    /// The norm afterwards; 55 by default.
    pub scale: f32,
    /// The smallest norm that is divided by; 1e-8 by default.
    pub eps: f32,
}

impl Default for Gcn {
    fn default() -> Self {
        Self {
            scale: 55.0,
            eps: 1e-8,
        }
    }
}

/// ZCA whitening of a whole picture: matrix · (values − mean).
///
/// Mean and matrix are too large for a text file; they travel as tensors, see
/// [`crate::Preprocess::tensors`] and [`crate::Preprocess::attach`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Zca {
    /// Added to the diagonal of the covariance when the matrix is fitted; 0.1 by default.
    pub regularization: f32,
    /// One value per value of a picture.
    #[serde(skip)]
    pub mean: Vec<f32>,
    /// Square matrix in row-major order, as many rows as `mean` has values.
    #[serde(skip)]
    pub matrix: Vec<f32>,
}

impl Default for Zca {
    fn default() -> Self {
        Self {
            regularization: 0.1,
            mean: Vec::new(),
            matrix: Vec::new(),
        }
    }
}

impl Gcn {
    pub(crate) fn apply(&self, image: &mut [f32]) {
        let mean = image.iter().map(|value| f64::from(*value)).sum::<f64>() / image.len() as f64;
        let norm = image
            .iter()
            .map(|value| (f64::from(*value) - mean).powi(2))
            .sum::<f64>()
            .sqrt();
        let factor = f64::from(self.scale) / norm.max(f64::from(self.eps));
        for value in image {
            *value = ((f64::from(*value) - mean) * factor) as f32;
        }
    }
}

impl Zca {
    pub(crate) fn apply(&self, image: &mut [f32]) {
        let centred: Vec<f32> = image
            .iter()
            .zip(&self.mean)
            .map(|(value, mean)| value - mean)
            .collect();
        for (value, row) in image
            .iter_mut()
            .zip(self.matrix.chunks_exact(centred.len()))
        {
            *value = row
                .iter()
                .zip(&centred)
                .map(|(weight, value)| weight * value)
                .sum();
        }
    }
}
