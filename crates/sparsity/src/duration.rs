//! Stretches of a training run, written so that they survive a change of its length.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    /// Training steps per epoch.
    pub steps_per_epoch: usize,
    /// Epochs of the run.
    pub epochs: usize,
}

impl Timeline {
    /// Training steps of the run.
    pub fn total_steps(self) -> usize {
        self.steps_per_epoch.saturating_mul(self.epochs)
    }
}

/// A stretch of a run: `"10%"` of all its steps, `"3ep"` or `"0.5ep"`, or `"500it"` steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum Duration {
    /// Percent of the whole run, 0–100.
    Percent(f64),
    /// Epochs, not necessarily whole.
    Epochs(f64),
    /// Training steps.
    Steps(usize),
}

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "duration \"{text}\" is not known: write percent of the run (\"10%\", at most 100), epochs (\"3ep\") or steps (\"500it\")"
)]
pub struct DurationError {
    /// What was written.
    pub text: String,
}

impl Duration {
    /// The number of training steps.
    ///
    /// A percentage that comes to at least one epoch is rounded to whole epochs, so that phases change between epochs, where networks
    /// are evaluated and saved; a shorter one, and any number of epochs, to whole steps.
    pub fn steps(self, timeline: Timeline) -> usize {
        let per_epoch = timeline.steps_per_epoch as f64;
        match self {
            Duration::Percent(percent) => {
                let epochs = percent / 100.0 * timeline.epochs as f64;
                let epochs = if epochs >= 1.0 {
                    epochs.round()
                } else {
                    epochs
                };
                (epochs * per_epoch).round() as usize
            }
            Duration::Epochs(epochs) => (epochs * per_epoch).round() as usize,
            Duration::Steps(steps) => steps,
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duration::Percent(percent) => write!(f, "{percent}%"),
            Duration::Epochs(epochs) => write!(f, "{epochs}ep"),
            Duration::Steps(steps) => write!(f, "{steps}it"),
        }
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let number = |suffix: &str| -> Option<f64> {
            let value: f64 = text.strip_suffix(suffix)?.trim_end().parse().ok()?;
            (value.is_finite() && value >= 0.0).then_some(value)
        };
        let steps = || text.strip_suffix("it")?.trim_end().parse().ok();
        number("%")
            .filter(|&percent| percent <= 100.0)
            .map(Duration::Percent)
            .or_else(|| number("ep").map(Duration::Epochs))
            .or_else(|| steps().map(Duration::Steps))
            .ok_or_else(|| DurationError {
                text: text.to_string(),
            })
    }
}

impl TryFrom<String> for Duration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> String {
        duration.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str, steps_per_epoch: usize, epochs: usize) -> usize {
        text.parse::<Duration>().unwrap().steps(Timeline {
            steps_per_epoch,
            epochs,
        })
    }

    #[test]
    fn text_round_trip() {
        for text in ["0%", "10%", "12.5%", "3ep", "0.5ep", "500it"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_cure() {
        for text in [
            "", "10", "%", "ep", "it", "-1%", "101%", "nan%", "infep", "1.5it", "-3it", "3 epochs",
        ] {
            let error = text.parse::<Duration>().unwrap_err();
            assert_eq!(error.text, text);
            assert!(error.to_string().contains("\"10%\""));
        }
    }

    #[test]
    fn steps_of_each_kind() {
        assert_eq!(steps("3ep", 100, 15), 300);
        assert_eq!(steps("0.5ep", 101, 15), 51);
        assert_eq!(steps("500it", 100, 15), 500);
        assert_eq!(steps("20%", 430, 15), 3 * 430);
    }

    #[test]
    fn a_percentage_of_an_epoch_or_more_is_whole_epochs() {
        assert_eq!(steps("13%", 100, 15), 200);
        assert_eq!(steps("7%", 100, 15), 100);
        assert_eq!(steps("33%", 100, 15), 500);
        assert_eq!(steps("7%", 100, 10), 70);
        assert_eq!(steps("100%", 100, 1), 100);
        assert_eq!(steps("0%", 100, 15), 0);
    }
}
