//! What is ranked when a layer is thresholded.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What ranks the weights of a layer. Written `"magnitude"`, `"magnitude_times_gradient"`, `"random"` or `"random:SEED"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum Score {
    /// `|w|`.
    #[default]
    Magnitude,
    /// `|w · g|`, the first-order change of the loss if the weight is dropped.
    MagnitudeTimesGradient,
    /// A number drawn for each weight from seed and layer alone: the same at every flip, so that one flip gives a static random mask.
    Random {
        /// Seed of the draw; `None` for that of the run, and without a run 0.
        seed: Option<u64>,
    },
}

/// Why a score cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScoreError {
    /// Text that is no score.
    #[error(
        "score \"{text}\" is not known: write \"magnitude\", \"magnitude_times_gradient\", \"random\" or \"random:SEED\""
    )]
    Unknown {
        /// What was written.
        text: String,
    },
    /// The score needs gradients and there are none.
    #[error("score magnitude_times_gradient needs gradients: score after a backward pass")]
    NoGradients,
    /// Weights and gradients are not of one layer.
    #[error("{weights} weights but {gradients} gradients: pass both of one layer")]
    Length {
        /// Number of weights.
        weights: usize,
        /// Number of gradients.
        gradients: usize,
    },
}

impl Score {
    /// Whether [`Score::of`] needs gradients.
    pub fn needs_gradients(self) -> bool {
        self == Score::MagnitudeTimesGradient
    }

    /// The scores of the weights of layer number `layer`, as [`project`](crate::project) takes them (ranked by absolute value; the
    /// magnitude score is therefore the weights themselves, without a copy).
    ///
    /// # Errors
    /// [`ScoreError`] if gradients are needed and missing or of another length.
    pub fn of<'a>(
        self,
        weights: &'a [f32],
        gradients: Option<&[f32]>,
        layer: u64,
    ) -> Result<Cow<'a, [f32]>, ScoreError> {
        match self {
            Score::Magnitude => Ok(Cow::Borrowed(weights)),
            Score::MagnitudeTimesGradient => {
                let gradients = gradients.ok_or(ScoreError::NoGradients)?;
                if gradients.len() != weights.len() {
                    return Err(ScoreError::Length {
                        weights: weights.len(),
                        gradients: gradients.len(),
                    });
                }
                Ok(weights
                    .iter()
                    .zip(gradients)
                    .map(|(w, g)| (w * g).abs())
                    .collect())
            }
            Score::Random { seed } => {
                let mut generator = ChaCha8Rng::seed_from_u64(seed.unwrap_or(0));
                generator.set_stream(layer);
                Ok(weights.iter().map(|_| unit(generator.next_u32())).collect())
            }
        }
    }
}

/// A score above 0 and at most 1 for each of `weights` weights: a function of seed, step and layer alone. What SET grows by.
pub fn random_scores(seed: u64, step: u64, layer: u64, weights: usize) -> Vec<f32> {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, step, layer]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut generator = ChaCha8Rng::from_seed(key);
    (0..weights).map(|_| unit(generator.next_u32())).collect()
}

/// 24 bits are what an f32 holds exactly; never 0, so that a drawn weight ranks above a dropped one.
fn unit(bits: u32) -> f32 {
    ((bits >> 8) + 1) as f32 / (1 << 24) as f32
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Score::Magnitude => f.write_str("magnitude"),
            Score::MagnitudeTimesGradient => f.write_str("magnitude_times_gradient"),
            Score::Random { seed: None } => f.write_str("random"),
            Score::Random { seed: Some(seed) } => write!(f, "random:{seed}"),
        }
    }
}

impl FromStr for Score {
    type Err = ScoreError;

    fn from_str(text: &str) -> Result<Self, ScoreError> {
        match text {
            "magnitude" => Ok(Score::Magnitude),
            "magnitude_times_gradient" => Ok(Score::MagnitudeTimesGradient),
            "random" => Ok(Score::Random { seed: None }),
            _ => text
                .strip_prefix("random:")
                .and_then(|seed| seed.parse().ok())
                .map(|seed| Score::Random { seed: Some(seed) })
                .ok_or_else(|| ScoreError::Unknown {
                    text: text.to_string(),
                }),
        }
    }
}

impl TryFrom<String> for Score {
    type Error = ScoreError;

    fn try_from(text: String) -> Result<Self, ScoreError> {
        text.parse()
    }
}

impl From<Score> for String {
    fn from(score: Score) -> String {
        score.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_and_refusal() {
        for text in [
            "magnitude",
            "magnitude_times_gradient",
            "random",
            "random:7",
        ] {
            assert_eq!(text.parse::<Score>().unwrap().to_string(), text);
        }
        for text in ["", "random:", "random:-1", "taylor"] {
            let error = text.parse::<Score>().unwrap_err();
            assert!(error.to_string().contains("write \"magnitude\""));
        }
    }

    #[test]
    fn magnitude_copies_nothing() {
        let weights = [1.0, -2.0];
        let score = Score::Magnitude.of(&weights, None, 0).unwrap();
        assert!(std::ptr::eq(score.as_ref(), &weights[..]));
    }

    #[test]
    fn magnitude_times_gradient() {
        let score = Score::MagnitudeTimesGradient;
        assert_eq!(
            *score.of(&[2.0, -3.0], Some(&[-0.5, -4.0]), 0).unwrap(),
            [1.0, 12.0]
        );
        assert_eq!(score.of(&[2.0], None, 0), Err(ScoreError::NoGradients));
        assert_eq!(
            score.of(&[2.0], Some(&[1.0, 1.0]), 0),
            Err(ScoreError::Length {
                weights: 1,
                gradients: 2
            })
        );
    }

    #[test]
    fn random_depends_on_seed_and_layer_alone() {
        let draw = |seed, layer, fill| {
            let weights = vec![fill; 1000];
            Score::Random { seed: Some(seed) }
                .of(&weights, None, layer)
                .unwrap()
                .into_owned()
        };
        let base = draw(1, 0, 0.5);
        assert_eq!(base, draw(1, 0, -7.0));
        assert_ne!(base, draw(1, 1, 0.5));
        assert_ne!(base, draw(2, 0, 0.5));
        assert!(base.iter().all(|&s| 0.0 < s && s <= 1.0));
        let mean = base.iter().sum::<f32>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
    }

    #[test]
    fn scores_to_grow_by_depend_on_seed_step_and_layer() {
        let base = random_scores(1, 2, 3, 1000);
        assert_eq!(base, random_scores(1, 2, 3, 1000));
        for other in [
            random_scores(2, 2, 3, 1000),
            random_scores(1, 3, 3, 1000),
            random_scores(1, 2, 4, 1000),
        ] {
            assert_ne!(base, other);
        }
        assert!(base.iter().all(|&s| 0.0 < s && s <= 1.0));
    }

    #[test]
    fn random_scores_are_pinned() {
        let score = Score::Random { seed: Some(3) }
            .of(&[0.0; 3], None, 5)
            .unwrap();
        assert_eq!(*score, [0.56165546, 0.20698035, 0.097795606]);
    }
}
