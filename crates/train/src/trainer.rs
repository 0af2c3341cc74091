//! The loop: flips, steps, evaluation, checkpoints. It owns time; the engine owns numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use skinny_data::{Batch, Dataset, Loader, LoaderOptions};
use skinny_network::Tensors;
use skinny_sparsity::Edge;

use crate::checkpoint::{self, Memory};
use crate::engine::{Engine, Examples, Outcome, Section};
use crate::flip;
use crate::material::Material;
use crate::progress::{Best, EpochRow, Progress};
use crate::resolved::Resolved;
use crate::run_folder::RunFolder;
use crate::shrink::shrink;
use crate::{Recipe, TrainError};

/// What a run tells while it goes on.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A step was done.
    Step {
        /// Steps done.
        step: usize,
        /// Steps in all.
        total: usize,
        /// Mean loss of the step.
        loss: f64,
        /// Images per second of this epoch so far.
        images_per_second: f64,
    },
    /// An epoch was finished.
    Epoch {
        /// Its row.
        row: &'a EpochRow,
        /// Epochs in all.
        epochs: usize,
    },
    /// A flip was done.
    Flip(&'a flip::FlipRecord),
    /// Something that the user should know.
    Warning(String),
}

/// One run in a folder.
pub struct Trainer<'a> {
    resolved: &'a Resolved,
    material: &'a Material,
    engine: &'a mut dyn Engine,
    folder: &'a RunFolder,
    progress: Progress,
    memory: Vec<Memory>,
    /// The first of the batches on which BatchNorm is re-estimated: what a flip costs is measured on it.
    measuring: Batch,
    /// What a checkpoint must agree with.
    pictures: String,
}

impl<'a> Trainer<'a> {
    /// A run whose engine holds the initial weights.
    pub fn start(
        resolved: &'a Resolved,
        material: &'a Material,
        engine: &'a mut dyn Engine,
        folder: &'a RunFolder,
    ) -> Result<Self, TrainError> {
        let memory = vec![Memory::default(); resolved.graph.parameters.len()];
        Self::with(
            resolved,
            material,
            engine,
            folder,
            Progress::default(),
            memory,
        )
    }

    /// A run that goes on from the checkpoint in its folder.
    pub fn resume(
        resolved: &'a Resolved,
        material: &'a Material,
        engine: &'a mut dyn Engine,
        folder: &'a RunFolder,
    ) -> Result<Self, TrainError> {
        let (progress, memory) =
            checkpoint::load(&folder.checkpoint(), resolved, engine, &material.identity())?;
        Self::with(resolved, material, engine, folder, progress, memory)
    }

    fn with(
        resolved: &'a Resolved,
        material: &'a Material,
        engine: &'a mut dyn Engine,
        folder: &'a RunFolder,
        progress: Progress,
        memory: Vec<Memory>,
    ) -> Result<Self, TrainError> {
        let measuring = (material.measuring_batches(&resolved.recipe)?.next())
            .expect("there are pictures to learn from")?;
        Ok(Trainer {
            resolved,
            material,
            engine,
            folder,
            progress,
            memory,
            measuring,
            pictures: material.identity(),
        })
    }

    /// What the run has to tell so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains to the end of the plan. `stop` is looked at after every step: when it is set, the state is saved and
    /// the run ends with [`TrainError::Interrupted`].
    pub fn run(
        &mut self,
        observe: &mut dyn FnMut(Event<'_>),
        stop: &AtomicBool,
    ) -> Result<(), TrainError> {
        let total = self.resolved.total_steps();
        let per_epoch = self.resolved.steps_per_epoch;
        let checkpoint_every = self.resolved.checkpoint_every();
        let mut loader = self.loader()?;
        if self.progress.step == 0 {
            // What a divergence in the first epoch falls back to.
            self.save_checkpoint()?;
        }
        let mut clock = Instant::now();
        let mut lap = |progress: &mut Progress| {
            let seconds = clock.elapsed().as_secs_f64();
            progress.seconds += seconds;
            clock = Instant::now();
            seconds
        };
        while self.progress.step < total {
            let step = self.progress.step;
            let batch = loader
                .next()
                .expect("the loader has a batch for every step of the plan")?;
            if let Some(edge) = self.resolved.plan.edge(step) {
                self.flip(edge, step, &batch, observe)?;
                lap(&mut self.progress);
            }
            let rate = self.resolved.rate(step);
            let outcome = self
                .engine
                .train_step(examples(&batch), rate as f32, step as u64);
            drop(batch);
            self.refuse_infinities(step, outcome)?;
            shrink(self.resolved, self.engine, step, rate);
            self.progress.epoch.add(outcome);
            self.progress.step = step + 1;
            self.progress.epoch_seconds += lap(&mut self.progress);
            observe(Event::Step {
                step: step + 1,
                total,
                loss: outcome.mean_loss(),
                images_per_second: self.images_per_second(),
            });
            let interrupted = stop.load(Ordering::Relaxed);
            let epoch_ends = (step + 1).is_multiple_of(per_epoch);
            let saves =
                (step + 1).is_multiple_of(checkpoint_every) || step + 1 == total || interrupted;
            if saves || epoch_ends {
                self.refuse_infinite_weights(step)?;
            }
            if epoch_ends {
                self.end_epoch(step, rate, observe)?;
                lap(&mut self.progress);
            }
            if saves {
                self.save_checkpoint()?;
            }
            if saves || epoch_ends {
                self.folder.write_log(&self.progress)?;
            }
            if interrupted && step + 1 < total {
                return Err(TrainError::Interrupted {
                    step: step + 1,
                    folder: self.folder.path().to_path_buf(),
                });
            }
        }
        self.save_weights("last")
    }

    fn loader(&self) -> Result<Loader, TrainError> {
        let per_epoch = self.resolved.steps_per_epoch;
        let mut options = self.material.training_options(&self.resolved.recipe);
        options.first_epoch = self.progress.step / per_epoch;
        options.first_batch = self.progress.step % per_epoch;
        Ok(Loader::new(
            Arc::clone(&self.material.train),
            &self.material.preprocess,
            options,
        )?)
    }

    fn flip(
        &mut self,
        edge: Edge,
        step: usize,
        batch: &Batch,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        let first = examples(&self.measuring);
        let before = self.engine.evaluate(first);
        let with_gradients = flip::needs_gradients(self.resolved, edge);
        let regrows = matches!(edge, Edge::Regrow { .. });
        if with_gradients {
            // Regrowth happens often, so it must not look at the same few pictures each time.
            let batch = if regrows { examples(batch) } else { first };
            self.engine.gradients(batch, step as u64);
        }
        let flipped = flip::apply(self.resolved, self.engine, &mut self.memory, edge, step)?;
        let Some(mut record) = flipped else {
            return Ok(());
        };
        // Regrown weights start from zero, and change the statistics no more than a step does.
        if !regrows && record.changed() {
            self.reestimate()?;
        }
        let after = self.engine.evaluate(examples(&self.measuring));
        record.loss_before = Some(before.mean_loss());
        record.loss_after = Some(after.mean_loss());
        if let Some(warning) = record.warning(self.resolved.graph.output[0]) {
            observe(Event::Warning(warning));
        }
        observe(Event::Flip(&record));
        self.progress.flips.push(record);
        Ok(())
    }

    /// BatchNorm's statistics for the present weights and for their average, which need not be alike.
    fn reestimate(&mut self) -> Result<(), TrainError> {
        let train = &self.resolved.recipe.train;
        if !self.resolved.has_batch_norm() || train.batchnorm_batches == 0 {
            return Ok(());
        }
        let recipe = &self.resolved.recipe;
        reestimate(self.engine, self.material, recipe)?;
        if train.ema > 0.0 {
            self.engine.swap_average();
            let reestimated = reestimate(self.engine, self.material, recipe);
            self.engine.swap_average();
            reestimated?;
        }
        Ok(())
    }

    fn end_epoch(
        &mut self,
        step: usize,
        rate: f64,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        if step + 1 == self.resolved.total_steps() {
            // Before the last evaluation and the last save, so that what is saved is what was evaluated.
            self.reestimate()?;
        }
        let validation = self.validate()?;
        let phase = self.resolved.plan.at(step);
        let epoch = (step + 1) / self.resolved.steps_per_epoch;
        let row = EpochRow {
            epoch,
            step: step + 1,
            phase: phase.name().to_string(),
            density: phase.density(),
            lr: rate,
            train_loss: self.progress.epoch.mean_loss(),
            train_error: self.progress.epoch.error(),
            validation_loss: validation.map(|outcome| outcome.mean_loss()),
            validation_error: validation.map(|outcome| outcome.error()),
            gradient_norm: self.progress.epoch.gradient_norm,
            nonzeros: nonzeros(self.engine),
            images_per_second: self.images_per_second(),
            seconds: self.progress.seconds,
        };
        let before = self.progress.rows.last();
        for warning in [self.collapse(&row), dead(&row, before)]
            .into_iter()
            .flatten()
        {
            observe(Event::Warning(warning));
        }
        if let Some(outcome) = validation
            && self.resolved.may_be_best(step)
            // JSON has no other numbers.
            && outcome.mean_loss().is_finite()
            && self
                .progress
                .best
                .is_none_or(|best| outcome.error() < best.error)
        {
            self.save_weights("best")?;
            self.progress.best = Some(Best {
                epoch,
                error: outcome.error(),
                loss: outcome.mean_loss(),
            });
        }
        observe(Event::Epoch {
            row: &row,
            epochs: self.resolved.recipe.train.epochs as usize,
        });
        self.progress.rows.push(row);
        self.progress.epoch = Outcome::default();
        self.progress.epoch_seconds = 0.0;
        Ok(())
    }

    /// Whether the network has just fallen from knowing something to guessing.
    fn collapse(&self, row: &EpochRow) -> Option<String> {
        let classes = self.resolved.graph.output[0] as f64;
        let guessing = 0.9 * (1.0 - 1.0 / classes);
        let before = self.progress.rows.last()?;
        (before.train_error < guessing && row.train_error >= guessing).then(|| {
            format!(
                "epoch {}: the network has collapsed: training error {:.1} % after {:.1} % one epoch before; \
                 lower train.lr, set train.clip_norm=1, or let the density fall in steps (sparsity.ramp=\"cubic\")",
                row.epoch,
                100.0 * row.train_error,
                100.0 * before.train_error,
            )
        })
    }

    fn validate(&mut self) -> Result<Option<Outcome>, TrainError> {
        let Some(held_out) = &self.material.validation else {
            return Ok(None);
        };
        self.engine.swap_average();
        let outcome = evaluate(
            self.engine,
            held_out,
            self.material,
            self.resolved.recipe.data.batch,
        );
        self.engine.swap_average();
        outcome.map(Some)
    }

    fn refuse_infinities(&self, step: usize, outcome: Outcome) -> Result<(), TrainError> {
        for (what, value) in [
            ("the loss", outcome.loss),
            ("the gradient's norm", outcome.gradient_norm),
        ] {
            if !value.is_finite() {
                return Err(self.diverged(step, what.into(), value));
            }
        }
        Ok(())
    }

    /// The last update of a run that diverges can overflow although its loss and gradient did not; the checkpoint
    /// before it is the good one.
    fn refuse_infinite_weights(&self, step: usize) -> Result<(), TrainError> {
        let mut values = Vec::new();
        for (index, parameter) in self.engine.graph().parameters.iter().enumerate() {
            self.engine.read(Section::Weights, index, &mut values);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let what = format!("a value of {}", parameter.name);
                return Err(self.diverged(step, what, f64::from(*value)));
            }
        }
        Ok(())
    }

    fn diverged(&self, step: usize, what: String, value: f64) -> TrainError {
        TrainError::Diverged {
            step,
            what,
            value,
            checkpoint: self.folder.checkpoint(),
        }
    }

    fn images_per_second(&self) -> f64 {
        self.progress.epoch.images as f64 / self.progress.epoch_seconds.max(1e-9)
    }

    fn save_checkpoint(&self) -> Result<(), TrainError> {
        let path = self.folder.checkpoint();
        checkpoint::save(
            &path,
            self.resolved,
            self.engine,
            &self.memory,
            &self.progress,
            &self.pictures,
        )
    }

    /// Writes the weights that are evaluated: the averaged ones where an average is kept.
    fn save_weights(&mut self, which: &str) -> Result<(), TrainError> {
        self.engine.swap_average();
        let saved = self.folder.write_weights(which, &weights(self.engine));
        self.engine.swap_average();
        saved
    }
}

fn examples(batch: &Batch) -> Examples<'_> {
    Examples {
        images: &batch.images,
        labels: &batch.labels,
    }
}

/// Loss and error of the engine's present weights on a whole set.
pub fn evaluate(
    engine: &mut dyn Engine,
    set: &Arc<Dataset>,
    material: &Material,
    batch: usize,
) -> Result<Outcome, TrainError> {
    let mut sum = Outcome::default();
    for batch in Loader::new(
        Arc::clone(set),
        &material.preprocess,
        LoaderOptions::evaluation(batch),
    )? {
        sum.add(engine.evaluate(examples(&batch?)));
    }
    Ok(sum)
}

/// BatchNorm's statistics for the weights that an engine has, from as many augmented batches as the recipe says.
pub(crate) fn reestimate(
    engine: &mut dyn Engine,
    material: &Material,
    recipe: &Recipe,
) -> Result<(), TrainError> {
    let batches = material.measuring_batches(recipe)?;
    for (index, batch) in batches.take(recipe.train.batchnorm_batches).enumerate() {
        engine.reestimate(examples(&batch?), index);
    }
    Ok(())
}

/// All parameters of an engine by name.
pub fn weights(engine: &dyn Engine) -> Tensors {
    let mut tensors = Tensors::new();
    for (index, parameter) in engine.graph().parameters.iter().enumerate() {
        let mut data = Vec::new();
        engine.read(Section::Weights, index, &mut data);
        tensors.insert(
            parameter.name.clone(),
            skinny_network::Tensor {
                shape: parameter.shape.clone(),
                data,
            },
        );
    }
    tensors
}

/// Trainable parameters that are not zero.
pub fn nonzeros(engine: &dyn Engine) -> usize {
    let mut values = Vec::new();
    let mut count = 0;
    for (index, parameter) in engine.graph().parameters.iter().enumerate() {
        if parameter.role.trainable() {
            count += match engine.mask(index) {
                Some(mask) => mask.count(),
                None if parameter.role.thresholded() => {
                    engine.read(Section::Weights, index, &mut values);
                    values.iter().filter(|value| **value != 0.0).count()
                }
                // Biases and the like are kept whatever their value.
                None => parameter.len(),
            };
        }
    }
    count
}

/// What to say of an epoch in which no output depended on any weight, unless it was said of the one before.
fn dead(row: &EpochRow, before: Option<&EpochRow>) -> Option<String> {
    let said = before.is_some_and(|before| before.gradient_norm == 0.0);
    (row.gradient_norm == 0.0 && !said).then(|| {
        format!(
            "epoch {}: the network is dead: the gradient was 0 in every step, so nothing is learned any more; lower train.lr, \
             set train.clip_norm=1, or set train.init_everywhere=true",
            row.epoch
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_whose_gradient_is_gone_is_called_dead_once() {
        let row = |epoch, gradient_norm| EpochRow {
            epoch,
            step: epoch * 10,
            phase: "dense".to_string(),
            density: 1.0,
            lr: 0.1,
            train_loss: 2.3,
            train_error: 0.9,
            validation_loss: None,
            validation_error: None,
            gradient_norm,
            nonzeros: 10,
            images_per_second: 1.0,
            seconds: 1.0,
        };
        assert_eq!(dead(&row(1, 2.2), None), None);
        let said = dead(&row(2, 0.0), Some(&row(1, 2.2))).expect("it is dead");
        assert!(said.starts_with("epoch 2: the network is dead"), "{said}");
        assert_eq!(dead(&row(3, 0.0), Some(&row(2, 0.0))), None);
    }
}
