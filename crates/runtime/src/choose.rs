//! Which kernel a layer gets, from a model of what each would cost.

use skinny_kernels::inference::{Choice, GROUP, Input, Method, Precision, Storage};
use skinny_kernels::{InstructionSet, first_level_cache};

/// A convolution as the model of costs sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Output channels and columns of the weight matrix of one group.
    pub rows: usize,
    pub columns: usize,
    pub groups: usize,
    /// Kept weights of all groups.
    pub nonzeros: usize,
    /// Vectors of an output channel that are computed together: all, or those of one piece in a chain.
    pub vectors: usize,
    pub input: Input,
}

impl Shape {
    /// Bytes of input that a tile of `n` vectors touches in all columns: neighbouring taps share most of theirs.
    fn touched(&self, n: usize) -> f64 {
        match &self.input {
            Input::Plane(plane) => (4 * plane.lanes * n * self.columns) as f64,
            Input::Lines(_, lines) => {
                const LINE: usize = 64;
                (LINE * lines.touched(n) * lines.channels() / self.groups) as f64
            }
        }
    }
}

/// Parts of the first-level cache that the input of a block of columns may fill; the rest is for weights and sums.
const PARTS: [f64; 3] = [0.6, 0.75, 0.9];

/// The choices that are worth a look for a convolution: of every method those with the least cycles.
pub(crate) fn candidates(shape: &Shape) -> Vec<Choice> {
    let lanes = shape.input.image().lanes;
    let mut budgets: Vec<usize> = PARTS
        .map(|part| (part * first_level_cache() as f64) as usize)
        .to_vec();
    // Registers of 64 bytes wait no longer for the second-level cache than for the loads and stores of the sums of one more block.
    if lanes == 16 {
        budgets.push(usize::MAX);
    }
    let mut choices = Vec::new();
    for method in Method::ALL {
        // Without 32 registers, groups of four rows spill.
        if method == Method::Fours && lanes == 8 {
            continue;
        }
        let largest = method.largest_tile(lanes).min(shape.vectors);
        let mut sizes = match method {
            Method::Dense => vec![largest, largest / 2],
            _ => vec![
                largest,
                largest - 1,
                largest * 2 / 3,
                largest / 2,
                largest / 3,
            ],
        };
        sizes.retain(|size| *size > 0);
        sizes.dedup();
        let sized = sizes.iter().flat_map(|vectors| {
            budgets.iter().map(|budget| Choice {
                method,
                vectors: *vectors,
                budget: *budget,
            })
        });
        let mut of_method: Vec<Choice> = sized.collect();
        of_method.sort_by(|a, b| cycles(shape, a).total_cmp(&cycles(shape, b)));
        choices.extend(of_method.into_iter().take(3));
    }
    choices
}

/// What the parts of a product cost, in cycles: found by fitting to measurements.
struct Costs {
    /// Bytes of input that stay in the first-level cache.
    cache: f64,
    /// A vector that is loaded from the first-level cache, and one from the second.
    near: f64,
    far: f64,
    /// A step of the loop, beside its multiply-adds and loads.
    dense_step: f64,
    row_step: f64,
    together_step: f64,
    apart_step: f64,
    fours_step: f64,
    /// A vector of sums: stored once, or loaded and stored for every block.
    once: f64,
    again: f64,
    /// The beginning and end of the loops of a group of rows.
    dense_end: f64,
    row_end: f64,
    pair_end: f64,
    fours_end: f64,
    /// A multiply-add that waits for the one before.
    wait: f64,
}

/// With vectors of 16 lanes; cores with two multiply-adds and two loads of 64 bytes per cycle.
fn sixteen() -> Costs {
    Costs {
        cache: 0.9 * first_level_cache() as f64,
        near: 0.6,
        far: 0.87,
        dense_step: 0.36,
        row_step: 0.35,
        together_step: 0.93,
        apart_step: 0.18,
        fours_step: 0.42,
        once: 0.3,
        again: 1.8,
        dense_end: 15.0,
        row_end: 12.0,
        pair_end: 12.0,
        fours_end: 45.0,
        wait: 1.7,
    }
}

/// With vectors of 8 lanes.
fn eight() -> Costs {
    Costs {
        cache: 0.75 * first_level_cache() as f64,
        near: 0.5,
        far: 0.8,
        dense_step: 0.5,
        row_step: 1.0,
        together_step: 0.8,
        apart_step: 0.2,
        fours_step: 0.5,
        once: 1.5,
        again: 1.5,
        dense_end: 60.0,
        row_end: 10.0,
        pair_end: 24.0,
        fours_end: 160.0,
        wait: 4.0,
    }
}

/// Cycles that a convolution takes with a choice, by a model: what the arithmetic units and the loads cost, what it
/// costs to begin and end the sums of a row, and mispredicted ends of loops.
pub(crate) fn cycles(shape: &Shape, choice: &Choice) -> f64 {
    let costs = match shape.input.image().lanes {
        16 => sixteen(),
        _ => eight(),
    };
    let tiles = shape.vectors.div_ceil(choice.vectors);
    // Vectors of the largest tile, and of an average one.
    let largest = shape.vectors.div_ceil(tiles);
    let tiles = tiles as f64;
    let n = shape.vectors as f64 / tiles;
    let (rows, columns) = (shape.rows as f64, shape.columns as f64);
    let density = shape.nonzeros as f64 / (rows * columns);
    let touched = shape.touched(largest);
    let blocks = (touched / choice.budget as f64).ceil().max(1.0);
    // Of what does not fit the cache, neighbours are lost too.
    let beyond = (1.0 - costs.cache * blocks / touched).clamp(0.0, 0.5);
    let load = costs.near + 2.0 * beyond * (costs.far - costs.near);
    let sum = if blocks > 1.0 {
        costs.again
    } else {
        costs.once
    };
    // Weights are loaded for all vectors of a column, four of a row together.
    let step = |multiply_adds: f64, weights: f64, rest: f64| {
        let loads = load * n + 0.5 * weights;
        (0.5 * multiply_adds * n).max(loads) + rest
    };
    // One group of rows, for one tile.
    let (together, steps, end) = match choice.method {
        Method::Dense => {
            let step = step(6.0, 6.5, costs.dense_step);
            (6.0, columns * step, costs.dense_end)
        }
        Method::Rows | Method::DoubleRows => {
            let (wait, end) = match choice.method {
                Method::Rows => (costs.wait, 0.0),
                _ => (0.5 * costs.wait, 4.0),
            };
            let step = step(1.0, 0.5, costs.row_step).max(wait);
            (1.0, density * columns * step, costs.row_end + end)
        }
        Method::Pairs => {
            let both = step(2.0, 2.5, costs.together_step).max(costs.wait);
            // Columns of one row alone are computed beside those of the other one alone.
            let apart = step(1.0, 0.5, costs.apart_step).max(0.5 * costs.wait);
            let per_column = density * density * both + 2.0 * density * (1.0 - density) * apart;
            (2.0, columns * per_column, costs.pair_end)
        }
        Method::Fours => {
            let pattern = |pattern: u32| {
                let ones = f64::from(pattern.count_ones());
                let chance = density.powf(ones) * (1.0 - density).powf(4.0 - ones);
                chance * step(ones, ones + 0.5, costs.fours_step)
            };
            let per_column: f64 = (1..1 << 4).map(pattern).sum();
            (4.0, columns * per_column, costs.fours_end)
        }
    };
    let group = steps + blocks * (together * sum * n + end);
    tiles * (rows / together).ceil() * group
}

/// The choice with the least cycles.
pub(crate) fn best(shape: &Shape) -> Choice {
    candidates(shape)
        .into_iter()
        .min_by(|a, b| cycles(shape, a).total_cmp(&cycles(shape, b)))
        .expect("there is always a candidate")
}

/// A linear layer as the model of costs sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    /// Outputs and inputs.
    pub rows: usize,
    pub columns: usize,
    /// Kept weights.
    pub nonzeros: usize,
    pub precision: Precision,
}

/// Cycles of a linear layer for one image: the bytes that must be read, or what unpacking and multiplying costs, and
/// the beginning and end of every row.
fn linear_cycles(matrix: &Matrix, storage: Storage, instructions: InstructionSet) -> f64 {
    // In whole groups, as they are stored.
    let weights = (matrix.rows * matrix.columns.next_multiple_of(GROUP)) as f64;
    let kept = matrix.nonzeros as f64;
    let value = match matrix.precision {
        Precision::Single => 4.0,
        Precision::Int8 => 1.0,
    };
    // Cycles of arithmetic per weight, with all of them or with a bit for each, and per kept weight with its column.
    let (multiply, unpack, collect) = match (matrix.precision, instructions) {
        (Precision::Single, InstructionSet::Avx512) => (0.1, 0.17, 0.85),
        (Precision::Single, InstructionSet::Avx2) => (0.19, 0.38, 1.0),
        (Precision::Single, InstructionSet::Baseline) => (0.5, 2.0, 1.0),
        (Precision::Int8, InstructionSet::Avx512) => (0.045, 0.072, 0.9),
        (Precision::Int8, InstructionSet::Avx2) => (0.08, 0.2, 1.0),
        (Precision::Int8, InstructionSet::Baseline) => (0.3, 2.0, 1.0),
    };
    // Steps of up to 64 weights among 128 columns.
    let spans = (matrix.rows * matrix.columns.div_ceil(128)) as f64;
    let steps = spans * (2.0 * kept / weights + 0.1).clamp(1.0, 2.0);
    let step = match instructions {
        InstructionSet::Avx512 => 5.5,
        _ => 64.0,
    };
    let (bytes, work, row) = match storage {
        Storage::Dense => (value * weights, multiply * weights, 12.0),
        Storage::Bitmask => (value * kept + weights / 8.0, unpack * weights, 16.0),
        Storage::Gather => ((value + 2.0) * kept, collect * kept, 24.0),
        Storage::Permute => (2.0 * kept + 4.0 * steps, step * steps, 24.0),
    };
    // Bytes per cycle from caches, and from memory.
    let bandwidth = match instructions {
        _ if bytes < 6e6 => 20.0,
        InstructionSet::Avx512 => 8.0,
        _ => 5.3,
    };
    work.max(bytes / bandwidth) + row * matrix.rows as f64
}

/// How the weights of a linear layer are stored: the way with the least cycles.
pub(crate) fn storage(matrix: &Matrix, instructions: InstructionSet) -> Storage {
    let cycles = |storage: &Storage| linear_cycles(matrix, *storage, instructions);
    Storage::ALL
        .into_iter()
        .filter(|storage| storage.can(matrix.columns, matrix.precision))
        .min_by(|a, b| cycles(a).total_cmp(&cycles(b)))
        .expect("every matrix can be dense")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rows: usize, columns: usize, density: f64) -> Storage {
        storage_of(
            [rows, columns],
            density,
            Precision::Single,
            InstructionSet::Avx2,
        )
    }

    fn storage_of(
        [rows, columns]: [usize; 2],
        density: f64,
        precision: Precision,
        instructions: InstructionSet,
    ) -> Storage {
        let matrix = Matrix {
            rows,
            columns,
            nonzeros: ((rows * columns) as f64 * density) as usize,
            precision,
        };
        storage(&matrix, instructions)
    }

    #[test]
    fn linear_layers_are_stored_as_measurements_on_avx512_say() {
        let fc6 = |precision| {
            [1.0, 0.5, 0.25, 0.1, 0.05]
                .map(|density| storage_of([4096, 9216], density, precision, InstructionSet::Avx512))
        };
        use Storage::{Bitmask, Dense, Gather, Permute};
        assert_eq!(
            fc6(Precision::Single),
            [Dense, Bitmask, Bitmask, Gather, Gather]
        );
        assert_eq!(
            fc6(Precision::Int8),
            [Dense, Bitmask, Permute, Permute, Permute]
        );
    }

    #[test]
    fn linear_layers_are_stored_as_measurements_on_avx2_say() {
        let fc6 = [1.0, 0.5, 0.25, 0.1, 0.05].map(|density| chosen(4096, 9216, density));
        let few = Storage::Gather;
        assert_eq!(fc6, [Storage::Dense, Storage::Bitmask, few, few, few]);
        // A matrix in the cache whose rows are short is not worth the effort.
        assert_eq!(chosen(10, 64, 0.25), Storage::Dense);
        assert_eq!(chosen(10, 500, 0.1), few);
        let fc1 = [0.5, 0.25, 0.1].map(|density| chosen(500, 800, density));
        assert_eq!(fc1, [Storage::Dense, Storage::Dense, few]);
    }
}
