//! Forward and backward passes of the convolutions of LeNet-5 and NIN on one thread: the time per image
//! tells the share of the multiply-adds of the processor's peak.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use skinny_kernels::{Conv2d, Finish};

/// Images per call: a lane of a training batch.
const IMAGES: usize = 8;

/// Name, input shape, output channels, side of the kernel, padding; the stride is 1.
const LAYERS: [(&str, [usize; 3], usize, usize, usize); 10] = [
    ("lenet5/conv1", [1, 28, 28], 20, 5, 0),
    ("lenet5/conv2", [20, 12, 12], 50, 5, 0),
    ("nin-cifar10/conv1", [3, 32, 32], 192, 5, 2),
    ("nin-cifar10/cccp1", [192, 32, 32], 160, 1, 0),
    ("nin-cifar10/cccp2", [160, 32, 32], 96, 1, 0),
    ("nin-cifar10/conv2", [96, 16, 16], 192, 5, 2),
    ("nin-cifar10/cccp3", [192, 16, 16], 192, 1, 0),
    ("nin-cifar10/conv3", [192, 8, 8], 192, 3, 1),
    ("nin-cifar10/cccp5", [192, 8, 8], 192, 1, 0),
    ("nin-cifar10/cccp6", [192, 8, 8], 10, 1, 0),
];

fn convolutions(criterion: &mut Criterion) {
    for (name, input, channels, kernel, padding) in LAYERS {
        let side = input[1] + 2 * padding - kernel + 1;
        let conv = Conv2d {
            input,
            output: [channels, side, side],
            kernel: [kernel; 2],
            stride: [1, 1],
            padding: [padding; 2],
            groups: 1,
        };
        let mut x = vec![0.5; IMAGES * conv.input_len()];
        let mut w = vec![0.25; conv.weight_len()];
        let mut b = vec![0.125; channels];
        let mut y = vec![0.0; IMAGES * conv.output_len()];
        let mut scratch = vec![0.0; conv.scratch_len(IMAGES)];
        let mut group = criterion.benchmark_group(name);
        let multiply_adds = IMAGES * conv.weight_len() * side * side;
        group.throughput(Throughput::Elements(multiply_adds as u64));
        group.bench_function(BenchmarkId::from_parameter("forward"), |bencher| {
            bencher.iter(|| {
                conv.forward(IMAGES, &x, &w, Some(&b), &mut y, Finish::Keep, &mut scratch)
            });
        });
        // Not to grow without bound over the calls.
        y.fill(0.0);
        group.bench_function(BenchmarkId::from_parameter("backward-weight"), |bencher| {
            bencher
                .iter(|| conv.backward_weight(IMAGES, &x, &y, &mut w, Some(&mut b), &mut scratch));
        });
        group.bench_function(BenchmarkId::from_parameter("backward-input"), |bencher| {
            bencher
                .iter(|| conv.backward_input(IMAGES, &y, &w, &mut x, Finish::Keep, &mut scratch));
        });
        group.finish();
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
