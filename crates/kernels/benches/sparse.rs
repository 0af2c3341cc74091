//! A training step of the convolutions of NIN, LeNet-5 and ResNet-20 with sparse weights beside the dense one, on one
//! thread: forward, input gradient and weight gradient of a lane, interleaved, the least of several rounds.
//!
//! `cargo bench -p skinny-kernels --bench sparse -- [ROUNDS]`
#![allow(missing_docs)]

use std::time::Instant;

use skinny_kernels::{Conv2d, Finish, SparseConv2d};

/// Images per call: a lane of a training batch.
const IMAGES: usize = 8;
const DENSITIES: [f64; 5] = [0.5, 0.25, 0.1, 0.05, 0.02];

/// Name, input shape, output channels, side of the kernel, padding; the stride is 1.
const LAYERS: [(&str, [usize; 3], usize, usize, usize); 11] = [
    ("conv1", [3, 32, 32], 192, 5, 2),
    ("cccp1", [192, 32, 32], 160, 1, 0),
    ("cccp2", [160, 32, 32], 96, 1, 0),
    ("conv2", [96, 16, 16], 192, 5, 2),
    ("cccp3", [192, 16, 16], 192, 1, 0),
    ("conv3", [192, 8, 8], 192, 3, 1),
    ("cccp6", [192, 8, 8], 10, 1, 0),
    ("lenet5 conv2", [20, 12, 12], 50, 5, 0),
    ("resnet20 stage 1", [16, 32, 32], 16, 3, 1),
    ("resnet20 stage 2", [32, 16, 16], 32, 3, 1),
    ("resnet20 stage 3", [64, 8, 8], 64, 3, 1),
];

fn least(rounds: usize, times: &mut [f64], mut calls: Vec<Box<dyn FnMut() + '_>>) {
    times.fill(f64::INFINITY);
    for _ in 0..rounds {
        for (time, call) in times.iter_mut().zip(&mut calls) {
            let start = Instant::now();
            call();
            *time = time.min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
}

fn main() {
    let rounds = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(5);
    println!("ms of a lane of {IMAGES} images; the model's choice in the last column");
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
        let x: Vec<f32> = (0..IMAGES * conv.input_len())
            .map(|i| (i % 7) as f32 - 3.0)
            .collect();
        let y: Vec<f32> = (0..IMAGES * conv.output_len())
            .map(|i| (i % 5) as f32 - 2.0)
            .collect();
        let weight = vec![0.1; conv.weight_len()];
        let mut dense = [0.0; 3];
        let run = |sparse: Option<&SparseConv2d>, times: &mut [f64]| {
            let mut output = vec![0.0; IMAGES * conv.output_len()];
            let mut back = vec![0.0; IMAGES * conv.input_len()];
            let mut gradient = vec![0.0; conv.weight_len()];
            let length = sparse.map_or(0, |sparse| sparse.scratch_len(IMAGES));
            let scratch = std::cell::RefCell::new(vec![0.0; length.max(conv.scratch_len(IMAGES))]);
            let calls: Vec<Box<dyn FnMut()>> = match sparse {
                None => vec![
                    Box::new(|| {
                        let mut scratch = scratch.borrow_mut();
                        conv.forward(
                            IMAGES,
                            &x,
                            &weight,
                            None,
                            &mut output,
                            Finish::Keep,
                            &mut scratch,
                        );
                    }),
                    Box::new(|| {
                        let mut scratch = scratch.borrow_mut();
                        conv.backward_input(
                            IMAGES,
                            &y,
                            &weight,
                            &mut back,
                            Finish::Keep,
                            &mut scratch,
                        );
                    }),
                    Box::new(|| {
                        let mut scratch = scratch.borrow_mut();
                        conv.backward_weight(IMAGES, &x, &y, &mut gradient, None, &mut scratch);
                    }),
                ],
                Some(sparse) => vec![
                    Box::new(|| {
                        let mut scratch = scratch.borrow_mut();
                        sparse.forward(IMAGES, &x, None, &mut output, Finish::Keep, &mut scratch);
                    }),
                    Box::new(|| {
                        let mut scratch = scratch.borrow_mut();
                        sparse.backward_input(IMAGES, &y, &mut back, Finish::Keep, &mut scratch);
                    }),
                    Box::new(|| {
                        let mut scratch = scratch.borrow_mut();
                        sparse.backward_weight(IMAGES, &x, &y, &mut gradient, None, &mut scratch);
                    }),
                ],
            };
            least(rounds, times, calls);
        };
        run(None, &mut dense);
        let multiply_adds = (IMAGES * conv.weight_len() * side * side) as f64;
        print!("{name:<16} dense");
        for time in dense {
            print!("  {time:8.3} ({:5.1} GFLOP/s)", 2e-6 * multiply_adds / time);
        }
        println!();
        for density in DENSITIES {
            let mut mask = vec![0u64; conv.weight_len().div_ceil(64)];
            let mut state = 1u64;
            let mut kept = 0;
            for at in 0..conv.weight_len() {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                if ((state >> 40) as f64) < density * (1u64 << 24) as f64 {
                    mask[at / 64] |= 1 << (at % 64);
                    kept += 1;
                }
            }
            let mut sparse = SparseConv2d::new(conv, &mask);
            sparse.refresh(&weight);
            let mut times = [0.0; 3];
            run(Some(&sparse), &mut times);
            print!("   density {density:<4} ");
            for (time, dense) in times.iter().zip(dense) {
                print!("  {time:8.3} ({:6.2} x)      ", dense / time);
            }
            let ratio = dense.iter().sum::<f64>() / times.iter().sum::<f64>();
            println!(
                "  {ratio:6.2} x  {}",
                SparseConv2d::pays(&conv, kept, IMAGES)
            );
        }
    }
}
