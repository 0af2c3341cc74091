//! What a network says of a test set: confusion and the worst mistakes.

use std::sync::Arc;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use skinny_data::{Dataset, Loader, LoaderOptions};
use skinny_kernels::loss;
use skinny_network::Preprocess;

use crate::TrainError;
use crate::engine::{Engine, Outcome};

/// The most mistakes that are kept.
const MISTAKES: usize = 24;

/// A picture that the network got wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Its index in the test set.
    pub index: u32,
    /// Its class.
    pub label: u32,
    /// The class that the network gave it.
    pub predicted: u32,
    /// The probability that the network gave that class.
    pub confidence: f32,
    /// Channels of the picture.
    pub channels: usize,
    /// Height of the picture.
    pub height: usize,
    /// Width of the picture.
    pub width: usize,
    /// The picture, channel by channel, in base64.
    pub pixels: String,
}

/// Everything that a pass over a test set gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// Loss and hits.
    pub outcome: Outcome,
    /// Names of the classes.
    pub label_names: Vec<String>,
    /// `confusion[label][predicted]` pictures.
    pub confusion: Vec<Vec<u64>>,
    /// The worst mistakes, most confident first.
    pub mistakes: Vec<Mistake>,
}

impl Predictions {
    /// Lets the engine's present weights classify a set.
    ///
    /// # Errors
    /// If the set cannot be read or does not fit the preprocessing.
    pub fn of(
        engine: &mut dyn Engine,
        set: &Arc<Dataset>,
        preprocess: &Preprocess,
        batch: usize,
    ) -> Result<Predictions, TrainError> {
        let classes = engine.graph().output[0];
        let mut logits = |images: &[f32], logits: &mut Vec<f32>| engine.logits(images, logits);
        Self::by(&mut logits, classes, set, preprocess, batch)
    }

    /// Lets a function classify a set: it gets up to `batch` preprocessed images, `[images, channels, height, width]`, and puts
    /// their logits, `[images, classes]`, in place of what the vector holds.
    ///
    /// # Errors
    /// If the set cannot be read or does not fit the preprocessing.
    pub fn by(
        logits_of: &mut dyn FnMut(&[f32], &mut Vec<f32>),
        classes: usize,
        set: &Arc<Dataset>,
        preprocess: &Preprocess,
        batch: usize,
    ) -> Result<Predictions, TrainError> {
        let mut outcome = Outcome::default();
        let mut confusion = vec![vec![0; classes]; set.classes];
        let mut wrong: Vec<(f32, u32, u32, u32)> = Vec::new();
        let mut logits = Vec::new();
        for batch in Loader::new(
            Arc::clone(set),
            preprocess,
            LoaderOptions::evaluation(batch),
        )? {
            let batch = batch?;
            logits_of(&batch.images, &mut logits);
            let sums = loss::cross_entropy(classes, &logits, &batch.labels, 0.0, None);
            outcome.add(Outcome {
                loss: sums.loss,
                correct: sums.correct,
                images: batch.len(),
                gradient_norm: 0.0,
            });
            loss::softmax(classes, &mut logits);
            for ((row, &label), &index) in logits
                .chunks(classes)
                .zip(&batch.labels)
                .zip(&batch.indices)
            {
                let predicted = loss::argmax(row) as u32;
                confusion[label as usize][predicted as usize] += 1;
                if predicted != label {
                    wrong.push((row[predicted as usize], index, label, predicted));
                }
            }
        }
        wrong.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        wrong.truncate(MISTAKES);
        let [channels, height, width] = set.shape;
        let mistakes = wrong
            .into_iter()
            .map(|(confidence, index, label, predicted)| {
                let mut picture = vec![0.0; set.picture_len()];
                set.read(index as usize, &mut picture)?;
                let pixels: Vec<u8> = picture.iter().map(|value| *value as u8).collect();
                Ok(Mistake {
                    index,
                    label,
                    predicted,
                    confidence,
                    channels,
                    height,
                    width,
                    pixels: base64::engine::general_purpose::STANDARD.encode(&pixels),
                })
            })
            .collect::<Result<_, TrainError>>()?;
        Ok(Predictions {
            outcome,
            label_names: set.label_names.clone(),
            confusion,
            mistakes,
        })
    }

    /// The confusion as CSV: a row per class, a column per prediction.
    pub fn confusion_csv(&self) -> String {
        let mut csv = String::from("label");
        for name in &self.label_names {
            csv.push(',');
            csv.push_str(&csv_field(name));
        }
        csv.push('\n');
        for (name, row) in self.label_names.iter().zip(&self.confusion) {
            csv.push_str(&csv_field(name));
            for count in row {
                csv.push_str(&format!(",{count}"));
            }
            csv.push('\n');
        }
        csv
    }
}

/// A field of CSV (RFC 4180).
pub fn csv_field(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(csv_field("cat"), "cat");
        assert_eq!(csv_field("cat, \"big\""), "\"cat, \"\"big\"\"\"");
    }
}
