//! A comparison as Markdown, CSV and JSON.

use std::path::Path;

use serde_json::{Value, json};
use skinny::train::csv_field;

use super::groups::{Baseline, Group, Metric, NONE};
use super::runs::{Missing, Run, TO_DO};
use super::statistics::Sample;
use crate::output::{bytes, thousands};

/// A whole comparison.
#[derive(Debug)]
pub struct Comparison {
    /// Keys of the groups.
    pub keys: Vec<String>,
    /// What the groups are set against.
    pub baseline: Baseline,
    /// What is compared.
    pub metric: Metric,
    /// Finished runs.
    pub runs: Vec<Run>,
    /// Runs that say nothing.
    pub missing: Vec<Missing>,
    /// Groups of runs, the baseline first.
    pub groups: Vec<Group>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

impl Comparison {
    /// A table with columns padded, so that it reads well as text too, and below it what the numbers mean.
    pub fn markdown(&self) -> String {
        let decimals = self.decimals();
        let timed = self.groups.iter().any(|group| group.milliseconds.is_some());
        let compared = self.groups.iter().any(|group| group.difference.is_some());
        let against = format!("against {}", self.baseline.name());
        let mut header: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        header.extend(["seeds", self.metric.name(), "95 % interval"]);
        if compared {
            header.extend([against.as_str(), "95 % interval", ""]);
        }
        header.extend(["non-zeros", "file"]);
        if timed {
            header.push("ms");
        }
        let mut rows = vec![header.iter().map(|cell| cell.to_string()).collect()];
        for group in &self.groups {
            let mut row = group.values.clone();
            row.push(group.seeds.to_string());
            row.push(match group.error.sd {
                Some(sd) => format!(
                    "{:.decimals$} ± {:.decimals$} %",
                    100.0 * group.error.mean,
                    100.0 * sd
                ),
                None => format!("{:.decimals$} %", 100.0 * group.error.mean),
            });
            row.push(interval(&group.error, decimals, false));
            if compared {
                row.extend(match &group.difference {
                    Some(difference) => [
                        signed(difference.sample.mean, decimals),
                        interval(&difference.sample, decimals, true),
                        difference.verdict.name().to_string(),
                    ],
                    None => [NONE.into(), NONE.into(), String::new()],
                });
            }
            row.push(thousands(group.nonzeros.round() as u64));
            row.push(bytes(group.bytes.round() as u64));
            if timed {
                row.push(group.milliseconds.map_or(NONE.into(), milliseconds));
            }
            rows.push(row);
        }
        let mut text = padded(&rows, self.keys.len());
        text.push_str(&format!(
            "\nMean ± standard deviation over the seeds; differences in points, {}.\n",
            match compared {
                true => format!("paired by seed with {} (Student's t)", self.baseline.name()),
                false => "none here".to_string(),
            }
        ));
        for note in &self.notes {
            text.push_str(&format!("\n- {note}"));
        }
        for line in missing_lines(&self.missing) {
            text.push_str(&format!("\n- {line}"));
        }
        if !self.notes.is_empty() || !self.missing.is_empty() {
            text.push('\n');
        }
        text
    }

    /// A row for each group; errors are fractions, the mean of the seeds.
    pub fn csv(&self) -> String {
        let mut rows = vec![self.keys.clone()];
        rows[0].extend(COLUMNS.map(String::from));
        for group in &self.groups {
            let mut row = group.values.clone();
            let interval = |sample: Option<&Sample>| -> [Option<f64>; 2] {
                let interval = sample.and_then(|sample| sample.interval);
                [interval.map(|(low, _)| low), interval.map(|(_, high)| high)]
            };
            let difference = group.difference.as_ref();
            let sample = difference.map(|difference| &difference.sample);
            let [low, high] = interval(Some(&group.error));
            let [least, most] = interval(sample);
            row.push(group.seeds.to_string());
            row.extend([Some(group.error.mean), group.error.sd, low, high].map(number));
            row.push(sample.map_or(String::new(), |sample| sample.count.to_string()));
            row.extend(
                [
                    sample.map(|sample| sample.mean),
                    least,
                    most,
                    difference.and_then(|difference| difference.p),
                ]
                .map(number),
            );
            row.push(difference.map_or(String::new(), |d| d.verdict.name().into()));
            row.extend(
                [
                    Some(group.density),
                    Some(group.nonzeros),
                    Some(group.bytes),
                    group.milliseconds,
                    Some(group.seconds),
                ]
                .map(number),
            );
            rows.push(row);
        }
        let line = |row: &Vec<String>| -> String {
            let fields: Vec<String> = row.iter().map(|field| csv_field(field)).collect();
            fields.join(",") + "\n"
        };
        rows.iter().map(line).collect()
    }

    /// Everything, for programs; errors are fractions.
    pub fn json(&self) -> Value {
        let sample = |sample: &Sample| json!({ "count": sample.count, "mean": sample.mean, "sd": sample.sd, "interval": sample.interval });
        let folder = |index: &usize| -> &Path { &self.runs[*index].folder };
        let group = |group: &Group| {
            let keys = self.keys.iter().zip(&group.values);
            let keys: serde_json::Map<String, Value> = keys
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
            json!({
                "keys": keys,
                "runs": group.runs.iter().map(folder).collect::<Vec<_>>(),
                "seeds": group.runs.iter().map(|index| self.runs[*index].summary.seed).collect::<Vec<_>>(),
                "error": sample(&group.error),
                "is_baseline": group.is_baseline,
                "difference": group.difference.as_ref().map(|difference| {
                    let mut value = sample(&difference.sample);
                    value["p"] = json!(difference.p);
                    value["verdict"] = json!(difference.verdict.name());
                    value
                }),
                "density": group.density,
                "nonzeros": group.nonzeros,
                "packed_bytes": group.bytes,
                "milliseconds": group.milliseconds,
                "seconds": group.seconds,
            })
        };
        let missing = |missing: &Missing| json!({ "run": missing.folder, "state": missing.state, "reason": missing.reason });
        json!({
            "event": "comparison",
            "by": self.keys,
            "baseline": self.baseline.name(),
            "metric": self.metric.name(),
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "missing": self.missing.iter().map(missing).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// Decimals of a percentage: three where a point is a large part of the error.
    fn decimals(&self) -> usize {
        let least = (self.groups.iter().map(|group| group.error.mean)).fold(1.0, f64::min);
        if least < 0.02 { 3 } else { 2 }
    }
}

const COLUMNS: [&str; 16] = [
    "seeds",
    "error",
    "error_sd",
    "error_low",
    "error_high",
    "pairs",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "verdict",
    "kept_density",
    "nonzeros",
    "packed_bytes",
    "milliseconds",
    "seconds",
];

/// A line for each run that is not among the groups, with the reason; one for all that have not begun.
pub fn missing_lines(missing: &[Missing]) -> Vec<String> {
    /// Names that are told of those that have not begun.
    const TOLD: usize = 6;
    let (waiting, others): (Vec<&Missing>, Vec<&Missing>) =
        missing.iter().partition(|missing| missing.state == TO_DO);
    let line = |missing: &&Missing| {
        let reason = match missing.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        format!(
            "not counted: {}: {}{reason}",
            missing.folder.display(),
            missing.state
        )
    };
    let mut lines: Vec<String> = others.iter().map(line).collect();
    if !waiting.is_empty() {
        let names = waiting.iter().take(TOLD);
        let names: Vec<String> = names.map(|run| run.folder.display().to_string()).collect();
        let more = match waiting.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!(
            "not counted: {} still to do: {}{more}",
            waiting.len(),
            names.join(", ")
        ));
    }
    lines
}

fn interval(sample: &Sample, decimals: usize, with_sign: bool) -> String {
    let text = |value| match with_sign {
        true => signed(value, decimals),
        // An error is a share, whatever the interval of a mean may say.
        false => format!("{:.decimals$}", 100.0 * f64::clamp(value, 0.0, 1.0)),
    };
    match sample.interval {
        Some((low, high)) => format!("{} to {}", text(low), text(high)),
        None => NONE.into(),
    }
}

/// A difference in points.
fn signed(value: f64, decimals: usize) -> String {
    format!("{:+.decimals$}", 100.0 * value).replace('-', "−")
}

/// Milliseconds with three digits.
pub fn milliseconds(value: f64) -> String {
    match value {
        v if v < 0.1 => format!("{v:.4}"),
        v if v < 1.0 => format!("{v:.3}"),
        v if v < 10.0 => format!("{v:.2}"),
        v => format!("{v:.1}"),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// A Markdown table whose columns are aligned; the first `left` of them to the left.
pub fn padded(rows: &[Vec<String>], left: usize) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|text| cell(text).chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &[String]| {
        let mut line = String::from("|");
        for (column, width) in widths.iter().enumerate() {
            let text = cell(row.get(column).map_or("", String::as_str));
            line.push_str(&match column < left {
                true => format!(" {text:<width$} |"),
                false => format!(" {text:>width$} |"),
            });
        }
        line + "\n"
    };
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push_str(&line(row));
        if index == 0 {
            text.push('|');
            for (column, width) in widths.iter().enumerate() {
                text.push_str(&match column < left {
                    true => format!("{}|", "-".repeat(width + 2)),
                    false => format!("{}:|", "-".repeat(width + 1)),
                });
            }
            text.push('\n');
        }
    }
    text
}
