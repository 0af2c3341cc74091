//! The parameters as the layers see them: dense values, and patterns of the kept weights where those are faster.

use skinny_kernels::{SparseConv2d, SparseLinear, Threads};
use skinny_sparsity::Mask;

use super::norm::NormBuffers;
use super::program::{Program, Work};

/// A layer whose kept weights are multiplied alone.
pub(super) enum Sparse {
    Conv(SparseConv2d),
    Linear(SparseLinear),
}

impl Sparse {
    /// The sparse form of the layer that a weight parameter belongs to, if that is faster than the dense one.
    ///
    /// `images` are those of a lane, `batch` those of a step. The choice depends on shapes and density alone, so that
    /// it is the same on every machine and at any number of threads.
    pub fn new(
        program: &Program,
        parameter: usize,
        mask: &Mask,
        images: usize,
        batch: usize,
    ) -> Option<Sparse> {
        let kept = mask.count();
        program.steps.iter().find_map(|step| match &step.work {
            Work::Conv { conv, weight, .. } if *weight == parameter => {
                SparseConv2d::pays(conv, kept, images)
                    .then(|| Sparse::Conv(SparseConv2d::new(*conv, mask.words())))
            }
            Work::Linear { linear, weight, .. } if *weight == parameter => {
                SparseLinear::pays(linear, kept, batch)
                    .then(|| Sparse::Linear(SparseLinear::new(*linear, mask.words())))
            }
            _ => None,
        })
    }

    /// Takes the values of the kept weights.
    pub fn refresh(&mut self, threads: &Threads, weight: &[f32]) {
        match self {
            Sparse::Conv(sparse) => sparse.refresh(weight),
            Sparse::Linear(sparse) => sparse.refresh(threads, weight),
        }
    }
}

/// What the lanes need of the parameters during a pass.
pub(super) struct Parameters<'a> {
    /// In the order of the graph.
    pub values: &'a [Vec<f32>],
    /// The sparse form of each weight that has one.
    pub sparse: &'a [Option<Sparse>],
    /// The statistics of batch normalizations.
    pub norms: &'a NormBuffers,
    /// Whether only the gradients of kept weights are wanted.
    pub masked: bool,
}

/// What a whole-batch layer needs of the parameters during a backward pass.
pub(super) struct ParametersMut<'a> {
    /// In the order of the graph.
    pub values: &'a [Vec<f32>],
    /// The sparse form of each weight that has one.
    pub sparse: &'a mut [Option<Sparse>],
    /// Whether only the gradients of kept weights are wanted.
    pub masked: bool,
    /// Where the gradients go.
    pub gradients: &'a mut [Vec<f32>],
}
