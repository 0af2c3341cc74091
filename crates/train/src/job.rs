//! From a recipe to a finished run folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use skinny_data::DataRoots;
use skinny_model::{PackOptions, Unpacked};
use skinny_network::{Preprocess, Tensor, Tensors};
use skinny_sparsity::SettingsError;

use crate::engine::cpu::CpuEngine;
use crate::engine::{Engine, Section};
use crate::material::Material;
use crate::outcome::Predictions;
use crate::resolved::Resolved;
use crate::run_folder::{RunFolder, Summary, Twin};
use crate::trainer::{Event, Trainer, nonzeros};
use crate::{Recipe, RecipeError, TrainError, weights};

/// Everything about a run that is not its recipe.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Where data is looked for.
    pub roots: DataRoots,
    /// Threads to compute with; never changes a bit of the result.
    pub threads: usize,
    /// What `env.json` says of machine and command.
    pub environment: serde_json::Value,
}

/// A run that is ready to start or to go on.
pub struct Job {
    resolved: Resolved,
    material: Material,
    folder: RunFolder,
    engine: CpuEngine,
    resumes: bool,
    environment: serde_json::Value,
    /// Held until the run ends.
    _lock: File,
}

impl Job {
    /// Whether [`Job::start`] would be refused, without leaving any trace.
    pub fn check(
        recipe: Recipe,
        out: Option<&Path>,
        options: &JobOptions,
    ) -> Result<(), TrainError> {
        out.map_or(Ok(()), RunFolder::check)?;
        let (resolved, _) = prepare(recipe, &options.roots)?;
        weights::initial(&resolved).map(|_| ())
    }

    /// A new run of `recipe` in a new folder. Everything that can be refused is refused before the folder is made.
    pub fn start(
        recipe: Recipe,
        out: Option<&Path>,
        options: &JobOptions,
    ) -> Result<Job, TrainError> {
        out.map_or(Ok(()), RunFolder::check)?;
        let (resolved, material) = prepare(recipe, &options.roots)?;
        let engine = engine(&resolved, options.threads)?;
        let folder = RunFolder::create(out, &resolved)?;
        Job::new(resolved, material, engine, folder, options)
    }

    /// A run that was interrupted, from the checkpoint in its folder, or from its start if it had not come to the first.
    pub fn resume(folder: &Path, options: &JobOptions) -> Result<Job, TrainError> {
        let folder = RunFolder::open(folder)?;
        refuse_finished(&folder)?;
        let (resolved, material) = prepare(folder.recipe()?, &options.roots)?;
        let engine = engine(&resolved, options.threads)?;
        Job::new(resolved, material, engine, folder, options)
    }

    fn new(
        resolved: Resolved,
        material: Material,
        engine: CpuEngine,
        folder: RunFolder,
        options: &JobOptions,
    ) -> Result<Job, TrainError> {
        let lock = folder.lock()?;
        // Another process may have trained it to its end while this one got ready.
        refuse_finished(&folder)?;
        Ok(Job {
            resumes: folder.checkpoint().exists(),
            resolved,
            material,
            folder,
            engine,
            environment: options.environment.clone(),
            _lock: lock,
        })
    }

    /// The recipe with everything worked out.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The run folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Trains to the end, measures the test error of the last state and writes what there is to tell; `twin` is the dense
    /// run to compare with.
    pub fn run(
        mut self,
        twin: Option<Twin>,
        observe: &mut dyn FnMut(Event<'_>),
        stop: &AtomicBool,
    ) -> Result<Summary, TrainError> {
        let mut trainer = match self.resumes {
            true => Trainer::resume(
                &self.resolved,
                &self.material,
                &mut self.engine,
                &self.folder,
            )?,
            false => Trainer::start(
                &self.resolved,
                &self.material,
                &mut self.engine,
                &self.folder,
            )?,
        };
        // A run that is not gone on with, because its pictures have changed, keeps what is said of them.
        self.folder
            .write_start(&self.material.preprocess, &self.environment)?;
        trainer.run(observe, stop)?;
        let progress = trainer.progress().clone();
        // The averaged weights, where there are some, are what was saved; so they are what is measured.
        self.engine.swap_average();
        self.folder.write_masks(&self.resolved, &self.engine)?;
        let recipe = &self.resolved.recipe;
        let predictions = Predictions::of(
            &mut self.engine,
            &self.material.test,
            &self.material.preprocess,
            recipe.data.batch,
        )?;
        let parameters = || {
            self.resolved
                .graph
                .parameters
                .iter()
                .filter(|p| p.role.trainable())
        };
        let kept_weights: usize = (self.resolved.thresholded.iter())
            .map(|&index| {
                let all = self.resolved.graph.parameters[index].len();
                self.engine.mask(index).map_or(all, |mask| mask.count())
            })
            .sum();
        let weights: usize = parameters()
            .filter(|p| p.role.thresholded())
            .map(|p| p.len())
            .sum();
        let summary = Summary {
            schema: 1,
            name: recipe.name.clone(),
            seed: recipe.seed,
            method: recipe.sparsity.method.to_string(),
            network: self.resolved.network.name.clone(),
            data: recipe.data.name.clone(),
            status: "finished".into(),
            epochs: recipe.train.epochs as usize,
            steps: progress.step,
            density: kept_weights as f64 / weights.max(1) as f64,
            parameters: parameters().map(|p| p.len()).sum(),
            weights,
            nonzeros: nonzeros(&self.engine),
            dense_bytes: self
                .resolved
                .graph
                .parameters
                .iter()
                .map(|p| 4 * p.len() as u64)
                .sum(),
            packed_bytes: self.packed_bytes()?,
            best_epoch: progress.best.map(|best| best.epoch),
            best_validation_error: progress.best.map(|best| best.error),
            validation_error: progress.rows.last().and_then(|row| row.validation_error),
            test_error: predictions.outcome.error(),
            test_loss: predictions.outcome.mean_loss(),
            seconds: progress.seconds,
            settings_hash: self.resolved.settings_hash.clone(),
            dense_twin: twin,
        };
        self.folder.write_log(&progress)?;
        self.folder.write_end(&summary, &predictions)?;
        Ok(summary)
    }

    /// Bytes of the file that `skinny export` writes of the present weights, every bit of them kept.
    fn packed_bytes(&self) -> Result<u64, TrainError> {
        let mut tensors = Tensors::new();
        let mut masks = BTreeMap::new();
        let mut data = Vec::new();
        for (index, parameter) in self.resolved.graph.parameters.iter().enumerate() {
            self.engine.read(Section::Weights, index, &mut data);
            let tensor = Tensor {
                shape: parameter.shape.clone(),
                data: data.clone(),
            };
            tensors.insert(&parameter.name, tensor);
            if let Some(mask) = self.engine.mask(index) {
                masks.insert(parameter.name.clone(), mask.clone());
            }
        }
        let model = Unpacked {
            network: self.resolved.network.clone(),
            preprocess: Preprocess {
                // A whitening matrix is no part of the network's size.
                zca: None,
                ..self.material.preprocess.clone()
            },
            tensors,
            masks,
        };
        let bytes = skinny_model::pack(&model, &PackOptions::default(), &mut |_| ())?;
        Ok(bytes.len() as u64)
    }
}

/// A number of pictures for which every sensible plan works, where the real one is not known.
const ANY_NUMBER: usize = 1 << 20;

/// Why a recipe cannot work with any number of pictures; `None` if it may.
pub fn refusal(recipe: Recipe) -> Option<TrainError> {
    match Resolved::new(recipe, ANY_NUMBER) {
        // With fewer pictures there may be fewer.
        Err(TrainError::Recipe(
            RecipeError::Sparsity(SettingsError::TooManyFlips { .. })
            | RecipeError::TooManyRecords { .. },
        )) => None,
        other => other.err(),
    }
}

/// A run that is finished has nothing to resume.
fn refuse_finished(folder: &RunFolder) -> Result<(), TrainError> {
    match folder.summary()? {
        None => Ok(()),
        Some(_) => Err(TrainError::Folder {
            folder: folder.path().to_path_buf(),
            reason: format!(
                "holds a finished run, there is nothing to resume; look at it with `skinny report {}`",
                folder.path().display()
            ),
        }),
    }
}

/// The engine of a run that has not begun.
fn engine(resolved: &Resolved, threads: usize) -> Result<CpuEngine, TrainError> {
    Ok(CpuEngine::new(
        resolved.graph.clone(),
        resolved.engine_settings(threads),
        weights::initial(resolved)?,
    ))
}

fn prepare(recipe: Recipe, roots: &DataRoots) -> Result<(Resolved, Material), TrainError> {
    let graph = recipe
        .network()?
        .graph()
        .map_err(crate::RecipeError::from)?;
    // A recipe that cannot work is refused even if there is no data, whose number of pictures only durations depend on;
    // if there is data, the refusal counts in its steps.
    let doubt = refusal(recipe.clone());
    let material =
        Material::load(&recipe, &graph, roots).map_err(|error| doubt.unwrap_or(error))?;
    let resolved = Resolved::new(recipe, material.train.len())?;
    Ok((resolved, material))
}
