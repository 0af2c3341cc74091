//! A model that is ready to run.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use skinny_kernels::inference::{Choice, Precision, Storage, Workspace};
use skinny_kernels::{Threads, instruction_set};
use skinny_network::{Network, Preprocess, Tensors, shape_text};

use crate::choose;
use crate::error::RuntimeError;
use crate::fold::{Layer, Work, fold};
use crate::measure::Measured;
use crate::plan::{Chooser, ConvProblem, LinearProblem, Plan, plan, rearranged_bytes};
use crate::tune::Tuned;

/// How a model is made ready.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads to compute with; never changes a bit of a result.
    pub threads: usize,
    /// Whether a softmax at the end of the network is computed; without it, the results are logits.
    pub softmax: bool,
    /// Whether kernels are chosen by measuring them, which takes some tenths of a second per layer, and not by a model of
    /// their costs. What was measured for a file is kept beside it, in `FILE.tuned.json`.
    pub tune: bool,
    /// Whether linear layers multiply 8-bit weights, of a scale per output, with 8-bit inputs, whose common scale is
    /// found for every image: fewer bytes to read, at the price of rounding. Other layers stay as they are.
    pub int8: bool,
    /// Bytes that all values of a file may take, that they may take once they are packed, and that the buffers of all threads of a call
    /// may take together, 16 GiB by default: a small file can ask for any amount. Calls at the same time have buffers of their own.
    pub memory: u64,
}

impl Options {
    /// Of linear layers.
    pub(crate) fn precision(&self) -> Precision {
        match self.int8 {
            true => Precision::Int8,
            false => Precision::Single,
        }
    }

    /// Refuses a network called `name` that needs so many bytes.
    fn bounded(&self, name: &str, needed: u64) -> Result<(), RuntimeError> {
        // Beyond that no address goes.
        let most = self.memory.min(isize::MAX as u64);
        match needed <= most {
            true => Ok(()),
            false => Err(RuntimeError::Memory {
                name: name.into(),
                needed,
                most,
            }),
        }
    }
}

impl Default for Options {
    /// One thread, the network as it is.
    fn default() -> Self {
        Self {
            threads: 1,
            softmax: true,
            tune: false,
            int8: false,
            memory: 16 << 30,
        }
    }
}

/// A network with its weights packed for this machine.
///
/// One model can be run by several callers at once.
#[derive(Debug)]
pub struct Model {
    name: String,
    input: [usize; 3],
    output: [usize; 3],
    macs: u64,
    preprocess: Preprocess,
    plan: Plan,
    threads: Threads,
    /// Buffers of [`Self::run`] that are not in use.
    idle: Mutex<Vec<Workspace>>,
}

/// About how many bytes the weights of a layer take at most once they are packed.
fn packed_bytes(layer: &Layer<'_>) -> u64 {
    /// What is kept of every group, row and column of a convolution beside its weights.
    const GROUP: u64 = 400;
    const ROW: u64 = 32;
    const COLUMN: u64 = 24;
    /// Values of a group of columns.
    const GROUPED: u64 = 16;
    match &layer.work {
        Work::Conv { weights, conv } => {
            let (rows, groups) = (weights.bias.len() as u64, conv.groups as u64);
            let values = weights.values.len() as u64;
            let columns = groups * values / rows.max(1);
            // Values, and offsets of two bytes.
            6 * values + GROUP * groups + ROW * rows + COLUMN * columns
        }
        Work::Linear { weights } => {
            // Values, and columns of two bytes, of whole groups; and where each row starts.
            let rows = weights.bias.len() as u64;
            let columns = (weights.values.len() as u64 / rows.max(1)).next_multiple_of(GROUPED);
            6 * rows * columns + 8 * rows
        }
        _ => 0,
    }
}

impl Model {
    /// Reads a `.skinny` file, for one thread.
    ///
    /// # Errors
    /// If the file cannot be read or is wrong.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RuntimeError> {
        Self::load_with(path, &Options::default())
    }

    /// Reads a `.skinny` file.
    ///
    /// # Errors
    /// If the file cannot be read or is wrong.
    pub fn load_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, RuntimeError> {
        let path = path.as_ref();
        let file = skinny_model::Model::load(path)?;
        options.bounded(&file.graph().name, file.unpacked_bytes())?;
        let unpacked = file.unpack();
        let mut tuned = Tuned::open(path, file.bytes().len() as u64);
        drop(file);
        let model = Self::ready(
            &unpacked.network,
            &unpacked.tensors,
            unpacked.preprocess,
            options,
            &mut tuned,
        )?;
        tuned.save();
        Ok(model)
    }

    /// A model from a network and its weights, names and shapes as the network's; zeros are weights that were
    /// dropped.
    ///
    /// # Errors
    /// If the network is wrong or needs too much memory, or the weights are not those of the network or not finite.
    pub fn new(
        network: &Network,
        tensors: &Tensors,
        preprocess: Preprocess,
        options: &Options,
    ) -> Result<Self, RuntimeError> {
        Self::ready(network, tensors, preprocess, options, &mut Measured)
    }

    /// Makes a model ready; `measured` chooses if the options ask for it.
    fn ready(
        network: &Network,
        tensors: &Tensors,
        preprocess: Preprocess,
        options: &Options,
        measured: &mut dyn Chooser,
    ) -> Result<Self, RuntimeError> {
        let graph = network.graph()?;
        let layers = fold(&graph, tensors, options.softmax)?;
        let threads = Threads::new(options.threads);
        let bounded = |needed: u64| options.bounded(&graph.name, needed);
        let count = threads.count();
        // Before weights are packed.
        bounded(layers.iter().map(packed_bytes).sum())?;
        for layer in &layers {
            bounded(rearranged_bytes(layer).saturating_mul(count as u64))?;
        }
        let shapes = layers.iter().map(|layer| layer.output_shape);
        for shape in shapes.chain([graph.input]) {
            bounded(4 * shape.iter().product::<usize>() as u64 * count as u64)?;
        }
        let planned = |chooser: &mut dyn Chooser| {
            let plan = plan(graph.input, &layers, count, options.precision(), chooser);
            bounded(plan.program.workspace_bytes().saturating_mul(count as u64))?;
            Ok::<Plan, RuntimeError>(plan)
        };
        let plan = planned(&mut ByModel)?;
        // Kernels are measured with memory of their own, once it is known that this is not too much.
        let plan = match options.tune {
            true => {
                drop(plan);
                planned(measured)?
            }
            false => plan,
        };
        Ok(Self {
            name: graph.name.clone(),
            input: graph.input,
            output: graph.output,
            macs: layers.iter().map(|layer| layer.macs).sum(),
            preprocess,
            plan,
            threads,
            idle: Mutex::default(),
        })
    }

    /// Name of the network.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape of an image: channels, height, width.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input
    }

    /// Shape of a result: channels, height, width.
    pub fn output_shape(&self) -> [usize; 3] {
        self.output
    }

    /// What happens to a picture before the first layer.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Threads that it computes with.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Multiply-accumulates of one image with all weights.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Runs images: `input` is `[images, channels, height, width]`, as the preprocessing gives them; the result is
    /// `[images, output]`.
    ///
    /// # Errors
    /// If the input is not whole images.
    pub fn run(&self, input: &[f32]) -> Result<Vec<f32>, RuntimeError> {
        let mut output = vec![0.0; self.images(input)? * self.output_len()];
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = idle().pop();
        let mut runner = match workspace {
            Some(workspace) => Runner {
                model: self,
                workspace,
            },
            None => self.runner(),
        };
        runner.run(input, &mut output)?;
        idle().push(runner.workspace);
        Ok(output)
    }

    /// A runner with buffers of its own.
    pub fn runner(&self) -> Runner<'_> {
        Runner {
            model: self,
            workspace: self.plan.program.workspace(self.threads.count()),
        }
    }

    /// Values of one image.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Values of the result of one image.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Bytes of the buffers of one thread, without the weights.
    pub fn memory(&self) -> u64 {
        self.plan.program.workspace_bytes()
    }

    /// Layers, kernels and seconds of every step, on one thread: the median of several runs.
    pub fn profile(&self) -> Vec<(String, String, f64)> {
        let mut workspace = self.plan.program.workspace(1);
        let runs: Vec<Vec<f64>> = (0..41)
            .map(|_| self.plan.program.profile(&mut workspace, 0.1))
            .collect();
        let steps = self.plan.names.iter().zip(self.plan.program.steps());
        steps
            .enumerate()
            .map(|(at, (name, step))| {
                let mut times: Vec<f64> = runs.iter().map(|run| run[at]).collect();
                times.sort_by(f64::total_cmp);
                (name.clone(), step.describe(), times[times.len() / 2])
            })
            .collect()
    }

    fn images(&self, input: &[f32]) -> Result<usize, RuntimeError> {
        let image = self.input_len();
        match input.len().is_multiple_of(image) {
            true => Ok(input.len() / image),
            false => Err(RuntimeError::Input {
                found: input.len(),
                image,
                shape: shape_text(&self.input),
            }),
        }
    }
}

/// Runs a model again and again without allocating.
#[derive(Debug)]
pub struct Runner<'a> {
    model: &'a Model,
    workspace: Workspace,
}

impl Runner<'_> {
    /// Runs images like [`Model::run`], into `output`.
    ///
    /// # Errors
    /// If the input is not whole images, or the output has another length than their results.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RuntimeError> {
        let images = self.model.images(input)?;
        let expected = images * self.model.output_len();
        if output.len() != expected {
            return Err(RuntimeError::Output {
                found: output.len(),
                images,
                expected,
            });
        }
        let program = &self.model.plan.program;
        program.run(&self.model.threads, &mut self.workspace, input, output);
        Ok(())
    }
}

/// Chooses by the model of costs.
pub(crate) struct ByModel;

impl Chooser for ByModel {
    fn convolution(&mut self, problem: &ConvProblem) -> Choice {
        choose::best(&problem.shape())
    }

    fn linear(&mut self, problem: &LinearProblem) -> Storage {
        choose::storage(&problem.matrix(), instruction_set())
    }
}
