//! `skinny env`: what the program sees of this machine.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::Output;

/// As many threads as the machine has cores for this process.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The threads to compute with, as given by `--threads`.
pub fn threads(given: Option<usize>) -> Result<usize, Failure> {
    match given {
        None => Ok(default_threads()),
        Some(count @ 1..=MOST_THREADS) => Ok(count),
        Some(count) => Err(Failure::usage(format!(
            "--threads {count} is not between 1 and {MOST_THREADS}; leave it out for all cores"
        ))),
    }
}

const MOST_THREADS: usize = 1024;

/// What `env.json` of a run says.
pub fn environment(threads: usize) -> Value {
    json!({
        "skinny": env!("CARGO_PKG_VERSION"),
        "date": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "threads": threads,
        "cores": default_threads(),
        "instructions": skinny::instruction_set(),
        "processor": processor(),
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
    })
}

/// The processor's name, where the system tells it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Prints the environment.
pub fn env(output: Output) -> Result<(), Failure> {
    let mut value = environment(default_threads());
    value["data"] = json!(skinny::data::DataRoots::new(None).places());
    output.object(&value)?;
    let rows: Vec<Vec<String>> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "command")
        .map(|(key, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_string);
            vec![format!("{key}:"), text]
        })
        .collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("{:<14}{}", row[0], row[1]))
        .collect();
    output.text(&lines.join("\n"))
}
