//! `skinny eval`: the test error of saved weights.

use serde_json::json;
use skinny::data::DataRoots;
use skinny::train::{Material, Predictions, Recipe, RunFolder, Trained};

use crate::arguments::EvalArguments;
use crate::commands::env::threads;
use crate::failure::Failure;
use crate::output::{Output, percent, thousands};

/// Measures error and loss on the test set.
pub fn eval(arguments: &EvalArguments, output: Output) -> Result<(), Failure> {
    let threads = threads(arguments.threads)?;
    let mut trained = match &arguments.recipe {
        Some(recipe) => Trained::load(Recipe::load(recipe, &[])?, &arguments.run, threads)?,
        None => Trained::open(
            &RunFolder::open(&arguments.run)?,
            arguments.weights.name(),
            threads,
        )?,
    };
    let recipe = trained.resolved.recipe.clone();
    let roots = DataRoots::new(arguments.data.as_deref());
    let material = Material::load(&recipe, &trained.resolved.graph, &roots)?;
    let batch = recipe.data.batch;
    let predictions = Predictions::of(
        &mut trained.engine,
        &material.test,
        &material.preprocess,
        batch,
    )?;
    let outcome = predictions.outcome;
    let wrong = outcome.images - outcome.correct;
    output.object(&json!({
        "error": outcome.error(), "loss": outcome.mean_loss(), "images": outcome.images, "wrong": wrong,
        "nonzeros": trained.nonzeros(),
    }))?;
    output.text(&format!(
        "error {} ({wrong} of {} wrong), loss {:.4}, {} non-zeros",
        percent(outcome.error()),
        thousands(outcome.images as u64),
        outcome.mean_loss(),
        thousands(trained.nonzeros() as u64),
    ))
}
