#![allow(missing_docs)]
use skinny_kernels::inference::*;
use std::arch::x86_64::*;
use std::time::Instant;
fn rng(s: &mut u64) -> f64 {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    (*s >> 11) as f64 / (1u64 << 53) as f64
}
#[target_feature(enable = "avx2,fma")]
unsafe fn peak(n: usize) -> f32 {
    unsafe {
        let mut a = [_mm256_set1_ps(0.0); 12];
        let b = _mm256_set1_ps(1e-9);
        let c = _mm256_set1_ps(0.5);
        for _ in 0..n {
            for x in a.iter_mut() {
                *x = _mm256_fmadd_ps(b, c, *x);
                std::arch::asm!("/* {0} */", inout(ymm_reg) * x, options(nomem, nostack));
            }
        }
        let mut s = a[0];
        for x in &a[1..] {
            s = _mm256_add_ps(s, *x);
        }
        let mut o = [0f32; 8];
        _mm256_storeu_ps(o.as_mut_ptr(), s);
        o[0]
    }
}
fn main() {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let ds: Vec<f64> = std::env::var("D").map_or(vec![1.0, 0.5, 0.25, 0.1, 0.05], |d| {
        d.split(",").map(|x| x.parse().unwrap()).collect()
    });
    let lanes = 8;
    let mut s = 88172645463325252u64;
    for (name, i, h, wd, o, k) in [
        ("conv1", 3usize, 32usize, 32usize, 192usize, 5usize),
        ("cccp1", 192, 1, 96, 160, 1),
        ("cccp3", 192, 16, 16, 192, 1),
        ("conv2", 96, 16, 16, 192, 5),
        ("conv3", 192, 8, 8, 192, 3),
    ] {
        if !only.is_empty() && !only.iter().any(|n| n == name) {
            continue;
        }
        let w = Window {
            input: [i, h, wd],
            output: [h, wd],
            kernel: [k, k],
            stride: [1, 1],
            padding: [k / 2, k / 2],
        };
        let plane = Plane::new([i, h, wd], lanes);
        let input = if k == 1 {
            Input::Plane(plane)
        } else {
            Input::Lines(Lines::new(w, lanes))
        };
        let mut xa = Aligned::new(input.len());
        xa.as_mut_slice().fill(0.1);
        let out = Plane::new([o, h, wd], lanes);
        let mut ya = Aligned::new(out.len());
        for &d in &ds {
            let values: Vec<f32> = (0..o * i * k * k)
                .map(|_| {
                    let u = rng(&mut s);
                    if u < d { 0.5 } else { 0.0 }
                })
                .collect();
            let bias = vec![0f32; o];
            let wt = Weights {
                values: &values,
                bias: &bias,
                groups: 1,
                relu: true,
            };
            let nnz = values.iter().filter(|v| **v != 0.0).count();
            let mut res = vec![];
            for m in Method::ALL {
                if m == Method::Fours || (m == Method::Dense) != (d == 1.0) {
                    continue;
                }
                for v in [2, 3, 4, 5, 6, 8, 10, 11, 12] {
                    if v > m.largest_tile(lanes) {
                        continue;
                    }
                    if (m == Method::Dense) && v < 2 {
                        continue;
                    }
                    if m == Method::Pairs && v < 4 {
                        continue;
                    }
                    if m == Method::DoubleRows && v < 4 {
                        continue;
                    }
                    if m == Method::Rows && v < 6 {
                        continue;
                    }
                    for kb in [12, 16, 20, 24, 28, 32] {
                        res.push((
                            Convolution::new(
                                &w,
                                &wt,
                                &input,
                                lanes,
                                Choice {
                                    method: m,
                                    vectors: v,
                                    budget: kb * 1024,
                                },
                                1,
                            ),
                            m.name(),
                            v,
                            kb,
                            f64::MAX,
                        ));
                    }
                }
            }
            let fl = 2.0 * nnz as f64 * (h * wd) as f64;
            let reps = (5e6 / fl) as usize + 1;
            let mut pk = f64::MAX;
            for _ in 0..12 {
                let t = Instant::now();
                let r = unsafe { peak(20000) };
                pk = pk.min(t.elapsed().as_secs_f64() / (20000.0 * 192.0));
                std::hint::black_box(r);
                for r in res.iter_mut() {
                    let t = Instant::now();
                    for _ in 0..reps {
                        r.0.compute(xa.as_slice(), ya.as_mut_slice(), out.stride);
                    }
                    r.4 = r.4.min(t.elapsed().as_secs_f64() / reps as f64);
                }
            }
            res.sort_by(|a, b| a.4.total_cmp(&b.4));
            println!("{name} d={d} peak {:.1}", 1e-9 / pk);
            let mut seen = std::collections::HashMap::new();
            for r in res {
                let c = seen.entry(r.1).or_insert(0);
                *c += 1;
                if *c <= 2 {
                    println!(
                        "   {:12} v={:2} kb={:3} {:.1} us {:.1} GF/s = {:.2} of peak",
                        r.1,
                        r.2,
                        r.3,
                        r.4 * 1e6,
                        fl / r.4 / 1e9,
                        fl / r.4 * pk
                    );
                }
            }
        }
    }
}
