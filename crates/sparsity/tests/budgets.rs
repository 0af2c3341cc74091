//! What budgets promise for any network: exact counts, and thresholds that nest.

use proptest::prelude::*;
use skinny_sparsity::{
    Budget, BudgetError, LayerShape, Mask, Method, Ramp, Ranked, Score, SparsitySettings,
    Structure, project, resolve,
};
use std::collections::BTreeMap;

fn layer(name: &str, shape: &[usize]) -> LayerShape {
    LayerShape {
        name: name.to_string(),
        shape: shape.to_vec(),
    }
}

fn settings(budget: Budget, density: f64) -> SparsitySettings {
    SparsitySettings {
        budget: Some(budget),
        density: Some(density),
        ..SparsitySettings::of(Method::Iht)
    }
}

fn scores(layers: &[LayerShape], seed: u64) -> Vec<Vec<f32>> {
    let draw = |(i, layer): (u64, &LayerShape)| {
        let zeros = vec![0.0; layer.weights()];
        Score::Random { seed: Some(seed) }
            .of(&zeros, None, i)
            .unwrap()
            .into_owned()
    };
    (0..).zip(layers).map(draw).collect()
}

fn network() -> impl Strategy<Value = Vec<LayerShape>> {
    let shape = prop::collection::vec(1usize..7, 2..5);
    prop::collection::vec(shape, 1..6).prop_map(|shapes| {
        let named = |(i, shape): (usize, Vec<usize>)| layer(&format!("layer{i}.weight"), &shape);
        shapes.into_iter().enumerate().map(named).collect()
    })
}

const BUDGETS: [Budget; 4] = [
    Budget::Uniform,
    Budget::Erk,
    Budget::Global,
    Budget::PerLayer,
];
const STRUCTURES: [&str; 5] = ["unstructured", "2:4", "block:4x1", "block:2x3", "filter"];

proptest! {
    #[test]
    fn popcount_is_k_and_thresholds_nest(
        layers in network(),
        budget in prop::sample::select(&BUDGETS),
        structure in prop::sample::select(&STRUCTURES),
        (density, seed) in (0.02..1.0f64, any::<u64>()),
    ) {
        let structure: Structure = structure.parse().unwrap();
        let density = structure.fixed_density().unwrap_or(density);
        let budget = if structure.fixed_density().is_some() { Budget::Uniform } else { budget };
        let settings = SparsitySettings {
            structure,
            layers: Some(BTreeMap::from([("layer0".to_string(), density.sqrt())])),
            ..settings(budget, density)
        };
        let drawn = scores(&layers, seed);
        let mut supports: Vec<Option<Mask>> = vec![None; layers.len()];
        let ramp = match structure.fixed_density() {
            Some(density) => vec![density, density],
            None => Ramp::Cubic.densities(None, density, 4),
        };
        for density in ramp {
            let ranked: Vec<Ranked> = drawn
                .iter()
                .zip(&supports)
                .map(|(score, support)| Ranked { score, support: support.as_ref() })
                .collect();
            let budgets = match resolve(&settings, &layers, density, Some(&ranked)) {
                Err(BudgetError::KeepsNothing { .. } | BudgetError::FloorTooHigh { .. }) => return Ok(()),
                budgets => budgets.unwrap(),
            };
            let weights: usize = layers.iter().map(LayerShape::weights).sum();
            let total: usize = budgets.iter().map(|b| b.k).sum();
            let asked = (density * weights as f64).round() as usize;
            match (budget, structure) {
                (Budget::Erk | Budget::Global, Structure::Unstructured) => prop_assert_eq!(total, asked),
                (Budget::Uniform, Structure::Unstructured) => prop_assert!(total.abs_diff(asked) <= layers.len()),
                _ => {}
            }
            for (i, (layer, budget)) in layers.iter().zip(&budgets).enumerate() {
                prop_assert_eq!(&budget.name, &layer.name);
                let mask = project(&drawn[i], &layer.shape, structure, budget.k, supports[i].as_ref()).unwrap();
                prop_assert_eq!(mask.count(), budget.k);
                prop_assert_eq!(budget.density, mask.density());
                supports[i] = Some(mask);
            }
        }
    }
}
