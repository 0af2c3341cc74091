//! The methods: each a short composition of phases.

use crate::settings::{SettingsError, SparsitySettings};
use crate::{Budget, Duration, Phase, Ramp, Reactivated, SlotsAtReactivation, SlotsAtThreshold};
use crate::{Goal, Plan, PlanError, Timeline};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a sparse network is reached. Each method has its own keys and defaults, see [`SparsitySettings::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Ordinary training.
    #[default]
    Dense,
    /// Dense for `warmup`, then one threshold and fine-tuning to the end (Han et al. 2015).
    OneShot,
    /// Dense for `warmup`, then `thresholds` many small thresholds, evenly spaced, the last one `final` before the end
    /// (Zhu & Gupta 2017).
    Gradual,
    /// Dense for `warmup`, sparse for `sparse`, dense to the end: the result is dense by design (Han et al. 2016).
    Dsd,
    /// Dense for `warmup`, then sparse for `sparse` and dense for `dense` in turn as often as both fit before `final`; what is left of
    /// the run is the final sparse phase, at least as long as `final` (Jin et al. 2016).
    Iht,
    /// The phases of `iht` with a global budget, all slots zeroed at every re-activation and longer dense phases (Peste et al. 2021).
    AcDc,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Method::Dense => "dense",
            Method::OneShot => "one_shot",
            Method::Gradual => "gradual",
            Method::Dsd => "dsd",
            Method::Iht => "iht",
            Method::AcDc => "ac_dc",
        })
    }
}

/// The settings of a method: a key that is `None` here is not used by it (`density`, which has no default, and keys that
/// depend on another key's value excepted).
pub(crate) fn preset(method: Method) -> SparsitySettings {
    let percent = |value| Some(Duration::Percent(value));
    let base = SparsitySettings {
        method,
        ..SparsitySettings::default()
    };
    let thresholding = SparsitySettings {
        budget: Some(Budget::Uniform),
        slots_at_threshold: Some(SlotsAtThreshold::Zero),
        ..base.clone()
    };
    let reactivating = SparsitySettings {
        reactivated: Some(Reactivated::Zero),
        slots_at_reactivation: Some(SlotsAtReactivation::Zero),
        decay_frozen: Some(false),
        ..thresholding.clone()
    };
    match method {
        Method::Dense => base,
        Method::OneShot => SparsitySettings {
            warmup: percent(50.0),
            ..thresholding
        },
        Method::Gradual => SparsitySettings {
            warmup: percent(20.0),
            final_phase: percent(33.0),
            ramp: Some(Ramp::Cubic),
            thresholds: Some(20),
            ..thresholding
        },
        Method::Dsd => SparsitySettings {
            warmup: percent(33.0),
            sparse: percent(33.0),
            ..reactivating
        },
        Method::Iht => SparsitySettings {
            warmup: percent(20.0),
            sparse: percent(13.0),
            dense: percent(7.0),
            final_phase: percent(33.0),
            ramp: Some(Ramp::Constant),
            final_thresholds: Some(1),
            ..reactivating
        },
        // The published schedule: of 200 epochs dense to 10, then 20 sparse and 20 dense in turn, sparse from 170.
        Method::AcDc => SparsitySettings {
            budget: Some(Budget::Global),
            slots_at_reactivation: Some(SlotsAtReactivation::ZeroAll),
            warmup: percent(5.0),
            sparse: percent(10.0),
            dense: percent(10.0),
            final_phase: percent(15.0),
            ramp: Some(Ramp::Constant),
            final_thresholds: Some(1),
            ..reactivating
        },
    }
}

/// The plan of settings in which every key that the method uses has a value.
pub(crate) fn plan(settings: &SparsitySettings, timeline: Timeline) -> Result<Plan, SettingsError> {
    let total = timeline.total_steps();
    if total == 0 {
        return Err(PlanError::NoSteps.into());
    }
    let method = settings.method;
    let goal = match (method, settings.density) {
        (Method::Dense, None) => Goal::Dense,
        (Method::Dsd, _) => Goal::DenseAfterSparse,
        (_, Some(density)) => Goal::Sparse { density },
        (_, None) => {
            return Err(SettingsError::Missing {
                method,
                key: "density",
            });
        }
    };
    let run = Run {
        settings,
        timeline,
        total,
    };
    let phases = match method {
        Method::Dense => vec![(total, Phase::Dense)],
        Method::OneShot => run.one_shot()?,
        Method::Gradual => run.gradual()?,
        Method::Dsd => run.dsd()?,
        Method::Iht | Method::AcDc => run.alternating()?,
    };
    Ok(Plan::new(&phases, goal)?)
}

type Phases = Vec<(usize, Phase)>;

struct Run<'a> {
    settings: &'a SparsitySettings,
    timeline: Timeline,
    total: usize,
}

impl Run<'_> {
    fn required<T>(&self, key: &'static str, value: Option<T>) -> Result<T, SettingsError> {
        let method = self.settings.method;
        value.ok_or(SettingsError::Missing { method, key })
    }

    fn density(&self) -> Result<f64, SettingsError> {
        self.required("density", self.settings.density)
    }

    /// Steps of the dense phase at the start, which may be none.
    fn warmup(&self) -> Result<usize, SettingsError> {
        let warmup = self.required("warmup", self.settings.warmup)?;
        Ok(warmup.steps(self.timeline))
    }

    /// Steps of a phase, which must not be none.
    fn phase(&self, key: &'static str, value: Option<Duration>) -> Result<usize, SettingsError> {
        let duration = self.required(key, value)?;
        match duration.steps(self.timeline) {
            0 => Err(SettingsError::EmptyPhase {
                key,
                duration,
                total: self.total,
            }),
            steps => Ok(steps),
        }
    }

    /// The steps that are left of the run after those that the keys ask for.
    fn left(&self, keys: &'static str, asked: &[usize]) -> Result<usize, SettingsError> {
        let asked = asked.iter().fold(0usize, |sum, &n| sum.saturating_add(n));
        self.total
            .checked_sub(asked)
            .ok_or(SettingsError::DoesNotFit {
                keys,
                asked,
                total: self.total,
            })
    }

    fn start(&self, warmup: usize) -> Phases {
        match warmup {
            0 => Vec::new(),
            steps => vec![(steps, Phase::Dense)],
        }
    }

    fn one_shot(&self) -> Result<Phases, SettingsError> {
        let warmup = self.warmup()?;
        let density = self.density()?;
        let left = self.left("warmup and one sparse step", &[warmup, 1])? + 1;
        let mut phases = self.start(warmup);
        phases.push((left, Phase::Sparse { density }));
        Ok(phases)
    }

    fn dsd(&self) -> Result<Phases, SettingsError> {
        let warmup = self.warmup()?;
        let density = self.density()?;
        let sparse = self.phase("sparse", self.settings.sparse)?;
        let left = self.left("warmup, sparse and one dense step", &[warmup, sparse, 1])? + 1;
        let mut phases = self.start(warmup);
        phases.push((sparse, Phase::Sparse { density }));
        phases.push((left, Phase::Dense));
        Ok(phases)
    }

    fn gradual(&self) -> Result<Phases, SettingsError> {
        let warmup = self.warmup()?;
        let last = self.phase("final", self.settings.final_phase)?;
        let thresholds = self.required("thresholds", self.settings.thresholds)?;
        let span = self.left("warmup and final", &[warmup, last])?;
        let densities = self.densities("thresholds", thresholds, thresholds)?;
        let between = thresholds - 1;
        if span < between {
            return Err(SettingsError::TooMany {
                key: "thresholds",
                thresholds,
                steps: span,
            });
        }
        // The first threshold comes at the start of the span, the last at its end.
        let start = |i: usize| match i.checked_sub(1) {
            None => 0,
            Some(_) if i > between => span + last,
            Some(_) => (span as u128 * i as u128 / between as u128) as usize,
        };
        let mut phases = self.start(warmup);
        phases.extend(
            densities
                .iter()
                .enumerate()
                .map(|(i, &density)| (start(i + 1) - start(i), Phase::Sparse { density })),
        );
        Ok(phases)
    }

    fn alternating(&self) -> Result<Phases, SettingsError> {
        let warmup = self.warmup()?;
        let sparse = self.phase("sparse", self.settings.sparse)?;
        let dense = self.phase("dense", self.settings.dense)?;
        let last = self.phase("final", self.settings.final_phase)?;
        let keys = "warmup, sparse, dense and final";
        let cycle = sparse.saturating_add(dense);
        let cycles = 1 + self.left(keys, &[warmup, cycle, last])? / cycle;
        let last = self.total - warmup - cycles * cycle;

        let final_thresholds = self.required("final_thresholds", self.settings.final_thresholds)?;
        let thresholds = cycles.saturating_add(final_thresholds);
        if final_thresholds > 1 && final_thresholds > last / 2 {
            return Err(SettingsError::TooMany {
                key: "final_thresholds",
                thresholds: final_thresholds,
                steps: last / 2,
            });
        }
        let densities = self.densities("final_thresholds", final_thresholds, thresholds)?;
        let (alternating, closing) = densities.split_at(cycles);

        let mut phases = self.start(warmup);
        for &density in alternating {
            phases.push((sparse, Phase::Sparse { density }));
            phases.push((dense, Phase::Dense));
        }
        // The thresholds of the final phase are spread over its first half, so that the second trains at the final density.
        let start = |i: usize| match i < final_thresholds {
            true => last / 2 * i / final_thresholds,
            false => last,
        };
        phases.extend(
            closing
                .iter()
                .enumerate()
                .map(|(i, &density)| (start(i + 1) - start(i), Phase::Sparse { density })),
        );
        Ok(phases)
    }

    /// The densities of `thresholds` thresholds, of which `asked` were set by `key`.
    fn densities(
        &self,
        key: &'static str,
        asked: usize,
        thresholds: usize,
    ) -> Result<Vec<f64>, SettingsError> {
        let ramp = self.required("ramp", self.settings.ramp)?;
        let density = self.density()?;
        if asked == 0 {
            return Err(SettingsError::NoThreshold { key });
        }
        if ramp == Ramp::Constant && asked > 1 {
            return Err(SettingsError::NeedsRamp { key });
        }
        if let Some(start) = self.settings.start_density {
            if ramp == Ramp::Constant {
                return Err(SettingsError::NeedsRamp {
                    key: "start_density",
                });
            }
            if !(start >= density && start <= 1.0) {
                return Err(SettingsError::StartDensity { start, density });
            }
        }
        Ok(ramp.densities(self.settings.start_density, density, thresholds))
    }
}
