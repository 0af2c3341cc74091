//! Load time and peak memory of a model, in a fresh process that does nothing else.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use skinny::runtime::{Model, Options};

use super::memory::peak_bytes;
use crate::failure::Failure;
use crate::output::Output;

/// Loads a model and runs it once: what the fresh process does.
pub fn answer(file: &str, batch: usize, options: &Options, output: Output) -> Result<(), Failure> {
    let start = Instant::now();
    let model = Model::load_with(file, options)?;
    let load = start.elapsed();
    model.run(&vec![0.1; batch * model.input_len()])?;
    output.object(&json!({ "load_ms": 1e3 * load.as_secs_f64(), "peak_rss_bytes": peak_bytes() }))
}

/// Asks a fresh process: `load_ms` and `peak_rss_bytes`.
pub fn ask(file: &Path, batch: usize, options: &Options) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::data(format!("cannot measure loading: {why}"));
    let program = std::env::current_exe().map_err(|error| wrong(error.to_string()))?;
    let mut command = Command::new(program);
    command.args(["bench", "--probe", "--json", "--batch", &batch.to_string()]);
    command.args(["--threads", &options.threads.to_string()]);
    if options.tune {
        command.arg("--tune");
    }
    if options.int8 {
        command.arg("--int8");
    }
    let told = command.arg(file).output();
    let told = told.map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8_lossy(&told.stdout);
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .map_err(|_| wrong(String::from_utf8_lossy(&told.stderr).trim().to_owned()))
}
