//! A list of layers over the memory of one image, and threads that run it on many.

use std::ops::Range;

use super::convolution::Convolution;
use super::layout::Plane;
use super::linear::{GROUP, Linear, Precision};
use super::memory::{Aligned, Memory};
use super::pointwise::{self, Normalization};
use super::pool::{self, Pool};
use crate::Threads;

/// An image in the memory of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first value.
    pub start: usize,
    /// Its layout.
    pub plane: Plane,
}

impl Region {
    /// All of its values.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.plane.len()
    }

    fn channels(&self, channels: Range<usize>) -> Range<usize> {
        let at = |channel: usize| self.start + channel * self.plane.stride;
        at(channels.start)..at(channels.end)
    }
}

/// One or more convolutions that follow each other, all but the first of them 1×1.
///
/// More than one is run piece by piece of the image, so that what is between them stays in the cache. Threads share
/// the vectors of the image, but the output channels of one convolution that was packed for several threads.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The convolutions; all but the first read planes of [`Chain::between`].
    pub convolutions: Vec<Convolution>,
    /// Vectors of one piece.
    pub chunk: usize,
}

impl Chain {
    /// The layout of what is between two convolutions of a chain.
    pub fn between(channels: usize, chunk: usize, lanes: usize) -> Plane {
        Plane::new([channels, 1, chunk * lanes], lanes)
    }

    fn scratch_len(&self, lanes: usize) -> usize {
        let inner = &self.convolutions[..self.convolutions.len() - 1];
        let between = |c: &Convolution| Chain::between(c.rows(), self.chunk, lanes).len();
        // Two buffers in turn.
        self.own_scratch() + 2 * inner.iter().map(between).max().unwrap_or(0)
    }

    /// Values of scratch that some convolution needs.
    fn own_scratch(&self) -> usize {
        let own = self.convolutions.iter().map(Convolution::scratch_len);
        own.max().unwrap_or(0)
    }
}

/// One step of a program. What it reads and what it writes lies apart.
#[derive(Clone, Debug)]
pub enum Step {
    /// Convolutions.
    Convolve {
        /// What the first one reads.
        from: Range<usize>,
        /// The convolutions.
        chain: Chain,
        /// Where the result goes.
        to: Region,
    },
    /// A maximum or average pool.
    Pool {
        /// The pool.
        pool: Pool,
        /// The image.
        from: Region,
        /// Where the result goes.
        to: Region,
    },
    /// The mean of each channel.
    GlobalPool {
        /// The image.
        from: Region,
        /// Where the vector goes, whole groups.
        to: Range<usize>,
    },
    /// A scale and a shift per channel.
    Affine {
        /// The image.
        from: Region,
        /// Of every channel.
        scale: Vec<f32>,
        /// Of every channel.
        shift: Vec<f32>,
        /// Whether negative results become 0.
        relu: bool,
        /// Where the result goes.
        to: Region,
    },
    /// The sum of two or more images of one layout.
    Add {
        /// The images.
        from: Vec<Region>,
        /// Whether negative results become 0.
        relu: bool,
        /// Where the result goes.
        to: Region,
    },
    /// Local response normalization.
    Normalize {
        /// Its numbers.
        normalization: Normalization,
        /// The image.
        from: Region,
        /// Where the result goes.
        to: Region,
    },
    /// The values of an image in order.
    Flatten {
        /// The image.
        from: Region,
        /// Where the vector goes, whole groups.
        to: Range<usize>,
    },
    /// A vector as an image.
    Unflatten {
        /// The vector, whole groups.
        from: Range<usize>,
        /// Where the image goes.
        to: Region,
    },
    /// A fully connected layer.
    Linear {
        /// The vector, whole groups.
        from: Range<usize>,
        /// The weights.
        linear: Linear,
        /// Where the result goes, whole groups.
        to: Range<usize>,
    },
    /// Softmax over a vector.
    Softmax {
        /// The vector, whole groups.
        from: Range<usize>,
        /// How many values it has.
        classes: usize,
        /// Where the result goes, whole groups.
        to: Range<usize>,
    },
    /// Replaces the negative values of a vector by 0.
    Relu {
        /// The vector, whole groups.
        from: Range<usize>,
        /// Where the result goes, whole groups.
        to: Range<usize>,
    },
}

impl Step {
    /// What it does and by which kernel, in a few words.
    pub fn describe(&self) -> String {
        let word = match self {
            Step::Convolve { chain, .. } => {
                let choice = |convolution: &Convolution| {
                    let choice = convolution.choice();
                    format!("{} {}", choice.method.name(), choice.vectors)
                };
                let choices: Vec<String> = chain.convolutions.iter().map(choice).collect();
                return choices.join(" + ");
            }
            Step::Pool { .. } => "pool",
            Step::GlobalPool { .. } => "global pool",
            Step::Affine { .. } => "affine",
            Step::Add { .. } => "add",
            Step::Normalize { .. } => "normalize",
            Step::Flatten { .. } => "flatten",
            Step::Unflatten { .. } => "unflatten",
            Step::Linear { linear, .. } => {
                let precision = match linear.precision() {
                    Precision::Single => "",
                    Precision::Int8 => ", int8",
                };
                return format!("{}{precision}", linear.storage().name());
            }
            Step::Softmax { .. } => "softmax",
            Step::Relu { .. } => "relu",
        };
        word.to_owned()
    }

    fn reads(&self) -> Vec<Range<usize>> {
        match self {
            Step::Pool { from, .. }
            | Step::GlobalPool { from, .. }
            | Step::Affine { from, .. }
            | Step::Normalize { from, .. }
            | Step::Flatten { from, .. } => vec![from.range()],
            Step::Add { from, .. } => from.iter().map(Region::range).collect(),
            Step::Convolve { from, .. }
            | Step::Unflatten { from, .. }
            | Step::Linear { from, .. }
            | Step::Relu { from, .. }
            | Step::Softmax { from, .. } => vec![from.clone()],
        }
    }

    fn writes(&self) -> Range<usize> {
        match self {
            Step::Convolve { to, .. }
            | Step::Unflatten { to, .. }
            | Step::Pool { to, .. }
            | Step::Affine { to, .. }
            | Step::Add { to, .. }
            | Step::Normalize { to, .. } => to.range(),
            Step::GlobalPool { to, .. }
            | Step::Flatten { to, .. }
            | Step::Linear { to, .. }
            | Step::Relu { to, .. }
            | Step::Softmax { to, .. } => to.clone(),
        }
    }

    /// Values that a thread needs to itself while it runs this step.
    fn scratch_len(&self) -> usize {
        match self {
            Step::Convolve { chain, to, .. } => chain.scratch_len(to.plane.lanes),
            Step::Pool { pool, from, to } => pool.scratch_len(&from.plane, &to.plane),
            Step::Linear { linear, .. } => linear.scratch_len(),
            _ => 0,
        }
    }

    /// Computes part `part` of `parts`.
    ///
    /// # Safety
    /// The memory is borrowed; all parts may run at once, but no other step and no part twice.
    unsafe fn run(&self, part: usize, parts: usize, memory: &Memory, scratch: &mut [f32]) {
        let share = |items: usize| part * items / parts..(part + 1) * items / parts;
        // SAFETY: what is read is written by no part of this step, as `Program::new` checked; every part writes
        // its own channels, rows or vectors, or part 0 writes all.
        unsafe {
            match self {
                Step::Convolve { from, chain, to } => {
                    convolve(
                        chain,
                        to,
                        memory.read(from.clone()),
                        (part, parts),
                        memory,
                        scratch,
                    );
                }
                Step::Pool { pool, from, to } => {
                    scratch[..pool.scratch_len(&from.plane, &to.plane)].fill(pool.empty());
                    for channel in share(to.plane.shape[0]) {
                        let input = memory.read(from.channels(channel..channel + 1));
                        let output = memory.write(to.channels(channel..channel + 1));
                        pool.run(&from.plane, &to.plane, input, output, scratch);
                    }
                }
                Step::Affine {
                    from,
                    scale,
                    shift,
                    relu,
                    to,
                } => {
                    for channel in share(to.plane.shape[0]) {
                        let input = memory.read(from.channels(channel..channel + 1));
                        let output = memory.write(to.channels(channel..channel + 1));
                        pointwise::affine(scale[channel], shift[channel], *relu, input, output);
                    }
                }
                Step::Add { from, relu, to } => {
                    let channels = share(to.plane.shape[0]);
                    let output = memory.write(to.channels(channels.clone()));
                    output.copy_from_slice(memory.read(from[0].channels(channels.clone())));
                    for other in &from[1..] {
                        pointwise::add(memory.read(other.channels(channels.clone())), output);
                    }
                    if *relu {
                        pointwise::relu(output);
                    }
                }
                Step::Normalize {
                    normalization,
                    from,
                    to,
                } => {
                    let channels = to.plane.shape[0];
                    for channel in share(channels) {
                        let output = memory.write(to.channels(channel..channel + 1));
                        let input = memory.read(from.range());
                        normalization.run(channels, channel, to.plane.stride, input, output);
                    }
                }
                Step::Linear { from, linear, to } => {
                    let rows = share(linear.rows());
                    let output = memory.write(to.start + rows.start..to.start + rows.end);
                    linear.run(rows.clone(), memory.read(from.clone()), output, scratch);
                    if rows.end == linear.rows() {
                        memory.write(to.start + rows.end..to.end).fill(0.0);
                    }
                }
                _ if part > 0 => {}
                Step::GlobalPool { from, to } => {
                    let output = memory.write(to.clone());
                    output.fill(0.0);
                    for (channel, output) in output[..from.plane.shape[0]].iter_mut().enumerate() {
                        let input = memory.read(from.channels(channel..channel + 1));
                        *output = pool::mean(&from.plane, input);
                    }
                }
                Step::Flatten { from, to } => {
                    let output = memory.write(to.clone());
                    let length = from.plane.shape.iter().product();
                    from.plane
                        .write_dense(memory.read(from.range()), &mut output[..length]);
                    output[length..].fill(0.0);
                }
                Step::Unflatten { from, to } => {
                    let length = to.plane.shape.iter().product();
                    let input = &memory.read(from.clone())[..length];
                    to.plane.read_dense(input, memory.write(to.range()));
                }
                Step::Softmax { from, classes, to } => {
                    let output = memory.write(to.clone());
                    output.copy_from_slice(memory.read(from.clone()));
                    pointwise::softmax(&mut output[..*classes]);
                }
                Step::Relu { from, to } => {
                    let output = memory.write(to.clone());
                    output.copy_from_slice(memory.read(from.clone()));
                    pointwise::relu(output);
                }
            }
        }
    }
}

/// Runs one part of a chain.
///
/// # Safety
/// The parts may write the result together.
unsafe fn convolve(
    chain: &Chain,
    to: &Region,
    input: &[f32],
    (part, parts): (usize, usize),
    memory: &Memory,
    scratch: &mut [f32],
) {
    let Plane { lanes, stride, .. } = to.plane;
    let output = memory.pointer(to.range());
    let (own, scratch) = scratch.split_at_mut(chain.own_scratch());
    let (last, inner) = chain
        .convolutions
        .split_last()
        .expect("a chain has convolutions");
    if inner.is_empty() && last.pieces().len() > 1 {
        // SAFETY: the pieces of the parts are disjoint channels.
        unsafe {
            last.run(
                last.share(part, parts),
                0..last.vectors(),
                input,
                output,
                stride,
                own,
            )
        };
        return;
    }
    let vectors = to.plane.vectors();
    let (begin, end) = (part * vectors / parts, (part + 1) * vectors / parts);
    if inner.is_empty() {
        // SAFETY: the parts are disjoint vectors of every channel.
        unsafe {
            let target = output.add(begin * lanes);
            last.run(last.pieces(), begin..end, input, target, stride, own);
        }
        return;
    }
    let length = end - begin;
    let chunks = length.div_ceil(chain.chunk);
    let half = scratch.len() / 2;
    let (mut now, mut next) = scratch.split_at_mut(half);
    for chunk in 0..chunks {
        let border = |chunk: usize| begin + chunk * length / chunks;
        let (from, end) = (border(chunk), border(chunk + 1));
        for (at, convolution) in inner.iter().enumerate() {
            let between = Chain::between(convolution.rows(), chain.chunk, lanes);
            let target = next[..between.len()].as_mut_ptr();
            let (source, range) = match at {
                0 => (input, from..end),
                _ => (&*now, 0..end - from),
            };
            // SAFETY: the scratch is this thread's own and long enough for all channels of the layout.
            unsafe {
                let pieces = convolution.pieces();
                convolution.run(pieces, range, source, target, between.stride, own);
            }
            std::mem::swap(&mut now, &mut next);
        }
        // SAFETY: the chunks of the parts are disjoint vectors of every channel.
        unsafe {
            let target = output.add(from * lanes);
            last.run(last.pieces(), 0..end - from, now, target, stride, own);
        }
    }
}

/// A network ready to run: steps over the memory of one image.
#[derive(Clone, Debug)]
pub struct Program {
    steps: Vec<Step>,
    input: Region,
    output: Range<usize>,
    memory: usize,
    scratch: usize,
}

/// The buffers of a program, one set per thread.
#[derive(Debug)]
pub struct Workspace {
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    memory: Aligned,
    scratch: Aligned,
}

impl Program {
    /// A program whose result lies at `output` after the last step.
    ///
    /// # Panics
    /// If a step reads or writes outside of `memory` values, or writes what it reads, or makes a result of another size than there is
    /// room for.
    pub fn new(steps: Vec<Step>, input: Region, output: Range<usize>, memory: usize) -> Self {
        assert!(input.range().end <= memory && output.end <= memory);
        for step in &steps {
            let to = step.writes();
            assert!(to.end <= memory, "{to:?} is outside of the memory");
            for from in step.reads() {
                assert!(from.end <= memory, "{from:?} is outside of the memory");
                assert!(
                    from.end <= to.start || to.end <= from.start,
                    "{from:?} overlaps {to:?}"
                );
            }
            match step {
                Step::Linear { from, linear, to } => {
                    assert_eq!(from.len(), linear.columns().next_multiple_of(GROUP));
                    assert_eq!(to.len(), linear.rows().next_multiple_of(GROUP));
                }
                Step::Convolve { chain, to, .. } => {
                    let convolutions = &chain.convolutions;
                    let rows = convolutions.last().map(Convolution::rows);
                    let vectors = convolutions.first().map(Convolution::vectors);
                    assert_eq!(rows, Some(to.plane.shape[0]));
                    assert_eq!(vectors, Some(to.plane.vectors()));
                    let lanes = to.plane.lanes;
                    assert!(convolutions.iter().all(|one| one.lanes() == lanes));
                    assert!(to.plane.stride >= to.plane.vectors() * lanes);
                }
                // Threads share the channels.
                Step::Pool { from, to, .. }
                | Step::Affine { from, to, .. }
                | Step::Normalize { from, to, .. } => {
                    assert_eq!(from.plane.shape[0], to.plane.shape[0]);
                }
                _ => {}
            }
        }
        let scratch = steps.iter().map(Step::scratch_len).max().unwrap_or(0);
        Self {
            steps,
            input,
            output,
            memory,
            scratch,
        }
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Seconds that every step takes on this thread, for one image whose values are all `value`.
    pub fn profile(&self, workspace: &mut Workspace, value: f32) -> Vec<f64> {
        let Lane { memory, scratch } = &mut workspace.lanes[0];
        memory.as_mut_slice()[self.input.range()].fill(value);
        let memory = Memory::new(memory.as_mut_slice());
        let time = |step: &Step| {
            let start = std::time::Instant::now();
            // SAFETY: the memory is borrowed, and this is its only user.
            unsafe { step.run(0, 1, &memory, scratch.as_mut_slice()) };
            start.elapsed().as_secs_f64()
        };
        self.steps.iter().map(time).collect()
    }

    /// Bytes of the buffers of one thread.
    pub fn workspace_bytes(&self) -> u64 {
        (self.memory as u64)
            .saturating_add(self.scratch as u64)
            .saturating_mul(4)
    }

    /// Buffers for as many threads.
    pub fn workspace(&self, threads: usize) -> Workspace {
        let lane = || Lane {
            memory: Aligned::new(self.memory),
            scratch: Aligned::new(self.scratch),
        };
        Workspace {
            lanes: (0..threads.max(1)).map(|_| lane()).collect(),
        }
    }

    /// Runs dense images; every image gives `output.len() / images` values.
    ///
    /// Each thread takes whole images; images that are left over are computed by all threads together. The bits
    /// do not depend on the number of threads.
    ///
    /// # Panics
    /// If a slice has another length, or the workspace is another program's or has too few threads.
    pub fn run(
        &self,
        threads: &Threads,
        workspace: &mut Workspace,
        input: &[f32],
        output: &mut [f32],
    ) {
        let (size, result) = (self.input.plane.shape.iter().product(), self.output.len());
        assert!(size > 0 && input.len().is_multiple_of(size));
        let images = input.len() / size;
        assert_eq!(output.len(), images * result);
        let count = threads.count();
        assert!(workspace.lanes.len() >= count);
        let whole = images / count;
        let results = Memory::new(output);
        let lanes = &mut workspace.lanes[..count];
        let start = |image: usize, memory: &mut Aligned| {
            let dense = &input[image * size..(image + 1) * size];
            let values = &mut memory.as_mut_slice()[self.input.range()];
            self.input.plane.read_dense(dense, values);
            Memory::new(memory.as_mut_slice())
        };
        let finish = |image: usize, memory: &Memory| {
            // SAFETY: the memory is borrowed and at rest, and every image has its own results.
            unsafe {
                let result = results.write(image * result..(image + 1) * result);
                result.copy_from_slice(memory.read(self.output.clone()));
            }
        };
        if whole > 0 {
            threads.for_each(lanes, |thread, lane| {
                for image in thread * whole..(thread + 1) * whole {
                    let memory = start(image, &mut lane.memory);
                    for step in &self.steps {
                        // SAFETY: the memory is this thread's own.
                        unsafe { step.run(0, 1, &memory, lane.scratch.as_mut_slice()) };
                    }
                    finish(image, &memory);
                }
            });
        }
        for image in whole * count..images {
            let memory = start(image, &mut lanes[0].memory);
            for step in &self.steps {
                threads.for_each(lanes, |thread, lane| {
                    // SAFETY: nobody uses the lanes' own memory, of which this is the first one's, in any other way until
                    // the image is finished; every part of the step runs once.
                    unsafe { step.run(thread, count, &memory, lane.scratch.as_mut_slice()) };
                });
            }
            finish(image, &memory);
        }
    }
}
