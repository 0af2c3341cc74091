//! Training skinny networks: recipes, engines, the loop of iterative hard thresholding and its relatives,
//! checkpoints and run folders.
//!
//! A [`Recipe`] is resolved into a [`Resolved`] plan; a [`Trainer`] drives an [`Engine`] along it over the
//! [`Material`] that the recipe names, and tells what happens in [`Event`]s; a [`RunFolder`] keeps the outcome.
#![forbid(unsafe_code)]

mod benchmark;
mod checkpoint;
mod engine;
mod error;
mod files;
mod flip;
mod init;
mod job;
mod material;
mod optimizer;
mod outcome;
mod progress;
mod recipe;
mod resolved;
mod run_folder;
mod schedule;
mod sensitivity;
mod shrink;
mod size;
mod slim;
mod sweep;
mod thinner;
mod trained;
mod trainer;
mod weights;

pub use benchmark::{LayerTime, StepBenchmark};
mod whitening;

#[doc(hidden)]
pub use checkpoint::decode_checkpoint;
pub use engine::cpu::CpuEngine;
pub use engine::{Engine, EngineSettings, Examples, Factors, Outcome, Section};
pub use error::{RecipeError, TrainError};
pub use flip::FlipRecord;
pub use init::initialize;
pub use job::{Job, JobOptions, refusal};
pub use material::Material;
pub use optimizer::{Optimizer, OptimizerKind};
pub use outcome::{Mistake, Predictions, csv_field};
pub use progress::{Best, CSV_HEADER, EpochRow, Progress};
pub use recipe::{
    BUILT_IN, BuiltIn, DataSettings, FactorSettings, NetworkSettings, Normalize, PhaseRates,
    Recipe, TrainSettings,
};
pub use resolved::Resolved;
pub use run_folder::{RunFolder, Summary, Twin};
pub use schedule::{Schedule, ScheduleKind};
pub use sensitivity::{
    DENSITIES, LayerSensitivity, Sensitivity, SensitivityPoint, SensitivityStep,
};
pub use size::expected_bytes;
pub use skinny_kernels::loss::softmax;
pub use slim::SlimSearch;
pub use sweep::{Sweep, SweepRun};
pub use trained::{Trained, nonzeros};
pub use trainer::{Event, Trainer};
