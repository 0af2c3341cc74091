//! `skinny eval`: the test error of saved weights.

use serde_json::json;
use skinny::data::DataRoots;
use skinny::train::{Predictions, nonzeros};

use crate::arguments::EvalArguments;
use crate::commands::classifier::Classifier;
use crate::commands::env::threads;
use crate::commands::source;
use crate::failure::Failure;
use crate::output::{Output, percent, thousands};

/// Measures error and loss on the test set.
pub fn eval(arguments: &EvalArguments, output: Output) -> Result<(), Failure> {
    let threads = threads(arguments.threads)?;
    let mut source = source::open(
        &arguments.run,
        arguments.weights,
        arguments.recipe.as_deref(),
    )?;
    let recipe = source.recipe()?.clone();
    let roots = DataRoots::new(arguments.data.as_deref());
    let graph = source.model.network.graph()?;
    let material = source.material(&recipe, &roots)?;
    let batch = recipe.data.batch;
    let nonzeros = nonzeros(&graph, &source.model.tensors);
    let mut classifier = match source::is_skinny(&arguments.run) {
        true => Classifier::of_file(&source.model, threads, arguments.int8)?,
        false => Classifier::of_run(source.model, batch, threads, arguments.int8)?,
    };
    let preprocess = classifier.preprocess().clone();
    let predictions = Predictions::by(
        &mut |images, logits| classifier.logits(images, logits),
        graph.output[0],
        &material.test,
        &preprocess,
        batch,
    )?;
    let outcome = predictions.outcome;
    let wrong = outcome.images - outcome.correct;
    output.object(&json!({
        "error": outcome.error(), "loss": outcome.mean_loss(), "images": outcome.images, "wrong": wrong,
        "nonzeros": nonzeros,
    }))?;
    output.text(&format!(
        "error {} ({wrong} of {} wrong), loss {:.4}, {} non-zeros",
        percent(outcome.error()),
        thousands(outcome.images as u64),
        outcome.mean_loss(),
        thousands(nonzeros as u64),
    ))
}
