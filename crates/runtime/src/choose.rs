//! Which kernel a layer gets, from a model of what each would cost.

use skinny_kernels::InstructionSet;
use skinny_kernels::inference::{Choice, Method, Precision, Storage, Window};

/// A convolution as the model of costs sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Output channels and columns of the weight matrix of one group.
    pub rows: usize,
    pub columns: usize,
    pub groups: usize,
    /// Kept weights of all groups.
    pub nonzeros: usize,
    /// Vectors of one row of an output channel, of this many lanes.
    pub row_vectors: usize,
    pub lanes: usize,
    pub window: Window,
}

impl Shape {
    /// Vectors of one output channel.
    fn vectors(&self) -> usize {
        self.window.output[0] * self.row_vectors
    }

    /// Bytes of input that a tile of `n` vectors touches per column: neighbouring taps share most of theirs.
    fn touched(&self, n: f64) -> f64 {
        const LINE: f64 = 64.0;
        if self.window.is_pointwise() {
            return 4.0 * self.lanes as f64 * n;
        }
        let [kernel, stride] = [self.window.kernel, self.window.stride];
        // Taps of one phase of the strides, and rows of the input that they reach below a row of the output.
        let [rows, columns] = [0, 1].map(|axis| kernel[axis].div_ceil(stride[axis]) as f64);
        LINE * (n + (rows - 1.0) * self.row_vectors as f64) / (rows * columns)
    }
}

/// Bytes of input that a block of columns may touch: what the first-level cache holds beside the weights.
const BUDGETS: [usize; 2] = [20 << 10, 24 << 10];

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
    let tiles = shape.vectors().div_ceil(choice.vectors) as f64;
    // Vectors of an average tile.
    let n = shape.vectors() as f64 / tiles;
    let all = (shape.rows * shape.columns) as f64;
    let density = shape.nonzeros as f64 / all;
    let rows = shape.rows as f64;
    let touched = shape.columns as f64 / shape.groups as f64 * shape.touched(n);
    let blocks = (touched / choice.budget as f64).ceil().max(1.0);
    // Loading and storing the sums of a row, and the end of its loop.
    let begin = 1.5 * n + 10.0;
    // Where blocks follow each other, the larger ones leave little of the cache to what comes and goes.
    let crowded = match blocks > 1.0 && choice.budget > BUDGETS[0] {
        true => 1.03,
        false => 1.0,
    };
    let half = |fma: f64, loads: f64| crowded * (0.5 * fma.max(loads) + 0.5);
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
        Method::Pairs => {
            let both = density * density;
            let alone = 2.0 * density * (1.0 - density);
            // Columns of one row alone are computed beside those of the other one alone.
            let apart = 0.5 * half(2.0 * n, 2.0 * n + 0.75).max(4.0);
            // Shorter steps than those of a dense product: more of them are spent on counting.
            let together = half(2.0 * n, n + 2.0).max(4.0) + 0.3;
            let per_column = both * together + alone * apart;
            let groups = (rows / 2.0).ceil();
            // One more loop ends than in two single rows.
            let group = 2.0 * begin + 4.0;
            tiles * groups * (all / rows * per_column + blocks * group)
        }
        Method::Fours => {
            let mut per_column = 0.0;
            for pattern in 1..1u32 << 4 {
                let ones = f64::from(pattern.count_ones());
                let chance = density.powf(ones) * (1.0 - density).powf(4.0 - ones);
                per_column += chance * half(ones * n, ones + n + 0.5).max(4.0 / (1.0 + ones));
            }
            let groups = (rows / 4.0).ceil();
            // Fifteen loops of patterns end.
            let group = 4.0 * begin + 15.0 * 8.0;
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
    let weights = (matrix.rows * matrix.columns) as f64;
    let kept = matrix.nonzeros as f64;
    let value = match matrix.precision {
        Precision::Single => 4.0,
        Precision::Int8 => 1.0,
    };
    // Cycles of arithmetic per weight, with all of them or with a bit for each.
    let (multiply, unpack) = match (matrix.precision, instructions) {
        (Precision::Single, InstructionSet::Avx512) => (0.1, 0.16),
        (Precision::Single, InstructionSet::Avx2) => (0.19, 0.38),
        (Precision::Single, InstructionSet::Baseline) => (0.5, 2.0),
        (Precision::Int8, InstructionSet::Avx512) => (0.03, 0.06),
        (Precision::Int8, InstructionSet::Avx2) => (0.08, 0.2),
        (Precision::Int8, InstructionSet::Baseline) => (0.3, 2.0),
    };
    let (bytes, work, row) = match storage {
        Storage::Dense => (value * weights, multiply * weights, 12.0),
        Storage::Bitmask => (value * kept + weights / 8.0, unpack * weights, 16.0),
        Storage::Gather => ((value + 2.0) * kept, kept, 24.0),
    };
    // Bytes per cycle from caches, and from memory.
    let bandwidth = if bytes < 6e6 { 20.0 } else { 5.3 };
    work.max(bytes / bandwidth) + row * matrix.rows as f64
}

/// How the weights of a linear layer are stored: the way with the least cycles.
pub(crate) fn storage(matrix: &Matrix, instructions: InstructionSet) -> Storage {
    let cycles = |storage: &Storage| linear_cycles(matrix, *storage, instructions);
    Storage::ALL
        .into_iter()
        .filter(|storage| storage.can(matrix.columns))
        .min_by(|a, b| cycles(a).total_cmp(&cycles(b)))
        .expect("every matrix can be dense")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rows: usize, columns: usize, density: f64) -> Storage {
        let matrix = Matrix {
            rows,
            columns,
            nonzeros: ((rows * columns) as f64 * density) as usize,
            precision: Precision::Single,
        };
        storage(&matrix, InstructionSet::Avx2)
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
