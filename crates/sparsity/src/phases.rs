//! The phases that each method is composed of.

use crate::settings::{MOST_FLIPS, SettingsError, SparsitySettings};
use crate::{Duration, Goal, Method, Phase, Plan, PlanError, Ramp, Timeline};

/// The plan of settings in which every key that the method uses has a value.
pub(crate) fn plan(settings: &SparsitySettings, timeline: Timeline) -> Result<Plan, SettingsError> {
    let total = timeline.total_steps();
    if total == 0 {
        return Err(PlanError::NoSteps.into());
    }
    let method = settings.method;
    let goal = match (method, settings.density) {
        (Method::Dense, None) | (Method::SmallDense, _) => Goal::Dense,
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
        Method::Dense | Method::SmallDense => vec![(total, Phase::Dense)],
        Method::StaticRandom | Method::Set | Method::Rigl => {
            vec![(
                total,
                Phase::Sparse {
                    density: run.density()?,
                },
            )]
        }
        Method::OneShot | Method::L1 => run.one_shot()?,
        Method::Gradual => run.gradual()?,
        Method::Dsd => run.dsd()?,
        Method::Iht | Method::AcDc => run.alternating()?,
    };
    let plan = Plan::new(&phases, goal)?;
    match method {
        Method::Set | Method::Rigl => Ok(plan.with_regrowth(&run.regrowth()?)),
        _ => Ok(plan),
    }
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
        let warmup = match self.settings.method {
            // The penalty acts in the dense phase alone.
            Method::L1 => self.phase("warmup", self.settings.warmup)?,
            _ => self.warmup()?,
        };
        let density = self.density()?;
        let left = self.left("warmup and one sparse step", &[warmup, 1])? + 1;
        let mut phases = self.start(warmup);
        phases.push((left, Phase::Sparse { density }));
        Ok(phases)
    }

    /// The steps before which a part of the support is replaced, and which part: α/2 · (1 + cos(π·t/T)) at step t of T.
    fn regrowth(&self) -> Result<Vec<(usize, f64)>, SettingsError> {
        let (every_key, until_key) = ("regrow_every", "regrow_until");
        let every = self.phase(every_key, self.settings.regrow_every)?;
        let until = self
            .phase(until_key, self.settings.regrow_until)?
            .min(self.total);
        let fraction = self.required("regrow_fraction", self.settings.regrow_fraction)?;
        let count = (until - 1) / every;
        if count == 0 {
            return Err(SettingsError::NeverRegrows {
                every: self.required(every_key, self.settings.regrow_every)?,
                until: self.required(until_key, self.settings.regrow_until)?,
                total: self.total,
            });
        }
        self.few(count)?;
        let part = |step: usize| {
            let angle = std::f64::consts::PI * step as f64 / until as f64;
            fraction / 2.0 * (1.0 + angle.cos())
        };
        Ok((1..=count).map(|i| (i * every, part(i * every))).collect())
    }

    /// Refuses plans that would take the memory of the machine.
    fn few(&self, flips: usize) -> Result<(), SettingsError> {
        match flips > MOST_FLIPS {
            true => Err(SettingsError::TooManyFlips { flips }),
            false => Ok(()),
        }
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
        let between = thresholds.saturating_sub(1);
        if span < between {
            return Err(SettingsError::TooMany {
                key: "thresholds",
                thresholds,
                steps: span,
            });
        }
        self.few(thresholds)?;
        let densities = self.densities("thresholds", thresholds, thresholds)?;
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
        self.few(thresholds.saturating_add(cycles))?;
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
            if thresholds == 1 {
                return Err(SettingsError::Unused {
                    key: "start_density",
                    with: format!("{key} = 1"),
                });
            }
        }
        Ok(ramp.densities(self.settings.start_density, density, thresholds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Edge;
    use crate::methods::preset;

    fn timeline(steps_per_epoch: usize, epochs: usize) -> Timeline {
        Timeline {
            steps_per_epoch,
            epochs,
        }
    }

    fn of(method: Method, density: f64) -> SparsitySettings {
        SparsitySettings {
            density: (method != Method::Dense).then_some(density),
            ..preset(method)
        }
    }

    /// `D` or `S` per epoch, and an error if a phase changes within one.
    fn by_epoch(plan: &Plan, timeline: Timeline) -> String {
        let letter = |phase| if phase == Phase::Dense { 'D' } else { 'S' };
        let epochs = (0..timeline.epochs).map(|epoch| {
            let first = plan.at(epoch * timeline.steps_per_epoch);
            let last = plan.at((epoch + 1) * timeline.steps_per_epoch - 1);
            if first == last { letter(first) } else { '?' }
        });
        epochs.collect()
    }

    fn starts(plan: &Plan) -> Vec<(usize, f64)> {
        let segments = plan.segments().iter();
        segments
            .map(|s| (s.start, (s.phase.density() * 1e4).round() / 1e4))
            .collect()
    }

    #[test]
    fn iht_by_default_over_15_epochs() {
        for steps_per_epoch in [1, 7, 430, 469] {
            let timeline = timeline(steps_per_epoch, 15);
            let plan = of(Method::Iht, 0.1).plan(timeline).unwrap();
            assert_eq!(by_epoch(&plan, timeline), "DDDSSDSSDSSSSSS");
            assert!(plan.thresholds().all(|density| density == 0.1));
            assert_eq!(
                plan.edge(9 * steps_per_epoch),
                Some(Edge::Threshold { density: 0.1 })
            );
        }
    }

    #[test]
    fn what_does_not_fit_a_cycle_lengthens_the_final_phase() {
        let settings = SparsitySettings {
            warmup: Some(Duration::Steps(10)),
            sparse: Some(Duration::Steps(20)),
            dense: Some(Duration::Steps(10)),
            final_phase: Some(Duration::Steps(25)),
            ..of(Method::Iht, 0.5)
        };
        let phases = |total| starts(&settings.plan(timeline(total, 1)).unwrap());
        assert_eq!(phases(65), [(0, 1.0), (10, 0.5), (30, 1.0), (40, 0.5)]);
        assert_eq!(phases(94), [(0, 1.0), (10, 0.5), (30, 1.0), (40, 0.5)]);
        assert_eq!(phases(95).len(), 6);
        assert_eq!(phases(95)[5], (70, 0.5));
        let none = SparsitySettings {
            warmup: Some(Duration::Steps(0)),
            ..settings.clone()
        };
        let plan = none.plan(timeline(55, 1)).unwrap();
        assert_eq!(plan.edge(0), Some(Edge::Threshold { density: 0.5 }));
        let error = settings.plan(timeline(64, 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "warmup, sparse, dense and final take 65 steps, but the run has 64: shorten them or train for more epochs"
        );
    }

    #[test]
    fn ac_dc_has_the_published_phases() {
        let plan = of(Method::AcDc, 0.1).plan(timeline(391, 200)).unwrap();
        let epochs: Vec<usize> = plan.segments().iter().map(|s| s.start / 391).collect();
        assert_eq!(epochs, [0, 10, 30, 50, 70, 90, 110, 130, 150, 170]);
        assert!(plan.segments().iter().all(|s| s.start % 391 == 0));
        assert_eq!(plan.at(170 * 391), Phase::Sparse { density: 0.1 });
    }

    #[test]
    fn gradual_thresholds_by_hand() {
        let settings = SparsitySettings {
            warmup: Some(Duration::Steps(100)),
            final_phase: Some(Duration::Steps(300)),
            thresholds: Some(4),
            ..of(Method::Gradual, 0.1)
        };
        // 0.1 + 0.9 (1 − i/4)³ over a span of 600 steps.
        let plan = settings.plan(timeline(1000, 1)).unwrap();
        assert_eq!(
            starts(&plan),
            [
                (0, 1.0),
                (100, 0.4797),
                (300, 0.2125),
                (500, 0.1141),
                (700, 0.1)
            ]
        );
        let linear = SparsitySettings {
            ramp: Some(Ramp::Linear),
            start_density: Some(0.7),
            ..settings.clone()
        };
        assert_eq!(
            starts(&linear.plan(timeline(1000, 1)).unwrap()),
            [(0, 1.0), (100, 0.7), (300, 0.5), (500, 0.3), (700, 0.1)]
        );
        let one = SparsitySettings {
            thresholds: Some(1),
            ..settings
        };
        assert_eq!(
            starts(&one.plan(timeline(1000, 1)).unwrap()),
            [(0, 1.0), (100, 0.1)]
        );
        let started = SparsitySettings {
            start_density: Some(0.5),
            ..one
        };
        let refused = started.plan(timeline(1000, 1)).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("start_density does nothing with thresholds = 1")
        );
    }

    #[test]
    fn one_shot_and_dsd_by_hand() {
        let plan = of(Method::OneShot, 0.1).plan(timeline(100, 10)).unwrap();
        assert_eq!(starts(&plan), [(0, 1.0), (500, 0.1)]);
        let plan = of(Method::Dsd, 0.5).plan(timeline(100, 9)).unwrap();
        assert_eq!(starts(&plan), [(0, 1.0), (300, 0.5), (600, 1.0)]);
        assert_eq!(
            (plan.edge(600), plan.final_density()),
            (Some(Edge::Reactivate), 1.0)
        );
        // A static mask from the first step.
        let warmup = Some(Duration::Percent(0.0));
        let plan = SparsitySettings {
            warmup,
            ..of(Method::OneShot, 0.1)
        };
        assert_eq!(starts(&plan.plan(timeline(100, 10)).unwrap()), [(0, 0.1)]);
    }

    #[test]
    fn regrowth_by_hand() {
        let rigl = SparsitySettings {
            regrow_every: Some(Duration::Steps(100)),
            regrow_until: Some(Duration::Percent(50.0)),
            ..of(Method::Rigl, 0.1)
        };
        let plan = rigl.plan(timeline(800, 1)).unwrap();
        assert_eq!(starts(&plan), [(0, 0.1)]);
        let edges = plan.edges();
        assert_eq!(edges[0], (0, Edge::Threshold { density: 0.1 }));
        assert_eq!(edges[edges.len() - 1], (800, Edge::Finish));
        // 0.15 · (1 + cos(π/4)), 0.15, 0.15 · (1 − cos(π/4)); at step 400 nothing is left to replace.
        for (edge, (step, part)) in
            (edges[1..4].iter()).zip([(100, 0.256066), (200, 0.15), (300, 0.043934)])
        {
            let (at, Edge::Regrow { fraction }) = *edge else {
                panic!("{edge:?}");
            };
            assert_eq!(at, step);
            assert!((fraction - part).abs() < 1e-6, "{fraction}");
        }
        assert_eq!(edges.len(), 5);
        let static_random = of(Method::StaticRandom, 0.1)
            .plan(timeline(800, 1))
            .unwrap();
        assert_eq!(static_random.edges().len(), 2);
        let short = rigl.plan(timeline(150, 1)).unwrap_err().to_string();
        assert!(short.contains("never comes before"), "{short}");
        let often = SparsitySettings {
            regrow_every: Some(Duration::Steps(1)),
            ..rigl
        };
        let error = often.plan(timeline(1000, 1000)).unwrap_err().to_string();
        assert!(error.contains("499999 flips"), "{error}");
    }

    #[test]
    fn plans_that_would_fill_the_memory_are_refused() {
        let cycles = SparsitySettings {
            sparse: Some(Duration::Steps(1)),
            dense: Some(Duration::Steps(1)),
            ..of(Method::Iht, 0.1)
        };
        let thresholds = SparsitySettings {
            thresholds: Some(1 << 28),
            ..of(Method::Gradual, 0.1)
        };
        for settings in [cycles, thresholds] {
            let error = settings.plan(timeline(1 << 20, 1 << 10)).unwrap_err();
            assert!(
                matches!(error, SettingsError::TooManyFlips { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_ramp_gives_each_sparse_phase_its_density() {
        let rising = SparsitySettings {
            ramp: Some(Ramp::Linear),
            ..of(Method::Iht, 0.1)
        };
        let plan = rising.plan(timeline(100, 15)).unwrap();
        assert_eq!(
            starts(&plan),
            [
                (0, 1.0),
                (300, 0.7),
                (500, 1.0),
                (600, 0.4),
                (800, 1.0),
                (900, 0.1)
            ]
        );
        let cubic = SparsitySettings {
            ramp: Some(Ramp::Cubic),
            start_density: Some(0.5),
            ..rising.clone()
        };
        assert_eq!(
            cubic
                .plan(timeline(100, 15))
                .unwrap()
                .thresholds()
                .collect::<Vec<_>>(),
            Ramp::Cubic.densities(Some(0.5), 0.1, 3)
        );
        // Three steps of the ramp are in the first half of the final phase.
        let several = SparsitySettings {
            final_thresholds: Some(3),
            ..rising
        };
        assert_eq!(
            starts(&several.plan(timeline(100, 15)).unwrap()),
            [
                (0, 1.0),
                (300, 0.82),
                (500, 1.0),
                (600, 0.64),
                (800, 1.0),
                (900, 0.46),
                (1000, 0.28),
                (1100, 0.1)
            ]
        );
    }
}
