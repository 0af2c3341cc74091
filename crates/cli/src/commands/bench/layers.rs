//! `--layers`: which kernel every layer gets, and what the others would have cost.

use serde_json::json;
use skinny::runtime::{Options, layer_costs};

use super::subject::Subject;
use crate::failure::Failure;
use crate::output::{Output, table, thousands};

/// Measures and prints.
pub fn layers(subject: &Subject, options: &Options, output: Output) -> Result<(), Failure> {
    let costs = layer_costs(&subject.model.network, &subject.model.tensors, options)?;
    let mut kernels: Vec<&str> = Vec::new();
    for name in costs
        .iter()
        .flat_map(|cost| &cost.kernels)
        .map(|kernel| &*kernel.name)
    {
        if !kernels.contains(&name) {
            kernels.push(name);
        }
    }
    let mut rows = vec![vec![
        "layer".to_owned(),
        "density".into(),
        "non-zeros".into(),
        "kernel".into(),
    ]];
    rows[0].extend(kernels.iter().map(|kernel| format!("{kernel} µs")));
    for cost in &costs {
        let density = cost.nonzeros as f64 / cost.weights.max(1) as f64;
        output.object(&json!({
            "event": "layer", "model": subject.name, "layer": cost.name, "density": density,
            "nonzeros": cost.nonzeros, "kernel": cost.chosen,
            "microseconds": cost.kernels.iter()
                .map(|kernel| (kernel.name.clone(), json!(1e6 * kernel.seconds)))
                .collect::<serde_json::Map<_, _>>(),
        }))?;
        let mut row = vec![
            cost.name.clone(),
            format!("{density:.3}"),
            thousands(cost.nonzeros as u64),
            cost.chosen.clone(),
        ];
        row.extend(kernels.iter().map(|kernel| {
            let seconds = cost.seconds(kernel);
            seconds.map_or("–".to_owned(), |seconds| format!("{:.1}", 1e6 * seconds))
        }));
        rows.push(row);
    }
    output.text(&table(&rows))
}
