//! The sharing of the kept weights among the layers of a network.

use crate::erk::erk;
use crate::global::global;
use crate::pattern::matches;
use crate::project::first_not_finite;
use crate::{
    Budget, BudgetError, LayerBudget, LayerShape, Mask, Plan, Ranked, SparsitySettings, Structure,
};

/// What each layer keeps at a threshold of this density, in the order of the layers.
///
/// `density` is the kept fraction of all *thresholded* weights: those of layers that `keep_dense` does not name, which keep all of theirs.
/// At a threshold before the last, [`Budget::PerLayer`] scales the dropped fraction of each layer like that of the whole network.
/// A `k` is brought to the [nearest](crate::Structure::nearest) that the structure can keep; unstructured, totals are as exact as [`Budget`] says.
/// With falling density (and, for a global budget, supports given) no layer's `k` rises, so that thresholds nest.
///
/// `scores`, one entry for every layer, are needed for a global budget only, and ignored by the others.
///
/// # Errors
/// [`BudgetError`] if a density or floor is out of its range, a pattern fits no layer, a layer would keep nothing, floors or structure
/// forbid the density, or scores are missing, not finite or of another length.
pub fn resolve(
    settings: &SparsitySettings,
    layers: &[LayerShape],
    density: f64,
    scores: Option<&[Ranked]>,
) -> Result<Vec<LayerBudget>, BudgetError> {
    let shares = Shares::new(settings, layers, density)?;
    let kept = match settings.budget() {
        Budget::Uniform => shares.each(|_| density),
        Budget::PerLayer => shares.per_layer()?,
        Budget::Erk => shares.erk(),
        Budget::Global => shares.global(scores)?,
    };
    shares.finish(kept)
}

/// Checks, before the first step, that every threshold of a plan can be shared among the layers.
///
/// # Errors
/// What [`resolve`] would return for one of them; for a global budget, as far as it does not depend on scores.
pub fn validate(
    settings: &SparsitySettings,
    plan: &Plan,
    layers: &[LayerShape],
) -> Result<(), BudgetError> {
    // Where nothing is thresholded too: a thinner network leaves these layers as they are, and a name that fits none is a slip.
    for pattern in &settings.keep_dense {
        check_pattern("keep_dense", pattern, layers)?;
    }
    let mut last = None;
    for density in plan.thresholds() {
        last = match resolve(settings, layers, density, None) {
            Err(BudgetError::NoScores) => None,
            shared => Some((density, shared?)),
        };
    }
    let structure = settings.structure;
    if let Some((density, shared)) = last
        && structure != Structure::Unstructured
        && density < 1.0
        && shared.iter().all(|layer| layer.k == layer.weights)
    {
        return Err(BudgetError::KeepsAll { structure, density });
    }
    Ok(())
}

/// The layers of a network with those that take part.
struct Shares<'a> {
    settings: &'a SparsitySettings,
    layers: &'a [LayerShape],
    density: f64,
    /// Positions of the layers that are thresholded.
    thresholded: Vec<usize>,
}

impl<'a> Shares<'a> {
    fn new(
        settings: &'a SparsitySettings,
        layers: &'a [LayerShape],
        density: f64,
    ) -> Result<Self, BudgetError> {
        check_density(|| "density".to_string(), density)?;
        for pattern in &settings.keep_dense {
            check_pattern("keep_dense", pattern, layers)?;
        }
        let thresholded: Vec<usize> = (0..layers.len())
            .filter(|&i| !settings.keeps_dense(&layers[i].name))
            .collect();
        if thresholded.is_empty() {
            return Err(BudgetError::NothingToThreshold);
        }
        let structure = settings.structure;
        if let Some(fixed) = structure.fixed_density().filter(|_| density < 1.0) {
            let budget = settings.budget();
            if budget != Budget::Uniform {
                return Err(BudgetError::FixedBudget { structure, budget });
            }
            if (density - fixed).abs() > 1e-9 {
                return Err(BudgetError::FixedDensity {
                    structure,
                    fixed,
                    density,
                });
            }
        }
        Ok(Shares {
            settings,
            layers,
            density,
            thresholded,
        })
    }

    /// `k` of each thresholded layer by its own density.
    fn each(&self, density: impl Fn(&LayerShape) -> f64) -> Vec<usize> {
        let layers = self.thresholded.iter().map(|&i| &self.layers[i]);
        layers
            .map(|layer| {
                self.settings
                    .structure
                    .resolve_k(&layer.shape, density(layer))
            })
            .collect()
    }

    /// Kept weights of all thresholded layers together.
    fn total(&self) -> usize {
        let weights: usize = self
            .thresholded
            .iter()
            .map(|&i| self.layers[i].weights())
            .sum();
        (self.density * weights as f64).round() as usize
    }

    fn per_layer(&self) -> Result<Vec<usize>, BudgetError> {
        let patterns = self.settings.layers.as_ref();
        let patterns = patterns
            .filter(|p| !p.is_empty())
            .ok_or(BudgetError::NoPatterns)?;
        for (pattern, &density) in patterns {
            check_density(|| format!("density of layers \"{pattern}\""), density)?;
            let thresholded = self.thresholded.iter().map(|&i| &self.layers[i]);
            check_pattern("layers", pattern, thresholded)?;
        }
        // How far the density has come on its way from 1 to its final value.
        let last = self.settings.density.unwrap_or(self.density);
        let progress = match last < 1.0 {
            true => ((1.0 - self.density) / (1.0 - last)).min(1.0),
            false => 1.0,
        };
        let density = |layer: &LayerShape| {
            // The most specific pattern, the first in the alphabet among equals.
            let letters = |pattern: &str| pattern.len() - pattern.matches('*').count();
            let fitting = patterns.iter().filter(|(p, _)| matches(p, &layer.name));
            let best = fitting.rev().max_by_key(|(pattern, _)| letters(pattern));
            match best {
                // 1 − (1 − density) may be another number.
                Some((_, &density)) if progress == 1.0 => density,
                Some((_, &density)) => 1.0 - progress * (1.0 - density),
                None => self.density,
            }
        };
        let kept = self.each(density);
        let empty = kept.iter().position(|k| *k == 0);
        match empty.map(|index| &self.layers[self.thresholded[index]]) {
            Some(layer) => Err(self.keeps_nothing(layer, density(layer))),
            None => Ok(kept),
        }
    }

    fn keeps_nothing(&self, layer: &LayerShape, density: f64) -> BudgetError {
        BudgetError::KeepsNothing {
            layer: layer.name.clone(),
            weights: layer.weights(),
            density,
            budget: self.settings.budget(),
        }
    }

    fn erk(&self) -> Vec<usize> {
        let sizes = |&i: &usize| (self.layers[i].shape.iter().sum(), self.layers[i].weights());
        let sizes: Vec<(usize, usize)> = self.thresholded.iter().map(sizes).collect();
        self.nearest(erk(&sizes, self.total()))
    }

    fn global(&self, scores: Option<&[Ranked]>) -> Result<Vec<usize>, BudgetError> {
        let floor = self.settings.floor();
        if !(0.0..=1.0).contains(&floor) {
            return Err(BudgetError::Floor { floor });
        }
        let least =
            |&i: &usize| ((floor * self.layers[i].weights() as f64).round() as usize).max(1);
        let floors: Vec<usize> = self.thresholded.iter().map(least).collect();
        let (needed, k) = (floors.iter().sum(), self.total());
        if needed > k {
            return Err(BudgetError::FloorTooHigh {
                floor,
                needed,
                k,
                density: self.density,
            });
        }
        let scores = scores.ok_or(BudgetError::NoScores)?;
        let ranked = self.ranked(scores)?;
        let supports = ranked
            .iter()
            .map(|r| r.support.map_or(r.score.len(), Mask::count));
        let supports: Vec<usize> = supports.collect();
        let capped = |(floor, &support): (usize, &usize)| floor.min(support);
        let floors: Vec<usize> = floors.into_iter().zip(&supports).map(capped).collect();
        let k = k.min(supports.iter().sum());
        let kept = self.nearest(global(&ranked, &floors, k));
        Ok(kept
            .into_iter()
            .zip(supports)
            .map(|(k, support)| k.min(support))
            .collect())
    }

    /// The scores of the thresholded layers.
    fn ranked(&self, scores: &[Ranked<'a>]) -> Result<Vec<Ranked<'a>>, BudgetError> {
        let one = |&i: &usize| {
            let (name, weights) = (&self.layers[i].name, self.layers[i].weights());
            let wrong = |scores| BudgetError::Scores {
                layer: name.clone(),
                weights,
                scores,
            };
            let &ranked = scores.get(i).ok_or_else(|| wrong(0))?;
            let lengths = [Some(ranked.score.len()), ranked.support.map(Mask::len)];
            if let Some(length) = lengths.into_iter().flatten().find(|&l| l != weights) {
                return Err(wrong(length));
            }
            match first_not_finite(ranked.score, ranked.support) {
                None => Ok(ranked),
                Some(index) => Err(BudgetError::NotFinite {
                    layer: name.clone(),
                    index,
                    value: ranked.score[index],
                }),
            }
        };
        self.thresholded.iter().map(one).collect()
    }

    fn nearest(&self, kept: Vec<usize>) -> Vec<usize> {
        let layers = self.thresholded.iter().zip(kept);
        layers
            .map(|(&i, k)| self.settings.structure.nearest(&self.layers[i].shape, k))
            .collect()
    }

    /// The budgets of all layers from the numbers of the thresholded ones.
    fn finish(&self, kept: Vec<usize>) -> Result<Vec<LayerBudget>, BudgetError> {
        let mut ks: Vec<usize> = self.layers.iter().map(LayerShape::weights).collect();
        for (&i, k) in self.thresholded.iter().zip(kept) {
            ks[i] = k;
        }
        let layers = self.layers.iter().zip(ks);
        layers
            .map(|(layer, k)| {
                let (name, weights) = (layer.name.clone(), layer.weights());
                match k {
                    0 => Err(self.keeps_nothing(layer, self.density)),
                    _ => Ok(LayerBudget {
                        name,
                        weights,
                        k,
                        density: k as f64 / weights as f64,
                    }),
                }
            })
            .collect()
    }
}

fn check_density(what: impl Fn() -> String, value: f64) -> Result<(), BudgetError> {
    match value > 0.0 && value <= 1.0 {
        true => Ok(()),
        false => Err(BudgetError::Density {
            what: what(),
            value,
        }),
    }
}

fn check_pattern<'a>(
    key: &'static str,
    pattern: &str,
    layers: impl IntoIterator<Item = &'a LayerShape>,
) -> Result<(), BudgetError> {
    let names: Vec<&str> = layers.into_iter().map(|layer| &*layer.name).collect();
    if names.iter().any(|name| matches(pattern, name)) {
        return Ok(());
    }
    Err(BudgetError::NoSuchLayer {
        key,
        pattern: pattern.to_string(),
        layers: names.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Duration, Method, Ramp, Score, Structure, Timeline};
    use std::collections::BTreeMap;

    fn layer(name: &str, shape: &[usize]) -> LayerShape {
        LayerShape {
            name: name.to_string(),
            shape: shape.to_vec(),
        }
    }

    fn lenet5() -> Vec<LayerShape> {
        vec![
            layer("conv1.weight", &[20, 1, 5, 5]),
            layer("conv2.weight", &[50, 20, 5, 5]),
            layer("fc1.weight", &[500, 800]),
            layer("fc2.weight", &[10, 500]),
        ]
    }

    fn settings(budget: Budget, density: f64) -> SparsitySettings {
        SparsitySettings {
            budget: Some(budget),
            density: Some(density),
            ..SparsitySettings::of(Method::Iht)
        }
    }

    fn ks(settings: &SparsitySettings, density: f64) -> Vec<usize> {
        let budgets = resolve(settings, &lenet5(), density, None).unwrap();
        budgets.into_iter().map(|b| b.k).collect()
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

    fn ranked(scores: &[Vec<f32>]) -> Vec<Ranked<'_>> {
        scores
            .iter()
            .map(|score| Ranked {
                score,
                support: None,
            })
            .collect()
    }

    #[test]
    fn lenet5_by_hand() {
        assert_eq!(
            ks(&settings(Budget::Uniform, 0.1), 0.1),
            [50, 2_500, 40_000, 500]
        );
        assert_eq!(
            ks(&settings(Budget::Erk, 0.1), 0.1),
            [500, 2_177, 35_373, 5_000]
        );
        assert_eq!(
            ks(&settings(Budget::Erk, 1.0), 1.0),
            [500, 25_000, 400_000, 5_000]
        );
    }

    #[test]
    fn layers_kept_dense_do_not_count() {
        let exempt = SparsitySettings {
            keep_dense: vec!["conv*".into()],
            ..settings(Budget::Uniform, 0.1)
        };
        assert_eq!(ks(&exempt, 0.1), [500, 25_000, 40_000, 500]);
        // A tenth of the 405,000 weights of fc1 and fc2: ε = 40,500 / 1,810 would give fc2 11,412 of 5,000.
        let erk = SparsitySettings {
            budget: Some(Budget::Erk),
            ..exempt
        };
        assert_eq!(ks(&erk, 0.1), [500, 25_000, 35_500, 5_000]);
        let all = SparsitySettings {
            keep_dense: vec!["*".into()],
            ..erk
        };
        assert_eq!(
            resolve(&all, &lenet5(), 0.1, None),
            Err(BudgetError::NothingToThreshold)
        );
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let layers = [("*", 0.2), ("conv*", 0.5), ("conv1", 1.0)];
        let layers: BTreeMap<String, f64> = layers.map(|(p, d)| (p.to_string(), d)).into();
        let patterns = SparsitySettings {
            layers: Some(layers),
            ..settings(Budget::PerLayer, 0.1)
        };
        assert_eq!(ks(&patterns, 0.1), [500, 12_500, 80_000, 1_000]);
        // Half of the way from density 1 to 0.1: half of what each layer will drop.
        assert_eq!(ks(&patterns, 0.55), [500, 18_750, 240_000, 3_000]);
        let one = BTreeMap::from([("fc1".to_string(), 0.05)]);
        let rest = SparsitySettings {
            layers: Some(one),
            ..patterns
        };
        assert_eq!(ks(&rest, 0.1), [50, 2_500, 20_000, 500]);
    }

    #[test]
    fn global_is_exact_and_keeps_the_floor() {
        let layers = lenet5();
        let mut scores = scores(&layers, 1);
        scores[3].iter_mut().for_each(|s| *s *= 1e-3);
        let global = settings(Budget::Global, 0.1);
        let budgets = resolve(&global, &layers, 0.1, Some(&ranked(&scores))).unwrap();
        assert_eq!(budgets.iter().map(|b| b.k).sum::<usize>(), 43_050);
        assert_eq!((budgets[3].k, budgets[3].density), (50, 0.01));
        assert!((budgets[2].density - 0.1).abs() < 0.01);
        let none = SparsitySettings {
            floor: Some(0.0),
            ..global
        };
        let budgets = resolve(&none, &layers, 0.1, Some(&ranked(&scores))).unwrap();
        assert_eq!(budgets[3].k, 1);
        assert_eq!(budgets.iter().map(|b| b.k).sum::<usize>(), 43_050);
    }

    #[test]
    fn errors_name_the_layer_and_the_cure() {
        let layers = lenet5();
        let error = |settings: &SparsitySettings, density, scores: Option<&[Ranked]>| {
            resolve(settings, &layers, density, scores)
                .unwrap_err()
                .to_string()
        };
        let uniform = settings(Budget::Uniform, 0.1);
        let global = settings(Budget::Global, 0.1);
        let per_layer = settings(Budget::PerLayer, 0.1);
        let pattern = |text: &str, density| SparsitySettings {
            layers: Some(BTreeMap::from([(text.to_string(), density)])),
            ..per_layer.clone()
        };
        let structured = |structure: &str, budget| SparsitySettings {
            structure: structure.parse().unwrap(),
            ..settings(budget, 0.5)
        };
        let drawn = scores(&layers, 1);
        let mut short = drawn.clone();
        short[1].pop();
        let mut diverged = drawn.clone();
        diverged[2][17] = f32::NAN;
        let wrong = Mask::all(3);
        let mut supported = ranked(&drawn);
        supported[0].support = Some(&wrong);

        let cases = [
            (
                error(&uniform, 0.0009, None),
                "layer conv1.weight (500 weights) would keep nothing",
            ),
            (error(&uniform, 0.0, None), "density 0 is outside"),
            (error(&uniform, 1.5, None), "density 1.5 is outside"),
            (error(&uniform, f64::NAN, None), "density NaN is outside"),
            (
                error(
                    &SparsitySettings {
                        keep_dense: vec!["conv3".into()],
                        ..uniform.clone()
                    },
                    0.1,
                    None,
                ),
                "keep_dense \"conv3\" fits no layer: the layers are conv1.weight, conv2.weight, fc1.weight, fc2.weight",
            ),
            (
                error(&per_layer, 0.1, None),
                "budget per_layer needs layers: write layers = { ",
            ),
            (
                error(&pattern("pool*", 0.5), 0.1, None),
                "layers \"pool*\" fits no layer",
            ),
            (
                error(&pattern("fc*", 0.0), 0.1, None),
                "density of layers \"fc*\" 0 is outside",
            ),
            (
                error(&pattern("fc*", f64::NAN), 0.1, None),
                "density of layers \"fc*\" NaN is outside",
            ),
            (
                error(&pattern("conv1*", 0.0005), 0.1, None),
                "would keep nothing at density 0.0005: raise its density under layers",
            ),
            (
                error(&settings(Budget::Erk, 1e-5), 1e-5, None),
                "raise the density or add the layer to keep_dense",
            ),
            (error(&global, 0.1, None), "pass their scores"),
            (
                error(&global, 0.1, Some(&ranked(&drawn)[..3])),
                "layer fc2.weight has 5000 weights but 0 scores",
            ),
            (
                error(&global, 0.1, Some(&ranked(&short))),
                "layer conv2.weight has 25000 weights but 24999 scores",
            ),
            (
                error(&global, 0.1, Some(&supported)),
                "layer conv1.weight has 500 weights but 3 scores",
            ),
            (
                error(&global, 0.1, Some(&ranked(&diverged))),
                "weight 17 of layer fc1.weight is NaN",
            ),
            (
                error(&global, 0.005, Some(&ranked(&drawn))),
                "floor 0.01 alone keeps 4305 weights",
            ),
            (
                error(
                    &SparsitySettings {
                        floor: Some(-0.1),
                        ..global.clone()
                    },
                    0.1,
                    None,
                ),
                "floor -0.1 is outside",
            ),
            (
                error(&structured("2:4", Budget::Uniform), 0.1, None),
                "set density = 0.5 with ramp",
            ),
            (
                error(&structured("2:4", Budget::Erk), 0.5, None),
                "use budget uniform instead of erk",
            ),
        ];
        for (error, expected) in cases {
            assert!(error.contains(expected), "{error}, not {expected}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn a_plan_is_checked_at_every_threshold() {
        let timeline = Timeline {
            steps_per_epoch: 100,
            epochs: 15,
        };
        let check = |settings: &SparsitySettings| {
            validate(settings, &settings.plan(timeline).unwrap(), &lenet5())
        };
        assert_eq!(check(&settings(Budget::Global, 0.1)), Ok(()));
        assert!(matches!(
            check(&settings(Budget::Global, 0.001)),
            Err(BudgetError::FloorTooHigh { .. })
        ));
        assert_eq!(check(&settings(Budget::Uniform, 0.01)), Ok(()));
        assert!(matches!(
            check(&settings(Budget::Uniform, 0.0001)),
            Err(BudgetError::KeepsNothing { .. })
        ));
        // The final density fits the structure, those of the ramp do not.
        let ramp = SparsitySettings {
            structure: Structure::NOfM { n: 2, m: 4 },
            ramp: Some(Ramp::Linear),
            warmup: Some(Duration::Percent(10.0)),
            ..settings(Budget::Uniform, 0.5)
        };
        assert!(matches!(
            check(&ramp),
            Err(BudgetError::FixedDensity { .. })
        ));
        assert_eq!(check(&SparsitySettings { ramp: None, ..ramp }), Ok(()));
    }
}
