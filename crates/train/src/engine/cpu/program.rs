//! Compiles a [`Graph`] into the static order of calls and buffers that the CPU engine follows.
//!
//! A *value* is an activation buffer of a lane. Operations that work in place share the value of their
//! input, so a ReLU costs no memory. Gradients of values live in *slots* that are reused as
//! soon as the backward pass has passed the producer of a value.

use skinny_kernels::lrn::Lrn;
use skinny_kernels::{Conv2d, Linear, Pool2d};
use skinny_network::{Graph, Node, Operation, Pool, Role, Source};

/// What one operation computes; parameters are indices into [`Graph::parameters`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    Conv {
        conv: Conv2d,
        weight: usize,
        bias: Option<usize>,
    },
    Linear {
        linear: Linear,
        weight: usize,
        bias: Option<usize>,
    },
    BatchNorm(Norm),
    Relu,
    MaxPool(Pool2d),
    AveragePool(Pool2d),
    Lrn {
        lrn: Lrn,
        channels: usize,
        area: usize,
    },
    Dropout {
        probability: f32,
    },
    Add,
}

/// A batch normalization: its shape, constants and parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norm {
    pub channels: usize,
    pub area: usize,
    pub epsilon: f32,
    pub momentum: f32,
    pub scale: usize,
    pub shift: usize,
    pub mean: usize,
    pub variance: usize,
}

/// One operation of the program.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The node of the graph that this computes.
    pub node: usize,
    pub work: Work,
    /// Values read.
    pub inputs: Vec<usize>,
    /// Value written; equal to `inputs[0]` where the operation works in place.
    pub output: usize,
    /// Whether a rectifier follows that the operation does itself.
    pub relu: bool,
    /// Whether the operation's input gradient is already the gradient of the rectifier before it.
    pub finishes_relu: bool,
}

impl Step {
    pub fn in_place(&self) -> bool {
        self.inputs[0] == self.output
    }
}

/// What all threads do between two hand-overs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// What every lane does on its own.
    Lanes(Stretch),
    /// A step on the whole batch: linear layers.
    Linear(usize),
    /// The joining of a batch normalization's sums.
    Join(usize),
}

/// Consecutive steps of a lane; of a batch normalization at either end, the half that needs no other lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The batch normalization that the joined sums complete.
    pub normalize: Option<usize>,
    /// Whole steps.
    pub steps: std::ops::Range<usize>,
    /// The batch normalization whose sums are next.
    pub sums: Option<usize>,
}

/// The static plan of one network.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub steps: Vec<Step>,
    pub stages: Vec<Stage>,
    /// Values per image of each value; value 0 is the network's input.
    pub value_lengths: Vec<usize>,
    /// The gradient slot of each value that needs a gradient: one that lies behind some parameter.
    pub gradient_slots: Vec<Option<usize>>,
    /// Values per image of each gradient slot.
    pub slot_lengths: Vec<usize>,
    /// For each step and input: whether its backward call is the first to write that input's gradient.
    pub first_writer: Vec<Vec<bool>>,
    /// For each value: whether its gradient arrives as that of what it was before its rectifier.
    pub is_finished: Vec<bool>,
    /// The value that holds the logits.
    pub logits: usize,
    /// Number of classes.
    pub classes: usize,
}

impl Program {
    pub fn compile(graph: &Graph) -> Program {
        let mut value_of_node = vec![0; graph.nodes.len()];
        let mut value_lengths = vec![length(graph.input)];
        let mut overwritable = vec![false];
        let mut steps: Vec<Step> = Vec::new();
        // A flattened value is the same value, whoever reads it.
        let passes =
            |node: &Node| matches!(node.operation, Operation::Flatten | Operation::Softmax);
        let origin = |mut source: Source| loop {
            match source {
                Source::Node(index) if passes(&graph.nodes[index]) => {
                    source = graph.nodes[index].inputs[0];
                }
                other => return other,
            }
        };
        let mut consumers = vec![0usize; graph.nodes.len()];
        for node in graph.nodes.iter().filter(|node| !passes(node)) {
            for source in &node.inputs {
                if let Source::Node(index) = origin(*source) {
                    consumers[index] += 1;
                }
            }
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<usize> = node
                .inputs
                .iter()
                .map(|source| match source {
                    Source::Input => 0,
                    Source::Node(index) => value_of_node[*index],
                })
                .collect();
            let sole_consumer =
                matches!(origin(node.inputs[0]), Source::Node(index) if consumers[index] == 1);
            let parameter = |role: Role| {
                node.parameters
                    .clone()
                    .find(|&index| graph.parameters[index].role == role)
            };
            let required = |role: Role| {
                parameter(role).expect("a graph gives every layer the parameters of its type")
            };
            let [input_shape, output_shape] = [node.input_shapes[0], node.output_shape];
            let pool = |pool: &Pool| Pool2d {
                input: input_shape,
                output: output_shape,
                kernel: pool.kernel,
                stride: pool.stride,
                padding: pool.padding,
            };
            let [channels, height, width] = input_shape;
            let work = match &node.operation {
                Operation::Conv(conv) => Work::Conv {
                    conv: Conv2d {
                        input: input_shape,
                        output: output_shape,
                        kernel: conv.kernel,
                        stride: conv.stride,
                        padding: conv.padding,
                        groups: conv.groups,
                    },
                    weight: required(Role::Weight),
                    bias: parameter(Role::Bias),
                },
                Operation::Linear(linear) => Work::Linear {
                    linear: Linear {
                        inputs: length(input_shape),
                        outputs: linear.out,
                    },
                    weight: required(Role::Weight),
                    bias: parameter(Role::Bias),
                },
                Operation::BatchNorm { eps, momentum } => Work::BatchNorm(Norm {
                    channels,
                    area: height * width,
                    epsilon: *eps,
                    momentum: *momentum,
                    scale: required(Role::Scale),
                    shift: required(Role::Shift),
                    mean: required(Role::RunningMean),
                    variance: required(Role::RunningVar),
                }),
                Operation::Relu => Work::Relu,
                Operation::MaxPool(settings) => Work::MaxPool(pool(settings)),
                Operation::AveragePool(settings) => Work::AveragePool(pool(settings)),
                Operation::GlobalPool => Work::AveragePool(Pool2d {
                    input: input_shape,
                    output: output_shape,
                    kernel: [height, width],
                    stride: [1, 1],
                    padding: [0, 0],
                }),
                Operation::Lrn {
                    size,
                    alpha,
                    beta,
                    k,
                } => Work::Lrn {
                    lrn: Lrn {
                        size: *size,
                        alpha: *alpha,
                        beta: *beta,
                        k: *k,
                    },
                    channels,
                    area: height * width,
                },
                Operation::Dropout { p } => Work::Dropout { probability: *p },
                Operation::Add => Work::Add,
                // The order of values does not change.
                Operation::Flatten => {
                    value_of_node[index] = inputs[0];
                    continue;
                }
                // The loss takes logits; a softmax, always the last layer, belongs to prediction.
                Operation::Softmax => {
                    value_of_node[index] = inputs[0];
                    continue;
                }
            };
            let in_place = work == Work::Relu && sole_consumer && overwritable[inputs[0]];
            if let (true, Some(last)) = (in_place, steps.last_mut())
                && matches!(
                    last.work,
                    Work::Conv { .. } | Work::BatchNorm(_) | Work::Add
                )
                && last.output == inputs[0]
            {
                last.relu = true;
                value_of_node[index] = inputs[0];
                continue;
            }
            let output = if in_place {
                inputs[0]
            } else {
                value_lengths.push(length(node.output_shape));
                // LRN's backward pass reads its own output.
                overwritable.push(!matches!(work, Work::Lrn { .. }));
                value_lengths.len() - 1
            };
            value_of_node[index] = output;
            steps.push(Step {
                node: index,
                work,
                inputs,
                output,
                relu: false,
                finishes_relu: false,
            });
        }
        finish_rectifiers(&mut steps, value_lengths.len());
        let logits = *value_of_node
            .last()
            .expect("a graph has at least one layer");
        let needs_gradient = needs_gradient(&steps, value_lengths.len());
        let first_writer = first_writers(&steps, logits, value_lengths.len());
        let (gradient_slots, slot_lengths) =
            assign_slots(&steps, &value_lengths, &needs_gradient, logits);
        Program {
            is_finished: {
                let mut finished = vec![false; value_lengths.len()];
                for step in steps.iter().filter(|step| step.finishes_relu) {
                    finished[step.inputs[0]] = true;
                }
                finished
            },
            stages: stages(&steps),
            classes: value_lengths[logits],
            steps,
            value_lengths,
            gradient_slots,
            slot_lengths,
            first_writer,
            logits,
        }
    }
}

impl Program {
    /// Values of scratch that the lane-local steps need for `images` images.
    pub fn scratch_length(&self, images: usize) -> usize {
        let need = self.steps.iter().map(|step| match &step.work {
            Work::Conv { conv, .. } => conv.scratch_len(images),
            _ => 0,
        });
        need.max().unwrap_or(0)
    }

    /// The most channels of any batch normalization.
    pub fn most_norm_channels(&self) -> usize {
        let channels = self.steps.iter().map(|step| match &step.work {
            Work::BatchNorm(norm) => norm.channels,
            _ => 0,
        });
        channels.max().unwrap_or(0)
    }
}

fn length(shape: [usize; 3]) -> usize {
    shape.iter().product()
}

/// Where a convolution alone reads what was rectified, its input gradient goes through the rectifier at once.
fn finish_rectifiers(steps: &mut [Step], values: usize) {
    let mut readers = vec![0; values];
    let mut rectified = vec![false; values];
    for step in &*steps {
        for &input in &step.inputs {
            readers[input] += 1;
        }
        rectified[step.output] |= step.relu;
    }
    for step in steps {
        let input = step.inputs[0];
        let is_conv = matches!(step.work, Work::Conv { .. });
        step.finishes_relu = is_conv && rectified[input] && readers[input] == 1;
    }
}

fn stages(steps: &[Step]) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if matches!(step.work, Work::Linear { .. }) {
            stages.push(Stage::Linear(index));
            continue;
        }
        if !matches!(stages.last(), Some(Stage::Lanes(_))) {
            stages.push(Stage::Lanes(Stretch {
                steps: index..index,
                ..Stretch::default()
            }));
        }
        let Some(Stage::Lanes(stretch)) = stages.last_mut() else {
            continue;
        };
        if matches!(step.work, Work::BatchNorm(_)) {
            stretch.sums = Some(index);
            stages.push(Stage::Join(index));
            stages.push(Stage::Lanes(Stretch {
                normalize: Some(index),
                steps: index + 1..index + 1,
                sums: None,
            }));
        } else {
            stretch.steps.end = index + 1;
        }
    }
    stages
}

fn needs_gradient(steps: &[Step], values: usize) -> Vec<bool> {
    let mut needs = vec![false; values];
    for step in steps {
        let has_parameters = matches!(
            step.work,
            Work::Conv { .. } | Work::Linear { .. } | Work::BatchNorm(_)
        );
        needs[step.output] |= has_parameters || step.inputs.iter().any(|&input| needs[input]);
    }
    needs
}

/// In backward order, the first step that writes a value's gradient overwrites it; later ones add.
fn first_writers(steps: &[Step], logits: usize, values: usize) -> Vec<Vec<bool>> {
    let mut written = vec![false; values];
    written[logits] = true;
    let mut first: Vec<Vec<bool>> = Vec::with_capacity(steps.len());
    for step in steps.iter().rev() {
        first.push(
            step.inputs
                .iter()
                .map(|&input| !std::mem::replace(&mut written[input], true))
                .collect(),
        );
    }
    first.reverse();
    first
}

/// Greedy interval assignment: a gradient lives from its value's last consumer to its producer.
fn assign_slots(
    steps: &[Step],
    value_lengths: &[usize],
    needs_gradient: &[bool],
    logits: usize,
) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut slots = vec![None; value_lengths.len()];
    let mut lengths: Vec<usize> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut acquire = |value: usize, free: &mut Vec<usize>| {
        let wanted = value_lengths[value];
        let fitting = free
            .iter()
            .copied()
            .filter(|&slot| lengths[slot] >= wanted)
            .min_by_key(|&slot| lengths[slot])
            .or_else(|| free.iter().copied().max_by_key(|&slot| lengths[slot]));
        match fitting {
            Some(slot) => {
                free.retain(|&other| other != slot);
                lengths[slot] = lengths[slot].max(wanted);
                slots[value] = Some(slot);
            }
            None => {
                lengths.push(wanted);
                slots[value] = Some(lengths.len() - 1);
            }
        }
        slots[value]
    };
    let mut held: Vec<Option<usize>> = vec![None; value_lengths.len()];
    held[logits] = acquire(logits, &mut free);
    for step in steps.iter().rev() {
        for &input in &step.inputs {
            if needs_gradient[input] && held[input].is_none() {
                held[input] = acquire(input, &mut free);
            }
        }
        if !step.in_place()
            && let Some(slot) = held[step.output]
        {
            free.push(slot);
        }
    }
    (slots, lengths)
}

#[cfg(test)]
mod tests {
    use skinny_network::Network;

    use super::*;

    fn program(name: &str) -> Program {
        Program::compile(&Network::load(name).unwrap().graph().unwrap())
    }

    #[test]
    fn relu_shares_its_input() {
        let program = program("lenet-300-100");
        for step in &program.steps {
            assert_eq!(step.in_place(), step.work == Work::Relu, "{step:?}");
        }
    }

    #[test]
    fn normalizations_are_cut_in_halves() {
        let program = program("resnet20");
        let halves = |part: fn(&Stretch) -> Option<usize>| -> Vec<usize> {
            let stretches = program.stages.iter().filter_map(|stage| match stage {
                Stage::Lanes(stretch) => part(stretch),
                _ => None,
            });
            stretches.collect()
        };
        let joins: Vec<usize> = (program.stages.iter())
            .filter_map(|stage| match stage {
                Stage::Join(index) => Some(*index),
                _ => None,
            })
            .collect();
        assert_eq!(joins.len(), 21);
        assert_eq!(halves(|stretch| stretch.sums), joins);
        assert_eq!(halves(|stretch| stretch.normalize), joins);
    }

    #[test]
    fn convolutions_do_the_rectifiers_that_follow() {
        let program = program("nin-mnist");
        assert!(program.steps.iter().all(|step| step.work != Work::Relu));
        let count = |is: fn(&Step) -> bool| program.steps.iter().filter(|step| is(step)).count();
        assert_eq!(count(|step| step.relu), 9);
        // The last one of each of the three blocks is read by a pool.
        assert_eq!(count(|step| step.finishes_relu), 6);
    }

    #[test]
    fn a_value_that_others_read_too_is_not_rectified_where_it_lies() {
        let text = r#"
            name = "n"
            input = [1, 4, 4]
            layers = [
                { name = "conv", type = "conv", out = 2, kernel = 3 },
                { name = "flat", type = "flatten" },
                { name = "relu", type = "relu" },
                { name = "fc1", type = "linear", out = 3 },
                { name = "pool", type = "globalpool", inputs = ["conv"] },
                { name = "fc2", type = "linear", out = 3 },
                { name = "sum", type = "add", inputs = ["fc1", "fc2"] },
            ]
        "#;
        let graph = |text: &str| Network::from_toml(text).unwrap().graph().unwrap();
        let program = Program::compile(&graph(text));
        assert!(program.steps.iter().all(|step| !step.relu));
        let alone = text.replace(
            "pool\", type = \"globalpool\", inputs = [\"conv\"]",
            "pool\", type = \"globalpool\", inputs = [\"relu\"]",
        );
        assert_ne!(alone, text);
        let program = Program::compile(&graph(&alone));
        assert!(program.steps.iter().any(|step| step.relu));
    }

    #[test]
    fn a_chain_needs_two_gradient_slots() {
        assert_eq!(program("nin-cifar10").slot_lengths.len(), 2);
    }

    #[test]
    fn a_residual_value_is_written_once_and_then_added_to() {
        let program = program("resnet20");
        let mut writes = vec![0; program.value_lengths.len()];
        for (step, first) in program.steps.iter().zip(&program.first_writer) {
            for (&input, &first) in step.inputs.iter().zip(first) {
                if !step.in_place() {
                    writes[input] += usize::from(first);
                }
            }
        }
        assert!(writes.iter().all(|&count| count <= 1));
    }

    #[test]
    fn gradients_that_are_alive_together_never_share_a_slot() {
        for name in ["lenet5", "resnet20", "alexnet"] {
            let program = program(name);
            let mut owner: Vec<Option<usize>> = vec![None; program.slot_lengths.len()];
            owner[program.gradient_slots[program.logits].unwrap()] = Some(program.logits);
            for (index, step) in program.steps.iter().enumerate().rev() {
                let slot = program.gradient_slots[step.output].unwrap();
                assert_eq!(owner[slot], Some(step.output), "{name} step {index}");
                for (&input, &first) in step.inputs.iter().zip(&program.first_writer[index]) {
                    if let Some(slot) = program.gradient_slots[input] {
                        if first && !step.in_place() {
                            assert_ne!(owner[slot], Some(step.output));
                            owner[slot] = Some(input);
                        }
                        assert_eq!(owner[slot], Some(input));
                        assert!(program.slot_lengths[slot] >= program.value_lengths[input]);
                    }
                }
            }
        }
    }
}
