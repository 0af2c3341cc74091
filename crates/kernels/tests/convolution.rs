//! Convolutions and linear layers against plain loops in `f64`.

use proptest::prelude::*;
use skinny_kernels::{Conv2d, Linear, Threads};

fn numbers(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

#[track_caller]
fn assert_close(values: &[f32], reference: &[f64], what: &str) {
    assert_eq!(values.len(), reference.len(), "{what}");
    let size = reference
        .iter()
        .fold(1e-3, |size: f64, x| size.max(x.abs()));
    for (at, (value, reference)) in values.iter().zip(reference).enumerate() {
        let difference = (f64::from(*value) - reference).abs();
        assert!(
            difference <= 1e-5 * size,
            "{what}: [{at}] is {value}, not {reference}"
        );
    }
}

/// Calls `f(input, weight, output)` with the positions of every product of the convolution.
fn products(conv: &Conv2d, images: usize, mut f: impl FnMut(usize, usize, usize)) {
    let [inputs, height, width] = conv.input;
    let [outputs, rows, columns] = conv.output;
    let [kernel_height, kernel_width] = conv.kernel;
    let per_group = inputs / conv.groups;
    for image in 0..images {
        for output in 0..outputs {
            let group = output / (outputs / conv.groups);
            for row in 0..rows {
                for column in 0..columns {
                    for channel in 0..per_group {
                        for y in 0..kernel_height {
                            for x in 0..kernel_width {
                                let from_y = row * conv.stride[0] + y;
                                let from_x = column * conv.stride[1] + x;
                                let inside_y =
                                    (conv.padding[0]..conv.padding[0] + height).contains(&from_y);
                                let inside_x =
                                    (conv.padding[1]..conv.padding[1] + width).contains(&from_x);
                                if !inside_y || !inside_x {
                                    continue;
                                }
                                f(
                                    ((image * inputs + group * per_group + channel) * height
                                        + from_y
                                        - conv.padding[0])
                                        * width
                                        + from_x
                                        - conv.padding[1],
                                    ((output * per_group + channel) * kernel_height + y)
                                        * kernel_width
                                        + x,
                                    ((image * outputs + output) * rows + row) * columns + column,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

fn check(conv: &Conv2d, images: usize) {
    let pixels = conv.output[1] * conv.output[2];
    let channel_of = |output: usize| output / pixels % conv.output[0];
    let input = numbers(images * conv.input_len(), 1);
    let weight = numbers(conv.weight_len(), 2);
    let bias = numbers(conv.output[0], 3);
    let gradient = numbers(images * conv.output_len(), 4);
    let mut scratch = vec![f32::NAN; conv.scratch_len(images)];
    let what = format!("{images} images of {conv:?}");

    for bias in [None, Some(&bias[..])] {
        let mut reference: Vec<f64> = (0..gradient.len())
            .map(|output| bias.map_or(0.0, |bias| f64::from(bias[channel_of(output)])))
            .collect();
        products(conv, images, |i, w, o| {
            reference[o] += f64::from(input[i]) * f64::from(weight[w])
        });
        let mut output = vec![f32::NAN; gradient.len()];
        conv.forward(images, &input, &weight, bias, &mut output, &mut scratch);
        assert_close(&output, &reference, &format!("output, {what}"));
    }

    scratch.fill(f32::NAN);
    let mut reference = vec![0.0; input.len()];
    products(conv, images, |i, w, o| {
        reference[i] += f64::from(gradient[o]) * f64::from(weight[w])
    });
    let mut input_gradient = vec![f32::NAN; input.len()];
    conv.backward_input(
        images,
        &gradient,
        &weight,
        &mut input_gradient,
        &mut scratch,
    );
    assert_close(
        &input_gradient,
        &reference,
        &format!("input gradient, {what}"),
    );

    scratch.fill(f32::NAN);
    let present = numbers(weight.len(), 5);
    let mut reference: Vec<f64> = present.iter().map(|x| f64::from(*x)).collect();
    products(conv, images, |i, w, o| {
        reference[w] += f64::from(gradient[o]) * f64::from(input[i])
    });
    let mut bias_reference: Vec<f64> = bias.iter().map(|x| f64::from(*x)).collect();
    for (output, gradient) in gradient.iter().enumerate() {
        bias_reference[channel_of(output)] += f64::from(*gradient);
    }
    let (mut weight_gradient, mut bias_gradient) = (present.clone(), bias.clone());
    conv.backward_weight(
        images,
        &input,
        &gradient,
        &mut weight_gradient,
        Some(&mut bias_gradient),
        &mut scratch,
    );
    assert_close(
        &weight_gradient,
        &reference,
        &format!("weight gradient, {what}"),
    );
    assert_close(
        &bias_gradient,
        &bias_reference,
        &format!("bias gradient, {what}"),
    );
    let mut without_bias = present;
    conv.backward_weight(
        images,
        &input,
        &gradient,
        &mut without_bias,
        None,
        &mut scratch,
    );
    assert_eq!(without_bias, weight_gradient, "{what}");
}

/// A convolution whose windows fill the padded input as far as the stride allows.
fn conv(
    [inputs, height, width]: [usize; 3],
    outputs: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
) -> Conv2d {
    let size =
        |axis: usize, size: usize| (size + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1;
    let output = [outputs, size(0, height), size(1, width)];
    Conv2d {
        input: [inputs, height, width],
        output,
        kernel,
        stride,
        padding,
        groups,
    }
}

#[test]
fn convolutions_match_plain_loops() {
    let square = |n: usize| [n, n];
    for images in [1, 2, 3] {
        // LeNet-5, the shapes of the networks in small, ragged edges, one pixel, one channel, groups.
        check(
            &conv([1, 28, 28], 20, square(5), square(1), square(0), 1),
            images,
        );
        check(
            &conv([20, 12, 12], 50, square(5), square(1), square(0), 1),
            images,
        );
        check(
            &conv([3, 16, 16], 13, square(5), square(1), square(2), 1),
            images,
        );
        check(
            &conv([17, 8, 8], 33, square(1), square(1), square(0), 1),
            images,
        );
        check(
            &conv([8, 7, 7], 10, square(3), square(1), square(1), 1),
            images,
        );
        check(
            &conv([3, 35, 35], 7, square(11), square(4), square(0), 1),
            images,
        );
        check(
            &conv([4, 13, 13], 6, square(3), square(2), square(1), 2),
            images,
        );
        check(
            &conv([6, 9, 9], 6, square(3), square(1), square(1), 6),
            images,
        );
        check(
            &conv([5, 6, 6], 3, square(1), square(2), square(0), 1),
            images,
        );
        check(
            &conv([5, 6, 6], 3, square(1), square(1), square(1), 1),
            images,
        );
        check(
            &conv([1, 1, 1], 1, square(1), square(1), square(0), 1),
            images,
        );
        check(
            &conv([1, 1, 1], 2, square(3), square(1), square(1), 1),
            images,
        );
        check(&conv([2, 5, 3], 3, [3, 2], [2, 1], [0, 1], 1), images);
        check(&conv([2, 4, 40], 3, [1, 3], [1, 3], [0, 2], 1), images);
        check(
            &conv([300, 3, 3], 20, square(3), square(1), square(1), 1),
            images,
        );
        check(
            &conv([2, 1, 1], 2, square(7), square(1), square(3), 1),
            images,
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_convolution_matches_plain_loops(
        images in 1usize..4,
        (inputs, outputs, groups) in (1usize..5, 1usize..15, 1usize..4),
        (height, width) in (1usize..14, 1usize..20),
        kernel in prop::array::uniform2(1usize..6),
        stride in prop::array::uniform2(1usize..4),
        padding in prop::array::uniform2(0usize..4),
    ) {
        prop_assume!(kernel[0] <= height + 2 * padding[0] && kernel[1] <= width + 2 * padding[1]);
        check(
            &conv([inputs * groups, height, width], outputs * groups, kernel, stride, padding, groups),
            images,
        );
    }
}

#[test]
fn linear_layers_match_plain_loops_at_any_number_of_threads() {
    let pools = [1, 2, 3, 8].map(Threads::new);
    for (batch, inputs, outputs) in [
        (1, 1, 1),
        (1, 7, 3),
        (3, 1, 5),
        (64, 800, 500),
        (17, 300, 100),
        (5, 513, 97),
        (400, 30, 10),
        (33, 49, 50),
    ] {
        let layer = Linear { inputs, outputs };
        let input = numbers(batch * inputs, 1);
        let weight = numbers(inputs * outputs, 2);
        let bias = numbers(outputs, 3);
        let gradient_t = numbers(outputs * batch, 4);
        let [mut output, mut input_gradient, mut weight_gradient] =
            [outputs * batch, inputs * batch, inputs * outputs].map(|n| vec![0.0f64; n]);
        let mut bias_gradient = vec![0.0f64; outputs];
        for n in 0..batch {
            for o in 0..outputs {
                let gradient = f64::from(gradient_t[o * batch + n]);
                bias_gradient[o] += gradient;
                output[o * batch + n] = f64::from(bias[o]);
                for i in 0..inputs {
                    let (x, w) = (
                        f64::from(input[n * inputs + i]),
                        f64::from(weight[o * inputs + i]),
                    );
                    output[o * batch + n] += x * w;
                    input_gradient[i * batch + n] += gradient * w;
                    weight_gradient[o * inputs + i] += gradient * x;
                }
            }
        }
        let mut bits = Vec::new();
        for threads in &pools {
            let mut scratch = vec![f32::NAN; layer.scratch_len(batch)];
            let [mut y, mut dx, mut dw] =
                [outputs * batch, inputs * batch, inputs * outputs].map(|n| vec![f32::NAN; n]);
            let mut db = vec![f32::NAN; outputs];
            layer.forward(
                threads,
                batch,
                &input,
                &weight,
                Some(&bias),
                &mut y,
                &mut scratch,
            );
            layer.backward_input(threads, batch, &gradient_t, &weight, &mut dx, &mut scratch);
            layer.backward_weight(
                threads,
                batch,
                &gradient_t,
                &input,
                &mut dw,
                Some(&mut db),
                &mut scratch,
            );
            let what = format!("{layer:?}, batch {batch}, {threads:?}");
            assert_close(&y, &output, &format!("output, {what}"));
            assert_close(&dx, &input_gradient, &format!("input gradient, {what}"));
            assert_close(&dw, &weight_gradient, &format!("weight gradient, {what}"));
            assert_close(&db, &bias_gradient, &format!("bias gradient, {what}"));
            let all: Vec<u32> = [y, dx, dw, db]
                .iter()
                .flatten()
                .map(|x| x.to_bits())
                .collect();
            bits.push(all);
        }
        assert!(
            bits.windows(2).all(|pair| pair[0] == pair[1]),
            "{layer:?}, batch {batch}"
        );
    }
}
