//! `skinny bench`: how fast this machine is.

mod layers;
mod memory;
mod models;
mod peer;
mod probe;
pub mod samples;
mod subject;
mod train;

use crate::arguments::BenchArguments;
use crate::failure::Failure;
use crate::output::Output;

/// Measures models, or training.
pub fn bench(arguments: &BenchArguments, output: Output) -> Result<(), Failure> {
    match &arguments.train {
        Some(recipe) => train::train(recipe, arguments, output),
        None => models::models(arguments, output),
    }
}
