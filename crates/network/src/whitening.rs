//! Normalization of a whole picture at once: its contrast, and its correlations.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Global contrast normalization (pylearn2): subtract the mean of all values of a picture, divide
/// by their norm, multiply by `scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
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
    /// SHA-256 of the pictures and settings that it was fitted to, by which mean and matrix can be found again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fitted: Option<String>,
}

impl Default for Zca {
    fn default() -> Self {
        Self {
            regularization: 0.1,
            mean: Vec::new(),
            matrix: Vec::new(),
            fitted: None,
        }
    }
}

impl Gcn {
    /// Normalizes all values of a picture, in place.
    pub fn apply(&self, image: &mut [f32]) {
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
            // Sixteen sums side by side, which a processor can hold in one or a few registers.
            let mut sums = [0.0; 16];
            let (blocks, rest) = row.as_chunks::<16>();
            let (values, rest_values) = centred.as_chunks::<16>();
            for (weights, values) in blocks.iter().zip(values) {
                for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(values) {
                    *sum += weight * value;
                }
            }
            let rest = rest.iter().zip(rest_values).map(|(w, v)| w * v);
            *value = sums.iter().sum::<f32>() + rest.sum::<f32>();
        }
    }
}
