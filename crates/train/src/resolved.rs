//! A recipe with everything worked out that can be known before the first step.

use skinny_network::{Graph, Network, Parameter, Role};
use skinny_sparsity::{Edge, LayerShape, Phase, Plan, Timeline, matches};

use crate::engine::{EngineSettings, Factors};
use crate::material::check_output;
use crate::recipe::Recipe;
use crate::schedule::{Schedule, ScheduleKind};
use crate::{RecipeError, TrainError};

/// The most records of layers at flips: all are part of every checkpoint, whose header can hold 100 MB, and one has some 600 bytes.
const MOST_RECORDS: usize = 100_000;

/// A recipe together with its network, plan and schedule, all validated.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// As written, defaults filled in.
    pub recipe: Recipe,
    /// The network described.
    pub network: Network,
    /// The network checked.
    pub graph: Graph,
    /// Phases and flips.
    pub plan: Plan,
    /// The learning rate.
    pub schedule: Schedule,
    /// Steps in one epoch.
    pub steps_per_epoch: usize,
    /// What makes two runs the same but for their seed.
    pub settings_hash: String,
    /// Indices into [`Graph::parameters`] of the weights that can be thresholded, those of `keep_dense` among them.
    pub thresholded: Vec<usize>,
    /// Names and shapes of the same.
    pub layers: Vec<LayerShape>,
    /// Multipliers of rate and decay of every parameter: the network's times the recipe's.
    pub factors: Vec<Factors>,
}

impl Resolved {
    /// Works a recipe out for a training set of `images` pictures (those held out not counted).
    pub fn new(mut recipe: Recipe, images: usize) -> Result<Resolved, TrainError> {
        let network = recipe.network()?;
        let graph = network.graph().map_err(RecipeError::from)?;
        check_output(&graph)?;
        let batch = recipe.data.batch;
        // A last, smaller batch is left out, unless it is the only one.
        let steps_per_epoch = (images / batch).max(1);
        let timeline = Timeline {
            steps_per_epoch,
            epochs: recipe.train.epochs as usize,
        };
        recipe.sparsity = recipe.sparsity.resolved().map_err(RecipeError::from)?;
        let plan = recipe.sparsity.plan(timeline).map_err(RecipeError::from)?;
        let schedule = schedule(&recipe, timeline)?;
        let settings_hash = recipe.settings_hash(&network);
        let thresholded: Vec<usize> = (0..graph.parameters.len())
            .filter(|&i| graph.parameters[i].role.thresholded())
            .collect();
        let layers: Vec<LayerShape> = thresholded
            .iter()
            .map(|&i| LayerShape {
                name: graph.parameters[i].name.clone(),
                shape: graph.parameters[i].shape.clone(),
            })
            .collect();
        skinny_sparsity::validate(&recipe.sparsity, &plan, &layers).map_err(RecipeError::from)?;
        let records = plan.edges().len() * layers.len();
        if records > MOST_RECORDS {
            return Err(RecipeError::TooManyRecords {
                flips: plan.edges().len(),
                layers: layers.len(),
                most: MOST_RECORDS,
            }
            .into());
        }
        let factors = factors(&recipe, &graph)?;
        Ok(Resolved {
            recipe,
            network,
            graph,
            plan,
            schedule,
            steps_per_epoch,
            settings_hash,
            thresholded,
            layers,
            factors,
        })
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> usize {
        self.plan.total_steps()
    }

    /// What an engine needs to know.
    pub fn engine_settings(&self, threads: usize) -> EngineSettings {
        let train = &self.recipe.train;
        EngineSettings {
            batch: self.recipe.data.batch,
            threads,
            optimizer: train.optimizer(),
            label_smoothing: train.label_smoothing as f32,
            clip_norm: (train.clip_norm > 0.0).then_some(train.clip_norm as f32),
            ema: (train.ema > 0.0).then_some(train.ema as f32),
            seed: self.recipe.seed,
            factors: self.factors.clone(),
        }
    }

    /// The learning rate of a step, with the factor of its phase and the warm-up after its last flip.
    pub fn rate(&self, step: usize) -> f64 {
        let rates = &self.recipe.train.phase_lr;
        let segments = self.plan.segments();
        let index = segments
            .partition_point(|segment| segment.end <= step)
            .min(segments.len() - 1);
        let segment = &segments[index];
        let factor = if index > 0 && index + 1 == segments.len() {
            rates.last
        } else if matches!(segment.phase, Phase::Sparse { .. }) {
            rates.sparse
        } else {
            rates.dense
        };
        let since = step - segment.start;
        let rise = match self.recipe.train.flip_warmup.steps(self.timeline()) {
            steps if index > 0 && since < steps => (since + 1) as f64 / steps as f64,
            _ => 1.0,
        };
        self.schedule.rate(step) * factor * rise
    }

    fn timeline(&self) -> Timeline {
        Timeline {
            steps_per_epoch: self.steps_per_epoch,
            epochs: self.recipe.train.epochs as usize,
        }
    }

    /// Steps between two checkpoints, at least one.
    pub fn checkpoint_every(&self) -> usize {
        self.recipe.train.checkpoint.steps(self.timeline()).max(1)
    }

    /// Whether the state after this step, counted from 0, may be chosen as `best`: only those at the final density may, and before its
    /// first threshold a method has done nothing yet.
    pub fn may_be_best(&self, step: usize) -> bool {
        let mut thresholds = (self.plan.edges().iter())
            .filter(|(_, edge)| matches!(edge, Edge::Threshold { .. }))
            .map(|(at, _)| *at);
        self.plan.at(step).density() == self.plan.final_density()
            && thresholds.next().is_none_or(|first| first <= step)
    }

    /// Whether the network has statistics to re-estimate.
    pub fn has_batch_norm(&self) -> bool {
        self.graph
            .parameters
            .iter()
            .any(|parameter| parameter.role == Role::RunningMean)
    }
}

/// The network's factors times those of the recipe's patterns; of several that match, all multiply.
fn factors(recipe: &Recipe, graph: &Graph) -> Result<Vec<Factors>, RecipeError> {
    let patterns = &recipe.train.factors;
    for pattern in patterns.keys() {
        let mut names = graph.parameters.iter().map(|parameter| &parameter.name);
        if !names.any(|name| matches(pattern, name)) {
            return Err(RecipeError::Value {
                key: format!("train.factors.\"{pattern}\""),
                reason: format!(
                    "matches no parameter of {}; `skinny summary` lists them",
                    graph.name
                ),
            });
        }
    }
    let of = |parameter: &Parameter| {
        let own = patterns
            .iter()
            .filter(|(pattern, _)| matches(pattern, &parameter.name));
        let network = Factors {
            lr: parameter.lr,
            decay: parameter.decay,
        };
        own.fold(network, |product, (_, own)| Factors {
            lr: product.lr * own.lr,
            decay: product.decay * own.decay,
        })
    };
    Ok(graph.parameters.iter().map(of).collect())
}

fn schedule(recipe: &Recipe, timeline: Timeline) -> Result<Schedule, RecipeError> {
    let train = &recipe.train;
    let total = timeline.total_steps();
    let warmup = train.lr_warmup.steps(timeline);
    if warmup >= total {
        return Err(RecipeError::Value {
            key: "train.lr_warmup".into(),
            reason: format!("lasts {warmup} of {total} steps; the rate would never arrive"),
        });
    }
    let every = train.lr_every.steps(timeline);
    let at: Vec<usize> = train.lr_at.iter().map(|at| at.steps(timeline)).collect();
    let never = |key: &str, steps: usize| RecipeError::Value {
        key: key.into(),
        reason: format!("comes to {steps} of {total} steps; a fall must lie within the run"),
    };
    if train.schedule == ScheduleKind::Step && !(1..=total).contains(&every) {
        return Err(never("train.lr_every", every));
    }
    // What a percentage rounds to may be the end.
    if let Some(&outside) = at.iter().find(|at| **at > total) {
        return Err(never("train.lr_at", outside));
    }
    Ok(Schedule {
        kind: train.schedule,
        base: train.lr,
        total,
        warmup,
        factor: train.lr_factor,
        every,
        at,
        final_rate: train.lr_final,
    })
}
