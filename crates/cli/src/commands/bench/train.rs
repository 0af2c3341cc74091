//! `skinny bench --train`: the time of training steps, whole and layer by layer.

use std::time::{Duration, Instant};

use serde_json::json;
use skinny::network::Network;
use skinny::train::{LayerTime, Recipe, RecipeError, Resolved, StepBenchmark};

use super::memory::peak_bytes;
use crate::arguments::BenchArguments;
use crate::commands::env;
use crate::failure::Failure;
use crate::output::{Output, bytes, table, thousands};

/// Steps that are made before any is measured: memory is touched, the processor awake.
const WARM_UP: usize = 2;
/// A median wants at least so many steps.
const LEAST_STEPS: usize = 3;

/// Measures and prints.
pub fn train(name: &str, arguments: &BenchArguments, output: Output) -> Result<(), Failure> {
    let threads = env::threads(single("--threads", &arguments.threads)?)?;
    let density = single("--density", &arguments.density)?;
    let recipe = recipe(name, arguments)?;
    let batch = recipe.data.batch;
    // As many pictures as any data set has: the plan is not used, but has to be a valid one.
    let resolved = Resolved::new(recipe, 1000 * batch)?;
    let peak = skinny::fma_gflops(threads);
    let mut benchmark = StepBenchmark::new(&resolved, threads, density)?;
    for _ in 0..WARM_UP {
        benchmark.step();
    }
    benchmark.time_layers();
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs_f64(arguments.seconds.unwrap_or(10.0));
    while times.len() < LEAST_STEPS || Instant::now() < end {
        times.push(1e3 * benchmark.step().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (least, median) = (times[0], times[times.len() / 2]);
    let gflops = benchmark.operations() / median * 1e-6;
    let [kept, weights] = benchmark.kept();
    let memory = peak_bytes();
    let layers = benchmark.layers();
    let network = &resolved.network.name;
    let mut object = json!({
        "train": name, "network": network, "batch": batch, "threads": threads, "density": density,
        "kept_weights": kept, "weights": weights, "steps": times.len(),
        "step_ms_median": median, "step_ms_min": least,
        "images_per_s": 1e3 * batch as f64 / median,
        "gflops": gflops, "fma_peak_gflops": peak, "peak_rss_bytes": memory,
        "instructions": skinny::instruction_set(),
    });
    if arguments.layers {
        object["layers"] = layers
            .iter()
            .map(|layer| of_layer(layer, threads))
            .collect();
    }
    output.object(&object)?;
    let phase = match density {
        Some(_) => format!(
            "sparse phase, {} of {} weights",
            thousands(kept as u64),
            thousands(weights as u64)
        ),
        None => format!("dense phase, {} weights", thousands(weights as u64)),
    };
    let mut text = format!(
        "{network}, batch {batch}, {threads} {}, {phase}\n\n\
         step              {median:.2} ms (least {least:.2}, {} steps)\n\
         images            {:.0} per second\n\
         speed             {gflops:.1} GFLOP/s{}, {:.0} % of the {peak:.0} that registers reach",
        if threads == 1 { "thread" } else { "threads" },
        times.len(),
        1e3 * batch as f64 / median,
        if density.is_some() {
            " as if dense"
        } else {
            ""
        },
        100.0 * gflops / peak,
    );
    if let Some(memory) = memory {
        text.push_str(&format!("\npeak memory       {}", bytes(memory)));
    }
    if arguments.layers {
        text.push_str(&format!("\n\n{}", layer_table(&layers, threads)));
    }
    output.text(&text)
}

/// The one value of an option that takes several for models.
fn single<T: Copy>(option: &str, values: &[T]) -> Result<Option<T>, Failure> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(*value)),
        _ => Err(Failure::usage(format!(
            "with --train, {option} takes one value"
        ))),
    }
}

/// The recipe of this name, or plain settings for a network.
fn recipe(name: &str, arguments: &BenchArguments) -> Result<Recipe, Failure> {
    let mut settings = arguments.settings.clone();
    if let Some(batch) = single("--batch", &arguments.batch)? {
        settings.push(format!("data.batch={batch}"));
    }
    match Recipe::load(name, &settings) {
        Ok(recipe) => Ok(recipe),
        Err(error @ (RecipeError::UnknownRecipe { .. } | RecipeError::InFile { .. })) => {
            let Ok(network) = Network::load(name) else {
                return Err(error.into());
            };
            let key = if network.name == name { "name" } else { "file" };
            let path = name.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!(
                "name = \"bench\"\n\
                 data = {{ name = \"random\", batch = 128 }}\n\
                 network = {{ {key} = \"{path}\" }}\n\
                 train = {{ epochs = 1, optimizer = \"sgd\", lr = 0.01, momentum = 0.9, nesterov = true, weight_decay = 5e-4 }}\n\
                 sparsity = {{ method = \"dense\" }}\n"
            );
            Ok(Recipe::from_toml(&text, &settings)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// A layer's share of a step: lanes work side by side, so the threads' times are shared out.
fn of_layer(layer: &LayerTime, threads: usize) -> serde_json::Value {
    let (forward, backward) = milliseconds(layer, threads);
    json!({
        "name": layer.name, "forward_ms": forward, "backward_ms": backward,
        "gflops": layer.operations / (forward + backward) * 1e-6, "sparse": layer.sparse,
    })
}

fn milliseconds(layer: &LayerTime, threads: usize) -> (f64, f64) {
    let share = 1e3 / threads as f64;
    (share * layer.forward, share * layer.backward)
}

fn layer_table(layers: &[LayerTime], threads: usize) -> String {
    let mut rows = vec![
        ["layer", "forward ms", "backward ms", "GFLOP/s", "weights"]
            .map(String::from)
            .to_vec(),
    ];
    for layer in layers {
        let (forward, backward) = milliseconds(layer, threads);
        if forward + backward == 0.0 {
            continue;
        }
        let has_products = layer.operations > 0.0;
        rows.push(vec![
            layer.name.clone(),
            format!("{forward:.3}"),
            format!("{backward:.3}"),
            match has_products {
                true => format!("{:.1}", layer.operations / (forward + backward) * 1e-6),
                false => String::new(),
            },
            match (has_products, layer.sparse) {
                (false, _) => String::new(),
                (true, true) => "kept ones".into(),
                (true, false) => "all".into(),
            },
        ]);
    }
    table(&rows)
}
