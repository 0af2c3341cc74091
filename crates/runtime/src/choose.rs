//! Which kernel a layer gets, from a model of what each would cost.

use skinny_kernels::InstructionSet;
use skinny_kernels::inference::{Choice, Method, Storage};

/// A convolution as the model of costs sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Output channels and columns of the weight matrix of one group.
    pub rows: usize,
    pub columns: usize,
    pub groups: usize,
    /// Kept weights of all groups.
    pub nonzeros: usize,
    /// Vectors of one output channel, of this many lanes.
    pub vectors: usize,
    pub lanes: usize,
    /// Taps that read the same values of the input, shifted.
    pub taps: usize,
}

/// Bytes of input that a block of columns may touch: what the first-level cache holds beside the weights.
const BUDGETS: [usize; 2] = [16 << 10, 24 << 10];

/// All choices that are worth a look for a convolution.
pub(crate) fn candidates(lanes: usize) -> Vec<Choice> {
    let mut choices = Vec::new();
    for method in Method::ALL {
        // Without 32 registers, groups of four rows spill.
        if method == Method::Fours && lanes == 8 {
            continue;
        }
        let largest = method.largest_tile(lanes);
        let smallest = if method == Method::Dense {
            largest
        } else {
            largest / 2
        };
        for vectors in [largest, largest - 1, largest * 2 / 3, smallest] {
            for budget in BUDGETS {
                let choice = Choice {
                    method,
                    vectors: vectors.max(1),
                    budget,
                };
                if !choices.contains(&choice) {
                    choices.push(choice);
                }
            }
        }
    }
    choices
}

/// Cycles that a convolution takes with a choice, by a model: what the arithmetic units and the loads cost, what it
/// costs to begin and end the sums of a row, and mispredicted ends of loops.
pub(crate) fn cycles(shape: &Shape, choice: &Choice) -> f64 {
    let tiles = shape.vectors.div_ceil(choice.vectors) as f64;
    // Vectors of an average tile.
    let n = shape.vectors as f64 / tiles;
    let all = (shape.rows * shape.columns) as f64;
    let density = shape.nonzeros as f64 / all;
    let rows = shape.rows as f64;
    // Bytes of input per column: neighbouring taps share most of theirs.
    let line = 4.0
        * if shape.taps > 1 {
            16.0
        } else {
            shape.lanes as f64
        };
    let shared = if shape.taps > 1 {
        shape.taps as f64 / 1.7
    } else {
        1.0
    };
    let touched = shape.columns as f64 / shape.groups as f64 * n * line / shared;
    let blocks = (touched / choice.budget as f64).ceil().max(1.0);
    // Loading and storing the sums of a row, and the end of its loop.
    let begin = 1.5 * n + 10.0;
    let half = |fma: f64, loads: f64| 0.5 * fma.max(loads) + 0.5;
    match choice.method {
        Method::Dense => {
            let step = half(6.0 * n, 6.0 + n);
            let groups = (rows / 6.0).ceil();
            tiles * groups * (all / rows * step + blocks * 6.0 * begin)
        }
        Method::Rows | Method::DoubleRows => {
            // One set of sums waits for itself if it has fewer vectors than two units times four cycles.
            let wait: f64 = if choice.method == Method::Rows {
                4.0
            } else {
                2.0
            };
            let step = half(n, n + 1.5).max(wait);
            tiles * (shape.nonzeros as f64 * step + rows * blocks * begin)
        }
        Method::Pairs | Method::Fours => {
            let height = if choice.method == Method::Pairs { 2 } else { 4 };
            let mut per_column = 0.0;
            for pattern in 1..1u32 << height {
                let ones = f64::from(pattern.count_ones());
                let zeros = f64::from(height) - ones;
                let chance = density.powf(ones) * (1.0 - density).powf(zeros);
                per_column += chance * half(ones * n, ones + n + 0.5).max(4.0 / (1.0 + ones));
            }
            let groups = (rows / f64::from(height)).ceil();
            let ends = f64::from((1 << height) - 1) * 8.0;
            let group = f64::from(height) * begin + ends;
            tiles * groups * (all / rows * per_column + blocks * group)
        }
    }
}

/// The choice with the least cycles.
pub(crate) fn best(shape: &Shape) -> Choice {
    let choices = candidates(shape.lanes);
    let first = choices[0];
    let cheaper = |a: Choice, b: Choice| match cycles(shape, &b) < cycles(shape, &a) {
        true => b,
        false => a,
    };
    choices.into_iter().fold(first, cheaper)
}

/// How the weights of a linear layer are stored: by the bytes that must be read, and what unpacking costs.
pub(crate) fn storage(columns: usize, density: f64, instructions: InstructionSet) -> Storage {
    // Cycles per weight: 8 bytes of memory per cycle, against the work of each kernel.
    let unpack = match instructions {
        InstructionSet::Avx512 => 1.5 / 16.0,
        InstructionSet::Avx2 => 2.0 / 8.0,
        InstructionSet::Baseline => 2.0,
    };
    let dense: f64 = (4.0f64 / 5.0).max(0.2);
    let bitmask = ((4.0 * density + 0.125) / 5.0).max(unpack);
    let gather = (6.0 * density / 5.0).max(1.2 * density);
    let gather = if Storage::Gather.can(columns) {
        gather
    } else {
        f64::INFINITY
    };
    if dense <= bitmask.min(gather) {
        Storage::Dense
    } else if bitmask <= gather {
        Storage::Bitmask
    } else {
        Storage::Gather
    }
}
