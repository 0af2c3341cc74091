//! Convolutions against plain loops in `f64`.

use proptest::prelude::*;

use super::{Conv2d, SparseConv2d};
use crate::Finish;
use crate::testing::{assert_close, numbers};

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
        conv.forward(
            images,
            &input,
            &weight,
            bias,
            &mut output,
            Finish::Keep,
            &mut scratch,
        );
        assert_close(&output, &reference, &format!("output, {what}"));
        let mut finished = vec![f32::NAN; gradient.len()];
        conv.forward(
            images,
            &input,
            &weight,
            bias,
            &mut finished,
            Finish::Relu,
            &mut scratch,
        );
        Finish::Relu.apply(&mut output);
        assert_eq!(finished, output, "rectified output, {what}");
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
        Finish::Keep,
        &mut scratch,
    );
    assert_close(
        &input_gradient,
        &reference,
        &format!("input gradient, {what}"),
    );
    let finish = Finish::Where(&input);
    let mut finished = vec![f32::NAN; input.len()];
    conv.backward_input(
        images,
        &gradient,
        &weight,
        &mut finished,
        finish,
        &mut scratch,
    );
    finish.apply(&mut input_gradient);
    assert_eq!(
        finished, input_gradient,
        "input gradient behind a rectifier, {what}"
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

    for density in [0.0, 0.1, 0.6, 1.0] {
        check_sparse(conv, images, density);
    }
}

/// The sparse convolution against plain loops over the kept weights.
fn check_sparse(conv: &Conv2d, images: usize, density: f64) {
    let pixels = conv.output[1] * conv.output[2];
    let input = numbers(images * conv.input_len(), 1);
    let mut weight = numbers(conv.weight_len(), 2);
    let bias = numbers(conv.output[0], 3);
    let gradient = numbers(images * conv.output_len(), 4);
    let mut mask = vec![0u64; weight.len().div_ceil(64)];
    for (at, choice) in numbers(weight.len(), 6).into_iter().enumerate() {
        if f64::from(choice) < 2.0 * density - 1.0 {
            mask[at / 64] |= 1 << (at % 64);
        } else {
            weight[at] = 0.0;
        }
    }
    let kept = |at: usize| mask[at / 64] >> (at % 64) & 1 == 1;
    let mut sparse = SparseConv2d::new(*conv, &mask);
    sparse.refresh(&weight);
    let mut scratch = vec![f32::NAN; sparse.scratch_len(images)];
    let what = format!("{images} images of {conv:?} at {density}");

    let mut reference: Vec<f64> = (0..gradient.len())
        .map(|output| f64::from(bias[output / pixels % conv.output[0]]))
        .collect();
    let mut back = vec![0.0; input.len()];
    let mut sampled = vec![0.0; weight.len()];
    products(conv, images, |i, w, o| {
        if kept(w) {
            reference[o] += f64::from(input[i]) * f64::from(weight[w]);
            back[i] += f64::from(gradient[o]) * f64::from(weight[w]);
            sampled[w] += f64::from(gradient[o]) * f64::from(input[i]);
        }
    });
    let mut output = vec![f32::NAN; gradient.len()];
    sparse.forward(
        images,
        &input,
        Some(&bias),
        &mut output,
        Finish::Keep,
        &mut scratch,
    );
    assert_close(&output, &reference, &format!("sparse output, {what}"));
    let mut finished = vec![f32::NAN; gradient.len()];
    sparse.forward(
        images,
        &input,
        Some(&bias),
        &mut finished,
        Finish::Relu,
        &mut scratch,
    );
    Finish::Relu.apply(&mut output);
    assert_eq!(finished, output, "rectified sparse output, {what}");

    scratch.fill(f32::NAN);
    let mut input_gradient = vec![f32::NAN; input.len()];
    sparse.backward_input(
        images,
        &gradient,
        &mut input_gradient,
        Finish::Keep,
        &mut scratch,
    );
    assert_close(
        &input_gradient,
        &back,
        &format!("sparse input gradient, {what}"),
    );
    let finish = Finish::Where(&input);
    let mut finished = vec![f32::NAN; input.len()];
    sparse.backward_input(images, &gradient, &mut finished, finish, &mut scratch);
    finish.apply(&mut input_gradient);
    assert_eq!(
        finished, input_gradient,
        "sparse input gradient behind a rectifier, {what}"
    );

    scratch.fill(f32::NAN);
    let mut values = vec![0.0; sparse.kept()];
    sparse.backward_weight(images, &input, &gradient, &mut values, None, &mut scratch);
    let mut weight_gradient = vec![0.0; weight.len()];
    sparse.scatter(&values, &mut weight_gradient);
    assert_close(
        &weight_gradient,
        &sampled,
        &format!("sparse weight gradient, {what}"),
    );
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
    for images in [1, 3] {
        // LeNet-5, the shapes of the networks in small, ragged edges, one pixel, one channel, groups.
        check(
            &conv([1, 28, 28], 20, square(5), square(1), square(0), 1),
            images,
        );
        check(
            &conv([20, 12, 12], 25, square(5), square(1), square(0), 1),
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
        check(
            &conv([8, 16, 16], 10, square(3), square(1), square(1), 2),
            images,
        );
        check(
            &conv([3, 10, 18], 4, square(3), square(1), square(0), 1),
            images,
        );
        // Padded two images at a time.
        check(
            &conv([8, 64, 64], 3, square(3), square(1), square(1), 1),
            images,
        );
        check(&conv([2, 5, 3], 3, [3, 2], [2, 1], [0, 1], 1), images);
        // The gradient of the input has more pixels than the output, and a product with as many columns.
        check(&conv([64, 1, 34], 96, [1, 3], [1, 1], [0, 0], 1), images);
        check(&conv([8, 12, 12], 64, [2, 2], [1, 1], [0, 0], 1), images);
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
fn an_image_has_the_same_bits_in_any_company() {
    for conv in [
        conv([1, 28, 28], 20, [5, 5], [1, 1], [0, 0], 1),
        conv([9, 7, 7], 10, [3, 3], [1, 1], [1, 1], 1),
        conv([9, 7, 5], 10, [1, 1], [1, 1], [0, 0], 1),
        conv([4, 13, 13], 6, [3, 3], [2, 2], [1, 1], 2),
        conv([8, 64, 64], 3, [3, 3], [1, 1], [1, 1], 1),
    ] {
        let images = 5;
        let input = numbers(images * conv.input_len(), 1);
        let gradient = numbers(images * conv.output_len(), 2);
        let weight = numbers(conv.weight_len(), 3);
        let bias = numbers(conv.output[0], 4);
        let mut scratch = vec![f32::NAN; conv.scratch_len(images)];
        let mut run = |at_once: usize| {
            let mut output = vec![f32::NAN; gradient.len()];
            let mut input_gradient = vec![f32::NAN; input.len()];
            for first in (0..images).step_by(at_once) {
                let some = at_once.min(images - first);
                let inputs = first * conv.input_len()..(first + some) * conv.input_len();
                let outputs = first * conv.output_len()..(first + some) * conv.output_len();
                let into = &mut output[outputs.clone()];
                conv.forward(
                    some,
                    &input[inputs.clone()],
                    &weight,
                    Some(&bias),
                    into,
                    Finish::Keep,
                    &mut scratch,
                );
                let into = &mut input_gradient[inputs];
                conv.backward_input(
                    some,
                    &gradient[outputs],
                    &weight,
                    into,
                    Finish::Keep,
                    &mut scratch,
                );
            }
            [output, input_gradient]
                .concat()
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>()
        };
        let together = run(images);
        assert!(run(1) == together && run(2) == together, "{conv:?}");
    }
}

/// The output and the weight gradient, as bits: dense ones, and sparse ones with one weight of eight.
fn bits(conv: &Conv2d, images: usize, input: &[f32]) -> [Vec<u32>; 4] {
    let weight = numbers(conv.weight_len(), 2);
    let bias = numbers(conv.output[0], 3);
    let gradient = numbers(images * conv.output_len(), 4);
    let mut outputs = [(); 2].map(|()| vec![f32::NAN; gradient.len()]);
    let mut gradients = [(); 2].map(|()| numbers(weight.len(), 5));

    let mut scratch = vec![f32::NAN; conv.scratch_len(images)];
    let [into, _] = &mut outputs;
    let bias = Some(&bias[..]);
    conv.forward(
        images,
        input,
        &weight,
        bias,
        into,
        Finish::Relu,
        &mut scratch,
    );
    let [into, _] = &mut gradients;
    conv.backward_weight(images, input, &gradient, into, None, &mut scratch);

    let mask = vec![0x0102_0408_1020_4080; weight.len().div_ceil(64)];
    let mut sparse = SparseConv2d::new(*conv, &mask);
    sparse.refresh(&weight);
    let mut scratch = vec![f32::NAN; sparse.scratch_len(images)];
    let [_, into] = &mut outputs;
    sparse.forward(images, input, bias, into, Finish::Relu, &mut scratch);
    let mut values = vec![0.0; sparse.kept()];
    sparse.backward_weight(images, input, &gradient, &mut values, None, &mut scratch);
    let [_, into] = &mut gradients;
    sparse.scatter(&values, into);
    let [[dense, sparse], [dense_gradient, sparse_gradient]] = [outputs, gradients];
    [dense, sparse, dense_gradient, sparse_gradient]
        .map(|values| values.into_iter().map(f32::to_bits).collect())
}

/// Padded images go through in parts, images without padding all at once: sums must have the same order.
#[test]
fn padding_a_part_at_a_time_gives_the_bits_of_padding_written_out() {
    for (padded, images) in [
        (conv([16, 32, 32], 16, [3, 3], [1, 1], [1, 1], 1), 11),
        (conv([16, 32, 32], 8, [3, 3], [2, 2], [1, 1], 1), 11),
        (conv([4, 28, 28], 16, [5, 5], [1, 1], [2, 2], 1), 70),
        (conv([32, 7, 7], 4, [3, 3], [1, 1], [1, 1], 2), 300),
    ] {
        let parts = padded.parts(images).count();
        assert!(parts > 1, "{padded:?}");
        let [channels, height, width] = padded.input;
        let [tall, wide] = padded.covered();
        let written_out = Conv2d {
            input: [channels, tall, wide],
            padding: [0, 0],
            ..padded
        };
        assert_eq!(written_out.parts(images).count(), 1);
        let input = numbers(images * padded.input_len(), 1);
        let mut with_padding = vec![0.0; images * written_out.input_len()];
        for (row, line) in input.chunks_exact(width).enumerate() {
            let [plane, y] = [row / height, row % height + padded.padding[0]];
            if y < tall {
                let from = (plane * tall + y) * wide + padded.padding[1];
                let length = width.min(wide - padded.padding[1]);
                with_padding[from..][..length].copy_from_slice(&line[..length]);
            }
        }
        let expected = bits(&written_out, images, &with_padding);
        assert!(
            bits(&padded, images, &input) == expected,
            "{parts} parts of {images} images of {padded:?}"
        );
    }
}

#[test]
fn no_images_are_no_work() {
    for conv in [
        conv([2, 6, 6], 4, [3, 3], [1, 1], [1, 1], 2),
        conv([2, 6, 6], 4, [1, 1], [1, 1], [0, 0], 2),
        conv([2, 6, 6], 4, [3, 3], [2, 2], [0, 0], 1),
    ] {
        let weight = numbers(conv.weight_len(), 1);
        let mut scratch = vec![f32::NAN; conv.scratch_len(0)];
        conv.forward(0, &[], &weight, None, &mut [], Finish::Keep, &mut scratch);
        conv.backward_input(0, &[], &weight, &mut [], Finish::Keep, &mut scratch);
        let (mut weight_gradient, mut bias_gradient) = (weight.clone(), numbers(4, 2));
        conv.backward_weight(
            0,
            &[],
            &[],
            &mut weight_gradient,
            Some(&mut bias_gradient),
            &mut scratch,
        );
        assert_eq!((weight_gradient, bias_gradient), (weight, numbers(4, 2)));
    }
}
