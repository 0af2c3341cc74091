//! `skinny plan`: what a recipe will do, before it does it.

use serde_json::json;
use skinny::data::{DataError, DataRoots, catalog};
use skinny::sparsity::{Budget, Edge, Phase, resolve};
use skinny::train::{Material, Recipe, RecipeError, Resolved, TrainError, expected_bytes};

use crate::arguments::RecipeArguments;
use crate::failure::Failure;
use crate::output::{Output, bytes, table, thousands};

/// Prints phases and layers.
pub fn plan(arguments: &RecipeArguments, output: Output) -> Result<(), Failure> {
    let recipe = Recipe::load(&arguments.recipe, &arguments.settings)?;
    let images = training_images(&recipe, &DataRoots::new(arguments.data.as_deref()))?;
    let resolved = Resolved::new(recipe, images)?;
    phases(&resolved, images, output)?;
    layers(&resolved, output)
}

/// Pictures to learn from: counted where the data is here, else as the catalogue has it.
///
/// # Errors
/// A recipe that does not fit its data, or one whose pictures are not here to be counted ([`DataError::Missing`]).
pub fn training_images(recipe: &Recipe, roots: &DataRoots) -> Result<usize, TrainError> {
    let network = recipe.network()?;
    let graph = network.graph().map_err(RecipeError::from)?;
    let counted = Material::count(recipe, &graph, roots);
    let Err(TrainError::Data(DataError::Missing { .. })) = counted else {
        return counted;
    };
    let data = &recipe.data;
    let known = catalog::find(&data.name).ok().and_then(|set| set.train);
    let Some(all) = known else { return counted };
    if data.validation >= all {
        return Err(DataError::hold_out(data.validation, all, &data.name).into());
    }
    let rest = all - data.validation;
    Ok(data.train.map_or(rest, |most| most.min(rest)))
}

fn phases(resolved: &Resolved, images: usize, output: Output) -> Result<(), Failure> {
    let recipe = &resolved.recipe;
    output.text(&format!(
        "{}: {} on {}, {} training pictures, {} epochs of {} steps\n",
        recipe.name,
        resolved.network.name,
        recipe.data.name,
        thousands(images as u64),
        recipe.train.epochs,
        resolved.steps_per_epoch
    ))?;
    let epoch = |step: usize| format!("{:.1}", step as f64 / resolved.steps_per_epoch as f64);
    let mut rows = vec![
        ["phase", "steps", "epochs", "density", "learning rate"]
            .map(String::from)
            .to_vec(),
    ];
    for segment in resolved.plan.segments() {
        let density = segment.phase.density();
        let rates = [resolved.rate(segment.start), resolved.rate(segment.end - 1)];
        output.object(&json!({
            "phase": segment.phase.name(), "start": segment.start, "end": segment.end, "density": density,
        }))?;
        rows.push(vec![
            segment.phase.name().into(),
            format!("{}..{}", segment.start, segment.end),
            format!("{}..{}", epoch(segment.start), epoch(segment.end)),
            format!("{density:.3}"),
            format!("{:.2e}..{:.2e}", rates[0], rates[1]),
        ]);
    }
    let flips = resolved
        .plan
        .edges()
        .iter()
        .filter(|(_, edge)| !matches!(edge, Edge::Finish))
        .count();
    output.text(&format!("{}\n{flips} flips\n", table(&rows)))
}

fn layers(resolved: &Resolved, output: Output) -> Result<(), Failure> {
    let sparsity = &resolved.recipe.sparsity;
    let last = resolved
        .plan
        .segments()
        .last()
        .map_or(Phase::Dense, |segment| segment.phase);
    let parameters = resolved.graph.parameters.iter();
    let dense: u64 = parameters.clone().map(|p| 4 * p.len() as u64).sum();
    let global = sparsity.budget() == Budget::Global && matches!(last, Phase::Sparse { .. });
    let kept = match last {
        Phase::Dense => None,
        Phase::Sparse { .. } if global => None,
        Phase::Sparse { density } => Some(
            resolve(sparsity, &resolved.layers, density, None)
                .map_err(|error| Failure::usage(format!("[sparsity] {error}")))?,
        ),
    };
    let mut rows = vec![
        ["layer", "shape", "weights", "k", "density"]
            .map(String::from)
            .to_vec(),
    ];
    let (mut total, mut total_kept, mut ranked) = (0, 0, 0);
    for (index, layer) in resolved.layers.iter().enumerate() {
        let shape: Vec<String> = layer.shape.iter().map(usize::to_string).collect();
        let weights = layer.weights();
        let k = if global && !sparsity.keeps_dense(&layer.name) {
            ranked += weights;
            None
        } else {
            Some(kept.as_ref().map_or(weights, |kept| kept[index].k))
        };
        total += weights;
        total_kept += k.unwrap_or(0);
        output.object(
            &json!({ "layer": layer.name, "shape": layer.shape, "weights": weights, "k": k }),
        )?;
        rows.push(vec![
            layer.name.clone(),
            shape.join("x"),
            thousands(weights as u64),
            k.map_or("by rank".into(), |k| thousands(k as u64)),
            k.map_or("–".into(), |k| {
                format!("{:.4}", k as f64 / weights as f64)
            }),
        ]);
    }
    total_kept += (last.density() * ranked as f64).round() as usize;
    rows.push(vec![
        "all".into(),
        String::new(),
        thousands(total as u64),
        thousands(total_kept as u64),
        format!("{:.4}", total_kept as f64 / total.max(1) as f64),
    ]);
    let packed: u64 = (parameters.clone().enumerate())
        .map(|(index, parameter)| {
            let layer = resolved
                .thresholded
                .iter()
                .position(|&other| other == index);
            let k = match (layer, &kept) {
                (Some(layer), Some(kept)) => Some(kept[layer].k),
                (Some(_), None) if global && !sparsity.keeps_dense(&parameter.name) => {
                    Some((last.density() * parameter.len() as f64).round() as usize)
                }
                _ => None,
            };
            expected_bytes(parameter.len(), k)
        })
        .sum();
    output.object(
        &json!({ "weights": total, "k": total_kept, "dense_bytes": dense, "packed_bytes": packed }),
    )?;
    output.text(&table(&rows))?;
    output.text(&format!(
        "\nfile: {} dense as f32, about {} packed (÷ {:.1})",
        bytes(dense),
        bytes(packed),
        dense as f64 / packed.max(1) as f64
    ))
}
