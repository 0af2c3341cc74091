//! The learning rate as a pure function of the step.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The base rate throughout.
    Constant,
    /// The base rate times `factor` for every `every` that has passed.
    Step,
    /// The base rate times `factor` for every entry of `at` that has passed.
    MultiStep,
    /// Half a cosine from the base rate down to `final_rate` times it.
    Cosine,
    /// Smith & Topin 2018 with cosine halves, as PyTorch's OneCycleLR with its default constants: from 1/25 of
    /// the base rate up to it over the first 30 %, then down to 4·10⁻⁷ of it.
    OneCycle,
}

/// A schedule with all durations resolved to steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The shape.
    pub kind: ScheduleKind,
    /// The base rate; the peak of one-cycle.
    pub base: f64,
    /// Steps of the whole run.
    pub total: usize,
    /// Steps of the linear warm-up from 0 at the start; the shape runs over what remains.
    pub warmup: usize,
    /// Factor of step and multi-step.
    pub factor: f64,
    /// Period of step, in steps.
    pub every: usize,
    /// Falls of multi-step, in steps from the start.
    pub at: Vec<usize>,
    /// Where cosine ends, as a fraction of the base rate.
    pub final_rate: f64,
}

const ONE_CYCLE_RISE: f64 = 0.3;
const ONE_CYCLE_START: f64 = 1.0 / 25.0;
const ONE_CYCLE_END: f64 = ONE_CYCLE_START / 1e4;

impl Schedule {
    /// The rate of step `step` (0-based).
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.base * (step + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            ScheduleKind::Constant => self.base,
            ScheduleKind::Step => self.base * self.factor.powi((step / self.every.max(1)) as i32),
            ScheduleKind::MultiStep => {
                let passed = self.at.iter().filter(|&&at| step >= at).count();
                self.base * self.factor.powi(passed as i32)
            }
            ScheduleKind::Cosine => {
                let floor = self.base * self.final_rate;
                cosine(self.base, floor, self.progress(step))
            }
            ScheduleKind::OneCycle => {
                // PyTorch counts phases in steps: the peak is at 0.3·total − 1, the end at total − 1.
                let peak = ONE_CYCLE_RISE * (self.total - self.warmup) as f64 - 1.0;
                let end = ((self.total - self.warmup) as f64 - 1.0).max(1.0);
                let position = (step - self.warmup) as f64;
                if position <= peak && peak > 0.0 {
                    cosine(self.base * ONE_CYCLE_START, self.base, position / peak)
                } else {
                    let fall = (position - peak) / (end - peak).max(1.0);
                    cosine(self.base, self.base * ONE_CYCLE_END, fall.min(1.0))
                }
            }
        }
    }

    /// Progress through the shape, 0 at its first step and 1 at the end of the run.
    fn progress(&self, step: usize) -> f64 {
        (step - self.warmup) as f64 / (self.total - self.warmup).max(1) as f64
    }
}

fn cosine(from: f64, to: f64, progress: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule {
            kind,
            base: 0.1,
            total: 100,
            warmup: 0,
            factor: 0.1,
            every: 30,
            at: vec![50, 75],
            final_rate: 0.0,
        }
    }

    #[test]
    fn step_and_multi_step_fall_where_they_are_told() {
        let step = schedule(ScheduleKind::Step);
        assert_eq!(step.rate(29), 0.1);
        assert!((step.rate(30) - 0.01).abs() < 1e-15);
        assert!((step.rate(99) - 1e-4).abs() < 1e-15);
        let multi = schedule(ScheduleKind::MultiStep);
        assert_eq!(multi.rate(49), 0.1);
        assert!((multi.rate(50) - 0.01).abs() < 1e-15);
        assert!((multi.rate(75) - 0.001).abs() < 1e-15);
    }

    #[test]
    fn cosine_halves_the_rate_at_half_time() {
        let cosine = schedule(ScheduleKind::Cosine);
        assert_eq!(cosine.rate(0), 0.1);
        assert!((cosine.rate(50) - 0.05).abs() < 1e-12);
        assert!(cosine.rate(99) > 0.0);
    }

    /// Values printed by `torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100)`.
    #[test]
    fn one_cycle_agrees_with_pytorch() {
        let one_cycle = schedule(ScheduleKind::OneCycle);
        for (step, rate) in ONE_CYCLE_OF_PYTORCH {
            assert!((one_cycle.rate(step) - rate).abs() < 1e-12, "step {step}");
        }
    }

    const ONE_CYCLE_OF_PYTORCH: [(usize, f64); 7] = [
        (0, 0.0040000000000000036),
        (1, 0.004281378056590748),
        (15, 0.05459866761210004),
        (29, 0.1),
        (30, 0.09994965352845243),
        (64, 0.0500002),
        (99, 4e-07),
    ];

    #[test]
    fn warm_up_rises_to_the_base_rate() {
        let mut cosine = schedule(ScheduleKind::Cosine);
        cosine.warmup = 10;
        assert!((cosine.rate(0) - 0.01).abs() < 1e-15);
        assert_eq!(cosine.rate(9), 0.1);
        assert_eq!(cosine.rate(10), 0.1);
        assert!(cosine.rate(99) < 1e-4);
    }
}
