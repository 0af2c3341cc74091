//! When the network is dense, when it is sparse, and what happens in between.

use serde::Serialize;
use thiserror::Error;

/// What the weights of a network are allowed to be during a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// All weights train.
    Dense,
    /// Only the support trains; everything else is zero.
    Sparse {
        /// Kept fraction of the thresholded weights, above 0 and at most 1.
        density: f64,
    },
}

impl Phase {
    /// Kept fraction, 0–1; 1 for a dense phase.
    pub fn density(self) -> f64 {
        match self {
            Phase::Dense => 1.0,
            Phase::Sparse { density } => density,
        }
    }

    /// "dense" or "sparse".
    pub fn name(self) -> &'static str {
        match self {
            Phase::Dense => "dense",
            Phase::Sparse { .. } => "sparse",
        }
    }
}

/// What must happen between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "edge")]
pub enum Edge {
    /// Project every thresholded layer; in a sparse phase only its support is ranked.
    Threshold {
        /// Kept fraction from now on.
        density: f64,
    },
    /// Allow all weights to train again.
    Reactivate,
    /// Replace a part of the support; needs the gradients of all weights, unmasked.
    Regrow {
        /// Fraction of the support to replace.
        fraction: f64,
    },
    /// The run is over.
    Finish,
}

/// A stretch of steps `start..end` in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Segment {
    /// First step.
    pub start: usize,
    /// Step after the last.
    pub end: usize,
    /// Phase of all of them.
    #[serde(flatten)]
    pub phase: Phase,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// A dense network; no threshold is needed.
    Dense,
    /// A network of this density.
    Sparse {
        /// Kept fraction at the end.
        density: f64,
    },
    /// A dense network that was sparse for a while (DSD).
    DenseAfterSparse,
}

/// Why a plan is refused before the first step.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PlanError {
    /// There is no step to train.
    #[error(
        "the run has no steps: set epochs to at least 1 and use a data set of at least one batch"
    )]
    NoSteps,
    /// A phase has no step.
    #[error("phase {number} of the plan ({}) is empty: make it longer or leave it out", phase.name())]
    EmptyPhase {
        /// Position in the plan, from 1.
        number: usize,
        /// The phase.
        phase: Phase,
    },
    /// A density that is none.
    #[error("density {density} is outside (0, 1]: write the kept fraction, as 0.1 for a tenth")]
    Density {
        /// The value.
        density: f64,
    },
    /// The density rises without a dense phase in between.
    #[error(
        "density rises from {from} to {to} at step {step} within a sparse phase: let it fall or put a dense phase between"
    )]
    DensityRises {
        /// Step of the rise.
        step: usize,
        /// Density before.
        from: f64,
        /// Density after.
        to: f64,
    },
    /// A sparse network was asked for and no step is sparse.
    #[error(
        "the plan never thresholds, though a sparse network was asked for: choose another method or leave density out"
    )]
    NeverThresholds,
    /// A sparse network was asked for and the last phase is dense.
    #[error(
        "the plan ends dense, though density {density} was asked for: let the last phase be sparse or use method dsd"
    )]
    EndsDense {
        /// Density asked for.
        density: f64,
    },
    /// The last density is not what was asked for.
    #[error(
        "the plan ends at density {last}, though {density} was asked for: let the last threshold reach it"
    )]
    WrongDensity {
        /// Density of the last phase.
        last: f64,
        /// Density asked for.
        density: f64,
    },
}

/// The phases of a run, known before its first step: a function of the step alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    segments: Vec<Segment>,
    #[serde(skip)]
    edges: Vec<(usize, Edge)>,
}

impl Plan {
    /// A plan of phases, each with its number of steps, one after the other. Equal neighbours become one.
    ///
    /// # Errors
    /// [`PlanError`] if there is no step, a phase is empty, a density is outside (0, 1] or rises within a sparse phase, or the plan
    /// misses its goal.
    pub fn new(phases: &[(usize, Phase)], goal: Goal) -> Result<Self, PlanError> {
        let mut segments: Vec<Segment> = Vec::new();
        for (position, &(steps, phase)) in phases.iter().enumerate() {
            let density = phase.density();
            if !(density > 0.0 && density <= 1.0) {
                return Err(PlanError::Density { density });
            }
            if steps == 0 {
                let number = position + 1;
                return Err(PlanError::EmptyPhase { number, phase });
            }
            let start = segments.last().map_or(0, |s| s.end);
            match segments.last_mut() {
                Some(last) if last.phase == phase => last.end += steps,
                _ => segments.push(Segment {
                    start,
                    end: start + steps,
                    phase,
                }),
            }
        }
        let plan = Plan {
            edges: edges(&segments)?,
            segments,
        };
        plan.check(goal)?;
        Ok(plan)
    }

    /// The same plan in which a part of the support, `fraction`, is replaced immediately before each of these steps, which are ascending,
    /// within sparse phases and not the first of one.
    pub(crate) fn with_regrowth(mut self, regrowth: &[(usize, f64)]) -> Self {
        let regrowth = regrowth.iter();
        self.edges
            .extend(regrowth.map(|&(step, fraction)| (step, Edge::Regrow { fraction })));
        self.edges.sort_by_key(|&(step, _)| step);
        self
    }

    fn check(&self, goal: Goal) -> Result<(), PlanError> {
        let last = self.segments.last().ok_or(PlanError::NoSteps)?.phase;
        let thresholds = self.segments.iter().any(|s| s.phase != Phase::Dense);
        match (goal, last) {
            (Goal::Dense, _) => Ok(()),
            (Goal::Sparse { density: 1.0 }, Phase::Dense) => Ok(()),
            _ if !thresholds => Err(PlanError::NeverThresholds),
            (Goal::Sparse { density }, Phase::Dense) => Err(PlanError::EndsDense { density }),
            (Goal::Sparse { density }, Phase::Sparse { density: last }) if last != density => {
                Err(PlanError::WrongDensity { last, density })
            }
            _ => Ok(()),
        }
    }

    /// The phase of step `step` (from 0); beyond the end, that of the last step.
    pub fn at(&self, step: usize) -> Phase {
        let after = self.segments.partition_point(|s| s.start <= step);
        self.segments[after.max(1) - 1].phase
    }

    /// What must happen immediately before step `step` (from 0), if anything; before step [`Plan::total_steps`], which is none, the
    /// run finishes.
    pub fn edge(&self, step: usize) -> Option<Edge> {
        let found = self.edges.binary_search_by_key(&step, |&(at, _)| at);
        found.ok().map(|position| self.edges[position].1)
    }

    /// All edges with the step that each comes before, ascending; the last is [`Edge::Finish`].
    pub fn edges(&self) -> &[(usize, Edge)] {
        &self.edges
    }

    /// The stretches of the run, without gaps.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Steps of the run.
    pub fn total_steps(&self) -> usize {
        self.segments.last().map_or(0, |s| s.end)
    }

    /// Kept fraction of the network that comes out; 1 if the last phase is dense.
    pub fn final_density(&self) -> f64 {
        self.segments.last().map_or(1.0, |s| s.phase.density())
    }

    /// The densities of the thresholds, in order.
    pub fn thresholds(&self) -> impl Iterator<Item = f64> + '_ {
        self.edges.iter().filter_map(|&(_, edge)| match edge {
            Edge::Threshold { density } => Some(density),
            _ => None,
        })
    }
}

/// The edges between segments, of which no two neighbours are in the same phase.
fn edges(segments: &[Segment]) -> Result<Vec<(usize, Edge)>, PlanError> {
    let mut edges = Vec::new();
    let mut before = Phase::Dense;
    for segment in segments {
        let step = segment.start;
        match (before, segment.phase) {
            (Phase::Dense, Phase::Dense) => {}
            (Phase::Sparse { .. }, Phase::Dense) => edges.push((step, Edge::Reactivate)),
            (Phase::Sparse { density: from }, Phase::Sparse { density: to }) if to > from => {
                return Err(PlanError::DensityRises { step, from, to });
            }
            (_, Phase::Sparse { density }) => edges.push((step, Edge::Threshold { density })),
        }
        before = segment.phase;
    }
    if let Some(last) = segments.last() {
        edges.push((last.end, Edge::Finish));
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DENSE: Phase = Phase::Dense;

    fn sparse(density: f64) -> Phase {
        Phase::Sparse { density }
    }

    #[test]
    fn edges_come_before_the_first_step_of_a_phase() {
        let phases = [
            (3, DENSE),
            (2, sparse(0.5)),
            (1, DENSE),
            (2, sparse(0.5)),
            (4, sparse(0.1)),
        ];
        let plan = Plan::new(&phases, Goal::Sparse { density: 0.1 }).unwrap();
        assert_eq!(
            plan.edges(),
            [
                (3, Edge::Threshold { density: 0.5 }),
                (5, Edge::Reactivate),
                (6, Edge::Threshold { density: 0.5 }),
                (8, Edge::Threshold { density: 0.1 }),
                (12, Edge::Finish)
            ]
        );
        assert_eq!((plan.at(2), plan.at(3)), (DENSE, sparse(0.5)));
        assert_eq!((plan.at(11), plan.at(100)), (sparse(0.1), sparse(0.1)));
        assert_eq!((plan.edge(0), plan.edge(13)), (None, None));
        assert_eq!(plan.thresholds().collect::<Vec<_>>(), [0.5, 0.5, 0.1]);
        assert_eq!((plan.total_steps(), plan.final_density()), (12, 0.1));
    }

    #[test]
    fn a_plan_may_start_sparse_and_equal_neighbours_are_one() {
        let plan = Plan::new(
            &[(3, sparse(0.5)), (2, sparse(0.5))],
            Goal::Sparse { density: 0.5 },
        );
        let plan = plan.unwrap();
        assert_eq!(plan.edge(0), Some(Edge::Threshold { density: 0.5 }));
        assert_eq!(plan.edge(3), None);
        assert_eq!(plan.segments().len(), 1);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        let goal = Goal::Sparse { density: 0.5 };
        let new = |phases: &[(usize, Phase)]| Plan::new(phases, goal).unwrap_err();
        assert_eq!(new(&[]), PlanError::NoSteps);
        assert_eq!(
            new(&[(1, DENSE), (0, sparse(0.5))]),
            PlanError::EmptyPhase {
                number: 2,
                phase: sparse(0.5)
            }
        );
        for density in [0.0, -0.1, 1.5, f64::INFINITY] {
            assert_eq!(new(&[(1, sparse(density))]), PlanError::Density { density });
        }
        assert!(matches!(
            new(&[(1, sparse(f64::NAN))]),
            PlanError::Density { .. }
        ));
        assert_eq!(
            new(&[(1, sparse(0.1)), (1, sparse(0.5))]),
            PlanError::DensityRises {
                step: 1,
                from: 0.1,
                to: 0.5
            }
        );
        assert_eq!(new(&[(9, DENSE)]), PlanError::NeverThresholds);
        assert_eq!(
            new(&[(9, sparse(0.5)), (1, DENSE)]),
            PlanError::EndsDense { density: 0.5 }
        );
        assert_eq!(
            new(&[(9, sparse(0.7))]),
            PlanError::WrongDensity {
                last: 0.7,
                density: 0.5
            }
        );
        assert_eq!(
            Plan::new(&[(9, DENSE)], Goal::DenseAfterSparse),
            Err(PlanError::NeverThresholds)
        );
    }

    #[test]
    fn goals_that_are_met() {
        assert!(Plan::new(&[(9, DENSE)], Goal::Dense).is_ok());
        assert!(Plan::new(&[(9, DENSE)], Goal::Sparse { density: 1.0 }).is_ok());
        let dsd = [(1, DENSE), (1, sparse(0.5)), (1, DENSE)];
        assert_eq!(
            Plan::new(&dsd, Goal::DenseAfterSparse)
                .unwrap()
                .final_density(),
            1.0
        );
    }

    proptest! {
        #[test]
        fn phase_and_edge_agree_at_every_step(steps in prop::collection::vec((1usize..9, 0usize..3), 1..12)) {
            let phases: Vec<(usize, Phase)> = steps
                .iter()
                .map(|&(steps, kind)| (steps, [DENSE, sparse(0.5), sparse(0.2)][kind]))
                .collect();
            let rises = phases.windows(2).any(|w| w[0].1 == sparse(0.2) && w[1].1 == sparse(0.5));
            let plan = Plan::new(&phases, Goal::Dense);
            prop_assert_eq!(plan.is_err(), rises);
            let Ok(plan) = plan else { return Ok(()) };

            let total: usize = phases.iter().map(|p| p.0).sum();
            prop_assert_eq!(plan.total_steps(), total);
            let unrolled: Vec<Phase> = phases.iter().flat_map(|&(n, p)| std::iter::repeat_n(p, n)).collect();
            let mut before = DENSE;
            for (step, &phase) in unrolled.iter().enumerate() {
                prop_assert_eq!(plan.at(step), phase);
                let expected = match phase {
                    _ if phase == before => None,
                    Phase::Dense => Some(Edge::Reactivate),
                    Phase::Sparse { density } => Some(Edge::Threshold { density }),
                };
                prop_assert_eq!(plan.edge(step), expected);
                before = phase;
            }
            prop_assert_eq!(plan.edge(total), Some(Edge::Finish));
            let borders: Vec<usize> = plan.segments().iter().map(|s| s.start).chain([total]).collect();
            prop_assert!(plan.edges().iter().all(|(step, _)| borders.contains(step)));
        }
    }
}
