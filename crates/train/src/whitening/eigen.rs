//! Eigenvalues and eigenvectors of a symmetric matrix in `f64`: reduction to a tridiagonal one by reflections, then
//! implicit QL (as in EISPACK's `tred2` and `tql2`).
//!
//! The work is split by shape, so the number of threads never changes a bit.

use skinny_kernels::Threads;

/// Rows or vectors of one piece of work.
const BLOCK: usize = 32;
/// Components of the eigenvectors that are rotated together: a block of all vectors stays in the second-level cache.
const COMPONENTS: usize = 32;
/// Rotations that are collected before they are applied.
const ROTATIONS: usize = 1 << 16;
/// The most iterations for one eigenvalue; two are usual.
const ITERATIONS: usize = 60;

/// The decomposition `matrix = Σ values[i] · vectors[i] vectors[i]ᵀ`.
#[derive(Debug)]
pub struct Eigen {
    /// The eigenvalues, in no order.
    pub values: Vec<f64>,
    /// The eigenvectors `[n, n]`, one a row, of length 1.
    pub vectors: Vec<f64>,
}

/// Decomposes a symmetric matrix `[n, n]`, which must hold both halves and finite numbers only; `None` if the iteration
/// does not converge.
pub fn symmetric(threads: &Threads, mut matrix: Vec<f64>, n: usize) -> Option<Eigen> {
    assert_eq!(matrix.len(), n * n, "a square matrix");
    let (mut diagonal, mut beside, factors) = tridiagonal(threads, &mut matrix, n);
    let mut vectors = rotated(threads, &mut diagonal, &mut beside)?;
    // Row k of the matrix holds the k-th reflection; the last one is undone first.
    threads.for_each_chunk(&mut vectors, BLOCK * n.max(1), |_, vectors| {
        for k in (0..n.saturating_sub(2)).rev() {
            let reflection = &matrix[k * n + k + 1..(k + 1) * n];
            for vector in vectors.chunks_exact_mut(n) {
                let tail = &mut vector[k + 1..];
                let along = factors[k] * dot(reflection, tail);
                add_scaled(tail, -along, reflection);
            }
        }
    });
    Some(Eigen {
        values: diagonal,
        vectors,
    })
}

/// Reduces the matrix to its diagonal and the values beside it; the reflections `1 − factor · v vᵀ` stay in its rows.
fn tridiagonal(threads: &Threads, matrix: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; n];
    let mut factors = vec![0.0; n];
    let mut product = vec![0.0; n];
    for k in 0..n.saturating_sub(2) {
        let (above, rest) = matrix.split_at_mut((k + 1) * n);
        let v = &mut above[k * n + k + 1..];
        let norm = dot(v, v).sqrt();
        let alpha = if v[0] > 0.0 { -norm } else { norm };
        beside[k] = alpha;
        v[0] -= alpha;
        let length = dot(v, v);
        if length == 0.0 {
            continue;
        }
        let factor = 2.0 / length;
        factors[k] = factor;
        let v = &*v;
        let size = n - k - 1;
        let w = &mut product[..size];
        {
            let rest = &*rest;
            threads.for_each_chunk(w, BLOCK, |block, w| {
                for (index, w) in w.iter_mut().enumerate() {
                    let row = (block * BLOCK + index) * n;
                    *w = factor * dot(&rest[row + k + 1..row + n], v);
                }
            });
        }
        let half = factor / 2.0 * dot(w, v);
        add_scaled(w, -half, v);
        let w = &*w;
        threads.for_each_chunk(rest, BLOCK * n, |block, rows| {
            for (index, row) in rows.chunks_exact_mut(n).enumerate() {
                let index = block * BLOCK + index;
                let (by_v, by_w) = (w[index], v[index]);
                for ((value, v), w) in row[k + 1..].iter_mut().zip(v).zip(w) {
                    *value -= by_v * v + by_w * w;
                }
            }
        });
    }
    if n >= 2 {
        beside[n - 2] = matrix[(n - 2) * n + n - 1];
    }
    let diagonal = (0..n).map(|k| matrix[k * n + k]).collect();
    (diagonal, beside, factors)
}

/// A rotation of the vectors `index` and `index + 1`.
struct Rotation {
    index: u32,
    cosine: f64,
    sine: f64,
}

/// Turns a tridiagonal matrix into its eigenvalues in place, and gives its eigenvectors, one a row.
fn rotated(threads: &Threads, diagonal: &mut [f64], beside: &mut [f64]) -> Option<Vec<f64>> {
    let n = diagonal.len();
    // Component blocks one after the other, in each all vectors; a rotation works in each block alone.
    let mut blocks = vec![0.0; n.next_multiple_of(COMPONENTS) * n];
    for index in 0..n {
        let (block, component) = (index / COMPONENTS, index % COMPONENTS);
        blocks[(block * n + index) * COMPONENTS + component] = 1.0;
    }
    let mut waiting: Vec<Rotation> = Vec::with_capacity(ROTATIONS + n);
    for l in 0..n {
        let mut iterations = 0;
        loop {
            let small = |i: usize| {
                beside[i].abs() <= f64::EPSILON * (diagonal[i].abs() + diagonal[i + 1].abs())
            };
            let m = (l..n - 1).find(|&i| small(i)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if iterations == ITERATIONS {
                return None;
            }
            iterations += 1;
            sweep(diagonal, beside, l, m, &mut waiting);
            if waiting.len() >= ROTATIONS {
                apply(threads, &mut blocks, n, &mut waiting);
            }
        }
    }
    apply(threads, &mut blocks, n, &mut waiting);
    let mut vectors = vec![0.0; n * n];
    for (index, vector) in vectors.chunks_exact_mut(n.max(1)).enumerate() {
        for (block, part) in vector.chunks_mut(COMPONENTS).enumerate() {
            let start = (block * n + index) * COMPONENTS;
            part.copy_from_slice(&blocks[start..start + part.len()]);
        }
    }
    Some(vectors)
}

/// One implicit QL step on the values `l..=m`.
fn sweep(d: &mut [f64], e: &mut [f64], l: usize, m: usize, rotations: &mut Vec<Rotation>) {
    let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
    let mut r = g.hypot(1.0);
    g = d[m] - d[l] + e[l] / (g + r.copysign(g));
    let (mut sine, mut cosine, mut p) = (1.0, 1.0, 0.0);
    for i in (l..m).rev() {
        let f = sine * e[i];
        let b = cosine * e[i];
        r = f.hypot(g);
        e[i + 1] = r;
        if r == 0.0 {
            // The matrix has fallen into two parts.
            d[i + 1] -= p;
            e[m] = 0.0;
            return;
        }
        sine = f / r;
        cosine = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * sine + 2.0 * cosine * b;
        p = sine * r;
        d[i + 1] = g + p;
        g = cosine * r - b;
        rotations.push(Rotation {
            index: i as u32,
            cosine,
            sine,
        });
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0.0;
}

fn apply(threads: &Threads, blocks: &mut [f64], n: usize, rotations: &mut Vec<Rotation>) {
    threads.for_each_chunk(blocks, COMPONENTS * n.max(1), |_, block| {
        for rotation in rotations.iter() {
            let start = rotation.index as usize * COMPONENTS;
            let (first, second) = block[start..start + 2 * COMPONENTS].split_at_mut(COMPONENTS);
            for (a, b) in first.iter_mut().zip(second) {
                let (x, y) = (*a, *b);
                *b = rotation.sine * x + rotation.cosine * y;
                *a = rotation.cosine * x - rotation.sine * y;
            }
        }
    });
    rotations.clear();
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (blocks_a, rest_a) = a.as_chunks::<8>();
    let (blocks_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in blocks_a.iter().zip(blocks_b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(values: &mut [f64], factor: f64, others: &[f64]) {
    for (value, other) in values.iter_mut().zip(others) {
        *value += factor * other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(matrix: &[f64], n: usize) -> Vec<f64> {
        let eigen = symmetric(&Threads::new(1), matrix.to_vec(), n).unwrap();
        let other = symmetric(&Threads::new(3), matrix.to_vec(), n).unwrap();
        assert_eq!(eigen.vectors, other.vectors, "threads change nothing");
        let size = dot(matrix, matrix).sqrt().max(1e-300);
        let row = |i: usize| &eigen.vectors[i * n..(i + 1) * n];
        for i in 0..n {
            for j in 0..=i {
                let expected = f64::from(u8::from(i == j));
                let found = dot(row(i), row(j));
                assert!(
                    (found - expected).abs() < 1e-12 * (n as f64 + 1.0),
                    "{i} {j} {found}"
                );
            }
            for r in 0..n {
                let product = dot(&matrix[r * n..(r + 1) * n], row(i));
                let expected = eigen.values[i] * row(i)[r];
                assert!((product - expected).abs() <= 1e-12 * (n as f64 + 1.0) * size);
            }
        }
        let mut values = eigen.values;
        values.sort_by(f64::total_cmp);
        values
    }

    #[test]
    fn matrices_by_hand() {
        assert_eq!(check(&[], 0), [0.0; 0]);
        assert_eq!(check(&[5.0], 1), [5.0]);
        for (found, expected) in check(&[2.0, 1.0, 1.0, 2.0], 2).iter().zip([1.0, 3.0]) {
            assert!((found - expected).abs() < 1e-14);
        }
        // The chain of springs: 2 − 2 cos(kπ/(n + 1)).
        let n = 40_usize;
        let chain: Vec<f64> = (0..n * n)
            .map(|i| match (i / n).abs_diff(i % n) {
                0 => 2.0,
                1 => -1.0,
                _ => 0.0,
            })
            .collect();
        for (k, found) in check(&chain, n).into_iter().enumerate() {
            let angle = (k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64;
            assert!((found - (2.0 - 2.0 * angle.cos())).abs() < 1e-13);
        }
        // Equal and vanishing eigenvalues.
        let ones = check(&[1.0; 49], 7);
        assert!(ones[..6].iter().all(|value| value.abs() < 1e-14) && (ones[6] - 7.0).abs() < 1e-14);
        assert_eq!(check(&[0.0; 9], 3), [0.0; 3]);
    }

    proptest! {
        #[test]
        fn vectors_and_values_make_the_matrix(
            n in 1_usize..80,
            seeds in proptest::collection::vec(-1.0_f64..1.0, 80 * 80),
            spread in 0_i32..8,
        ) {
            let mut matrix = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..=i {
                    let size = 10f64.powi(-spread * (i + j) as i32 / (2 * n) as i32);
                    matrix[i * n + j] = seeds[i * 80 + j] * size;
                    matrix[j * n + i] = matrix[i * n + j];
                }
            }
            check(&matrix, n);
        }
    }
}
