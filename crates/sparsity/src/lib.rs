//! The algebra of sparse training.
//!
//! Iterative hard thresholding is projected training, and a method is a composition of five independent axes:
//!
//! | axis | answers | here |
//! |---|---|---|
//! | score | what is ranked? | [`Score`] |
//! | structure | which patterns may be kept? | [`Structure`], [`project`] |
//! | budget | how many weights does each layer keep? | [`Budget`], [`resolve`] |
//! | plan | when does what happen? | [`Plan`], [`Method`] |
//! | policy | what becomes of values and optimizer slots at a flip? | [`FlipPolicy`], [`threshold`], [`reactivate`] |
//!
//! All of it is pure: no framework, no input or output, no clock, no thread and no hidden randomness, so the same arguments give the
//! same bits on any machine and at any number of threads. [`SparsitySettings`] is the whole of it as a user writes it in a recipe.
//!
//! ```
//! use skinny_sparsity::{LayerShape, SparsitySettings, Structure, Timeline, project, resolve};
//!
//! let settings = SparsitySettings { density: Some(0.5), ..SparsitySettings::of(skinny_sparsity::Method::Iht) };
//! let plan = settings.plan(Timeline { steps_per_epoch: 100, epochs: 15 })?;
//! assert_eq!(plan.final_density(), 0.5);
//!
//! let layers = [LayerShape { name: "fc.weight".into(), shape: vec![2, 3] }];
//! let budgets = resolve(&settings, &layers, 0.5, None)?;
//! let weights = [0.1, -0.9, 0.4, 0.0, -0.2, 0.8];
//! let mask = project(&weights, &layers[0].shape, Structure::Unstructured, budgets[0].k, None)?;
//! assert_eq!(mask.iter().collect::<Vec<_>>(), [1, 2, 5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod budget;
mod duration;
mod erk;
mod global;
mod mask;
mod methods;
mod pattern;
mod phases;
mod plan;
mod policy;
mod project;
mod ramp;
mod regrow;
mod score;
mod select;
mod settings;
mod share;
mod structure;
mod tiles;
mod transition;

pub use budget::{Budget, BudgetError, LayerBudget, LayerShape, Ranked};
pub use duration::{Duration, DurationError, Timeline};
pub use mask::{Kept, Mask, MaskError};
pub use methods::Method;
pub use pattern::matches;
pub use plan::{Edge, Goal, Phase, Plan, PlanError, Segment};
pub use policy::{FlipPolicy, Reactivated, SlotsAtReactivation, SlotsAtThreshold};
pub use project::{ProjectError, project};
pub use ramp::Ramp;
pub use regrow::regrow;
pub use score::{Score, ScoreError, random_scores};
pub use settings::{SettingsError, SparsitySettings};
pub use share::{resolve, validate};
pub use structure::{Structure, StructureError};
pub use transition::{
    Flip, Histogram, LayerState, LayerTransition, Previous, Transition, reactivate, threshold,
};
