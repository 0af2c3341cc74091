//! `skinny report`: pictures of runs.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, note};
use crate::report::write_report;

/// Writes the report of one run into its folder, or of several into `out`.
pub fn report(runs: &[PathBuf], out: Option<&Path>, output: Output) -> Result<(), Failure> {
    let out = match (out, runs) {
        (Some(out), _) => out.to_path_buf(),
        (None, [run]) => run.clone(),
        (None, _) => PathBuf::from("runs/compared"),
    };
    let files = write_report(runs, &out)?;
    for note in &files.notes {
        note!("{note}");
    }
    output.object(&json!({ "page": files.page, "plots": files.plots }))?;
    output.text(&format!(
        "{}\n{} plots beside it",
        files.page.display(),
        files.plots.len()
    ))
}
