//! Latencies: what is told about them.

use serde_json::{Map, Value, json};

/// Seconds of single runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    seconds: Vec<f64>,
}

impl Samples {
    /// Adds runs.
    pub fn extend(&mut self, seconds: impl IntoIterator<Item = f64>) {
        self.seconds.extend(seconds);
        self.seconds.sort_by(f64::total_cmp);
    }

    /// The value that a share of the runs does not exceed; 0 without runs.
    fn quantile(&self, share: f64) -> f64 {
        let last = self.seconds.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.seconds.get(at).copied().unwrap_or(0.0)
    }

    /// The median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The least.
    pub fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    /// All that is told, under the names that stay.
    pub fn json(&self, batch: usize) -> Map<String, Value> {
        let milliseconds = |seconds: f64| json!(1e3 * seconds);
        [
            ("latency_ms_median", milliseconds(self.median())),
            ("latency_ms_min", milliseconds(self.least())),
            ("latency_ms_p99", milliseconds(self.quantile(0.99))),
            ("images_per_s", json!(batch as f64 / self.median())),
            ("runs", json!(self.seconds.len())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_p99_near_the_end() {
        let mut samples = Samples::default();
        samples.extend((1..=100).rev().map(f64::from));
        samples.extend([101.0]);
        assert_eq!((samples.least(), samples.median()), (1.0, 51.0));
        assert_eq!(samples.json(2)["latency_ms_p99"], 100_000.0);
        assert_eq!(samples.json(51)["images_per_s"], 1.0);
        assert_eq!(samples.json(1)["runs"], 101);
    }
}
