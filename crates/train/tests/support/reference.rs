//! Weights, images and labels made from names, with the same bits as `scripts/pytorch_fixtures.py`, which
//! documents the generator. Each fixture stores some of the values, so that a difference is seen at once.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const SEED: u64 = 0x736B_696E_6E79;

/// Random 64 bits number `index` of the tensor `name`.
pub fn bits(name: &str, index: usize) -> u64 {
    finish(key(name), index)
}

fn key(name: &str) -> u64 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    hash ^ SEED
}

fn finish(key: u64, index: usize) -> u64 {
    let mut z = key.wrapping_add((index as u64 + 1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The tensor `name`: `offset + scale · u` with u in [-1, 1).
pub fn values(name: &str, length: usize, scale: f32, offset: f32) -> Vec<f32> {
    let key = key(name);
    let unit = |index| (finish(key, index) >> 40) as f32 * (1.0 / 8_388_608.0) - 1.0;
    (0..length)
        .map(|index| offset + scale * unit(index))
        .collect()
}

/// The labels `name`, each below `classes`.
pub fn labels(name: &str, length: usize, classes: usize) -> Vec<u32> {
    (0..length)
        .map(|index| ((bits(name, index) >> 32) % classes as u64) as u32)
        .collect()
}

/// Which weights of the parameter `name` the mask of a case keeps.
pub fn kept(name: &str, length: usize, density: f64) -> Vec<bool> {
    let bound = (2.0 * density - 1.0) as f32;
    values(&format!("{name}.mask"), length, 1.0, 0.0)
        .iter()
        .map(|&unit| unit < bound)
        .collect()
}

/// The indices of the stored elements of a tensor: all of them, or `samples` hashed ones.
pub fn sample_indices(name: &str, length: usize, samples: usize) -> Vec<usize> {
    if length <= samples {
        return (0..length).collect();
    }
    let name = format!("{name}.samples");
    (0..samples)
        .map(|index| (bits(&name, index) % length as u64) as usize)
        .collect()
}
