//! From folded layers to a program: layouts, kernels, chains and places in memory.

use std::collections::BTreeMap;

use skinny_kernels::inference::{
    BAND, Chain, Choice, Convolution, GROUP, Input, Linear, Lines, Normalization, Plane, Pool,
    PoolKind, Precision, Program, Region, Step, Storage, Weights, Window,
};
use skinny_kernels::{InstructionSet, instruction_set};
use skinny_network::Operation;

use crate::choose::{Matrix, Shape};
use crate::fold::{From, Layer, Work};
use crate::memory::{Buffer, places};

/// A convolution to choose a kernel for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvProblem<'a> {
    pub name: &'a str,
    pub window: Window,
    pub weights: Weights<'a>,
    pub input: Input,
    /// Vectors of outputs that are computed together.
    pub vectors: usize,
}

impl ConvProblem<'_> {
    /// Packs the weights.
    pub fn pack(&self, choice: Choice, parts: usize) -> Convolution {
        Convolution::new(
            self.window.kernel,
            &self.weights,
            &self.input,
            choice,
            parts,
        )
    }

    /// The layout of the output.
    pub fn output(&self) -> Plane {
        let [height, width] = self.window.output;
        Plane::new([self.weights.bias.len(), height, width], lanes())
    }

    /// Weights that are not zero.
    pub fn nonzeros(&self) -> usize {
        self.weights
            .values
            .iter()
            .filter(|value| **value != 0.0)
            .count()
    }

    /// What the model of costs needs to know.
    pub fn shape(&self) -> Shape {
        let rows = self.weights.bias.len();
        Shape {
            rows,
            columns: self.weights.values.len() / rows,
            groups: self.weights.groups,
            nonzeros: self.nonzeros(),
            vectors: self.vectors,
            input: self.input,
        }
    }
}

/// A linear layer to choose a kernel for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearProblem<'a> {
    pub name: &'a str,
    pub values: &'a [f32],
    pub bias: &'a [f32],
    pub relu: bool,
    pub precision: Precision,
}

impl LinearProblem<'_> {
    /// Packs the weights.
    pub fn pack(&self, storage: Storage) -> Linear {
        Linear::new(self.values, self.bias, self.relu, storage, self.precision)
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.values.len() / self.bias.len()
    }

    /// The ways in which it can be stored.
    pub fn storages(&self) -> Vec<Storage> {
        let all = Storage::ALL.into_iter();
        all.filter(|storage| storage.can(self.columns(), self.precision))
            .collect()
    }

    /// Weights that are not zero.
    pub fn nonzeros(&self) -> usize {
        self.values.iter().filter(|value| **value != 0.0).count()
    }

    /// What the model of costs needs to know.
    pub fn matrix(&self) -> Matrix {
        Matrix {
            rows: self.bias.len(),
            columns: self.columns(),
            nonzeros: self.nonzeros(),
            precision: self.precision,
        }
    }
}

/// Decides which kernel every layer gets.
pub(crate) trait Chooser {
    /// For a convolution.
    fn convolution(&mut self, problem: &ConvProblem) -> Choice;
    /// For a linear layer.
    fn linear(&mut self, problem: &LinearProblem) -> Storage;
}

/// A program and the names of the layers that each of its steps computes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub program: Program,
    pub names: Vec<String>,
}

/// Where the result of a layer is: an image, or a vector of so many values.
#[derive(Clone, Copy, Debug)]
struct Value {
    buffer: usize,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Image(Plane),
    Vector(usize),
}

impl Form {
    fn length(&self) -> usize {
        match self {
            Form::Image(plane) => plane.len(),
            Form::Vector(length) => length.next_multiple_of(GROUP),
        }
    }
}

/// A step whose places are not known yet.
struct Draft {
    name: String,
    reads: Vec<usize>,
    writes: usize,
    make: Make,
}

/// Makes a step from the first values of all buffers.
type Make = Box<dyn FnOnce(&[usize]) -> Step>;

/// Compiles layers for `parts` threads, linear layers in `precision`.
pub(crate) fn plan(
    input: [usize; 3],
    layers: &[Layer<'_>],
    parts: usize,
    precision: Precision,
    chooser: &mut dyn Chooser,
) -> Plan {
    let mut planner = Planner {
        layers,
        parts,
        precision,
        chooser,
        buffers: Vec::new(),
        drafts: Vec::new(),
        values: vec![None; layers.len()],
        turned: BTreeMap::new(),
        input: Value {
            buffer: 0,
            form: Form::Image(Plane::new(input, lanes())),
        },
    };
    planner.buffers.push(planner.input.form);
    let mut at = 0;
    while at < layers.len() {
        at = planner.layer(at);
    }
    planner.finish()
}

/// Lanes of the vectors of this processor.
fn lanes() -> usize {
    match instruction_set() {
        InstructionSet::Avx512 => 16,
        _ => 8,
    }
}

struct Planner<'a> {
    layers: &'a [Layer<'a>],
    parts: usize,
    /// Of linear layers that can be computed with it.
    precision: Precision,
    chooser: &'a mut dyn Chooser,
    buffers: Vec<Form>,
    drafts: Vec<Draft>,
    values: Vec<Option<Value>>,
    /// The same values in their other form, by their buffer, where a layer has asked for it.
    turned: BTreeMap<usize, Value>,
    input: Value,
}

impl Planner<'_> {
    /// Adds the steps of a layer, and of those that follow it in a chain; gives the next layer.
    fn layer(&mut self, at: usize) -> usize {
        let layer = &self.layers[at];
        let [channels, height, width] = layer.output_shape;
        let name = layer.name.clone();
        match &layer.work {
            Work::Conv { .. } => return self.convolutions(at),
            Work::Linear { weights } => {
                let from = self.vector(layer.inputs[0]);
                let columns = weights.values.len() / weights.bias.len();
                let precision = match self.precision.can(columns) {
                    true => self.precision,
                    false => Precision::Single,
                };
                let problem = LinearProblem {
                    name: &layer.name,
                    values: &weights.values,
                    bias: &weights.bias,
                    relu: layer.relu,
                    precision,
                };
                let linear = problem.pack(self.chooser.linear(&problem));
                let to = self.value(at, Form::Vector(channels));
                self.draft(&name, &[from], to, move |starts| Step::Linear {
                    from: range(from, starts),
                    linear,
                    to: range(to, starts),
                });
            }
            Work::Affine { scale, shift } => {
                let from = self.image(layer.inputs[0]);
                let to = self.value(at, from.form);
                let (scale, shift, relu) = (scale.clone(), shift.clone(), layer.relu);
                self.draft(&name, &[from], to, move |starts| Step::Affine {
                    from: region(from, starts),
                    scale,
                    shift,
                    relu,
                    to: region(to, starts),
                });
            }
            Work::Plain(operation) => match operation {
                Operation::MaxPool(sizes) | Operation::AveragePool(sizes) => {
                    let from = self.image(layer.inputs[0]);
                    let pool = Pool {
                        kind: match operation {
                            Operation::MaxPool(_) => PoolKind::Max,
                            _ => PoolKind::Average,
                        },
                        kernel: sizes.kernel,
                        stride: sizes.stride,
                        padding: sizes.padding,
                    };
                    let pooled = Plane::new(layer.output_shape, lanes());
                    let to = self.value(at, Form::Image(pooled));
                    self.draft(&name, &[from], to, move |starts| Step::Pool {
                        pool,
                        from: region(from, starts),
                        to: region(to, starts),
                    });
                }
                Operation::GlobalPool => {
                    let from = self.image(layer.inputs[0]);
                    let to = self.value(at, Form::Vector(channels));
                    self.draft(&name, &[from], to, move |starts| Step::GlobalPool {
                        from: region(from, starts),
                        to: range(to, starts),
                    });
                }
                Operation::Lrn {
                    size,
                    alpha,
                    beta,
                    k,
                } => {
                    let from = self.image(layer.inputs[0]);
                    let to = self.value(at, from.form);
                    let normalization = Normalization {
                        size: *size,
                        alpha: *alpha,
                        beta: *beta,
                        k: *k,
                    };
                    self.draft(&name, &[from], to, move |starts| Step::Normalize {
                        normalization,
                        from: region(from, starts),
                        to: region(to, starts),
                    });
                }
                Operation::Flatten => {
                    let vector = self.vector(layer.inputs[0]);
                    self.values[at] = Some(vector);
                }
                Operation::Softmax => {
                    let from = self.vector(layer.inputs[0]);
                    let to = self.value(at, from.form);
                    self.draft(&name, &[from], to, move |starts| Step::Softmax {
                        from: range(from, starts),
                        classes: channels,
                        to: range(to, starts),
                    });
                }
                Operation::Relu if height * width == 1 => {
                    let from = self.vector(layer.inputs[0]);
                    let to = self.value(at, from.form);
                    self.draft(&name, &[from], to, move |starts| Step::Relu {
                        from: range(from, starts),
                        to: range(to, starts),
                    });
                }
                // A sum of one image is a copy of it, a ReLU such a copy without what is negative.
                other => {
                    let from: Vec<Value> = layer
                        .inputs
                        .iter()
                        .map(|input| self.image(*input))
                        .collect();
                    let to = self.value(at, from[0].form);
                    let relu = layer.relu || *other == Operation::Relu;
                    self.draft(&name, &from.clone(), to, move |starts| Step::Add {
                        from: from.iter().map(|value| region(*value, starts)).collect(),
                        relu,
                        to: region(to, starts),
                    });
                }
            },
        }
        at + 1
    }

    /// Adds a convolution, together with the 1×1 convolutions that follow it if the images are large.
    fn convolutions(&mut self, at: usize) -> usize {
        let chain = self.chain(at);
        let first = &self.layers[at];
        let window = window(first);
        let to_plane = Plane::new(first.output_shape, lanes());
        let source = self.image(first.inputs[0]);
        let Form::Image(image) = source.form else {
            unreachable!("`image` gives images")
        };
        let input = Input::new(image, window);
        let chunk = CHUNK.min(to_plane.vectors());
        let vectors = match chain.len() {
            1 => to_plane.vectors(),
            _ => chunk,
        };
        let mut convolutions = Vec::new();
        for (place, layer) in self.layers[chain.clone()].iter().enumerate() {
            let Work::Conv { conv, weights } = &layer.work else {
                unreachable!("a chain has convolutions only")
            };
            let (window, input) = match place {
                0 => (window, input),
                _ => {
                    let between = Chain::between(layer.input_shape[0], chunk, lanes());
                    let [_, height, width] = between.shape;
                    let window = Window {
                        input: between.shape,
                        output: [height, width],
                        kernel: [1, 1],
                        stride: [1, 1],
                        padding: [0, 0],
                    };
                    (window, Input::Plane(between))
                }
            };
            let problem = ConvProblem {
                name: &layer.name,
                window,
                weights: Weights {
                    values: &weights.values,
                    bias: &weights.bias,
                    groups: conv.groups,
                    relu: layer.relu,
                },
                input,
                vectors,
            };
            let choice = self.chooser.convolution(&problem);
            let rows = weights.bias.len();
            let channels =
                chain.len() == 1 && shares_channels(rows, to_plane.vectors(), self.parts);
            let parts = if channels { self.parts } else { 1 };
            convolutions.push(problem.pack(choice, parts));
        }
        let last = chain.end - 1;
        let names: Vec<&str> = self.layers[chain]
            .iter()
            .map(|layer| &*layer.name)
            .collect();
        let plane = Plane::new(self.layers[last].output_shape, lanes());
        let to = self.value(last, Form::Image(plane));
        self.draft(&names.join(" + "), &[source], to, move |starts| {
            Step::Convolve {
                from: region(source, starts).range(),
                chain: Chain {
                    convolutions,
                    chunk,
                },
                to: region(to, starts),
            }
        });
        last + 1
    }

    /// How often the result of a layer is read.
    fn readers(&self, at: usize) -> usize {
        let inputs = self.layers.iter().flat_map(|layer| &layer.inputs);
        inputs.filter(|input| **input == From::Layer(at)).count()
    }

    /// The convolutions that are computed together with the one at `at`.
    fn chain(&self, at: usize) -> std::ops::Range<usize> {
        let [_, height, width] = self.layers[at].output_shape;
        let vectors = Plane::new(self.layers[at].output_shape, lanes()).vectors();
        let mut end = at + 1;
        if vectors < LARGE * CHUNK {
            return at..end;
        }
        while let Some(layer) = self.layers.get(end) {
            let follows = layer.inputs == [From::Layer(end - 1)];
            let alone = self.readers(end - 1) == 1;
            let pointwise = matches!(layer.work, Work::Conv { .. }) && window(layer).is_pointwise();
            if !(follows && alone && pointwise && layer.output_shape[1..] == [height, width]) {
                break;
            }
            end += 1;
        }
        at..end
    }

    fn get(&self, from: From) -> Value {
        match from {
            From::Input => self.input,
            From::Layer(layer) => self.values[layer].expect("layers are in order"),
        }
    }

    /// A layer's result as an image.
    fn image(&mut self, from: From) -> Value {
        let value = self.get(from);
        let Form::Vector(length) = value.form else {
            return value;
        };
        if let Some(turned) = self.turned.get(&value.buffer) {
            return *turned;
        }
        let to = self.buffer(Form::Image(Plane::new([length, 1, 1], lanes())));
        self.draft("", &[value], to, move |starts| Step::Unflatten {
            from: range(value, starts),
            to: region(to, starts),
        });
        self.turned.insert(value.buffer, to);
        to
    }

    /// A layer's result as a vector.
    fn vector(&mut self, from: From) -> Value {
        let value = self.get(from);
        let Form::Image(plane) = value.form else {
            return value;
        };
        if let Some(turned) = self.turned.get(&value.buffer) {
            return *turned;
        }
        let to = self.buffer(Form::Vector(plane.shape.iter().product()));
        self.draft("", &[value], to, move |starts| Step::Flatten {
            from: region(value, starts),
            to: range(to, starts),
        });
        self.turned.insert(value.buffer, to);
        to
    }

    fn buffer(&mut self, form: Form) -> Value {
        self.buffers.push(form);
        Value {
            buffer: self.buffers.len() - 1,
            form,
        }
    }

    /// A buffer for the result of a layer.
    fn value(&mut self, layer: usize, form: Form) -> Value {
        let value = self.buffer(form);
        self.values[layer] = Some(value);
        value
    }

    fn draft(
        &mut self,
        name: &str,
        reads: &[Value],
        writes: Value,
        make: impl FnOnce(&[usize]) -> Step + 'static,
    ) {
        self.drafts.push(Draft {
            name: name.to_owned(),
            reads: reads.iter().map(|value| value.buffer).collect(),
            writes: writes.buffer,
            make: Box::new(make),
        });
    }

    /// Gives every buffer its place.
    fn finish(mut self) -> Plan {
        let result = self.vector(From::Layer(self.layers.len() - 1));
        let Form::Vector(length) = result.form else {
            unreachable!("`vector` gives vectors")
        };
        // A buffer lives from the step that writes it (the input: from before the first) to behind its last reader.
        let mut buffers: Vec<Buffer> = (self.buffers.iter())
            .map(|form| Buffer {
                length: form.length(),
                steps: 0..1,
            })
            .collect();
        for (step, draft) in self.drafts.iter().enumerate() {
            buffers[draft.writes].steps = step + 1..step + 2;
            for read in &draft.reads {
                buffers[*read].steps.end = step + 2;
            }
        }
        buffers[result.buffer].steps.end = self.drafts.len() + 2;
        let (starts, total) = places(&buffers);
        let (names, steps) = (self.drafts.into_iter())
            .map(|draft| (draft.name, (draft.make)(&starts)))
            .unzip();
        let input = region(self.input, &starts);
        let output = starts[result.buffer]..starts[result.buffer] + length;
        Plan {
            program: Program::new(steps, input, output, total),
            names,
        }
    }
}

/// Vectors of one piece of the image in a chain.
const CHUNK: usize = 12;
/// Pieces from which on an image is large.
const LARGE: usize = 4;

/// Whether `parts` threads share the output channels of a convolution, or else the vectors of its image: what leaves
/// less idle, where pieces of a few vectors cost more than their share.
fn shares_channels(rows: usize, vectors: usize, parts: usize) -> bool {
    let used = |items: usize| items as f64 / (items.div_ceil(parts) * parts) as f64;
    let bands = rows.div_ceil(BAND);
    let channels = used(bands) * rows as f64 / (bands * BAND) as f64;
    let speed = |vectors: usize| vectors as f64 / (vectors as f64 + 1.5);
    let pieces = used(vectors) * speed(vectors.div_ceil(parts)) / speed(vectors);
    channels >= pieces
}

fn region(value: Value, starts: &[usize]) -> Region {
    match value.form {
        Form::Image(plane) => Region {
            start: starts[value.buffer],
            plane,
        },
        Form::Vector(_) => unreachable!("an image was asked for"),
    }
}

fn range(value: Value, starts: &[usize]) -> std::ops::Range<usize> {
    let start = starts[value.buffer];
    start..start + value.form.length()
}

/// The least bytes that rearranging the input of a layer takes.
pub(crate) fn rearranged_bytes(layer: &Layer) -> u64 {
    match &layer.work {
        Work::Conv { .. } if !window(layer).is_pointwise() => {
            Lines::channel_bytes(window(layer), lanes())
        }
        _ => 0,
    }
}

/// The sizes of a convolution layer.
fn window(layer: &Layer) -> Window {
    let Work::Conv { conv, .. } = &layer.work else {
        unreachable!("only convolutions have a window")
    };
    Window {
        input: layer.input_shape,
        output: [layer.output_shape[1], layer.output_shape[2]],
        kernel: conv.kernel,
        stride: conv.stride,
        padding: conv.padding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_channels_where_there_are_enough() {
        assert!(shares_channels(192, 32, 2) && shares_channels(96, 1024, 4));
        assert!(shares_channels(64, 8, 2), "pieces of four vectors are slow");
        assert!(
            !shares_channels(16, 128, 2),
            "twelve channels and four would be uneven"
        );
        assert!(!shares_channels(10, 8, 2) && !shares_channels(10, 8, 16));
    }
}
