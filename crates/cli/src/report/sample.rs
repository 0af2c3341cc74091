//! A synthetic run for tests: LeNet-5 on digits, 15 epochs, phases DDD SSD SSD SSSSSS, density 10 %.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use skinny::train::csv_field;

use super::run::Run;

const LAYERS: [(&str, &str, u64, f64); 4] = [
    ("conv1", "20x1x5x5", 500, 0.19),
    ("conv2", "50x20x5x5", 25_000, 0.055),
    ("fc1", "500x800", 400_000, 0.035),
    ("fc2", "10x500", 5_000, 0.065),
];
const STEPS: u64 = 430;
const PHASES: &str = "DDDSSDSSDSSSSSS";

/// What a synthetic run varies in.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub seed: u64,
    pub density: f64,
    pub labels: [&'a str; 10],
    pub twin: Option<&'a str>,
}

impl Default for Sample<'_> {
    fn default() -> Self {
        Sample {
            name: "mnist-lenet5-iht-10x",
            seed: 0,
            density: 0.1,
            labels: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            twin: None,
        }
    }
}

/// The default sample, read back.
pub fn run() -> Run {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &Sample::default());
    Run::read(folder.path()).unwrap()
}

/// Writes every file of a finished run into `folder`.
pub fn write(folder: &Path, sample: &Sample<'_>) {
    fs::create_dir_all(folder).unwrap();
    let file = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    let mut random = Random(sample.seed.wrapping_mul(77).wrapping_add(3));
    file("results.csv", results(sample, &mut random));
    file("flips.jsonl", flips(sample, &mut random));
    let mut layers = "name,shape,weights,k,density,nonzeros\n".to_string();
    let (mut weights, mut kept) = (0, 0);
    for (name, shape, count, _) in LAYERS {
        let k = (count as f64 * sample.density).round() as u64;
        (weights, kept) = (weights + count, kept + k);
        let _ = writeln!(
            layers,
            "{name}.weight,{shape},{count},{k},{},{k}",
            sample.density
        );
    }
    file("layers.csv", layers);
    let counts = confusion_counts(&mut random);
    let wrong: u64 = (0..10).map(|row| 1000 - counts[row][row]).sum();
    let mut confusion = "label".to_string();
    for label in sample.labels {
        let _ = write!(confusion, ",{}", csv_field(label));
    }
    confusion.push('\n');
    for (label, row) in sample.labels.iter().zip(&counts) {
        let row: Vec<String> = row.iter().map(u64::to_string).collect();
        let _ = writeln!(confusion, "{},{}", csv_field(label), row.join(","));
    }
    file("confusion.csv", confusion);
    let summary = json!({
        "schema": 1, "name": sample.name, "seed": sample.seed, "method": if sample.density < 1.0 { "iht" } else { "dense" },
        "network": "lenet5", "data": "mnist", "status": "finished", "epochs": 15, "steps": 15 * STEPS,
        "density": sample.density, "parameters": weights + 580, "weights": weights, "nonzeros": kept + 580,
        "dense_bytes": 4 * (weights + 580), "packed_bytes": 4 * (kept + 580) + kept * 5 / 8,
        "best_epoch": 14, "best_validation_error": 0.0087, "validation_error": 0.0092, "test_error": wrong as f64 / 1e4, "test_loss": 0.0271,
        "seconds": 372.4, "settings_hash": format!("6f1d0c55a4be{:04}", sample.density * 1e3),
        "dense_twin": sample.twin.map(|run| json!({ "run": run, "test_error": 0.0074, "nonzeros": weights + 580, "bytes": 4 * (weights + 580) })),
    });
    file("summary.json", format!("{summary:#}\n"));
    file("mistakes.json", mistakes(&mut random));
    file("recipe.toml", recipe(sample));
    let environment = json!({
        "skinny": "0.1.0", "rustc": "1.95.0", "os": "Linux 6.1", "threads": 2,
        "cpu": { "name": "Intel Xeon (AVX-512)", "cores": 2 }, "started": "2026-03-01T09:30:00Z",
    });
    file("env.json", format!("{environment:#}\n"));
}

fn sparse(epoch: usize) -> bool {
    PHASES.as_bytes()[epoch] == b'S'
}

fn results(sample: &Sample<'_>, random: &mut Random) -> String {
    let mut text =
        "epoch,step,phase,density,lr,train_loss,train_error,validation_loss,validation_error,\
                    gradient_norm,nonzeros,images_per_second,seconds\n"
            .to_string();
    let tight = (1.0 / sample.density).ln();
    for epoch in 0..15usize {
        let thinned = sparse(epoch) && sample.density < 1.0;
        let fresh = epoch > 0 && thinned && !sparse(epoch - 1);
        let progress = (epoch as f64 + 1.0) / 15.0;
        let jump = if fresh {
            1.0 + 0.45 * tight
        } else if thinned {
            1.0 + 0.12 * tight
        } else {
            1.0
        };
        let noise = 1.0 + 0.05 * random.normal();
        let loss = (0.30 * (-5.2 * progress).exp() + 0.0045) * jump * noise;
        let validation = (0.12 * (-4.5 * progress).exp() + 0.029) * (0.6 + 0.4 * jump) * noise;
        let warm = (progress / 0.3).min(1.0)
            * if progress > 0.3 {
                0.5 + 0.5 * (std::f64::consts::PI * (progress - 0.3) / 0.7).cos()
            } else {
                1.0
            };
        let density = if thinned { sample.density } else { 1.0 };
        let _ = writeln!(
            text,
            "{},{},{},{density},{:.6},{loss:.6},{:.6},{validation:.6},{:.4},{:.4},{},{:.0},{:.2}",
            epoch + 1,
            STEPS * (epoch as u64 + 1),
            if thinned { "sparse" } else { "dense" },
            0.05 * warm.max(1e-4),
            loss * 0.28,
            validation * 0.27,
            0.8 * loss.sqrt(),
            (430_500.0 * density).round(),
            2250.0 + 60.0 * random.normal(),
            24.4 * (epoch as f64 + 1.0),
        );
    }
    text
}

fn flips(sample: &Sample<'_>, random: &mut Random) -> String {
    let mut text = String::new();
    if sample.density >= 1.0 {
        return text;
    }
    // Weights of each layer as the run goes on; large layers by a sample.
    let mut states: Vec<Vec<f64>> = LAYERS
        .iter()
        .map(|(_, _, weights, deviation)| {
            (0..(*weights).min(5_000))
                .map(|_| deviation * random.normal() * (1.0 + 0.3 * random.normal().abs()))
                .collect()
        })
        .collect();
    let mut support: Vec<Vec<bool>> = Vec::new();
    for epoch in 1..15usize {
        if sparse(epoch) == sparse(epoch - 1) {
            continue;
        }
        let threshold = sparse(epoch);
        let before = 0.02 + 0.08 * (-0.3 * epoch as f64).exp();
        let mut layers = Vec::new();
        for (index, (name, _, weights, deviation)) in LAYERS.iter().enumerate() {
            let values = &mut states[index];
            let scale = *weights as f64 / values.len() as f64;
            let k = (*weights as f64 * sample.density).round() as u64;
            let mut layer = json!({ "name": format!("{name}.weight"), "weights": weights, "k": if threshold { k } else { *weights } });
            if threshold {
                let count = (values.len() as f64 * sample.density).round() as usize;
                let mut order: Vec<f64> = values.iter().map(|value| value.abs()).collect();
                order.sort_by(|a, b| b.total_cmp(a));
                let edge = order[count - 1];
                let high = order[0] * 1.02;
                let now: Vec<bool> = values.iter().map(|value| value.abs() >= edge).collect();
                let norm = |kept: bool| {
                    let squares = values
                        .iter()
                        .zip(&now)
                        .filter(|(_, now)| kept || !**now)
                        .map(|(value, _)| value * value);
                    (squares.sum::<f64>() * scale).sqrt()
                };
                layer["norm"] = json!(norm(true));
                layer["dropped_norm"] = json!(norm(false));
                layer["overlap"] = match support.get(index) {
                    Some(last) => json!(
                        last.iter().zip(&now).filter(|(a, b)| **a && **b).count() as f64
                            / count as f64
                    ),
                    None => json!(null),
                };
                let bins = |values: &mut dyn Iterator<Item = f64>| {
                    let mut counts = [0u64; 64];
                    for value in values {
                        counts[(((value + high) / (2.0 * high) * 64.0) as usize).min(63)] +=
                            scale.round() as u64;
                    }
                    counts.to_vec()
                };
                let before = bins(&mut values.iter().copied());
                let after = bins(
                    &mut values
                        .iter()
                        .zip(&now)
                        .map(|(value, now)| if *now { *value } else { 0.0 }),
                );
                layer["histogram"] =
                    json!({ "low": -high, "high": high, "before": before, "after": after });
                layer["kept"] = json!(k);
                layer["dropped"] = json!(weights - k);
                layer["reactivated"] = json!(0);
                let growth = [0.85, 0.7, 0.8, 1.0][index] * if epoch < 5 { 1.1 } else { 0.9 };
                // The sparse phase strengthens what is kept; the next dense one lets the rest grow from zero.
                for (value, now) in values.iter_mut().zip(&now) {
                    *value = if *now {
                        *value * (1.15 + 0.12 * random.normal())
                    } else {
                        deviation * growth * random.normal()
                    };
                }
                support.resize(support.len().max(index + 1), Vec::new());
                support[index] = now;
            } else {
                layer["kept"] = json!(k);
                layer["dropped"] = json!(0);
                layer["reactivated"] = json!(weights - k);
                layer["overlap"] = json!(null);
                layer["dropped_norm"] = json!(0.0);
                layer["norm"] = json!(1.0);
            }
            layers.push(layer);
        }
        let after = if threshold {
            before * (1.0 + 60.0 / epoch as f64 / epoch as f64) + 0.01
        } else {
            before
        };
        let flip = json!({
            "step": STEPS * epoch as u64, "epoch": epoch as f64, "edge": if threshold { "threshold" } else { "reactivate" },
            "density": if threshold { sample.density } else { 1.0 }, "loss_before": before, "loss_after": after, "layers": layers,
        });
        let _ = writeln!(text, "{flip}");
    }
    text
}

fn confusion_counts(random: &mut Random) -> Vec<Vec<u64>> {
    let likely = [
        (4, 9),
        (9, 4),
        (7, 2),
        (3, 5),
        (5, 3),
        (8, 3),
        (2, 7),
        (7, 1),
        (6, 0),
        (9, 7),
        (8, 9),
        (5, 6),
    ];
    let mut counts = vec![vec![0; 10]; 10];
    for (row, counts) in counts.iter_mut().enumerate() {
        counts[row] = 1000;
    }
    for (index, (from, to)) in likely.iter().enumerate() {
        let wrong = (14.0 / (1.0 + index as f64 * 0.35) + random.uniform() * 3.0) as u64;
        counts[*from][*to] += wrong;
        counts[*from][*from] -= wrong;
    }
    for _ in 0..14 {
        let (from, to) = (
            (random.uniform() * 10.0) as usize,
            (random.uniform() * 10.0) as usize,
        );
        if from != to {
            counts[from][to] += 1;
            counts[from][from] -= 1;
        }
    }
    counts
}

/// Pictures of strokes that could be a 4 or a 9, a 7 or a 2.
fn mistakes(random: &mut Random) -> String {
    type Stroke<'a> = (usize, usize, &'a [(f64, f64)]);
    let strokes: [Stroke<'_>; 4] = [
        (
            4,
            9,
            &[
                (9.0, 5.0),
                (8.0, 13.0),
                (18.0, 13.0),
                (19.0, 5.0),
                (17.0, 24.0),
            ],
        ),
        (7, 2, &[(8.0, 6.0), (19.0, 6.0), (12.0, 22.0), (20.0, 22.0)]),
        (
            3,
            5,
            &[
                (19.0, 5.0),
                (10.0, 6.0),
                (11.0, 13.0),
                (19.0, 17.0),
                (9.0, 23.0),
            ],
        ),
        (
            6,
            0,
            &[
                (17.0, 4.0),
                (9.0, 14.0),
                (13.0, 23.0),
                (19.0, 17.0),
                (11.0, 13.0),
            ],
        ),
    ];
    let entries: Vec<_> = (0..24)
        .map(|index| {
            let (label, predicted, points) = strokes[index % 4];
            let points: Vec<_> = points.iter().map(|(x, y)| (x + 1.2 * random.normal(), y + 1.2 * random.normal())).collect();
            let pixels: Vec<u8> = (0..784)
                .map(|pixel| {
                    let at = ((pixel % 28) as f64, (pixel / 28) as f64);
                    let near = points.windows(2).map(|pair| distance(at, pair[0], pair[1])).fold(f64::INFINITY, f64::min);
                    (255.0 * (2.2 - near).clamp(0.0, 1.0)) as u8
                })
                .collect();
            json!({
                "index": 100 * index + 47, "label": label, "predicted": predicted,
                "confidence": 0.9996 - 0.012 * index as f64, "channels": 1, "height": 28, "width": 28,
                "pixels": STANDARD.encode(pixels),
            })
            .to_string()
        })
        .collect();
    format!("[\n{}\n]\n", entries.join(",\n"))
}

fn distance((x, y): (f64, f64), (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> f64 {
    let (dx, dy) = (x2 - x1, y2 - y1);
    let along = (((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy).max(1e-9)).clamp(0.0, 1.0);
    (x - x1 - along * dx).hypot(y - y1 - along * dy)
}

fn recipe(sample: &Sample<'_>) -> String {
    format!(
        "name = {:?}\nseed = {}\ndata = {{ name = \"mnist\", batch = 128, augment = [], validation = 5000 }}\n\
         network = {{ name = \"lenet5\" }}\n\
         train = {{ epochs = 15, optimizer = \"sgd\", lr = 0.05, momentum = 0.9, nesterov = true, weight_decay = 5e-4, clip_norm = 1.0, schedule = \"one-cycle\" }}\n\
         sparsity = {{ method = \"iht\", density = {}, budget = \"uniform\", structure = \"unstructured\", keep_dense = [], warmup = \"20%\", sparse = \"13%\", dense = \"7%\", final = \"33%\" }}\n",
        sample.name, sample.seed, sample.density
    )
}

/// A small generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
