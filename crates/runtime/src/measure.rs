//! What kernels cost, measured on this machine.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use skinny_kernels::inference::{Aligned, Choice, GROUP, Storage};

use crate::choose;
use crate::plan::{Chooser, ConvProblem, LinearProblem};

/// Time for the candidates of one layer.
const BUDGET: Duration = Duration::from_millis(150);
/// A sample is at least so long: the clock and the call disappear in it.
const SAMPLE: Duration = Duration::from_micros(40);
/// Samples of every candidate at least.
const ROUNDS: usize = 3;

/// Seconds of each of the given functions: the least of several samples. Machines have fast and slow moments, so all
/// take turns.
fn least(candidates: &mut [Box<dyn FnMut() + '_>]) -> Vec<f64> {
    let mut best = vec![f64::INFINITY; candidates.len()];
    let mut repeats = vec![1u32; candidates.len()];
    let start = Instant::now();
    let mut round = 0;
    while round < ROUNDS || start.elapsed() < BUDGET {
        for ((run, best), repeats) in candidates.iter_mut().zip(&mut best).zip(&mut repeats) {
            let start = Instant::now();
            (0..*repeats).for_each(|_| run());
            let time = start.elapsed();
            let seconds = time.as_secs_f64() / f64::from(*repeats);
            // The first round warms up and finds how often to repeat.
            if round > 0 {
                *best = best.min(seconds);
            } else {
                *repeats = (SAMPLE.as_secs_f64() / seconds.max(1e-9)).clamp(1.0, 1000.0) as u32;
            }
        }
        round += 1;
    }
    best
}

/// Seconds of a convolution with each of the choices, on this thread.
pub(crate) fn convolutions(problem: &ConvProblem, choices: &[Choice]) -> Vec<f64> {
    let packed: Vec<_> = (choices.iter())
        .map(|choice| problem.pack(*choice, 1))
        .collect();
    let mut input = Aligned::new(problem.input.image().len());
    input.as_mut_slice().fill(0.1);
    let to = problem.output();
    let output = RefCell::new(Aligned::new(to.len()));
    let scratch = packed.iter().map(|convolution| convolution.scratch_len());
    let scratch = RefCell::new(Aligned::new(scratch.max().unwrap_or(0)));
    let mut runs: Vec<Box<dyn FnMut() + '_>> = Vec::new();
    for convolution in &packed {
        let (input, output, scratch) = (&input, &output, &scratch);
        runs.push(Box::new(move || {
            let (mut output, mut scratch) = (output.borrow_mut(), scratch.borrow_mut());
            let (output, scratch) = (output.as_mut_slice(), scratch.as_mut_slice());
            convolution.compute(input.as_slice(), output, to.stride, scratch);
        }));
    }
    least(&mut runs)
}

/// Seconds of a linear layer with each of the ways to store it, on this thread.
pub(crate) fn linears(problem: &LinearProblem, storages: &[Storage]) -> Vec<f64> {
    let packed: Vec<_> = (storages.iter())
        .map(|storage| problem.pack(*storage))
        .collect();
    let mut input = vec![0.0; problem.columns().next_multiple_of(GROUP)];
    input[..problem.columns()].fill(0.1);
    let output = RefCell::new(vec![0.0; problem.bias.len()]);
    let scratch = packed.iter().map(|linear| linear.scratch_len()).max();
    let scratch = RefCell::new(Aligned::new(scratch.unwrap_or(0)));
    let mut runs: Vec<Box<dyn FnMut() + '_>> = Vec::new();
    for linear in &packed {
        let (input, output, scratch) = (&input, &output, &scratch);
        runs.push(Box::new(move || {
            let (mut output, mut scratch) = (output.borrow_mut(), scratch.borrow_mut());
            linear.run(0..linear.rows(), input, &mut output, scratch.as_mut_slice());
        }));
    }
    least(&mut runs)
}

/// Chooses what is fastest here.
pub(crate) struct Measured;

impl Chooser for Measured {
    fn convolution(&mut self, problem: &ConvProblem) -> Choice {
        let choices = choose::candidates(&problem.shape());
        fastest(&choices, &convolutions(problem, &choices))
    }

    fn linear(&mut self, problem: &LinearProblem) -> Storage {
        let storages = problem.storages();
        fastest(&storages, &linears(problem, &storages))
    }
}

/// The one of the least seconds.
pub(crate) fn fastest<T: Copy>(of: &[T], seconds: &[f64]) -> T {
    let times = seconds.iter().zip(of);
    let best = times.min_by(|a, b| a.0.total_cmp(b.0));
    *best.expect("there is always a candidate").1
}
