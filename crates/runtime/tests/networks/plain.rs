//! A network by its definition: plain loops in f64.

use skinny_network::{Conv, Graph, Network, Node, Operation, Pool, Role, Source, Tensor, Tensors};

/// Numbers between -1 and 1 that depend on the seed only.
pub fn numbers(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// Weights that keep the size of activations, of which a share of `density` is kept, and statistics near 0 and 1.
pub fn weights(network: &Network, density: f32, seed: u64) -> Tensors {
    let graph = network.graph().expect("the network is right");
    let mut tensors = Tensors::new();
    for (at, parameter) in graph.parameters.iter().enumerate() {
        let seed = seed + 10 * at as u64;
        let mut data = numbers(parameter.len(), seed);
        match parameter.role {
            Role::Weight => {
                let size = (6.0 / (density.max(0.01) * parameter.fan_in as f32)).sqrt();
                for (value, chance) in data.iter_mut().zip(numbers(parameter.len(), seed + 1)) {
                    *value = if chance.abs() < density {
                        *value * size
                    } else {
                        0.0
                    };
                }
            }
            Role::Scale | Role::RunningVar => {
                data.iter_mut()
                    .for_each(|value| *value = 1.0 + 0.5 * *value);
            }
            _ => data.iter_mut().for_each(|value| *value *= 0.2),
        }
        let shape = parameter.shape.clone();
        tensors.insert(&parameter.name, Tensor { shape, data });
    }
    tensors
}

/// The output of the network for one image.
pub fn run(graph: &Graph, tensors: &Tensors, image: &[f32]) -> Vec<f64> {
    let image: Vec<f64> = image.iter().map(|value| f64::from(*value)).collect();
    let mut outputs: Vec<Vec<f64>> = Vec::new();
    for node in &graph.nodes {
        let inputs: Vec<&Vec<f64>> = (node.inputs.iter())
            .map(|source| match source {
                Source::Input => &image,
                Source::Node(node) => &outputs[*node],
            })
            .collect();
        let output = layer(graph, tensors, node, &inputs);
        outputs.push(output);
    }
    outputs.pop().expect("a network has layers")
}

fn parameter(graph: &Graph, tensors: &Tensors, node: &Node, role: Role) -> Option<Vec<f64>> {
    let parameter = graph.parameters_of(node).iter().find(|p| p.role == role)?;
    let tensor = tensors
        .get(&parameter.name)
        .expect("all parameters are there");
    Some(tensor.data.iter().map(|value| f64::from(*value)).collect())
}

fn layer(graph: &Graph, tensors: &Tensors, node: &Node, inputs: &[&Vec<f64>]) -> Vec<f64> {
    let input = inputs[0];
    let [channels, height, width] = node.input_shapes[0];
    let of = |role| parameter(graph, tensors, node, role);
    let plane = |at: usize| at / (height * width);
    match &node.operation {
        Operation::Conv(conv) => convolution(
            node,
            conv,
            input,
            &of(Role::Weight).unwrap(),
            of(Role::Bias),
        ),
        Operation::Linear(linear) => {
            let weight = of(Role::Weight).unwrap();
            let bias = of(Role::Bias).unwrap_or_else(|| vec![0.0; linear.out]);
            let dot = |row: &[f64]| row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>();
            weight
                .chunks_exact(channels)
                .zip(bias)
                .map(|(row, bias)| dot(row) + bias)
                .collect()
        }
        Operation::BatchNorm { eps, .. } => {
            let [scale, shift] = [Role::Scale, Role::Shift].map(|role| of(role).unwrap());
            let [mean, variance] =
                [Role::RunningMean, Role::RunningVar].map(|role| of(role).unwrap());
            let normal = |(at, x): (usize, &f64)| {
                let c = plane(at);
                (x - mean[c]) / (variance[c] + f64::from(*eps)).sqrt() * scale[c] + shift[c]
            };
            input.iter().enumerate().map(normal).collect()
        }
        Operation::Relu => input.iter().map(|x| x.max(0.0)).collect(),
        Operation::MaxPool(pool) => windows(node, pool, input, |values| {
            values.iter().copied().fold(f64::MIN, f64::max)
        }),
        Operation::AveragePool(pool) => windows(node, pool, input, |values| {
            values.iter().sum::<f64>() / values.len() as f64
        }),
        Operation::GlobalPool => (input.chunks_exact(height * width))
            .map(|plane| plane.iter().sum::<f64>() / plane.len() as f64)
            .collect(),
        Operation::Lrn {
            size,
            alpha,
            beta,
            k,
        } => {
            let area = height * width;
            let normal = |(at, x): (usize, &f64)| {
                let near =
                    plane(at).saturating_sub(size / 2)..channels.min(plane(at) + size / 2 + 1);
                let sum: f64 = near.map(|c| input[c * area + at % area].powi(2)).sum();
                let scale = f64::from(*k) + f64::from(*alpha) / *size as f64 * sum;
                x * scale.powf(-f64::from(*beta))
            };
            input.iter().enumerate().map(normal).collect()
        }
        Operation::Dropout { .. } | Operation::Flatten => input.clone(),
        Operation::Add => (0..input.len())
            .map(|at| inputs.iter().map(|input| input[at]).sum())
            .collect(),
        Operation::Softmax => {
            let powers: Vec<f64> = input.iter().map(|x| x.exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        }
    }
}

fn convolution(
    node: &Node,
    conv: &Conv,
    input: &[f64],
    weight: &[f64],
    bias: Option<Vec<f64>>,
) -> Vec<f64> {
    let [channels, height, width] = node.input_shapes[0];
    let [_, rows, columns] = node.output_shape;
    let per_group = channels / conv.groups;
    let [kernel_y, kernel_x] = conv.kernel;
    let mut output = Vec::with_capacity(conv.out * rows * columns);
    for out in 0..conv.out {
        let first = out / (conv.out / conv.groups) * per_group;
        let taps = per_group * kernel_y * kernel_x;
        let kept: Vec<(usize, f64)> = (weight[out * taps..(out + 1) * taps]
            .iter()
            .copied()
            .enumerate())
        .filter(|(_, weight)| *weight != 0.0)
        .collect();
        for at in 0..rows * columns {
            let mut sum = bias.as_ref().map_or(0.0, |bias| bias[out]);
            for (tap, weight) in &kept {
                let channel = first + tap / (kernel_y * kernel_x);
                let y = (at / columns * conv.stride[0] + tap / kernel_x % kernel_y)
                    .wrapping_sub(conv.padding[0]);
                let x =
                    (at % columns * conv.stride[1] + tap % kernel_x).wrapping_sub(conv.padding[1]);
                if y < height && x < width {
                    sum += weight * input[(channel * height + y) * width + x];
                }
            }
            output.push(sum);
        }
    }
    output
}

fn windows(node: &Node, pool: &Pool, input: &[f64], reduce: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let [channels, height, width] = node.input_shapes[0];
    let [_, rows, columns] = node.output_shape;
    let mut output = Vec::new();
    for channel in 0..channels {
        for at in 0..rows * columns {
            let mut values = Vec::new();
            for ky in 0..pool.kernel[0] {
                for kx in 0..pool.kernel[1] {
                    let y = (at / columns * pool.stride[0] + ky).wrapping_sub(pool.padding[0]);
                    let x = (at % columns * pool.stride[1] + kx).wrapping_sub(pool.padding[1]);
                    if y < height && x < width {
                        values.push(input[(channel * height + y) * width + x]);
                    }
                }
            }
            output.push(reduce(&values));
        }
    }
    output
}
