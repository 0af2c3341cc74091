//! Gaps between kept weights in Rice's code: short gaps in few bits.
//!
//! Bytes: the parameter `p` (one byte), the number of kept weights (as a number of [`crate::bits`]), then for each of them the
//! dropped weights before it, counted on from row to row: `gap >> p` ones, a zero, and the `p` lowest bits.

use skinny_sparsity::Mask;

use super::Refusal;
use crate::bits::{BitReader, BitWriter, read_number, write_number};

/// The largest parameter.
const MOST: u32 = 31;

/// The mask in the fewest bytes that one parameter gives.
pub(crate) fn encode(mask: &Mask) -> Vec<u8> {
    // How many gaps have each length tells the bits for each parameter.
    let bits = |parameter: u32| -> u64 {
        gaps(mask)
            .map(|gap| (gap >> parameter) + 1 + u64::from(parameter))
            .sum()
    };
    let mean = (mask.len() - mask.count()) as f64 / mask.count().max(1) as f64;
    let about = (mean * std::f64::consts::LN_2).max(1.0).log2() as u32;
    let parameter = (about.saturating_sub(1)..=(about + 1).min(MOST))
        .min_by_key(|parameter| bits(*parameter))
        .unwrap_or(0);
    let mut bytes = vec![parameter as u8];
    write_number(mask.count() as u64, &mut bytes);
    let mut writer = BitWriter::after(bytes);
    for gap in gaps(mask) {
        let mut ones = gap >> parameter;
        while ones >= 32 {
            writer.write(u32::MAX.into(), 32);
            ones -= 32;
        }
        writer.write((1 << ones) - 1, ones as u32 + 1);
        writer.write(gap & ((1 << parameter) - 1), parameter);
    }
    writer.finish()
}

fn gaps(mask: &Mask) -> impl Iterator<Item = u64> {
    let mut next = 0;
    mask.iter().map(move |index| {
        let gap = index - next;
        next = index + 1;
        gap as u64
    })
}

/// The mask of `len` weights. Nothing is allocated before the number of kept weights is known to be possible.
pub(crate) fn decode(mut bytes: &[u8], len: usize) -> Result<Mask, Refusal> {
    let damaged = "the Rice-coded gaps are cut off or damaged";
    let (&parameter, rest) = bytes.split_first().ok_or(damaged)?;
    bytes = rest;
    let parameter = u32::from(parameter);
    let count = read_number(&mut bytes).ok_or(damaged)?;
    // Every gap takes at least a bit more than the parameter.
    let most = 8 * bytes.len() as u64 / (1 + u64::from(parameter));
    if parameter > MOST || count > most.min(len as u64) {
        return Err(damaged.into());
    }
    let mut reader = BitReader::new(bytes);
    let mut words = vec![0u64; len.div_ceil(64)];
    let mut next = 0;
    for _ in 0..count {
        let high = reader.ones(len as u64 >> parameter).ok_or(damaged)?;
        next += (high << parameter | reader.read(parameter)) as usize;
        if next >= len {
            return Err("the Rice-coded gaps reach beyond the last weight".into());
        }
        words[next / 64] |= 1 << (next % 64);
        next += 1;
    }
    if !reader.is_at_end() {
        return Err(damaged.into());
    }
    Ok(Mask::from_words(len, words).expect("no index reaches beyond the last weight"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{Matrix, tests::mask, tests::masks};

    proptest! {
        #[test]
        fn masks_come_back((matrix, mask) in masks()) {
            let bytes = encode(&mask);
            prop_assert_eq!(decode(&bytes, matrix.len()), Ok(mask));
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut], matrix.len()).is_err());
            }
            let mut longer = bytes.clone();
            longer.push(0);
            prop_assert!(decode(&longer, matrix.len()).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_a_mask(bytes: Vec<u8>, len in 1usize..5000) {
            let _ = decode(&bytes, len);
        }
    }

    #[test]
    fn the_lengths_are_those_of_theory() {
        // Bits per kept weight of Rice's code with its best parameter at these densities.
        for (density, expected) in [(0.5, 2.0), (0.25, 3.29), (0.1, 4.76), (0.05, 5.79)] {
            let matrix = Matrix {
                rows: 1000,
                columns: 1000,
            };
            let mask = mask(matrix, density, 3);
            let bits = 8.0 * encode(&mask).len() as f64 / mask.count() as f64;
            assert!((bits - expected).abs() < 0.02, "{density}: {bits}");
        }
    }
}
