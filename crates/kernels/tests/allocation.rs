//! A warm call of a kernel allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use skinny_kernels::dropout::Dropout;
use skinny_kernels::lrn::Lrn;
use skinny_kernels::update::{AdamW, CaffeSgd, Sgd, ema_update, squared_norm};
use skinny_kernels::{Conv2d, Finish, Linear, Pool2d, Threads};
use skinny_kernels::{activation, elementwise, loss, norm, pool, transpose};

/// The system's allocator, which counts.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test only: another one on another thread would be counted too.
#[test]
fn a_warm_call_allocates_nothing() {
    let threads = Threads::new(2);
    let images = 3;
    let convs = [
        ([1, 28, 28], [20, 24, 24], 5, 1, 0),
        ([16, 8, 8], [10, 8, 8], 3, 1, 1),
        ([4, 9, 9], [6, 5, 5], 3, 2, 1),
        ([8, 6, 6], [8, 6, 6], 1, 1, 0),
    ]
    .map(|(input, output, kernel, stride, padding)| Conv2d {
        input,
        output,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        groups: 1,
    });
    let linear = Linear {
        inputs: 300,
        outputs: 70,
    };
    let pool2d = Pool2d {
        input: [4, 9, 9],
        output: [4, 5, 5],
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
    };
    let dropout = Dropout {
        probability: 0.5,
        seed: 1,
        step: 2,
        layer: 3,
    };
    let lrn = Lrn {
        size: 5,
        alpha: 1e-4,
        beta: 0.75,
        k: 1.0,
    };
    let sgd = Sgd {
        rate: 0.1,
        momentum: 0.9,
        decay: 0.1,
        nesterov: true,
        gradient_factor: 1.0,
    };
    let caffe = CaffeSgd {
        rate: 0.1,
        momentum: 0.9,
        decay: 0.1,
        nesterov: true,
        gradient_factor: 1.0,
    };
    let adamw = AdamW {
        rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        decay: 0.1,
        step: 1,
        gradient_factor: 1.0,
    };

    let size = 40_000;
    let [mut a, mut b, mut c, mut d, mut e] = [(); 5].map(|()| vec![0.5f32; size]);
    let mut scratch = vec![0.0f32; 1 << 20];
    let mut argmax = vec![0u32; size];
    let mut sums = vec![0.0f64; 4];
    let mut other_sums = vec![0.0f64; 4];
    let labels = [1u32; 10];
    let mask = vec![0x1234_5678_9abc_def0u64; size.div_ceil(64)];

    let mut work = || {
        for conv in &convs {
            let (input, output) = (images * conv.input_len(), images * conv.output_len());
            let (weights, channels) = (conv.weight_len(), conv.output[0]);
            let bias = &e[..channels];
            let into = &mut c[..output];
            conv.forward(
                images,
                &a[..input],
                &b[..weights],
                Some(bias),
                into,
                Finish::Relu,
                &mut scratch,
            );
            conv.backward_input(
                images,
                &c[..output],
                &b[..weights],
                &mut d[..input],
                Finish::Keep,
                &mut scratch,
            );
            conv.backward_weight(
                images,
                &a[..input],
                &c[..output],
                &mut d[..weights],
                Some(&mut e[..channels]),
                &mut scratch,
            );
        }
        let batch = 40;
        let (x, w, y) = (&a[..300 * batch], &b[..300 * 70], 70 * batch);
        linear.forward(
            &threads,
            batch,
            x,
            w,
            Some(&e[..70]),
            &mut c[..y],
            &mut scratch,
        );
        linear.backward_input(
            &threads,
            batch,
            &c[..y],
            w,
            &mut d[..300 * batch],
            &mut scratch,
        );
        let (into, bias) = (&mut d[..300 * 70], Some(&mut e[..70]));
        linear.backward_weight(&threads, batch, &c[..y], x, into, bias, &mut scratch);
        transpose(70, batch, &c[..y], &mut d[..y]);
        let (input, output) = (3 * 4 * 81, 3 * 4 * 25);
        pool2d.max_forward(3, &a[..input], &mut c[..output], &mut argmax[..output]);
        pool2d.max_backward(3, &c[..output], &argmax[..output], &mut d[..input]);
        pool2d.average_forward(3, &a[..input], &mut c[..output]);
        pool2d.average_backward(3, &c[..output], &mut d[..input]);
        pool::global_average_forward(81, &a[..input], &mut c[..12]);
        pool::global_average_backward(81, &c[..12], &mut d[..input]);
        activation::relu_forward(&mut a);
        activation::relu_backward(&a, &mut b);
        elementwise::add(&a, &b, &mut c);
        elementwise::accumulate(&a, &mut c);
        dropout.forward(0, size / 4, &a, &mut b);
        dropout.backward(0, size / 4, &b, &mut c);
        lrn.forward(4, 100, &a, &mut b, &mut c);
        lrn.backward(4, 100, &a, &b, &c, &b, &mut d);
        norm::channel_sums(100, &a, &mut sums);
        norm::channel_squares(100, &a, &b[..4], &mut sums);
        norm::combine(&sums, &mut other_sums);
        norm::apply(100, &a, &b[..4], &b[..4], &b[..4], &b[..4], true, &mut c);
        norm::backward_sums(100, &a, &b, &c[..4], &c[..4], &mut sums, &mut other_sums);
        let (mean, inverse, scale) = (&c[..4], &c[..4], &c[..4]);
        norm::backward_apply(
            100,
            9,
            &a,
            &b,
            mean,
            inverse,
            scale,
            &sums,
            &other_sums,
            &mut d,
        );
        loss::cross_entropy(10, &a[..100], &labels, 0.1, Some((&mut b[..100], 0.1)));
        loss::softmax(10, &mut b[..100]);
        sgd.update(&mut a, &b, &mut c, Some(&mask));
        caffe.update(&mut a, &b, &mut c, None);
        adamw.update(&mut a, &b, &mut c, &mut d, Some(&mask));
        squared_norm(&a);
        ema_update(0.9, &a, &mut b);
    };
    // The first call detects the instruction set. No call waits for a worker that has not started yet, and starting
    // allocates: so the threads meet once.
    work();
    let meeting = std::sync::Barrier::new(threads.count());
    threads.for_each(&mut [(); 2], |_, ()| {
        meeting.wait();
    });
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    work();
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0);
}
