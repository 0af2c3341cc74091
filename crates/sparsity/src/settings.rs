//! What a user writes about sparsity, as one flat table.

use crate::methods::preset;
use crate::phases::plan;
use crate::{
    Budget, Duration, FlipPolicy, Method, Plan, PlanError, Ramp, Reactivated, Score,
    SlotsAtReactivation, SlotsAtThreshold, Structure, Timeline, matches,
};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// The `sparsity` table of a recipe.
///
/// A key left out has the method's default ([`SparsitySettings::of`]). A key that the method does not use is refused rather than ignored
/// ([`SparsitySettings::resolved`]); `structure`, `score` and `keep_dense` say nothing about when and are allowed with every method.
/// The default is `method = "dense"`: ordinary training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SparsitySettings {
    /// How the sparse network is reached.
    pub method: Method,
    /// Kept fraction of the thresholded weights at the last threshold, above 0 and at most 1. Required by every method but `dense`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub density: Option<f64>,

    /// How the kept weights are shared among layers. Default: `uniform`; `static_random`, `set`, `rigl`: `erk`; `ac_dc`: `global`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// With `budget = "global"`: the least density of a layer, 0–1; at least one weight is always kept. Default: 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// With `budget = "per_layer"`: final density by layer name; `*` stands for any text, the matching pattern with the most
    /// other letters wins, and layers that none matches have `density`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<BTreeMap<String, f64>>,
    /// Patterns of layers that are never thresholded and do not count in `density`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_dense: Vec<String>,
    /// The pattern that kept weights form.
    pub structure: Structure,
    /// What ranks the weights.
    pub score: Score,

    /// Length of the dense phase at the start; may be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Duration>,
    /// Length of each sparse phase but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse: Option<Duration>,
    /// Length of each dense phase but the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<Duration>,
    /// Least length of the final sparse phase. Written `final`.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub final_phase: Option<Duration>,
    /// Course of the density over the thresholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// Density of the first threshold of a linear or cubic ramp. Default: the ramp starts from 1, one step before the first threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_density: Option<f64>,
    /// With `method = "gradual"`: number of thresholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<usize>,
    /// Number of thresholds in the final sparse phase, spread over its first half; more than one needs a ramp, whose last steps they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_thresholds: Option<usize>,

    /// With `set` and `rigl`: time between replacements of a part of the support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regrow_every: Option<Duration>,
    /// With `set` and `rigl`: the part that is replaced at first, above 0 and below 1; it falls by half a cosine to 0 at `regrow_until`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regrow_fraction: Option<f64>,
    /// With `set` and `rigl`: when replacements end, counted from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regrow_until: Option<Duration>,
    /// With `method = "l1"`: strength λ of the penalty λ·Σ|w| on the thresholded weights in the dense phase, 0 to 1; as strong as if it
    /// were in the gradient, and with AdamW beside its steps, as weight decay is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l1: Option<f64>,

    /// What re-activated weights start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reactivated: Option<Reactivated>,
    /// What becomes of the slots of dropped weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_at_threshold: Option<SlotsAtThreshold>,
    /// What becomes of slots when weights are re-activated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_at_reactivation: Option<SlotsAtReactivation>,
    /// Whether the saved values of dropped weights decay meanwhile; needs `reactivated = "saved"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_frozen: Option<bool>,
}

/// Why settings are refused before the first step.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SettingsError {
    /// A key that the method needs is missing.
    #[error(
        "method {method} needs {key}: write it into the sparsity table, as {key} = {}",
        example(key)
    )]
    Missing {
        /// Chosen method.
        method: Method,
        /// The key.
        key: &'static str,
    },
    /// A key that does nothing with the other settings.
    #[error("{key} does nothing with {with}: remove it or change {with}")]
    Unused {
        /// The key.
        key: &'static str,
        /// The setting that makes it useless, as "method one_shot".
        with: String,
    },
    /// A phase comes to no step.
    #[error("{key} = \"{duration}\" of a run of {total} steps is no step: make it longer")]
    EmptyPhase {
        /// The key.
        key: &'static str,
        /// Its value.
        duration: Duration,
        /// Steps of the run.
        total: usize,
    },
    /// The phases are longer than the run.
    #[error(
        "{keys} take {asked} steps, but the run has {total}: shorten them or train for more epochs"
    )]
    DoesNotFit {
        /// The keys.
        keys: &'static str,
        /// Steps that they ask for, at least.
        asked: usize,
        /// Steps of the run.
        total: usize,
    },
    /// More thresholds than steps.
    #[error(
        "{key} = {thresholds} do not fit into {steps} steps: ask for fewer or train for more epochs"
    )]
    TooMany {
        /// The key.
        key: &'static str,
        /// Its value.
        thresholds: usize,
        /// Steps there are for them.
        steps: usize,
    },
    /// No threshold at all.
    #[error("{key} = 0 would never reach the density: set it to at least 1")]
    NoThreshold {
        /// The key.
        key: &'static str,
    },
    /// A number that is no part of 1.
    #[error("{key} = {value} is outside (0, 1): write a fraction, as 0.3")]
    Fraction {
        /// The key.
        key: &'static str,
        /// Its value.
        value: f64,
    },
    /// Nothing would ever be replaced.
    #[error(
        "regrow_every = \"{every}\" never comes before regrow_until = \"{until}\" in a run of {total} steps: make it shorter"
    )]
    NeverRegrows {
        /// Time between replacements.
        every: Duration,
        /// When they end.
        until: Duration,
        /// Steps of the run.
        total: usize,
    },
    /// More flips than anybody can mean.
    #[error("the plan has {flips} flips, more than {MOST_FLIPS}: make its phases longer")]
    TooManyFlips {
        /// How many it would have.
        flips: usize,
    },
    /// A key that needs a ramp.
    #[error(
        "{key} does nothing with ramp = \"constant\": set ramp to \"linear\" or \"cubic\" or remove {key}"
    )]
    NeedsRamp {
        /// The key.
        key: &'static str,
    },
    /// A ramp that would rise.
    #[error(
        "start_density = {start} is outside [{density}, 1]: the density falls from there to density = {density}"
    )]
    StartDensity {
        /// Its value.
        start: f64,
        /// Density asked for.
        density: f64,
    },
    /// The phases do not make a plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

fn example(key: &str) -> &'static str {
    match key {
        "density" => "0.1",
        "thresholds" | "final_thresholds" => "5",
        "ramp" => "\"cubic\"",
        _ => "\"20%\"",
    }
}

/// The most flips of a run: its records are part of every checkpoint.
pub(crate) const MOST_FLIPS: usize = 10_000;

/// Least density of a layer under a global budget.
const FLOOR: f64 = 0.01;

impl SparsitySettings {
    /// Whether the layer of this name is never thresholded.
    pub fn keeps_dense(&self, layer: &str) -> bool {
        self.keep_dense
            .iter()
            .any(|pattern| matches(pattern, layer))
    }

    /// The method with its default settings; only `density`, which has none, is missing.
    pub fn of(method: Method) -> Self {
        preset(method)
    }

    /// The same settings with every key filled in that the method uses.
    ///
    /// # Errors
    /// [`SettingsError`] if `density` is missing or a key does nothing.
    pub fn resolved(&self) -> Result<Self, SettingsError> {
        let method = self.method;
        let preset = preset(method);
        let mut settings = self.clone();
        let unused = |key, with: String| Err(SettingsError::Unused { key, with });

        macro_rules! fill {
            ($($key:literal: $field:ident),* $(,)?) => {
                $(match (&settings.$field, preset.$field) {
                    (Some(_), None) => return unused($key, format!("method = \"{method}\"")),
                    (None, default) => settings.$field = default,
                    _ => {}
                })*
            };
        }
        fill!(
            "budget": budget, "warmup": warmup, "sparse": sparse, "dense": dense, "final": final_phase, "ramp": ramp,
            "thresholds": thresholds, "final_thresholds": final_thresholds, "reactivated": reactivated,
            "slots_at_threshold": slots_at_threshold, "slots_at_reactivation": slots_at_reactivation,
            "decay_frozen": decay_frozen, "regrow_every": regrow_every, "regrow_fraction": regrow_fraction,
            "regrow_until": regrow_until, "l1": l1,
        );

        if settings.start_density.is_some() && settings.ramp.is_none() {
            return unused("start_density", format!("method = \"{method}\""));
        }
        if settings.regrow_every.is_some() && settings.structure != Structure::Unstructured {
            return unused("structure", format!("method = \"{method}\""));
        }
        if method.starts_random() && settings.score == Score::MagnitudeTimesGradient {
            // The mask is drawn before there are gradients.
            return unused(
                "score = \"magnitude_times_gradient\"",
                format!("method = \"{method}\""),
            );
        }
        let budget = settings.budget();
        if budget == Budget::Global {
            settings.floor = Some(self.floor());
        } else if settings.floor.is_some() {
            return unused("floor", format!("budget = \"{budget}\""));
        }
        if settings.layers.is_some() && budget != Budget::PerLayer {
            return unused("layers", format!("budget = \"{budget}\""));
        }
        if settings.decay_frozen == Some(true) && settings.reactivated != Some(Reactivated::Saved) {
            return unused("decay_frozen", "reactivated = \"zero\"".to_string());
        }
        if method != Method::Dense && settings.density.is_none() {
            let key = "density";
            return Err(SettingsError::Missing { method, key });
        }
        for (key, value, most) in [
            (
                "regrow_fraction",
                settings.regrow_fraction,
                1.0 - f64::EPSILON,
            ),
            ("l1", settings.l1, 1.0),
        ] {
            if let Some(value) = value
                && !(value > 0.0 && value <= most)
            {
                return Err(SettingsError::Fraction { key, value });
            }
        }
        Ok(settings)
    }

    /// The phases of a run of this length.
    ///
    /// # Errors
    /// [`SettingsError`] if a key is missing, does nothing or is out of its range, or the phases do not fit.
    pub fn plan(&self, timeline: Timeline) -> Result<Plan, SettingsError> {
        plan(&self.resolved()?, timeline)
    }

    /// What ranks the weights in a run of this seed: methods that start from a random mask draw it by the seed, as `random` does, unless
    /// `score` has a seed of its own.
    pub fn score_of(&self, seed: u64) -> Score {
        match self.score {
            Score::Random { seed: Some(own) } => Score::Random { seed: Some(own) },
            Score::Random { seed: None } => Score::Random { seed: Some(seed) },
            _ if self.method.starts_random() => Score::Random { seed: Some(seed) },
            score => score,
        }
    }

    /// What becomes of values and slots at flips: what is set, else the method's default.
    pub fn policy(&self) -> FlipPolicy {
        let preset = preset(self.method);
        let reactivation = self.slots_at_reactivation.or(preset.slots_at_reactivation);
        FlipPolicy {
            reactivated: self.reactivated.or(preset.reactivated).unwrap_or_default(),
            slots_at_threshold: self
                .slots_at_threshold
                .or(preset.slots_at_threshold)
                .unwrap_or_default(),
            slots_at_reactivation: reactivation.unwrap_or_default(),
            decay_frozen: self.decay_frozen.unwrap_or_default(),
        }
    }

    /// How the kept weights are shared: what is set, else the method's default.
    pub fn budget(&self) -> Budget {
        self.budget
            .or(preset(self.method).budget)
            .unwrap_or_default()
    }

    /// Least density of a layer under a global budget: what is set, else 0.01.
    pub fn floor(&self) -> f64 {
        self.floor.unwrap_or(FLOOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SparsitySettings {
        toml::from_str(text).unwrap()
    }

    const TIMELINE: Timeline = Timeline {
        steps_per_epoch: 100,
        epochs: 15,
    };

    #[test]
    fn random_masks_are_of_the_seed_of_the_run_or_of_their_own() {
        let score = |keys: &str| parse(keys).score_of(3).to_string();
        let iht = "method = \"iht\"\ndensity = 0.1\n";
        assert_eq!(score(iht), "magnitude");
        assert_eq!(score(&format!("{iht}score = \"random\"")), "random:3");
        assert_eq!(score(&format!("{iht}score = \"random:7\"")), "random:7");
        assert_eq!(score("method = \"rigl\"\ndensity = 0.1"), "random:3");
    }

    #[test]
    fn a_recipe_as_users_write_it() {
        let settings = parse(
            r#"
            method = "iht"
            density = 0.1
            budget = "uniform"
            structure = "unstructured"
            keep_dense = []
            warmup = "20%"
            sparse = "13%"
            dense = "7%"
            final = "33%"
            "#,
        );
        let short = parse("method = \"iht\"\ndensity = 0.1");
        assert_eq!(settings.resolved(), short.resolved());
        assert_eq!(settings.plan(TIMELINE), short.plan(TIMELINE));
        assert_eq!(parse(""), SparsitySettings::of(Method::Dense));
    }

    #[test]
    fn what_is_resolved_can_be_run_again() {
        for method in [
            "dense",
            "one_shot",
            "gradual",
            "dsd",
            "iht",
            "ac_dc",
            "static_random",
            "set",
            "rigl",
            "l1",
            "small_dense",
        ] {
            let density = if method == "dense" {
                ""
            } else {
                "density = 0.2"
            };
            let settings = parse(&format!("method = \"{method}\"\n{density}"));
            let resolved = settings.resolved().unwrap();
            let written = toml::to_string(&resolved).unwrap();
            assert_eq!(parse(&written), resolved);
            assert_eq!(resolved.resolved().as_ref(), Ok(&resolved));
            assert_eq!(resolved.plan(TIMELINE), settings.plan(TIMELINE));
            assert_eq!(resolved.policy(), settings.policy());
            assert_eq!(resolved.method.to_string(), method);
        }
    }

    #[test]
    fn unknown_keys_and_values_are_refused() {
        for (text, expected) in [
            ("densty = 0.1", "unknown field `densty`"),
            ("method = \"rigl2\"", "unknown variant `rigl2`"),
            ("structure = \"4:2\"", "structure \"4:2\" is not known"),
            ("score = \"taylor\"", "score \"taylor\" is not known"),
            ("warmup = \"3 weeks\"", "duration \"3 weeks\" is not known"),
            ("warmup = 3", "invalid type"),
            ("thresholds = -1", "invalid value"),
        ] {
            let error = toml::from_str::<SparsitySettings>(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn keys_without_effect_are_refused() {
        for (text, key) in [
            ("method = \"dense\"\nwarmup = \"10%\"", "warmup"),
            ("method = \"dense\"\nbudget = \"erk\"", "budget"),
            ("method = \"one_shot\"\nfinal = \"10%\"", "final"),
            (
                "method = \"one_shot\"\nstart_density = 0.5",
                "start_density",
            ),
            ("method = \"gradual\"\nsparse = \"10%\"", "sparse"),
            (
                "method = \"gradual\"\nreactivated = \"saved\"",
                "reactivated",
            ),
            ("method = \"iht\"\nthresholds = 3", "thresholds"),
            ("method = \"iht\"\nfloor = 0.1", "floor"),
            ("method = \"iht\"\nlayers = { a = 0.1 }", "layers"),
            ("method = \"iht\"\ndecay_frozen = true", "decay_frozen"),
            ("method = \"iht\"\nl1 = 0.1", "l1"),
            (
                "method = \"static_random\"\nregrow_every = \"5it\"",
                "regrow_every",
            ),
            ("method = \"rigl\"\nwarmup = \"10%\"", "warmup"),
            ("method = \"set\"\nstructure = \"2:4\"", "structure"),
            ("method = \"small_dense\"\nbudget = \"erk\"", "budget"),
        ] {
            let error = parse(&format!("{text}\ndensity = 0.1"))
                .resolved()
                .unwrap_err();
            assert!(
                matches!(&error, SettingsError::Unused { key: found, .. } if *found == key),
                "{error}"
            );
            assert!(error.to_string().contains("does nothing with"));
        }
        let saved = "reactivated = \"saved\"\ndecay_frozen = true\nmethod = \"iht\"\ndensity = 0.1";
        assert!(parse(saved).resolved().is_ok());
    }

    #[test]
    fn methods_bring_their_policies_and_budgets() {
        let iht = SparsitySettings::of(Method::Iht);
        assert_eq!(
            (iht.policy(), iht.budget()),
            (FlipPolicy::default(), Budget::Uniform)
        );
        let ac_dc = parse("method = \"ac_dc\"\ndensity = 0.1\nslots_at_threshold = \"keep\"");
        assert_eq!(
            ac_dc.policy(),
            FlipPolicy {
                slots_at_threshold: SlotsAtThreshold::Keep,
                slots_at_reactivation: SlotsAtReactivation::ZeroAll,
                ..FlipPolicy::default()
            }
        );
        assert_eq!(ac_dc.budget(), Budget::Global);
        assert_eq!(ac_dc.resolved().unwrap().floor, Some(0.01));
    }

    #[test]
    fn the_schema_has_every_key_as_written() {
        let schema = serde_json::to_value(schemars::schema_for!(SparsitySettings)).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        for key in ["method", "final", "keep_dense", "decay_frozen"] {
            assert!(schema["properties"][key].is_object(), "{key}");
        }
        assert_eq!(schema["$defs"]["Duration"]["type"], "string");
    }
}
