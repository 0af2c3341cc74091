//! Reads the text of each file of a run folder; what is wrong is reported with its line.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::csv;
use super::error::ReportError;
use super::run::{Confusion, Epoch, Flip, LayerRow, Mistake, Summary};

/// The largest side of a picture in `mistakes.json`, in pixels.
const LARGEST_SIDE: usize = 4096;

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

fn malformed(path: &Path, line: usize, what: impl Into<String>) -> ReportError {
    // What a file says may be long and hold line breaks; a message is one short line.
    let what = what.into();
    let plain = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    let what = what.chars().take(300).map(plain).collect();
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

    /// A count that must be there.
    fn count(&self, row: &csv::Record, name: &str) -> Result<u64, ReportError> {
        let count = self.number(row, name)?;
        countable([count]).map_err(|what| malformed(self.path, row.line, what))?;
        Ok(count)
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
pub fn ends_with_a_full_row(line: &str) -> bool {
    line.split(',').count() >= 13 && !line.ends_with(',')
}

pub fn epochs(text: &str, path: &Path) -> Result<Vec<Epoch>, ReportError> {
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
            epoch: table.count(row, "epoch")?,
            step: table.count(row, "step")?,
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

pub fn flips(text: &str, path: &Path) -> Result<Vec<Flip>, ReportError> {
    let mut flips = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let mut flip: Flip = serde_json::from_str(line).map_err(|error| {
            malformed(
                path,
                index + 1,
                format!("{} (column {})", reason(&error), error.column()),
            )
        })?;
        for layer in &mut flip.layers {
            layer.name = short(&layer.name);
            let bins = layer
                .histogram
                .iter()
                .flat_map(|histogram| [&histogram.before, &histogram.after]);
            let own = [
                layer.weights,
                layer.k,
                layer.kept,
                layer.dropped,
                layer.reactivated,
            ];
            countable(bins.flatten().copied().chain(own))
                .map_err(|what| malformed(path, index + 1, what))?;
            // Of a layer whose weights are all zero there is nothing to draw.
            layer
                .histogram
                .take_if(|histogram| histogram.low == histogram.high);
            if let Some(histogram) = &layer.histogram
                && (histogram.before.len() != histogram.after.len()
                    || histogram.before.is_empty()
                    || histogram.low > histogram.high
                    || !(histogram.high - histogram.low).is_finite())
            {
                return Err(malformed(
                    path,
                    index + 1,
                    format!("the histogram of layer {} is none", layer.name),
                ));
            }
        }
        countable([flip.step]).map_err(|what| malformed(path, index + 1, what))?;
        flips.push(flip);
    }
    Ok(flips)
}

/// Refuses counts that no network reaches, so that sums of counts never overflow.
fn countable(counts: impl IntoIterator<Item = u64>) -> Result<(), String> {
    let largest = 1u64 << 48;
    match counts.into_iter().find(|count| *count > largest) {
        Some(count) => Err(format!("the count {count} is too large")),
        None => Ok(()),
    }
}

/// The name of a layer from that of its weights: only weights are ever thresholded.
fn short(name: &str) -> String {
    name.strip_suffix(".weight").unwrap_or(name).to_string()
}

pub fn layers(text: &str, path: &Path) -> Result<Vec<LayerRow>, ReportError> {
    let table = Table::read(text, path)?;
    let (name, shape) = (table.column("name")?, table.column("shape")?);
    let layer = |row: &csv::Record| {
        let (weights, k) = (table.count(row, "weights")?, table.count(row, "k")?);
        if k > weights {
            return Err(malformed(
                path,
                row.line,
                format!("k = {k} is more than {weights} weights"),
            ));
        }
        Ok(LayerRow {
            name: short(&row.fields[name]),
            shape: row.fields[shape].clone(),
            weights,
            k,
            density: table.number(row, "density")?,
            nonzeros: table.measured(row, "nonzeros")?.map(|value| value as u64),
        })
    };
    table.rows.iter().map(layer).collect()
}

pub fn summary(text: &str, path: &Path) -> Result<Summary, ReportError> {
    let summary: Summary = json(text, path)?;
    let counts = [
        summary.weights,
        summary.parameters,
        summary.nonzeros,
        summary.dense_bytes,
        summary.packed_bytes,
    ];
    countable(counts.into_iter().flatten()).map_err(|what| malformed(path, 1, what))?;
    if summary.schema != 1 {
        let what = format!(
            "schema {} is of a newer skinny, this one reads schema 1",
            summary.schema
        );
        return Err(malformed(path, 1, what));
    }
    Ok(summary)
}

pub fn confusion(text: &str, path: &Path) -> Result<Confusion, ReportError> {
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
            .ok()
            .filter(|count| countable([*count]).is_ok())
            .ok_or_else(|| malformed(path, row.line, format!("'{field}' is no count")))
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

pub fn mistakes(text: &str, path: &Path) -> Result<Vec<Mistake>, ReportError> {
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

pub fn json<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ReportError> {
    serde_json::from_str(text).map_err(|error| malformed(path, error.line().max(1), reason(&error)))
}

/// What serde_json says without its own "at line …".
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.clone(), |(what, _)| what.to_string())
}

pub fn flatten(prefix: &str, value: &serde_json::Value, into: &mut Vec<(String, String)>) {
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
