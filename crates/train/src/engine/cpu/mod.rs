//! The CPU engine: a static program over buffers that are allocated once, split into lanes.
//!
//! A stage of the program is either done by every lane on its own, or by all threads on the whole batch
//! (linear layers), or by the lanes with a join of their sums between (BatchNorm). Nothing of the size of an
//! activation or a weight is allocated after the first step.

mod lane;
mod norm;
mod program;
mod whole;

use skinny_kernels::{Threads, elementwise, loss, update};
use skinny_network::Graph;
use skinny_sparsity::Mask;

use self::lane::{Lane, Mode, lane_capacity, lane_count, lane_range};
use self::norm::NormBuffers;
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
    updates: u64,
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
            updates: 0,
            program,
            weights,
            graph,
            settings,
        }
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
        let active = self.scatter(images);
        let lanes = &mut self.lanes[..active];
        for stage in &self.program.stages {
            match stage {
                Stage::Lanes(range) => {
                    let (program, weights) = (&self.program, &self.weights);
                    self.threads.for_each(lanes, |_, lane| {
                        for index in range.clone() {
                            lane.forward(index, program, weights, mode);
                        }
                    });
                }
                Stage::Linear(index) => {
                    self.whole
                        .forward(&self.program, *index, &self.threads, lanes, &self.weights)
                }
                Stage::BatchNorm(index) => self.norms.forward(
                    &self.program,
                    *index,
                    &self.threads,
                    lanes,
                    &mut self.weights,
                    mode,
                ),
            }
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

    fn backward(&mut self, active: usize, mode: Mode) {
        let lanes = &mut self.lanes[..active];
        self.threads.for_each(lanes, |_, lane| {
            lane.parameter_gradients
                .iter_mut()
                .for_each(|gradient| gradient.fill(0.0));
        });
        for stage in self.program.stages.iter().rev() {
            match stage {
                Stage::Lanes(range) => {
                    let (program, weights) = (&self.program, &self.weights);
                    self.threads.for_each(lanes, |_, lane| {
                        for index in range.clone().rev() {
                            lane.backward(index, program, weights, mode);
                        }
                    });
                }
                Stage::Linear(index) => self.whole.backward(
                    &self.program,
                    *index,
                    &self.threads,
                    lanes,
                    &self.weights,
                    &mut self.gradients,
                ),
                Stage::BatchNorm(index) => self.norms.backward(
                    &self.program,
                    *index,
                    &self.threads,
                    lanes,
                    &self.weights,
                    &mut self.gradients,
                ),
            }
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
        let lanes = &self.lanes[..active];
        let masks = &self.masks;
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
            if !lanes[0].parameter_gradients[piece.parameter].is_empty() {
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

    fn forward_backward(&mut self, examples: Examples<'_>, step: u64) -> (Outcome, usize) {
        self.prepare_backward();
        let mode = Mode::Train {
            seed: self.settings.seed,
            step,
        };
        let active = self.forward(examples.images, mode);
        let outcome = self.loss(active, examples.labels, self.settings.label_smoothing, true);
        self.backward(active, mode);
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

impl Engine for CpuEngine {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn train_step(&mut self, examples: Examples<'_>, lr: f32, step: u64) -> Outcome {
        let (mut outcome, active) = self.forward_backward(examples, step);
        outcome.gradient_norm = self.reduce(active, true).sqrt();
        // PyTorch's clip_grad_norm_ adds 1e-6 to the norm.
        let factor = match self.settings.clip_norm {
            Some(most) => (f64::from(most) / (outcome.gradient_norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        // A step that is not finite changes nothing: the state before it can be saved.
        if outcome.loss.is_finite() && outcome.gradient_norm.is_finite() {
            self.update(lr, factor as f32);
        }
        outcome
    }

    fn gradients(&mut self, examples: Examples<'_>, step: u64) -> Outcome {
        let (mut outcome, active) = self.forward_backward(examples, step);
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
        self.norms.average_over_none();
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
    }

    fn set_mask(&mut self, parameter: usize, mask: Option<Mask>) {
        if let Some(mask) = &mask {
            mask.apply(&mut self.weights[parameter]);
            if let Some(average) = self.averages.get_mut(parameter) {
                mask.apply(average);
            }
        }
        self.masks[parameter] = mask;
    }

    fn mask(&self, parameter: usize) -> Option<&Mask> {
        self.masks[parameter].as_ref()
    }

    fn swap_average(&mut self) {
        if !self.averages.is_empty() {
            std::mem::swap(&mut self.weights, &mut self.averages);
        }
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }
}
