//! GCN and ZCA whitening: fitted once on a training set, kept in the user's cache, applied to whole sets.
//!
//! With the pictures as rows of X after contrast normalization and minus their mean, the covariance is
//! C = XᵀX/N + regularization·1, and the matrix is C^(−1/2).

mod eigen;

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use skinny_data::{Dataset, Pixels, cache_folder};
use skinny_kernels::{InstructionSet, Linear, Threads, instruction_set, transpose};
use skinny_network::{Gcn, Preprocess, Tensors, Zca};

use crate::recipe::hex;
use crate::{RecipeError, TrainError};

/// Pictures that are multiplied at once.
const CHUNK: usize = 512;
/// The most values of a picture for which a matrix is fitted: it has their square.
const LARGEST: usize = 64 * 64 * 3;

/// Why a whitening must be kept: the folder of a run names it and does not hold it.
const NEEDED: &str = "without it the run could not be evaluated";

/// Gives a set's preprocessing GCN and ZCA instead of the statistics of channels: from the cache if they were fitted
/// to these pictures before, else fitted now, which takes about a minute for CIFAR.
pub fn attach(set: &Dataset, preprocess: &mut Preprocess) -> Result<(), TrainError> {
    let values = set.picture_len();
    let refuse = |reason: String| RecipeError::Value {
        key: "data.normalize".into(),
        reason,
    };
    if values > LARGEST {
        return Err(refuse(format!(
            "whitening pictures of {values} values takes a matrix of {values}x{values}; use \"gcn\" or \"channel\", or pictures of at most {LARGEST} values"
        ))
        .into());
    }
    let gcn = Gcn::default();
    let mut zca = Zca::default();
    let key = fingerprint(set, &gcn, &zca)?;
    zca = match cached(&key) {
        Some(found) if found.mean.len() == values => found,
        _ => {
            let path = place(&key).ok_or_else(|| {
                refuse(format!(
                    "the whitening has nowhere to be kept, and {NEEDED}; set HOME or XDG_CACHE_HOME"
                ))
            })?;
            let unwritable = |error: String| {
                refuse(format!(
                    "the whitening cannot be kept in {} ({error}), and {NEEDED}; set XDG_CACHE_HOME to a folder that can be written",
                    path.display()
                ))
            };
            // Before the work of fitting.
            path.parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .map_err(|error| unwritable(error.to_string()))?;
            tracing::warn!(
                "fitting the whitening of \"{}\" to {} pictures; this is done once and takes some minutes at the most",
                set.name,
                set.len()
            );
            let threads = threads();
            let mut fitted = fit(&threads, set, &gcn, zca.regularization)?.ok_or_else(|| {
                refuse(format!(
                    "the whitening of \"{}\" cannot be fitted; use \"gcn\" or \"channel\"",
                    set.name
                ))
            })?;
            fitted.fitted = Some(key.clone());
            let kept = Preprocess {
                zca: Some(fitted),
                ..Preprocess::default()
            };
            (kept.tensors().save(&path)).map_err(|error| unwritable(error.to_string()))?;
            kept.zca.expect("it was put there")
        }
    };
    preprocess.mean = Vec::new();
    preprocess.std = Vec::new();
    preprocess.gcn = Some(gcn);
    preprocess.zca = Some(zca);
    Ok(())
}

/// Takes the matrix of a whitening that was fitted before from the cache, if it is there.
pub fn recall(preprocess: &mut Preprocess) -> bool {
    let Some(zca) = &mut preprocess.zca else {
        return true;
    };
    let found = zca.fitted.as_deref().and_then(cached);
    found.map(|found| *zca = found).is_some()
}

/// Computes what the network reads of every picture of a set.
pub fn prepare(set: &mut Dataset, preprocess: &Preprocess) -> Result<(), TrainError> {
    let (Some(gcn), Some(zca)) = (&preprocess.gcn, &preprocess.zca) else {
        return Ok(());
    };
    // No recipe has both; a file may, and its pictures are then computed one by one.
    if !preprocess.mean.is_empty() || !preprocess.std.is_empty() {
        return Ok(());
    }
    let threads = threads();
    let n = set.picture_len();
    let layer = Linear {
        inputs: n,
        outputs: n,
    };
    let mut scratch = vec![0.0; layer.scratch_len(CHUNK)];
    let mut transposed = vec![0.0; CHUNK * n];
    let mut values = vec![0.0; set.len() * n];
    for (number, into) in values.chunks_mut(CHUNK * n).enumerate() {
        let count = into.len() / n;
        let input = centred(set, number * CHUNK, count, preprocess.scale, gcn, &zca.mean)?;
        let output = &mut transposed[..count * n];
        layer.forward(
            &threads,
            count,
            &input,
            &zca.matrix,
            None,
            output,
            &mut scratch,
        );
        transpose(n, count, output, into);
    }
    set.prepared = Some(values);
    Ok(())
}

/// As many as the machine has; they never change a bit.
fn threads() -> Threads {
    Threads::new(std::thread::available_parallelism().map_or(1, |count| count.get()))
}

/// Pictures after contrast normalization, minus the mean: `[count, values]`.
fn centred(
    set: &Dataset,
    first: usize,
    count: usize,
    scale: f32,
    gcn: &Gcn,
    mean: &[f32],
) -> Result<Vec<f32>, TrainError> {
    let n = set.picture_len();
    let mut pictures = vec![0.0; count * n];
    for (index, picture) in pictures.chunks_exact_mut(n).enumerate() {
        set.read(first + index, picture)?;
        picture.iter_mut().for_each(|value| *value *= scale);
        gcn.apply(picture);
        for (value, mean) in picture.iter_mut().zip(mean) {
            *value -= mean;
        }
    }
    Ok(pictures)
}

/// Fits mean and matrix; `None` if there is no decomposition.
fn fit(
    threads: &Threads,
    set: &Dataset,
    gcn: &Gcn,
    regularization: f32,
) -> Result<Option<Zca>, TrainError> {
    let n = set.picture_len();
    let scale = Preprocess::default().scale;
    let chunks = |first: usize| CHUNK.min(set.len() - first);
    let mut sums = vec![0.0_f64; n];
    for first in (0..set.len()).step_by(CHUNK) {
        let pictures = centred(set, first, chunks(first), scale, gcn, &[])?;
        for picture in pictures.chunks_exact(n) {
            for (sum, value) in sums.iter_mut().zip(picture) {
                *sum += f64::from(*value);
            }
        }
    }
    let count = set.len() as f64;
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    let layer = Linear {
        inputs: n,
        outputs: n,
    };
    let mut scratch = vec![0.0; layer.scratch_len(CHUNK.max(n))];
    let mut transposed = vec![0.0; CHUNK * n];
    let mut product = vec![0.0_f32; n * n];
    // Products of a chunk in f32, their sum in f64.
    let mut covariance = vec![0.0_f64; n * n];
    for first in (0..set.len()).step_by(CHUNK) {
        let pictures = centred(set, first, chunks(first), scale, gcn, &mean)?;
        let rows = chunks(first);
        let transposed = &mut transposed[..rows * n];
        transpose(rows, n, &pictures, transposed);
        layer.backward_weight(
            threads,
            rows,
            transposed,
            &pictures,
            &mut product,
            None,
            &mut scratch,
        );
        for (sum, value) in covariance.iter_mut().zip(&product) {
            *sum += f64::from(*value) / count;
        }
    }
    for i in 0..n {
        for j in 0..i {
            let both = (covariance[i * n + j] + covariance[j * n + i]) / 2.0;
            covariance[i * n + j] = both;
            covariance[j * n + i] = both;
        }
    }
    let Some(mut eigen) = eigen::symmetric(threads, covariance, n) else {
        return Ok(None);
    };
    // V · diag(s)² · Vᵀ with s = (λ + regularization)^(−1/4), as one product of V · diag(s) with itself.
    for (vector, value) in eigen.vectors.chunks_exact_mut(n).zip(&eigen.values) {
        let factor = (value.max(0.0) + f64::from(regularization)).powf(-0.25);
        vector.iter_mut().for_each(|value| *value *= factor);
    }
    let vectors: Vec<f32> = eigen.vectors.iter().map(|value| *value as f32).collect();
    let mut columns = vec![0.0; n * n];
    transpose(n, n, &vectors, &mut columns);
    layer.backward_weight(
        threads,
        n,
        &columns,
        &vectors,
        &mut product,
        None,
        &mut scratch,
    );
    Ok(Some(Zca {
        regularization,
        mean,
        matrix: product,
        fitted: None,
    }))
}

/// What the bits of a whitening depend on, in hexadecimal.
fn fingerprint(set: &Dataset, gcn: &Gcn, zca: &Zca) -> Result<String, TrainError> {
    let mut hasher = Sha256::new();
    hasher.update(b"skinny-zca-1");
    // Products are fused on all but the least instruction set, which changes bits of the matrix.
    hasher.update([u8::from(instruction_set() == InstructionSet::Baseline)]);
    for number in [gcn.scale, gcn.eps, zca.regularization] {
        hasher.update(number.to_le_bytes());
    }
    for extent in set.shape {
        hasher.update((extent as u64).to_le_bytes());
    }
    match &set.pixels {
        Pixels::Memory(bytes) => hasher.update(bytes),
        Pixels::Files(_) => {
            let mut picture = vec![0.0; set.picture_len()];
            for index in 0..set.len() {
                set.read(index, &mut picture)?;
                let bytes: Vec<u8> = picture.iter().map(|value| *value as u8).collect();
                hasher.update(bytes);
            }
        }
    }
    let digest = hasher.finalize();
    Ok(hex(&digest))
}

fn place(key: &str) -> Option<PathBuf> {
    // The key may come from a file of a run, and becomes a part of a path.
    let plain = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    let folder = plain.then(|| cache_folder("whitening")).flatten()?;
    Some(folder.join(format!("{key}.safetensors")))
}

/// A whitening from the cache; a file that is damaged counts as none.
fn cached(key: &str) -> Option<Zca> {
    let mut tensors = Tensors::load(&place(key)?).ok()?;
    let mut preprocess = Preprocess {
        zca: Some(Zca::default()),
        ..Preprocess::default()
    };
    preprocess.attach(&mut tensors).ok()?;
    let zca = preprocess.zca?;
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    (finite(&zca.mean) && finite(&zca.matrix)).then(|| Zca {
        fitted: Some(key.to_string()),
        ..zca
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of 3x4x5 whose neighbours are alike.
    fn set(count: usize) -> Dataset {
        let mut state = 7_u32;
        let mut pixels = Vec::new();
        for _ in 0..count {
            let mut value = 128.0_f64;
            for _ in 0..60 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                value = 0.7 * value + 0.3 * f64::from(state >> 24);
                pixels.push(value as u8);
            }
        }
        let labels = vec![0; count];
        Dataset::in_memory("alike", [3, 4, 5], vec!["a".into()], labels, pixels).unwrap()
    }

    fn fitted(set: &Dataset, regularization: f32) -> Preprocess {
        let gcn = Gcn::default();
        let zca = fit(&Threads::new(2), set, &gcn, regularization).unwrap();
        Preprocess {
            gcn: Some(gcn),
            zca,
            ..Preprocess::default()
        }
    }

    #[test]
    fn whitened_pictures_are_uncorrelated() {
        let mut set = set(4000);
        let preprocess = fitted(&set, 1e-3);
        prepare(&mut set, &preprocess).unwrap();
        let values = set.prepared.as_ref().unwrap();
        let covariance = |i: usize, j: usize| -> f64 {
            let rows = values.chunks_exact(60);
            rows.map(|row| f64::from(row[i]) * f64::from(row[j]))
                .sum::<f64>()
                / 4000.0
        };
        // GCN takes the mean away, so one direction of the 60 has no variance: the diagonal is 1 − 1/60.
        for i in 0..60 {
            for j in 0..60 {
                let expected = f64::from(u8::from(i == j)) - 1.0 / 60.0;
                let found = covariance(i, j);
                assert!((found - expected).abs() < 2e-3, "{i} {j}: {found}");
            }
        }
    }

    #[test]
    fn one_picture_comes_out_as_in_the_whole_set() {
        let mut set = set(700);
        let preprocess = fitted(&set, 0.1);
        prepare(&mut set, &preprocess).unwrap();
        let prepared = set.prepared.clone().unwrap();
        let mut picture = vec![0.0; 60];
        for index in [0, 511, 512, 699] {
            set.read(index, &mut picture).unwrap();
            preprocess.normalize(&mut picture, set.shape);
            for (found, expected) in prepared[index * 60..].iter().zip(&picture) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }

    #[test]
    fn threads_change_nothing_and_the_matrix_is_symmetric() {
        let set = set(600);
        let fit = |count| {
            fit(&Threads::new(count), &set, &Gcn::default(), 0.1)
                .unwrap()
                .unwrap()
        };
        let (one, three) = (fit(1), fit(3));
        assert_eq!(one, three);
        for i in 0..60 {
            for j in 0..60 {
                let (a, b) = (one.matrix[i * 60 + j], one.matrix[j * 60 + i]);
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_fingerprint_is_of_the_pictures_and_settings() {
        let (a, b) = (set(10), set(11));
        let key = |set: &Dataset, regularization| {
            let zca = Zca {
                regularization,
                ..Zca::default()
            };
            fingerprint(set, &Gcn::default(), &zca).unwrap()
        };
        assert_eq!(key(&a, 0.1), key(&set(10), 0.1));
        assert_ne!(key(&a, 0.1), key(&b, 0.1));
        assert_ne!(key(&a, 0.1), key(&a, 0.2));
        assert!(place("../../etc/passwd").is_none());
    }

    #[test]
    fn pictures_that_are_too_large_are_refused() {
        let pixels = vec![0; 3 * 100 * 100];
        let large =
            Dataset::in_memory("large", [3, 100, 100], vec!["a".into()], vec![0], pixels).unwrap();
        let message = attach(&large, &mut Preprocess::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("data.normalize") && message.contains("30000x30000"),
            "{message}"
        );
    }
}
