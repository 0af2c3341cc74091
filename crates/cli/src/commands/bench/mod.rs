//! `skinny bench`: how fast this machine is.

mod memory;
mod train;

use crate::arguments::BenchArguments;
use crate::failure::Failure;
use crate::output::Output;

/// Runs the benchmark that the arguments ask for.
pub fn bench(arguments: &BenchArguments, output: Output) -> Result<(), Failure> {
    match &arguments.train {
        Some(recipe) => train::train(recipe, arguments, output),
        None => Err(Failure::usage(
            "nothing to measure; name a recipe: skinny bench --train mnist-lenet5-iht-10x",
        )),
    }
}
