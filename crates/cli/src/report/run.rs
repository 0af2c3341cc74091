//! A run folder as the report sees it. Every file may be missing; what is there must be well-formed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::ReportError;
use super::read;

/// One row of `results.csv`. Errors are fractions; what is not measured or not finite is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    pub epoch: u64,
    pub step: u64,
    pub sparse: bool,
    pub density: Option<f64>,
    pub lr: Option<f64>,
    pub train_loss: Option<f64>,
    pub train_error: Option<f64>,
    pub validation_loss: Option<f64>,
    pub validation_error: Option<f64>,
    pub gradient_norm: Option<f64>,
    pub nonzeros: Option<u64>,
    pub images_per_second: Option<f64>,
    pub seconds: Option<f64>,
}

/// What a flip does to the masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    Threshold,
    Reactivate,
    Regrow,
}

impl Edge {
    /// The word that tables use.
    pub fn word(self) -> &'static str {
        match self {
            Edge::Threshold => "threshold",
            Edge::Reactivate => "re-activate",
            Edge::Regrow => "regrow",
        }
    }
}

/// One line of `flips.jsonl`.
#[derive(Debug, Clone, Deserialize)]
pub struct Flip {
    pub step: u64,
    pub epoch: f64,
    pub edge: Edge,
    pub density: Option<f64>,
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    #[serde(default)]
    pub layers: Vec<LayerFlip>,
}

impl Flip {
    /// The number of weights for which `of` counts, over all layers.
    pub fn total(&self, of: impl Fn(&LayerFlip) -> u64) -> u64 {
        self.layers.iter().map(of).sum()
    }

    /// |S ∩ S_last| / k over all layers; `None` where no layer has a last support.
    pub fn overlap(&self) -> Option<f64> {
        let known = self
            .layers
            .iter()
            .filter_map(|layer| Some((layer.overlap?, layer.k as f64)));
        let (sum, kept) = known.fold((0.0, 0.0), |(sum, kept), (overlap, k)| {
            (sum + overlap * k, kept + k)
        });
        (kept > 0.0).then(|| sum / kept)
    }

    /// The norm of what was dropped as a fraction of the norm of all weights.
    pub fn dropped_share(&self) -> Option<f64> {
        let squares = |of: fn(&LayerFlip) -> Option<f64>| -> Option<f64> {
            self.layers
                .iter()
                .map(|layer| of(layer).map(|norm| norm * norm))
                .sum()
        };
        let (dropped, all) = (
            squares(|layer| layer.dropped_norm)?,
            squares(|layer| layer.norm)?,
        );
        (all > 0.0).then(|| (dropped / all).sqrt())
    }
}

/// What a flip did to one layer.
#[derive(Debug, Clone, Deserialize)]
pub struct LayerFlip {
    pub name: String,
    pub weights: u64,
    pub k: u64,
    #[serde(default)]
    pub kept: u64,
    #[serde(default)]
    pub dropped: u64,
    #[serde(default)]
    pub reactivated: u64,
    pub overlap: Option<f64>,
    pub dropped_norm: Option<f64>,
    pub norm: Option<f64>,
    pub histogram: Option<Histogram>,
}

/// Counts of a layer's weights in equal bins from `low` to `high`, before and after a threshold.
#[derive(Debug, Clone, Deserialize)]
pub struct Histogram {
    pub low: f64,
    pub high: f64,
    pub before: Vec<u64>,
    pub after: Vec<u64>,
}

/// One row of `layers.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRow {
    pub name: String,
    pub shape: String,
    pub weights: u64,
    pub k: u64,
    pub density: f64,
    pub nonzeros: Option<u64>,
}

/// `summary.json`, written when a run ends.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    pub schema: u64,
    pub name: String,
    pub seed: Option<u64>,
    pub method: Option<String>,
    pub network: Option<String>,
    pub data: Option<String>,
    pub status: Option<String>,
    pub epochs: Option<u64>,
    pub steps: Option<u64>,
    pub parameters: Option<u64>,
    pub weights: Option<u64>,
    pub nonzeros: Option<u64>,
    pub dense_bytes: Option<u64>,
    pub packed_bytes: Option<u64>,
    pub best_epoch: Option<u64>,
    pub best_validation_error: Option<f64>,
    pub validation_error: Option<f64>,
    pub test_error: Option<f64>,
    pub test_loss: Option<f64>,
    pub seconds: Option<f64>,
    pub settings_hash: Option<String>,
    pub dense_twin: Option<DenseTwin>,
}

/// The dense run of the same seed, epochs, schedule and data.
#[derive(Debug, Clone, Deserialize)]
pub struct DenseTwin {
    pub run: Option<String>,
    pub test_error: Option<f64>,
    pub nonzeros: Option<u64>,
    pub bytes: Option<u64>,
}

/// `confusion.csv`: rows are true classes, columns predicted ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    pub labels: Vec<String>,
    pub counts: Vec<Vec<u64>>,
}

/// One entry of `mistakes.json`, its pixels decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    pub index: u64,
    pub label: usize,
    pub predicted: usize,
    pub confidence: f64,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// `channels · height · width` bytes, channel by channel.
    pub pixels: Vec<u8>,
}

/// Everything a run folder says.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub folder: PathBuf,
    pub epochs: Vec<Epoch>,
    pub flips: Vec<Flip>,
    pub layers: Vec<LayerRow>,
    pub summary: Option<Summary>,
    pub confusion: Option<Confusion>,
    pub mistakes: Vec<Mistake>,
    /// `recipe.toml` as written.
    pub recipe: Option<String>,
    /// `env.json`, its nesting flattened to `a.b` = value.
    pub environment: Vec<(String, String)>,
    /// The epochs of the dense twin, where its folder is still there.
    pub twin: Vec<Epoch>,
    /// The files that are not there.
    pub missing: Vec<&'static str>,
    /// What was left out of a file that ends in the middle of a line.
    pub notes: Vec<String>,
}

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    /// [`ReportError::NotARun`], [`ReportError::Read`] or [`ReportError::Malformed`].
    pub fn read(folder: &Path) -> Result<Run, ReportError> {
        let mut run = Run {
            folder: folder.to_path_buf(),
            ..Run::default()
        };
        if let Some(text) = run.text("results.csv")? {
            run.epochs = read::epochs(
                &run.whole_lines("results.csv", text, read::ends_with_a_full_row),
                &folder.join("results.csv"),
            )?;
        }
        if let Some(text) = run.text("flips.jsonl")? {
            let whole = run.whole_lines("flips.jsonl", text, |line| {
                serde_json::from_str::<serde_json::Value>(line).is_ok()
            });
            run.flips = read::flips(&whole, &folder.join("flips.jsonl"))?;
        }
        if let Some(text) = run.text("layers.csv")? {
            run.layers = read::layers(&text, &folder.join("layers.csv"))?;
        }
        if let Some(text) = run.text("summary.json")? {
            run.summary = Some(read::summary(&text, &folder.join("summary.json"))?);
        }
        if let Some(text) = run.text("confusion.csv")? {
            run.confusion = Some(read::confusion(&text, &folder.join("confusion.csv"))?);
        }
        if let Some(text) = run.text("mistakes.json")? {
            run.mistakes = read::mistakes(&text, &folder.join("mistakes.json"))?;
        }
        run.recipe = run.text("recipe.toml")?;
        if let Some(text) = run.text("env.json")? {
            let value: serde_json::Value = read::json(&text, &folder.join("env.json"))?;
            read::flatten("", &value, &mut run.environment);
        }
        if run.missing.contains(&"results.csv") && run.missing.contains(&"summary.json") {
            return Err(ReportError::NotARun(folder.to_path_buf()));
        }
        run.twin = run.read_twin();
        Ok(run)
    }

    /// The run's name: as written at its end, else that of its recipe, else that of its folder.
    pub fn name(&self) -> String {
        let written = self.summary.as_ref().map(|summary| summary.name.clone());
        let asked = || Some(self.settings()?.get("name")?.as_str()?.to_string());
        written
            .or_else(asked)
            .unwrap_or_else(|| folder_name(&self.folder))
    }

    /// The run's seed, from where its name is from.
    pub fn seed(&self) -> Option<u64> {
        match &self.summary {
            Some(summary) => summary.seed,
            None => self.settings()?.get("seed")?.as_integer()?.try_into().ok(),
        }
    }

    /// Whether the run came to its end.
    pub fn finished(&self) -> bool {
        let status = self
            .summary
            .as_ref()
            .map(|summary| summary.status.as_deref().unwrap_or("finished"));
        status == Some("finished")
    }

    /// Weights that can be thresholded and how many of them are not zero, of the trained network.
    pub fn weights_and_nonzeros(&self) -> Option<(u64, u64)> {
        if !self.layers.is_empty() {
            let weights = self.layers.iter().map(|layer| layer.weights).sum();
            return Some((
                weights,
                self.layers
                    .iter()
                    .map(|layer| layer.nonzeros.unwrap_or(layer.k))
                    .sum(),
            ));
        }
        let summary = self.summary.as_ref()?;
        // The summary counts biases and the like among what is kept.
        let (weights, kept) = (summary.weights?, summary.nonzeros?);
        let others = summary
            .parameters
            .unwrap_or(weights)
            .saturating_sub(weights);
        Some((weights, kept.saturating_sub(others)))
    }

    /// How many epochs the recipe asks for.
    pub fn planned_epochs(&self) -> Option<u64> {
        let epochs = self.settings()?.get("train")?.get("epochs")?.as_integer()?;
        epochs.try_into().ok()
    }

    /// Where the user's own pictures lie; none of a published set.
    pub fn place(&self) -> Option<String> {
        let path = self.settings()?.get("data")?.get("path")?.as_str()?.into();
        Some(path)
    }

    /// The recipe's keys. The report shows its text; what cannot be read as TOML only says less.
    fn settings(&self) -> Option<toml::Table> {
        self.recipe.as_deref()?.parse().ok()
    }

    /// Reads one file of the folder; a missing one is noted.
    fn text(&mut self, file: &'static str) -> Result<Option<String>, ReportError> {
        let path = self.folder.join(file);
        match fs::read(&path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(error) => {
                    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                    let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
                    Err(ReportError::Malformed {
                        path,
                        line,
                        what: "not UTF-8 text".into(),
                    })
                }
            },
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                self.missing.push(file);
                Ok(None)
            }
            Err(source) => Err(ReportError::Read { path, source }),
        }
    }

    /// `text` without a last line that was cut while it was written: one that has no line end and is not `whole`.
    fn whole_lines(&mut self, file: &str, mut text: String, whole: fn(&str) -> bool) -> String {
        let start = text.rfind('\n').map_or(0, |position| position + 1);
        if start > 0 && start < text.len() && !whole(&text[start..]) {
            self.notes.push(format!(
                "The last line of {file} was cut off while it was written and is left out."
            ));
            text.truncate(start);
        }
        text
    }

    /// The dense twin's epochs, looked for where its path points to from here and beside this run. It only
    /// adds a curve, so a twin that is gone or damaged is no error.
    fn read_twin(&self) -> Vec<Epoch> {
        let Some(written) = self
            .summary
            .as_ref()
            .and_then(|s| s.dense_twin.as_ref())
            .and_then(|t| t.run.as_deref())
        else {
            return Vec::new();
        };
        let beside = self.folder.parent().unwrap_or(Path::new("."));
        let name = Path::new(written).file_name().map(|name| beside.join(name));
        [
            Some(PathBuf::from(written)),
            Some(beside.join(written)),
            Some(self.folder.join(written)),
            name,
        ]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("results.csv"))
        .find_map(|path| read::epochs(&fs::read_to_string(&path).ok()?, &path).ok())
        .unwrap_or_default()
    }
}

/// The last part of a path, also of `.` and `..`.
pub fn folder_name(folder: &Path) -> String {
    let absolute = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    absolute.file_name().map_or_else(
        || folder.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {

    use crate::report::sample;

    #[test]
    fn weights_are_counted_without_biases() {
        let mut run = sample::run();
        assert_eq!(run.weights_and_nonzeros(), Some((430_500, 43_050)));
        run.layers.clear();
        assert_eq!(
            run.weights_and_nonzeros(),
            Some((430_500, 43_050)),
            "from the summary"
        );
        run.summary = None;
        assert_eq!(run.weights_and_nonzeros(), None);
    }

    #[test]
    fn flips_are_summed_over_layers() {
        let run = sample::run();
        let (first, last) = (&run.flips[0], &run.flips[4]);
        assert_eq!(first.total(|layer| layer.dropped), 430_500 - 43_050);
        assert_eq!(first.overlap(), None);
        assert!((0.5..=1.0).contains(&last.overlap().unwrap()));
        assert!((0.1..1.0).contains(&first.dropped_share().unwrap()));
        assert_eq!(first.layers[0].name, "conv1");
    }

    #[test]
    fn an_unfinished_run_is_named_by_its_recipe() {
        let mut run = sample::run();
        run.summary = None;
        run.recipe = Some("name = \"asked\"\nseed = 4\ntrain = { epochs = 15 }".into());
        assert_eq!(
            (run.name().as_str(), run.seed(), run.planned_epochs()),
            ("asked", Some(4), Some(15))
        );
        run.recipe = Some("not toml".into());
        run.folder = "somewhere/here".into();
        assert_eq!(
            (run.name().as_str(), run.seed(), run.planned_epochs()),
            ("here", None, None)
        );
    }
}
