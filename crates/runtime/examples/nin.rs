#![allow(missing_docs)]
use skinny_network::*;
use skinny_runtime::*;
use std::time::Instant;
fn rng(s: &mut u64) -> f64 {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    (*s >> 11) as f64 / (1u64 << 53) as f64
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let net = Network::load(a.get(1).map_or("nin-cifar10", |s| s)).unwrap();
    let g = net.graph().unwrap();
    let b64 = std::env::var("B64").is_ok();
    for d in std::env::var("D").map_or(vec![1.0, 0.5, 0.25, 0.1, 0.05], |d| {
        d.split(",")
            .map(|x| x.parse().unwrap())
            .collect::<Vec<f64>>()
    }) {
        let mut s = 88172645463325252u64;
        let mut t = Tensors::new();
        for p in &g.parameters {
            let n: usize = p.shape.iter().product();
            let v = match p.role {
                Role::Weight => {
                    let std = (2.0 / p.fan_in as f64).sqrt() * 1.7;
                    let mut v: Vec<f32> = (0..n)
                        .map(|_| ((rng(&mut s) * 2.0 - 1.0) * std) as f32)
                        .collect();
                    for v in v.iter_mut() {
                        if rng(&mut s) >= d {
                            *v = 0.0
                        }
                    }
                    v
                }
                Role::Scale | Role::RunningVar => vec![1.0; n],
                _ => vec![0.01; n],
            };
            t.insert(
                &p.name,
                Tensor {
                    shape: p.shape.clone(),
                    data: v,
                },
            );
        }
        for th in std::env::var("T").map_or(vec![1, 2], |d| {
            d.split(",")
                .map(|x| x.parse().unwrap())
                .collect::<Vec<usize>>()
        }) {
            let m = Model::new(
                &net,
                &t,
                Preprocess::default(),
                &Options {
                    threads: th,
                    tune: std::env::var("TUNE").is_ok(),
                    ..Options::default()
                },
            )
            .unwrap();
            for b in if b64 { vec![1, 64] } else { vec![1] } {
                let x: Vec<f32> = (0..b * m.input_len())
                    .map(|_| rng(&mut s) as f32 - 0.5)
                    .collect();
                let mut y = vec![0.0; b * m.output_len()];
                let mut r = m.runner();
                for _ in 0..3 {
                    r.run(&x, &mut y).unwrap();
                }
                let mut ts = vec![];
                let reps = if b == 1 { 300 } else { 6 };
                for _ in 0..reps {
                    let i = Instant::now();
                    r.run(&x, &mut y).unwrap();
                    ts.push(i.elapsed().as_secs_f64() * 1e3);
                }
                ts.sort_by(f64::total_cmp);
                println!(
                    "density {d} threads {th} batch {b}: median {:.3} min {:.3} ms",
                    ts[reps / 2],
                    ts[0]
                );
                if b == 1 && th == 1 && a.len() > 2 {
                    m.profile()
                        .iter()
                        .for_each(|(n, k, t)| println!("      {n:30} {k:20} {:.1} us", t * 1e6));
                }
            }
        }
    }
}
