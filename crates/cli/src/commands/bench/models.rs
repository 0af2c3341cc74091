//! `skinny bench MODEL`: how fast a model is here, and how fast others run it.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use skinny::runtime::{Model, Options, Runner};

use super::peer::Process;
use super::samples::Samples;
use super::subject::Subject;
use super::{layers, probe};
use crate::arguments::{BenchArguments, Peer};
use crate::commands::env;
use crate::failure::Failure;
use crate::output::{self, Output, bytes, table};

/// Between two programs: threads of the one that wait for work by spinning have gone to sleep.
const PAUSE: Duration = Duration::from_millis(60);
/// Of every program at a time.
const SLICE: Duration = Duration::from_millis(120);
/// Turns of every program at least.
const TURNS: usize = 3;
/// The largest difference of two outputs, as a part of the largest value, that counts as agreement.
const AGREEMENT: f64 = 1e-4;

/// Measures models.
pub fn models(arguments: &BenchArguments, output: Output) -> Result<(), Failure> {
    if !arguments.settings.is_empty() {
        return Err(Failure::usage(
            "--set changes the recipe of --train; leave it out for models",
        ));
    }
    let list = |given: &[usize], default: &[usize]| match given {
        [] => default.to_vec(),
        given => given.to_vec(),
    };
    let batches = list(&arguments.batch, &[1]);
    let threads = list(&arguments.threads, &[1]);
    for count in &threads {
        env::threads(Some(*count))?;
    }
    if arguments.probe {
        let options = options(arguments, threads[0]);
        return probe::answer(&arguments.models[0], batches[0], &options, output);
    }
    let densities = match &arguments.density[..] {
        [] => vec![None],
        densities => densities.iter().copied().map(Some).collect(),
    };
    for model in &arguments.models {
        for density in &densities {
            let folder = tempfile::tempdir().map_err(|error| {
                Failure::data(format!("cannot make a temporary folder: {error}"))
            })?;
            let subject = Subject::open(model, *density, folder.path())?;
            if !arguments.against.is_empty() {
                subject.write_for_peers(folder.path())?;
            }
            let mut rows = vec![header(&arguments.against)];
            for &threads in &threads {
                let mut bench = Bench::new(&subject, arguments, threads, folder.path())?;
                for &batch in &batches {
                    let result = bench.measure(batch)?;
                    output.object(&result)?;
                    rows.push(row(&result, &arguments.against));
                }
            }
            output.text(&subject.text())?;
            output.text(&table(&rows))?;
            if arguments.layers {
                layers::layers(&subject, &options(arguments, 1), output)?;
            }
        }
    }
    Ok(())
}

fn options(arguments: &BenchArguments, threads: usize) -> Options {
    Options {
        threads,
        tune: arguments.tune,
        int8: arguments.int8,
        ..Options::default()
    }
}

/// One model with one number of threads.
struct Bench<'a> {
    subject: &'a Subject,
    folder: &'a Path,
    options: Options,
    time: Duration,
    model: Model,
    peers: Vec<Process>,
    /// Operations per second that the processor can do.
    peak: f64,
}

impl<'a> Bench<'a> {
    fn new(
        subject: &'a Subject,
        arguments: &BenchArguments,
        threads: usize,
        folder: &'a Path,
    ) -> Result<Self, Failure> {
        let options = options(arguments, threads);
        let model = Model::load_with(&subject.file, &options)?;
        let start = |peer: &Peer| Process::start(*peer, threads, folder);
        Ok(Self {
            subject,
            folder,
            time: Duration::from_secs_f64(arguments.seconds.unwrap_or(3.0)),
            model,
            peers: arguments
                .against
                .iter()
                .map(start)
                .collect::<Result<_, _>>()?,
            peak: 1e9 * skinny::fma_gflops(threads),
            options,
        })
    }

    /// Measures one batch size, all programs in turn.
    fn measure(&mut self, batch: usize) -> Result<Value, Failure> {
        let loading = probe::ask(&self.subject.file, batch, &self.options)?;
        let images = images(batch * self.model.input_len());
        let mut results = vec![0.0; batch * self.model.output_len()];
        let mut runner = self.model.runner();
        runner.run(&images, &mut results)?;

        let input = self.folder.join("input.f32");
        let raw: Vec<u8> = images
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        std::fs::write(&input, raw)
            .map_err(|error| Failure::data(format!("cannot write {}: {error}", input.display())))?;
        let mut differences = Vec::new();
        for peer in &mut self.peers {
            let output = self.folder.join("output.f32");
            peer.run(batch, 1, &input, Some(&output))?;
            let difference = difference(&output, &results)?;
            // int8 differs by what it rounds away; that is said, and is no reason not to compare.
            let rounds = self.options.int8 || peer.peer == Peer::OnnxruntimeInt8;
            if difference > AGREEMENT && !rounds {
                return Err(Failure::data(format!(
                    "the outputs of {} differ by {difference:.1e} of the largest; nothing was compared",
                    peer.peer.name()
                )));
            }
            differences.push(difference);
        }

        let mut own = Samples::default();
        let mut others = vec![Samples::default(); self.peers.len()];
        let start = Instant::now();
        let mut turn = 0;
        while turn < TURNS || start.elapsed() < self.time {
            own.extend(own_turn(&mut runner, &images, &mut results)?);
            for (peer, samples) in self.peers.iter_mut().zip(&mut others) {
                std::thread::sleep(PAUSE);
                // The first turn finds out how long a run takes.
                let runs = match samples.median() {
                    0.0 => 3,
                    median => (SLICE.as_secs_f64() / median).ceil().max(1.0) as usize,
                };
                // The first run after a pause is no typical one.
                let times = peer.run(batch, runs + 1, &input, None)?;
                samples.extend(times.into_iter().skip(1));
            }
            if !self.peers.is_empty() {
                std::thread::sleep(PAUSE);
            }
            turn += 1;
        }

        let mut result = Map::new();
        result.insert("event".into(), json!("bench"));
        result.insert("model".into(), json!(self.subject.name));
        result.insert("batch".into(), json!(batch));
        result.insert("threads".into(), json!(self.options.threads));
        result.insert("int8".into(), json!(self.options.int8));
        result.append(&mut own.json(batch));
        let rate = |macs: u64| 2.0 * macs as f64 * batch as f64 / own.median();
        let (dense, real) = (rate(self.model.macs()), rate(self.subject.real_macs));
        for (key, value) in [
            ("load_ms", loading["load_ms"].clone()),
            ("peak_rss_bytes", loading["peak_rss_bytes"].clone()),
            ("file_bytes", json!(self.subject.file_bytes)),
            ("preprocess_bytes", json!(self.subject.preprocess_bytes())),
            ("nonzeros", json!(self.subject.nonzeros)),
            ("gflops_dense", json!(dense / 1e9)),
            ("gflops_real", json!(real / 1e9)),
            ("peak_gflops", json!(self.peak / 1e9)),
            ("peak_fraction", json!(real / self.peak)),
        ] {
            result.insert(key.into(), value);
        }
        let mut peers = Map::new();
        for ((peer, samples), difference) in self.peers.iter().zip(others).zip(differences) {
            let mut told = samples.json(batch);
            told.insert("batch".into(), json!(batch));
            told.insert("threads".into(), json!(self.options.threads));
            told.insert("version".into(), json!(peer.version));
            told.insert("load_ms".into(), json!(1e3 * peer.load));
            told.insert("peak_rss_bytes".into(), json!(peer.rss));
            told.insert("largest_difference".into(), json!(difference));
            told.insert(
                "ratio_median".into(),
                json!(samples.median() / own.median()),
            );
            told.insert("ratio_min".into(), json!(samples.least() / own.least()));
            peers.insert(peer.peer.name().to_owned(), Value::Object(told));
        }
        result.insert("peers".into(), Value::Object(peers));
        Ok(Value::Object(result))
    }
}

/// Runs for a slice of time; gives the seconds of every run.
fn own_turn(runner: &mut Runner, images: &[f32], results: &mut [f32]) -> Result<Vec<f64>, Failure> {
    // The first run after a pause is no typical one.
    runner.run(images, results)?;
    let mut seconds = Vec::new();
    let begin = Instant::now();
    while seconds.is_empty() || begin.elapsed() < SLICE {
        let start = Instant::now();
        runner.run(images, results)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// Values around 0 of about the size of normalized pictures.
fn images(length: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    };
    (0..length).map(|_| next()).collect()
}

/// The largest difference between results and those in a file, as a part of the largest value.
fn difference(file: &Path, results: &[f32]) -> Result<f64, Failure> {
    let raw = std::fs::read(file)
        .map_err(|error| Failure::data(format!("cannot read {}: {error}", file.display())))?;
    let (chunks, _) = raw.as_chunks::<4>();
    if chunks.len() != results.len() {
        return Err(Failure::data(format!(
            "the other program gives {} values, not {}; nothing was compared",
            chunks.len(),
            results.len()
        )));
    }
    let others = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk));
    let mut largest = f64::MIN_POSITIVE;
    let mut difference = 0.0f64;
    for (own, other) in results.iter().zip(others) {
        largest = largest.max(f64::from(own.abs()));
        let apart = f64::from((own - other).abs());
        // A NaN on one side only is no agreement.
        difference = difference.max(if apart.is_nan() { f64::INFINITY } else { apart });
    }
    Ok(difference / largest)
}

impl Subject {
    /// What it is, in one line.
    fn text(&self) -> String {
        let weights = self.graph.weight_count();
        let density = 100.0 * self.nonzeros as f64 / weights.max(1) as f64;
        let preprocess = self.preprocess_bytes();
        let file = self.file_bytes.map_or(String::new(), |length| {
            let network = bytes(length - preprocess);
            format!(", {network}{}", output::prepares(preprocess))
        });
        format!("{}: {density:.1} % of the weights{file}", self.name)
    }
}

fn header(peers: &[Peer]) -> Vec<String> {
    let own = [
        "threads, batch",
        "ms",
        "min ms",
        "p99 ms",
        "images/s",
        "GFLOP/s dense",
        "real",
        "of peak",
        "load ms",
        "memory",
    ];
    let mut header: Vec<String> = own.map(str::to_owned).to_vec();
    for peer in peers {
        header.extend([
            format!("{} ms", peer.name()),
            "min ms".to_owned(),
            "ratio".to_owned(),
        ]);
    }
    header
}

fn row(result: &Value, peers: &[Peer]) -> Vec<String> {
    let number = |value: &Value, digits: usize| match value.as_f64() {
        Some(number) => format!("{number:.digits$}"),
        None => "–".to_owned(),
    };
    let memory = result["peak_rss_bytes"].as_u64();
    let mut row = vec![
        format!("{}, {}", result["threads"], result["batch"]),
        number(&result["latency_ms_median"], 3),
        number(&result["latency_ms_min"], 3),
        number(&result["latency_ms_p99"], 3),
        number(&result["images_per_s"], 0),
        number(&result["gflops_dense"], 1),
        number(&result["gflops_real"], 1),
        number(&result["peak_fraction"], 2),
        number(&result["load_ms"], 1),
        memory.map_or("–".to_owned(), bytes),
    ];
    for peer in peers {
        let told = &result["peers"][peer.name()];
        row.push(number(&told["latency_ms_median"], 3));
        row.push(number(&told["latency_ms_min"], 3));
        row.push(format!("÷ {}", number(&told["ratio_median"], 2)));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_agree_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a");
        let write = |values: &[f32]| {
            let raw: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            std::fs::write(&file, raw).expect("written");
        };
        write(&[1.0, -4.0]);
        assert_eq!(difference(&file, &[1.0, -4.0]).ok(), Some(0.0));
        assert_eq!(difference(&file, &[2.0, -4.0]).ok(), Some(0.25));
        assert_eq!(
            difference(&file, &[f32::NAN, -4.0]).ok(),
            Some(f64::INFINITY)
        );
        assert!(difference(&file, &[1.0]).is_err());
    }
}
