//! `skinny compare`: groups of runs against a baseline.

use serde_json::json;

use crate::arguments::{CompareArguments, ErrorChoice, TableChoice};
use crate::compare::groups::{Baseline, Metric, group};
use crate::compare::latency;
use crate::compare::pictures::pictures;
use crate::compare::runs::Found;
use crate::compare::table::{Comparison, missing_lines};
use crate::failure::Failure;
use crate::output::{Output, note};
use crate::report::{write_drawings, write_whole};

/// Prints the comparison, and writes it with its pictures into a folder if one is given.
pub fn compare(arguments: &CompareArguments, output: Output) -> Result<(), Failure> {
    let Found { runs, missing } = Found::read(&arguments.runs)?;
    if runs.is_empty() || arguments.format == TableChoice::Csv {
        for line in missing_lines(&missing) {
            note!("{line}");
        }
    }
    if runs.is_empty() {
        return Err(Failure::data(
            "none of these runs is finished, so there is nothing to compare; they are listed above",
        ));
    }
    let baseline = Baseline::parse(&arguments.baseline)
        .map_err(|reason| Failure::usage(format!("--baseline {}: {reason}", arguments.baseline)))?;
    let metric = match arguments.error {
        ErrorChoice::Test => Metric::Test,
        ErrorChoice::Validation => Metric::Validation,
    };
    let mut grouped = group(&runs, &arguments.by, &baseline, metric)?;
    if grouped.groups.is_empty() {
        return Err(Failure::data(
            "none of these runs held pictures out; leave --error validation out, or train with data.validation=N",
        ));
    }
    if arguments.latency {
        let notes = latency::measure(&runs, &mut grouped.groups);
        grouped.notes.extend(notes);
    }
    if arguments.format == TableChoice::Csv {
        for line in &grouped.notes {
            note!("{line}");
        }
    }
    let comparison = Comparison {
        keys: arguments.by.clone(),
        baseline,
        metric,
        runs,
        missing,
        groups: grouped.groups,
        notes: grouped.notes,
    };
    output.object(&comparison.json())?;
    output.text(
        match arguments.format {
            TableChoice::Markdown => comparison.markdown(),
            TableChoice::Csv => comparison.csv(),
        }
        .trim_end(),
    )?;
    let Some(out) = &arguments.out else {
        return Ok(());
    };
    let plots = write_drawings(&pictures(&comparison), out)?;
    let json =
        serde_json::to_string_pretty(&comparison.json()).expect("a comparison is plain data");
    for (name, text) in [
        ("compare.md", comparison.markdown()),
        ("compare.csv", comparison.csv()),
        ("compare.json", json + "\n"),
    ] {
        write_whole(&out.join(name), text.as_bytes())?;
    }
    note!(
        "compare.md, .csv and .json and {} plots in {}",
        plots.len(),
        out.display()
    );
    output.object(&json!({ "event": "written", "out": out, "plots": plots }))
}
