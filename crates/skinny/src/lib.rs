//! Train convolutional networks that are a fraction of the size and hardly less accurate, by iterative hard
//! thresholding: this crate is the stable front of the workspace.
//!
//! | module | what it has |
//! |---|---|
//! | [`sparsity`] | masks, exact projection, budgets, plans of phases, flip policies |
//! | [`network`] | networks as data, the zoo, named weights, preprocessing |
//! | [`runtime`] | sparse networks, run faster than dense ones |
//! | [`model`] | the `.skinny` file, packed and read |
//! | [`data`] | data sets, augmentation, loaders |
//! | [`interchange`] | weights from PyTorch, ONNX and safetensors files; ONNX models, state dicts and masks for others |
//! | [`train`] | recipes, engines, the training loop, run folders |
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use skinny::{data::DataRoots, train::{Job, JobOptions, Recipe}};
//!
//! let recipe = Recipe::load("glyphs-lenet5-iht-10x", &["train.epochs=3".into()])?;
//! let options = JobOptions {
//!     roots: DataRoots::new(None),
//!     threads: 2,
//!     environment: Default::default(),
//! };
//! let summary = Job::start(recipe, None, &options)?.run(None, &mut |_| {}, &AtomicBool::new(false))?;
//! println!("{} of {} parameters, {:.2} % error", summary.nonzeros, summary.parameters, 100.0 * summary.test_error);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub use skinny_data as data;
pub use skinny_interchange as interchange;
pub use skinny_model as model;
pub use skinny_network as network;
pub use skinny_runtime as runtime;
pub use skinny_sparsity as sparsity;
pub use skinny_train as train;

/// The instructions that the CPU kernels of this machine use, e.g. `avx512`.
pub fn instruction_set() -> String {
    format!("{:?}", skinny_kernels::instruction_set()).to_lowercase()
}

/// The most multiply-adds that this many threads reach in registers, in GFLOP/s: the ceiling of every kernel.
pub fn fma_gflops(threads: usize) -> f64 {
    skinny_kernels::peak::fma_gflops(&skinny_kernels::Threads::new(threads))
}
