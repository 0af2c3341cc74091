//! The CPU engine: a static program over buffers that are allocated once, split into lanes.
//!
//! A stage of the program is either done by every lane on its own, or by all threads on the whole batch
//! (linear layers), or the joining of the lanes' sums between two halves of a BatchNorm. Nothing of the size of an
//! activation or a weight is allocated after the first step.

mod lane;
mod norm;
mod parameters;
mod program;
mod whole;

use std::time::Instant;

use skinny_kernels::{Threads, elementwise, loss, update};
use skinny_network::Graph;
use skinny_sparsity::Mask;

use self::lane::{Lane, Mode, lane_capacity, lane_count, lane_range};
use self::norm::NormBuffers;
use self::parameters::{Parameters, ParametersMut, Sparse};
use self::program::{Program, Stage};
use self::whole::WholeBuffers;
use super::{Engine, EngineSettings, Examples, Outcome, Section};
use crate::optimizer::Optimizer;

/// Trains a network on the CPU.
pub struct CpuEngine {
    graph: Graph,
    settings: EngineSettings,
    program: Program,
    threads: Threads,
    lanes: Vec<Lane>,
    whole: WholeBuffers,
    norms: NormBuffers,
    weights: Vec<Vec<f32>>,
    /// Empty until the first backward pass.
    gradients: Vec<Vec<f32>>,
    averages: Vec<Vec<f32>>,
    slots: Vec<Vec<Vec<f32>>>,
    masks: Vec<Option<Mask>>,
    /// The sparse form of each masked weight that is faster so.
    sparse: Vec<Option<Sparse>>,
    /// Whether weights were changed since the sparse forms took their values.
    stale: bool,
    updates: u64,
    /// Seconds of each whole-batch step, forward and backward, where they are measured.
    times: Vec<[f64; 2]>,
}

/// Parameters are reduced, masked and updated in pieces of so many values, a multiple of a mask's word.
const PIECE: usize = 1 << 14;

impl CpuEngine {
    /// An engine for `graph` whose parameters start as `weights`, in the order of [`Graph::parameters`].
    ///
    /// # Panics
    /// If `weights` or the factors of the settings do not have the parameters' number and lengths.
    pub fn new(graph: Graph, settings: EngineSettings, weights: Vec<Vec<f32>>) -> CpuEngine {
        assert_eq!(weights.len(), graph.parameters.len());
        assert_eq!(settings.factors.len(), graph.parameters.len());
        for (values, parameter) in weights.iter().zip(&graph.parameters) {
            assert_eq!(values.len(), parameter.len(), "{}", parameter.name);
        }
        let program = Program::compile(&graph);
        let capacity = lane_capacity(settings.batch);
        let lanes = (0..lane_count(settings.batch))
            .map(|_| Lane::new(&program, capacity))
            .collect();
        let zeros = || -> Vec<Vec<f32>> { weights.iter().map(|w| vec![0.0; w.len()]).collect() };
        CpuEngine {
            threads: Threads::new(settings.threads),
            lanes,
            whole: WholeBuffers::new(&program, settings.batch),
            norms: NormBuffers::new(&program),
            gradients: Vec::new(),
            averages: if settings.ema.is_some() {
                weights.clone()
            } else {
                Vec::new()
            },
            slots: settings.optimizer.slots().iter().map(|_| zeros()).collect(),
            masks: vec![None; weights.len()],
            sparse: weights.iter().map(|_| None).collect(),
            stale: false,
            updates: 0,
            times: Vec::new(),
            program,
            weights,
            graph,
            settings,
        }
    }

    /// From now on, measures the time of every layer.
    pub fn time_layers(&mut self) {
        self.times = vec![[0.0; 2]; self.program.steps.len()];
        for lane in &mut self.lanes {
            lane.times = self.times.clone();
        }
    }

    /// The seconds that every node of the graph has taken since [`Self::time_layers`], forward and backward, the
    /// times of all threads together where lanes work side by side.
    pub fn layer_times(&self) -> Vec<[f64; 2]> {
        let mut times = vec![[0.0; 2]; self.graph.nodes.len()];
        let lanes = self.lanes.iter().map(|lane| &lane.times);
        for all in lanes.chain([&self.times]) {
            for (step, [forward, backward]) in self.program.steps.iter().zip(all) {
                times[step.node][0] += forward;
                times[step.node][1] += backward;
            }
        }
        times
    }

    /// Whether only the kept weights of a parameter are multiplied.
    pub fn is_sparse(&self, parameter: usize) -> bool {
        self.sparse[parameter].is_some()
    }

    /// Hands the pictures to the lanes; the number of lanes follows from the number of images alone.
    fn scatter(&mut self, images: &[f32]) -> usize {
        let length = self.program.value_lengths[0];
        assert!(
            images.len().is_multiple_of(length),
            "pictures of another shape"
        );
        let count = images.len() / length;
        assert!(
            (1..=self.settings.batch).contains(&count),
            "{count} images where at most {} fit",
            self.settings.batch
        );
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let range = if index < lane_count(count) {
                lane_range(count, index)
            } else {
                0..0
            };
            (lane.first, lane.images) = (range.start, range.len());
            lane.values[0][..range.len() * length]
                .copy_from_slice(&images[range.start * length..range.end * length]);
        }
        lane_count(count)
    }

    fn forward(&mut self, images: &[f32], mode: Mode) -> usize {
        if std::mem::take(&mut self.stale) {
            for (sparse, weight) in self.sparse.iter_mut().zip(&self.weights) {
                if let Some(sparse) = sparse {
                    sparse.refresh(&self.threads, weight);
                }
            }
        }
        let active = self.scatter(images);
        let lanes = &mut self.lanes[..active];
        for stage in &self.program.stages {
            let start = Instant::now();
            let parameters = Parameters {
                values: &self.weights,
                sparse: &self.sparse,
                norms: &self.norms,
                masked: true,
            };
            match stage {
                Stage::Lanes(stretch) => {
                    let program = &self.program;
                    self.threads.for_each(lanes, |_, lane| {
                        lane.forward(stretch, program, &parameters, mode);
                    });
                }
                Stage::Linear(index) => {
                    let (program, threads) = (&self.program, &self.threads);
                    self.whole
                        .forward(program, *index, threads, lanes, &parameters);
                }
                Stage::Join(index) => {
                    let weights = &mut self.weights;
                    self.norms.join(&self.program, *index, lanes, weights, mode);
                }
            }
            note_time(&mut self.times, stage, 0, start);
        }
        active
    }

    /// Loss and hits of the logits that [`Self::forward`] left; with `backward`, their gradient too.
    fn loss(&mut self, active: usize, labels: &[u32], smoothing: f32, backward: bool) -> Outcome {
        let program = &self.program;
        assert!(
            labels
                .iter()
                .all(|&label| (label as usize) < program.classes),
            "a label is no class"
        );
        let factor = 1.0 / labels.len() as f32;
        self.threads.for_each(&mut self.lanes[..active], |_, lane| {
            let length = program.classes * lane.images;
            let labels = &labels[lane.first..lane.first + lane.images];
            let logits = &lane.values[program.logits][..length];
            let slot = program.gradient_slots[program.logits];
            let gradient = match (backward, slot) {
                (true, Some(slot)) => Some((&mut lane.gradients[slot][..length], factor)),
                _ => None,
            };
            let sums = loss::cross_entropy(program.classes, logits, labels, smoothing, gradient);
            (lane.loss, lane.correct) = (sums.loss, sums.correct);
        });
        let lanes = &self.lanes[..active];
        Outcome {
            loss: lanes.iter().map(|lane| lane.loss).sum(),
            correct: lanes.iter().map(|lane| lane.correct).sum(),
            images: labels.len(),
            gradient_norm: 0.0,
        }
    }

    fn prepare_backward(&mut self) {
        if !self.gradients.is_empty() {
            return;
        }
        let lengths: Vec<usize> = self.weights.iter().map(Vec::len).collect();
        self.gradients = (self.graph.parameters.iter())
            .map(|p| {
                if p.role.trainable() {
                    vec![0.0; p.len()]
                } else {
                    Vec::new()
                }
            })
            .collect();
        let capacity = lane_capacity(self.settings.batch);
        for lane in &mut self.lanes {
            lane.prepare_backward(&self.program, &lengths, capacity);
        }
    }

    fn backward(&mut self, active: usize, mode: Mode, masked: bool) {
        let lanes = &mut self.lanes[..active];
        self.threads.for_each(lanes, |_, lane| {
            lane.parameter_gradients
                .iter_mut()
                .for_each(|gradient| gradient.fill(0.0));
        });
        for stage in self.program.stages.iter().rev() {
            let start = Instant::now();
            match stage {
                Stage::Lanes(stretch) => {
                    let program = &self.program;
                    let parameters = Parameters {
                        values: &self.weights,
                        sparse: &self.sparse,
                        norms: &self.norms,
                        masked,
                    };
                    self.threads.for_each(lanes, |_, lane| {
                        lane.backward(stretch, program, &parameters, mode);
                    });
                }
                Stage::Linear(index) => self.whole.backward(
                    &self.program,
                    *index,
                    &self.threads,
                    lanes,
                    ParametersMut {
                        values: &self.weights,
                        sparse: &mut self.sparse,
                        masked,
                        gradients: &mut self.gradients,
                    },
                ),
                Stage::Join(index) => {
                    let gradients = &mut self.gradients;
                    self.norms
                        .join_backward(&self.program, *index, lanes, gradients);
                }
            }
            note_time(&mut self.times, stage, 1, start);
        }
    }

    /// Joins the lanes' gradients of the kept weights of sparse convolutions, in lane order.
    fn reduce_sparse(&mut self, active: usize) {
        let Some((first, others)) = self.lanes[..active].split_first_mut() else {
            return;
        };
        for (parameter, sparse) in self.sparse.iter().enumerate() {
            let Some(Sparse::Conv(sparse)) = sparse else {
                continue;
            };
            let sums = &mut first.parameter_gradients[parameter][..sparse.kept()];
            self.threads.for_each_chunk(sums, PIECE, |index, sums| {
                for lane in &*others {
                    let share = &lane.parameter_gradients[parameter][index * PIECE..];
                    elementwise::accumulate(&share[..sums.len()], sums);
                }
            });
            self.gradients[parameter].fill(0.0);
            sparse.scatter(sums, &mut self.gradients[parameter]);
        }
    }

    /// Joins the lanes' shares of the gradients in lane order and, if asked, masks them; returns the squared norm.
    fn reduce(&mut self, active: usize, masked: bool) -> f64 {
        struct Piece<'a> {
            parameter: usize,
            start: usize,
            gradient: &'a mut [f32],
            squared_norm: f64,
        }
        if masked {
            self.reduce_sparse(active);
        }
        let lanes = &self.lanes[..active];
        let (masks, sparse) = (&self.masks, &self.sparse);
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for (parameter, gradient) in self.gradients.iter_mut().enumerate() {
            for (index, gradient) in gradient.chunks_mut(PIECE).enumerate() {
                pieces.push(Piece {
                    parameter,
                    start: index * PIECE,
                    gradient,
                    squared_norm: 0.0,
                });
            }
        }
        self.threads.for_each(&mut pieces, |_, piece| {
            let range = piece.start..piece.start + piece.gradient.len();
            let is_joined = masked && sparse[piece.parameter].is_some();
            if !is_joined && !lanes[0].parameter_gradients[piece.parameter].is_empty() {
                piece
                    .gradient
                    .copy_from_slice(&lanes[0].parameter_gradients[piece.parameter][range.clone()]);
                for lane in &lanes[1..] {
                    let share = &lane.parameter_gradients[piece.parameter][range.clone()];
                    elementwise::accumulate(share, piece.gradient);
                }
            }
            if let (true, Some(mask)) = (masked, &masks[piece.parameter]) {
                update::apply_mask(piece.gradient, &mask.words()[piece.start / 64..]);
            }
            piece.squared_norm = update::squared_norm(piece.gradient);
        });
        pieces.iter().map(|piece| piece.squared_norm).sum()
    }

    /// One optimizer update of every trainable parameter with its masked gradient.
    fn update(&mut self, lr: f32, gradient_factor: f32) {
        struct Piece<'a> {
            parameter: usize,
            start: usize,
            weights: &'a mut [f32],
            gradient: &'a [f32],
            slots: [&'a mut [f32]; 2],
            average: &'a mut [f32],
        }
        self.updates += 1;
        self.stale = true;
        let (updates, masks, settings) = (self.updates, &self.masks, &self.settings);
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let mut slots = self.slots.iter_mut().map(|slot| slot.iter_mut());
        let mut slots = [slots.next(), slots.next()];
        let mut averages = self.averages.iter_mut();
        for (parameter, (weights, gradient)) in
            self.weights.iter_mut().zip(&self.gradients).enumerate()
        {
            let mut slot_pieces = slots.each_mut().map(|slot| {
                let values = slot.as_mut().and_then(Iterator::next);
                values.map_or([].chunks_mut(PIECE), |values| values.chunks_mut(PIECE))
            });
            let mut average = averages
                .next()
                .map_or([].chunks_mut(PIECE), |a| a.chunks_mut(PIECE));
            if !self.graph.parameters[parameter].role.trainable() {
                // Running statistics are averaged as they are.
                if let Some(decay) = settings.ema {
                    for (piece, average) in weights.chunks(PIECE).zip(average) {
                        update::ema_update(decay, piece, average);
                    }
                }
                continue;
            }
            let chunks = weights
                .chunks_mut(PIECE)
                .zip(gradient.chunks(PIECE))
                .enumerate();
            for (index, (weights, gradient)) in chunks {
                pieces.push(Piece {
                    parameter,
                    start: index * PIECE,
                    weights,
                    gradient,
                    slots: slot_pieces
                        .each_mut()
                        .map(|slot| slot.next().unwrap_or_default()),
                    average: average.next().unwrap_or_default(),
                });
            }
        }
        self.threads.for_each(&mut pieces, |_, piece| {
            let factors = settings.factors[piece.parameter];
            let rate = lr * factors.lr;
            let mask = masks[piece.parameter].as_ref().map(|mask| {
                let words = &mask.words()[piece.start / 64..];
                &words[..piece.weights.len().div_ceil(64)]
            });
            let [first, second] = &mut piece.slots;
            match settings.optimizer {
                Optimizer::Sgd {
                    momentum,
                    weight_decay,
                    nesterov,
                } => update::Sgd {
                    rate,
                    momentum,
                    decay: weight_decay * factors.decay,
                    nesterov,
                    gradient_factor,
                }
                .update(piece.weights, piece.gradient, first, mask),
                Optimizer::CaffeSgd {
                    momentum,
                    weight_decay,
                    nesterov,
                } => update::CaffeSgd {
                    rate,
                    momentum,
                    decay: weight_decay * factors.decay,
                    nesterov,
                    gradient_factor,
                }
                .update(piece.weights, piece.gradient, first, mask),
                Optimizer::Adamw {
                    beta1,
                    beta2,
                    epsilon,
                    weight_decay,
                } => update::AdamW {
                    rate,
                    beta1,
                    beta2,
                    epsilon,
                    decay: weight_decay * factors.decay,
                    step: updates,
                    gradient_factor,
                }
                .update(piece.weights, piece.gradient, first, second, mask),
            }
            if let Some(decay) = settings.ema {
                update::ema_update(decay, piece.weights, piece.average);
                if let Some(mask) = mask {
                    update::apply_mask(piece.average, mask);
                }
            }
        });
    }

    fn forward_backward(
        &mut self,
        examples: Examples<'_>,
        step: u64,
        masked: bool,
    ) -> (Outcome, usize) {
        self.prepare_backward();
        let mode = Mode::Train {
            seed: self.settings.seed,
            step,
        };
        let active = self.forward(examples.images, mode);
        let outcome = self.loss(active, examples.labels, self.settings.label_smoothing, true);
        self.backward(active, mode, masked);
        (outcome, active)
    }

    fn section(&self, section: Section) -> &[Vec<f32>] {
        match section {
            Section::Weights => &self.weights,
            Section::Gradients => &self.gradients,
            Section::Average => &self.averages,
            Section::Slot(slot) => &self.slots[slot],
        }
    }
}

/// Notes the time of a stage on the whole batch; lanes note their own.
fn note_time(times: &mut [[f64; 2]], stage: &Stage, direction: usize, start: Instant) {
    if let Stage::Linear(index) | Stage::Join(index) = stage
        && let Some(time) = times.get_mut(*index)
    {
        time[direction] += start.elapsed().as_secs_f64();
    }
}

impl Engine for CpuEngine {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn train_step(&mut self, examples: Examples<'_>, lr: f32, step: u64) -> Outcome {
        let (mut outcome, active) = self.forward_backward(examples, step, true);
        outcome.gradient_norm = self.reduce(active, true).sqrt();
        // PyTorch's clip_grad_norm_ adds 1e-6 to the norm.
        let factor = match self.settings.clip_norm {
            Some(most) => (f64::from(most) / (outcome.gradient_norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        // A step that is not finite changes no parameter. The running statistics of BatchNorm have changed by then: what is saved is the
        // state of an earlier step.
        if outcome.loss.is_finite() && outcome.gradient_norm.is_finite() {
            self.update(lr, factor as f32);
        }
        outcome
    }

    fn gradients(&mut self, examples: Examples<'_>, step: u64) -> Outcome {
        self.norms.keep_running();
        let (mut outcome, active) = self.forward_backward(examples, step, false);
        self.norms.own_momentum();
        outcome.gradient_norm = self.reduce(active, false).sqrt();
        outcome
    }

    fn evaluate(&mut self, examples: Examples<'_>) -> Outcome {
        let active = self.forward(examples.images, Mode::Evaluate);
        self.loss(active, examples.labels, 0.0, false)
    }

    fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) {
        let active = self.forward(images, Mode::Evaluate);
        logits.clear();
        for lane in &self.lanes[..active] {
            logits.extend_from_slice(lane.value(&self.program, self.program.logits));
        }
    }

    fn reestimate(&mut self, examples: Examples<'_>, index: usize) {
        self.norms.average_over(index);
        self.forward(examples.images, Mode::Measure);
        self.norms.own_momentum();
    }

    fn read(&self, section: Section, parameter: usize, values: &mut Vec<f32>) {
        values.clear();
        values.extend_from_slice(&self.section(section)[parameter]);
    }

    fn write(&mut self, section: Section, parameter: usize, values: &[f32]) {
        let target = match section {
            Section::Weights => &mut self.weights[parameter],
            Section::Gradients => &mut self.gradients[parameter],
            Section::Average => &mut self.averages[parameter],
            Section::Slot(slot) => &mut self.slots[slot][parameter],
        };
        target.copy_from_slice(values);
        self.stale = true;
    }

    fn set_mask(&mut self, parameter: usize, mask: Option<Mask>) {
        if let Some(mask) = &mask {
            mask.apply(&mut self.weights[parameter]);
            if let Some(average) = self.averages.get_mut(parameter) {
                mask.apply(average);
            }
        }
        let (images, batch) = (lane_capacity(self.settings.batch), self.settings.batch);
        let sparse = mask
            .as_ref()
            .and_then(|mask| Sparse::new(&self.program, parameter, mask, images, batch));
        match &sparse {
            Some(Sparse::Conv(sparse)) => {
                let length = sparse.scratch_len(images);
                self.lanes
                    .iter_mut()
                    .for_each(|lane| lane.reserve_scratch(length));
            }
            Some(Sparse::Linear(sparse)) => self.whole.reserve_scratch(sparse.scratch_len(batch)),
            None => {}
        }
        self.sparse[parameter] = sparse;
        self.masks[parameter] = mask;
        self.stale = true;
    }

    fn mask(&self, parameter: usize) -> Option<&Mask> {
        self.masks[parameter].as_ref()
    }

    fn swap_average(&mut self) {
        if !self.averages.is_empty() {
            std::mem::swap(&mut self.weights, &mut self.averages);
            self.stale = true;
        }
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }
}
