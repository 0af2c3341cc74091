//! How long one picture takes, for a run of each group: all in turn, so that a slow moment of the machine meets all alike.

use std::time::{Duration, Instant};

use skinny::runtime::{Model, Options};
use skinny::train::RunFolder;

use super::groups::Group;
use super::runs::Run;
use super::statistics::median;

/// Time of measuring for each group.
const TIME: Duration = Duration::from_millis(400);
/// Rounds over all groups.
const ROUNDS: u32 = 8;

/// Measures each group whose runs have weights, on one thread, and says what could not be measured.
pub fn measure(runs: &[Run], groups: &mut [Group]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut models = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let mut reason = String::new();
        let found = group.runs.iter().find_map(|&run| {
            load(&runs[run])
                .inspect_err(|error| reason.clone_from(error))
                .ok()
        });
        match found {
            Some(model) => models.push((index, model, Vec::new())),
            None => notes.push(format!("{}: not timed: {reason}", group.values.join(", "))),
        }
    }
    for _ in 0..ROUNDS {
        for (_, model, samples) in &mut models {
            sample(model, samples);
        }
    }
    for (index, _, mut samples) in models {
        samples.sort_by(f64::total_cmp);
        groups[index].milliseconds = median(&samples).map(|median| 1e3 * median);
    }
    notes
}

fn load(run: &Run) -> Result<Model, String> {
    let folder = RunFolder::open(&run.folder).map_err(|error| error.to_string())?;
    let finished = folder.unpacked("last").map_err(|error| error.to_string())?;
    let (network, tensors) = (&finished.network, &finished.tensors);
    Model::new(network, tensors, finished.preprocess, &Options::default())
        .map_err(|error| error.to_string())
}

/// Seconds of single pictures, one after the other, after one that warms up.
fn sample(model: &Model, samples: &mut Vec<f64>) {
    let input: Vec<f32> = (0..model.input_len())
        .map(|index| ((index * 37) % 101) as f32 / 50.0 - 1.0)
        .collect();
    let mut output = vec![0.0; model.output_len()];
    let mut runner = model.runner();
    let mut run = || {
        // The input is whole pictures by construction.
        let _ = runner.run(&input, &mut output);
    };
    run();
    let begun = Instant::now();
    while begun.elapsed() < TIME / ROUNDS {
        let start = Instant::now();
        run();
        samples.push(start.elapsed().as_secs_f64());
    }
}
