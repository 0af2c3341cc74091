//! A run folder as the report sees it. Every file may be missing; what is there must be well-formed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::csv;
use super::error::ReportError;

/// The largest side of a picture in `mistakes.json`, in pixels.
const LARGEST_SIDE: usize = 4096;

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

#[derive(Deserialize)]
struct WrittenMistake {
    index: u64,
    label: usize,
    predicted: usize,
    confidence: f64,
    channels: usize,
    height: usize,
    width: usize,
    pixels: String,
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
            run.epochs = epochs(
                &run.whole_lines("results.csv", text, ends_with_a_full_row),
                &folder.join("results.csv"),
            )?;
        }
        if let Some(text) = run.text("flips.jsonl")? {
            let whole = run.whole_lines("flips.jsonl", text, |line| {
                serde_json::from_str::<serde_json::Value>(line).is_ok()
            });
            run.flips = flips(&whole, &folder.join("flips.jsonl"))?;
        }
        if let Some(text) = run.text("layers.csv")? {
            run.layers = layers(&text, &folder.join("layers.csv"))?;
        }
        if let Some(text) = run.text("summary.json")? {
            run.summary = Some(summary(&text, &folder.join("summary.json"))?);
        }
        if let Some(text) = run.text("confusion.csv")? {
            run.confusion = Some(confusion(&text, &folder.join("confusion.csv"))?);
        }
        if let Some(text) = run.text("mistakes.json")? {
            run.mistakes = mistakes(&text, &folder.join("mistakes.json"))?;
        }
        run.recipe = run.text("recipe.toml")?;
        if let Some(text) = run.text("env.json")? {
            let value: serde_json::Value = json(&text, &folder.join("env.json"))?;
            flatten("", &value, &mut run.environment);
        }
        if run.missing.contains(&"results.csv") && run.missing.contains(&"summary.json") {
            return Err(ReportError::NotARun(folder.to_path_buf()));
        }
        run.twin = run.read_twin();
        Ok(run)
    }

    /// The run's name: as written at its end, else the name of its folder.
    pub fn name(&self) -> String {
        match &self.summary {
            Some(summary) => summary.name.clone(),
            None => folder_name(&self.folder),
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
        Some((summary.weights?, summary.nonzeros?))
    }

    /// How many epochs the recipe asks for.
    pub fn planned_epochs(&self) -> Option<u64> {
        let recipe: toml::Table = self.recipe.as_deref()?.parse().ok()?;
        recipe
            .get("train")?
            .get("epochs")?
            .as_integer()?
            .try_into()
            .ok()
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
        .find_map(|path| epochs(&fs::read_to_string(&path).ok()?, &path).ok())
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

fn malformed(path: &Path, line: usize, what: impl Into<String>) -> ReportError {
    // What a file says may hold line breaks; a message is one line.
    let what = what.into().replace(['\n', '\r'], " ");
    ReportError::Malformed {
        path: path.to_path_buf(),
        line,
        what,
    }
}

/// A table whose columns are found by name, so that files may grow new ones.
struct Table<'a> {
    path: &'a Path,
    header: Vec<String>,
    rows: Vec<csv::Record>,
}

impl<'a> Table<'a> {
    fn read(text: &str, path: &'a Path) -> Result<Table<'a>, ReportError> {
        let mut rows = csv::records(text)
            .map_err(|error| malformed(path, error.line, error.what))?
            .into_iter();
        let Some(header) = rows.next() else {
            return Err(malformed(
                path,
                1,
                "the table is empty, even its header is missing",
            ));
        };
        let rows: Vec<_> = rows.collect();
        if let Some(row) = rows
            .iter()
            .find(|row| row.fields.len() != header.fields.len())
        {
            let what = format!(
                "{} fields where the header has {}",
                row.fields.len(),
                header.fields.len()
            );
            return Err(malformed(path, row.line, what));
        }
        Ok(Table {
            path,
            header: header.fields,
            rows,
        })
    }

    fn column(&self, name: &str) -> Result<usize, ReportError> {
        let position = self.header.iter().position(|column| column == name);
        position.ok_or_else(|| malformed(self.path, 1, format!("no column '{name}'")))
    }

    /// A number that must be there.
    fn number<T: std::str::FromStr>(
        &self,
        row: &csv::Record,
        name: &str,
    ) -> Result<T, ReportError> {
        let field = row.fields[self.column(name)?].trim();
        field
            .parse()
            .map_err(|_| malformed(self.path, row.line, format!("'{field}' is no {name}")))
    }

    /// A number that may be missing with its column, empty or not finite.
    fn measured(&self, row: &csv::Record, name: &str) -> Result<Option<f64>, ReportError> {
        match self.column(name) {
            Ok(column) if !row.fields[column].trim().is_empty() => {
                Ok(Some(self.number::<f64>(row, name)?).filter(|value| value.is_finite()))
            }
            _ => Ok(None),
        }
    }
}

/// Whether the last row of `results.csv` has as many fields as a full one, none of them cut to nothing.
fn ends_with_a_full_row(line: &str) -> bool {
    line.split(',').count() >= 13 && !line.ends_with(',')
}

fn epochs(text: &str, path: &Path) -> Result<Vec<Epoch>, ReportError> {
    let table = Table::read(text, path)?;
    let phase = table.column("phase")?;
    let epoch = |row: &csv::Record| {
        let sparse = match row.fields[phase].as_str() {
            "sparse" => true,
            "dense" => false,
            other => {
                return Err(malformed(
                    path,
                    row.line,
                    format!("'{other}' is no phase: dense or sparse"),
                ));
            }
        };
        Ok(Epoch {
            epoch: table.number(row, "epoch")?,
            step: table.number(row, "step")?,
            sparse,
            density: table.measured(row, "density")?,
            lr: table.measured(row, "lr")?,
            train_loss: table.measured(row, "train_loss")?,
            train_error: table.measured(row, "train_error")?,
            validation_loss: table.measured(row, "validation_loss")?,
            validation_error: table.measured(row, "validation_error")?,
            gradient_norm: table.measured(row, "gradient_norm")?,
            nonzeros: table.measured(row, "nonzeros")?.map(|value| value as u64),
            images_per_second: table.measured(row, "images_per_second")?,
            seconds: table.measured(row, "seconds")?,
        })
    };
    let rows: Vec<Epoch> = table.rows.iter().map(epoch).collect::<Result<_, _>>()?;
    if let Some(index) = (1..rows.len()).find(|&index| rows[index].step <= rows[index - 1].step) {
        return Err(malformed(
            path,
            table.rows[index].line,
            "the step does not grow from row to row",
        ));
    }
    Ok(rows)
}

fn flips(text: &str, path: &Path) -> Result<Vec<Flip>, ReportError> {
    let mut flips = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let flip: Flip = serde_json::from_str(line).map_err(|error| {
            malformed(
                path,
                index + 1,
                format!("{} (column {})", reason(&error), error.column()),
            )
        })?;
        for layer in &flip.layers {
            if let Some(histogram) = &layer.histogram
                && (histogram.before.len() != histogram.after.len()
                    || histogram.before.is_empty()
                    || histogram.low >= histogram.high
                    || !(histogram.high - histogram.low).is_finite())
            {
                return Err(malformed(
                    path,
                    index + 1,
                    format!("the histogram of layer {} is none", layer.name),
                ));
            }
        }
        flips.push(flip);
    }
    Ok(flips)
}

fn layers(text: &str, path: &Path) -> Result<Vec<LayerRow>, ReportError> {
    let table = Table::read(text, path)?;
    let (name, shape) = (table.column("name")?, table.column("shape")?);
    let layer = |row: &csv::Record| {
        let (weights, k) = (table.number(row, "weights")?, table.number(row, "k")?);
        if k > weights {
            return Err(malformed(
                path,
                row.line,
                format!("k = {k} is more than {weights} weights"),
            ));
        }
        Ok(LayerRow {
            name: row.fields[name].clone(),
            shape: row.fields[shape].clone(),
            weights,
            k,
            density: table.number(row, "density")?,
            nonzeros: table.measured(row, "nonzeros")?.map(|value| value as u64),
        })
    };
    table.rows.iter().map(layer).collect()
}

fn summary(text: &str, path: &Path) -> Result<Summary, ReportError> {
    let summary: Summary = json(text, path)?;
    if summary.schema != 1 {
        let what = format!(
            "schema {} is of a newer skinny, this one reads schema 1",
            summary.schema
        );
        return Err(malformed(path, 1, what));
    }
    Ok(summary)
}

fn confusion(text: &str, path: &Path) -> Result<Confusion, ReportError> {
    let table = Table::read(text, path)?;
    let labels = table.header[1..].to_vec();
    if labels.is_empty() || table.rows.len() != labels.len() {
        let what = format!("{} rows for {} classes", table.rows.len(), labels.len());
        return Err(malformed(path, 1, what));
    }
    let count = |row: &csv::Record, field: &str| {
        field
            .trim()
            .parse()
            .map_err(|_| malformed(path, row.line, format!("'{field}' is no count")))
    };
    let row = |row: &csv::Record| {
        row.fields[1..]
            .iter()
            .map(|field| count(row, field))
            .collect()
    };
    Ok(Confusion {
        labels,
        counts: table.rows.iter().map(row).collect::<Result<_, _>>()?,
    })
}

fn mistakes(text: &str, path: &Path) -> Result<Vec<Mistake>, ReportError> {
    let written: Vec<WrittenMistake> = json(text, path)?;
    let decode = |(index, mistake): (usize, WrittenMistake)| {
        // The line on which this entry's index stands, for a file that has one entry per line.
        let line = text
            .match_indices("\"pixels\"")
            .nth(index)
            .map_or(1, |(at, _)| 1 + text[..at].matches('\n').count());
        let fail = |what: &str| malformed(path, line, format!("picture {} {what}", mistake.index));
        if !matches!(mistake.channels, 1 | 3) {
            return Err(fail(&format!(
                "has {} channels, not 1 or 3",
                mistake.channels
            )));
        }
        if ![mistake.height, mistake.width]
            .iter()
            .all(|side| (1..=LARGEST_SIDE).contains(side))
        {
            return Err(fail(&format!(
                "is {} × {} pixels",
                mistake.height, mistake.width
            )));
        }
        let pixels = STANDARD
            .decode(&mistake.pixels)
            .map_err(|error| fail(&format!("is not base64: {error}")))?;
        if pixels.len() != mistake.channels * mistake.height * mistake.width {
            return Err(fail(&format!(
                "has {} bytes, its shape says otherwise",
                pixels.len()
            )));
        }
        Ok(Mistake {
            index: mistake.index,
            label: mistake.label,
            predicted: mistake.predicted,
            confidence: mistake.confidence,
            channels: mistake.channels,
            height: mistake.height,
            width: mistake.width,
            pixels,
        })
    };
    written.into_iter().enumerate().map(decode).collect()
}

fn json<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ReportError> {
    serde_json::from_str(text).map_err(|error| malformed(path, error.line().max(1), reason(&error)))
}

/// What serde_json says without its own "at line …".
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.clone(), |(what, _)| what.to_string())
}

fn flatten(prefix: &str, value: &serde_json::Value, into: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(entries) => {
            for (key, value) in entries {
                let key = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&key, value, into);
            }
        }
        serde_json::Value::String(text) => into.push((prefix.to_string(), text.clone())),
        serde_json::Value::Null => {}
        other => into.push((prefix.to_string(), other.to_string())),
    }
}
