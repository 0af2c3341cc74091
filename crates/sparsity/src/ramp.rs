//! How the density falls from one threshold to the next.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The course of the density over the thresholds of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ramp {
    /// The final density at every threshold.
    #[default]
    Constant,
    /// Equal steps.
    Linear,
    /// Large steps first, `d + (d₀ − d)(1 − p)³` at progress `p` (Zhu & Gupta 2017).
    Cubic,
}

impl Ramp {
    /// The density at each of `thresholds` thresholds, the last of which is `last`.
    ///
    /// If `first` is given, the first threshold has that density; else the ramp starts from 1 (dense) one step before the first.
    pub fn densities(self, first: Option<f64>, last: f64, thresholds: usize) -> Vec<f64> {
        let progress = |i: usize| match first {
            None => (i + 1) as f64 / thresholds as f64,
            Some(_) if thresholds == 1 => 1.0,
            Some(_) => i as f64 / (thresholds - 1) as f64,
        };
        let start = first.unwrap_or(1.0);
        let at = |i: usize| {
            if i + 1 == thresholds {
                return last;
            }
            match self {
                Ramp::Constant => last,
                Ramp::Linear => last + (start - last) * (1.0 - progress(i)),
                Ramp::Cubic => last + (start - last) * (1.0 - progress(i)).powi(3),
            }
        };
        (0..thresholds).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ramp: Ramp, first: Option<f64>, last: f64, expected: &[f64]) {
        let got = ramp.densities(first, last, expected.len());
        assert!(
            got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12),
            "{got:?}, not {expected:?}"
        );
        assert_eq!(got.last(), Some(&last));
    }

    #[test]
    fn by_hand() {
        close(Ramp::Constant, None, 0.1, &[0.1, 0.1, 0.1]);
        close(Ramp::Linear, None, 0.1, &[0.7, 0.4, 0.1]);
        close(Ramp::Linear, Some(0.5), 0.1, &[0.5, 0.3, 0.1]);
        close(
            Ramp::Cubic,
            None,
            0.1,
            &[0.1 + 0.9 * 8.0 / 27.0, 0.1 + 0.9 / 27.0, 0.1],
        );
        close(Ramp::Cubic, Some(0.5), 0.1, &[0.5, 0.15, 0.1]);
        close(Ramp::Cubic, None, 0.1, &[0.1]);
        close(Ramp::Linear, Some(0.5), 0.1, &[0.1]);
    }
}
