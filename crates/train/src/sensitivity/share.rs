//! Sharing kept weights among layers by what it costs to take them away.

use std::collections::BTreeMap;

use super::{LayerSensitivity, Sensitivity};

/// What each halving of a layer is taken to cost at least, as a part of the loss of the whole network: where the
/// measurement says nothing, large layers give first.
const PRIOR: f64 = 0.01;

/// A stretch of a layer's course: weights that it can give, and what each of them costs.
struct Stretch {
    layer: usize,
    weights: f64,
    slope: f64,
}

impl Sensitivity {
    /// A density for each layer such that together they keep `density` of their weights and lose as little as possible, if losses of
    /// layers add up. Below what was measured, all layers give in proportion.
    pub fn budget(&self, density: f64) -> BTreeMap<String, f64> {
        let weights = |layer: &LayerSensitivity| layer.weights() as f64;
        let all: f64 = self.layers.iter().map(weights).sum();
        let mut kept: Vec<f64> = self.layers.iter().map(weights).collect();
        let mut surplus = all * (1.0 - density.clamp(0.0, 1.0));
        for stretch in self.stretches() {
            let given = stretch.weights.min(surplus);
            kept[stretch.layer] -= given;
            surplus -= given;
        }
        let left: f64 = kept.iter().sum();
        let scale = ((left - surplus) / left.max(1.0)).clamp(0.0, 1.0);
        (self.layers.iter().zip(kept))
            .map(|(layer, kept)| {
                let least = 1.0 / weights(layer);
                let density = (kept * scale / weights(layer)).clamp(least, 1.0);
                (layer.name.clone(), rounded(density).max(least))
            })
            .collect()
    }

    /// The least density, of those whose layers share by [`Sensitivity::budget`], at which errors of all layers together have grown by no
    /// more than `increase` (a fraction), without any training: a cautious start for a search. It is at least `least`, and otherwise at most
    /// 0.9: at 1 there would be nothing to try.
    pub fn density_for(&self, increase: f64, least: f64) -> f64 {
        let (mut low, mut high) = (least.min(1.0), 0.9_f64.max(least));
        if self.increase(low) <= increase {
            return low;
        }
        for _ in 0..40 {
            let middle = (low * high).sqrt();
            match self.increase(middle) <= increase {
                true => high = middle,
                false => low = middle,
            }
        }
        high
    }

    /// By how much the error grows at a density, if layers add up.
    fn increase(&self, density: f64) -> f64 {
        let budget = self.budget(density);
        let one = |layer: &LayerSensitivity| {
            let density = budget[&layer.name];
            let course = course(layer, |point| excess(point.1, self.error));
            let after = course.iter().position(|(at, _)| *at <= density);
            match after {
                None => f64::INFINITY,
                Some(0) => 0.0,
                Some(after) => {
                    let ((from, before), (to, cost)) = (course[after - 1], course[after]);
                    before + (cost - before) * (from - density) / (from - to)
                }
            }
        };
        self.layers.iter().map(one).sum()
    }

    /// What all layers can give, the cheapest first.
    fn stretches(&self) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let weights = layer.weights() as f64;
            let cost = |(density, _, loss): (f64, f64, f64)| {
                excess(loss, self.loss) - PRIOR * self.loss.max(1e-9) * density.log2()
            };
            let course = course(layer, |(density, error, loss)| cost((density, error, loss)));
            for pair in convex(&course).windows(2) {
                let given = (pair[0].0 - pair[1].0) * weights;
                stretches.push(Stretch {
                    layer: index,
                    weights: given,
                    slope: (pair[1].1 - pair[0].1) / given,
                });
            }
        }
        stretches.sort_by(|a, b| a.slope.total_cmp(&b.slope).then(a.layer.cmp(&b.layer)));
        stretches
    }
}

/// By how much `value` is above `before`, not below 0; what is no number stays none.
fn excess(value: f64, before: f64) -> f64 {
    match value < before {
        true => 0.0,
        false => value - before,
    }
}

/// (density, cost) from density 1 at no cost downwards; costs never fall.
fn course(layer: &LayerSensitivity, cost: impl Fn((f64, f64, f64)) -> f64) -> Vec<(f64, f64)> {
    let mut course = vec![(1.0f64, 0.0f64)];
    for point in &layer.points {
        let (last, before) = course[course.len() - 1];
        if point.density < last {
            let cost = cost((point.density, point.error, point.loss));
            // What is no number is worse than anything.
            let cost = if cost.is_finite() { cost } else { 1e9 };
            course.push((point.density, before.max(cost)));
        }
    }
    course
}

/// The points of a falling course on its lower hull, on which each weight costs more than the one before.
fn convex(course: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut hull: Vec<(f64, f64)> = Vec::new();
    let slope = |a: (f64, f64), b: (f64, f64)| (b.1 - a.1) / (a.0 - b.0);
    for &point in course {
        while let [.., a, b] = hull[..]
            && slope(b, point) <= slope(a, b)
        {
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

/// Four significant digits.
fn rounded(density: f64) -> f64 {
    format!("{density:.3e}").parse().unwrap_or(density)
}

#[cfg(test)]
mod tests {
    use super::super::SensitivityPoint;
    use super::*;

    /// Weights of a layer, and what its loss grows by at densities.
    type Layer<'a> = (usize, &'a [(f64, f64)]);

    /// A network of such layers; its error grows by a tenth of its loss.
    fn sensitivity(layers: &[Layer<'_>]) -> Sensitivity {
        let layer = |(index, (weights, points)): (usize, &Layer<'_>)| LayerSensitivity {
            name: format!("layer{index}.weight"),
            shape: vec![*weights],
            points: (points.iter())
                .map(|&(density, cost)| SensitivityPoint {
                    density,
                    k: (density * *weights as f64).round() as usize,
                    error: 0.01 + cost / 10.0,
                    loss: 0.05 + cost,
                })
                .collect(),
        };
        Sensitivity {
            pictures: 1000,
            held_out: true,
            error: 0.01,
            loss: 0.05,
            layers: layers.iter().enumerate().map(layer).collect(),
        }
    }

    fn kept(sensitivity: &Sensitivity, density: f64) -> f64 {
        let budget = sensitivity.budget(density);
        let kept = |layer: &LayerSensitivity| budget[&layer.name] * layer.weights() as f64;
        let all: f64 = sensitivity
            .layers
            .iter()
            .map(|layer| layer.weights() as f64)
            .sum();
        sensitivity.layers.iter().map(kept).sum::<f64>() / all
    }

    #[test]
    fn the_budget_is_spent_where_it_is_needed() {
        // The first layer suffers, the second does not.
        let found = sensitivity(&[
            (1000, &[(0.5, 0.5), (0.25, 2.0), (0.1, 5.0), (0.01, 9.0)]),
            (
                1000,
                &[(0.5, 0.0), (0.25, 0.001), (0.1, 0.002), (0.01, 4.0)],
            ),
        ]);
        for density in [0.9, 0.6, 0.5, 0.3, 0.1, 0.02, 0.005] {
            let budget = found.budget(density);
            let (first, second) = (budget["layer0.weight"], budget["layer1.weight"]);
            assert!(first >= second, "{density}: {budget:?}");
            assert!(
                (kept(&found, density) / density - 1.0).abs() < 2e-3,
                "{density}"
            );
        }
        let budget = found.budget(0.55);
        assert_eq!(budget["layer0.weight"], 1.0);
        assert!((budget["layer1.weight"] - 0.1).abs() < 1e-9);
        assert!(found.budget(1.0).values().all(|density| *density == 1.0));
    }

    #[test]
    fn where_nothing_was_seen_large_layers_give_first() {
        let flat: &[(f64, f64)] = &[(0.5, 0.0), (0.25, 0.0), (0.1, 0.0), (0.01, 0.0)];
        let found = sensitivity(&[(100, flat), (100_000, flat)]);
        let budget = found.budget(0.1);
        assert_eq!(budget["layer0.weight"], 1.0);
        assert!(budget["layer1.weight"] < 0.1);
        assert!((kept(&found, 0.1) - 0.1).abs() < 1e-4);
    }

    #[test]
    fn no_layer_keeps_nothing() {
        let found = sensitivity(&[(10, &[(0.5, 0.0)]), (1000, &[(0.5, 0.0), (0.01, 0.0)])]);
        let budget = found.budget(1e-6);
        assert!(budget["layer0.weight"] >= 0.1 && budget["layer1.weight"] >= 0.001);
    }

    #[test]
    fn a_cautious_start_is_found() {
        let found = sensitivity(&[(1000, &[(0.5, 0.01), (0.25, 0.1), (0.1, 1.0), (0.01, 8.0)])]);
        // An error that grows by 0.01 is a loss that grows by 0.1 here.
        assert!((found.density_for(0.01, 0.001) - 0.25).abs() < 1e-3);
        assert_eq!(found.density_for(1.0, 0.02), 0.02);
        assert_eq!(found.density_for(0.0, 0.001), 0.9, "something is tried");
        // Costs that are no numbers, and a course that falls again, are no trouble.
        let odd = sensitivity(&[(1000, &[(0.5, f64::NAN), (0.25, 0.0), (0.1, 0.0)])]);
        assert!(odd.density_for(0.01, 0.001) > 0.5);
        assert!(odd.budget(0.2)["layer0.weight"] > 0.0);
    }
}
