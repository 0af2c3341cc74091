//! Classifies one raw picture: its bytes row by row, the channels of a pixel side by side, of the size that the network reads.
//!
//! `cargo run --release -p skinny-runtime --example classify -- model.skinny picture.raw`

use std::error::Error;
use std::process::ExitCode;

use skinny_runtime::{Model, Picture};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, picture] = &arguments[..] else {
        eprintln!("usage: classify MODEL.skinny PICTURE.raw");
        return ExitCode::from(2);
    };
    match classify(model, picture) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("classify: {error}");
            ExitCode::from(3)
        }
    }
}

fn classify(model: &str, picture: &str) -> Result<String, Box<dyn Error>> {
    let model = Model::load(model)?;
    let [channels, height, width] = model.input_shape();
    let picture = Picture {
        width,
        height,
        channels,
        pixels: std::fs::read(picture)?,
    };
    let image = model.preprocess().apply(&picture, model.input_shape())?;
    let scores = model.run(&image)?;
    let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let best = best.ok_or("the network has no outputs")?;
    let label = model.preprocess().labels.get(best);
    let label = label.map_or_else(|| best.to_string(), Clone::clone);
    Ok(format!("{label}: {}", scores[best]))
}
